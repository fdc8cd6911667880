//! The words in which records are read: what an effect is about, and what it does to it. All of them
//! borrow from the record, so that reading one costs no allocation unless a cart has several lines.

use crate::{
    ledger::{keys::Outcome, reservations::Lines},
    model::{
        Lsn, ReservationId,
        event::{ArchivedOrderData, Event, KeyRef, Placed, Reserve},
        inbound::{ParkedEvent, Unparked},
        letter::Letter,
        life::Step,
        partner::PartnerEntry,
        sink::{Deed, Sealed},
        tally::Tally,
        view::ReservationState,
    },
};

use super::seals::SealEntry;

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
    /// A dead letter: its sink's name and its own.
    Letter(&'r str, &'r str),
    /// The parked event of a record.
    ParkedEvent(u64),
    /// A sink's seal, by its number: what the index of seals keeps of it.
    Seal(u64, &'r str),
    /// A partner that the log keeps.
    Partner(&'r str),
    /// What was counted of something in a period.
    Tally(&'r str, u64),
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

/// What a record does to one thing.
#[derive(Debug)]
pub(super) enum Effect<'r> {
    Secret([u64; 2]),
    Defined {
        sku: &'r str,
        location: &'r str,
        sku_number: u32,
    },
    Shifted(Shift),
    SkuLimit(Option<u32>),
    Opened(Opened<'r>),
    Turned(Turned<'r>),
    Done(Done<'r>),
    LimitTaken {
        quantity: u32,
        at_ms: u64,
        lsn: u64,
    },
    LimitGiven {
        quantity: u32,
        granted: u64,
    },
    Placed {
        data: &'r ArchivedOrderData,
        reservations: Vec<(u64, u32)>,
        lsn: u64,
    },
    Happened(Box<Step>),
    Sealed(Box<Sealed>),
    Acknowledged {
        number: u64,
        sent: bool,
    },
    /// An operator's deed, and why.
    Operated(Box<(Deed, String)>),
    /// What a letter is now; `None`: it is gone.
    Letter(Option<Box<Letter>>),
    Parked(Box<ParkedEvent>),
    Unparked(Box<Unparked>),
    /// What a partner is now.
    Partner(Box<PartnerEntry>),
    Tallied(Box<Tally>),
    Indexed(SealEntry),
    Answered {
        lsn: u64,
    },
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
    ReservationState::of_number(number).unwrap_or(ReservationState::Released)
}

/// The letter that a checkpoint's keys of a kind begin with.
pub(super) mod letter {
    pub(in super::super) const SECRET: u8 = b'A';
    pub(in super::super) const POSITION: u8 = b'B';
    pub(in super::super) const SKU_LIMIT: u8 = b'C';
    pub(in super::super) const RESERVATION: u8 = b'D';
    pub(in super::super) const KEY: u8 = b'E';
    pub(in super::super) const CUSTOMER_LIMIT: u8 = b'F';
    pub(in super::super) const ORDER: u8 = b'G';
    pub(in super::super) const SINK: u8 = b'H';
    pub(in super::super) const LETTER: u8 = b'I';
    pub(in super::super) const PARKED_EVENT: u8 = b'J';
    pub(in super::super) const SEAL: u8 = b'K';
    pub(in super::super) const PARTNER: u8 = b'L';
    pub(in super::super) const TALLY: u8 = b'M';
    /// How many there are.
    pub(in super::super) const COUNT: usize = (TALLY - SECRET) as usize + 1;
}

impl<'r> Thing<'r> {
    /// Appends the checkpoint's key: a letter, then numbers with their highest byte first, or the
    /// text.
    pub(super) fn put_key(&self, out: &mut Vec<u8>) {
        out.push(self.letter());
        match self {
            Self::Secret => {}
            Self::Position(number) | Self::SkuLimit(number) | Self::Reservation(number) => {
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Key(hash) => hash.iter().for_each(|h| out.extend_from_slice(&h.to_be_bytes())),
            Self::CustomerLimit(customer, sku) => {
                out.extend_from_slice(&customer.to_be_bytes());
                out.extend_from_slice(&sku.to_be_bytes());
            }
            Self::ParkedEvent(lsn) => out.extend_from_slice(&lsn.to_be_bytes()),
            Self::Order(text) | Self::Sink(text) | Self::Partner(text) => {
                out.extend_from_slice(text.as_bytes());
            }
            Self::Letter(sink, name) => {
                out.extend_from_slice(sink.as_bytes());
                out.push(0);
                out.extend_from_slice(name.as_bytes());
            }
            Self::Seal(number, sink) => {
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(sink.as_bytes());
            }
            Self::Tally(of, period) => {
                out.extend_from_slice(of.as_bytes());
                out.push(0);
                out.extend_from_slice(&period.to_be_bytes());
            }
        }
    }

    /// What its key begins with.
    pub(super) fn letter(&self) -> u8 {
        match self {
            Self::Secret => letter::SECRET,
            Self::Position(_) => letter::POSITION,
            Self::SkuLimit(_) => letter::SKU_LIMIT,
            Self::Reservation(_) => letter::RESERVATION,
            Self::Key(_) => letter::KEY,
            Self::CustomerLimit(..) => letter::CUSTOMER_LIMIT,
            Self::Order(_) => letter::ORDER,
            Self::Sink(_) => letter::SINK,
            Self::Letter(..) => letter::LETTER,
            Self::ParkedEvent(_) => letter::PARKED_EVENT,
            Self::Seal(..) => letter::SEAL,
            Self::Partner(_) => letter::PARTNER,
            Self::Tally(..) => letter::TALLY,
        }
    }

    /// The thing of a key.
    pub(super) fn of_key(key: &'r [u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        let text = || str::from_utf8(rest).ok();
        let u32_at = |at: usize| Some(u32::from_be_bytes(*rest.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_be_bytes(*rest.get(at..)?.first_chunk()?));
        Some(match *kind {
            letter::SECRET => Self::Secret,
            letter::POSITION => Self::Position(u32_at(0)?),
            letter::SKU_LIMIT => Self::SkuLimit(u32_at(0)?),
            letter::RESERVATION => Self::Reservation(u32_at(0)?),
            letter::KEY => Self::Key([u64_at(0)?, u64_at(8)?]),
            letter::CUSTOMER_LIMIT => Self::CustomerLimit(u64_at(0)?, u32_at(8)?),
            letter::ORDER => Self::Order(text()?),
            letter::SINK => Self::Sink(text()?),
            letter::LETTER => {
                let (sink, name) = text()?.split_once('\0')?;
                Self::Letter(sink, name)
            }
            letter::PARKED_EVENT => Self::ParkedEvent(u64_at(0)?),
            letter::SEAL => Self::Seal(u64_at(0)?, str::from_utf8(rest.get(8..)?).ok()?),
            letter::PARTNER => Self::Partner(text()?),
            letter::TALLY => {
                let (rest, period) = rest.split_last_chunk()?;
                let of = str::from_utf8(rest.strip_suffix(&[0])?).ok()?;
                Self::Tally(of, u64::from_be_bytes(*period))
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(thing: Thing<'_>) -> Vec<u8> {
        let mut key = Vec::new();
        thing.put_key(&mut key);
        key
    }

    #[test]
    fn a_key_reads_as_it_is_written_and_things_keep_their_order() {
        let things = [
            Thing::Secret,
            Thing::Position(1),
            Thing::Position(256),
            Thing::SkuLimit(0),
            Thing::Reservation(7),
            Thing::Key([1, 2]),
            Thing::Key([256, 0]),
            Thing::CustomerLimit(1, 2),
            Thing::Order("O-1"),
            Thing::Sink("erp"),
            Thing::Letter("erp", "erp-3f9c-000001.1"),
            Thing::Letter("erp-2", "erp-2-3f9c-000001.1"),
            Thing::ParkedEvent(255),
            Thing::ParkedEvent(256),
            Thing::Seal(1, "erp"),
            Thing::Seal(1, "tax"),
            Thing::Seal(256, "erp"),
            Thing::Partner("shop"),
            Thing::Tally("level/orders", 255),
            Thing::Tally("level/orders", 256),
            Thing::Tally("level/orders-2", 1),
            Thing::Tally("quota/shop", 0),
        ];
        assert!(things.is_sorted());
        let keys = things.map(key);
        assert!(keys.is_sorted());
        for (thing, key) in things.iter().zip(&keys) {
            assert_eq!(Thing::of_key(key).as_ref(), Some(thing));
        }
        assert_eq!(Thing::of_key(b""), None);
        assert_eq!(Thing::of_key(b"Bx"), None);
    }
}
