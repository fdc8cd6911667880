//! Which batch carried a record: an index of the log's seals, one for each sink.
//!
//! The seals of a sink's lane lie side by side in the log: each covers what comes after the one before. So
//! the seal of a record is the first one of its lane that covers it, found by bisection; it may have
//! several batches, each of which is here by its number. A record that waited for another
//! (finance) was parked by that seal and is summed up by a later one, which names it: those are kept by
//! the record's position.
//!
//! The index is a fold of the log. It stands in checkpoints, an entry for each seal ([`SealEntry`]), and a
//! start fills it from the checkpoint and the tail that it replays anyway; from then on whoever writes
//! seals tells it.
//!
//! Bounded: a seal that the log no longer has is forgotten with the next seal or checkpoint, and beyond
//! [`SEALS_MAX`] of one sink so are the oldest, in memory and in checkpoints alike; what was carried by
//! them is looked for no more. Of the records that were released, [`RELEASED_MAX`] of a sink are kept in
//! memory, the newest; in checkpoints they go with the seals that name them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::model::{
    Lsn,
    sink::{Lane, Replay},
};

use super::{codec::Input, thing::Effect};

/// The most seals that are remembered of one sink; 32 bytes each.
const SEALS_MAX: usize = 1 << 20;
/// The most records of one sink of which it is remembered that a later window released them; about 24
/// bytes each.
const RELEASED_MAX: usize = 1 << 20;

/// A seal, and where the record is that says what became of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) number: u64,
    /// Everything below is in this seal or an earlier one.
    pub(super) covers: u64,
    pub(super) lsn: u64,
    pub(super) acknowledged: Option<u64>,
    /// The place of its lane.
    pub(super) lane: u8,
}

/// A seal in a checkpoint. Layout: words, little-endian.
///
/// ```text
/// covers | position | position of its batch's fate, 0 while that is open | lane | released, each
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SealEntry {
    pub(super) covers: u64,
    pub(super) lsn: u64,
    pub(super) acknowledged: Option<u64>,
    /// The place of its lane.
    pub(super) lane: u8,
    /// Records that it released and earlier windows had parked, in ascending order.
    pub(super) released: Vec<u64>,
}

impl SealEntry {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let head = [self.covers, self.lsn, self.acknowledged.unwrap_or(0), self.lane.into()];
        let words = head.iter().chain(&self.released);
        words.for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let (covers, lsn, acknowledged) = (input.word()?, input.word()?, input.word()?);
        let acknowledged = (acknowledged != 0).then_some(acknowledged);
        let lane = u8::try_from(input.word()?).ok()?;
        let mut released = Vec::with_capacity(input.0.len() / 8);
        while !input.0.is_empty() {
            released.push(input.word()?);
        }
        Some(Self { covers, lsn, acknowledged, lane, released })
    }
}

/// What carried a record to a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Carrier {
    pub(super) sink: String,
    /// The seal of the window that read it.
    pub(super) first: Sealed,
    /// The seal of the window that released it, if the first one parked it.
    pub(super) released: Option<Sealed>,
}

/// The batches of one sink by their seals' lanes; numbers and what they cover ascend in each.
#[derive(Debug, Default)]
struct OfSink {
    lanes: [VecDeque<Sealed>; 3],
    /// The numbers of seals that released records of earlier windows, by the record's position.
    released: BTreeMap<u64, u64>,
}

impl OfSink {
    fn number(&mut self, number: u64) -> Option<&mut Sealed> {
        self.lanes.iter_mut().find_map(|seals| {
            let at = seals.partition_point(|seal| seal.number < number);
            seals.get_mut(at).filter(|seal| seal.number == number)
        })
    }

    fn find(&self, number: u64) -> Option<Sealed> {
        self.lanes.iter().find_map(|seals| {
            let at = seals.partition_point(|seal| seal.number < number);
            seals.get(at).copied().filter(|seal| seal.number == number)
        })
    }

    fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }

    /// The lowest number that is remembered.
    fn first(&self) -> Option<u64> {
        self.lanes.iter().filter_map(|seals| Some(seals.front()?.number)).min()
    }

    fn pop_first(&mut self) {
        let first = |seals: &&mut VecDeque<Sealed>| seals.front().map_or(u64::MAX, |s| s.number);
        if let Some(seals) = self.lanes.iter_mut().min_by_key(first) {
            seals.pop_front();
        }
    }

    fn sealed(&mut self, seal: Sealed, released: &[u64]) {
        let full = self.len() == SEALS_MAX;
        let seals = &mut self.lanes[Lane::of_seal(seal.lane).index()];
        if seals.back().is_some_and(|last| last.number >= seal.number) {
            return;
        }
        seals.push_back(seal);
        if full {
            self.pop_first();
        }
        for record in released {
            if self.released.len() == RELEASED_MAX {
                self.released.pop_first();
            }
            self.released.insert(*record, seal.number);
        }
    }

    fn forget_before(&mut self, oldest: u64) {
        for seals in &mut self.lanes {
            while seals.front().is_some_and(|first| first.lsn < oldest) {
                seals.pop_front();
            }
        }
        while self.released.first_key_value().is_some_and(|(record, _)| *record < oldest) {
            self.released.pop_first();
        }
    }

    /// The batches of the seals that cover a record, one seal a lane.
    fn of(&self, record: u64) -> impl Iterator<Item = Sealed> + '_ {
        self.lanes.iter().flat_map(move |seals| {
            let at = seals.partition_point(|seal| seal.covers <= record);
            let seal = seals.get(at).map(|first| first.lsn);
            seals.range(at..).take_while(move |batch| Some(batch.lsn) == seal).copied()
        })
    }
}

/// Which seals are remembered: what a checkpoint keeps.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Where the log begins.
    oldest: u64,
    /// The number of each sink's first seal.
    first: HashMap<String, u64>,
}

impl Remembered {
    /// Whether a seal is forgotten. A sink of which nothing is known forgot nothing.
    pub(super) fn has_forgotten(&self, sink: &str, number: u64, entry: &SealEntry) -> bool {
        entry.lsn < self.oldest || self.first.get(sink).is_some_and(|first| number < *first)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seals {
    sinks: HashMap<String, OfSink>,
}

impl Seals {
    /// A batch was sealed, whose window released records that earlier ones had parked.
    pub(super) fn sealed(&mut self, sink: &str, seal: Sealed, released: &[u64]) {
        match self.sinks.get_mut(sink) {
            Some(of_sink) => of_sink.sealed(seal, released),
            None => self.sinks.entry(sink.to_owned()).or_default().sealed(seal, released),
        }
    }

    /// A batch's fate stands in the record at `lsn`.
    pub(super) fn acknowledged(&mut self, sink: &str, number: u64, lsn: Lsn) {
        let Some(of_sink) = self.sinks.get_mut(sink) else { return };
        if let Some(seal) = of_sink.number(number) {
            seal.acknowledged = Some(lsn.0);
        }
    }

    /// Forgets what the log no longer has.
    pub(super) fn forget_before(&mut self, oldest: Lsn) {
        self.sinks.retain(|_, of_sink| {
            of_sink.forget_before(oldest.0);
            of_sink.len() > 0
        });
    }

    /// What is remembered, for a checkpoint of a log that begins at `oldest`.
    pub(super) fn remembered(&self, oldest: Lsn) -> Remembered {
        let first = |(sink, of_sink): (&String, &OfSink)| Some((sink.clone(), of_sink.first()?));
        Remembered { oldest: oldest.0, first: self.sinks.iter().filter_map(first).collect() }
    }

    /// What carried a record, by sinks' names in order.
    pub(super) fn of(&self, record: Lsn) -> Vec<Carrier> {
        let carriers = |(sink, of_sink): (&String, &OfSink)| {
            let released = of_sink.released.get(&record.0);
            let released = released.and_then(|number| of_sink.find(*number));
            let carrier = |first| Carrier { sink: sink.clone(), first, released };
            of_sink.of(record.0).map(carrier).collect::<Vec<_>>()
        };
        let mut found: Vec<Carrier> = self.sinks.iter().flat_map(carriers).collect();
        found.sort_unstable_by(|a, b| (&a.sink, a.first.number).cmp(&(&b.sink, b.first.number)));
        found
    }

    /// The batches after another of its lane that may send a letter again: their seals cover no more than
    /// those before them.
    pub(super) fn letters_after(&self, sink: &str, batch: &Sealed) -> Vec<Sealed> {
        let Some(of_sink) = self.sinks.get(sink) else { return Vec::new() };
        let seals = &of_sink.lanes[Lane::of_seal(batch.lane).index()];
        let at = seals.partition_point(|seal| seal.number <= batch.number);
        let before = std::iter::once(batch).chain(seals.range(at..));
        let pairs = before.zip(seals.range(at..));
        let again = pairs.filter(|(a, b)| a.covers == b.covers && a.lsn != b.lsn);
        again.map(|(_, seal)| *seal).collect()
    }

    /// The batches of a sink with a record at or after a position, up to a number: number and the
    /// position of the seal.
    pub(super) fn batches_from(&self, sink: &str, from: Lsn, to: u64) -> VecDeque<(u64, Lsn)> {
        let Some(of_sink) = self.sinks.get(sink) else { return VecDeque::new() };
        let of_lane = |seals: &VecDeque<Sealed>| {
            let at = seals.partition_point(|seal| seal.covers <= from.0);
            let wanted = seals.range(at..).take_while(|seal| seal.number <= to);
            wanted.map(|seal| (seal.number, Lsn(seal.lsn))).collect::<Vec<_>>()
        };
        let mut batches: Vec<_> = of_sink.lanes.iter().flat_map(of_lane).collect();
        batches.sort_unstable();
        batches.into()
    }

    /// Where the record stands that says what became of a batch last.
    pub(super) fn fate_of(&self, sink: &str, number: u64) -> Option<Lsn> {
        self.sinks.get(sink)?.find(number)?.acknowledged.map(Lsn)
    }

    /// Where the log has the first seal of a batch that a replay has still to send.
    pub(super) fn replays_from(&self, sink: &str, replay: &Replay) -> Option<Lsn> {
        let of_lane = |seals: &VecDeque<Sealed>| {
            let at = seals.partition_point(|seal| seal.number < replay.next_number);
            seals.range(at..).find(|seal| replay.has(seal.number)).map(|seal| Lsn(seal.lsn))
        };
        self.sinks.get(sink)?.lanes.iter().filter_map(of_lane).min()
    }

    /// Takes a checkpoint's entry in.
    pub(super) fn load(&mut self, sink: &str, number: u64, entry: &SealEntry) {
        let SealEntry { covers, lsn, acknowledged, lane, .. } = *entry;
        self.sealed(sink, Sealed { number, covers, lsn, acknowledged, lane }, &entry.released);
    }

    /// Takes an effect of the log's replay on a seal in.
    pub(super) fn replay(&mut self, (sink, number): (&str, u64), effect: &Effect<'_>) {
        match effect {
            Effect::Indexed(entry) => self.load(sink, number, entry),
            Effect::Answered { lsn } => self.acknowledged(sink, number, Lsn(*lsn)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(number: u64, covers: u64, lsn: u64) -> Sealed {
        Sealed { number, covers, lsn, acknowledged: None, lane: 1 }
    }

    fn numbers(seals: &Seals, record: u64) -> Vec<(String, u64, Option<u64>)> {
        let number = |c: Carrier| (c.sink, c.first.number, c.released.map(|seal| seal.number));
        seals.of(Lsn(record)).into_iter().map(number).collect()
    }

    fn told(sink: &str, number: u64, released: Option<u64>) -> (String, u64, Option<u64>) {
        (sink.to_owned(), number, released)
    }

    #[test]
    fn a_record_is_in_the_first_seal_that_covers_it() {
        let mut seals = Seals::default();
        seals.sealed("erp", seal(1, 100, 120), &[]);
        seals.sealed("erp", seal(2, 200, 240), &[]);
        seals.sealed("erp", seal(2, 200, 240), &[]);
        seals.sealed("books", seal(1, 160, 168), &[]);
        assert_eq!(numbers(&seals, 96), [told("books", 1, None), told("erp", 1, None)]);
        assert_eq!(numbers(&seals, 160), [told("erp", 2, None)]);
        assert!(seals.of(Lsn(200)).is_empty());
        seals.acknowledged("erp", 2, Lsn(300));
        assert_eq!(seals.of(Lsn(160))[0].first.acknowledged, Some(300));
        assert_eq!(seals.of(Lsn(96))[1].first.acknowledged, None);
    }

    #[test]
    fn what_sends_a_letter_again_covers_no_more_than_the_seal_before() {
        let mut seals = Seals::default();
        // The second seal has two batches; 4 and 6 send letters again, 7 is of another lane.
        let all = [(1, 100, 120), (2, 200, 240), (3, 200, 240), (4, 200, 260), (5, 300, 340)];
        for (number, covers, lsn) in all.into_iter().chain([(6, 300, 360)]) {
            seals.sealed("erp", seal(number, covers, lsn), &[]);
        }
        seals.sealed("erp", Sealed { lane: 2, ..seal(7, 300, 380) }, &[]);
        let after = |batch: &Sealed| -> Vec<u64> {
            seals.letters_after("erp", batch).iter().map(|seal| seal.number).collect()
        };
        assert_eq!(after(&seal(1, 100, 120)), [4, 6]);
        assert_eq!(after(&seal(2, 200, 240)), [4, 6]);
        assert_eq!(after(&seal(4, 200, 260)), [6]);
        assert!(after(&seal(6, 300, 360)).is_empty());
    }

    #[test]
    fn a_record_that_waited_is_in_the_seal_that_released_it() {
        let mut seals = Seals::default();
        seals.sealed("books", seal(1, 100, 120), &[]);
        seals.sealed("books", seal(2, 200, 240), &[]);
        seals.sealed("books", seal(3, 300, 320), &[40, 140]);
        assert_eq!(numbers(&seals, 40), [told("books", 1, Some(3))]);
        assert_eq!(numbers(&seals, 140), [told("books", 2, Some(3))]);
        assert_eq!(numbers(&seals, 48), [told("books", 1, None)]);
        seals.forget_before(Lsn(130));
        assert!(seals.sinks["books"].released.keys().eq(&[140]));
    }

    #[test]
    fn what_the_log_no_longer_has_is_forgotten() {
        let mut seals = Seals::default();
        for number in 1..=6 {
            seals.sealed("erp", seal(number, number * 100, number * 100 + 8), &[]);
        }
        seals.sealed("gone", seal(1, 100, 108), &[]);
        seals.forget_before(Lsn(400));
        assert_eq!(numbers(&seals, 8), [told("erp", 4, None)]);
        assert_eq!(seals.sinks.len(), 1);
        let remembered = seals.remembered(Lsn(400));
        let entry = |lsn| SealEntry { lsn, ..SealEntry::default() };
        assert!(remembered.has_forgotten("erp", 3, &entry(408)));
        assert!(remembered.has_forgotten("books", 9, &entry(392)));
        assert!(!remembered.has_forgotten("erp", 4, &entry(408)));
        assert!(!remembered.has_forgotten("books", 1, &entry(400)));
    }

    #[test]
    fn a_replay_needs_the_log_from_the_first_seal_that_it_has_still_to_send() {
        let mut seals = Seals::default();
        for number in 1..=6 {
            let lane = (number % 2) as u8;
            seals.sealed(
                "erp",
                Sealed { lane, ..seal(number, number * 100, number * 100 + 8) },
                &[],
            );
        }
        seals.acknowledged("erp", 3, Lsn(700));
        assert_eq!((seals.fate_of("erp", 3), seals.fate_of("erp", 4)), (Some(Lsn(700)), None));
        let replay = |next_number, to_number| Replay { next_number, to_number, left_out: vec![3] };
        assert_eq!(seals.replays_from("erp", &replay(2, 6)), Some(Lsn(208)));
        assert_eq!(seals.replays_from("erp", &replay(3, 6)), Some(Lsn(408)));
        assert_eq!(seals.replays_from("erp", &replay(3, 3)), None);
        assert_eq!(seals.replays_from("books", &replay(1, 6)), None);
    }

    #[test]
    fn of_one_sink_so_many_seals_and_releases_are_remembered() {
        let mut seals = Seals::default();
        let more = SEALS_MAX as u64 + 5;
        for number in 1..=more {
            seals.sealed("erp", seal(number, number * 16, number * 16 + 8), &[number * 16 - 8]);
        }
        let erp = &seals.sinks["erp"];
        assert_eq!((erp.len(), erp.released.len()), (SEALS_MAX, RELEASED_MAX));
        assert_eq!(seals.remembered(Lsn(0)).first["erp"], 6);
    }

    #[test]
    fn an_entry_reads_as_it_is_written() {
        for released in [vec![], vec![8, 16]] {
            for acknowledged in [None, Some(24)] {
                let entry = SealEntry {
                    covers: 7,
                    lsn: 8,
                    acknowledged,
                    lane: 2,
                    released: released.clone(),
                };
                let mut bytes = Vec::new();
                entry.put(&mut bytes);
                assert_eq!(SealEntry::read(&bytes), Some(entry));
                assert_eq!(SealEntry::read(&bytes[..bytes.len() - 1]), None);
            }
        }
    }
}
