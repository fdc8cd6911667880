//! Why a configuration can't be used.

use std::path::{Path, PathBuf};

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

/// Lines that speak of these have something to hide.
const SECRET_WORDS: [&str; 6] =
    ["secret", "api_key", "headers", "authorization", "password", "token"];

impl Error {
    /// An error of a file's text, which shows the line without the secret that may be in it.
    pub(super) fn in_file(path: &Path, text: &str, mut source: toml::de::Error) -> Self {
        source.set_input(Some(&masked(text)));
        Self::File { path: path.to_owned(), source: Box::new(source) }
    }
}

/// The text with the same length, and stars for what stands in quotes where there may be secrets.
fn masked(text: &str) -> String {
    let mut in_headers = false;
    let lines = text.split_inclusive('\n').map(|line| {
        if line.trim_start().starts_with('[') {
            in_headers = line.contains(".headers]");
        }
        let lower = line.to_ascii_lowercase();
        match in_headers || SECRET_WORDS.iter().any(|word| lower.contains(word)) {
            true => without_quoted(line),
            false => line.to_owned(),
        }
    });
    lines.collect()
}

fn without_quoted(line: &str) -> String {
    let mut quote = None;
    let mut masked = String::with_capacity(line.len());
    for c in line.chars() {
        match quote {
            None => {
                quote = matches!(c, '"' | '\'').then_some(c);
                masked.push(c);
            }
            Some(open) if c == open => {
                quote = None;
                masked.push(c);
            }
            Some(_) if c == '\n' => masked.push(c),
            Some(_) => masked.extend(std::iter::repeat_n('*', c.len_utf8())),
        }
    }
    masked
}
