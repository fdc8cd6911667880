//! What requests without a good key cost: reservations of partners with keys, with and without 10,000
//! failing requests a second beside them, in alternating rounds of one run; and failing ones alone.
//!
//! `cargo bench --bench auth -- [--connections N] [--failing N] [--partners N] [--seconds S] [--rounds N]
//! [--ack disk|memory] [--data DIR]`
//!
//! Each connection of the partners sends its next request when it has the answer to the last; failing ones
//! are paced to their rate over connections of their own. All share the machine with the server. What one
//! failing request costs is measured alone, callers and all; what goodput would be left if they took no more
//! than that from the processors is set beside what was left. Every answer's status is looked at.

mod answer;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use holdfast::{
    Engine, Options,
    api::{self, Partner, Partners},
    model::{command::SetStock, partner::Terms, signature::KeyHash},
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

const BODY: &str = r#"{"lines":[{"sku":"A","quantity":1}],"customer":"c-42"}"#;
/// Failing requests are sent over so many connections.
const FAILING_CONNECTIONS: u64 = 64;

#[derive(Parser)]
struct Args {
    /// Connections of partners, each with one request under way.
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// Failing requests a second.
    #[arg(long, default_value_t = 10_000)]
    failing: u64,
    /// Partners, each with a key: a presented key is compared with all.
    #[arg(long, default_value_t = 100)]
    partners: usize,
    /// How long a round takes.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Rounds of each kind.
    #[arg(long, default_value_t = 5)]
    rounds: u64,
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

/// What a round saw, a second.
#[derive(Clone, Copy)]
struct Round {
    good: f64,
    failed: f64,
    /// Seconds of processor.
    cpu: f64,
}

fn main() {
    let args = Args::parse();
    let dir = tempfile::tempdir_in(&args.data).expect("a folder for the data");
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let address = serve(&args, dir.path(), &runtime);
    let mut rounds: [Vec<Round>; 3] = Default::default();
    for number in 0..args.rounds {
        for (kind, (connections, failing)) in
            [(args.connections, 0), (args.connections, args.failing), (0, args.failing)]
                .into_iter()
                .enumerate()
        {
            rounds[kind].push(round(
                &args,
                address,
                connections,
                failing,
                3 * number + kind as u64,
            ));
        }
    }
    report(&rounds);
    runtime.shutdown_background();
}

fn key(partner: usize) -> String {
    format!("a-key-of-partner-{partner:06}-made-for-a-bench")
}

fn serve(args: &Args, dir: &std::path::Path, runtime: &Runtime) -> SocketAddr {
    let ack = if args.ack == "memory" { wal::Ack::Memory } else { wal::Ack::Disk };
    let wal = wal::Options { ack, budget_bytes: 16 << 30, ..wal::Options::default() };
    let options = Options {
        wal,
        reservations_max: 40_000_000,
        keys_max: 40_000_000,
        checkpoint_bytes: 1 << 40,
        ..Options::default()
    };
    let engine = Engine::open(dir, options).expect("an engine");
    let set: SetStock = serde_json::from_str(r#"{"on_hand":1000000000}"#).expect("a stock");
    let decision = engine.set_stock(&"A".parse().expect("a SKU"), &"X".parse().expect("one"), &set);
    engine.settle_blocking(decision).expect("stock");
    let partner = |n| Partner {
        name: format!("partner-{n}"),
        key: Some(KeyHash::of(&key(n))),
        hook: None,
        terms: Terms::default(),
    };
    let partners = Partners::new((0..args.partners).map(partner).collect()).expect("partners");
    let state = api::State::with_partners(api::Options::default(), partners);
    state.ready(engine, Arc::new(api::NoSinks));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let address = listener.local_addr().expect("an address");
    runtime.spawn(api::serve(listener, state, std::future::pending()));
    address
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

/// All callers for the time of a round, on this thread.
fn round(args: &Args, address: SocketAddr, connections: u64, failing: u64, number: u64) -> Round {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cpu = process_cpu();
    let (good, failed, elapsed) = runtime.block_on(async {
        let begun = Instant::now();
        let end = begun + Duration::from_secs(args.seconds);
        let (mut good, mut bad) = (JoinSet::new(), JoinSet::new());
        for connection in 0..connections {
            let key = key(connection as usize % args.partners);
            let next = move |n| request(&key, &format!("{number}-{connection}-{n}"));
            good.spawn(call(address, end, None, "201", next));
        }
        for connection in 0..if failing > 0 { FAILING_CONNECTIONS } else { 0 } {
            let gap = Duration::from_secs_f64(FAILING_CONNECTIONS as f64 / failing as f64);
            let key = format!("a-key-that-nobody-has-{connection:06}-for-a-bench");
            let next = move |n| request(&key, &format!("f-{n}"));
            bad.spawn(call(address, end, Some(gap), "401", next));
        }
        let good: u64 = good.join_all().await.into_iter().sum();
        let failed: u64 = bad.join_all().await.into_iter().sum();
        (good as f64, failed as f64, begun.elapsed().as_secs_f64())
    });
    let cpu = (process_cpu() - cpu).as_secs_f64();
    Round { good: good / elapsed, failed: failed / elapsed, cpu: cpu / elapsed }
}

fn request(api_key: &str, key: &str) -> String {
    format!(
        "POST /v1/reservations HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {api_key}\r\n\
         content-type: application/json\r\nidempotency-key: {key}\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    )
}

/// One connection until the end; how many answers it got. With a gap requests are sent that far apart, and
/// what is late is caught up with.
async fn call(
    address: SocketAddr,
    end: Instant,
    gap: Option<Duration>,
    expected: &'static str,
    next: impl Fn(u64) -> String,
) -> u64 {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket's option");
    let mut answer = vec![0; 16 << 10];
    let begun = Instant::now();
    for number in 0_u32.. {
        if let Some(gap) = gap {
            tokio::time::sleep_until((begun + gap * number).into()).await;
        }
        if Instant::now() >= end {
            return number.into();
        }
        stream.write_all(next(number.into()).as_bytes()).await.expect("a request sent");
        let mut bytes = 0;
        while !answer::is_whole(&answer[..bytes]) {
            let more = stream.read(&mut answer[bytes..]).await.expect("an answer");
            assert!(more > 0, "the answer ended early, or is too long");
            bytes += more;
        }
        assert_eq!(std::str::from_utf8(&answer[9..12]), Ok(expected));
    }
    0
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn report([without, with, alone]: &[Vec<Round>; 3]) {
    let each = median(alone, |round| round.cpu / round.failed);
    let good_cpu = median(without, |round| round.cpu);
    let (before, after) = (median(without, |r| r.good), median(with, |r| r.good));
    let failed = median(with, |r| r.failed);
    // Where the processors were busy with the good ones, what the others take is theirs no longer.
    let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    let free = (cores - good_cpu).max(0.0);
    let taken = (each * failed - free).max(0.0) / good_cpu;
    let expected = before * (1.0 - taken);
    println!("failed    {:.1} us of processor each, callers and all", each * 1e6);
    println!("goodput   {before:.0} a second alone, {:.2} processors", good_cpu);
    println!(
        "          {after:.0} beside {failed:.0} failing ones, {:.1} %",
        after / before * 100.0
    );
    println!("expected  {expected:.0} if they cost no more than themselves");
}
