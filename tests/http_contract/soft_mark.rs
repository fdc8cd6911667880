//! The two marks of the log's disk budget: what can wait is shed at the soft one, what is new is refused at
//! the hard one, what closes goes on, and when the log drains it all goes on.

use std::time::Duration;

use holdfast::{
    engine::Key,
    model::{Lsn, command::Release},
};
use serde_json::{Value, json};

use crate::support::{Reply, Server, cart, engine_options, payment};

async fn reserve(s: &Server, key: &str, priority: &str) -> Reply {
    let call = s.call("POST /v1/reservations").key(key).header("Priority", priority);
    call.json(&cart("A", 1)).send().await
}

async fn place(s: &Server, id: &str, priority: &str) -> Reply {
    let mut order = payment("A", 100);
    order["order_id"] = json!(id);
    order["priority"] = json!(priority);
    order["lines"][0]["quantity"] = json!(1);
    s.post("/v1/orders", id, order).await
}

async fn import(s: &Server) -> Reply {
    let line = json!({"sku": "B", "location": "BER", "on_hand": 7}).to_string();
    s.call("POST /v1/stock/import").text("application/x-ndjson", &line).send().await
}

async fn mark(s: &Server, mark: &str) -> bool {
    let line = format!("holdfast_log_mark{{mark=\"{mark}\"}} 1\n");
    s.get("/metrics").await.text().contains(&line)
}

/// Reserves until the log is as it is wanted; what was granted.
async fn fill(s: &Server, round: &str, until: impl AsyncFn(&[Value]) -> bool) -> Vec<String> {
    let mut granted = Vec::new();
    for n in 0..5_000 {
        let item = |i: usize| {
            json!({"idempotency_key": format!("{round}-{n}-{i}"),
                "lines": [{"sku": "A", "quantity": 1}]})
        };
        let batch = json!({"reservations": (0..20).map(item).collect::<Vec<_>>()});
        let reply = s.call("POST /v1/reservations/batch").json(&batch).send().await;
        let results = reply.is(200).json["results"].as_array().unwrap().clone();
        let ids = results.iter().filter_map(|r| r["id"].as_str()).map(str::to_owned);
        granted.extend(ids);
        if until(&results).await {
            return granted;
        }
    }
    panic!("the log never fills");
}

#[tokio::test]
async fn what_can_wait_is_shed_first_and_decided_later_under_its_key() {
    let mut options = engine_options();
    options.wal.segment_bytes = 64 << 10;
    options.wal.budget_bytes = 2 << 20;
    let s = Server::with_engine(options).await;
    s.stock("A", 100_000).await;
    // A reader that never moves on keeps the log from being recycled.
    s.engine().hold_log("test", Lsn(0));
    let open = s.hold("open", "A", 2).await;
    let known = reserve(&s, "known", "u=7").await.is(201).json.clone();
    place(&s, "known-order", "bulk").await.is(201);
    import(&s).await.is(200);
    assert_eq!((mark(&s, "soft").await, mark(&s, "hard").await), (false, false));

    let past = async |_: &[Value]| mark(&s, "soft").await;
    let mut held = fill(&s, "soft", past).await;
    for reply in
        [reserve(&s, "low", "u=5, i").await, place(&s, "bulk", "bulk").await, import(&s).await]
    {
        reply.is_problem(503, "overloaded");
        assert!(reply.json["detail"].as_str().unwrap().contains("soft mark"), "{}", reply.json);
        assert!(reply.header("retry-after").is_some());
    }
    let low = json!({"reservations": [{"idempotency_key": "low-2",
        "lines": [{"sku": "A", "quantity": 1}]}]});
    let call = s.call("POST /v1/reservations/batch").header("Priority", "u=6").json(&low);
    assert_eq!(call.send().await.is(200).json["results"][0]["code"], "overloaded");
    // What is not low goes on, and what was decided is answered.
    reserve(&s, "high", "u=4").await.is(201);
    reserve(&s, "nothing-said", "?").await.is(201);
    place(&s, "standard", "standard").await.is(201);
    assert_eq!(reserve(&s, "known", "u=7").await.is(201).json["id"], known["id"]);
    place(&s, "known-order", "bulk").await.is(201);
    s.put("/v1/stock/C/BER", json!({"on_hand": 1})).await.is(200);
    assert_eq!(s.get("/v1/status").await.json["log_past_soft_mark"], true);
    assert!(!mark(&s, "hard").await);

    let full = async |results: &[Value]| results.iter().any(|r| r["code"] == "log_full");
    held.extend(fill(&s, "hard", full).await);
    s.post("/v1/reservations", "new", cart("A", 1)).await.is_problem(503, "log_full");
    reserve(&s, "low", "u=5").await.is_problem(503, "overloaded");
    assert!(mark(&s, "soft").await && mark(&s, "hard").await);
    // What closes goes on, whatever priority it names.
    let mut order = payment("A", 100);
    order["order_id"] = json!("O");
    order["priority"] = json!("bulk");
    let commit = s.call(&format!("POST /v1/reservations/{open}/commit")).key("c");
    commit.header("Priority", "u=7").json(&order).send().await.is(200);
    let id = known["id"].as_str().unwrap();
    let release = s.call(&format!("POST /v1/reservations/{id}/release")).key("r");
    release.header("Priority", "u=7").json(&json!({})).send().await.is(200);
    let shipment = json!({"shipment_id": "S", "lines": [{"sku": "A", "quantity": 2}]});
    let ship = s.call("POST /v1/orders/O/shipments").key("s").header("Priority", "u=7");
    ship.json(&shipment).send().await.is(201);
    // Two of `open`, the two orders, and two that were not low; `known` was given back.
    assert_eq!(s.available("A").await, 100_000 - held.len() as i64 - 2 - 2 - 2);

    // What is open keeps its room: it counts as spent until it is closed.
    for id in &held {
        let (key, release) = (id.parse().unwrap(), Release::default());
        let released = s.engine().release(Key::new("", &key), id.parse().unwrap(), &release);
        s.engine().settle_blocking(released).unwrap();
    }
    // The reader moves on, and by itself all goes on.
    s.engine().release_hold("test");
    for _ in 0..200 {
        if !mark(&s, "soft").await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!mark(&s, "hard").await && !mark(&s, "soft").await);
    reserve(&s, "low", "u=5").await.is(201);
    place(&s, "bulk", "bulk").await.is(201);
    s.post("/v1/reservations", "new", cart("A", 1)).await.is(201);
    import(&s).await.is(200);
    let metrics = s.get("/metrics").await.text();
    for line in [
        "holdfast_log_shed_total{reason=\"low_priority\"} 3\n",
        "holdfast_log_shed_total{reason=\"bulk_order\"} 1\n",
        "holdfast_log_shed_total{reason=\"stock_import\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}
