//! Crash images of the log, two crashes deep.
//!
//! Threads append to a log on the simulated disk. At some moment the power goes: what was not synced is
//! there, is not, or is torn, page by page. From one moment many such images are made. Each must open,
//! and in what is found:
//!
//! - every record that was acknowledged before the moment is there, at its place, byte for byte;
//! - nothing is there that was not appended, and nothing twice;
//! - of what one thread appended there is a prefix: nothing is missing in the middle.
//!
//! Then it happens again: in the middle of opening (a sync fails, then the power goes), or after more was
//! appended to what was found.
//!
//! `HOLDFAST_CRASH_IMAGES` sets how many images are opened; `HOLDFAST_CRASH_SEED` where the seeds begin.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use holdfast::{
    model::Lsn,
    wal::{
        Draft, Error, Log, Options, RoomClass,
        sim::{Random, SimStorage},
    },
};

const KIB: u64 = 1024;
const IMAGES_A_MOMENT: u64 = 8;

fn options(random: &mut Random) -> Options {
    Options {
        segment_bytes: (16 * KIB) << random.below(2),
        budget_bytes: 64 * 1024 * KIB,
        ready_segments: 1 + random.below(2) as u32,
        unsynced_bytes_max: (32 * KIB) << random.below(3),
        idle_mark_ms: 1 + random.below(10),
        room_wait_ms_max: 10_000,
        ..Options::default()
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// A record's body follows from who wrote it and its number.
fn body(writer: u64, number: u64) -> Vec<u8> {
    let mut random = Random(writer << 32 | number);
    let length = 16 + if random.below(20) == 0 { random.below(3000) } else { random.below(120) };
    let mut body = Vec::with_capacity(length as usize + 8);
    body.extend_from_slice(&writer.to_le_bytes());
    body.extend_from_slice(&number.to_le_bytes());
    while body.len() < length as usize {
        body.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    body.truncate(length as usize);
    body
}

fn append(log: &Log<SimStorage>, draft: &mut Draft, writer: u64, number: u64) -> Option<Lsn> {
    draft.begin(1, 1, number).extend(body(writer, number));
    draft.seal();
    Some(log.ticket(RoomClass::New, draft.bytes(), 0).ok()?.append(draft))
}

/// What must be found: acknowledged records by place, from a position on that a checkpoint covers.
#[derive(Clone, Default)]
struct Acked {
    from: u64,
    records: BTreeMap<u64, (u64, u64)>,
}

/// Reads the whole log and checks the laws; returns each writer's last number.
fn check(log: &Log<SimStorage>, acked: &Acked, seed: u64) -> BTreeMap<u64, u64> {
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    let mut found = BTreeMap::new();
    let mut reader = log.reader(Lsn(acked.from)).expect("the checkpoint's place is readable");
    while let Some(record) = reader.next().expect("what was recovered is readable") {
        let word = |at: usize| u64::from_le_bytes(*record.body[at..].first_chunk().unwrap());
        let (writer, number) = (word(0), word(8));
        assert_eq!(record.body, body(writer, number), "seed {seed}: bytes at {}", record.lsn);
        assert_eq!((record.kind, record.version, record.time_ms), (1, 1, number));
        let before = last.insert(writer, number);
        if before.is_none() && acked.from == 0 {
            assert_eq!(number, 0, "seed {seed}: writer {writer} begins at {}", record.lsn);
        }
        if let Some(before) = before {
            assert_eq!(number, before + 1, "seed {seed}: writer {writer} at {}", record.lsn);
        }
        found.insert(record.lsn.0, (writer, number));
    }
    for (lsn, record) in &acked.records {
        let seen = found.get(lsn);
        assert_eq!(seen, Some(record), "seed {seed}: acknowledged at {lsn}, from {}", acked.from);
    }
    last
}

/// Appends from several threads until it is told to stop; returns what is known to be durable at a
/// moment, and the disk at that moment or just after.
fn run(storage: &SimStorage, options: &Options, seed: u64) -> (Acked, Vec<SimStorage>) {
    let mut random = Random(seed);
    let log = Log::open(storage.clone(), options.clone(), Lsn(0)).unwrap();
    let stop = AtomicBool::new(false);
    let appended: Vec<_> = (0..2).map(|_| AtomicU64::new(0)).collect();
    let places: Vec<_> = (0..2).map(|_| std::sync::Mutex::new(Vec::new())).collect();
    let enough = 20 + random.below(600);
    let releases = random.below(2) == 0;
    thread::scope(|scope| {
        for writer in 0..2u64 {
            let (log, stop, appended, places) = (&log, &stop, &appended, &places);
            scope.spawn(move || {
                let mut draft = Draft::new();
                let mut random = Random(seed ^ writer);
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let Some(lsn) = append(log, &mut draft, writer, number) else { return };
                    places[writer as usize].lock().unwrap().push((lsn.0, number));
                    appended[writer as usize].fetch_add(1, Ordering::Relaxed);
                    if random.below(40) == 0 {
                        let _ = log.wait_blocking(lsn);
                    }
                }
            });
        }
        let mut from = Lsn(0);
        while appended.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>() < enough {
            if random.below(4) == 0 {
                storage.write_back(random.next_u64());
            }
            if releases && random.below(8) == 0 {
                from = log.durable();
                log.release_before(from);
            }
            thread::sleep(Duration::from_micros(random.below(200)));
        }
        if random.below(8) == 0 {
            // Idle, so that the last mark covers everything.
            stop.store(true, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
        }
        let durable = log.durable();
        let mut acked = Acked { from: from.0, records: BTreeMap::new() };
        for (writer, places) in places.iter().enumerate() {
            let places = places.lock().unwrap();
            let known = places.iter().filter(|(lsn, _)| (from.0..durable.0).contains(lsn));
            acked.records.extend(known.map(|(lsn, number)| (*lsn, (writer as u64, *number))));
        }
        let killed = random.below(4) == 0;
        let images = (0..IMAGES_A_MOMENT).map(|_| {
            let seed = random.next_u64();
            if killed { storage.kill().crash(seed) } else { storage.crash(seed) }
        });
        let images = images.collect();
        stop.store(true, Ordering::Relaxed);
        (acked, images)
    })
}

/// Opens an image; may crash it in the middle of that first.
fn open(
    image: SimStorage,
    options: &Options,
    acked: &Acked,
    random: &mut Random,
) -> (SimStorage, Log<SimStorage>) {
    let mut image = image;
    for _ in 0..random.below(3) {
        image.fail_sync(random.below(8));
        match Log::open(image.clone(), options.clone(), Lsn(acked.from)) {
            Err(Error::Io { .. }) => {}
            Err(other) => panic!("{other}"),
            // Opened before its turn came: the failure is one of the running log's.
            Ok(log) => drop(log),
        }
        let seed = random.next_u64();
        image = if random.below(3) == 0 { image.kill() } else { image.crash(seed) };
    }
    let log = Log::open(image.clone(), options.clone(), Lsn(acked.from));
    (image, log.unwrap_or_else(|error| panic!("{error}")))
}

/// More is appended to what was found; what of it is acknowledged must be found as well.
fn go_on(log: &Log<SimStorage>, acked: &mut Acked, random: &mut Random) {
    let mut draft = Draft::new();
    let mut places = Vec::new();
    let writer = 100 + random.below(1 << 20);
    for number in 0..random.below(200) {
        let Some(lsn) = append(log, &mut draft, writer, number) else { break };
        places.push((lsn.0, (writer, number)));
    }
    if random.below(2) == 0
        && let Some((lsn, _)) = places.last()
    {
        log.wait_blocking(Lsn(*lsn)).unwrap();
    }
    let durable = log.durable().0;
    acked.records.extend(places.into_iter().filter(|(lsn, _)| *lsn < durable));
}

#[test]
fn what_was_acknowledged_is_found_and_nothing_else() {
    let images = setting("HOLDFAST_CRASH_IMAGES", 2000);
    let first = setting("HOLDFAST_CRASH_SEED", 1);
    let mut opened = 0;
    for seed in first.. {
        if opened >= images {
            break;
        }
        let mut random = Random(seed);
        let options = options(&mut random);
        let (acked, moments) = run(&SimStorage::new(), &options, seed);
        for image in moments {
            let mut acked = acked.clone();
            let (image, log) = open(image, &options, &acked, &mut random);
            check(&log, &acked, seed);
            go_on(&log, &mut acked, &mut random);
            let second = image.crash(random.next_u64());
            drop(log);
            let (_, log) = open(second, &options, &acked, &mut random);
            check(&log, &acked, seed);
            opened += 2;
        }
    }
}
