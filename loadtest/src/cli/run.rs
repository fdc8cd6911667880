//! `loadtest run`: a scenario, once.

use std::{io::Write, path::PathBuf, sync::Arc};

use clap::Args;

use super::{Error, Outcome, aim::Aim, files, text, watch::shown};
use crate::run::Progress;

/// Carry a scenario out, and audit it.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    aim: Aim,
    /// The highest rate of the schedule, in requests a second; all others change in proportion.
    #[arg(long)]
    rate: Option<f64>,
    /// A folder that the figures are written to: `run.json`, `run.hlog`, `run.*.hgrm`, `run.html`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Run {
    pub fn run(self) -> Result<Outcome, Error> {
        let setup = self.aim.setup()?;
        let scale = scale(self.rate, setup.scenario.peak_rate())?;
        let progress = Arc::new(Progress::default());
        let machine = files::machine(&setup);
        let name = &setup.scenario.name;
        let trial = shown(name, &progress, || setup.try_at(scale, &progress))?;
        let outcome = Outcome::of(&trial);
        let mut out = std::io::stdout().lock();
        text::trial(&mut out, &setup.scenario, &trial).map_err(Error::Print)?;
        if let Some(folder) = self.out {
            let page = files::write(&folder, &setup, &trial, machine)?;
            writeln!(out, "page         {}", page.display()).map_err(Error::Print)?;
        }
        out.flush().map_err(Error::Print)?;
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
