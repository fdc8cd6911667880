//! `holdfast trace` and `holdfast stock show --at`, of a running server and of a stopped one.

use crate::cli::{Server, get, holdfast, post, run};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Runs it against the server's URL, or a data directory.
fn ask(arguments: &[&str], whom: [&str; 2]) -> crate::cli::Ended {
    run(holdfast().args(arguments).args(whom))
}

fn asked(arguments: &[&str], whom: [&str; 2]) -> Value {
    serde_json::from_str(&ask(arguments, whom).with(0).out).unwrap()
}

#[test]
fn the_past_is_told_by_a_running_server_and_from_a_stopped_one() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("stock.csv");
    std::fs::write(&file, "sku,location,on_hand\nTEE M/1,BER,10\n").unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let url = server.url.clone();
    let live = ["--url", url.as_str()];
    let mut import = holdfast();
    run(import.args(["stock", "import"]).arg(&file).args(live)).with(0);
    let before = asked(&["stock", "show", "TEE M/1"], live);
    assert_eq!(before["available"], 10);
    let at = before["lsn"].to_string();
    let order = json!({
        "order_id": "O/1 %", "currency": "EUR",
        "lines": [{"sku": "TEE M/1", "quantity": 3, "unit_price": 100}],
    });
    let (status, placed) = post(&format!("{url}/v1/orders"), "k", &order);
    assert_eq!(status, 201, "{placed}");
    let now = get(&format!("{url}/v1/stock?sku=TEE%20M/1"));
    assert_eq!(now["available"], 7);

    let offline = ["--data", data.to_str().unwrap()];
    let look = |whom: [&str; 2]| {
        assert_eq!(asked(&["stock", "show", "TEE M/1"], whom)["available"], 7);
        let then = asked(&["stock", "show", "TEE M/1", "--at", &at], whom);
        assert_eq!((&then["available"], &then["committed"]), (&json!(10), &json!(0)));
        let trace = asked(&["trace", "O/1 %", "--json"], whom);
        assert_eq!(trace["records"][0]["lsn"], placed["lsn"]);
        assert!(trace["records"][0]["request_id"].is_string());
        let text = ask(&["trace", "O/1 %"], whom).with(0).out;
        assert!(text.starts_with("O/1 %: committed") && text.contains("placed O/1 %"), "{text}");
        assert!(text.contains("request "), "{text}");
        assert!(ask(&["trace", "O-2"], whom).with(3).err.contains("unknown_order"));
        let future = ask(&["stock", "show", "TEE M/1", "--at", "2999-01-01T00:00:00Z"], whom);
        assert!(future.with(3).err.contains("future"));
        ask(&["stock", "show", "TEE M/1", "--at", "soon"], whom).with(2);
    };
    look(live);
    assert!(server.terminate().success());
    look(offline);
    ask(&["trace", "O-2"], ["--data", "/nowhere/at/all"]).with(3);
}
