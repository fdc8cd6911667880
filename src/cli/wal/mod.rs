//! `holdfast wal …`: the log of a stopped server and its archive, read and nothing else.

mod dump;
mod events;
mod verify;

use std::ops::ControlFlow;

use clap::{Args, Subcommand};
use holdfast::wal::{
    Record,
    inspect::{Inspection, inspect_with},
};

use super::{DataDir, Error, Outcome};

/// Whose records are read.
#[derive(Debug, Args)]
struct Records {
    #[command(flatten)]
    data: DataDir,
    /// Read the log alone, not what its archive has of what it let go.
    #[arg(long)]
    without_archive: bool,
}

impl Records {
    /// Shows every record to `each`, oldest first.
    fn inspect(
        &self,
        each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>,
    ) -> Result<Inspection, Error> {
        let config = self.data.load()?;
        let path = config.server.data;
        let archive = config.log.archive_of(&path).filter(|_| !self.without_archive);
        let read = inspect_with(&path, archive.as_deref(), each);
        read.map_err(|source| Error::Log { path, source })
    }
}

/// `holdfast wal …`.
#[derive(Debug, Subcommand)]
pub enum Wal {
    /// Read every segment and tell what is there; exit code 1 if something that was durable is not
    /// readable. A torn end is no damage: nothing acknowledged is in it.
    Verify(verify::Verify),
    /// Print records, one JSON object a line.
    Dump(dump::Dump),
}

impl Wal {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        match self {
            Self::Verify(verify) => verify.run(),
            Self::Dump(dump) => dump.run(),
        }
    }
}
