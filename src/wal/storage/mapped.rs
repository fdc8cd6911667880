//! A segment file in memory, and how what is stored there comes onto the disk.
//!
//! Mapped privately, what is written to is memory of the process: all of a segment that begins, and
//! otherwise each page from the first store on. A sync writes the bytes it was asked for from there into the
//! file, durably and with one call, and lets go of what will not be written to any more, in favour of the
//! page cache, which has the same. Mapped shared, memory and page cache are one, and a sync is `msync`.

#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use rustix::{
    io::{Errno, ReadWriteFlags, pwritev2},
    mm::{MapFlags, ProtFlags, mmap, mmap_anonymous},
};

use super::{
    Mapping, Memory, PAGE_BYTES, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_WORDS, SegmentMemory,
};

/// Memory of the process is given back in pieces of so many bytes, as large as the kernel's large pages, and at
/// their places: each takes an interrupt to the other processors.
const PIECE_BYTES: u64 = 2 << 20;

/// A mapped segment file.
#[derive(Debug)]
pub struct MappedSegment {
    map: MmapRaw,
    file: File,
    mapping: Mapping,
    /// The file system writes and syncs with one call, as far as is known.
    writes_durably: AtomicBool,
}

impl MappedSegment {
    /// Maps the first `bytes` of a file, all of whose blocks are real.
    pub(super) fn new(file: File, bytes: u64, mapping: Mapping) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(usize::try_from(bytes).map_err(io::Error::other)?);
        let map = match mapping {
            Mapping::Shared => options.map_raw(&file)?,
            // SAFETY: the directory's lock keeps other processes out of the file, which is never
            // truncated; within this one all access is by atomics, or by byte views of what no longer
            // changes.
            Mapping::Private => unsafe { options.map_copy(&file)? }.into(),
        };
        Ok(Self { map, file, mapping, writes_durably: AtomicBool::new(true) })
    }

    /// Makes the bytes `[from, to)` of the file durable.
    fn make_durable(&self, from: u64, to: u64) -> io::Result<()> {
        match self.mapping {
            Mapping::Shared => {
                self.unmap_full_pages(from, to);
                self.map.flush_range(from as usize, (to - from) as usize)
            }
            Mapping::Private => {
                self.write(from, to)?;
                self.let_go(from, to);
                Ok(())
            }
        }
    }

    /// Writes the bytes `[from, to)` of the memory to the same place of the file, durably.
    fn write(&self, from: u64, to: u64) -> io::Result<()> {
        let (mut at, end) = (from as usize, to as usize);
        assert!(at <= end && end <= self.map.len(), "what is synced lies within the segment");
        while at < end {
            // SAFETY: the range lies within the mapping. Who syncs asks only for what is published, or
            // before anybody else knows of the segment, so nobody writes there meanwhile.
            let bytes = unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(at), end - at) };
            at += self.write_some(bytes, at as u64)?;
        }
        Ok(())
    }

    fn write_some(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        if self.writes_durably.load(Ordering::Relaxed) {
            match pwritev2(&self.file, &[IoSlice::new(bytes)], at, ReadWriteFlags::DSYNC) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => return Ok(written),
                Err(Errno::INTR) => return Ok(0),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.writes_durably.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.file.write_all_at(bytes, at)?;
        self.file.sync_data()?;
        Ok(bytes.len())
    }

    /// Of a shared mapping, unmaps the pages that end in `[from, to)`: nobody will write to them any more. To
    /// write a mapped page back, the kernel takes the right to write to it away on every processor, one
    /// interrupt a page; this does so for all of them at once. What they hold stays in the page cache,
    /// dirty, and a reader faults them in again.
    fn unmap_full_pages(&self, from: u64, to: u64) {
        let (from, to) = (from / PAGE_BYTES * PAGE_BYTES, to / PAGE_BYTES * PAGE_BYTES);
        if from >= to {
            return;
        }
        let (at, bytes) = (from as usize, (to - from) as usize);
        // SAFETY: the mapping is shared and backed by a file, so its pages' content is that of the page
        // cache, which keeps it; the range lies within the mapping.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, at, bytes) };
    }

    /// Of a private mapping, maps the file in the place of the pieces that end in `[from, to)`, all of which
    /// is in the file: nobody will write to them any more.
    fn let_go(&self, from: u64, to: u64) {
        let (begin, bytes) = (self.map.as_ptr().addr() as u64, self.map.len() as u64);
        let piece_of = |at: u64| ((begin + at) / PIECE_BYTES * PIECE_BYTES).saturating_sub(begin);
        let (from, to) = (piece_of(from), if to == bytes { to } else { piece_of(to) });
        if from >= to {
            return;
        }
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        // SAFETY: the range lies within the mapping, at pages' borders, and belongs to it alone. What is
        // mapped there instead is the same: the file has been written up to `to`, and the kernel changes
        // one for the other under a lock, so that a reader sees one of them. If it can't be done, the
        // memory stays.
        let _ = unsafe {
            let at = self.map.as_mut_ptr().add(from as usize).cast();
            mmap(at, (to - from) as usize, access(), flags, &self.file, from)
        };
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, lives as long as `self`, and has as many bytes; it is
        // only ever touched through atomics, or through byte views of what no longer changes. The
        // directory's lock keeps other processes out; the file is never truncated.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.map.len() / 8) }
    }
}

impl Memory for MappedSegment {
    fn payload(&self) -> &[AtomicU64] {
        &self.words()[SEGMENT_HEADER_BYTES as usize / 8..]
    }
}

/// What a mapping is for.
fn access() -> ProtFlags {
    ProtFlags::READ | ProtFlags::WRITE
}

impl SegmentMemory for MappedSegment {
    fn header(&self) -> [u64; SEGMENT_HEADER_WORDS] {
        std::array::from_fn(|at| u64::from_le(self.words()[at].load(Ordering::Acquire)))
    }

    fn set_header(&self, words: [u64; SEGMENT_HEADER_WORDS]) {
        for (word, value) in self.words().iter().zip(words) {
            word.store(value.to_le(), Ordering::Release);
        }
    }

    fn sync_header(&self) -> io::Result<()> {
        self.make_durable(0, SEGMENT_HEADER_BYTES)
    }

    fn sync(&self, from: u64, to: u64) -> io::Result<()> {
        if from >= to {
            return Ok(());
        }
        self.make_durable(SEGMENT_HEADER_BYTES + from, SEGMENT_HEADER_BYTES + to)
    }

    fn rewrite(&self, from: u64, to: u64) {
        if self.mapping == Mapping::Private {
            // A sync writes in any case.
            return;
        }
        for page in (from / PAGE_BYTES..to.div_ceil(PAGE_BYTES)).map(|page| page * PAGE_BYTES) {
            // A store that the compiler can't see to be of what is there already: it drops an
            // update that changes nothing, and the page would stay clean.
            let word = &self.payload()[page as usize / 8];
            word.store(std::hint::black_box(word.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
    }

    fn clear(&mut self) -> io::Result<()> {
        if self.mapping == Mapping::Shared {
            // What is zero already stays clean.
            let used = |word: &&AtomicU64| word.load(Ordering::Relaxed) != 0;
            self.payload().iter().filter(used).for_each(|word| word.store(0, Ordering::Relaxed));
            return Ok(());
        }
        let (at, bytes) = (SEGMENT_HEADER_BYTES as usize, self.map.len());
        // SAFETY: the range lies within the mapping, at pages' borders, and belongs to it alone; nobody
        // else has a reference to it.
        unsafe {
            let at = self.map.as_mut_ptr().add(at).cast();
            mmap_anonymous(
                at,
                bytes - SEGMENT_HEADER_BYTES as usize,
                access(),
                MapFlags::PRIVATE | MapFlags::FIXED,
            )?;
        }
        // Fewer faults and fewer entries where the kernel has large pages.
        let _ = self.map.advise_range(Advice::HugePage, at, bytes - at);
        Ok(())
    }

    fn populate(&self) {
        // A kernel without it faults the pages in one by one, as they are needed.
        let _ = self.map.advise_range(Advice::PopulateWrite, 0, self.map.len());
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::wal::{FileStorage, storage::Storage};

    const BYTES: u64 = SEGMENT_HEADER_BYTES + (4 << 20);

    fn segment(dir: &Path, mapping: Mapping) -> MappedSegment {
        let storage = FileStorage::new(dir).unwrap();
        storage.allocate("a", BYTES).unwrap();
        storage.zero("a", BYTES, mapping).unwrap();
        assert!(storage.map("a", BYTES - PAGE_BYTES, mapping).is_err());
        let segment = storage.map("a", BYTES, mapping).unwrap();
        segment.populate();
        assert_eq!(segment.payload().len(), 4 << 17);
        segment
    }

    fn word_in_file(dir: &Path, word: u64) -> u64 {
        let mut bytes = [0; 8];
        let file = File::open(dir.join("a")).unwrap();
        file.read_exact_at(&mut bytes, SEGMENT_HEADER_BYTES + word * 8).unwrap();
        u64::from_le_bytes(bytes)
    }

    #[test]
    fn what_is_synced_is_in_the_file_however_it_is_mapped() {
        for mapping in [Mapping::Shared, Mapping::Private] {
            let dir = tempfile::tempdir().unwrap();
            let segment = segment(dir.path(), mapping);
            segment.payload()[3].store(7, Ordering::Relaxed);
            segment.set_header([9; SEGMENT_HEADER_WORDS]);
            segment.sync(24, 32).unwrap();
            segment.sync_header().unwrap();
            segment.rewrite(0, 4096);
            segment.sync(0, 4096).unwrap();
            drop(segment);
            let bytes = fs::read(dir.path().join("a")).unwrap();
            assert_eq!((bytes[0], bytes[4096 + 24]), (9, 7));
        }
    }

    #[test]
    fn a_store_is_in_the_file_at_once_if_shared_and_with_a_sync_of_it_if_private() {
        for mapping in [Mapping::Shared, Mapping::Private] {
            let dir = tempfile::tempdir().unwrap();
            let segment = segment(dir.path(), mapping);
            segment.payload()[0].store(1, Ordering::Relaxed);
            segment.payload()[1].store(2, Ordering::Relaxed);
            let at_once = mapping == Mapping::Shared;
            assert_eq!(word_in_file(dir.path(), 0), u64::from(at_once));
            segment.sync(0, 8).unwrap();
            assert_eq!(word_in_file(dir.path(), 0), 1);
            assert_eq!(word_in_file(dir.path(), 1), if at_once { 2 } else { 0 });
        }
    }

    /// Group after group, of odd sizes, over the places where memory is given back.
    #[test]
    fn what_was_synced_is_read_back_and_what_was_not_is_still_there() {
        for (mapping, durably) in
            [(Mapping::Shared, true), (Mapping::Private, true), (Mapping::Private, false)]
        {
            let dir = tempfile::tempdir().unwrap();
            let segment = segment(dir.path(), mapping);
            segment.writes_durably.store(durably, Ordering::Relaxed);
            let words = segment.payload();
            let (mut synced, group) = (0, 7_919);
            for (at, word) in words.iter().enumerate() {
                word.store(at as u64 + 1, Ordering::Relaxed);
                // One more word is stored already, as the next group's would be.
                if at > synced + group || at + 1 == words.len() {
                    segment.sync(synced as u64 * 8, at as u64 * 8).unwrap();
                    synced = at;
                }
            }
            let whole =
                |(at, word): (usize, &AtomicU64)| word.load(Ordering::Relaxed) == at as u64 + 1;
            assert!(words.iter().enumerate().all(whole));
            for word in [0, 131_071, 131_072, synced as u64 - 1] {
                assert_eq!(word_in_file(dir.path(), word), word + 1, "{mapping:?}");
            }
        }
    }

    #[test]
    fn what_is_cleared_is_zero_in_memory_and_written_again_by_a_sync() {
        for mapping in [Mapping::Shared, Mapping::Private] {
            let dir = tempfile::tempdir().unwrap();
            let mut segment = segment(dir.path(), mapping);
            let bytes = 8 * segment.payload().len() as u64;
            for generation in 1..4 {
                segment.payload().iter().for_each(|word| word.store(generation, Ordering::Relaxed));
                segment.sync(0, bytes).unwrap();
                assert_eq!(word_in_file(dir.path(), bytes / 8 - 1), generation);
                segment.clear().unwrap();
                segment.populate();
                assert!(segment.payload().iter().all(|word| word.load(Ordering::Relaxed) == 0));
                segment.payload()[1].store(9, Ordering::Relaxed);
                segment.sync(0, 4096).unwrap();
                let words = [0, 1, 2].map(|word| word_in_file(dir.path(), word));
                assert_eq!(words, [0, 9, 0], "{mapping:?}");
            }
        }
    }

    #[test]
    #[should_panic = "within the segment"]
    fn a_sync_beyond_the_segment_is_a_fault_and_reads_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let _ = segment(dir.path(), Mapping::Private).sync(0, 5 << 20);
    }
}
