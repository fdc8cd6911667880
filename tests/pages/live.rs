//! The live stream by itself, and the files of the pages: what they promise to any client.

use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::{Value, json};

use crate::cli::{self, Server, holdfast, runtime};

const PATIENCE: Duration = Duration::from_secs(20);

async fn ask(url: &str) -> Response {
    cli::client().get(url).send().await.expect("an answer")
}

/// The next snapshot of a stream; none at its end.
async fn next(stream: &mut Response) -> Option<Value> {
    let mut event = Vec::new();
    while !event.ends_with(b"\n\n") {
        let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await.expect("in time");
        event.extend_from_slice(&chunk.expect("a stream")?);
    }
    let text = String::from_utf8(event).unwrap();
    let data = text.strip_prefix("event: snapshot\ndata: ").unwrap_or_else(|| panic!("{text}"));
    Some(serde_json::from_str(data).unwrap())
}

async fn put_stock(url: &str) {
    let put = cli::client().put(format!("{url}/v1/stock/A/BER")).json(&json!({"on_hand": 10}));
    assert_eq!(put.send().await.unwrap().status(), 200);
}

async fn reserve(url: &str, key: &str) -> u16 {
    let post = cli::client().post(format!("{url}/v1/reservations")).header("idempotency-key", key);
    let sent = post.json(&json!({"lines": [{"sku": "A", "quantity": 4}]})).send().await.unwrap();
    sent.status().as_u16()
}

fn sum(of: &[Value], name: &str) -> u64 {
    of.iter().map(|snapshot| snapshot["counted"][name].as_u64().unwrap()).sum()
}

#[test]
fn a_snapshot_a_second_says_what_was_done_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    runtime().block_on(async {
        let mut stream = ask(&format!("{}/v1/live", server.url)).await;
        assert_eq!(stream.status(), 200);
        assert_eq!(stream.headers()["content-type"], "text/event-stream");
        assert_eq!(stream.headers()["cache-control"], "no-store");
        let first = next(&mut stream).await.unwrap();
        assert_eq!((&first["ready"], &first["interval_ms"]), (&json!(true), &Value::Null));
        assert_eq!((&first["stock"], &first["decisions"]["count"]), (&json!([]), &json!(0)));
        put_stock(&server.url).await;
        let answers = [
            reserve(&server.url, "a").await,
            reserve(&server.url, "b").await,
            reserve(&server.url, "c").await,
        ];
        assert_eq!(answers, [201, 201, 409]);
        let mut seen = vec![next(&mut stream).await.unwrap()];
        if sum(&seen, "refused_stock") == 0 {
            seen.push(next(&mut stream).await.unwrap());
        }
        let last = seen.last().unwrap();
        assert_eq!((sum(&seen, "granted"), sum(&seen, "refused_stock")), (2, 1), "{last}");
        let count = |of: &Value| of["decisions"]["count"].as_u64().unwrap();
        assert_eq!(seen.iter().map(count).sum::<u64>(), 3);
        let stock = json!([{"sku": "A", "available": 2, "held": 8, "committed": 0, "sold": 0, "on_hand": 10}]);
        assert_eq!(last["stock"], stock);
        for snapshot in &seen {
            let ms = snapshot["interval_ms"].as_u64().unwrap();
            assert!((900..5_000).contains(&ms), "{ms} ms");
            // The route's own figures are exact, its buckets add up to them.
            for route in snapshot["routes"].as_array().unwrap() {
                let buckets = route["total"]["buckets"].as_array().unwrap();
                let all: u64 = buckets.iter().map(|bucket| bucket[1].as_u64().unwrap()).sum();
                assert_eq!(json!(all), route["total"]["count"], "{route}");
            }
        }
        // Nothing happens: nothing is counted.
        let quiet = next(&mut stream).await.unwrap();
        assert_eq!(
            (&quiet["counted"]["granted"], &quiet["decisions"]["count"]),
            (&json!(0), &json!(0))
        );
    });
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn only_so_many_listen_and_a_place_is_free_again_when_one_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let server =
        Server::start_with(folder.path(), holdfast().env("HOLDFAST__SERVER__LIVE_MAX", "2"));
    let url = format!("{}/v1/live", server.url);
    runtime().block_on(async {
        let (mut one, mut two) = (ask(&url).await, ask(&url).await);
        next(&mut one).await.unwrap();
        // What the second one is shown first may have been made before it came.
        while next(&mut two).await.unwrap()["listeners"] != 2 {}
        let refused = ask(&url).await;
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["code"], "overloaded");
        assert!(problem["detail"].as_str().unwrap().contains("server.live_max"), "{problem}");
        let metrics = ask(&format!("{}/metrics", server.url)).await.text().await.unwrap();
        for line in ["holdfast_live_listeners 2", "holdfast_live_refused_total 1"] {
            assert!(metrics.lines().any(|l| l == line), "{line}");
        }
        // Both are shown the same snapshot: it is made once.
        let (mut a, mut b) = (next(&mut one).await.unwrap(), next(&mut two).await.unwrap());
        // One of them may have been shown one more meanwhile.
        for _ in 0..10 {
            if a["at"].as_str() < b["at"].as_str() {
                a = next(&mut one).await.unwrap();
            } else if b["at"].as_str() < a["at"].as_str() {
                b = next(&mut two).await.unwrap();
            }
        }
        assert_eq!(a, b);
        drop(one);
        let began = Instant::now();
        while ask(&url).await.status() != 200 {
            assert!(began.elapsed() < PATIENCE, "no place is free");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

#[test]
fn a_stream_ends_with_the_server_and_does_not_hold_it_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let runtime = runtime();
    let mut stream = runtime.block_on(ask(&format!("{}/v1/live", server.url)));
    runtime.block_on(next(&mut stream)).unwrap();
    let rest = runtime.spawn(async move { while next(&mut stream).await.is_some() {} });
    let began = Instant::now();
    assert_eq!(server.terminate().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    runtime.block_on(rest).expect("the stream has an end, and no broken one");
}

#[test]
fn files_are_kept_by_a_browser_until_they_change_and_say_what_they_may_ask() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    runtime().block_on(async {
        for (path, media) in [
            ("/", "text/html; charset=utf-8"),
            ("/pages/app.js", "text/javascript; charset=utf-8"),
            ("/pages/theme.css", "text/css; charset=utf-8"),
            ("/pages/icon.svg", "image/svg+xml"),
        ] {
            let url = format!("{}{path}", server.url);
            let file = ask(&url).await;
            let headers = file.headers().clone();
            assert_eq!(
                (file.status().as_u16(), &headers["content-type"]),
                (200, &media.parse().unwrap())
            );
            let policy = headers["content-security-policy"].to_str().unwrap();
            assert!(policy.starts_with("default-src 'self';"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            assert_eq!(headers["cache-control"], "no-cache");
            assert!(!file.bytes().await.unwrap().is_empty());
            let again = |tag: &str| cli::client().get(&url).header("if-none-match", tag).send();
            let known = again(headers["etag"].to_str().unwrap()).await.unwrap();
            assert_eq!(
                (known.status().as_u16(), known.headers()["etag"].clone()),
                (304, headers["etag"].clone())
            );
            assert!(known.bytes().await.unwrap().is_empty());
            assert_eq!(again("\"another\"").await.unwrap().status(), 200);
        }
        for none in ["/pages/none.js", "/pages/..%2Fmod.rs", "/pages/files.rs"] {
            assert_eq!(ask(&format!("{}{none}", server.url)).await.status(), 404, "{none}");
        }
        let problem = ask(&format!("{}/problems/log_full", server.url)).await;
        assert!(problem.headers().contains_key("content-security-policy"));
        assert!(!problem.text().await.unwrap().contains("<style"), "the policy would forbid it");
    });
}
