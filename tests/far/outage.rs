//! Memory while every partner is down, under load: what waits for a partner waits in the log, and memory
//! does not grow with it.
//!
//! The shop's own tables grow with what is sold, whoever is up. So the same sale runs twice, each time in
//! a process of its own (this test, told by its environment to be one), once with healthy partners and once
//! with all of them down. The partners are here, so that what they remember counts for neither. Memory is
//! what the process has of its own (`RssAnon`), not the log's pages. `benches/delivery/outage.rs` does the
//! same with half an hour of orders.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use crate::far_common::{PATIENCE, Shop, options, order};
use holdfast::{
    config::{Domain, SinkConfig},
    delivery::Handle,
    engine::{Engine, Key, Options},
    model::IdempotencyKey,
    sinks::{
        self,
        receiver::{Behaviour, Receiver},
    },
    wal,
};

const DOMAINS: [Domain; 4] =
    [Domain::Inventory, Domain::Fulfilment, Domain::Finance, Domain::Stream];
const SKUS: u64 = 100;
/// Orders sold and delivered before, and sold while partners are down.
const BEFORE: u64 = 1_000;
const ORDERS: u64 = 5_000;
/// The variable that makes this test a sale: the partners' addresses.
const PARTNERS: &str = "HOLDFAST_OUTAGE_PARTNERS";
const NAME: &str = "outage::an_outage_under_load_costs_no_memory";
/// What of the memory before an outage may cost, and what a process grows by chance, in bytes.
const SHARE: f64 = 0.1;
const CHANCE: f64 = (1 << 20) as f64;

#[test]
fn an_outage_under_load_costs_no_memory() {
    if let Ok(partners) = std::env::var(PARTNERS) {
        return sale(&partners);
    }
    let healthy = observe(false);
    let down = observe(true);
    println!("anonymous memory in KiB before and after: healthy {healthy:?}, down {down:?}");
    let growth = |[before, after]: [u64; 2]| after as f64 - before as f64;
    let own = growth(down) - growth(healthy);
    let most = SHARE * down[0] as f64 + CHANCE / 1_024.0;
    assert!(
        own <= most,
        "{own} KiB more than without an outage: healthy {healthy:?}, down {down:?}"
    );
}

/// A sale in a process of its own.
struct Sale {
    child: Child,
    asks: ChildStdin,
    says: std::io::Lines<BufReader<ChildStdout>>,
}

impl Sale {
    fn start(partners: &[Receiver]) -> Self {
        let urls: Vec<_> = partners.iter().map(Receiver::url).collect();
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([NAME, "--exact", "--nocapture"])
            .env(PARTNERS, urls.join(","))
            // Two heaps, so that what threads leave unused is little.
            .env("MALLOC_ARENA_MAX", "2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a sale");
        let asks = child.stdin.take().expect("its input");
        let says = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, asks, says }
    }

    /// The next number that it says; what the test harness says is not for us.
    fn next(&mut self) -> u64 {
        loop {
            let line = self.says.next().expect("a sale that goes on").expect("a line");
            let said = line.rsplit("SAID ").next().filter(|_| line.contains("SAID "));
            if let Some(number) = said {
                return number.parse().expect("a number");
            }
        }
    }

    fn go_on(&mut self) {
        writeln!(self.asks).expect("a sale that listens");
    }

    fn end(mut self) {
        self.go_on();
        // Else it would wait for a reader.
        self.says.by_ref().for_each(drop);
        assert!(self.child.wait().expect("an end").success());
    }
}

/// Its memory before the load and at its end, in KiB.
fn observe(outage: bool) -> [u64; 2] {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let start = || runtime.block_on(Receiver::start(Behaviour::default())).unwrap();
    let partners: Vec<_> = DOMAINS.iter().map(|_| start()).collect();
    let mut sale = Sale::start(&partners);
    let before = sale.next();
    partners.iter().for_each(|partner| partner.behave(|b| b.outage = outage));
    let told = |partners: &[Receiver]| partners.iter().map(|p| p.totals().events).sum::<u64>();
    let told_before = told(&partners);
    sale.go_on();
    let after = sale.next();
    assert_eq!(told(&partners) == told_before, outage, "nothing is told in an outage");
    partners.iter().for_each(|partner| partner.behave(|b| b.outage = false));
    sale.end();
    for partner in &partners {
        assert_eq!(partner.totals().violations, Vec::<String>::new());
    }
    let events = partners[3].totals().stream["holdfast.order.placed.v1"];
    assert_eq!(events, BEFORE + ORDERS, "and then all of it is");
    [before, after]
}

/// What this process has of its own, in KiB.
fn anonymous() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn go_on() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn say() {
    println!("\nSAID {}", anonymous());
}

/// The sale: says what memory it has, and goes on when it is told to.
fn sale(partners: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let wal = wal::Options { ack: wal::Ack::Memory, ..options().wal };
    let options = Options { wal, ..options() };
    let shop = Shop::open(Engine::open(folder.path(), options).unwrap(), SKUS);
    let config = |(domain, url): (&Domain, &str)| {
        let mut config = SinkConfig::new(domain.as_str(), *domain, url);
        config.retry_max_ms = 200;
        config.policy.recovery_pause_ms_max = 0;
        config
    };
    let configs = DOMAINS.iter().zip(partners.split(',')).map(config).collect();
    let handle = sinks::start(&shop.engine, configs, runtime.handle()).unwrap();
    let sell = |orders: std::ops::Range<u64>| {
        for n in orders {
            let key: IdempotencyKey = format!("order-{n}").parse().unwrap();
            let placed = shop.engine.place_order(Key::new("", &key), &order(n, SKUS));
            shop.engine.settle_blocking(placed).unwrap();
        }
    };
    sell(0..BEFORE);
    runtime.block_on(handle.drain(PATIENCE)).unwrap();
    say();
    go_on();
    sell(BEFORE..BEFORE + ORDERS);
    rest(&handle);
    say();
    go_on();
    runtime.block_on(handle.drain(PATIENCE)).unwrap();
    runtime.block_on(handle.shutdown(PATIENCE)).unwrap();
    shop.engine.close().unwrap();
}

/// Waits until the sinks have come to rest: all is delivered, or what can be read ahead is read.
fn rest(handle: &Handle) {
    let began = Instant::now();
    let state = || -> Vec<_> {
        let views = handle.snapshot();
        views.iter().map(|v| (v.lag_records, v.events_delivered, v.lanes[0].depth)).collect()
    };
    let mut last = state();
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = state();
        if now == last {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{now:?}");
        last = now;
    }
}
