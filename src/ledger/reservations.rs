//! The table of reservations, and the one word that arbitrates each one's life.
//!
//! # What it promises
//!
//! - A reservation's word packs its state, a busy bit, a version and its deadline. Every transition
//!   (commit, release, extend, expiry) first sets the busy bit by compare-and-swap: of several that
//!   race, one wins, the others see what it made.
//! - A slot becomes visible ([`Reservations::open`]) only after the record that grants it has its
//!   place in the log; its id is that place and the slot, so a look-up is one array access and a
//!   stale id finds nothing.
//! - A reader gets numbers that belonged together ([`Reservations::read`]), with the position of the
//!   last record behind them: nothing may be told of them until that is durable.
//!
//! A slot is one cache line: a single-line reservation needs nothing else.

use std::sync::Arc;

use super::{
    slab::Slab,
    sync::{AtomicU32, AtomicU64, Backoff, Mutex, Ordering, fence},
};
use crate::model::{Lsn, OrderId, ReservationId, event::Line, view::ReservationState};

/// The chain link of a slot that is in no list of the timer wheel.
pub const NOT_TIMED: u32 = u32::MAX - 1;

const BUSY: u64 = 1 << 3;
const VERSION_ONE: u64 = 1 << 4;
const VERSION_MASK: u64 = 0xfff << 4;
const DEADLINE_SHIFT: u32 = 16;

fn state_bits(state: ReservationState) -> u64 {
    match state {
        ReservationState::Held => 1,
        ReservationState::Committed => 2,
        ReservationState::Released => 3,
        ReservationState::Expired => 4,
        ReservationState::Fulfilled => 5,
        ReservationState::Cancelled => 6,
    }
}

fn state_of(word: u64) -> Option<ReservationState> {
    Some(match word & 7 {
        1 => ReservationState::Held,
        2 => ReservationState::Committed,
        3 => ReservationState::Released,
        4 => ReservationState::Expired,
        5 => ReservationState::Fulfilled,
        6 => ReservationState::Cancelled,
        _ => return None,
    })
}

/// What a reservation has that does not fit into its slot: several lines, what it was granted where
/// that has changed since, the name of its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// What it holds.
    pub lines: Lines,
    /// What it was granted, where that was something else.
    pub granted: Option<Lines>,
    /// The order that it was made for or became. Kept here, since the record that names it may be
    /// recycled long before the reservation is closed.
    pub order_id: Option<OrderId>,
}

#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    word: AtomicU64,
    id: AtomicU64,
    last: AtomicU64,
    /// `position << 32 | limited << 31 | quantity` of the only line; see `extra`.
    line: AtomicU64,
    customer: AtomicU64,
    order: AtomicU64,
    /// One more than the slot of the extra lines; 0 without.
    extra: AtomicU32,
    timer_next: AtomicU32,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            word: AtomicU64::new(0),
            id: AtomicU64::new(0),
            last: AtomicU64::new(0),
            line: AtomicU64::new(0),
            customer: AtomicU64::new(0),
            order: AtomicU64::new(0),
            extra: AtomicU32::new(0),
            timer_next: AtomicU32::new(NOT_TIMED),
        }
    }
}

fn pack_line(line: &Line) -> u64 {
    (u64::from(line.position) << 32) | (u64::from(line.limited) << 31) | u64::from(line.quantity)
}

fn unpack_line(line: u64) -> Line {
    let quantity = line as u32 & (u32::MAX >> 1);
    Line { position: (line >> 32) as u32, quantity, limited: line >> 31 & 1 == 1 }
}

/// A reservation at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: ReservationId,
    /// Its state.
    pub state: ReservationState,
    /// When it expires; of a closed one, when it may be forgotten.
    pub deadline_ms: u64,
    /// The position of its last record.
    pub last: Lsn,
    /// What it holds, or held.
    pub lines: Lines,
    /// What it was granted, where that was something else.
    pub granted: Option<Lines>,
    /// Keyed hash of the customer; 0 without one.
    pub customer: u64,
    /// Keyed hash of the order id; 0 without one.
    pub order: u64,
    /// The order that it was made for or became.
    pub order_id: Option<OrderId>,
}

/// The lines of a reservation; a single one needs no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lines {
    /// One.
    One(Line),
    /// Several, or none.
    Many(Box<[Line]>),
}

impl std::ops::Deref for Lines {
    type Target = [Line];
    fn deref(&self) -> &[Line] {
        match self {
            Self::One(line) => std::slice::from_ref(line),
            Self::Many(lines) => lines,
        }
    }
}

impl From<&[Line]> for Lines {
    fn from(lines: &[Line]) -> Self {
        match lines {
            [one] => Self::One(*one),
            many => Self::Many(many.into()),
        }
    }
}

/// What a new reservation is made of.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// The position of the record that grants it.
    pub lsn: Lsn,
    /// Held, or committed at once.
    pub state: ReservationState,
    /// When it expires.
    pub deadline_ms: u64,
    /// What it holds.
    pub lines: &'a [Line],
    /// Keyed hash of the customer; 0 without one.
    pub customer: u64,
    /// Keyed hash of the order id; 0 without one.
    pub order: u64,
    /// The order id, where there is one.
    pub order_id: Option<&'a OrderId>,
}

/// Why a transition can't begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotBegun {
    /// There is no such reservation.
    Unknown,
    /// It is in another state, which the record at `last` made.
    State {
        /// The state.
        state: ReservationState,
        /// The record.
        last: Lsn,
    },
    /// Another transition is under way and did not end in time.
    Busy,
}

/// The right to move a reservation from one state to the next. Dropped, it leaves it as it was.
#[derive(Debug)]
pub struct Transition<'a> {
    table: &'a Reservations,
    slot: &'a Slot,
    number: u32,
    before: u64,
}

impl Transition<'_> {
    /// The reservation as it is.
    pub fn snapshot(&self) -> Snapshot {
        // Busy is ours, so nothing changes under us.
        self.table.snapshot(self.number, self.slot, self.before)
    }

    /// Ends the transition: its record stands at `last`. A closed one keeps its slot until
    /// `deadline_ms`.
    pub fn finish(self, state: ReservationState, deadline_ms: u64, last: Lsn) {
        self.slot.last.store(last.0, Ordering::Relaxed);
        let version = (self.before.wrapping_add(VERSION_ONE)) & VERSION_MASK;
        let word = state_bits(state) | version | (deadline_ms << DEADLINE_SHIFT);
        self.slot.word.store(word, Ordering::Release);
        std::mem::forget(self);
    }

    /// Changes what it holds, before [`Self::finish`].
    pub fn set_lines(&self, lines: &[Line]) {
        self.table.set_lines(self.slot, lines);
    }

    /// Names the order that it becomes, before [`Self::finish`].
    pub fn set_order(&self, order: u64, order_id: &OrderId) {
        self.slot.order.store(order, Ordering::Relaxed);
        self.table.set_order_id(self.slot, order_id);
    }
}

impl Drop for Transition<'_> {
    fn drop(&mut self) {
        self.slot.word.store(self.before, Ordering::Release);
    }
}

/// All reservations, by slot.
#[derive(Debug)]
pub struct Reservations {
    slots: Slab<Slot>,
    extras: Slab<Mutex<Option<Arc<Extra>>>>,
}

/// Tries before a waiter gives up. A transition lasts about a microsecond; a thread that was put
/// off its core in the middle needs some milliseconds.
const ROUNDS_MAX: u32 = 20_000;

impl Reservations {
    /// Room for at most `reservations_max`.
    pub fn new(reservations_max: u32) -> Self {
        Self { slots: Slab::new(reservations_max), extras: Slab::new(reservations_max) }
    }

    /// A slot for a reservation that is being decided; nobody else sees it. Give it back with
    /// [`Self::abandon`] if it is refused.
    pub fn reserve_slot(&self) -> Option<u32> {
        self.slots.take()
    }

    /// Gives an unused slot back.
    pub fn abandon(&self, slot: u32) {
        self.slots.put(slot);
    }

    /// Makes a granted reservation visible: only after its record has its place in the log.
    pub fn open(&self, slot: u32, opening: &Opening<'_>) {
        if let Some(entry) = self.slots.get(slot) {
            self.fill(entry, opening);
        }
    }

    fn fill(&self, entry: &Slot, opening: &Opening<'_>) {
        // A reader of what this slot was before, who sees any of these, sees its word changed.
        fence(Ordering::Release);
        entry.id.store(opening.lsn.0, Ordering::Relaxed);
        entry.last.store(opening.lsn.0, Ordering::Relaxed);
        entry.customer.store(opening.customer, Ordering::Relaxed);
        entry.order.store(opening.order, Ordering::Relaxed);
        match (opening.lines, opening.order_id) {
            ([one], None) => entry.line.store(pack_line(one), Ordering::Relaxed),
            (lines, order_id) => {
                let order_id = order_id.cloned();
                self.set_extra(entry, Extra { lines: lines.into(), granted: None, order_id });
            }
        }
        // The version goes on from the slot's last life, so that who holds a word of that one can't
        // take this one for it, even with the same state and deadline.
        let version = entry.word.load(Ordering::Relaxed) & VERSION_MASK;
        let word = state_bits(opening.state) | version | (opening.deadline_ms << DEADLINE_SHIFT);
        entry.word.store(word, Ordering::Release);
    }

    fn set_extra(&self, entry: &Slot, extra: Extra) {
        let mut number = entry.extra.load(Ordering::Relaxed);
        if number == 0 {
            // There are as many extras as slots, so there is one.
            let Some(taken) = self.extras.take() else { return };
            number = taken + 1;
            entry.extra.store(number, Ordering::Relaxed);
        }
        if let Some(cell) = self.extras.get(number - 1) {
            *cell.lock() = Some(Arc::new(extra));
        }
    }

    fn extra(&self, entry: &Slot) -> Option<Arc<Extra>> {
        let number = entry.extra.load(Ordering::Relaxed).checked_sub(1)?;
        self.extras.get(number)?.lock().clone()
    }

    /// What the slot's extra is, or would be.
    fn extra_or_line(&self, entry: &Slot) -> Extra {
        self.extra(entry).map_or_else(
            || Extra {
                lines: Lines::One(unpack_line(entry.line.load(Ordering::Relaxed))),
                granted: None,
                order_id: None,
            },
            |extra| (*extra).clone(),
        )
    }

    fn set_lines(&self, entry: &Slot, lines: &[Line]) {
        let Extra { lines: before, granted, order_id } = self.extra_or_line(entry);
        let granted = Some(granted.unwrap_or(before));
        self.set_extra(entry, Extra { lines: lines.into(), granted, order_id });
    }

    fn set_order_id(&self, entry: &Slot, order_id: &OrderId) {
        let extra = self.extra_or_line(entry);
        if extra.order_id.as_ref() != Some(order_id) {
            self.set_extra(entry, Extra { order_id: Some(order_id.clone()), ..extra });
        }
    }

    fn snapshot(&self, number: u32, entry: &Slot, word: u64) -> Snapshot {
        let (lines, granted, order_id) = match self.extra(entry) {
            None => (Lines::One(unpack_line(entry.line.load(Ordering::Relaxed))), None, None),
            Some(extra) => (extra.lines.clone(), extra.granted.clone(), extra.order_id.clone()),
        };
        Snapshot {
            id: ReservationId { lsn: Lsn(entry.id.load(Ordering::Relaxed)), slot: number },
            state: state_of(word).unwrap_or(ReservationState::Released),
            deadline_ms: word >> DEADLINE_SHIFT,
            last: Lsn(entry.last.load(Ordering::Relaxed)),
            lines,
            granted,
            customer: entry.customer.load(Ordering::Relaxed),
            order: entry.order.load(Ordering::Relaxed),
            order_id,
        }
    }

    fn read_slot(&self, number: u32, id: Option<Lsn>) -> Result<Snapshot, NotBegun> {
        let entry = self.slots.get(number).ok_or(NotBegun::Unknown)?;
        let mut backoff = Backoff::default();
        for _ in 0..ROUNDS_MAX {
            let word = entry.word.load(Ordering::Acquire);
            if state_of(word).is_none() {
                return Err(NotBegun::Unknown);
            }
            if word & BUSY == 0 {
                let snapshot = self.snapshot(number, entry, word);
                fence(Ordering::Acquire);
                if entry.word.load(Ordering::Relaxed) == word {
                    return match id {
                        Some(lsn) if lsn != snapshot.id.lsn => Err(NotBegun::Unknown),
                        _ => Ok(snapshot),
                    };
                }
            }
            backoff.wait();
        }
        Err(NotBegun::Busy)
    }

    /// The reservation as it is.
    pub fn read(&self, id: ReservationId) -> Result<Snapshot, NotBegun> {
        self.read_slot(id.slot, Some(id.lsn))
    }

    /// Whatever is in the slot.
    pub fn read_any(&self, slot: u32) -> Result<Snapshot, NotBegun> {
        self.read_slot(slot, None)
    }

    /// Begins a transition out of one of the states `from`.
    pub fn begin(
        &self,
        id: ReservationId,
        from: &[ReservationState],
    ) -> Result<Transition<'_>, NotBegun> {
        let entry = self.slots.get(id.slot).ok_or(NotBegun::Unknown)?;
        let mut backoff = Backoff::default();
        for _ in 0..ROUNDS_MAX {
            let word = entry.word.load(Ordering::Acquire);
            let Some(state) = state_of(word) else { return Err(NotBegun::Unknown) };
            if word & BUSY == 0 {
                let last = Lsn(entry.last.load(Ordering::Relaxed));
                let known = entry.id.load(Ordering::Relaxed);
                if from.contains(&state) && known == id.lsn.0 {
                    if self.set_busy(entry, word) {
                        return Ok(Transition {
                            table: self,
                            slot: entry,
                            number: id.slot,
                            before: word,
                        });
                    }
                } else {
                    fence(Ordering::Acquire);
                    if entry.word.load(Ordering::Relaxed) == word {
                        return Err(match known == id.lsn.0 {
                            true => NotBegun::State { state, last },
                            false => NotBegun::Unknown,
                        });
                    }
                }
            }
            backoff.wait();
        }
        Err(NotBegun::Busy)
    }

    /// The compare-and-swap that decides who moves a reservation. The word it expects carries state,
    /// version and deadline, and the slot's id can't change while they stay the same.
    fn set_busy(&self, entry: &Slot, word: u64) -> bool {
        let busy =
            entry.word.compare_exchange(word, word | BUSY, Ordering::AcqRel, Ordering::Relaxed);
        // A reader that sees any of the stores that follow sees the word changed.
        fence(Ordering::Release);
        busy.is_ok()
    }

    /// Replay: whatever was in the slot has gone; this is in it now. `None`: beyond the table.
    pub fn restore(&self, slot: u32, opening: &Opening<'_>) -> Option<()> {
        let entry = self.slots.claim(slot)?;
        self.clear(entry);
        self.fill(entry, opening);
        Some(())
    }

    fn clear(&self, entry: &Slot) {
        let version = entry.word.load(Ordering::Relaxed).wrapping_add(VERSION_ONE) & VERSION_MASK;
        entry.word.store(version, Ordering::Release);
        if let Some(number) = entry.extra.swap(0, Ordering::Relaxed).checked_sub(1) {
            if let Some(cell) = self.extras.get(number) {
                *cell.lock() = None;
            }
            self.extras.put(number);
        }
    }

    /// After replay: slots that are not in use may be handed out.
    pub fn rebuild(&self) {
        self.slots.rebuild(|slot| state_of(slot.word.load(Ordering::Relaxed)).is_some());
    }

    /// Frees closed reservations whose time is over, among the slots of the range. Returns how many.
    pub fn sweep(&self, slots: std::ops::Range<u32>, now_ms: u64) -> u32 {
        let mut freed = 0;
        for number in slots {
            let Some(entry) = self.slots.get(number) else { break };
            let word = entry.word.load(Ordering::Acquire);
            let closed = matches!(
                state_of(word),
                Some(ReservationState::Released | ReservationState::Expired)
            );
            let timed = entry.timer_next.load(Ordering::Acquire) != NOT_TIMED;
            if !closed || word & BUSY != 0 || timed || word >> DEADLINE_SHIFT > now_ms {
                continue;
            }
            if self.set_busy(entry, word) {
                self.clear(entry);
                self.slots.put(number);
                freed += 1;
            }
        }
        freed
    }

    /// The slot's link in the timer wheel.
    pub(super) fn timer_link(&self, slot: u32) -> Option<&AtomicU32> {
        self.slots.get(slot).map(|s| &s.timer_next)
    }

    /// Slots below it have been in use at least once.
    pub fn slots(&self) -> u32 {
        self.slots.fresh()
    }

    /// Slots in use.
    pub fn len(&self) -> u32 {
        self.slots.used()
    }

    /// Makes memory for what comes next; see [`Slab::make_ahead`].
    pub fn make_ahead(&self, least: u32) {
        self.slots.make_ahead(least);
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most there can be.
    pub fn reservations_max(&self) -> u32 {
        self.slots.slots_max()
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;

    const LINE: Line = Line { position: 4, quantity: 2, limited: true };
    const HELD: &[ReservationState] = &[ReservationState::Held];

    fn opening(lsn: u64, lines: &[Line]) -> Opening<'_> {
        Opening {
            lsn: Lsn(lsn),
            state: ReservationState::Held,
            deadline_ms: 1000,
            lines,
            customer: 0,
            order: 0,
            order_id: None,
        }
    }

    #[test]
    fn a_slot_is_one_cache_line() {
        assert!(size_of::<Slot>() <= 64);
    }

    #[test]
    fn of_two_transitions_one_wins_and_the_other_sees_what_it_made() {
        let table = Reservations::new(4);
        let slot = table.reserve_slot().unwrap();
        let id = ReservationId { lsn: Lsn(8), slot };
        assert_eq!(table.read(id), Err(NotBegun::Unknown));
        table.open(slot, &opening(8, &[LINE]));
        assert_eq!(table.read(id).unwrap().lines[0], LINE);
        let commit = table.begin(id, HELD).unwrap();
        commit.finish(ReservationState::Committed, 0, Lsn(16));
        let lost = table.begin(id, HELD).unwrap_err();
        assert_eq!(lost, NotBegun::State { state: ReservationState::Committed, last: Lsn(16) });
        let stale = ReservationId { lsn: Lsn(0), slot };
        assert_eq!(table.begin(stale, HELD).unwrap_err(), NotBegun::Unknown);
    }

    #[test]
    fn a_dropped_transition_leaves_it_as_it_was() {
        let table = Reservations::new(4);
        let slot = table.reserve_slot().unwrap();
        let id = ReservationId { lsn: Lsn(8), slot };
        table.open(slot, &opening(8, &[LINE, LINE]));
        let before = table.read(id).unwrap();
        drop(table.begin(id, HELD).unwrap());
        assert_eq!(table.read(id).unwrap(), before);
    }

    #[test]
    fn the_order_stays_when_lines_change_and_lines_when_the_order_comes() {
        let table = Reservations::new(4);
        let (given, other): (OrderId, OrderId) = ("O-1".parse().unwrap(), "O-2".parse().unwrap());
        for order_id in [Some(&given), None] {
            let slot = table.reserve_slot().unwrap();
            let id = ReservationId { lsn: Lsn(8), slot };
            table.open(slot, &Opening { order_id, ..opening(8, &[LINE]) });
            assert_eq!(table.read(id).unwrap().order_id.as_ref(), order_id);
            let change = table.begin(id, HELD).unwrap();
            change.set_lines(&[LINE, LINE]);
            change.finish(ReservationState::Held, 1000, Lsn(16));
            assert_eq!(table.read(id).unwrap().order_id.as_ref(), order_id);
            let sale = table.begin(id, HELD).unwrap();
            sale.set_order(7, &other);
            sale.finish(ReservationState::Committed, 0, Lsn(24));
            let now = table.read(id).unwrap();
            assert_eq!((now.order, now.order_id.as_ref()), (7, Some(&other)));
            assert_eq!((now.lines.len(), now.granted.unwrap().len()), (2, 1));
        }
    }

    #[test]
    fn what_was_granted_is_remembered_when_lines_change() {
        let table = Reservations::new(4);
        let slot = table.reserve_slot().unwrap();
        let id = ReservationId { lsn: Lsn(8), slot };
        table.open(slot, &opening(8, &[LINE]));
        for quantity in [1, 3] {
            let change = table.begin(id, HELD).unwrap();
            change.set_lines(&[Line { quantity, ..LINE }]);
            change.finish(ReservationState::Held, 1000, Lsn(16));
        }
        let now = table.read(id).unwrap();
        assert_eq!((now.lines[0].quantity, now.granted.unwrap()[0].quantity), (3, 2));
    }

    #[test]
    fn a_closed_one_keeps_its_slot_for_its_time() {
        let table = Reservations::new(1);
        let slot = table.reserve_slot().unwrap();
        let id = ReservationId { lsn: Lsn(8), slot };
        table.open(slot, &opening(8, &[LINE, LINE]));
        assert_eq!(table.sweep(0..1, u64::MAX), 0, "held ones stay");
        table.begin(id, HELD).unwrap().finish(ReservationState::Released, 50, Lsn(16));
        assert_eq!(table.sweep(0..1, 49), 0);
        assert_eq!(table.reserve_slot(), None);
        assert_eq!(table.sweep(0..1, 50), 1);
        assert_eq!(table.read(id), Err(NotBegun::Unknown));
        assert_eq!(table.reserve_slot(), Some(slot));
    }
}
