//! What can go wrong with a log, each said once and in full.

use std::{io, sync::Arc};

use crate::model::Lsn;

/// Why a log could not be opened or read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk said no.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, and to which file.
        what: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Another process has the data directory.
    #[error("the data directory {dir} is in use by another process")]
    Locked {
        /// The directory.
        dir: String,
    },
    /// What was known to be durable is damaged; nothing is cut, nothing is guessed.
    #[error(
        "the log is damaged: {segment} at byte {offset} (log position {lsn}) was durable and is not \
         readable: {why}; restore the file from a backup"
    )]
    Rotted {
        /// The segment's file.
        segment: String,
        /// The offset of the damage in that file.
        offset: u64,
        /// The position of the damage in the log.
        lsn: Lsn,
        /// What was found.
        why: &'static str,
    },
    /// A segment that is needed is not there.
    #[error("the log's segment {segment}, which begins at log position {lsn}, is missing")]
    Missing {
        /// The segment's file.
        segment: String,
        /// The position that was to be read.
        lsn: Lsn,
    },
    /// The position has been released and its segment recycled.
    #[error("log position {lsn} has been archived; the log begins at {oldest}")]
    Archived {
        /// The position that was asked for.
        lsn: Lsn,
        /// The first that can still be read.
        oldest: Lsn,
    },
    /// There is no record at this position.
    #[error("there is no record at log position {lsn}")]
    NoRecord {
        /// The position that was asked for.
        lsn: Lsn,
    },
    /// The files were written by another version or with another segment size.
    #[error("{file}: {what}")]
    Format {
        /// The file.
        file: String,
        /// What does not fit.
        what: String,
    },
    /// A checkpoint file is damaged.
    #[error("the checkpoint {file} is damaged: {why}")]
    Checkpoint {
        /// The file.
        file: String,
        /// What was found.
        why: &'static str,
    },
    /// An archived segment is not what was archived.
    #[error("the archived segment {file}: {why}")]
    Archive {
        /// Its file.
        file: String,
        /// What was found.
        why: String,
    },
    /// Others read the archive, and so many at a time is all.
    #[error("the archive is being read by others; try again")]
    ArchiveBusy,
    /// A backup is not what it should be, or can't be made there.
    #[error("the backup {place}: {what}")]
    Backup {
        /// Its directory or file.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// An option is out of its range.
    #[error("log option: {0}")]
    Options(&'static str),
}

impl Error {
    /// An error of the system, with what was being done.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: Arc::new(source) }
    }
}

/// Why the log takes no more. Nothing is acknowledged after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Poisoned {
    /// A sync failed: what the disk has is unknown, and a later sync that succeeds proves nothing.
    #[error("a sync of the log failed, so nothing after it can be trusted: {0}")]
    Sync(String),
    /// A record was claimed and not published in time.
    #[error(
        "the record at log position {lsn} was claimed and not published for {waited_ms} ms; its \
         thread died or is stuck"
    )]
    Hole {
        /// The record's position.
        lsn: Lsn,
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// One of the log's own threads panicked.
    #[error("the log's thread {0} panicked")]
    Panicked(&'static str),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// Why a ticket was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The disk budget is spent, or the disk is full.
    #[error("the log is full")]
    Full,
    /// No segment was ready, or the unsynced window stayed full, for the bounded time.
    #[error("the log is busy")]
    Busy,
    /// The log takes no more.
    #[error("the log has stopped")]
    Poisoned,
}
