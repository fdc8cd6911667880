//! Room: who may still write how much, decided before anything is taken or claimed.
//!
//! Two credits, in bytes, are the whole of it:
//!
//! - `near`: what is left of the segments that are mapped and zeroed. Every ticket takes its record
//!   from it, so a ticketed append can't land in a segment that is not ready.
//! - `free`: the real blocks beyond the tail (segments ready, and spare files allocated behind them),
//!   less the closing room set aside and less two reserves. New work is refused when it would fall below
//!   zero; what happens to orders for which nothing was set aside may take it down to minus their reserve;
//!   delivery may take that and its own, so that nobody else can keep it from making room again; what closes
//!   something open is never refused for it, because its room was set aside when that was opened.
//!
//! Beside the credits stands a soft mark: whether so much of the budget is spent that work which can wait
//! should. It refuses nothing by itself, and costs who asks one relaxed load. Whoever takes new work past it sets
//! it, since the thread that makes segments may be held up by the disk meanwhile; that thread says where it lies,
//! and takes it away.
//!
//! A little of both is kept for the log's own last word: the mark that an idle or closing log writes
//! must not fail for room, or its last group would be covered by none ([`Room::take_last`]).
//!
//! A segment brings its payload less the largest padding that its end can need; whoever turns to the
//! next segment settles the difference ([`Room::settle`]).

use crossbeam_utils::CachePadded;

use super::sync::{AtomicBool, AtomicI64, Ordering};

/// Whose record it is, which decides what room it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomClass {
    /// What opens something: refused first.
    New,
    /// What closes something open: its room was set aside when that was opened.
    Closing,
    /// What happens to an order for which no room was set aside: may use the reserve of orders.
    Order,
    /// Seals and acknowledgements: may use both reserves, and delivery's alone.
    Delivery,
    /// An operator's stock commands: like new work.
    Upkeep,
}

/// What only [`Room::take_last`] may use.
pub const LAST_BYTES: u64 = 4096;

/// What a ticket lacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Ready room; a segment is on its way.
    Near,
    /// Blocks on the disk.
    Free,
    /// The unsynced window is full.
    Window,
    /// The log takes no more.
    Poisoned,
}

struct Credits {
    near: AtomicI64,
    free: AtomicI64,
}

/// Takes from a credit, if it does not fall below `floor`; returns what is left.
fn take_down_to(credit: &AtomicI64, bytes: i64, floor: i64) -> Option<i64> {
    let mut value = credit.load(Ordering::Relaxed);
    loop {
        let left = value.checked_sub(bytes).filter(|left| *left >= floor)?;
        match credit.compare_exchange_weak(value, left, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(left),
            Err(now) => value = now,
        }
    }
}

/// The credits.
pub struct Room {
    credits: CachePadded<Credits>,
    /// All that was ever added to `free` other than by tickets, padding counted as used.
    granted: CachePadded<AtomicI64>,
    /// What a ticket that waits asks for.
    wanted: AtomicI64,
    order_reserve: i64,
    delivery_reserve: i64,
    padding_max: i64,
    /// Set while no more blocks can be had: the budget is spent or the disk is full.
    exhausted: AtomicBool,
    /// Set while more than the configured share of the budget is spent.
    past_soft_mark: AtomicBool,
    /// With so much of `free` left, or less, it is.
    soft_floor: AtomicI64,
}

impl Room {
    /// No room yet.
    pub fn new(order_reserve: u64, delivery_reserve: u64, padding_max: u64) -> Self {
        let (order_reserve, delivery_reserve) = (order_reserve as i64, delivery_reserve as i64);
        let last = LAST_BYTES as i64;
        let free = -order_reserve - delivery_reserve - last;
        let credits = Credits { near: AtomicI64::new(-last), free: AtomicI64::new(free) };
        Self {
            credits: CachePadded::new(credits),
            granted: CachePadded::new(AtomicI64::new(free)),
            wanted: AtomicI64::new(0),
            order_reserve,
            delivery_reserve,
            padding_max: padding_max as i64,
            exhausted: AtomicBool::new(false),
            past_soft_mark: AtomicBool::new(false),
            soft_floor: AtomicI64::new(i64::MIN),
        }
    }

    fn free_floor(&self, class: RoomClass) -> i64 {
        match class {
            RoomClass::New | RoomClass::Upkeep => 0,
            RoomClass::Order => -self.order_reserve,
            RoomClass::Delivery => -self.reserves(),
            RoomClass::Closing => i64::MIN,
        }
    }

    fn reserves(&self) -> i64 {
        self.order_reserve + self.delivery_reserve
    }

    /// Takes room, or says what is lacking: where there are not even blocks, a segment that is on its way
    /// would not help. Returns what new work may still use.
    ///
    /// By compare-and-swap rather than subtract-and-look: nothing is taken, not even for a moment,
    /// that is not granted, so one who is refused never makes another be refused wrongly.
    pub fn take(&self, class: RoomClass, record: u64, closing: u64) -> Result<i64, Lack> {
        let (record, all) = (record as i64, (record + closing) as i64);
        let Credits { near, free } = &*self.credits;
        let floor = self.free_floor(class);
        if take_down_to(near, record, 0).is_none() {
            let has_blocks = free.load(Ordering::Acquire).saturating_sub(all) >= floor;
            return Err(if has_blocks { Lack::Near } else { Lack::Free });
        }
        let Some(left) = take_down_to(free, all, floor) else {
            near.fetch_add(record, Ordering::AcqRel);
            return Err(Lack::Free);
        };
        if class == RoomClass::New {
            self.passed(left);
        }
        Ok(left)
    }

    /// New work has left so much of `free`.
    fn passed(&self, left: i64) {
        if left <= self.soft_floor.load(Ordering::Relaxed) && !self.is_past_soft_mark() {
            self.past_soft_mark.store(true, Ordering::Relaxed);
        }
    }

    /// Takes room for a mark that has to be written even where there is room for nothing else.
    pub fn take_last(&self, record: u64) -> Result<(), Lack> {
        let (record, last) = (record as i64, LAST_BYTES as i64);
        let Credits { near, free } = &*self.credits;
        if take_down_to(near, record, -last).is_none() {
            return Err(Lack::Near);
        }
        let taken = take_down_to(free, record, -self.reserves() - last);
        taken.map(drop).ok_or_else(|| {
            near.fetch_add(record, Ordering::AcqRel);
            Lack::Free
        })
    }

    /// Gives back what a ticket did not use.
    pub fn give(&self, record: u64, closing: u64) {
        if record > 0 {
            self.credits.near.fetch_add(record as i64, Ordering::AcqRel);
        }
        if record + closing > 0 {
            self.credits.free.fetch_add((record + closing) as i64, Ordering::AcqRel);
        }
    }

    /// Sets room aside, if new work leaves so much; whether it did.
    pub fn try_set_aside(&self, bytes: u64) -> bool {
        let left = take_down_to(&self.credits.free, bytes as i64, 0);
        left.inspect(|left| self.passed(*left)).is_some()
    }

    /// Sets room aside without asking: what was open when the log was opened.
    pub fn set_aside(&self, bytes: u64) {
        self.credits.free.fetch_sub(bytes as i64, Ordering::AcqRel);
    }

    /// A segment's end was passed with so much padding.
    pub fn settle(&self, padding: u64) {
        let over = self.padding_max - padding as i64;
        self.credits.near.fetch_add(over, Ordering::AcqRel);
        self.credits.free.fetch_add(over, Ordering::AcqRel);
        self.granted.fetch_add(self.padding_max, Ordering::Relaxed);
    }

    /// Blocks for `payload` bytes were had.
    pub fn add_blocks(&self, payload: u64) {
        let bytes = payload as i64 - self.padding_max;
        self.credits.free.fetch_add(bytes, Ordering::AcqRel);
        self.granted.fetch_add(bytes, Ordering::Relaxed);
    }

    /// `payload` bytes became ready. The segment must be in the ring before.
    pub fn add_ready(&self, payload: u64) {
        self.credits.near.fetch_add(payload as i64 - self.padding_max, Ordering::AcqRel);
    }

    /// What new work may still use.
    pub fn free(&self) -> i64 {
        self.credits.free.load(Ordering::Acquire)
    }

    /// What is set aside for closing records, when `used` bytes were used; tickets that are out count
    /// as set aside.
    pub fn closing(&self, used: u64) -> u64 {
        let closing = self.granted.load(Ordering::Acquire) - used as i64 - self.free();
        closing.max(0) as u64
    }

    /// What is left of the ready segments.
    pub fn near(&self) -> i64 {
        self.credits.near.load(Ordering::Acquire)
    }

    /// Says that a ticket of so many bytes waits.
    pub fn want(&self, bytes: u64) {
        self.wanted.fetch_max(bytes as i64, Ordering::AcqRel);
    }

    /// The largest ticket that waits; asked once.
    pub fn take_wanted(&self) -> i64 {
        self.wanted.swap(0, Ordering::AcqRel)
    }

    /// Says whether more blocks can be had.
    pub fn set_exhausted(&self, exhausted: bool) {
        self.exhausted.store(exhausted, Ordering::Release);
    }

    /// Compares what new work may still use with all that it could of an empty log: `segments` may be made
    /// in all, `unmade` of them can still be had. Past the mark once `percent` is spent, until less than
    /// fifteen sixteenths of that are: each segment's end gives back what its padding did not take, and work
    /// that can wait would be let in and turned away by turns.
    pub fn look_at_mark(&self, segments: u64, unmade: u64, segment_bytes: u64, percent: u32) {
        let each = i128::from(segment_bytes as i64 - self.padding_max);
        let kept = i128::from(self.reserves() + LAST_BYTES as i64);
        let all = i128::from(segments) * each - kept;
        let unmade = i128::from(unmade) * each;
        // How much is left of `free` when so many sixteenths of the share are spent.
        let free_at = |sixteenths| {
            let spent = (all * i128::from(percent) * sixteenths + 1_599) / 1_600;
            i64::try_from(all - spent - unmade).unwrap_or(i64::MIN)
        };
        self.soft_floor.store(free_at(16), Ordering::Relaxed);
        let at = free_at(if self.is_past_soft_mark() { 15 } else { 16 });
        self.past_soft_mark.store(self.free() <= at, Ordering::Relaxed);
    }

    /// Whether work that can wait should.
    pub fn is_past_soft_mark(&self) -> bool {
        self.past_soft_mark.load(Ordering::Relaxed)
    }

    /// Whether no more blocks can be had.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Acquire)
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;

    #[test]
    fn new_work_is_refused_before_closing_and_delivery() {
        let room = Room::new(40, 100, 0);
        room.add_blocks(1040 + LAST_BYTES);
        room.add_ready(1040 + LAST_BYTES);
        assert_eq!(room.take(RoomClass::New, 100, 700), Ok(100));
        assert_eq!(room.free(), 100);
        assert_eq!(room.take(RoomClass::New, 60, 60), Err(Lack::Free));
        assert_eq!(room.take(RoomClass::Upkeep, 101, 0), Err(Lack::Free));
        assert!(!room.try_set_aside(101) && room.try_set_aside(60));
        room.give(0, 60);
        assert_eq!(room.free(), 100);
        assert_eq!(room.take(RoomClass::Order, 140, 0), Ok(-40));
        assert_eq!(room.take(RoomClass::Order, 1, 0), Err(Lack::Free), "delivery's is not theirs");
        assert_eq!(room.take(RoomClass::Delivery, 50, 0), Ok(-90));
        assert_eq!(room.take(RoomClass::Delivery, 51, 0), Err(Lack::Free));
        assert_eq!(room.take(RoomClass::Closing, 700, 0), Ok(-790));
        room.give(0, 700);
        assert_eq!(room.free(), -90);
        assert_eq!(room.near(), 50);
        // Whoever lacks both is told what will not come by waiting.
        assert_eq!(room.take(RoomClass::Delivery, 60, 0), Err(Lack::Free));
        assert_eq!(room.take(RoomClass::Closing, 60, 0), Err(Lack::Near));
    }

    #[test]
    fn the_soft_mark_counts_what_is_spent_of_all_that_new_work_may_use() {
        let room = Room::new(30, 70, 0);
        room.add_blocks(1000);
        // Of five segments of 1000 and what is kept back, one is made.
        let all = 5 * 1000 - 100 - LAST_BYTES as i64;
        let look = |unmade| {
            room.look_at_mark(5, unmade, 1000, 80);
            room.is_past_soft_mark()
        };
        assert!(!look(4));
        let spent = (all * 8 + 9) / 10;
        (0..4).for_each(|_| room.add_blocks(1000));
        room.set_aside(spent as u64 - 1);
        assert!(!look(0));
        room.set_aside(1);
        assert!(look(0));
        // The disk is full: what can't be made is spent.
        room.give(0, spent as u64);
        assert!(!look(0));
        room.set_aside(1000);
        assert!(look(0) && !look(1));
    }

    /// The thread that makes segments may wait for the disk while others write: the mark is not passed over.
    #[test]
    fn who_takes_new_work_past_the_soft_mark_sets_it() {
        let room = Room::new(0, 0, 0);
        (0..3).for_each(|_| room.add_blocks(10_000));
        room.add_ready(30_000);
        room.look_at_mark(3, 0, 10_000, 80);
        let all = 30_000 - LAST_BYTES;
        let before = all * 8 / 10 - 8;
        assert!(room.take(RoomClass::New, 0, before).is_ok() && !room.is_past_soft_mark());
        assert!(room.take(RoomClass::Closing, 400, 0).is_ok() && !room.is_past_soft_mark());
        room.give(400, 0);
        assert!(room.take(RoomClass::New, 0, 9).is_ok() && room.is_past_soft_mark());
        room.give(0, before);
        assert!(room.is_past_soft_mark(), "only the thread that makes segments takes it away");
        room.look_at_mark(3, 0, 10_000, 80);
        assert!(!room.is_past_soft_mark());
        assert!(room.try_set_aside(before - 10) && !room.is_past_soft_mark());
        assert!(room.try_set_aside(10) && room.is_past_soft_mark());
    }

    #[test]
    fn what_a_segments_end_gives_back_does_not_take_the_soft_mark_away() {
        let room = Room::new(0, 0, 40);
        let look = || {
            room.look_at_mark(2, 0, 10_000, 80);
            room.is_past_soft_mark()
        };
        (0..2).for_each(|_| room.add_blocks(10_000));
        let all = 2 * 9_960 - LAST_BYTES as i64;
        room.set_aside((all * 8 + 9) as u64 / 10);
        assert!(look());
        room.settle(0);
        assert!(look());
        // A sixteenth of it is free again.
        room.give(0, (all * 8 / 160) as u64 - 40);
        assert!(look());
        room.give(0, 2);
        assert!(!look());
        room.set_aside(2);
        assert!(!look(), "nor is it passed again before all of that is spent");
    }

    #[test]
    fn ready_room_bounds_everyone() {
        let room = Room::new(0, 0, 10);
        room.add_blocks(1000 + LAST_BYTES);
        room.add_ready(110 + LAST_BYTES);
        assert_eq!(room.take(RoomClass::Closing, 101, 0), Err(Lack::Near));
        assert_eq!(room.take(RoomClass::Closing, 101, 0), Err(Lack::Near));
        assert_eq!(room.take(RoomClass::Closing, 100, 0), Ok(890));
        room.settle(4);
        assert_eq!((room.near(), room.free()), (6, 896));
        assert_eq!(room.take(RoomClass::Delivery, 8, 0), Err(Lack::Near));
        assert_eq!(room.take_last(40), Ok(()));
        assert_eq!(room.take_last(LAST_BYTES), Err(Lack::Near));
        assert_eq!((room.near(), room.free()), (-34, 856));
    }
}
