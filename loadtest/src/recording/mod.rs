//! What a run recorded: how each request ended and how long it took, charged from its planned instant.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done: held, ordered, paid or given back.
    Granted,
    /// Too little was left.
    SoldOut,
    /// Refused by another rule of the house.
    Refused,
    /// Turned away for load.
    Shed,
    /// An error, or a connection that broke.
    Error,
    /// No answer in time.
    TimedOut,
    /// Never sent: there was no room for it in time.
    Unsent,
}

/// Outcomes in the order of their numbers.
pub const OUTCOMES: [Outcome; 7] = [
    Outcome::Granted,
    Outcome::SoldOut,
    Outcome::Refused,
    Outcome::Shed,
    Outcome::Error,
    Outcome::TimedOut,
    Outcome::Unsent,
];

/// Microseconds of the longest time that is told apart from longer ones.
const LONGEST_US: u64 = 3_600_000_000;

/// Sums of a run.
#[derive(Debug, Clone)]
pub struct Totals {
    /// Requests by outcome, in the order of [`OUTCOMES`].
    pub counts: [u64; OUTCOMES.len()],
    /// From the planned instant to the answer, or to when it was given up, in microseconds.
    pub response: Histogram<u64>,
    /// From sending to the answer, in microseconds; what was never sent is not in it.
    pub service: Histogram<u64>,
    /// From the planned instant to when the tester took it up, in microseconds.
    pub lag: Histogram<u64>,
}

impl Default for Totals {
    fn default() -> Self {
        // The bounds are constants that are right.
        let new = || {
            let mut made = Histogram::<u64>::new_with_bounds(1, LONGEST_US, 3)
                .unwrap_or_else(|_| Histogram::new_with_max(LONGEST_US, 3).expect("a histogram"));
            made.auto(false);
            made
        };
        Self { counts: [0; OUTCOMES.len()], response: new(), service: new(), lag: new() }
    }
}

impl Totals {
    /// All requests.
    pub fn all(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Requests with an outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counts[outcome as usize]
    }
}

/// The recorder of one sending thread.
#[derive(Debug)]
pub struct Recorder(Totals);

impl Recorder {
    /// Records a request: when it was planned, since the run's start; how it ended; how long it took
    /// from its planned instant and from its sending; how late it was taken up.
    pub fn record(
        &mut self,
        _planned: Duration,
        outcome: Outcome,
        response: Duration,
        service: Duration,
        lag: Duration,
    ) {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.counts[outcome as usize] += 1;
        self.0.response.saturating_record(us(response));
        if outcome != Outcome::Unsent {
            self.0.service.saturating_record(us(service));
        }
        self.0.lag.saturating_record(us(lag));
    }
}

/// All of a run.
#[derive(Debug)]
pub struct Recording {
    totals: Totals,
    /// When it started.
    pub started: SystemTime,
    /// How long an interval is.
    pub interval: Duration,
}

impl Recording {
    /// Nothing is recorded yet.
    pub fn new(started: SystemTime, interval: Duration) -> Self {
        Self { totals: Totals::default(), started, interval }
    }

    /// A recorder for one thread.
    pub fn recorder(&self) -> Recorder {
        Recorder(Totals::default())
    }

    /// Takes in what a thread has recorded.
    pub fn absorb(&mut self, recorder: Recorder) {
        let Recorder(other) = recorder;
        for (sum, count) in self.totals.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
        // Histograms of one kind can always be added.
        let _ = self.totals.response.add(other.response);
        let _ = self.totals.service.add(other.service);
        let _ = self.totals.lag.add(other.lag);
    }

    /// The sums.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }
}
