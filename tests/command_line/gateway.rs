//! `holdfast serve` with a gateway: calls reach the routes of the HTTP API, keys are those of the
//! partners, and a server that is told to stop leaves no socket behind.

use std::fs;

use crate::cli::{Server, holdfast};
use holdfast::{
    client::{Address, Client, Error, Options},
    model::command::Reserve,
    protocol::Code,
};
use serde_json::{Value, json};

const KEY: &str = "a-key-of-more-than-20-characters";

#[test]
fn a_gateway_is_served_beside_http() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("shop.toml");
    let socket = dir.path().join("holdfast.sock");
    let toml = format!(
        "[gateway]\nsocket = {socket:?}\n[[partners]]\nname = \"shop\"\napi_key_env = \"SHOP_KEY\"\n"
    );
    fs::write(&config, toml).unwrap();
    let mut serve = holdfast();
    serve.env("HOLDFAST_CONFIG", &config).env("SHOP_KEY", KEY);
    let server = Server::start_with(&dir.path().join("data"), &mut serve);
    let address = Address::Unix(socket.clone());
    let refused = Client::connect(&address, &Options::default()).map(|_| ());
    let Err(Error::Refused(problem)) = refused else { panic!("{refused:?}") };
    assert_eq!(problem.code, Code::UNAUTHENTICATED);

    let options = Options { api_key: KEY.to_owned(), ..Options::default() };
    let client = Client::connect(&address, &options).unwrap();
    let call = |method: &str, path: &str, key: &str, body: Value| -> (u16, Value) {
        let (body, key) = (body.to_string(), key.parse().ok());
        let (status, body) = client.call((method, path), key.as_ref(), body.as_bytes()).unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    };
    let set = call("PUT", "/v1/stock/A/BER", "", json!({"on_hand": 10}));
    assert_eq!((set.0, &set.1["available"]), (200, &json!(10)));
    let moved = json!({"sku": "A", "location": "BER", "delta": 5, "reason": "receipt"});
    assert_eq!(call("POST", "/v1/stock/adjustments", "adj", moved.clone()).0, 201);
    assert_eq!(call("POST", "/v1/stock/adjustments", "adj", moved).1["on_hand"], 15);
    let wrong = call("PUT", "/v1/stock/A/BER", "", json!({"on_hand": -1}));
    assert_eq!(
        (wrong.0, &wrong.1["code"], &wrong.1["field"]),
        (400, &json!("malformed"), &json!("on_hand"))
    );
    assert_eq!(call("GET", "/v1/none", "", json!({})).0, 404);
    let (status, body) = client.call(("G T", "x"), None, b"").unwrap();
    assert_eq!(
        (status, serde_json::from_slice::<Value>(&body).unwrap()["code"].clone()),
        (400, json!("malformed"))
    );

    let cart = json!({"lines": [{"sku": "A", "quantity": 2}]});
    let reserve: Reserve = serde_json::from_value(cart.clone()).unwrap();
    let held = client.reserve(&"r-1".parse().unwrap(), &reserve).unwrap().value;
    let (status, same) = crate::cli::runtime().block_on(async {
        let request = crate::cli::client().post(format!("{}/v1/reservations", server.url));
        let request = request.bearer_auth(KEY).header("Idempotency-Key", "r-1").json(&cart);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    });
    assert_eq!((status, &same["id"]), (201, &json!(held.id.to_string())));
    let (_, metrics) = {
        let (status, body) = client.call(("GET", "/metrics"), None, b"").unwrap();
        (status, String::from_utf8(body).unwrap())
    };
    let labels = "route=\"/v1/reservations\",method=\"POST\",status=\"201\"";
    let line = format!("holdfast_gateway_requests_total{{{labels}}} 1");
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
    assert!(server.terminate().success());
    assert!(!socket.exists());
    assert!(matches!(client.stock(&"A".parse().unwrap()), Err(Error::Broken(_))));
}
