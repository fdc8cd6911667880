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
    Exemplars, Exposition, Kind, Laps, Latency, LatencyReport, LogLatency, RouteLatency, Stage,
    StageLatency, Stages, TraceId,
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
    examples: Exemplars,
    statuses: [CachePadded<[AtomicU64; STATUS_COUNTS]>; STRIPES],
}

impl Endpoint {
    fn new(route: &'static str, method: &'static str) -> Self {
        Self {
            route,
            method,
            latency: Latency::default(),
            stages: Stages::default(),
            examples: Exemplars::default(),
            statuses: Default::default(),
        }
    }

    /// Counts an answered request, and where its time went.
    pub fn record(&self, status: u16, elapsed: Duration, laps: &Laps) {
        self.stages.record(laps);
        self.record_many(status, elapsed, 1);
    }

    /// Counts requests that were answered alike, after the same time.
    pub fn record_many(&self, status: u16, elapsed: Duration, count: u64) {
        let index = STATUSES.binary_search(&status).unwrap_or(STATUSES.len());
        self.statuses[stripe()][index].fetch_add(count, Relaxed);
        self.latency.record_many(elapsed, count);
    }

    /// The route, as it is labelled.
    pub fn route(&self) -> &'static str {
        self.route
    }

    /// The method, as it is labelled.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Keeps a request that was recorded as an example, so that a figure leads to its trace.
    pub fn example(&self, trace: TraceId, elapsed: Duration) {
        self.examples.keep(trace, elapsed);
    }

    /// Requests answered, those of them that failed here, and those that took at most so long.
    fn answered(&self, within: Duration) -> Answered {
        let counts: Vec<_> = (0..STATUS_COUNTS).map(|index| self.status_count(index)).collect();
        let failed = STATUSES.iter().zip(&counts).filter(|(status, _)| **status >= 500);
        Answered {
            total: counts.iter().sum(),
            failed: failed.map(|(_, count)| count).sum(),
            within: self.latency.fine_counts().count_within(within),
        }
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

/// How requests were answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    /// All of them.
    pub total: u64,
    /// Answered with 500 or above.
    pub failed: u64,
    /// Answered within the time that was asked for.
    pub within: u64,
}

impl std::iter::Sum for Answered {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, more| Self {
            total: sum.total + more.total,
            failed: sum.failed + more.failed,
            within: sum.within + more.within,
        })
    }
}

/// All endpoints of a door: HTTP's, or those that the gateway's frames stand for. Their number is that of
/// its routes.
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

    /// The latencies of every endpoint that was ever asked.
    pub fn routes(&self) -> Vec<RouteLatency> {
        let endpoints = self.endpoints.lock().clone();
        endpoints.iter().filter_map(|endpoint| endpoint.latencies()).collect()
    }

    /// The same beside the log's, as HTTP's.
    pub fn latencies(&self, log: LogLatency) -> LatencyReport {
        let (routes, gateway) = (self.routes(), Vec::new());
        LatencyReport { since: self.since, at: now(), routes, gateway, log }
    }

    /// How the requests of some endpoints, by route and method, were answered.
    pub fn answered(&self, wanted: impl Fn(&str, &str) -> bool, within: Duration) -> Answered {
        let endpoints = self.endpoints.lock().clone();
        let wanted = endpoints.iter().filter(|endpoint| wanted(endpoint.route, endpoint.method));
        wanted.map(|endpoint| endpoint.answered(within)).sum()
    }

    /// Writes the counters and histograms of every endpoint that was ever asked, as those of a `door`:
    /// `http` or `gateway`.
    pub fn expose(&self, door: &str, text: &mut Exposition) {
        let endpoints = self.endpoints.lock().clone();
        let name = format!("holdfast_{door}_requests");
        let help = "Requests answered, by route, method and status.";
        text.family(&name, Kind::Counter, None, help);
        for endpoint in &endpoints {
            expose_statuses(endpoint, &format!("{name}_total"), text);
        }
        let name = format!("holdfast_{door}_request_duration_seconds");
        let help = "From a request's arrival until its answer may leave, by route and method.";
        text.family(&name, Kind::Histogram, Some("seconds"), help);
        for endpoint in &endpoints {
            let counts = endpoint.latency.counts();
            if counts.count() > 0 {
                let labels = [("route", endpoint.route), ("method", endpoint.method)];
                counts.expose(&name, &labels, Some(&endpoint.examples), text);
            }
        }
    }
}

fn expose_statuses(endpoint: &Endpoint, name: &str, text: &mut Exposition) {
    for index in 0..STATUS_COUNTS {
        let count = endpoint.status_count(index);
        if count > 0 {
            let status = STATUSES.get(index).map_or("other".to_owned(), u16::to_string);
            let labels =
                [("route", endpoint.route), ("method", endpoint.method), ("status", &status)];
            text.sample(name, &labels, count);
        }
    }
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
        let answered = requests.answered(|route, _| route == "/a", Duration::from_micros(40));
        assert_eq!(answered, Answered { total: 2, failed: 0, within: 1 });
        let mut text = Exposition::default();
        requests.expose("http", &mut text);
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
