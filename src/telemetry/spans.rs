//! Finished spans of traces, on their way to a collector: a bounded queue that drops what does not fit,
//! and counts it.
//!
//! Who names a trace (`traceparent`) decides whether it is kept; of what comes without one, a share is.
//! What is not kept costs a look at the header and a random number.

use std::{
    borrow::Cow,
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use crossbeam_queue::ArrayQueue;

use super::{Exposition, Kind, SpanId, TraceContext, trace_context::random};

/// What a span is to the one at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A part of something else here.
    Internal = 1,
    /// A request that was answered.
    Server = 2,
    /// A request that was made.
    Client = 3,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Number(u64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// A finished span.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its trace and its own id.
    pub context: TraceContext,
    /// The span that it is part of.
    pub parent: Option<SpanId>,
    /// What was done.
    pub name: Cow<'static, str>,
    /// What it is to the other end.
    pub kind: SpanKind,
    /// Its begin, in nanoseconds since the epoch.
    pub from_ns: u64,
    /// Its end.
    pub to_ns: u64,
    /// What is to be known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Spans of other traces that led to it.
    pub links: Vec<TraceContext>,
    /// Whether it failed.
    pub failed: bool,
}

/// Nanoseconds since the epoch.
pub fn epoch_ns(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The queue of finished spans.
pub struct Spans {
    queue: ArrayQueue<Span>,
    /// A random number below it is a yes.
    kept_below: u64,
    dropped: AtomicU64,
    exported: AtomicU64,
    failed: AtomicU64,
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").field("waiting", &self.queue.len()).finish_non_exhaustive()
    }
}

impl Spans {
    /// Room for so many; of what names no trace, this share (0 to 1) is kept.
    pub fn new(queue_max: usize, ratio: f64) -> Self {
        Self {
            queue: ArrayQueue::new(queue_max.max(1)),
            // A float is cut to the range of the integer, so that 1.0 keeps all but one of 2^64.
            kept_below: (ratio.clamp(0.0, 1.0) * u64::MAX as f64) as u64,
            dropped: AtomicU64::new(0),
            exported: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// The span of a request of this caller's, who may have named none, and the caller's span; nothing if
    /// it is not kept.
    pub fn begin(&self, caller: Option<TraceContext>) -> Option<(TraceContext, Option<SpanId>)> {
        match caller {
            Some(caller) => caller.sampled.then(|| (caller.child(), Some(caller.span))),
            None => (self.kept_below > 0 && random() <= self.kept_below)
                .then(|| (TraceContext::fresh(true), None)),
        }
    }

    /// Adds a finished one, if there is room.
    pub fn end(&self, span: Span) {
        if self.queue.push(span).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// At most so many that wait, oldest first.
    pub fn take(&self, max: usize) -> Vec<Span> {
        std::iter::from_fn(|| self.queue.pop()).take(max).collect()
    }

    /// So many that were taken have been sent, or could not be.
    pub fn told(&self, count: u64, sent: bool) {
        if sent { &self.exported } else { &self.failed }.fetch_add(count, Relaxed);
    }

    /// Writes what became of them.
    pub(super) fn expose(&self, text: &mut Exposition) {
        text.family("holdfast_spans", Kind::Counter, None, "Spans, by what became of them.");
        let ends =
            [("exported", &self.exported), ("failed", &self.failed), ("dropped", &self.dropped)];
        for (outcome, count) in ends {
            text.sample("holdfast_spans_total", &[("outcome", outcome)], count.load(Relaxed));
        }
        text.gauge("holdfast_spans_waiting", "Spans that wait to be sent.", self.queue.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        Span {
            context: TraceContext::fresh(true),
            parent: None,
            name: "x".into(),
            kind: SpanKind::Internal,
            from_ns: 1,
            to_ns: 2,
            attributes: Vec::new(),
            links: Vec::new(),
            failed: false,
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let spans = Spans::new(2, 1.0);
        (0..5).for_each(|_| spans.end(span()));
        assert_eq!(spans.take(10).len(), 2);
        spans.told(2, true);
        let mut text = Exposition::default();
        spans.expose(&mut text);
        let text = text.finish();
        assert!(text.contains("holdfast_spans_total{outcome=\"dropped\"} 3"), "{text}");
        assert!(text.contains("holdfast_spans_total{outcome=\"exported\"} 2"), "{text}");
    }

    #[test]
    fn the_caller_decides_and_else_the_share() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let (none, all) = (Spans::new(1, 0.0), Spans::new(1, 1.0));
        let named = TraceContext::parse(parent).unwrap();
        let (context, caller) = none.begin(Some(named)).unwrap();
        assert_eq!(context.trace, named.trace);
        assert_eq!(caller.unwrap().to_string(), "00f067aa0ba902b7");
        assert_eq!(all.begin(Some(TraceContext { sampled: false, ..named })), None);
        assert!(none.begin(None).is_none() && all.begin(None).is_some());
        let some = Spans::new(1, 0.25);
        let kept = (0..10_000).filter(|_| some.begin(None).is_some()).count();
        assert!((2_000..3_000).contains(&kept), "{kept}");
    }
}
