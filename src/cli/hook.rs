//! `holdfast hook try`: what a partner's rules make of a sample message, without its doing anything.

use std::{io::Write, path::PathBuf};

use clap::{Args, Subcommand};
use holdfast::{api, config::Overrides};

use super::{Error, Outcome, Source};

/// Try a hook.
#[derive(Debug, Subcommand)]
pub enum HookCommand {
    /// Print what a message would do, or why it would be refused; nothing is done.
    Try(Try),
}

/// Print what would be done.
#[derive(Debug, Args)]
pub struct Try {
    #[command(flatten)]
    source: Source,
    /// The partner whose hook it is.
    #[arg(long, value_name = "NAME")]
    partner: String,
    /// The message's body.
    #[arg(long, value_name = "FILE")]
    message: PathBuf,
}

impl HookCommand {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let Self::Try(Try { source, partner, message: path }) = self;
        let config = source.load(&Overrides::default())?;
        let found = config.partners.iter().find(|known| known.name == partner);
        let hook = found.and_then(|found| found.hook.as_ref()).ok_or_else(|| {
            Error::Usage(format!("--partner: the configuration has no hook of `{partner}`"))
        })?;
        let message = std::fs::read(&path).map_err(|source| Error::File { path, source })?;
        let tried = api::try_message(&hook.mapping(), &message);
        let tried = tried.map_err(|problem| {
            let (code, detail) = (problem.code().code, problem.detail());
            Error::Usage(format!("the hook of `{partner}` would refuse it: {code}: {detail}"))
        })?;
        writeln!(std::io::stdout(), "{tried}").map_err(Error::Output)?;
        Ok(Outcome::Good)
    }
}
