//! Exemplars: for each bucket of a histogram the last request in it that named its trace, so that a
//! figure leads to an example of it.
//!
//! Only requests with a trace come here. Whoever finds the bucket taken by another leaves its example
//! out rather than wait.

use std::{
    fmt,
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;

use super::{
    TraceId,
    durations::nanoseconds,
    latency::{BUCKETS, bucket_of},
};

/// An example of what a bucket counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exemplar {
    trace: TraceId,
    elapsed: Duration,
    at: SystemTime,
}

impl fmt::Display for Exemplar {
    /// As it stands behind a sample.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (value, at) = (self.elapsed.as_secs_f64(), at.as_secs_f64());
        write!(f, "{{trace_id=\"{}\"}} {value} {at:.3}", self.trace)
    }
}

type Buckets = Box<[Mutex<Option<Exemplar>>]>;

/// The examples of a histogram with the bounds of [`super::Latency`]; no memory before the first.
#[derive(Debug, Default)]
pub struct Exemplars(OnceLock<Buckets>);

impl Exemplars {
    /// Keeps one, unless another is being kept at the same moment.
    pub fn keep(&self, trace: TraceId, elapsed: Duration) {
        let buckets = self.0.get_or_init(|| (0..BUCKETS).map(|_| Mutex::default()).collect());
        if let Some(mut kept) = buckets[bucket_of(nanoseconds(elapsed))].try_lock() {
            *kept = Some(Exemplar { trace, elapsed, at: SystemTime::now() });
        }
    }

    /// The last of a bucket.
    pub(super) fn of_bucket(&self, index: usize) -> Option<Exemplar> {
        *self.0.get()?.get(index)?.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Exposition, Format, Latency};
    use super::*;

    #[test]
    fn a_bucket_has_the_last_request_in_it() {
        let (latency, examples) = (Latency::default(), Exemplars::default());
        for (trace, us) in [(1, 30), (2, 40), (3, 2_000)] {
            let elapsed = Duration::from_micros(us);
            latency.record(elapsed);
            examples.keep(TraceId([trace; 16]), elapsed);
        }
        let written = |format| {
            let mut text = Exposition::new(format);
            latency.counts().expose("x_seconds", &[("a", "b")], Some(&examples), &mut text);
            text.finish()
        };
        let text = written(Format::WithExemplars);
        let of = |le: &str| {
            let label = format!("le=\"{le}\"");
            text.lines().find(|line| line.contains(&label)).unwrap().to_owned()
        };
        let second = format!("2 # {{trace_id=\"{}\"}} 0.00004 ", TraceId([2; 16]));
        assert!(of("0.00005").contains(&second), "{text}");
        assert!(of("0.002").contains(&TraceId([3; 16]).to_string()), "{text}");
        assert!(!of("+Inf").contains("trace_id"), "{text}");
        assert!(!written(Format::OpenMetrics).contains("trace_id"));
    }
}
