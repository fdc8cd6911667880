//! Requests that belong to a trace: those that name one, and those that are sampled. Any other costs a
//! look at its flags, and, with traces on, a random number.

use std::{sync::Arc, time::Instant};

use crate::{
    model::Origin,
    protocol::{Frame, flags, kind},
    telemetry::{
        Gateway, GatewayAnswer, Laps, RequestEnd, RequestSpan, SpanId, Spans, Stage, TraceContext,
    },
};

/// How the requests of a connection get their names.
pub(super) struct Naming {
    /// Where spans go; nothing if traces are off.
    spans: Option<Arc<Spans>>,
    /// What the connection's requests are called, before their ids.
    prefix: String,
}

/// A request under way that belongs to a trace.
pub(super) struct Named {
    request_id: String,
    /// That of its own span, or of its caller's where none is kept of it.
    context: TraceContext,
    span: Option<RequestSpan>,
    laps: Laps,
}

impl Naming {
    pub(super) fn new(spans: Option<Arc<Spans>>) -> Self {
        Self { spans, prefix: format!("gateway-{}", SpanId::fresh()) }
    }

    /// A request begins. A call is named as the request of HTTP that it becomes.
    pub(super) fn begin(&self, frame: &Frame<'_>, began: Instant) -> Option<Box<Named>> {
        let header = frame.header;
        if (self.spans.is_none() && header.flags & flags::TRACED == 0) || header.kind == kind::CALL
        {
            return None;
        }
        let caller = frame.trace();
        let begin = |spans| RequestSpan::begin(spans, caller, began);
        let span = self.spans.as_ref().and_then(begin);
        let context = span.as_ref().map(RequestSpan::context).or(caller)?;
        let laps = Laps::new(began);
        laps.lap(Stage::Receive, Instant::now());
        let request_id = format!("{}-{:x}", self.prefix, header.id);
        Some(Box::new(Named { request_id, context, span, laps }))
    }
}

impl Named {
    /// What the records that it causes are to say of it.
    pub(super) fn origin(&self) -> Option<Origin<'_>> {
        Origin::new(&self.request_id, Some(&self.context.to_string()))
    }

    /// It is decided.
    pub(super) fn decided(&self) {
        self.laps.lap(Stage::Decide, Instant::now());
    }

    /// Its answer may leave.
    pub(super) fn end(self, counters: &Gateway, answer: &GatewayAnswer, partner: &str) {
        let (now, endpoint) = (Instant::now(), counters.endpoint(answer.kind));
        endpoint.example(self.context.trace, now.saturating_duration_since(answer.began));
        let last = if answer.durable { Stage::SyncWait } else { Stage::Reply };
        self.laps.lap(last, now);
        if let Some(span) = self.span {
            let (status, request_id) = (answer.status, self.request_id.as_str());
            span.end(endpoint, RequestEnd { status, request_id, partner }, &self.laps);
        }
    }
}
