//! Who may call, what for and how much: partners that are added to a running server, their keys, scopes,
//! rates and limits, over HTTP and through the gateway, over restarts and crashes; and that no key is
//! anywhere but in the one answer that shows it.

#[path = "../cli/mod.rs"]
mod cli;
#[path = "../common/mod.rs"]
mod common;
#[path = "../http_contract/support.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod support;

mod commands;
mod crash;
mod gateway;
mod keys;
mod limits;
mod scopes;
mod secrets;
mod tls;

use serde_json::{Value, json};
use support::{Call, Reply, Server};

/// A request with a key.
fn keyed(call: Call, key: &str) -> Call {
    call.header("Authorization", &format!("Bearer {key}"))
}

async fn get(s: &Server, path: &str, key: &str) -> Reply {
    keyed(s.call(&format!("GET {path}")), key).send().await
}

/// Adds a partner, as one that may.
async fn add(s: &Server, by: &str, body: Value) -> Reply {
    keyed(s.call("POST /v1/partners").json(&body), by).send().await
}

/// The key in an answer that shows one.
#[track_caller]
fn key_of(reply: &Reply) -> String {
    let key = reply.json["api_key"].as_str().unwrap_or_else(|| panic!("no key: {reply:?}"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    key.to_owned()
}

/// A server whose first partner may do everything, and its key.
async fn with_chief(server: Server) -> (Server, String) {
    let scopes = ["availability", "reserve", "order", "fulfil", "settle", "observe", "operate"];
    let reply = add(&server, "", json!({"name": "chief", "scopes": scopes})).await;
    let key = key_of(reply.is(201));
    (server, key)
}
