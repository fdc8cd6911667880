//! Reads a recorded trace of arrivals.

use std::{fs, path::Path};

use super::Error;

/// The instants in seconds, as the file has them.
pub(super) fn read(field: &str, path: &Path) -> Result<Vec<f64>, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Unreadable {
        field: field.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    let mut seconds = Vec::new();
    let mut last = f64::NEG_INFINITY;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.parse::<f64>() {
            Ok(second) if second.is_finite() && second >= last => {
                last = second;
                seconds.push(second);
            }
            _ => {
                return Err(Error::BadTrace {
                    field: field.to_owned(),
                    path: path.to_owned(),
                    line: at + 1,
                    text: line.chars().take(40).collect(),
                });
            }
        }
    }
    Ok(seconds)
}
