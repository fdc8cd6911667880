//! Keys: shown once, good at once, replaced with a grace, revoked at once, kept over restarts.

use std::time::Duration;

use holdfast::{
    api::{Options, Partner, Partners, State},
    model::{partner::Terms, signature::KeyHash},
};
use serde_json::{Value, json};

use crate::{
    add, get, key_of, keyed,
    support::{Reply, Server},
    with_chief,
};

const SHOP: &str = "shop-key-0123456789abcdef";

fn configured() -> Partners {
    let key = Some(KeyHash::of(SHOP));
    let partner = Partner { name: "shop".into(), key, hook: None, terms: Terms::default() };
    Partners::new(vec![partner]).unwrap()
}

async fn rotate(s: &Server, name: &str, by: &str, body: Value) -> Reply {
    keyed(s.call(&format!("POST /v1/partners/{name}/rotate")).json(&body), by).send().await
}

async fn revoke(s: &Server, name: &str, by: &str) -> Reply {
    keyed(s.call(&format!("DELETE /v1/partners/{name}")), by).send().await
}

/// The list's entry of a name.
async fn listed(s: &Server, by: &str, name: &str) -> Value {
    let list = get(s, "/v1/partners", by).await;
    let all = list.is(200).json["partners"].as_array().unwrap().clone();
    all.into_iter().find(|partner| partner["name"] == name).unwrap_or_default()
}

#[tokio::test]
async fn the_first_partner_closes_the_door_and_must_be_able_to_open_it() {
    let s = Server::start().await;
    let shop = json!({"name": "shop", "scopes": ["reserve"]});
    add(&s, "", shop.clone()).await.is_malformed("scopes");
    s.get("/v1/status").await.is(200);
    let (s, chief) = with_chief(s).await;
    s.get("/v1/status").await.is_problem(401, "unauthenticated");
    s.call("POST /v1/partners").json(&shop).send().await.is_problem(401, "unauthenticated");
    let shop = key_of(add(&s, &chief, shop).await.is(201));
    get(&s, "/v1/stock/A", &shop).await.is_problem(404, "unknown_sku");
    let entry = listed(&s, &chief, "shop").await;
    assert_eq!((&entry["changed_by"], &entry["source"]), (&json!("chief"), &json!("log")));
    assert_eq!((&entry["scopes"], &entry["revoked"]), (&json!(["reserve"]), &json!(false)));
}

#[tokio::test]
async fn what_is_wrong_with_a_new_partner_is_named_and_changes_nothing() {
    let s = Server::with_partners(Options::default(), configured()).await;
    for (body, field) in [
        (json!({"name": "Shop", "scopes": ["reserve"]}), "name"),
        (json!({"name": "x", "scopes": []}), "scopes"),
        (json!({"name": "x", "scopes": ["reserve"], "rate_per_s": 0}), "rate_per_s"),
        (json!({"name": "x", "scopes": ["reserve"], "burst": 5}), "burst"),
        (json!({"name": "x", "scopes": ["everything"]}), "scopes[0]"),
        (json!({"name": "x", "scopes": ["reserve"], "key": "k"}), "key"),
        (json!({"scopes": ["reserve"]}), "name"),
    ] {
        add(&s, SHOP, body).await.is_malformed(field);
    }
    let taken = add(&s, SHOP, json!({"name": "shop", "scopes": ["reserve"]})).await;
    taken.is_problem(409, "partner_exists");
    add(&s, SHOP, json!({"name": "erp", "scopes": ["reserve"]})).await.is(201);
    let again = add(&s, SHOP, json!({"name": "erp", "scopes": ["reserve"]})).await;
    again.is_problem(409, "partner_exists");
    assert!(again.json.get("api_key").is_none());
    for reply in [rotate(&s, "shop", SHOP, json!({})).await, revoke(&s, "shop", SHOP).await] {
        reply.is_problem(404, "not_found");
        assert!(reply.json["detail"].as_str().unwrap().contains("configuration"), "{reply:?}");
    }
    rotate(&s, "nobody", SHOP, json!({})).await.is_problem(404, "not_found");
    revoke(&s, "nobody", SHOP).await.is_problem(404, "not_found");
    rotate(&s, "erp", SHOP, json!({"grace_ms": 2_592_000_001_u64})).await.is_malformed("grace_ms");
    let shop = listed(&s, SHOP, "shop").await;
    assert_eq!(shop["source"], "configuration");
}

#[tokio::test]
async fn an_old_key_is_good_for_its_grace_and_no_longer() {
    let (s, chief) = with_chief(Server::start().await).await;
    let first = key_of(&add(&s, &chief, json!({"name": "shop", "scopes": ["observe"]})).await);
    let grace = json!({"grace_ms": 700});
    let second = key_of(rotate(&s, "shop", &chief, grace).await.is(200));
    assert_ne!(first, second);
    for key in [&first, &second] {
        get(&s, "/v1/status", key).await.is(200);
    }
    assert_eq!(listed(&s, &chief, "shop").await["old_keys_until"].as_array().unwrap().len(), 1);
    tokio::time::sleep(Duration::from_millis(750)).await;
    get(&s, "/v1/status", &first).await.is_problem(401, "unauthenticated");
    get(&s, "/v1/status", &second).await.is(200);
    assert_eq!(listed(&s, &chief, "shop").await.get("old_keys_until"), None);
    // By default it is an hour; without a grace none of the older ones is good.
    let third = key_of(&rotate(&s, "shop", &chief, json!({})).await);
    get(&s, "/v1/status", &second).await.is(200);
    let fourth = key_of(&rotate(&s, "shop", &chief, json!({"grace_ms": 0})).await);
    for key in [&first, &second, &third] {
        get(&s, "/v1/status", key).await.is_problem(401, "unauthenticated");
    }
    get(&s, "/v1/status", &fourth).await.is(200);
}

#[tokio::test]
async fn so_many_old_keys_are_good_and_then_a_rotation_is_refused() {
    let (s, chief) = with_chief(Server::start().await).await;
    let first = key_of(&add(&s, &chief, json!({"name": "shop", "scopes": ["observe"]})).await);
    for _ in 0..4 {
        rotate(&s, "shop", &chief, json!({})).await.is(200);
    }
    rotate(&s, "shop", &chief, json!({})).await.is_problem(400, "malformed");
    get(&s, "/v1/status", &first).await.is(200);
    rotate(&s, "shop", &chief, json!({"grace_ms": 0})).await.is(200);
    get(&s, "/v1/status", &first).await.is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn revoked_is_at_once_and_the_name_is_not_given_away() {
    let (s, chief) = with_chief(Server::start().await).await;
    let body = json!({"name": "shop", "scopes": ["observe"]});
    let first = key_of(&add(&s, &chief, body.clone()).await);
    let second = key_of(&rotate(&s, "shop", &chief, json!({})).await);
    let gone = revoke(&s, "shop", &chief).await;
    assert_eq!(gone.is(200).json["revoked"], true);
    for key in [&first, &second] {
        get(&s, "/v1/status", key).await.is_problem(401, "unauthenticated");
    }
    assert_eq!(revoke(&s, "shop", &chief).await.is(200).json, gone.json);
    rotate(&s, "shop", &chief, json!({})).await.is_problem(404, "not_found");
    add(&s, &chief, body).await.is_problem(409, "partner_exists");
    // Whoever revokes himself leaves the door shut.
    revoke(&s, "chief", &chief).await.is(200);
    s.get("/v1/status").await.is_problem(401, "unauthenticated");
    add(&s, "", json!({"name": "x", "scopes": ["operate"]}))
        .await
        .is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn partners_are_kept_over_restarts_and_checkpoints() {
    let (s, chief) = with_chief(Server::start().await).await;
    let shop = json!({"name": "shop", "scopes": ["reserve", "observe"], "rate_per_s": 1000,
        "burst": 2000, "quota_per_day": 5000, "body_bytes_max": 4096, "timeout_ms": 3000});
    let first = key_of(&add(&s, &chief, shop).await);
    let gone = key_of(&add(&s, &chief, json!({"name": "gone", "scopes": ["observe"]})).await);
    let second = key_of(&rotate(&s, "shop", &chief, json!({})).await);
    revoke(&s, "gone", &chief).await.is(200);
    let before = get(&s, "/v1/partners", &chief).await.json["partners"].clone();
    let mut s = s;
    // From the log alone, from a checkpoint, from one that was merged with another, and with a tail.
    for checkpoints in [0, 1, 1, 0] {
        (0..checkpoints).for_each(|_| s.engine().checkpoint().unwrap());
        s = s.restarted().await;
        let now = get(&s, "/v1/partners", &chief).await.json["partners"].clone();
        assert_eq!([&now[1], &now[2]], [&before[1], &before[2]], "as they were");
        for key in [&first, &second] {
            get(&s, "/v1/status", key).await.is(200);
        }
        get(&s, "/v1/status", &gone).await.is_problem(401, "unauthenticated");
        s.get("/v1/status").await.is_problem(401, "unauthenticated");
        add(&s, &chief, json!({"name": format!("z-{}", s.address.port()), "scopes": ["order"]}))
            .await
            .is(201);
    }
}

#[tokio::test]
async fn before_the_log_is_read_nobody_is_turned_away_for_good_and_nobody_let_in() {
    let state = State::with_partners(Options::default(), configured());
    assert!(state.needs_keys());
    let s = Server::starting(Options::default()).await;
    s.state.require_keys();
    get(&s, "/v1/status", "hf_unknown").await.is_problem(503, "starting");
    s.get("/v1/status").await.is_problem(401, "unauthenticated");
    s.get("/livez").await.is(200);
}
