//! The trace of a batch: from its oldest record to its fate, each attempt beneath it.
//!
//! A batch has a trace of its own, kept if that of a request that led to it is, and linked to those
//! requests: it belongs to many. The partner is sent the attempt's span as its `traceparent`.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::Outcome;
use crate::{
    feed::Batch,
    telemetry::{Span, SpanId, SpanKind, Spans, TraceContext, Value, epoch_ns},
};

tokio::task_local! {
    /// The span of the attempt under way.
    static ATTEMPT: TraceContext;
}

/// What a partner is to be told of the attempt that is being made, if its trace is kept.
pub fn traceparent() -> Option<TraceContext> {
    ATTEMPT.try_with(|context| *context).ok()
}

/// A batch whose trace is kept.
#[derive(Debug)]
pub(super) struct BatchTrace {
    spans: Arc<Spans>,
    sink: String,
    batch: String,
    context: TraceContext,
    links: Vec<TraceContext>,
    from_ns: u64,
    attempts: u64,
}

/// An attempt that is being made.
pub(super) struct Attempt {
    context: TraceContext,
    from_ns: u64,
}

fn now_ns() -> u64 {
    epoch_ns(SystemTime::now())
}

impl Attempt {
    /// Makes it, so that whoever speaks to the partner can name it.
    pub async fn scope<F: Future>(of: Option<TraceContext>, send: F) -> F::Output {
        match of {
            Some(context) => ATTEMPT.scope(context, send).await,
            None => send.await,
        }
    }

    pub fn context(&self) -> TraceContext {
        self.context
    }
}

impl BatchTrace {
    /// Of a batch that has come from the feed; nothing if no request that led to it is traced.
    pub fn begin(spans: Option<&Arc<Spans>>, sink: &str, batch: &Batch) -> Option<Self> {
        let links = batch.carried.links();
        let spans = spans.filter(|_| !links.is_empty())?;
        let oldest = UNIX_EPOCH + std::time::Duration::from_millis(batch.oldest.millis());
        let trace = Self {
            spans: spans.clone(),
            sink: sink.to_owned(),
            batch: batch.id.to_string(),
            context: TraceContext::fresh(true),
            links: links.to_vec(),
            from_ns: epoch_ns(oldest),
            attempts: 0,
        };
        let attributes = vec![("holdfast.events", batch.events.into())];
        let (parent, from_ns) = (Some(trace.context.span), trace.from_ns);
        let context = trace.context.child();
        trace.end_span("seal", SpanKind::Internal, (context, parent), from_ns, attributes, false);
        Some(trace)
    }

    /// An attempt begins.
    pub fn attempt(&mut self) -> Attempt {
        self.attempts += 1;
        Attempt { context: self.context.child(), from_ns: now_ns() }
    }

    /// It ended.
    pub fn attempted(&self, attempt: &Attempt, part: &str, outcome: &Outcome) {
        let (word, status, reason) = told(outcome);
        let mut attributes = vec![
            ("holdfast.part", part.to_owned().into()),
            ("holdfast.attempt", self.attempts.into()),
            ("holdfast.outcome", word.into()),
        ];
        if status > 0 {
            attributes.push(("http.response.status_code", u64::from(status).into()));
        }
        if !reason.is_empty() {
            attributes.push(("holdfast.reason", reason.to_owned().into()));
        }
        let failed = !matches!(outcome, Outcome::Done { .. });
        let ids = (attempt.context, Some(self.context.span));
        self.end_span("deliver", SpanKind::Client, ids, attempt.from_ns, attributes, failed);
    }

    /// The batch's fate is known.
    pub fn end(&self, taken: bool) {
        let attributes = vec![("holdfast.attempts", self.attempts.into())];
        let ids = (self.context, None);
        self.end_span("batch", SpanKind::Internal, ids, self.from_ns, attributes, !taken);
    }

    fn end_span(
        &self,
        name: &'static str,
        kind: SpanKind,
        (context, parent): (TraceContext, Option<SpanId>),
        from_ns: u64,
        mut attributes: Vec<(&'static str, Value)>,
        failed: bool,
    ) {
        attributes.push(("holdfast.sink", self.sink.clone().into()));
        attributes.push(("holdfast.batch", self.batch.clone().into()));
        self.spans.end(Span {
            context,
            parent,
            name: name.into(),
            kind,
            from_ns,
            to_ns: now_ns(),
            attributes,
            links: self.links.clone(),
            failed,
        });
    }
}

/// How an attempt ended, the partner's status, and what it said.
fn told(outcome: &Outcome) -> (&'static str, u16, &str) {
    match outcome {
        Outcome::Done { status, .. } => ("done", *status, ""),
        Outcome::Refused { status, answer, .. } => ("refused", *status, answer),
        Outcome::Unclear { status, reason } => ("unclear", *status, reason),
        Outcome::Denied { status, .. } => ("denied", *status, ""),
        Outcome::Failed { reason, .. } => ("failed", 0, reason),
        Outcome::Withheld { reason } => ("withheld", 0, reason),
    }
}
