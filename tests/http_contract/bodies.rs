//! What a body may and may not be.

use serde_json::{Value, json};

use crate::support::{Server, cart, payment};

const NOBODY: &str = "r000000000000000000000000";

/// Every route with a JSON body, and one that it takes in form.
fn routes() -> Vec<(String, Value)> {
    let adjust = json!({"sku": "A", "location": "BER", "delta": 1, "reason": "receipt"});
    let order = json!({"order_id": "O", "currency": "EUR",
        "lines": [{"sku": "A", "quantity": 1, "unit_price": 1}]});
    vec![
        ("PUT /v1/stock/A/BER".into(), json!({"on_hand": 1})),
        ("POST /v1/stock/adjustments".into(), adjust),
        ("POST /v1/reservations".into(), cart("A", 1)),
        ("POST /v1/reservations/batch".into(), json!({"reservations": []})),
        (format!("POST /v1/reservations/{NOBODY}/release"), json!({})),
        (format!("POST /v1/reservations/{NOBODY}/extend"), json!({"ttl_ms": 1000})),
        (format!("POST /v1/reservations/{NOBODY}/commit"), payment("A", 1)),
        (format!("PUT /v1/reservations/{NOBODY}/lines"), cart("A", 1)),
        ("POST /v1/orders".into(), order),
    ]
}

#[tokio::test]
async fn an_unknown_field_is_refused_and_named() {
    let s = Server::start().await;
    for (line, mut body) in routes() {
        body["onhand"] = json!(1);
        s.call(&line).key("k").json(&body).send().await.is_malformed("onhand");
    }
    let mut body = cart("A", 1);
    body["lines"][0]["qty"] = json!(1);
    s.post("/v1/reservations", "k", body).await.is_malformed("lines[0].qty");
    let body = json!({"reservations": [{"idempotency_key": "b", "lines": [], "x": 1}]});
    s.post("/v1/reservations/batch", "k", body).await.is_malformed("reservations[0].x");
}

#[tokio::test]
async fn a_missing_field_is_named() {
    let s = Server::start().await;
    for (line, body) in routes() {
        for field in body.as_object().unwrap().keys() {
            let mut without = body.clone();
            without.as_object_mut().unwrap().remove(field);
            s.call(&line).key("k").json(&without).send().await.is_malformed(field);
        }
    }
    let body = json!({"lines": [{"sku": "A"}]});
    s.post("/v1/reservations", "k", body).await.is_malformed("lines[0].quantity");
}

#[tokio::test]
async fn a_field_of_the_wrong_type_is_named() {
    let s = Server::start().await;
    for (line, body) in routes() {
        for field in body.as_object().unwrap().keys() {
            let mut wrong = body.clone();
            wrong[field] = json!({"a": 1});
            s.call(&line).key("k").json(&wrong).send().await.is_malformed(field);
        }
    }
}

#[tokio::test]
async fn quantities_are_integers_from_one_to_a_million() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    for wrong in ["0", "-1", "1000001", "1.5", "1.0", "1e3", "\"1\"", "null", "true", "99999999999"]
    {
        let body = format!(r#"{{"lines": [{{"sku": "A", "quantity": {wrong}}}]}}"#);
        let call = s.call("POST /v1/reservations").key("k").text("application/json", &body);
        call.send().await.is_malformed("lines[0].quantity");
    }
    s.post("/v1/reservations", "k", cart("A", 1_000_000))
        .await
        .is_problem(409, "insufficient_stock");
    s.put("/v1/stock/A/BER", json!({"on_hand": 1_000_000_001})).await.is_malformed("on_hand");
}

#[tokio::test]
async fn a_repeated_field_is_refused() {
    let s = Server::start().await;
    let twice = r#"{"on_hand": 1, "on_hand": 2}"#;
    let call = s.call("PUT /v1/stock/A/BER").text("application/json", twice);
    call.send().await.is_malformed("on_hand");
    let twice = r#"{"lines": [{"sku": "A", "quantity": 1, "sku": "B"}]}"#;
    let call = s.call("POST /v1/reservations").key("k").text("application/json", twice);
    call.send().await.is_malformed("lines[0].sku");
}

#[tokio::test]
async fn what_is_not_a_json_object_is_refused() {
    let s = Server::start().await;
    let deep = "[".repeat(100_000);
    for body in ["", " ", "{", "{]", "[]", "[[]]", "7", "null", "\"a\"", "{}x", "\u{feff}{}", &deep]
    {
        for (line, _) in routes() {
            // Its body may be left out, and `null` says the same.
            if matches!(body.trim(), "" | "null") && line.ends_with("/release") {
                continue;
            }
            let reply = s.call(&line).key("k").text("application/json", body).send().await;
            // An object that lacks something is named by what it lacks; an empty release is whole.
            reply.is_problem(400, "malformed");
        }
    }
    let call = s.call("PUT /v1/stock/A/BER").header("Content-Type", "application/json");
    call.bytes(b"{\"on_hand\": \xff}").send().await.is_malformed("body");
}

#[tokio::test]
async fn the_body_must_be_json_in_utf_8() {
    let s = Server::start().await;
    for (line, body) in routes() {
        for wrong in [
            "text/plain",
            "application/xml",
            "application/x-www-form-urlencoded",
            "json",
            "application/json; charset=latin1",
            "application/x-ndjson",
        ] {
            let reply = s.call(&line).key("k").text(wrong, &body.to_string()).send().await;
            reply.is_problem(415, "unsupported_media_type");
        }
        let untyped = s.call(&line).key("k").bytes(body.to_string().as_bytes()).send().await;
        untyped.is_problem(415, "unsupported_media_type");
        let call = s.call(&line).key("k").json(&body).header("Content-Encoding", "gzip");
        call.send().await.is_problem(415, "unsupported_media_type");
    }
    for right in [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON;charset=\"UTF-8\"",
    ] {
        let call = s.call("PUT /v1/stock/A/BER").text(right, "{\"on_hand\": 1}");
        call.send().await.is(200);
    }
}

#[tokio::test]
async fn what_is_malformed_changes_nothing() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let before = s.get("/v1/status").await.json["appended"].clone();
    for (line, mut body) in routes() {
        body["x"] = json!(1);
        s.call(&line).key("k").json(&body).send().await.is(400);
    }
    assert_eq!(s.available("A").await, 5);
    let after = s.get("/v1/status").await.json["appended"].clone();
    // An idle log may write its mark, and nothing else.
    assert!(after.as_u64().unwrap() - before.as_u64().unwrap() <= 256, "{before} {after}");
}
