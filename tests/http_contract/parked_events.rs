//! Hooks' messages about orders that are not there yet: parked with 202, visible, and happened once the
//! order is there; refused ones wait for a person.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    hooks::{place, send, server, shipment},
    support::Server,
};

/// Waits until no parked event waits for its order.
pub async fn until_none_waits(s: &Server) {
    let began = Instant::now();
    while s.get("/v1/status").await.json["parked_events"] != 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "still parked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn parked(s: &Server, query: &str) -> Vec<Value> {
    let list = s.get(&format!("/v1/parked-events{query}")).await;
    list.is(200).json["parked_events"].as_array().unwrap().clone()
}

fn settlement(id: &str, amount: i64) -> Value {
    json!({"type": "settlement", "data": {"order_id": "O-1", "settlement_id": id, "currency": "EUR",
        "amount": amount}})
}

#[tokio::test]
async fn what_comes_before_its_order_is_parked_and_happens_once_the_order_is_there() {
    let s = server().await;
    let early = send(&s, "msg-1", shipment("S-1", 2)).await;
    let said = &early.is(202).json;
    assert_eq!(early.header("idempotent-replayed"), None);
    for (field, value) in [
        ("state", "parked"),
        ("partner", "wms"),
        ("order_id", "O-1"),
        ("kind", "shipment"),
        ("event_id", "S-1"),
    ] {
        assert_eq!(said[field], value, "{said}");
    }
    let again = send(&s, "msg-1", shipment("S-1", 2)).await;
    assert_eq!((again.is(202).header("idempotent-replayed"), &again.json), (Some("true"), said));
    send(&s, "msg-1", shipment("S-1", 1)).await.is_problem(422, "idempotency_key_reused");
    send(&s, "msg-2", shipment("S-1", 1)).await.is_problem(422, "content_mismatch");
    let list = parked(&s, "").await;
    assert_eq!((list.len(), &list[0]["id"]), (1, &said["id"]));
    assert!(list[0]["age_ms"].is_u64(), "{list:?}");
    let one = s.get(&format!("/v1/parked-events/{}", said["id"])).await;
    assert_eq!(one.is(200).json["data"]["shipment"]["carrier"], "DHL");
    let metrics = s.get("/metrics").await.text();
    for line in ["holdfast_parked_events 1", "holdfast_events_parked_total 1"] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
    assert!(metrics.contains("holdfast_parked_events_age_seconds "), "{metrics}");
    // The route itself parks nothing.
    let body = json!({"shipment_id": "S-9", "lines": [{"sku": "A", "quantity": 1}]});
    s.post("/v1/orders/O-1/shipments", "k", body).await.is_problem(404, "unknown_order");

    place(&s, "O-1").await;
    until_none_waits(&s).await;
    assert_eq!(s.get("/v1/stock/A").await.json["on_hand"], 8);
    assert!(parked(&s, "").await.is_empty());
    let after = send(&s, "msg-1", shipment("S-1", 2)).await;
    assert_eq!(after.is(202).json["current_state"], "committed");
    assert_eq!(send(&s, "msg-3", shipment("S-1", 2)).await.is(200).json["kind"], "shipment");
    assert_eq!(s.get("/v1/stock/A").await.json["on_hand"], 8, "it left once");
}

#[tokio::test]
async fn what_is_parked_is_there_after_a_restart() {
    let s = server().await;
    let first = send(&s, "msg-1", shipment("S-1", 2)).await;
    let s = s.restarted().await;
    let list = parked(&s, "").await;
    assert_eq!((list.len(), &list[0]["id"]), (1, &first.is(202).json["id"]));
    place(&s, "O-1").await;
    until_none_waits(&s).await;
    assert_eq!(s.get("/v1/stock/A").await.json["on_hand"], 8);
}

#[tokio::test]
async fn what_the_order_would_not_have_waits_for_a_person() {
    let s = server().await;
    send(&s, "msg-1", settlement("P-1", 999_999)).await.is(202);
    send(&s, "msg-2", shipment("S-1", 4)).await.is(202);
    assert!(parked(&s, "?state=refused").await.is_empty());
    place(&s, "O-1").await;
    until_none_waits(&s).await;
    let list = parked(&s, "?state=refused&order_id=O-1").await;
    let codes: Vec<_> = list.iter().map(|p| p["refusal"]["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["wrong_state", "wrong_state"], "{list:?}");
    let status = s.get("/v1/status").await.json;
    assert_eq!(status["parked_events_refused"], 2, "{status}");
    let of = |n: usize, then: &str| format!("/v1/parked-events/{}{then}", list[n]["id"]);
    let retry = s.call(&format!("POST {}", of(0, "/retry"))).send().await;
    assert_eq!(retry.is_problem(409, "wrong_state").json["state"], "committed");
    let discard = s.call(&format!("DELETE {}", of(0, "?reason=paid%20twice"))).send().await;
    assert_eq!(discard.is(200).json["event_id"], "P-1");
    let again = s.call(&format!("DELETE {}", of(0, ""))).send().await;
    again.is_problem(404, "not_found");
    s.call(&format!("POST {}", of(0, "/retry"))).send().await.is_problem(404, "not_found");
    s.get(&of(0, "")).await.is_problem(404, "not_found");
    let left = parked(&s, "").await;
    assert_eq!((left.len(), &left[0]["event_id"]), (1, &json!("S-1")));
}

#[tokio::test]
async fn a_list_has_pages_and_its_parameters_are_checked() {
    let s = server().await;
    for n in 0..5 {
        send(&s, &format!("msg-{n}"), settlement(&format!("P-{n}"), 1)).await.is(202);
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = s.get(&format!("/v1/parked-events?limit=2{after}")).await;
        let page = &page.is(200).json;
        let events = page["parked_events"].as_array().unwrap();
        assert!((1..=2).contains(&events.len()));
        seen.extend(events.iter().map(|p| p["event_id"].as_str().unwrap().to_owned()));
        match page["next_after"].as_u64() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["P-0", "P-1", "P-2", "P-3", "P-4"]);
    for (query, field) in [
        ("?limit=0", "limit"),
        ("?limit=x", "limit"),
        ("?state=lost", "state"),
        ("?after=-1", "after"),
        ("?after=%2B1", "after"),
        ("?order_id=", "order_id"),
        ("?page=1", "page"),
        ("/x", "id"),
        ("/99999999999999999999999", "id"),
    ] {
        s.get(&format!("/v1/parked-events{query}")).await.is_malformed(field);
    }
    let long = "x".repeat(257);
    let call = s.call(&format!("DELETE /v1/parked-events/8?reason={long}"));
    call.send().await.is_malformed("reason");
    s.get("/v1/parked-events/8").await.is_problem(404, "not_found");
}
