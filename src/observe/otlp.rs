//! Spans to a collector: OTLP over HTTP, in its JSON encoding.
//!
//! Written by hand rather than with the SDK of OpenTelemetry: a span here is finished when it is told, so
//! that nothing of the SDK's contexts, processors and providers would be used, and JSON needs neither
//! `prost` nor `tonic`. The format is that of opentelemetry-proto 1.x: ids in hexadecimal, 64-bit numbers as
//! texts, enumerations as numbers.

use std::{fmt::Display, sync::Arc, time::Duration};

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use tokio::sync::watch;

use super::{Error, stopped};
use crate::{
    config,
    engine::Engine,
    sinks::Post,
    telemetry::{Observed, Span, SpanId, Spans, TraceContext, TraceId, Value},
    wal::Storage,
};

/// The most spans of one request.
const SPANS_MAX: usize = 512;
/// How long spans wait for more.
const EVERY: Duration = Duration::from_millis(500);
/// Attempts before spans are given up.
const ATTEMPTS_MAX: u32 = 3;

/// See the module.
pub(super) struct Exporter {
    post: Post,
    spans: Arc<Spans>,
    resource: Json,
}

impl Exporter {
    /// As configured; nothing where traces are off.
    pub fn new<S: Storage>(
        config: &config::Telemetry,
        observed: &Observed,
        engine: &Engine<S>,
    ) -> Result<Option<Self>, Error> {
        let Some(spans) = observed.spans().cloned() else { return Ok(None) };
        let timeout = Duration::from_millis(config.otlp_timeout_ms);
        let wrong = |reason| Error::Config { key: "telemetry.otlp_endpoint", reason };
        let post = Post::new(&config.otlp_endpoint, timeout).map_err(wrong)?;
        let status = engine.status();
        let resource = json!({"attributes": [
            Attribute::text("service.name", "holdfast"),
            Attribute::text("service.version", status.version),
            Attribute::text("service.instance.id", &status.incarnation),
        ]});
        Ok(Some(Self { post, spans, resource }))
    }

    /// Sends what was finished, until it is stopped; then once more.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stopped(&mut stop) => {}
            }
            loop {
                let spans = self.spans.take(SPANS_MAX);
                if spans.is_empty() {
                    break;
                }
                let sent = self.send(&spans, &mut stop).await;
                self.spans.told(spans.len() as u64, sent);
                if *stop.borrow() && !sent {
                    return;
                }
            }
            if *stop.borrow() {
                return;
            }
        }
    }

    async fn send(&self, spans: &[Span], stop: &mut watch::Receiver<bool>) -> bool {
        let Ok(body) = serde_json::to_vec(&self.request(spans)) else { return false };
        let body = bytes::Bytes::from(body);
        for attempt in 1..=ATTEMPTS_MAX {
            let Err(not_taken) = self.post.send(&[], body.clone()).await else { return true };
            tracing::debug!(reason = not_taken.reason, attempt, "spans were not taken");
            if !not_taken.again || *stop.borrow() {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY * attempt) => {}
                () = stopped(stop) => {}
            }
        }
        false
    }

    fn request<'a>(&'a self, spans: &'a [Span]) -> Request<'a> {
        let scope = Scope { name: "holdfast", version: env!("CARGO_PKG_VERSION") };
        let spans = spans.iter().map(Encoded::from).collect();
        let scope_spans = [ScopeSpans { scope, spans }];
        Request { resource_spans: [ResourceSpans { resource: &self.resource, scope_spans }] }
    }
}

/// An `ExportTraceServiceRequest`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: &'a Json,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Encoded<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

/// A span as OTLP has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Encoded<'a> {
    trace_id: Text<TraceId>,
    span_id: Text<SpanId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<Text<SpanId>>,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: Text<u64>,
    end_time_unix_nano: Text<u64>,
    attributes: Vec<Attribute<'a>>,
    links: Vec<Link>,
    status: Status,
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'a str,
    value: AnyValue<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum AnyValue<'a> {
    StringValue(&'a str),
    IntValue(Text<u64>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    trace_id: Text<TraceId>,
    span_id: Text<SpanId>,
}

#[derive(Serialize)]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
}

/// The number of a status that is an error.
const STATUS_ERROR: u8 = 2;

/// What stands there as a text.
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'a> From<&'a Span> for Encoded<'a> {
    fn from(span: &'a Span) -> Self {
        let attributes = span.attributes.iter().map(|(key, value)| Attribute::new(key, value));
        Self {
            trace_id: Text(span.context.trace),
            span_id: Text(span.context.span),
            parent_span_id: span.parent.map(Text),
            name: &span.name,
            kind: span.kind as u8,
            start_time_unix_nano: Text(span.from_ns),
            end_time_unix_nano: Text(span.to_ns),
            attributes: attributes.collect(),
            links: span.links.iter().map(Link::from).collect(),
            status: Status { code: span.failed.then_some(STATUS_ERROR) },
        }
    }
}

impl From<&TraceContext> for Link {
    fn from(to: &TraceContext) -> Self {
        Self { trace_id: Text(to.trace), span_id: Text(to.span) }
    }
}

impl<'a> Attribute<'a> {
    fn new(key: &'a str, value: &'a Value) -> Self {
        match value {
            Value::Text(value) => Self::text(key, value),
            Value::Number(value) => Self { key, value: AnyValue::IntValue(Text(*value)) },
        }
    }

    fn text(key: &'a str, value: &'a str) -> Self {
        Self { key, value: AnyValue::StringValue(value) }
    }
}
