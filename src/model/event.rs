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

use std::borrow::Cow;

use rkyv::{
    Archive, Deserialize, Portable, Serialize,
    api::high::{HighDeserializer, HighSerializer, HighValidator},
    bytecheck::CheckBytes,
    rancor::Error as Rancor,
    ser::allocator::ArenaHandle,
    with::InlineAsBox,
};

use compact_str::CompactString;
use smallvec::SmallVec;

use super::{
    Lsn, ORIGIN_FLAG,
    fact::Fact,
    inbound::ParkedOutcome,
    letter::{Letter, TakenPart},
    packed::{pack, unpack},
    partner::{PartnerDeed, PartnerEntry},
    sink::{Deed, Parking, Sealed},
    tally::Tally,
    text::AsText,
    worth::Worth,
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

/// A reservation that became an order.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Sold {
    /// Which.
    pub of: Of,
    /// Whether it had expired and was taken again.
    pub revived: bool,
}

/// What a SKU of an order cost.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Priced {
    /// Price of one unit.
    pub unit_price: i64,
    /// Tax of the line.
    pub tax: i64,
    /// Discount on the line.
    pub discount: i64,
    /// What one unit cost the house; 0 where it is not said.
    pub unit_cost: i64,
    /// The SKU's number.
    pub sku_number: u32,
    /// Units.
    pub quantity: u32,
    /// The tax code; may be empty.
    #[rkyv(with = AsText)]
    pub tax_code: CompactString,
}

/// An order: the money side of [`Placed`].
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct OrderData {
    /// Shipping fee.
    pub shipping: i64,
    /// Tax of the shipping fee.
    pub shipping_tax: i64,
    /// When the customer was promised that it leaves; 0 where not.
    pub promised_ship_at_ms: u64,
    /// When it was committed.
    pub committed_at_ms: u64,
    /// The order's id.
    #[rkyv(with = AsText)]
    pub order_id: CompactString,
    /// The customer; may be empty.
    #[rkyv(with = AsText)]
    pub customer: CompactString,
    /// Prices by SKU.
    pub prices: SmallVec<[Priced; 1]>,
    /// Every unit sold, and where it is taken from.
    pub allocations: SmallVec<[Line; 2]>,
    /// The currency of every amount.
    pub currency: [u8; 3],
    /// Whether prices are net (tax comes on top).
    pub net: bool,
    /// 0 express, 1 standard, 2 bulk.
    pub priority: u8,
}

/// Reservations became an order: held ones, or one that this record takes as well.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Placed {
    /// The request's key.
    pub key: KeyRef,
    /// Keyed hash of the customer; 0 without one.
    pub customer_hash: u64,
    /// Keyed hash of the order's id.
    pub order_hash: u64,
    /// The slot of the reservation that an order in one step makes; its id is this record's
    /// position and the slot, its lines are the order's allocations.
    pub taken_slot: Option<u32>,
    /// The held reservations.
    pub reservations: Vec<Sold>,
    /// The order.
    pub order: OrderData,
}

/// Something happened to an order: a shipment, an invoice, a refund.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Happened {
    /// The request's key.
    pub key: KeyRef,
    /// The position of the order's record before this one: lineage is a walk along it.
    pub previous: u64,
    /// Keyed hash of what was asked for; see [`super::life::Known::content`].
    pub content: u64,
    /// The order.
    #[rkyv(with = AsText)]
    pub order_id: CompactString,
    /// The fact's own id: the shipment's, the invoice's.
    #[rkyv(with = AsText)]
    pub id: CompactString,
    /// The reservations whose state the order's new state becomes: empty while it stays the same.
    pub turned: SmallVec<[Of; 1]>,
    /// What happened.
    pub fact: Fact,
    /// What it is worth to the books.
    pub worth: Worth,
    /// The number of the order's state after it.
    pub state: u8,
}

/// A partner's report of an order that is not there yet was put aside, see [`super::inbound`].
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Park {
    /// The request's key; its fingerprint is the content's.
    pub key: KeyRef,
    /// Whose report it is.
    pub partner: String,
    /// The order.
    pub order_id: String,
    /// The fact's own id.
    pub id: String,
    /// The [`OrderEvent`](super::inbound::OrderEvent) as JSON.
    pub event: String,
    /// The number of its [`FactKind`](super::fact::FactKind).
    pub kind: u8,
}

/// What became of a parked report. Its fact, if it happened, has a record of its own before this one.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Unpark {
    /// The position of the record that parked it.
    pub parked: u64,
    /// The order.
    pub order_id: String,
    /// What became of it.
    pub outcome: ParkedOutcome,
}

/// The content of an outbound batch, fixed before its first byte leaves.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Seal {
    /// The batch's number at its sink: one more than the last.
    pub number: u64,
    /// The first record summed up.
    pub first_lsn: u64,
    /// The last record summed up.
    pub last_lsn: u64,
    /// The sink's next window begins here: everything before is in this seal or an earlier one.
    pub covers_lsn: u64,
    /// When.
    pub sealed_at_ms: u64,
    /// Records summed up.
    pub events: u64,
    /// The version of the configuration that rendered it.
    pub config_version: u64,
    /// BLAKE3 over what is sent of `body`, and of `more` after it.
    pub digest: [u8; 32],
    /// The chain of a finance sink: the digest of its last entry. Zero elsewhere.
    pub chain: [u8; 32],
    /// The sink's name.
    pub sink: String,
    /// The bytes that are sent; in a record perhaps [packed](super::packed).
    pub body: Vec<u8>,
    /// What of a finance sink's records waits for others from now on, and what no longer does.
    pub parking: Parking,
    /// The number of the [`Recognition`](super::posting::Recognition) by which it was summed up.
    pub recognition: u8,
    /// The place of its [`Lane`](super::sink::Lane), or [`Sealed::EVERY_LANE`].
    pub lane: u8,
    /// The bodies of further batches of the same window, numbered on from `number`.
    pub more: Vec<Vec<u8>>,
    /// The letter that it sends again; empty: it is a window.
    pub letter: String,
    /// The id that a letter's content goes out under; empty: that of its number.
    pub part_id: String,
}

impl Seal {
    /// The digest of what it has.
    pub fn digest_of<'a>(body: &[u8], more: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut digest = blake3::Hasher::new();
        digest.update(body);
        for body in more {
            digest.update(body);
        }
        *digest.finalize().as_bytes()
    }

    /// The same with its bodies packed.
    pub fn packed(&self) -> Self {
        Self {
            body: pack(&self.body),
            more: self.more.iter().map(|body| pack(body)).collect(),
            sink: self.sink.clone(),
            parking: self.parking.clone(),
            letter: self.letter.clone(),
            part_id: self.part_id.clone(),
            ..*self
        }
    }

    /// The same with its bodies as they are sent. What is damaged stays as it is, and its digest says so.
    pub fn unpacked(mut self) -> Self {
        for body in [&mut self.body].into_iter().chain(&mut self.more) {
            if let Some(Cow::Owned(sent)) = unpack(body) {
                *body = sent;
            }
        }
        self
    }

    /// What it says to its sink's state, once it is written.
    pub fn sealed(&self, lsn: Lsn) -> Sealed {
        Sealed {
            lsn: lsn.0,
            number: self.number,
            batches: 1 + self.more.len() as u64,
            covers_lsn: self.covers_lsn,
            events: self.events,
            chain: self.chain,
            parking: self.parking.clone(),
            lane: self.lane,
            letter: self.letter.clone(),
        }
    }
}

impl ArchivedSeal {
    /// What is sent of its `nth` batch; nothing if it has none of that number, or it is damaged.
    pub fn body_of(&self, nth: usize) -> Option<Cow<'_, [u8]>> {
        match nth.checked_sub(1) {
            None => unpack(&self.body),
            Some(more) => unpack(self.more.get(more)?),
        }
    }

    /// Whether its digest is that of what is sent.
    pub fn is_whole(&self) -> bool {
        let bodies: Option<Vec<_>> = (0..=self.more.len()).map(|nth| self.body_of(nth)).collect();
        let [body, more @ ..] = bodies.as_deref().unwrap_or_default() else { return false };
        Seal::digest_of(body, more.iter().map(|body| &**body)) == self.digest
    }

    /// What it says to its sink's state.
    pub fn sealed(&self, lsn: Lsn) -> Sealed {
        Sealed {
            lsn: lsn.0,
            number: self.number.to_native(),
            batches: 1 + self.more.len() as u64,
            covers_lsn: self.covers_lsn.to_native(),
            events: self.events.to_native(),
            chain: self.chain,
            parking: to_owned::<Parking>(&self.parking),
            lane: self.lane,
            letter: self.letter.as_str().to_owned(),
        }
    }
}

/// A batch's fate is known.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Acknowledge {
    /// The batch's number at its sink.
    pub number: u64,
    /// The position of its seal.
    pub seal_lsn: u64,
    /// Attempts it took.
    pub attempts: u64,
    /// The partner's status code.
    pub status: u16,
    /// Whether the partner took nothing of it: all of its content is in `letters`.
    pub refused: bool,
    /// The sink's name.
    pub sink: String,
    /// What the partner said where it refused something, shortened; else empty.
    pub answer: String,
    /// The letter that the batch sent again; empty: it was a window. It is gone, unless it is in
    /// `letters`.
    pub letter: String,
    /// What was set aside.
    pub letters: Vec<Letter>,
    /// The parts of it that the partner took, each under an id of its own; none: all of it under the
    /// batch's id or, if it is `refused`, nothing.
    pub taken: Vec<TakenPart>,
}

/// An operator did something to a sink.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub struct Operate {
    /// The sink's name.
    pub sink: String,
    /// Who: a partner's name; empty where none is known.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
    /// Whether it was done in a freeze window in spite of it.
    pub forced: bool,
    /// What.
    pub deed: Deed,
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
