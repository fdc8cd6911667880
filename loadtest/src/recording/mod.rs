//! What a run recorded: per interval and outcome, histograms of response time, service time and the
//! tester's own lag, in nanoseconds with three significant digits.
//!
//! What it promises:
//!
//! - Senders never wait: each [`Recorder`] is its thread's own, and what it gives away at an interval's
//!   end goes through a queue without a lock. Nothing that was recorded is lost, not even if a recorder is
//!   dropped in a panic.
//! - A request belongs to the interval in which it ended; the intervals of the planned instants are
//!   counted beside ([`Recording::planned`]), so that offered and served load can be compared.
//! - An hour of intervals of one second takes some tens of megabytes: closed intervals are kept
//!   serialised. At most 100,000 intervals are told apart; what ends later counts in the last.

mod book;
mod recorder;
mod series;
mod slot;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;

use book::Shared;
pub use recorder::Recorder;
pub use series::{Kind, Outcome, Series};
use slot::Slot;
pub(crate) use slot::histogram;

/// The shortest interval.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Intervals of a run that are told apart; what ends later counts in the last.
pub(crate) const INTERVALS_MAX: usize = book::INTERVALS_MAX as usize;

/// How often closed intervals are entered.
const ENTER_EVERY: Duration = Duration::from_millis(50);

/// All of a run.
pub struct Recording {
    shared: Arc<Shared>,
    started: SystemTime,
    interval: Duration,
    /// Enters closed intervals, so that senders needn't.
    entering: Option<JoinHandle<()>>,
}

impl Recording {
    /// An empty one of a run that starts at this instant, in intervals of this length: whole milliseconds,
    /// 100 of them at least, 10 minutes at most; what lies outside is brought to the nearer bound.
    pub fn new(started: SystemTime, interval: Duration) -> Self {
        let interval = interval.clamp(INTERVAL_MIN, Duration::from_nanos(slot::LONGEST_NS));
        // Files tell instants to the millisecond.
        let interval =
            interval - Duration::from_nanos(u64::from(interval.subsec_nanos() % 1_000_000));
        let shared = Arc::new(Shared::new(slot::nanoseconds(interval)));
        let entering = std::thread::Builder::new().name("recording".to_owned());
        // Without the thread, senders enter what the queue has no room for.
        let entering = entering.spawn({
            let shared = shared.clone();
            move || enter(&shared)
        });
        Self { shared, started, interval, entering: entering.ok() }
    }

    /// When the run started.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// The length of an interval.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// A recorder for one more thread.
    pub fn recorder(&self) -> Recorder {
        Recorder::new(self.shared.join())
    }

    /// Takes over what a recorder still has. Until then, or until the recorder is dropped, its last
    /// interval is not in any sum.
    pub fn absorb(&mut self, recorder: Recorder) {
        drop(recorder);
    }

    /// The sums of everything so far.
    pub fn totals(&self) -> Totals {
        Totals::of(&self.shared.book().totals)
    }

    /// The newest interval that is over, for whoever watches.
    pub fn latest(&self) -> Option<Latest> {
        let book = self.shared.book();
        let recorders = self.shared.recorders.load(Relaxed);
        let (interval, slot) = book.newest_whole(recorders)?;
        let begin = self.interval * u32::try_from(interval).unwrap_or(u32::MAX);
        Some(Latest { begin, length: self.interval, totals: Totals::of(slot) })
    }

    /// How many requests were planned in each interval, by its number, of those that ended so far.
    pub fn planned(&self) -> Vec<u64> {
        let book = self.shared.book();
        let intervals = book.planned.last_key_value().map_or(0, |(last, _)| last + 1);
        (0..intervals).map(|at| book.planned.get(&at).copied().unwrap_or(0)).collect()
    }

    /// Visits the histograms of each interval and series, in the order of time and then of series, until
    /// one visit fails. Empty ones are left out.
    ///
    /// # Errors
    ///
    /// What the visit failed with.
    pub fn each<E>(&self, mut visit: impl FnMut(&Sample) -> Result<(), E>) -> Result<(), E> {
        let book = self.shared.book();
        for interval in book.intervals() {
            let begin = self.interval * u32::try_from(interval).unwrap_or(u32::MAX);
            for (series, histogram) in book.histograms(interval) {
                visit(&Sample { begin, length: self.interval, series, histogram })?;
            }
        }
        Ok(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
        if let Some(entering) = self.entering.take() {
            entering.thread().unpark();
            // It has nothing to say; a panic in it was printed.
            let _ = entering.join();
        }
    }
}

fn enter(shared: &Shared) {
    while !shared.ended.load(Relaxed) {
        drop(shared.book());
        std::thread::park_timeout(ENTER_EVERY);
    }
}

/// The histogram of one series in one interval.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When the interval begins, since the run's start.
    pub begin: Duration,
    /// How long it is.
    pub length: Duration,
    /// What was measured.
    pub series: Series,
    /// The values, in nanoseconds.
    pub histogram: Histogram<u64>,
}

/// The newest interval that is over.
#[derive(Debug, Clone)]
pub struct Latest {
    /// When it began, since the run's start.
    pub begin: Duration,
    /// How long it was.
    pub length: Duration,
    /// What ended in it.
    pub totals: Totals,
}

/// Sums over a whole run, or an interval.
#[derive(Debug, Clone)]
pub struct Totals {
    /// How many requests ended in which way, by the outcome's number.
    outcomes: [u64; Outcome::COUNT],
    /// From the planned instant to the answer, whatever the outcome, in nanoseconds.
    pub response: Histogram<u64>,
    /// From the sending to the answer, of what was sent, in nanoseconds.
    pub service: Histogram<u64>,
    /// From the planned instant to the sending, in nanoseconds.
    pub lag: Histogram<u64>,
}

impl Totals {
    fn of(slot: &Slot) -> Self {
        let sum = |series: fn(Kind) -> Series| {
            let mut sum = Slot::default();
            for kind in Kind::ALL {
                if let Some(histogram) = slot.get(series(kind)) {
                    sum.add(Series::Lag, histogram);
                }
            }
            sum.get(Series::Lag).cloned().unwrap_or_else(histogram)
        };
        Self {
            outcomes: slot.outcomes,
            response: sum(Series::Response),
            service: sum(Series::Service),
            lag: slot.get(Series::Lag).cloned().unwrap_or_else(histogram),
        }
    }

    /// How many requests ended so.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// How many requests ended in any way.
    pub fn all(&self) -> u64 {
        self.outcomes.iter().sum()
    }
}
