//! Why a request was not done. Nothing was changed where one of these is the answer, except
//! [`Refusal::OutcomeUnknown`], which says so.

use crate::model::{
    Location, Lsn, Sku,
    fact::FactKind,
    life::Wrong,
    view::{LimitedLine, ReservationState, ShortLine},
};

/// Why a request was not done; [`Refusal::code`] is the contract's code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A field is wrong.
    #[error("`{field}` {reason}")]
    Malformed {
        /// The path of the field in the body.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No position has this SKU (or not at that location).
    #[error("no stock was ever set for SKU `{sku}`{}", location.as_ref().map(|l| format!(" at `{l}`")).unwrap_or_default())]
    UnknownSku {
        /// The SKU.
        sku: Sku,
        /// The location, where the request named one.
        location: Option<Location>,
    },
    /// There is no such reservation, or it is closed and older than the configured retention.
    #[error("there is no such reservation")]
    UnknownReservation,
    /// There is no such order.
    #[error("there is no such order")]
    UnknownOrder,
    /// No such report is parked.
    #[error("no event is parked under this id; it happened, or was discarded")]
    UnknownParkedEvent,
    /// The log keeps a partner of this name.
    #[error("{}", match revoked {
        true => "a revoked partner has this name; it is free once its idempotency keys are forgotten",
        false => "there is a partner of this name",
    })]
    PartnerExists {
        /// Whether that one is revoked.
        revoked: bool,
    },
    /// The log keeps no such partner, or it is revoked.
    #[error("the log keeps no partner of this name that is not revoked")]
    UnknownPartner,
    /// Too little is available.
    #[error("not enough stock for {} of the lines", lines.len())]
    InsufficientStock {
        /// The short lines.
        lines: Vec<ShortLine>,
    },
    /// The customer would have more than the limit allows.
    #[error("beyond the customer's limit in {} of the lines", lines.len())]
    PurchaseLimit {
        /// The lines beyond it.
        lines: Vec<LimitedLine>,
    },
    /// The reservation's state does not allow it.
    #[error("the reservation is {}", state.as_str())]
    WrongState {
        /// The state it is in.
        state: ReservationState,
    },
    /// More would happen to an order than can: more units or money than were sold.
    #[error("{why}")]
    BeyondSold {
        /// What there would be too much of.
        why: Wrong,
        /// The order's state.
        state: ReservationState,
    },
    /// The order has something else under this id.
    #[error("the order has another {kind} with this id", kind = kind.as_str())]
    OtherContent {
        /// Of what kind.
        kind: FactKind,
    },
    /// What is asked for is no longer in the log, nor in its archive.
    #[error(
        "what is asked for is archived: what can be read begins at {oldest}; a backup may go further back, \
         and `holdfast restore` makes a data directory of it"
    )]
    Archived {
        /// Where log and archive begin.
        oldest: Lsn,
    },
    /// What is asked for is in the archive, further back than one request may read.
    #[error(
        "what is asked for is archived {segments} segments back, and a request reads {segments_max} at \
         most; the same command with `--data`, on a stopped server or a restored copy, reads all"
    )]
    TooFarBack {
        /// How many would have to be read.
        segments: u64,
        /// How many may be.
        segments_max: u32,
    },
    /// The sender's version is not above the last one.
    #[error("`source_version` must be above {last}")]
    StaleVersion {
        /// The last version seen.
        last: u64,
    },
    /// The stock would fall below what is promised.
    #[error("less than what is promised: {held} held, {committed} committed")]
    Shortfall {
        /// Units held.
        held: i64,
        /// Units committed.
        committed: i64,
    },
    /// Another order has this id.
    #[error("another order has this id")]
    OrderExists,
    /// The reservation was made for another order.
    #[error("the reservation was made for another order")]
    OrderMismatch,
    /// The key was used for something else.
    #[error("this idempotency key was used with another route or body")]
    KeyReused,
    /// The log's disk budget is spent.
    #[error("the log's disk budget is spent; commits and releases still go through")]
    LogFull,
    /// A limit of this server is reached for now.
    #[error("{what}")]
    Overloaded {
        /// Which.
        what: &'static str,
    },
    /// The engine is stopping.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The record is written, but whether it is durable can't be told: repeat with the same key.
    #[error("the outcome can't be told; repeat the request with the same key")]
    OutcomeUnknown,
}

impl Refusal {
    /// The contract's code for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::UnknownSku { .. } => "unknown_sku",
            Self::UnknownReservation => "unknown_reservation",
            Self::UnknownOrder => "unknown_order",
            Self::PartnerExists { .. } => "partner_exists",
            Self::UnknownPartner => "not_found",
            Self::InsufficientStock { .. } => "insufficient_stock",
            Self::PurchaseLimit { .. } => "purchase_limit",
            Self::BeyondSold { why: Wrong::UnknownReturn, .. } | Self::UnknownParkedEvent => {
                "not_found"
            }
            Self::WrongState { .. } | Self::BeyondSold { .. } => "wrong_state",
            Self::OtherContent { .. } => "content_mismatch",
            Self::StaleVersion { .. } => "stale_version",
            Self::Shortfall { .. } => "shortfall",
            Self::OrderExists => "order_exists",
            Self::OrderMismatch => "order_mismatch",
            Self::Archived { .. } | Self::TooFarBack { .. } => "archived",
            Self::KeyReused => "idempotency_key_reused",
            Self::LogFull => "log_full",
            Self::Overloaded { .. } => "overloaded",
            Self::ShuttingDown => "shutting_down",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }

    /// A wrong field.
    pub fn malformed(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Malformed { field: field.into(), reason: reason.into() }
    }
}
