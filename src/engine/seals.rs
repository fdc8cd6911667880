//! Which batch carried a record: an index of the log's seals, one for each sink.
//!
//! A sink's seals lie side by side in the log: each covers what comes after the one before. So the seal
//! of a record is the first one that covers it, found by bisection. The index is filled by whoever
//! writes seals and by the replay of the log's tail; what is older and still in the log is read once, in
//! the background, after the start ([`Core::read_old_seals`]).
//!
//! Bounded: a seal that the log no longer has is forgotten, and beyond [`SEALS_MAX`] of one sink so are
//! the oldest; what was carried by them is looked for no more.

use std::collections::{HashMap, VecDeque};

use crate::{
    model::{
        Lsn,
        event::{self, Acknowledge, Event, Seal, Undecodable},
    },
    wal::{Record, Storage},
};

use super::{
    Error,
    core::Core,
    thing::{Effect, Thing},
};

/// The most seals that are remembered of one sink; 32 bytes each.
const SEALS_MAX: usize = 1 << 20;
/// The most acknowledgements that are remembered without their seals.
const ORPHANS_MAX: usize = 1 << 12;
/// Records read between two looks at whether the engine stops.
const STEP_RECORDS: usize = 4_096;

/// A seal, and where the record is that says what became of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) number: u64,
    /// Everything below is in this seal or an earlier one.
    pub(super) covers: u64,
    pub(super) lsn: u64,
    pub(super) acknowledged: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seals {
    sinks: HashMap<String, VecDeque<Sealed>>,
    /// Acknowledgements of seals that are not known yet: sink, number, position.
    orphans: VecDeque<(String, u64, u64)>,
    /// Every seal from here on is known.
    from: u64,
}

impl Seals {
    /// An index that is told every seal from a position on.
    pub(super) fn from(from: Lsn) -> Self {
        Self { from: from.0, ..Self::default() }
    }

    /// Every seal from here on is known.
    pub(super) fn known_from(&self) -> Lsn {
        Lsn(self.from)
    }

    /// A batch was sealed. `oldest`: where the log begins.
    pub(super) fn sealed(&mut self, sink: &str, seal: Sealed, oldest: Lsn) {
        if !self.sinks.contains_key(sink) {
            self.sinks.insert(sink.to_owned(), VecDeque::new());
        }
        let Some(seals) = self.sinks.get_mut(sink) else { return };
        if seals.back().is_some_and(|last| last.number >= seal.number) {
            return;
        }
        while seals.len() >= SEALS_MAX || seals.front().is_some_and(|first| first.lsn < oldest.0) {
            seals.pop_front();
        }
        seals.push_back(seal);
    }

    /// A batch's fate stands in the record at `lsn`.
    pub(super) fn acknowledged(&mut self, sink: &str, number: u64, lsn: Lsn) {
        let known = self.sinks.get_mut(sink).and_then(|seals| find(seals, number));
        match known {
            Some(seal) => seal.acknowledged = Some(lsn.0),
            None => {
                if self.orphans.len() == ORPHANS_MAX {
                    self.orphans.pop_front();
                }
                self.orphans.push_back((sink.to_owned(), number, lsn.0));
            }
        }
    }

    /// The seals of a record, with their sinks' names in order.
    pub(super) fn of(&self, record: Lsn) -> Vec<(&str, Sealed)> {
        let mut found: Vec<(&str, Sealed)> = self
            .sinks
            .iter()
            .filter_map(|(sink, seals)| {
                let at = seals.partition_point(|seal| seal.covers <= record.0);
                Some((sink.as_str(), *seals.get(at)?))
            })
            .collect();
        found.sort_unstable_by_key(|(sink, _)| *sink);
        found
    }

    /// The batches of a sink with a record at or after a position, up to a number: number and the
    /// position of the seal.
    pub(super) fn batches_from(&self, sink: &str, from: Lsn, to: u64) -> VecDeque<(u64, Lsn)> {
        let Some(seals) = self.sinks.get(sink) else { return VecDeque::new() };
        let at = seals.partition_point(|seal| seal.covers <= from.0);
        // A seal has the numbers up to the next one's.
        let after = seals.iter().skip(at + 1).map(|seal| seal.number).chain([u64::MAX]);
        let seals = seals.iter().skip(at).zip(after);
        let all = seals.flat_map(|(seal, after)| {
            (seal.number..after.min(to + 1)).map(|number| (number, Lsn(seal.lsn)))
        });
        all.collect()
    }

    /// Puts older seals in front.
    fn prepend(&mut self, older: Self) {
        self.from = older.from;
        for (sink, mut seals) in older.sinks {
            let known = self.sinks.entry(sink).or_default();
            let first = known.front().map_or(u64::MAX, |seal| seal.number);
            seals.retain(|seal| seal.number < first);
            seals.append(known);
            seals.drain(..seals.len().saturating_sub(SEALS_MAX));
            *known = seals;
        }
        for (sink, number, lsn) in std::mem::take(&mut self.orphans) {
            if let Some(seal) = self.sinks.get_mut(&sink).and_then(|seals| find(seals, number)) {
                seal.acknowledged = Some(lsn);
            }
        }
    }

    /// Takes an effect of the log's replay in, if it is about a sink.
    pub(super) fn replay(&mut self, lsn: Lsn, thing: &Thing<'_>, effect: &Effect<'_>) {
        match (thing, effect) {
            (Thing::Sink(sink), Effect::Sealed(seal)) => {
                let (lsn, number, covers) = (seal.lsn, seal.number, seal.covers_lsn);
                self.sealed(sink, Sealed { number, covers, lsn, acknowledged: None }, Lsn(0));
            }
            (Thing::Sink(sink), Effect::Acknowledged { number, .. }) => {
                self.acknowledged(sink, *number, lsn);
            }
            _ => {}
        }
    }

    /// Takes a record in, if it is about a seal.
    fn read(&mut self, record: &Record<'_>) -> Result<(), Undecodable> {
        let (lsn, version, body) = (record.lsn, record.version, record.body);
        if record.kind == Seal::KIND {
            let seal = event::decode::<Seal>(lsn, record.kind, version, body)?;
            let (number, covers) = (seal.number.to_native(), seal.covers_lsn.to_native());
            let sealed = Sealed { number, covers, lsn: lsn.0, acknowledged: None };
            self.sealed(&seal.sink, sealed, Lsn(0));
        } else if record.kind == Acknowledge::KIND {
            let fate = event::decode::<Acknowledge>(lsn, record.kind, version, body)?;
            self.acknowledged(&fate.sink, fate.number.to_native(), lsn);
        }
        Ok(())
    }
}

/// The seal of a number; numbers ascend.
fn find(seals: &mut VecDeque<Sealed>, number: u64) -> Option<&mut Sealed> {
    let at = seals.partition_point(|seal| seal.number < number);
    seals.get_mut(at).filter(|seal| seal.number == number)
}

impl<S: Storage> Core<S> {
    /// Reads the seals that are in the log and older than what the index was told. Once is enough;
    /// another call while one is under way waits for it.
    pub(super) fn read_old_seals(&self) -> Result<(), Error> {
        let _one = self.reading_seals.lock();
        let (known, oldest) = (self.seals.lock().known_from(), self.log.oldest());
        if known <= oldest {
            return Ok(());
        }
        let mut older = Seals::from(oldest);
        let mut reader = self.log.reader(oldest)?;
        while reader.position() < known && !self.is_stopping() {
            for _ in 0..STEP_RECORDS {
                match reader.next()? {
                    Some(record) if record.lsn < known => older.read(&record)?,
                    _ => break,
                }
            }
        }
        if !self.is_stopping() {
            self.seals.lock().prepend(older);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(number: u64, covers: u64, lsn: u64) -> Sealed {
        Sealed { number, covers, lsn, acknowledged: None }
    }

    fn number_of(seals: &Seals, record: u64) -> Option<u64> {
        seals.of(Lsn(record)).first().map(|(_, seal)| seal.number)
    }

    #[test]
    fn a_record_is_in_the_first_seal_that_covers_it() {
        let mut seals = Seals::from(Lsn(0));
        seals.sealed("erp", seal(1, 100, 120), Lsn(0));
        seals.sealed("erp", seal(2, 200, 240), Lsn(0));
        seals.sealed("erp", seal(2, 200, 240), Lsn(0));
        seals.sealed("books", seal(1, 160, 168), Lsn(0));
        assert_eq!(seals.of(Lsn(96)), [("books", seal(1, 160, 168)), ("erp", seal(1, 100, 120))]);
        assert_eq!(seals.of(Lsn(160)), [("erp", seal(2, 200, 240))]);
        assert!(seals.of(Lsn(200)).is_empty());
        seals.acknowledged("erp", 2, Lsn(300));
        assert_eq!(seals.of(Lsn(160))[0].1.acknowledged, Some(300));
        assert_eq!(seals.of(Lsn(96))[1].1.acknowledged, None);
    }

    #[test]
    fn older_seals_come_in_front_and_find_the_fates_that_were_told_before() {
        let mut seals = Seals::from(Lsn(150));
        seals.acknowledged("erp", 1, Lsn(160));
        seals.sealed("erp", seal(2, 200, 240), Lsn(0));
        let mut older = Seals::from(Lsn(0));
        older.sealed("erp", seal(1, 100, 120), Lsn(0));
        older.sealed("erp", seal(2, 200, 240), Lsn(0));
        seals.prepend(older);
        assert_eq!(seals.known_from(), Lsn(0));
        let first = Sealed { acknowledged: Some(160), ..seal(1, 100, 120) };
        assert_eq!(seals.of(Lsn(8)), [("erp", first)]);
        assert_eq!(number_of(&seals, 100), Some(2));
        assert_eq!(seals.sinks["erp"].len(), 2);
    }

    #[test]
    fn what_the_log_no_longer_has_is_forgotten() {
        let mut seals = Seals::from(Lsn(0));
        for number in 1..=5 {
            seals.sealed("erp", seal(number, number * 100, number * 100 + 8), Lsn(0));
        }
        seals.sealed("erp", seal(6, 600, 608), Lsn(400));
        assert_eq!(seals.sinks["erp"].len(), 3);
        assert_eq!(number_of(&seals, 8), Some(4));
    }
}
