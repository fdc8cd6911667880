//! Dead letters: what a partner refused for its content, kept until a person has dealt with it.
//!
//! A letter is made by the record that says what became of its batch, and carries its content: it needs
//! nothing of the log. It is a line, or a whole part of a batch where the lines can't be told apart
//! without risk. Its id stays the same however often it is mended and tried again, and so do the ids of
//! the lines in it.

use rkyv::{Archive, Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Letter {
    /// Its name at its sink: the id of its line, or of its part where it is more than one.
    pub id: String,
    /// The part of the batch that carried it last: batch id and path. It goes out under it again
    /// while it is not mended.
    pub part_id: String,
    /// The number of the batch that carried it first, and the position of that one's seal.
    pub number: u64,
    /// See `number`.
    pub seal_lsn: u64,
    /// The version of the configuration that rendered it.
    pub config_version: u64,
    /// When it was set aside last, in milliseconds since the epoch.
    pub at_ms: u64,
    /// The partner's status code; 0 without one.
    pub status: u16,
    /// The place of its [`Lane`](super::sink::Lane).
    pub lane: u8,
    /// Attempts that were made for it, those of the parts that it was in contained.
    pub attempts: u64,
    /// Whether an attempt may have had its effect all the same.
    pub uncertain: bool,
    /// Whether a person changed its content.
    pub mended: bool,
    /// What the partner said, shortened, or why it was not asked.
    pub reason: String,
    /// The body that was refused: the head of its batch, with this content alone.
    pub body: Vec<u8>,
}
