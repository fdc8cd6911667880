//! `loadtest ladder`: the highest rate at which a scenario's demands are met.

use std::{io::Write, path::PathBuf, sync::Arc};

use clap::Args;
use serde::Serialize;

use super::{Error, Outcome, aim::Aim, text, watch::shown};
use crate::{
    ladder::{self, Climb, Rung},
    recording::Outcome as Answer,
    run::Progress,
    scenario::Slo,
    schedule::Stage,
    trial::{Setup, Trial},
};

/// What is asked for where the scenario asks for nothing.
const SLO: Slo = Slo {
    p50_ms: None,
    p99_ms: None,
    p999_ms: Some(1.0),
    max_ms: None,
    errors_share: Some(0.0),
    shed_share: Some(0.0),
};

/// Find the highest rate at which the scenario's demands are met: on each rung its shoppers come at one
/// steady rate, to a server that was started for it alone.
#[derive(Debug, Args)]
pub(super) struct Ladder {
    #[command(flatten)]
    aim: Aim,
    /// The first rate, in requests a second.
    #[arg(long, default_value_t = 1_000.0)]
    from: f64,
    /// The highest rate that is tried.
    #[arg(long, default_value_t = 1_000_000.0)]
    to: f64,
    /// Each rate is so many times the one before.
    #[arg(long, default_value_t = 1.5)]
    factor: f64,
    /// How often the distance between the last rung that held and the first that did not is halved.
    #[arg(long, default_value_t = 3)]
    halvings: u32,
    /// How long each rung is, in seconds, after a second of warm-up.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// The p99.9 that is asked for, in milliseconds, instead of the scenario's demands on times.
    #[arg(long)]
    p999_ms: Option<f64>,
    /// A folder that the figures are written to, as `ladder.json`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What is told of a rung.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    /// Answers in time that decide something, a second.
    pub decided_per_s: f64,
    /// Response times in microseconds: p50, p99, p99.9, max.
    pub response_us: [f64; 4],
    /// Service times likewise.
    pub service_us: [f64; 4],
    /// The tester's lag at p99.9, in microseconds.
    pub lag_p999_us: u64,
    /// The tester's processor time, in microseconds a request.
    pub cpu_us: f64,
    /// Why it did not hold.
    pub why: Vec<String>,
}

impl Ladder {
    pub fn run(self) -> Result<Outcome, Error> {
        let climb = self.climb()?;
        let mut setup = self.aim.setup()?;
        if setup.scenario.slo == Slo::default() {
            setup.scenario.slo = SLO;
        }
        if let Some(p999_ms) = self.p999_ms {
            let Slo { errors_share, shed_share, .. } = setup.scenario.slo;
            setup.scenario.slo = Slo { p999_ms: Some(p999_ms), errors_share, shed_share, ..SLO };
        }
        setup.scenario.sending.warm_up_s = 1.0;
        let seconds = self.seconds;
        let ladder = ladder::Ladder::climb(climb, |rate| {
            let tried = rung(&mut setup, rate, seconds)?;
            text::rung(&mut std::io::stdout(), rate, &tried).map_err(Error::Print)?;
            Ok::<_, Error>(tried)
        })?;
        let mut out = std::io::stdout().lock();
        text::knee(&mut out, &ladder).map_err(Error::Print)?;
        out.flush().map_err(Error::Print)?;
        if let Some(folder) = self.out {
            text::write(&folder, "ladder.json", &text::ladder_json(&setup.scenario, &ladder))?;
        }
        Ok(match ladder.knee() {
            Some(_) => Outcome::Good,
            None if ladder.failed() => Outcome::Unbalanced,
            None if ladder.ended_by_tester() => Outcome::Void,
            None => Outcome::Missed,
        })
    }

    fn climb(&self) -> Result<Climb, Error> {
        let Self { from, to, factor, halvings, seconds, .. } = *self;
        let wrong = |what: &str| Err(Error::Usage(what.to_owned()));
        if !(from > 0.0 && from <= to && to.is_finite()) {
            return wrong("--from must be above 0 and at most --to");
        }
        if !(factor > 1.0 && factor <= 100.0) {
            return wrong("--factor must be above 1 and at most 100");
        }
        if halvings > 20 {
            return wrong("--halvings must be at most 20");
        }
        if !(seconds > 0.0 && seconds <= 86_400.0) {
            return wrong("--seconds must be above 0 and at most a day");
        }
        Ok(Climb { from, to, factor, halvings })
    }
}

fn rung(setup: &mut Setup, rate: f64, seconds: f64) -> Result<(Rung, Figures), Error> {
    let for_s = seconds + setup.scenario.sending.warm_up_s;
    setup.scenario.stages = vec![Stage::Steady { rate, for_s }];
    let progress = Arc::new(Progress::default());
    let trial = shown(&setup.scenario.name, &progress, || setup.try_at(1.0, &progress))?;
    let rung = match Outcome::of(&trial) {
        Outcome::Good => Rung::Held,
        Outcome::Unbalanced => Rung::Failed,
        Outcome::Void => Rung::Void,
        Outcome::Missed => Rung::Missed,
    };
    Ok((rung, figures(&trial, seconds)))
}

fn figures(trial: &Trial, seconds: f64) -> Figures {
    let totals = trial.run.recording.totals();
    let decided = [Answer::Granted, Answer::SoldOut, Answer::Refused];
    let decided: u64 = decided.iter().map(|outcome| totals.count(*outcome)).sum();
    let missed = trial.verdicts.iter().filter(|verdict| !verdict.ok);
    let mut why: Vec<String> =
        missed.map(|v| format!("{} {:.3} above {}", v.what, v.found, v.limit)).collect();
    why.extend(trial.checks.iter().filter(|check| !check.ok).map(|check| check.what.clone()));
    if trial.void {
        why.push(format!("the tester's lag, p99.9 {} us", trial.run.lag_p999_us()));
    }
    Figures {
        decided_per_s: decided as f64 / seconds,
        response_us: text::quantiles(&totals.response),
        service_us: text::quantiles(&totals.service),
        lag_p999_us: trial.run.lag_p999_us(),
        cpu_us: text::cpu_us(trial),
        why,
    }
}
