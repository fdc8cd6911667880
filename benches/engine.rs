//! What the engine's parts cost, one at a time: a decision, a start, a checkpoint, a round trip over
//! HTTP.
//!
//! `cargo bench --bench engine [-- FILTER]`, FILTER a part of a name below.
//!
//! - `reserve/<what>/<disk|memory>`: the time of one `Engine::reserve` on one thread, the sealed
//!   answer written to memory included; making the request and settling the answer are not. At most
//!   65,536 reservations wait for their acknowledgement. `hot`: one SKU. `wide`: 1,000 SKUs.
//!   `sold_out`: one SKU without stock, refused. `cart`: three lines of 1,000 SKUs. `full`: one SKU
//!   with a limit per customer, a new customer and an order id each time.
//! - `recovery/log`: opening a data directory whose log holds so many held reservations, and no
//!   checkpoint; records a second.
//! - `start/new`, `start/checkpoint`: opening a data directory that holds nothing, which is the part
//!   of every start that is not replay; and one whose reservations are all in a checkpoint.
//! - `checkpoint/first`: `Engine::checkpoint` of so many reservations where there is none yet.
//! - `http/reserve/<disk|memory>`: from the request's first byte written to the answer's last byte
//!   read, by a lone caller on one kept connection. `memory` shows what is HTTP and not the disk.
//!
//! How many reservations go at a time per second, with many threads, is `throughput`'s to say.
//!
//! `HOLDFAST_BENCH_RECORDS` (default 250,000) is how many reservations the data directories hold; as
//! many go into an engine of `reserve` before a fresh one takes its place. `HOLDFAST_BENCH_DIR` says
//! where the data lies (default: a folder under the target).

use std::{
    collections::VecDeque,
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use holdfast::{
    Decision, Engine, Key, Options, Refusal, api,
    model::{
        IdempotencyKey,
        command::{Reserve, SetStock},
        view::ReservationView,
    },
    wal::{self, Ack},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot, task::JoinHandle};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reservations waiting for their acknowledgement.
const WAITING_MAX: usize = 65_536;
/// Calls timed together, so that reading the clock does not count.
const CALLS_TIMED: u64 = 1024;
const ACKS: [(Ack, &str); 2] = [(Ack::Disk, "disk"), (Ack::Memory, "memory")];
const HOT: Scenario = Scenario { name: "hot", skus: 1, lines: 1, on_hand: PLENTY, limited: false };
const SCENARIOS: [Scenario; 5] = [
    HOT,
    Scenario { name: "wide", skus: 1000, ..HOT },
    Scenario { name: "sold_out", on_hand: 0, ..HOT },
    Scenario { name: "cart", skus: 1000, lines: 3, ..HOT },
    Scenario { name: "full", limited: true, ..HOT },
];
const PLENTY: u32 = 900_000_000;

/// `HOLDFAST_BENCH_RECORDS`.
fn records() -> u64 {
    let Ok(text) = std::env::var("HOLDFAST_BENCH_RECORDS") else { return 250_000 };
    let records = text.parse().ok().filter(|n| (1..=100_000_000).contains(n));
    records.expect("HOLDFAST_BENCH_RECORDS must be a number from 1 to 100000000")
}

fn folder() -> TempDir {
    let dir = std::env::var_os("HOLDFAST_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    TempDir::with_prefix_in("engine-bench-", dir).expect("a folder for the data")
}

/// Options with room for `count` reservations, and no checkpoint but those that are asked for.
fn options(ack: Ack, count: u64) -> Options {
    let budget_bytes = (1 << 30) + count * 2048;
    let log = wal::Options { ack, budget_bytes, room_wait_ms_max: 30_000, ..Default::default() };
    let all = u32::try_from(count + count / 8).expect("a number that a table can have") + 100_000;
    Options {
        wal: log,
        reservations_max: all,
        keys_max: all,
        customer_limits_max: all,
        checkpoint_bytes: 1 << 40,
        ..Options::default()
    }
}

/// What is in stock, and what is asked for.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    skus: u64,
    lines: u64,
    on_hand: u32,
    limited: bool,
}

impl Scenario {
    fn stock(&self, engine: &Engine) {
        let limit = if self.limited { "5" } else { "null" };
        let set = format!(r#"{{"on_hand":{},"per_customer_limit":{limit}}}"#, self.on_hand);
        let set: SetStock = serde_json::from_str(&set).expect("stock");
        let location = "BER".parse().expect("a location");
        for n in 0..self.skus {
            let sku = format!("SKU-{n:06}").parse().expect("a SKU");
            engine.settle_blocking(engine.set_stock(&sku, &location, &set)).expect("stock is set");
        }
    }

    fn cart(&self, number: u64) -> Reserve {
        let mut json = r#"{"ttl_ms":86400000,"lines":["#.to_owned();
        for line in 0..self.lines {
            // Seven has no factor in common with the number of SKUs, so that all of them have a turn.
            let sku = (number * 7 + line) % self.skus;
            let comma = if line == 0 { "" } else { "," };
            write!(json, r#"{comma}{{"sku":"SKU-{sku:06}","quantity":1}}"#).expect("memory");
        }
        json.push(']');
        if self.limited {
            write!(json, r#","customer":"c-{number}","order_id":"o-{number}""#).expect("memory");
        }
        json.push('}');
        serde_json::from_str(&json).expect("a cart")
    }

    /// Fails the bench if it does not measure what it says.
    fn check(&self, said: Result<holdfast::Answer<ReservationView>, Refusal>) {
        match said {
            Ok(answer) => assert!(self.on_hand > 0 && answer.created && !answer.replayed),
            Err(Refusal::InsufficientStock { .. }) if self.on_hand == 0 => {}
            Err(refusal) => panic!("{}: {refusal}", self.name),
        }
    }
}

/// An engine that reserves, and what waits for its acknowledgement. The engine closes before its
/// folder goes.
struct Till {
    engine: Engine,
    dir: TempDir,
    scenario: Scenario,
    reserved: u64,
    waiting: VecDeque<Decision<ReservationView>>,
}

impl Till {
    fn open(ack: Ack, scenario: Scenario) -> Self {
        let dir = folder();
        let engine = Engine::open(dir.path(), options(ack, records())).expect("an engine");
        scenario.stock(&engine);
        let waiting = VecDeque::with_capacity(WAITING_MAX);
        Self { engine, dir, scenario, reserved: 0, waiting }
    }

    /// A data directory of so many reservations, closed in order, without a checkpoint.
    fn data(count: u64) -> TempDir {
        let mut till = Self::open(Ack::Disk, HOT);
        while till.reserved < count {
            till.reserve(CALLS_TIMED.min(count - till.reserved));
        }
        till.settle(0);
        let Self { engine, dir, .. } = till;
        engine.close().expect("a log closed in order");
        dir
    }

    /// Whether the engine has taken its share; refusals take nothing.
    fn is_full(&self) -> bool {
        self.scenario.on_hand > 0 && self.reserved >= records()
    }

    /// Reserves `count` times and says how long the calls took.
    fn reserve(&mut self, count: u64) -> Duration {
        let number = self.reserved;
        let key = |n| format!("key-{n}").parse().expect("a key");
        let requests: Vec<(IdempotencyKey, Reserve)> =
            (number..number + count).map(|n| (key(n), self.scenario.cart(n))).collect();
        let mut decisions = Vec::with_capacity(requests.len());
        let began = Instant::now();
        for (key, cart) in &requests {
            decisions.push(self.engine.reserve(Key::new("bench", key), cart));
        }
        let elapsed = began.elapsed();
        self.reserved += count;
        self.waiting.extend(decisions);
        self.settle(WAITING_MAX - CALLS_TIMED as usize);
        elapsed
    }

    /// Settles what is acknowledged, and waits while more than `left` are not.
    fn settle(&mut self, left: usize) {
        let log = self.engine.log();
        while let Some(first) = self.waiting.front()
            && (self.waiting.len() > left || first.lsn().is_none_or(|lsn| log.is_acked(lsn)))
        {
            let Some(decision) = self.waiting.pop_front() else { return };
            self.scenario.check(self.engine.settle_blocking(decision));
        }
    }
}

/// Reserves `count` times, in fresh engines when one is full; says how long the calls took.
fn reserve_many(till: &mut Option<Till>, ack: Ack, scenario: Scenario, count: u64) -> Duration {
    let mut elapsed = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        if till.as_ref().is_some_and(Till::is_full) {
            *till = None;
        }
        let till = till.get_or_insert_with(|| Till::open(ack, scenario));
        let now = left.min(CALLS_TIMED);
        elapsed += till.reserve(now);
        left -= now;
    }
    elapsed
}

fn reserve(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reserve");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800));
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(1));
    for scenario in SCENARIOS {
        for (ack, name) in ACKS {
            let mut till = None;
            group.bench_function(BenchmarkId::new(scenario.name, name), |b| {
                b.iter_custom(|count| reserve_many(&mut till, ack, scenario, count));
            });
        }
    }
    group.finish();
}

/// Opens a data directory that holds so many reservations, closes it and says how long the opening
/// took.
fn open(dir: &TempDir, held: u64) -> Duration {
    let options = options(Ack::Disk, records());
    let began = Instant::now();
    let engine = Engine::open(dir.path(), options).expect("an engine");
    let elapsed = began.elapsed();
    assert_eq!(engine.status().reservations, held, "not what was put there");
    engine.close().expect("a log closed in order");
    elapsed
}

fn starts(criterion: &mut Criterion) {
    let count = records();
    let mut group = criterion.benchmark_group("start");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(2));
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let mut empty = None;
    group.bench_function("new", |b| {
        let dir = empty.get_or_insert_with(|| Till::data(0));
        b.iter_custom(|times| (0..times).map(|_| open(dir, 0)).sum());
    });
    group.throughput(Throughput::Elements(count));
    let mut data = None;
    group.bench_function(BenchmarkId::new("checkpoint", count), |b| {
        let dir = data.get_or_insert_with(|| {
            let dir = Till::data(count);
            checkpoint_once(&dir);
            dir
        });
        b.iter_custom(|times| (0..times).map(|_| open(dir, count)).sum());
    });
    group.finish();

    let mut group = criterion.benchmark_group("recovery");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(4));
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(count));
    let mut data = None;
    group.bench_function(BenchmarkId::new("log", count), |b| {
        let dir = data.get_or_insert_with(|| Till::data(count));
        b.iter_custom(|times| (0..times).map(|_| open(dir, count)).sum());
    });
    group.finish();
}

/// Opens a data directory, makes a checkpoint, closes it and says how long the checkpoint took.
fn checkpoint_once(dir: &TempDir) -> Duration {
    let engine = Engine::open(dir.path(), options(Ack::Disk, records())).expect("an engine");
    let began = Instant::now();
    engine.checkpoint().expect("a checkpoint");
    let elapsed = began.elapsed();
    assert_eq!(engine.status().counters.checkpoints, 1, "there was nothing to do");
    engine.close().expect("a log closed in order");
    elapsed
}

/// Removes the checkpoint, so that the next one has everything to do again. The log is still whole:
/// it is kept back to the checkpoint before.
fn forget_checkpoint(dir: &TempDir) {
    let mut removed = 0;
    for entry in fs::read_dir(dir.path()).expect("the data directory") {
        let path = entry.expect("a file").path();
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("checkpoint")) {
            fs::remove_file(path).expect("a checkpoint that can be removed");
            removed += 1;
        }
    }
    assert_eq!(removed, 1, "one checkpoint was made");
}

/// Anonymous memory of this process.
fn anonymous_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap_or("");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    kib * 1024
}

/// Prints how much more memory there is during a checkpoint than before it.
fn report_memory(dir: &TempDir, count: u64) {
    let engine = Engine::open(dir.path(), options(Ack::Disk, count)).expect("an engine");
    let before = anonymous_bytes();
    let done = AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = before;
            while !done.load(Ordering::Relaxed) {
                most = most.max(anonymous_bytes());
                std::thread::sleep(Duration::from_millis(1));
            }
            most
        });
        engine.checkpoint().expect("a checkpoint");
        done.store(true, Ordering::Relaxed);
        watch.join().expect("the watch")
    });
    println!(
        "memory with {count} open {} MiB, during a checkpoint {:+.1} %",
        before >> 20,
        (most as f64 / before as f64 - 1.0) * 100.0
    );
    engine.close().expect("an orderly end");
    forget_checkpoint(dir);
}

fn checkpoints(criterion: &mut Criterion) {
    let count = records();
    let mut group = criterion.benchmark_group("checkpoint");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(4));
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(count));
    let mut data = None;
    group.bench_function(BenchmarkId::new("first", count), |b| {
        let dir = data.get_or_insert_with(|| {
            let dir = Till::data(count);
            report_memory(&dir, count);
            dir
        });
        let make = |_| {
            let elapsed = checkpoint_once(dir);
            forget_checkpoint(dir);
            elapsed
        };
        b.iter_custom(|times| (0..times).map(make).sum());
    });
    group.finish();
}

/// A server on a port of its own and a caller with one connection, on which it waits for an answer
/// before it asks again.
struct Caller {
    stream: TcpStream,
    number: u64,
    request: String,
    answer: Vec<u8>,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<Result<(), api::Error>>>,
    runtime: Runtime,
    // Held until the server is done with it, then its folder goes.
    _till: Till,
}

impl Caller {
    fn connect(ack: Ack) -> Self {
        let till = Till::open(ack, HOT);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let bound = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = bound.expect("a free port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let state = api::State::new(api::Options::default());
        state.ready(till.engine.clone(), Arc::new(api::NoSinks));
        let (stop, stopped) = oneshot::channel();
        let served = runtime.spawn(api::serve(listener, state, async { drop(stopped.await) }));
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("a socket's option");
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).expect("a socket's option");
        Self {
            stream,
            number: 0,
            request: String::new(),
            answer: vec![0; 64 << 10],
            stop: Some(stop),
            served: Some(served),
            runtime,
            _till: till,
        }
    }

    /// One reservation, there and back.
    fn reserve(&mut self) {
        const BODY: &str =
            r#"{"lines":[{"sku":"SKU-000000","quantity":1}],"customer":"c","ttl_ms":86400000}"#;
        self.number += 1;
        self.request.clear();
        write!(
            self.request,
            "POST /v1/reservations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             idempotency-key: key-{}\r\ncontent-length: {}\r\n\r\n{BODY}",
            self.number,
            BODY.len()
        )
        .expect("memory");
        self.stream.write_all(self.request.as_bytes()).expect("a request sent");
        let mut bytes = 0;
        while !is_whole(&self.answer[..bytes]) {
            let more = self.stream.read(&mut self.answer[bytes..]).expect("an answer");
            assert!(more > 0, "the answer ended early, or is too long");
            bytes += more;
        }
        let answer = &self.answer[..bytes];
        assert!(answer.starts_with(b"HTTP/1.1 201 "), "{}", String::from_utf8_lossy(answer));
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The server waits for the connection to end.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        if let Some(served) = self.served.take() {
            let _ = self.runtime.block_on(served);
        }
    }
}

/// Whether an answer's head and as much body as it announces are there.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|w| w == b"\r\n\r\n") else { return false };
    let text = std::str::from_utf8(&answer[..head]).expect("a head in ASCII");
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    answer.len() >= head + 4 + length.expect("a content-length")
}

fn http(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(3));
    group.sample_size(20).throughput(Throughput::Elements(1));
    for (ack, name) in ACKS {
        let mut caller = None;
        group.bench_function(BenchmarkId::new("reserve", name), |b| {
            let caller = caller.get_or_insert_with(|| Caller::connect(ack));
            b.iter(|| caller.reserve());
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    reserve(&mut criterion);
    starts(&mut criterion);
    checkpoints(&mut criterion);
    http(&mut criterion);
    criterion.final_summary();
}
