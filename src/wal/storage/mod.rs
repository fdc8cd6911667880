//! The seam under the log: what it needs of a disk, and no more.
//!
//! Two implementations: [`FileStorage`] maps real files; [`sim::SimStorage`] keeps what is in memory
//! and what would survive a loss of power apart, and can lose, tear, flip, fail and fill up.
//!
//! What the log relies on: a file's blocks are real once [`Storage::allocate`] returned, so a store to
//! its mapping can't fail; what [`SegmentMemory::sync`] covered is on the disk once it returned; a
//! rename is atomic, and it, a creation and a removal are on the disk once [`Storage::sync_dir`]
//! returned. It relies on nothing about the order in which unsynced pages reach the disk.

mod file;
mod mapped;
pub mod sim;

use std::{io, path::Path};

pub use file::FileStorage;

pub use super::ring::Memory;
use super::{append::Ack, error::Error};

/// The bytes of a segment file before its payload.
pub const SEGMENT_HEADER_BYTES: u64 = 4096;
/// The words of a segment's header that are used.
pub const SEGMENT_HEADER_WORDS: usize = 11;
/// What is zeroed, synced and lost as one.
pub const PAGE_BYTES: u64 = 4096;

/// How what is stored to a mapped segment comes into its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// By the store itself: it survives a killed process at once, and a lost machine once it is synced. A
    /// sync has to take the right to write away from every processor, and the next store faults to get it
    /// back.
    Shared,
    /// By a sync, which writes it and makes it durable with one call; until then only the process has it.
    /// On two cores of a virtual machine that takes half of the time and of the processor that a shared
    /// mapping takes (`docs/performance.md`).
    Private,
}

impl From<Ack> for Mapping {
    /// A shared one only where an acknowledgement says that a killed process loses nothing.
    fn from(ack: Ack) -> Self {
        match ack {
            Ack::Disk => Self::Private,
            Ack::Memory => Self::Shared,
        }
    }
}

/// The mapped memory of a segment file.
pub trait SegmentMemory: Memory {
    /// The used words of the header.
    fn header(&self) -> [u64; SEGMENT_HEADER_WORDS];
    /// Writes the used words of the header; [`SegmentMemory::sync_header`] makes them durable.
    fn set_header(&self, words: [u64; SEGMENT_HEADER_WORDS]);
    /// Makes the header durable.
    fn sync_header(&self) -> io::Result<()>;
    /// Makes the payload bytes `[from, to)` durable; others may become so too.
    fn sync(&self, from: u64, to: u64) -> io::Result<()>;
    /// Sees to it that the next sync of the payload bytes `[from, to)` writes them even if an earlier one
    /// failed and left the pages of the cache clean.
    fn rewrite(&self, from: u64, to: u64);
    /// Makes the payload zero in memory, before anybody else knows of it; the file may keep what it has
    /// wherever that is not synced later.
    fn clear(&mut self) -> io::Result<()>;
    /// Faults the whole payload in for writing. Only for speed; may do nothing.
    fn populate(&self);
}

/// A disk with one directory.
pub trait Storage: Clone + Send + Sync + 'static {
    /// A mapped segment file.
    type Segment: SegmentMemory;
    /// A small file that is written from its begin to its end.
    type Writer: io::Write + Send;
    /// A small file that is read from its begin.
    type Reader: io::Read + Send;

    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file of `bytes` with real blocks and unspecified content. On an error nothing is left.
    fn allocate(&self, name: &str, bytes: u64) -> io::Result<()>;
    /// Fills a file that will be mapped so with zeros, and syncs it.
    fn zero(&self, name: &str, bytes: u64, mapping: Mapping) -> io::Result<()>;
    /// Maps a file, which must have exactly `bytes`; sees to it that all its blocks are real.
    fn map(&self, name: &str, bytes: u64, mapping: Mapping) -> io::Result<Self::Segment>;
    /// Renames a file, over another if there is one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Makes or empties a small file.
    fn create(&self, name: &str) -> io::Result<Self::Writer>;
    /// Makes what was written to a small file durable.
    fn sync_file(&self, file: &mut Self::Writer) -> io::Result<()>;
    /// Opens a small file.
    fn open(&self, name: &str) -> io::Result<Self::Reader>;
    /// Bytes of a small file.
    fn len(&self, name: &str) -> io::Result<u64>;
    /// The directory of the archive: `dir`, or one in this one. `None` if it is not there and is not to be made.
    ///
    /// # Errors
    /// It can't be made or opened, or another process has it.
    fn archive(&self, dir: Option<&Path>, make: bool) -> Result<Option<Self>, Error>;
    /// A file's name as a person would look for it.
    fn place(&self, name: &str) -> String;
}
