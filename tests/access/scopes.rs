//! Scopes: every route of the OpenAPI document has some, and a key opens exactly those that take one of
//! its own.

use std::collections::HashMap;

use axum::http::Method;
use holdfast::{api, model::partner::Scope};
use serde_json::{Value, json};

use crate::{
    add, key_of, keyed,
    support::{Reply, Server},
    with_chief,
};

/// Method and path of every route in the document.
fn documented() -> Vec<(Method, String)> {
    let document: Value = serde_json::from_slice(api::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let methods = |path: &String, item: &Value| {
        let methods = item.as_object().unwrap().keys();
        let method = |name: &String| name.to_uppercase().parse::<Method>().unwrap();
        methods.map(|name| (method(name), path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(|(path, item)| methods(path, item)).collect()
}

#[test]
fn every_route_of_the_document_has_its_scopes() {
    let routes = documented();
    assert_eq!(routes.len(), api::served().len());
    for (method, path) in routes {
        let scopes = api::scopes(&method, &path);
        let scopes = scopes.unwrap_or_else(|| panic!("{method} {path} has no scopes"));
        let is_open = !path.starts_with("/v1/") && path != "/metrics" || path.contains("/hooks/");
        assert_eq!(scopes.is_empty(), is_open, "{method} {path}: {scopes:?}");
    }
}

#[tokio::test]
async fn a_key_opens_what_takes_one_of_its_scopes_and_nothing_else() {
    let (s, chief) = with_chief(Server::start().await).await;
    let mut keys = HashMap::new();
    for scope in Scope::ALL {
        let scope = scope.as_str();
        let reply = add(&s, &chief, json!({"name": scope, "scopes": [scope]})).await;
        keys.insert(scope, key_of(&reply));
    }
    for (method, path) in documented() {
        let scopes = api::scopes(&method, &path).unwrap();
        if scopes.is_empty() {
            continue;
        }
        // Names that are nobody's, so that what is let in does no harm.
        let target = path.replace(['{', '}'], "-");
        for scope in Scope::ALL {
            let call = keyed(s.call(&format!("{method} {target}")), &keys[scope.as_str()]);
            // A stream has no end that one could wait for.
            let is_stream = path == "/v1/live" && scopes.contains(&scope);
            let reply = match is_stream {
                true => Reply::read_head(&mut call.begin(None).await).await,
                false => call.send().await,
            };
            if scopes.contains(&scope) {
                assert!(![401, 403].contains(&reply.status), "{method} {path} {scope:?} {reply:?}");
                continue;
            }
            reply.is_problem(403, "forbidden");
            let words: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
            assert_eq!(reply.json["scopes"], json!(words), "{method} {path}");
            for word in words {
                assert!(reply.json["detail"].as_str().unwrap().contains(word), "{reply:?}");
            }
        }
    }
}
