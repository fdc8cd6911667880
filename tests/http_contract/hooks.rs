//! Hooks: signed messages in the native form, and what is done about those that are not right.

use std::time::{SystemTime, UNIX_EPOCH};

use holdfast::{
    api::{Hook, Options, Partner, Partners},
    model::{
        mapping::{Mapping, Rule},
        partner::{Limits, Terms},
        signature::{KeyHash, Scheme, Signer, Verifier},
    },
};
use serde_json::{Value, json};

use crate::support::{Call, Reply, Server};

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn limits() -> Limits {
    Limits { rate_per_s: Some(1_000), ..Limits::default() }
}

pub fn hooked(name: &str, secret: &str, rules: Vec<Rule>) -> Partner {
    let verifier = Verifier::new(Scheme::StandardWebhooks, secret, 300).unwrap();
    let hook = Hook { verifier, mapping: Mapping(rules), parks: true, limits: limits() };
    Partner { name: name.to_owned(), key: None, hook: Some(hook), terms: Terms::default() }
}

async fn server_of(partners: Vec<Partner>) -> Server {
    Server::with_partners(Options::default(), Partners::new(partners).unwrap()).await
}

pub async fn server() -> Server {
    let nobody =
        Partner { name: "keyless".to_owned(), key: None, hook: None, terms: Terms::default() };
    server_of(vec![hooked("wms", SECRET, vec![]), hooked("psp", OTHER, vec![]), nobody]).await
}

/// A message of `wms`, signed at a time.
fn signed_at(s: &Server, id: &str, at_s: u64, body: &str) -> Call {
    let signature = Signer::new(SECRET).unwrap().sign(id, at_s, body.as_bytes());
    s.call("POST /v1/hooks/wms")
        .header("webhook-id", id)
        .header("webhook-timestamp", &at_s.to_string())
        .header("webhook-signature", &signature)
        .text("application/json", body)
}

pub async fn send(s: &Server, id: &str, payload: Value) -> Reply {
    signed_at(s, id, now_s(), &payload.to_string()).send().await
}

/// An order of three units of A at BER, and one of B.
pub async fn place(s: &Server, id: &str) {
    s.put("/v1/stock/A/BER", json!({"on_hand": 10})).await.is(200);
    s.put("/v1/stock/B/BER", json!({"on_hand": 10})).await.is(200);
    let order = json!({"order_id": id, "currency": "EUR", "lines": [
        {"sku": "A", "quantity": 3, "unit_price": 1000},
        {"sku": "B", "quantity": 1, "unit_price": 1488}]});
    s.post("/v1/orders", &format!("place-{id}"), order).await.is(201);
}

pub fn shipment(id: &str, quantity: i64) -> Value {
    json!({"type": "shipment", "timestamp": "2026-01-01T00:00:00Z", "data": {"order_id": "O-1",
        "shipment_id": id, "lines": [{"sku": "A", "quantity": quantity}], "carrier": "DHL"}})
}

#[tokio::test]
async fn too_many_messages_are_refused_and_strangers_use_up_nothing_of_the_partners() {
    let mut partner = hooked("wms", SECRET, vec![]);
    let hook = partner.hook.as_mut().unwrap();
    hook.limits = Limits { rate_per_s: Some(1), burst: Some(4), ..Limits::default() };
    let s = server_of(vec![partner]).await;
    let forged = || s.call("POST /v1/hooks/wms").header("webhook-id", "x").json(&json!({}));
    for left in [3, 2] {
        let reply = forged().send().await;
        reply.is_problem(401, "unauthenticated");
        let told = reply.header("ratelimit").unwrap();
        assert!(told.starts_with(&format!("\"rate\";r={left};")), "{told}");
    }
    let mut refused = 0;
    for _ in 0..20 {
        let reply = forged().send().await;
        refused += usize::from(reply.status == 429);
    }
    assert!(refused >= 10, "{refused}");
    // Of the partner's own messages four are taken at once, and then one a second.
    let note = |n: usize| json!({"type": "ignored", "data": {"n": n}});
    let mut statuses = Vec::new();
    for n in 0..12 {
        let reply = send(&s, &format!("m-{n}"), note(n)).await;
        assert_eq!(reply.header("ratelimit-policy"), Some(r#""rate";q=4;w=4"#), "{reply:?}");
        if reply.status == 429 {
            reply.is_problem(429, "rate_limited");
            assert_eq!(reply.header("retry-after"), Some("1"));
        }
        statuses.push(reply.status);
    }
    assert!(statuses[..4].iter().all(|status| *status != 429), "{statuses:?}");
    let too_many = statuses.iter().filter(|status| **status == 429).count();
    assert!(too_many >= 5, "{statuses:?}");
    let metrics = s.get("/metrics").await.text();
    for (signed, count) in [("true", too_many), ("false", refused)] {
        let labels = format!("partner=\"wms\",signed=\"{signed}\"");
        let line = format!("holdfast_hook_refused_total{{{labels}}} {count}");
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn every_operation_can_come_as_a_hook() {
    let s = server().await;
    place(&s, "O-1").await;
    let of_order = |kind: &str, data: Value| {
        let mut data = data;
        data["order_id"] = json!("O-1");
        json!({"type": kind, "data": data})
    };
    let line = |quantity| json!([{"sku": "A", "quantity": quantity}]);
    for (n, payload) in [
        of_order("invoice", json!({"invoice_id": "I-1", "currency": "EUR", "amount": 4488})),
        of_order("shipment", json!({"shipment_id": "S-1", "lines": line(2)})),
        of_order("cancellation", json!({"cancellation_id": "C-1", "lines": line(1)})),
        of_order(
            "settlement",
            json!({"settlement_id": "P-1", "currency": "EUR", "amount": 4488, "fee": 90}),
        ),
        of_order("refund", json!({"refund_id": "R-1", "currency": "EUR", "amount": 1000})),
        of_order("return", json!({"return_id": "RT-1", "lines": line(1)})),
        of_order("receipt", json!({"return_id": "RT-1", "receipt_id": "RC-1", "lines": line(1)})),
        of_order("note", json!({"note_id": "N-1", "text": "disputed"})),
        json!({"type": "stock_adjustment",
            "data": {"sku": "B", "location": "BER", "delta": 5, "reason": "receipt"}}),
        json!({"type": "stock_set",
            "data": {"sku": "C", "location": "BER", "on_hand": 7, "source_version": 1}}),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = send(&s, &format!("msg-{n}"), payload.clone()).await;
        let wanted = if payload["type"] == "stock_set" { 200 } else { 201 };
        assert_eq!(reply.status, wanted, "{payload} {reply:?}");
    }
    let ignored = send(&s, "msg-i", json!({"type": "ignore"})).await;
    assert_eq!(ignored.is(200).json["state"], "ignored");
    let stock = async |sku: &str| s.get(&format!("/v1/stock/{sku}")).await;
    // 10, less 2 shipped, one of which came back; 1 of 3 called off, 0 still committed.
    let a = stock("A").await.json;
    assert_eq!((&a["on_hand"], &a["committed"]), (&json!(9), &json!(0)), "{a}");
    assert_eq!(stock("B").await.json["on_hand"], 15);
    assert_eq!(stock("C").await.json["on_hand"], 7);
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_other_content_is_refused() {
    let s = server().await;
    place(&s, "O-1").await;
    let first = send(&s, "msg-1", shipment("S-1", 2)).await;
    assert_eq!(first.is(201).header("idempotent-replayed"), None);
    // Signed anew, as a retry is, and byte for byte, as an attacker would.
    let at = now_s() - 10;
    for at in [at, at, at + 11] {
        let body = shipment("S-1", 2).to_string();
        let again = signed_at(&s, "msg-1", at, &body).send().await;
        assert_eq!(again.is(201).header("idempotent-replayed"), Some("true"));
        assert_eq!(again.json, first.json);
    }
    send(&s, "msg-1", shipment("S-2", 1)).await.is_problem(422, "idempotency_key_reused");
    // Its own id knows it too.
    assert_eq!(send(&s, "msg-2", shipment("S-1", 2)).await.is(200).json, first.json);
    send(&s, "msg-3", shipment("S-1", 1)).await.is_problem(422, "content_mismatch");
    assert_eq!(s.get("/v1/stock/A").await.json["on_hand"], 8);
}

#[tokio::test]
async fn ids_of_messages_are_the_partners_own() {
    let s = server().await;
    place(&s, "O-1").await;
    send(&s, "msg-1", shipment("S-1", 1)).await.is(201);
    let body = shipment("S-2", 1).to_string();
    let at = now_s();
    let signature = Signer::new(OTHER).unwrap().sign("msg-1", at, body.as_bytes());
    let call = s.call("POST /v1/hooks/psp").header("webhook-id", "msg-1");
    let call = call.header("webhook-timestamp", &at.to_string());
    let call = call.header("webhook-signature", &signature).text("application/json", &body);
    let other = call.send().await;
    assert_eq!(other.is(201).header("idempotent-replayed"), None);
}

#[tokio::test]
async fn what_is_not_signed_or_not_of_now_is_401_and_changes_nothing() {
    let s = server().await;
    place(&s, "O-1").await;
    let body = shipment("S-1", 1).to_string();
    let now = now_s();
    for at in [now - 310, now + 310, 1] {
        let stale = signed_at(&s, "msg-1", at, &body).send().await;
        assert_eq!(stale.header("www-authenticate"), Some("webhook-signature"));
        let detail = stale.is_problem(401, "unauthenticated").json["detail"].clone();
        assert!(detail.as_str().unwrap().contains("300 s"), "{detail}");
    }
    let good = Signer::new(SECRET).unwrap().sign("msg-1", now, body.as_bytes());
    let headers = [
        ("webhook-id", "msg-1".to_owned()),
        ("webhook-timestamp", now.to_string()),
        ("webhook-signature", good.clone()),
    ];
    let with = |headers: &[(&str, String)], body: &str| {
        let call = s.call("POST /v1/hooks/wms").text("application/json", body);
        headers.iter().fold(call, |call, (name, value)| call.header(name, value))
    };
    for missing in 0..3 {
        let mut rest = headers.to_vec();
        let (name, value) = rest.remove(missing);
        let reply = with(&rest, &body).send().await;
        reply.is_problem(401, "unauthenticated");
        assert!(reply.json["detail"].as_str().unwrap().contains(name), "{reply:?}");
        // Twice is as good as not at all.
        let twice = with(&headers, &body).header(name, &value).send().await;
        twice.is_problem(401, "unauthenticated");
    }
    let theirs = Signer::new(OTHER).unwrap().sign("msg-1", now, body.as_bytes());
    for (place, value) in [
        (0, "msg-2".to_owned()),
        (1, (now - 1).to_string()),
        (2, theirs.clone()),
        (2, good.replace("v1,", "v2,")),
        (2, good.replace("v1,", "")),
        (2, "v1,AAAA".to_owned()),
    ] {
        let mut changed = headers.clone();
        changed[place].1 = value;
        with(&changed, &body).send().await.is_problem(401, "unauthenticated");
    }
    with(&headers, &body.replace('1', "2")).send().await.is_problem(401, "unauthenticated");
    with(&headers, &format!("{body} ")).send().await.is_problem(401, "unauthenticated");
    with(&headers, "").send().await.is_problem(401, "unauthenticated");
    assert_eq!(s.get("/v1/stock/A").await.json["on_hand"], 10, "nothing left");
    // The very same with what it should be; one of several signatures is enough.
    let mut several = headers.clone();
    several[2].1 = format!("{theirs} {good}");
    with(&several, &body).send().await.is(201);
}

#[tokio::test]
async fn a_hook_that_does_not_park_refuses_what_can_not_be_done_yet() {
    let mut wms = hooked("wms", SECRET, vec![]);
    wms.hook.as_mut().unwrap().parks = false;
    let s = server_of(vec![wms]).await;
    let early = send(&s, "msg-1", shipment("S-1", 2)).await;
    early.is_problem(404, "unknown_order");
    assert_eq!(s.get("/v1/status").await.json["parked_events"], 0);
    place(&s, "O-1").await;
    let later = send(&s, "msg-1", shipment("S-1", 2)).await;
    assert_eq!(later.is(201).header("idempotent-replayed"), None);
    let more = send(&s, "msg-2", shipment("S-2", 2)).await;
    assert_eq!(more.is_problem(409, "wrong_state").json["state"], "committed");
}

#[tokio::test]
async fn what_is_signed_is_checked_as_every_request_is() {
    let s = server().await;
    place(&s, "O-1").await;
    let data = json!({"order_id": "O-1", "refund_id": "R", "currency": "EUR", "amount": 1});
    let with = |field: &str, value: Value| {
        let mut payload = json!({"type": "refund", "data": data});
        payload["data"][field] = value;
        payload
    };
    for (field, value) in [
        ("order_id", json!(1)),
        ("order_id", json!("")),
        ("refund_id", json!(" x")),
        ("currency", json!("eur")),
        ("currency", json!("USD")),
        ("currency", json!("XXZ")),
        ("amount", json!(-1)),
        ("amount", json!(1.5)),
        ("amount", json!("1")),
        ("amount", json!(10_000_000_000_001_i64)),
        ("tax", json!(2)),
        ("colour", json!("red")),
    ] {
        send(&s, "msg-1", with(field, value)).await.is_malformed(field);
    }
    // It is not parked for an order that can't come.
    let mut early = with("currency", json!("XXZ"));
    early["data"]["order_id"] = json!("O-2");
    send(&s, "msg-1", early).await.is_malformed("currency");
    let lines = json!([{"sku": "A", "quantity": 0}]);
    let ship = json!({"type": "shipment", "data": {"order_id": "O-1", "shipment_id": "S",
        "lines": lines}});
    send(&s, "msg-1", ship).await.is_malformed("lines[0].quantity");
    let set = json!({"type": "stock_set", "data": {"sku": "A", "location": "BER", "on_hand": 1}});
    send(&s, "msg-1", set).await.is_malformed("source_version");
    send(&s, "msg 1", shipment("S-1", 1)).await.is_malformed("webhook-id");
    for payload in [json!({"type": "gift"}), json!([]), json!(1), json!({})] {
        send(&s, "msg-1", payload).await.is_problem(422, "unmapped");
    }
    let no_data = send(&s, "msg-1", json!({"type": "note"})).await;
    assert_eq!(no_data.is_problem(422, "unmapped").json["field"], "data");
    for not_json in ["{", "[1", "\u{feff}{}", "nul"] {
        let reply = signed_at(&s, "msg-1", now_s(), not_json).send().await;
        reply.is_malformed("body");
    }
    let deep = "[".repeat(100_000);
    signed_at(&s, "msg-1", now_s(), &deep).send().await.is_malformed("body");
    assert_eq!(send(&s, "msg-1", shipment("S-1", 1)).await.status, 201, "the id is still free");
}

#[tokio::test]
async fn a_count_that_is_not_new_is_ignored() {
    let s = server().await;
    let count = |on_hand: u32, version: u64| {
        json!({"type": "stock_set", "data": {"sku": "A", "location": "BER", "on_hand": on_hand,
            "source_version": version}})
    };
    send(&s, "msg-1", count(5, 1)).await.is(200);
    send(&s, "msg-2", count(4, 2)).await.is(200);
    let old = send(&s, "msg-1", count(5, 1)).await;
    assert_eq!(old.is(200).json["state"], "ignored");
    assert_eq!(s.available("A").await, 4);
}

#[tokio::test]
async fn only_a_partner_with_a_hook_has_one() {
    let s = server().await;
    for name in ["nobody", "keyless", "WMS"] {
        let call = s.call(&format!("POST /v1/hooks/{name}")).json(&json!({}));
        call.send().await.is_problem(404, "not_found");
    }
    s.get("/v1/hooks/wms").await.is_problem(405, "method_not_allowed");
    let plain = s.call("POST /v1/hooks/wms").text("text/plain", "{}");
    plain.send().await.is_problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn a_hook_needs_no_api_key_and_a_key_opens_no_hook() {
    let keyed = Partner {
        name: "shop".to_owned(),
        key: Some(KeyHash::of("shop-key-0123456789abcdef")),
        hook: None,
        terms: Terms::default(),
    };
    let s = server_of(vec![keyed, hooked("wms", SECRET, vec![])]).await;
    send(&s, "msg-1", json!({"type": "ignore"})).await.is(200);
    let call = s.call("POST /v1/hooks/wms").json(&json!({"type": "ignore"}));
    let call = call.header("Authorization", "Bearer shop-key-0123456789abcdef");
    call.send().await.is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn bodies_at_the_limit_are_taken_and_beyond_it_refused() {
    let options = Options { body_bytes_max: 10_000, ..Options::default() };
    let partners = Partners::new(vec![hooked("wms", SECRET, vec![])]).unwrap();
    let s = Server::with_partners(options, partners).await;
    let padded = |bytes: usize| format!("{}{}", " ".repeat(bytes - 17), r#"{"type":"ignore"}"#);
    signed_at(&s, "msg-1", now_s(), &padded(10_000)).send().await.is(200);
    let large = signed_at(&s, "msg-1", now_s(), &padded(10_001)).send().await;
    assert_eq!(large.is_problem(413, "too_large").json["limit_bytes"], 10_000);
}

#[tokio::test]
async fn a_repeat_after_a_restart_gets_the_first_answer() {
    let s = server().await;
    place(&s, "O-1").await;
    let first = send(&s, "msg-1", shipment("S-1", 2)).await;
    let s = s.restarted_with(Partners::new(vec![hooked("wms", SECRET, vec![])]).unwrap()).await;
    let again = send(&s, "msg-1", shipment("S-1", 2)).await;
    assert_eq!(again.is(201).header("idempotent-replayed"), Some("true"));
    assert_eq!(again.json, first.is(201).json);
    send(&s, "msg-1", shipment("S-2", 1)).await.is_problem(422, "idempotency_key_reused");
}

/// What happened to an order names the request that caused it, whichever way that came.
#[tokio::test]
async fn what_a_message_causes_names_its_request() {
    let s = server().await;
    place(&s, "O-1").await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let call = signed_at(&s, "msg-1", now_s(), &shipment("S-1", 1).to_string());
    let call = call.header("X-Request-Id", "req-of-wms").header("traceparent", trace);
    call.send().await.is(201);
    let records = s.get("/v1/orders/O-1/trace").await.json["records"].clone();
    let last = &records[1];
    assert_eq!((&last["request_id"], &last["traceparent"]), (&json!("req-of-wms"), &json!(trace)));
}
