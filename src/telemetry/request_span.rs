//! The spans of a request whose trace is kept: the request itself, and its stages beneath it. The same of
//! every door that requests come in by.
//!
//! Stages are told by the request's stopwatch, which only knows how long each took in all; they are put
//! one behind the other.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{Endpoint, Laps, Span, SpanId, SpanKind, Spans, Stage, TraceContext, epoch_ns};

/// The stages that follow each other; what an append takes is part of a decision.
const IN_A_ROW: [Stage; 5] =
    [Stage::Receive, Stage::Decode, Stage::Decide, Stage::SyncWait, Stage::Reply];

/// A request under way whose trace is kept.
#[derive(Debug)]
pub struct RequestSpan {
    spans: Arc<Spans>,
    context: TraceContext,
    caller: Option<SpanId>,
    from_ns: u64,
}

/// What is known of a request once it is answered.
#[derive(Debug, Clone, Copy)]
pub struct RequestEnd<'a> {
    /// Its status, HTTP's.
    pub status: u16,
    /// What the records that it caused call it.
    pub request_id: &'a str,
    /// Who asked; empty where nobody has a name.
    pub partner: &'a str,
}

impl RequestSpan {
    /// A request began; nothing if its trace is not kept. `caller` is what it named.
    pub fn begin(spans: &Arc<Spans>, caller: Option<TraceContext>, began: Instant) -> Option<Self> {
        let (context, caller) = spans.begin(caller)?;
        let ago_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let from_ns = epoch_ns(SystemTime::now()).saturating_sub(ago_ns);
        Some(Self { spans: spans.clone(), context, caller, from_ns })
    }

    /// Its trace and its own span: what the request causes is named by it.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// It is answered.
    pub fn end(self, endpoint: &Endpoint, answer: RequestEnd<'_>, laps: &Laps) {
        self.end_stages(laps);
        let mut attributes = vec![
            ("http.request.method", endpoint.method().into()),
            ("http.route", endpoint.route().into()),
            ("http.response.status_code", u64::from(answer.status).into()),
            ("holdfast.request_id", answer.request_id.to_owned().into()),
        ];
        if !answer.partner.is_empty() {
            attributes.push(("holdfast.partner", answer.partner.to_owned().into()));
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
            failed: answer.status >= 500,
        });
    }

    fn end_stages(&self, laps: &Laps) {
        let spent_ns = |stage| u64::try_from(laps.spent(stage)?.as_nanos()).ok();
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
