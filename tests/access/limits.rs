//! Rates, quotas, sizes and times of a partner, and how they are told.

use std::time::{Duration, Instant};

use holdfast::api::Options;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::{
    add, get, key_of, keyed,
    support::{Reply, Server, cart, wait_until},
    with_chief,
};

/// A server with a partner that may reserve and has these limits; its key, and the chief's.
async fn limited(limits: Value) -> (Server, String, String) {
    let (s, chief) = with_chief(Server::start().await).await;
    let mut body = json!({"name": "shop", "scopes": ["reserve", "fulfil"]});
    body.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    let key = key_of(add(&s, &chief, body).await.is(201));
    (s, key, chief)
}

fn remaining(reply: &Reply, name: &str) -> u64 {
    let told = reply.header("ratelimit").unwrap_or_else(|| panic!("{reply:?}"));
    let part = told.split(", ").find_map(|part| part.strip_prefix(&format!("\"{name}\";r=")));
    let part = part.unwrap_or_else(|| panic!("no {name} in {told}"));
    part.split(';').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_rate_is_kept_and_told_on_every_answer() {
    let (s, key, chief) = limited(json!({"rate_per_s": 2, "burst": 5})).await;
    let mut refused = 0;
    for n in 0..5 {
        // Found, not found, forbidden, malformed: all of them are answers.
        let path =
            ["/v1/stock/A", "/v1/reservations/x", "/v1/status", "/v1/stock", "/v1/stock/A"][n];
        let reply = get(&s, path, &key).await;
        assert_ne!(reply.status, 429, "{n}: {reply:?}");
        assert_eq!(reply.header("ratelimit-policy"), Some(r#""rate";q=5;w=3"#), "{reply:?}");
        // At two a second some come back meanwhile.
        assert!(remaining(&reply, "rate") >= 4 - n as u64, "{reply:?}");
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1_100) {
        let reply = get(&s, "/v1/stock/A", &key).await;
        if reply.status == 429 {
            refused += 1;
            reply.is_problem(429, "rate_limited");
            assert_eq!(reply.header("retry-after"), Some("1"));
            assert_eq!(remaining(&reply, "rate"), 0);
            assert!(reply.header("ratelimit-policy").is_some());
        }
    }
    assert!(refused > 2, "{refused}");
    // Others are not touched by it, and have no such headers.
    let other = get(&s, "/v1/status", &chief).await;
    assert_eq!(other.is(200).header("ratelimit"), None);
    let metrics = get(&s, "/metrics", &chief).await.text();
    let line =
        format!("holdfast_partner_refused_total{{partner=\"shop\",reason=\"rate\"}} {refused}");
    assert!(metrics.lines().any(|l| l == line), "{line} in {metrics}");
    let scope = "holdfast_partner_refused_total{partner=\"shop\",reason=\"scope\"} 1";
    assert!(metrics.lines().any(|l| l == scope), "{metrics}");
}

#[tokio::test]
async fn a_quota_is_kept_over_other_partners_changes() {
    let (s, key, chief) = limited(json!({"quota_per_day": 3})).await;
    for left in [2, 1] {
        let reply = get(&s, "/v1/stock/A", &key).await;
        assert_eq!(reply.header("ratelimit-policy"), Some(r#""day";q=3;w=86400"#));
        assert_eq!(remaining(&reply, "day"), left);
    }
    add(&s, &chief, json!({"name": "other", "scopes": ["observe"]})).await.is(201);
    assert_eq!(remaining(&get(&s, "/v1/stock/A", &key).await, "day"), 0);
    let reply = get(&s, "/v1/stock/A", &key).await;
    reply.is_problem(429, "rate_limited");
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait));
    assert!(reply.json["detail"].as_str().unwrap().contains("a day"), "{reply:?}");
}

/// While all places are taken, a key that is not good is told so and takes none of them; a good one is told to come
/// again, and its quota is not charged for it.
#[tokio::test]
async fn who_is_not_known_takes_no_place_and_who_gets_none_is_not_charged() {
    let full = Options { in_flight_max: 1, ..Options::default() };
    let (s, chief) = with_chief(Server::with(full).await).await;
    let body = json!({"name": "shop", "scopes": ["reserve"], "quota_per_day": 3});
    let key = key_of(add(&s, &chief, body).await.is(201));
    let stock = s.call("PUT /v1/stock/A/BER").header("Content-Type", "application/json");
    let slow = keyed(stock, &chief).begin(Some(100)).await;
    wait_until(|| s.state.in_flight() == 1).await;
    get(&s, "/v1/stock/A", &key).await.is_problem(503, "overloaded");
    get(&s, "/v1/stock/A", "hf_unknown").await.is_problem(401, "unauthenticated");
    s.get("/v1/stock/A").await.is_problem(401, "unauthenticated");
    let metrics = get(&s, "/metrics", &chief).await.text();
    assert!(metrics.contains("\nholdfast_http_shed_total 1\n"), "only who is known: {metrics}");
    drop(slow);
    wait_until(|| s.state.in_flight() == 0).await;
    assert_eq!(remaining(&get(&s, "/v1/stock/A", &key).await, "day"), 2);
}

#[tokio::test]
async fn what_the_rate_refuses_changes_nothing() {
    let (s, key, chief) = limited(json!({"rate_per_s": 1, "burst": 2})).await;
    let stock = s.call("PUT /v1/stock/A/BER").json(&json!({"on_hand": 5}));
    keyed(stock, &chief).send().await.is(200);
    let mut granted = 0;
    for n in 0..6 {
        let call = s.call("POST /v1/reservations").key(&format!("k-{n}")).json(&cart("A", 1));
        let reply = keyed(call, &key).send().await;
        granted += i64::from(reply.status == 201);
        assert!([201, 429].contains(&reply.status), "{reply:?}");
    }
    assert!(granted < 6);
    assert_eq!(get(&s, "/v1/stock/A", &chief).await.json["held"], granted);
}

#[tokio::test]
async fn a_partner_has_the_smaller_of_its_and_the_servers_sizes() {
    let (s, key, chief) = limited(json!({"body_bytes_max": 200})).await;
    let body = |bytes: usize| format!("{{\"on_hand\": 5{}}}", " ".repeat(bytes - 14));
    let put = |key: &str, bytes| {
        keyed(s.call("PUT /v1/stock/A/BER").text("application/json", &body(bytes)), key).send()
    };
    put(&key, 200).await.is(200);
    let refused = put(&key, 201).await;
    assert_eq!(refused.is_problem(413, "too_large").json["limit_bytes"], 200);
    put(&chief, 201).await.is(200);
    let line = "{\"sku\": \"B\", \"location\": \"BER\", \"on_hand\": 1}\n";
    let import = |key: &str, lines: usize| {
        let text = line.repeat(lines);
        keyed(s.call("POST /v1/stock/import").text("application/x-ndjson", &text), key).send()
    };
    assert_eq!(import(&key, 2).await.is(200).json["applied"], 2);
    import(&key, 20).await.is_problem(413, "too_large");
    assert_eq!(import(&chief, 20).await.is(200).json["applied"], 20);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_as_long_as_the_partner_has() {
    let (s, key, _) = limited(json!({"timeout_ms": 200})).await;
    let call =
        keyed(s.call("PUT /v1/stock/A/BER").header("Content-Type", "application/json"), &key);
    let began = Instant::now();
    let mut stream = call.begin(Some(100)).await;
    stream.write_all(b"{\"on").await.unwrap();
    let reply = Reply::read(&mut stream).await;
    reply.is_problem(408, "request_timeout");
    assert!((150..5_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}
