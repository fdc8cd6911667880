//! Checkpoints: sorted files beside the log, each a fold of everything below one position.
//!
//! Constraints: written and read in one pass with a bounded buffer, millions of small entries a second;
//! a value can be read in place, so it stands at a multiple of eight; a file that is not whole is never
//! taken for one, and then the one before it is used.
//!
//! Layout, little-endian, everything at multiples of eight:
//!
//! ```text
//! header   magic | version u32, 0 u32 | incarnation | covers | CRC-32C of the words before, 0 u32
//! block    bytes u32, CRC-32C u32 | count u32, CRC-32C of the word before and this count u32 | entries
//! entry    value bytes u32, key bytes u32 | value, padded | key, padded
//! footer   0 | magic | count | covers | incarnation | CRC-32C of the words before, 0 u32
//! ```
//!
//! Operation: [`Writer`] writes aside, syncs, renames, syncs the directory, and then removes what is
//! older than the one before. [`newest`] reads every byte of the newest file once before it trusts it;
//! a damaged one is passed over and said so ([`Snapshot::passed_over`]). Whether the log still reaches
//! back to the one before is for [`Log::open`](super::Log::open) to say: its user releases only what
//! the checkpoint before the newest covers too.

use std::{
    io::{self, Read, Write},
    ops::Range,
};

use rkyv::util::AlignedVec;

use super::{error::Error, storage::Storage};
use crate::model::{Incarnation, Lsn};

const MAGIC: u64 = u64::from_le_bytes(*b"HOLDFCKP");
const MAGIC_END: u64 = u64::from_le_bytes(*b"HOLDFEND");
const VERSION: u64 = 4;
const PREFIX: &str = "checkpoint-";
const ASIDE: &str = "checkpoint.part";
const HEADER_BYTES: usize = 40;
const FOOTER_BYTES: usize = 48;
const BLOCK_HEADER_BYTES: usize = 16;
/// A block is written once it is so large; one that holds a single larger entry is larger.
const BLOCK_BYTES: usize = 64 * 1024;
/// Written to the disk at a time.
const UNSYNCED_BYTES_MAX: usize = 1 << 20;
/// The largest entry, and so the most that reading needs in memory.
pub const ENTRY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest key.
pub const KEY_BYTES_MAX: usize = 255;

pub(super) fn name(covers: u64) -> String {
    format!("{PREFIX}{covers:016x}")
}

/// What the checkpoint of this file name covers.
pub(super) fn covers_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// The positions that the files there cover, newest first; whether they are whole is another matter.
pub fn list<S: Storage>(storage: &S) -> Result<Vec<Lsn>, Error> {
    let names = storage.list().map_err(Error::io("listing the data directory"))?;
    let mut covers: Vec<Lsn> = names.iter().filter_map(|n| covers_of_name(n)).map(Lsn).collect();
    covers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(covers)
}

const fn padded(bytes: usize) -> usize {
    (bytes + 7) & !7
}

fn with_crc<const N: usize>(mut words: [u64; N]) -> [u64; N] {
    words[N - 1] = words_crc(&words[..N - 1]);
    words
}

fn words_crc(words: &[u64]) -> u64 {
    let fold = |crc, word: &u64| crc32c::crc32c_append(crc, &word.to_le_bytes());
    words.iter().fold(0, fold).into()
}

fn header(incarnation: Incarnation, covers: Lsn) -> [u64; HEADER_BYTES / 8] {
    with_crc([MAGIC, VERSION, incarnation.0, covers.0, 0])
}

fn footer(incarnation: Incarnation, covers: Lsn, count: u64) -> [u64; FOOTER_BYTES / 8] {
    with_crc([0, MAGIC_END, count, covers.0, incarnation.0, 0])
}

fn put_words(bytes: &mut Vec<u8>, words: &[u64]) {
    words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
}

fn count_word(bytes_word: u64, count: u32) -> u64 {
    u64::from(count) | words_crc(&[bytes_word, count.into()]) << 32
}

/// Writes a checkpoint.
pub struct Writer<S: Storage> {
    storage: S,
    file: S::Writer,
    incarnation: Incarnation,
    covers: Lsn,
    block: Vec<u8>,
    block_count: u32,
    count: u64,
    /// Where the last key stands in the block.
    last_key: Range<usize>,
    /// The last key of the block before; empty in the first one.
    key_before: Vec<u8>,
    /// Written since the last sync.
    unsynced_bytes: usize,
}

impl<S: Storage> Writer<S> {
    /// Begins a file aside. One that was begun earlier and not finished goes.
    pub fn create(storage: &S, incarnation: Incarnation, covers: Lsn) -> Result<Self, Error> {
        let what = format!("making {}", storage.place(ASIDE));
        let file = storage.create(ASIDE).map_err(Error::io(what))?;
        let mut block = Vec::with_capacity(2 * BLOCK_BYTES);
        put_words(&mut block, &header(incarnation, covers));
        let mut writer = Self {
            storage: storage.clone(),
            file,
            incarnation,
            covers,
            block,
            block_count: 0,
            count: 0,
            last_key: 0..0,
            key_before: Vec::new(),
            unsynced_bytes: 0,
        };
        writer.write_out()?;
        writer.begin_block();
        Ok(writer)
    }

    fn begin_block(&mut self) {
        self.block.clear();
        self.block.resize(BLOCK_HEADER_BYTES, 0);
        self.block_count = 0;
    }

    fn write_out(&mut self) -> Result<(), Error> {
        let io = |what: &str| Error::io(format!("{what} {}", self.storage.place(ASIDE)));
        self.file.write_all(&self.block).map_err(io("writing"))?;
        self.unsynced_bytes += self.block.len();
        // Little by little: the log's own syncs wait behind whatever the disk has been given.
        if self.unsynced_bytes >= UNSYNCED_BYTES_MAX {
            self.unsynced_bytes = 0;
            self.storage.sync_file(&mut self.file).map_err(io("syncing"))?;
        }
        Ok(())
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// If the key is not above the one before it, is longer than [`KEY_BYTES_MAX`], or the value is
    /// larger than [`ENTRY_BYTES_MAX`] allows.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        assert!(key.len() <= KEY_BYTES_MAX, "a key is at most 255 bytes");
        assert!(value.len() <= ENTRY_BYTES_MAX - 1024, "a value fits an entry");
        assert!(self.count == 0 || key > self.last_key(), "keys ascend");
        let word = value.len() as u64 | (key.len() as u64) << 32;
        let begin = self.block.len();
        let key_begin = begin + 8 + padded(value.len());
        self.block.reserve(8 + padded(value.len()) + padded(key.len()));
        self.block.extend_from_slice(&word.to_le_bytes());
        self.block.extend_from_slice(value);
        self.block.resize(key_begin, 0);
        self.block.extend_from_slice(key);
        self.last_key = key_begin..self.block.len();
        self.block.resize(padded(self.block.len()), 0);
        self.block_count += 1;
        self.count += 1;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    fn last_key(&self) -> &[u8] {
        if self.block_count > 0 { &self.block[self.last_key.clone()] } else { &self.key_before }
    }

    fn end_block(&mut self) -> Result<(), Error> {
        if self.block_count > 0 {
            self.key_before.clear();
            self.key_before.extend_from_slice(&self.block[self.last_key.clone()]);
            let entries = &self.block[BLOCK_HEADER_BYTES..];
            let first = entries.len() as u64 | u64::from(crc32c::crc32c(entries)) << 32;
            let second = count_word(first, self.block_count);
            self.block[..8].copy_from_slice(&first.to_le_bytes());
            self.block[8..16].copy_from_slice(&second.to_le_bytes());
            self.write_out()?;
        }
        self.begin_block();
        Ok(())
    }

    /// Ends it: from here on it is the newest checkpoint, and all but the one before it are removed.
    pub fn finish(mut self) -> Result<(), Error> {
        self.end_block()?;
        self.block.clear();
        put_words(&mut self.block, &footer(self.incarnation, self.covers, self.count));
        self.write_out()?;
        let storage = &self.storage;
        let name = name(self.covers.0);
        let io = |what: &str| Error::io(format!("{what} {}", storage.place(&name)));
        storage.sync_file(&mut self.file).map_err(io("syncing"))?;
        storage.rename(ASIDE, &name).map_err(io("renaming to"))?;
        storage.sync_dir().map_err(io("syncing the directory of"))?;
        let older = list(storage)?.into_iter().filter(|covers| *covers < self.covers).skip(1);
        for covers in older {
            let name = self::name(covers.0);
            let what = format!("removing {}", storage.place(&name));
            storage.remove(&name).map_err(Error::io(what))?;
        }
        Ok(())
    }
}

/// A checkpoint that was read once and found whole.
#[derive(Debug)]
pub struct Snapshot<S: Storage> {
    storage: S,
    incarnation: Incarnation,
    covers: Lsn,
    count: u64,
    passed_over: Vec<Error>,
}

/// The newest checkpoint that is whole, if there is one. `Err` only if the disk can't be read.
pub fn newest<S: Storage>(storage: &S) -> Result<Option<Snapshot<S>>, Error> {
    let mut passed_over = Vec::new();
    for covers in list(storage)? {
        match verify(storage, covers) {
            Ok((incarnation, count)) => {
                let storage = storage.clone();
                return Ok(Some(Snapshot { storage, incarnation, covers, count, passed_over }));
            }
            Err(damage @ Error::Checkpoint { .. }) => {
                tracing::error!(%damage, "a checkpoint is passed over");
                passed_over.push(damage);
            }
            Err(other) => return Err(other),
        }
    }
    match passed_over.pop() {
        Some(damage) => Err(damage),
        None => Ok(None),
    }
}

fn verify<S: Storage>(storage: &S, covers: Lsn) -> Result<(Incarnation, u64), Error> {
    let mut entries = at(storage, covers)?;
    while entries.advance()? {}
    Ok((entries.incarnation, entries.count))
}

/// Reads the checkpoint that covers everything below a position. It is checked while it is read: who
/// has reached its end has seen it whole.
pub fn at<S: Storage>(storage: &S, covers: Lsn) -> Result<Entries<S>, Error> {
    Entries::open(storage, covers)
}

/// Removes the checkpoint that covers everything below a position.
pub fn remove<S: Storage>(storage: &S, covers: Lsn) -> Result<(), Error> {
    let name = name(covers.0);
    let io = |what: &str| Error::io(format!("{what} {}", storage.place(&name)));
    storage.remove(&name).map_err(io("removing"))?;
    storage.sync_dir().map_err(io("syncing the directory of"))
}

/// Copies a checkpoint of so many bytes as one of another life. Header and footer are checked; what is between
/// is when it is read.
pub(super) fn copy(
    source: &mut impl Read,
    bytes: u64,
    writer: &mut impl Write,
    (incarnation, covers): (Incarnation, Lsn),
) -> io::Result<()> {
    let damaged = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let ends = (HEADER_BYTES + FOOTER_BYTES) as u64;
    let between = bytes.checked_sub(ends).ok_or(damaged("it is too short for a checkpoint"))?;
    let head = read_words::<{ HEADER_BYTES / 8 }>(source)?;
    let before = Incarnation(head[2]);
    if head != header(before, covers) {
        return Err(damaged("its header is damaged or of another version"));
    }
    let mut words = Vec::new();
    put_words(&mut words, &header(incarnation, covers));
    writer.write_all(&words)?;
    io::copy(&mut source.by_ref().take(between), writer)?;
    let foot = read_words::<{ FOOTER_BYTES / 8 }>(source)?;
    if foot != footer(before, covers, foot[2]) {
        return Err(damaged("its footer is damaged"));
    }
    words.clear();
    put_words(&mut words, &footer(incarnation, covers, foot[2]));
    writer.write_all(&words)
}

fn read_words<const N: usize>(source: &mut impl Read) -> io::Result<[u64; N]> {
    let mut words = [0; N];
    for word in &mut words {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes)?;
        *word = u64::from_le_bytes(bytes);
    }
    Ok(words)
}

impl<S: Storage> Snapshot<S> {
    /// Everything below is in it.
    pub fn covers(&self) -> Lsn {
        self.covers
    }

    /// The life of the log that it folds.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// How many entries it has.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Newer ones that were damaged.
    pub fn passed_over(&self) -> &[Error] {
        &self.passed_over
    }

    /// Reads it from its first entry on.
    pub fn iter(&self) -> Result<Entries<S>, Error> {
        Entries::open(&self.storage, self.covers)
    }
}

/// A key and its value, which stands at a multiple of eight.
pub type Entry<'a> = (&'a [u8], &'a [u8]);

/// Reads the entries of a checkpoint, in ascending order of their keys.
pub struct Entries<S: Storage> {
    file: S::Reader,
    place: String,
    /// Bytes of the file that have not been read.
    left: u64,
    incarnation: Incarnation,
    covers: Lsn,
    block: AlignedVec<16>,
    /// Where the next entry begins in the block.
    at: usize,
    /// Where the present entry's value and key stand in it.
    value: Range<usize>,
    key: Range<usize>,
    block_left: u32,
    count: u64,
    ended: bool,
}

impl<S: Storage> Entries<S> {
    fn open(storage: &S, covers: Lsn) -> Result<Self, Error> {
        let name = name(covers.0);
        let place = storage.place(&name);
        let io = |error| Error::io(format!("reading {place}"))(error);
        let left = storage.len(&name).map_err(io)?;
        let file = storage.open(&name).map_err(io)?;
        let mut entries = Self {
            file,
            place,
            left,
            incarnation: Incarnation(0),
            covers,
            block: AlignedVec::with_capacity(2 * BLOCK_BYTES),
            at: 0,
            value: 0..0,
            key: 0..0,
            block_left: 0,
            count: 0,
            ended: false,
        };
        let words: [u64; HEADER_BYTES / 8] = entries.words()?;
        entries.at = entries.block.len();
        if words[0] != MAGIC || words[1] != VERSION {
            return Err(entries.damaged("it is not a checkpoint of this version"));
        }
        entries.incarnation = Incarnation(words[2]);
        if words != header(entries.incarnation, covers) {
            return Err(entries.damaged("its header is damaged"));
        }
        Ok(entries)
    }

    fn damaged(&self, why: &'static str) -> Error {
        Error::Checkpoint { file: self.place.clone(), why }
    }

    fn fill(&mut self, bytes: usize) -> Result<(), Error> {
        if bytes as u64 > self.left {
            return Err(self.damaged("it ends too early"));
        }
        self.left -= bytes as u64;
        self.block.clear();
        self.block.resize(bytes, 0);
        match self.file.read_exact(&mut self.block) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged("it ends too early"))
            }
            other => other.map_err(Error::io(format!("reading {}", self.place))),
        }
    }

    fn words<const N: usize>(&mut self) -> Result<[u64; N], Error> {
        self.fill(N * 8)?;
        let word =
            |at: usize| self.block[at * 8..].first_chunk().map_or(0, |w| u64::from_le_bytes(*w));
        Ok(std::array::from_fn(word))
    }

    /// Reads and checks the next block; false at the end, which is checked too.
    fn next_block(&mut self) -> Result<bool, Error> {
        if self.ended {
            return Ok(false);
        }
        let [first] = self.words()?;
        let (bytes, crc) = (first as u32 as usize, (first >> 32) as u32);
        if bytes == 0 {
            self.end(first)?;
            return Ok(false);
        }
        let [second] = self.words()?;
        if count_word(first, second as u32) != second || bytes > ENTRY_BYTES_MAX + BLOCK_BYTES {
            return Err(self.damaged("a block's header is damaged"));
        }
        self.fill(bytes)?;
        if crc32c::crc32c(&self.block) != crc {
            return Err(self.damaged("a block is damaged"));
        }
        (self.at, self.block_left) = (0, second as u32);
        self.count += u64::from(self.block_left);
        Ok(true)
    }

    fn end(&mut self, first: u64) -> Result<(), Error> {
        let rest: [u64; FOOTER_BYTES / 8 - 1] = self.words()?;
        let expected = footer(self.incarnation, self.covers, self.count);
        if first != 0 || rest != expected[1..] || self.left != 0 {
            return Err(self.damaged("its footer is damaged"));
        }
        self.ended = true;
        self.block.clear();
        self.at = 0;
        Ok(())
    }

    /// Goes to the next entry of the block.
    fn step(&mut self) -> Result<(), Error> {
        let rest = self.block.get(self.at..).and_then(|rest| rest.first_chunk());
        let word = rest.map(|word| u64::from_le_bytes(*word));
        let Some(word) = word else { return Err(self.damaged("an entry is damaged")) };
        let (value, key) = (word as u32 as usize, (word >> 32) as usize);
        let begin = self.at + 8;
        let key_begin = begin + padded(value);
        let end = key_begin + padded(key);
        if key > KEY_BYTES_MAX || end > self.block.len() {
            return Err(self.damaged("an entry is damaged"));
        }
        (self.value, self.key) = (begin..begin + value, key_begin..key_begin + key);
        self.at = end;
        self.block_left -= 1;
        Ok(())
    }

    /// Goes to the next entry, and checks everything up to it; false at the end.
    pub fn advance(&mut self) -> Result<bool, Error> {
        while self.block_left == 0 {
            (self.value, self.key) = (0..0, 0..0);
            if self.at != self.block.len() {
                return Err(self.damaged("a block holds something else than entries"));
            }
            if !self.next_block()? {
                return Ok(false);
            }
        }
        self.step()?;
        Ok(true)
    }

    /// The entry that [`Self::advance`] went to; empty before the first and after the last.
    pub fn entry(&self) -> Entry<'_> {
        (&self.block[self.key.clone()], &self.block[self.value.clone()])
    }

    /// The next entry; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "it lends, and it can fail")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        Ok(self.advance()?.then(|| self.entry()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{
        FileStorage,
        sim::{Random, SimStorage},
    };

    const LIFE: Incarnation = Incarnation(7);

    fn value(number: u64) -> Vec<u8> {
        vec![number as u8; (number % 50) as usize]
    }

    fn write<S: Storage>(storage: &S, covers: u64, count: u64) -> Result<(), Error> {
        let mut writer = Writer::create(storage, LIFE, Lsn(covers))?;
        for number in 0..count {
            writer.push(&number.to_be_bytes(), &value(number))?;
        }
        writer.finish()
    }

    fn check<S: Storage>(snapshot: &Snapshot<S>, count: u64) {
        assert_eq!((snapshot.count(), snapshot.incarnation()), (count, LIFE));
        let mut entries = snapshot.iter().unwrap();
        let mut number = 0u64;
        while let Some((key, read)) = entries.next().unwrap() {
            assert_eq!((key, read), (&number.to_be_bytes()[..], &value(number)[..]));
            assert_eq!(read.as_ptr() as usize % 8, 0);
            number += 1;
        }
        assert_eq!(number, count);
        assert!(entries.next().unwrap().is_none());
    }

    #[test]
    fn the_newest_and_the_one_before_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let storage = FileStorage::new(dir.path()).unwrap();
        assert!(newest(&storage).unwrap().is_none());
        for covers in [8, 16, 24, 24] {
            write(&storage, covers, 10_000).unwrap();
            let snapshot = newest(&storage).unwrap().unwrap();
            assert_eq!(snapshot.covers(), Lsn(covers));
            check(&snapshot, 10_000);
        }
        assert_eq!(list(&storage).unwrap(), [Lsn(24), Lsn(16)]);
        write(&storage, 32, 0).unwrap();
        check(&newest(&storage).unwrap().unwrap(), 0);
    }

    #[test]
    fn large_values_have_blocks_of_their_own() {
        let storage = SimStorage::new();
        let mut writer = Writer::create(&storage, LIFE, Lsn(0)).unwrap();
        let large = vec![9u8; 3 * BLOCK_BYTES + 5];
        writer.push(b"a", b"").unwrap();
        writer.push(b"b", &large).unwrap();
        writer.push(&[0xFF; KEY_BYTES_MAX], b"z").unwrap();
        writer.finish().unwrap();
        let snapshot = newest(&storage).unwrap().unwrap();
        let mut entries = snapshot.iter().unwrap();
        assert_eq!(entries.next().unwrap(), Some((&b"a"[..], &b""[..])));
        assert_eq!(entries.next().unwrap(), Some((&b"b"[..], &large[..])));
        assert_eq!(entries.next().unwrap().unwrap().0.len(), KEY_BYTES_MAX);
        assert!(entries.next().unwrap().is_none());
    }

    #[test]
    #[should_panic = "keys ascend"]
    fn keys_must_ascend() {
        let mut writer = Writer::create(&SimStorage::new(), LIFE, Lsn(0)).unwrap();
        writer.push(b"b", b"").unwrap();
        let _ = writer.push(b"b", b"");
    }

    #[test]
    fn every_damage_is_seen_and_the_one_before_is_used() {
        let storage = SimStorage::new();
        write(&storage, 8, 3).unwrap();
        write(&storage, 16, 40).unwrap();
        let bytes = storage.len(&name(16)).unwrap();
        for at in 0..bytes {
            let damaged = storage.kill();
            damaged.flip_small(&name(16), at, 1 << (at % 8));
            let snapshot = newest(&damaged).unwrap().unwrap();
            assert_eq!(snapshot.covers(), Lsn(8), "byte {at}");
            assert_eq!(snapshot.passed_over().len(), 1);
            check(&snapshot, 3);
            damaged.truncate_small(&name(16), at);
            assert_eq!(newest(&damaged).unwrap().unwrap().covers(), Lsn(8), "cut at {at}");
            damaged.flip_small(&name(8), 50, 1);
            assert!(matches!(newest(&damaged), Err(Error::Checkpoint { .. })));
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let storage = SimStorage::new();
        write(&storage, 16, 200).unwrap();
        let bytes = storage.len(&name(16)).unwrap();
        let mut random = Random(3);
        for _ in 0..500 {
            let damaged = storage.kill();
            for _ in 0..1 + random.below(20) {
                damaged.flip_small(&name(16), random.below(bytes), random.next_u64() as u8 | 1);
            }
            assert!(newest(&damaged).is_err());
        }
    }

    #[test]
    fn a_crash_leaves_the_old_or_the_new() {
        for seed in 0..300 {
            let storage = SimStorage::new();
            write(&storage, 8, 5).unwrap();
            write(&storage, 16, 50).unwrap();
            let mut writer = Writer::create(&storage, LIFE, Lsn(24)).unwrap();
            (0..5000u64).for_each(|n| writer.push(&n.to_be_bytes(), &value(n)).unwrap());
            if seed % 3 == 0 {
                storage.fail_sync(seed % 2);
                assert!(writer.finish().is_err());
            } else if seed % 3 == 1 {
                writer.finish().unwrap();
            }
            let snapshot = newest(&storage.crash(seed)).unwrap().unwrap();
            match snapshot.covers().0 {
                16 if seed % 3 != 1 => check(&snapshot, 50),
                24 => check(&snapshot, 5000),
                other => panic!("{other} at {seed}"),
            }
        }
    }
}
