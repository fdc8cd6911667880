//! What is left of a run: interval logs (`.hlog`), percentile tables (`.hgrm`), a page to look at, and the
//! progress while it runs.
//!
//! The interval log holds everything: the page, the tables and the comparison with another run are made of
//! it alone, today or in a year, and other HdrHistogram tools read it too.

mod error;
pub mod hgrm;
pub mod hlog;
pub mod html;
mod machine;
mod progress;
mod run;
mod summary;
#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod tests;
mod text;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use error::Error;
pub use machine::Machine;
pub use progress::{Display, Seen};
pub use run::{Bound, Check, Run};
pub use summary::{Marks, OutOfOrder, Point, Summary};

use crate::recording::Recording;

/// The files of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The interval log.
    pub hlog: PathBuf,
    /// The percentile tables: of the response time, the service time, the lag.
    pub hgrm: [PathBuf; 3],
    /// The page.
    pub html: PathBuf,
}

/// Writes all files of a run into a folder, named by this stem, and returns where they are. The run takes
/// from the recording what histograms don't tell, see [`Run::take_from`].
///
/// # Errors
///
/// If one can't be written.
pub fn write_all(
    folder: &Path,
    stem: &str,
    recording: &Recording,
    mut run: Run,
) -> Result<Files, Error> {
    fs::create_dir_all(folder).map_err(Error::file(folder))?;
    run.take_from(recording);
    let at = |extension: &str| folder.join(format!("{stem}.{extension}"));
    let tables = [("response.hgrm", "response"), ("service.hgrm", "service"), ("lag.hgrm", "lag")];
    let files = Files {
        hlog: at("hlog"),
        hgrm: tables.map(|(extension, _)| at(extension)),
        html: at("html"),
    };
    hlog::write(&files.hlog, recording, &run)?;
    // What is shown is what the log says: if it could not be read again, now is the time to know.
    let summary = hlog::read(&files.hlog)?;
    for (path, (_, tag)) in files.hgrm.iter().zip(tables) {
        let mut table = Vec::new();
        let written = hgrm::write(&mut table, &hgrm::pick(&summary, tag)?);
        written.and_then(|()| fs::write(path, table)).map_err(Error::file(path))?;
    }
    let page = html::page(&summary, None);
    fs::write(&files.html, page).map_err(Error::file(&files.html))?;
    Ok(files)
}
