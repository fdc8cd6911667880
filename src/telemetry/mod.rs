//! What the house tells of itself: latency histograms and request counters that the hot path records
//! without a lock, and the OpenMetrics text they are exposed in.
//!
//! Promises: recording is a handful of relaxed additions on the recording thread's own stripe, and never
//! waits; it allocates only what a stripe of a histogram takes, once. Reading may miss what is recorded
//! at the same moment, never what was recorded before. Memory is bounded per endpoint. Imports only
//! `model`.

mod durations;
mod gateway;
mod latency;
mod openmetrics;
mod report;
mod requests;
mod stages;

pub use durations::{DurationCounts, Durations};
pub use gateway::{Gateway, GatewayBatch};
pub use latency::{BOUNDS_US, Latency, LatencyCounts};
pub use openmetrics::{CONTENT_TYPE, Exposition, Kind};
pub use report::{DurationsView, LatencyReport, LogLatency, RouteLatency, StageLatency};
pub use requests::{Endpoint, Requests};
pub use stages::{Laps, Stage, Stages};
