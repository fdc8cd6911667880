//! The latencies of a server as they are told: as JSON, and as an HdrHistogram interval log.

use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::{
    Histogram,
    serialization::{
        V2DeflateSerializer,
        interval_log::{IntervalLogWriterBuilder, Tag},
    },
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::DurationCounts;
use crate::model::Timestamp;

/// Two digits tell apart whatever [`super::Durations`] tells apart: its buckets are two of theirs.
const DIGITS: u8 = 2;
const NS_MAX: u64 = 1 << 42;

/// Latencies since the server began to count.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LatencyReport {
    /// When the server began to count.
    pub since: Timestamp,
    /// When this was read.
    pub at: Timestamp,
    /// Routes that were asked over HTTP at least once.
    pub routes: Vec<RouteLatency>,
    /// Routes that gateways' frames stood for at least once, from a frame's arrival until its answer may leave;
    /// without stages.
    #[serde(default)]
    pub gateway: Vec<RouteLatency>,
    /// The log's own.
    pub log: LogLatency,
}

/// Latencies of one route and method.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RouteLatency {
    /// As the API's description has it; `none` for paths that are no route.
    pub route: String,
    /// The method; `any` for paths that are no route.
    pub method: String,
    /// From the request's head to the answer's.
    pub total: DurationsView,
    /// What of it was spent where, in the order of a request's way; stages that no request was in are
    /// left out.
    pub stages: Vec<StageLatency>,
}

/// Latencies of one stage.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StageLatency {
    /// `receive`, `decode`, `decide`, `append`, `sync_wait` or `reply`.
    pub stage: String,
    /// A request's time in it, all together; of `append` that of single records, one in 64.
    #[serde(flatten)]
    pub durations: DurationsView,
}

/// The log's own latencies.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct LogLatency {
    /// Claim, copy and publish of a record, whoever appended it; one in 64.
    pub append: DurationsView,
    /// Syncs of a group.
    pub sync: DurationsView,
}

/// A histogram of durations. Figures are upper ends of buckets: at most 1.6 % too high, never too low.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct DurationsView {
    /// How many.
    pub count: u64,
    /// The shortest, in nanoseconds.
    pub min_ns: u64,
    /// The mean.
    pub mean_ns: u64,
    /// Half of them were not longer.
    pub p50_ns: u64,
    /// Nine in ten were not.
    pub p90_ns: u64,
    /// 99 in a hundred were not.
    pub p99_ns: u64,
    /// 999 in a thousand were not.
    pub p999_ns: u64,
    /// 9,999 in ten thousand were not.
    pub p9999_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// Each bucket that is not empty: its upper end in nanoseconds, and how many lie in it.
    #[schema(value_type = Vec<Vec<u64>>)]
    pub buckets: Vec<(u64, u64)>,
}

impl From<&DurationCounts> for DurationsView {
    fn from(counts: &DurationCounts) -> Self {
        Self {
            count: counts.count(),
            min_ns: counts.min_ns(),
            mean_ns: counts.mean_ns(),
            p50_ns: counts.quantile_ns(0.5),
            p90_ns: counts.quantile_ns(0.9),
            p99_ns: counts.quantile_ns(0.99),
            p999_ns: counts.quantile_ns(0.999),
            p9999_ns: counts.quantile_ns(0.9999),
            max_ns: counts.max_ns(),
            buckets: counts.buckets().to_vec(),
        }
    }
}

impl DurationsView {
    /// The histogram itself, to compute with.
    pub fn counts(&self) -> DurationCounts {
        self.buckets.iter().copied().collect()
    }

    fn histogram(&self) -> Option<Histogram<u64>> {
        let mut histogram = Histogram::new_with_max(NS_MAX, DIGITS).ok()?;
        for (up_to_ns, count) in &self.buckets {
            histogram.saturating_record_n(*up_to_ns, *count);
        }
        Some(histogram)
    }
}

impl LatencyReport {
    /// The same as an HdrHistogram interval log, format 1.3 with compressed V2 histograms: one interval
    /// from the first request on, in nanoseconds, a line for each histogram. Its tag is
    /// `METHOD:route:stage`, with `total` for the whole, and `gateway:` before it for the gateways';
    /// `log::append` and `log::sync` for the log.
    pub fn interval_log(&self) -> Vec<u8> {
        let since = UNIX_EPOCH + Duration::from_millis(self.since.millis());
        let length = Duration::from_millis(self.at.millis().saturating_sub(self.since.millis()));
        let (mut log, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
        let writer = IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment("[Latencies of Holdfast in nanoseconds, maxima in milliseconds]")
            .with_start_time(since)
            .with_base_time(since)
            .with_max_value_divisor(1e6)
            .begin_log_with(&mut log, &mut serializer);
        // A vector takes whatever is written to it, and a tag of a route has no blank and no comma.
        let Ok(mut writer) = writer else { return log };
        for (name, durations) in self.named() {
            if let (Some(histogram), tag @ Some(_)) = (durations.histogram(), Tag::new(&name)) {
                let _ = writer.write_histogram(&histogram, Duration::ZERO, length, tag);
            }
        }
        log
    }

    /// Every histogram with its tag.
    fn named(&self) -> impl Iterator<Item = (String, &DurationsView)> {
        let doors = [("", &self.routes), ("gateway:", &self.gateway)];
        let routes = doors
            .into_iter()
            .flat_map(|(door, routes)| routes.iter().map(move |route| (door, route)));
        let routes = routes.flat_map(|(door, of)| {
            let name = move |stage: &str| format!("{door}{}:{}:{stage}", of.method, of.route);
            let stages = of.stages.iter().map(move |s| (name(&s.stage), &s.durations));
            std::iter::once((name("total"), &of.total)).chain(stages)
        });
        let log = [("log::append", &self.log.append), ("log::sync", &self.log.sync)];
        routes.chain(log.map(|(name, durations)| (name.to_owned(), durations)))
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::telemetry::Durations;

    fn report() -> LatencyReport {
        let durations = Durations::default();
        (1..=1_000).for_each(|us| durations.record(Duration::from_micros(us)));
        durations.record(Duration::from_secs(86_400));
        let view = DurationsView::from(&durations.counts());
        let of_gateway = RouteLatency {
            route: "/a/{b}".into(),
            method: "PUT".into(),
            total: view.clone(),
            stages: Vec::new(),
        };
        let stages = vec![StageLatency { stage: "decide".into(), durations: view.clone() }];
        LatencyReport {
            since: Timestamp::from_millis(5_000),
            at: Timestamp::from_millis(7_500),
            routes: vec![RouteLatency { stages, ..of_gateway.clone() }],
            gateway: vec![of_gateway],
            log: LogLatency { append: view, sync: DurationsView::default() },
        }
    }

    #[test]
    fn an_interval_log_says_what_the_json_says() {
        let report = report();
        let log = report.interval_log();
        let mut tags = Vec::new();
        for entry in IntervalLogIterator::new(&log) {
            match entry.unwrap() {
                LogEntry::Interval(interval) => {
                    assert_eq!(interval.duration(), Duration::from_millis(2_500));
                    let tag = interval.tag().unwrap().as_str().to_owned();
                    assert!(interval.encoded_histogram().starts_with("HISTFAAA"));
                    let bytes = base64::Engine::decode(
                        &base64::engine::general_purpose::STANDARD,
                        interval.encoded_histogram(),
                    );
                    let read: Histogram<u64> = hdrhistogram::serialization::Deserializer::new()
                        .deserialize(&mut bytes.unwrap().as_slice())
                        .unwrap();
                    if tag != "log::sync" {
                        let total = &report.routes[0].total;
                        assert_eq!(read.len(), total.count);
                        assert_eq!(read.value_at_quantile(0.5), total.p50_ns);
                        assert_eq!(read.value_at_quantile(0.99), total.p99_ns);
                        assert_eq!(read.max(), total.max_ns);
                    }
                    tags.push(tag);
                }
                LogEntry::BaseTime(time) | LogEntry::StartTime(time) => {
                    assert_eq!(time, Duration::from_secs(5));
                }
            }
        }
        let of_routes = ["PUT:/a/{b}:total", "PUT:/a/{b}:decide", "gateway:PUT:/a/{b}:total"];
        assert_eq!(tags, [&of_routes[..], &["log::append", "log::sync"]].concat());
    }

    #[test]
    fn a_histogram_comes_back_from_its_json() {
        let report = report();
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["routes"][0]["stages"][0]["stage"], "decide");
        let read: LatencyReport = serde_json::from_value(json).unwrap();
        assert_eq!(read.routes[0].total.counts(), report.routes[0].total.counts());
        assert_eq!(
            DurationsView::from(&read.routes[0].total.counts()).p99_ns,
            report.log.append.p99_ns
        );
    }
}
