//! Stock as it was: by position of the log and by time, before and behind checkpoints.

use holdfast::engine::{At, Reach};
use serde_json::{Value, json};

use crate::support::{Server, engine_options, push_log};

/// A moment at which the stock of `A` was looked at.
struct Moment {
    lsn: u64,
    time: String,
    seen: Value,
}

/// What the stock says, without up to where.
fn figures(stock: &Value) -> Value {
    let mut stock = stock.clone();
    stock["lsn"] = json!(0);
    for position in stock["positions"].as_array_mut().unwrap() {
        position["lsn"] = json!(0);
    }
    stock
}

/// Looks at the stock once everything is durable, and lets the clock go on.
async fn look(s: &Server) -> Moment {
    let log = s.engine().log();
    let lsn = log.appended().0 - 8;
    log.wait_durable(holdfast::model::Lsn(lsn)).await.unwrap();
    let time = s.engine().now().to_string();
    let seen = figures(&s.get("/v1/stock/A").await.is(200).json);
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    Moment { lsn, time, seen }
}

async fn assert_seen(s: &Server, moments: &[Moment]) {
    for moment in moments {
        for at in [moment.lsn.to_string(), moment.time.clone()] {
            let then = s.get(&format!("/v1/stock/A?at={at}")).await;
            assert_eq!(figures(&then.is(200).json), moment.seen, "at {at}");
            let same = s.get(&format!("/v1/stock?sku=A&at={at}")).await;
            assert_eq!(same.json, then.json);
        }
    }
}

#[tokio::test]
async fn the_stock_is_told_as_it_was_before_and_behind_checkpoints() {
    let s = Server::start().await;
    s.stock("B", 7).await;
    s.put("/v1/stock/A/BER", json!({"on_hand": 50, "per_customer_limit": 9})).await.is(200);
    let mut moments = vec![look(&s).await];
    let cart = json!({"lines": [{"sku": "A", "quantity": 3}], "customer": "c"});
    let held = s.post("/v1/reservations", "h", cart).await;
    let id = held.is(201).json["id"].as_str().unwrap().to_owned();
    moments.push(look(&s).await);
    let money =
        json!({"order_id": "O", "currency": "EUR", "lines": [{"sku": "A", "unit_price": 1}]});
    s.post(&format!("/v1/reservations/{id}/commit"), "c", money).await.is(200);
    moments.push(look(&s).await);
    s.engine().checkpoint().unwrap();
    moments.push(look(&s).await);
    s.put("/v1/stock/A/HAM", json!({"on_hand": 5, "safety_stock": 1})).await.is(200);
    s.hold("x", "B", 1).await;
    moments.push(look(&s).await);
    s.engine().checkpoint().unwrap();
    let back = json!({"sku": "A", "location": "HAM", "delta": -2, "reason": "shrinkage"});
    s.post("/v1/stock/adjustments", "a", back).await.is(201);
    s.put("/v1/stock/A/BER", json!({"on_hand": 60, "per_customer_limit": null})).await.is(200);
    moments.push(look(&s).await);
    let all: Vec<_> = moments.iter().map(|moment| &moment.seen).collect();
    assert_eq!(all[0]["available"], 50);
    assert_eq!((&all[1]["held"], &all[2]["committed"]), (&json!(3), &json!(3)));
    assert_eq!(all[4]["positions"].as_array().unwrap().len(), 2);
    assert_ne!(all[4], all[5]);
    assert_seen(&s, &moments).await;
    let s = s.restarted().await;
    assert_seen(&s, &moments).await;
    let then = s.get(&format!("/v1/stock/A?at={}", moments[1].lsn)).await.json;
    assert!(then["lsn"].as_u64() <= Some(moments[1].lsn));
}

#[tokio::test]
async fn what_is_not_over_is_malformed_and_what_was_not_yet_is_unknown() {
    let s = Server::start().await;
    s.stock("A", 50).await;
    let first = s.engine().log().durable().0;
    s.stock("LATE", 5).await;
    for at in ["2999-01-01T00:00:00Z", "99999999999", "tomorrow", ""] {
        let reply = s.get(&format!("/v1/stock/A?at={at}")).await;
        assert_eq!(reply.is_problem(400, "malformed").json["field"], "at");
    }
    let skus = s.get("/v1/stock?skus=A&at=8").await;
    assert_eq!(skus.is_problem(400, "malformed").json["field"], "at");
    s.get("/v1/stock/NONE?at=8").await.is_problem(404, "unknown_sku");
    s.get(&format!("/v1/stock/LATE?at={}", first - 8)).await.is_problem(404, "unknown_sku");
    s.get("/v1/stock/A?at=2001-01-01T00:00:00Z").await.is_problem(404, "unknown_sku");
    s.get("/v1/stock/A?when=8").await.is_problem(400, "malformed");
}

#[tokio::test]
async fn what_was_recycled_is_told_from_the_archive_and_without_one_archived() {
    for keeps in [true, false] {
        let mut options = engine_options();
        options.wal.archive = options.wal.archive.filter(|_| keeps);
        recycled(Server::with_engine(options).await, keeps).await;
    }
}

async fn recycled(s: Server, keeps: bool) {
    s.stock("A", 1_000).await;
    let before = look(&s).await;
    assert_seen(&s, std::slice::from_ref(&before)).await;
    let oldest = s.engine().log().oldest();
    for round in 0.. {
        assert!(round < 200, "the log is never recycled");
        push_log(s.engine(), round);
        s.engine().checkpoint().unwrap();
        if s.engine().log().oldest() != oldest {
            break;
        }
    }
    if keeps {
        assert_seen(&s, std::slice::from_ref(&before)).await;
    } else {
        for at in [before.lsn.to_string(), before.time] {
            let gone = s.get(&format!("/v1/stock/A?at={at}")).await;
            let detail = gone.is_problem(410, "archived").json["detail"].to_string();
            let oldest = s.engine().log().oldest().to_string();
            assert!(detail.contains(&oldest) && detail.contains("holdfast restore"), "{detail}");
        }
    }
    let last = look(&s).await;
    assert_seen(&s, &[last]).await;
}

/// Whatever happens at once, every moment that was told is told again.
#[tokio::test(flavor = "multi_thread")]
async fn a_past_moment_is_the_same_while_others_write() {
    let s = Server::start().await;
    s.stock("A", 1_000).await;
    let engine = s.engine().clone();
    let writer = std::thread::spawn(move || (0..12).for_each(|round| push_log(&engine, round)));
    let mut told: Vec<(u64, Value)> = Vec::new();
    while !writer.is_finished() {
        let lsn = s.engine().log().durable().0 - 8;
        let stock = s.engine().stock_at(
            &"A".parse().unwrap(),
            At::Lsn(holdfast::model::Lsn(lsn)),
            Reach::Bounded,
        );
        told.push((lsn, serde_json::to_value(stock.unwrap()).unwrap()));
    }
    writer.join().unwrap();
    assert!(told.len() > 3);
    for (lsn, seen) in told {
        assert_eq!(s.get(&format!("/v1/stock/A?at={lsn}")).await.json, seen, "at {lsn}");
        let units = seen["on_hand"].as_i64().unwrap();
        assert!((1_000..=13_000).contains(&units), "{units}");
    }
}
