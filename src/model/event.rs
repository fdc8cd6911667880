//! The records of the log: one type a kind, archived by rkyv, validated and read in place.
//!
//! # What they promise
//!
//! - A record is whole by itself: a reader needs the log (and the [`Define`] records that give
//!   numbers to SKUs and locations), never the ledger.
//! - Records carry deltas, never totals, so that replay does not depend on the order of independent
//!   concurrent records.
//! - Every archived type is a multiple of eight bytes long (each has a `u64` field), so that a body
//!   ends where its root does.
//! - A kind's number and a version's layout never change once written; a new layout is a new
//!   version.
//!
//! Positions (SKU at a location) and SKUs are numbered in the order in which they were defined; a
//! text stands once in the log and costs four bytes afterwards.

mod sale;
mod sink;

use rkyv::{
    Archive, Deserialize, Portable, Serialize,
    api::high::{HighDeserializer, HighSerializer, HighValidator},
    bytecheck::CheckBytes,
    rancor::Error as Rancor,
    ser::allocator::ArenaHandle,
    with::InlineAsBox,
};

pub use sale::{
    ArchivedHappened, ArchivedOrderData, ArchivedPlaced, Happened, OrderData, Park, Placed, Priced,
    Sold, Unpark,
};
pub use sink::{Acknowledge, ArchivedAcknowledge, ArchivedSeal, Operate, Seal};

use super::{
    Lsn, ORIGIN_FLAG,
    partner::{PartnerDeed, PartnerEntry},
    tally::Tally,
};

/// What makes a type a record of the log.
pub trait Event: Archive {
    /// Its number in a record's header.
    const KIND: u8;
    /// The version of its layout.
    const VERSION: u8 = 1;
}

/// What can be archived into a record's body.
pub trait Encode: for<'b> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'b>, Rancor>> {}
impl<T> Encode for T where T: for<'b> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'b>, Rancor>> {}

/// A body that is not what its header says.
#[derive(Debug, thiserror::Error)]
#[error("the record at {lsn} (kind {kind}, version {version}) does not decode: {reason}")]
pub struct Undecodable {
    /// Where it stands.
    pub lsn: Lsn,
    /// The kind in its header.
    pub kind: u8,
    /// The version in its header.
    pub version: u8,
    /// What the validation said.
    pub reason: String,
}

/// Appends the archived form of an event to `out`, whose length must be a multiple of eight.
///
/// # Panics
/// Never: archiving into memory fails only when an object refuses to be archived, and none does.
pub fn encode<E: Event + Encode>(event: &E, out: &mut Vec<u8>) {
    debug_assert_eq!(out.len() % 8, 0);
    match rkyv::api::high::to_bytes_in::<_, Rancor>(event, std::mem::take(out)) {
        Ok(written) => *out = written,
        Err(error) => unreachable!("archiving into memory failed: {error}"),
    }
}

/// What can be validated and read in place.
pub trait Checked: Portable + for<'b> CheckBytes<HighValidator<'b, Rancor>> {}
impl<T> Checked for T where T: Portable + for<'b> CheckBytes<HighValidator<'b, Rancor>> {}

/// Reads an event in place, after validating it. What may stand in front of it (see
/// [`super::Origin`]) is passed over.
///
/// # Errors
/// If kind or version are not the event's, or the bytes are not one.
pub fn decode<E>(lsn: Lsn, kind: u8, version: u8, body: &[u8]) -> Result<&E::Archived, Undecodable>
where
    E: Event,
    E::Archived: Checked,
{
    let wrong = |reason: String| Undecodable { lsn, kind, version, reason };
    if kind != E::KIND || version & !ORIGIN_FLAG != E::VERSION {
        return Err(wrong(format!("expected kind {}, version {}", E::KIND, E::VERSION)));
    }
    rkyv::access::<E::Archived, Rancor>(body).map_err(|e| wrong(e.to_string()))
}

/// A copy of what was read in place.
///
/// # Panics
/// Never: copying out of valid bytes fails only when an object refuses to be made, and none does.
pub fn to_owned<T>(archived: &T::Archived) -> T
where
    T: Archive,
    T::Archived: Deserialize<T, HighDeserializer<Rancor>>,
{
    match rkyv::deserialize::<T, Rancor>(archived) {
        Ok(owned) => owned,
        Err(error) => unreachable!("copying out of memory failed: {error}"),
    }
}

macro_rules! events {
    ($($kind:literal $name:ident),+ $(,)?) => {
        $(impl Event for $name { const KIND: u8 = $kind; })+
    };
}

events! {
    1 Genesis, 2 Define, 3 Stock, 4 Adjust, 6 Release, 7 Extend, 8 Expire, 9 Change, 11 Happened,
    12 Park, 13 Unpark, 40 PartnerChange, 41 Tallied,
}
impl Event for Reserve<'_> {
    const KIND: u8 = 5;
}
impl Event for Placed {
    const KIND: u8 = 10;
    /// Version 2: a unit's cost.
    const VERSION: u8 = 2;
}

impl Event for Seal {
    const KIND: u8 = 32;
    /// Version 2: what is parked and what no longer is. Version 3: lanes, several batches, letters.
    const VERSION: u8 = 3;
}

impl Event for Acknowledge {
    const KIND: u8 = 33;
    /// Version 2: dead letters. Version 3: the parts that the partner took.
    const VERSION: u8 = 3;
}

impl Event for Operate {
    const KIND: u8 = 34;
    /// Version 2: the parts that the partner took, in a split.
    const VERSION: u8 = 2;
}

/// The first record of a log: secrets of this data directory.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Genesis {
    /// Keys the hashes of idempotency keys, customers and order ids, so that nobody outside can
    /// make two of them collide.
    pub hash_secret: [u64; 2],
}

/// Gives a number to a SKU at a location.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Define {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// The position's number: one more than the last.
    pub position: u32,
    /// The SKU's number: one more than the last, or an earlier one at another location.
    pub sku_number: u32,
    /// The SKU.
    pub sku: String,
    /// The location.
    pub location: String,
}

/// A position was set; as what changed.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Stock {
    /// Change of the units on hand.
    pub on_hand: i64,
    /// Change of the safety stock.
    pub safety_stock: i64,
    /// Change of the backorder limit.
    pub backorder_limit: i64,
    /// The sender's version, if it gave one.
    pub source_version: Option<u64>,
    /// The SKU's limit per customer: `None` as it was, `Some(None)` lifted.
    pub per_customer_limit: Option<Option<u32>>,
    /// The position.
    pub position: u32,
    /// Whether it took availability below zero, as its sender had allowed.
    pub forced: bool,
}

/// Where the answer to a repeated request hangs: the hash of (partner, key) and the fingerprint of
/// what was asked. All zero where a request had no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct KeyRef {
    /// Keyed 128-bit hash of partner and key.
    pub hash: [u64; 2],
    /// Keyed hash of the route and the parsed body.
    pub fingerprint: u64,
}

/// Stock moved physically.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Adjust {
    /// The request's key.
    pub key: KeyRef,
    /// Change of the units on hand.
    pub delta: i64,
    /// The position.
    pub position: u32,
    /// Whether it took availability below zero, as its sender had allowed.
    pub forced: bool,
    /// The number of [`super::command::AdjustmentReason`].
    pub reason: u8,
    /// The document that says so; may be empty.
    pub reference: String,
    /// The answer, as JSON without its `lsn`, for a repeat of the request.
    pub answer: String,
}

/// Units at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Line {
    /// The position's number.
    pub position: u32,
    /// Units.
    pub quantity: u32,
    /// Whether they count against the customer's limit.
    pub limited: bool,
}

/// Stock was taken for a while. The reservation's id is this record's position and its slot.
#[derive(Debug, Clone, Archive, Serialize)]
pub struct Reserve<'a> {
    /// The request's key.
    pub key: KeyRef,
    /// When it expires.
    pub deadline_ms: u64,
    /// Keyed hash of the customer; 0 without one.
    pub customer_hash: u64,
    /// Keyed hash of the order id; 0 without one.
    pub order_hash: u64,
    /// Its slot in the table.
    pub slot: u32,
    /// What was taken.
    #[rkyv(with = InlineAsBox)]
    pub lines: &'a [Line],
    /// The customer; may be empty.
    #[rkyv(with = InlineAsBox)]
    pub customer: &'a str,
    /// The order id given at the reservation; may be empty.
    #[rkyv(with = InlineAsBox)]
    pub order_id: &'a str,
}

/// A reservation, and where its previous record stands: lineage is a walk along `previous`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Of {
    /// The position of the record that granted it.
    pub reservation: u64,
    /// The position of its last record before this one.
    pub previous: u64,
    /// Its slot in the table.
    pub slot: u32,
}

/// A held reservation was given back, wholly or in part.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Release {
    /// Which.
    pub of: Of,
    /// The request's key.
    pub key: KeyRef,
    /// What was given back.
    pub lines: Vec<Line>,
    /// What is left; empty after a whole release.
    pub left: Vec<Line>,
    /// Keyed hash of the customer; 0 without one.
    pub customer_hash: u64,
    /// When it expires, if something is left.
    pub deadline_ms: u64,
    /// The answer to a partial one, as JSON without its `lsn`; empty where it can be rebuilt.
    pub answer: String,
}

/// A held reservation expires at another time.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Extend {
    /// Which.
    pub of: Of,
    /// The request's key.
    pub key: KeyRef,
    /// When it expires now.
    pub deadline_ms: u64,
    /// The answer, as JSON without its `lsn`: the lines may change before the request is repeated.
    pub answer: String,
}

/// A held reservation's time ran out, and its units went back.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Expire {
    /// Which.
    pub of: Of,
    /// Keyed hash of the customer; 0 without one.
    pub customer_hash: u64,
    /// What went back.
    pub lines: Vec<Line>,
}

/// A held cart holds something else: `taken` more and `given` less.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub of: Of,
    /// Taken before the record.
    pub taken: Vec<Line>,
    /// Given back after the record.
    pub given: Vec<Line>,
    /// What it holds now.
    pub lines: Vec<Line>,
    /// Keyed hash of the customer; 0 without one.
    pub customer_hash: u64,
    /// When it expires.
    pub deadline_ms: u64,
}

/// A partner was added, got another key, or was revoked.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct PartnerChange {
    /// The partner as it is now.
    pub partner: PartnerEntry,
    /// What was done.
    pub deed: PartnerDeed,
}

/// Figures that were counted so far, of several things.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Tallied {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// What was counted.
    pub tallies: Vec<Tally>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written() {
        let lines = [Line { position: 7, quantity: 2, limited: true }];
        let event = Reserve {
            key: KeyRef { hash: [1, 2], fingerprint: 3 },
            deadline_ms: 4,
            customer_hash: 5,
            order_hash: 0,
            slot: 9,
            lines: &lines,
            customer: "a customer with a long name",
            order_id: "",
        };
        let mut bytes = Vec::new();
        encode(&event, &mut bytes);
        assert_eq!(bytes.len() % 8, 0);
        let mut aligned = rkyv::util::AlignedVec::<8>::new();
        aligned.extend_from_slice(&bytes);
        let read = decode::<Reserve<'_>>(Lsn(0), 5, 1, &aligned).unwrap();
        assert_eq!(read.slot.to_native(), 9);
        assert_eq!(read.lines[0].quantity.to_native(), 2);
        assert_eq!(&*read.customer, "a customer with a long name");
        assert!(decode::<Reserve<'_>>(Lsn(0), 6, 1, &aligned).is_err());
        assert!(decode::<Reserve<'_>>(Lsn(0), 5, 2, &aligned).is_err());
        assert!(decode::<Reserve<'_>>(Lsn(0), 5, 1, &aligned[..8]).is_err());
    }

    #[test]
    fn every_body_ends_where_its_root_does() {
        fn check<E: Event>() {
            assert_eq!(size_of::<E::Archived>() % 8, 0, "kind {}", E::KIND);
        }
        check::<Genesis>();
        check::<Define>();
        check::<Stock>();
        check::<Adjust>();
        check::<Reserve<'_>>();
        check::<Release>();
        check::<Extend>();
        check::<Expire>();
        check::<Change>();
        check::<Placed>();
        check::<Happened>();
        check::<Seal>();
        check::<Acknowledge>();
        check::<Operate>();
        check::<PartnerChange>();
        check::<Tallied>();
    }
}
