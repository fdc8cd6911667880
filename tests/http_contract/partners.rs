//! API keys: who may call, and whose idempotency keys are whose.

use hmac::digest::Digest;
use holdfast::{
    api::{self, Options, Partner, Partners, State},
    model::{partner::Terms, signature::KeyHash},
};
use serde_json::json;
use sha2::Sha256;
use tokio::net::TcpListener;

use crate::support::{Call, Reply, Server, cart};

const SHOP: &str = "shop-key-0123456789abcdef";
const ERP: &str = "erp-key-0123456789abcdef";

fn partner(name: &str, key: &str) -> Partner {
    let (name, key) = (name.to_owned(), Some(KeyHash::of(key)));
    Partner { name, key, hook: None, terms: Terms::default() }
}

fn two() -> Partners {
    Partners::new(vec![partner("shop", SHOP), partner("erp", ERP)]).unwrap()
}

async fn server() -> Server {
    Server::with_partners(Options::default(), two()).await
}

fn keyed(call: Call, key: &str) -> Call {
    call.header("Authorization", &format!("Bearer {key}"))
}

/// It is refused, and says how to do better.
#[track_caller]
fn is_challenge(reply: &Reply) {
    reply.is_problem(401, "unauthenticated");
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{reply:?}");
}

#[tokio::test]
async fn with_api_keys_every_request_needs_one() {
    let s = server().await;
    for line in [
        "GET /v1/stock/A",
        "GET /v1/status",
        "GET /v1/sinks",
        "GET /metrics",
        "GET /v1/orders/O",
        "PUT /v1/stock/A/BER",
        "POST /v1/reservations",
        "POST /v1/reservations/batch",
        "POST /v1/stock/import",
        "POST /v1/orders/O/refunds",
    ] {
        is_challenge(&s.call(line).send().await);
        is_challenge(&keyed(s.call(line), "wrong-key-0123456789abcdef").send().await);
        let known = keyed(s.call(line), SHOP).send().await;
        assert_ne!(known.status, 401, "{line}: {known:?}");
    }
    for open in [
        "/livez",
        "/readyz",
        "/",
        "/pages/app.js",
        "/problems",
        "/problems/unauthenticated",
        "/openapi.json",
    ] {
        s.get(open).await.is(200);
    }
    s.get("/nothing").await.is_problem(404, "unknown_route");
}

#[tokio::test]
async fn a_key_comes_once_as_a_bearer_token() {
    let s = server().await;
    let with = |values: &[&str]| {
        values.iter().fold(s.call("GET /v1/status"), |c, v| c.header("Authorization", v))
    };
    for good in [format!("Bearer {SHOP}"), format!("bearer {SHOP}"), format!("Bearer  {ERP} ")] {
        with(&[&good]).send().await.is(200);
    }
    let good = format!("Bearer {SHOP}");
    for bad in ["", "Bearer", "Bearer ", SHOP, &format!("Basic {SHOP}"), &good[..good.len() - 1]] {
        is_challenge(&with(&[bad]).send().await);
    }
    is_challenge(&with(&[&good, &good]).send().await);
    is_challenge(&with(&[&good.to_uppercase()]).send().await);
    // The stored hash is no key.
    let hash: String =
        Sha256::digest(SHOP.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    is_challenge(&with(&[&format!("Bearer {hash}")]).send().await);
}

#[tokio::test]
async fn a_request_without_a_key_changes_nothing() {
    let s = server().await;
    let body = json!({"on_hand": 5});
    is_challenge(&s.call("PUT /v1/stock/A/BER").json(&body).send().await);
    let read = keyed(s.call("GET /v1/stock/A"), SHOP).send().await;
    read.is_problem(404, "unknown_sku");
    keyed(s.call("PUT /v1/stock/A/BER").json(&body), SHOP).send().await.is(200);
}

#[tokio::test]
async fn idempotency_keys_are_the_partners_own() {
    let s = server().await;
    let set = s.call("PUT /v1/stock/A/BER").json(&json!({"on_hand": 9}));
    keyed(set, SHOP).send().await.is(200);
    let reserve = |key| {
        let call = s.call("POST /v1/reservations").key("k").json(&cart("A", 1));
        keyed(call, key).send()
    };
    let (shop, erp, again) = (reserve(SHOP).await, reserve(ERP).await, reserve(SHOP).await);
    for reply in [&shop, &erp, &again] {
        reply.is(201);
    }
    assert_ne!(shop.json["id"], erp.json["id"]);
    assert_eq!(shop.json["id"], again.json["id"]);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let batch = |key| {
        let item = json!({"idempotency_key": "k", "lines": [{"sku": "A", "quantity": 1}]});
        let call = s.call("POST /v1/reservations/batch").json(&json!({"reservations": [item]}));
        keyed(call, key).send()
    };
    let batch = batch(ERP).await;
    assert_eq!(batch.is(200).json["results"][0]["id"], erp.json["id"]);
}

#[tokio::test]
async fn without_api_keys_a_header_is_not_looked_at() {
    let s = Server::start().await;
    keyed(s.call("GET /v1/status"), "whatever").send().await.is(200);
}

#[tokio::test]
async fn others_than_this_machine_are_served_where_there_are_keys() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let state = State::with_partners(Options::default(), two());
    let ended = std::future::ready(());
    assert!(api::serve(listener, state, ended).await.is_ok());
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let nobody = Partner { key: None, ..partner("a", SHOP) };
    let state = State::with_partners(Options::default(), Partners::new(vec![nobody]).unwrap());
    let refused = api::serve(listener, state, std::future::ready(())).await;
    assert!(matches!(refused, Err(api::Error::NotLoopback { .. })), "{refused:?}");
}

#[test]
fn partners_that_cannot_be_told_apart_are_refused() {
    let names = Partners::new(vec![partner("a", SHOP), partner("a", ERP)]).unwrap_err();
    assert!(names.to_string().contains("`a`"));
    let keys = Partners::new(vec![partner("a", SHOP), partner("b", SHOP)]).unwrap_err();
    assert!(keys.to_string().contains("`a` and `b`"));
}
