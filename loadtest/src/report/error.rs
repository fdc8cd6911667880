//! Why a report can't be made.

use std::{io, path::PathBuf};

/// Why a report can't be made, or a file of one can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than an interval log may be.
    #[error("{}: {bytes} bytes are too many, an interval log has {bytes_max} at most", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        bytes_max: u64,
    },
    /// A line of an interval log is wrong.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no interval in it.
    #[error("{}: there is no interval in it: not an interval log, or of a run that ended at once", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// There is no series of this name.
    #[error(
        "there is no series `{tag}`: it is `response`, `service`, `lag`, or a tag such as {known}"
    )]
    UnknownTag {
        /// What was asked for.
        tag: String,
        /// The tags that are known.
        known: String,
    },
    /// A histogram can't be serialised.
    #[error("a histogram can't be serialised: {0}")]
    Serialise(String),
}

impl Error {
    /// Makes an error of this file out of the system's.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
