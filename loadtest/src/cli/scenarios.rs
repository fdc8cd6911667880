//! `loadtest scenarios`: the ready ones.

use std::io::Write;

use clap::Args;

use super::{Error, Outcome};
use crate::scenario::{self, READY, Scenario};

/// Tell the ready scenarios, or show one: as a file to begin an own one with.
#[derive(Debug, Args)]
pub(super) struct Scenarios {
    /// Show this one.
    name: Option<String>,
}

impl Scenarios {
    pub fn run(self) -> Result<Outcome, Error> {
        let mut out = std::io::stdout().lock();
        match self.name {
            Some(name) => {
                let ready = READY.iter().find(|(ready, _)| *ready == name);
                let (_, text) = ready.ok_or(scenario::Error::Unknown { name })?;
                out.write_all(text.as_bytes()).map_err(Error::Print)?;
            }
            None => {
                for (name, _) in READY {
                    let about = Scenario::find(name)?.about;
                    writeln!(out, "{name:<12} {about}").map_err(Error::Print)?;
                }
            }
        }
        Ok(Outcome::Good)
    }
}
