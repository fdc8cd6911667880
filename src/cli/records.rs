//! The records of a stopped server, as the commands read them that only look: the archive first, as far as it
//! joins the log, then the log.

use std::{ops::ControlFlow, path::PathBuf};

use clap::Args;
use holdfast::{
    config::Config,
    model::Lsn,
    wal::{
        Record,
        inspect::{Inspection, inspect_with},
    },
};

use super::{DataDir, Error};

/// Whose records are read.
#[derive(Debug, Clone, Args)]
pub struct Records {
    #[command(flatten)]
    data: DataDir,
    /// Read the log alone, not what its archive has of what it let go.
    #[arg(long)]
    without_archive: bool,
}

impl Records {
    /// The configuration, and where the records are by it.
    pub fn find(&self) -> Result<(Config, Log), Error> {
        let config = self.data.load()?;
        let path = config.server.data.clone();
        let archive = config.log.archive_of(&path).filter(|_| !self.without_archive);
        Ok((config, Log { path, archive }))
    }
}

/// A log and its archive.
#[derive(Debug, Clone)]
pub struct Log {
    path: PathBuf,
    archive: Option<PathBuf>,
}

impl Log {
    /// Shows every record to `each`, oldest first.
    pub fn inspect(
        &self,
        each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>,
    ) -> Result<Inspection, Error> {
        let read = inspect_with(&self.path, self.archive.as_deref(), each);
        read.map_err(|source| Error::Log { path: self.path.clone(), source })
    }

    /// Says where what can be read begins, and what could be done about what is older.
    pub fn begins(&self, begin: Lsn) -> String {
        let archive = match &self.archive {
            Some(archive) if archive.is_dir() => {
                format!(" and its archive in {}", archive.display())
            }
            Some(archive) => format!(" (there is no archive in {})", archive.display()),
            None => " (its archive is not read)".to_owned(),
        };
        format!(
            "the log in {}{archive} begins at {begin}; for what is older, run the command on a data directory \
             that `holdfast restore` makes of a backup from before",
            self.path.display()
        )
    }
}
