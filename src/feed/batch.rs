//! A sealed batch and its name.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;

use super::Carried;
use crate::model::{
    Incarnation, Lsn, Timestamp,
    letter::Split,
    sink::{Lane, batch_name},
};

/// A batch's identity: sink, incarnation of the log, seal number. Written `erp-3f9c-000123`. Log
/// positions are no part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchId(String);

impl BatchId {
    /// The name of a sink's batch.
    pub fn new(sink: &str, incarnation: Incarnation, number: u64) -> Self {
        Self(batch_name(sink, incarnation, number))
    }

    /// The name of the sink's batch that comes so many later: of several that one seal makes, the
    /// `n`th from 0. A part has none after it.
    pub fn later(&self, n: u64) -> Self {
        let split = self.0.rsplit_once('-');
        match split.and_then(|(stem, number)| Some((stem, number.parse::<u64>().ok()?))) {
            Some((stem, number)) => Self(format!("{stem}-{:06}", number.saturating_add(n))),
            None => self.clone(),
        }
    }

    /// The name of a part of a batch: the batch's and a path.
    pub fn named(part: &str) -> Self {
        Self(part.to_owned())
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its `n`th line or entry, from 1.
    pub fn part(&self, n: usize) -> String {
        format!("{}.{n}", self.0)
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A batch whose seal is durable.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its identity.
    pub id: BatchId,
    /// Its number at its sink.
    pub number: u64,
    /// Its queue.
    pub lane: Lane,
    /// Whether no attempt was made before: sealed in this life of the process, and never sent.
    pub fresh: bool,
    /// The version of the configuration that rendered it.
    pub config_version: u64,
    /// The position of its seal.
    pub seal_lsn: Lsn,
    /// The first record summed up.
    pub first_lsn: Lsn,
    /// When that was written; of a batch that was sealed in an earlier life, when it was sealed.
    pub oldest: Timestamp,
    /// When the last record summed up was written; as `oldest` of a batch of an earlier life.
    pub newest: Timestamp,
    /// Records summed up.
    pub events: u64,
    /// The bytes that are sent.
    pub body: Bytes,
    /// How far its bisection had come in an earlier life, or in which parts the partner took it; then it is
    /// not sent whole.
    pub split: Option<Split>,
    /// Items that must not go out now, and why: they are set aside before the rest is sent.
    pub held_back: Vec<Rejected>,
    /// When its records were written, and what led to them.
    pub carried: Carried,
}

/// A line that the partner refused: of a finance batch an entry, of a stream an event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct Rejected {
    /// Which.
    pub line_id: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_named_by_sink_incarnation_and_number() {
        let life = Incarnation(0x3f9c_0000_0000_0001);
        let id = BatchId::new("erp", life, 123);
        assert_eq!(id.as_str(), "erp-3f9c-000123");
        assert_eq!(id.part(7), "erp-3f9c-000123.7");
        assert_eq!(id.later(0), id);
        assert_eq!(id.later(7), BatchId::new("erp", life, 130));
        assert_eq!(BatchId::new("erp", life, 12_345_678).as_str(), "erp-3f9c-12345678");
    }
}
