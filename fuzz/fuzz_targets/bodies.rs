//! Any bytes as the body of any request, and as the message of any hook: the answer is never a fault of
//! the server, and never a panic.
#![no_main]

use std::{
    cell::OnceCell,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header, request::Builder},
};
use holdfast::{
    Engine, Key, Options,
    api::{self, Hook, Partner, Partners},
    config::{Config, Overrides},
    model::{
        mapping::Mapping,
        signature::{Scheme, Signer, Verifier},
    },
};
use libfuzzer_sys::fuzz_target;
use tower::ServiceExt;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The order `F` is there, `G` never is.
const ROUTES: &[(&str, &str)] = &[
    ("PUT", "/v1/stock/A/BER"),
    ("POST", "/v1/stock/adjustments"),
    ("POST", "/v1/stock/import"),
    ("POST", "/v1/reservations"),
    ("POST", "/v1/reservations/batch"),
    ("POST", "/v1/reservations/r000000000000000000000000/release"),
    ("POST", "/v1/reservations/r000000000000000000000000/extend"),
    ("POST", "/v1/reservations/r000000000000000000000000/commit"),
    ("PUT", "/v1/reservations/r000000000000000000000000/lines"),
    ("POST", "/v1/orders"),
    ("POST", "/v1/orders/F/shipments"),
    ("POST", "/v1/orders/F/cancellations"),
    ("POST", "/v1/orders/F/invoices"),
    ("POST", "/v1/orders/F/settlements"),
    ("POST", "/v1/orders/F/refunds"),
    ("POST", "/v1/orders/F/returns"),
    ("POST", "/v1/orders/F/returns/RT/receipts"),
    ("POST", "/v1/orders/F/notes"),
    ("POST", "/v1/orders/G/settlements"),
    ("POST", "/v1/hooks/native"),
    ("POST", "/v1/hooks/mapped"),
];

struct House {
    runtime: tokio::runtime::Runtime,
    router: Router,
    signer: Signer,
    _dir: tempfile::TempDir,
}

/// A partner that sends the native form, and one whose own payloads are mapped.
fn partners() -> Partners {
    let text = include_str!("../../examples/stripe.toml");
    let (path, overrides) = ("stripe.toml".as_ref(), Overrides::default());
    let example = Config::from_parts(path, text, std::iter::empty(), &overrides);
    let example = example.expect("the example").partners.remove(0);
    let rules = example.hook.expect("a hook").rules;
    let partner = |name: &str, rules| {
        let verifier = Verifier::new(Scheme::StandardWebhooks, SECRET, 300).expect("a secret");
        let hook = Some(Hook { verifier, mapping: Mapping(rules), parks: true });
        Partner { name: name.to_owned(), key: None, hook }
    };
    Partners::new(vec![partner("native", vec![]), partner("mapped", rules)]).expect("two partners")
}

/// Stock, and an order with much to ship, to pay and to send back.
fn fill(engine: &Engine) {
    let set = serde_json::from_str(r#"{"on_hand": 1000000}"#).expect("a count");
    let (sku, location) = ("A".parse().expect("a SKU"), "BER".parse().expect("a location"));
    engine.settle_blocking(engine.set_stock(&sku, &location, &set)).expect("stock");
    let order = r#"{"order_id": "F", "currency": "EUR",
        "lines": [{"sku": "A", "quantity": 100000, "unit_price": 1000, "unit_cost": 300}]}"#;
    let order = serde_json::from_str(order).expect("an order");
    let key = "place".parse().expect("a key");
    engine.settle_blocking(engine.place_order(Key::new("", &key), &order)).expect("placed");
}

fn open() -> House {
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = Options::default();
    options.wal.segment_bytes = 1 << 20;
    options.wal.budget_bytes = 256 << 20;
    options.wal.ack = holdfast::wal::Ack::Memory;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let engine = Engine::open(dir.path(), options).expect("an engine");
    fill(&engine);
    let state = api::State::with_partners(api::Options::default(), partners());
    state.ready(engine, Arc::new(api::NoSinks));
    let signer = Signer::new(SECRET).expect("a secret");
    House { runtime, router: api::router(state), signer, _dir: dir }
}

impl House {
    /// The headers that the route asks for.
    fn headers(&self, path: &str, body: &[u8], request: Builder) -> Builder {
        let key = key(path, body);
        if !path.starts_with("/v1/hooks/") {
            return request.header("idempotency-key", key);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
        request
            .header("webhook-signature", self.signer.sign(&key, now, body))
            .header("webhook-timestamp", now)
            .header("webhook-id", key)
    }
}

thread_local! {
    static HOUSE: OnceCell<House> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    let Some((route, body)) = bytes.split_first() else { return };
    let (method, path) = ROUTES[*route as usize % ROUTES.len()];
    let kind = if path.ends_with("import") { "application/x-ndjson" } else { "application/json" };
    HOUSE.with(|house| {
        let house = house.get_or_init(open);
        let request =
            Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, kind);
        let request = house.headers(path, body, request);
        let request = request.body(Body::from(body.to_vec())).expect("a request");
        let answer = house.runtime.block_on(house.router.clone().oneshot(request));
        let status = answer.expect("an answer").status();
        assert_ne!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
        // A long run fills tables, and says so.
        let fault = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
        assert!(!fault, "{method} {path}: {status}");
    });
});

/// A key of its own for each route and body.
fn key(path: &str, body: &[u8]) -> String {
    let bytes = path.bytes().chain(body.iter().copied());
    let sum = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("fuzz-{sum:016x}")
}
