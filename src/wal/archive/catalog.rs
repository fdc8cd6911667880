//! What is in an archive's directory, in memory: forty bytes a file.

use std::collections::BTreeMap;

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
            let entry = match Head::read_from(&mut file, &place) {
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

    /// The file with a segment that can be read: this life's own, if it has it. If not, the segment is older
    /// than what this life's directory began with, and was whole in all that archived it.
    pub fn of_index(&self, index: u64, own: u64) -> Option<(Key, Entry)> {
        let readable = |entry: &Entry| entry.last_ms.is_some();
        let own = self.entries.get_key_value(&(index, own)).filter(|(_, entry)| readable(entry));
        let any = || {
            let mut all = self.entries.range((index, 0)..=(index, u64::MAX));
            all.find(|(_, entry)| readable(entry))
        };
        own.or_else(any).map(|(key, entry)| (*key, *entry))
    }

    /// Where the row of files begins that ends at `to` without a gap, over lives too.
    pub fn begin(&self, to: u64, lives: &Lives, (segment_bytes, own): (u64, u64)) -> u64 {
        let mut begin = to;
        let mut below = lives.before_gap(to);
        while let Some(index) = (below / segment_bytes).checked_sub(1)
            && let Some((_, entry)) = self.of_index(index, own)
        {
            begin = index * segment_bytes;
            let Life { first, after, .. } = entry.life;
            let begins_life = first > 0 && first == index;
            below = if begins_life { (after + 1) * segment_bytes } else { begin };
        }
        begin
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
        assert_eq!(catalog.begin(5_200, &lives, (100, 2)), 0);
        assert_eq!(catalog.of_index(3, 2).unwrap().0, (3, 2));
        assert_eq!(catalog.of_index(2, 2).unwrap().0, (2, 1));
        assert!(catalog.of_index(52, 2).is_none());
        catalog.remove((1, 1));
        assert_eq!(catalog.begin(5_200, &lives, (100, 2)), 200);
        catalog.put((2, 1), Entry { last_ms: None, ..entry(old) });
        assert_eq!(catalog.begin(5_200, &lives, (100, 2)), 300, "one that can't be read is a gap");
        assert_eq!(catalog.sums(), (8, 80));
        assert_eq!(catalog.first(), Some((0, 1)));
    }
}
