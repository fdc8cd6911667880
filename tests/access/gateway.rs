//! The gateway obeys the same: scopes and rates at each request, and a revoked partner's connection ends
//! at its next one.

use std::{path::Path, process::Command};

use holdfast::{
    client::{Address, Client, Error, Options},
    model::command::{PlaceOrder, Reserve},
    protocol::Code,
};
use serde_json::json;

use crate::cli::{Server, holdfast, run};

/// A server with a gateway on a socket.
fn serve(folder: &Path) -> (Server, Address) {
    let socket = folder.join("holdfast.sock");
    let mut serve = holdfast();
    serve.env("HOLDFAST__GATEWAY__SOCKET", &socket);
    (Server::start_with(&folder.join("data"), &mut serve), Address::Unix(socket))
}

fn partner(server: &Server, key: &str, arguments: &[&str]) -> Command {
    let mut command = holdfast();
    command.arg("partner").args(arguments).args(["--url", &server.url]);
    command.env("HOLDFAST_API_KEY", key);
    command
}

/// Adds a partner and returns its key.
fn add(server: &Server, by: &str, arguments: &[&str]) -> String {
    let added = run(&mut partner(server, by, &[&["add"], arguments].concat())).with(0);
    added.out.trim().to_owned()
}

fn connect(address: &Address, key: &str) -> Result<Client, Error> {
    Client::connect(address, &Options { api_key: key.to_owned(), ..Options::default() })
}

fn cart() -> Reserve {
    serde_json::from_value(json!({"lines": [{"sku": "A", "quantity": 1}]})).unwrap()
}

fn order() -> PlaceOrder {
    let body = json!({"order_id": "O", "currency": "EUR",
        "lines": [{"sku": "A", "quantity": 1, "unit_price": 1}]});
    serde_json::from_value(body).unwrap()
}

/// The code of a refusal.
#[track_caller]
fn code<T: std::fmt::Debug>(said: Result<T, Error>) -> Code {
    match said {
        Err(Error::Refused(problem)) => problem.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn scopes_rates_and_revocation_hold_for_a_connection_too() {
    let folder = tempfile::tempdir().unwrap();
    let (server, address) = serve(folder.path());
    let early = connect(&address, "").unwrap();
    assert_eq!(code(early.stock(&"A".parse().unwrap())), Code::UNKNOWN_SKU);
    let chief = add(&server, "", &["chief", "--scope", "operate,fulfil"]);
    // Who came without a key needs one from then on.
    assert_eq!(code(early.stock(&"A".parse().unwrap())), Code::UNAUTHENTICATED);
    assert_eq!(code(connect(&address, "").map(|_| ())), Code::UNAUTHENTICATED);

    let fulfil = connect(&address, &chief).unwrap();
    let set = fulfil.call(("PUT", "/v1/stock/A/BER"), None, br#"{"on_hand": 50}"#).unwrap();
    assert_eq!(set.0, 200);
    assert_eq!(code(fulfil.reserve(&"k".parse().unwrap(), &cart())), Code::FORBIDDEN);

    let shop = add(&server, &chief, &["shop", "--scope", "reserve"]);
    let client = connect(&address, &shop).unwrap();
    assert!(client.reserve(&"k".parse().unwrap(), &cart()).is_ok());
    assert_eq!(code(client.place_order(&"o".parse().unwrap(), &order())), Code::FORBIDDEN);
    let (status, _) = client.call(("GET", "/v1/status"), None, b"").unwrap();
    assert_eq!(status, 403);

    let slow = ["slow", "--scope", "reserve", "--rate-per-s", "1", "--burst", "3"];
    let slow = connect(&address, &add(&server, &chief, &slow)).unwrap();
    let said: Vec<_> =
        (0..9).map(|n| slow.reserve(&format!("s-{n}").parse().unwrap(), &cart())).collect();
    assert!(said[..3].iter().all(Result::is_ok), "{said:?}");
    let limited = said.into_iter().filter_map(Result::err).filter(
        |error| matches!(error, Error::Refused(problem) if problem.code == Code::RATE_LIMITED),
    );
    assert!(limited.count() >= 5);

    // With a grace the connection goes on, revoked it ends.
    run(&mut partner(&server, &chief, &["rotate", "shop"])).with(0);
    assert!(client.reserve(&"k-2".parse().unwrap(), &cart()).is_ok());
    run(&mut partner(&server, &chief, &["revoke", "shop"])).with(0);
    assert_eq!(code(client.reserve(&"k-3".parse().unwrap(), &cart())), Code::UNAUTHENTICATED);
    let after = client.reserve(&"k-4".parse().unwrap(), &cart());
    assert!(matches!(after, Err(Error::Broken(_))), "{after:?}");
    assert_eq!(code(connect(&address, &shop).map(|_| ())), Code::UNAUTHENTICATED);
    let held = fulfil.call(("GET", "/v1/stock/A"), None, b"").unwrap();
    let held: serde_json::Value = serde_json::from_slice(&held.1).unwrap();
    assert!(held["held"].as_i64() >= Some(5), "{held}");
    assert!(server.terminate().success());
}
