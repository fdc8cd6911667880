//! Any bytes as the body of any request: the answer is never a 5xx, and never a panic.
#![no_main]

use std::{cell::OnceCell, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{Request, header},
};
use holdfast::{Engine, Options, api};
use libfuzzer_sys::fuzz_target;
use tower::ServiceExt;

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
];

struct House {
    runtime: tokio::runtime::Runtime,
    router: Router,
    _dir: tempfile::TempDir,
}

fn open() -> House {
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = Options::default();
    options.wal.segment_bytes = 1 << 20;
    options.wal.budget_bytes = 256 << 20;
    options.wal.ack = holdfast::wal::Ack::Memory;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let engine = Engine::open(dir.path(), options).expect("an engine");
    let state = api::State::new(api::Options::default());
    state.ready(engine, Arc::new(api::NoSinks));
    House { runtime, router: api::router(state), _dir: dir }
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
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, kind)
            .header("idempotency-key", key(body))
            .body(Body::from(body.to_vec()))
            .expect("a request");
        let answer = house.runtime.block_on(house.router.clone().oneshot(request));
        let status = answer.expect("an answer").status();
        assert!(!status.is_server_error(), "{method} {path}: {status}");
    });
});

/// A key of its own for each body.
fn key(body: &[u8]) -> String {
    let sum = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("fuzz-{sum:016x}")
}
