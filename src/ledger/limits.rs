//! Limits per customer and SKU: positions of their own, under the same law as stock. What a customer
//! takes is taken before the log and given back after it, and a decision that may still fail has it
//! *pending* meanwhile.
//!
//! A customer's period begins with the first unit and ends after the configured time; units of an
//! earlier period give nothing back to the present one. Customers are known by a keyed hash.

use std::collections::HashMap;

use ahash::RandomState;
use parking_lot::Mutex;

use super::sync::{AtomicU32, Ordering};

/// What came of trying to take units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// They are taken, pending.
    Yes,
    /// The customer would have more than the limit.
    Beyond {
        /// Units taken in this period.
        taken: u32,
    },
    /// A request that is being decided has some of them; try again in a moment.
    Wait,
    /// No more customers can be counted.
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    taken: u32,
    pending: u32,
    period_from_ms: u64,
    /// Reservations granted at or after it belong to this period.
    period_lsn: u64,
}

impl Count {
    /// Units of a reservation granted at `lsn` are in it, so they come off it when they are given
    /// back. A reservation may be older than the period, where its cart was changed since; then
    /// units of an earlier period that are held by a reservation in between come off it as well.
    fn covers(&mut self, lsn: u64) {
        self.period_lsn = self.period_lsn.min(lsn);
    }
}

type Shard = Mutex<HashMap<(u64, u32), Count, RandomState>>;

const SHARDS: usize = 1024;

/// Counts by customer and SKU.
#[derive(Debug)]
pub struct Limits {
    shards: Box<[Shard]>,
    counts_max: u32,
    period_ms: u64,
    len: AtomicU32,
}

/// Whose units of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Who {
    /// Keyed hash of the customer.
    pub customer: u64,
    /// The SKU's number.
    pub sku_number: u32,
}

/// Units that a decision gives back by the same record by which it takes others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Credit {
    /// Units.
    pub units: u32,
    /// The record that granted them.
    pub granted: u64,
}

/// A count as checkpoints keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Units taken in the period.
    pub taken: u32,
    /// When the period began.
    pub period_from_ms: u64,
    /// The record that began it.
    pub period_lsn: u64,
}

impl Limits {
    /// Room for at most `counts_max` pairs of customer and SKU; periods of `period_ms`.
    pub fn new(counts_max: u32, period_ms: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            counts_max,
            period_ms,
            len: AtomicU32::new(0),
        }
    }

    fn shard(&self, who: Who) -> &Shard {
        // The customer's hash is uniform already; sweeping counts on its upper bits being free.
        &self.shards[(who.customer ^ u64::from(who.sku_number)) as usize % SHARDS]
    }

    /// Takes units for a decision: [`Self::settle`] or [`Self::undo`] follows. `tail` is a position
    /// that the record of the reservation can't come before.
    pub fn take(&self, who: Who, quantity: u32, limit: u32, now_ms: u64, tail: u64) -> Allowed {
        self.take_instead(who, quantity, limit, now_ms, tail, Credit::default())
    }

    /// Like [`Self::take`] for a decision whose record also gives units back: those don't count.
    /// [`Self::give`] must follow the record, before [`Self::settle`].
    pub fn take_instead(
        &self,
        who: Who,
        quantity: u32,
        limit: u32,
        now_ms: u64,
        tail: u64,
        credit: Credit,
    ) -> Allowed {
        let mut shard = self.shard(who).lock();
        let fresh = Count { taken: 0, pending: 0, period_from_ms: now_ms, period_lsn: tail };
        let count = match shard.entry((who.customer, who.sku_number)) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(_) if quantity > limit => {
                return Allowed::Beyond { taken: 0 };
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                if self.len.load(Ordering::Relaxed) >= self.counts_max {
                    return Allowed::Full;
                }
                self.len.fetch_add(1, Ordering::Relaxed);
                entry.insert(fresh)
            }
        };
        if self.over(count, now_ms) {
            *count = fresh;
        }
        // Units of an earlier period are not in the count, so they don't come off it.
        let credit = if credit.granted >= count.period_lsn { credit.units } else { 0 };
        let limit = u64::from(limit) + u64::from(credit);
        if u64::from(count.taken) + u64::from(quantity) > limit {
            let settled = count.taken - count.pending;
            return if u64::from(settled) + u64::from(quantity) > limit {
                Allowed::Beyond { taken: settled }
            } else {
                Allowed::Wait
            };
        }
        count.taken += quantity;
        count.pending += quantity;
        count.covers(tail);
        Allowed::Yes
    }

    fn over(&self, count: &Count, now_ms: u64) -> bool {
        count.pending == 0 && now_ms.saturating_sub(count.period_from_ms) >= self.period_ms
    }

    fn with(&self, who: Who, change: impl FnOnce(&mut Count)) {
        if let Some(count) = self.shard(who).lock().get_mut(&(who.customer, who.sku_number)) {
            change(count);
        }
    }

    /// The decision stands.
    pub fn settle(&self, who: Who, quantity: u32) {
        self.with(who, |count| count.pending -= quantity);
    }

    /// The decision failed.
    pub fn undo(&self, who: Who, quantity: u32) {
        self.with(who, |count| {
            count.taken -= quantity;
            count.pending -= quantity;
        });
    }

    /// Gives back units of a reservation that was granted at `granted`.
    pub fn give(&self, who: Who, quantity: u32, granted: u64) {
        self.with(who, |count| {
            if granted >= count.period_lsn {
                count.taken = count.taken.saturating_sub(quantity).max(count.pending);
            }
        });
    }

    /// Replay: the record at `lsn` took units, whatever the limit is now.
    pub fn restore_take(&self, who: Who, quantity: u32, at_ms: u64, lsn: u64) {
        let mut shard = self.shard(who).lock();
        let fresh = Count { taken: 0, pending: 0, period_from_ms: at_ms, period_lsn: lsn };
        let count = shard.entry((who.customer, who.sku_number)).or_insert_with(|| {
            self.len.fetch_add(1, Ordering::Relaxed);
            fresh
        });
        if self.over(count, at_ms) {
            *count = fresh;
        }
        count.taken = count.taken.saturating_add(quantity);
        count.covers(lsn);
    }

    /// Replay: what a checkpoint says.
    pub fn restore(&self, who: Who, restored: Restored) {
        let Restored { taken, period_from_ms, period_lsn } = restored;
        let count = Count { taken, pending: 0, period_from_ms, period_lsn };
        if self.shard(who).lock().insert((who.customer, who.sku_number), count).is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets counts whose period is over, in one of [`Self::shards`] shards.
    pub fn sweep(&self, shard: usize, now_ms: u64) {
        let Some(shard) = self.shards.get(shard) else { return };
        let mut shard = shard.lock();
        let before = shard.len();
        shard.retain(|_, count| !self.over(count, now_ms));
        self.len.fetch_sub((before - shard.len()) as u32, Ordering::Relaxed);
    }

    /// Shards that [`Self::sweep`] may be asked for.
    pub fn shards(&self) -> usize {
        SHARDS
    }

    /// Units that the customer has taken in this period.
    pub fn taken(&self, who: Who, now_ms: u64) -> u32 {
        let shard = self.shard(who).lock();
        let count = shard.get(&(who.customer, who.sku_number));
        count.filter(|c| !self.over(c, now_ms)).map_or(0, |c| c.taken)
    }

    /// Pairs counted.
    pub fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(feature = "model-check")))]
mod tests {
    use super::*;

    const WHO: Who = Who { customer: 1, sku_number: 2 };

    #[test]
    fn a_customer_gets_no_more_than_the_limit() {
        let limits = Limits::new(10, 1000);
        assert_eq!(limits.take(WHO, 3, 2, 0, 0), Allowed::Beyond { taken: 0 });
        assert!(limits.is_empty());
        assert_eq!(limits.take(WHO, 2, 2, 0, 0), Allowed::Yes);
        assert_eq!(limits.take(WHO, 1, 2, 0, 0), Allowed::Wait);
        limits.settle(WHO, 2);
        assert_eq!(limits.take(WHO, 1, 2, 0, 0), Allowed::Beyond { taken: 2 });
        limits.give(WHO, 1, 0);
        assert_eq!(limits.take(WHO, 1, 2, 0, 0), Allowed::Yes);
        limits.undo(WHO, 1);
        assert_eq!(limits.taken(WHO, 0), 1);
    }

    #[test]
    fn a_period_ends_and_its_units_give_nothing_back_to_the_next() {
        let limits = Limits::new(10, 1000);
        assert_eq!(limits.take(WHO, 2, 2, 0, 8), Allowed::Yes);
        limits.settle(WHO, 2);
        assert_eq!(limits.take(WHO, 2, 2, 999, 16), Allowed::Beyond { taken: 2 });
        assert_eq!(limits.take(WHO, 2, 2, 1000, 24), Allowed::Yes);
        limits.settle(WHO, 2);
        limits.give(WHO, 2, 8);
        assert_eq!(limits.taken(WHO, 1000), 2);
        limits.give(WHO, 2, 24);
        assert_eq!(limits.taken(WHO, 1000), 0);
    }

    #[test]
    fn a_full_table_refuses_until_periods_end() {
        let limits = Limits::new(1, 1000);
        assert_eq!(limits.take(WHO, 1, 2, 0, 0), Allowed::Yes);
        limits.settle(WHO, 1);
        let other = Who { customer: 9, ..WHO };
        assert_eq!(limits.take(other, 1, 2, 0, 0), Allowed::Full);
        (0..limits.shards()).for_each(|s| limits.sweep(s, 1000));
        assert_eq!(limits.take(other, 1, 2, 1000, 0), Allowed::Yes);
    }
}
