//! What operators and their tools read.

use std::sync::Arc;

use holdfast::{
    api::{Options, Sinks, openapi, served},
    model::{
        Lsn,
        sink::{Attempts, LaneView, ParkedView, Release, SinkView},
    },
};
use serde_json::{Value, json};

use crate::support::{Server, cart};

/// A far end of one sink.
struct Erp;

impl Sinks for Erp {
    fn snapshot(&self) -> Vec<SinkView> {
        vec![SinkView {
            name: "erp".into(),
            domain: "inventory".into(),
            state: "running".into(),
            reason: None,
            replaying: 0,
            breaker: "closed".into(),
            lanes: vec![LaneView { priority: "standard".into(), depth: 2, oldest_age_ms: 1_500 }],
            acknowledged_lsn: Lsn(64),
            lag_records: 3,
            lag_ms: 250,
            concurrency: 4,
            batches_delivered: 5,
            events_delivered: 60,
            retries: 7,
            attempts: Attempts::default(),
            dead_letters: 8,
            dead_letter_records: 90,
            parked: 2,
            oldest_parked_age_ms: 900,
            parked_overflows: 1,
            reconciliation: None,
        }]
    }

    fn parked(&self, sink: &str) -> Option<Vec<ParkedView>> {
        let parked = ParkedView {
            order_id: "O/1".into(),
            kind: "refund".into(),
            id: "R-1".into(),
            lsn: Lsn(64),
            age_ms: 900,
            waits_for: "settlement".into(),
        };
        (sink == "erp").then(|| vec![parked])
    }

    fn release_parked(&self, sink: &str, order_id: &str) -> Option<Release> {
        (sink == "erp").then_some(match order_id {
            "O/1" => Release::Asked { records: 1 },
            "O/2" => Release::TooMany,
            _ => Release::NothingParked,
        })
    }
}

#[tokio::test]
async fn status_says_how_the_server_stands() {
    let s = Server::with_sinks(Arc::new(Erp)).await;
    s.stock("A", 5).await;
    s.hold("k", "A", 1).await;
    let status = s.get("/v1/status").await;
    status.is(200);
    assert_eq!(status.json["version"], env!("CARGO_PKG_VERSION"));
    assert!(status.json["incarnation"].as_str().is_some_and(|i| !i.is_empty()));
    let lsn = |name: &str| status.json[name].as_u64().unwrap();
    assert!(lsn("checkpoint") <= lsn("durable") && lsn("durable") <= lsn("appended"));
    assert!(lsn("log_bytes_used") <= lsn("log_bytes_budget"));
    assert_eq!(
        (&status.json["open_reservations"], &status.json["oversold"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(status.json["sinks"][0]["lag_records"], 3);
    assert!(status.json["sinks"][0].get("lanes").is_none(), "in short");
}

#[tokio::test]
async fn sinks_are_shown_as_they_stand() {
    let s = Server::with_sinks(Arc::new(Erp)).await;
    let sinks = s.get("/v1/sinks").await;
    let erp = &sinks.is(200).json["sinks"][0];
    let want = json!({"name": "erp", "domain": "inventory", "state": "running", "breaker": "closed",
        "lanes": [{"priority": "standard", "depth": 2, "oldest_age_ms": 1500}],
        "acknowledged_lsn": 64, "replaying": 0, "lag_records": 3, "lag_ms": 250, "concurrency": 4,
        "batches_delivered": 5, "events_delivered": 60, "retries": 7, "dead_letters": 8, "dead_letter_records": 90,
        "parked": 2, "oldest_parked_age_ms": 900, "parked_overflows": 1,
        "attempts": {"done": 0, "refused": 0, "denied": 0, "failed": 0, "under_way": 0,
            "breaker_opens": 0, "waits": {"back_off": 0, "breaker": 0, "budget": 0, "concurrency": 0,
            "paused": 0, "rate": 0, "recovery": 0, "retry_after": 0}}});
    assert_eq!(erp, &want);
}

#[tokio::test]
async fn until_the_engine_is_open_nothing_is_served_but_life() {
    let s = Server::starting(Options::default()).await;
    s.get("/livez").await.is(200);
    s.get("/metrics").await.is(200);
    s.get("/readyz").await.is_problem(503, "starting");
    s.get("/v1/status").await.is_problem(503, "starting");
    s.get("/v1/stock/A").await.is_problem(503, "starting");
    s.post("/v1/reservations", "k", cart("A", 1)).await.is_problem(503, "starting");
    let import = s.call("POST /v1/stock/import").text("application/x-ndjson", "{}");
    import.send().await.is_problem(503, "starting");
}

#[tokio::test]
async fn a_ready_server_says_so() {
    let s = Server::start().await;
    s.get("/readyz").await.is(200);
    s.get("/livez").await.is(200);
    s.state.drain();
    s.get("/livez").await.is(200);
    s.get("/readyz").await.is_problem(503, "shutting_down");
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let s = Server::with_sinks(Arc::new(Erp)).await;
    s.stock("A", 5).await;
    s.hold("k", "A", 1).await;
    s.post("/v1/reservations", "k2", cart("A", 9)).await.is(409);
    let metrics = s.get("/metrics").await;
    metrics.is(200);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(metrics.header("content-type"), Some(kind));
    let text = metrics.text();
    check_openmetrics(&text);
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line} in {text}");
    has(r#"holdfast_http_requests_total{route="/v1/reservations",method="POST",status="201"} 1"#);
    has(r#"holdfast_http_requests_total{route="/v1/reservations",method="POST",status="409"} 1"#);
    has(
        r#"holdfast_http_request_duration_seconds_count{route="/v1/reservations",method="POST"} 2"#,
    );
    has("holdfast_reservations_granted_total 1");
    has("holdfast_refused_stock_total 1");
    has("holdfast_reservations_open 1");
    has("holdfast_oversold_units 0");
    has(r#"holdfast_sink_lag_seconds{sink="erp",domain="inventory"} 0.25"#);
    has(r#"holdfast_sink_lane_depth{sink="erp",domain="inventory",priority="standard"} 2"#);
}

/// Families don't repeat, samples belong to the family before them, the end is marked.
fn check_openmetrics(text: &str) {
    assert!(text.ends_with("# EOF\n"));
    let mut family = String::new();
    let mut families = std::collections::HashSet::new();
    let mut series = std::collections::HashSet::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{family} twice");
        } else if let Some(rest) = line.strip_prefix("# ") {
            assert_eq!(rest.split(' ').nth(1), Some(family.as_str()), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(name.to_owned()), "{name} twice");
            let bare = name.split('{').next().unwrap();
            let suffix = bare.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line}"));
            assert!(
                ["", "_total", "_bucket", "_count", "_sum", "_info"].contains(&suffix),
                "{line}"
            );
        }
    }
}

#[tokio::test]
async fn the_openapi_document_has_every_route() {
    let s = Server::starting(Options::default()).await;
    let served_document = s.get("/openapi.json").await;
    served_document.is(200);
    assert_eq!(served_document.header("content-type"), Some("application/json"));
    let document: Value = serde_json::from_slice(openapi()).unwrap();
    assert_eq!(served_document.json, document);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut of_server: Vec<_> = served()
        .into_iter()
        .map(|(method, path)| (path.to_owned(), method.as_str().to_ascii_lowercase()))
        .collect();
    let mut of_document: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.filter(|k| *k != "parameters").map(move |m| (path.clone(), m.clone()))
        })
        .collect();
    of_server.sort();
    of_document.sort();
    assert_eq!(of_server, of_document);
}

#[tokio::test]
async fn the_openapi_document_is_whole() {
    let document: Value = serde_json::from_slice(openapi()).unwrap();
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for name in path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()) {
                let declared = parameters.iter().any(|p| p["name"] == name && p["in"] == "path");
                assert!(declared, "{method} {path}: {name}");
            }
        }
    }
}

fn collect_references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                into.push(reference.clone());
            }
            map.values().for_each(|value| collect_references(value, into));
        }
        Value::Array(list) => list.iter().for_each(|value| collect_references(value, into)),
        _ => {}
    }
}

#[tokio::test]
async fn the_way_in_leads_on() {
    let s = Server::start().await;
    let index = s.get("/").await;
    index.is(200);
    let text = index.text();
    let links: Vec<_> =
        text.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(links.len() >= 4);
    // Views of the page itself stand behind a `#`.
    for link in links.into_iter().filter(|link| !link.starts_with('#')) {
        s.get(link).await.is(200);
    }
}

#[tokio::test]
async fn what_is_parked_is_listed_and_released_by_hand() {
    let s = Server::with_sinks(Arc::new(Erp)).await;
    let parked = s.get("/v1/sinks/erp/parked").await;
    parked.is(200);
    let expected = json!([{"order_id": "O/1", "kind": "refund", "id": "R-1", "lsn": 64,
        "age_ms": 900, "waits_for": "settlement"}]);
    assert_eq!(parked.json["parked"], expected);
    s.get("/v1/sinks/books/parked").await.is_problem(404, "not_found");
    let release = |path: &str| {
        let call = s.call(&format!("POST /v1/sinks/{path}/release"));
        async { call.send().await }
    };
    let asked = release("erp/parked/O%2F1").await;
    asked.is(202);
    assert_eq!(asked.json, json!({"records": 1}));
    release("erp/parked/O%2F2").await.is_problem(503, "overloaded");
    release("erp/parked/O%2F3").await.is_problem(404, "not_found");
    release("books/parked/O%2F1").await.is_problem(404, "not_found");
    release("erp/parked/%20").await.is_problem(400, "malformed");
}
