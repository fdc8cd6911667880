//! Real files under an exclusive lock, mapped.
//!
//! Zeros are written in 4 KiB pieces on purpose: large writes leave large folios in the page cache,
//! and then every small sync writes a megabyte.

#![allow(unsafe_code)]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};

use super::{PAGE_BYTES, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_WORDS, SegmentMemory, Storage};
use crate::wal::{error::Error, ring::Memory};

const LOCK_NAME: &str = "LOCK";

/// A directory of real files, locked for this process.
#[derive(Debug, Clone)]
pub struct FileStorage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    handle: File,
    _lock: File,
}

impl FileStorage {
    /// Opens a directory, making it if need be, and locks it until the last clone is dropped.
    pub fn new(dir: &Path) -> Result<Self, Error> {
        let dir = dir.to_path_buf();
        let said = |what: &str| Error::io(format!("{what} {}", dir.display()));
        fs::create_dir_all(&dir).map_err(said("making the data directory"))?;
        let handle = File::open(&dir).map_err(said("opening the data directory"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK_NAME))
            .map_err(said("opening the lock file in"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Locked { dir: dir.display().to_string() });
            }
            Err(other) => return Err(said("locking")(other.into())),
        }
        if let Some(parent) = dir.parent()
            && let Ok(parent) =
                File::open(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
        {
            parent.sync_all().map_err(said("syncing the parent of"))?;
        }
        Ok(Self { inner: Arc::new(Inner { dir, handle, _lock: lock }) })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inner.dir.join(name)
    }
}

impl Storage for FileStorage {
    type Segment = MappedSegment;
    type Writer = File;
    type Reader = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.inner.dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn allocate(&self, name: &str, bytes: u64) -> io::Result<()> {
        let path = self.path(name);
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(|error| {
            let _ = fs::remove_file(&path);
            error.into()
        })
    }

    fn zero(&self, name: &str, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(name))?;
        let zeros = [0u8; PAGE_BYTES as usize];
        for at in (0..bytes).step_by(zeros.len()) {
            file.write_all_at(&zeros, at)?;
            // Little by little: the log's own syncs wait behind whatever the disk has been given.
            if (at + PAGE_BYTES).is_multiple_of(ZEROED_BYTES_MAX) {
                file.sync_data()?;
            }
        }
        file.sync_all()
    }

    fn map(&self, name: &str, bytes: u64) -> io::Result<MappedSegment> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(name))?;
        let has = file.metadata()?.len();
        if has != bytes {
            let message = format!("has {has} bytes instead of {bytes}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        // A copied file may have holes where zeros were, and a store into a hole is a SIGBUS when the
        // disk is full. For blocks that are there this does nothing.
        fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
        MappedSegment::new(&file, bytes)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.inner.handle.sync_all()
    }

    fn create(&self, name: &str) -> io::Result<File> {
        File::create(self.path(name))
    }

    fn sync_file(&self, file: &mut File) -> io::Result<()> {
        file.flush()?;
        file.sync_all()
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name))
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(name))?.len())
    }

    fn place(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// Zeros that are given to the disk at a time.
const ZEROED_BYTES_MAX: u64 = 2 << 20;

/// A segment file, mapped shared.
#[derive(Debug)]
pub struct MappedSegment {
    map: MmapRaw,
}

impl MappedSegment {
    fn new(file: &File, bytes: u64) -> io::Result<Self> {
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        let map = MmapOptions::new().len(bytes).map_raw(file)?;
        Ok(Self { map })
    }

    /// Lets go of the pages that end in `[from, to)`: nobody will write to them any more. To write a
    /// mapped page back, the kernel has to take the right to write to it away on every processor, one
    /// interrupt a page; this takes it away for all of them at once. What they hold stays in the page
    /// cache, dirty, and a reader faults them in again.
    fn unmap_full_pages(&self, from: u64, to: u64) {
        let (from, to) = (from / PAGE_BYTES * PAGE_BYTES, to / PAGE_BYTES * PAGE_BYTES);
        if from >= to {
            return;
        }
        // SAFETY: the mapping is shared and backed by a file, so its pages' content is that of the
        // page cache, which keeps it; the range lies within the mapping.
        let _ = unsafe {
            self.map.unchecked_advise_range(
                memmap2::UncheckedAdvice::DontNeed,
                from as usize,
                (to - from) as usize,
            )
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
        self.map.flush_range(0, SEGMENT_HEADER_BYTES as usize)
    }

    fn sync(&self, from: u64, to: u64) -> io::Result<()> {
        if from >= to {
            return Ok(());
        }
        let (from, to) = (SEGMENT_HEADER_BYTES + from, SEGMENT_HEADER_BYTES + to);
        self.unmap_full_pages(from, to);
        self.map.flush_range(from as usize, (to - from) as usize)
    }

    fn rewrite(&self, from: u64, to: u64) {
        for page in (from / PAGE_BYTES..to.div_ceil(PAGE_BYTES)).map(|page| page * PAGE_BYTES) {
            // A store that the compiler can't see to be of what is there already: it drops an
            // update that changes nothing, and the page would stay clean.
            let word = &self.payload()[page as usize / 8];
            word.store(std::hint::black_box(word.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
    }

    fn populate(&self) {
        // A kernel without it faults the pages in one by one, as they are needed.
        let _ = self.map.advise_range(Advice::PopulateWrite, 0, self.map.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let first = FileStorage::new(dir.path()).unwrap();
        let error = FileStorage::new(dir.path()).unwrap_err();
        assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
        drop(first);
        FileStorage::new(dir.path()).unwrap();
    }

    #[test]
    fn a_segment_is_zeroed_mapped_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let storage = FileStorage::new(dir.path()).unwrap();
        storage.allocate("a", 8192).unwrap();
        storage.zero("a", 8192).unwrap();
        assert!(storage.map("a", 4096).is_err());
        let segment = storage.map("a", 8192).unwrap();
        segment.populate();
        assert_eq!(segment.payload().len(), 512);
        segment.payload()[3].store(7, Ordering::Relaxed);
        segment.set_header([9; SEGMENT_HEADER_WORDS]);
        segment.sync(24, 32).unwrap();
        segment.sync_header().unwrap();
        segment.rewrite(0, 4096);
        drop(segment);
        let bytes = fs::read(dir.path().join("a")).unwrap();
        assert_eq!((bytes[0], bytes[4096 + 24]), (9, 7));
    }
}
