//! `loadtest run`: a scenario, once.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use super::{Error, Outcome, aim::Aim, text};
use crate::run::Progress;

/// Between two lines of progress.
const PROGRESS_PACE: Duration = Duration::from_secs(1);
/// Between two looks whether the run is over.
const GLANCE: Duration = Duration::from_millis(50);

/// Carry a scenario out, and audit it.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    aim: Aim,
    /// The highest rate of the schedule, in requests a second; all others change in proportion.
    #[arg(long)]
    rate: Option<f64>,
    /// A folder that the figures are written to, as `run.json`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Run {
    pub fn run(self) -> Result<Outcome, Error> {
        let setup = self.aim.setup()?;
        let scale = scale(self.rate, setup.scenario.peak_rate())?;
        let progress = Arc::new(Progress::default());
        let trial = shown(&progress, || setup.try_at(scale, &progress))?;
        let outcome = Outcome::of(&trial);
        let mut out = std::io::stdout().lock();
        text::trial(&mut out, &setup.scenario, &trial).map_err(Error::Print)?;
        out.flush().map_err(Error::Print)?;
        if let Some(folder) = self.out {
            text::write(&folder, "run.json", &text::json(&setup.scenario, &trial))?;
        }
        Ok(outcome)
    }
}

/// By how much the rates are multiplied to have this one as their highest.
fn scale(rate: Option<f64>, peak: f64) -> Result<f64, Error> {
    match rate {
        None => Ok(1.0),
        Some(rate) if !(rate.is_finite() && rate > 0.0) => {
            Err(Error::Usage("--rate must be above 0".to_owned()))
        }
        Some(_) if peak <= 0.0 => {
            Err(Error::Usage("--rate: a trace has its own; change its `speed`".to_owned()))
        }
        Some(rate) => Ok(rate / peak),
    }
}

/// Shows a run's progress on a terminal while it goes on.
pub(super) fn shown<T>(progress: &Arc<Progress>, run: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return run();
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = Instant::now() + PROGRESS_PACE;
            while !over.load(Ordering::Relaxed) {
                thread::sleep(GLANCE);
                if Instant::now() >= next {
                    next += PROGRESS_PACE;
                    let due = progress.due.load(Ordering::Relaxed);
                    let ended = progress.ended.load(Ordering::Relaxed);
                    eprint!(
                        "\r{due} requests due, {ended} ended, {} waiting   ",
                        due - ended.min(due)
                    );
                }
            }
            eprintln!();
        });
        let ran = run();
        over.store(true, Ordering::Relaxed);
        ran
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_peak() {
        assert_eq!(scale(None, 5.0).unwrap(), 1.0);
        assert_eq!(scale(Some(20.0), 5.0).unwrap(), 4.0);
        for (rate, peak) in [(0.0, 5.0), (-1.0, 5.0), (f64::NAN, 5.0), (1.0, 0.0)] {
            assert!(scale(Some(rate), peak).is_err(), "{rate} {peak}");
        }
    }
}
