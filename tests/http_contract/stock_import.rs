//! The import: lines of NDJSON, each for itself.

use holdfast::api::Options;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::{Call, Reply, Server};

fn import(s: &Server, body: &str) -> Call {
    s.call("POST /v1/stock/import").text("application/x-ndjson", body)
}

fn line(sku: &str, on_hand: u32) -> String {
    json!({"sku": sku, "location": "BER", "on_hand": on_hand}).to_string()
}

#[tokio::test]
async fn lines_are_applied_each_for_itself_and_counted_from_one() {
    let s = Server::start().await;
    let body = [
        line("A", 1),
        "{".into(),
        String::new(),
        line("B", 2),
        json!({"sku": "C", "location": "BER", "on_hand": 1, "x": 1}).to_string(),
        json!({"sku": "D", "location": "BER"}).to_string(),
        json!({"sku": "A", "location": "BER", "on_hand": 5, "source_version": 3}).to_string(),
        json!({"sku": "A", "location": "BER", "on_hand": 9, "source_version": 3}).to_string(),
        "[\"E\",\"BER\",1]".into(),
    ]
    .join("\r\n");
    let reply = import(&s, &body).send().await;
    reply.is(200);
    assert_eq!(reply.json["applied"], 3);
    let mut refused: Vec<_> = reply.json["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["line"].as_u64().unwrap(), r["code"].as_str().unwrap().to_owned()))
        .collect();
    refused.sort();
    let want = [
        (2, "malformed"),
        (5, "malformed"),
        (6, "malformed"),
        (8, "stale_version"),
        (9, "malformed"),
    ];
    assert_eq!(refused, want.map(|(line, code)| (line, code.to_owned())));
    assert!(reply.json["refused"].to_string().contains("`on_hand`"), "the field is named");
    assert_eq!((s.available("A").await, s.available("B").await), (5, 2));
}

#[tokio::test]
async fn a_large_import_is_applied_whole() {
    let s = Server::start().await;
    let body: String = (0..3_000).map(|n| line(&format!("S{n}"), n) + "\n").collect();
    let reply = import(&s, &body).send().await;
    assert_eq!(reply.is(200).json["applied"], 3_000);
    assert_eq!(reply.json["refused"], json!([]));
    assert_eq!(s.available("S2999").await, 2_999);
}

#[tokio::test]
async fn a_line_that_is_too_long_is_refused_and_the_rest_goes_on() {
    let s = Server::start().await;
    let long = format!("{{\"sku\": \"{}\"}}", "x".repeat(100_000));
    let reply = import(&s, &[line("A", 1), long, line("B", 2)].join("\n")).send().await;
    assert_eq!(reply.is(200).json["applied"], 2);
    let refused = &reply.json["refused"][0];
    assert_eq!((&refused["line"], &refused["code"]), (&json!(2), &json!("too_large")));
}

#[tokio::test]
async fn an_import_that_is_too_large_says_what_was_applied() {
    let s = Server::with(Options { import_bytes_max: 10_000, ..Options::default() }).await;
    let body: String = (0..400).map(|n| line(&format!("S{n}"), n) + "\n").collect();
    // A body that says its length is refused before any of it is applied.
    let reply = import(&s, &body).send().await;
    reply.is_problem(413, "too_large");
    s.get("/v1/stock/S0").await.is_problem(404, "unknown_sku");
    // One that doesn't is applied as far as it goes.
    let call = s.call("POST /v1/stock/import").header("Content-Type", "application/x-ndjson");
    let mut stream = call.header("Transfer-Encoding", "chunked").begin(None).await;
    for piece in body.as_bytes().chunks(1_000) {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
    let reply = Reply::read(&mut stream).await;
    reply.is_problem(413, "too_large");
    let applied = reply.json["applied"].as_u64().unwrap();
    assert!((100..400).contains(&applied), "{reply:?}");
    assert_eq!(s.available(&format!("S{}", applied - 1)).await, applied as i64 - 1);
    s.get(&format!("/v1/stock/S{applied}")).await.is_problem(404, "unknown_sku");
}

#[tokio::test]
async fn a_line_cut_off_with_its_connection_is_not_applied() {
    let s = Server::start().await;
    let call = s.call("POST /v1/stock/import").header("Content-Type", "application/x-ndjson");
    let mut stream = call.begin(Some(10_000)).await;
    // The second line would be whole if it were the last.
    let lines = line("A", 1) + "\n" + &line("B", 1);
    stream.write_all(lines.as_bytes()).await.unwrap();
    for _ in 0..500 {
        if s.get("/v1/stock/A").await.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(stream);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(s.available("A").await, 1);
    s.get("/v1/stock/B").await.is_problem(404, "unknown_sku");
}

#[tokio::test]
async fn refused_lines_are_listed_up_to_a_limit() {
    let s = Server::with(Options { import_refused_max: 10, ..Options::default() }).await;
    let reply = import(&s, &"x\n".repeat(25)).send().await;
    reply.is(200);
    assert_eq!(reply.json["refused"].as_array().unwrap().len(), 10);
    assert_eq!(reply.json["refused_unlisted"], 15);
}

#[tokio::test]
async fn an_import_must_be_ndjson() {
    let s = Server::start().await;
    for wrong in ["application/json", "text/csv"] {
        let call = s.call("POST /v1/stock/import").text(wrong, &line("A", 1));
        call.send().await.is_problem(415, "unsupported_media_type");
    }
    let untyped = s.call("POST /v1/stock/import").bytes(line("A", 1).as_bytes());
    untyped.send().await.is_problem(415, "unsupported_media_type");
}
