//! What an operator did to a sink, as the log has it.

use rkyv::{Archive, Deserialize, Serialize};

use crate::model::letter::{Letter, Split};

/// What an operator did to a sink.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub enum Deed {
    /// No attempt is made any more.
    Pause,
    /// Attempts are made again.
    Resume,
    /// Sealed batches are sent again as they are, before anything new.
    Replay {
        /// The first of them.
        from_number: u64,
        /// The last of them.
        to_number: u64,
    },
    /// A batch that is under way is set aside.
    Skip {
        /// Its number.
        number: u64,
    },
    /// A letter's content was changed.
    Mend {
        /// As it is now.
        letter: Letter,
    },
    /// A letter is sent again: the seal that does it comes after this.
    Retry {
        /// Its name.
        letter: String,
    },
    /// A letter was dropped.
    Discard {
        /// Its name.
        letter: String,
    },
    /// How far the bisection of a refused batch has come: the delivery's own, before its next part
    /// leaves.
    Split {
        /// See there.
        split: Split,
    },
    /// From here on batches are rendered by other settings.
    Configure {
        /// Their version.
        version: u64,
        /// The settings that render.
        text: String,
    },
}

impl Deed {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Replay { .. } => "replay",
            Self::Skip { .. } => "skip",
            Self::Mend { .. } => "mend",
            Self::Retry { .. } => "retry",
            Self::Discard { .. } => "discard",
            Self::Split { .. } => "split",
            Self::Configure { .. } => "configure",
        }
    }
}
