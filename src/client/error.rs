//! Why a request has no answer, or was refused.

use std::{io, sync::Arc};

use crate::{
    model::view::ReservationState,
    protocol::{ArchivedRefused, Code},
};

/// Why a request was not granted, or is not known to be.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server says why it was not done.
    #[error(transparent)]
    Refused(#[from] Problem),
    /// The server can't be reached.
    #[error("can't connect to {address}: {source}")]
    Connect {
        /// Where it was to be.
        address: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The connection broke. What was under way may have been done: repeat it with the same key on a
    /// new connection.
    #[error("the connection to the server broke ({0}); repeat with the same key on a new one")]
    Broken(String),
    /// The server said something that is none of the protocol.
    #[error("the server's answer can't be read: {0}")]
    Protocol(&'static str),
    /// The request is longer than the server takes, and was not sent.
    #[error("the request of {bytes} bytes is longer than the {max} that the server takes")]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// The most.
        max: usize,
    },
}

/// A refusal: nothing was changed, unless its code is `outcome_unknown`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    /// The code, as in the HTTP API.
    pub code: Code,
    /// A sentence for people; may be empty.
    pub detail: String,
    /// `malformed`: the field.
    pub field: Option<String>,
    /// The lines that were the reason.
    pub lines: Vec<ProblemLine>,
    /// `wrong_state`: the state it is in.
    pub state: Option<ReservationState>,
    /// `stale_version`: the last version. `shortfall`: units held.
    pub number: i64,
    /// `shortfall`: units committed.
    pub other: i64,
}

/// A line that was the reason of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemLine {
    /// The SKU.
    pub sku: String,
    /// The location, where the line named one.
    pub location: Option<String>,
    /// Units asked for.
    pub requested: u64,
    /// `insufficient_stock`: units that could have been taken. `purchase_limit`: the limit.
    pub available: i64,
    /// `purchase_limit`: units that the customer has taken in this period.
    pub taken: u64,
}

fn said(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

impl From<&ArchivedRefused<'_>> for Problem {
    fn from(refused: &ArchivedRefused<'_>) -> Self {
        let lines = refused.lines.iter().map(|line| ProblemLine {
            sku: line.sku.to_string(),
            location: said(&line.location),
            requested: line.requested.to_native(),
            available: line.available.to_native(),
            taken: line.taken.to_native(),
        });
        Self {
            code: Code(refused.code.to_native()),
            detail: refused.detail.to_string(),
            field: said(&refused.field),
            lines: lines.collect(),
            state: ReservationState::of_number(refused.state),
            number: refused.number.to_native(),
            other: refused.other.to_native(),
        }
    }
}
