//! How near the HTTP route comes to its ceiling: an axum route that only parses the same body and
//! answers the same JSON, in alternating rounds of one run.
//!
//! `cargo bench --bench http -- [--connections N] [--seconds S] [--rounds N] [--sold-out]
//! [--ack disk|memory] [--only ceiling|holdfast|observed] [--observed] [--trace-ratio R] [--data DIR]`
//!
//! With `--observed` a third contender is the same server while it is observed: service levels, the reader
//! of the log, traces of a share of the requests, sent to a collector in this process, a live page that
//! listens, and metrics that are scraped every second. The two take turns in being first, and the report ends with
//! what that costs of the rate. `scripts/observed` is that alone, without the ceiling.
//!
//! Each connection sends its next request when it has the answer to the last. The callers share the
//! machine with the server: one thread that reads and writes whole requests. Every answer's status is
//! looked at. The report has the rate, the latency and the processor's time of each, the medians' ratio, and how long a
//! sync took meanwhile.

mod answer;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Json, Router, http::StatusCode, response::IntoResponse, routing::post};
use clap::Parser;
use hdrhistogram::Histogram;
use holdfast::{
    Engine, Key, Options, api,
    config::{Objective, ServiceLevelConfig, Telemetry},
    model::{
        IdempotencyKey,
        command::{Reserve, SetStock},
        sink::SinkView,
        view::ReservationView,
    },
    observe,
    telemetry::{Delivered, Observed},
    wal,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BODY: &str = r#"{"lines":[{"sku":"SKU-000000","quantity":1}],"customer":"c-42"}"#;

#[derive(Parser)]
struct Args {
    /// Connections, each with one request under way.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How long a round takes.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Rounds of each.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Nothing is in stock.
    #[arg(long)]
    sold_out: bool,
    /// Level of acknowledgement.
    #[arg(long, default_value = "disk")]
    ack: String,
    /// The same server while it is observed as well.
    #[arg(long)]
    observed: bool,
    /// The share of requests that are traced while it is observed.
    #[arg(long, default_value_t = Telemetry::default().otlp_sample_ratio)]
    trace_ratio: f64,
    /// Only one of them, for a profile: `ceiling`, `holdfast` or `observed`.
    #[arg(long)]
    only: Option<String>,
    /// Without the ceiling.
    #[arg(long)]
    no_ceiling: bool,
    /// Where the data goes; a fresh folder in it.
    #[arg(long, default_value = "target")]
    data: PathBuf,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a round saw.
struct Round {
    rate: f64,
    cpu_us: f64,
    latency_ns: Histogram<u64>,
}

fn main() {
    let args = Args::parse();
    let dir = tempfile::tempdir_in(&args.data).expect("a folder for the data");
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let engine = Engine::open(dir.path(), options(&args)).expect("an engine");
    stock(&engine, if args.sold_out { 0 } else { 1_000_000_000 });
    let sample = sample(&args, &engine);
    let watched = Watched::new(&args, &runtime, &engine);
    let servers = [
        ("ceiling", serve_ceiling(&runtime, sample)),
        ("holdfast", serve_holdfast(&runtime, engine.clone())),
        ("observed", watched.address),
    ];
    let expected = if args.sold_out { "409" } else { "201" };

    let mut rounds: [Vec<Round>; 3] = Default::default();
    for number in 0..args.rounds {
        // Whoever comes later finds a fuller log: so it is not always the same one.
        let order = if number % 2 == 0 { [0, 1, 2] } else { [0, 2, 1] };
        for (which, (name, address)) in order.map(|which| (which, &servers[which])) {
            let left_out = match *name {
                "observed" => !args.observed,
                "ceiling" => args.no_ceiling,
                _ => false,
            };
            if left_out || args.only.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            let watching = (*name == "observed").then(|| watched.watch(&runtime));
            let round = callers(&args, *address, expected, (number * 3 + which) as u64);
            rounds[which].push(round);
            if let Some(watching) = watching {
                watching.end(&runtime);
            }
        }
    }
    for ((name, _), rounds) in servers.iter().zip(&rounds).filter(|(_, r)| !r.is_empty()) {
        report(name, rounds);
    }
    let [ceiling, holdfast, observed] = rounds.map(|rounds| median(&rounds, |r| r.rate));
    if !args.no_ceiling {
        println!("ratio     {:.1} % of the ceiling's rate", holdfast / ceiling * 100.0);
    }
    if args.observed {
        println!(
            "cost      {:.1} % of the rate to be observed",
            (1.0 - observed / holdfast) * 100.0
        );
    }
    let log = engine.log().stats();
    println!(
        "sync      {} of {:.0} us and {:.0} bytes on the average",
        log.syncs,
        log.sync_us_sum as f64 / log.syncs.max(1) as f64,
        log.group_bytes_sum as f64 / log.syncs.max(1) as f64
    );
    runtime.shutdown_background();
}

fn options(args: &Args) -> Options {
    let ack = if args.ack == "memory" { wal::Ack::Memory } else { wal::Ack::Disk };
    Options {
        wal: wal::Options { ack, budget_bytes: 16 << 30, ..wal::Options::default() },
        reservations_max: 40_000_000,
        keys_max: 40_000_000,
        customer_limits_max: 1_000_000,
        checkpoint_bytes: 1 << 40,
        ..Options::default()
    }
}

fn stock(engine: &Engine, on_hand: u64) {
    let set: SetStock =
        serde_json::from_str(&format!(r#"{{"on_hand":{on_hand}}}"#)).expect("a stock");
    let decision =
        engine.set_stock(&"SKU-000000".parse().expect("a SKU"), &"A".parse().expect("one"), &set);
    engine.settle_blocking(decision).expect("stock");
}

/// What the ceiling answers: what Holdfast would.
fn sample(args: &Args, engine: &Engine) -> Sample {
    if args.sold_out {
        let problem = serde_json::json!({
            "type": "/problems/insufficient_stock", "title": "Not enough in stock", "status": 409,
            "detail": "line 0 (`SKU-000000`): 1 asked for, 0 available", "code": "insufficient_stock",
            "lines": [{"sku": "SKU-000000", "requested": 1, "available": 0}],
        });
        return Sample::Refused(problem);
    }
    let key: IdempotencyKey = "sample".parse().expect("a key");
    let cart: Reserve = serde_json::from_str(BODY).expect("a cart");
    let held = engine.settle_blocking(engine.reserve(Key::new("", &key), &cart)).expect("held");
    Sample::Granted(held.value)
}

#[derive(Clone)]
enum Sample {
    Granted(ReservationView),
    Refused(serde_json::Value),
}

fn serve_ceiling(runtime: &Runtime, sample: Sample) -> SocketAddr {
    let sample = Arc::new(sample);
    let answer = move |Json(reserve): Json<Reserve>| async move {
        std::hint::black_box(&reserve);
        match &*sample {
            Sample::Granted(view) => (StatusCode::CREATED, Json(view)).into_response(),
            Sample::Refused(problem) => (StatusCode::CONFLICT, Json(problem)).into_response(),
        }
    };
    let router = Router::new().route("/v1/reservations", post(answer));
    let listener = listener(runtime);
    let address = listener.local_addr().expect("an address");
    runtime.spawn(async move {
        use axum::serve::ListenerExt;
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, router).await
    });
    address
}

fn serve_holdfast(runtime: &Runtime, engine: Engine) -> SocketAddr {
    let listener = listener(runtime);
    let address = listener.local_addr().expect("an address");
    let state = api::State::new(api::Options::default());
    state.ready(engine, Arc::new(api::NoSinks));
    runtime.spawn(api::serve(listener, state, std::future::pending()));
    address
}

/// A server that is observed, whenever an observer is started.
struct Watched {
    address: SocketAddr,
    state: api::State,
    engine: Engine,
    options: observe::Options,
    observed: Arc<Observed>,
}

/// No sinks.
struct Nobody;

impl observe::FarEnd for Nobody {
    fn views(&self) -> Vec<SinkView> {
        Vec::new()
    }

    fn delivered(&self) -> Vec<Delivered> {
        Vec::new()
    }
}

impl Watched {
    fn new(args: &Args, runtime: &Runtime, engine: &Engine) -> Self {
        let collector = listener(runtime);
        let url = format!("http://{}/v1/traces", collector.local_addr().expect("an address"));
        let taken = Router::new().fallback(|_: axum::body::Bytes| async { StatusCode::OK });
        runtime.spawn(async move { axum::serve(collector, taken).await });
        let level = |name: &str, objective, within_ms| ServiceLevelConfig {
            name: name.to_owned(),
            objective,
            sink: None,
            within_ms,
            target_percent: 99.9,
            window_hours: 720,
        };
        let options = observe::Options {
            telemetry: Telemetry {
                otlp_endpoint: url,
                otlp_sample_ratio: args.trace_ratio,
                ..Telemetry::default()
            },
            service_levels: vec![
                level("fast", Objective::ReserveLatency, Some(5)),
                level("up", Objective::Availability, None),
            ],
            ..observe::Options::default()
        };
        let observed = Arc::new(options.observed());
        let http = listener(runtime);
        let address = http.local_addr().expect("an address");
        let state = api::State::new(api::Options::default());
        state.observe(observed.clone());
        state.ready(engine.clone(), Arc::new(api::NoSinks));
        runtime.spawn(api::serve(http, state.clone(), std::future::pending()));
        Self { address, state, engine: engine.clone(), options, observed }
    }

    fn watch(&self, runtime: &Runtime) -> Watching {
        let mut onlookers = JoinSet::new();
        let seen = Arc::<Onlookers>::default();
        let url = format!("http://{}", self.address);
        onlookers.spawn_on(scrape(url.clone() + "/metrics", seen.clone()), runtime.handle());
        onlookers.spawn_on(listen(url + "/v1/live", seen.clone()), runtime.handle());
        Watching { observer: self.observe(runtime), onlookers, seen }
    }

    fn observe(&self, runtime: &Runtime) -> observe::Observer {
        let _guard = runtime.enter();
        let subject = observe::Subject {
            engine: self.engine.clone(),
            doors: vec![self.state.requests().clone()],
            quotas: Arc::new(observe::NoQuotas),
            far_end: Arc::new(Nobody),
        };
        observe::start(&self.options, subject, &self.observed).expect("an observer")
    }
}

/// What onlookers have got.
#[derive(Default)]
struct Onlookers {
    scrapes: AtomicU64,
    live_bytes: AtomicU64,
}

/// A server that is being looked at.
struct Watching {
    observer: observe::Observer,
    onlookers: JoinSet<()>,
    seen: Arc<Onlookers>,
}

impl Watching {
    fn end(mut self, runtime: &Runtime) {
        runtime.block_on(async {
            self.onlookers.shutdown().await;
            self.observer.stop().await;
        });
        let [scrapes, live_bytes] =
            [&self.seen.scrapes, &self.seen.live_bytes].map(|n| n.load(Ordering::Relaxed));
        assert!(
            scrapes > 0 && live_bytes > 0,
            "{scrapes} scrapes, {live_bytes} bytes of the live view"
        );
    }
}

/// Reads the metrics every second, as Prometheus does.
async fn scrape(url: String, seen: Arc<Onlookers>) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let scraped = client.get(&url).header("accept", "application/openmetrics-text").send();
        let answer = scraped.await.expect("metrics").error_for_status().expect("metrics");
        assert!(!answer.bytes().await.expect("metrics").is_empty());
        seen.scrapes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Follows the live view, as a page does.
async fn listen(url: String, seen: Arc<Onlookers>) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.get(&url).send().await.expect("a stream");
    let mut answer = answer.error_for_status().expect("a stream");
    while let Some(more) = answer.chunk().await.expect("a stream") {
        seen.live_bytes.fetch_add(more.len() as u64, Ordering::Relaxed);
    }
}

fn listener(runtime: &Runtime) -> TcpListener {
    runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port")
}

/// What the whole process has used of the processors, callers and all.
fn process_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // The second field is a name in parentheses and may hold spaces; the times are 11 and 12 after it.
    let (_, fields) = stat.rsplit_once(')').expect("fields");
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
    // In hundredths of a second on every Linux.
    Duration::from_millis(ticks * 10)
}

/// All connections for the time of a round, on this thread.
fn callers(args: &Args, address: SocketAddr, expected: &'static str, round: u64) -> Round {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let length = Duration::from_secs(args.seconds);
    let mut latency_ns = Histogram::new(3).expect("a histogram");
    let cpu = process_cpu();
    let (elapsed, count) = runtime.block_on(async {
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for connection in 0..args.connections as u64 {
            let caller = Caller { round, connection, expected, end: begun + length };
            tasks.spawn(caller.run(address));
        }
        let mut count = 0;
        while let Some(seen) = tasks.join_next().await {
            let seen = seen.expect("a caller that ends");
            count += seen.len();
            latency_ns.add(&seen).expect("room in a histogram");
        }
        (begun.elapsed(), count)
    });
    let cpu_us = (process_cpu() - cpu).as_secs_f64() * 1e6 / count as f64;
    Round { rate: count as f64 / elapsed.as_secs_f64(), cpu_us, latency_ns }
}

struct Caller {
    round: u64,
    connection: u64,
    expected: &'static str,
    end: Instant,
}

impl Caller {
    async fn run(self, address: SocketAddr) -> Histogram<u64> {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket's option");
        let mut latency_ns = Histogram::new(3).expect("a histogram");
        let mut answer = vec![0; 16 << 10];
        let mut number = 0_u64;
        loop {
            number += 1;
            let request = self.request(number);
            let sent = Instant::now();
            if sent >= self.end {
                return latency_ns;
            }
            stream.write_all(request.as_bytes()).await.expect("a request sent");
            let mut bytes = 0;
            while !answer::is_whole(&answer[..bytes]) {
                let more = stream.read(&mut answer[bytes..]).await.expect("an answer");
                assert!(more > 0, "the answer ended early, or is too long");
                bytes += more;
            }
            latency_ns.record(sent.elapsed().as_nanos() as u64).expect("a time in range");
            assert_eq!(std::str::from_utf8(&answer[9..12]), Ok(self.expected));
        }
    }

    fn request(&self, number: u64) -> String {
        format!(
            "POST /v1/reservations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             idempotency-key: {}-{}-{number}\r\ncontent-length: {}\r\n\r\n{BODY}",
            self.round,
            self.connection,
            BODY.len()
        )
    }
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn report(name: &str, rounds: &[Round]) {
    let us = |at: f64| median(rounds, |r| r.latency_ns.value_at_quantile(at) as f64 / 1_000.0);
    let rates = rounds.iter().map(|r| r.rate);
    println!(
        "{name:<9} {:.0} a second (least {:.0}, most {:.0}), p50 {:.0} us, p99 {:.0}, p99.9 {:.0}, {:.1} us \
         of processor a request",
        median(rounds, |r| r.rate),
        rates.clone().fold(f64::INFINITY, f64::min),
        rates.fold(0.0, f64::max),
        us(0.5),
        us(0.99),
        us(0.999),
        median(rounds, |r| r.cpu_us),
    );
}
