//! A histogram of durations with the few fixed bounds that a scrape wants, and with the fine buckets of
//! [`Durations`] behind them, recorded from many threads without a lock.
//!
//! Each thread adds to one of a few stripes, each on cache lines of its own, so that threads seldom
//! write the same line; a reader sums the stripes up.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crossbeam_utils::CachePadded;

use super::{
    Exemplars, Exposition,
    durations::{DurationCounts, Durations, STRIPES, nanoseconds, stripe},
};

/// Upper bounds of the buckets in microseconds, inclusive; one more bucket takes what lies beyond.
pub const BOUNDS_US: [u64; 24] = [
    25, 50, 100, 150, 200, 300, 400, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000,
    25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
];

pub(super) const BUCKETS: usize = BOUNDS_US.len() + 1;

/// The bucket of a duration.
pub(super) fn bucket_of(ns: u64) -> usize {
    let us = ns.div_ceil(1_000);
    BOUNDS_US.partition_point(|bound| *bound < us)
}

#[derive(Default)]
struct Stripe {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// A histogram of durations.
#[derive(Default)]
pub struct Latency {
    stripes: [CachePadded<Stripe>; STRIPES],
    fine: Durations,
}

impl Latency {
    /// Adds a duration.
    pub fn record(&self, elapsed: Duration) {
        self.record_many(elapsed, 1);
    }

    /// Adds the same duration so many times.
    pub fn record_many(&self, elapsed: Duration, count: u64) {
        let ns = nanoseconds(elapsed);
        let bucket = bucket_of(ns);
        let stripe = &self.stripes[stripe()];
        stripe.buckets[bucket].fetch_add(count, Relaxed);
        stripe.sum_ns.fetch_add(ns.wrapping_mul(count), Relaxed);
        self.fine.record_many_ns(ns, count);
    }

    /// The same in fine buckets.
    pub fn fine_counts(&self) -> DurationCounts {
        self.fine.counts()
    }

    /// What was recorded so far.
    pub fn counts(&self) -> LatencyCounts {
        let mut counts = LatencyCounts::default();
        for stripe in &self.stripes {
            for (sum, bucket) in counts.buckets.iter_mut().zip(&stripe.buckets) {
                *sum += bucket.load(Relaxed);
            }
            counts.sum_ns = counts.sum_ns.wrapping_add(stripe.sum_ns.load(Relaxed));
        }
        counts
    }
}

/// A histogram, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LatencyCounts {
    /// Durations in each bucket (not cumulated); the last lies beyond every bound.
    pub buckets: [u64; BUCKETS],
    /// The sum of all durations, in nanoseconds.
    pub sum_ns: u64,
}

impl LatencyCounts {
    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Writes the samples of a histogram's family, with examples where there are any.
    pub fn expose(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        examples: Option<&Exemplars>,
        text: &mut Exposition,
    ) {
        let mut cumulated = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            cumulated += count;
            let bound = BOUNDS_US.get(index);
            let bound = bound.map_or("+Inf".to_owned(), |us| (*us as f64 / 1e6).to_string());
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            let example = examples.and_then(|examples| examples.of_bucket(index));
            text.sample_like(&format!("{name}_bucket"), &labels, cumulated, example);
        }
        text.sample(&format!("{name}_count"), labels, cumulated);
        text.sample(&format!("{name}_sum"), labels, self.sum_ns as f64 / 1e9);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_includes_it() {
        let latency = Latency::default();
        latency.record(Duration::ZERO);
        latency.record(Duration::from_micros(25));
        latency.record(Duration::from_nanos(25_001));
        latency.record(Duration::from_secs(10));
        latency.record(Duration::from_secs(11));
        let counts = latency.counts();
        assert_eq!(counts.buckets[0], 2);
        assert_eq!(counts.buckets[1], 1);
        assert_eq!(counts.buckets[BUCKETS - 2], 1);
        assert_eq!(counts.buckets[BUCKETS - 1], 1);
        assert_eq!(counts.count(), 5);
        assert_eq!(counts.sum_ns, 25_000 + 25_001 + 21_000_000_000);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let latency = Latency::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1_000).for_each(|us| latency.record(Duration::from_micros(us))));
            }
        });
        assert_eq!(latency.counts().count(), 8_000);
        assert_eq!(latency.fine_counts().count(), 8_000);
    }
}
