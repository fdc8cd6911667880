//! The lock-free core: ticket, claim, copy, publish, and the walk over what is published.
//!
//! Promises:
//!
//! - A ticket is the only place where an append can be refused. What it grants lies in segments that
//!   are in the ring, so an append waits for nothing, allocates nothing and can't fail.
//! - A claim moves the one tail by compare-and-swap. A record never crosses a segment's end: the claim
//!   that would takes the rest of the segment as padding, and begins at the next one.
//! - A record exists from the release store of its first word on. The walk finds the end of the
//!   contiguous published prefix; whoever reads below it sees whole records.
//! - Nobody is told that a position is passed before it is, nobody who waits is forgotten, and after
//!   the log stopped nobody is told anything new.
//!
//! What the walk and the appenders hold on to: an appender's segment can't be retired before its record
//! is published, because the durable position can't pass it; the walk's segment can't be retired
//! without the lock of the walk.

#![allow(unsafe_code)]

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crossbeam_utils::CachePadded;

use super::{
    record::{self, Draft},
    ring::{Memory, Ring, Segment},
    room::{Lack, Room, RoomClass},
    signal::Signal,
    sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, lock},
    wait::Waiters,
};

/// When a record counts as acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// Once it is on the disk.
    #[default]
    Disk,
    /// Once it and all before it are in the log's memory: survives a killed process, not a lost
    /// machine.
    Memory,
}

/// The log does not go on; nobody is told anything new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// The shape of the core.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Payload of a segment, a power of two.
    pub segment_bytes: u64,
    /// Segments in the ring at once, at least.
    pub ring_segments: u64,
    /// The largest unsynced window.
    pub unsynced_bytes_max: u64,
    /// Room that only what happens to orders, and delivery, may use.
    pub order_reserve_bytes: u64,
    /// Room that only delivery may use.
    pub delivery_reserve_bytes: u64,
    /// The largest padding, that is the largest record.
    pub record_bytes_max: u64,
    /// New work's blocks below which the provisioner is woken.
    pub blocks_low: u64,
    /// Lists of waiters, a power of two.
    pub waiter_shards: usize,
}

struct Progress {
    durable: AtomicU64,
    /// No more tickets.
    closing: AtomicBool,
    /// No more acknowledgements.
    stopped: AtomicBool,
}

/// What the walk has seen.
#[derive(Debug, Default)]
pub struct Walk {
    /// Records passed, paddings and marks included.
    pub records: u64,
}

/// The log's memory: tail, room, ring, and who waits.
pub struct Core<M> {
    shift: u32,
    begin: u64,
    window: u64,
    blocks_low: i64,
    tail: CachePadded<AtomicU64>,
    published: CachePadded<AtomicU64>,
    progress: CachePadded<Progress>,
    walk: CachePadded<Mutex<Walk>>,
    /// The credits.
    pub room: Room,
    /// The segments.
    pub ring: Ring<M>,
    /// Wakes the thread that syncs.
    pub committer: Signal,
    /// Wakes the thread that makes segments.
    pub provisioner: Signal,
    waiting_durable: Waiters,
    waiting_published: Waiters,
}

struct Claim {
    lsn: u64,
    padding: u64,
}

impl<M: Memory> Core<M> {
    /// A core whose next record will stand at `tail`; everything below is durable.
    pub fn new(shape: Shape, tail: u64) -> Self {
        assert!(shape.segment_bytes.is_power_of_two() && shape.segment_bytes >= 8);
        let at_tail = || CachePadded::new(AtomicU64::new(tail));
        let flag = || AtomicBool::new(false);
        let progress = Progress { durable: AtomicU64::new(tail), closing: flag(), stopped: flag() };
        Self {
            shift: shape.segment_bytes.trailing_zeros(),
            begin: tail,
            window: shape.unsynced_bytes_max,
            blocks_low: shape.blocks_low as i64,
            tail: at_tail(),
            published: at_tail(),
            progress: CachePadded::new(progress),
            walk: CachePadded::new(Mutex::new(Walk::default())),
            room: Room::new(
                shape.order_reserve_bytes,
                shape.delivery_reserve_bytes,
                shape.record_bytes_max,
            ),
            ring: Ring::new(shape.ring_segments),
            committer: Signal::default(),
            provisioner: Signal::default(),
            waiting_durable: Waiters::new(shape.waiter_shards),
            waiting_published: Waiters::new(shape.waiter_shards),
        }
    }

    /// The payload of a segment.
    pub fn segment_bytes(&self) -> u64 {
        1 << self.shift
    }

    /// The index of the segment that holds a position.
    pub fn index_of(&self, position: u64) -> u64 {
        position >> self.shift
    }

    /// The offset of a position in its segment.
    pub fn offset_of(&self, position: u64) -> u64 {
        position & (self.segment_bytes() - 1)
    }

    /// The end of what is claimed.
    pub fn tail(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// The bytes claimed since the core was made.
    pub fn claimed(&self) -> u64 {
        self.tail() - self.begin
    }

    /// What is set aside for closing records.
    pub fn closing(&self) -> u64 {
        self.room.closing(self.claimed())
    }

    /// The end of the contiguous published prefix, as last walked.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// The end of what is on the disk.
    pub fn durable(&self) -> u64 {
        self.progress.durable.load(Ordering::Acquire)
    }

    /// The end of what is acknowledged at a level.
    pub fn acked(&self, ack: Ack) -> u64 {
        match ack {
            Ack::Disk => self.durable(),
            Ack::Memory => self.published(),
        }
    }

    /// Whether the log goes on.
    pub fn is_stopped(&self) -> bool {
        self.progress.stopped.load(Ordering::Acquire)
    }

    /// Whether tickets are refused.
    pub fn is_closing(&self) -> bool {
        self.progress.closing.load(Ordering::Acquire)
    }

    /// Refuses tickets from here on; what is under way still goes through.
    pub fn close(&self) {
        self.progress.closing.store(true, Ordering::SeqCst);
        self.committer.notify();
        self.provisioner.notify();
    }

    /// Ends it: no ticket, no acknowledgement from here on. All who wait are woken.
    pub fn stop(&self) {
        let walk = lock(&self.walk);
        self.progress.closing.store(true, Ordering::SeqCst);
        self.progress.stopped.store(true, Ordering::SeqCst);
        drop(walk);
        self.waiting_durable.wake_all();
        self.waiting_published.wake_all();
        self.committer.notify();
        self.provisioner.notify();
    }

    /// Room for one record of at most `record` bytes and for those that will close what it opens.
    pub fn ticket(
        &self,
        class: RoomClass,
        record: u64,
        closing: u64,
    ) -> Result<CoreTicket<'_, M>, Lack> {
        let record = record::padded(record);
        self.may_write(record)?;
        let left = self.room.take(class, record, closing)?;
        if left < self.blocks_low && !self.room.is_exhausted() {
            self.provisioner.hint();
        }
        Ok(CoreTicket { core: self, record, closing })
    }

    /// A ticket for the log itself, which is served while it is closing; `None` if there is no room.
    /// The `last` mark of an idle or closing log has room kept for it.
    pub fn own_ticket(&self, record: u64, last: bool) -> Option<CoreTicket<'_, M>> {
        if last {
            self.room.take_last(record).ok()?;
        } else {
            self.room.take(RoomClass::Delivery, record, 0).ok()?;
        }
        Some(CoreTicket { core: self, record, closing: 0 })
    }

    fn may_write(&self, record: u64) -> Result<(), Lack> {
        if self.is_closing() {
            return Err(Lack::Poisoned);
        }
        let durable = self.durable();
        let unsynced = self.tail.load(Ordering::Relaxed).saturating_sub(durable);
        if unsynced + record > self.window { Err(Lack::Window) } else { Ok(()) }
    }

    fn claim(&self, bytes: u64) -> Claim {
        let mut tail = self.tail.load(Ordering::Relaxed);
        loop {
            let rest = self.segment_bytes() - self.offset_of(tail);
            let padding = if bytes <= rest { 0 } else { rest };
            let (lsn, end) = (tail + padding, tail + padding + bytes);
            match self.tail.compare_exchange_weak(tail, end, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Claim { lsn, padding },
                Err(now) => tail = now,
            }
        }
    }

    /// Claims and never publishes, as a thread that dies in between would.
    #[cfg(test)]
    pub fn leave_hole(&self, bytes: u64) -> u64 {
        self.claim(bytes).lsn
    }

    /// The segment of a position that the caller has claimed and not published.
    fn claimed_segment(&self, position: u64) -> &Segment<M> {
        // SAFETY: the durable position can't pass an unpublished record, and only what lies wholly
        // below the durable position is taken out of the ring.
        let segment = unsafe { self.ring.get(self.index_of(position)) };
        segment.expect("a ticket grants room in ready segments only")
    }

    fn write_padding(&self, lsn: u64, rest: u64) {
        let segment = self.claimed_segment(lsn);
        let words = &segment.memory.payload()[self.offset_of(lsn) as usize / 8..];
        let (word0, word1) = record::padding(segment.nonce, lsn, rest as u32);
        if let Some(word1) = word1 {
            words[1].store(word1, Ordering::Relaxed);
        }
        words[0].store(word0, Ordering::Release);
    }

    fn write(&self, lsn: u64, draft: &Draft) {
        let segment = self.claimed_segment(lsn);
        let at = self.offset_of(lsn) as usize / 8;
        let words = &segment.memory.payload()[at..at + draft.bytes() / 8];
        words[1].store(draft.word1(), Ordering::Relaxed);
        for (word, bytes) in words[2..].iter().zip(draft.body().as_chunks().0) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        words[0].store(draft.word0_at(segment.nonce, lsn), Ordering::Release);
    }

    fn append(&self, draft: &Draft) -> u64 {
        let claim = self.claim(draft.bytes() as u64);
        if claim.padding > 0 {
            self.write_padding(claim.lsn - claim.padding, claim.padding);
        }
        self.write(claim.lsn, draft);
        if self.offset_of(claim.lsn) == 0 && claim.lsn > 0 {
            self.room.settle(claim.padding);
            self.provisioner.notify();
        }
        self.committer.notify();
        claim.lsn
    }

    /// Whether there is a published record that is not durable, walked over or not: a waiter may have
    /// walked since the thread that syncs did. For that thread, before it sleeps.
    pub fn has_unsynced(&self) -> bool {
        let _walk = lock(&self.walk);
        let published = self.published();
        !self.is_stopped() && (published > self.durable() || self.extent_at(published).is_some())
    }

    /// The extent of the published record at a position at or above the published one, if it is
    /// there. The caller holds the lock of the walk.
    fn extent_at(&self, position: u64) -> Option<u64> {
        // SAFETY: the durable position is at or below the published one, and the lock of the walk is
        // held, so the segment is not taken out.
        let segment = unsafe { self.ring.get(self.index_of(position)) }?;
        let word = &segment.memory.payload()[self.offset_of(position) as usize / 8];
        let word0 = word.load(Ordering::Acquire);
        (word0 != 0).then(|| record::extent_of(word0))
    }

    /// Walks over what is published since; returns the end of the contiguous prefix. Wakes those who
    /// wait for it.
    pub fn walk(&self, scratch: &mut Vec<Waker>) -> u64 {
        let mut walk = lock(&self.walk);
        let before = self.published();
        let mut position = before;
        while !self.is_stopped()
            && let Some(extent) = self.extent_at(position)
        {
            position += extent;
            walk.records += 1;
        }
        if position != before {
            self.published.store(position, Ordering::Release);
        }
        drop(walk);
        if position != before {
            self.waiting_published.wake_below(position, scratch);
        }
        position
    }

    /// The lock of the walk; while it is held, no segment is walked.
    pub fn lock_walk(&self) -> MutexGuard<'_, Walk> {
        lock(&self.walk)
    }

    /// Everything below `position` is on the disk. For the thread that syncs.
    pub fn set_durable(&self, position: u64, scratch: &mut Vec<Waker>) {
        debug_assert!(self.durable() <= position && position <= self.published());
        self.progress.durable.store(position, Ordering::Release);
        self.waiting_durable.wake_below(position, scratch);
    }

    /// Takes a segment out of the ring if it lies wholly below the durable position.
    pub fn retire(&self, index: u64) -> bool {
        let _walk = lock(&self.walk);
        if (index + 1) << self.shift > self.durable() {
            return false;
        }
        // SAFETY: it lies wholly below the durable position, so no claimed record in it is unpublished
        // and the walk has passed it; the lock of the walk is held.
        unsafe { self.ring.take_out(index) };
        true
    }

    /// Shows a new segment and gives its room to the tickets. The one whose slot it takes must lie
    /// wholly below the durable position.
    pub fn put_ready(&self, segment: Arc<Segment<M>>, bytes: u64) {
        if let Some(before) = segment.index.checked_sub(self.ring.len()) {
            assert!(self.retire(before), "the ring is as long as the window and what is ready");
        }
        self.ring.put(segment);
        self.room.add_ready(bytes);
    }

    /// Whether a position is passed at a level, and if not, sees to it that `cx` is woken once it is.
    /// `registered` is the waiter's own memory, empty at first.
    pub fn poll_passed(
        &self,
        ack: Ack,
        position: u64,
        registered: &mut Option<Waker>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Stopped>> {
        if position < self.acked(ack) {
            return Poll::Ready(Ok(()));
        }
        if ack == Ack::Memory && position < self.walk(&mut Vec::new()) {
            return Poll::Ready(Ok(()));
        }
        if self.is_stopped() {
            return Poll::Ready(Err(Stopped));
        }
        if registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        *registered = Some(cx.waker().clone());
        let waiters = match ack {
            Ack::Disk => &self.waiting_durable,
            Ack::Memory => &self.waiting_published,
        };
        let over = || position < self.acked(ack) || self.is_stopped();
        if waiters.register(position, cx.waker().clone(), over) {
            return Poll::Pending;
        }
        Poll::Ready(if position < self.acked(ack) { Ok(()) } else { Err(Stopped) })
    }
}

/// Room for one record.
pub struct CoreTicket<'a, M: Memory> {
    core: &'a Core<M>,
    record: u64,
    closing: u64,
}

impl<M: Memory> CoreTicket<'_, M> {
    /// Claims, copies, publishes. The closing room stays set aside.
    pub fn append(mut self, draft: &Draft) -> u64 {
        let bytes = draft.bytes() as u64;
        assert!(draft.is_sealed(), "a draft is sealed before it is appended");
        assert!(bytes <= self.record, "a record is no larger than its ticket");
        let lsn = self.core.append(draft);
        self.record -= bytes;
        self.closing = 0;
        lsn
    }
}

impl<M: Memory> Drop for CoreTicket<'_, M> {
    fn drop(&mut self) {
        self.core.room.give(self.record, self.closing);
    }
}
