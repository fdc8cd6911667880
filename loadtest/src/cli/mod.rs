//! The subcommands, one file each.
//!
//! Exit codes: 0 all is well; 1 the books differ; 2 it could not be carried out, or was asked for wrongly;
//! 3 the tester was too late, so that the figures are void; 4 a demand of the scenario was not met. Of
//! several the first one counts.

mod aim;
mod compare;
mod files;
mod ladder;
mod replay;
mod report;
mod run;
mod scenarios;
mod text;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::trial::{self, Trial};

/// An open-loop load tester of reservation services.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Carry a scenario out, and audit it.
    Run(run::Run),
    /// Find the highest rate at which the scenario's demands are met.
    Ladder(ladder::Ladder),
    /// Compare Holdfast with its peers.
    Compare(compare::Compare),
    /// Play a recorded sale once more.
    Replay(replay::Replay),
    /// Tell the ready scenarios, or show one.
    Scenarios(scenarios::Scenarios),
    /// Make the page of a run from its interval log, compared with another run's if you like.
    Report(report::Report),
    /// Print a percentile table of a run, for HdrHistogram's tools.
    Hgrm(report::Hgrm),
}

/// How a subcommand ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// All is well.
    Good = 0,
    /// The books differ.
    Unbalanced = 1,
    /// The tester was too late.
    Void = 3,
    /// A demand was not met.
    Missed = 4,
}

impl Outcome {
    fn of(trial: &Trial) -> Self {
        if !trial.audited() {
            Self::Unbalanced
        } else if trial.void {
            Self::Void
        } else if !trial.met() {
            Self::Missed
        } else {
            Self::Good
        }
    }
}

/// Why a subcommand could not be carried out.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// A trial.
    #[error(transparent)]
    Trial(#[from] trial::Error),
    /// A replay.
    #[error(transparent)]
    Replay(#[from] crate::replay::Error),
    /// The scenario.
    #[error(transparent)]
    Scenario(#[from] crate::scenario::Error),
    /// The files of a run.
    #[error(transparent)]
    Report(#[from] crate::report::Error),
    /// An option.
    #[error("{0}")]
    Usage(String),
    /// A file can't be written.
    #[error("writing {}: {source}", path.display())]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nobody reads what is printed.
    #[error("printing: {0}")]
    Print(#[source] std::io::Error),
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    allow_descriptors();
    let ended = match Cli::parse().command {
        Command::Run(run) => run.run(),
        Command::Ladder(ladder) => ladder.run(),
        Command::Compare(compare) => compare.run(),
        Command::Replay(replay) => replay.run(),
        Command::Scenarios(scenarios) => scenarios.run(),
        Command::Report(report) => report.run(),
        Command::Hgrm(hgrm) => hgrm.run(),
    };
    match ended {
        Ok(outcome) => ExitCode::from(outcome as u8),
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::from(2)
        }
    }
}

/// Takes as many descriptors as there may be: each connection is one, here and in the tester's own server,
/// which has what the tester has.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, the connections that can't be opened are told.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
