//! What came of comparing a partner's stock with the ledger's.

use utoipa::ToSchema;

use crate::model::{Location, Lsn, Sku, Timestamp};

/// The most drifts that a report names; those that nothing explains come first.
pub const DRIFTS_MAX: usize = 1_000;

/// A comparison of a partner's stock with the ledger's.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct Reconciliation {
    /// The sink.
    pub sink: String,
    /// `agrees` (whatever differs is explained), `drift` (something is not), `failed` (there is no
    /// comparison; `reason` says why).
    pub state: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was done.
    pub finished_at: Timestamp,
    /// The ledger's figures are of all records below this position in the log.
    pub lsn: Lsn,
    /// The two were compared at this position: all below is sealed for the sink, nothing above.
    pub compared_lsn: Lsn,
    /// The partner's own word for the state that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// How often it was read, since it changed on the way.
    pub readings: u64,
    /// Pages of the last reading.
    pub pages: u64,
    /// Positions that were compared.
    pub positions: u64,
    /// Positions of the partner that the ledger does not know, or that are not of the sink.
    pub positions_elsewhere: u64,
    /// Whether the units sold and not shipped were compared too.
    pub committed_compared: bool,
    /// Figures that differ by what is on its way.
    pub in_flight_positions: u64,
    /// Figures that differ by what lies dead.
    pub dead_lettered_positions: u64,
    /// Figures that differ by what nothing explains.
    pub unexplained_positions: u64,
    /// Figures that differ, those that nothing explains first.
    pub drifts: Vec<Drift>,
    /// How many more there are.
    pub drifts_left_off: u64,
}

/// A figure that differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct Drift {
    /// The SKU.
    pub sku: Sku,
    /// The location; absent where the sum over all of them is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// `on_hand` or `committed`.
    pub figure: String,
    /// What the ledger says.
    pub ledger: i64,
    /// What the partner says.
    pub partner: i64,
    /// The partner's less the ledger's, as far as it is on its way: read and not sealed, or sealed and
    /// not acknowledged.
    pub in_flight: i64,
    /// As far as it lies dead.
    pub dead_lettered: i64,
    /// The rest: 0, or an alert.
    pub unexplained: i64,
}

/// The last comparison in short.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct ReconciliationSummary {
    /// `agrees`, `drift`, `failed`.
    pub state: String,
    /// When it was done.
    pub finished_at: Timestamp,
    /// How long ago.
    pub age_ms: u64,
    /// Figures that differ by what nothing explains; of a failed one those of the last that did not.
    pub unexplained_positions: u64,
}

/// Why there is no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreconciled {
    /// No sink of that name.
    #[error("there is no sink of this name")]
    NoSink,
    /// Nothing says how its stock is read.
    #[error("the sink has no `[sinks.reconcile]`, which says how its partner's stock is read")]
    NotConfigured,
    /// None was made since the start.
    #[error("the sink was not reconciled since the start")]
    None,
    /// One is under way.
    #[error("the sink is being reconciled; ask for the report")]
    UnderWay,
    /// The server stops.
    #[error("the server is stopping")]
    Stopping,
}
