//! Where the time of requests goes.

use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use holdfast::api::Options;
use serde_json::{Value, json};

use crate::support::{Server, cart};

/// The latencies of a route.
async fn of(s: &Server, method: &str, route: &str) -> Value {
    let report = s.get("/v1/latency").await.is(200).json.clone();
    let routes = report["routes"].as_array().unwrap();
    let is_it = |r: &&Value| r["method"] == method && r["route"] == route;
    routes.iter().find(is_it).unwrap_or_else(|| panic!("{method} {route} in {report}")).clone()
}

fn stage<'a>(route: &'a Value, name: &str) -> Option<&'a Value> {
    route["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == name)
}

fn count(route: &Value, name: &str) -> u64 {
    stage(route, name).map_or(0, |stage| stage["count"].as_u64().unwrap())
}

/// All time is spent in one stage or another, and none of it twice.
#[track_caller]
fn stages_make_the_whole(route: &Value) {
    let time = |of: &Value| of["count"].as_f64().unwrap() * of["mean_ns"].as_f64().unwrap();
    let stages = route["stages"].as_array().unwrap().iter().filter(|s| s["stage"] != "append");
    let (sum, total) = (stages.map(time).sum::<f64>(), time(&route["total"]));
    assert!((0.97..1.03).contains(&(sum / total)), "{sum} of {total} in {route}");
}

#[tokio::test]
async fn a_routes_time_is_told_by_stage() {
    let s = Server::start().await;
    s.stock("A", 100).await;
    for key in 0..20 {
        s.hold(&key.to_string(), "A", 1).await;
    }
    s.post("/v1/reservations", "bad", json!({"lines": 1})).await.is_malformed("lines");
    let route = of(&s, "POST", "/v1/reservations").await;
    assert_eq!(route["total"]["count"], 21);
    let counts = ["receive", "decode", "decide", "reply"].map(|name| count(&route, name));
    // What could not be parsed is decided when it is refused, without a decision.
    assert_eq!(counts, [21, 21, 20, 21]);
    assert!((1..=20).contains(&count(&route, "sync_wait")));
    stages_make_the_whole(&route);
    let wait = stage(&route, "sync_wait").unwrap();
    assert!(wait["min_ns"].as_u64() <= wait["p50_ns"].as_u64());
    assert!(wait["p50_ns"].as_u64() <= wait["p999_ns"].as_u64());
    let buckets = wait["buckets"].as_array().unwrap();
    let counted: u64 = buckets.iter().map(|bucket| bucket[1].as_u64().unwrap()).sum();
    assert_eq!(counted, count(&route, "sync_wait"));
    assert_eq!(buckets.last().unwrap()[0], wait["max_ns"]);
}

#[tokio::test]
async fn a_read_has_no_stage_that_it_was_not_in() {
    let s = Server::start().await;
    s.stock("A", 1).await;
    s.get("/v1/stock/A").await.is(200);
    let route = of(&s, "GET", "/v1/stock/{sku}").await;
    let names: Vec<_> = route["stages"].as_array().unwrap().iter().map(|s| &s["stage"]).collect();
    assert_eq!(names, ["decide", "reply"]);
    stages_make_the_whole(&route);
}

#[tokio::test]
async fn a_batch_is_one_decision_and_an_import_is_told_apart_from_the_wait_for_its_lines() {
    let s = Server::start().await;
    s.stock("A", 100).await;
    let cart = |key: u32| json!({"idempotency_key": key.to_string(), "lines": [{"sku": "A", "quantity": 1}]});
    let batch = json!({"reservations": (0..50).map(cart).collect::<Vec<_>>()});
    s.call("POST /v1/reservations/batch").json(&batch).send().await.is(200);
    let route = of(&s, "POST", "/v1/reservations/batch").await;
    let counts = ["decode", "decide", "reply"].map(|name| count(&route, name));
    assert_eq!(counts, [1, 1, 1]);
    assert!(count(&route, "sync_wait") <= 1, "{route}");
    stages_make_the_whole(&route);

    let line = |n: u32| format!("{{\"sku\":\"S{n}\",\"location\":\"BER\",\"on_hand\":1}}\n");
    let lines: String = (0..1_000).map(line).collect();
    let import = s.call("POST /v1/stock/import").text("application/x-ndjson", &lines);
    assert_eq!(import.send().await.is(200).json["applied"], 1_000);
    let route = of(&s, "POST", "/v1/stock/import").await;
    let counts = ["receive", "decide"].map(|name| count(&route, name));
    assert_eq!(counts, [1, 1]);
    stages_make_the_whole(&route);
    let mean = |name: &str| stage(&route, name).unwrap()["mean_ns"].as_u64().unwrap();
    // A thousand lines at more than half a microsecond each; they came at once.
    assert!(mean("decide") > 500_000, "{route}");
}

#[tokio::test]
async fn appends_are_timed_now_and_then_and_syncs_always() {
    let s = Server::start().await;
    s.stock("A", 5_000).await;
    let (mut holds, mut appends) = (0, 0);
    let mut route = Value::Null;
    while appends == 0 {
        for _ in 0..100 {
            holds += 1;
            s.hold(&holds.to_string(), "A", 1).await;
        }
        route = of(&s, "POST", "/v1/reservations").await;
        appends = count(&route, "append");
        assert!(holds < 3_000, "one in 64 is timed");
    }
    assert!(appends < holds / 8, "{appends} of {holds}");
    let (append, decide) = (stage(&route, "append").unwrap(), stage(&route, "decide").unwrap());
    assert!(append["p50_ns"].as_u64() < decide["p50_ns"].as_u64(), "{append} {decide}");
    let log = s.get("/v1/latency").await.is(200).json["log"].clone();
    assert!(log["append"]["count"].as_u64() >= Some(appends));
    assert!(log["sync"]["count"].as_u64() > Some(50), "{log}");
}

#[tokio::test]
async fn the_same_is_told_as_an_interval_log() {
    let s = Server::start().await;
    s.stock("A", 100).await;
    for key in 0..10 {
        s.hold(&key.to_string(), "A", 1).await;
    }
    let log = s.get("/v1/latency?format=hlog").await;
    assert_eq!(log.is(200).header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(log.text().starts_with("#[Histogram log format version 1.3]\n"));
    let entries: Vec<_> = IntervalLogIterator::new(&log.body).map(Result::unwrap).collect();
    let tags: Vec<_> = entries
        .iter()
        .filter_map(|entry| match entry {
            LogEntry::Interval(interval) => interval.tag().map(|tag| tag.as_str()),
            _ => None,
        })
        .collect();
    for tag in ["total", "receive", "decode", "decide", "sync_wait", "reply"] {
        assert!(tags.contains(&format!("POST:/v1/reservations:{tag}").as_str()), "{tags:?}");
    }
    assert!(tags.contains(&"log::sync") && tags.contains(&"log::append"));
}

#[tokio::test]
async fn latency_takes_no_other_parameter_and_needs_an_engine() {
    let s = Server::start().await;
    s.get("/v1/latency?format=json").await.is(200);
    s.get("/v1/latency?format=xml").await.is_malformed("format");
    s.get("/v1/latency?since=1").await.is_malformed("since");
    let s = Server::starting(Options::default()).await;
    s.post("/v1/reservations", "k", cart("A", 1)).await.is_problem(503, "starting");
    s.get("/v1/latency").await.is_problem(503, "starting");
}
