//! A flash sale of 100,000 orders over 500 SKUs, with a real ERP behind it: Tryton, with the module that
//! comes with its preset. On the way Tryton answers 503, loses answers, is slow, is killed and started
//! again, and Holdfast is killed twice. In the end, to the unit and to the cent:
//!
//! - Tryton has the stock that the ledger says, on hand and committed, at every location;
//! - its trial balance is balanced and is the one that the engine's own journal comes to;
//! - the engine's books are what its log says;
//! - `holdfast reconcile` finds no drift, and then one unit that was moved behind its back, by name.
//!
//! The clients repeat what was not answered, with the same keys, as storefronts do.

mod cli;
#[path = "erp_tryton/erp.rs"]
mod erp;
#[path = "erp_tryton/proxy.rs"]
mod proxy;
#[path = "erp_tryton/sale.rs"]
mod sale;

use std::{collections::BTreeMap, path::Path, time::Duration};

use cli::{Server, holdfast, run};
use erp::Tryton;
use proxy::Proxy;
use sale::{LOCATIONS, Sale, sku};
use serde_json::{Value, json};

/// Orders; at least so many, says what this test is for.
const ORDERS: u64 = 100_000;
/// SKUs that they are of.
const SKUS: u64 = 500;
/// How long Tryton may take for what is left at the end.
const PATIENCE: Duration = Duration::from_secs(420);

/// By account: debit less credit, in cents.
type Balances = BTreeMap<String, i128>;
/// By SKU and location: on hand and committed.
type Stock = BTreeMap<(String, String), (i64, i64)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "installs a real ERP and sells 100,000 orders: the test command runs it"]
async fn a_real_erp_ends_with_the_ledgers_stock_and_the_engines_books() {
    let folder = tempfile::tempdir().unwrap();
    let tryton = Tryton::create(&folder.path().join("erp"), SKUS, &LOCATIONS);
    let proxy = Proxy::start(tryton.port()).await;
    let config = folder.path().join("holdfast.toml");
    std::fs::write(&config, configuration(proxy.url(), &tryton.key())).unwrap();
    let data = folder.path().join("data");
    let start = || Server::start_with(&data, holdfast().env("HOLDFAST_CONFIG", &config));

    let mut server = start();
    let sale = Sale::new(SKUS, ORDERS);
    sale.listen_at(&server.url);
    sale.stock_up().await;
    let selling = sale.begin();

    sale.until_sold(ORDERS / 8).await;
    proxy.behave(|faults| faults.unavailable = true);
    tokio::time::sleep(Duration::from_secs(2)).await;
    proxy.behave(|faults| (faults.unavailable, faults.lose_answers) = (false, true));
    sale.until_sold(ORDERS / 4).await;
    tryton.kill_and_start();
    proxy.behave(|faults| faults.lose_answers = false);

    sale.until_sold(ORDERS / 2).await;
    proxy.behave(|faults| faults.delay = Duration::from_secs(2));
    server.kill();
    server = start();
    sale.listen_at(&server.url);
    sale.until_sold(3 * (ORDERS / 4)).await;
    proxy.behave(|faults| faults.delay = Duration::ZERO);
    proxy.until_under_way().await;
    server.kill();
    server = start();
    sale.listen_at(&server.url);
    selling.await.unwrap();
    assert_eq!(sale.sold(), ORDERS);
    sale.live_on().await;

    until_delivered(&server.url).await;
    let ledger = ledger(&server.url).await;
    let (stock, balances) = tryton.dump();
    reconcile(&server.url, &tryton);
    assert!(proxy.seen().faults > 0, "the partner was never in trouble: {:?}", proxy.seen());
    assert!(server.terminate().success());
    let different: Vec<_> =
        ledger.iter().filter(|(at, units)| stock.get(*at) != Some(units)).take(5).collect();
    assert!(different.is_empty(), "the ledger says {different:?}");
    assert_eq!(stock.len(), ledger.len());
    assert_eq!(balances.values().sum::<i128>(), 0);
    assert!(balances["revenue"] < 0, "{balances:?}");
    assert_eq!(balances, journal(&data, &config));
    run(holdfast().args(["books", "verify", "--data"]).arg(&data).env("HOLDFAST_CONFIG", &config))
        .with(0);
    let seen = proxy.seen();
    println!(
        "{ORDERS} orders over {SKUS} SKUs; {} calls to Tryton, {} of them in trouble; {} positions, {} accounts",
        seen.calls,
        seen.faults,
        stock.len(),
        balances.len()
    );
}

fn configuration(url: &str, key: &str) -> String {
    let sink = |name: &str, domain: &str| {
        format!(
            "[[sinks]]\nname = \"{name}\"\ndomain = \"{domain}\"\nurl = \"{url}\"\n\
             preset = \"tryton\"\nwindow_ms_max = 2000\nlines_max = 500\ntimeout_ms = 60000\n\
             retry_max_ms = 1000\n[sinks.connector.auth]\napi_key = \"{key}\"\n"
        )
    };
    let stock = "[sinks.reconcile]\nurl = \"/tryton/r/holdfast/stock\"\npage_max = 100\npage_ms_max = 30000\n";
    let locations = LOCATIONS.map(|location| format!("\"{location}\"")).join(", ");
    let (erp, books) = (sink("erp", "inventory"), sink("books", "finance"));
    format!("[engine]\nsourcing = [{locations}]\n{erp}{stock}{books}")
}

/// The ERP's stock agrees; a unit that somebody books there by hand is found.
fn reconcile(url: &str, tryton: &Tryton) {
    let ask = |code| {
        let command = ["reconcile", "--sink", "erp", "--json", "--url", url];
        let out = run(holdfast().args(command)).with(code).out;
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let agrees = ask(0);
    assert_eq!(agrees["state"], "agrees", "{agrees}");
    assert_eq!((&agrees["drifts"], &agrees["committed_compared"]), (&json!([]), &json!(true)));
    assert_eq!(agrees["positions"], SKUS * LOCATIONS.len() as u64);
    assert!(agrees["pages"].as_u64() > Some(1), "{agrees}");
    tryton.meddle(&sku(7), LOCATIONS[0], 1);
    let drift = ask(1);
    assert_eq!((&drift["state"], &drift["unexplained_positions"]), (&json!("drift"), &json!(1)));
    let [found] = drift["drifts"].as_array().unwrap().as_slice() else { panic!("{drift}") };
    assert_eq!(found["sku"], sku(7));
    assert_eq!((&found["location"], &found["figure"]), (&json!(LOCATIONS[0]), &json!("on_hand")));
    assert_eq!(found["unexplained"], 1);
    let last =
        run(holdfast().args(["reconcile", "--sink", "erp", "--last", "--url", url])).with(1).out;
    assert!(last.contains("in flight 0, dead-lettered 0, unexplained 1"), "{last}");
}

async fn ask(client: &reqwest::Client, url: &str) -> Value {
    client.get(url).send().await.unwrap().json().await.unwrap()
}

/// Waits until both sinks have all of it.
async fn until_delivered(url: &str) {
    let client = cli::client();
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let told: Value = ask(&client, &format!("{url}/v1/sinks")).await;
        let sinks = told["sinks"].as_array().unwrap();
        let status: Value = ask(&client, &format!("{url}/v1/status")).await;
        let all = sinks.iter().all(|sink| {
            sink["lag_records"] == 0 && sink["lanes"].as_array().unwrap()[0]["depth"] == 0
        });
        // A sink that has not read the last records yet has no lag either.
        let read = sinks.iter().all(|sink| {
            sink["acknowledged_lsn"].as_u64() >= status["durable"].as_u64().map(|lsn| lsn - 1)
        });
        for sink in sinks {
            assert_eq!(sink["dead_letters"], 0, "{sink}");
            assert_ne!(sink["state"], "broken", "{sink}");
        }
        if all && read {
            return;
        }
        assert!(std::time::Instant::now() < end, "not delivered in time: {told}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What the ledger says of every position.
async fn ledger(url: &str) -> Stock {
    let client = cli::client();
    let mut stock = Stock::new();
    for n in 0..SKUS {
        let told: Value = ask(&client, &format!("{url}/v1/stock/{}", sku(n))).await;
        for position in told["positions"].as_array().unwrap() {
            let text = |name: &str| position[name].as_str().unwrap().to_owned();
            let units = |name: &str| position[name].as_i64().unwrap();
            stock.insert((sku(n), text("location")), (units("on_hand"), units("committed")));
        }
    }
    stock
}

/// The balances of the engine's own journal.
fn journal(data: &Path, config: &Path) -> Balances {
    let out = run(holdfast()
        .args(["export", "journal", "--format", "jsonl", "--sink", "books", "--data"])
        .arg(data)
        .env("HOLDFAST_CONFIG", config))
    .with(0)
    .out;
    let mut balances = Balances::new();
    for line in out.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        for posting in entry["postings"].as_array().unwrap() {
            let cents = |side: &str| i128::from(posting[side].as_i64().unwrap());
            let account = posting["account"].as_str().unwrap().to_owned();
            *balances.entry(account).or_default() += cents("debit") - cents("credit");
        }
    }
    balances
}
