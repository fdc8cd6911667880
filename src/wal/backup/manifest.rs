//! What a backup says of itself.

use std::{collections::HashSet, fs::File, io::Read, path::Path};

use serde::{Deserialize, Serialize};

use super::super::{checkpoint, error::Error, segment};
use crate::model::{Lsn, Timestamp};

/// The format of a backup's directory.
const FORMAT: u32 = 1;
/// The most bytes of a manifest: a hundred for each of half a million files.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// The manifest's file.
pub(super) const MANIFEST: &str = "manifest.json";
/// The configuration's file.
pub(super) const CONFIGURATION: &str = "configuration.toml";

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The life of the log that it was made in.
    pub incarnation: String,
    /// Where its log begins.
    pub begin: Lsn,
    /// Where it ends: everything that begins below is in it.
    pub end: Lsn,
    /// Everything below is in its checkpoint, if it has one.
    pub checkpoint: Option<Lsn>,
    /// The payload of a whole segment.
    pub segment_bytes: u64,
    /// Its files: the checkpoint, then the segments, oldest first.
    pub files: Vec<FileFacts>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Its name, in the backup and in the data directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The SHA-256 of its bytes, hexadecimal; empty until it was written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
}

impl FileFacts {
    pub(super) fn new(name: &str, bytes: u64) -> Self {
        Self { name: name.to_owned(), bytes, sha256: String::new() }
    }
}

impl Facts {
    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// The files of segments, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = &FileFacts> {
        self.files.iter().filter(|file| segment::index_of_name(&file.name).is_some())
    }

    /// The files' names must be those of a log's, each once: they become names in a directory.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut seen = HashSet::new();
        let is_ours = |name: &str| {
            segment::index_of_name(name).is_some() || checkpoint::covers_of_name(name).is_some()
        };
        match self.files.iter().find(|f| !is_ours(&f.name) || !seen.insert(f.name.as_str())) {
            Some(file) => Err(format!("names a file `{}`, which no backup has", file.name)),
            None => Ok(()),
        }
    }
}

/// What a backup's directory says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format of the directory.
    format: u32,
    /// The version of Holdfast that wrote it.
    pub holdfast: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// What is in it, with digests.
    pub log: Facts,
}

impl Manifest {
    pub(super) fn new(log: Facts, made_at: Timestamp) -> Self {
        let holdfast = env!("CARGO_PKG_VERSION").to_owned();
        Self { format: FORMAT, holdfast, made_at, log }
    }

    /// Reads the manifest of a backup's directory.
    ///
    /// # Errors
    /// There is none, or it is not one of this format.
    pub fn read(from: &Path) -> Result<Self, Error> {
        let path = from.join(MANIFEST);
        let place = path.display().to_string();
        let mut text = Vec::new();
        let file = File::open(&path).map_err(Error::io(format!("reading {place}")))?;
        let read = file.take(MANIFEST_BYTES_MAX).read_to_end(&mut text);
        read.map_err(Error::io(format!("reading {place}")))?;
        let wrong = |what: String| Error::Backup { place: place.clone(), what };
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|why| wrong(format!("is not the manifest of a backup: {why}")))?;
        if manifest.format != FORMAT {
            return Err(wrong(format!("is of format {}, not {FORMAT}", manifest.format)));
        }
        manifest.log.check().map_err(wrong)?;
        Ok(manifest)
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_names_files_of_a_log_and_no_others() {
        let facts = |names: &[&str]| Facts {
            incarnation: "1".to_owned(),
            begin: Lsn(0),
            end: Lsn(8),
            checkpoint: None,
            segment_bytes: 1 << 16,
            files: names.iter().map(|name| FileFacts::new(name, 1)).collect(),
        };
        assert!(facts(&["checkpoint-0000000000000008", "0000000000000000.log"]).check().is_ok());
        for name in ["../0000000000000000.log", "LOCK", "", "/etc/passwd", "checkpoint-8"] {
            assert!(facts(&[name]).check().unwrap_err().contains(name));
        }
        assert!(facts(&["0000000000000000.log", "0000000000000000.log"]).check().is_err());
    }
}
