//! Where the intervals of all recorders come together.
//!
//! Recorders hand closed intervals over through a queue without a lock. Whoever holds the book's lock
//! empties the queue first: a thread of the recording's own now and then, and readers before they read.
//! Should the queue be full, a recorder enters its interval itself, at the cost of waiting for the lock.
//!
//! The newest intervals are kept open; older ones are kept as the V2 deflate bytes that an interval log
//! has too, a few kilobytes each, and opened again if something ended in them after all.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use crossbeam_queue::ArrayQueue;
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2DeflateSerializer},
};
use parking_lot::{Mutex, MutexGuard};

use super::{
    series::Series,
    slot::{Measured, Slot},
};

/// Intervals that can wait to be entered.
const QUEUE_MAX: usize = 64;

/// Emptied slots that are kept for later.
const POOL_MAX: usize = 8;

/// Intervals, counted from the newest, that are kept open.
const OPEN: u64 = 3;

/// Intervals of a run: more than a day of seconds. What ends later is entered into the last one.
pub(super) const INTERVALS_MAX: u64 = 100_000;

/// What a recorder hands over.
#[derive(Debug)]
pub(super) enum Parcel {
    /// A closed interval.
    Slot {
        /// Which.
        interval: u64,
        /// What ended in it.
        slot: Box<Slot>,
    },
    /// Requests that ended in intervals which were handed over before.
    Late(Vec<Late>),
}

/// A request that ended in an interval which was handed over before.
#[derive(Debug)]
pub(super) struct Late {
    /// The interval in which it ended.
    pub interval: u64,
    /// The interval in which it was planned.
    pub planned: u64,
    /// What was measured of it.
    pub measured: Measured,
}

/// What recorders and their recording share.
pub(super) struct Shared {
    /// The length of an interval, in nanoseconds.
    pub interval_ns: u64,
    /// Recorders that are in use.
    pub recorders: AtomicUsize,
    /// Whether the recording's own thread is to end.
    pub ended: AtomicBool,
    queue: ArrayQueue<Parcel>,
    pool: ArrayQueue<Box<Slot>>,
    book: Mutex<Book>,
}

impl Shared {
    /// An empty one.
    pub fn new(interval_ns: u64) -> Self {
        Self {
            interval_ns,
            recorders: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            queue: ArrayQueue::new(QUEUE_MAX),
            pool: ArrayQueue::new(POOL_MAX),
            book: Mutex::default(),
        }
    }

    /// The interval of an instant in nanoseconds.
    pub fn interval_at(&self, at_ns: u64) -> u64 {
        (at_ns / self.interval_ns).min(INTERVALS_MAX - 1)
    }

    /// Where an interval ends, in nanoseconds; the last one never does.
    pub fn end_of(&self, interval: u64) -> u64 {
        if interval + 1 < INTERVALS_MAX { (interval + 1) * self.interval_ns } else { u64::MAX }
    }

    /// An empty slot, used before if there is one.
    pub fn empty(&self) -> Box<Slot> {
        self.pool.pop().unwrap_or_default()
    }

    /// Takes something over.
    pub fn give(&self, parcel: Parcel) {
        if let Err(parcel) = self.queue.push(parcel) {
            self.book.lock().enter(parcel, &self.pool);
        }
    }

    /// The book, with everything in it that was handed over.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        let mut book = self.book.lock();
        while let Some(parcel) = self.queue.pop() {
            book.enter(parcel, &self.pool);
        }
        book.close_old();
        book
    }

    /// One recorder more.
    pub fn join(self: &Arc<Self>) -> Arc<Self> {
        self.recorders.fetch_add(1, Relaxed);
        self.clone()
    }
}

/// An interval that is still open.
#[derive(Debug, Default)]
struct Open {
    slot: Slot,
    /// How many recorders have handed it over.
    parcels: usize,
}

/// The histograms of a closed interval, serialised.
type Closed = Vec<(Series, Box<[u8]>)>;

/// All intervals, and their sums.
#[derive(Default)]
pub(super) struct Book {
    open: BTreeMap<u64, Open>,
    closed: BTreeMap<u64, Closed>,
    /// Everything.
    pub totals: Slot,
    /// How many requests were planned in each interval.
    pub planned: BTreeMap<u64, u64>,
}

impl Book {
    fn enter(&mut self, parcel: Parcel, pool: &ArrayQueue<Box<Slot>>) {
        match parcel {
            Parcel::Slot { interval, mut slot } => {
                self.enter_slot(interval, &slot, 1);
                slot.clear();
                // Full means that there are enough of them.
                let _ = pool.push(slot);
            }
            Parcel::Late(late) => self.enter_late(late),
        }
    }

    fn enter_slot(&mut self, interval: u64, slot: &Slot, parcels: usize) {
        self.totals.merge(slot);
        for (planned, count) in &slot.planned {
            *self.planned.entry(*planned).or_default() += count;
        }
        let open = self.open(interval);
        open.slot.merge(slot);
        open.parcels += parcels;
    }

    fn enter_late(&mut self, late: Vec<Late>) {
        let mut slots: BTreeMap<u64, Slot> = BTreeMap::new();
        for Late { interval, planned, measured } in late {
            slots.entry(interval).or_default().record(planned, &measured);
        }
        for (interval, slot) in slots {
            self.enter_slot(interval, &slot, 0);
        }
    }

    /// An interval, opened again if it was closed.
    fn open(&mut self, interval: u64) -> &mut Open {
        self.open.entry(interval).or_insert_with(|| {
            let mut open = Open::default();
            for (series, bytes) in self.closed.remove(&interval).unwrap_or_default() {
                open.slot.add(series, &read(&bytes));
            }
            open
        })
    }

    fn close_old(&mut self) {
        let newest = self.open.last_key_value().map_or(0, |(interval, _)| *interval);
        let newer = self.open.split_off(&(newest.saturating_sub(OPEN - 1)));
        for (interval, open) in std::mem::replace(&mut self.open, newer) {
            self.closed.insert(interval, close(&open.slot));
        }
    }

    /// The newest interval that so many recorders have handed over, or that is over for all of them.
    pub fn newest_whole(&self, recorders: usize) -> Option<(u64, &Slot)> {
        let newest = *self.open.last_key_value()?.0;
        let whole = |(interval, open): &(&u64, &Open)| {
            **interval < newest || open.parcels >= recorders.max(1)
        };
        self.open.iter().rev().find(whole).map(|(interval, open)| (*interval, &open.slot))
    }

    /// The intervals in which anything ended, in order.
    pub fn intervals(&self) -> Vec<u64> {
        self.closed.keys().chain(self.open.keys()).copied().collect()
    }

    /// The histograms of an interval, in the order of the series.
    pub fn histograms(&self, interval: u64) -> Vec<(Series, Histogram<u64>)> {
        if let Some(closed) = self.closed.get(&interval) {
            return closed.iter().map(|(series, bytes)| (*series, read(bytes))).collect();
        }
        let slot = self.open.get(&interval).map(|open| &open.slot);
        let of = |series| Some((series, slot?.get(series)?.clone()));
        Series::all().filter_map(of).collect()
    }
}

fn close(slot: &Slot) -> Closed {
    let mut serializer = V2DeflateSerializer::new();
    let mut written = |series| {
        let mut bytes = Vec::new();
        // Into memory, of counts that one run can't bring near 2^63: there is nothing that could fail.
        serializer.serialize(slot.get(series)?, &mut bytes).expect("a histogram can be written");
        Some((series, bytes.into_boxed_slice()))
    };
    Series::all().filter_map(&mut written).collect()
}

fn read(bytes: &[u8]) -> Histogram<u64> {
    let mut reading = bytes;
    // Written by `close`, and never left memory.
    Deserializer::new().deserialize(&mut reading).expect("what was written can be read")
}
