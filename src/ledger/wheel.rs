//! The timer wheel: which reservations to look at when.
//!
//! A hashed wheel of lists that run through the reservations' own slots, so that a timer costs four
//! bytes and one compare-and-swap. Nothing is ever taken out of the middle: a reservation that is
//! committed, released or extended stays in its list, and whoever turns the wheel looks at what it
//! is then. A slot is in at most one list.
//!
//! A deadline beyond one turn shares its list with nearer ones and is put back when it comes up. A
//! deadline that was brought forward ([`Wheel::hasten`]) goes to a side heap with a limit; beyond
//! the limit it comes up at its former time.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    reservations::{NOT_TIMED, Reservations},
    slab::NONE,
    sync::{AtomicU32, AtomicU64, Mutex, Ordering, WHEEL_TICKS as TICKS},
};

/// Length of a tick in milliseconds.
pub const TICK_MS: u64 = 64;
/// Deadlines that may be brought forward at a time.
const HASTENED_MAX: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct Wheel {
    lists: Box<[AtomicU32]>,
    /// The next tick to be turned.
    tick: AtomicU64,
    hastened: Mutex<BinaryHeap<Reverse<(u64, u32)>>>,
}

impl Wheel {
    /// A wheel whose time begins at `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        Self {
            lists: (0..TICKS).map(|_| AtomicU32::new(NONE)).collect(),
            tick: AtomicU64::new(now_ms / TICK_MS),
            hastened: Mutex::default(),
        }
    }

    /// Notes that a slot is to be looked at once `deadline_ms` has passed. A slot that is in a list
    /// already stays there.
    pub fn insert(&self, reservations: &Reservations, slot: u32, deadline_ms: u64) {
        let Some(link) = reservations.timer_link(slot) else { return };
        if link.load(Ordering::Acquire) != NOT_TIMED {
            self.hasten(slot, deadline_ms);
            return;
        }
        // One tick after the deadline's own, so that it has passed when its list comes up, and
        // never a tick that was turned already.
        let tick = (deadline_ms / TICK_MS + 1).max(self.tick.load(Ordering::Acquire) + 1);
        let list = &self.lists[tick as usize % TICKS];
        let mut first = list.load(Ordering::Acquire);
        loop {
            link.store(first, Ordering::Release);
            match list.compare_exchange_weak(first, slot, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => first = now,
            }
        }
        // Its tick was turned meanwhile: the list comes up again only a whole turn later. Who turns moves
        // the tick before he empties the list, so who comes after that sees it moved.
        if self.tick.load(Ordering::Acquire) > tick {
            self.hasten(slot, deadline_ms);
        }
    }

    /// Notes that a slot is to be looked at earlier than it was inserted for.
    pub fn hasten(&self, slot: u32, deadline_ms: u64) {
        let mut hastened = self.hastened.lock();
        if hastened.len() < HASTENED_MAX {
            hastened.push(Reverse((deadline_ms, slot)));
        }
    }

    /// Turns the wheel up to now and hands out every slot that has come up; `look` returns the
    /// deadline to put it back for, or `None` if it needs no timer any more. One thread turns.
    pub fn turn(
        &self,
        reservations: &Reservations,
        now_ms: u64,
        mut look: impl FnMut(u32) -> Option<u64>,
    ) {
        self.turn_hastened(now_ms, &mut look);
        let until = now_ms / TICK_MS;
        let from = self.tick.load(Ordering::Relaxed);
        // More than one turn behind, each list comes up once.
        for tick in from..=until.min(from + TICKS as u64 - 1) {
            self.tick.store(tick + 1, Ordering::Release);
            let mut slot = self.lists[tick as usize % TICKS].swap(NONE, Ordering::AcqRel);
            while let Some(link) = reservations.timer_link(slot) {
                let this = slot;
                slot = link.swap(NOT_TIMED, Ordering::AcqRel);
                if let Some(deadline_ms) = look(this) {
                    self.insert(reservations, this, deadline_ms);
                }
            }
        }
        self.tick.fetch_max(until + 1, Ordering::AcqRel);
    }

    fn turn_hastened(&self, now_ms: u64, look: &mut impl FnMut(u32) -> Option<u64>) {
        loop {
            let due = {
                let mut hastened = self.hastened.lock();
                match hastened.peek() {
                    Some(Reverse((deadline_ms, _))) if *deadline_ms <= now_ms => hastened.pop(),
                    _ => None,
                }
            };
            let Some(Reverse((_, slot))) = due else { return };
            // It is still in its list, but may be wanted long before that comes up: it was busy, or
            // there was no room, or a grace is not over.
            if let Some(deadline_ms) = look(slot) {
                self.hasten(slot, deadline_ms.max(now_ms + 1));
            }
        }
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;
    use crate::{
        ledger::reservations::Opening,
        model::{Lsn, event::Line, view::ReservationState},
    };

    fn table(slots: u32) -> Reservations {
        let table = Reservations::new(slots);
        let line = Line { position: 0, quantity: 1, limited: false };
        for lsn in 0..slots {
            let slot = table.reserve_slot().unwrap();
            let opening = Opening {
                lsn: Lsn(u64::from(lsn) * 8),
                state: ReservationState::Held,
                deadline_ms: 0,
                lines: &[line],
                customer: 0,
                order: 0,
                order_id: None,
            };
            table.open(slot, &opening);
        }
        table
    }

    fn due(wheel: &Wheel, table: &Reservations, now_ms: u64) -> Vec<u32> {
        let mut out = Vec::new();
        wheel.turn(table, now_ms, |slot| {
            out.push(slot);
            None
        });
        out.sort_unstable();
        out
    }

    #[test]
    fn a_slot_comes_up_after_its_deadline_and_within_two_ticks() {
        let (table, wheel) = (table(3), Wheel::new(1_000_000));
        wheel.insert(&table, 0, 1_000_500);
        wheel.insert(&table, 1, 1_000_500);
        wheel.insert(&table, 2, 0);
        assert_eq!(due(&wheel, &table, 1_000_128), [2]);
        assert_eq!(due(&wheel, &table, 1_000_500), [0_u32; 0]);
        assert_eq!(due(&wheel, &table, 1_000_500 + 2 * TICK_MS), [0, 1]);
    }

    #[test]
    fn a_deadline_beyond_one_turn_is_put_back() {
        let (table, wheel) = (table(1), Wheel::new(0));
        let deadline = 3 * TICKS as u64 * TICK_MS;
        wheel.insert(&table, 0, deadline);
        let mut looked = 0;
        for now in (0..).step_by(1000).take_while(|n| *n < deadline + 1000) {
            wheel.turn(&table, now, |_| {
                looked += 1;
                (now < deadline).then_some(deadline)
            });
        }
        assert!((3..=5).contains(&looked), "{looked}");
    }

    #[test]
    fn a_hastened_deadline_comes_up_early_and_keeps_its_place() {
        let (table, wheel) = (table(1), Wheel::new(0));
        wheel.insert(&table, 0, 60_000);
        wheel.hasten(0, 1_000);
        assert_eq!(due(&wheel, &table, 1_000), [0]);
        assert_eq!(due(&wheel, &table, 60_200), [0]);
    }
}
