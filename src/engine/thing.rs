//! The words in which records are read: what an effect is about, and what it does to it. All of them
//! borrow from the record, so that reading one costs no allocation unless a cart has several lines.

use rkyv::{Archive, Deserialize, Serialize};

use crate::{
    ledger::{keys::Outcome, reservations::Lines},
    model::{
        Lsn, ReservationId,
        event::{ArchivedOrderData, Event, KeyRef, Placed, Reserve},
        life::Step,
        sink::Parking,
        view::ReservationState,
    },
};

/// What an effect is about. The order is that of checkpoints; positions come before what names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing<'r> {
    /// The data directory itself.
    Secret,
    /// A position.
    Position(u32),
    /// A SKU's limit per customer.
    SkuLimit(u32),
    /// The reservation in a slot, and the key of the request that made it.
    Reservation(u32),
    /// The idempotency key of a request that made no reservation.
    Key([u64; 2]),
    /// What a customer has taken of a limited SKU.
    CustomerLimit(u64, u32),
    /// An order.
    Order(&'r str),
    /// A sink.
    Sink(&'r str),
}

/// What a change of stock does to a position's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shift {
    pub(super) available: i64,
    pub(super) on_hand: i64,
    pub(super) committed: i64,
    pub(super) safety_stock: i64,
    pub(super) backorder_limit: i64,
    /// Units that the sender allowed to go below zero.
    pub(super) forced: i64,
    pub(super) source_version: Option<u64>,
    /// The record, if it is a physical movement.
    pub(super) moved: Option<u64>,
}

impl Shift {
    /// Whether it only takes, gives or sells: then it adds up with others in any order.
    pub(super) fn is_sum(&self) -> bool {
        let Self { available, committed, .. } = *self;
        *self == Self { available, committed, ..Self::default() }
    }
}

/// A reservation as its record opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened<'r> {
    pub(super) lsn: u64,
    pub(super) committed: bool,
    pub(super) deadline_ms: u64,
    pub(super) customer: u64,
    pub(super) order: u64,
    pub(super) order_id: &'r str,
    pub(super) lines: Lines,
    /// The key of the request that made it. A key is remembered as long as what it made, so the two
    /// are one thing.
    pub(super) key: Option<Done<'r>>,
}

/// A reservation's next state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turned<'r> {
    /// The reservation's own record.
    pub(super) lsn: u64,
    /// The record that turned it.
    pub(super) last: u64,
    pub(super) state: ReservationState,
    pub(super) deadline_ms: u64,
    /// What it holds now, where that changed.
    pub(super) lines: Option<Lines>,
    /// The order that it became; 0 and empty if none.
    pub(super) order: u64,
    pub(super) order_id: &'r str,
}

/// A key and what became of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done<'r> {
    pub(super) key: KeyRef,
    pub(super) lsn: u64,
    pub(super) aux: u64,
    pub(super) expires_ms: u64,
    pub(super) slot: u32,
    pub(super) kind: u8,
    pub(super) answer: &'r str,
}

/// What a seal does to its sink.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub(super) struct Sealed {
    pub(super) lsn: u64,
    pub(super) number: u64,
    pub(super) covers_lsn: u64,
    pub(super) events: u64,
    pub(super) chain: [u8; 32],
    pub(super) parking: Parking,
}

/// What a record does to one thing.
#[derive(Debug)]
pub(super) enum Effect<'r> {
    Secret([u64; 2]),
    Defined { sku: &'r str, location: &'r str, sku_number: u32 },
    Shifted(Shift),
    SkuLimit(Option<u32>),
    Opened(Opened<'r>),
    Turned(Turned<'r>),
    Done(Done<'r>),
    LimitTaken { quantity: u32, at_ms: u64, lsn: u64 },
    LimitGiven { quantity: u32, granted: u64 },
    Placed { data: &'r ArchivedOrderData, reservations: Vec<(u64, u32)>, lsn: u64 },
    Happened(Box<Step>),
    Sealed(Box<Sealed>),
    Acknowledged { number: u64, refused: bool },
}

impl Done<'_> {
    /// What the table of keys keeps of it.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome {
            kind: self.kind,
            lsn: self.lsn,
            slot: self.slot,
            aux: self.aux,
            expires_ms: self.expires_ms,
        }
    }
}

/// The reservation that a key made, if it made one.
pub(super) fn made_by(kind: u8, lsn: u64, slot: u32) -> Option<ReservationId> {
    let makes = kind == Reserve::KIND || kind == Placed::KIND;
    makes.then_some(ReservationId { lsn: Lsn(lsn), slot })
}

/// The state of a number.
pub(super) fn state_of(number: u8) -> ReservationState {
    use ReservationState as S;
    [S::Held, S::Committed, S::Released, S::Expired, S::Fulfilled, S::Cancelled]
        .into_iter()
        .find(|s| *s as u8 == number)
        .unwrap_or(S::Released)
}
