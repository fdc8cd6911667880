//! What a report says of a run besides its histograms: what was asked for, of whom, on what machine, and
//! whether the books agreed. It stands in the interval log as one comment, so that the log is enough to
//! make a report of.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{machine::Machine, text};
use crate::recording::{Kind, Outcome, Recording};

/// What a report says of a run besides its histograms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// The scenario's name.
    pub scenario: String,
    /// What it is about, in a sentence.
    pub about: String,
    /// The scenario as it was run, as TOML.
    pub scenario_toml: String,
    /// What the plan was made from.
    pub seed: u64,
    /// Who was asked, and over what.
    pub target: String,
    /// How the tester was started.
    pub command_line: Vec<String>,
    /// The tester's version.
    pub version: String,
    /// How well requests had to be served.
    pub objectives: Vec<Objective>,
    /// The largest lag of one request in a thousand, in nanoseconds, beyond which a run is void.
    pub lag_p999_ns_max: Option<u64>,
    /// Why the run says nothing of its target; absent: it does.
    pub void: Option<String>,
    /// What the audit compared; empty: there was none.
    pub audit: Vec<Check>,
    /// Anything else that a reader ought to know, a sentence each.
    pub notes: Vec<String>,
    /// Where it ran.
    pub machine: Machine,
    /// How many requests ended in which way, by the outcome's word.
    pub outcomes: Vec<(String, u64)>,
    /// How many requests were planned in each interval.
    pub planned: Vec<u64>,
    /// The length of an interval, in milliseconds.
    pub interval_ms: u64,
}

impl Run {
    /// Takes from a recording what histograms don't tell: outcomes that share a tag, and the plan.
    pub fn take_from(&mut self, recording: &Recording) {
        let totals = recording.totals();
        let count = |outcome: Outcome| (outcome.as_str().to_owned(), totals.count(outcome));
        self.outcomes = Outcome::ALL.into_iter().map(count).collect();
        self.planned = recording.planned();
        self.interval_ms = u64::try_from(recording.interval().as_millis()).unwrap_or(u64::MAX);
    }
}

/// How well requests must be served.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// This share of all requests is answered within this time, counted from the planned instant.
    Response {
        /// The share: above 0, up to 1 (then it is the slowest request that counts).
        quantile: f64,
        /// The time, in nanoseconds.
        ns_max: u64,
    },
    /// At most this share of all requests is shed.
    Shed {
        /// The share.
        share_max: f64,
    },
    /// At most this share of all requests fails, those without an answer in time among them.
    Errors {
        /// The share.
        share_max: f64,
    },
}

impl Objective {
    /// This share of all requests is answered within this time.
    pub fn response(quantile: f64, max: Duration) -> Self {
        Self::Response { quantile, ns_max: u64::try_from(max.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// What it is called.
    pub fn name(&self) -> String {
        match self {
            Self::Response { quantile, .. } => format!("response {}", text::quantile(*quantile)),
            Self::Shed { .. } => "share shed".to_owned(),
            Self::Errors { .. } => "share of errors".to_owned(),
        }
    }

    /// Compares it with what was measured: response times of all requests in nanoseconds, and how many
    /// requests ended in which way. Nothing measured holds no objective.
    pub fn judge(&self, response: &Histogram<u64>, count: impl Fn(Kind) -> u64) -> Check {
        let share = |kind| count(kind) as f64 / (response.len().max(1)) as f64;
        let (bound, measured, held) = match *self {
            Self::Response { quantile, ns_max } => {
                let measured = response.value_at_quantile(quantile);
                // A value is known to three digits: the bound itself lies in its bucket.
                let held = measured <= ns_max || response.equivalent(measured, ns_max);
                (text::duration(ns_max as f64), text::duration(measured as f64), held)
            }
            Self::Shed { share_max } => {
                let measured = share(Kind::Shed);
                (text::share(share_max), text::share(measured), measured <= share_max)
            }
            Self::Errors { share_max } => {
                let measured = share(Kind::Error);
                (text::share(share_max), text::share(measured), measured <= share_max)
            }
        };
        let held = held && !response.is_empty();
        Check { name: self.name(), expected: format!("at most {bound}"), found: measured, held }
    }
}

/// Something that was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// What it had to be.
    pub expected: String,
    /// What it was.
    pub found: String,
    /// Whether that is good.
    pub held: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram() -> Histogram<u64> {
        let mut histogram = crate::recording::histogram();
        (1..=1_000).for_each(|us| histogram.record(us * 1_000).expect("it grows"));
        histogram
    }

    #[test]
    fn objectives_hold_up_to_their_bound() {
        let response = histogram();
        let count = |kind| if kind == Kind::Shed { 10 } else { 0 };
        let held = |objective: Objective| objective.judge(&response, count).held;
        assert!(held(Objective::response(0.99, Duration::from_micros(990))));
        assert!(!held(Objective::response(0.99, Duration::from_micros(985))));
        assert!(held(Objective::response(1.0, Duration::from_micros(1_000))));
        assert!(!held(Objective::response(1.0, Duration::from_micros(998))));
        assert!(held(Objective::Shed { share_max: 0.01 }));
        assert!(!held(Objective::Shed { share_max: 0.009 }));
        assert!(held(Objective::Errors { share_max: 0.0 }));
    }

    #[test]
    fn nothing_measured_holds_nothing() {
        let empty = crate::recording::histogram();
        for objective in
            [Objective::response(0.5, Duration::from_secs(1)), Objective::Errors { share_max: 1.0 }]
        {
            assert!(!objective.judge(&empty, |_| 0).held, "{objective:?}");
        }
    }

    #[test]
    fn a_verdict_says_what_was_asked_and_what_was_found() {
        let objective = Objective::response(0.999, Duration::from_micros(500));
        let check = objective.judge(&histogram(), |_| 0);
        assert_eq!(check.name, "response p99.9");
        assert_eq!(check.expected, "at most 500 µs");
        assert_eq!(check.found, "999 µs");
    }
}
