//! A fine histogram of durations, recorded from many threads without a lock: buckets that are a 64th
//! of a power of two wide, from one nanosecond up to more than an hour.
//!
//! A figure read from it is the upper end of a bucket, so never too low, and at most 1.6 % too high.
//! Each thread counts in one of a few stripes, and a stripe's memory (19 kB) is only there once
//! something was counted in it. Uses nothing of the house, so that the log's model checks can build
//! it alone.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// How many parts the threads are spread over.
pub(super) const STRIPES: usize = 4;

/// Buckets in a power of two; also the first value whose bucket is wider than itself.
const PARTS: u64 = 64;
const PART_BITS: u32 = PARTS.trailing_zeros();
/// The longest duration that is told from longer ones: 2^42 ns, 73 minutes.
const NS_MAX: u64 = (1 << 42) - 1;
const BUCKETS: usize = index_of(NS_MAX) + 1;

type Stripe = Box<[AtomicU64; BUCKETS]>;

/// The stripe of this thread, the same for every histogram.
pub(super) fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Relaxed) % STRIPES;
    }
    MINE.with(|mine| *mine)
}

const fn index_of(ns: u64) -> usize {
    let ns = if ns > NS_MAX { NS_MAX } else { ns };
    if ns < PARTS {
        return ns as usize;
    }
    let shift = ns.ilog2() - PART_BITS;
    (shift as u64 * PARTS + (ns >> shift)) as usize
}

/// The least and the greatest value of a bucket.
fn ends_of(index: usize) -> (u64, u64) {
    let index = index as u64;
    if index < PARTS {
        return (index, index);
    }
    let (shift, part) = (index / PARTS - 1, index % PARTS + PARTS);
    (part << shift, ((part + 1) << shift) - 1)
}

/// A duration's nanoseconds; one of centuries is cut.
pub(super) fn nanoseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// A histogram of durations.
#[derive(Default)]
pub struct Durations {
    stripes: [OnceLock<Stripe>; STRIPES],
}

impl fmt::Debug for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durations").finish_non_exhaustive()
    }
}

impl Durations {
    /// Adds a duration: one relaxed addition, except that the first of a stripe allocates it.
    pub fn record(&self, elapsed: Duration) {
        self.record_ns(nanoseconds(elapsed));
    }

    /// Adds a duration in nanoseconds.
    pub fn record_ns(&self, ns: u64) {
        self.record_many_ns(ns, 1);
    }

    /// Adds the same duration so many times.
    pub fn record_many_ns(&self, ns: u64, count: u64) {
        let stripe = self.stripes[stripe()].get_or_init(empty_stripe);
        stripe[index_of(ns)].fetch_add(count, Relaxed);
    }

    /// What was recorded so far.
    pub fn counts(&self) -> DurationCounts {
        let stripes: Vec<&Stripe> = self.stripes.iter().filter_map(OnceLock::get).collect();
        let buckets = (0..BUCKETS).filter_map(|index| {
            let count: u64 = stripes.iter().map(|stripe| stripe[index].load(Relaxed)).sum();
            (count > 0).then(|| (ends_of(index).1, count))
        });
        DurationCounts { buckets: if stripes.is_empty() { Vec::new() } else { buckets.collect() } }
    }
}

#[cold]
fn empty_stripe() -> Stripe {
    let counts: Box<[AtomicU64]> = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
    // The length is the one asked for, so the other arm is never taken.
    counts.try_into().unwrap_or_else(|_| Box::new([const { AtomicU64::new(0) }; BUCKETS]))
}

/// A histogram of durations, read: the buckets that are not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DurationCounts {
    /// Upper end in nanoseconds, and count; ascending, each end once.
    buckets: Vec<(u64, u64)>,
}

impl FromIterator<(u64, u64)> for DurationCounts {
    /// Of upper ends in nanoseconds and counts, in any order.
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(buckets: I) -> Self {
        let mut buckets: Vec<_> = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        buckets.sort_unstable();
        buckets.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = kept.1.saturating_add(later.1);
            }
            same
        });
        Self { buckets }
    }
}

impl DurationCounts {
    /// Upper end in nanoseconds and count of each bucket that is not empty, ascending.
    pub fn buckets(&self) -> &[(u64, u64)] {
        &self.buckets
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// How many of them took at most so long, as far as the buckets tell: one that lies in the same
    /// bucket as the limit counts.
    pub fn count_within(&self, limit: Duration) -> u64 {
        let limit = index_of(nanoseconds(limit));
        let within = self.buckets.iter().take_while(|(up_to, _)| index_of(*up_to) <= limit);
        within.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The value in nanoseconds that a part `quantile` (0 to 1) of all durations does not pass; 0 if
    /// there are none.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        let rank = ((self.count() as f64 * quantile).ceil() as u64).max(1);
        let mut passed = 0_u64;
        let reached = self.buckets.iter().find(|(_, count)| {
            passed = passed.saturating_add(*count);
            passed >= rank
        });
        reached.or(self.buckets.last()).map_or(0, |(up_to_ns, _)| *up_to_ns)
    }

    /// The shortest, in nanoseconds; 0 if there are none. The lower end of its bucket.
    pub fn min_ns(&self) -> u64 {
        self.buckets.first().map_or(0, |(up_to_ns, _)| ends_of(index_of(*up_to_ns)).0)
    }

    /// The longest, in nanoseconds; 0 if there are none.
    pub fn max_ns(&self) -> u64 {
        self.buckets.last().map_or(0, |(up_to_ns, _)| *up_to_ns)
    }

    /// The mean in nanoseconds, each taken for the middle of its bucket; 0 if there are none.
    pub fn mean_ns(&self) -> u64 {
        let sum = self.buckets.iter().map(|(up_to_ns, count)| {
            let (least, most) = ends_of(index_of(*up_to_ns));
            (least + most) as f64 / 2.0 * *count as f64
        });
        (sum.sum::<f64>() / self.count().max(1) as f64) as u64
    }

    /// What was recorded since `earlier` was read.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut before = earlier.buckets.iter().peekable();
        let left = self.buckets.iter().map(|(up_to_ns, count)| {
            while before.next_if(|(up_to, _)| up_to < up_to_ns).is_some() {}
            let counted = before.next_if(|(up_to, _)| up_to == up_to_ns).map_or(0, |(_, c)| *c);
            (*up_to_ns, count.saturating_sub(counted))
        });
        left.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_that_is_at_most_a_64th_of_it_wide() {
        let mut next = 0;
        for index in 0..BUCKETS {
            let (least, most) = ends_of(index);
            assert_eq!(least, next, "the buckets leave nothing out");
            assert_eq!((index_of(least), index_of(most)), (index, index));
            assert!((most - least) as f64 <= least as f64 / 64.0);
            next = most + 1;
        }
        assert_eq!(next - 1, NS_MAX);
        assert_eq!(index_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_what_they_are_of_the_values_themselves() {
        let durations = Durations::default();
        (1..=10_000).for_each(|us| durations.record(Duration::from_micros(us)));
        let counts = durations.counts();
        assert_eq!(counts.count(), 10_000);
        for (quantile, us) in [(0.0, 1), (0.5, 5_000), (0.99, 9_900), (0.999, 9_990), (1.0, 10_000)]
        {
            let (seen, want) = (counts.quantile_ns(quantile) as f64, f64::from(us) * 1e3);
            assert!((1.0..1.016).contains(&(seen / want)), "{quantile}: {seen} for {want}");
        }
        assert!((0.99..1.01).contains(&(counts.mean_ns() as f64 / 5_000_500.0)));
        assert!(counts.min_ns() <= 1_000 && counts.max_ns() >= 10_000_000);
        let within = counts.count_within(Duration::from_millis(5));
        assert!((5_000..5_080).contains(&within), "{within}");
    }

    #[test]
    fn nothing_says_nothing() {
        let none = Durations::default().counts();
        assert_eq!((none.count(), none.quantile_ns(0.5), none.min_ns()), (0, 0, 0));
        assert_eq!((none.max_ns(), none.mean_ns()), (0, 0));
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let durations = Durations::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1_000).for_each(|ns| durations.record_ns(ns * 1_000)));
            }
        });
        assert_eq!(durations.counts().count(), 8_000);
    }

    #[test]
    fn what_came_since_an_earlier_look_is_told_alone() {
        let durations = Durations::default();
        [5, 70_000].into_iter().for_each(|ns| durations.record_ns(ns));
        let before = durations.counts();
        [5, 900, 900].into_iter().for_each(|ns| durations.record_ns(ns));
        let since = durations.counts().since(&before);
        let counts: Vec<_> = since.buckets().iter().map(|(_, count)| *count).collect();
        assert_eq!((counts, since.count()), (vec![1, 2], 3));
        assert_eq!(before.since(&durations.counts()).count(), 0);
    }

    #[test]
    fn buckets_may_come_in_any_order() {
        let counts: DurationCounts = [(9, 2), (5, 1), (9, 3), (7, 0)].into_iter().collect();
        assert_eq!(counts.buckets(), [(5, 1), (9, 5)]);
    }
}
