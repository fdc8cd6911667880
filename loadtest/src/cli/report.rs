//! `loadtest report RUN.hlog` and `loadtest hgrm RUN.hlog`: looking at a run again, from its interval log.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;

use crate::report::{Error, hgrm, hlog, html};

/// Makes the page of a run from its interval log.
#[derive(Debug, Args)]
pub struct Report {
    /// The interval log of the run.
    #[arg(value_name = "RUN.hlog")]
    run: PathBuf,
    /// Another run's, to compare with.
    #[arg(long, value_name = "OLD.hlog")]
    against: Option<PathBuf>,
    /// Where the page goes; without it, beside the log, with the ending `.html`.
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
}

impl Report {
    /// Runs it; returns where the page is.
    ///
    /// # Errors
    ///
    /// If a log can't be read, or the page can't be written.
    pub fn run(self) -> Result<PathBuf, Error> {
        let summary = hlog::read(&self.run)?;
        let old = self.against.as_deref().map(hlog::read).transpose()?;
        let name = self.against.as_deref().map(name).unwrap_or_default();
        let against = old.as_ref().map(|summary| html::Against { name: &name, summary });
        let out = self.out.unwrap_or_else(|| self.run.with_extension("html"));
        match fs::write(&out, html::page(&summary, against)) {
            Ok(()) => Ok(out),
            Err(source) => Err(Error::File { path: out, source }),
        }
    }
}

/// What a log is called in a comparison.
fn name(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Prints a percentile table of a run, for HdrHistogram's tools.
#[derive(Debug, Args)]
pub struct Hgrm {
    /// The interval log of the run.
    #[arg(value_name = "RUN.hlog")]
    run: PathBuf,
    /// What of it: `response` or `service` over all outcomes, or a tag of the log (`granted`,
    /// `service_granted`, `lag`, …).
    #[arg(long, default_value = "response")]
    tag: String,
}

impl Hgrm {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// If the log can't be read, or has no such tag, or the table can't be written.
    pub fn run(self) -> Result<(), Error> {
        let histogram = hgrm::pick(&hlog::read(&self.run)?, &self.tag)?;
        let mut out = io::stdout().lock();
        let written = hgrm::write(&mut out, &histogram).and_then(|()| out.flush());
        written.map_err(|source| Error::File { path: "the standard output".into(), source })
    }
}
