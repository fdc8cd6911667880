//! Whether there are cliffs: throughput and latency over the size of the catalogue and over the number of
//! open reservations, and latency while the engine does what it does only now and then.
//!
//! `cargo bench --bench curves -- catalogue|open|moments [--points N,N,…] [--count N] [--rate N]
//! [--svg FILE] [--data DIR]`
//!
//! - `catalogue`: reservations over so many SKUs, uniformly; 1 to 1,000,000.
//! - `open`: reservations while so many others are open; 0 to 50,000,000.
//! - `moments`: a steady rate, planned ahead, with nothing else; with segments of 16 MiB that are archived as
//!   they fill; with checkpoints of a million open reservations, one each 64 MiB of log; with segments of
//!   1 MiB, which turn many times a second; and while a million reservations expire at once. Nothing is
//!   archived but where that is looked at.
//!
//! `catalogue` and `open` have two closed threads with 1,024 reservations waiting each, so that a latency
//! is what a loaded engine makes of it. `moments` counts latency from the planned instant, by intervals
//! of 100 ms; the interval with the worst maximum is shown beside the whole.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
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

const THREADS: u64 = 2;
const WAITING_MAX: usize = 1_024;
const INTERVAL: Duration = Duration::from_millis(100);
/// Log after which a checkpoint is made: never.
const NEVER: u64 = 1 << 40;
/// How long a reservation holds that is to stay open.
const TTL_MS: u64 = 23 * 3_600_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Curve {
    Catalogue,
    Open,
    Moments,
}

#[derive(Parser, Clone)]
struct Args {
    /// What is varied.
    curve: Curve,
    /// The values of it.
    #[arg(long, value_delimiter = ',')]
    points: Vec<u64>,
    /// Reservations at each point.
    #[arg(long, default_value_t = 2_000_000)]
    count: u64,
    /// `moments`: reservations a second.
    #[arg(long, default_value_t = 200_000)]
    rate: u64,
    /// Draws the curve there.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Where the data goes; a fresh folder in it for each point.
    #[arg(long, default_value = "target")]
    data: PathBuf,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a point came to.
struct Point {
    at: u64,
    rate: f64,
    latency_ns: Histogram<u64>,
}

fn main() {
    let args = Args::parse();
    let points = match args.curve {
        Curve::Moments => return moments(&args),
        Curve::Catalogue => [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000].to_vec(),
        Curve::Open => [0, 1_000_000, 10_000_000, 50_000_000].to_vec(),
    };
    let points = if args.points.is_empty() { points } else { args.points.clone() };
    let name = if args.curve == Curve::Catalogue { "SKUs" } else { "open" };
    println!("{name:>10}  {:>10}  {:>8}  {:>8}  {:>8}", "a second", "p50 us", "p99 us", "p99.9 us");
    let mut curve = Vec::new();
    for at in points {
        let (skus, open) = if args.curve == Curve::Catalogue { (at, 0) } else { (1_000, at) };
        let point = point(&args, at, skus, open);
        let us = |quantile| point.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
        let (p50, p99, p999) = (us(0.5), us(0.99), us(0.999));
        println!("{at:>10}  {:>10.0}  {p50:>8.0}  {p99:>8.0}  {p999:>8.0}", point.rate);
        curve.push(point);
    }
    if let Some(file) = &args.svg {
        std::fs::write(file, drawn(name, &curve)).expect("the curve is written");
    }
}

/// An engine with room for so many, and how its log is cut.
fn engine(
    args: &Args,
    all: u64,
    wal: wal::Options,
    (skus, checkpoint_bytes): (u64, u64),
) -> (tempfile::TempDir, Engine) {
    let dir = tempfile::tempdir_in(&args.data).expect("a folder for the data");
    let all = u32::try_from(all + 100_000).expect("not so many");
    let options = Options {
        wal: wal::Options { budget_bytes: 48 << 30, ..wal },
        positions_max: u32::try_from(skus + 10).expect("not so many"),
        reservations_max: all,
        keys_max: all,
        checkpoint_bytes,
        ..Options::default()
    };
    let engine = Engine::open(dir.path(), options).expect("an engine");
    let set: SetStock = serde_json::from_str(r#"{"on_hand":900000000}"#).expect("stock");
    let at = "BER".parse().expect("a location");
    let mut last = None;
    for number in 0..skus {
        last = Some(engine.set_stock(&sku(number).parse().expect("a SKU"), &at, &set));
        if number % 10_000 == 9_999 {
            engine.settle_blocking(last.take().expect("a decision")).expect("stock");
        }
    }
    if let Some(last) = last {
        engine.settle_blocking(last).expect("stock");
    }
    (dir, engine)
}

fn sku(number: u64) -> String {
    format!("SKU-{number:07}")
}

fn cart(sku: &str, ttl_ms: u64) -> Reserve {
    let json = format!(r#"{{"lines":[{{"sku":"{sku}","quantity":1}}],"ttl_ms":{ttl_ms}}}"#);
    serde_json::from_str(&json).expect("a cart")
}

fn key(name: &mut String, scope: &str, number: u64) -> IdempotencyKey {
    name.clear();
    let _ = write!(name, "{scope}-{number}");
    name.parse().expect("a key")
}

/// Makes so many reservations that stay open until their time.
fn fill(engine: &Engine, open: u64, ttl_ms: u64) {
    let (cart, mut name) = (cart(&sku(0), ttl_ms), String::new());
    for number in 0..open {
        let key = key(&mut name, "open", number);
        let decision = engine.reserve(Key::new("bench", &key), &cart);
        if number % 30_000 == 0 || number + 1 == open {
            engine.settle_blocking(decision).expect("room for the open ones");
        }
    }
}

fn point(args: &Args, at: u64, skus: u64, open: u64) -> Point {
    let (_dir, engine) = engine(args, args.count + open, wal::Options::default(), (skus, NEVER));
    fill(&engine, open, TTL_MS);
    let started = Instant::now();
    let latency_ns = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let engine = &engine;
                scope.spawn(move || closed(engine, thread, args.count / THREADS, skus))
            })
            .collect();
        threads.into_iter().fold(histogram(), |mut all, thread| {
            all.add(thread.join().expect("a thread")).expect("histograms of one kind");
            all
        })
    });
    Point { at, rate: args.count as f64 / started.elapsed().as_secs_f64(), latency_ns }
}

type Waiting = VecDeque<(Instant, Decision<ReservationView>)>;

fn closed(engine: &Engine, thread: u64, count: u64, skus: u64) -> Histogram<u64> {
    let (mut latencies, mut waiting, mut name) = (histogram(), Waiting::new(), String::new());
    let mut cart = cart(&sku(0), TTL_MS);
    let mut dice = thread + 1;
    for number in 0..count {
        // SplitMix64: which SKU is not to be foreseen by caches.
        dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (dice ^ (dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        if skus > 1 {
            cart.lines[0].sku = sku((mixed >> 20) % skus).parse().expect("a SKU");
        }
        let key = key(&mut name, if thread == 0 { "a" } else { "b" }, number);
        let began = Instant::now();
        waiting.push_back((began, engine.reserve(Key::new("bench", &key), &cart)));
        let left = if waiting.len() < WAITING_MAX { WAITING_MAX } else { WAITING_MAX - 64 };
        settle(engine, &mut waiting, left, |began| {
            latencies.saturating_record(began.elapsed().as_nanos() as u64);
        });
    }
    settle(engine, &mut waiting, 0, |began| {
        latencies.saturating_record(began.elapsed().as_nanos() as u64);
    });
    latencies
}

/// Waits until at most `left` are waiting, then lets go of all that are durable.
fn settle(engine: &Engine, waiting: &mut Waiting, left: usize, mut durable: impl FnMut(Instant)) {
    let is_acked = |d: &Decision<_>| d.lsn().is_none_or(|lsn| engine.log().is_acked(lsn));
    while waiting.len() > left || waiting.front().is_some_and(|(_, d)| is_acked(d)) {
        let Some((began, decision)) = waiting.pop_front() else { return };
        engine.settle_blocking(decision).expect("it is granted");
        durable(began);
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("a histogram")
}

/// What happens besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Nothing,
    Archive,
    Checkpoint,
    Turns,
    Expiry,
}

const MOMENTS: [Moment; 5] =
    [Moment::Nothing, Moment::Archive, Moment::Checkpoint, Moment::Turns, Moment::Expiry];

/// Reservations that expire at once.
const EXPIRING: u64 = 1_000_000;

fn moments(args: &Args) {
    println!(
        "{:>10}  {:>10}  {:>8}  {:>8}  {:>8}  {:>8}  besides",
        "moment", "a second", "p50 us", "p99 us", "p99.9 us", "max us"
    );
    for moment in MOMENTS {
        let segment_bytes = match moment {
            Moment::Turns => 1 << 20,
            Moment::Archive => 16 << 20,
            _ => 64 << 20,
        };
        let archive = wal::Options::default().archive.filter(|_| moment == Moment::Archive);
        let wal = wal::Options { segment_bytes, archive, ..wal::Options::default() };
        let checkpoint_bytes = if moment == Moment::Checkpoint { 64 << 20 } else { NEVER };
        let (_dir, engine) =
            engine(args, args.count + 2 * EXPIRING, wal, (1_000, checkpoint_bytes));
        if moment == Moment::Checkpoint {
            fill(&engine, EXPIRING, TTL_MS);
        }
        let began = Instant::now();
        if moment == Moment::Expiry {
            // All at the same instant: the later ones hold as much shorter.
            let (mut name, ends) = (String::new(), Duration::from_secs(8));
            for number in 0..EXPIRING {
                let left = ends.saturating_sub(began.elapsed()).as_millis() as u64;
                let key = key(&mut name, "short", number);
                let _ = engine.reserve(Key::new("bench", &key), &cart(&sku(0), left.max(1)));
            }
        }
        let expired = engine.status().counters.expired;
        let (whole, worst) = planned(args, &engine);
        let us = |quantile| whole.value_at_quantile(quantile) as f64 / 1e3;
        let name = format!("{moment:?}").to_lowercase();
        let (status, stats) = (engine.status().counters, engine.log().stats());
        println!(
            "{name:>10}  {:>10}  {:>8.0}  {:>8.0}  {:>8.0}  {:>8.0}  worst interval p99 {:.0} us; \
             checkpoints {}, segments {}, archived {} in {:.1} s, expired {}",
            args.rate,
            us(0.5),
            us(0.99),
            us(0.999),
            us(1.0),
            worst as f64 / 1e3,
            status.checkpoints,
            stats.segments_made + stats.segments_recycled,
            stats.archive.map_or(0, |archive| archive.archived),
            stats.archive.map_or(0.0, |archive| archive.busy_ms as f64 / 1e3),
            status.expired - expired,
        );
    }
}

/// Sends at planned instants; gives the latencies from there, and the worst interval's p99.
fn planned(args: &Args, engine: &Engine) -> (Histogram<u64>, u64) {
    let (mut whole, mut interval, mut worst) = (histogram(), histogram(), 0);
    let (mut waiting, mut name) = (Waiting::new(), String::new());
    let carts: Vec<Reserve> = (0..1_000).map(|number| cart(&sku(number), TTL_MS)).collect();
    let (started, mut ends) = (Instant::now(), INTERVAL);
    for number in 0..args.count {
        let due = started + Duration::from_secs_f64(number as f64 / args.rate as f64);
        loop {
            settle(engine, &mut waiting, usize::MAX, |planned| {
                let ns = planned.elapsed().as_nanos() as u64;
                whole.saturating_record(ns);
                interval.saturating_record(ns);
            });
            let early = due.saturating_duration_since(Instant::now());
            if early.is_zero() {
                break;
            }
            std::thread::sleep(early.min(Duration::from_micros(20)));
        }
        if started.elapsed() > ends {
            worst = worst.max(interval.value_at_quantile(0.99));
            interval.reset();
            ends += INTERVAL;
        }
        let key = key(&mut name, "planned", number);
        let cart = &carts[(number * 7 % 1_000) as usize];
        waiting.push_back((due, engine.reserve(Key::new("bench", &key), cart)));
    }
    settle(engine, &mut waiting, 0, |planned| {
        whole.saturating_record(planned.elapsed().as_nanos() as u64);
    });
    (whole, worst)
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;

/// The curve as a picture: the rate as a line from zero, p99.9 beneath it on a scale of its own.
fn drawn(name: &str, curve: &[Point]) -> String {
    let rates: Vec<f64> = curve.iter().map(|point| point.rate).collect();
    let p999: Vec<f64> =
        curve.iter().map(|point| point.latency_ns.value_at_quantile(0.999) as f64 / 1e3).collect();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#555\">\n",
        HEIGHT * 2.0
    );
    line(&mut svg, 0.0, &rates, "reservations a second", "#2563eb");
    line(&mut svg, HEIGHT, &p999, "p99.9, microseconds", "#b45309");
    for (index, point) in curve.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{} {name}</text>",
            x(index, curve.len()),
            HEIGHT * 2.0 - 6.0,
            point.at
        );
    }
    svg + "</svg>\n"
}

fn x(index: usize, of: usize) -> f64 {
    60.0 + (WIDTH - 120.0) * index as f64 / (of.max(2) - 1) as f64
}

fn line(svg: &mut String, top: f64, values: &[f64], title: &str, colour: &str) {
    let most = values.iter().copied().fold(1.0, f64::max);
    let y = |value: f64| top + HEIGHT - 30.0 - (HEIGHT - 70.0) * value / most;
    let places: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(index, value)| format!("{:.1},{:.1}", x(index, values.len()), y(*value)))
        .collect();
    let _ = writeln!(svg, "<text x=\"10\" y=\"{:.0}\">{title}</text>", top + 16.0);
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        places.join(" ")
    );
    for (index, value) in values.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.0}</text>",
            x(index, values.len()),
            y(*value) - 8.0
        );
    }
}
