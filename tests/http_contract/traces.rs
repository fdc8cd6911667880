//! The lineage of an order over HTTP.

use holdfast::engine::{Engine, Key};
use serde_json::{Value, json};

use crate::support::{Server, engine_options, push_log};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn money(order: &str) -> Value {
    json!({"order_id": order, "currency": "EUR", "lines": [{"sku": "A", "unit_price": 1000}]})
}

/// Invoices an order through the library.
fn invoice(engine: &Engine, order: &str, id: &str) {
    let body = json!({"invoice_id": id, "currency": "EUR", "amount": 10, "tax": 0});
    let key = id.parse().unwrap();
    let invoice = serde_json::from_value(body).unwrap();
    let decision = engine.invoice(Key::new("", &key), &order.parse().unwrap(), &invoice);
    engine.settle_blocking(decision).unwrap();
}

#[tokio::test]
async fn a_trace_has_every_record_in_order_with_what_caused_it() {
    let s = Server::start().await;
    s.stock("A", 50).await;
    let body = json!({"lines": [{"sku": "A", "quantity": 2}]});
    let reserve = s.call("POST /v1/reservations").key("r").json(&body);
    let held = reserve.header("X-Request-Id", "req-1").header("traceparent", TRACE).send().await;
    let id = held.json["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/reservations/{id}");
    s.post(&format!("{path}/extend"), "e", json!({"ttl_ms": 60000})).await.is(200);
    let lines = json!({"lines": [{"sku": "A", "quantity": 3}]});
    s.put(&format!("{path}/lines"), lines).await.is(200);
    let commit = s.post(&format!("{path}/commit"), "c", money("O-1")).await;
    commit.is(200);
    invoice(s.engine(), "O-1", "INV-1");

    let trace = s.get("/v1/orders/O-1/trace").await.is(200).json.clone();
    assert_eq!((&trace["order_id"], &trace["archived"]), (&json!("O-1"), &json!(false)));
    let records = trace["records"].as_array().unwrap();
    let of = |field: &str| records.iter().map(|r| r[field].clone()).collect::<Vec<_>>();
    assert_eq!(of("kind"), ["reserve", "extend", "change", "placed", "invoice"]);
    assert_eq!(of("id"), [json!(id), json!(id), json!(id), json!("O-1"), json!("INV-1")]);
    assert!(of("lsn").windows(2).all(|two| two[0].as_u64() < two[1].as_u64()));
    assert_eq!(records[0]["request_id"], "req-1");
    assert_eq!(records[0]["traceparent"], TRACE);
    assert_eq!(
        records[0]["says"]["lines"][0],
        json!({"sku": "A", "location": "BER", "quantity": 2})
    );
    // A reservation's request that nobody named leaves no trace; an order's does.
    assert_eq!(records[1].get("request_id"), None);
    let made = commit.headers.iter().find(|(name, _)| name == "x-request-id").unwrap();
    assert_eq!(records[3]["request_id"], made.1.as_str());
    assert_eq!(records[3]["says"]["order_id"], "O-1");
    assert_eq!(records[4]["says"]["amount"], 10);
    assert_eq!(trace["lsn"], records[4]["lsn"]);
    let ages: Vec<_> = of("age_ms").iter().map(|age| age.as_u64().unwrap()).collect();
    assert!(ages.is_sorted_by(|a, b| a >= b), "{ages:?}");
    assert_eq!(of("batches"), vec![json!([]); 5]);
}

#[tokio::test]
async fn a_change_of_lines_and_the_carts_of_a_batch_name_the_request_that_caused_them() {
    let s = Server::start().await;
    s.stock("A", 50).await;
    let cart = |key: &str| json!({"idempotency_key": key, "lines": [{"sku": "A", "quantity": 1}]});
    let batch = |keys: [&str; 2]| json!({"reservations": keys.map(cart)});
    let call = s.call("POST /v1/reservations/batch").json(&batch(["1", "2"]));
    let named = call.header("X-Request-Id", "batch-1").header("traceparent", TRACE).send().await;
    let unnamed = s.call("POST /v1/reservations/batch").json(&batch(["3", "4"])).send().await;
    let ids: Vec<_> = [named, unnamed]
        .iter()
        .flat_map(|batch| batch.is(200).json["results"].as_array().unwrap().clone())
        .map(|result| result["id"].as_str().unwrap().to_owned())
        .collect();
    let lines = json!({"lines": [{"sku": "A", "quantity": 3}]});
    let call = s.call(&format!("PUT /v1/reservations/{}/lines", ids[1])).json(&lines);
    call.header("X-Request-Id", "put-1").header("traceparent", TRACE).send().await.is(200);
    s.put(&format!("/v1/reservations/{}/lines", ids[2]), lines).await.is(200);
    let mut order = money("O-5");
    order["reservations"] = json!(ids);
    s.post("/v1/orders", "o", order).await.is(201);

    let trace = s.get("/v1/orders/O-5/trace").await.is(200).json.clone();
    let cause = |kind: &str, id: &str| {
        let is_it = |record: &&Value| record["kind"] == kind && record["id"] == id;
        let record = trace["records"].as_array().unwrap().iter().find(is_it).unwrap();
        (record["request_id"].clone(), record["traceparent"].clone())
    };
    let by = |request: &str| (json!(request), json!(TRACE));
    for id in &ids[..2] {
        assert_eq!(cause("reserve", id), by("batch-1"));
    }
    assert_eq!(cause("change", &ids[1]), by("put-1"));
    // As for every reservation: what nobody named leaves no trace.
    let nobody = (Value::Null, Value::Null);
    assert_eq!(cause("reserve", &ids[3]), nobody);
    assert_eq!(cause("change", &ids[2]), nobody);
}

#[tokio::test]
async fn what_several_carts_became_is_told_of_all_of_them() {
    let s = Server::start().await;
    s.stock("A", 50).await;
    let (one, two) = (s.hold("1", "A", 1).await, s.hold("2", "A", 1).await);
    let mut order = money("O-2");
    order["reservations"] = json!([one, two]);
    s.post("/v1/orders", "o", order).await.is(201);
    let trace = s.get("/v1/orders/O-2/trace").await.is(200).json.clone();
    let records = trace["records"].as_array().unwrap();
    let ids: Vec<_> = records.iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [one.as_str(), two.as_str(), "O-2"]);
}

#[tokio::test]
async fn a_trace_survives_a_restart_and_an_unknown_order_has_none() {
    let s = Server::start().await;
    s.stock("A", 50).await;
    s.get("/v1/orders/O-3/trace").await.is_problem(404, "unknown_order");
    let id = s.hold("h", "A", 1).await;
    let path = format!("/v1/reservations/{id}/commit");
    let call = s.call(&format!("POST {path}")).key("c").json(&money("O-3"));
    call.header("X-Request-Id", "req-9").send().await.is(200);
    let before = s.get("/v1/orders/O-3/trace").await.is(200).json.clone();
    s.engine().checkpoint().unwrap();
    let s = s.restarted().await;
    let after = s.get("/v1/orders/O-3/trace").await.is(200).json.clone();
    let of = |trace: &Value, field: &str| {
        let records = trace["records"].as_array().unwrap();
        records.iter().map(|r| r[field].clone()).collect::<Vec<_>>()
    };
    for field in ["lsn", "at", "id", "says", "request_id"] {
        assert_eq!(of(&before, field), of(&after, field));
    }
    assert_eq!(after["records"][1]["request_id"], "req-9");
}

#[tokio::test]
async fn what_was_recycled_is_said_to_be_archived() {
    let mut options = engine_options();
    options.wal.archive = None;
    let s = Server::with_engine(options).await;
    s.stock("A", 1_000_000).await;
    let id = s.hold("h", "A", 1).await;
    s.post(&format!("/v1/reservations/{id}/commit"), "c", money("O-4")).await.is(200);
    s.get("/v1/orders/O-4/trace").await.is(200);
    // Two checkpoints beyond the first segment free it.
    let oldest = s.engine().log().oldest();
    let mut round = 0;
    while s.engine().log().oldest() == oldest {
        push_log(s.engine(), round);
        s.engine().checkpoint().unwrap();
        round += 1;
        assert!(round < 200, "the log is never recycled");
    }
    s.get("/v1/orders/O-4/trace").await.is_problem(410, "archived");
    // What happens to it from now on is told, and that there was more.
    invoice(s.engine(), "O-4", "INV-4");
    let trace = s.get("/v1/orders/O-4/trace").await.is(200).json.clone();
    assert_eq!(trace["archived"], true);
    assert_eq!(trace["records"].as_array().unwrap().len(), 1);
}
