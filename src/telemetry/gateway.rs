//! What is counted of the gateway. A connection counts for itself and adds it all up once a round, so
//! that a request costs no atomic operation.
//!
//! A frame stands for a route of the HTTP API, and is counted as one: by [`Requests`] of the same kind as
//! HTTP's. A call becomes a request of HTTP's, and is counted there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use smallvec::SmallVec;

use super::{Endpoint, Exposition, Kind, Latency, Requests};

/// The routes that frames stand for, by the kind of the frame.
const ROUTES: [(&str, &str); 10] = [
    NO_ROUTE,
    // A hello where none belongs.
    NO_ROUTE,
    ("POST", "/v1/reservations"),
    ("POST", "/v1/reservations/{id}/release"),
    ("POST", "/v1/reservations/{id}/extend"),
    ("POST", "/v1/reservations/{id}/commit"),
    ("POST", "/v1/orders"),
    ("PUT", "/v1/reservations/{id}/lines"),
    ("GET", "/v1/reservations/{id}"),
    ("GET", "/v1/stock/{sku}"),
];
/// As HTTP's requests to paths that are no route.
const NO_ROUTE: (&str, &str) = ("any", "none");
/// How many kinds of answers are looked at before one more is begun.
const ALIKE_MAX: usize = 8;

/// The gateway's counters.
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
    requests: Arc<Requests>,
    endpoints: [Arc<Endpoint>; ROUTES.len()],
    durable: Latency,
}

impl Default for Gateway {
    fn default() -> Self {
        let requests = Arc::new(Requests::default());
        let endpoints = ROUTES.map(|(method, route)| requests.endpoint(route, method));
        Self {
            connections: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            connections_full: AtomicU64::new(0),
            refused_hellos: AtomicU64::new(0),
            broken_frames: AtomicU64::new(0),
            pauses: AtomicU64::new(0),
            requests,
            endpoints,
            durable: Latency::default(),
        }
    }
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayAnswer {
    /// When it had come.
    pub began: Instant,
    /// The kind of its frame.
    pub kind: u8,
    /// The status that HTTP has for it.
    pub status: u16,
    /// Whether it waited for the log.
    pub durable: bool,
}

/// What one connection has counted and not yet added to the whole.
#[derive(Debug, Default)]
pub struct GatewayBatch {
    answers: SmallVec<[(GatewayAnswer, u64); ALIKE_MAX]>,
    pauses: u64,
}

impl GatewayBatch {
    /// A request was answered; the answer leaves when all of this is recorded.
    pub fn answered(&mut self, answer: GatewayAnswer) {
        let alike = self.answers.iter_mut().rev().take(ALIKE_MAX).find(|(one, _)| *one == answer);
        match alike {
            Some((_, count)) => *count += 1,
            None => self.answers.push((answer, 1)),
        }
    }

    /// The connection was not read from for a round.
    pub fn paused(&mut self) {
        self.pauses += 1;
    }

    /// Adds it to the whole, and begins anew; `tell` is told of each status and how often it was.
    pub fn record(&mut self, whole: &Gateway, mut tell: impl FnMut(u16, u64)) {
        if self.pauses > 0 {
            whole.pauses.fetch_add(std::mem::take(&mut self.pauses), Relaxed);
        }
        if self.answers.is_empty() {
            return;
        }
        let now = Instant::now();
        for (answer, count) in self.answers.drain(..) {
            let elapsed = now.saturating_duration_since(answer.began);
            whole.endpoint(answer.kind).record_many(answer.status, elapsed, count);
            if answer.durable {
                whole.durable.record_many(elapsed, count);
            }
            tell(answer.status, count);
        }
    }
}

impl Gateway {
    /// The requests, by the routes that they stand for.
    pub fn requests(&self) -> &Arc<Requests> {
        &self.requests
    }

    /// The route that frames of a kind stand for.
    pub fn endpoint(&self, kind: u8) -> &Endpoint {
        let [none, ..] = &self.endpoints;
        self.endpoints.get(usize::from(kind)).unwrap_or(none)
    }

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
        self.requests.expose("gateway", text);
        self.expose_durable(text);
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
        let (whole, began) = (Gateway::default(), Instant::now());
        let mut told = Vec::new();
        for _ in 0..2 {
            let mut batch = GatewayBatch::default();
            let reserve = GatewayAnswer { began, kind: 2, status: 201, durable: true };
            (0..5).for_each(|_| batch.answered(reserve));
            batch.answered(GatewayAnswer { status: 409, durable: false, ..reserve });
            batch.answered(reserve);
            batch.answered(GatewayAnswer { kind: 200, status: 400, durable: false, ..reserve });
            batch.paused();
            batch.record(&whole, |status, count| told.push((status, count)));
            batch.record(&whole, |_, _| panic!("it is recorded once"));
        }
        assert_eq!(told[..3], [(201, 6), (409, 1), (400, 1)]);
        let mut text = Exposition::default();
        whole.expose(&mut text);
        let text = text.finish();
        let reserve = "route=\"/v1/reservations\",method=\"POST\"";
        for line in [
            &format!("holdfast_gateway_requests_total{{{reserve},status=\"201\"}} 12"),
            &format!("holdfast_gateway_requests_total{{{reserve},status=\"409\"}} 2"),
            &format!("holdfast_gateway_request_duration_seconds_count{{{reserve}}} 14"),
            "holdfast_gateway_requests_total{route=\"none\",method=\"any\",status=\"400\"} 2",
            "holdfast_gateway_pauses_total 2",
            "holdfast_gateway_durable_seconds_count 12",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn answers_of_many_kinds_are_each_counted() {
        let (whole, began) = (Gateway::default(), Instant::now());
        let mut batch = GatewayBatch::default();
        for status in (200..300).chain(200..300) {
            batch.answered(GatewayAnswer { began, kind: 9, status, durable: false });
        }
        batch.record(&whole, |_, _| {});
        let answered = whole.requests().answered(|_, _| true, std::time::Duration::MAX);
        assert_eq!(answered.total, 200);
    }
}
