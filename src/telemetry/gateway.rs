//! What is counted of the gateway. A connection counts for itself and adds it all up once a round, so
//! that a request costs no atomic operation.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use smallvec::SmallVec;

use super::{DurationCounts, Exposition, Kind, Latency};

/// The operations by the kind of their frames; what has no name here is `unknown`.
const OPERATIONS: [&str; 11] = [
    "unknown",
    "hello",
    "reserve",
    "release",
    "extend",
    "commit",
    "order",
    "change_lines",
    "read_reservation",
    "read_stock",
    "call",
];

type Counts = [[u64; 2]; OPERATIONS.len()];

/// The gateway's counters.
#[derive(Default)]
pub struct Gateway {
    /// Connections now.
    pub connections: AtomicU64,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Times that connections had to wait to be accepted since as many were open as may be.
    pub connections_full: AtomicU64,
    /// Hellos that were refused.
    pub refused_hellos: AtomicU64,
    /// Connections ended since what came could not be a frame.
    pub broken_frames: AtomicU64,
    /// Times that a connection was not read from, since too much of it was under way.
    pub pauses: AtomicU64,
    /// By operation: requests, and those of them that were refused at once.
    requests: [[AtomicU64; 2]; OPERATIONS.len()],
    durable: Latency,
}

/// What one connection has counted and not yet added to the whole.
#[derive(Debug, Default)]
pub struct GatewayBatch {
    requests: Counts,
    pauses: u64,
    durable: SmallVec<[(Duration, u64); 8]>,
    is_new: bool,
}

impl GatewayBatch {
    /// A request of a kind was decided.
    pub fn request(&mut self, kind: u8, refused: bool) {
        let operation = if usize::from(kind) < OPERATIONS.len() { usize::from(kind) } else { 0 };
        self.requests[operation][usize::from(refused)] += 1;
        self.is_new = true;
    }

    /// So many answers, whose requests came so long ago, became durable.
    pub fn answered(&mut self, elapsed: Duration, count: u64) {
        self.durable.push((elapsed, count));
        self.is_new = true;
    }

    /// The connection was not read from for a round.
    pub fn paused(&mut self) {
        self.pauses += 1;
        self.is_new = true;
    }

    /// Adds it to the whole, and begins anew.
    pub fn record(&mut self, whole: &Gateway) {
        if !self.is_new {
            return;
        }
        for (sums, counts) in whole.requests.iter().zip(&mut self.requests) {
            for (sum, count) in sums.iter().zip(counts) {
                if *count > 0 {
                    sum.fetch_add(std::mem::take(count), Relaxed);
                }
            }
        }
        whole.pauses.fetch_add(std::mem::take(&mut self.pauses), Relaxed);
        for (elapsed, count) in self.durable.drain(..) {
            whole.durable.record_many(elapsed, count);
        }
        self.is_new = false;
    }
}

impl Gateway {
    /// Writes all of it.
    pub fn expose(&self, text: &mut Exposition) {
        let read = |of: &AtomicU64| of.load(Relaxed);
        let connections = read(&self.connections);
        text.gauge("holdfast_gateway_connections", "Connections of gateways.", connections);
        for (name, help, value) in [
            ("holdfast_gateway_accepted", "Connections accepted.", &self.accepted),
            (
                "holdfast_gateway_connections_full",
                "Times that connections had to wait to be accepted.",
                &self.connections_full,
            ),
            ("holdfast_gateway_refused_hellos", "Hellos refused.", &self.refused_hellos),
            (
                "holdfast_gateway_broken_frames",
                "Connections ended for what could be no frame.",
                &self.broken_frames,
            ),
            (
                "holdfast_gateway_pauses",
                "Rounds without reading, since too much was under way.",
                &self.pauses,
            ),
        ] {
            text.counter(name, help, read(value));
        }
        self.expose_requests(text);
        self.expose_durable(text);
    }

    fn expose_requests(&self, text: &mut Exposition) {
        let help = "Requests decided, by operation and outcome.";
        text.family("holdfast_gateway_requests", Kind::Counter, None, help);
        for (operation, counts) in OPERATIONS.iter().zip(&self.requests) {
            for (outcome, count) in ["done", "refused"].iter().zip(counts) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let labels = [("operation", *operation), ("outcome", *outcome)];
                    text.sample("holdfast_gateway_requests_total", &labels, count);
                }
            }
        }
    }

    /// How long answers took to become durable, so far.
    pub fn durable_counts(&self) -> DurationCounts {
        self.durable.fine_counts()
    }

    fn expose_durable(&self, text: &mut Exposition) {
        let counts = self.durable.counts();
        let name = "holdfast_gateway_durable_seconds";
        let help = "From a request's arrival until its answer is durable and may leave.";
        text.family(name, Kind::Histogram, Some("seconds"), help);
        counts.expose(name, &[], None, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connections_count_adds_up() {
        let whole = Gateway::default();
        for _ in 0..2 {
            let mut batch = GatewayBatch::default();
            batch.request(2, false);
            batch.request(2, true);
            batch.request(200, true);
            batch.answered(Duration::from_micros(30), 5);
            batch.paused();
            batch.record(&whole);
            batch.record(&whole);
        }
        let mut text = Exposition::default();
        whole.expose(&mut text);
        let text = text.finish();
        for line in [
            "holdfast_gateway_requests_total{operation=\"reserve\",outcome=\"done\"} 2",
            "holdfast_gateway_requests_total{operation=\"reserve\",outcome=\"refused\"} 2",
            "holdfast_gateway_requests_total{operation=\"unknown\",outcome=\"refused\"} 2",
            "holdfast_gateway_pauses_total 2",
            "holdfast_gateway_durable_seconds_count 10",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
