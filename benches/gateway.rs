//! How many requests a second the binary protocol carries, and how soon each is answered: a real
//! engine on a real disk, real sockets, client and server in one process on the same cores.
//!
//! `cargo bench --bench gateway -- pipelined|callers|threads|lone|sold-out [--tcp] [--count N]
//! [--window N] [--callers N] [--group-us N] [--data DIR]`
//!
//! - `pipelined`: one connection, `--window` requests under way; every answer is a durable grant.
//! - `callers`: so many callers share one connection, each with one request under way: the answer to
//!   one is what makes its caller send the next. A caller is a function called with the answer.
//! - `threads`: the same with a thread a caller, which blocks for its answer.
//! - `lone`: one caller who blocks for each answer.
//! - `sold-out`: as `pipelined`, and everything is refused for lack of stock.
//!
//! Beside the rate stands the processor time of a request, client, server and kernel together: it says
//! what a quiet machine could do when this one is not.
//!
//! A latency is the time from handing a request to the client until its answer is handed over.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use holdfast::{
    Engine, Options,
    client::{self, Address, Answer, Client, Connection, Handler, Sender},
    gateway::{self, Listeners, NoHouse},
    model::{
        IdempotencyKey,
        command::{Reserve, SetStock},
    },
    protocol::{Code, Request},
    telemetry::Gateway,
    wal,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Pipelined,
    Callers,
    Threads,
    Lone,
    SoldOut,
}

#[derive(Parser, Clone)]
struct Args {
    /// What is measured.
    mode: Mode,
    /// Over TCP rather than a Unix socket.
    #[arg(long)]
    tcp: bool,
    /// Requests that are measured.
    #[arg(long, default_value_t = 2_000_000)]
    count: u64,
    /// Requests before those, which are not.
    #[arg(long, default_value_t = 100_000)]
    warm_up: u64,
    /// Requests under way at once.
    #[arg(long, default_value_t = 4_096)]
    window: u64,
    /// Callers.
    #[arg(long, default_value_t = 256)]
    callers: u64,
    /// Under load, groups of the log are so far apart at least.
    #[arg(long)]
    group_us: Option<u64>,
    /// No limit per customer.
    #[arg(long)]
    unlimited: bool,
    /// Where the data goes; a fresh folder in it.
    #[arg(long, default_value = "target")]
    data: PathBuf,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

fn options(args: &Args) -> Options {
    let all = u32::try_from(args.count + args.warm_up).unwrap_or(u32::MAX) + 100_000;
    let wal = wal::Options { budget_bytes: 24 << 30, ..wal::Options::default() };
    let group_us = args.group_us.unwrap_or(wal.group_us);
    Options {
        wal: wal::Options { group_us, ..wal },
        reservations_max: all,
        reservations_prepared: if args.mode == Mode::SoldOut { 0 } else { all },
        keys_max: all,
        customer_limits_max: all,
        checkpoint_bytes: 1 << 40,
        ..Options::default()
    }
}

/// The processor time of this process until now, by the kernel's clock of 10 ms.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("a histogram")
}

/// A caller's requests: the same cart, each time under a new key and for a new customer.
struct Carts {
    reserve: Reserve,
    name: String,
}

impl Carts {
    fn new() -> Self {
        let json =
            r#"{"lines":[{"sku":"SKU-000001","quantity":1}],"customer":"c","ttl_ms":3600000}"#;
        Self { reserve: serde_json::from_str(json).expect("a cart"), name: String::new() }
    }

    fn next(&mut self, number: u64) -> IdempotencyKey {
        use std::fmt::Write;
        self.name.clear();
        let _ = write!(self.name, "k-{number}");
        self.reserve.customer = Some(self.name.parse().expect("a customer"));
        self.name.parse().expect("a key")
    }
}

/// What is seen of answers, on the connection's thread.
struct Seen {
    expected: Mode,
    begun: Arc<Vec<AtomicU64>>,
    epoch: Instant,
    latencies: Histogram<u64>,
    warm_up: u64,
    count: u64,
    answered: Arc<AtomicU64>,
    done: mpsc::Sender<Histogram<u64>>,
}

impl Seen {
    fn see(&mut self, id: u64, answer: Answer<'_>, now: Instant) {
        let good = match (self.expected, answer) {
            (Mode::SoldOut, Answer::Refused(refused)) => {
                refused.code.to_native() == Code::INSUFFICIENT_STOCK.0
            }
            (Mode::SoldOut, _) => false,
            (_, Answer::Reservation(_, flags)) => flags == holdfast::protocol::flags::CREATED,
            _ => false,
        };
        assert!(good, "request {id} has an answer that it should not have");
        let begun = self.begun[(id - 1) as usize & (self.begun.len() - 1)].load(Ordering::Relaxed);
        if self.count >= self.warm_up {
            let since = now.duration_since(self.epoch).as_nanos() as u64;
            self.latencies.saturating_record(since.saturating_sub(begun).max(1));
        }
        self.count += 1;
    }
}

/// Answers of a pipelined connection.
struct Counting {
    seen: Seen,
    total: u64,
    now: Instant,
}

impl Handler for Counting {
    fn answer(&mut self, id: u64, answer: Answer<'_>) {
        if self.seen.count.is_multiple_of(32) {
            self.now = Instant::now();
        }
        self.seen.see(id, answer, self.now);
        let count = self.seen.count;
        if count.is_multiple_of(64) || count == self.total {
            self.seen.answered.store(count, Ordering::Release);
        }
        if count == self.total {
            let _ = self.seen.done.send(std::mem::replace(&mut self.seen.latencies, histogram()));
        }
    }

    fn closed(&mut self, why: &client::Error) {
        if self.seen.count < self.total {
            panic!("the connection broke: {why}");
        }
    }
}

/// Callers who send their next request when they have their answer.
struct Calling {
    seen: Seen,
    sender: Sender,
    carts: Carts,
    next: u64,
    total: u64,
}

impl Handler for Calling {
    fn answer(&mut self, id: u64, answer: Answer<'_>) {
        let now = Instant::now();
        self.seen.see(id, answer, now);
        if self.seen.count == self.total {
            let _ = self.seen.done.send(std::mem::replace(&mut self.seen.latencies, histogram()));
        }
        if self.next < self.total {
            let number = self.next;
            self.next += 1;
            send(&self.sender, &mut self.carts, number, &self.seen.begun, self.seen.epoch, now);
        }
    }

    fn closed(&mut self, why: &client::Error) {
        if self.seen.count < self.total {
            panic!("the connection broke: {why}");
        }
    }
}

fn send(
    sender: &Sender,
    carts: &mut Carts,
    number: u64,
    begun: &[AtomicU64],
    epoch: Instant,
    now: Instant,
) {
    let key = carts.next(number);
    let at = now.duration_since(epoch).as_nanos() as u64;
    begun[number as usize & (begun.len() - 1)].store(at, Ordering::Relaxed);
    // 0 is the connection's own id.
    sender.send(number + 1, &Request::Reserve(&key, &carts.reserve)).expect("it is sent");
}

/// The rate of what is measured, what it cost, and its latencies.
struct Result {
    elapsed: Duration,
    processor: Duration,
    latencies: Histogram<u64>,
}

fn seen(args: &Args, window: u64) -> (Seen, mpsc::Receiver<Histogram<u64>>) {
    let (done, finished) = mpsc::channel();
    let slots = (window * 2).next_power_of_two();
    let seen = Seen {
        expected: args.mode,
        begun: Arc::new((0..slots).map(|_| AtomicU64::new(0)).collect()),
        epoch: Instant::now(),
        latencies: histogram(),
        warm_up: args.warm_up,
        count: 0,
        answered: Arc::default(),
        done,
    };
    (seen, finished)
}

fn pipelined(args: &Args, address: &Address) -> Result {
    let total = args.count + args.warm_up;
    let (seen, finished) = seen(args, args.window);
    let (begun, epoch, answered) = (seen.begun.clone(), seen.epoch, seen.answered.clone());
    let options = client::Options::default();
    let counting = Counting { seen, total, now: epoch };
    let connection = Connection::open(address, &options, |_| counting).expect("a connection");
    let (sender, mut carts) = (connection.sender(), Carts::new());
    let (mut now, mut started, mut spent) = (Instant::now(), Instant::now(), processor_time());
    for number in 0..total {
        if number % 32 == 0 {
            while number - answered.load(Ordering::Acquire) >= args.window {
                sender.flush().expect("it is sent");
                std::thread::sleep(Duration::from_micros(20));
            }
            now = Instant::now();
        }
        if number == args.warm_up {
            (started, spent) = (now, processor_time());
        }
        send(sender, &mut carts, number, &begun, epoch, now);
    }
    sender.flush().expect("it is sent");
    let latencies = finished.recv().expect("all answers");
    Result { elapsed: started.elapsed(), processor: processor_time() - spent, latencies }
}

fn callers(args: &Args, address: &Address) -> Result {
    let total = args.count + args.warm_up;
    let (seen, finished) = seen(args, args.callers);
    let (begun, epoch) = (seen.begun.clone(), seen.epoch);
    let first = args.callers.min(total);
    let calling = |sender| Calling { seen, sender, carts: Carts::new(), next: first, total };
    let options = client::Options::default();
    let connection = Connection::open(address, &options, calling).expect("a connection");
    let (mut carts, started, spent) = (Carts::new(), Instant::now(), processor_time());
    for number in 0..first {
        send(connection.sender(), &mut carts, number, &begun, epoch, Instant::now());
    }
    connection.sender().flush().expect("it is sent");
    let latencies = finished.recv().expect("all answers");
    // The warm-up is part of it here, so that the callers never stand still.
    let part = args.count as f64 / total as f64;
    let processor = (processor_time() - spent).mul_f64(part);
    Result { elapsed: started.elapsed().mul_f64(part), processor, latencies }
}

fn threads(args: &Args, address: &Address, threads: u64) -> Result {
    let client = Client::connect(address, &client::Options::default()).expect("a connection");
    let run = |base: u64, each: u64| {
        let (started, spent) = (Instant::now(), processor_time());
        let latencies = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|thread| {
                    let client = &client;
                    scope.spawn(move || block(client, base + thread * each, each))
                })
                .collect();
            threads.into_iter().fold(histogram(), |mut all, thread| {
                all.add(thread.join().expect("a thread")).expect("histograms of one kind");
                all
            })
        });
        Result { elapsed: started.elapsed(), processor: processor_time() - spent, latencies }
    };
    let warm_up = args.warm_up / threads;
    run(0, warm_up);
    run(warm_up * threads, args.count / threads)
}

fn block(client: &Client, first: u64, count: u64) -> Histogram<u64> {
    let (mut carts, mut latencies) = (Carts::new(), histogram());
    for number in first..first + count {
        let key = carts.next(number);
        let began = Instant::now();
        client.reserve(&key, &carts.reserve).expect("it is granted");
        latencies.saturating_record(began.elapsed().as_nanos() as u64);
    }
    latencies
}

fn main() {
    let mut args = Args::parse();
    if args.mode == Mode::Lone {
        args.count = args.count.min(20_000);
        args.warm_up = args.warm_up.min(1_000);
    }
    let dir = tempfile::tempdir_in(&args.data).expect("a folder for the data");
    let engine = Engine::open(dir.path(), options(&args)).expect("an engine");
    let on_hand = if args.mode == Mode::SoldOut { 0 } else { 900_000_000 };
    let limit = if args.unlimited { "null" } else { "5" };
    let set = format!(r#"{{"on_hand":{on_hand},"per_customer_limit":{limit}}}"#);
    let set: SetStock = serde_json::from_str(&set).expect("stock");
    let (sku, at) = ("SKU-000001".parse().expect("a sku"), "BER".parse().expect("a location"));
    engine.settle_blocking(engine.set_stock(&sku, &at, &set)).expect("stock");
    let options = gateway::Options {
        listen: args.tcp.then(|| "127.0.0.1:0".parse().expect("an address")),
        socket: (!args.tcp).then(|| dir.path().join("holdfast.sock")),
        ..gateway::Options::default()
    };
    let listeners = Listeners::bind(&options, false).expect("a listener");
    let counters = Arc::new(Gateway::default());
    let house = Arc::new(NoHouse);
    let running =
        gateway::start(listeners, engine.clone(), house, options, counters).expect("a gateway");
    let address = match (running.address(), running.socket()) {
        (Some(address), _) => Address::Tcp(address),
        (None, path) => Address::Unix(path.expect("a socket").to_owned()),
    };
    let before = engine.log().stats();
    let result = match args.mode {
        Mode::Pipelined | Mode::SoldOut => pipelined(&args, &address),
        Mode::Callers => callers(&args, &address),
        Mode::Threads => threads(&args, &address, args.callers),
        Mode::Lone => threads(&args, &address, 1),
    };
    report(&args, &engine, &before, &result);
    running.stop(Duration::from_secs(5));
}

fn report(args: &Args, engine: &Engine, before: &wal::Stats, result: &Result) {
    let Result { elapsed, processor, latencies } = result;
    let name = args.mode.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
    let socket = if args.tcp { "TCP" } else { "Unix" };
    println!("{name}, {socket}: {} in {:.2} s", args.count, elapsed.as_secs_f64());
    println!("rate            {:.0} a second", args.count as f64 / elapsed.as_secs_f64());
    let each = processor.as_secs_f64() * 1e6 / args.count as f64;
    println!("processor us    {each:.2} a request");
    let us = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "latency us      p50 {:.0} p99 {:.0} p99.9 {:.0} max {:.0}",
        us(0.5),
        us(0.99),
        us(0.999),
        us(1.0)
    );
    let stats = engine.log().stats();
    let syncs = stats.syncs - before.syncs;
    if let Some(us) = (stats.sync_us_sum - before.sync_us_sum).checked_div(syncs) {
        let bytes = (stats.bytes - before.bytes) / syncs;
        println!("syncs           {syncs}, {us} us each, {bytes} bytes a group");
    }
    let counters = engine.status().counters;
    println!("engine          granted {} sold out {}", counters.granted, counters.refused_stock);
}
