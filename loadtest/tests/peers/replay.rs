//! A recorded log, played against another server.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use holdfast::{
    client::{Address, Client, Options as ClientOptions},
    model::command::{ChangeLines, Commit, Extend, PlaceOrder, Release, Reserve, SetStock},
};
use holdfast_loadtest::{
    recording::Outcome,
    replay::{self, Options, Replay},
    run::Progress,
    target::Asker,
    trial::{Place, Protocol, Setup, Trial},
};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::{
    common::scenario,
    support::{SALE, Server, agree, tried},
};

fn read<T: DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn stock(server: &Server, sku: &str, location: &str, units: u32) {
    let set: SetStock = read(&format!(r#"{{"on_hand":{units}}}"#));
    let engine = &server.engine;
    let set = engine.set_stock(&sku.parse().unwrap(), &location.parse().unwrap(), &set);
    engine.settle_blocking(set).unwrap();
}

/// Available, held and committed units of every SKU.
fn ledger(server: &Server) -> BTreeMap<String, [i64; 3]> {
    let engine = &server.engine;
    let stocks = engine.skus().into_iter().map(|sku| {
        let stock = engine.stock(&sku).unwrap();
        (sku.to_string(), [stock.available, stock.held, stock.committed])
    });
    stocks.collect()
}

/// Stops a server, and leaves its log.
fn recorded(server: Server) -> Arc<TempDir> {
    let dir = server.dir.clone();
    drop(server);
    dir
}

fn played(log: &TempDir, speed: f64, server: &Server, keep_stock: bool) -> Replay {
    let log = log.path().join("data");
    let mut scenario = replay::scenario(&log, speed, 8).unwrap();
    scenario.sending.lag_p999_us_max = 60_000_000;
    let asker = Asker::new(&server.url(), None).unwrap();
    let options = Options { log, speed, keep_stock };
    let replayed = replay::replay(&options, &scenario, &asker, &Progress::default());
    replayed.unwrap_or_else(|error| panic!("{error}"))
}

/// One of everything that shoppers do.
fn a_bit_of_everything(server: &Server) {
    stock(server, "TEE,M", "BER", 50);
    stock(server, "TEE,M", "HAM", 50);
    stock(server, "CUP", "BER", 50);
    let address = Address::Unix(server.socket.clone());
    let client = Client::connect(&address, &ClientOptions::default()).unwrap();
    let hold = |key: &str, lines: &str, more: &str| {
        let cart: Reserve = read(&format!(r#"{{"lines":[{lines}]{more}}}"#));
        client.reserve(&key.parse().unwrap(), &cart).unwrap().value.id
    };
    let tee = r#"{"sku":"TEE,M","quantity":4,"location":"HAM"}"#;
    let cup = r#"{"sku":"CUP","quantity":3}"#;
    let both = format!("{tee},{cup}");
    // Given back in part, then held for longer.
    let one = hold("k1", &both, r#","customer":"c-1""#);
    let part: Release = read(r#"{"lines":[{"sku":"TEE,M","quantity":1}]}"#);
    client.release(&"k2".parse().unwrap(), one, &part).unwrap();
    let longer: Extend = read(r#"{"ttl_ms":3600000}"#);
    client.extend(&"k3".parse().unwrap(), one, &longer).unwrap();
    // Changed.
    let two = hold("k4", tee, r#","ttl_ms":3600000"#);
    let other: ChangeLines = read(r#"{"lines":[{"sku":"CUP","quantity":7,"location":"BER"}]}"#);
    client.change_lines(two, &other).unwrap();
    // Bought, under an order that was named with the hold.
    let three = hold("k5", cup, r#","order_id":"O-3""#);
    let price = r#""unit_price":999,"tax":10,"tax_code":"DE-19","unit_cost":300}"#;
    let commit: Commit = read(&format!(
        r#"{{"order_id":"O-3","currency":"EUR","prices":"net","shipping":490,"priority":"express",
            "lines":[{{"sku":"CUP",{price}]}}"#
    ));
    client.commit(&"k6".parse().unwrap(), three, &commit).unwrap();
    // Two holds that are one order.
    let (four, five) = (hold("k7", tee, ""), hold("k8", cup, ""));
    let order: PlaceOrder = read(&format!(
        r#"{{"order_id":"O-4","currency":"EUR","reservations":["{four}","{five}"],
            "lines":[{{"sku":"TEE,M",{price},{{"sku":"CUP",{price}]}}"#
    ));
    client.place_order(&"k9".parse().unwrap(), &order).unwrap();
    // One step, from two locations.
    let order: PlaceOrder = read(&format!(
        r#"{{"order_id":"{}","currency":"EUR","customer":"c-2",
            "lines":[{{"sku":"TEE,M","quantity":60,{price}]}}"#,
        "O".repeat(64)
    ));
    client.place_order(&"k10".parse().unwrap(), &order).unwrap();
    // Given back as a whole.
    let six = hold("k11", cup, "");
    client.release(&"k12".parse().unwrap(), six, &Release::default()).unwrap();
}

#[test]
fn what_is_played_four_times_as_fast_leads_to_the_same_ledger() {
    let first = Server::start();
    // Enough for all: who gets the last unit may be another one when all is played faster.
    let trial = a_sale(&first, &SALE.replace("stock = 30", "stock = 1000"));
    assert!(trial.audited(), "{:#?}", trial.checks);
    a_bit_of_everything(&first);
    let expected = ledger(&first);
    let log = recorded(first);

    let second = Server::start();
    let begun = Instant::now();
    let Replay { trial, summary, skipped } = played(&log, 4.0, &second, false);
    assert!(trial.audited(), "{:#?}", trial.checks);
    assert_eq!(ledger(&second), expected);
    assert_eq!(skipped, 0);
    let totals = trial.run.recording.totals();
    assert_eq!((totals.count(Outcome::Granted), totals.all()), (trial.planned, trial.planned));
    assert!(trial.planned > 300, "{}", trial.planned);
    // At a quarter of the recorded length, and not all at once.
    let length = Duration::from_millis(summary.span_ms[1] - summary.span_ms[0]);
    assert!(length > Duration::from_millis(1_100), "{length:?}");
    assert!(trial.run.elapsed >= length / 4 - Duration::from_millis(5), "{:?}", trial.run.elapsed);
    assert!(begun.elapsed() < length * 20, "{:?}", begun.elapsed());
    // Once more, under other keys: as much again.
    let again = played(&log, 4.0, &second, false);
    assert!(again.trial.audited(), "{:#?}", again.trial.checks);
    for (sku, [available, held, committed]) in ledger(&second) {
        let [gone_before, before, sold] = expected[&sku];
        assert_eq!([available, held, committed], [gone_before, 2 * before, 2 * sold], "{sku}");
    }
}

fn a_sale(server: &Server, more: &str) -> Trial {
    let place = Place::Url { url: server.url(), api_key: None };
    let scenario = scenario(600, 1.2, more);
    tried(&Setup { scenario, place, protocol: Protocol::Http1 })
}

#[test]
fn where_too_little_is_there_others_may_get_it_and_the_books_agree() {
    let first = Server::start();
    agree(&a_sale(&first, SALE));
    let log = recorded(first);
    let second = Server::start();
    let Replay { trial, skipped, .. } = played(&log, 8.0, &second, false);
    assert!(trial.audited(), "{:#?}", trial.checks);
    let totals = trial.run.recording.totals();
    assert_eq!(totals.all() + skipped, trial.planned);
    assert!(totals.count(Outcome::Granted) > 300, "{}", totals.count(Outcome::Granted));
}

#[test]
fn holds_that_ran_out_run_out_again() {
    let first = Server::start();
    stock(&first, "CUP", "BER", 10);
    let address = Address::Unix(first.socket.clone());
    let client = Client::connect(&address, &ClientOptions::default()).unwrap();
    let cart: Reserve = read(r#"{"lines":[{"sku":"CUP","quantity":10}],"ttl_ms":400}"#);
    let hold = |key: &str| client.reserve(&key.parse().unwrap(), &cart);
    hold("k1").unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while hold("k2").is_err() {
        assert!(Instant::now() < end, "the first hold does not run out");
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(1_000));
    drop(client);
    let log = recorded(first);
    let second = Server::start();
    // A little slower, so that the first hold is gone for certain when the second one comes.
    let Replay { trial, summary, .. } = played(&log, 0.5, &second, false);
    assert!(trial.audited(), "{:#?}", trial.checks);
    assert_eq!(trial.planned, 2);
    assert_eq!(summary.not_played["expire"], 2);
    assert!(trial.checks.iter().any(|check| check.what.contains("the ledger has lost")));
}

#[test]
fn on_a_server_without_that_stock_nothing_is_granted_and_what_follows_is_skipped() {
    let first = Server::start();
    a_bit_of_everything(&first);
    let log = recorded(first);
    let second = Server::start();
    let Replay { trial, skipped, .. } = played(&log, 100.0, &second, true);
    assert!(trial.audited(), "{:#?}", trial.checks);
    let totals = trial.run.recording.totals();
    assert_eq!(totals.count(Outcome::Granted), 0);
    assert_eq!(totals.all() + skipped, trial.planned);
    assert!(skipped >= 5, "{skipped}");
    assert!(second.engine.skus().is_empty());
}

fn loadtest(log: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let ended = command.arg("replay").arg(log).args(more).output().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn the_command_line_tells_what_was_played_and_what_was_not() {
    let first = Server::start();
    a_bit_of_everything(&first);
    let log = recorded(first);
    let (second, out) = (Server::start(), tempfile::tempdir().unwrap());
    let (url, data) = (second.url(), log.path().join("data"));
    let out_text = out.path().display().to_string();
    let args = ["--speed", "4", "--target", &url, "--connections", "2", "--out", &out_text];
    let (code, said) = loadtest(&data, &args);
    // On a busy machine the tester may be too late; the books are the same.
    assert!(matches!(code, Some(0 | 3)), "{said}");
    for says in ["13 requests in all", "ok   units sold: shoppers = ledger", "not played"] {
        assert!(said.contains(says), "{says}: {said}");
    }
    assert!(out.path().join("run.html").is_file() && out.path().join("run.json").is_file());
    let (code, said) = loadtest(&data, &["--speed", "0", "--target", &url]);
    assert!(code == Some(2) && said.contains("--speed"), "{said}");
    let (code, said) = loadtest(out.path(), &["--target", &url]);
    assert!(code == Some(2) && said.contains("there is no log"), "{said}");
    let idle = recorded(Server::start());
    let (code, said) = loadtest(&idle.path().join("data"), &["--target", &url]);
    assert!(code == Some(2) && said.contains("no reservation"), "{said}");
    // The log of a server that runs is not read.
    let (code, said) = loadtest(&second.dir.path().join("data"), &["--target", &url]);
    assert!(code == Some(2) && said.contains("stopped server"), "{said}");
}
