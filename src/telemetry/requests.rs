//! Requests by route, method and status, with their latencies and those of their stages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use super::{
    BOUNDS_US, Exposition, Kind, Laps, Latency, LatencyCounts, LatencyReport, LogLatency,
    RouteLatency, Stage, StageLatency, Stages,
    durations::{STRIPES, stripe},
};
use crate::model::Timestamp;

/// Statuses that are counted one by one; others share one count with the label `other`.
const STATUSES: [u16; 19] =
    [200, 201, 204, 400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 422, 429, 431, 500, 503, 504];
const STATUS_COUNTS: usize = STATUSES.len() + 1;

/// What is counted of one route and method.
pub struct Endpoint {
    route: &'static str,
    method: &'static str,
    latency: Latency,
    stages: Stages,
    statuses: [CachePadded<[AtomicU64; STATUS_COUNTS]>; STRIPES],
}

impl Endpoint {
    fn new(route: &'static str, method: &'static str) -> Self {
        Self {
            route,
            method,
            latency: Latency::default(),
            stages: Stages::default(),
            statuses: Default::default(),
        }
    }

    /// Counts an answered request, and where its time went.
    pub fn record(&self, status: u16, elapsed: Duration, laps: &Laps) {
        self.stages.record(laps);
        let index = STATUSES.binary_search(&status).unwrap_or(STATUSES.len());
        self.statuses[stripe()][index].fetch_add(1, Relaxed);
        self.latency.record(elapsed);
    }

    /// What was recorded so far; nothing if nobody asked yet.
    fn latencies(&self) -> Option<RouteLatency> {
        let total = self.latency.fine_counts();
        let stages = Stage::ALL.into_iter().map(|stage| (stage, self.stages.counts(stage)));
        let stages = stages.filter(|(_, counts)| counts.count() > 0);
        (total.count() > 0).then(|| RouteLatency {
            route: self.route.to_owned(),
            method: self.method.to_owned(),
            total: (&total).into(),
            stages: stages
                .map(|(stage, counts)| StageLatency {
                    stage: stage.as_str().to_owned(),
                    durations: (&counts).into(),
                })
                .collect(),
        })
    }

    fn status_count(&self, index: usize) -> u64 {
        self.statuses.iter().map(|stripe| stripe[index].load(Relaxed)).sum()
    }
}

/// All endpoints of a server. Their number is that of its routes.
pub struct Requests {
    since: Timestamp,
    endpoints: Mutex<Vec<Arc<Endpoint>>>,
}

impl Default for Requests {
    fn default() -> Self {
        Self { since: now(), endpoints: Mutex::default() }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Requests {
    /// The endpoint of this route and method; the same one when asked again.
    pub fn endpoint(&self, route: &'static str, method: &'static str) -> Arc<Endpoint> {
        let mut endpoints = self.endpoints.lock();
        if let Some(known) = endpoints.iter().find(|e| e.route == route && e.method == method) {
            return known.clone();
        }
        let endpoint = Arc::new(Endpoint::new(route, method));
        endpoints.push(endpoint.clone());
        endpoint
    }

    /// The latencies of every endpoint that was ever asked, beside the log's.
    pub fn latencies(&self, log: LogLatency) -> LatencyReport {
        let endpoints = self.endpoints.lock().clone();
        let routes = endpoints.iter().filter_map(|endpoint| endpoint.latencies()).collect();
        LatencyReport { since: self.since, at: now(), routes, log }
    }

    /// Writes the counters and histograms of every endpoint that was ever asked.
    pub fn expose(&self, text: &mut Exposition) {
        let endpoints = self.endpoints.lock().clone();
        text.family(
            "holdfast_http_requests",
            Kind::Counter,
            None,
            "Requests answered, by route, method and status.",
        );
        for endpoint in &endpoints {
            expose_statuses(endpoint, text);
        }
        text.family(
            "holdfast_http_request_duration_seconds",
            Kind::Histogram,
            Some("seconds"),
            "From the request's head to the answer's, by route and method.",
        );
        for endpoint in &endpoints {
            let counts = endpoint.latency.counts();
            if counts.count() > 0 {
                expose_latency(endpoint, &counts, text);
            }
        }
    }
}

fn expose_statuses(endpoint: &Endpoint, text: &mut Exposition) {
    for index in 0..STATUS_COUNTS {
        let count = endpoint.status_count(index);
        if count > 0 {
            let status = STATUSES.get(index).map_or("other".to_owned(), u16::to_string);
            let labels =
                [("route", endpoint.route), ("method", endpoint.method), ("status", &status)];
            text.sample("holdfast_http_requests_total", &labels, count);
        }
    }
}

fn expose_latency(endpoint: &Endpoint, counts: &LatencyCounts, text: &mut Exposition) {
    let (route, method) = (("route", endpoint.route), ("method", endpoint.method));
    let bounds = BOUNDS_US.iter().map(|us| (*us as f64 / 1e6).to_string());
    let mut cumulated = 0;
    for (le, count) in bounds.chain(["+Inf".to_owned()]).zip(counts.buckets) {
        cumulated += count;
        let labels = [route, method, ("le", le.as_str())];
        text.sample("holdfast_http_request_duration_seconds_bucket", &labels, cumulated);
    }
    text.sample("holdfast_http_request_duration_seconds_count", &[route, method], cumulated);
    let sum = counts.sum_ns as f64 / 1e9;
    text.sample("holdfast_http_request_duration_seconds_sum", &[route, method], sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_sorted_so_that_they_are_found() {
        assert!(STATUSES.is_sorted());
    }

    #[test]
    fn an_endpoint_is_counted_by_status_and_exposed_once() {
        let requests = Requests::default();
        let laps = Laps::new(std::time::Instant::now());
        requests.endpoint("/a", "GET").record(200, Duration::from_micros(30), &laps);
        requests.endpoint("/a", "GET").record(418, Duration::from_micros(60), &laps);
        let mut text = Exposition::default();
        requests.expose(&mut text);
        let text = text.finish();
        let line = |l: &str| assert!(text.lines().any(|line| line == l), "{l} in {text}");
        line(r#"holdfast_http_requests_total{route="/a",method="GET",status="200"} 1"#);
        line(r#"holdfast_http_requests_total{route="/a",method="GET",status="other"} 1"#);
        line(
            r#"holdfast_http_request_duration_seconds_bucket{route="/a",method="GET",le="0.00005"} 1"#,
        );
        line(
            r#"holdfast_http_request_duration_seconds_bucket{route="/a",method="GET",le="+Inf"} 2"#,
        );
        line(r#"holdfast_http_request_duration_seconds_sum{route="/a",method="GET"} 0.00009"#);
    }
}
