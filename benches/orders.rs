//! How many orders a second live their whole life: placed in one step, billed, shipped, paid. Four
//! records an order, each decided by itself, durable in groups. Then how long the trace of one of them
//! takes, how many of their records a second become balanced postings, and how long the first checkpoint
//! of all of them takes.
//!
//! `cargo bench --bench orders -- [--orders N] [--threads N] [--skus N] [--ack disk|memory] [--data DIR]`

use std::{
    collections::VecDeque,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Parser;
use hdrhistogram::Histogram;
use holdfast::{
    Engine, Key, Options,
    model::{
        Amount, IdempotencyKey, Lsn, OrderId, Reference,
        command::{Invoice, PlaceOrder, SetStock, Settle, Ship},
        posting::{self, Recognition},
    },
    wal,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records waiting for their acknowledgement, over all threads.
const WAITING_MAX: usize = 65_536;

#[derive(Parser, Clone)]
struct Args {
    /// Orders, over all threads.
    #[arg(long, default_value_t = 500_000)]
    orders: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// SKUs that they order.
    #[arg(long, default_value_t = 1_000)]
    skus: u64,
    /// Level of acknowledgement.
    #[arg(long, default_value = "disk")]
    ack: String,
    /// Where the data goes; a fresh folder in it.
    #[arg(long, default_value = "target")]
    data: PathBuf,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

fn text<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("a text that is one")
}

/// Keeps the number of records that wait for their acknowledgement within its limit.
struct Waiting<'a> {
    engine: &'a Engine,
    lsns: VecDeque<Lsn>,
    max: usize,
}

impl Waiting<'_> {
    fn add(&mut self, lsn: Option<Lsn>) {
        self.lsns.extend(lsn);
        assert!(lsn.is_some(), "every step of an order's life goes through");
        if self.lsns.len() >= self.max
            && let Some(oldest) = self.lsns.pop_front()
        {
            self.engine.log().wait_blocking(oldest).expect("a log that goes on");
            let acked = self.lsns.partition_point(|lsn| self.engine.log().is_acked(*lsn));
            self.lsns.drain(..acked);
        }
    }
}

fn live(engine: &Engine, args: &Args, thread: u64) {
    let max = WAITING_MAX / args.threads as usize;
    let mut waiting = Waiting { engine, lsns: VecDeque::new(), max };
    let place = r#"{"order_id":"O","currency":"EUR","lines":[{"sku":"S","quantity":1,
        "unit_price":1999,"tax_code":"DE-19","tax":319}]}"#;
    let mut place: PlaceOrder = serde_json::from_str(place).expect("an order");
    let invoice = r#"{"invoice_id":"I","currency":"EUR","amount":1999,"tax":319}"#;
    let invoice: Invoice = serde_json::from_str(invoice).expect("an invoice");
    let ship = r#"{"shipment_id":"S","lines":[{"sku":"S","quantity":1}]}"#;
    let mut ship: Ship = serde_json::from_str(ship).expect("a shipment");
    let settle = Settle {
        settlement_id: text::<Reference>("P"),
        currency: place.currency,
        amount: Amount::new(1999).expect("an amount"),
        fee: Amount::new(45).expect("a fee"),
    };
    for n in 0..args.orders / args.threads {
        let id: OrderId = text(&format!("O-{thread}-{n}"));
        let sku = text(&format!("SKU-{:06}", (n * 7 + thread) % args.skus));
        let key = |what: &str| text::<IdempotencyKey>(&format!("{what}{thread}-{n}"));
        (place.order_id, place.lines[0].sku) = (id.clone(), sku);
        ship.lines[0].sku = place.lines[0].sku.clone();
        waiting.add(engine.place_order(Key::new("bench", &key("o")), &place).lsn());
        waiting.add(engine.invoice(Key::new("bench", &key("i")), &id, &invoice).lsn());
        waiting.add(engine.ship(Key::new("bench", &key("s")), &id, &ship).lsn());
        waiting.add(engine.settle_order(Key::new("bench", &key("p")), &id, &settle).lsn());
    }
    if let Some(last) = waiting.lsns.pop_back() {
        engine.log().wait_blocking(last).expect("a log that goes on");
    }
}

fn main() {
    let args = Args::parse();
    let dir = tempfile::tempdir_in(&args.data).expect("a folder for the data");
    let orders = u32::try_from(args.orders).expect("a number of orders") + 1_000;
    let ack = if args.ack == "memory" { wal::Ack::Memory } else { wal::Ack::Disk };
    let options = Options {
        wal: wal::Options { ack, ..wal::Options::default() },
        reservations_max: orders,
        orders_max: orders,
        keys_max: 4 * orders,
        checkpoint_bytes: 1 << 40,
        ..Options::default()
    };
    let engine = Engine::open(dir.path(), options).expect("an engine");
    for n in 0..args.skus {
        let set: SetStock = serde_json::from_str(r#"{"on_hand":900000000}"#).expect("stock");
        let decision = engine.set_stock(&text(&format!("SKU-{n:06}")), &text("BER"), &set);
        engine.settle_blocking(decision).expect("stock that is set");
    }
    let before = engine.log().stats().bytes;
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..args.threads {
            let (engine, args) = (&engine, &args);
            scope.spawn(move || live(engine, args, thread));
        }
    });
    let elapsed: Duration = began.elapsed();
    let events = engine.status().counters.order_events;
    assert_eq!(events, 3 * (args.orders / args.threads * args.threads), "each order lived");
    println!("threads {} skus {} ack {}", args.threads, args.skus, args.ack);
    println!("orders {} in {:.2} s", args.orders, elapsed.as_secs_f64());
    println!("rate      {:.0} orders a second", args.orders as f64 / elapsed.as_secs_f64());
    let bytes = engine.log().stats().bytes - before;
    println!("log bytes {:.0} an order", bytes as f64 / args.orders as f64);
    trace(&engine, &args);
    post(&engine);
    checkpoint(&engine, &args);
}

/// The time that a trace takes, of orders all over the log.
fn trace(engine: &Engine, args: &Args) {
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("a histogram");
    let each = args.orders / args.threads;
    for n in 0..10_000 {
        let id = text(&format!("O-{}-{}", n % args.threads, n * 7_919 % each));
        let began = Instant::now();
        let told = engine.settle_blocking(engine.trace(&id)).expect("an order's trace");
        times.saturating_record(began.elapsed().as_nanos() as u64);
        assert_eq!(told.value.records.len(), 4, "placed, billed, shipped, paid");
    }
    let us = |q: f64| times.value_at_quantile(q) as f64 / 1e3;
    println!("trace us  p50 {:.1} p99 {:.1} max {:.1}", us(0.5), us(0.99), us(1.0));
}

/// Reads the log and makes postings of it, as the books do.
fn post(engine: &Engine) {
    let log = engine.log();
    let mut reader = log.reader(log.oldest()).expect("a reader");
    let (began, mut events, mut postings) = (Instant::now(), 0_u64, 0_usize);
    while let Some(record) = reader.next().expect("a record") {
        let layout = (record.kind, record.version);
        let booked = posting::of(record.lsn, layout, record.body, Recognition::Commit);
        if let Some(booking) = booked.expect("a record that can be booked") {
            (events, postings) = (events + 1, postings + booking.postings.len());
        }
    }
    let rate = events as f64 / began.elapsed().as_secs_f64();
    println!("booked    {rate:.0} events a second, {postings} postings");
}

/// Folds all of the log into the first checkpoint.
fn checkpoint(engine: &Engine, args: &Args) {
    let began = Instant::now();
    engine.checkpoint().expect("a checkpoint");
    let elapsed = began.elapsed();
    let each = elapsed.as_nanos() as f64 / args.orders as f64;
    println!("checkpoint {:.2} s, {each:.0} ns an order", elapsed.as_secs_f64());
}
