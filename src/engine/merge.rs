//! The merge of the last checkpoint with sorted runs of effects into the next checkpoint.
//!
//! Everything that is merged hands out its entries in ascending order of their keys; the checkpoint
//! comes first and the runs follow in the order of the log, so that of several effects on one thing
//! the older one is met first. Keys are compared by their first 16 bytes, and only where these are
//! the same as a whole. Most things are met once: what they are is copied as it stands.

use std::io::Read;

use crate::{
    model::ReservationId,
    wal::{Storage, checkpoint},
};

use super::{
    Error,
    fold::{Now, Op, Value},
    run::Run,
};

/// Entries written between two looks at whether the engine stops.
const STEP_ENTRIES: usize = 4096;
/// The rank of what has ended: above every key's, since those begin with a letter.
const ENDED: u128 = u128::MAX;

/// A key's first 16 bytes, the first the highest, as if zeros followed.
fn rank_of(key: &[u8]) -> u128 {
    if let Some(first) = key.first_chunk() {
        return u128::from_be_bytes(*first);
    }
    let mut first = [0; 16];
    first[..key.len()].copy_from_slice(key);
    u128::from_be_bytes(first)
}

/// What is merged.
enum Source<S: Storage> {
    Checkpoint(checkpoint::Entries<S>),
    Run(Run<S::Reader>),
}

impl<S: Storage> Source<S>
where
    S::Reader: Read,
{
    /// Goes to the next entry and returns its rank.
    fn advance(&mut self) -> Result<u128, Error> {
        let more = match self {
            Self::Checkpoint(entries) => entries.advance()?,
            Self::Run(run) => run.advance()?,
        };
        Ok(if more { rank_of(self.key()) } else { ENDED })
    }

    fn key(&self) -> &[u8] {
        match self {
            Self::Checkpoint(entries) => entries.entry().0,
            Self::Run(run) => run.key(),
        }
    }

    fn effect(&self) -> Result<(Op, &[u8]), Error> {
        match self {
            Self::Checkpoint(entries) => Ok((Op::Set, entries.entry().1)),
            Self::Run(run) => run.effect(),
        }
    }

    /// Whether nothing else here is about the same thing.
    fn is_alone(&self) -> bool {
        match self {
            Self::Checkpoint(_) => true,
            Self::Run(run) => run.is_alone(),
        }
    }
}

/// The next to be taken, and the rank of the one behind it.
struct Lowest {
    source: usize,
    rank: u128,
    then: u128,
}

/// The next checkpoint.
struct Target<S: Storage, F> {
    writer: checkpoint::Writer<S>,
    now: Now<F>,
    bytes: u64,
}

impl<S: Storage, F: Fn(ReservationId) -> bool> Target<S, F> {
    fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if self.now.is_over(key, value)? {
            return Ok(());
        }
        self.bytes += (key.len() + value.len()) as u64;
        Ok(self.writer.push(key, value)?)
    }
}

/// See the module.
pub(super) struct Merge<S: Storage, F> {
    target: Target<S, F>,
    sources: Vec<Source<S>>,
    /// The rank of each source's present entry.
    ranks: Vec<u128>,
    key: Vec<u8>,
    value: Value,
}

impl<S: Storage, F: Fn(ReservationId) -> bool> Merge<S, F> {
    /// Begins a merge of a checkpoint, if there is one, with so many runs.
    pub(super) fn new(
        writer: checkpoint::Writer<S>,
        now: Now<F>,
        before: Option<checkpoint::Entries<S>>,
        runs: usize,
        storage: &S,
    ) -> Result<Self, Error> {
        let mut sources: Vec<Source<S>> = before.into_iter().map(Source::Checkpoint).collect();
        for number in 0..runs {
            sources.push(Source::Run(Run::open(storage, number)?));
        }
        let ranks = sources.iter_mut().map(Source::advance).collect::<Result<_, _>>()?;
        let target = Target { writer, now, bytes: 0 };
        Ok(Self { target, sources, ranks, key: Vec::new(), value: Value::default() })
    }

    /// Writes some of it; false when all is written.
    pub(super) fn step(&mut self) -> Result<bool, Error> {
        let mut left = STEP_ENTRIES;
        while left > 0 {
            let lowest = self.lowest();
            if lowest.rank == ENDED {
                return Ok(false);
            }
            left -= 1;
            if lowest.rank == lowest.then {
                self.gather()?;
                continue;
            }
            let mut rank = lowest.rank;
            while left > 0 && rank < lowest.then {
                left -= 1;
                rank = self.take(lowest.source)?;
            }
        }
        Ok(true)
    }

    fn lowest(&self) -> Lowest {
        let mut lowest = Lowest { source: 0, rank: ENDED, then: ENDED };
        for (source, rank) in self.ranks.iter().enumerate() {
            if *rank < lowest.rank {
                lowest = Lowest { source, rank: *rank, then: lowest.rank };
            } else if *rank < lowest.then {
                lowest.then = *rank;
            }
        }
        lowest
    }

    /// Writes what a source alone has, and returns the rank that it has then.
    fn take(&mut self, number: usize) -> Result<u128, Error> {
        let source = &mut self.sources[number];
        if source.is_alone() {
            let (op, value) = source.effect()?;
            if op.is_value() {
                self.target.write(source.key(), value)?;
                self.ranks[number] = source.advance()?;
                return Ok(self.ranks[number]);
            }
        }
        self.gather_key(number)?;
        Ok(self.ranks[number])
    }

    /// Writes what the thing of a source's key has become by the effects that all sources have.
    fn gather_key(&mut self, number: usize) -> Result<(), Error> {
        self.key.clear();
        self.key.extend_from_slice(self.sources[number].key());
        self.value.clear();
        let rank = self.ranks[number];
        let limit_period_ms = self.target.now.limit_period_ms;
        for (source, at) in self.sources.iter_mut().zip(&mut self.ranks) {
            while *at == rank && source.key() == self.key {
                self.value.apply(&self.key, source.effect()?, limit_period_ms)?;
                *at = source.advance()?;
            }
        }
        match self.value.get() {
            Some(value) => self.target.write(&self.key, value),
            None => Ok(()),
        }
    }

    /// Several sources have the lowest rank: the one whose key as a whole is lowest goes first.
    fn gather(&mut self) -> Result<(), Error> {
        let rank = self.lowest().rank;
        let those = (0..self.sources.len()).filter(|n| self.ranks[*n] == rank);
        let first = those.min_by_key(|n| self.sources[*n].key());
        first.map_or(Ok(()), |first| self.gather_key(first))
    }

    /// Ends it and returns its bytes: from here on it is the newest checkpoint.
    pub(super) fn finish(self) -> Result<u64, Error> {
        // What is merged is closed first: its files may be removed now.
        drop(self.sources);
        self.target.writer.finish()?;
        Ok(self.target.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{
            codec::Count,
            run::Sorter,
            thing::{Effect, Thing},
        },
        model::{Incarnation, Lsn},
        wal::sim::{Random, SimStorage},
    };
    use std::collections::BTreeMap;

    const LIFE: Incarnation = Incarnation(3);

    fn merge(storage: &SimStorage, before: Option<Lsn>, covers: Lsn, runs: usize) {
        let before = before.map(|covers| checkpoint::at(storage, covers).unwrap());
        let now = Now {
            now_ms: 0,
            limit_period_ms: u64::MAX,
            known: |_| true,
            seals: Default::default(),
        };
        let writer = checkpoint::Writer::create(storage, LIFE, covers).unwrap();
        let mut merge = Merge::new(writer, now, before, runs, storage).unwrap();
        while merge.step().unwrap() {}
        merge.finish().unwrap();
    }

    /// Things whose keys are the same for long, or as a whole, in one run and in several.
    fn thing(random: &mut Random) -> (u64, u32) {
        (random.below(40) << (8 * random.below(8)), random.below(6) as u32)
    }

    #[test]
    fn a_merge_is_what_a_map_would_be() {
        let (storage, mut random) = (SimStorage::new(), Random(5));
        let mut expected = BTreeMap::<(u64, u32), u32>::new();
        let mut before = None;
        for round in 1..5 {
            for run in 0..round {
                let mut sorter = Sorter::default();
                for _ in 0..2_000 {
                    let (customer, sku) = thing(&mut random);
                    let effect = Effect::LimitTaken { quantity: 1, at_ms: 0, lsn: 8 };
                    sorter.push(Thing::CustomerLimit(customer, sku), effect);
                    *expected.entry((customer, sku)).or_default() += 1;
                }
                sorter.write(&storage, run).unwrap();
            }
            let covers = Lsn(8 * round as u64);
            merge(&storage, before, covers, round);
            before = Some(covers);
        }
        let mut entries = checkpoint::at(&storage, Lsn(32)).unwrap();
        let mut found = BTreeMap::new();
        while let Some((key, value)) = entries.next().unwrap() {
            let Some(Thing::CustomerLimit(customer, sku)) = Thing::of_key(key) else { panic!() };
            found.insert((customer, sku), Count::read(value).unwrap().taken);
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn texts_of_one_beginning_find_their_own() {
        let storage = SimStorage::new();
        let sealed = |number| {
            Effect::Sealed(Box::new(crate::model::sink::Sealed {
                lsn: 8 * number,
                number,
                batches: 1,
                events: 1,
                ..Default::default()
            }))
        };
        let names = ["a-long-name-of-a-sink-1", "a-long-name-of-a-sink-2"];
        for (run, numbers) in [(0, [1, 1]), (1, [2, 2])] {
            let mut sorter = Sorter::default();
            for (name, number) in names.iter().zip(numbers) {
                if run == 0 || *name == names[1] {
                    sorter.push(Thing::Sink(name), sealed(number));
                }
            }
            sorter.write(&storage, run).unwrap();
        }
        merge(&storage, None, Lsn(8), 2);
        let mut entries = checkpoint::at(&storage, Lsn(8)).unwrap();
        for (name, last) in names.iter().zip([1, 2]) {
            let (key, value) = entries.next().unwrap().unwrap();
            assert_eq!(Thing::of_key(key), Some(Thing::Sink(name)));
            let sink: crate::model::sink::SinkState =
                super::super::fold::from_archived(value).unwrap();
            assert_eq!(sink.last_number, last);
        }
        assert!(entries.next().unwrap().is_none());
    }
}
