//! A provider's own payload, read by declared rules: Stripe's, as in `examples/stripe.toml`.

use hmac::{Hmac, KeyInit, Mac};
use holdfast::{
    api::{Hook, Options, Partner, Partners},
    config::{Config, Overrides, PartnerConfig},
    model::{mapping::Mapping, signature::Verifier},
};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    hooks::{now_s, place},
    parked_events::until_none_waits,
    support::{Reply, Server},
};

const SECRET: &str = "whsec_d9f8e7c6b5a4938271605f4e3d2c1b0a";
const CHARGE: &str = include_str!("../../examples/stripe/charge.succeeded.json");
const REFUND: &str = include_str!("../../examples/stripe/refund.created.json");
const REFUNDED: &str = include_str!("../../examples/stripe/charge.refunded.json");
const DISPUTE: &str = include_str!("../../examples/stripe/charge.dispute.created.json");

/// The example's partner.
fn example() -> PartnerConfig {
    let text = include_str!("../../examples/stripe.toml");
    let (path, overrides) = ("stripe.toml".as_ref(), Overrides::default());
    let config = Config::from_parts(path, text, std::iter::empty(), &overrides);
    config.unwrap().partners.remove(0)
}

fn mapping() -> Mapping {
    example().hook.unwrap().mapping()
}

/// A server with it.
async fn server() -> Server {
    let (name, hook) = (example().name, example().hook.unwrap());
    let verifier = Verifier::new(hook.scheme, SECRET, hook.tolerance_s).unwrap();
    let hook = Some(Hook { verifier, mapping: hook.mapping(), parks: true, limits: hook.limits() });
    let partner = Partner { name, key: None, hook, terms: example().terms() };
    let partners = Partners::new(vec![partner]).unwrap();
    Server::with_partners(Options::default(), partners).await
}

fn signature(at_s: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{at_s}.{body}").as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("t={at_s},v1={hex},v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39")
}

async fn send(s: &Server, body: &str) -> Reply {
    let call = s.call("POST /v1/hooks/stripe").text("application/json; charset=utf-8", body);
    call.header("Stripe-Signature", &signature(now_s(), body)).send().await
}

/// The order's money.
async fn money(s: &Server) -> Value {
    s.get("/v1/orders/O-1").await.json["money"].clone()
}

fn event(text: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut event: Value = serde_json::from_str(text).unwrap();
    change(&mut event);
    event.to_string()
}

#[tokio::test]
async fn a_charge_settles_the_order_with_its_fee() {
    let s = server().await;
    place(&s, "O-1").await;
    let settled = send(&s, CHARGE).await;
    assert_eq!(settled.is(201).json["kind"], "settlement", "{settled:?}");
    assert_eq!(settled.json["id"], "ch_3QK2pLAb1Cd2Ef3G0aQw9Er8");
    let booked = money(&s).await;
    assert_eq!((&booked["settled"], &booked["fees"]), (&json!(4488), &json!(92)), "{booked}");
    // Stripe counts its attempts in the event; it is the same event all the same.
    let again = send(&s, &event(CHARGE, |e| e["pending_webhooks"] = json!(2))).await;
    assert_eq!(again.is(201).header("idempotent-replayed"), Some("true"));
    let other = send(&s, &event(CHARGE, |e| e["data"]["object"]["amount"] = json!(1))).await;
    other.is_problem(422, "idempotency_key_reused");
    assert_eq!(money(&s).await["settled"], 4488);
}

#[tokio::test]
async fn a_fee_that_the_event_does_not_have_is_zero() {
    let s = server().await;
    place(&s, "O-1").await;
    let bare = |e: &mut Value| e["data"]["object"]["balance_transaction"] = json!("txn_1");
    send(&s, &event(CHARGE, bare)).await.is(201);
    let booked = money(&s).await;
    assert_eq!((&booked["settled"], &booked["fees"]), (&json!(4488), &json!(0)));
}

#[tokio::test]
async fn a_payment_that_is_only_authorised_settles_nothing() {
    let s = server().await;
    place(&s, "O-1").await;
    let authorised = |e: &mut Value| e["data"]["object"]["captured"] = json!(false);
    let ignored = send(&s, &event(CHARGE, authorised)).await;
    assert_eq!(ignored.is(200).json["state"], "ignored");
    let captured = event(CHARGE, |e| {
        (e["type"], e["id"]) = (json!("charge.captured"), json!("evt_2"));
        e["data"]["object"]["amount_captured"] = json!(3000);
    });
    send(&s, &captured).await.is(201);
    assert_eq!(money(&s).await["settled"], 3000);
}

#[tokio::test]
async fn a_refund_is_booked_once_whichever_event_tells_of_it() {
    let s = server().await;
    place(&s, "O-1").await;
    send(&s, REFUND).await.is(201);
    // An account of an older version says the same by the charge.
    let again = send(&s, REFUNDED).await;
    assert_eq!((again.is(200).json["kind"].clone(), again.status), (json!("refund"), 200));
    assert_eq!(money(&s).await["refunded"], 1999);
    let without = event(REFUNDED, |e| {
        e["id"] = json!("evt_3");
        e["data"]["object"]["refunds"] = Value::Null;
    });
    assert_eq!(send(&s, &without).await.is(200).json["state"], "ignored");
}

#[tokio::test]
async fn a_dispute_is_a_note_on_the_order_of_its_payment() {
    let s = server().await;
    let early = send(&s, DISPUTE).await;
    assert_eq!(
        (&early.is(202).json["kind"], &early.json["state"]),
        (&json!("note"), &json!("parked"))
    );
    place(&s, "pi_3QK2pLAb1Cd2Ef3G0mNb6Kj5").await;
    until_none_waits(&s).await;
    let order = s.get("/v1/orders/pi_3QK2pLAb1Cd2Ef3G0mNb6Kj5").await.json;
    assert_eq!(order["events"][0]["kind"], "note", "{order}");
    let again = send(&s, DISPUTE).await;
    assert_eq!(again.is(202).json["current_state"], "committed");
    let mapped = mapping().map(&serde_json::from_str(DISPUTE).unwrap()).unwrap();
    assert_eq!(mapped.fields["text"], "disputed: fraudulent, 4488 minor units EUR");
}

#[tokio::test]
async fn a_wrong_or_old_signature_changes_nothing() {
    let s = server().await;
    place(&s, "O-1").await;
    let now = now_s();
    let with = |header: String| {
        let call = s.call("POST /v1/hooks/stripe").text("application/json", CHARGE);
        call.header("Stripe-Signature", &header).send()
    };
    let old = format!("t={now},{}", signature(now - 400, CHARGE).split_once(',').unwrap().1);
    for header in [
        signature(now - 301, CHARGE),
        signature(now + 330, CHARGE),
        signature(now, REFUND),
        old,
        signature(now, CHARGE).replace("v1=", "v1=0"),
        signature(now, CHARGE).replace("v1=", "v0="),
        String::new(),
    ] {
        with(header.clone()).await.is_problem(401, "unauthenticated");
    }
    let call = s.call("POST /v1/hooks/stripe").text("application/json", CHARGE);
    call.send().await.is_problem(401, "unauthenticated");
    assert_eq!(money(&s).await["settled"], 0);
    with(signature(now, CHARGE)).await.is(201);
}

#[tokio::test]
async fn what_a_rule_misses_is_named_and_what_is_wrong_too() {
    let s = server().await;
    place(&s, "O-1").await;
    let object = |change: fn(&mut Value)| event(CHARGE, |e| change(&mut e["data"]["object"]));
    let missing = send(&s, &object(|o| o["amount"] = Value::Null)).await;
    assert_eq!(missing.is_problem(422, "unmapped").json["field"], "amount");
    let detail = missing.json["detail"].as_str().unwrap();
    assert!(detail.contains("`/data/object/amount`"), "{detail}");
    let wrong = send(&s, &object(|o| o["currency"] = json!(["eur"]))).await;
    assert_eq!(wrong.is_problem(422, "unmapped").json["field"], "currency");
    send(&s, &object(|o| o["currency"] = json!("usd"))).await.is_malformed("currency");
    send(&s, &object(|o| o["amount"] = json!("44.88"))).await.is_malformed("amount");
    send(&s, &event(CHARGE, |e| e["id"] = Value::Null)).await.is_malformed("id");
    let much = send(&s, &object(|o| o["amount"] = json!(4489))).await;
    much.is_problem(409, "wrong_state");
    let unknown = send(&s, &event(CHARGE, |e| e["type"] = json!("payout.paid"))).await;
    assert_eq!(unknown.is(200).json["state"], "ignored");
    assert_eq!(money(&s).await["settled"], 0);
}
