//! The log's speed: append alone, acknowledged append of a lone caller, and a sustained throughput with
//! what the device wrote for it.
//!
//! `cargo bench --bench wal_append` runs criterion's part and then the report; `-- report` the report
//! alone. `HOLDFAST_BENCH_DIR` says where the log lies (default: a directory under the target), and
//! `HOLDFAST_BENCH_DEVICE` whose `/sys/block/*/stat` is read (default: the only disk there is).

use std::{
    fs,
    hint::black_box,
    path::PathBuf,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput};
use hdrhistogram::Histogram;
use holdfast::{
    model::Lsn,
    wal::{Ack, Draft, FileStorage, Log, Options, RoomClass},
};

const BODIES: [usize; 2] = [64, 128];

struct Bench {
    log: Log,
    dir: PathBuf,
}

impl Bench {
    fn new(options: Options) -> Self {
        let dir = std::env::var_os("HOLDFAST_BENCH_DIR")
            .map_or_else(|| PathBuf::from("target/wal-bench"), PathBuf::from);
        let _ = fs::remove_dir_all(&dir);
        let storage = FileStorage::new(&dir).expect("a directory for the bench");
        let log = Log::open(storage, options, Lsn(0)).expect("an empty log");
        thread::sleep(Duration::from_millis(700));
        Self { log, dir }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.log.close();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn options(ack: Ack) -> Options {
    Options { ack, budget_bytes: 2 << 30, room_wait_ms_max: 30_000, ..Options::default() }
}

fn append(log: &Log, draft: &mut Draft, body: &[u8]) -> Lsn {
    draft.begin(1, 1, 42).extend_from_slice(body);
    draft.seal();
    let ticket = log.ticket(RoomClass::New, draft.bytes(), 0).expect("room");
    ticket.append(draft)
}

/// Lets go of what was appended long ago, as a feed and a checkpoint would.
fn release(log: &Log) {
    log.release_before(log.durable());
}

fn criterion_part(criterion: &mut Criterion) {
    for (ack, name) in [(Ack::Memory, "memory"), (Ack::Disk, "disk")] {
        let bench = Bench::new(options(ack));
        let log = &bench.log;
        let mut draft = Draft::new();
        let mut group = criterion.benchmark_group(format!("append/{name}"));
        for bytes in BODIES {
            let body = vec![7; bytes];
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new("not waited for", bytes), |b| {
                let mut count = 0u32;
                b.iter(|| {
                    count = count.wrapping_add(1);
                    if count.is_multiple_of(4096) {
                        release(log);
                    }
                    black_box(append(log, &mut draft, &body))
                });
            });
            group.bench_function(BenchmarkId::new("acknowledged", bytes), |b| {
                b.iter(|| {
                    let lsn = append(log, &mut draft, &body);
                    log.wait_blocking(lsn).expect("acknowledged");
                });
            });
        }
        group.finish();
    }
}

/// Sectors written since the machine started.
fn sectors_written() -> Option<u64> {
    let device = std::env::var("HOLDFAST_BENCH_DEVICE").ok().or_else(|| {
        let names =
            fs::read_dir("/sys/block").ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
        let disks: Vec<String> =
            names.filter(|name| !name.starts_with("loop") && !name.starts_with("ram")).collect();
        disks.iter().find(|name| name.as_str() == "vda").or(disks.first()).cloned()
    })?;
    let stat = fs::read_to_string(format!("/sys/block/{device}/stat")).ok()?;
    stat.split_whitespace().nth(6)?.parse().ok()
}

struct Report {
    seconds: f64,
    call: Histogram<u64>,
    ack: Histogram<u64>,
}

/// Each thread appends, and waits for what it appended `waiting` records ago.
fn sustained(log: &Log, threads: u64, bytes: usize, waiting: usize, time: Duration) -> Report {
    let barrier = Barrier::new(threads as usize);
    let begun = Instant::now();
    let histograms: Vec<_> = thread::scope(|scope| {
        let run = || {
            let mut draft = Draft::new();
            let body = vec![7; bytes];
            let new = || Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
            let (mut call, mut ack) = (new(), new());
            let mut out = std::collections::VecDeque::with_capacity(waiting + 1);
            barrier.wait();
            let begun = Instant::now();
            for count in 0u64.. {
                let sampled = count.is_multiple_of(16);
                let before = sampled.then(Instant::now);
                let lsn = append(log, &mut draft, &body);
                if let Some(before) = before {
                    call.saturating_record(before.elapsed().as_nanos() as u64);
                }
                out.push_back((lsn, before));
                if out.len() > waiting {
                    let (lsn, before) = out.pop_front().expect("it is not empty");
                    log.wait_blocking(lsn).expect("acknowledged");
                    if let Some(before) = before {
                        ack.saturating_record(before.elapsed().as_nanos() as u64);
                    }
                }
                if count.is_multiple_of(4096) {
                    release(log);
                }
                if sampled && begun.elapsed() > time {
                    break;
                }
            }
            (call, ack)
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    let (mut call, mut ack) = histograms[0].clone();
    for (more_call, more_ack) in &histograms[1..] {
        call += more_call;
        ack += more_ack;
    }
    Report { seconds, call, ack }
}

fn report() {
    let seconds: u64 =
        std::env::var("HOLDFAST_BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    println!(
        "{:<8}{:>3}{:>6}{:>9}{:>12}{:>9}{:>9}{:>10}{:>10}{:>10}{:>11}{:>9}{:>8}",
        "ack",
        "thr",
        "body",
        "waiting",
        "records/s",
        "call50",
        "call99",
        "ack50us",
        "ack99us",
        "sync_us",
        "group_rec",
        "dev/rec",
        "waits",
    );
    for (ack, name) in [(Ack::Memory, "memory"), (Ack::Disk, "disk")] {
        for (threads, bytes, waiting) in [
            (1, 64, 0),
            (1, 64, 64),
            (1, 64, 1024),
            (1, 64, 32_768),
            (2, 64, 32_768),
            (1, 128, 32_768),
            (2, 128, 32_768),
        ] {
            let bench = Bench::new(options(ack));
            let time = Duration::from_secs(seconds);
            // Once around, so that the segments are recycled ones, as in a log that has run for a while.
            sustained(&bench.log, threads, bytes, waiting, time / 5);
            let (sectors, before) = (sectors_written(), bench.log.stats());
            let report = sustained(&bench.log, threads, bytes, waiting, time);
            bench.log.wait_durable_blocking(Lsn(bench.log.appended().0 - 8)).expect("durable");
            let (after, sectors_after) = (bench.log.stats(), sectors_written());
            let records = (after.records - before.records) - (after.marks - before.marks);
            let syncs = (after.syncs - before.syncs).max(1);
            let record_bytes = records * (bytes as u64 + 16);
            let device = sectors
                .zip(sectors_after)
                .map_or(f64::NAN, |(from, to)| ((to - from) * 512) as f64 / record_bytes as f64);
            println!(
                "{:<8}{:>3}{:>6}{:>9}{:>12.0}{:>9}{:>9}{:>10.0}{:>10.0}{:>10}{:>11}{:>9.2}{:>8}",
                name,
                threads,
                bytes,
                waiting,
                records as f64 / report.seconds,
                report.call.value_at_quantile(0.5),
                report.call.value_at_quantile(0.99),
                report.ack.value_at_quantile(0.5) as f64 / 1e3,
                report.ack.value_at_quantile(0.99) as f64 / 1e3,
                (after.sync_us_sum - before.sync_us_sum) / syncs,
                records / syncs,
                device,
                after.room_waits - before.room_waits,
            );
        }
    }
}

/// How fast a log is opened, replayed, and how fast a checkpoint is written, checked and read.
fn report_recovery() {
    const RECORDS: u64 = 3_000_000;
    let bench = Bench::new(options(Ack::Disk));
    let mut draft = Draft::new();
    let mut last = Lsn(0);
    for _ in 0..RECORDS {
        last = append(&bench.log, &mut draft, &[7; 64]);
    }
    bench.log.wait_blocking(last).expect("acknowledged");
    let dir = bench.dir.clone();
    bench.log.close().expect("closed");
    let rate = |count: u64, begun: Instant| count as f64 / begun.elapsed().as_secs_f64();
    let mut reader = bench.log.reader(Lsn(0)).expect("readable");
    let begun = Instant::now();
    while let Some(record) = reader.next().expect("whole") {
        black_box(record.body);
    }
    println!("{:<40}{:>12.0} records/s", "read, each record checked", rate(RECORDS, begun));
    drop(reader);
    // The lock goes with the last handle, so the files move to where they can be opened again.
    let moved = dir.with_extension("moved");
    let _ = fs::remove_dir_all(&moved);
    fs::rename(&dir, &moved).expect("renamed");
    drop(bench);
    let storage = FileStorage::new(&moved).expect("unlocked");
    let begun = Instant::now();
    let log = Log::open(storage, options(Ack::Disk), Lsn(0)).expect("whole");
    println!("{:<40}{:>12.0} records/s", "opened, each record checked", rate(RECORDS, begun));
    drop(log);
    let _ = fs::remove_dir_all(&moved);
    report_checkpoint(&dir, rate);
}

fn report_checkpoint(dir: &std::path::Path, rate: impl Fn(u64, Instant) -> f64) {
    use holdfast::{model::Incarnation, wal::checkpoint};
    const ENTRIES: u64 = 5_000_000;
    let storage = FileStorage::new(&dir.join("checkpoint")).expect("a directory for the bench");
    let begun = Instant::now();
    let mut writer =
        checkpoint::Writer::create(&storage, Incarnation(1), Lsn(8)).expect("a checkpoint");
    for number in 0..ENTRIES {
        writer.push(&number.to_be_bytes(), &[7; 48]).expect("written");
    }
    writer.finish().expect("finished");
    println!("{:<40}{:>12.0} entries/s", "checkpoint written and synced", rate(ENTRIES, begun));
    let begun = Instant::now();
    let snapshot = checkpoint::newest(&storage).expect("readable").expect("there");
    println!("{:<40}{:>12.0} entries/s", "checkpoint verified", rate(ENTRIES, begun));
    let begun = Instant::now();
    let mut entries = snapshot.iter().expect("readable");
    while let Some(entry) = entries.next().expect("whole") {
        black_box(entry);
    }
    println!("{:<40}{:>12.0} entries/s", "checkpoint read", rate(ENTRIES, begun));
    let _ = fs::remove_dir_all(dir);
}

fn main() {
    if !std::env::args().any(|argument| argument == "report") {
        let mut criterion = Criterion::default().configure_from_args();
        criterion_part(&mut criterion);
        criterion.final_summary();
    }
    if !std::env::args().any(|argument| argument == "--test") {
        report();
        report_recovery();
    }
}
