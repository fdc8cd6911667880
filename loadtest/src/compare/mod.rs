//! Holdfast beside what a user would pick instead: the same shoppers, the same stock, the same durability,
//! one after the other on the same machine, in turns, so that what else goes on there befalls all alike.
//!
//! What it promises:
//!
//! - Each run has a server of its own that was started for it, and is audited; a figure whose books differ
//!   is told as such and stands for nothing.
//! - Runs are closed loops: so many callers, each of whom asks again as soon as he is answered. That is
//!   how much a target takes, and the time from sending to answer while it does. What shoppers feel at a
//!   rate is `loadtest run`'s to tell.
//! - In every round each target has its turn, and each round begins with another one.

mod figures;
mod situation;

use std::{path::PathBuf, sync::Arc};

pub use figures::{Figures, Goal, Ratio, Spread, Verdict};
pub use situation::{SITUATIONS, Situation};

use crate::{
    peer,
    plan::Plan,
    run::Progress,
    scenario,
    trial::{self, Place, Protocol, Setup, Trial},
};

/// A target of comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// Holdfast over HTTP/1.1.
    Http1,
    /// Holdfast over HTTP/2.
    Http2,
    /// Holdfast's batch route.
    Batch,
    /// Holdfast's binary protocol.
    Binary,
    /// Holdfast's engine in this process.
    InProcess,
    /// Redis.
    Redis,
    /// PostgreSQL.
    Postgres,
}

impl Contender {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Http1,
        Self::Http2,
        Self::Batch,
        Self::Binary,
        Self::InProcess,
        Self::Redis,
        Self::Postgres,
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Batch => "batch",
            Self::Binary => "binary",
            Self::InProcess => "in-process",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }

    /// Which peer it is; `None` for Holdfast.
    pub fn peer(self) -> Option<peer::Kind> {
        match self {
            Self::Redis => Some(peer::Kind::Redis),
            Self::Postgres => Some(peer::Kind::Postgres),
            _ => None,
        }
    }

    /// The most visits of a second that a plan has room for; at more, a run ends early, and is measured
    /// as long as it was.
    fn visits_per_s(self) -> f64 {
        match self {
            Self::Binary | Self::InProcess | Self::Batch => 800_000.0,
            _ => 250_000.0,
        }
    }
}

/// How comparisons are made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rounds.
    pub rounds: u32,
    /// How long a run is measured, in seconds.
    pub seconds: f64,
    /// How long it is not, before.
    pub warm_up_s: f64,
    /// Holdfast's binary; else the one beside the tester.
    pub binary: Option<PathBuf>,
    /// The folder that all data goes into; else the system's for what is temporary.
    pub data: Option<PathBuf>,
}

/// What one run of a comparison came to.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Who.
    pub contender: Contender,
    /// The round, from 0.
    pub round: u32,
    /// What the target calls itself.
    pub target: String,
    /// What was measured.
    pub figures: Figures,
}

/// Compares in one situation; `each` is shown every run as soon as it has ended.
///
/// # Errors
/// If a run can't be carried out.
pub fn compare(
    situation: &Situation,
    contenders: &[Contender],
    options: &Options,
    mut each: impl FnMut(&Ran),
) -> Result<Vec<Ran>, trial::Error> {
    let mut all = Vec::new();
    for round in 0..options.rounds {
        for turn in 0..contenders.len() {
            let contender = contenders[(turn + round as usize) % contenders.len()];
            let ran = run(situation, contender, round, options)?;
            each(&ran);
            all.push(ran);
        }
    }
    Ok(all)
}

fn run(
    situation: &Situation,
    contender: Contender,
    round: u32,
    options: &Options,
) -> Result<Ran, trial::Error> {
    let mut scenario = situation.scenario()?;
    scenario.sending.warm_up_s = options.warm_up_s;
    // Other shoppers in every round, and the same for all in one.
    scenario.seed = 1 + u64::from(round);
    let seconds = options.seconds + options.warm_up_s;
    let visits_max = (seconds * contender.visits_per_s()).ceil() as u32;
    let callers = situation.callers;
    let plan = Plan::closed(&scenario, callers, seconds, visits_max, &trial::run_name());
    let setup = setup(scenario, contender, options);
    let trial = setup.try_plan(Arc::new(plan), &Progress::default())?;
    let figures = Figures::of(&trial, options.warm_up_s, seconds);
    Ok(Ran { contender, round, target: trial.target, figures })
}

fn setup(scenario: scenario::Scenario, contender: Contender, options: &Options) -> Setup {
    let data = options.data.clone();
    let protocol = match contender {
        Contender::Http2 => Protocol::Http2,
        Contender::Batch => Protocol::Batch,
        Contender::Binary => Protocol::Binary,
        _ => Protocol::Http1,
    };
    let place = match (contender.peer(), contender) {
        (Some(kind), _) => Place::Peer { kind, data },
        (None, Contender::InProcess) => Place::InProcess { data },
        (None, _) => Place::Own { binary: options.binary.clone(), data },
    };
    Setup { scenario, place, protocol }
}

impl Figures {
    /// Of a trial that was a closed loop of so many seconds, the warm-up contained.
    fn of(trial: &Trial, warm_up_s: f64, seconds: f64) -> Self {
        let totals = trial.run.recording.totals();
        let ran_out = totals.all() + trial.run.warm_up >= u64::from(trial.plan.shoppers());
        let lasted = if ran_out { trial.run.elapsed.as_secs_f64() } else { seconds };
        let measured_s = (lasted - warm_up_s).max(1e-9);
        Self::new(&totals, measured_s, trial)
    }
}
