//! How many reservations a second, with everything that a reservation does: the key's look-up among
//! a million, the customer's limit, the table, the expiry timer, the log and its sync.
//!
//! `cargo bench --bench throughput -- [--count N] [--threads N] [--skus N] [--ack disk|memory]
//! [--lines N] [--sold-out] [--prepared] [--data DIR]`
//!
//! Each thread keeps at most 65,536 / threads reservations waiting for their acknowledgement. The
//! report has the rate, the time of a call and of an acknowledgement, memory and device bytes.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use clap::Parser;
use hdrhistogram::Histogram;
use holdfast::{
    Decision, Engine, Key, Options,
    model::{
        IdempotencyKey,
        command::{Reserve, SetStock},
        view::ReservationView,
    },
    wal,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reservations waiting for their acknowledgement, over all threads.
const WAITING_MAX: usize = 65_536;

#[derive(Parser, Clone)]
struct Args {
    /// Reservations, over all threads.
    #[arg(long, default_value_t = 4_000_000)]
    count: u64,
    /// Threads that reserve.
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// SKUs that they reserve.
    #[arg(long, default_value_t = 1)]
    skus: u64,
    /// Lines of a cart.
    #[arg(long, default_value_t = 1)]
    lines: u64,
    /// Level of acknowledgement.
    #[arg(long, default_value = "disk")]
    ack: String,
    /// Nothing is in stock.
    #[arg(long)]
    sold_out: bool,
    /// Memory for all of it is made at the start, as before a sale.
    #[arg(long)]
    prepared: bool,
    /// No limit per customer.
    #[arg(long)]
    unlimited: bool,
    /// Keys known before.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// How long reservations hold; a short one makes expiry part of the run.
    #[arg(long, default_value_t = 3_600_000)]
    ttl_ms: u64,
    /// Closed reservations and keys are remembered so long.
    #[arg(long, default_value_t = 86_400_000)]
    retention_ms: u64,
    /// Log after which a checkpoint is made; none by default.
    #[arg(long, default_value_t = 1 << 40)]
    checkpoint_bytes: u64,
    /// The log's budget.
    #[arg(long, default_value_t = 24 << 30)]
    budget_bytes: u64,
    /// A sink that follows the log.
    #[arg(long)]
    feed: bool,
    /// Time every call (costs two clock readings a call).
    #[arg(long)]
    time_calls: bool,
    /// Where the data goes; a fresh folder in it.
    #[arg(long, default_value = "target")]
    data: PathBuf,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

fn options(args: &Args) -> Options {
    let all = u32::try_from(args.count + args.keys).unwrap_or(u32::MAX) + 100_000;
    let ack = if args.ack == "memory" { wal::Ack::Memory } else { wal::Ack::Disk };
    Options {
        wal: wal::Options { ack, budget_bytes: args.budget_bytes, ..wal::Options::default() },
        reservations_max: all,
        reservations_prepared: if args.prepared { all } else { 0 },
        keys_max: all,
        customer_limits_max: all,
        retention_ms: args.retention_ms,
        checkpoint_bytes: args.checkpoint_bytes,
        ..Options::default()
    }
}

fn key(text: &str) -> IdempotencyKey {
    text.parse().expect("a key")
}

fn cart(args: &Args, number: u64) -> Reserve {
    let line = |i: u64| format!(r#"{{"sku":"SKU-{:06}","quantity":1}}"#, (number + i) % args.skus);
    let lines: Vec<_> = (0..args.lines).map(line).collect();
    let json =
        format!(r#"{{"lines":[{}],"customer":"c","ttl_ms":{}}}"#, lines.join(","), args.ttl_ms);
    serde_json::from_str(&json).expect("a cart")
}

#[derive(Default)]
struct Outcome {
    granted: u64,
    refused: u64,
}

struct Timed {
    calls: Histogram<u64>,
    acks: Histogram<u64>,
}

fn reserve_all(engine: &Engine, args: &Args, thread: u64, stop: &AtomicBool) -> (Outcome, Timed) {
    let carts: Vec<Reserve> =
        (0..args.skus.min(4096)).map(|n| cart(args, n * 7 + thread)).collect();
    let mut carts = carts;
    let mut waiting: VecDeque<(Instant, Decision<ReservationView>)> = VecDeque::new();
    let limit = WAITING_MAX / args.threads as usize;
    let mut outcome = Outcome::default();
    let mut timed = Timed {
        calls: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("a histogram"),
        acks: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("a histogram"),
    };
    let mut name = String::new();
    let mut began = Instant::now();
    for n in 0..args.count / args.threads {
        use std::fmt::Write;
        name.clear();
        let _ = write!(name, "k{thread}-{n}");
        let key = key(&name);
        let at = n as usize % carts.len();
        let cart = &mut carts[at];
        cart.customer = Some(name.parse().expect("a customer"));
        if args.time_calls || n % 64 == 0 {
            began = Instant::now();
        }
        let decision = engine.reserve(Key::new("bench", &key), cart);
        if args.time_calls || n % 64 == 0 {
            timed.calls.saturating_record(began.elapsed().as_nanos() as u64);
        }
        match decision.lsn() {
            None => outcome.refused += 1,
            Some(_) => {
                outcome.granted += 1;
                waiting.push_back((began, decision));
                // Often, or the time of an acknowledgement would be that of looking for it.
                if n % 64 == 0 {
                    let left = if waiting.len() >= limit { limit - 64 } else { limit };
                    settle_some(engine, &mut waiting, &mut timed.acks, left);
                }
            }
        }
        if n % 1024 == 0 && stop.load(Ordering::Relaxed) {
            break;
        }
    }
    settle_some(engine, &mut waiting, &mut timed.acks, 0);
    (outcome, timed)
}

/// Waits for the oldest until at most `left` are waiting, then lets go of all that are durable.
fn settle_some(
    engine: &Engine,
    waiting: &mut VecDeque<(Instant, Decision<ReservationView>)>,
    acks: &mut Histogram<u64>,
    left: usize,
) {
    while waiting.len() > left {
        let Some((began, decision)) = waiting.pop_front() else { return };
        engine.settle_blocking(decision).expect("a durable answer");
        acks.saturating_record(began.elapsed().as_nanos() as u64);
    }
    while let Some((_, decision)) = waiting.front()
        && decision.lsn().is_some_and(|lsn| engine.log().is_acked(lsn))
        && let Some((began, decision)) = waiting.pop_front()
    {
        engine.settle_blocking(decision).expect("a durable answer");
        acks.saturating_record(began.elapsed().as_nanos() as u64);
    }
}

fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap_or("");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    kib * 1024
}

fn device_bytes() -> u64 {
    let Ok(blocks) = std::fs::read_dir("/sys/block") else { return 0 };
    let written = |entry: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        stat.split_whitespace().nth(6)?.parse::<u64>().ok()
    };
    blocks.flatten().filter_map(written).sum::<u64>() * 512
}

fn follow(engine: &Engine, stop: &AtomicBool, read: &AtomicU64) {
    let mut reader = engine.log().reader(engine.log().durable()).expect("a reader");
    while !stop.load(Ordering::Relaxed) {
        let mut n = 0;
        while let Some(_record) = reader.next().expect("a record") {
            n += 1;
            if n % 4096 == 0 {
                engine.hold_log("bench", reader.position());
            }
        }
        read.fetch_add(n, Ordering::Relaxed);
        engine.hold_log("bench", reader.position());
        let _ = engine.log().wait_durable_timeout(reader.position(), Duration::from_millis(10));
    }
}

fn main() {
    let args = Args::parse();
    let dir = tempfile::tempdir_in(&args.data).expect("a folder for the data");
    let engine = Engine::open(dir.path(), options(&args)).expect("an engine");
    for n in 0..args.skus {
        let on_hand = if args.sold_out { 0 } else { 900_000_000 };
        let limit = if args.unlimited { "null" } else { "5" };
        let set = format!(r#"{{"on_hand":{on_hand},"per_customer_limit":{limit}}}"#);
        let set: SetStock = serde_json::from_str(&set).expect("stock");
        let sku = format!("SKU-{n:06}").parse().expect("a sku");
        let _ = engine.set_stock(&sku, &"BER".parse().expect("a location"), &set);
    }
    // A million keys to look among; on a SKU of their own.
    let set: SetStock = serde_json::from_str(r#"{"on_hand":900000000}"#).expect("stock");
    let _ = engine.set_stock(&"OTHER".parse().unwrap(), &"BER".parse().unwrap(), &set);
    let other: Reserve =
        serde_json::from_str(r#"{"lines":[{"sku":"OTHER","quantity":1}],"ttl_ms":86400000}"#)
            .unwrap();
    for n in 0..args.keys {
        let key = key(&format!("before-{n}"));
        let decision = engine.reserve(Key::new("bench", &key), &other);
        if n % 30_000 == 0 || n + 1 == args.keys {
            engine.settle_blocking(decision).expect("room for the keys");
        }
    }
    let (memory, device) = (anonymous_bytes(), device_bytes());
    let before = engine.log().stats();
    let stop = AtomicBool::new(false);
    let read = AtomicU64::new(0);
    let began = Instant::now();
    let results: Vec<(Outcome, Timed)> = std::thread::scope(|scope| {
        if args.feed {
            scope.spawn(|| follow(&engine, &stop, &read));
        }
        let threads: Vec<_> = (0..args.threads)
            .map(|t| {
                let (engine, args, stop) = (&engine, &args, &stop);
                scope.spawn(move || reserve_all(engine, args, t, stop))
            })
            .collect();
        let results = threads.into_iter().map(|t| t.join().expect("a thread")).collect();
        stop.store(true, Ordering::Relaxed);
        results
    });
    let elapsed = began.elapsed();
    report(&args, &engine, elapsed, results, (memory, device, before));
    if args.feed {
        println!("records read    {}", read.load(Ordering::Relaxed));
    }
}

fn report(
    args: &Args,
    engine: &Engine,
    elapsed: Duration,
    results: Vec<(Outcome, Timed)>,
    (memory, device, before): (u64, u64, wal::Stats),
) {
    let mut calls = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("a histogram");
    let mut acks = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("a histogram");
    let (mut granted, mut refused) = (0, 0);
    for (outcome, timed) in results {
        granted += outcome.granted;
        refused += outcome.refused;
        calls.add(timed.calls).expect("histograms of one kind");
        acks.add(timed.acks).expect("histograms of one kind");
    }
    let stats = engine.log().stats();
    let total = granted + refused;
    let log_bytes = stats.bytes - before.bytes;
    let syncs = stats.syncs - before.syncs;
    println!("threads {} skus {} lines {} ack {}", args.threads, args.skus, args.lines, args.ack);
    println!("granted {granted} refused {refused} in {:.2} s", elapsed.as_secs_f64());
    println!("rate            {:.0} a second", total as f64 / elapsed.as_secs_f64());
    println!(
        "call ns         p50 {} p99 {}",
        calls.value_at_quantile(0.5),
        calls.value_at_quantile(0.99)
    );
    let ms = |q: f64| acks.value_at_quantile(q) as f64 / 1e6;
    println!("ack ms          p50 {:.2} p99 {:.2} max {:.2}", ms(0.5), ms(0.99), ms(1.0));
    if granted > 0 {
        let per = |bytes: u64| bytes as f64 / granted as f64;
        println!("log bytes       {:.1} a reservation", per(log_bytes));
        println!(
            "device bytes    {:.2} a byte of log",
            (device_bytes() - device) as f64 / log_bytes as f64
        );
        println!(
            "memory          {:.1} bytes a reservation",
            per(anonymous_bytes().saturating_sub(memory))
        );
    }
    if let Some(us) = (stats.sync_us_sum - before.sync_us_sum).checked_div(syncs) {
        println!("syncs           {syncs}, {us} us each, {} bytes a group", log_bytes / syncs);
    }
    println!(
        "segments        made {} recycled {} waits {} stalls {}",
        stats.segments_made, stats.segments_recycled, stats.room_waits, stats.stalls
    );
    println!("checkpoints     {}", engine.status().counters.checkpoints);
}
