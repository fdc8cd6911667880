//! `holdfast wal …`: the log of a stopped server and its archive, read and nothing else.

mod dump;
mod events;
mod verify;

use clap::Subcommand;

use super::{Error, Outcome};

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
