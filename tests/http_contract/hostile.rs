//! Whatever comes in, the server answers, and never with a fault of its own.

use std::net::SocketAddr;

use holdfast::{
    api::{Options, Partners},
    config,
    model::signature::Signer,
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    hooks::{SECRET, hooked, now_s},
    support::{Reply, Server},
};

const CASES: u32 = 1_500;

/// Requests that are taken, to be bent out of shape.
fn seeds(id: &str) -> Vec<(String, String)> {
    let order = json!({"order_id": "O", "customer": "c", "currency": "EUR", "prices": "net",
        "lines": [{"sku": "A", "quantity": 1, "unit_price": 100, "tax_code": "T", "tax": 19}],
        "shipping": 5, "priority": "bulk", "promised_ship_at": "2030-01-01T00:00:00Z"});
    let commit = json!({"order_id": "P", "currency": "EUR", "revive": true,
        "lines": [{"sku": "A", "unit_price": 100, "discount": 1}]});
    let cart = json!({"lines": [{"sku": "A", "quantity": 1, "location": "BER", "split": false}],
        "customer": "c", "order_id": "O-9", "ttl_ms": 1000});
    let mut item = cart.clone();
    item["idempotency_key"] = json!("b");
    let set = json!({"on_hand": 100, "safety_stock": 1, "backorder_limit": 2,
        "per_customer_limit": 3, "source_version": 9, "as_of_lsn": 64, "allow_shortfall": true});
    let adjust = json!({"sku": "A", "location": "BER", "delta": -3, "reason": "count"});
    let of_orders = ["F", "G"].into_iter().flat_map(|order| {
        let facts = facts().into_iter();
        facts.map(move |(route, body)| (format!("POST /v1/orders/{order}/{route}"), body))
    });
    [
        ("PUT /v1/stock/A/BER".to_owned(), set),
        ("POST /v1/stock/adjustments".to_owned(), adjust),
        ("POST /v1/reservations".to_owned(), cart.clone()),
        ("POST /v1/reservations/batch".to_owned(), json!({"reservations": [item]})),
        ("POST /v1/orders".to_owned(), order),
        (
            format!("POST /v1/reservations/{id}/release"),
            json!({"lines": [{"sku": "A", "quantity": 1}]}),
        ),
        (format!("POST /v1/reservations/{id}/extend"), json!({"ttl_ms": 1000})),
        (format!("POST /v1/reservations/{id}/commit"), commit),
        (
            format!("PUT /v1/reservations/{id}/lines"),
            json!({"lines": [{"sku": "A", "quantity": 2}]}),
        ),
    ]
    .into_iter()
    .chain(of_orders)
    .map(|(line, body)| (line, body.to_string()))
    .collect()
}

/// What may happen to an order: the last parts of the routes, and a body for each.
fn facts() -> Vec<(&'static str, Value)> {
    let line = json!([{"sku": "A", "quantity": 1, "location": "BER"}]);
    let unplaced = json!([{"sku": "A", "quantity": 1}]);
    vec![
        ("shipments", json!({"shipment_id": "S", "lines": line, "carrier": "C", "tracking": "T"})),
        ("cancellations", json!({"cancellation_id": "C", "lines": line})),
        ("invoices", json!({"invoice_id": "I", "currency": "EUR", "amount": 10, "tax": 1})),
        ("settlements", json!({"settlement_id": "P", "currency": "EUR", "amount": 10, "fee": 1})),
        (
            "refunds",
            json!({"refund_id": "R", "currency": "EUR", "amount": 1, "tax": 0, "reason": "x"}),
        ),
        ("returns", json!({"return_id": "RT", "lines": unplaced, "restock": true})),
        ("returns/RT/receipts", json!({"receipt_id": "RC", "lines": line})),
        ("notes", json!({"note_id": "N", "text": "x"})),
    ]
}

/// An order with much to ship, to pay and to send back; another one is never there.
async fn place(server: &Server) {
    let order = json!({"order_id": "F", "currency": "EUR",
        "lines": [{"sku": "A", "quantity": 100_000, "unit_price": 1_000, "unit_cost": 300}]});
    server.post("/v1/orders", "place", order).await.is(201);
}

/// A change to a body.
#[derive(Debug, Clone)]
enum Bend {
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, &'static str),
    Replace(usize, &'static str),
}

const PIECES: [&str; 16] = [
    "\"",
    "{",
    "}",
    "[",
    "]",
    "null",
    "-1",
    "0",
    "1e400",
    "18446744073709551616",
    "-9223372036854775808",
    "\\u0000",
    "\\ud800",
    "true",
    "{\"a\":",
    "9999-12-31T23:59:60Z",
];

fn bend() -> impl Strategy<Value = Bend> {
    let piece = || proptest::sample::select(&PIECES[..]);
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, to)| Bend::Flip(at, to)),
        any::<usize>().prop_map(Bend::Cut),
        (any::<usize>(), piece()).prop_map(|(at, text)| Bend::Insert(at, text)),
        (any::<usize>(), piece()).prop_map(|(nth, text)| Bend::Replace(nth, text)),
    ]
}

fn bent(body: &str, bends: &[Bend]) -> Vec<u8> {
    let mut bytes = body.as_bytes().to_vec();
    for bend in bends {
        let at = |n: usize, len: usize| if len == 0 { 0 } else { n % len };
        match bend {
            Bend::Flip(n, to) if !bytes.is_empty() => {
                let at = at(*n, bytes.len());
                bytes[at] = *to;
            }
            Bend::Flip(..) => {}
            Bend::Cut(n) => bytes.truncate(at(*n, bytes.len())),
            Bend::Insert(n, text) => {
                let at = at(*n, bytes.len());
                bytes.splice(at..at, text.bytes());
            }
            Bend::Replace(n, text) => replace_value(&mut bytes, *n, text),
        }
    }
    bytes
}

/// Replaces the value behind one of the colons.
fn replace_value(bytes: &mut Vec<u8>, nth: usize, text: &str) {
    let colons: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] == b':').collect();
    if colons.is_empty() {
        return;
    }
    let start = colons[nth % colons.len()] + 1;
    let end = bytes[start..]
        .iter()
        .position(|b| matches!(b, b',' | b'}'))
        .map_or(bytes.len(), |n| start + n);
    bytes.splice(start..end, text.bytes());
}

/// The same cases in every run.
fn runner() -> TestRunner {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// A client that keeps its connection as long as the server does.
struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Client {
    async fn send(&mut self, head: &[u8], body: &[u8]) -> Reply {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.address).await.unwrap(),
        };
        stream.write_all(&[head, body].concat()).await.unwrap();
        let reply = Reply::read(&mut stream).await;
        if reply.header("connection") != Some("close") && reply.status != 413 {
            self.stream = Some(stream);
        }
        reply
    }
}

fn check(line: &str, body: &[u8], reply: &Reply) -> Result<(), TestCaseError> {
    let shown = String::from_utf8_lossy(body);
    prop_assert!(reply.status < 500, "{line} {shown} -> {reply:?}");
    prop_assert!(reply.header("x-request-id").is_some());
    if reply.status >= 400 {
        prop_assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        prop_assert!(reply.json["code"].is_string());
    }
    Ok(())
}

#[test]
fn bent_bodies_are_answered_without_a_fault() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, id) = runtime.block_on(async {
        let server = Server::start().await;
        server.stock("A", 1_000_000).await;
        let id = server.hold("k", "A", 5).await;
        place(&server).await;
        (server, id)
    });
    let seeds = seeds(&id);
    let mut count = 0;
    let client = std::cell::RefCell::new(Client { address: server.address, stream: None });
    let strategy = (proptest::sample::select(seeds), proptest::collection::vec(bend(), 0..4));
    let counter = std::cell::Cell::new(0_u32);
    let result = runner().run(&strategy, |((line, body), bends)| {
        counter.set(counter.get() + 1);
        let body = bent(&body, &bends);
        let call = server.call(&line).key(&format!("f{}", counter.get()));
        let head = call.header("Content-Type", "application/json").head(Some(body.len()));
        let reply = runtime.block_on(client.borrow_mut().send(&head, &body));
        check(&line, &body, &reply)
    });
    result.unwrap();
    count += counter.get();
    assert!(count >= CASES);
    runtime.block_on(async { server.get("/readyz").await.is(200).status });
}

/// Hooks' payloads: in the native form, about an order that is there and one that is not, and a
/// provider's own.
fn payloads() -> Vec<(&'static str, String)> {
    let native = ["F", "G"].into_iter().flat_map(|order| {
        facts().into_iter().map(move |(route, mut data)| {
            data["order_id"] = json!(order);
            if route.ends_with("receipts") {
                data["return_id"] = json!("RT");
            }
            let kind = route.rsplit('/').next().unwrap_or_default().trim_end_matches('s');
            ("wms", json!({"type": kind, "data": data}).to_string())
        })
    });
    let stock = json!({"sku": "A", "location": "BER", "on_hand": 9, "source_version": 1});
    let adjust = json!({"sku": "A", "location": "BER", "delta": 1, "reason": "receipt"});
    let stock = [("stock_set", stock), ("stock_adjustment", adjust), ("ignore", json!({}))];
    let stock = stock.map(|(kind, data)| ("wms", json!({"type": kind, "data": data}).to_string()));
    let stripe = [
        include_str!("../../examples/stripe/charge.succeeded.json"),
        include_str!("../../examples/stripe/refund.created.json"),
        include_str!("../../examples/stripe/charge.refunded.json"),
        include_str!("../../examples/stripe/charge.dispute.created.json"),
    ];
    let stripe = stripe.map(|payload| ("mapped", payload.to_owned()));
    native.chain(stock).chain(stripe).collect()
}

#[test]
fn bent_messages_are_answered_without_a_fault() {
    let text = include_str!("../../examples/stripe.toml");
    let overrides = config::Overrides::default();
    let example = config::Config::from_parts("x".as_ref(), text, std::iter::empty(), &overrides);
    let rules = example.unwrap().partners.remove(0).hook.unwrap().rules;
    let partners =
        Partners::new(vec![hooked("wms", SECRET, vec![]), hooked("mapped", SECRET, rules)]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(async {
        let server = Server::with_partners(Options::default(), partners.unwrap()).await;
        server.stock("A", 1_000_000).await;
        place(&server).await;
        server
    });
    let signer = Signer::new(SECRET).unwrap();
    let client = std::cell::RefCell::new(Client { address: server.address, stream: None });
    let strategy = (proptest::sample::select(payloads()), proptest::collection::vec(bend(), 0..4));
    let (counter, taken) = (std::cell::Cell::new(0_u32), std::cell::RefCell::new([0_u32; 600]));
    let result = runner().run(&strategy, |((partner, payload), bends)| {
        counter.set(counter.get() + 1);
        let (body, id, at) = (bent(&payload, &bends), format!("f{}", counter.get()), now_s());
        let line = format!("POST /v1/hooks/{partner}");
        let call = server.call(&line).header("webhook-id", &id);
        let call = call.header("webhook-timestamp", &at.to_string());
        let call = call.header("webhook-signature", &signer.sign(&id, at, &body));
        let head = call.header("Content-Type", "application/json").head(Some(body.len()));
        let reply = runtime.block_on(client.borrow_mut().send(&head, &body));
        taken.borrow_mut()[usize::from(reply.status)] += 1;
        prop_assert_ne!(reply.status, 401, "it is signed");
        check(&line, &body, &reply)
    });
    result.unwrap();
    // Not all were bent so far that nothing of them was looked at.
    let taken = taken.into_inner();
    for status in [200, 201, 202, 400, 409, 422] {
        assert!(taken[status] > 10, "{status}: {}", taken[status]);
    }
}

#[test]
fn random_bytes_as_body_or_target_are_answered_without_a_fault() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::start());
    let client = std::cell::RefCell::new(Client { address: server.address, stream: None });
    let bytes = proptest::collection::vec(any::<u8>(), 0..300);
    let target = "/(v1/)?(stock|reservations|orders|%[0-9A-F]{2}|[a-z.?=&,%]{0,6}){1,3}(/[!-~&&[^#]]{0,8}){0,2}";
    let strategy = (bytes, target, proptest::bool::ANY);
    let result = runner().run(&strategy, |(body, target, get)| {
        let line = if get { format!("GET {target}") } else { format!("POST {target}") };
        let call = server.call(&line).key("k").header("Content-Type", "application/json");
        let head = call.head(Some(body.len()));
        let reply = runtime.block_on(client.borrow_mut().send(&head, &body));
        // A target that isn't one is refused before any route is looked for.
        if reply.status == 400 && reply.body.is_empty() {
            client.borrow_mut().stream = None;
            return Ok(());
        }
        check(&line, &body, &reply)
    });
    result.unwrap();
}

#[test]
fn random_import_lines_are_answered_one_by_one() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::start());
    let lines: Vec<String> = (0..500)
        .map(|n| format!("{{\"sku\":\"S{n}\",\"location\":\"BER\",\"on_hand\":{n}}}"))
        .collect();
    let strategy = proptest::collection::vec(proptest::collection::vec(bend(), 0..3), 500);
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 10, failure_persistence: None, ..Config::default() },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let result = runner.run(&strategy, |bends| {
        let bent: Vec<_> =
            lines.iter().zip(&bends).map(|(line, bends)| bent(line, bends)).collect();
        let body = bent.join(&b'\n');
        let blank = body.split(|b| *b == b'\n').filter(|l| l.iter().all(u8::is_ascii_whitespace));
        let whole = body.split(|b| *b == b'\n').count() - blank.count();
        let call =
            server.call("POST /v1/stock/import").header("Content-Type", "application/x-ndjson");
        let reply = runtime.block_on(call.bytes(&body).send());
        prop_assert_eq!(reply.status, 200);
        let refused = reply.json["refused"].as_array().unwrap().len() as u64;
        prop_assert_eq!(reply.json["applied"].as_u64().unwrap() + refused, whole as u64);
        Ok(())
    });
    result.unwrap();
}

#[tokio::test]
async fn requests_that_contradict_themselves_are_refused() {
    let s = Server::start().await;
    let smuggled = "POST /v1/reservations HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\
                    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\n\r\n";
    let twice = "PUT /v1/stock/A/BER HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\
                 Content-Length: 3\r\n\r\n{} ";
    for bytes in [smuggled, twice] {
        let mut stream = TcpStream::connect(s.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    s.get("/livez").await.is(200);
}
