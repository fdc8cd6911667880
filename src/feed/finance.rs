//! Balanced double-entry journal entries, for the books.
//!
//! One entry a window for each kind and currency, with one posting for each account and tax code. What a
//! record posts, and that it balances, is said in one place ([`posting`]); sums are exact (128 bits), and
//! a sum of zero is left out.
//!
//! # Causal order
//!
//! What is early (see [`causal`]) is parked and booked by the window that reads the record it waits for,
//! after it: entries stand in the order in which a business does things. Parked records stand in the
//! seal of the window that parked them, so that neither a crash nor a recycled log loses one. At most
//! `parked_max` wait; beyond it the oldest is booked as it is, which is counted and told.
//!
//! # Digests
//!
//! An entry's `digest` is BLAKE3 over the records that it sums up: for each its position (eight bytes,
//! little-endian) and its body; first those that its window read, in log order, then those that had been
//! parked, in log order. `previous_digest` is that of the sink's entry before, across batches and
//! restarts; the first has zeros. `orders` counts orders that were placed, `records` all records.

use std::collections::BTreeMap;

use rkyv::util::AlignedVec;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Error, causal,
    entry::{Digest, Sums},
    inventory::{Absorbed, Limits},
    parked::{Item, ParkedRecords},
    render::{self, Head, Rendered, Stamp},
};
use crate::{
    config::Accounts,
    model::{
        Currency, Lsn,
        event::{self, Event},
        posting::{self, Booking, Kind, Posting, Read, Recognition},
        sink::{Parked, Parking},
    },
    wal::Record,
};

#[derive(Debug)]
struct Entry {
    first_lsn: Lsn,
    last_lsn: Lsn,
    orders: u64,
    records: u64,
    digest: Digest,
    /// Records that had been parked: the digest sums them up last.
    late: BTreeMap<u64, AlignedVec<8>>,
    sums: Sums,
}

/// What a sink's books follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub sink: &'a str,
    pub accounts: &'a Accounts,
    pub recognition: Recognition,
    pub parked_max: u64,
    pub limits: Limits,
}

/// The entries of an open window, and what waits for a later one.
#[derive(Debug, Default)]
pub(super) struct Finance {
    entries: BTreeMap<(Kind, [u8; 3]), Entry>,
    lines: u64,
    bytes: u64,
    /// Bytes of the seal for what is parked and released.
    parking_bytes: u64,
    parked: ParkedRecords,
    released: Vec<u64>,
    overflows: u64,
}

/// What a record asks of the window.
struct Plan<'a> {
    own: Option<Booking<'a>>,
    park: bool,
    release: Vec<u64>,
    overflows: bool,
}

impl<'a> Plan<'a> {
    /// The record's own booking, if nothing else is asked.
    fn alone(&self) -> Option<&Booking<'a>> {
        self.own.as_ref().filter(|_| !self.park && self.release.is_empty())
    }
}

impl Finance {
    /// The first window of a sink.
    pub fn new(parked: Vec<Parked>) -> Result<Self, Error> {
        Ok(Self { parked: ParkedRecords::restore(parked)?, ..Self::default() })
    }

    /// The window after this one, which is sealed.
    pub fn next(self) -> Self {
        let mut parked = self.parked;
        parked.sealed();
        Self { parked, ..Self::default() }
    }

    pub fn parked(&self) -> &ParkedRecords {
        &self.parked
    }

    /// Records released since more may not be parked.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// What the window's seal says of parked records.
    pub fn parking(&self) -> Parking {
        let mut released = self.released.clone();
        released.sort_unstable();
        Parking { parked: self.parked.fresh(), released }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.parking_bytes == 0
    }

    /// Adds a record, unless the window would grow beyond its limits; parks it, if it is early;
    /// releases what waited for it.
    pub fn absorb(&mut self, record: &Record<'_>, rules: Rules<'_>) -> Result<Absorbed, Error> {
        let Some(plan) = self.plan(record, rules)? else { return Ok(Absorbed::Nothing) };
        if let Some(booking) = plan.alone()
            && self.add_known(record, booking, rules)
        {
            return Ok(Absorbed::Taken);
        }
        let mut growth = Growth::default();
        if let Some(booking) = &plan.own {
            growth.add(self, booking, rules);
        }
        if plan.park {
            growth.parking_bytes += PARKED_BYTES + record.body.len() as u64;
        }
        for lsn in &plan.release {
            let Some(item) = self.parked.get(*lsn) else { continue };
            growth.parking_bytes += 8;
            if let Some(booking) = booking_of(*lsn, item, rules.recognition)? {
                growth.add(self, &booking, rules);
            }
        }
        if !self.takes(growth, rules) {
            return Ok(Absorbed::Full);
        }
        let mut events = plan.release.len() as u64;
        if let Some(booking) = plan.own {
            self.entry(&booking, record.lsn).add(record, &booking);
            events += 1;
        }
        if plan.park {
            self.parked.park(record)?;
        }
        self.overflows += u64::from(plan.overflows);
        for lsn in plan.release {
            self.release_one(lsn, rules.recognition)?;
        }
        Ok(Absorbed::of(events))
    }

    /// Adds a record that needs no line which the window has not: nearly all are such. Nothing is
    /// changed if it needs one.
    fn add_known(&mut self, record: &Record<'_>, booking: &Booking<'_>, rules: Rules<'_>) -> bool {
        if !self.takes(Growth::default(), rules) {
            return false;
        }
        let key = (booking.kind, booking.currency.as_bytes());
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        if !entry.sums.add_known(&booking.postings) {
            return false;
        }
        entry.sum_up(record);
        true
    }

    /// What a record asks for; `None` if it is nothing to the books.
    fn plan<'r>(&self, record: &Record<'r>, rules: Rules<'_>) -> Result<Option<Plan<'r>>, Error> {
        let (lsn, layout) = (record.lsn, (record.kind, record.version));
        let Some(read) = posting::read(lsn, layout, record.body)? else { return Ok(None) };
        let own = read.booking(lsn, rules.recognition)?;
        let mut plan = Plan { own, park: false, release: Vec::new(), overflows: false };
        let may_be_early = plan
            .own
            .as_ref()
            .is_some_and(|own| matches!(own.kind, Kind::Settlement | Kind::Refund));
        if let Read::Happened(happened) = read
            && (may_be_early || !self.parked.is_empty())
        {
            plan.park = may_be_early && causal::waits_for(happened, rules.recognition).is_some();
            plan.release = self.parked.freed_by(happened, rules.recognition);
        }
        if plan.park {
            plan.own = None;
            let left = self.parked.len().saturating_sub(plan.release.len()) as u64;
            if let Some(oldest) = self.parked.oldest()
                && left >= rules.parked_max
                && !plan.release.contains(&oldest)
            {
                plan.release.push(oldest);
                plan.overflows = true;
            }
        }
        let nothing = plan.own.is_none() && !plan.park && plan.release.is_empty();
        Ok((!nothing).then_some(plan))
    }

    /// Releases what is parked of an order, by hand, as far as it fits: how many records.
    pub fn release(&mut self, order_id: &str, rules: Rules<'_>) -> Result<(u64, Absorbed), Error> {
        let mut released = 0;
        while let Some(&lsn) = self.parked.of_order(order_id).first() {
            let Some(item) = self.parked.get(lsn) else { break };
            let mut growth = Growth { parking_bytes: 8, ..Growth::default() };
            if let Some(booking) = booking_of(lsn, item, rules.recognition)? {
                growth.add(self, &booking, rules);
            }
            if !self.takes(growth, rules) {
                return Ok((released, Absorbed::Full));
            }
            self.release_one(lsn, rules.recognition)?;
            released += 1;
        }
        Ok((released, if released == 0 { Absorbed::Nothing } else { Absorbed::of(released) }))
    }

    /// Sums up a record whatever the limits, for a verification; whether it is anything to the books.
    pub fn add(&mut self, record: &Record<'_>, recognition: Recognition) -> Result<bool, Error> {
        let kind = (record.kind, record.version);
        let booking = posting::of(record.lsn, kind, record.body, recognition)?;
        if let Some(booking) = &booking {
            self.entry(booking, record.lsn).add(record, booking);
        }
        Ok(booking.is_some())
    }

    /// Sums up a record that had been parked.
    pub fn add_late(
        &mut self,
        lsn: u64,
        kind: (u8, u8),
        body: AlignedVec<8>,
        recognition: Recognition,
    ) -> Result<(), Error> {
        self.released.push(lsn);
        // The booking borrows from the body that the entry then keeps.
        let kept = body.clone();
        if let Some(booking) = posting::of(Lsn(lsn), kind, &kept, recognition)? {
            self.entry(&booking, Lsn(lsn)).add_late(lsn, body, &booking);
        }
        Ok(())
    }

    fn release_one(&mut self, lsn: u64, recognition: Recognition) -> Result<(), Error> {
        match self.parked.remove(lsn) {
            Some(item) => {
                self.parking_bytes += 8;
                self.add_late(lsn, (item.kind, item.version), item.body, recognition)
            }
            None => Ok(()),
        }
    }

    fn entry(&mut self, booking: &Booking<'_>, lsn: Lsn) -> &mut Entry {
        let key = (booking.kind, booking.currency.as_bytes());
        self.entries.entry(key).or_insert_with(|| Entry::new(lsn))
    }

    /// Makes room, if there is: an empty window takes anything.
    fn takes(&mut self, growth: Growth, rules: Rules<'_>) -> bool {
        let (lines, bytes) = (self.lines + growth.lines, self.bytes + growth.bytes);
        let parking_bytes = self.parking_bytes + growth.parking_bytes;
        let all = bytes + parking_bytes + render::head_bytes(rules.sink);
        let fits = lines <= rules.limits.lines && all <= rules.limits.bytes;
        if !fits && !self.is_empty() {
            return false;
        }
        (self.lines, self.bytes, self.parking_bytes) = (lines, bytes, parking_bytes);
        true
    }

    /// The batch's body; empty without an entry.
    pub fn render(
        &self,
        head: Head<'_>,
        stamp: Stamp<'_>,
        accounts: &Accounts,
    ) -> Result<Rendered, Error> {
        let (entries, chain) = self.bodies(stamp, accounts);
        if entries.is_empty() {
            return Ok(Rendered::nothing(chain));
        }
        Ok(Rendered::one(serde_json::to_vec(&Body { head, entries })?, chain))
    }

    /// The entries as they are rendered, and the digest of the last.
    fn bodies<'a>(
        &'a self,
        stamp: Stamp<'_>,
        accounts: &'a Accounts,
    ) -> (Vec<EntryBody<'a>>, [u8; 32]) {
        let mut chain = stamp.chain;
        let mut entries = Vec::with_capacity(self.entries.len());
        for ((kind, currency), entry) in &self.entries {
            let digest = entry.digest();
            entries.push(EntryBody {
                entry_id: stamp.id.part(entries.len() + 1),
                first_lsn: entry.first_lsn,
                last_lsn: entry.last_lsn,
                orders: entry.orders,
                records: entry.records,
                digest: render::hex(&digest),
                previous_digest: render::hex(&chain),
                kind: *kind,
                currency: Currency::from_bytes(*currency),
                postings: entry.postings(accounts),
            });
            chain = digest;
        }
        (entries, chain)
    }

    /// The entries alone, as JSON.
    pub fn render_entries(&self, stamp: Stamp<'_>, accounts: &Accounts) -> Result<Vec<u8>, Error> {
        Ok(serde_json::to_vec(&self.bodies(stamp, accounts).0)?)
    }
}

fn booking_of(lsn: u64, item: &Item, when: Recognition) -> Result<Option<Booking<'_>>, Error> {
    Ok(posting::of(Lsn(lsn), (item.kind, item.version), &item.body, when)?)
}

/// What is to be added to a window, at most.
#[derive(Debug, Clone, Copy, Default)]
struct Growth {
    lines: u64,
    bytes: u64,
    parking_bytes: u64,
}

impl Growth {
    fn add(&mut self, window: &Finance, booking: &Booking<'_>, rules: Rules<'_>) {
        let entry = window.entries.get(&(booking.kind, booking.currency.as_bytes()));
        if entry.is_none() {
            self.bytes += ENTRY_BYTES + render::part_id_bytes(rules.sink);
        }
        for Posting { account, tax_code, .. } in &booking.postings {
            // A code that stands on several lines of one order counts several times: harmless.
            let known = entry.is_some_and(|e| e.sums.has(*account, tax_code));
            if !known {
                self.lines += 1;
                self.bytes += POSTING_BYTES
                    + render::json_bytes(rules.accounts.name(*account))
                    + render::json_bytes(tax_code);
            }
        }
    }
}

impl Entry {
    fn new(lsn: Lsn) -> Self {
        Self {
            first_lsn: lsn,
            last_lsn: lsn,
            orders: 0,
            records: 0,
            digest: Digest::default(),
            late: BTreeMap::new(),
            sums: Sums::default(),
        }
    }

    fn add(&mut self, record: &Record<'_>, booking: &Booking<'_>) {
        self.sums.add(&booking.postings);
        self.sum_up(record);
    }

    /// Counts a record whose postings are added.
    fn sum_up(&mut self, record: &Record<'_>) {
        self.orders += u64::from(record.kind == event::Placed::KIND);
        self.digest.add(record.lsn.0, record.body);
        self.count(record.lsn);
    }

    fn add_late(&mut self, lsn: u64, body: AlignedVec<8>, booking: &Booking<'_>) {
        self.late.insert(lsn, body);
        self.sums.add(&booking.postings);
        self.count(Lsn(lsn));
    }

    fn count(&mut self, lsn: Lsn) {
        self.first_lsn = self.first_lsn.min(lsn);
        self.last_lsn = self.last_lsn.max(lsn);
        self.records += 1;
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = self.digest.clone();
        for (lsn, body) in &self.late {
            digest.add(*lsn, body);
        }
        digest.finish()
    }

    fn postings<'a>(&'a self, accounts: &'a Accounts) -> Vec<PostingBody<'a>> {
        self.sums
            .each()
            .filter(|(_, _, sum)| *sum != 0)
            .map(|(account, tax_code, sum)| PostingBody {
                account: accounts.name(account),
                tax_code: (!tax_code.is_empty()).then_some(tax_code),
                debit: sum.max(0),
                credit: (-sum).max(0),
            })
            .collect()
    }
}

/// The most bytes of a seal for a parked record, without its body.
const PARKED_BYTES: u64 = 64;
/// The most bytes of an entry without its name and its postings.
const ENTRY_BYTES: u64 = 460;
/// The most bytes of a posting without its texts: two numbers of up to 40 digits, punctuation.
const POSTING_BYTES: u64 = 140;

/// Journal entries: the body of a batch of a finance sink.
#[derive(Serialize, ToSchema)]
pub(super) struct Body<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    /// One for each kind and currency.
    entries: Vec<EntryBody<'a>>,
}

/// A journal entry. Its debits and credits are equal.
#[derive(Serialize, ToSchema)]
#[schema(as = Entry)]
struct EntryBody<'a> {
    /// The batch's id and a number; the same in halves, repeats and replays.
    entry_id: String,
    /// The first record summed up.
    first_lsn: Lsn,
    /// The last record summed up.
    last_lsn: Lsn,
    /// Orders summed up.
    orders: u64,
    /// Records summed up.
    records: u64,
    /// BLAKE3 over the records, in hexadecimal.
    digest: String,
    /// That of the entry before at this sink.
    previous_digest: String,
    /// What is booked.
    kind: Kind,
    /// The currency of the postings.
    currency: Currency,
    /// By account and tax code.
    postings: Vec<PostingBody<'a>>,
}

/// What an entry does to an account, in minor units of its currency: one of `debit` and `credit` is 0.
#[derive(Serialize, ToSchema)]
#[schema(as = Posting)]
struct PostingBody<'a> {
    /// The account's name, as configured.
    account: &'a str,
    /// The tax code, if it has one.
    tax_code: Option<&'a str>,
    /// Debit.
    #[schema(value_type = u64)]
    debit: i128,
    /// Credit.
    #[schema(value_type = u64)]
    credit: i128,
}

#[cfg(test)]
#[path = "finance_tests.rs"]
mod tests;
