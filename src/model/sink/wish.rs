//! What an operator wants of a sink, and what comes of it.
//!
//! A wish is granted by the sink's feed, which is the only one that writes the log for its sink, when
//! its record is durable.

use serde_json::Value;

use crate::model::{Lsn, Timestamp};

/// Who wants something, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct By {
    /// A partner's name; empty where none is known.
    pub who: String,
    /// Why; may be empty.
    pub reason: String,
    /// Whether a freeze window is ignored.
    pub forced: bool,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// No attempt is made any more.
    Pause,
    /// Attempts are made again.
    Resume,
    /// Batches are sent again, as they were, before anything new.
    Replay {
        /// Which of them.
        from: From,
    },
    /// The oldest batch under way is set aside.
    Skip,
    /// A letter's content is changed: its lines, which keep their ids.
    Mend {
        /// Its name.
        letter: String,
        /// As it is to be: the body, or its arrays of lines alone.
        content: Value,
    },
    /// A letter is sent again.
    Retry {
        /// Its name.
        letter: String,
    },
    /// A letter is dropped.
    Discard {
        /// Its name.
        letter: String,
    },
}

/// Where a replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the first batch that has a record at or after this position.
    Lsn(Lsn),
    /// With the first batch that was sealed at or after this time.
    Time(Timestamp),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// How many batches or letters it is about.
    pub count: u64,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No letter of that name.
    #[error("there is no dead letter `{0}`")]
    NoLetter(String),
    /// It is on its way.
    #[error("the dead letter `{0}` is being sent again; its fate is not known yet")]
    Sending(String),
    /// Another must come before it.
    #[error(
        "the dead letter `{letter}` calls off an order that lies dead in `{first}`: retry that, and this one \
         follows it, or discard that one first"
    )]
    Behind {
        /// Its name.
        letter: String,
        /// The letter of the order.
        first: String,
    },
    /// The content does not fit.
    #[error("content: {0}")]
    Content(String),
    /// Nothing to be done.
    #[error("{0}")]
    Nothing(&'static str),
    /// Too many wishes wait.
    #[error("{0} wishes wait for this sink already; nothing was changed")]
    TooMany(usize),
    /// Not now.
    #[error(
        "a freeze window is open until {until} ({reason}); say `force` with a reason to do it all the same"
    )]
    Frozen {
        /// Its end.
        until: Timestamp,
        /// What it is for.
        reason: String,
    },
    /// The sink is broken or stopping.
    #[error("the sink is stopped; nothing was changed")]
    Stopped,
    /// The log has too little room for it.
    #[error("the record would have {bytes} bytes; the log takes {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest.
        bytes_max: usize,
    },
}
