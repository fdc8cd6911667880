//! `holdfast latency` draws where the time of a real server's requests goes.

use crate::cli::{Ended, Server, holdfast, post, run};
use serde_json::{Value, json};

fn latency(server: &Server, arguments: &[&str]) -> Ended {
    run(holdfast().arg("latency").args(arguments).args(["--url", &server.url]))
}

fn adjust(server: &Server, key: &str) {
    let stock = json!({"sku": "A", "location": "BER", "delta": 9, "reason": "receipt"});
    let path = format!("{}/v1/stock/adjustments", server.url);
    // A position must be there before it is adjusted; what it is answered does not matter here.
    post(&path, key, &stock);
}

#[test]
fn bars_are_drawn_by_route_and_stage_and_fit_into_eighty_columns() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    for key in ["1", "2", "3"] {
        adjust(&server, key);
    }
    let drawn = latency(&server, &[]).with(0).out;
    assert!(drawn.lines().all(|line| line.chars().count() <= 80), "{drawn}");
    let lines: Vec<&str> = drawn.lines().collect();
    let route = lines.iter().position(|line| *line == "POST /v1/stock/adjustments").unwrap();
    assert!(lines[route + 1].ends_with("p50     p99   p99.9     max"), "{drawn}");
    for (at, name) in [(2, "total"), (3, "  receive"), (4, "  decode"), (5, "  decide")] {
        let line = lines[route + at];
        assert!(line.starts_with(name) && line.contains('█') && line.ends_with('s'), "{drawn}");
    }
    assert!(drawn.contains("count: total 3 receive 3 decode 3 decide 3"), "{drawn}");
    assert!(lines.contains(&"log") && drawn.contains("  sync"), "{drawn}");

    let other = latency(&server, &["--route", "GET /v1/latency"]).with(0).out;
    assert!(other.contains("GET /v1/latency") && !other.contains("adjustments"), "{other}");
    let json: Value = serde_json::from_str(&latency(&server, &["--json"]).with(0).out).unwrap();
    let routes = json["routes"].as_array().unwrap();
    assert!(
        routes.iter().any(|r| r["route"] == "/v1/stock/adjustments" && r["total"]["count"] == 3)
    );
}

#[test]
fn watched_it_shows_what_came_since_the_look_before() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    adjust(&server, "1");
    let watched = latency(&server, &["--watch", "--every-ms", "50", "--looks", "3"]).with(0).out;
    let looks: Vec<&str> = watched.split("Z to ").collect();
    assert_eq!(looks.len(), 4, "{watched}");
    assert!(looks[1].contains("adjustments"), "{watched}");
    // Nothing but the look itself came since.
    assert!(!looks[2].contains("adjustments") && looks[2].contains("GET /v1/latency"), "{watched}");
    assert!(looks[2].contains("count: total 1 "), "{watched}");
    assert!(!watched.contains('\x1b'), "no terminal, no escapes");
}

#[test]
fn what_makes_no_sense_is_refused_and_a_server_that_is_not_there_is_told() {
    run(holdfast().args(["latency", "--looks", "2"])).with(2);
    run(holdfast().args(["latency", "--watch", "--json"])).with(2);
    let gone = run(holdfast().args(["latency", "--url", "http://127.0.0.1:9"])).with(3);
    assert!(gone.err.contains("http://127.0.0.1:9/v1/latency"), "{}", gone.err);
}
