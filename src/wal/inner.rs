//! What the handles of a log and its background threads share: the core, the table of segments, and why
//! it stopped.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar},
};

use super::{
    append::{Core, Shape},
    archive::Archive,
    counters::{Counters, Stats},
    error::Poisoned,
    lives::{Life, Lives},
    options::Options,
    recover::Recovered,
    ring::Segment,
    segment::Header,
    signal::Signal,
    storage::Storage,
    sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock},
    wait::Waiters,
};
use crate::model::{Incarnation, Lsn};

const WAITER_SHARDS: usize = 8;

/// What the handles and the background threads share.
pub struct Inner<S: Storage> {
    pub(super) core: Core<S::Segment>,
    pub(super) storage: S,
    pub(super) options: Options,
    pub(super) life: Life,
    pub(super) lives: Lives,
    pub(super) mark_key: u64,
    pub(super) counters: Counters,
    table: Mutex<VecDeque<Arc<Segment<S::Segment>>>>,
    /// Everything below may be recycled, say its users.
    pub(super) released: AtomicU64,
    /// Everything below may be recycled, says a durable mark.
    released_named: AtomicU64,
    reason: Mutex<Option<Poisoned>>,
    pub(super) poison_waiters: Waiters,
    pub(super) room_lock: Mutex<()>,
    pub(super) room_bell: Condvar,
    pub(super) room_waiting: AtomicU64,
    /// What it lets go, unless nothing is kept of that.
    pub(super) archive: Option<Archive<S>>,
    /// The bell of the thread that archives.
    pub(super) archiver: Signal,
}

impl<S: Storage> Inner<S> {
    /// Takes over what recovery found; also returns the index of the first segment that is not there.
    pub(super) fn new(storage: S, options: Options, found: Recovered<S>) -> (Self, u64) {
        let shape = Shape {
            segment_bytes: options.segment_bytes,
            ring_segments: options.ring_segments(),
            unsynced_bytes_max: options.unsynced_bytes_max,
            order_reserve_bytes: options.order_reserve_bytes,
            delivery_reserve_bytes: options.delivery_reserve_bytes,
            record_bytes_max: options.record_bytes_max.into(),
            blocks_low: options.blocks_low(),
            waiter_shards: WAITER_SHARDS,
        };
        let oldest = found.segments.first().map_or(0, |segment| segment.base);
        let sizes = (options.segment_bytes, found.mark_key);
        let archive = options.archive.clone();
        let archive = archive.map(|to| Archive::new(to, found.life.incarnation, sizes, oldest));
        let inner = Self {
            core: Core::new(shape, found.end),
            archive,
            archiver: Signal::default(),
            storage,
            options,
            life: found.life,
            lives: found.lives,
            mark_key: found.mark_key,
            counters: Counters::default(),
            table: Mutex::new(VecDeque::new()),
            released: AtomicU64::new(oldest),
            released_named: AtomicU64::new(oldest),
            reason: Mutex::new(None),
            poison_waiters: Waiters::new(1),
            room_lock: Mutex::new(()),
            room_bell: Condvar::new(),
            room_waiting: AtomicU64::new(0),
        };
        let next_index = inner.adopt(found.segments, found.end);
        (inner, next_index)
    }

    fn table(&self) -> MutexGuard<'_, VecDeque<Arc<Segment<S::Segment>>>> {
        lock(&self.table)
    }

    pub(super) fn segment_of(&self, position: u64) -> Option<Arc<Segment<S::Segment>>> {
        let table = self.table();
        let at = table.partition_point(|segment| segment.index < self.core.index_of(position));
        table.get(at).filter(|segment| segment.base <= position).cloned()
    }

    /// All segments that hold something below a position, oldest first; while they are held none is
    /// recycled.
    pub(super) fn pin_below(&self, end: u64) -> VecDeque<Arc<Segment<S::Segment>>> {
        self.table().iter().take_while(|segment| segment.base < end).cloned().collect()
    }

    pub(super) fn table_len(&self) -> u64 {
        self.table().len() as u64
    }

    pub(super) fn push_segment(&self, segment: Arc<Segment<S::Segment>>) {
        let mut table = self.table();
        assert!(table.back().is_none_or(|last| last.index < segment.index));
        table.push_back(segment);
    }

    /// The oldest segment, taken out, if it is wholly released and archived and nobody holds it.
    pub(super) fn pop_released(&self) -> Option<Segment<S::Segment>> {
        let mut table = self.table();
        let front = table.front()?;
        let end = front.base + self.core.segment_bytes();
        let archived = self.archive.as_ref().map_or(u64::MAX, Archive::to);
        if end > self.released_named.load(Ordering::Acquire).min(archived)
            || !self.core.retire(front.index)
        {
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
        self.table().front().map_or(0, |segment| self.lives.before_gap(segment.base))
    }

    /// The position, or where the gap between two lives ends that it lies in, in the log or in its archive.
    pub(super) fn behind_gap(&self, position: u64) -> u64 {
        let behind = self.lives.behind_gap(position);
        self.archive.as_ref().map_or(behind, |archive| archive.behind_gap(behind))
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

    /// Looks what of the archive joins the log. If it can't be read now, the thread that archives tries again.
    pub(super) fn find_archive(&self) {
        let Some(archive) = &self.archive else { return };
        if let Err(error) = archive.find(&self.storage, &self.lives) {
            tracing::error!(%error, "the archive can't be read; what the log has let go is out of reach");
        }
    }

    /// The life that a position was written in.
    pub(super) fn incarnation_at(&self, lsn: Lsn) -> Incarnation {
        let archive = self.archive.as_ref().filter(|_| lsn.0 < self.oldest());
        let archived = archive.and_then(|archive| archive.incarnation_at(lsn.0));
        archived.or_else(|| self.lives.at(lsn)).unwrap_or(self.life.incarnation)
    }

    /// A durable mark says that everything below was durable.
    pub(super) fn name_durable(&self, durable: u64) {
        if self.archive.as_ref().is_some_and(|archive| archive.name_durable(durable)) {
            self.archiver.notify();
        }
    }

    pub(super) fn new_header(&self, index: u64) -> io::Result<Header> {
        Ok(Header {
            life: self.life,
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
        self.archiver.notify();
        self.poison_waiters.wake_all();
        self.room_bell.notify_all();
    }

    pub(super) fn poisoned(&self) -> Option<Poisoned> {
        lock(&self.reason).clone()
    }

    pub(super) fn why(&self) -> Poisoned {
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

    pub(super) fn stats(&self) -> Stats {
        let segments = self.table_len();
        let waiting = |archive: &Archive<S>| {
            self.table().iter().filter(|segment| archive.waits(segment.base)).count() as u64
        };
        let archive = self.archive.as_ref().map(|archive| archive.stats(waiting(archive)));
        Stats { archive, ..self.counters.stats(&self.core, segments, &self.options) }
    }
}
