//! Why a command could not be carried out, and the exit code that says so.

use std::path::PathBuf;

use holdfast::{config, engine, wal};

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A partner's secrets can't be used.
    #[error("the partner `{name}`: {reason}")]
    Partner {
        /// Which partner.
        name: String,
        /// What is wrong, without a secret.
        reason: String,
    },
    /// The arguments are, together, wrong.
    #[error("{0}")]
    Usage(String),
    /// A file can't be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of a file is wrong.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The standard output can't be written.
    #[error("the output can't be written: {0}")]
    Output(std::io::Error),
    /// The runtime can't be started.
    #[error("the threads can't be started: {0}")]
    Runtime(std::io::Error),
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The engine can't be opened or closed.
    #[error("the data directory {}: {source}", path.display())]
    Engine {
        /// The data directory.
        path: PathBuf,
        /// Why.
        source: engine::Error,
    },
    /// The log can't be read.
    #[error("the log in {}: {source}", path.display())]
    Log {
        /// The data directory.
        path: PathBuf,
        /// Why.
        source: wal::Error,
    },
    /// The log was poisoned while serving.
    #[error("the log is poisoned, nothing more is promised: {0}")]
    Poisoned(wal::Poisoned),
    /// A server answered something unexpected, or not at all.
    #[error("{url}: {reason}")]
    Server {
        /// What was asked.
        url: String,
        /// What came.
        reason: String,
    },
    /// A part of the server could not do what it must.
    #[error("{what}: {reason}")]
    Part {
        /// Which part.
        what: &'static str,
        /// What happened.
        reason: String,
    },
}

impl Error {
    /// The exit code for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Partner { .. } | Self::Usage(_) => 2,
            Self::Poisoned(_) => 4,
            _ => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_as_the_help_says() {
        assert_eq!(Error::Usage(String::new()).exit_code(), 2);
        assert_eq!(Error::Poisoned(wal::Poisoned::Sync(String::new())).exit_code(), 4);
        let unreadable = std::io::Error::other("gone");
        assert_eq!(Error::File { path: PathBuf::new(), source: unreadable }.exit_code(), 3);
    }
}
