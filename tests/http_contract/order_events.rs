//! What happens to an order after it was placed, over HTTP.

use serde_json::{Value, json};

use crate::support::{Reply, Server};

/// Three units of A and one of B, gross 5,487 with 876 of tax, at BER.
async fn sold() -> Server {
    let s = Server::start().await;
    s.stock("A", 10).await;
    s.stock("B", 10).await;
    let order = json!({"order_id": "O-1", "currency": "EUR", "lines": [
        {"sku": "A", "quantity": 3, "unit_price": 999, "tax_code": "DE-19", "tax": 478},
        {"sku": "B", "quantity": 1, "unit_price": 2000, "tax_code": "DE-19", "tax": 320}],
        "shipping": 490, "shipping_tax": 78});
    s.post("/v1/orders", "order", order).await.is(201);
    s
}

async fn post(s: &Server, what: &str, key: &str, body: Value) -> Reply {
    s.post(&format!("/v1/orders/O-1/{what}"), key, body).await
}

fn shipment(id: &str, sku: &str, quantity: u32) -> Value {
    json!({"shipment_id": id, "lines": [{"sku": sku, "location": "BER", "quantity": quantity}],
        "carrier": "DHL", "tracking": "00340"})
}

async fn stock(s: &Server, sku: &str) -> (i64, i64, i64) {
    let stock = s.get(&format!("/v1/stock/{sku}")).await.json;
    let number = |name: &str| stock[name].as_i64().unwrap();
    (number("on_hand"), number("committed"), number("available"))
}

async fn order(s: &Server) -> Value {
    s.get("/v1/orders/O-1").await.is(200).json.clone()
}

#[tokio::test]
async fn goods_leave_in_parts_until_the_order_is_fulfilled() {
    let s = sold().await;
    let first = post(&s, "shipments", "s1", shipment("S-1", "A", 2)).await;
    let fact = &first.is(201).json;
    assert_eq!(
        (&fact["order_id"], &fact["kind"], &fact["id"]),
        (&json!("O-1"), &json!("shipment"), &json!("S-1"))
    );
    assert_eq!(fact["state"], "committed");
    assert!(fact["lsn"].is_u64() && fact["at"].is_string());
    assert_eq!(stock(&s, "A").await, (8, 1, 7));
    post(&s, "shipments", "s2", shipment("S-2", "A", 1)).await.is(201);
    let more = post(&s, "shipments", "s3", shipment("S-3", "A", 1)).await;
    assert_eq!(more.is_problem(409, "wrong_state").json["state"], "committed");
    let last = post(&s, "shipments", "s4", shipment("S-4", "B", 1)).await;
    assert_eq!(last.is(201).json["state"], "fulfilled");
    let order = order(&s).await;
    assert_eq!(order["state"], "fulfilled");
    let line = &order["lines"][0];
    assert_eq!((&line["shipped"], &line["open_quantity"]), (&json!(3), &json!(0)));
    assert_eq!(order["events"].as_array().unwrap().len(), 3);
    let id = order["reservations"][0].as_str().unwrap().to_owned();
    assert_eq!(s.get(&format!("/v1/reservations/{id}")).await.json["state"], "fulfilled");
}

#[tokio::test]
async fn what_left_elsewhere_is_taken_there_and_free_again_where_it_was_reserved() {
    let s = sold().await;
    s.put("/v1/stock/A/MUC", json!({"on_hand": 2})).await.is(200);
    let from = |quantity: u32| json!({"shipment_id": "S-1", "lines": [{"sku": "A", "location": "MUC", "quantity": quantity}]});
    let short = post(&s, "shipments", "s1", from(3)).await;
    let line = &short.is_problem(409, "insufficient_stock").json["lines"][0];
    assert_eq!((&line["location"], &line["available"]), (&json!("MUC"), &json!(2)));
    post(&s, "shipments", "s2", from(2)).await.is(201);
    let stock = s.get("/v1/stock/A").await.json;
    let at = |n: usize, name: &str| stock["positions"][n][name].as_i64().unwrap();
    assert_eq!((at(0, "on_hand"), at(0, "committed"), at(0, "available")), (10, 1, 9));
    assert_eq!((at(1, "on_hand"), at(1, "committed"), at(1, "available")), (0, 0, 0));
}

#[tokio::test]
async fn a_fact_is_known_by_its_key_and_by_its_own_id() {
    let s = sold().await;
    let first = post(&s, "shipments", "k", shipment("S-1", "A", 1)).await;
    first.is(201);
    let again = post(&s, "shipments", "k", shipment("S-1", "A", 1)).await;
    assert_eq!(again.is(201).header("idempotent-replayed"), Some("true"));
    assert_eq!(again.json, first.json);
    let same = post(&s, "shipments", "other", shipment("S-1", "A", 1)).await;
    assert_eq!(same.is(200).json, first.json);
    post(&s, "shipments", "k", shipment("S-9", "A", 1))
        .await
        .is_problem(422, "idempotency_key_reused");
    post(&s, "shipments", "k2", shipment("S-1", "A", 2)).await.is_problem(422, "content_mismatch");
    // An invoice may have a shipment's id.
    let invoice = json!({"invoice_id": "S-1", "currency": "EUR", "amount": 1, "tax": 0});
    post(&s, "invoices", "k3", invoice).await.is(201);
    assert_eq!(stock(&s, "A").await, (9, 2, 7));
    let s = s.restarted().await;
    let again = post(&s, "shipments", "k", shipment("S-1", "A", 1)).await;
    assert_eq!(
        (again.is(201).json.clone(), again.header("idempotent-replayed")),
        (first.json.clone(), Some("true"))
    );
    assert_eq!(post(&s, "shipments", "k4", shipment("S-1", "A", 1)).await.is(200).json, first.json);
}

#[tokio::test]
async fn what_is_cancelled_can_be_sold_again() {
    let s = sold().await;
    let one = json!({"cancellation_id": "C-1", "lines": [{"sku": "A", "quantity": 1}]});
    post(&s, "cancellations", "c1", one).await.is(201);
    assert_eq!(stock(&s, "A").await, (10, 2, 8));
    post(&s, "shipments", "s1", shipment("S-1", "A", 2)).await.is(201);
    let too_many = json!({"cancellation_id": "C-2", "lines": [{"sku": "A", "quantity": 1}]});
    post(&s, "cancellations", "c2", too_many).await.is_problem(409, "wrong_state");
    let rest = post(&s, "cancellations", "c3", json!({"cancellation_id": "C-3"})).await;
    assert_eq!(rest.is(201).json["state"], "fulfilled");
    assert_eq!(stock(&s, "B").await, (10, 0, 10));
    // What was cancelled can't be billed: 2 of 3 units of A, and the shipping.
    let bill =
        |amount: i64| json!({"invoice_id": "I-1", "currency": "EUR", "amount": amount, "tax": 0});
    post(&s, "invoices", "i1", bill(2 * 999 + 490 + 1)).await.is_problem(409, "wrong_state");
    post(&s, "invoices", "i2", bill(2 * 999 + 490)).await.is(201);
}

#[tokio::test]
async fn an_order_of_which_all_is_cancelled_is_cancelled() {
    let s = sold().await;
    let all = post(&s, "cancellations", "c", json!({"cancellation_id": "C-1"})).await;
    assert_eq!(all.is(201).json["state"], "cancelled");
    post(&s, "shipments", "s", shipment("S-1", "A", 1)).await.is_problem(409, "wrong_state");
    let again = json!({"cancellation_id": "C-2"});
    post(&s, "cancellations", "c2", again).await.is_problem(409, "wrong_state");
    let s = s.restarted().await;
    assert_eq!(order(&s).await["state"], "cancelled");
    assert_eq!(stock(&s, "A").await, (10, 0, 10));
}

#[tokio::test]
async fn no_more_money_moves_than_was_sold() {
    let s = sold().await;
    let settle = |id: &str, amount: i64, fee: i64| json!({"settlement_id": id, "currency": "EUR", "amount": amount, "fee": fee});
    let refund = |id: &str, amount: i64, tax: i64| json!({"refund_id": id, "currency": "EUR", "amount": amount, "tax": tax, "reason": "late"});
    post(&s, "settlements", "p1", settle("P-1", 5_000, 70)).await.is(201);
    post(&s, "settlements", "p2", settle("P-2", 488, 0)).await.is_problem(409, "wrong_state");
    post(&s, "settlements", "p3", settle("P-3", 487, 9)).await.is(201);
    post(&s, "refunds", "r1", refund("R-1", 1_000, 160)).await.is(201);
    post(&s, "refunds", "r2", refund("R-2", 4_488, 0)).await.is_problem(409, "wrong_state");
    post(&s, "refunds", "r3", refund("R-3", 4_487, 717)).await.is_problem(409, "wrong_state");
    post(&s, "refunds", "r4", refund("R-4", 4_487, 716)).await.is(201);
    let money = &order(&s).await["money"];
    let want = json!({"invoiced": 0, "settled": 5_487, "fees": 79, "refunded": 5_487});
    assert_eq!(money, &want);
}

#[tokio::test]
async fn what_comes_back_is_sold_again_or_written_off() {
    let s = sold().await;
    post(&s, "shipments", "s1", shipment("S-1", "A", 3)).await.is(201);
    let back = |id: &str, quantity: u32, restock: bool| json!({"return_id": id, "lines": [{"sku": "A", "quantity": quantity}], "restock": restock});
    post(&s, "returns", "b0", back("B-0", 4, true)).await.is_problem(409, "wrong_state");
    post(&s, "returns", "b1", back("B-1", 2, true)).await.is(201);
    post(&s, "returns", "b2", back("B-2", 1, false)).await.is(201);
    assert_eq!(stock(&s, "A").await, (7, 0, 7));
    let receipt = |id: &str, quantity: u32| json!({"receipt_id": id, "lines": [{"sku": "A", "location": "BER", "quantity": quantity}]});
    post(&s, "returns/B-1/receipts", "g1", receipt("G-1", 2)).await.is(201);
    assert_eq!(stock(&s, "A").await, (9, 0, 9));
    post(&s, "returns/B-1/receipts", "g2", receipt("G-2", 1)).await.is_problem(409, "wrong_state");
    post(&s, "returns/B-2/receipts", "g3", receipt("G-3", 1)).await.is(201);
    assert_eq!(stock(&s, "A").await, (9, 0, 9), "written off");
    post(&s, "returns/B-9/receipts", "g4", receipt("G-4", 1)).await.is_problem(404, "not_found");
    let returns = &order(&s).await["returns"];
    assert_eq!(
        (&returns[0]["return_id"], &returns[0]["lines"][0]["received"]),
        (&json!("B-1"), &json!(2))
    );
}

#[tokio::test]
async fn a_wrong_field_is_named() {
    let s = sold().await;
    let invoice = |field: &str, value: Value| {
        let mut body = json!({"invoice_id": "I-1", "currency": "EUR", "amount": 100, "tax": 16});
        body[field] = value;
        body
    };
    for (field, value) in [
        ("currency", json!("USD")),
        ("currency", json!("euro")),
        ("currency", json!("XXZ")),
        ("amount", json!(-1)),
        ("amount", json!(u64::MAX)),
        ("tax", json!(101)),
        ("invoice_id", json!("")),
        ("surprise", json!(1)),
    ] {
        post(&s, "invoices", "k", invoice(field, value)).await.is_malformed(field);
    }
    let line = |sku: &str, quantity: u32| json!({"shipment_id": "S", "lines": [{"sku": sku, "location": "BER", "quantity": quantity}]});
    post(&s, "shipments", "k", line("C", 1)).await.is_malformed("lines[0].sku");
    post(&s, "shipments", "k", line("A", 0)).await.is_malformed("lines[0].quantity");
    post(&s, "shipments", "k", json!({"shipment_id": "S", "lines": []}))
        .await
        .is_malformed("lines");
    let nowhere =
        json!({"shipment_id": "S", "lines": [{"sku": "A", "location": "XXX", "quantity": 1}]});
    post(&s, "shipments", "k", nowhere).await.is_problem(404, "unknown_sku");
    let note = json!({"note_id": "D-1", "text": ""});
    post(&s, "notes", "k", note).await.is_malformed("text");
    post(&s, "notes", "k", json!({"note_id": "D-1", "text": "a dispute"})).await.is(201);
    let unknown = s.post("/v1/orders/O-9/shipments", "k9", shipment("S-1", "A", 1)).await;
    unknown.is_problem(404, "unknown_order");
    let no_key =
        s.call("POST /v1/orders/O-1/shipments").json(&shipment("S-1", "A", 1)).send().await;
    no_key.is_problem(400, "idempotency_key_missing");
}

#[tokio::test]
async fn a_count_that_knows_of_a_shipment_does_not_lose_it_again() {
    let s = sold().await;
    let before = s.get("/v1/status").await.json["durable"].as_u64().unwrap();
    let left = post(&s, "shipments", "s1", shipment("S-1", "A", 2)).await;
    let lsn = left.is(201).json["lsn"].as_u64().unwrap();
    // Counted before the goods left: 10 were there, 8 are now.
    let count = json!({"on_hand": 10, "as_of_lsn": before - 1});
    assert_eq!(s.put("/v1/stock/A/BER", count).await.is(200).json["on_hand"], 8);
    // Counted after: 8 were there, and are.
    let count = json!({"on_hand": 8, "as_of_lsn": lsn});
    assert_eq!(s.put("/v1/stock/A/BER", count).await.is(200).json["on_hand"], 8);
}
