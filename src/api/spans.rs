//! A request over HTTP whose trace is kept.
//!
//! What the request causes is named by its own span, not by its caller's: it stands in the records of the
//! log as their `traceparent`, so that a batch that carries them can name it.

use std::time::Instant;

use axum::{extract::Request, http::HeaderValue};

use super::{State, access::Caller, front::TRACEPARENT, stages::LAPS};
use crate::telemetry::{Endpoint, RequestEnd, RequestSpan, TraceContext, TraceId};

/// A request under way whose trace is kept.
pub(super) struct Traced(RequestSpan);

/// The trace that a request belongs to.
pub(super) fn trace_id(given: Option<&HeaderValue>, traced: Option<&Traced>) -> Option<TraceId> {
    traced.map(|traced| traced.0.context()).or_else(|| named(given)).map(|context| context.trace)
}

fn named(given: Option<&HeaderValue>) -> Option<TraceContext> {
    TraceContext::parse(given?.to_str().ok()?)
}

impl Traced {
    /// A request to a route of the API begins; nothing if its trace is not kept.
    pub(super) fn begin(
        state: &State,
        endpoint: &Endpoint,
        given: Option<&HeaderValue>,
        (request, started): (&mut Request, Instant),
    ) -> Option<Self> {
        let spans = state.spans()?;
        if !endpoint.route().starts_with("/v1/") {
            return None;
        }
        let span = RequestSpan::begin(spans, named(given), started)?;
        let own = HeaderValue::try_from(span.context().to_string()).ok()?;
        request.headers_mut().insert(TRACEPARENT.clone(), own);
        Some(Self(span))
    }

    /// It is answered.
    pub(super) fn end(
        self,
        endpoint: &Endpoint,
        status: u16,
        request_id: &HeaderValue,
        caller: &Caller,
    ) {
        let request_id = request_id.to_str().unwrap_or_default();
        let answer = RequestEnd { status, request_id, partner: caller.name() };
        let _ = LAPS.try_with(|laps| self.0.end(endpoint, answer, laps));
    }
}
