//! Memory while every partner is down, under load: half an hour of orders at a thousand a second, sold as
//! fast as they can be. What waits for a partner waits in the log, so memory must not grow with it.
//!
//! The shop's own tables grow with what is sold, whoever is up. So the same sale runs twice, each time in
//! a process of its own: once with healthy partners, once with all of them down. The partners are in this
//! process, so that what they remember counts for neither.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use holdfast::{
    config::{Domain, SinkConfig},
    delivery::Handle,
    model::command::Priority,
    sinks::{
        self,
        receiver::{Behaviour, Receiver},
    },
};

use super::shop;

const DOMAINS: [Domain; 4] =
    [Domain::Inventory, Domain::Fulfilment, Domain::Finance, Domain::Stream];
const SKUS: u64 = 1_000;

#[derive(clap::Args)]
pub struct Args {
    /// Orders sold during the outage.
    #[arg(long, default_value_t = 1_800_000)]
    orders: u64,
    /// Orders sold and delivered before.
    #[arg(long, default_value_t = 200_000)]
    before: u64,
    /// The partners of a run, comma-separated: a run that measures.
    #[arg(long, hide = true, value_delimiter = ',')]
    partners: Vec<String>,
}

/// What a run saw, in bytes.
struct Seen {
    before: u64,
    most: u64,
    last: u64,
    after: u64,
    anonymous: [u64; 2],
}

pub fn run(args: &Args, dir: &Path) {
    if !args.partners.is_empty() {
        return sale(args, dir);
    }
    let healthy = observe(args, dir, false);
    let down = observe(args, dir, true);
    let growth = |seen: &Seen| seen.last as f64 - seen.before as f64;
    let own = (growth(&down) - growth(&healthy)) / down.before as f64 * 100.0;
    println!("healthy         {}", healthy.told());
    println!("outage          {}", down.told());
    println!("the outage's    {own:+.1} % of before (its growth less that of the healthy run)");
}

impl Seen {
    fn told(&self) -> String {
        let mib = |bytes: u64| bytes >> 20;
        format!(
            "{} MiB resident before, {} at most and {} at the end of the load, {} once all is delivered; \
             of it anonymous {} before, {} at the end of the load",
            mib(self.before),
            mib(self.most),
            mib(self.last),
            mib(self.after),
            mib(self.anonymous[0]),
            mib(self.anonymous[1])
        )
    }
}

/// Runs the sale in a process of its own.
fn observe(args: &Args, dir: &Path, outage: bool) -> Seen {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let start = || runtime.block_on(Receiver::start(Behaviour::default())).expect("a partner");
    let partners: Vec<_> = DOMAINS.iter().map(|_| start()).collect();
    let urls: Vec<_> = partners.iter().map(Receiver::url).collect();
    let mut run = Command::new(std::env::current_exe().expect("this program"))
        .args(["outage", "--partners", &urls.join(","), "--data"])
        .arg(dir)
        .args(["--orders", &args.orders.to_string(), "--before", &args.before.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a run");
    let mut says = BufReader::new(run.stdout.take().expect("its output")).lines();
    let mut asks = run.stdin.take().expect("its input");
    let mut next = || says.next().expect("a run that goes on").expect("a line");
    let numbers = |line: String| line.split(' ').map(|n| n.parse().expect("a number")).collect();
    let before: Vec<u64> = numbers(next());
    let delivered = |partners: &[Receiver]| partners.iter().map(|p| p.totals().events).sum::<u64>();
    let delivered_before = delivered(&partners);
    partners.iter().for_each(|partner| partner.behave(|b| b.outage = outage));
    writeln!(asks).expect("a run that listens");
    let during: Vec<u64> = numbers(next());
    let told = delivered(&partners) - delivered_before;
    assert_eq!(told == 0, outage, "nothing is told in an outage, and something without one");
    partners.iter().for_each(|partner| partner.behave(|b| b.outage = false));
    writeln!(asks).expect("a run that listens");
    let after: Vec<u64> = numbers(next());
    assert!(run.wait().expect("an end").success());
    for partner in &partners {
        assert_eq!(partner.totals().violations, Vec::<String>::new());
    }
    let orders = (args.orders + args.before) as i64;
    assert_eq!(partners[0].totals().moved("sold"), orders, "all of it arrived, once");
    println!("outage {outage}: sold in {} ms, delivered {} ms after", during[3], after[1]);
    let (most, last, after) = (during[0], during[1], after[0]);
    Seen { before: before[0], most, last, after, anonymous: [before[1], during[2]] }
}

/// A run: says what it sees, and goes on when it is told to.
fn sale(args: &Args, dir: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let engine = shop::open(dir, args.orders + args.before, SKUS);
    let configs = DOMAINS.iter().zip(&args.partners);
    // Backlogs are brought as fast as they can be: what is measured is memory.
    let config = |(domain, url): (&Domain, &String)| {
        let mut config = SinkConfig::new(domain.as_str(), *domain, url.as_str());
        config.policy.recovery_pause_ms_max = 0;
        config.retry_max_ms = 1_000;
        config
    };
    let configs = configs.map(config).collect();
    let handle = sinks::start(&engine, configs, runtime.handle()).expect("sinks");
    let sell = |orders| {
        let (skus, shipped, priority) = (SKUS, false, Priority::Standard);
        shop::sell(&engine, &shop::Sale { orders, skus, shipped, priority });
    };
    sell(0..args.before);
    runtime.block_on(handle.drain(Duration::from_secs(600))).expect("all delivered");
    println!("{} {}", resident(), anonymous());
    go_on();
    let (most, began) = (AtomicU64::new(0), Instant::now());
    watched(&most, || sell(args.before..args.before + args.orders));
    let took = began.elapsed();
    std::thread::sleep(Duration::from_secs(2));
    println!("{} {} {} {}", most.into_inner(), resident(), anonymous(), took.as_millis());
    go_on();
    let began = Instant::now();
    drain(&runtime, &handle);
    println!("{} {}", resident(), began.elapsed().as_millis());
    runtime.block_on(handle.shutdown(Duration::from_secs(5))).expect("an end");
    engine.close().expect("an engine that ends");
}

fn drain(runtime: &tokio::runtime::Runtime, handle: &Handle) {
    runtime.block_on(handle.drain(Duration::from_secs(600))).expect("all delivered");
}

fn go_on() {
    std::io::stdin().read_line(&mut String::new()).expect("a word");
}

/// Looks at memory ten times a second while something is done.
fn watched(most: &AtomicU64, done: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                most.fetch_max(resident(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        done();
        stop.store(true, Ordering::Relaxed);
    });
}

/// Resident memory in bytes, what is mapped from files included.
fn resident() -> u64 {
    status("VmRSS:")
}

/// Resident memory in bytes that belongs to no file.
fn anonymous() -> u64 {
    status("RssAnon:")
}

fn status(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process's status");
    let line = status.lines().find(|line| line.starts_with(what)).expect("its memory");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib * 1024
}
