//! What comes out of runs: figures, their spread over rounds, ratios, and goals.

use serde::Serialize;

use super::{Contender, Ran};
use crate::{
    recording::{Outcome, Totals},
    trial::Trial,
};

/// What one run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Answers a second that decide something.
    pub per_s: f64,
    /// From sending to answer, in microseconds: p50, p99, p99.9.
    pub service_us: [f64; 3],
    /// The tester's processor time, in microseconds a request: what the target did not get of a machine
    /// that both share.
    pub tester_us: f64,
    /// Requests that came to no decision.
    pub errors: u64,
    /// Comparisons of the audit that failed.
    pub differences: Vec<String>,
}

impl Figures {
    pub(super) fn new(totals: &Totals, measured_s: f64, trial: &Trial) -> Self {
        let decided = [Outcome::Granted, Outcome::SoldOut, Outcome::Refused];
        let decided: u64 = decided.map(|outcome| totals.count(outcome)).iter().sum();
        let quantile = |q| totals.service.value_at_quantile(q) as f64 / 1e3;
        let requests = totals.all() + trial.run.warm_up;
        let failed = trial.checks.iter().filter(|check| !check.ok);
        Self {
            per_s: decided as f64 / measured_s,
            service_us: [0.5, 0.99, 0.999].map(quantile),
            tester_us: trial.run.cpu.as_secs_f64() * 1e6 / requests.max(1) as f64,
            errors: totals.all() - decided,
            differences: failed
                .map(|c| format!("{}: {} instead of {}", c.what, c.found, c.expected))
                .collect(),
        }
    }

    /// Whether it may be compared: its books agree, and everything was decided.
    pub fn is_sound(&self) -> bool {
        self.differences.is_empty() && self.errors == 0
    }
}

/// A figure over rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of some figures; `None` of none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut all: Vec<f64> = figures.into_iter().collect();
        all.sort_by(f64::total_cmp);
        let (min, max) = (*all.first()?, *all.last()?);
        let middle = all.len() / 2;
        let median =
            if all.len() % 2 == 1 { all[middle] } else { (all[middle - 1] + all[middle]) / 2.0 };
        Some(Self { min, median, max })
    }

    /// Of one contender's runs.
    pub fn over(
        runs: &[Ran],
        contender: Contender,
        figure: impl Fn(&Figures) -> f64,
    ) -> Option<Self> {
        let mine = runs.iter().filter(|ran| ran.contender == contender);
        Self::of(mine.map(|ran| figure(&ran.figures)))
    }
}

/// Throughput of one as a multiple of another's, round by round: what befell a round befell both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Whose.
    pub of: Contender,
    /// Of whose.
    pub peer: Contender,
    /// Over rounds.
    pub times: Spread,
}

impl Ratio {
    /// Of the runs of one situation.
    pub fn of(runs: &[Ran], of: Contender, peer: Contender) -> Option<Self> {
        let per_s = |who, round| {
            let ran = runs.iter().find(|ran| ran.contender == who && ran.round == round)?;
            (ran.figures.per_s > 0.0).then_some(ran.figures.per_s)
        };
        let rounds = runs.iter().filter(|ran| ran.contender == of).map(|ran| ran.round);
        let times = rounds.filter_map(|round| Some(per_s(of, round)? / per_s(peer, round)?));
        Some(Self { of, peer, times: Spread::of(times)? })
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// So many times the throughput of a peer, in the middle of all rounds.
    Times {
        /// Whose.
        of: Contender,
        /// Of whose.
        peer: Contender,
        /// How many times.
        at_least: f64,
    },
    /// Half of all answers within so many microseconds, in the middle of all rounds.
    P50 {
        /// Whose.
        of: Contender,
        /// How many.
        us_max: f64,
    },
}

/// What became of a goal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What was asked for, and what was found.
    pub what: String,
    /// Whether it was met.
    pub met: bool,
}

impl Goal {
    /// What became of it; `None` where one of those that it speaks of was not there.
    pub fn judge(&self, runs: &[Ran]) -> Option<Verdict> {
        match *self {
            Self::Times { of, peer, at_least } => {
                let found = Ratio::of(runs, of, peer)?.times.median;
                let (of, peer) = (of.as_str(), peer.as_str());
                let what = format!("{of} {found:.2} times {peer}, asked for {at_least}");
                Some(Verdict { what, met: found >= at_least })
            }
            Self::P50 { of, us_max } => {
                let found = Spread::over(runs, of, |f| f.service_us[0])?.median;
                let what = format!("{} p50 {found:.1} us, asked for {us_max}", of.as_str());
                Some(Verdict { what, met: found <= us_max })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(contender: Contender, round: u32, per_s: f64) -> Ran {
        let service_us = [1e6 / per_s, 0.0, 0.0];
        let differences = Vec::new();
        let figures = Figures { per_s, service_us, tester_us: 1.0, errors: 0, differences };
        Ran { contender, round, target: String::new(), figures }
    }

    #[test]
    fn a_spread_has_a_middle() {
        let spread =
            |all: &[f64]| Spread::of(all.iter().copied()).map(|s| [s.min, s.median, s.max]);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some([1.0, 2.0, 3.0]));
        assert_eq!(spread(&[4.0, 1.0]), Some([1.0, 2.5, 4.0]));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round_and_goals_by_their_middle() {
        use Contender::{Http1, Postgres, Redis};
        let runs = [
            ran(Http1, 0, 30_000.0),
            ran(Redis, 0, 10_000.0),
            ran(Redis, 1, 10_000.0),
            ran(Http1, 1, 40_000.0),
            ran(Http1, 2, 2_000.0),
            ran(Redis, 2, 1_000.0),
        ];
        let ratio = Ratio::of(&runs, Http1, Redis).unwrap();
        assert_eq!(ratio.times, Spread { min: 2.0, median: 3.0, max: 4.0 });
        assert_eq!(Ratio::of(&runs, Http1, Postgres), None);
        let goal =
            |at_least| Goal::Times { of: Http1, peer: Redis, at_least }.judge(&runs).unwrap();
        assert!(goal(3.0).met && !goal(3.1).met);
        let goal = Goal::Times { of: Http1, peer: Postgres, at_least: 1.0 };
        assert_eq!(goal.judge(&runs), None);
        let goal = |us_max| Goal::P50 { of: Redis, us_max }.judge(&runs).unwrap();
        assert!(goal(100.0).met && !goal(99.0).met);
    }
}
