//! Verifies a finance sink's entries: everything that they say is computed once more from the log.
//!
//! # What it promises
//!
//! - Every seal of the sink is looked at in turn: its number follows the last, its body has its digest,
//!   its entries balance, are chained by their digests, and are what the records of its window come to:
//!   kind, currency, log range, counts, digest, every posting. Where the configuration is still the one
//!   that rendered it, the body is compared byte for byte; else all of it but the accounts' names.
//! - A sink that gets some currencies alone is held to these. Of a seal that was rendered under another
//!   configuration the filter is unknown: it is held to the currencies that it has entries of.
//! - What was parked was early, and what was early was parked; what was released had been parked.
//! - What the log no longer has can't be recomputed: such seals are counted, and only what they say
//!   themselves is checked. A window's seal says itself what it parked: that is early, and is booked later,
//!   as far as the seal's own copy of it is whole; that it stood in the log so can't be said any more, and
//!   such records are counted too.
//! - What a person changed of a dead letter is no fault, and is told: every entry that the partner took
//!   otherwise than it was sealed ([`Told`]).
//! - Memory is bounded by one window, what is parked, and what lies dead: seals are read as they are needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use rkyv::util::AlignedVec;
use serde::Deserialize;

use super::{
    BatchId, Error, causal,
    filter::Filter,
    finance::Finance,
    render::{self, Head, Stamp},
    told::Told,
};
use crate::{
    config::{FilterConfig, SinkConfig},
    model::{
        Currency, Incarnation, Lsn, Timestamp,
        event::{self, Event, Happened, Placed, Seal},
        posting::Recognition,
        sink::Parked,
    },
    wal::Record,
};

/// Faults that are told; all are counted.
const FAULTS_TOLD: usize = 20;

/// What a verification found of one sink.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Seals.
    pub seals: u64,
    /// Entries in them.
    pub entries: u64,
    /// Records summed up in those that were recomputed.
    pub records: u64,
    /// Seals that could not be recomputed, since the log no longer has their records.
    pub beyond: u64,
    /// Records that are parked at the end.
    pub parked: u64,
    /// Records that a seal parked and the log no longer has: what was booked of them is the seal's copy.
    pub parked_beyond: u64,
    /// Faults.
    pub faults_count: u64,
    /// The first of them: which batch or entry, and what is wrong.
    pub faults: Vec<String>,
    /// The entries that the partner took otherwise than they were sealed, all of them: which, what of
    /// each, and by whom.
    pub mended: Vec<String>,
}

impl Report {
    fn fault(&mut self, fault: String) {
        self.faults_count += 1;
        if self.faults.len() < FAULTS_TOLD {
            self.faults.push(fault);
        }
    }
}

/// The versions under which a seal is known to have been rendered. To reckon one reads the sink's preset,
/// so that it is done once and not for every seal.
#[derive(Debug, Clone, Copy)]
struct Versions {
    /// The present configuration's.
    own: u64,
    /// The same without a filter.
    unfiltered: u64,
}

impl Versions {
    fn of(config: &SinkConfig) -> Self {
        let unfiltered = SinkConfig { filter: FilterConfig::default(), ..config.clone() };
        Self { own: config.render_version(), unfiltered: unfiltered.render_version() }
    }
}

/// The window of a seal, as the log has it.
struct Open {
    seal: Seal,
    /// The life of the log that it was written in.
    life: Incarnation,
    /// What of the log it is of; `None`: of nothing.
    filter: Option<Filter>,
    recognition: Recognition,
    window: Finance,
    /// What it says is parked and released, and was not seen yet.
    parked: BTreeSet<u64>,
    released: BTreeSet<u64>,
    records: u64,
}

/// A verification of one sink, fed with the log's records in order.
pub struct Verification<'a, I> {
    config: &'a SinkConfig,
    versions: Versions,
    /// Where the log begins.
    begin: Option<Lsn>,
    seals: I,
    open: Option<Open>,
    /// The last seal's number, and where its window ended.
    last: Option<(u64, u64)>,
    /// The digest of the last entry; unknown until one was seen, unless the sink begins here.
    chain: Option<[u8; 32]>,
    /// What is parked.
    parked: BTreeMap<u64, Parked>,
    told: Told,
    report: Report,
}

#[derive(Deserialize)]
struct Body {
    entries: Vec<Entry>,
}

/// An entry as its sink has got it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Entry {
    entry_id: String,
    first_lsn: u64,
    last_lsn: u64,
    orders: u64,
    records: u64,
    digest: String,
    previous_digest: String,
    kind: String,
    currency: String,
    postings: Vec<EntryPosting>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct EntryPosting {
    account: String,
    tax_code: Option<String>,
    debit: i128,
    credit: i128,
}

impl<'a, I: Iterator<Item = Result<(Incarnation, Seal), String>>> Verification<'a, I> {
    /// A verification of the sink's seals, which come in the order of the log, each with the life that it
    /// was written in; one that can't be read is why.
    pub fn new(config: &'a SinkConfig, seals: I) -> Self {
        let mut all = Self {
            config,
            versions: Versions::of(config),
            begin: None,
            seals,
            open: None,
            last: None,
            chain: None,
            parked: BTreeMap::new(),
            told: Told::default(),
            report: Report::default(),
        };
        all.turn();
        all
    }

    /// Takes the log's next record.
    pub fn record(&mut self, record: &Record<'_>) {
        self.begin.get_or_insert(record.lsn);
        if let Err(why) = self.told.record(&self.config.name, record) {
            self.report.fault(why.to_string());
        }
        while self.open.as_ref().is_some_and(|open| record.lsn.0 >= open.seal.covers_lsn) {
            self.finish();
        }
        let from = self.last.map_or(0, |(_, covers)| covers);
        let Some(open) = &mut self.open else { return };
        let first = open.seal.first_lsn;
        let is_ours = matches!(record.kind, Placed::KIND | Happened::KIND);
        // What the sink's first seal in the log does not begin with is in one that is gone.
        if is_ours
            && record.lsn.0 >= from
            && (self.last.is_some() || record.lsn.0 >= first)
            && open.admits(record)
            && let Err(fault) = open.take(record, &mut self.parked)
        {
            let id = BatchId::new(&self.config.name, open.life, open.seal.number);
            self.report.fault(format!("batch {id}: the record at {}: {fault}", record.lsn));
        }
    }

    /// The log has ended.
    pub fn end(mut self) -> Report {
        while self.open.is_some() {
            self.finish();
        }
        self.report.parked = self.parked.len() as u64;
        let told = self.told.all_mended().map(|(id, mended)| {
            let (letter, what, who) = (&mended.letter, mended.changes(), mended.who());
            format!("entry {id}: {what} (letter {letter}, mended {who})")
        });
        self.report.mended = told.collect();
        self.report
    }

    /// Turns to the next seal.
    fn turn(&mut self) {
        self.open = loop {
            match self.seals.next() {
                None => break None,
                Some(Err(why)) => self.report.fault(why),
                Some(Ok((life, seal))) if seal.letter.is_empty() => {
                    break Some(Open::new(seal, life, self.config, self.versions));
                }
                Some(Ok((life, seal))) => self.sent_again(&seal, life),
            }
        };
        if let Some(open) = &self.open
            && self.last.is_none()
            && open.seal.number == 1
        {
            self.chain = Some([0; 32]);
        }
    }

    /// A dead letter's content went out again: it is no window of its own.
    fn sent_again(&mut self, seal: &Seal, life: Incarnation) {
        let id = BatchId::new(&self.config.name, life, seal.number);
        for fault in self.sequence_faults(seal, life, &id) {
            self.report.fault(fault);
        }
        if Seal::digest_of(&seal.body, []) != seal.digest {
            self.report.fault(format!("batch {id}: its digest does not fit its content"));
        }
        if let Some((number, _)) = &mut self.last {
            *number = seal.number;
        }
    }

    /// The open window has all of its records: compares.
    fn finish(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        self.report.seals += 1;
        let id = BatchId::new(&self.config.name, open.life, open.seal.number);
        for fault in self.faults_of(&mut open, &id) {
            self.report.fault(fault);
        }
        self.last = Some((open.seal.number, open.seal.covers_lsn));
        self.chain = Some(open.seal.chain);
        self.turn();
    }

    fn faults_of(&mut self, open: &mut Open, id: &BatchId) -> Vec<String> {
        let mut faults = self.sequence_faults(&open.seal, open.life, id);
        let whole = self.late(open, id, &mut faults);
        let seal = &open.seal;
        if *blake3::hash(&seal.body).as_bytes() != seal.digest {
            faults.push(format!("batch {id}: its digest does not fit its content"));
        }
        let found = match body_of(&seal.body) {
            Ok(body) => body.entries,
            Err(why) => {
                faults.push(format!("batch {id}: {why}"));
                return faults;
            }
        };
        self.report.entries += found.len() as u64;
        let previous = || digest_of(&found.first()?.previous_digest);
        let chain = self.chain.or_else(previous).unwrap_or(seal.chain);
        faults.extend(own_faults(&found, chain, seal.chain, id));
        if whole {
            self.report.records += open.records;
            faults.extend(self.differences(open, id, chain, &found));
        } else {
            self.report.beyond += 1;
        }
        faults
    }

    fn sequence_faults(&self, seal: &Seal, life: Incarnation, id: &BatchId) -> Vec<String> {
        let Some((last, covers)) = self.last else { return Vec::new() };
        let mut faults = Vec::new();
        if seal.number != last + 1 {
            let missing = BatchId::new(&self.config.name, life, last + 1);
            faults.push(format!("batch {missing} is missing: {id} follows number {last}"));
        }
        if seal.covers_lsn < covers {
            faults.push(format!("batch {id}: its window ends before that of the batch before"));
        }
        faults
    }

    /// Adds what the window released; whether the log has all that it sums up.
    fn late(&mut self, open: &mut Open, id: &BatchId, faults: &mut Vec<String>) -> bool {
        let begin = self.begin.unwrap_or_default();
        // The seal before may be here while the records are not: it was written after the first of them.
        let mut whole = open.seal.first_lsn >= begin.0;
        for lsn in std::mem::take(&mut open.released) {
            let Some(parked) = self.parked.remove(&lsn) else {
                // A seal that is gone may have parked it; all since the sink's first are here otherwise.
                let known = lsn >= begin.0;
                if known {
                    faults.push(format!("batch {id}: the record at {lsn} was never parked"));
                }
                whole = false;
                continue;
            };
            open.records += 1;
            let mut body = AlignedVec::new();
            body.extend_from_slice(&parked.body);
            let kind = (parked.kind, parked.version);
            if let Err(why) = open.window.add_late(lsn, kind, body, open.recognition) {
                faults.push(format!("batch {id}: {why}"));
            }
        }
        for lsn in std::mem::take(&mut open.parked) {
            if lsn >= begin.0 {
                let what = "which is not in its window";
                faults.push(format!("batch {id}: parks the record at {lsn}, {what}"));
                continue;
            }
            self.report.parked_beyond += 1;
            if let Err(fault) = open.keep_copy(lsn, &mut self.parked) {
                faults.push(format!("batch {id}: the record at {lsn}: {fault}"));
            }
        }
        whole
    }

    /// What is not as the log has it.
    fn differences(
        &self,
        open: &Open,
        id: &BatchId,
        chain: [u8; 32],
        found: &[Entry],
    ) -> Vec<String> {
        let seal = &open.seal;
        let sealed_at = Timestamp::from_millis(seal.sealed_at_ms);
        let stamp = Stamp { id, sink: &self.config.name, sealed_at, chain };
        let accounts = &self.config.accounts;
        let rendered = open.window.render_entries(stamp, accounts);
        let rendered = rendered.and_then(|json| Ok(serde_json::from_slice::<Vec<Entry>>(&json)?));
        let expected = match rendered {
            Ok(expected) => expected,
            Err(why) => return vec![format!("batch {id}: {why}")],
        };
        let same_names = seal.config_version == self.versions.own;
        let mut faults = Vec::new();
        for at in 0..expected.len().max(found.len()) {
            let part = id.part(at + 1);
            match (expected.get(at), found.get(at)) {
                (Some(expected), Some(found)) => {
                    if let Some(what) = difference(expected, found, same_names) {
                        faults.push(format!("entry {part}: {what}"));
                    }
                }
                (Some(_), None) => faults.push(format!("entry {part} is missing")),
                _ => faults.push(format!("entry {part} is not in the log")),
            }
        }
        if faults.is_empty() && same_names && !self.is_rendered(open, id, stamp) {
            faults.push(format!("batch {id}: its head is not what its seal says"));
        }
        faults
    }

    fn is_rendered(&self, open: &Open, id: &BatchId, stamp: Stamp<'_>) -> bool {
        let seal = &open.seal;
        let head = Head {
            batch_id: id.as_str(),
            sink: &self.config.name,
            domain: self.config.domain.as_str(),
            priority: "standard",
            first_lsn: Lsn(seal.first_lsn),
            last_lsn: Lsn(seal.last_lsn),
            sealed_at: stamp.sealed_at,
            events: seal.events,
        };
        let accounts = &self.config.accounts;
        open.window.render(head, stamp, accounts).is_ok_and(|rendered| rendered.body() == seal.body)
    }
}

impl Open {
    fn new(seal: Seal, life: Incarnation, config: &SinkConfig, versions: Versions) -> Self {
        Self {
            life,
            filter: filter_of(&seal, config, versions),
            recognition: Recognition::of_number(seal.recognition).unwrap_or_default(),
            window: Finance::default(),
            parked: seal.parking.parked.iter().map(|parked| parked.lsn).collect(),
            released: seal.parking.released.iter().copied().collect(),
            records: 0,
            seal,
        }
    }

    /// Whether it is of a record. What can't be read is, so that it is told.
    fn admits(&self, record: &Record<'_>) -> bool {
        let lsn = record.lsn.0;
        self.parked.contains(&lsn)
            || self.released.contains(&lsn)
            || self.filter.as_ref().is_some_and(|filter| filter.books(record).unwrap_or(true))
    }

    /// Sums up a record of the window, or keeps it for later.
    fn take(
        &mut self,
        record: &Record<'_>,
        parked: &mut BTreeMap<u64, Parked>,
    ) -> Result<(), String> {
        let lsn = record.lsn.0;
        let waits = self.parked.remove(&lsn);
        let kept = waits || self.released.contains(&lsn);
        let read = (record.lsn, record.kind, record.version, record.body);
        if kept != is_early(read, self.recognition).map_err(|why| why.to_string())? {
            let what =
                if kept { "was parked, and is not early" } else { "is early, and was booked" };
            return Err(what.to_owned());
        }
        if !kept {
            let booked =
                self.window.add(record, self.recognition).map_err(|why| why.to_string())?;
            self.records += u64::from(booked);
            return Ok(());
        }
        let said = self.seal.parking.parked.iter().find(|said| said.lsn == lsn);
        if said.is_some_and(|said| said.body != record.body) {
            return Err("is not what the seal says that was parked".to_owned());
        }
        let item = Parked {
            lsn,
            at_ms: record.time_ms,
            body: record.body.to_vec(),
            kind: record.kind,
            version: record.version,
        };
        parked.insert(lsn, item);
        Ok(())
    }

    /// Keeps what its seal has of a record that the log no longer has.
    fn keep_copy(&self, lsn: u64, parked: &mut BTreeMap<u64, Parked>) -> Result<(), String> {
        let all = &self.seal.parking.parked;
        let Some(copy) = all.iter().find(|copy| copy.lsn == lsn) else { return Ok(()) };
        let mut body = AlignedVec::<8>::new();
        body.extend_from_slice(&copy.body);
        parked.insert(lsn, copy.clone());
        match is_early((Lsn(lsn), copy.kind, copy.version, &body), self.recognition) {
            Ok(true) => Ok(()),
            Ok(false) => Err("was parked, and is not early".to_owned()),
            Err(why) => Err(format!("its copy in the seal: {why}")),
        }
    }
}

/// What of the log a seal is of.
fn filter_of(seal: &Seal, config: &SinkConfig, versions: Versions) -> Option<Filter> {
    if seal.config_version == versions.own {
        return Some(Filter::new(&config.filter));
    }
    if seal.config_version == versions.unfiltered {
        return Some(Filter::default());
    }
    let entries = body_of(&seal.body).map(|body| body.entries).unwrap_or_default();
    let currencies: Vec<_> =
        entries.iter().filter_map(|entry| Currency::of_any_time(&entry.currency).ok()).collect();
    let filter = FilterConfig { currencies, ..FilterConfig::default() };
    (!filter.is_open()).then(|| Filter::new(&filter))
}

/// Whether a record comes before what must come first: its position, kind, version and body.
fn is_early(record: (Lsn, u8, u8, &[u8]), when: Recognition) -> Result<bool, Error> {
    let (lsn, kind, version, body) = record;
    if kind != Happened::KIND {
        return Ok(false);
    }
    let happened = event::decode::<Happened>(lsn, kind, version, body)?;
    let booked = crate::model::posting::of(lsn, (kind, version), body, when)?.is_some();
    Ok(booked && causal::waits_for(happened, when).is_some())
}

fn body_of(body: &[u8]) -> Result<Body, String> {
    if body.is_empty() {
        return Ok(Body { entries: Vec::new() });
    }
    serde_json::from_slice(body).map_err(|why| format!("can't be read: {why}"))
}

fn digest_of(text: &str) -> Option<[u8; 32]> {
    Some(*blake3::Hash::from_hex(text).ok()?.as_bytes())
}

/// What entries say that can't be, without a look at the log.
fn own_faults(entries: &[Entry], chain: [u8; 32], end: [u8; 32], id: &BatchId) -> Vec<String> {
    let (mut chain, mut faults) = (chain, Vec::new());
    for (at, entry) in entries.iter().enumerate() {
        let part = id.part(at + 1);
        if digest_of(&entry.previous_digest) != Some(chain) {
            let should = render::hex(&chain);
            faults.push(format!("entry {part}: the chain is broken: it should follow {should}"));
        }
        let mut sides = entry.postings.iter().map(|p| p.debit.checked_sub(p.credit));
        let off = sides.try_fold(0_i128, |sum, side| sum.checked_add(side?));
        if off != Some(0) {
            let by = off.map_or("more than can be".to_owned(), |off| off.to_string());
            faults.push(format!("entry {part}: is off balance by {by}"));
        }
        chain = digest_of(&entry.digest).unwrap_or_default();
    }
    if chain != end {
        faults.push(format!("batch {id}: the chain of its seal is not that of its last entry"));
    }
    faults
}

/// What of an entry is not as it should be.
fn difference(expected: &Entry, found: &Entry, same_names: bool) -> Option<String> {
    let told = |what: &str, is: &dyn Debug, should: &dyn Debug| {
        Some(format!("its {what} is {is:?}, and the log comes to {should:?}"))
    };
    let head = |e: &Entry| (e.entry_id.clone(), e.kind.clone(), e.currency.clone());
    let range = |e: &Entry| (e.first_lsn, e.last_lsn, e.orders, e.records);
    if head(expected) != head(found) {
        return told("name, kind and currency", &head(found), &head(expected));
    }
    if range(expected) != range(found) {
        return told("range and count", &range(found), &range(expected));
    }
    if expected.digest != found.digest {
        return told("digest", &found.digest, &expected.digest);
    }
    let postings = |e: &Entry| if same_names { e.postings.clone() } else { nameless(&e.postings) };
    let (should, is) = (postings(expected), postings(found));
    let at = (0..should.len().max(is.len())).find(|at| should.get(*at) != is.get(*at))?;
    told("posting", &is.get(at), &should.get(at))
}

/// Postings without the names of their accounts.
fn nameless(postings: &[EntryPosting]) -> Vec<EntryPosting> {
    let unnamed = |p: &EntryPosting| EntryPosting { account: String::new(), ..p.clone() };
    let mut postings: Vec<_> = postings.iter().map(unnamed).collect();
    postings.sort_unstable();
    postings
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
