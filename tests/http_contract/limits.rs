//! Nothing is unbounded: bodies, headers, times, requests under way; and how the server stops.

use std::time::{Duration, Instant};

use holdfast::{
    api::{self, Options, State},
    engine,
    model::Lsn,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{Reply, Server, cart, engine_options, payment, wait_until};

#[tokio::test]
async fn a_body_that_is_too_large_is_413() {
    let s = Server::with(Options { body_bytes_max: 10_000, ..Options::default() }).await;
    s.stock("A", 5).await;
    let padded = |bytes: usize| {
        let body = cart("A", 1).to_string();
        format!("{}{body}", " ".repeat(bytes - body.len()))
    };
    let call = |body: &str| s.call("POST /v1/reservations").key("k").text("application/json", body);
    let large = call(&padded(10_001)).send().await;
    assert_eq!(large.is_problem(413, "too_large").json["limit_bytes"], 10_000);
    call(&padded(5_000_000)).send().await.is_problem(413, "too_large");
    call(&padded(10_000)).send().await.is(201);
    // Without a length it is counted while it comes.
    let call = s.call("PUT /v1/stock/A/BER").header("Content-Type", "application/json");
    let mut stream = call.header("Transfer-Encoding", "chunked").begin(None).await;
    for _ in 0..20 {
        let chunk = format!("3e8\r\n{}\r\n", " ".repeat(1_000));
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
    Reply::read(&mut stream).await.is_problem(413, "too_large");
}

#[tokio::test]
async fn a_body_in_pieces_is_put_together() {
    let s = Server::start().await;
    let call = s.call("PUT /v1/stock/A/BER").header("Content-Type", "application/json");
    let mut stream = call.header("Transfer-Encoding", "chunked").begin(None).await;
    for byte in r#"{"on_hand": 7}"#.chars() {
        stream.write_all(format!("1\r\n{byte}\r\n").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.is(200).json["on_hand"], 7);
}

#[tokio::test]
async fn headers_have_limits() {
    let s = Server::starting(Options::default()).await;
    let many = (0..80).fold(s.call("GET /livez"), |call, n| call.header(&format!("x-{n}"), "1"));
    many.send().await.is_problem(431, "headers_too_large");
    let long = s.call("GET /livez").header("x-long", &"x".repeat(17_000));
    long.send().await.is_problem(431, "headers_too_large");
    let target = s.get(&format!("/livez?{}", "x".repeat(17_000))).await;
    target.is_problem(431, "headers_too_large");
    let within = s.call("GET /livez").header("x-long", &"x".repeat(8_000));
    within.send().await.is(200);
    // Far beyond, the connection itself refuses.
    let mut stream = TcpStream::connect(s.address).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n", "x".repeat(500_000));
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{answer:?}");
    s.get("/livez").await.is(200);
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let s = Server::starting(Options { header_read_timeout_ms: 100, ..Options::default() }).await;
    for begun in ["", "GET /livez HT"] {
        let mut stream = TcpStream::connect(s.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let started = Instant::now();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
        assert!(closed.await.is_ok(), "closed");
        assert!(started.elapsed() >= Duration::from_millis(50));
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408_and_changes_nothing() {
    let s = Server::with(Options { request_timeout_ms: 150, ..Options::default() }).await;
    s.stock("A", 5).await;
    let call = s.call("POST /v1/reservations").key("k").header("Content-Type", "application/json");
    let mut stream = call.begin(Some(100)).await;
    stream.write_all(b"{\"lines\":").await.unwrap();
    Reply::read(&mut stream).await.is_problem(408, "request_timeout");
    assert_eq!(s.available("A").await, 5);
}

#[tokio::test]
async fn beyond_the_limit_of_requests_under_way_is_503_overloaded() {
    let s = Server::with(Options { in_flight_max: 1, ..Options::default() }).await;
    s.stock("A", 5).await;
    let body = cart("A", 1).to_string();
    let call = s.call("POST /v1/reservations").key("k").header("Content-Type", "application/json");
    let mut slow = call.begin(Some(body.len())).await;
    wait_until(|| s.state.in_flight() == 1).await;
    s.post("/v1/reservations", "k2", cart("A", 1)).await.is_problem(503, "overloaded");
    s.get("/v1/stock/A").await.is_problem(503, "overloaded");
    s.get("/livez").await.is(200);
    s.get("/v1/status").await.is(200);
    slow.write_all(body.as_bytes()).await.unwrap();
    Reply::read(&mut slow).await.is(201);
    wait_until(|| s.state.in_flight() == 0).await;
    assert_eq!(s.available("A").await, 4);
}

#[tokio::test]
async fn a_full_log_refuses_what_is_new_and_lets_through_what_closes() {
    let mut options = engine_options();
    options.wal.segment_bytes = 64 << 10;
    options.wal.budget_bytes = 512 << 10;
    let s = Server::with_engine(options).await;
    s.stock("A", 100_000).await;
    // A reader that never moves on keeps the log from being recycled.
    s.engine().hold_log("test", Lsn(0));
    let (first, second) = (s.hold("h1", "A", 1).await, s.hold("h2", "A", 1).await);
    let mut granted = 2;
    let refused = loop {
        let item = |n: usize| {
            json!({"idempotency_key": format!("k{}", granted + n),
            "lines": [{"sku": "A", "quantity": 1}]})
        };
        let batch = json!({"reservations": (0..100).map(item).collect::<Vec<_>>()});
        let reply = s.call("POST /v1/reservations/batch").json(&batch).send().await;
        let results = reply.is(200).json["results"].as_array().unwrap().clone();
        granted += results.iter().filter(|r| r["status"] == 201).count();
        if let Some(refused) = results.into_iter().find(|r| r["status"] != 201) {
            break refused;
        }
        assert!(granted < 50_000, "the log never fills");
    };
    assert_eq!(refused["code"], "log_full");
    s.post("/v1/reservations", "new", cart("A", 1)).await.is_problem(503, "log_full");
    let mut order = payment("A", 100);
    order["order_id"] = json!("O");
    s.post(&format!("/v1/reservations/{first}/commit"), "c", order).await.is(200);
    s.post(&format!("/v1/reservations/{second}/release"), "r", json!({})).await.is(200);
    s.get("/v1/orders/O").await.is(200);
    s.get("/readyz").await.is(200);
    assert_eq!(s.available("A").await, 100_000 - granted as i64 + 1);
}

/// Beyond `orders_max` nothing new is placed, and that is told; what is there goes on.
#[tokio::test]
async fn beyond_the_limit_of_orders_is_503_overloaded_and_nothing_is_lost() {
    let s = Server::with_engine(engine::Options { orders_max: 2, ..engine_options() }).await;
    s.stock("A", 10).await;
    let order = |id: &str| {
        let mut order = payment("A", 100);
        order["order_id"] = json!(id);
        order
    };
    let held = s.hold("h", "A", 2).await;
    for id in ["O-1", "O-2"] {
        let cart = s.hold(id, "A", 1).await;
        s.post(&format!("/v1/reservations/{cart}/commit"), &format!("c-{id}"), order(id))
            .await
            .is(200);
    }
    let commit = format!("/v1/reservations/{held}/commit");
    let refused = s.post(&commit, "c", order("O-3")).await;
    refused.is_problem(503, "overloaded");
    let placed = json!({"order_id": "O-4", "currency": "EUR", "lines": [
        {"sku": "A", "quantity": 1, "unit_price": 100}]});
    s.post("/v1/orders", "o", placed).await.is_problem(503, "overloaded");
    // The cart is still held, no unit is lost, and what happens to the others is taken.
    assert_eq!(s.get(&format!("/v1/reservations/{held}")).await.is(200).json["state"], "held");
    assert_eq!(s.available("A").await, 6);
    let all = json!({"cancellation_id": "X", "lines": [{"sku": "A", "quantity": 1}]});
    s.post("/v1/orders/O-1/cancellations", "x", all).await.is(201);
    let status = s.get("/v1/status").await.json.clone();
    assert_eq!((&status["orders"], &status["orders_max"]), (&json!(2), &json!(2)));
    let metrics = String::from_utf8(s.get("/metrics").await.is(200).body.clone()).unwrap();
    for line in ["\nholdfast_orders 2\n", "\nholdfast_orders_max 2\n"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    // Of a cancelled order the id stays its own, over a restart too.
    let s = s.restarted().await;
    assert_eq!(s.get("/v1/orders/O-1").await.is(200).json["state"], "cancelled");
}

#[tokio::test]
async fn an_answer_that_is_not_certain_in_time_is_504_and_a_repeat_learns_it() {
    // Next to no wait: now and then the log takes longer.
    let s = Server::with(Options { request_timeout_ms: 0, ..Options::default() }).await;
    s.engine()
        .settle(s.engine().set_stock(
            &"A".parse().unwrap(),
            &"BER".parse().unwrap(),
            &serde_json::from_value(json!({"on_hand": 100_000})).unwrap(),
        ))
        .await
        .unwrap();
    let mut keys = (0..10_000).map(|n| format!("k{n}"));
    let (taken, key) = loop {
        let key = keys.next().expect("an answer that is late");
        let before = s.available("A").await;
        let reply = s.post("/v1/reservations", &key, cart("A", 1)).await;
        if reply.status != 201 {
            reply.is_problem(504, "outcome_unknown");
            break (before - s.available("A").await, key);
        }
    };
    assert_eq!(taken, 1, "it was done");
    let log = s.engine().log();
    log.wait(log.appended()).await.unwrap();
    let before = s.available("A").await;
    let again = s.post("/v1/reservations", &key, cart("A", 1)).await;
    assert_eq!(again.is(201).header("idempotent-replayed"), Some("true"));
    assert_eq!(s.available("A").await, before);
}

#[tokio::test]
async fn a_caller_who_goes_away_is_no_longer_counted() {
    let s = Server::with(Options { in_flight_max: 1, ..Options::default() }).await;
    let call = s.call("PUT /v1/stock/A/BER").header("Content-Type", "application/json");
    let slow = call.begin(Some(100)).await;
    wait_until(|| s.state.in_flight() == 1).await;
    drop(slow);
    wait_until(|| s.state.in_flight() == 0).await;
    s.stock("A", 5).await;
}

#[tokio::test]
async fn a_shutdown_answers_what_was_accepted_and_refuses_what_comes() {
    let mut s = Server::start().await;
    s.stock("A", 5).await;
    let mut idle = s.call("GET /livez").begin(None).await;
    Reply::read(&mut idle).await.is(200);
    let body = cart("A", 1).to_string();
    let call = s.call("POST /v1/reservations").key("k").header("Content-Type", "application/json");
    let mut accepted = call.begin(Some(body.len())).await;
    wait_until(|| s.state.in_flight() == 1).await;
    s.begin_stop();
    wait_until(|| s.state.is_draining()).await;
    let refused = s.post("/v1/reservations", "k2", cart("A", 1)).await;
    refused.is_problem(503, "shutting_down");
    // So is what comes over a connection that was open before.
    idle.write_all(&s.call("GET /v1/stock/A").head(None)).await.unwrap();
    let refused = Reply::read(&mut idle).await;
    refused.is_problem(503, "shutting_down");
    assert_eq!(refused.header("connection"), Some("close"));
    s.get("/readyz").await.is_problem(503, "shutting_down");
    accepted.write_all(body.as_bytes()).await.unwrap();
    Reply::read(&mut accepted).await.is(201);
    let address = s.address;
    s.stopped().await;
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_idle_connections() {
    let mut s = Server::starting(Options::default()).await;
    let mut idle = s.call("GET /livez").begin(None).await;
    Reply::read(&mut idle).await.is(200);
    let started = Instant::now();
    s.begin_stop();
    s.stopped().await;
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_shutdown_cuts_what_lasts_beyond_the_grace() {
    let mut s = Server::with(Options { shutdown_grace_ms: 200, ..Options::default() }).await;
    let call = s.call("PUT /v1/stock/A/BER").header("Content-Type", "application/json");
    let mut stuck = call.begin(Some(100)).await;
    wait_until(|| s.state.in_flight() == 1).await;
    s.begin_stop();
    s.stopped().await;
    let mut rest = Vec::new();
    let _ = stuck.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn connections_have_a_limit() {
    let s = Server::starting(Options { connections_max: 1, ..Options::default() }).await;
    let mut first = s.call("GET /livez").begin(None).await;
    Reply::read(&mut first).await.is(200);
    // The second waits to be accepted until the first is gone.
    let mut second = s.call("GET /livez").header("Connection", "close").begin(None).await;
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(150), second.peek(&mut byte)).await;
    assert!(early.is_err(), "answered beyond the limit");
    drop(first);
    Reply::read(&mut second).await.is(200);
}

#[tokio::test]
async fn a_connection_is_kept_for_further_requests() {
    let s = Server::start().await;
    s.stock("A", 5).await;
    let call = s.call("GET /v1/stock/A");
    let mut stream = call.begin(None).await;
    for _ in 0..3 {
        Reply::read(&mut stream).await.is(200);
        stream.write_all(&call.head(None)).await.unwrap();
    }
    // Also after a request that was refused.
    Reply::read(&mut stream).await.is(200);
    stream.write_all(&s.call("GET /nothing").head(None)).await.unwrap();
    Reply::read(&mut stream).await.is(404);
    stream.write_all(&call.head(None)).await.unwrap();
    Reply::read(&mut stream).await.is(200);
}

#[tokio::test]
async fn only_this_machine_is_served() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let state = State::new(Options::default());
    let refused = api::serve(listener, state, std::future::pending()).await;
    assert!(matches!(refused, Err(api::Error::NotLoopback { .. })), "{refused:?}");
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("0.0.0.0") && text.contains("127.0.0.1"), "{text}");
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let s = Server::starting(Options::default()).await;
    for bytes in [&b"nonsense\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00", b"GET  HTTP/9\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(s.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    }
    s.get("/livez").await.is(200);
    let set = s.put("/v1/stock/A/BER", json!({"on_hand": 1})).await;
    set.is_problem(503, "starting");
}
