//! What the house tells of itself: latency histograms and request counters that the hot path records
//! without a lock, and the OpenMetrics text they are exposed in.
//!
//! Promises: recording is a handful of relaxed additions on the recording thread's own stripe, never
//! waits, never allocates; reading may miss what is recorded at the same moment, never what was
//! recorded before. Memory is fixed per endpoint. Imports only `model`.

mod latency;
mod openmetrics;
mod requests;

pub use latency::{BOUNDS_US, Latency, LatencyCounts};
pub use openmetrics::{CONTENT_TYPE, Exposition, Kind};
pub use requests::{Endpoint, Requests};
