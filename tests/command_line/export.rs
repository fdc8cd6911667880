//! What is exported is what was posted, and other programs agree: hledger and beancount accept the
//! journal, strictly, and its balances are those that the books' receiver counted. Both programs must be
//! installed (`scripts/test` does it); a test that finds one missing fails.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::cli::{holdfast, run};
use crate::far_common::{PATIENCE, Partners, Shop, link::Link, options, order};
use holdfast::{
    config::{Domain, SinkConfig},
    engine::{Engine, Key},
    model::Currency,
    sinks::receiver::Totals,
};
use serde_json::Value;
use tempfile::TempDir;

/// Balances by currency and account, in minor units: debit less credit.
type Balances = BTreeMap<(String, String), i128>;

/// A data directory in which orders of several currencies were sold and posted.
struct Sold {
    dir: TempDir,
    balances: Balances,
    orders: u64,
}

const CURRENCIES: [(&str, u32); 3] = [("EUR", 2), ("JPY", 0), ("KWD", 3)];

async fn sold(refuse: bool) -> Sold {
    let dir = TempDir::new().unwrap();
    let mut shop = Shop::open(Engine::open(dir.path(), options()).unwrap(), 10);
    let partners = Partners::start().await;
    if refuse {
        partners.books.behave(|b| b.refuse_with = Some(422));
    }
    // A partner that refuses gets all at once: after ten refused batches in a row the sink would pause,
    // and how many batches a sale becomes depends on how slow the machine is.
    let handle = (!refuse).then(|| partners.deliver(&shop.engine));
    for n in 0..60 {
        shop.sell(n).unwrap();
        let (code, _) = CURRENCIES[n as usize % 3];
        let mut other = order(1_000 + n, 10);
        other.currency = Currency::new(code).unwrap();
        let key = format!("other-{n}").parse().unwrap();
        let placed = shop.engine.place_order(Key::new("", &key), &other);
        shop.engine.settle_blocking(placed).unwrap();
        if let Some(handle) = handle.as_ref().filter(|_| n % 20 == 10) {
            handle.drain(PATIENCE).await.unwrap();
        }
    }
    let handle = handle.unwrap_or_else(|| partners.deliver(&shop.engine));
    handle.drain(PATIENCE).await.unwrap();
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
    Sold { dir, balances: balances(&partners.books.totals()), orders: 120 }
}

fn balances(totals: &Totals) -> Balances {
    let mut balances = Balances::new();
    for ((currency, account, _), sum) in &totals.accounts {
        *balances.entry((currency.clone(), account.clone())).or_default() += sum.debit - sum.credit;
    }
    balances
}

fn export(sold: &Sold, what: &[&str]) -> String {
    let mut command = holdfast();
    let ended = run(command.arg("export").args(what).arg("--data").arg(sold.dir.path())).with(0);
    assert_eq!(ended.err, "", "nothing is amiss");
    ended.out
}

fn decimals(currency: &str) -> u32 {
    CURRENCIES.iter().find(|(code, _)| *code == currency).unwrap().1
}

/// Minor units as a person would write them.
fn written(minor: i128, currency: &str) -> String {
    let decimals = decimals(currency) as usize;
    let sign = if minor < 0 { "-" } else { "" };
    let text = format!("{:0>1$}", minor.abs(), decimals + 1);
    let (whole, part) = text.split_at(text.len() - decimals);
    format!("{sign}{whole}{}{part}", if decimals > 0 { "." } else { "" })
}

/// Runs another program on a file.
fn other(program: &str, arguments: &[&str], file: &Path) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).arg(file);
    let ended = command.output();
    ended.unwrap_or_else(|e| panic!("{program} must be installed, as scripts/test does: {e}"))
}

fn hledger(file: &Path) -> Output {
    other("hledger", &["check", "--strict", "-f"], file)
}

fn bean_check(file: &Path) -> Output {
    other("bean-check", &[], file)
}

#[track_caller]
fn assert_accepted(output: &Output) {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}

/// Checks that a program accepts the journal and the balances, and not one that is a unit off.
fn assert_agreed(
    journal: &str,
    balances: &Balances,
    check: fn(&Path) -> Output,
    assertion: fn(&str, &str, i128) -> String,
) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("journal");
    fs::write(&file, journal).unwrap();
    assert_accepted(&check(&file));
    let all = |off: i128| {
        let mut text = journal.to_owned();
        for (number, ((currency, account), minor)) in balances.iter().enumerate() {
            let off = if number == 0 { off } else { 0 };
            text.push_str(&assertion(currency, account, minor + off));
        }
        text
    };
    fs::write(&file, all(0)).unwrap();
    assert_accepted(&check(&file));
    fs::write(&file, all(1)).unwrap();
    assert!(!check(&file).status.success(), "it would accept any balance");
}

#[tokio::test(flavor = "multi_thread")]
async fn ledger_programs_accept_the_journal_and_come_to_the_same_balances() {
    let sold = sold(false).await;
    assert_eq!(sold.balances.len(), 12, "four accounts in three currencies");
    let journal = |format| export(&sold, &["journal", "--format", format]);
    assert_agreed(&journal("hledger"), &sold.balances, hledger, |currency, account, minor| {
        let zero = written(0, currency);
        let balance = written(minor, currency);
        format!("\n2999-01-01 assertion\n    {account}  {zero} {currency} = {balance} {currency}\n")
    });
    assert_agreed(&journal("beancount"), &sold.balances, bean_check, |currency, account, minor| {
        let name = match account {
            "receivable" => "Assets:Receivable",
            "revenue" => "Income:Revenue",
            "shipping" => "Income:Shipping",
            "tax" => "Liabilities:Tax",
            other => panic!("{other}"),
        };
        let balance = written(minor, currency);
        format!("\n2999-01-01 balance {name}  {balance} ~ 0.00001 {currency}\n")
    });
    let renamed = ["journal", "--format", "beancount", "--account", "tax=Liabilities:VAT:Due"];
    let renamed = export(&sold, &renamed);
    assert!(renamed.contains("open Liabilities:VAT:Due") && !renamed.contains("Liabilities:Tax"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_the_journal_have_the_same_balances() {
    let sold = sold(false).await;
    let mut found = Balances::new();
    let mut orders = 0;
    let mut digest = "0".repeat(64);
    for line in export(&sold, &["journal", "--format", "jsonl"]).lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["state"], "delivered");
        assert_eq!(entry["previous_digest"], digest.as_str(), "the chain is whole");
        digest = entry["digest"].as_str().unwrap().to_owned();
        orders += entry["orders"].as_u64().unwrap();
        let currency = entry["currency"].as_str().unwrap();
        assert_eq!(entry["decimals"], decimals(currency));
        for posting in entry["postings"].as_array().unwrap() {
            let minor = |field: &str| i128::from(posting[field].as_i64().unwrap());
            let key = (currency.to_owned(), posting["account"].as_str().unwrap().to_owned());
            *found.entry(key).or_default() += minor("debit") - minor("credit");
        }
    }
    assert_eq!((&found, orders), (&sold.balances, sold.orders));

    let text = export(&sold, &["journal", "--format", "csv"]);
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let mut found = Balances::new();
    for row in rows.deserialize::<BTreeMap<String, String>>() {
        let row = row.unwrap();
        let minor = |text: &str| text.replace('.', "").parse::<i128>().unwrap();
        assert_eq!(row["debit"].contains('.'), decimals(&row["currency"]) > 0);
        *found.entry((row["currency"].clone(), row["account"].clone())).or_default() +=
            minor(&row["debit"]) - minor(&row["credit"]);
    }
    assert_eq!(found, sold.balances);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_partner_refused_is_marked() {
    let sold = sold(true).await;
    let lines = export(&sold, &["journal", "--format", "jsonl"]);
    assert!(lines.lines().count() > 0);
    for line in lines.lines() {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["state"], "refused");
    }
    let journal = export(&sold, &["journal", "--format", "hledger"]);
    assert!(journal.contains(" ! (books-") && !journal.contains(" * (books-"));
}

/// Batches of other domains look otherwise: a stream's is a list, a seal of waves has several.
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_read_beside_the_batches_of_every_domain() {
    let dir = TempDir::new().unwrap();
    let mut shop = Shop::open(Engine::open(dir.path(), options()).unwrap(), 5);
    // An order for each of the two locations, in one window.
    [0, 3].into_iter().for_each(|n| shop.sell(n).unwrap());
    let sinks = [
        ("events", Domain::Stream),
        ("wms", Domain::Fulfilment),
        ("erp", Domain::Inventory),
        ("fin", Domain::Finance),
    ];
    let mut waves = 0;
    for (name, domain) in sinks {
        let link = Link::default();
        let config = SinkConfig::new(name, domain, "http://127.0.0.1:1/");
        let handle = link.deliver(&shop.engine, config);
        handle.drain(PATIENCE).await.unwrap();
        handle.shutdown(PATIENCE).await.unwrap();
        waves += if domain == Domain::Fulfilment { link.erp().taken.len() } else { 0 };
    }
    assert_eq!(waves, 2, "one for each location");
    let paid = shop.paid;
    shop.engine.close().unwrap();
    drop(shop);
    let sold = Sold { dir, balances: Balances::new(), orders: 2 };
    for sink in [&[][..], &["--sink", "fin"]] {
        let lines = export(&sold, &[&["journal", "--format", "jsonl"], sink].concat());
        let entry: Value = serde_json::from_str(&lines).unwrap();
        assert_eq!((&entry["kind"], &entry["orders"]), (&"invoice".into(), &sold.orders.into()));
        let to_receive = &entry["postings"][0];
        assert_eq!(to_receive["account"], "receivable");
        assert_eq!(i128::from(to_receive["debit"].as_i64().unwrap()), paid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_and_stock_are_exported_as_the_engine_has_them() {
    let sold = sold(false).await;
    let orders = export(&sold, &["orders", "--format", "jsonl"]);
    let mut sums: BTreeMap<String, i128> = BTreeMap::new();
    let mut last = String::new();
    for line in orders.lines() {
        let order: Value = serde_json::from_str(line).unwrap();
        let at = order["committed_at"].as_str().unwrap().to_owned();
        assert!(last <= at, "in the order in which they were placed");
        last = at;
        *sums.entry(order["currency"].as_str().unwrap().to_owned()).or_default() +=
            i128::from(order["total"].as_i64().unwrap());
    }
    assert_eq!(orders.lines().count() as u64, sold.orders);
    for (currency, sum) in &sums {
        assert_eq!(*sum, sold.balances[&(currency.clone(), "receivable".to_owned())]);
    }
    let text = export(&sold, &["orders", "--format", "csv"]);
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<BTreeMap<String, String>> = rows.deserialize().map(Result::unwrap).collect();
    let committed: i64 = rows.iter().map(|row| row["open_quantity"].parse::<i64>().unwrap()).sum();

    let text = export(&sold, &["stock", "--format", "csv"]);
    let mut stock = csv::Reader::from_reader(text.as_bytes());
    let stock: Vec<BTreeMap<String, String>> = stock.deserialize().map(Result::unwrap).collect();
    assert_eq!(stock.len(), 20, "ten SKUs at two locations");
    let sum = |field: &str| stock.iter().map(|row| row[field].parse::<i64>().unwrap()).sum::<i64>();
    assert_eq!(sum("committed"), committed);
    assert_eq!(sum("available"), 20 * 1_000_000 - committed);
    let lines = export(&sold, &["stock", "--format", "jsonl"]);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["on_hand"].to_string(), stock[0]["on_hand"]);
}

/// A log that was made with another configuration could only be read with that one.
#[test]
fn a_log_is_read_whatever_it_was_made_with() {
    let dir = TempDir::new().unwrap();
    let mut options = options();
    options.wal.segment_bytes = 1 << 20;
    let engine = Engine::open(dir.path(), options).unwrap();
    let set = serde_json::from_str(r#"{"on_hand": 7}"#).unwrap();
    let set = engine.set_stock(&"A".parse().unwrap(), &"BER".parse().unwrap(), &set);
    engine.settle_blocking(set).unwrap();
    engine.close().unwrap();
    drop(engine);
    let mut command = holdfast();
    let said =
        run(command.args(["export", "stock", "--format", "jsonl", "--data"]).arg(dir.path()));
    let stock: Value = serde_json::from_str(&said.with(0).out).unwrap();
    assert_eq!((&stock["sku"], &stock["on_hand"]), (&"A".into(), &7.into()));
}

#[test]
fn what_can_not_be_exported_is_said() {
    let dir = TempDir::new().unwrap();
    Engine::open(dir.path(), options()).unwrap().close().unwrap();
    let mut command = holdfast();
    let ended =
        run(command.args(["export", "journal", "--format", "csv", "--data"]).arg(dir.path()));
    assert!(ended.with(3).err.contains("no finance sink"));
    let gone = dir.path().join("gone");
    for what in ["orders", "stock"] {
        let mut command = holdfast();
        run(command.args(["export", what, "--format", "csv", "--data"]).arg(&gone)).with(3);
        assert!(!gone.exists(), "nothing is made");
    }
    let mut command = holdfast();
    let wrong = ["export", "journal", "--format", "beancount", "--account", "tax=Tax", "--data"];
    assert!(run(command.args(wrong).arg(dir.path())).with(2).err.contains("`Tax`"));
}
