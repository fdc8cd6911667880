//! Positions: set, adjusted, read; limits per customer.

use serde_json::{Value, json};

use crate::support::{Server, cart};

#[tokio::test]
async fn setting_a_position_answers_with_it() {
    let s = Server::start().await;
    let body = json!({"on_hand": 100, "safety_stock": 10, "backorder_limit": 5,
        "per_customer_limit": 2, "source_version": 7});
    let set = s.put("/v1/stock/A/BER", body).await;
    set.is(200);
    for (field, value) in [
        ("sku", json!("A")),
        ("location", json!("BER")),
        ("available", json!(95)),
        ("on_hand", json!(100)),
        ("held", json!(0)),
        ("committed", json!(0)),
        ("safety_stock", json!(10)),
        ("backorder_limit", json!(5)),
        ("per_customer_limit", json!(2)),
    ] {
        assert_eq!(set.json[field], value, "{field}");
    }
    assert!(set.json["lsn"].is_u64());
    // What is optional falls back, but for the limit, which belongs to the SKU.
    let set = s.put("/v1/stock/A/BER", json!({"on_hand": 100})).await;
    assert_eq!((&set.json["available"], &set.json["per_customer_limit"]), (&json!(100), &json!(2)));
    let set = s.put("/v1/stock/A/HAM", json!({"on_hand": 1, "per_customer_limit": null})).await;
    assert_eq!(set.json["per_customer_limit"], Value::Null);
    assert_eq!(s.get("/v1/stock/A").await.json["per_customer_limit"], Value::Null);
}

#[tokio::test]
async fn a_source_version_must_rise() {
    let s = Server::start().await;
    let set = |version: u64, on_hand: u32| {
        s.put("/v1/stock/A/BER", json!({"on_hand": on_hand, "source_version": version}))
    };
    set(7, 1).await.is(200);
    for stale in [7, 6, 0] {
        let reply = set(stale, 9).await;
        assert_eq!(reply.is_problem(409, "stale_version").json["last_source_version"], 7);
    }
    assert_eq!(s.available("A").await, 1);
    set(8, 2).await.is(200);
    assert_eq!(s.available("A").await, 2);
}

#[tokio::test]
async fn less_than_what_is_promised_is_a_shortfall() {
    let s = Server::start().await;
    s.stock("A", 10).await;
    s.hold("k", "A", 3).await;
    let order = json!({"order_id": "O", "currency": "EUR",
        "lines": [{"sku": "A", "quantity": 2, "unit_price": 1}]});
    s.post("/v1/orders", "k2", order).await.is(201);
    let short = s.put("/v1/stock/A/BER", json!({"on_hand": 4})).await;
    short.is_problem(409, "shortfall");
    assert_eq!((&short.json["held"], &short.json["committed"]), (&json!(3), &json!(2)));
    let adjust = json!({"sku": "A", "location": "BER", "delta": -6, "reason": "shrinkage"});
    s.post("/v1/stock/adjustments", "k3", adjust.clone()).await.is_problem(409, "shortfall");
    assert_eq!(s.available("A").await, 5);
    let forced = s.put("/v1/stock/A/BER", json!({"on_hand": 4, "allow_shortfall": true})).await;
    forced.is(200);
    assert_eq!(forced.json["available"], -1);
    s.post("/v1/reservations", "k4", cart("A", 1)).await.is_problem(409, "insufficient_stock");
    assert_eq!(s.get("/v1/status").await.json["oversold"], 0);
}

#[tokio::test]
async fn a_count_may_know_of_an_earlier_position_in_the_log() {
    let s = Server::start().await;
    s.stock("A", 10).await;
    let counted_at = s.get("/v1/stock/A").await.json["lsn"].as_u64().unwrap();
    let receipt = json!({"sku": "A", "location": "BER", "delta": 5, "reason": "receipt"});
    s.post("/v1/stock/adjustments", "k", receipt).await.is(201);
    // The count of ten was made before the receipt of five, so there are fifteen.
    let body = json!({"on_hand": 10, "as_of_lsn": counted_at});
    assert_eq!(s.put("/v1/stock/A/BER", body).await.is(200).json["on_hand"], 15);
    // A count without a position is true at arrival.
    assert_eq!(s.put("/v1/stock/A/BER", json!({"on_hand": 10})).await.json["on_hand"], 10);
}

#[tokio::test]
async fn an_adjustment_moves_a_position() {
    let s = Server::start().await;
    s.stock("A", 10).await;
    for (key, delta, reason, on_hand) in [
        ("1", 5, "receipt", 15),
        ("2", -3, "shrinkage", 12),
        ("3", 1, "count", 13),
        ("4", -3, "transfer", 10),
        ("5", 2, "correction", 12),
    ] {
        let body = json!({"sku": "A", "location": "BER", "delta": delta, "reason": reason,
            "reference": "GR-1001"});
        let moved = s.post("/v1/stock/adjustments", key, body).await;
        assert_eq!(moved.is(201).json["on_hand"], on_hand);
    }
    let adjust =
        |delta: i64| json!({"sku": "A", "location": "BER", "delta": delta, "reason": "count"});
    s.post("/v1/stock/adjustments", "6", adjust(0)).await.is_malformed("delta");
    s.post("/v1/stock/adjustments", "6", adjust(i64::MAX)).await.is_malformed("delta");
    s.post("/v1/stock/adjustments", "6", adjust(i64::MIN)).await.is_malformed("delta");
    let elsewhere = json!({"sku": "NONE", "location": "BER", "delta": 1, "reason": "receipt"});
    let reply = s.post("/v1/stock/adjustments", "7", elsewhere).await;
    reply.is_problem(404, "unknown_sku");
}

#[tokio::test]
async fn the_stock_of_a_sku_is_the_sum_of_its_positions() {
    let s = Server::start().await;
    s.put("/v1/stock/A/HAM", json!({"on_hand": 4})).await.is(200);
    s.put("/v1/stock/A/BER", json!({"on_hand": 3, "safety_stock": 1})).await.is(200);
    s.hold("k", "A", 2).await;
    let stock = s.get("/v1/stock/A").await;
    stock.is(200);
    let sums = ["available", "on_hand", "held", "committed", "safety_stock", "backorder_limit"]
        .map(|field| stock.json[field].as_i64().unwrap());
    assert_eq!(sums, [4, 7, 2, 0, 1, 0]);
    let positions = stock.json["positions"].as_array().unwrap();
    let places: Vec<_> = positions.iter().map(|p| p["location"].as_str().unwrap()).collect();
    assert_eq!(places, ["BER", "HAM"], "in sourcing order");
    assert_eq!(stock.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn the_stock_of_many_skus_is_read_at_once() {
    let s = Server::start().await;
    s.stock("A", 1).await;
    s.stock("C", 3).await;
    let many = s.get("/v1/stock?skus=C,B,A").await;
    many.is(200);
    let skus: Vec<_> = many.json["stock"].as_array().unwrap().iter().map(|v| &v["sku"]).collect();
    assert_eq!(skus, [&json!("C"), &json!("A")]);
    assert_eq!(many.json["unknown_skus"], json!(["B"]));
    let too_many = vec!["A"; 1_001].join(",");
    s.get(&format!("/v1/stock?skus={too_many}")).await.is_malformed("skus");
}

#[tokio::test]
async fn a_limited_sku_needs_a_customer_and_keeps_to_the_limit() {
    let s = Server::start().await;
    s.put("/v1/stock/A/BER", json!({"on_hand": 50, "per_customer_limit": 3})).await.is(200);
    s.post("/v1/reservations", "k0", cart("A", 1)).await.is_malformed("customer");
    let take = |key: &'static str, customer: &'static str, quantity: i64| {
        let mut body = cart("A", quantity);
        body["customer"] = json!(customer);
        s.post("/v1/reservations", key, body)
    };
    let first = take("k1", "c", 2).await;
    let id = first.is(201).json["id"].as_str().unwrap().to_owned();
    let beyond = take("k2", "c", 2).await;
    let line = &beyond.is_problem(409, "purchase_limit").json["lines"][0];
    assert_eq!(line, &json!({"sku": "A", "requested": 2, "limit": 3, "taken": 2}));
    take("k3", "d", 3).await.is(201);
    take("k4", "c", 1).await.is(201);
    // What is given back may be taken again.
    s.post(&format!("/v1/reservations/{id}/release"), "k5", json!({})).await.is(200);
    take("k6", "c", 2).await.is(201);
    take("k7", "c", 1).await.is_problem(409, "purchase_limit");
}
