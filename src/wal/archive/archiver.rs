//! The thread that archives: one segment after the other, oldest first, each as soon as nothing of it can
//! change any more.
//!
//! A segment's way: every record is checked; the file is written aside, synced a mebibyte at a time, and read
//! back; it gets its name, and the directory is synced; only then the segment may be recycled. A crash
//! between any two steps leaves the segment where it is, and the next life does it again. What stands in the
//! way (a full disk, a directory that is not there, damage) is told and tried again, later and later.

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Archive,
    catalog::{self, Entry, Key},
    format::{self, ASIDE, Head, Packer},
};
use crate::wal::{
    error::Error,
    image,
    log::Inner,
    now_ms,
    ring::Segment,
    segment::{self, Header},
    storage::{SegmentMemory, Storage},
    sync::Ordering,
};

/// How far it stands behind those who serve (`nice(2)`).
const NICE: i32 = 10;
/// How often it looks for work if nobody says that there is some.
const POLL: Duration = Duration::from_secs(1);
/// How often it looks for what is too old.
const AGE_LOOK: Duration = Duration::from_secs(60);
/// After an attempt that failed; twice as long after each further one.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Written to the disk at a time: the log's own syncs wait behind whatever it has been given.
const UNSYNCED_BYTES_MAX: usize = 1 << 20;

/// What the thread knows.
pub struct Archiver<S: Storage> {
    inner: Arc<Inner<S>>,
    aged: Option<Instant>,
    retry: Duration,
}

impl<S: Storage> Archiver<S> {
    /// Begins with the oldest segment.
    pub fn new(inner: Arc<Inner<S>>) -> Self {
        Self { inner, aged: None, retry: RETRY_MIN }
    }

    /// Works until the log stops.
    pub fn run(mut self) {
        let inner = self.inner.clone();
        let Some(archive) = &inner.archive else { return };
        // On Linux a thread's own. Where it is not granted, archiving only takes more from requests.
        let _ = rustix::process::setpriority_process(None, NICE);
        inner.archiver.belongs_to_me();
        while !self.is_over() {
            match self.round(archive) {
                Ok(true) => self.worked(archive),
                Ok(false) => inner.archiver.sleep(POLL, || self.has_work(archive)),
                Err(_) if self.is_over() => return,
                Err(error) => {
                    let pause = self.failed(archive, &error);
                    self.rest(pause);
                }
            }
        }
    }

    fn has_work(&self, archive: &Archive<S>) -> bool {
        self.is_over() || self.is_done(archive, self.inner.lives.behind_gap(archive.to()))
    }

    fn is_over(&self) -> bool {
        self.inner.core.is_closing() || self.inner.core.is_stopped()
    }

    fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.inner.archiver.sleep(left, || self.is_over());
        }
    }

    fn worked(&mut self, archive: &Archive<S>) {
        self.retry = RETRY_MIN;
        if archive.counters.failing.swap(0, Ordering::Relaxed) > 0 {
            tracing::info!("segments of the log are archived again");
        }
    }

    /// Tells it; returns how long to wait.
    fn failed(&mut self, archive: &Archive<S>, error: &Error) -> Duration {
        archive.counters.failures.fetch_add(1, Ordering::Relaxed);
        archive.counters.failing.store(1, Ordering::Relaxed);
        let pause = self.retry;
        self.retry = (pause * 2).min(RETRY_MAX);
        let retry_ms = pause.as_millis() as u64;
        tracing::error!(%error, retry_ms, "a segment can't be archived; the log keeps it meanwhile");
        pause
    }

    /// Archives the next segment, if one is full; false if there is nothing to do.
    fn round(&mut self, archive: &Archive<S>) -> Result<bool, Error> {
        let inner = self.inner.clone();
        archive.find(&inner.storage, &inner.lives)?;
        let at = inner.lives.behind_gap(archive.to());
        let next = inner.segment_of(at);
        let Some(segment) = next.filter(|s| self.is_done(archive, s.base)) else {
            return self.forget_aged(archive);
        };
        let began = Instant::now();
        if let Some(storage) = archive.open(&inner.storage, true)? {
            self.archive(archive, storage, &segment)?;
        }
        let end = segment.base + archive.segment_bytes;
        drop(segment);
        archive.to.store(end, Ordering::Release);
        archive.look_at_begin(&inner.lives);
        let busy_ms = began.elapsed().as_millis() as u64;
        archive.counters.busy_ms.fetch_add(busy_ms, Ordering::Relaxed);
        inner.core.provisioner.notify();
        Ok(true)
    }

    /// Whether all of the segment at `base` was durable, says a durable mark: no start cuts it any more.
    fn is_done(&self, archive: &Archive<S>, base: u64) -> bool {
        base + archive.segment_bytes <= archive.marked.load(Ordering::Acquire)
    }

    fn archive(
        &self,
        archive: &Archive<S>,
        storage: &S,
        segment: &Segment<S::Segment>,
    ) -> Result<(), Error> {
        let head = self.head(archive, segment)?;
        let key = (segment.index, archive.by.0);
        if archive.catalog().has(key) && self.is_there(storage, key, &head)? {
            return Ok(());
        }
        self.make_room(archive, storage)?;
        let written = self.write(storage, segment, &head);
        let bytes = match written {
            Ok(bytes) => bytes,
            Err(error) => {
                // Half a file is of no use, and its room may be what others need.
                let _ = storage.remove(ASIDE);
                return Err(error);
            }
        };
        let name = catalog::name_of(key);
        let io = |what: &str| Error::io(format!("{what} {}", storage.place(&name)));
        storage.rename(ASIDE, &name).map_err(io("renaming to"))?;
        storage.sync_dir().map_err(io("syncing the directory of"))?;
        archive.catalog().put(key, Entry::new(bytes, &head));
        let counters = &archive.counters;
        counters.archived.fetch_add(1, Ordering::Relaxed);
        counters.bytes_in.fetch_add(archive.segment_bytes, Ordering::Relaxed);
        counters.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Reads the whole segment: damage is not archived.
    fn head(&self, archive: &Archive<S>, segment: &Segment<S::Segment>) -> Result<Head, Error> {
        let bytes = archive.segment_bytes;
        let walked = image::check(&self.inner.storage, segment, bytes)?;
        let place = self.inner.storage.place(&segment::name(segment.index));
        let header = Header::read(segment.memory.header());
        let header =
            header.map_err(|what| Error::Format { file: place.clone(), what: what.into() })?;
        let mut crc = 0;
        let mut sum = |piece: &[u8]| {
            crc = crc32c::crc32c_append(crc, piece);
            self.go_on()
        };
        image::give(segment, bytes, &mut sum).map_err(Error::io(format!("reading {place}")))?;
        let (first_ms, last_ms) = (walked.first_ms, walked.last_ms);
        Ok(Head { by: archive.by, records: walked.records, first_ms, last_ms, crc, header })
    }

    /// Whether the file that is there is this segment's: then an earlier start of the server wrote it. If it
    /// can't be read it is written again.
    fn is_there(&self, storage: &S, key: Key, head: &Head) -> Result<bool, Error> {
        let name = catalog::name_of(key);
        let place = storage.place(&name);
        let said = || Error::io(format!("reading {place}"));
        let mut file = match storage.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(said())?,
        };
        match Head::read_from(&mut file, &place) {
            Ok(there) if there == *head => Ok(true),
            Ok(_) => Err(format::damaged(
                &place,
                "holds another segment than the log has under this name: the data directory was set back \
                 without `holdfast restore`; move the file away",
            )),
            Err(Error::Archive { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Writes the file aside, whole and on the disk; returns its bytes.
    fn write(&self, storage: &S, segment: &Segment<S::Segment>, head: &Head) -> Result<u64, Error> {
        let place = storage.place(ASIDE);
        let said = || Error::io(format!("writing {place}"));
        let file = storage.create(ASIDE).map_err(said())?;
        let paced = Paced { storage, file, unsynced_bytes: 0, bytes: 0 };
        let mut packer = Packer::new(head, paced).map_err(said())?;
        let mut take = |piece: &[u8]| self.go_on().and_then(|()| packer.take(piece));
        image::give(segment, head.header.segment_bytes, &mut take).map_err(said())?;
        let mut paced = packer.finish().map_err(said())?;
        storage.sync_file(&mut paced.file).map_err(said())?;
        let bytes = paced.bytes;
        drop(paced);
        self.read_back(storage, head)?;
        Ok(bytes)
    }

    /// What was written must be what was read, to the last bit, before anything of it may go.
    fn read_back(&self, storage: &S, head: &Head) -> Result<(), Error> {
        let place = storage.place(ASIDE);
        let file = storage.open(ASIDE).map_err(Error::io(format!("reading {place} back")))?;
        match format::read_through(file, Path::new(&place))? == *head {
            true => Ok(()),
            false => Err(format::damaged(&place, "is not what was written")),
        }
    }

    /// An error once the log closes: what is not done then the next start does.
    fn go_on(&self) -> io::Result<()> {
        if self.is_over() { Err(io::Error::other("the log closes")) } else { Ok(()) }
    }

    /// Removes the oldest files until the next one fits the bound.
    fn make_room(&self, archive: &Archive<S>, storage: &S) -> Result<(), Error> {
        let needs = format::packed_bytes_max(archive.segment_bytes);
        loop {
            let (oldest, (_, bytes)) = {
                let catalog = archive.catalog();
                (catalog.first(), catalog.sums())
            };
            match oldest {
                Some(key) if bytes + needs > archive.options.bytes_max => {
                    self.forget(archive, storage, key)?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Removes the oldest file if its time is over; false if there is none.
    fn forget_aged(&mut self, archive: &Archive<S>) -> Result<bool, Error> {
        let Some(storage) = archive.storage.get() else { return Ok(false) };
        if self.aged.is_some_and(|aged| aged.elapsed() < AGE_LOOK) {
            return Ok(false);
        }
        let over = |last_ms: u64| last_ms.saturating_add(archive.options.horizon_ms) < now_ms();
        let first = archive.catalog().first_aged();
        if let Some((key, _)) = first.filter(|(_, last_ms)| over(*last_ms)) {
            self.forget(archive, storage, key)?;
            return Ok(true);
        }
        self.aged = Some(Instant::now());
        Ok(false)
    }

    fn forget(&self, archive: &Archive<S>, storage: &S, key: Key) -> Result<(), Error> {
        let name = catalog::name_of(key);
        let io = |what: &str| Error::io(format!("{what} {}", storage.place(&name)));
        match storage.remove(&name) {
            // Somebody else has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(io("removing"))?,
        }
        storage.sync_dir().map_err(io("syncing the directory of"))?;
        archive.catalog().remove(key);
        archive.look_at_begin(&self.inner.lives);
        archive.counters.removed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A file that is synced little by little, and counted.
struct Paced<'a, S: Storage> {
    storage: &'a S,
    file: S::Writer,
    unsynced_bytes: usize,
    bytes: u64,
}

impl<S: Storage> Write for Paced<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        self.unsynced_bytes += written;
        if self.unsynced_bytes >= UNSYNCED_BYTES_MAX {
            self.unsynced_bytes = 0;
            self.storage.sync_file(&mut self.file)?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
