//! The lineage of an order as it is told: every record of it in the order of the log, what caused each,
//! and the batches that carried it to partners.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Lsn, OrderId, Timestamp, view::ReservationState};

/// Where an order comes from and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TraceView {
    /// The order.
    pub order_id: OrderId,
    /// Its state.
    pub state: ReservationState,
    /// Whether some of its records are in the log and its archive no longer: then the first ones are missing here.
    pub archived: bool,
    /// Whether it has more records than are shown: then the last ones are shown; or more batches, of those
    /// that sent letters again.
    pub truncated: bool,
    /// From its first record until now, in milliseconds.
    pub age_ms: u64,
    /// The records, in the order of the log.
    pub records: Vec<TraceRecord>,
    /// The position of its last record.
    pub lsn: Lsn,
}

/// One record of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TraceRecord {
    /// Its position in the log.
    pub lsn: Lsn,
    /// When it was written.
    pub at: Timestamp,
    /// What kind of record: `reserve`, `extend`, `change`, `release`, `expire`, `placed`, or what
    /// happened to the order: `shipment`, `cancellation`, `invoice`, `settlement`, `refund`, `return`,
    /// `receipt`, `note`.
    pub kind: String,
    /// Its own id: the reservation's, the order's, the shipment's.
    pub id: String,
    /// Milliseconds since the record before it.
    pub since_previous_ms: u64,
    /// Milliseconds since it was written.
    pub age_ms: u64,
    /// The request that caused it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub request_id: Option<CompactString>,
    /// The W3C `traceparent` that came with the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What it says.
    #[schema(value_type = Object)]
    pub says: serde_json::Value,
    /// The finance sinks whose windows left it for a later one, since it came before what must come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parked: Vec<TraceParked>,
    /// The batches that carried it, one for each sink that it concerns and that has sealed it; behind one
    /// of which the partner did not take what it says of the record, those that sent its letters again.
    pub batches: Vec<TraceBatch>,
}

/// A record that came before what must come first: a finance sink parked it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceParked {
    /// The sink.
    pub sink: String,
    /// The number of the seal of the window that parked it.
    pub window: u64,
    /// The position of that seal.
    pub seal_lsn: Lsn,
    /// When that was written.
    pub parked_at: Timestamp,
    /// The number of the seal that released it, whose batch carried it; absent while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_window: Option<u64>,
    /// The position of that seal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_seal_lsn: Option<Lsn>,
    /// When that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<Timestamp>,
}

/// What has become of a batch, or of what it says of one record: a partner may take some of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// It is sealed, and under way or waiting to be.
    Sealed,
    /// The partner has it.
    Delivered,
    /// The partner has some of what it says of the record, and not the rest.
    PartlyDelivered,
    /// The partner refused it for its content, or it was set aside: it became a dead letter.
    Refused,
}

impl BatchState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Delivered => "delivered",
            Self::PartlyDelivered => "partly_delivered",
            Self::Refused => "refused",
        }
    }
}

/// A batch that carried a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceBatch {
    /// The sink.
    pub sink: String,
    /// The batch's id; absent where its sums are all zero, so that there was nothing to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<String>,
    /// The dead letter that it sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<String>,
    /// The position of its seal.
    pub seal_lsn: Lsn,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// Milliseconds from the record to the seal.
    pub waited_ms: u64,
    /// What became of what it says of the record.
    pub state: BatchState,
    /// Attempts it took; absent while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// When the partner's answer was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    /// Milliseconds from the seal to the partner's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_ms: Option<u64>,
    /// The partner's status code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What the partner said where it refused something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}
