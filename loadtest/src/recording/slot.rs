//! The histograms of one interval, or of a whole run: one a series, made when it is first needed.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::series::{Outcome, Series};

/// The longest time that is told from a longer one, in nanoseconds: 10 minutes.
pub(super) const LONGEST_NS: u64 = 600_000_000_000;

/// What a histogram has room for when it is made, in nanoseconds: 17 ms. It grows when it must.
const FIRST_NS: u64 = 1 << 24;

/// Significant decimal digits of every value.
const DIGITS: u8 = 3;

/// An empty histogram of nanoseconds that grows as it must.
pub(crate) fn histogram() -> Histogram<u64> {
    let mut made = Histogram::new_with_bounds(1, FIRST_NS, DIGITS).expect("the bounds are valid");
    made.auto(true);
    made
}

/// What was measured of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// How it ended.
    pub outcome: Outcome,
    /// From the planned instant to the answer, in nanoseconds.
    pub response_ns: u64,
    /// From the sending to the answer, in nanoseconds.
    pub service_ns: u64,
    /// From the planned instant to the sending, in nanoseconds.
    pub lag_ns: u64,
}

/// A duration in nanoseconds, at most the longest that is told apart.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(LONGEST_NS).min(LONGEST_NS)
}

/// Histograms by series, and how many requests ended in which way.
#[derive(Debug, Default, Clone)]
pub(super) struct Slot {
    histograms: [Option<Box<Histogram<u64>>>; Series::COUNT],
    /// By the outcome's number.
    pub outcomes: [u64; Outcome::COUNT],
    /// How many requests were planned in which interval, of those that ended here. A handful at most,
    /// unless the target stalls.
    pub planned: Vec<(u64, u64)>,
}

impl Slot {
    /// Adds a request that was planned in this interval.
    pub fn record(&mut self, planned: u64, measured: &Measured) {
        let kind = measured.outcome.kind();
        self.outcomes[measured.outcome as usize] += 1;
        self.put(Series::Response(kind), measured.response_ns);
        if measured.outcome != Outcome::Unsent {
            self.put(Series::Service(kind), measured.service_ns);
        }
        self.put(Series::Lag, measured.lag_ns);
        match self.planned.last_mut() {
            Some((interval, count)) if *interval == planned => *count += 1,
            _ => self.count_planned(planned, 1),
        }
    }

    fn put(&mut self, series: Series, value_ns: u64) {
        let histogram = self.of(series);
        // It grows up to any value; the lesser evil, should it not, is a value at its edge.
        if histogram.record(value_ns).is_err() {
            histogram.saturating_record(value_ns);
        }
    }

    fn of(&mut self, series: Series) -> &mut Histogram<u64> {
        self.histograms[series.index()].get_or_insert_with(|| Box::new(histogram()))
    }

    fn count_planned(&mut self, planned: u64, more: u64) {
        match self.planned.iter_mut().find(|(interval, _)| *interval == planned) {
            Some((_, count)) => *count += more,
            None => self.planned.push((planned, more)),
        }
    }

    /// The histogram of a series, if anything was recorded in it.
    pub fn get(&self, series: Series) -> Option<&Histogram<u64>> {
        self.histograms[series.index()].as_deref().filter(|histogram| !histogram.is_empty())
    }

    /// Adds a histogram to a series.
    pub fn add(&mut self, series: Series, more: &Histogram<u64>) {
        // Both are made here, and grow: there is no value that one could have and the other couldn't.
        let added = self.of(series).add(more);
        debug_assert!(added.is_ok(), "{added:?}");
    }

    /// Adds the histograms and the outcomes of another.
    pub fn merge(&mut self, other: &Self) {
        for series in Series::all() {
            if let Some(histogram) = other.get(series) {
                self.add(series, histogram);
            }
        }
        for (sum, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += more;
        }
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.histograms.iter_mut().flatten().for_each(|histogram| histogram.reset());
        self.outcomes = Default::default();
        self.planned.clear();
    }
}
