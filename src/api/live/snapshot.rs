//! What a live snapshot says, and how it comes of two readings of the counters.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{State, answer, operations},
    engine::{Counters, Demand, Engine, Status},
    model::{Timestamp, sink::SinkView},
    telemetry::{
        DurationCounts, DurationsView, LatencyReport, LogLatency, Observed, RouteLatency,
        StageLatency,
    },
};

/// SKUs that are told of.
const SKUS_MAX: usize = 24;
/// Routes that are told of.
const ROUTES_MAX: usize = 24;
/// Stands before the method of what gateways asked.
const BY_GATEWAY: &str = "gateway ";
/// Buckets in a power of two: a live histogram is coarse, so that a snapshot stays small.
const PART_BITS: u32 = 3;

/// The server at a moment, and what it did in the second before.
#[derive(Serialize, ToSchema)]
pub(super) struct LiveView {
    /// When.
    at: Timestamp,
    /// Whether requests are served.
    ready: bool,
    /// The time that `counted`, `decisions`, `routes` and `log` are of, in milliseconds; absent in the first
    /// snapshot, in which they are empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_ms: Option<u64>,
    /// As `/v1/status` has it.
    status: Status,
    /// What was done in the interval.
    counted: Counters,
    /// Requests under way.
    in_flight: u64,
    /// Requests refused since too many were under way, since the start.
    shed: u64,
    /// Everything that was asked to be reserved, sold or given back in the interval, over HTTP and by
    /// gateways.
    decisions: DurationsView,
    /// Routes that were asked in the interval, those with the most requests, at most 24; the method of one that
    /// gateways' frames stand for begins with `gateway `. Buckets here are an eighth of a power of two wide.
    routes: Vec<RouteLatency>,
    /// The log's own latencies in the interval.
    log: LogLatency,
    /// The SKUs of which most is held and sold, at most 24.
    stock: Vec<Demand>,
    /// As `/v1/sinks` has them.
    sinks: Vec<SinkView>,
    /// Who listens to this.
    listeners: u64,
}

/// The counters at a moment.
pub(super) struct Reading {
    at: Instant,
    ready: bool,
    status: Status,
    in_flight: u64,
    shed: u64,
    latency: LatencyReport,
    stock: Vec<Demand>,
    sinks: Vec<SinkView>,
    listeners: u64,
}

impl Reading {
    /// The counters now; none before the start is done.
    pub(super) fn of(state: &State) -> Option<Self> {
        let engine = state.engine().ok()?;
        let sold_units = state.observed().map(Observed::sold_units).unwrap_or_default();
        Some(Self {
            at: Instant::now(),
            ready: operations::ready(state).is_ok(),
            status: engine.status(),
            in_flight: state.in_flight() as u64,
            shed: state.shed(),
            latency: latencies(state, engine),
            stock: engine.in_demand(SKUS_MAX, &sold_units),
            sinks: state.sinks(),
            listeners: state.live().listeners() as u64,
        })
    }

    /// The snapshot as an event: what happened since `before`.
    pub(super) fn event(&self, before: Option<&Self>) -> Bytes {
        let mut event = b"event: snapshot\ndata: ".to_vec();
        answer::write(&mut event, &self.view(before));
        event.extend_from_slice(b"\n\n");
        event.into()
    }

    fn view(&self, before: Option<&Self>) -> LiveView {
        let routes = before.map_or_else(Vec::new, |before| self.routes(before));
        let decisions = decisions(&routes);
        let log = before.map_or_else(Default::default, |before| LogLatency {
            append: since(&self.latency.log.append, Some(&before.latency.log.append)),
            sync: since(&self.latency.log.sync, Some(&before.latency.log.sync)),
        });
        LiveView {
            at: now(),
            ready: self.ready,
            interval_ms: before
                .map(|before| self.at.saturating_duration_since(before.at).as_millis() as u64),
            counted: before
                .map_or_else(Counters::default, |b| self.status.counters.since(&b.status.counters)),
            status: self.status.clone(),
            in_flight: self.in_flight,
            shed: self.shed,
            decisions,
            routes: busiest(routes),
            log,
            stock: self.stock.clone(),
            sinks: self.sinks.clone(),
            listeners: self.listeners,
        }
    }

    /// Routes that were asked since `before`, the buckets of their totals still as fine as they come.
    fn routes(&self, before: &Self) -> Vec<RouteLatency> {
        let routes = self.latency.routes.iter().filter_map(|route| {
            let same =
                |other: &&RouteLatency| other.route == route.route && other.method == route.method;
            let earlier = before.latency.routes.iter().find(same);
            let total = between(&route.total, earlier.map(|earlier| &earlier.total));
            let total = DurationsView::from(&total);
            (total.count > 0).then(|| RouteLatency {
                route: route.route.clone(),
                method: route.method.clone(),
                total,
                stages: stages(route, earlier),
            })
        });
        routes.collect()
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Every route's, with those that gateways' frames stand for beside them.
fn latencies(state: &State, engine: &Engine) -> LatencyReport {
    let timings = engine.log().timings();
    let log = LogLatency { append: (&timings.append).into(), sync: (&timings.sync).into() };
    let mut latency = state.requests().latencies(log);
    let of_gateways = state
        .gateway()
        .requests()
        .routes()
        .into_iter()
        .map(|route| RouteLatency { method: format!("{BY_GATEWAY}{}", route.method), ..route });
    latency.routes.extend(of_gateways);
    latency
}

fn stages(route: &RouteLatency, earlier: Option<&RouteLatency>) -> Vec<StageLatency> {
    let stages = route.stages.iter().filter_map(|stage| {
        let before = earlier.and_then(|e| e.stages.iter().find(|s| s.stage == stage.stage));
        let durations = since(&stage.durations, before.map(|before| &before.durations));
        (durations.count > 0).then(|| StageLatency { stage: stage.stage.clone(), durations })
    });
    stages.collect()
}

/// What was recorded between two readings.
fn between(now: &DurationsView, before: Option<&DurationsView>) -> DurationCounts {
    let now = now.counts();
    match before {
        Some(before) => now.since(&before.counts()),
        None => now,
    }
}

/// The same, exact in its figures and coarse in its buckets.
fn since(now: &DurationsView, before: Option<&DurationsView>) -> DurationsView {
    coarsened((&between(now, before)).into())
}

fn coarsened(view: DurationsView) -> DurationsView {
    let coarse: DurationCounts =
        view.buckets.iter().map(|(up_to_ns, count)| (coarse(*up_to_ns), *count)).collect();
    DurationsView { buckets: coarse.buckets().to_vec(), ..view }
}

/// The upper end of the coarse bucket that a duration lies in.
fn coarse(ns: u64) -> u64 {
    let shift = (ns | 1).ilog2().saturating_sub(PART_BITS);
    ns | ((1 << shift) - 1)
}

/// The latencies of all that decides about stock, together.
fn decisions(routes: &[RouteLatency]) -> DurationsView {
    let decides = |route: &&RouteLatency| {
        route.method.trim_start_matches(BY_GATEWAY) != "GET"
            && ["/v1/reservations", "/v1/orders"].iter().any(|begin| route.route.starts_with(begin))
    };
    let buckets = routes.iter().filter(decides).flat_map(|route| route.total.buckets.clone());
    coarsened((&buckets.collect::<DurationCounts>()).into())
}

fn busiest(mut routes: Vec<RouteLatency>) -> Vec<RouteLatency> {
    routes.sort_by_key(|route| std::cmp::Reverse(route.total.count));
    routes.truncate(ROUTES_MAX);
    for route in &mut routes {
        route.total = coarsened(std::mem::take(&mut route.total));
    }
    routes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::Durations;

    fn durations(us: impl Iterator<Item = u64>) -> DurationsView {
        let durations = Durations::default();
        us.for_each(|us| durations.record(Duration::from_micros(us)));
        (&durations.counts()).into()
    }

    #[test]
    fn what_came_between_two_readings_has_exact_figures_and_few_buckets() {
        let before = durations(1..=1_000);
        let now = durations((1..=1_000).chain(2_000..=4_000));
        let between = since(&now, Some(&before));
        assert_eq!(between.count, 2_001);
        assert!((between.p50_ns as f64 / 3e6 - 1.0).abs() < 0.02, "{}", between.p50_ns);
        assert!(between.buckets.len() <= 10, "{:?}", between.buckets);
        assert_eq!(between.buckets.iter().map(|(_, count)| count).sum::<u64>(), 2_001);
        assert_eq!(since(&now, None).count, now.count);
    }

    #[test]
    fn a_coarse_bucket_ends_at_an_eighth_of_a_power_of_two() {
        for (ns, end) in [(0, 0), (7, 7), (8, 8), (16, 17), (1_000, 1_023), (1_024, 1_151)] {
            assert_eq!(coarse(ns), end, "{ns}");
            assert_eq!(coarse(end), end, "the end lies in its own bucket");
        }
    }

    #[test]
    fn decisions_are_what_changes_reservations_and_orders() {
        let of = |method: &str, route: &str, count: u64| RouteLatency {
            route: route.to_owned(),
            method: method.to_owned(),
            total: durations((0..count).map(|_| 5)),
            stages: Vec::new(),
        };
        let routes = [
            of("POST", "/v1/reservations", 3),
            of("POST", "/v1/orders/{order_id}/refunds", 2),
            of("gateway POST", "/v1/reservations", 10),
            of("GET", "/v1/reservations/{id}", 100),
            of("gateway GET", "/v1/reservations/{id}", 100),
            of("POST", "/v1/stock/adjustments", 100),
        ];
        assert_eq!(decisions(&routes).count, 15);
        assert_eq!(busiest(routes.into())[0].total.count, 100);
    }
}
