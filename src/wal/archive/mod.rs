//! The archive: what the log lets go, compressed, kept for a configured time.
//!
//! # Constraints
//!
//! - A segment is recycled only once its archived file is whole and on the disk under its name. If it can't
//!   be written, the segment stays, the log's own limits do what they do, and a metric and an error tell it.
//! - Nobody who appends waits for it. One thread that stands back (`nice(2)`) writes one segment after the
//!   other, syncs each mebibyte of it, and reads it back before the segment may go.
//! - Nothing is overwritten: a restored log is another life and archives under its own name, so that what
//!   one life wrote behind the place that another was restored at stays as it is.
//! - It is bounded, in bytes and in time; what is oldest goes first.
//! - A file that is not what it was is an error that names it, never a panic and never a wrong record.
//!
//! # Layout
//!
//! A file for each segment, `<index>-<life>.log.lz4` in hexadecimal: a skippable frame with a head
//! (`format`), and the segment's file as one LZ4 frame, so that `lz4 -d` makes the segment of it again.
//!
//! # Operation
//!
//! A segment is archived as soon as it is full and a durable mark says that all of it was on the disk
//! (`archiver`): from then on nothing of it can change. So the archive reaches nearly to the log's end, not
//! only to what the log has let go, and a backup and the archive together bring a lost log back up to the last
//! full segment. [`LookBack`] reads records that the log has let go; `find` tells what is in a directory.

mod archiver;
mod catalog;
pub(super) mod find;
pub(super) mod format;
mod look_back;

use std::{
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

pub(super) use archiver::Archiver;
pub use look_back::{LOOK_BACK_SEGMENTS_MAX, LookBack};

use super::{
    error::Error,
    image::SegmentImage,
    lives::Lives,
    storage::Storage,
    sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock},
};
use crate::model::{Incarnation, Lsn};
use catalog::Catalog;

/// The name of the archive's directory in the data directory, unless another one is named.
pub const FOLDER: &str = "archive";

const GIB: u64 = 1 << 30;
const DAY_MS: u64 = 86_400_000;

/// Segments that are unpacked in memory at a time, whoever reads them.
pub const UNPACKED_SEGMENTS_MAX: u64 = 4;
/// How long who wants to read waits for others who do.
const TURN_MAX: Duration = Duration::from_secs(5);
const TURN_LOOK: Duration = Duration::from_millis(5);

/// How segments are archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveOptions {
    /// Where; `None`: in `archive` in the data directory. Default: `None`.
    pub dir: Option<PathBuf>,
    /// What all files may take, at least two segments; the oldest go first. Default: 16 GiB.
    pub bytes_max: u64,
    /// How long a file is kept after its last record. Default: 30 days.
    pub horizon_ms: u64,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self { dir: None, bytes_max: 16 * GIB, horizon_ms: 30 * DAY_MS }
    }
}

impl ArchiveOptions {
    pub(super) fn check(&self, segment_bytes: u64) -> Result<(), Error> {
        if self.bytes_max < 2 * format::packed_bytes_max(segment_bytes) {
            return Err(Error::Options("archive.bytes_max must have room for two segments"));
        }
        if self.horizon_ms == 0 {
            return Err(Error::Options("archive.horizon_ms must be more than 0"));
        }
        Ok(())
    }
}

/// Figures about an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchiveStats {
    /// Files there.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What they may take.
    pub bytes_max: u64,
    /// Where the part begins that joins the log without a gap.
    pub begin: Lsn,
    /// Everything below is archived.
    pub end: Lsn,
    /// Full segments that are not archived yet.
    pub waiting: u64,
    /// Segments archived since the log was opened.
    pub archived: u64,
    /// Bytes of segments that went in, and of files that came out, since then.
    pub bytes_in: u64,
    /// See `bytes_in`.
    pub bytes_out: u64,
    /// Attempts that failed since then.
    pub failures: u64,
    /// 1 after an attempt that failed, until one succeeds.
    pub failing: u64,
    /// Files removed since then, by age or for room.
    pub removed: u64,
    /// Milliseconds that archiving took, all together.
    pub busy_ms: u64,
}

#[derive(Debug, Default)]
struct Counters {
    archived: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    failures: AtomicU64,
    failing: AtomicU64,
    removed: AtomicU64,
    busy_ms: AtomicU64,
}

/// A log's archive, as its threads and its readers share it.
pub(super) struct Archive<S: Storage> {
    options: ArchiveOptions,
    /// The life that archives.
    by: Incarnation,
    segment_bytes: u64,
    mark_key: u64,
    /// The directory, once there is one.
    storage: OnceLock<S>,
    catalog: Mutex<Catalog>,
    /// Everything of the log below is archived.
    to: AtomicU64,
    /// Where the part begins that joins the log.
    begin: AtomicU64,
    /// Everything below was durable, says a durable mark.
    marked: AtomicU64,
    /// Segments that are unpacked now.
    unpacked: AtomicU64,
    counters: Counters,
}

impl<S: Storage> Archive<S> {
    /// That of a log whose first segment begins at `oldest`.
    pub(super) fn new(
        options: ArchiveOptions,
        by: Incarnation,
        (segment_bytes, mark_key): (u64, u64),
        oldest: u64,
    ) -> Self {
        Self {
            options,
            by,
            segment_bytes,
            mark_key,
            storage: OnceLock::new(),
            catalog: Mutex::new(Catalog::default()),
            to: AtomicU64::new(oldest),
            begin: AtomicU64::new(oldest),
            marked: AtomicU64::new(0),
            unpacked: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        lock(&self.catalog)
    }

    /// Everything of the log below is archived.
    pub(super) fn to(&self) -> u64 {
        self.to.load(Ordering::Acquire)
    }

    /// A durable mark says that everything below was durable; true if a segment is full by that.
    pub(super) fn name_durable(&self, durable: u64) -> bool {
        let before = self.marked.fetch_max(durable, Ordering::AcqRel);
        before / self.segment_bytes < durable / self.segment_bytes
    }

    /// Where the part begins that joins the log; nothing of it may be there.
    pub(super) fn begin(&self) -> u64 {
        self.begin.load(Ordering::Acquire)
    }

    /// The life that a position of a segment was written in that the log has let go.
    pub(super) fn incarnation_at(&self, position: u64) -> Option<Incarnation> {
        let index = position / self.segment_bytes;
        let found = self.catalog().of_index(index, self.by.0)?;
        Some(found.1.life.incarnation)
    }

    /// The directory; if there is none yet, and it is not to be made, nothing.
    fn open(&self, log: &S, make: bool) -> Result<Option<&S>, Error> {
        if let Some(storage) = self.storage.get() {
            return Ok(Some(storage));
        }
        let Some(storage) = log.archive(self.options.dir.as_deref(), make)? else {
            return Ok(None);
        };
        *self.catalog() = Catalog::load(&storage)?;
        Ok(Some(self.storage.get_or_init(|| storage)))
    }

    /// Opens the directory, if it is there.
    pub(super) fn find(&self, log: &S, lives: &Lives) -> Result<(), Error> {
        if self.storage.get().is_none() && self.open(log, false)?.is_some() {
            self.look_at_begin(lives);
        }
        Ok(())
    }

    /// Finds out where the part begins that joins the log.
    fn look_at_begin(&self, lives: &Lives) {
        let sizes = (self.segment_bytes, self.by.0);
        let begin = self.catalog().find_row(self.to(), lives, sizes);
        self.begin.store(begin, Ordering::Release);
    }

    /// The position, or where the gap between two lives ends that it lies in.
    pub(super) fn behind_gap(&self, position: u64) -> u64 {
        self.catalog().behind_gap(position)
    }

    /// Where the segment ends that stands before the one at `base`, over lives too.
    fn before_gap(&self, base: u64) -> u64 {
        self.catalog().before_gap(base)
    }

    /// How many segments there are between two positions of the part that joins the log.
    fn count(&self, from: u64, to: u64) -> u64 {
        self.catalog().indices(from, to, self.segment_bytes).len() as u64
    }

    /// Where the first segment begins, of the part that joins the log, with something later than a time.
    fn first_after(&self, time_ms: u64) -> Option<u64> {
        let catalog = self.catalog();
        let is_later = |index: &u64| {
            let found = catalog.of_index(*index, self.by.0);
            found.and_then(|(_, entry)| entry.last_ms).is_some_and(|last_ms| last_ms > time_ms)
        };
        let all = catalog.indices(self.begin(), self.to(), self.segment_bytes);
        all.into_iter().find(is_later).map(|index| index * self.segment_bytes)
    }

    /// Unpacks a segment; its place must have been taken before.
    ///
    /// # Errors
    /// [`Error::Archived`] if it is not there, what is wrong with the file.
    fn unpack(&self, index: u64) -> Result<SegmentImage, Error> {
        let gone = || {
            let lsn = Lsn(index.saturating_mul(self.segment_bytes));
            Error::Archived { lsn, oldest: Lsn(self.begin()) }
        };
        let storage = self.storage.get().ok_or_else(gone)?;
        let ((index, by), entry) = self.catalog().of_index(index, self.by.0).ok_or_else(gone)?;
        let name = format::name(index, Incarnation(by));
        let place = storage.place(&name);
        let said = || Error::io(format!("reading {place}"));
        let mut file = match storage.open(&name) {
            // Its time has come while it was looked for.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
            other => other.map_err(said())?,
        };
        let head = format::Head::of_file(&mut file, (index, by), &place)?;
        let header = &head.header;
        let log = (header.mark_key, header.segment_bytes, header.life);
        if log != (self.mark_key, self.segment_bytes, entry.life) {
            return Err(format::damaged(&place, "is of another log"));
        }
        head.unpack(file, Path::new(&place))
    }

    /// Takes one of the places for an unpacked segment, to be left by [`Archive::leave`].
    ///
    /// # Errors
    /// [`Error::ArchiveBusy`] if others keep them for too long.
    fn enter(&self) -> Result<(), Error> {
        let until = Instant::now() + TURN_MAX;
        let one_more = |taken| (taken < UNPACKED_SEGMENTS_MAX).then_some(taken + 1);
        while self.unpacked.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_err() {
            if Instant::now() >= until {
                return Err(Error::ArchiveBusy);
            }
            std::thread::sleep(TURN_LOOK);
        }
        Ok(())
    }

    fn leave(&self) {
        self.unpacked.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether a segment from `base` on is full and not archived.
    pub(super) fn waits(&self, base: u64) -> bool {
        let marked = self.marked.load(Ordering::Acquire);
        base >= self.to() && base + self.segment_bytes <= marked
    }

    /// Figures; `waiting` segments wait.
    pub(super) fn stats(&self, waiting: u64) -> ArchiveStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let (segments, bytes) = self.catalog().sums();
        ArchiveStats {
            segments,
            bytes,
            bytes_max: self.options.bytes_max,
            begin: Lsn(self.begin()),
            end: Lsn(self.to()),
            waiting,
            archived: load(&counters.archived),
            bytes_in: load(&counters.bytes_in),
            bytes_out: load(&counters.bytes_out),
            failures: load(&counters.failures),
            failing: load(&counters.failing),
            removed: load(&counters.removed),
            busy_ms: load(&counters.busy_ms),
        }
    }
}

/// Reads an archived file through, every checksum and every record of it, and tells how many records there are,
/// the log's own apart; `path` is what it is called if something is wrong.
///
/// # Errors
/// It can't be read, or is not what was archived.
pub fn read_through(file: impl io::Read, path: &Path) -> Result<u64, Error> {
    format::read_through(file, path).map(|head| head.records)
}
