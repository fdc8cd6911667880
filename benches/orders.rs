//! How many orders a second live their whole life: placed in one step, billed, shipped, paid. Four
//! records an order, each decided by itself, durable in groups. Then how long the trace of one of them
//! takes, how many of their records a second become balanced postings, how many become journal entries
//! (read, posted, summed up by window, with their digests, rendered), and how long the first checkpoint
//! of all of them takes.
//!
//! `cargo bench --bench orders -- [--orders N] [--threads N] [--skus N] [--ack disk|memory]
//! [--prepared] [--data DIR]`

use std::{
    collections::VecDeque,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Parser;
use hdrhistogram::Histogram;
use holdfast::{
    Engine, Key, Options,
    config::{Domain, SinkConfig},
    feed::folding::{Folding, Names},
    model::{
        Amount, IdempotencyKey, Lsn, OrderId, Reference, Sku,
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
    /// Makes the tables' memory at the start, as a server with `engine.reservations_prepared` does.
    #[arg(long)]
    prepared: bool,
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

/// A text that ends with two numbers. Without `format!`, which costs more than all else here.
fn numbered<T: std::str::FromStr>(what: &str, thread: u64, number: u64) -> T
where
    T::Err: std::fmt::Debug,
{
    let mut bytes = [0; 48];
    let mut at = bytes.len();
    let mut put = |byte| {
        at -= 1;
        bytes[at] = byte;
    };
    for number in [number, thread] {
        let mut rest = number;
        loop {
            put(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        put(b'-');
    }
    what.bytes().rev().for_each(put);
    text(str::from_utf8(&bytes[at..]).expect("ASCII"))
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

/// Processor time of the calling thread so far; `None` where the system does not say.
fn thread_cpu() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    told.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// When something that one thread does began, and the processor time that it had used by then.
struct Clock(Instant, Option<Duration>);

impl Clock {
    fn now() -> Self {
        Self(Instant::now(), thread_cpu())
    }

    fn rate(&self, events: u64) -> String {
        let each = |time: Duration| events as f64 / time.as_secs_f64();
        let cpu = thread_cpu().zip(self.1).map_or(f64::NAN, |(now, then)| each(now - then));
        format!("{:.0} events a second, {cpu:.0} a second of processor", each(self.0.elapsed()))
    }
}

/// Processor time of all threads so far, ended ones included; `None` where the system does not say.
fn process_cpu() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = told.rsplit_once(") ")?;
    let ticks = |at| fields.split(' ').nth(at)?.parse::<u64>().ok();
    // User and system time, in hundredths of a second.
    Some(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
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
    let skus: Vec<Sku> = (0..args.skus).map(|n| text(&format!("SKU-{n:06}"))).collect();
    for n in 0..args.orders / args.threads {
        let id: OrderId = numbered("O", thread, n);
        let key = |what| numbered::<IdempotencyKey>(what, thread, n);
        place.order_id = id.clone();
        place.lines[0].sku.clone_from(&skus[((n * 7 + thread) % args.skus) as usize]);
        ship.lines[0].sku.clone_from(&place.lines[0].sku);
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
        // It is also the number of keys, of which each order has four.
        reservations_prepared: if args.prepared { 4 * orders } else { 0 },
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
    let (began, process_before) = (Instant::now(), process_cpu());
    let cpu: Option<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.threads)
            .map(|thread| {
                let (engine, args) = (&engine, &args);
                scope.spawn(move || {
                    let before = thread_cpu();
                    live(engine, args, thread);
                    Some(thread_cpu()? - before?)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that ends")).sum()
    });
    let elapsed: Duration = began.elapsed();
    let process = process_cpu().zip(process_before).map(|(now, before)| now - before);
    let events = engine.status().counters.order_events;
    assert_eq!(events, 3 * (args.orders / args.threads * args.threads), "each order lived");
    println!("threads {} skus {} ack {}", args.threads, args.skus, args.ack);
    println!("orders {} in {:.2} s", args.orders, elapsed.as_secs_f64());
    println!("rate      {:.0} orders a second", args.orders as f64 / elapsed.as_secs_f64());
    let each = |time: Option<Duration>| {
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6 / args.orders as f64)
    };
    // Where other processes have the cores as well, this says more than the rate does.
    println!("cpu us    {:.2} an order, {:.2} with the log's threads", each(cpu), each(process));
    let bytes = engine.log().stats().bytes - before;
    println!("log bytes {:.0} an order", bytes as f64 / args.orders as f64);
    trace(&engine, &args);
    post(&engine);
    fold(&engine);
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
    let (began, mut events, mut postings) = (Clock::now(), 0_u64, 0_usize);
    while let Some(record) = reader.next().expect("a record") {
        let layout = (record.kind, record.version);
        let booked = posting::of(record.lsn, layout, record.body, Recognition::Commit);
        if let Some(booking) = booked.expect("a record that can be booked") {
            (events, postings) = (events + 1, postings + booking.postings.len());
        }
    }
    println!("booked    {}, {postings} postings", began.rate(events));
}

/// Reads the log and makes journal entries of it, as a finance sink's feed does.
fn fold(engine: &Engine) {
    let log = engine.log();
    let mut reader = log.reader(log.oldest()).expect("a reader");
    let config = SinkConfig::new("books", Domain::Finance, "http://localhost/");
    let mut folding = Folding::new(config, Names::default()).expect("a window");
    let began = Clock::now();
    while let Some(record) = reader.next().expect("a record") {
        folding.fold(&record).expect("a record that can be booked");
    }
    let sums = folding.turn().expect("entries");
    let rate = began.rate(sums.events);
    println!("folded    {rate}, {} batches, {} B", sums.windows, sums.bytes);
}

/// Folds all of the log into the first checkpoint.
fn checkpoint(engine: &Engine, args: &Args) {
    let began = Instant::now();
    engine.checkpoint().expect("a checkpoint");
    let elapsed = began.elapsed();
    let each = elapsed.as_nanos() as f64 / args.orders as f64;
    println!("checkpoint {:.2} s, {each:.0} ns an order", elapsed.as_secs_f64());
}
