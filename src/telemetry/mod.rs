//! What the house tells of itself: latency histograms and request counters that the hot path records
//! without a lock, service levels and what else is observed beside it, spans of traces, and the
//! OpenMetrics text they are exposed in.
//!
//! Promises: recording is a handful of relaxed additions on the recording thread's own stripe, and never
//! waits; it allocates only what a stripe of a histogram takes, once. Reading may miss what is recorded
//! at the same moment, never what was recorded before. Memory is bounded per endpoint. Imports only
//! `model`.

mod ages;
mod delivered;
mod durations;
mod exemplar;
mod gateway;
mod incident;
mod latency;
mod observed;
mod openmetrics;
mod report;
mod request_span;
mod requests;
mod service_level;
mod spans;
mod stages;
mod trace_context;

pub use ages::Ages;
pub use delivered::Delivered;
pub use durations::{DurationCounts, Durations};
pub use exemplar::{Exemplar, Exemplars};
pub use gateway::{Gateway, GatewayAnswer, GatewayBatch};
pub use incident::Incidents;
pub use latency::{BOUNDS_US, Latency, LatencyCounts};
pub use observed::{AlertCounts, Observed, OrdersWaiting, SkuSales};
pub use openmetrics::{CONTENT_TYPE, Exposition, Format, Kind};
pub use report::{DurationsView, LatencyReport, LogLatency, RouteLatency, StageLatency};
pub use request_span::{RequestEnd, RequestSpan};
pub use requests::{Answered, Endpoint, Requests};
pub use service_level::{EVENTS_MIN, Promise, ServiceLevel, ServiceLevelView, State};
pub use spans::{Span, SpanKind, Spans, Value, epoch_ns};
pub use stages::{Laps, Stage, Stages};
pub use trace_context::{SpanId, TraceContext, TraceId};
