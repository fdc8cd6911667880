//! A server whose sinks' partners keep what they get, and a life of a shop in which everything happens.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::Path as Segment, http::HeaderMap, routing::post};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime};

use super::cli::{self, Server, holdfast};

const PATIENCE: Duration = Duration::from_secs(30);

/// What came: sink, headers, body.
pub type Got = (String, HeaderMap, Value);

/// A receiver that takes everything and keeps it.
pub struct Receiver {
    pub url: String,
    got: Arc<Mutex<Vec<Got>>>,
    _runtime: Runtime,
}

impl Receiver {
    pub fn start() -> Self {
        let runtime = cli::runtime();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let kept = got.clone();
        let take = move |Segment(sink): Segment<String>, headers: HeaderMap, body: Bytes| {
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            kept.lock().unwrap().push((sink, headers, body));
            async { "{}" }
        };
        let app = Router::new().route("/{sink}", post(take));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { url, got, _runtime: runtime }
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

/// The configuration of a sink.
pub fn sink(name: &str, domain: &str, url: &str) -> String {
    format!(
        "[[sinks]]\nname = \"{name}\"\ndomain = \"{domain}\"\nurl = \"{url}/{name}\"\n\
         window_ms_max = 20\nretry_initial_ms = 10\nretry_max_ms = 50\n"
    )
}

/// Starts a server with a configuration.
pub fn serve(folder: &Path, config: &str) -> Server {
    let path = folder.join("holdfast.toml");
    std::fs::write(&path, config).unwrap();
    Server::start_with(&folder.join("data"), holdfast().env("HOLDFAST_CONFIG", path))
}

pub fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a request was answered.
pub type Answers = Vec<(String, u16, Value)>;

/// Everything that can happen to stock and to an order, once; the answers, by path.
pub fn live(server: &Server) -> Answers {
    let runtime = cli::runtime();
    let client = cli::client();
    let mut answers = Vec::new();
    let mut ask = |method: &str, path: &str, body: Value| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let key = format!("k-{}", answers.len());
        let request = client.request(method, format!("{}{path}", server.url));
        let request = request.header("idempotency-key", key).json(&body);
        let (status, body): (u16, Value) = runtime.block_on(async {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json().await.unwrap())
        });
        assert!(status < 300, "{path}: {status} {body}");
        answers.push((path.to_owned(), status, body.clone()));
        body
    };
    let line = |sku: &str, n: u32| json!({"sku": sku, "quantity": n, "location": "BER"});
    for sku in ["TEE-M", "MUG"] {
        let set = json!({"on_hand": 100, "per_customer_limit": 50, "source_version": 1});
        ask("PUT", &format!("/v1/stock/{sku}/BER"), set);
    }
    let receipt = json!({"sku": "TEE-M", "location": "BER", "delta": 5, "reason": "receipt",
        "reference": "GR-1"});
    ask("POST", "/v1/stock/adjustments", receipt);
    let cart = json!({"lines": [line("TEE-M", 4), line("MUG", 2)], "customer": "c-1"});
    let held = ask("POST", "/v1/reservations", cart.clone());
    let id = held["id"].as_str().unwrap().to_owned();
    let at = |what: &str| format!("/v1/reservations/{id}{what}");
    ask("POST", &at("/extend"), json!({"ttl_ms": 60_000}));
    ask("PUT", &at("/lines"), json!({"lines": [line("TEE-M", 5), line("MUG", 2)]}));
    ask(
        "POST",
        &at("/release"),
        json!({"lines": [{"sku": "TEE-M", "quantity": 1, "location": "BER"}]}),
    );
    let price = |sku: &str, price: u32| json!({"sku": sku, "unit_price": price, "tax_code": "DE-19", "tax": price / 10});
    let commit = json!({"order_id": "O-1", "currency": "EUR", "shipping": 490, "priority": "express",
        "lines": [price("TEE-M", 1999), price("MUG", 900)],
        "promised_ship_at": "2030-01-01T00:00:00Z"});
    ask("POST", &at("/commit"), commit);
    let mut gone = cart;
    gone["ttl_ms"] = 1.into();
    ask("POST", "/v1/reservations", gone);
    let one_step = json!({"order_id": "O-2", "currency": "EUR", "customer": "c-2",
        "lines": [{"sku": "MUG", "quantity": 3, "location": "BER", "unit_price": 900}]});
    ask("POST", "/v1/orders", one_step);
    let units = |sku: &str, n: u32| json!([{"sku": sku, "quantity": n, "location": "BER"}]);
    let at = |what: &str| format!("/v1/orders/O-1{what}");
    let money = |id: &str, amount: u32, more: &str| json!({id: "D-1", "currency": "EUR", "amount": amount, more: 10});
    ask(
        "POST",
        &at("/cancellations"),
        json!({"cancellation_id": "C-1", "lines": units("TEE-M", 1)}),
    );
    ask(
        "POST",
        &at("/shipments"),
        json!({"shipment_id": "S-1", "lines": units("TEE-M", 3),
        "carrier": "DHL", "tracking": "42"}),
    );
    ask("POST", &at("/invoices"), money("invoice_id", 1_000, "tax"));
    ask("POST", &at("/settlements"), money("settlement_id", 1_000, "fee"));
    ask("POST", &at("/refunds"), money("refund_id", 100, "tax"));
    let back = |id: &str| json!({id: "R-1", "lines": [{"sku": "TEE-M", "quantity": 1}]});
    ask("POST", &at("/returns"), back("return_id"));
    let mut came = back("receipt_id");
    came["lines"][0]["location"] = "BER".into();
    ask("POST", &at("/returns/R-1/receipts"), came);
    ask("POST", &at("/notes"), json!({"note_id": "N-1", "text": "rang twice"}));
    ask("GET", &at(""), Value::Null);
    ask("GET", "/v1/stock/TEE-M", Value::Null);
    answers
}
