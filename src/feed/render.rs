//! The bodies that partners receive, as the HTTP contract has them; and how many bytes a part of
//! one takes at most, so that a window is closed before its batch outgrows a record of the log.

use serde::Serialize;
use utoipa::ToSchema;

use super::BatchId;
use crate::model::{Lsn, Timestamp};

/// What every batch says of itself.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Head<'a> {
    /// Sink, incarnation of the log, number; of a half also its path. The same in every repeat.
    pub batch_id: &'a str,
    /// The sink's name.
    pub sink: &'a str,
    /// What the sink is for.
    pub domain: &'a str,
    /// The queue that it goes through.
    pub priority: &'a str,
    /// The first record summed up.
    pub first_lsn: Lsn,
    /// The last record summed up.
    pub last_lsn: Lsn,
    /// When its content was fixed.
    pub sealed_at: Timestamp,
    /// Records summed up, those whose sum is zero included.
    pub events: u64,
}

/// What a window needs to know of the batch that it becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp<'a> {
    /// Its name; of a window that becomes several batches, the first one's. See [`BatchId::later`].
    pub id: &'a BatchId,
    pub sink: &'a str,
    pub sealed_at: Timestamp,
    /// Digest of the last entry before.
    pub chain: [u8; 32],
}

/// A rendered window.
#[derive(Debug)]
pub(super) struct Rendered {
    /// The bytes to send, a body for each batch, none of them empty: none where every sum is zero, and
    /// then there is nothing to send; several only of a fulfilment sink. Batches are numbered in this
    /// order, without a gap, the first as the stamp says.
    pub bodies: Vec<Vec<u8>>,
    /// Digest of the last entry; as it was where there is none.
    pub chain: [u8; 32],
}

impl Rendered {
    /// Nothing to send.
    pub fn nothing(chain: [u8; 32]) -> Self {
        Self { bodies: Vec::new(), chain }
    }

    /// One batch.
    pub fn one(body: Vec<u8>, chain: [u8; 32]) -> Self {
        Self { bodies: vec![body], chain }
    }

    /// The body where there is at most one; empty where there is none.
    pub fn body(&self) -> &[u8] {
        self.bodies.first().map_or(&[], Vec::as_slice)
    }
}

/// The most bytes of a batch without its lines or entries.
pub(super) fn head_bytes(sink: &str) -> u64 {
    400 + 2 * sink.len() as u64
}

/// The most bytes of the name of a line: sink, `-`, four digits, `-`, twelve digits, `.`, seven digits. A
/// sink that seals a thousand batches a second has its first number of thirteen digits after thirty
/// years; and no batch has the bytes for a million lines.
pub(super) fn part_id_bytes(sink: &str) -> u64 {
    sink.len() as u64 + 26
}

/// The bytes of a printable ASCII text inside a JSON string.
pub(super) fn json_bytes(text: &str) -> u64 {
    let escaped = text.bytes().filter(|b| matches!(b, b'"' | b'\\')).count();
    (text.len() + escaped) as u64
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}
