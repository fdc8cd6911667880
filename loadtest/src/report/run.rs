//! What a report says of a run besides its histograms: what was asked for, of whom, on what machine, and
//! whether the books agreed. It stands in the interval log as one comment, so that the log is enough to
//! make a report of.

use serde::{Deserialize, Serialize};

use super::{machine::Machine, text};
use crate::recording::{Outcome, Recording};

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
    /// How well requests had to be served, and were.
    pub objectives: Vec<Check>,
    /// What of that can be drawn beside the response times.
    pub bounds: Vec<Bound>,
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

/// How long requests may take: a line in the pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// This share of all requests; 1: all of them.
    pub quantile: f64,
    /// May take so long, from the planned instant, in nanoseconds.
    pub ns_max: u64,
}

impl Bound {
    /// What is written beside its line.
    pub(super) fn label(&self) -> String {
        let bound = text::duration(self.ns_max as f64);
        format!("{} ≤ {bound}", text::quantile(self.quantile))
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
