//! Why a configuration can't be used.

use std::path::PathBuf;

/// Why a configuration can't be used: where it stands, and what to change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("the configuration {} can't be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of the file is wrong. The text shows the line with its key.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Which line, and why.
        source: Box<toml::de::Error>,
    },
    /// A variable of the environment is wrong.
    #[error("the environment variable {name}: {reason}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value has the right form, but can't be used.
    #[error("{place}: `{key}` {reason}")]
    Unusable {
        /// The file and line, the variable or the argument that says so.
        place: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration can't be written as TOML (a number beyond what TOML can say).
    #[error("the configuration can't be written as TOML: {source}")]
    Unwritable {
        /// Why.
        source: Box<toml::ser::Error>,
    },
}
