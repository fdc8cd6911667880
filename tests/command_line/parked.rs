//! `holdfast parked`: what waits at a real server is listed, released, retried and discarded by hand.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::cli::{Ended, Server, get, holdfast, post, run};
use holdfast::model::signature::Signer;
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A server with a hook, and with books that wait for a shipment; nobody listens where they go.
fn start(dir: &Path) -> Server {
    let config = dir.join("shop.toml");
    let toml = format!(
        "[[partners]]\nname = \"psp\"\n[partners.hook]\nsecret = \"{SECRET}\"\n\
         [[sinks]]\nname = \"books\"\ndomain = \"finance\"\nurl = \"http://127.0.0.1:9/\"\n\
         window_ms_max = 50\nrecognition = \"shipment\"\n"
    );
    fs::write(&config, toml).unwrap();
    let server = Server::start_with(&dir.join("data"), holdfast().env("HOLDFAST_CONFIG", &config));
    let stock = json!({"sku": "A", "location": "BER", "delta": 9, "reason": "receipt"});
    let set = r#"{"on_hand": 1}"#.to_owned();
    crate::cli::runtime().block_on(async {
        let put = crate::cli::client().put(format!("{}/v1/stock/A/BER", server.url));
        let put = put.header("content-type", "application/json").body(set).send().await.unwrap();
        assert_eq!(put.status(), 200);
    });
    assert_eq!(post(&format!("{}/v1/stock/adjustments", server.url), "stock", &stock).0, 201);
    server
}

/// A settlement by the hook.
fn settle(server: &Server, order: &str, id: &str, amount: i64) -> u16 {
    let body = json!({"type": "settlement", "data": {"order_id": order, "settlement_id": id,
        "currency": "EUR", "amount": amount}})
    .to_string();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let signature = Signer::new(SECRET).unwrap().sign(id, at, body.as_bytes());
    crate::cli::runtime().block_on(async {
        let post = crate::cli::client().post(format!("{}/v1/hooks/psp", server.url));
        let post = post.header("webhook-id", id).header("webhook-timestamp", at.to_string());
        let post = post.header("webhook-signature", signature).body(body);
        let sent = post.header("content-type", "application/json").send().await.unwrap();
        sent.status().as_u16()
    })
}

fn place(server: &Server, order: &str) {
    let body = json!({"order_id": order, "currency": "EUR",
        "lines": [{"sku": "A", "quantity": 1, "unit_price": 1000}]});
    assert_eq!(post(&format!("{}/v1/orders", server.url), order, &body).0, 201);
}

fn parked(server: &Server, arguments: &[&str]) -> Ended {
    run(holdfast().arg("parked").args(arguments).args(["--url", &server.url]))
}

fn listed(server: &Server) -> Value {
    serde_json::from_str(&parked(server, &["list", "--json"]).with(0).out).unwrap()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn reports_before_their_order_are_listed_retried_and_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    assert_eq!(parked(&server, &["list"]).with(0).out, "");
    assert_eq!(settle(&server, "O-1", "P-1", 5_000), 202);
    assert_eq!(settle(&server, "O-2", "P-2", 1_000), 202);
    let list = parked(&server, &["list"]).with(0).out;
    let lines: Vec<_> = list.lines().collect();
    assert!(lines[0].contains("O-1  settlement P-1  psp, parked, "), "{list}");
    assert!(lines[1].contains("O-2  settlement P-2  psp, parked, "), "{list}");
    place(&server, "O-1");
    until("it is refused", || listed(&server)["parked_events"][0]["state"] == "refused");
    let id = listed(&server)["parked_events"][0]["id"].to_string();
    let list = parked(&server, &["list"]).with(0).out;
    assert!(
        list.contains("refused") && list.contains("wrong_state: more than the order"),
        "{list}"
    );
    let refused = parked(&server, &["retry", &id]).with(3).err;
    assert!(refused.contains("409") && refused.contains("wrong_state"), "{refused}");
    let discarded = parked(&server, &["discard", &id, "--reason", "paid twice"]).with(0).out;
    assert!(discarded.contains("\"event_id\": \"P-1\""), "{discarded}");
    let gone = parked(&server, &["discard", &id]).with(3).err;
    assert!(gone.contains("404"), "{gone}");
    let early = listed(&server)["parked_events"][0]["id"].to_string();
    assert!(parked(&server, &["retry", &early]).with(3).err.contains("unknown_order"));
    let data = dir.path().join("data");
    server.terminate();
    let dump = run(holdfast().args(["wal", "dump", "--kind", "unpark", "--data"]).arg(&data));
    let dump = dump.with(0).out;
    assert!(dump.contains("\"refused\"") && dump.contains("paid twice"), "{dump}");
    let dump = run(holdfast().args(["wal", "dump", "--kind", "park", "--data"]).arg(&data));
    assert!(dump.with(0).out.contains("\"settlement_id\":\"P-2\""));
}

#[test]
fn what_a_sink_holds_back_is_listed_and_released() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    place(&server, "O-1");
    assert_eq!(settle(&server, "O-1", "P-1", 1_000), 201);
    let held = |server: &Server| listed(server)["sinks"][0]["parked"].clone();
    until("it is held back", || held(&server).as_array().is_some_and(|held| held.len() == 1));
    let list = parked(&server, &["list", "--sink", "books"]).with(0).out;
    assert!(list.contains("O-1  settlement P-1  books, waits for recognition, "), "{list}");
    let release = |order: &str| parked(&server, &["release", "--sink", "books", order]);
    assert!(release("O-2").with(3).err.contains("404"));
    assert!(release("O-1").with(0).out.contains("\"records\": 1"));
    until("it is released", || get(&format!("{}/v1/sinks", server.url))["sinks"][0]["parked"] == 0);
    assert_eq!(parked(&server, &["list"]).with(0).out, "");
    assert!(parked(&server, &["list", "--sink", "nobody"]).with(3).err.contains("404"));
}
