//! The sinks of a server that runs are changed over HTTP while it sells: they come, go, come back, get other
//! filters and windows; in a freeze window none of it is done, and all of it can be taken back. A server that
//! is killed between the record of a change and what follows has nothing half done.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::cli::{Ended, Server, client, get, holdfast, post, run, runtime};
use crate::erp::Erp;
use crate::far_common::{
    link::Link,
    port::{Does, Port},
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const SKUS: u64 = 4;

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The configuration of a sink; `more` stands in its table.
fn sink(name: &str, domain: &str, url: &str, more: &str) -> String {
    format!(
        "[[sinks]]\nname = \"{name}\"\ndomain = \"{domain}\"\nurl = \"{url}\"\nwindow_ms_max = 20\n\
         retry_initial_ms = 5\nretry_max_ms = 50\n{more}"
    )
}

fn sku(n: u64) -> String {
    format!("{}-{n}", ["TEE", "MUG"][n as usize % 2])
}

/// Units by SKU and location.
type Sold = BTreeMap<(String, String), i64>;

/// Sells order number `n`.
fn sell(url: &str, n: u64, sold: &mut Sold) {
    let (sku, quantity) = (sku(n % SKUS), 1 + (n % 3) as i64);
    let body = json!({"order_id": format!("O-{n}"), "currency": "EUR",
        "lines": [{"sku": sku, "quantity": quantity, "unit_price": 100}]});
    let (status, answer) = post(&format!("{url}/v1/orders"), &format!("k-{n}"), &body);
    assert_eq!(status, 201, "{answer}");
    *sold.entry((sku, "BER".to_owned())).or_default() += quantity;
}

/// A server, its folder, and a partner that knows batches again and no lines.
struct House {
    server: Server,
    folder: tempfile::TempDir,
    port: Port,
    sold: Sold,
    orders: u64,
    /// The partners'.
    runtime: tokio::runtime::Runtime,
}

impl House {
    /// With one sink, `erp`.
    fn start() -> Self {
        let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime());
        let port = runtime.block_on(Port::open(Link::default()));
        let server = serve(&folder, &sink("erp", "inventory", &port.url(), ""));
        for n in 0..SKUS {
            let url = format!("{}/v1/stock/{}/BER", server.url, sku(n));
            let put = client().put(url).json(&json!({"on_hand": 100_000}));
            assert_eq!(
                runtime.block_on(async { put.send().await }).unwrap().status().as_u16(),
                200
            );
        }
        Self { server, folder, port, sold: Sold::new(), orders: 0, runtime }
    }

    fn port(&self) -> Port {
        self.runtime.block_on(Port::open(Link::default()))
    }

    fn erp(&self, more: &str) -> String {
        sink("erp", "inventory", &self.port.url(), more)
    }

    fn sell(&mut self, orders: u64) {
        for _ in 0..orders {
            sell(&self.server.url, self.orders, &mut self.sold);
            self.orders += 1;
        }
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("new.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn reload(&self, text: &str, more: &[&str]) -> Ended {
        self.server.reload(&self.file(text), more)
    }

    fn names(&self) -> Vec<String> {
        let said = get(&format!("{}/v1/sinks", self.server.url));
        let name = |sink: &Value| sink["name"].as_str().unwrap().to_owned();
        said["sinks"].as_array().unwrap().iter().map(name).collect()
    }

    fn again(self, text: &str) -> Self {
        self.server.kill();
        let server = serve(&self.folder, text);
        Self { server, ..self }
    }

    fn assert_told(&self, port: &Port) {
        until("all is told", || port.link().erp().sold() == self.sold);
        port.link().erp().audit(&[]);
        assert_same_bytes(port);
    }
}

fn serve(folder: &tempfile::TempDir, text: &str) -> Server {
    let path = folder.path().join("holdfast.toml");
    std::fs::write(&path, text).unwrap();
    let mut command = holdfast();
    // What is seen here is wanted: attempts that fail.
    command.env("HOLDFAST_CONFIG", path).env("RUST_LOG", "off");
    Server::start_with(&folder.path().join("data"), &mut command)
}

/// Whatever went out again did so with the bytes that it had.
fn assert_same_bytes(port: &Port) {
    let mut bytes = BTreeMap::new();
    for (id, body) in &port.link().erp().sent {
        let before = bytes.entry(id.clone()).or_insert_with(|| body.clone());
        assert_eq!(before, body, "{id} went out with other bytes");
    }
}

#[test]
fn a_sink_comes_goes_and_comes_back_while_a_sale_runs() {
    let mut house = House::start();
    house.sell(5);
    let (wms, late) = (house.port(), house.runtime.block_on(Erp::start()));
    let wms_sink = sink("wms", "fulfilment", &wms.url(), "");
    let late_url = format!("http://127.0.0.1:{}/batches", late.port);
    let late_sink = sink(
        "late",
        "inventory",
        &late_url,
        "dedupe = \"line\"\n[sinks.reconcile]\nurl = \"/stock\"\n",
    );
    let both = house.erp("") + &wms_sink + &late_sink;
    let (over, url) = (AtomicBool::new(false), house.server.url.clone());
    let (sold, orders) = thread::scope(|scope| {
        let (over, mut sold, mut n) = (&over, house.sold.clone(), house.orders);
        let sale = scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                sell(&url, n, &mut sold);
                n += 1;
            }
            (sold, n)
        });
        house.reload(&both, &[]).with(0);
        assert_eq!(house.names(), ["erp", "wms", "late"]);
        until("the newcomers are told", || {
            !wms.link().erp().sent.is_empty() && late.with(|late| !late.stock.is_empty())
        });
        house.reload(&house.erp(""), &[]).with(0);
        assert_eq!(house.names(), ["erp"]);
        let sent = wms.link().erp().sent.len();
        thread::sleep(Duration::from_millis(300));
        assert_eq!(wms.link().erp().sent.len(), sent, "it is gone");
        let back = wms_sink.clone() + &late_sink + &house.erp("lines_max = 2\n");
        house.reload(&back, &[]).with(0);
        assert_eq!(house.names(), ["wms", "late", "erp"]);
        until("the warehouse is told again", || wms.link().erp().sent.len() > sent + 2);
        over.store(true, Ordering::Relaxed);
        sale.join().unwrap()
    });
    (house.sold, house.orders) = (sold, orders);
    house.assert_told(&house.port);
    until("all is to be picked", || wms.link().erp().to_pick() == house.sold);
    wms.link().erp().audit(&[]);
    assert_same_bytes(&wms);
    let reconciled = || {
        let url = format!("{}/v1/sinks/late/reconcile", house.server.url);
        let (status, report) = post(&url, "r", &json!({}));
        assert_eq!(status, 200, "{report}");
        report["state"] == "agrees" && report["in_flight_positions"] == 0
    };
    until("the latecomer's stock is the ledger's", reconciled);
    // A start with the same goes on where they were.
    let sent = [&house.port, &wms].map(|port| port.link().erp().sent.len());
    let all = wms_sink + &late_sink + &house.erp("lines_max = 2\n");
    let mut house = house.again(&all);
    house.sell(3);
    house.assert_told(&house.port);
    until("all is to be picked", || wms.link().erp().to_pick() == house.sold);
    for (port, sent) in [&house.port, &wms].into_iter().zip(sent) {
        port.link().erp().audit(&[]);
        let applied = port.link().erp().sent.len() - sent;
        assert!(applied <= 6, "{applied} batches after the start");
    }
}

/// A change is asked for while a sink has an attempt under way that has its effect and is never answered:
/// the record is there, and what follows waits for that sink. Its process is killed then.
fn killed_in_between(start_with_new: bool) {
    let mut house = House::start();
    house.sell(6);
    house.assert_told(&house.port);
    house.port.does(Does::Hangs { effect: true });
    let before = house.port.link().erp().sent.len();
    house.sell(2);
    until("a batch hangs", || house.port.link().erp().sent.len() > before);
    let late = house.port();
    let old = house.erp("");
    let new = house.erp("window_events_max = 3\n") + &sink("late", "inventory", &late.url(), "");
    let asked = json!({"toml": new, "reason": "a test"});
    let url = format!("{}/v1/configuration", house.server.url);
    let asking = house.runtime.spawn(async move { client().post(url).json(&asked).send().await });
    until("it is written down", || house.server.versions().len() == 2);
    assert_eq!(house.names(), ["erp"], "what follows has not happened");
    house.port.does(Does::Answers);
    let mut house = house.again(if start_with_new { &new } else { &old });
    assert!(house.runtime.block_on(asking).unwrap().is_err(), "it was answered");
    let state = house.server.versions().last().unwrap()["by"].clone();
    assert_eq!(state, if start_with_new { "" } else { "start" });
    house.sell(6);
    house.assert_told(&house.port);
    if start_with_new {
        house.assert_told(&late);
    } else {
        assert!(late.link().erp().sent.is_empty());
        house.reload(&new, &[]).with(0);
        house.assert_told(&late);
    }
    assert_eq!(house.names(), ["erp", "late"]);
}

#[test]
fn killed_between_the_record_and_what_follows_a_start_with_the_new_file_has_all_of_it() {
    killed_in_between(true);
}

#[test]
fn killed_between_the_record_and_what_follows_a_start_with_the_old_file_has_none_of_it() {
    killed_in_between(false);
}

/// What was written down was not applied if whoever asked for it was gone by then.
#[test]
fn a_change_is_applied_though_whoever_asked_for_it_goes_away() {
    let mut house = House::start();
    house.port.does(Does::Waits);
    house.sell(1);
    until("an attempt", || !house.port.link().erp().sent.is_empty());
    let late = house.port();
    let new = house.erp("lines_max = 7\n") + &sink("late", "inventory", &late.url(), "");
    let asked = json!({"toml": new, "reason": "a test"});
    let url = format!("{}/v1/configuration", house.server.url);
    let asking = client().post(url).json(&asked).timeout(Duration::from_millis(500));
    assert!(house.runtime.block_on(async { asking.send().await }).unwrap_err().is_timeout());
    assert_eq!((house.server.versions().len(), house.names().len()), (2, 1));
    house.port.does(Does::Answers);
    until("it is applied", || house.names().len() == 2);
    house.assert_told(&late);
    house.assert_told(&house.port);
    assert_eq!(house.server.terminate().code(), Some(0));
}

#[test]
fn a_filter_counts_from_its_change_on_and_what_was_sealed_stays_as_it_was() {
    let mut house = House::start();
    house.sell(5);
    house.assert_told(&house.port);
    // A mug is sealed and can't be brought; what is sold behind it is read and not sealed.
    house.port.does(Does::Cuts { effect: false });
    house.sell(1);
    let last = |house: &House| house.port.link().erp().sent.last().cloned();
    let has_mug =
        |(_, body): (String, bytes::Bytes)| String::from_utf8_lossy(&body).contains("MUG-1");
    let before = house.port.link().erp().sent.len();
    until("it is sent", || house.port.link().erp().sent.len() > before);
    let sealed = last(&house).filter(|sent| has_mug(sent.clone())).expect("it has the mug");
    let mut expected = house.sold.clone();
    house.sell(4);
    let filter = "[sinks.filter]\nskus = [\"TEE-*\"]\n";
    let told = house.reload(&house.erp(filter), &[]).with(0).out;
    assert!(told.contains("sinks.erp.filter.skus") && told.contains("(live)"), "{told}");
    house.sell(4);
    for (at, units) in &mut expected {
        if at.0.starts_with("TEE-") {
            *units = house.sold[at];
        }
    }
    house.port.does(Does::Answers);
    until("what the filter lets through", || house.port.link().erp().sold() == expected);
    assert_eq!(house.port.link().erp().taken.get(&sealed.0), Some(&sealed.1), "as it was sealed");
    // Taken back: from there on all again.
    house.server.config(&["rollback", "1", "--reason", "all of it"]).with(0);
    let before = house.sold.clone();
    house.sell(4);
    for (at, units) in &mut expected {
        *units += house.sold[at] - before[at];
    }
    until("mugs again", || house.port.link().erp().sold() == expected);
    house.port.link().erp().audit(&[]);
    assert_same_bytes(&house.port);
}

fn freeze() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let at = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
    let (from, until) = (at(now - 60), at(now + 3_600));
    format!("[[freezes]]\nfrom = \"{from}\"\nuntil = \"{until}\"\nreason = \"the sale\"\n")
}

#[test]
fn in_a_freeze_window_no_sink_comes_or_goes_unless_it_is_forced_and_both_can_be_taken_back() {
    let mut house = House::start();
    let late = house.port();
    let with_late = house.erp("") + &sink("late", "inventory", &late.url(), "") + &freeze();
    let alone = house.erp("") + &freeze();
    house.reload(&alone, &[]).with(0);
    house.sell(2);
    let told = house.reload(&with_late, &[]).with(3).err;
    assert!(told.contains("frozen"), "{told}");
    assert_eq!((house.names().len(), house.server.versions().len()), (1, 2));
    house.reload(&with_late, &["--force"]).with(0);
    house.assert_told(&late);
    let told = house.reload(&alone, &[]).with(3).err;
    assert!(told.contains("frozen"), "{told}");
    assert_eq!(house.names(), ["erp", "late"]);
    // The coming is taken back, and then the going.
    house.server.config(&["rollback", "2", "--reason", "too early", "--force"]).with(0);
    assert_eq!(house.names(), ["erp"]);
    house.sell(3);
    house.server.config(&["rollback", "3", "--reason", "now", "--force"]).with(0);
    assert_eq!(house.names(), ["erp", "late"]);
    house.assert_told(&late);
    house.assert_told(&house.port);
}

#[test]
fn check_config_says_what_of_a_sink_is_live_and_what_is_not_is_refused_by_name() {
    let mut house = House::start();
    let late = house.port();
    let more = "lines_max = 9\ndedupe = \"line\"\n[sinks.policy]\nordering = \"none\"\n[sinks.filter]\n\
                skus = [\"TEE-*\"]\n";
    let text = house.erp(more) + &sink("late", "stream", &late.url(), "");
    let path = house.file(&text);
    let words = ["check-config", "--config", path.to_str().unwrap(), "--against"];
    let own = house.folder.path().join("holdfast.toml");
    for against in [house.server.url.as_str(), own.to_str().unwrap()] {
        let told = run(holdfast().args(words).arg(against)).with(0).out;
        for key in ["lines_max", "dedupe", "policy.ordering", "filter.skus"] {
            let line = told.lines().find(|line| line.contains(&format!("sinks.erp.{key}: ")));
            assert!(line.is_some_and(|line| line.ends_with("(live)")), "{key}: {told}");
        }
        assert!(told.contains("sinks.late.domain: null -> \"stream\" (live)"), "{told}");
    }
    let other = house.erp("").replace("inventory", "stream");
    let path = house.file(&other);
    let words = ["check-config", "--config", path.to_str().unwrap(), "--against"];
    let told = run(holdfast().args(words).arg(&house.server.url)).with(0).out;
    assert!(told.contains("sinks.erp.domain: \"inventory\" -> \"stream\" (restart)"), "{told}");
    // It has sealed something: no start takes another domain either.
    house.sell(1);
    house.assert_told(&house.port);
    let is_refused = |told: String| {
        for word in ["sink `erp`: domain: it was `inventory`", "another name"] {
            assert!(told.contains(word), "{told}");
        }
    };
    is_refused(house.reload(&other, &[]).with(3).err);
    assert!(house.server.versions().is_empty());
    let path = house.file(&other);
    assert_eq!(house.server.terminate().code(), Some(0));
    let data = house.folder.path().join("data");
    // One that serves would do so for ever.
    let mut start = Command::new("timeout");
    start.args(["60", env!("CARGO_BIN_EXE_holdfast"), "serve", "--listen", "127.0.0.1:0"]);
    start.arg("--config").arg(path).arg("--data").arg(data);
    start.envs(holdfast().get_envs().filter_map(|(name, value)| Some((name, value?))));
    is_refused(run(&mut start).with(3).err);
}
