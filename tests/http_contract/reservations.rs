//! Reservations and their lives.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Server, cart, payment};

#[tokio::test]
async fn a_reservation_holds_all_its_lines() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    s.stock("B", 5).await;
    let body = json!({"lines": [
        {"sku": "B", "quantity": 1, "location": "BER"},
        {"sku": "A", "quantity": 2},
        {"sku": "A", "quantity": 1, "location": "BER"}],
        "customer": "c-42", "order_id": "O-1", "ttl_ms": 600_000});
    let held = s.post("/v1/reservations", "k", body).await;
    held.is(201);
    assert_eq!(held.json["state"], "held");
    assert!(held.json["lsn"].is_u64() && held.json["expires_at"].is_string());
    let mut lines = held.json["lines"].as_array().unwrap().clone();
    lines.sort_by_key(Value::to_string);
    let want = [
        json!({"sku": "A", "location": "BER", "quantity": 3}),
        json!({"sku": "B", "location": "BER", "quantity": 1}),
    ];
    let mut want = want.to_vec();
    want.sort_by_key(Value::to_string);
    assert_eq!(lines, want, "lines of the same SKU and location are summed");
    let read = s.get(&format!("/v1/reservations/{}", held.json["id"].as_str().unwrap())).await;
    assert_eq!(read.is(200).json["lines"], held.json["lines"]);
}

#[tokio::test]
async fn all_lines_or_none() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    s.stock("B", 1).await;
    let body = json!({"lines": [{"sku": "A", "quantity": 1},
        {"sku": "B", "quantity": 2, "location": "BER"}]});
    let short = s.post("/v1/reservations", "k", body).await;
    short.is_problem(409, "insufficient_stock");
    let want = json!([{"sku": "B", "location": "BER", "requested": 2, "available": 1}]);
    assert_eq!(short.json["lines"], want);
    assert_eq!((s.available("A").await, s.available("B").await), (5, 1));
}

#[tokio::test]
async fn a_line_without_a_location_is_sourced_in_order_and_split_if_it_must_be() {
    let s = Server::start().await;
    s.put("/v1/stock/A/BER", json!({"on_hand": 2})).await.is(200);
    s.put("/v1/stock/A/HAM", json!({"on_hand": 4})).await.is(200);
    let places = |reply: &crate::support::Reply| -> Vec<(String, u64)> {
        let lines = reply.is(201).json["lines"].as_array().unwrap().clone();
        let place = |l: &Value| {
            (l["location"].as_str().unwrap().to_owned(), l["quantity"].as_u64().unwrap())
        };
        let mut places: Vec<_> = lines.iter().map(place).collect();
        places.sort();
        places
    };
    // The first location of the order that has all of it.
    let whole = s.post("/v1/reservations", "k1", cart("A", 3)).await;
    assert_eq!(places(&whole), [("HAM".to_owned(), 3)]);
    // None has all three, so only a line that may be split is granted.
    let unsplit = json!({"lines": [{"sku": "A", "quantity": 3, "split": false}]});
    s.post("/v1/reservations", "k2", unsplit).await.is_problem(409, "insufficient_stock");
    let split = s.post("/v1/reservations", "k3", cart("A", 3)).await;
    assert_eq!(places(&split), [("BER".to_owned(), 2), ("HAM".to_owned(), 1)]);
}

#[tokio::test]
async fn a_cart_has_limits() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    s.post("/v1/reservations", "k", json!({"lines": []})).await.is_malformed("lines");
    let line = json!({"sku": "A", "quantity": 1});
    let many = json!({"lines": vec![line; 129]});
    s.post("/v1/reservations", "k", many).await.is_malformed("lines");
    for ttl in [json!(0), json!(86_400_001_u64), json!(u64::MAX), json!(-1), json!("1")] {
        let mut body = cart("A", 1);
        body["ttl_ms"] = ttl;
        s.post("/v1/reservations", "k", body).await.is_malformed("ttl_ms");
    }
}

#[tokio::test]
async fn a_batch_decides_each_alone_in_order() {
    let s = Server::start().await;
    s.stock("A", 3).await;
    s.hold("k1", "A", 1).await;
    let item = |key: &str, sku: &str, quantity: i64| {
        let mut item = cart(sku, quantity);
        item["idempotency_key"] = json!(key);
        item
    };
    let batch = json!({"reservations": [item("k1", "A", 1), item("k2", "A", 1), item("k3", "A", 9),
        item("k4", "NONE", 1), item("k1", "A", 2), item("k2", "A", 1), item("k5", "A", 1)]});
    let reply = s.call("POST /v1/reservations/batch").json(&batch).send().await;
    let results = reply.is(200).json["results"].as_array().unwrap().clone();
    let statuses: Vec<_> = results.iter().map(|r| r["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 201, 409, 404, 422, 201, 201]);
    assert_eq!(results[0]["idempotent_replayed"], true);
    assert_eq!(results[1]["id"], results[5]["id"]);
    assert_eq!(
        (&results[1]["state"], &results[1]["idempotent_replayed"]),
        (&json!("held"), &Value::Null)
    );
    assert_eq!(results[2]["code"], "insufficient_stock");
    assert_eq!(results[2]["lines"][0]["requested"], 9);
    assert_eq!(results[3]["code"], "unknown_sku");
    assert_eq!(results[4]["code"], "idempotency_key_reused");
    assert_eq!(s.available("A").await, 0);
}

#[tokio::test]
async fn a_batch_has_at_most_a_thousand() {
    let s = Server::start().await;
    s.stock("A", 2_000).await;
    let batch = |n: usize| {
        let item = |i: usize| json!({"idempotency_key": format!("k{i}"), "lines": [{"sku": "A", "quantity": 1}]});
        json!({"reservations": (0..n).map(item).collect::<Vec<_>>()})
    };
    let reply = s.call("POST /v1/reservations/batch").json(&batch(1_001)).send().await;
    reply.is_malformed("reservations");
    assert_eq!(s.available("A").await, 2_000);
    let reply = s.call("POST /v1/reservations/batch").json(&batch(1_000)).send().await;
    let results = reply.is(200).json["results"].as_array().unwrap().clone();
    assert_eq!(results.iter().filter(|r| r["status"] == 201).count(), 1_000);
    assert_eq!(s.available("A").await, 1_000);
}

#[tokio::test]
async fn reservations_are_listed_in_pages() {
    let s = Server::start().await;
    s.stock("A", 50).await;
    for n in 0..7 {
        let mut body = cart("A", 1);
        body["customer"] = json!(if n % 2 == 0 { "even" } else { "odd" });
        body["order_id"] = json!(format!("O-{n}"));
        s.post("/v1/reservations", &format!("k{n}"), body).await.is(201);
    }
    let mut seen = Vec::new();
    let mut target = "/v1/reservations?customer=even&limit=3".to_owned();
    loop {
        let page = s.get(&target).await;
        let list = page.is(200).json["reservations"].as_array().unwrap().clone();
        assert!(list.len() <= 3);
        seen.extend(list.iter().map(|r| r["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page.json["next_cursor"].as_str() else { break };
        target = format!("/v1/reservations?customer=even&limit=3&cursor={cursor}");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4);
    let of_order = s.get("/v1/reservations?order_id=O-3").await;
    assert_eq!(of_order.is(200).json["reservations"].as_array().unwrap().len(), 1);
    let none = s.get("/v1/reservations?order_id=O-99").await;
    assert_eq!(none.is(200).json["reservations"], json!([]));
}

#[tokio::test]
async fn a_release_without_a_body_gives_all_back() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    for (n, body) in [None, Some("{}"), Some(r#"{"lines": []}"#)].into_iter().enumerate() {
        let id = s.hold(&format!("h{n}"), "A", 2).await;
        let call = s.call(&format!("POST /v1/reservations/{id}/release")).key(&format!("r{n}"));
        let call = match body {
            Some(body) => call.text("application/json", body),
            None => call,
        };
        assert_eq!(call.send().await.is(200).json["state"], "released");
        assert_eq!(s.available("A").await, 5);
    }
}

#[tokio::test]
async fn a_release_in_part_keeps_the_rest() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let id = s.hold("k", "A", 4).await;
    let target = format!("/v1/reservations/{id}/release");
    let part = json!({"lines": [{"sku": "A", "quantity": 1}]});
    let reply = s.post(&target, "r1", part).await;
    assert_eq!(
        (&reply.is(200).json["state"], &reply.json["lines"][0]["quantity"]),
        (&json!("held"), &json!(3))
    );
    assert_eq!(s.available("A").await, 2);
    let too_much = json!({"lines": [{"sku": "A", "quantity": 9}]});
    assert!((400..500).contains(&s.post(&target, "r2", too_much).await.status));
    assert_eq!(s.available("A").await, 2);
}

#[tokio::test]
async fn an_extension_counts_from_now() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let mut body = cart("A", 1);
    body["ttl_ms"] = json!(60_000);
    let held = s.post("/v1/reservations", "k", body).await;
    let id = held.is(201).json["id"].as_str().unwrap().to_owned();
    let target = format!("/v1/reservations/{id}/extend");
    let longer = s.post(&target, "e1", json!({"ttl_ms": 3_600_000})).await;
    assert!(longer.is(200).json["expires_at"].as_str() > held.json["expires_at"].as_str());
    s.post(&target, "e2", json!({"ttl_ms": 0})).await.is_malformed("ttl_ms");
    s.post(&target, "e2", json!({"ttl_ms": 86_400_001})).await.is_malformed("ttl_ms");
}

#[tokio::test]
async fn a_cart_is_changed_as_one_decision() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    s.stock("B", 5).await;
    let id = s.hold("k", "A", 4).await;
    let target = format!("/v1/reservations/{id}/lines");
    let lines = |a: i64, b: i64| json!({"lines": [{"sku": "A", "quantity": a}, {"sku": "B", "quantity": b}]});
    s.put(&target, lines(1, 2)).await.is(200);
    assert_eq!((s.available("A").await, s.available("B").await), (4, 3));
    s.put(&target, lines(5, 6)).await.is_problem(409, "insufficient_stock");
    assert_eq!((s.available("A").await, s.available("B").await), (4, 3));
}

#[tokio::test]
async fn an_expired_reservation_gives_back_and_may_be_revived() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let mut body = cart("A", 5);
    body["ttl_ms"] = json!(50);
    let held = s.post("/v1/reservations", "k", body).await;
    let id = held.is(201).json["id"].as_str().unwrap().to_owned();
    for _ in 0..500 {
        if s.available("A").await == 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let target = format!("/v1/reservations/{id}");
    assert_eq!(s.get(&target).await.json["state"], "expired");
    let mut order = payment("A", 100);
    order["order_id"] = json!("O");
    let late = s.post(&format!("{target}/commit"), "c1", order.clone()).await;
    assert_eq!(late.is_problem(409, "wrong_state").json["state"], "expired");
    order["revive"] = json!(true);
    let revived = s.post(&format!("{target}/commit"), "c2", order).await;
    assert_eq!(revived.is(200).json["state"], "committed");
    assert_eq!(s.available("A").await, 0);
}

#[tokio::test]
async fn what_is_no_longer_held_says_what_it_is() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let id = s.hold("k", "A", 1).await;
    let target = format!("/v1/reservations/{id}");
    s.post(&format!("{target}/release"), "r1", json!({})).await.is(200);
    // The same transition again is not an error, whatever its key.
    s.post(&format!("{target}/release"), "r2", json!({})).await.is(200);
    let mut order = payment("A", 100);
    order["order_id"] = json!("O");
    for (action, body) in [("extend", json!({"ttl_ms": 1000})), ("commit", order)] {
        let reply = s.post(&format!("{target}/{action}"), action, body).await;
        assert_eq!(reply.is_problem(409, "wrong_state").json["state"], "released");
    }
    let reply = s.put(&format!("{target}/lines"), cart("A", 2)).await;
    assert_eq!(reply.is_problem(409, "wrong_state").json["state"], "released");
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_a_whole_decision() {
    let s = Server::start().await;
    s.stock("A", 100).await;
    for n in 0..20 {
        let call = s.call("POST /v1/reservations").key(&format!("k{n}")).json(&cart("A", 1));
        let body = cart("A", 1).to_string();
        let mut stream = call.begin(Some(body.len())).await;
        tokio::io::AsyncWriteExt::write_all(&mut stream, body.as_bytes()).await.unwrap();
        drop(stream);
    }
    // Whether it was decided before or only now, each holds one, once.
    for n in 0..20 {
        s.post("/v1/reservations", &format!("k{n}"), cart("A", 1)).await.is(201);
    }
    assert_eq!(s.available("A").await, 80);
}
