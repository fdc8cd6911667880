//! Commits and orders.

use serde_json::{Value, json};

use crate::support::{Server, cart, payment};

fn order(id: &str) -> Value {
    json!({"order_id": id, "currency": "EUR", "prices": "gross", "customer": "c",
        "lines": [{"sku": "A", "quantity": 2, "unit_price": 1999, "tax_code": "DE-19", "tax": 638,
            "discount": 0}],
        "shipping": 490, "shipping_tax": 78, "priority": "express",
        "promised_ship_at": "2030-01-01T12:00:00Z"})
}

fn commit(id: Option<&str>) -> Value {
    let mut body = payment("A", 1999);
    if let Some(id) = id {
        body["order_id"] = json!(id);
    }
    body
}

#[tokio::test]
async fn a_commit_makes_an_order() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let id = s.hold("k", "A", 2).await;
    let mut body = order("O-1");
    body.as_object_mut().unwrap().remove("customer");
    body["lines"][0].as_object_mut().unwrap().remove("quantity");
    let target = format!("/v1/reservations/{id}/commit");
    let done = s.post(&target, "c", body.clone()).await;
    assert_eq!(
        (&done.is(200).json["state"], &done.json["order_id"]),
        (&json!("committed"), &json!("O-1"))
    );
    let again = s.post(&target, "c", body.clone()).await;
    assert_eq!(again.is(200).header("idempotent-replayed"), Some("true"));
    // The same content under another key is the same transition.
    s.post(&target, "c2", body.clone()).await.is(200);
    body["shipping"] = json!(1);
    assert_eq!(s.post(&target, "c3", body).await.status, 409);
    let read = s.get("/v1/orders/O-1").await;
    read.is(200);
    assert_eq!((&read.json["total"], &read.json["total_tax"]), (&json!(4488), &json!(716)));
    assert_eq!(read.json["lines"][0]["open_quantity"], 2);
    assert_eq!(read.json["reservations"], json!([id]));
    let stock = s.get("/v1/stock/A").await.json;
    assert_eq!(
        (&stock["held"], &stock["committed"], &stock["available"]),
        (&json!(0), &json!(2), &json!(3))
    );
}

#[tokio::test]
async fn the_order_id_given_at_the_reservation_counts() {
    let s = Server::start().await;
    s.stock("A", 9).await;
    let mut body = cart("A", 1);
    body["order_id"] = json!("O-1");
    let held = s.post("/v1/reservations", "k", body).await;
    let target = format!("/v1/reservations/{}/commit", held.is(201).json["id"].as_str().unwrap());
    s.post(&target, "c1", commit(Some("O-2"))).await.is_problem(409, "order_mismatch");
    assert_eq!(s.post(&target, "c2", commit(None)).await.is(200).json["order_id"], "O-1");
    let other = s.hold("k2", "A", 1).await;
    let target = format!("/v1/reservations/{other}/commit");
    s.post(&target, "c3", commit(None)).await.is_malformed("order_id");
    s.post(&target, "c4", commit(Some("O-1"))).await.is_problem(409, "order_exists");
    assert_eq!(s.get(&format!("/v1/reservations/{other}")).await.json["state"], "held");
}

#[tokio::test]
async fn every_reserved_sku_has_exactly_one_price() {
    let s = Server::start().await;
    s.stock("A", 9).await;
    s.stock("B", 9).await;
    let id = s.hold("k", "A", 1).await;
    let target = format!("/v1/reservations/{id}/commit");
    let lines = |lines: Value| json!({"order_id": "O", "currency": "EUR", "lines": lines});
    let a = json!({"sku": "A", "unit_price": 1});
    let b = json!({"sku": "B", "unit_price": 1});
    for wrong in [json!([]), json!([a, a]), json!([a, b]), json!([b])] {
        s.post(&target, "c", lines(wrong)).await.is_problem(400, "malformed");
    }
    s.post(&target, "c", lines(json!([a]))).await.is(200);
}

#[tokio::test]
async fn money_is_whole_and_in_a_currency() {
    let s = Server::start().await;
    s.stock("A", 9).await;
    for (field, wrong) in [
        ("currency", json!("eur")),
        ("currency", json!("EURO")),
        ("currency", json!("XXZ")),
        ("currency", json!("DEM")),
        ("currency", json!("XXX")),
        ("currency", Value::Null),
        ("shipping", json!(-1)),
        ("shipping", json!(4.9)),
        ("shipping_tax", json!(10_000_000_000_001_i64)),
        ("prices", json!("brutto")),
        ("priority", json!("urgent")),
        ("promised_ship_at", json!("tomorrow")),
    ] {
        let mut body = order("O");
        body[field] = wrong;
        s.post("/v1/orders", "k", body).await.is_malformed(field);
    }
    let id = s.hold("h", "A", 1).await;
    let commit =
        json!({"order_id": "O", "currency": "XXZ", "lines": [{"sku": "A", "unit_price": 1}]});
    let problem = s.post(&format!("/v1/reservations/{id}/commit"), "c", commit).await;
    problem.is_malformed("currency");
    assert!(problem.json["detail"].as_str().unwrap().contains("ISO 4217"), "{}", problem.json);
    for field in ["unit_price", "tax", "discount"] {
        let mut body = order("O");
        body["lines"][0][field] = json!(-1);
        s.post("/v1/orders", "k", body).await.is_malformed(&format!("lines[0].{field}"));
    }
}

#[tokio::test]
async fn an_order_is_placed_in_one_step() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let placed = s.post("/v1/orders", "k", order("O-1")).await;
    placed.is(201);
    assert_eq!(
        (&placed.json["order_id"], &placed.json["state"]),
        (&json!("O-1"), &json!("committed"))
    );
    assert_eq!(placed.json["total"], 4488);
    let again = s.post("/v1/orders", "k", order("O-1")).await;
    assert_eq!(again.is(201).header("idempotent-replayed"), Some("true"));
    assert_eq!(again.json, placed.json);
    let mut other = order("O-1");
    other["lines"][0]["quantity"] = json!(1);
    s.post("/v1/orders", "k2", other).await.is_problem(409, "order_exists");
    let mut short = order("O-2");
    short["lines"][0]["quantity"] = json!(4);
    let short = s.post("/v1/orders", "k3", short).await;
    assert_eq!(short.is_problem(409, "insufficient_stock").json["lines"][0]["available"], 3);
    s.get("/v1/orders/O-2").await.is_problem(404, "unknown_order");
}

#[tokio::test]
async fn one_order_is_made_of_several_reservations() {
    let s = Server::start().await;
    s.stock("A", 9).await;
    s.stock("B", 9).await;
    let ids = [s.hold("k1", "A", 1).await, s.hold("k2", "B", 2).await, s.hold("k3", "A", 3).await];
    let body = json!({"order_id": "O", "reservations": ids, "currency": "EUR", "lines": [
        {"sku": "A", "unit_price": 100}, {"sku": "B", "unit_price": 10}]});
    let placed = s.post("/v1/orders", "o1", body.clone()).await;
    placed.is(201);
    assert_eq!(placed.json["total"], 420);
    for id in &ids {
        assert_eq!(s.get(&format!("/v1/reservations/{id}")).await.json["state"], "committed");
    }
    // All or none: one that is gone makes the whole fail.
    let gone = s.hold("k4", "A", 1).await;
    s.post(&format!("/v1/reservations/{gone}/release"), "r", json!({})).await.is(200);
    let held = s.hold("k5", "A", 1).await;
    let mut second = body;
    second["order_id"] = json!("O-2");
    second["reservations"] = json!([held, gone]);
    second["lines"] = json!([{"sku": "A", "unit_price": 100}]);
    let reply = s.post("/v1/orders", "o2", second).await;
    assert_eq!(reply.is_problem(409, "wrong_state").json["state"], "released");
    assert_eq!(s.get(&format!("/v1/reservations/{held}")).await.json["state"], "held");
}

#[tokio::test]
async fn orders_survive_a_restart() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    s.post("/v1/orders", "k", order("O-1")).await.is(201);
    let before = s.get("/v1/orders/O-1").await.json;
    let s = s.restarted().await;
    assert_eq!(s.get("/v1/orders/O-1").await.is(200).json, before);
    assert_eq!(s.available("A").await, 3);
}

#[tokio::test]
async fn a_line_that_prices_held_units_names_neither_quantity_nor_location() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let id = s.hold("h", "A", 1).await;
    for (field, value) in [("quantity", json!(1)), ("location", json!("BER"))] {
        let mut order = json!({"order_id": "O-1", "currency": "EUR", "reservations": [id],
            "lines": [{"sku": "A", "unit_price": 1}]});
        order["lines"][0][field] = value;
        s.post("/v1/orders", field, order).await.is_malformed(&format!("lines[0].{field}"));
    }
}
