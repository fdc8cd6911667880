//! Answers: in place as they come in, and as what a caller keeps.

use crate::{
    model::view::{ReservationState, ReservationView},
    protocol::{
        ArchivedCalled, ArchivedOrdered, ArchivedRefused, ArchivedReservation, ArchivedStock,
        Called, Frame, Ordered, PlacedOrder, Refused, Reservation, Stock, flags, kind,
    },
};

use super::{Error, Problem};

/// An answer, read in place.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Answer<'a> {
    /// A reservation, with the flags of its frame.
    Reservation(&'a ArchivedReservation<'static>, u8),
    /// An order, with the flags of its frame.
    Ordered(&'a ArchivedOrdered<'static>, u8),
    /// The stock of a SKU.
    Stock(&'a ArchivedStock),
    /// What a route answered, with the flags of its frame.
    Called(&'a ArchivedCalled<'static>, u8),
    /// Why it was not done.
    Refused(&'a ArchivedRefused<'static>),
}

/// What was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted<T> {
    /// What was asked for.
    pub value: T,
    /// Whether it is the first answer again, for a repeat of its request.
    pub replayed: bool,
    /// Whether the request made something new; the same in a repeat.
    pub created: bool,
    /// In a repeat: the state now, where the thing has moved on since.
    pub current_state: Option<ReservationState>,
}

impl<T> Granted<T> {
    fn new(value: T, frame_flags: u8, current_state: Option<ReservationState>) -> Self {
        Self {
            value,
            replayed: frame_flags & flags::REPLAYED != 0,
            created: frame_flags & flags::CREATED != 0,
            current_state,
        }
    }
}

/// An answer that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// A reservation.
    Reservation(Granted<ReservationView>),
    /// An order that was placed.
    Ordered(Granted<PlacedOrder>),
    /// The stock of a SKU: available units, and the rest.
    Stock(StockSums),
    /// What a route answered.
    Called {
        /// The status of HTTP.
        status: u16,
        /// Whether it is the first answer again.
        replayed: bool,
        /// The body.
        body: Vec<u8>,
    },
}

/// The stock of one SKU over all its locations; fields as in [`crate::model::view::StockView`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct StockSums {
    pub available: i64,
    pub on_hand: i64,
    pub held: i64,
    pub committed: i64,
    pub safety_stock: i64,
    pub backorder_limit: i64,
    pub per_customer_limit: Option<u32>,
    pub lsn: crate::model::Lsn,
}

const UNREADABLE: Error = Error::Protocol("a body is not that of its kind");

impl<'a> Answer<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// If it is no answer of this version.
    pub fn of(frame: &Frame<'a>) -> Result<Self, Error> {
        let flags = frame.header.flags;
        let answer = match frame.header.kind {
            kind::RESERVATION => {
                frame.access::<Reservation<'static>>().map(|a| Self::Reservation(a, flags))
            }
            kind::REFUSED => frame.access::<Refused<'static>>().map(Self::Refused),
            kind::ORDERED => frame.access::<Ordered<'static>>().map(|a| Self::Ordered(a, flags)),
            kind::STOCK => frame.access::<Stock>().map(Self::Stock),
            kind::CALLED => frame.access::<Called<'static>>().map(|a| Self::Called(a, flags)),
            _ => return Err(Error::Protocol("an answer is of a kind that is not known")),
        };
        answer.ok_or(UNREADABLE)
    }

    /// A copy to keep; a refusal is an error.
    ///
    /// # Errors
    /// The refusal; or if the answer holds what can't be.
    pub fn to_reply(&self) -> Result<Reply, Error> {
        match *self {
            Self::Reservation(answer, flags) => {
                let view = answer.view().ok_or(UNREADABLE)?;
                Ok(Reply::Reservation(Granted::new(view, flags, answer.current_state())))
            }
            Self::Ordered(answer, flags) => {
                let view = answer.view().ok_or(UNREADABLE)?;
                Ok(Reply::Ordered(Granted::new(view, flags, answer.current_state())))
            }
            Self::Stock(stock) => Ok(Reply::Stock(stock.into())),
            Self::Called(answer, said) => Ok(Reply::Called {
                status: u16::try_from(answer.status.to_native()).map_err(|_| UNREADABLE)?,
                replayed: said & flags::REPLAYED != 0,
                body: answer.body.to_vec(),
            }),
            Self::Refused(refused) => Err(Problem::from(refused).into()),
        }
    }
}

impl From<&ArchivedStock> for StockSums {
    fn from(stock: &ArchivedStock) -> Self {
        Self {
            available: stock.available.to_native(),
            on_hand: stock.on_hand.to_native(),
            held: stock.held.to_native(),
            committed: stock.committed.to_native(),
            safety_stock: stock.safety_stock.to_native(),
            backorder_limit: stock.backorder_limit.to_native(),
            per_customer_limit: u32::try_from(stock.per_customer_limit.to_native()).ok(),
            lsn: crate::model::Lsn(stock.lsn.to_native()),
        }
    }
}
