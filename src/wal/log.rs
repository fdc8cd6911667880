//! The log's handle: options in, a service with its background threads, and what its users call.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

pub(super) use super::inner::Inner;
use super::{
    append::{Core, CoreTicket},
    archive::Archiver,
    commit::Committer,
    counters::Stats,
    error::{Error, NoRoom, Poisoned},
    options::Options,
    provision::Provisioner,
    read::{Pinned, Reader},
    record::Draft,
    recover::recover,
    room::{Lack, RoomClass},
    sample::{self, Timings},
    storage::{FileStorage, Storage},
    sync::{Mutex, Ordering, lock},
};
use crate::model::{Incarnation, Lsn};

/// How often a refused ticket tries again while it waits.
const ROOM_LOOK: Duration = Duration::from_millis(2);

/// The write-ahead log; a handle that is cheap to clone.
pub struct Log<S: Storage = FileStorage> {
    handle: Arc<Handle<S>>,
}

impl<S: Storage> Clone for Log<S> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

struct Handle<S: Storage> {
    inner: Arc<Inner<S>>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl<S: Storage> Drop for Handle<S> {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

impl<S: Storage> Handle<S> {
    fn close(&self) -> Result<(), Poisoned> {
        self.inner.core.close();
        self.inner.archiver.notify();
        for thread in lock(&self.threads).drain(..) {
            // The last handle may be dropped by one of them.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
        match self.inner.why() {
            Poisoned::Closed => Ok(()),
            poisoned => Err(poisoned),
        }
    }
}

/// Stops the log if one of its threads dies, rather than leave those who wait waiting.
struct PoisonOnPanic<S: Storage> {
    inner: Arc<Inner<S>>,
    name: &'static str,
}

impl<S: Storage> Drop for PoisonOnPanic<S> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.inner.poison(Poisoned::Panicked(self.name));
        }
    }
}

impl<S: Storage> Log<S> {
    /// Opens a log, or makes one. What is torn is cut, and everything that is found is made durable
    /// before this returns. `replay_from` is the position that the newest checkpoint covers, or zero.
    pub fn open(storage: S, options: Options, replay_from: Lsn) -> Result<Self, Error> {
        let options = options.checked()?;
        let found = recover(&storage, &options, replay_from)?;
        let (inner, next_index) = Inner::new(storage, options, found);
        inner.find_archive();
        let inner = Arc::new(inner);
        let mut provisioner = Provisioner::new(inner.clone(), next_index);
        if inner.core.room.near() <= 0 {
            provisioner.first().map_err(Error::io("making a segment of the log"))?;
        }
        let log = Self { handle: Arc::new(Handle { inner, threads: Mutex::new(Vec::new()) }) };
        log.start(provisioner).map_err(Error::io("starting a thread"))?;
        Ok(log)
    }

    fn start(&self, provisioner: Provisioner<S>) -> io::Result<()> {
        let committer = Committer::new(self.inner().clone());
        self.spawn("wal-commit", || committer.run())?;
        self.spawn("wal-provision", || provisioner.run())?;
        if self.inner().archive.is_some() {
            let archiver = Archiver::new(self.inner().clone());
            self.spawn("wal-archive", || archiver.run())?;
        }
        Ok(())
    }

    fn spawn(&self, name: &'static str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let on_panic = PoisonOnPanic { inner: self.inner().clone(), name };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(|| {
            let _on_panic = on_panic;
            run();
        })?;
        lock(&self.handle.threads).push(thread);
        Ok(())
    }

    pub(super) fn inner(&self) -> &Arc<Inner<S>> {
        &self.handle.inner
    }

    pub(super) fn core(&self) -> &Core<S::Segment> {
        &self.inner().core
    }

    /// The life of the data directory.
    pub fn incarnation(&self) -> Incarnation {
        self.inner().life.incarnation
    }

    /// The life that a position was written in: another than [`Log::incarnation`] for what a backup
    /// held that the directory was restored from.
    pub fn incarnation_at(&self, lsn: Lsn) -> Incarnation {
        self.inner().incarnation_at(lsn)
    }

    /// The storage under it.
    pub fn storage(&self) -> &S {
        &self.inner().storage
    }

    /// The options that took effect.
    pub fn options(&self) -> &Options {
        &self.inner().options
    }

    /// The largest record, header and padding included.
    pub fn record_bytes_max(&self) -> usize {
        self.inner().options.record_bytes_max as usize
    }

    /// Room for one record of at most `record_bytes` (see [`Draft::bytes_for`]), and `closing_bytes`
    /// set aside for the records that will close what it opens. The only place where the log refuses;
    /// may wait up to `room_wait_ms_max`.
    ///
    /// # Panics
    /// If `record_bytes` is more than [`Log::record_bytes_max`].
    pub fn ticket(
        &self,
        class: RoomClass,
        record_bytes: usize,
        closing_bytes: u64,
    ) -> Result<Ticket<'_, S>, NoRoom> {
        assert!(
            record_bytes <= self.record_bytes_max(),
            "a record is no larger than the log takes"
        );
        match self.core().ticket(class, record_bytes as u64, closing_bytes) {
            Ok(ticket) => Ok(Ticket { ticket, inner: self.inner() }),
            Err(_) => self.ticket_slow(class, record_bytes as u64, closing_bytes),
        }
    }

    #[cold]
    fn ticket_slow(
        &self,
        class: RoomClass,
        record: u64,
        closing: u64,
    ) -> Result<Ticket<'_, S>, NoRoom> {
        let inner = self.inner();
        let deadline = Instant::now() + Duration::from_millis(inner.options.room_wait_ms_max);
        inner.counters.room_waits.fetch_add(1, Ordering::Relaxed);
        inner.room_waiting.fetch_add(1, Ordering::Relaxed);
        let result = loop {
            let lack = match inner.core.ticket(class, record, closing) {
                Ok(ticket) => break Ok(Ticket { ticket, inner }),
                Err(Lack::Poisoned) => break Err(NoRoom::Poisoned),
                Err(Lack::Free) if inner.core.room.is_exhausted() => break Err(NoRoom::Full),
                Err(lack) => lack,
            };
            let now = Instant::now();
            if now >= deadline {
                break Err(NoRoom::Busy);
            }
            if lack == Lack::Window {
                inner.core.committer.notify();
            } else {
                inner.core.room.want(record + closing);
                inner.core.provisioner.notify();
            }
            let guard = lock(&inner.room_lock);
            let _ = inner.room_bell.wait_timeout(guard, ROOM_LOOK.min(deadline - now));
        };
        inner.room_waiting.fetch_sub(1, Ordering::Relaxed);
        result
    }

    /// What new work may use of it while it is empty, in bytes.
    pub fn usable_bytes(&self) -> u64 {
        self.inner().options.usable_bytes()
    }

    /// Sets closing room aside for what was found open when the log was replayed.
    pub fn set_aside(&self, closing_bytes: u64) {
        self.core().room.set_aside(closing_bytes);
    }

    /// Sets closing room aside for what was just opened, if new work leaves so much; whether it did.
    pub fn try_set_aside(&self, closing_bytes: u64) -> bool {
        self.core().room.try_set_aside(closing_bytes)
    }

    /// Gives closing room back: what a ticket set aside for a record that has been appended since, or
    /// that will not be needed.
    pub fn give_back(&self, closing_bytes: u64) {
        self.core().room.give(0, closing_bytes);
    }

    /// The end of what is claimed.
    pub fn appended(&self) -> Lsn {
        Lsn(self.core().tail())
    }

    /// The end of the contiguous published prefix, as last seen.
    pub fn published(&self) -> Lsn {
        Lsn(self.core().published())
    }

    /// Every record that begins below is on the disk.
    pub fn durable(&self) -> Lsn {
        Lsn(self.core().durable())
    }

    /// Every record that begins below is acknowledged at the configured level.
    pub fn acked(&self) -> Lsn {
        Lsn(self.core().acked(self.inner().options.ack))
    }

    /// Whether a record is acknowledged at the configured level.
    pub fn is_acked(&self, lsn: Lsn) -> bool {
        lsn < self.acked()
    }

    /// A reader of the durable log from a position on, which must be where a record begins.
    pub fn reader(&self, from: Lsn) -> Result<Reader<S>, Error> {
        Reader::new(self.inner().clone(), from)
    }

    /// One record, pinned.
    pub fn read_at(&self, lsn: Lsn) -> Result<Pinned<S>, Error> {
        Pinned::new(self.inner(), lsn)
    }

    /// Everything below is no longer needed: whole segments of it are recycled once they are archived,
    /// nobody holds them, and the mark that says so is durable.
    pub fn release_before(&self, lsn: Lsn) {
        let inner = self.inner();
        let lsn = lsn.0.min(inner.core.durable());
        if inner.released.fetch_max(lsn, Ordering::AcqRel) < lsn {
            inner.core.committer.notify();
        }
    }

    /// What is below may be recycled at any time; what is not stays until it is
    /// [released](Log::release_before).
    pub fn released(&self) -> Lsn {
        let inner = self.inner();
        Lsn(inner.lives.before_gap(inner.released_floor()))
    }

    /// The first position that can still be read.
    pub fn oldest(&self) -> Lsn {
        Lsn(self.inner().oldest())
    }

    /// Whether so much of the disk budget is spent that work which can wait should. One relaxed load; it
    /// follows the log within a tenth of a second.
    pub fn is_past_soft_mark(&self) -> bool {
        self.core().room.is_past_soft_mark()
    }

    /// Figures about it.
    pub fn stats(&self) -> Stats {
        self.inner().stats()
    }

    /// How long its work takes.
    pub fn timings(&self) -> Timings {
        let counters = &self.inner().counters;
        Timings {
            append: counters.append_durations.counts(),
            sync: counters.sync_durations.counts(),
        }
    }

    /// Why it stopped, if it did.
    pub fn poisoned(&self) -> Option<Poisoned> {
        self.inner().poisoned()
    }

    /// Refuses tickets, syncs everything, writes a closing mark, stops the threads.
    pub fn close(&self) -> Result<(), Poisoned> {
        self.handle.close()
    }
}

/// Room for one record, granted. Dropped unused, it gives everything back.
pub struct Ticket<'a, S: Storage> {
    ticket: CoreTicket<'a, S::Segment>,
    inner: &'a Inner<S>,
}

impl<S: Storage> Ticket<'_, S> {
    /// Claims a place, copies the record and publishes it. Can't fail, allocates nothing, waits for
    /// nothing. Room that the record did not need goes back; the closing room stays set aside.
    ///
    /// # Panics
    /// Before anything is claimed, if the draft is not sealed or larger than the ticket.
    pub fn append(self, draft: &Draft) -> Lsn {
        let Self { ticket, inner } = self;
        if sample::is_due(inner.core.tail()) {
            let durations = &inner.counters.append_durations;
            return Lsn(sample::timed(durations, || ticket.append(draft)));
        }
        Lsn(ticket.append(draft))
    }
}
