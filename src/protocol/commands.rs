//! The bodies of requests about reservations and stock, and how they become the model's commands.
//!
//! An absent text is an empty one, an absent time or number of milliseconds is 0. What is wrong is
//! named as the HTTP API names it: a path in the body.

use std::str::FromStr;

use rkyv::{Archive, Serialize, with::InlineAsBox};
use smallvec::SmallVec;

use crate::{
    model::{
        IdempotencyKey, Invalid, Lsn, Quantity, ReservationId, Sku,
        command::{self, ReserveLine},
    },
    telemetry::TraceContext,
};

use super::{flags, frame::name_trace, kind, push, sales};

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {reason}")]
pub struct Wrong {
    /// The path of the field, as in the HTTP API.
    pub field: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Wrong {
    pub(super) fn new(field: impl Into<String>, reason: &'static str) -> Self {
        Self { field: field.into(), reason }
    }
}

/// The path of a field of a line.
pub(super) fn of_line(index: usize, field: &str) -> String {
    format!("lines[{index}].{field}")
}

/// A text that must be there.
pub(super) fn text<T: FromStr<Err = Invalid>>(
    text: &str,
    field: impl FnOnce() -> String,
) -> Result<T, Wrong> {
    text.parse().map_err(|e: Invalid| Wrong::new(field(), e.0))
}

/// A text that may be empty, which is absent.
pub(super) fn optional<T: FromStr<Err = Invalid>>(
    said: &str,
    field: impl FnOnce() -> String,
) -> Result<Option<T>, Wrong> {
    if said.is_empty() { Ok(None) } else { text(said, field).map(Some) }
}

pub(super) fn key(said: &str) -> Result<IdempotencyKey, Wrong> {
    text(said, || "Idempotency-Key".to_owned())
}

pub(super) fn word(said: Option<&impl AsText>) -> &str {
    said.map_or("", AsText::as_text)
}

/// What has a text.
pub(super) trait AsText {
    fn as_text(&self) -> &str;
}

macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl AsText for crate::model::$name {
            fn as_text(&self) -> &str {
                self.as_str()
            }
        }
    )*};
}
as_text!(Location OrderId CustomerId Reference);

/// The first frame of a connection. The frame's id is [`super::MAGIC`], its flags are the version.
#[derive(Debug, Archive, Serialize)]
pub struct Hello<'a> {
    /// 0.
    pub reserved: u64,
    /// The partner's API key; empty where there are none.
    #[rkyv(with = InlineAsBox)]
    pub api_key: &'a str,
}

/// A reservation's id: the position of the record that granted it, and its slot.
#[derive(Debug, Clone, Copy, Archive, Serialize)]
pub struct Id {
    /// The position in the log.
    pub lsn: u64,
    /// The slot.
    pub slot: u32,
}

impl From<ReservationId> for Id {
    fn from(id: ReservationId) -> Self {
        Self { lsn: id.lsn.0, slot: id.slot }
    }
}

impl ArchivedId {
    /// As the model has it.
    pub fn read(&self) -> ReservationId {
        ReservationId { lsn: Lsn(self.lsn.to_native()), slot: self.slot.to_native() }
    }
}

/// A line of a cart, or of what is given back.
#[derive(Debug, Clone, Copy, Archive, Serialize)]
pub struct Line<'a> {
    /// How many.
    pub quantity: u32,
    /// 1 if a line without a location must not be split over several; else 0.
    pub whole: u8,
    /// The SKU.
    #[rkyv(with = InlineAsBox)]
    pub sku: &'a str,
    /// Where; empty: by the configured sourcing order.
    #[rkyv(with = InlineAsBox)]
    pub location: &'a str,
}

impl<'a> From<&'a ReserveLine> for Line<'a> {
    fn from(line: &'a ReserveLine) -> Self {
        Self {
            quantity: line.quantity.get(),
            whole: u8::from(!line.split),
            sku: line.sku.as_str(),
            location: word(line.location.as_ref()),
        }
    }
}

impl ArchivedLine<'_> {
    fn read(&self, at: usize) -> Result<ReserveLine, Wrong> {
        Ok(ReserveLine {
            sku: text(&self.sku, || of_line(at, "sku"))?,
            quantity: self.quantity(at)?,
            location: optional(&self.location, || of_line(at, "location"))?,
            split: self.whole == 0,
        })
    }

    fn read_release(&self, at: usize) -> Result<command::ReleaseLine, Wrong> {
        Ok(command::ReleaseLine {
            sku: text(&self.sku, || of_line(at, "sku"))?,
            quantity: self.quantity(at)?,
            location: optional(&self.location, || of_line(at, "location"))?,
        })
    }

    fn quantity(&self, at: usize) -> Result<Quantity, Wrong> {
        let quantity = Quantity::new(self.quantity.to_native());
        quantity.map_err(|e| Wrong::new(of_line(at, "quantity"), e.0))
    }
}

/// Takes stock for a while: all lines or none.
#[derive(Debug, Archive, Serialize)]
pub struct Reserve<'a> {
    /// How long to hold, in milliseconds; 0: the configured default.
    pub ttl_ms: u64,
    /// The idempotency key.
    #[rkyv(with = InlineAsBox)]
    pub key: &'a str,
    /// Who; may be empty.
    #[rkyv(with = InlineAsBox)]
    pub customer: &'a str,
    /// The order that it will become; may be empty.
    #[rkyv(with = InlineAsBox)]
    pub order_id: &'a str,
    /// The cart.
    #[rkyv(with = InlineAsBox)]
    pub lines: &'a [Line<'a>],
}

impl ArchivedReserve<'_> {
    /// Reads it into a command whose lines' memory is used again; gives the key.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn read(&self, into: &mut command::Reserve) -> Result<IdempotencyKey, Wrong> {
        into.lines.clear();
        for (at, line) in self.lines.iter().enumerate() {
            into.lines.push(line.read(at)?);
        }
        into.customer = optional(&self.customer, || "customer".to_owned())?;
        into.order_id = optional(&self.order_id, || "order_id".to_owned())?;
        into.ttl_ms = Some(self.ttl_ms.to_native()).filter(|ttl| *ttl != 0);
        key(&self.key)
    }
}

/// Gives a held reservation back, in part where lines are named.
#[derive(Debug, Archive, Serialize)]
pub struct Release<'a> {
    /// Which.
    pub reservation: Id,
    /// The idempotency key.
    #[rkyv(with = InlineAsBox)]
    pub key: &'a str,
    /// What; empty: all.
    #[rkyv(with = InlineAsBox)]
    pub lines: &'a [Line<'a>],
}

impl ArchivedRelease<'_> {
    /// The key and the command.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn read(&self) -> Result<(IdempotencyKey, command::Release), Wrong> {
        let lines = self.lines.iter().enumerate().map(|(at, line)| line.read_release(at));
        let lines: Vec<_> = lines.collect::<Result<_, _>>()?;
        let release = command::Release { lines: Some(lines).filter(|lines| !lines.is_empty()) };
        Ok((key(&self.key)?, release))
    }
}

/// Holds a reservation for longer, from now.
#[derive(Debug, Archive, Serialize)]
pub struct Extend<'a> {
    /// Which.
    pub reservation: Id,
    /// How long from now, in milliseconds.
    pub ttl_ms: u64,
    /// The idempotency key.
    #[rkyv(with = InlineAsBox)]
    pub key: &'a str,
}

impl ArchivedExtend<'_> {
    /// The key and the command.
    ///
    /// # Errors
    /// If the key is wrong.
    pub fn read(&self) -> Result<(IdempotencyKey, command::Extend), Wrong> {
        Ok((key(&self.key)?, command::Extend { ttl_ms: self.ttl_ms.to_native() }))
    }
}

/// Changes what a held cart holds, as one decision.
#[derive(Debug, Archive, Serialize)]
pub struct ChangeLines<'a> {
    /// Which.
    pub reservation: Id,
    /// The cart as it shall be.
    #[rkyv(with = InlineAsBox)]
    pub lines: &'a [Line<'a>],
}

impl ArchivedChangeLines<'_> {
    /// The command.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn read(&self) -> Result<command::ChangeLines, Wrong> {
        let lines = self.lines.iter().enumerate().map(|(at, line)| line.read(at));
        Ok(command::ChangeLines { lines: lines.collect::<Result<_, _>>()? })
    }
}

/// Reads a reservation.
#[derive(Debug, Archive, Serialize)]
pub struct ReadReservation {
    /// Which.
    pub reservation: Id,
}

/// Reads the stock of a SKU over all its locations.
#[derive(Debug, Archive, Serialize)]
pub struct ReadStock<'a> {
    /// 0.
    pub reserved: u64,
    /// Which.
    #[rkyv(with = InlineAsBox)]
    pub sku: &'a str,
}

impl ArchivedReadStock<'_> {
    /// The SKU.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(&self) -> Result<Sku, Wrong> {
        text(&self.sku, || "sku".to_owned())
    }
}

/// Calls a route of the HTTP API with its JSON body: for what has no frame of its own.
#[derive(Debug, Archive, Serialize)]
pub struct Call<'a> {
    /// 0.
    pub reserved: u64,
    /// `GET`, `PUT`, `POST` or `DELETE`.
    #[rkyv(with = InlineAsBox)]
    pub method: &'a str,
    /// Path and query, percent-encoded.
    #[rkyv(with = InlineAsBox)]
    pub path: &'a str,
    /// The idempotency key; may be empty.
    #[rkyv(with = InlineAsBox)]
    pub key: &'a str,
    /// The JSON body; may be empty.
    #[rkyv(with = InlineAsBox)]
    pub body: &'a [u8],
}

/// Any request, as the model has it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Request<'a> {
    /// Takes stock for a while.
    Reserve(&'a IdempotencyKey, &'a command::Reserve),
    /// Gives a reservation back.
    Release(&'a IdempotencyKey, ReservationId, &'a command::Release),
    /// Holds a reservation for longer.
    Extend(&'a IdempotencyKey, ReservationId, &'a command::Extend),
    /// Makes a reservation an order.
    Commit(&'a IdempotencyKey, ReservationId, &'a command::Commit),
    /// Makes an order in one step.
    Order(&'a IdempotencyKey, &'a command::PlaceOrder),
    /// Changes what a held cart holds.
    ChangeLines(ReservationId, &'a command::ChangeLines),
    /// Reads a reservation.
    ReadReservation(ReservationId),
    /// Reads a SKU's stock.
    ReadStock(&'a Sku),
    /// Calls a route of the HTTP API.
    Call {
        /// `GET`, `PUT`, `POST` or `DELETE`.
        method: &'a str,
        /// Path and query, percent-encoded.
        path: &'a str,
        /// The idempotency key, where the route wants one.
        key: Option<&'a IdempotencyKey>,
        /// The JSON body; empty where the route takes none.
        body: &'a [u8],
    },
    /// Any other, as a part of a trace.
    Traced(&'a TraceContext, &'a Self),
}

type Lines<'a> = SmallVec<[Line<'a>; 4]>;

impl Request<'_> {
    /// Appends it to `out` as a frame; `can_wait` marks new work that is refused first when the log's
    /// disk budget comes to its end.
    pub fn push(&self, out: &mut Vec<u8>, id: u64, can_wait: bool) {
        let flags = if can_wait { flags::CAN_WAIT } else { 0 };
        match *self {
            Self::Reserve(key, reserve) => {
                let lines: Lines<'_> = reserve.lines.iter().map(Line::from).collect();
                let body = Reserve {
                    ttl_ms: reserve.ttl_ms.unwrap_or(0),
                    key: key.as_str(),
                    customer: word(reserve.customer.as_ref()),
                    order_id: word(reserve.order_id.as_ref()),
                    lines: &lines,
                };
                push(out, kind::RESERVE, flags, id, &body);
            }
            Self::Release(key, reservation, release) => {
                let lines = release.lines.iter().flatten().map(|line| Line {
                    quantity: line.quantity.get(),
                    whole: 0,
                    sku: line.sku.as_str(),
                    location: word(line.location.as_ref()),
                });
                let lines: Lines<'_> = lines.collect();
                let (reservation, key) = (reservation.into(), key.as_str());
                push(out, kind::RELEASE, flags, id, &Release { reservation, key, lines: &lines });
            }
            Self::Extend(key, reservation, extend) => {
                let (reservation, key) = (reservation.into(), key.as_str());
                let body = Extend { reservation, ttl_ms: extend.ttl_ms, key };
                push(out, kind::EXTEND, flags, id, &body);
            }
            Self::Commit(key, reservation, commit) => {
                sales::push_commit(out, flags, id, key, reservation, commit);
            }
            Self::Order(key, order) => sales::push_sale(out, flags, id, key, order),
            Self::ChangeLines(reservation, change) => {
                let lines: Lines<'_> = change.lines.iter().map(Line::from).collect();
                let body = ChangeLines { reservation: reservation.into(), lines: &lines };
                push(out, kind::CHANGE_LINES, flags, id, &body);
            }
            Self::ReadReservation(reservation) => {
                let body = ReadReservation { reservation: reservation.into() };
                push(out, kind::READ_RESERVATION, flags, id, &body);
            }
            Self::ReadStock(sku) => {
                let body = ReadStock { reserved: 0, sku: sku.as_str() };
                push(out, kind::READ_STOCK, flags, id, &body);
            }
            Self::Call { method, path, key, body } => {
                let key = key.map_or("", IdempotencyKey::as_str);
                push(out, kind::CALL, flags, id, &Call { reserved: 0, method, path, key, body });
            }
            Self::Traced(trace, mut request) => {
                while let Self::Traced(_, within) = request {
                    request = within;
                }
                let at = out.len();
                request.push(out, id, can_wait);
                name_trace(out, at, trace);
            }
        }
    }
}
