//! The spans of a request whose trace is kept: the request itself, and its stages beneath it.
//!
//! What the request causes is named by its own span, not by its caller's: it stands in the records of the
//! log as their `traceparent`, so that a batch that carries them can name it. Stages are told by the
//! request's stopwatch, which only knows how long each took in all; they are put one behind the other.

use std::{sync::Arc, time::SystemTime};

use axum::{extract::Request, http::HeaderValue};

use super::{State, access::Caller, front::TRACEPARENT, stages::LAPS};
use crate::telemetry::{
    Endpoint, Observed, Span, SpanId, SpanKind, Spans, Stage, TraceContext, TraceId, epoch_ns,
};

/// The stages that follow each other; what an append takes is part of a decision.
const IN_A_ROW: [Stage; 5] =
    [Stage::Receive, Stage::Decode, Stage::Decide, Stage::SyncWait, Stage::Reply];

/// A request under way whose trace is kept.
pub(super) struct Traced {
    spans: Arc<Spans>,
    context: TraceContext,
    caller: Option<SpanId>,
    from_ns: u64,
}

/// The trace that a request belongs to.
pub(super) fn trace_id(given: Option<&HeaderValue>, traced: Option<&Traced>) -> Option<TraceId> {
    if let Some(traced) = traced {
        return Some(traced.context.trace);
    }
    TraceContext::parse(given?.to_str().ok()?).map(|context| context.trace)
}

impl Traced {
    /// A request to a route of the API begins; nothing if its trace is not kept.
    pub(super) fn begin(
        state: &State,
        endpoint: &Endpoint,
        given: Option<&HeaderValue>,
        request: &mut Request,
    ) -> Option<Self> {
        let spans = state.observed().and_then(Observed::spans)?;
        if !endpoint.route().starts_with("/v1/") {
            return None;
        }
        let given = given.and_then(|given| given.to_str().ok());
        let (context, caller) = spans.begin(given)?;
        let named = HeaderValue::try_from(context.to_string()).ok()?;
        request.headers_mut().insert(TRACEPARENT.clone(), named);
        Some(Self { spans: spans.clone(), context, caller, from_ns: epoch_ns(SystemTime::now()) })
    }

    /// It is answered.
    pub(super) fn end(
        self,
        endpoint: &Endpoint,
        status: u16,
        request_id: &HeaderValue,
        caller: &Caller,
    ) {
        self.end_stages();
        let request_id = request_id.to_str().unwrap_or_default().to_owned();
        let mut attributes = vec![
            ("http.request.method", endpoint.method().into()),
            ("http.route", endpoint.route().into()),
            ("http.response.status_code", u64::from(status).into()),
            ("holdfast.request_id", request_id.into()),
        ];
        if !caller.name().is_empty() {
            attributes.push(("holdfast.partner", caller.name().to_owned().into()));
        }
        self.spans.end(Span {
            context: self.context,
            parent: self.caller,
            name: format!("{} {}", endpoint.method(), endpoint.route()).into(),
            kind: SpanKind::Server,
            from_ns: self.from_ns,
            to_ns: epoch_ns(SystemTime::now()),
            attributes,
            links: Vec::new(),
            failed: status >= 500,
        });
    }

    fn end_stages(&self) {
        let _ = LAPS.try_with(|laps| {
            let spent_ns = |stage| {
                let spent = laps.spent(stage)?;
                u64::try_from(spent.as_nanos()).ok()
            };
            let mut from_ns = self.from_ns;
            for stage in IN_A_ROW {
                let Some(took_ns) = spent_ns(stage) else { continue };
                self.spans.end(self.stage(stage, from_ns, took_ns));
                from_ns = from_ns.saturating_add(took_ns);
                if stage == Stage::Decide
                    && let Some(append_ns) = spent_ns(Stage::Append)
                {
                    let begun_ns = from_ns.saturating_sub(append_ns);
                    self.spans.end(self.stage(Stage::Append, begun_ns, append_ns));
                }
            }
        });
    }

    fn stage(&self, stage: Stage, from_ns: u64, took_ns: u64) -> Span {
        Span {
            context: self.context.child(),
            parent: Some(self.context.span),
            name: stage.as_str().into(),
            kind: SpanKind::Internal,
            from_ns,
            to_ns: from_ns.saturating_add(took_ns),
            attributes: Vec::new(),
            links: Vec::new(),
            failed: false,
        }
    }
}
