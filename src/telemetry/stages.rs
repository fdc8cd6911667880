//! The stages of a request, and the time that it spends in each.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use super::{DurationCounts, Durations, durations::nanoseconds};

macro_rules! stages {
    ($($(#[$doc:meta])* $stage:ident $name:literal),+ $(,)?) => {
        /// A stage of a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Stage { $($(#[$doc])* $stage),+ }

        impl Stage {
            /// All of them, in the order in which a request goes through them.
            pub const ALL: [Self; STAGES] = [$(Self::$stage),+];

            /// As reports call it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$stage => $name),+ }
            }
        }

        const STAGES: usize = [$($name),+].len();
    };
}

stages! {
    /// From the request's head to the last byte of its body: admission and the wait for the body.
    Receive "receive",
    /// The body is parsed and checked.
    Decode "decode",
    /// The engine's call, up to the decision; where there is no body, what comes before it too.
    Decide "decide",
    /// A part of the decision: a record's place is claimed, its bytes are copied and published. Of
    /// one append in 64.
    Append "append",
    /// From the decision until it is durable and the request goes on. Only where it had to wait.
    SyncWait "sync_wait",
    /// The answer is written and handed to the connection.
    Reply "reply",
}

/// Histograms of the stages.
#[derive(Debug, Default)]
pub struct Stages {
    durations: [Durations; STAGES],
}

impl Stages {
    /// Adds the laps of a request: one duration for each stage that it was in.
    pub fn record(&self, laps: &Laps) {
        for (durations, spent) in self.durations.iter().zip(&laps.spent_ns) {
            if let Some(ns) = spent.get() {
                durations.record_ns(ns);
            }
        }
    }

    /// What was recorded of a stage so far.
    pub fn counts(&self, stage: Stage) -> DurationCounts {
        self.durations[stage as usize].counts()
    }
}

/// The stopwatch of one request: each lap is of one stage, and what a request spends in a stage in
/// several laps is one duration.
#[derive(Debug)]
pub struct Laps {
    last: Cell<Instant>,
    is_decided: Cell<bool>,
    spent_ns: [Cell<Option<u64>>; STAGES],
}

impl Laps {
    /// Starts with the request's head.
    pub fn new(started: Instant) -> Self {
        let spent_ns = [const { Cell::new(None) }; STAGES];
        Self { last: Cell::new(started), is_decided: Cell::new(false), spent_ns }
    }

    /// When the last lap ended.
    pub fn last(&self) -> Instant {
        self.last.get()
    }

    /// What was spent in a stage so far; nothing where the request was not in it.
    pub fn spent(&self, stage: Stage) -> Option<Duration> {
        self.spent_ns[stage as usize].get().map(Duration::from_nanos)
    }

    /// Whether a decision was made of what was last received.
    pub fn is_decided(&self) -> bool {
        self.is_decided.get()
    }

    /// Ends a lap: the time since the last one was spent in `stage`.
    pub fn lap(&self, stage: Stage, now: Instant) {
        let spent = now.saturating_duration_since(self.last.replace(now));
        self.add(stage, spent);
        match stage {
            Stage::Receive => self.is_decided.set(false),
            Stage::Decide => self.is_decided.set(true),
            _ => {}
        }
    }

    /// Adds time that a stage within the lap under way took.
    pub fn add(&self, stage: Stage, spent: Duration) {
        let cell = &self.spent_ns[stage as usize];
        cell.set(Some(cell.get().unwrap_or(0).saturating_add(nanoseconds(spent))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_spends_in_a_stage_is_one_duration() {
        let started = Instant::now();
        let at = |us| started + Duration::from_micros(us);
        let laps = Laps::new(started);
        laps.lap(Stage::Receive, at(10));
        laps.lap(Stage::Decide, at(30));
        assert!(laps.is_decided());
        laps.lap(Stage::Receive, at(40));
        assert!(!laps.is_decided(), "there is something new to decide");
        laps.add(Stage::Append, Duration::from_micros(1));
        laps.lap(Stage::Decide, at(50));
        laps.lap(Stage::Reply, at(51));
        let stages = Stages::default();
        stages.record(&laps);
        let spent = |stage| {
            let counts = stages.counts(stage);
            (counts.count(), counts.max_ns() / 1_000)
        };
        assert_eq!(spent(Stage::Receive), (1, 20));
        assert_eq!(spent(Stage::Decide), (1, 30));
        assert_eq!(spent(Stage::Append), (1, 1));
        assert_eq!(spent(Stage::Reply), (1, 1));
        assert_eq!(spent(Stage::SyncWait), (0, 0), "it never waited");
    }

    #[test]
    fn stages_are_counted_under_their_own_names() {
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, index);
        }
    }
}
