//! The decision value of a position: one atomic word that packs the units *available* and the units
//! *pending*, taken by a cart that is still being decided.
//!
//! # What it promises
//!
//! - [`StockWord::take`] and [`StockWord::take_pending`] never lower `available` below zero.
//! - A taker is refused only if `available + pending` is too little: units of a cart that may yet
//!   fail on another line are waited for ([`Taken::Wait`]), so that such a cart never turns the
//!   buyer of the last unit away.
//! - Reading is one load.
//!
//! `available` is a signed 32-bit number: counts are limited to a billion each
//! ([`crate::model::STOCK_COUNT_MAX`]), so on hand plus backorder limit fits.

use super::sync::{AtomicU64, Ordering};

/// What came of trying to take units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// They are taken.
    Yes,
    /// There are too few, whatever becomes of the carts that are being decided.
    Short {
        /// What is available.
        available: i32,
    },
    /// A cart that is being decided has them; try again in a moment.
    Wait,
}

/// `available` (upper 32 bits, signed) and `pending` (lower 32 bits).
#[derive(Debug, Default)]
pub struct StockWord(AtomicU64);

fn pack(available: i32, pending: u32) -> u64 {
    (u64::from(available as u32) << 32) | u64::from(pending)
}

fn unpack(word: u64) -> (i32, u32) {
    ((word >> 32) as u32 as i32, word as u32)
}

impl StockWord {
    /// Available and pending units.
    pub fn load(&self) -> (i32, u32) {
        // Acquire: who sees a position sold out then sees the key of the cart that took the last
        // unit, so that a repeat of that cart is not answered "sold out".
        unpack(self.0.load(Ordering::Acquire))
    }

    fn take_as(&self, quantity: u32, pending: bool) -> Taken {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let (available, waiting) = unpack(word);
            if i64::from(available) < i64::from(quantity) {
                return if i64::from(available) + i64::from(waiting) < i64::from(quantity) {
                    Taken::Short { available }
                } else {
                    Taken::Wait
                };
            }
            let Some(new_waiting) = waiting.checked_add(if pending { quantity } else { 0 }) else {
                return Taken::Wait;
            };
            // The quantity is at most `available`, so it fits an i32.
            let new = pack(available - quantity as i32, new_waiting);
            match self.0.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Taken::Yes,
                Err(now) => word = now,
            }
        }
    }

    /// Takes units for good: the last take of a decision, after which nothing can fail.
    pub fn take(&self, quantity: u32) -> Taken {
        self.take_as(quantity, false)
    }

    /// Takes units for a decision that may still fail: [`Self::settle`] or [`Self::undo`] follows.
    pub fn take_pending(&self, quantity: u32) -> Taken {
        self.take_as(quantity, true)
    }

    fn update(&self, change: impl Fn(i32, u32) -> (i32, u32)) {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (available, pending) = unpack(word);
            let (available, pending) = change(available, pending);
            let new = pack(available, pending);
            match self.0.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// The decision stands: the units are no longer pending.
    pub fn settle(&self, quantity: u32) {
        self.update(|available, pending| (available, pending - quantity));
    }

    /// The decision failed: pending units are available again.
    pub fn undo(&self, quantity: u32) {
        self.update(|available, pending| (available + quantity as i32, pending - quantity));
    }

    /// Gives units: only after the record that gives them has its place in the log.
    pub fn give(&self, quantity: u32) {
        self.update(|available, pending| (available.saturating_add_unsigned(quantity), pending));
    }

    /// Takes units whether or not they are there: a forced correction of the stock, which may leave
    /// a shortfall, and replay, which repeats what was decided.
    pub fn force_take(&self, quantity: u32) {
        self.update(|available, pending| (available.saturating_sub_unsigned(quantity), pending));
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;

    #[test]
    fn never_below_zero_and_never_refused_for_a_pending_unit() {
        let word = StockWord::default();
        assert_eq!(word.take(1), Taken::Short { available: 0 });
        word.give(3);
        assert_eq!(word.take_pending(2), Taken::Yes);
        assert_eq!(word.load(), (1, 2));
        assert_eq!(word.take(2), Taken::Wait);
        assert_eq!(word.take(4), Taken::Short { available: 1 });
        word.undo(2);
        assert_eq!(word.take(3), Taken::Yes);
        assert_eq!(word.load(), (0, 0));
    }

    #[test]
    fn a_forced_correction_may_leave_a_shortfall() {
        let word = StockWord::default();
        word.force_take(5);
        assert_eq!(word.load(), (-5, 0));
        assert_eq!(word.take(1), Taken::Short { available: -5 });
        word.give(6);
        assert_eq!(word.take(1), Taken::Yes);
    }
}
