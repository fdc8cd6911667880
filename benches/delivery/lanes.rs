//! How long an express order waits when the other lanes of its warehouse are full: from the moment at
//! which its record is durable until the warehouse has it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use holdfast::{
    Engine, Key,
    config::{Domain, Policy, SinkConfig},
    model::{IdempotencyKey, command::Priority},
    sinks::{
        self,
        receiver::{Behaviour, Receiver},
    },
};

use super::shop::{self, text};

#[derive(clap::Args, Clone)]
pub struct Args {
    /// Orders that wait in each of the two other lanes.
    #[arg(long, default_value_t = 100_000)]
    backlog: u64,
    /// Express orders, one after the other.
    #[arg(long, default_value_t = 20)]
    orders: u64,
    /// How long the warehouse takes for a call, in milliseconds.
    #[arg(long, default_value_t = 200)]
    latency_ms: u64,
}

/// A window is as short as it can be: its time is not what is measured.
const WINDOW_MS: u64 = 1;

pub fn run(args: &Args, dir: &Path) {
    for concurrency in [1, 8] {
        let dir = dir.join(concurrency.to_string());
        std::fs::create_dir(&dir).expect("a folder");
        measure(args, &dir, concurrency);
    }
}

fn measure(args: &Args, dir: &Path, concurrency_max: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let latency = Duration::from_millis(args.latency_ms);
    let behaviour = Behaviour { latency, ..Behaviour::default() };
    let warehouse = runtime.block_on(Receiver::start(behaviour)).expect("a warehouse");
    let engine = shop::open(dir, 2 * args.backlog + args.orders, 100);
    let config = SinkConfig {
        window_ms_max: WINDOW_MS,
        policy: Policy { concurrency_max, ..Policy::default() },
        ..SinkConfig::new("wms", Domain::Fulfilment, warehouse.url())
    };
    let handle = sinks::start(&engine, vec![config], runtime.handle()).expect("a sink");
    for (n, priority) in (0..).zip([Priority::Bulk, Priority::Standard]) {
        let orders = n * args.backlog..(n + 1) * args.backlog;
        shop::sell(&engine, &shop::Sale { orders, skus: 100, shipped: false, priority });
    }
    let mut waits: Vec<_> = (0..args.orders)
        .map(|n| {
            // Not in step with the calls.
            std::thread::sleep(Duration::from_millis(37 * n % args.latency_ms.max(1)));
            express(&engine, &warehouse, 2 * args.backlog + n)
        })
        .collect();
    let left = handle.snapshot()[0].lanes.iter().map(|lane| lane.depth).sum::<u64>();
    let got = warehouse.totals();
    assert_eq!(got.violations, Vec::<String>::new());
    assert!(got.picks < 2 * args.backlog, "the backlog is gone: nothing was measured");
    waits.sort_unstable();
    let ms = |wait: Duration| wait.as_secs_f64() * 1e3;
    println!("concurrency_max {concurrency_max}, a call takes {} ms", args.latency_ms);
    println!(
        "  backlog       {} orders left of {}",
        2 * args.backlog + args.orders - got.picks,
        2 * args.backlog
    );
    println!("  under way     {left} batches at the end");
    let (before, own): (Vec<_>, Vec<_>) = waits.iter().map(|(w, others)| (*w, *others)).unzip();
    println!(
        "  express       least {:.0}, median {:.0}, most {:.0} ms from durable to arrived",
        ms(before[0]),
        ms(before[before.len() / 2]),
        ms(before[before.len() - 1])
    );
    println!("  overtaken by  at most {} batches", own.iter().max().unwrap_or(&0));
    drop(handle);
    engine.close().expect("an engine that ends");
}

/// Places an express order of a SKU of its own: how long it takes to the warehouse, and how many other
/// batches the warehouse takes meanwhile.
fn express(engine: &Engine, warehouse: &Receiver, n: u64) -> (Duration, u64) {
    let sku = shop::sku(1_000_000 + n);
    shop::stock(engine, &sku);
    let mut order = shop::order();
    (order.order_id, order.priority) = (shop::order_id(n), Priority::Express);
    order.lines[0].sku.clone_from(&sku);
    let key = text::<IdempotencyKey>(&format!("express-{n}"));
    let lsn = engine.place_order(Key::new("bench", &key), &order).lsn();
    shop::durable(engine, lsn);
    let (began, before) = (Instant::now(), warehouse.totals().batches);
    let place = (sku.to_string(), "BER".to_owned());
    loop {
        let totals = warehouse.totals();
        if totals.to_pick.contains_key(&place) {
            return (began.elapsed(), totals.batches - before - 1);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
