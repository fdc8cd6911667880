//! The idempotency key: needed, remembered, of one thing only.

use serde_json::json;

use crate::support::{Server, cart, payment};

const NOBODY: &str = "r000000000000000000000000";

#[tokio::test]
async fn every_post_with_an_effect_needs_a_key() {
    let s = Server::start().await;
    for target in [
        "/v1/stock/adjustments".to_owned(),
        "/v1/reservations".to_owned(),
        "/v1/orders".to_owned(),
        format!("/v1/reservations/{NOBODY}/release"),
        format!("/v1/reservations/{NOBODY}/extend"),
        format!("/v1/reservations/{NOBODY}/commit"),
    ] {
        let call = s.call(&format!("POST {target}")).json(&json!({}));
        call.send().await.is_problem(400, "idempotency_key_missing");
    }
    s.call("POST /v1/reservations/batch").json(&json!({"reservations": []})).send().await.is(200);
    let import = s.call("POST /v1/stock/import").text("application/x-ndjson", "\n");
    import.send().await.is(200);
}

#[tokio::test]
async fn a_key_is_one_to_255_visible_ascii_characters() {
    let s = Server::start().await;
    s.stock("A", 50).await;
    for good in ["k", "\"k\"", "~!#", &"x".repeat(255)] {
        s.post("/v1/reservations", good, cart("A", 1)).await.is(201);
    }
    for bad in ["", "a b", "ä", &"x".repeat(256)] {
        s.post("/v1/reservations", bad, cart("A", 1)).await.is_malformed("Idempotency-Key");
    }
    let twice = s.call("POST /v1/reservations").key("a").key("b").json(&cart("A", 1));
    twice.send().await.is_malformed("Idempotency-Key");
    assert_eq!(s.available("A").await, 46);
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_status_included() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let first = s.post("/v1/reservations", "k", cart("A", 2)).await;
    first.is(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = s.post("/v1/reservations", "k", cart("A", 2)).await;
    again.is(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.json, first.json);
    assert_eq!(s.available("A").await, 3);
}

#[tokio::test]
async fn the_fingerprint_is_of_the_parsed_body() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let bodies = [
        r#"{"lines":[{"sku":"A","quantity":1}],"ttl_ms":5000}"#,
        r#" { "ttl_ms" : 5000 , "lines" : [ { "quantity" : 1 , "sku" : "\u0041" } ] } "#,
    ];
    let mut ids = Vec::new();
    for body in bodies {
        let call = s.call("POST /v1/reservations").key("k").text("application/json", body);
        let reply = call.send().await;
        reply.is(201);
        ids.push(reply.json["id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(s.available("A").await, 4);
}

#[tokio::test]
async fn a_repeat_says_what_became_of_the_thing() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let id = s.hold("k", "A", 2).await;
    s.call(&format!("POST /v1/reservations/{id}/release")).key("k2").send().await.is(200);
    let again = s.post("/v1/reservations", "k", cart("A", 2)).await;
    again.is(201);
    assert_eq!(
        (&again.json["state"], &again.json["current_state"]),
        (&json!("held"), &json!("released"))
    );
}

#[tokio::test]
async fn concurrent_repeats_reserve_once() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let calls = (0..16).map(|_| {
        let call = s.call("POST /v1/reservations").key("k").json(&cart("A", 2));
        tokio::spawn(call.send())
    });
    let mut ids = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        let reply = call.await.unwrap();
        reply.is(201);
        ids.push(reply.json["id"].as_str().unwrap().to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(s.available("A").await, 3);
}

#[tokio::test]
async fn a_repeat_after_a_restart_gets_the_first_answer() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let first = s.post("/v1/reservations", "k", cart("A", 2)).await;
    let s = s.restarted().await;
    let again = s.post("/v1/reservations", "k", cart("A", 2)).await;
    again.is(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.json, first.json);
    assert_eq!(s.available("A").await, 3);
}

#[tokio::test]
async fn a_key_of_another_body_or_route_is_refused() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let id = s.hold("k", "A", 1).await;
    let reused = |reply: &crate::support::Reply| {
        reply.is_problem(422, "idempotency_key_reused");
    };
    reused(&s.post("/v1/reservations", "k", cart("A", 2)).await);
    reused(&s.post(&format!("/v1/reservations/{id}/release"), "k", json!({})).await);
    let adjust = json!({"sku": "A", "location": "BER", "delta": 1, "reason": "receipt"});
    reused(&s.post("/v1/stock/adjustments", "k", adjust).await);
    let mut order = payment("A", 1);
    order["order_id"] = json!("O");
    reused(&s.post(&format!("/v1/reservations/{id}/commit"), "k", order).await);
    assert_eq!(s.available("A").await, 4);
    assert_eq!(s.get(&format!("/v1/reservations/{id}")).await.json["state"], "held");
}

#[tokio::test]
async fn a_refusal_is_not_remembered() {
    let s = Server::start().await;
    s.stock("A", 1).await;
    s.post("/v1/reservations", "k", cart("A", 2)).await.is_problem(409, "insufficient_stock");
    s.stock("A", 2).await;
    let granted = s.post("/v1/reservations", "k", cart("A", 2)).await;
    granted.is(201);
    assert_eq!(granted.header("idempotent-replayed"), None);
}

#[tokio::test]
async fn an_adjustment_is_done_once() {
    let s = Server::start().await;
    s.stock("A", 1).await;
    let adjust = json!({"sku": "A", "location": "BER", "delta": 4, "reason": "receipt"});
    let first = s.post("/v1/stock/adjustments", "k", adjust.clone()).await;
    first.is(201);
    let again = s.post("/v1/stock/adjustments", "k", adjust).await;
    again.is(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(s.available("A").await, 5);
}
