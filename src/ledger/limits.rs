//! Limits per customer and SKU: positions of their own, under the same law as stock. What a customer
//! takes is taken before the log and given back after it, and a decision that may still fail has it
//! *pending* meanwhile.
//!
//! A customer's period begins with the first unit and ends after the configured time; units of an
//! earlier period give nothing back to the present one. Customers are known by a keyed hash.

use parking_lot::{Mutex, MutexGuard};

use super::{
    memory::filled,
    slab::{NONE, Slab},
    sync::{AtomicU32, AtomicU64, Ordering},
};

/// What came of trying to take units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// They are taken, pending.
    Yes(Pending),
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

/// Units that a decision has taken; [`Limits::settle`] or [`Limits::undo`] ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    slot: u32,
    quantity: u32,
    /// Whose units of what.
    pub who: Who,
}

/// A customer's count. Its fields change under the lock of its bucket's group only.
#[derive(Debug)]
struct Count {
    customer: AtomicU64,
    period_from_ms: AtomicU64,
    /// Reservations granted at or after it belong to this period.
    period_lsn: AtomicU64,
    sku_number: AtomicU32,
    taken: AtomicU32,
    pending: AtomicU32,
    next: AtomicU32,
}

impl Default for Count {
    fn default() -> Self {
        Self {
            customer: AtomicU64::new(0),
            period_from_ms: AtomicU64::new(0),
            period_lsn: AtomicU64::new(0),
            sku_number: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            next: AtomicU32::new(NONE),
        }
    }
}

fn get(cell: &AtomicU32) -> u32 {
    cell.load(Ordering::Relaxed)
}

fn set(cell: &AtomicU32, value: u32) {
    cell.store(value, Ordering::Relaxed);
}

impl Count {
    fn is(&self, who: Who) -> bool {
        self.customer.load(Ordering::Relaxed) == who.customer
            && get(&self.sku_number) == who.sku_number
    }

    fn begin_period(&self, now_ms: u64, lsn: u64) {
        set(&self.taken, 0);
        set(&self.pending, 0);
        self.period_from_ms.store(now_ms, Ordering::Relaxed);
        self.period_lsn.store(lsn, Ordering::Relaxed);
    }

    /// Units of a reservation granted at `lsn` are in it, so they come off it when they are given
    /// back. A reservation may be older than the period, where its cart was changed since; then
    /// units of an earlier period that are held by a reservation in between come off it as well.
    fn covers(&self, lsn: u64) {
        let from = self.period_lsn.load(Ordering::Relaxed);
        self.period_lsn.store(from.min(lsn), Ordering::Relaxed);
    }

    fn is_over(&self, now_ms: u64, period_ms: u64) -> bool {
        let from_ms = self.period_from_ms.load(Ordering::Relaxed);
        get(&self.pending) == 0 && now_ms.saturating_sub(from_ms) >= period_ms
    }
}

/// Locks, and groups of buckets that [`Limits::sweep`] goes through; a power of two.
const GROUPS: usize = 1024;

/// Counts by customer and SKU: buckets of chains through slots, locked by groups.
#[derive(Debug)]
pub struct Limits {
    heads: Box<[AtomicU32]>,
    counts: Slab<Count>,
    locks: Box<[Mutex<()>]>,
    period_ms: u64,
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
        let buckets = (counts_max as usize).next_power_of_two().max(GROUPS);
        Self {
            heads: filled(buckets, || AtomicU32::new(NONE)),
            counts: Slab::new(counts_max),
            locks: (0..GROUPS).map(|_| Mutex::new(())).collect(),
            period_ms,
        }
    }

    fn bucket(&self, who: Who) -> usize {
        // The customer's hash is uniform already.
        let hash = who.customer ^ u64::from(who.sku_number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash as usize & (self.heads.len() - 1)
    }

    fn lock(&self, bucket: usize) -> MutexGuard<'_, ()> {
        self.locks[bucket % GROUPS].lock()
    }

    /// Under the lock.
    fn find(&self, bucket: usize, who: Who) -> Option<(u32, &Count)> {
        let mut slot = get(&self.heads[bucket]);
        while let Some(count) = self.counts.get(slot) {
            if count.is(who) {
                return Some((slot, count));
            }
            slot = get(&count.next);
        }
        None
    }

    /// Under the lock.
    fn add(&self, bucket: usize, who: Who, now_ms: u64, lsn: u64) -> Option<(u32, &Count)> {
        let slot = self.counts.take()?;
        let count = self.counts.get(slot)?;
        count.customer.store(who.customer, Ordering::Relaxed);
        set(&count.sku_number, who.sku_number);
        count.begin_period(now_ms, lsn);
        set(&count.next, get(&self.heads[bucket]));
        set(&self.heads[bucket], slot);
        Some((slot, count))
    }

    /// Begins to fetch what a take will touch; see [`super::keys::Keys::warm`].
    pub fn warm(&self, who: Who) {
        std::hint::black_box(get(&self.heads[self.bucket(who)]));
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
        let bucket = self.bucket(who);
        let _lock = self.lock(bucket);
        let (slot, count) = match self.find(bucket, who) {
            Some(known) => known,
            None if quantity > limit => return Allowed::Beyond { taken: 0 },
            None => match self.add(bucket, who, now_ms, tail) {
                Some(added) => added,
                None => return Allowed::Full,
            },
        };
        if count.is_over(now_ms, self.period_ms) {
            count.begin_period(now_ms, tail);
        }
        let (taken, pending) = (get(&count.taken), get(&count.pending));
        // Units of an earlier period are not in the count, so they don't come off it.
        let in_period = credit.granted >= count.period_lsn.load(Ordering::Relaxed);
        let limit = u64::from(limit) + if in_period { u64::from(credit.units) } else { 0 };
        let beyond = |taken: u32| u64::from(taken) + u64::from(quantity) > limit;
        if beyond(taken - pending) {
            return Allowed::Beyond { taken: taken - pending };
        }
        if beyond(taken) {
            return Allowed::Wait;
        }
        set(&count.taken, taken + quantity);
        set(&count.pending, pending + quantity);
        count.covers(tail);
        Allowed::Yes(Pending { slot, quantity, who })
    }

    fn end(&self, pending: Pending, taken: bool) {
        let _lock = self.lock(self.bucket(pending.who));
        // A count with pending units is not swept, so the slot is still this customer's.
        let Some(count) = self.counts.get(pending.slot) else { return };
        set(&count.pending, get(&count.pending) - pending.quantity);
        if !taken {
            set(&count.taken, get(&count.taken) - pending.quantity);
        }
    }

    /// The decision stands.
    pub fn settle(&self, pending: Pending) {
        self.end(pending, true);
    }

    /// The decision failed.
    pub fn undo(&self, pending: Pending) {
        self.end(pending, false);
    }

    /// Gives back units of a reservation that was granted at `granted`.
    pub fn give(&self, who: Who, quantity: u32, granted: u64) {
        let bucket = self.bucket(who);
        let _lock = self.lock(bucket);
        let Some((_, count)) = self.find(bucket, who) else { return };
        if granted >= count.period_lsn.load(Ordering::Relaxed) {
            let left = get(&count.taken).saturating_sub(quantity);
            set(&count.taken, left.max(get(&count.pending)));
        }
    }

    /// Replay: the record at `lsn` took units, whatever the limit is now. `false`: the table is full.
    pub fn restore_take(&self, who: Who, quantity: u32, at_ms: u64, lsn: u64) -> bool {
        let bucket = self.bucket(who);
        let _lock = self.lock(bucket);
        let known = self.find(bucket, who).or_else(|| self.add(bucket, who, at_ms, lsn));
        let Some((_, count)) = known else { return false };
        if count.is_over(at_ms, self.period_ms) {
            count.begin_period(at_ms, lsn);
        }
        set(&count.taken, get(&count.taken).saturating_add(quantity));
        count.covers(lsn);
        true
    }

    /// Replay: what a checkpoint says. `false`: the table is full.
    pub fn restore(&self, who: Who, restored: Restored) -> bool {
        let bucket = self.bucket(who);
        let _lock = self.lock(bucket);
        let (from_ms, lsn) = (restored.period_from_ms, restored.period_lsn);
        let known = self.find(bucket, who).or_else(|| self.add(bucket, who, from_ms, lsn));
        let Some((_, count)) = known else { return false };
        count.begin_period(from_ms, lsn);
        set(&count.taken, restored.taken);
        true
    }

    /// Forgets counts whose period is over, in one of [`Self::groups`] groups.
    pub fn sweep(&self, group: usize, now_ms: u64) {
        if group >= GROUPS {
            return;
        }
        let _lock = self.lock(group);
        for head in self.heads.iter().skip(group).step_by(GROUPS) {
            let mut link = head;
            while let Some(count) = self.counts.get(get(link)) {
                if count.is_over(now_ms, self.period_ms) {
                    let slot = get(link);
                    set(link, get(&count.next));
                    self.counts.put(slot);
                } else {
                    link = &count.next;
                }
            }
        }
    }

    /// Groups that [`Self::sweep`] may be asked for.
    pub fn groups(&self) -> usize {
        GROUPS
    }

    /// Units that the customer has taken in this period.
    pub fn taken(&self, who: Who, now_ms: u64) -> u32 {
        let bucket = self.bucket(who);
        let _lock = self.lock(bucket);
        let known = self.find(bucket, who).filter(|(_, c)| !c.is_over(now_ms, self.period_ms));
        known.map_or(0, |(_, count)| get(&count.taken))
    }

    /// Pairs counted.
    pub fn len(&self) -> u32 {
        self.counts.used()
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

    fn take(limits: &Limits, who: Who, quantity: u32, now_ms: u64, tail: u64) -> Pending {
        match limits.take(who, quantity, 2, now_ms, tail) {
            Allowed::Yes(pending) => pending,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_customer_gets_no_more_than_the_limit() {
        let limits = Limits::new(10, 1000);
        assert_eq!(limits.take(WHO, 3, 2, 0, 0), Allowed::Beyond { taken: 0 });
        assert!(limits.is_empty());
        let two = take(&limits, WHO, 2, 0, 0);
        assert_eq!(limits.take(WHO, 1, 2, 0, 0), Allowed::Wait);
        limits.settle(two);
        assert_eq!(limits.take(WHO, 1, 2, 0, 0), Allowed::Beyond { taken: 2 });
        limits.give(WHO, 1, 0);
        let one = take(&limits, WHO, 1, 0, 0);
        limits.undo(one);
        assert_eq!(limits.taken(WHO, 0), 1);
    }

    #[test]
    fn a_period_ends_and_its_units_give_nothing_back_to_the_next() {
        let limits = Limits::new(10, 1000);
        limits.settle(take(&limits, WHO, 2, 0, 8));
        assert_eq!(limits.take(WHO, 2, 2, 999, 16), Allowed::Beyond { taken: 2 });
        limits.settle(take(&limits, WHO, 2, 1000, 24));
        limits.give(WHO, 2, 8);
        assert_eq!(limits.taken(WHO, 1000), 2);
        limits.give(WHO, 2, 24);
        assert_eq!(limits.taken(WHO, 1000), 0);
    }

    #[test]
    fn a_full_table_refuses_until_periods_end() {
        let limits = Limits::new(1, 1000);
        limits.settle(take(&limits, WHO, 1, 0, 0));
        let other = Who { customer: 9, ..WHO };
        assert_eq!(limits.take(other, 1, 2, 0, 0), Allowed::Full);
        (0..limits.groups()).for_each(|g| limits.sweep(g, 1000));
        take(&limits, other, 1, 1000, 0);
    }
}
