//! What is in an archive's directory, in memory: forty bytes a file.

use std::collections::{BTreeMap, BTreeSet};

use super::format::{self, Head};
use crate::{
    model::Incarnation,
    wal::{
        error::Error,
        lives::{Life, Lives},
        storage::Storage,
    },
};

/// The index of a segment and the life that archived it.
pub type Key = (u64, u64);

/// An archived file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub bytes: u64,
    /// The time of its latest record; `None` if its head can't be read: its age is not known then.
    pub last_ms: Option<u64>,
    /// The life that its segment was written in.
    pub life: Life,
}

impl Entry {
    pub fn new(bytes: u64, head: &Head) -> Self {
        Self { bytes, last_ms: Some(head.last_ms), life: head.header.life }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Catalog {
    entries: BTreeMap<Key, Entry>,
    bytes: u64,
    /// The lives that the log has gone through, newest first, as far as the row that joins it says.
    lineage: Vec<u64>,
    /// Positions of that row that do not exist, between two lives: from and to.
    gaps: Vec<(u64, u64)>,
}

impl Catalog {
    /// Reads the heads of all files. One that is damaged is told and counted, and not read from.
    pub fn load<S: Storage>(storage: &S) -> Result<Self, Error> {
        let mut catalog = Self::default();
        for name in storage.list().map_err(Error::io("listing the archive"))? {
            let Some((index, by)) = format::of_name(&name) else { continue };
            let place = storage.place(&name);
            let said = || Error::io(format!("reading {place}"));
            let bytes = storage.len(&name).map_err(said())?;
            let mut file = storage.open(&name).map_err(said())?;
            let entry = match Head::of_file(&mut file, (index, by.0), &place) {
                Ok(head) => Entry::new(bytes, &head),
                Err(error) => {
                    tracing::error!(%error, "an archived segment is passed over");
                    Entry { bytes, last_ms: None, life: Life::begin(by) }
                }
            };
            catalog.put((index, by.0), entry);
        }
        Ok(catalog)
    }

    pub fn put(&mut self, key: Key, entry: Entry) {
        self.bytes += entry.bytes;
        if let Some(before) = self.entries.insert(key, entry) {
            self.bytes -= before.bytes;
        }
    }

    pub fn remove(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            self.bytes -= entry.bytes;
        }
    }

    pub fn has(&self, key: Key) -> bool {
        self.entries.contains_key(&key)
    }

    /// Files and their bytes.
    pub fn sums(&self) -> (u64, u64) {
        (self.entries.len() as u64, self.bytes)
    }

    /// The oldest file.
    pub fn first(&self) -> Option<Key> {
        self.entries.keys().next().copied()
    }

    /// The oldest file of those whose age is known.
    pub fn first_aged(&self) -> Option<(Key, u64)> {
        self.entries.iter().find_map(|(key, entry)| Some((*key, entry.last_ms?)))
    }

    /// The file with a segment that can be read: this life's own, if it has it. If not, that of the newest of
    /// the lives before it: the last segment that a life was restored with is cut where it was restored, and an
    /// older life's goes on with what was lost.
    pub fn of_index(&self, index: u64, own: u64) -> Option<(Key, Entry)> {
        let readable = |entry: &Entry| entry.last_ms.is_some();
        let ours = [own].into_iter().chain(self.lineage.iter().copied());
        let mut ours = ours.filter_map(|by| self.entries.get_key_value(&(index, by)));
        let any = || {
            let mut all = self.entries.range((index, 0)..=(index, u64::MAX));
            all.find(|(_, entry)| readable(entry))
        };
        let found = ours.find(|(_, entry)| readable(entry)).or_else(any);
        found.map(|(key, entry)| (*key, *entry))
    }

    /// Finds the row of files that ends at `to` without a gap, over lives too; returns where it begins.
    pub fn find_row(&mut self, to: u64, lives: &Lives, (segment_bytes, own): (u64, u64)) -> u64 {
        self.lineage = lives.all().map(|life| life.0).collect();
        self.lineage.reverse();
        self.gaps.clear();
        let mut begin = to;
        let mut below = lives.before_gap(to);
        while let Some(index) = (below / segment_bytes).checked_sub(1)
            && let Some((_, entry)) = self.of_index(index, own)
        {
            begin = index * segment_bytes;
            let Life { first, after, incarnation } = entry.life;
            if !self.lineage.contains(&incarnation.0) {
                self.lineage.push(incarnation.0);
            }
            below = begin;
            if first > 0 && first == index {
                below = (after + 1) * segment_bytes;
                self.gaps.push((below, begin));
            }
        }
        begin
    }

    /// The position, or where the gap of the row ends that it lies in.
    pub fn behind_gap(&self, position: u64) -> u64 {
        let gap = self.gaps.iter().find(|(from, to)| (*from..*to).contains(&position));
        gap.map_or(position, |(_, to)| *to)
    }

    /// Where the gap of the row begins that ends at a segment's begin, or that begin.
    pub fn before_gap(&self, base: u64) -> u64 {
        self.gaps.iter().find(|(_, to)| *to == base).map_or(base, |(from, _)| *from)
    }

    /// The indices of segments between two positions of the row.
    pub fn indices(&self, from: u64, to: u64, segment_bytes: u64) -> BTreeSet<u64> {
        let range = (from / segment_bytes, 0)..(to.div_ceil(segment_bytes), 0);
        let exists = |index: &u64| self.behind_gap(index * segment_bytes) == index * segment_bytes;
        self.entries.range(range).map(|((index, _), _)| *index).filter(exists).collect()
    }
}

/// The name of a file.
pub fn name_of((index, by): Key) -> String {
    format::name(index, Incarnation(by))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(life: Life) -> Entry {
        Entry { bytes: 10, last_ms: Some(1), life }
    }

    #[test]
    fn the_row_that_joins_the_log_goes_over_lives_and_ends_at_a_gap() {
        let old = Life::begin(Incarnation(1));
        let new = Life { incarnation: Incarnation(2), first: 50, after: 3 };
        let mut catalog = Catalog::default();
        // The old life archived 0 to 5; the new one was restored behind 3 and archived its own.
        for index in 0..=5 {
            catalog.put((index, 1), entry(old));
        }
        catalog.put((3, 2), entry(old));
        catalog.put((50, 2), entry(new));
        catalog.put((51, 2), entry(new));
        let lives = Lives::default();
        assert_eq!(catalog.find_row(5_200, &lives, (100, 2)), 0);
        assert_eq!(catalog.of_index(3, 2).unwrap().0, (3, 2));
        assert_eq!(catalog.of_index(2, 2).unwrap().0, (2, 1));
        assert!(catalog.of_index(52, 2).is_none());
        catalog.remove((1, 1));
        assert_eq!(catalog.find_row(5_200, &lives, (100, 2)), 200);
        catalog.put((2, 1), Entry { last_ms: None, ..entry(old) });
        assert_eq!(
            catalog.find_row(5_200, &lives, (100, 2)),
            300,
            "one that can't be read is a gap"
        );
        assert_eq!(catalog.sums(), (8, 80));
        assert_eq!(catalog.first(), Some((0, 1)));
    }

    #[test]
    fn of_several_lives_that_archived_a_segment_the_newest_of_the_lineage_has_it_as_it_was() {
        let eldest = Life::begin(Incarnation(9));
        let elder = Life { incarnation: Incarnation(5), first: 50, after: 3 };
        let own = Life { incarnation: Incarnation(7), first: 90, after: 51 };
        let mut catalog = Catalog::default();
        // All three archived what they had; one of another line went on from the eldest too.
        (0..=4).for_each(|index| catalog.put((index, 9), entry(eldest)));
        [(3, 5), (3, 1)].into_iter().for_each(|key| catalog.put(key, entry(eldest)));
        [(50, 5), (51, 5), (52, 5), (51, 7)]
            .into_iter()
            .for_each(|key| catalog.put(key, entry(elder)));
        catalog.put((50, 1), entry(Life { incarnation: Incarnation(1), ..elder }));
        catalog.put((90, 7), entry(own));
        assert_eq!(catalog.find_row(9_100, &Lives::default(), (100, 7)), 0);
        let by = |index| catalog.of_index(index, 7).unwrap().0.1;
        assert_eq!([90, 51, 50, 3, 2].map(by), [7, 7, 5, 5, 9]);
        let behind = [399, 400, 4_999, 5_000, 5_200, 9_000].map(|at| catalog.behind_gap(at));
        assert_eq!(behind, [399, 5_000, 5_000, 5_000, 9_000, 9_000]);
        assert_eq!([5_000, 5_100, 9_000].map(|at| catalog.before_gap(at)), [400, 5_100, 5_200]);
        let row = catalog.indices(250, 9_100, 100).into_iter().collect::<Vec<_>>();
        assert_eq!(row, [2, 3, 50, 51, 90], "what was lost is not of it");
    }
}
