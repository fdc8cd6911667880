//! Limits per customer and SKU: positions of their own, under the same law as stock. What a customer
//! takes is taken before the log and given back after it, and a decision that may still fail has it
//! *pending* meanwhile.
//!
//! A customer's period begins with the first unit and ends after the configured time; units of an
//! earlier period give nothing back to the present one. Customers are known by a keyed hash.

use super::{
    memory::{filled, prefetch},
    slab::{NONE, Slab},
    sync::{AtomicU32, AtomicU64, Backoff, LIMIT_GROUPS as GROUPS, Ordering},
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

/// A customer's count. Its fields change under its bucket's lock only, but for the units of decisions
/// that end.
#[derive(Debug)]
struct Count {
    customer: AtomicU64,
    period_from_ms: AtomicU64,
    /// Reservations granted at or after it belong to this period.
    period_lsn: AtomicU64,
    /// `taken << 32 | pending`.
    units: AtomicU64,
    sku_number: AtomicU32,
    next: AtomicU32,
}

impl Default for Count {
    fn default() -> Self {
        Self {
            customer: AtomicU64::new(0),
            period_from_ms: AtomicU64::new(0),
            period_lsn: AtomicU64::new(0),
            units: AtomicU64::new(0),
            sku_number: AtomicU32::new(0),
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

fn pack(taken: u32, pending: u32) -> u64 {
    (u64::from(taken) << 32) | u64::from(pending)
}

impl Count {
    fn is(&self, who: Who) -> bool {
        self.customer.load(Ordering::Relaxed) == who.customer
            && get(&self.sku_number) == who.sku_number
    }

    /// Units taken, and which of them are pending.
    fn units(&self) -> (u32, u32) {
        let units = self.units.load(Ordering::Acquire);
        ((units >> 32) as u32, units as u32)
    }

    fn set_units(&self, taken: u32) {
        self.units.store(pack(taken, 0), Ordering::Relaxed);
    }

    /// Changes the units, from what `change` was shown and said.
    fn update<E>(&self, change: impl Fn(u32, u32) -> Result<(u32, u32), E>) -> Result<(), E> {
        loop {
            let (taken, pending) = self.units();
            let (more, still) = change(taken, pending)?;
            let (before, after) = (pack(taken, pending), pack(more, still));
            let (ok, err) = (Ordering::AcqRel, Ordering::Relaxed);
            if self.units.compare_exchange_weak(before, after, ok, err).is_ok() {
                return Ok(());
            }
        }
    }

    /// Without pending units only, so that no decision ends meanwhile.
    fn begin_period(&self, now_ms: u64, lsn: u64) {
        self.set_units(0);
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
        self.units().1 == 0 && now_ms.saturating_sub(from_ms) >= period_ms
    }
}

/// The bit of a bucket's head that is its lock. Below it are a filter of 16 bits, one of which each
/// count of the chain sets (most new customers are seen to be new without a look at the chain), and
/// the chain's first slot.
const LOCKED: u64 = 1 << 63;
/// An empty bucket's head.
const EMPTY: u64 = NONE as u64;
/// Counts by customer and SKU: buckets of chains through slots, each with a lock of its own, held for
/// some tens of nanoseconds.
#[derive(Debug)]
pub struct Limits {
    heads: Box<[AtomicU64]>,
    counts: Slab<Count>,
    period_ms: u64,
}

/// A bucket, locked.
struct Bucket<'a> {
    head: &'a AtomicU64,
    counts: &'a Slab<Count>,
    /// What the head is without the lock.
    word: u64,
}

impl Drop for Bucket<'_> {
    fn drop(&mut self) {
        self.head.store(self.word, Ordering::Release);
    }
}

/// The bit that a customer sets in a bucket's filter.
fn filter_bit(customer: u64) -> u64 {
    1 << (32 + (customer >> 60))
}

impl<'a> Bucket<'a> {
    fn first(&self) -> u32 {
        self.word as u32
    }

    fn set_first(&mut self, slot: u32) {
        self.word = (self.word >> 32 << 32) | u64::from(slot);
    }

    fn find(&self, who: Who) -> Option<(u32, &'a Count)> {
        if self.word & filter_bit(who.customer) == 0 {
            return None;
        }
        let mut slot = self.first();
        while let Some(count) = self.counts.get(slot) {
            if count.is(who) {
                return Some((slot, count));
            }
            slot = get(&count.next);
        }
        None
    }

    fn add(&mut self, who: Who, now_ms: u64, lsn: u64) -> Option<(u32, &'a Count)> {
        let slot = self.counts.take()?;
        let count = self.counts.get(slot)?;
        count.customer.store(who.customer, Ordering::Relaxed);
        set(&count.sku_number, who.sku_number);
        count.begin_period(now_ms, lsn);
        set(&count.next, self.first());
        self.set_first(slot);
        self.word |= filter_bit(who.customer);
        Some((slot, count))
    }

    fn find_or_add(&mut self, who: Who, now_ms: u64, lsn: u64) -> Option<&'a Count> {
        let known = self.find(who).or_else(|| self.add(who, now_ms, lsn));
        known.map(|(_, count)| count)
    }

    /// Takes counts out that `is_over`.
    fn forget(&mut self, is_over: impl Fn(&Count) -> bool) {
        let mut slot = self.first();
        self.word = EMPTY;
        let mut last: Option<&Count> = None;
        while let Some(count) = self.counts.get(slot) {
            let (this, next) = (slot, get(&count.next));
            slot = next;
            if is_over(count) {
                self.counts.put(this);
                continue;
            }
            self.word |= filter_bit(count.customer.load(Ordering::Relaxed));
            match last {
                Some(last) => set(&last.next, this),
                None => self.set_first(this),
            }
            set(&count.next, NONE);
            last = Some(count);
        }
    }
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
            heads: filled(buckets, || AtomicU64::new(EMPTY)),
            counts: Slab::new(counts_max),
            period_ms,
        }
    }

    fn head(&self, who: Who) -> &AtomicU64 {
        // The customer's hash is uniform already.
        let hash = who.customer ^ u64::from(who.sku_number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.heads[hash as usize & (self.heads.len() - 1)]
    }

    fn lock<'a>(&'a self, head: &'a AtomicU64) -> Bucket<'a> {
        let mut backoff = Backoff::default();
        loop {
            let word = head.load(Ordering::Relaxed) & !LOCKED;
            let (ok, err) = (Ordering::Acquire, Ordering::Relaxed);
            if head.compare_exchange_weak(word, word | LOCKED, ok, err).is_ok() {
                return Bucket { head, counts: &self.counts, word };
            }
            backoff.wait();
        }
    }

    fn bucket(&self, who: Who) -> Bucket<'_> {
        self.lock(self.head(who))
    }

    /// Begins to fetch what a take will touch; see [`super::keys::Keys::warm`].
    pub fn warm(&self, who: Who) {
        prefetch(self.head(who));
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
        let mut bucket = self.bucket(who);
        let (slot, count) = match bucket.find(who) {
            Some(known) => known,
            None if quantity > limit => return Allowed::Beyond { taken: 0 },
            None => match bucket.add(who, now_ms, tail) {
                Some(added) => added,
                None => return Allowed::Full,
            },
        };
        if count.is_over(now_ms, self.period_ms) {
            count.begin_period(now_ms, tail);
        }
        // Units of an earlier period are not in the count, so they don't come off it.
        let in_period = credit.granted >= count.period_lsn.load(Ordering::Relaxed);
        let limit = u64::from(limit) + if in_period { u64::from(credit.units) } else { 0 };
        let beyond = |taken: u32| u64::from(taken) + u64::from(quantity) > limit;
        let taken = count.update(|taken, pending| {
            if beyond(taken - pending) {
                Err(Allowed::Beyond { taken: taken - pending })
            } else if beyond(taken) {
                Err(Allowed::Wait)
            } else {
                Ok((taken + quantity, pending + quantity))
            }
        });
        if let Err(refused) = taken {
            return refused;
        }
        count.covers(tail);
        Allowed::Yes(Pending { slot, quantity, who })
    }

    /// Ends a decision. Needs no lock: a count with pending units is not swept, so the slot is still
    /// this customer's, and both numbers are in one word.
    fn end(&self, pending: Pending, less: u64) {
        if let Some(count) = self.counts.get(pending.slot) {
            count.units.fetch_sub(less, Ordering::AcqRel);
        }
    }

    /// The decision stands.
    pub fn settle(&self, pending: Pending) {
        self.end(pending, pack(0, pending.quantity));
    }

    /// The decision failed.
    pub fn undo(&self, pending: Pending) {
        self.end(pending, pack(pending.quantity, pending.quantity));
    }

    /// Gives back units of a reservation that was granted at `granted`.
    pub fn give(&self, who: Who, quantity: u32, granted: u64) {
        let bucket = self.bucket(who);
        let Some((_, count)) = bucket.find(who) else { return };
        if granted < count.period_lsn.load(Ordering::Relaxed) {
            return;
        }
        let less = |taken: u32, pending: u32| {
            Ok::<_, std::convert::Infallible>((
                taken.saturating_sub(quantity).max(pending),
                pending,
            ))
        };
        let Ok(()) = count.update(less);
    }

    /// Replay: the record at `lsn` took units, whatever the limit is now. `false`: the table is full.
    pub fn restore_take(&self, who: Who, quantity: u32, at_ms: u64, lsn: u64) -> bool {
        let mut bucket = self.bucket(who);
        let Some(count) = bucket.find_or_add(who, at_ms, lsn) else { return false };
        if count.is_over(at_ms, self.period_ms) {
            count.begin_period(at_ms, lsn);
        }
        count.set_units(count.units().0.saturating_add(quantity));
        count.covers(lsn);
        true
    }

    /// Replay: what a checkpoint says. `false`: the table is full.
    pub fn restore(&self, who: Who, restored: Restored) -> bool {
        let mut bucket = self.bucket(who);
        let (from_ms, lsn) = (restored.period_from_ms, restored.period_lsn);
        let Some(count) = bucket.find_or_add(who, from_ms, lsn) else { return false };
        count.begin_period(from_ms, lsn);
        count.set_units(restored.taken);
        true
    }

    /// Forgets counts whose period is over, in one of [`Self::groups`] groups.
    pub fn sweep(&self, group: usize, now_ms: u64) {
        let buckets = self.heads.len() / GROUPS;
        let begin = group.min(GROUPS) * buckets;
        for head in self.heads.iter().skip(begin).take(buckets) {
            if head.load(Ordering::Relaxed) != EMPTY {
                self.lock(head).forget(|count| count.is_over(now_ms, self.period_ms));
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
        let known = bucket.find(who).filter(|(_, c)| !c.is_over(now_ms, self.period_ms));
        known.map_or(0, |(_, count)| count.units().0)
    }

    /// Pairs counted.
    pub fn len(&self) -> u32 {
        self.counts.used()
    }

    /// Makes memory for what comes next; see [`Slab::make_ahead`].
    pub fn make_ahead(&self, least: u32) {
        self.counts.make_ahead(least);
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(model_check)))]
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
    fn customers_of_one_bucket_are_kept_apart_and_forgotten_one_by_one() {
        let limits = Limits::new(10, 1000);
        // The same low bits, so the same bucket; different and equal filter bits.
        let who = |n: u64| Who { customer: (n % 3) << 62 | n << 32 | 7, sku_number: 0 };
        (0..9).for_each(|n| limits.settle(take(&limits, who(n), 1, n * 100, 0)));
        assert_eq!((0..9).map(|n| limits.taken(who(n), 900)).sum::<u32>(), 9);
        (0..limits.groups()).for_each(|g| limits.sweep(g, 1400));
        assert_eq!(limits.len(), 4);
        let taken: Vec<_> = (0..9).map(|n| limits.taken(who(n), 1000)).collect();
        assert_eq!(taken, [0, 0, 0, 0, 0, 1, 1, 1, 1]);
        take(&limits, who(0), 2, 1400, 0);
        assert_eq!(limits.taken(who(0), 1400), 2);
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
