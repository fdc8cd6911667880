//! The log's handle: options in, a service with two background threads, and what its users call.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use super::{
    append::{Ack, Core, CoreTicket, Shape},
    commit::Committer,
    counters::{Counters, Stats},
    error::{Error, NoRoom, Poisoned},
    options::Options,
    provision::Provisioner,
    read::{Pinned, Reader},
    record::Draft,
    recover::recover,
    ring::Segment,
    room::{Lack, RoomClass},
    segment::Header,
    storage::{FileStorage, Storage},
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use crate::model::{Incarnation, Lsn};

const WAITER_SHARDS: usize = 8;
/// How often a refused ticket tries again while it waits.
const ROOM_LOOK: Duration = Duration::from_millis(2);

/// What the handles and the background threads share.
pub struct Inner<S: Storage> {
    pub(super) core: Core<S::Segment>,
    pub(super) storage: S,
    pub(super) options: Options,
    pub(super) incarnation: Incarnation,
    pub(super) mark_key: u64,
    pub(super) counters: Counters,
    table: Mutex<VecDeque<Arc<Segment<S::Segment>>>>,
    /// Everything below may be recycled, say its users.
    released: AtomicU64,
    /// Everything below may be recycled, says a durable mark.
    released_named: AtomicU64,
    reason: Mutex<Option<Poisoned>>,
    poison_waiters: super::wait::Waiters,
    room_lock: Mutex<()>,
    room_bell: std::sync::Condvar,
    room_waiting: AtomicU64,
}

impl<S: Storage> Inner<S> {
    fn table(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Segment<S::Segment>>>> {
        lock(&self.table)
    }

    pub(super) fn segment_of(&self, position: u64) -> Option<Arc<Segment<S::Segment>>> {
        let table = self.table();
        let at = self.core.index_of(position).checked_sub(table.front()?.index)?;
        table.get(at as usize).cloned()
    }

    pub(super) fn table_len(&self) -> u64 {
        self.table().len() as u64
    }

    pub(super) fn push_segment(&self, segment: Arc<Segment<S::Segment>>) {
        let mut table = self.table();
        assert!(table.back().is_none_or(|last| last.index + 1 == segment.index));
        table.push_back(segment);
    }

    /// The oldest segment, taken out, if it is wholly released and nobody holds it.
    pub(super) fn pop_released(&self) -> Option<Segment<S::Segment>> {
        let mut table = self.table();
        let front = table.front()?;
        let end = front.base + self.core.segment_bytes();
        if end > self.released_named.load(Ordering::Acquire) || !self.core.retire(front.index) {
            return None;
        }
        let segment = table.pop_front()?;
        match Arc::try_unwrap(segment) {
            Ok(segment) => Some(segment),
            Err(pinned) => {
                table.push_front(pinned);
                None
            }
        }
    }

    pub(super) fn oldest(&self) -> u64 {
        self.table().front().map_or(0, |segment| segment.base)
    }

    /// Where the oldest segment begins that its users still need.
    pub(super) fn released_floor(&self) -> u64 {
        let released = self.released.load(Ordering::Acquire);
        released - self.core.offset_of(released)
    }

    /// A durable mark says that everything below is released.
    pub(super) fn name_released(&self, oldest: u64) {
        if self.released_named.fetch_max(oldest, Ordering::AcqRel) < oldest {
            self.core.provisioner.notify();
        }
    }

    pub(super) fn new_header(&self, index: u64) -> io::Result<Header> {
        Ok(Header {
            incarnation: self.incarnation,
            index,
            nonce: getrandom::u64().map_err(io::Error::other)?,
            segment_bytes: self.options.segment_bytes,
            // Not the options' window, which tickets may pass: each is asked alone, and many may be
            // out at once. What none can pass is the ring: see `Provisioner::wants_ready`.
            window_bytes: self.core.ring.len() * self.options.segment_bytes,
            mark_key: self.mark_key,
        })
    }

    /// Stops the log, for the first reason that is given.
    pub(super) fn poison(&self, poisoned: Poisoned) {
        let mut reason = lock(&self.reason);
        if reason.is_none() {
            if poisoned != Poisoned::Closed {
                tracing::error!(%poisoned, "the log has stopped");
            }
            *reason = Some(poisoned);
        }
        drop(reason);
        self.core.stop();
        self.poison_waiters.wake_all();
        self.room_bell.notify_all();
    }

    pub(super) fn poisoned(&self) -> Option<Poisoned> {
        lock(&self.reason).clone()
    }

    fn why(&self) -> Poisoned {
        self.poisoned().unwrap_or(Poisoned::Closed)
    }

    /// Room may be there for those who wait for it.
    pub(super) fn room_changed(&self) {
        if self.room_waiting.load(Ordering::Relaxed) > 0 {
            self.room_bell.notify_all();
        }
    }

    /// The unsynced window has moved.
    pub(super) fn window_moved(&self) {
        self.room_changed();
    }
}

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
        let shape = Shape {
            segment_bytes: options.segment_bytes,
            ring_segments: options.ring_segments(),
            unsynced_bytes_max: options.unsynced_bytes_max,
            delivery_reserve_bytes: options.delivery_reserve_bytes,
            record_bytes_max: options.record_bytes_max.into(),
            blocks_low: options.blocks_low(),
            waiter_shards: WAITER_SHARDS,
        };
        let oldest = found.segments.first().map_or(0, |segment| segment.base);
        let inner = Arc::new(Inner {
            core: Core::new(shape, found.end),
            storage,
            options,
            incarnation: found.incarnation,
            mark_key: found.mark_key,
            counters: Counters::default(),
            table: Mutex::new(VecDeque::new()),
            released: AtomicU64::new(oldest),
            released_named: AtomicU64::new(oldest),
            reason: Mutex::new(None),
            poison_waiters: super::wait::Waiters::new(1),
            room_lock: Mutex::new(()),
            room_bell: std::sync::Condvar::new(),
            room_waiting: AtomicU64::new(0),
        });
        let next_index = inner.adopt(found.segments, found.end);
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
        self.spawn("wal-provision", || provisioner.run())
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

    fn core(&self) -> &Core<S::Segment> {
        &self.inner().core
    }

    /// The life of the data directory.
    pub fn incarnation(&self) -> Incarnation {
        self.inner().incarnation
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
            Ok(ticket) => Ok(Ticket { ticket }),
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
                Ok(ticket) => break Ok(Ticket { ticket }),
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

    /// Sets closing room aside for what was found open when the log was replayed.
    pub fn set_aside(&self, closing_bytes: u64) {
        self.core().room.set_aside(closing_bytes);
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

    /// Returns once a record is acknowledged at the configured level. May be dropped at any time.
    pub async fn wait(&self, lsn: Lsn) -> Result<(), Poisoned> {
        self.wait_at(self.inner().options.ack, lsn).await
    }

    /// Returns once a record is on the disk, whatever the configured level. May be dropped at any time.
    pub async fn wait_durable(&self, lsn: Lsn) -> Result<(), Poisoned> {
        self.wait_at(Ack::Disk, lsn).await
    }

    async fn wait_at(&self, ack: Ack, lsn: Lsn) -> Result<(), Poisoned> {
        let mut registered = None;
        poll_fn(|cx| self.poll_at(ack, lsn, &mut registered, cx)).await
    }

    fn poll_at(
        &self,
        ack: Ack,
        lsn: Lsn,
        registered: &mut Option<Waker>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Poisoned>> {
        let poll = self.core().poll_passed(ack, lsn.0, registered, cx);
        poll.map_err(|_| self.inner().why())
    }

    /// Like [`Log::wait`], blocking the thread.
    pub fn wait_blocking(&self, lsn: Lsn) -> Result<(), Poisoned> {
        self.block(self.inner().options.ack, lsn, None).map(drop)
    }

    /// Like [`Log::wait_durable`], blocking the thread.
    pub fn wait_durable_blocking(&self, lsn: Lsn) -> Result<(), Poisoned> {
        self.block(Ack::Disk, lsn, None).map(drop)
    }

    /// Like [`Log::wait_durable_blocking`], for at most so long; false if it is not durable by then.
    pub fn wait_durable_timeout(&self, lsn: Lsn, timeout: Duration) -> Result<bool, Poisoned> {
        self.block(Ack::Disk, lsn, Some(Instant::now() + timeout))
    }

    fn block(&self, ack: Ack, lsn: Lsn, deadline: Option<Instant>) -> Result<bool, Poisoned> {
        if lsn.0 < self.core().acked(ack) {
            return Ok(true);
        }
        let waker = my_waker();
        let mut cx = Context::from_waker(&waker);
        let mut registered = None;
        loop {
            if let Poll::Ready(result) = self.poll_at(ack, lsn, &mut registered, &mut cx) {
                return result.map(|()| true);
            }
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return Ok(false),
                Some(left) => thread::park_timeout(left),
            }
        }
    }

    /// A reader of the durable log from a position on, which must be where a record begins.
    pub fn reader(&self, from: Lsn) -> Result<Reader<S>, Error> {
        Reader::new(self.inner().clone(), from)
    }

    /// One record, pinned.
    pub fn read_at(&self, lsn: Lsn) -> Result<Pinned<S>, Error> {
        Pinned::new(self.inner(), lsn)
    }

    /// Everything below is no longer needed: whole segments of it are recycled once nobody holds them
    /// and the mark that says so is durable.
    pub fn release_before(&self, lsn: Lsn) {
        let inner = self.inner();
        let lsn = lsn.0.min(inner.core.durable());
        if inner.released.fetch_max(lsn, Ordering::AcqRel) < lsn {
            inner.core.committer.notify();
        }
    }

    /// The first position that can still be read.
    pub fn oldest(&self) -> Lsn {
        Lsn(self.inner().oldest())
    }

    /// Figures about it.
    pub fn stats(&self) -> Stats {
        self.inner().stats()
    }

    /// Why it stopped, if it did.
    pub fn poisoned(&self) -> Option<Poisoned> {
        self.inner().poisoned()
    }

    /// Returns when it stops, with the reason.
    pub async fn wait_poisoned(&self) -> Poisoned {
        let inner = self.inner();
        let mut registered: Option<Waker> = None;
        poll_fn(|cx| {
            if let Some(poisoned) = inner.poisoned() {
                return Poll::Ready(poisoned);
            }
            if registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            registered = Some(cx.waker().clone());
            inner.poison_waiters.register(0, cx.waker().clone(), || inner.poisoned().is_some());
            inner.poisoned().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Refuses tickets, syncs everything, writes a closing mark, stops the threads.
    pub fn close(&self) -> Result<(), Poisoned> {
        self.handle.close()
    }
}

impl<S: Storage> Inner<S> {
    /// Takes over what recovery found; returns the index of the first segment that is not there.
    fn adopt(&self, segments: Vec<Arc<Segment<S::Segment>>>, end: u64) -> u64 {
        let next_index = segments.last().map_or(0, |segment| segment.index + 1);
        let current = segments.last().filter(|last| last.index == self.core.index_of(end)).cloned();
        segments.into_iter().for_each(|segment| self.push_segment(segment));
        let offset = self.core.offset_of(end);
        match current {
            Some(current) => {
                let rest = self.core.segment_bytes() - offset;
                self.core.room.add_blocks(rest);
                self.core.put_ready(current, rest);
            }
            // The end is a segment's end: whoever turns to the next one settles this one's padding.
            None if end > 0 => {
                self.core.room.add_blocks(0);
                self.core.room.add_ready(0);
            }
            None => {}
        }
        next_index
    }

    fn stats(&self) -> Stats {
        let segments = self.table_len();
        self.counters.stats(&self.core, segments, &self.options)
    }
}

/// Room for one record, granted. Dropped unused, it gives everything back.
pub struct Ticket<'a, S: Storage> {
    ticket: CoreTicket<'a, S::Segment>,
}

impl<S: Storage> Ticket<'_, S> {
    /// Claims a place, copies the record and publishes it. Can't fail, allocates nothing, waits for
    /// nothing. Room that the record did not need goes back; the closing room stays set aside.
    ///
    /// # Panics
    /// Before anything is claimed, if the draft is not sealed or larger than the ticket.
    pub fn append(self, draft: &Draft) -> Lsn {
        Lsn(self.ticket.append(draft))
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn my_waker() -> Waker {
    thread_local! {
        static MINE: Waker = Arc::new(Unpark(thread::current())).into();
    }
    MINE.with(Clone::clone)
}
