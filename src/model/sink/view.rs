//! Sinks as an operator sees them.

use utoipa::ToSchema;

use super::{Attempts, reconciliation::ReconciliationSummary};
use crate::model::{Lsn, Timestamp};

/// A sink as an operator sees it, `GET /v1/sinks`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct SinkView {
    /// Its name.
    pub name: String,
    /// What it gets: `inventory`, `finance`.
    pub domain: String,
    /// `running`, `paused` (the partner refuses us, or an operator wants it), `broken` (needs a person).
    pub state: String,
    /// Why it does not run; absent if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `closed`, `open`, `half_open`.
    pub breaker: String,
    /// Its queues.
    pub lanes: Vec<LaneView>,
    /// Everything below here is with the partner.
    pub acknowledged_lsn: Lsn,
    /// Records read that are not with the partner yet.
    pub lag_records: u64,
    /// Age of the oldest of them.
    pub lag_ms: u64,
    /// Batches that may be under way at once.
    pub concurrency: u64,
    /// Batches that the partner has.
    pub batches_delivered: u64,
    /// Records summed up in them.
    pub events_delivered: u64,
    /// Attempts beyond the first of each batch, since the start.
    pub retries: u64,
    /// Attempts and waits, since the start.
    #[serde(default)]
    pub attempts: Attempts,
    /// What the partner refused for its content and nobody has dealt with yet.
    pub dead_letters: u64,
    /// Records that dead letters stand for: those that their entries sum up, in finance; one each, elsewhere.
    #[serde(default)]
    pub dead_letter_records: u64,
    /// Batches that are still to be sent again on an operator's wish.
    #[serde(default)]
    pub replaying: u64,
    /// Records that wait for what must come first (finance).
    #[serde(default)]
    pub parked: u64,
    /// Age of the oldest of them; 0 without any.
    #[serde(default)]
    pub oldest_parked_age_ms: u64,
    /// Records that were booked before what must come first since more may not be parked, since the
    /// start.
    #[serde(default)]
    pub parked_overflows: u64,
    /// The last comparison with the partner's stock; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconciliation: Option<ReconciliationSummary>,
}

/// A queue of one priority.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct LaneView {
    /// `critical`, `standard`, `bulk`.
    pub priority: String,
    /// Batches sealed and not acknowledged.
    pub depth: u64,
    /// Age of the oldest record that waits.
    pub oldest_age_ms: u64,
}

/// A parked record as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct ParkedView {
    /// The order.
    pub order_id: String,
    /// `settlement` or `refund`.
    pub kind: String,
    /// The fact's own id.
    pub id: String,
    /// The record.
    pub lsn: Lsn,
    /// How long ago it was written.
    pub age_ms: u64,
    /// Why it waits: `recognition` (the order's revenue is not booked yet), `settlement`.
    pub waits_for: String,
}

/// What became of an operator's wish to release what is parked of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The feed will, in its next window.
    Asked {
        /// How many records.
        records: u64,
    },
    /// Nothing of the order is parked.
    NothingParked,
    /// Too many orders wait to be released.
    TooMany,
}

/// A dead letter as an operator sees it: a line, or a part of a batch, that a partner refused for its
/// content.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct LetterView {
    /// Its name: the line's, or the part's.
    pub id: String,
    /// The sink.
    pub sink: String,
    /// The part of the batch that carried it last.
    pub batch_id: String,
    /// `dead`, or `sending` while it is tried again.
    pub state: String,
    /// What the partner said, shortened, or why it was not asked.
    pub reason: String,
    /// The partner's status code; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Whether an attempt may have had its effect all the same: a person must find out first.
    pub uncertain: bool,
    /// Whether its content was changed.
    pub mended: bool,
    /// Attempts that were made for it.
    pub attempts: u64,
    /// When it was set aside last.
    pub at: Timestamp,
    /// How long ago.
    pub age_ms: u64,
    /// Its queue: `critical`, `standard`, `bulk`.
    pub lane: String,
    /// The seal of the batch that carried it first.
    pub seal_lsn: Lsn,
}
