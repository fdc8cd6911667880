//! The bodies of answers: pushed from the model's views, read back into them.

use rkyv::{Archive, Serialize, with::InlineAsBox};
use smallvec::SmallVec;

use crate::model::{
    Invalid, Location, Lsn, OrderId, ReservationId, Sku, Timestamp,
    view::{LineView, ReservationState, ReservationView, StockView},
};

use super::{
    Code,
    commands::{ArchivedId, Id, word},
    flags, kind, push,
};

/// The number that stands for no state.
pub const NO_STATE: u8 = 255;

/// The answer to a hello that was taken.
#[derive(Debug, Archive, Serialize)]
pub struct Welcome {
    /// The life of the data directory.
    pub incarnation: u64,
    /// The longest frame that the server takes.
    pub frame_bytes_max: u32,
    /// Requests that may be under way at once; beyond, the server stops reading.
    pub in_flight_max: u32,
}

/// What is taken where.
#[derive(Debug, Clone, Copy, Archive, Serialize)]
pub struct Taken<'a> {
    /// How many.
    pub quantity: u32,
    /// The SKU.
    #[rkyv(with = InlineAsBox)]
    pub sku: &'a str,
    /// The location.
    #[rkyv(with = InlineAsBox)]
    pub location: &'a str,
}

impl<'a> From<&'a LineView> for Taken<'a> {
    fn from(line: &'a LineView) -> Self {
        let (sku, location) = (line.sku.as_str(), line.location.as_str());
        Self { quantity: line.quantity, sku, location }
    }
}

/// A reservation as it stands.
#[derive(Debug, Archive, Serialize)]
pub struct Reservation<'a> {
    /// Its id.
    pub reservation: Id,
    /// The position of its last record in the log.
    pub lsn: u64,
    /// When it expires, in milliseconds since 1970; 0 unless it is held.
    pub expires_at_ms: u64,
    /// The order that it became; may be empty.
    #[rkyv(with = InlineAsBox)]
    pub order_id: &'a str,
    /// What it holds; of a released or expired one, what it held.
    #[rkyv(with = InlineAsBox)]
    pub lines: &'a [Taken<'a>],
    /// Its state: 0 held, 1 committed, 2 released, 3 expired, 4 fulfilled, 5 cancelled.
    pub state: u8,
    /// In a repeat: the state now, where it has moved on since; else 255.
    pub current_state: u8,
}

impl ArchivedReservation<'_> {
    /// The id of it.
    pub fn id(&self) -> ReservationId {
        self.reservation.read()
    }

    /// As the model has it; nothing if it holds what can't be.
    pub fn view(&self) -> Option<ReservationView> {
        let expires = self.expires_at_ms.to_native();
        let order_id = Some(&*self.order_id).filter(|id| !id.is_empty());
        Some(ReservationView {
            id: self.id(),
            state: ReservationState::of_number(self.state)?,
            lines: lines(&self.lines)?,
            expires_at: (expires != 0).then(|| Timestamp::from_millis(expires)),
            order_id: order_id.map(str::parse::<OrderId>).transpose().ok()?,
            lsn: Lsn(self.lsn.to_native()),
        })
    }

    /// In a repeat: the state now, where it has moved on since.
    pub fn current_state(&self) -> Option<ReservationState> {
        ReservationState::of_number(self.current_state)
    }
}

fn lines(lines: &[ArchivedTaken<'_>]) -> Option<Vec<LineView>> {
    let view = |line: &ArchivedTaken<'_>| -> Result<LineView, Invalid> {
        let quantity = line.quantity.to_native();
        let (sku, location): (Sku, Location) = (line.sku.parse()?, line.location.parse()?);
        Ok(LineView { sku, location, quantity })
    };
    lines.iter().map(view).collect::<Result<_, _>>().ok()
}

/// An order that was placed; the rest of it is at `GET /v1/orders/{order_id}`.
#[derive(Debug, Archive, Serialize)]
pub struct Ordered<'a> {
    /// The position of its last record in the log.
    pub lsn: u64,
    /// What the customer pays, in minor units, tax contained.
    pub total: i64,
    /// The tax contained in it.
    pub total_tax: i64,
    /// When it was committed, in milliseconds since 1970.
    pub committed_at_ms: u64,
    /// Its id.
    #[rkyv(with = InlineAsBox)]
    pub order_id: &'a str,
    /// The reservations that became it.
    #[rkyv(with = InlineAsBox)]
    pub reservations: &'a [Id],
    /// Where it is taken from.
    #[rkyv(with = InlineAsBox)]
    pub allocations: &'a [Taken<'a>],
    /// Its state.
    pub state: u8,
    /// In a repeat: the state now, where it has moved on since; else 255.
    pub current_state: u8,
}

/// An order that was placed, as the model has its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedOrder {
    /// Its id.
    pub order_id: OrderId,
    /// Its state.
    pub state: ReservationState,
    /// The reservations that became it.
    pub reservations: Vec<ReservationId>,
    /// Where it is taken from.
    pub allocations: Vec<LineView>,
    /// What the customer pays, in minor units, tax contained.
    pub total: i64,
    /// The tax contained in it.
    pub total_tax: i64,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// The position of its last record in the log.
    pub lsn: Lsn,
}

impl ArchivedOrdered<'_> {
    /// As the model has it; nothing if it holds what can't be.
    pub fn view(&self) -> Option<PlacedOrder> {
        Some(PlacedOrder {
            order_id: self.order_id.parse().ok()?,
            state: ReservationState::of_number(self.state)?,
            reservations: self.reservations.iter().map(ArchivedId::read).collect(),
            allocations: lines(&self.allocations)?,
            total: self.total.to_native(),
            total_tax: self.total_tax.to_native(),
            committed_at: Timestamp::from_millis(self.committed_at_ms.to_native()),
            lsn: Lsn(self.lsn.to_native()),
        })
    }

    /// In a repeat: the state now, where it has moved on since.
    pub fn current_state(&self) -> Option<ReservationState> {
        ReservationState::of_number(self.current_state)
    }
}

/// The stock of one SKU over all its locations.
#[derive(Debug, Archive, Serialize)]
#[rkyv(derive(Debug))]
pub struct Stock {
    /// Sum over the positions.
    pub available: i64,
    /// Sum over the positions.
    pub on_hand: i64,
    /// Sum over the positions.
    pub held: i64,
    /// Sum over the positions.
    pub committed: i64,
    /// Sum over the positions.
    pub safety_stock: i64,
    /// Sum over the positions.
    pub backorder_limit: i64,
    /// The most units one customer may take in the configured period; -1: no limit.
    pub per_customer_limit: i64,
    /// At least everything up to here is in it.
    pub lsn: u64,
}

impl From<&StockView> for Stock {
    fn from(stock: &StockView) -> Self {
        Self {
            available: stock.available,
            on_hand: stock.on_hand,
            held: stock.held,
            committed: stock.committed,
            safety_stock: stock.safety_stock,
            backorder_limit: stock.backorder_limit,
            per_customer_limit: stock.per_customer_limit.map_or(-1, i64::from),
            lsn: stock.lsn.0,
        }
    }
}

/// What a route of the HTTP API answered.
#[derive(Debug, Archive, Serialize)]
pub struct Called<'a> {
    /// The status of HTTP.
    pub status: u64,
    /// The body: JSON, a problem's too; text where the route answers text.
    #[rkyv(with = InlineAsBox)]
    pub body: &'a [u8],
}

/// A line that was the reason of a refusal.
#[derive(Debug, Clone, Copy, Archive, Serialize)]
pub struct RefusedLine<'a> {
    /// Units asked for.
    pub requested: u64,
    /// `insufficient_stock`: units that could have been taken. `purchase_limit`: the limit.
    pub available: i64,
    /// `purchase_limit`: units that the customer has taken in this period. Else 0.
    pub taken: u64,
    /// The SKU.
    #[rkyv(with = InlineAsBox)]
    pub sku: &'a str,
    /// The location, where the line named one; else empty.
    #[rkyv(with = InlineAsBox)]
    pub location: &'a str,
}

/// Why it was not done.
#[derive(Debug, Archive, Serialize)]
pub struct Refused<'a> {
    /// `stale_version`: the last version. `shortfall`: units held. `too_large`: the limit in bytes.
    pub number: i64,
    /// `shortfall`: units committed. Else 0.
    pub other: i64,
    /// `malformed`: the field. Else empty.
    #[rkyv(with = InlineAsBox)]
    pub field: &'a str,
    /// A sentence for people; empty where the lines say it all.
    #[rkyv(with = InlineAsBox)]
    pub detail: &'a str,
    /// The lines that were the reason.
    #[rkyv(with = InlineAsBox)]
    pub lines: &'a [RefusedLine<'a>],
    /// The code; see [`Code`].
    pub code: u16,
    /// `wrong_state`: the state it is in; else 255.
    pub state: u8,
}

impl<'a> Refused<'a> {
    /// A refusal that has no more to say than this.
    pub fn new(code: Code, detail: &'a str) -> Self {
        Self { number: 0, other: 0, field: "", detail, lines: &[], code: code.0, state: NO_STATE }
    }

    /// Appends it as a frame.
    pub fn push(&self, out: &mut Vec<u8>, id: u64) {
        push(out, kind::REFUSED, 0, id, self);
    }
}

fn state(state: Option<ReservationState>) -> u8 {
    state.map_or(NO_STATE, |state| state as u8)
}

/// The flags of an answer.
pub fn answer_flags(replayed: bool, created: bool) -> u8 {
    (if replayed { flags::REPLAYED } else { 0 }) | (if created { flags::CREATED } else { 0 })
}

/// Appends a reservation as a frame.
pub fn push_reservation(
    out: &mut Vec<u8>,
    (flags, id): (u8, u64),
    view: &ReservationView,
    current_state: Option<ReservationState>,
) {
    let lines: SmallVec<[Taken<'_>; 4]> = view.lines.iter().map(Taken::from).collect();
    let body = Reservation {
        reservation: view.id.into(),
        lsn: view.lsn.0,
        expires_at_ms: view.expires_at.map_or(0, Timestamp::millis),
        order_id: word(view.order_id.as_ref()),
        lines: &lines,
        state: view.state as u8,
        current_state: state(current_state),
    };
    push(out, kind::RESERVATION, flags, id, &body);
}

/// Appends an order as a frame.
pub fn push_order(
    out: &mut Vec<u8>,
    (flags, id): (u8, u64),
    view: &crate::model::view::OrderView,
    current_state: Option<ReservationState>,
) {
    let allocations: SmallVec<[Taken<'_>; 4]> = view.allocations.iter().map(Taken::from).collect();
    let reservations: SmallVec<[Id; 4]> = view.reservations.iter().map(|id| (*id).into()).collect();
    let body = Ordered {
        lsn: view.lsn.0,
        total: view.total,
        total_tax: view.total_tax,
        committed_at_ms: view.committed_at.millis(),
        order_id: view.order_id.as_str(),
        reservations: &reservations,
        allocations: &allocations,
        state: view.state as u8,
        current_state: state(current_state),
    };
    push(out, kind::ORDERED, flags, id, &body);
}
