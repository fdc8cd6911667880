//! Spans to a collector: OTLP over HTTP, in its JSON encoding.
//!
//! Written by hand rather than with the SDK of OpenTelemetry: a span here is finished when it is told, so
//! that nothing of the SDK's contexts, processors and providers would be used, and JSON needs neither
//! `prost` nor `tonic`. The format is that of opentelemetry-proto 1.x: ids in hexadecimal, 64-bit numbers as
//! texts, enumerations as numbers.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::{Value as Json, json};
use tokio::sync::watch;

use super::{Error, stopped};
use crate::{
    config,
    engine::Engine,
    sinks::Post,
    telemetry::{Observed, Span, Spans, Value},
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
            text("service.name", "holdfast"),
            text("service.version", status.version),
            text("service.instance.id", &status.incarnation),
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
        let body = bytes::Bytes::from(self.request(spans).to_string());
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

    fn request(&self, spans: &[Span]) -> Json {
        let spans: Vec<_> = spans.iter().map(encoded).collect();
        let scope = json!({"name": "holdfast", "version": env!("CARGO_PKG_VERSION")});
        json!({"resourceSpans": [{
            "resource": self.resource,
            "scopeSpans": [{"scope": scope, "spans": spans}],
        }]})
    }
}

/// A span as OTLP has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Encoded<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Json>,
    links: Vec<Json>,
    status: Json,
}

/// The number of a status that is an error.
const STATUS_ERROR: u8 = 2;

fn encoded(span: &Span) -> Encoded<'_> {
    let link = |to: &crate::telemetry::TraceContext| json!({"traceId": to.trace.to_string(), "spanId": to.span.to_string()});
    Encoded {
        trace_id: span.context.trace.to_string(),
        span_id: span.context.span.to_string(),
        parent_span_id: span.parent.map(|parent| parent.to_string()),
        name: &span.name,
        kind: span.kind as u8,
        start_time_unix_nano: span.from_ns.to_string(),
        end_time_unix_nano: span.to_ns.to_string(),
        attributes: span.attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        links: span.links.iter().map(link).collect(),
        status: if span.failed { json!({"code": STATUS_ERROR}) } else { json!({}) },
    }
}

fn attribute(key: &str, value: &Value) -> Json {
    match value {
        Value::Text(value) => text(key, value),
        Value::Number(value) => json!({"key": key, "value": {"intValue": value.to_string()}}),
    }
}

fn text(key: &str, value: &str) -> Json {
    json!({"key": key, "value": {"stringValue": value}})
}
