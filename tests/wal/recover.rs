//! What is a tear and what is rot, on the simulated disk.

use std::{sync::atomic::Ordering, thread, time::Duration};

use holdfast::{
    model::Lsn,
    wal::{
        Draft, Error, Log, Options, RoomClass, Storage,
        sim::SimStorage,
        storage::{Mapping, Memory, SEGMENT_HEADER_BYTES},
    },
};

const SEGMENT_BYTES: u64 = 16 * 1024;
const FIRST: &str = "0000000000000000.log";

/// No idle mark: the last group is not covered.
fn no_idle_mark() -> Options {
    Options { idle_mark_ms: 3_600_000, ..idle_mark() }
}

fn idle_mark() -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES,
        budget_bytes: 4 << 20,
        unsynced_bytes_max: 32 * 1024,
        room_wait_ms_max: 5000,
        idle_mark_ms: 5,
        ..Options::default()
    }
}

/// Records before the last group of [`one_group`].
const BEFORE: usize = 3;

fn append(log: &Log<SimStorage>, body: &[u8]) -> Lsn {
    let mut draft = Draft::new();
    draft.begin(1, 1, 42).extend(body);
    draft.seal();
    log.ticket(RoomClass::New, draft.bytes(), 0).unwrap().append(&draft)
}

fn bodies(log: &Log<SimStorage>, from: Lsn) -> Vec<Vec<u8>> {
    let mut reader = log.reader(from).unwrap();
    let mut bodies = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        bodies.push(record.body.to_vec());
    }
    bodies
}

fn open(storage: &SimStorage) -> Result<Log<SimStorage>, Error> {
    Log::open(storage.clone(), no_idle_mark(), Lsn(0))
}

/// A log whose last group no mark covers, after [`BEFORE`] records; returns its records' places.
fn one_group(count: u64) -> (SimStorage, Vec<Lsn>) {
    let storage = SimStorage::new();
    let log = open(&storage).unwrap();
    append(&log, b"first group");
    busy_with_a_sync(&storage, &log);
    let places: Vec<Lsn> = (0..count).map(|n| append(&log, &n.to_le_bytes())).collect();
    log.wait_blocking(*places.last().unwrap()).unwrap();
    (storage.kill(), places)
}

/// Returns while a group is being synced, so that what is appended next is one group, the next.
fn busy_with_a_sync(storage: &SimStorage, log: &Log<SimStorage>) {
    let first = append(log, b"waits for its sync");
    log.wait_blocking(first).unwrap();
    storage.set_sync_delay(Duration::from_millis(300));
    append(log, b"is being synced");
    thread::sleep(Duration::from_millis(50));
}

#[test]
fn a_tear_that_no_mark_covers_is_cut_and_what_was_behind_it_never_comes_back() {
    let (storage, places) = one_group(50);
    storage.flip(FIRST, places[20].0 + 17, 4);
    let log = open(&storage).unwrap();
    assert_eq!(bodies(&log, Lsn(0)).len(), BEFORE + 20);
    assert_eq!(log.appended(), places[20]);
    // The next record is as long as the torn one: what followed that would follow this.
    let next = append(&log, &7u64.to_le_bytes());
    assert_eq!(next, places[20]);
    log.wait_blocking(next).unwrap();
    let image = storage.crash(1);
    drop(log);
    let log = open(&image).unwrap();
    assert_eq!(bodies(&log, Lsn(0)).len(), BEFORE + 21);
}

#[test]
fn damage_below_a_mark_refuses_the_start_and_names_the_place() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), idle_mark(), Lsn(0)).unwrap();
    let places: Vec<Lsn> = (0..2000u64).map(|n| append(&log, &n.to_le_bytes())).collect();
    log.wait_blocking(*places.last().unwrap()).unwrap();
    drop(log);
    for damaged in [0, 1, 700, 1300, 1998, 1999] {
        let lsn = places[damaged];
        let image = storage.kill();
        let name = format!("{:016x}.log", lsn.0 / SEGMENT_BYTES);
        image.flip(&name, lsn.0 % SEGMENT_BYTES + 17, 0x80);
        match open(&image).err() {
            Some(Error::Rotted { segment, offset, lsn: named, .. }) => {
                assert_eq!(segment, format!("sim:{name}"));
                assert_eq!(offset, SEGMENT_HEADER_BYTES + lsn.0 % SEGMENT_BYTES);
                assert_eq!(named, lsn);
            }
            other => panic!("{damaged}: {other:?}"),
        }
        // Nothing was touched: repaired, it opens, and everything is there.
        image.flip(&name, lsn.0 % SEGMENT_BYTES + 17, 0x80);
        assert_eq!(bodies(&open(&image).unwrap(), Lsn(0)).len(), 2000);
    }
}

#[test]
fn a_log_that_closes_without_ready_room_still_has_its_last_mark() {
    let storage = SimStorage::new();
    let impatient = Options { room_wait_ms_max: 1, ..idle_mark() };
    let log = Log::open(storage.clone(), impatient, Lsn(0)).unwrap();
    thread::sleep(Duration::from_millis(100));
    storage.set_make_delay(Duration::from_millis(300));
    let mut draft = Draft::new();
    draft.begin(1, 1, 42).extend([1; 8]);
    draft.seal();
    let mut last = Lsn(0);
    while log.stats().ready_bytes >= draft.bytes() as i64 {
        // Closing, since new work would be refused while delivery's reserve is still ready.
        if let Ok(ticket) = log.ticket(RoomClass::Closing, draft.bytes(), 0) {
            last = ticket.append(&draft);
        }
    }
    log.wait_blocking(last).unwrap();
    drop(log);
    let name = format!("{:016x}.log", last.0 / SEGMENT_BYTES);
    storage.flip(&name, last.0 % SEGMENT_BYTES + 17, 1);
    assert!(matches!(open(&storage).err(), Some(Error::Rotted { lsn, .. }) if lsn == last));
}

#[test]
fn a_damaged_or_missing_segment_refuses_the_start() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), idle_mark(), Lsn(0)).unwrap();
    let places: Vec<Lsn> = (0..2000u64).map(|n| append(&log, &n.to_le_bytes())).collect();
    log.wait_blocking(*places.last().unwrap()).unwrap();
    drop(log);
    for index in 0..3 {
        let name = format!("{index:016x}.log");
        for byte in [0, 9, 20, 33, 60, 66] {
            let image = storage.kill();
            image.flip_header(&name, byte, 1);
            let error = open(&image).err();
            assert!(matches!(error, Some(Error::Rotted { offset: 0, .. })), "{error:?}");
        }
        let image = storage.kill();
        image.remove(&name).unwrap();
        let error = open(&image).err();
        let expected = if index == 0 {
            matches!(error, Some(Error::Archived { .. }))
        } else {
            matches!(error, Some(Error::Missing { .. }))
        };
        assert!(expected, "{index}: {error:?}");
    }
    let image = storage.kill();
    image.remove(FIRST).unwrap();
    let from = Log::open(image, no_idle_mark(), Lsn(SEGMENT_BYTES)).err();
    assert!(matches!(from, Some(Error::Missing { .. })), "a mark says it is needed: {from:?}");
    let larger = Options { segment_bytes: 2 * SEGMENT_BYTES, ..no_idle_mark() };
    let error = Log::open(storage.kill(), larger, Lsn(0)).err();
    assert!(matches!(error, Some(Error::Format { .. })), "{error:?}");
    let far = Log::open(storage.kill(), no_idle_mark(), Lsn(1 << 40)).err();
    assert!(matches!(far, Some(Error::Missing { .. })), "{far:?}");
    let nothing = Log::open(SimStorage::new(), no_idle_mark(), Lsn(8)).err();
    assert!(matches!(nothing, Some(Error::Missing { .. })), "{nothing:?}");
}

/// The bytes of the marks that stand in a segment, with their offsets.
fn marks(storage: &SimStorage, name: &str) -> Vec<(u64, Vec<u8>)> {
    let segment =
        storage.map(name, SEGMENT_HEADER_BYTES + SEGMENT_BYTES, Mapping::Private).unwrap();
    let words: Vec<u64> = segment.payload().iter().map(|w| w.load(Ordering::Relaxed)).collect();
    let is_mark = |w: &[u64]| w[0] as u32 == 40 && (w[1] >> 48) as u8 == 0xF0;
    let found = words.windows(5).enumerate().filter(|(_, w)| is_mark(w));
    found
        .map(|(at, w)| (at as u64 * 8, w.iter().flat_map(|word| word.to_le_bytes()).collect()))
        .collect()
}

#[test]
fn a_mark_that_a_client_spelled_out_is_not_believed() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), idle_mark(), Lsn(0)).unwrap();
    let first = append(&log, b"first");
    log.wait_blocking(first).unwrap();
    thread::sleep(Duration::from_millis(30));
    drop(log);
    let real = marks(&storage, FIRST).pop().expect("an idle log has its mark").1;
    let log = open(&storage).unwrap();
    busy_with_a_sync(&storage, &log);
    let torn = append(&log, b"torn");
    // A copy of a real mark, and one that says that everything was durable, as bodies.
    append(&log, &real);
    let mut forged = real.clone();
    forged[16..24].copy_from_slice(&(torn.0 + 32).to_le_bytes());
    let last = append(&log, &forged);
    log.wait_blocking(last).unwrap();
    let image = storage.kill();
    image.flip(FIRST, torn.0 + 17, 1);
    let log = open(&image).expect("a tear, since no mark of the log's own covers it");
    assert_eq!(bodies(&log, Lsn(0)).len(), 3);
    assert_eq!(log.appended(), torn);
}

/// What these options allow to be unsynced: a ring of sixteen segments, that is two for the unsynced
/// window, three that are ready and four, and then the next power of two.
const WINDOW: u64 = 16 * SEGMENT_BYTES;

/// A log that ends in the group after the one of `end`; its marks below `unmarked` are damaged.
fn long_log(end: u64, unmarked: u64) -> SimStorage {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), no_idle_mark(), Lsn(0)).unwrap();
    while log.appended().0 < end {
        append(&log, &[5; 100]);
    }
    for _ in 0..2 {
        log.wait_blocking(append(&log, &[5; 100])).unwrap();
    }
    let image = storage.kill();
    drop(log);
    let mut names = image.list().unwrap();
    names.retain(|name| name.ends_with(".log"));
    for (index, name) in names.iter().enumerate() {
        let base = index as u64 * SEGMENT_BYTES;
        for (offset, _) in marks(&image, name) {
            if base + offset < unmarked {
                image.flip(name, offset + 20, 1);
            }
        }
    }
    image
}

#[test]
fn records_further_away_than_the_window_are_rot_without_any_mark() {
    let image = long_log(WINDOW + 2 * SEGMENT_BYTES, u64::MAX);
    let error = open(&image).err();
    assert!(matches!(error, Some(Error::Rotted { .. })), "{error:?}");
}

/// Found by reading: marks were looked for up to the window's last byte, and records behind it only at
/// the begin of a segment, so a mark in the rest of the window's last segment was overlooked.
#[test]
fn a_mark_in_the_segment_where_the_window_ends_is_found() {
    let end = WINDOW + SEGMENT_BYTES * 3 / 4;
    let image = long_log(end, WINDOW + SEGMENT_BYTES / 2);
    let error = open(&image).err();
    assert!(matches!(error, Some(Error::Rotted { .. })), "{error:?}");
}

/// Found by reading: each ticket asks whether the window has room for it alone, and 32 that were out
/// at once wrote twice as far as the headers said. Where the far end survived a loss of power and what
/// lay before it did not, the start was refused as rot, though nothing acknowledged was missing.
#[test]
fn a_tear_is_cut_however_many_tickets_were_out_at_once() {
    let options =
        Options { unsynced_bytes_max: SEGMENT_BYTES, ready_segments: 8, ..no_idle_mark() };
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), options.clone(), Lsn(0)).unwrap();
    let acknowledged = append(&log, b"acknowledged");
    busy_with_a_sync(&storage, &log);
    let begin = log.appended();
    let mut draft = Draft::new();
    draft.begin(1, 1, 42).extend([5; 4000]);
    draft.seal();
    let ticket = || log.ticket(RoomClass::New, draft.bytes(), 0).unwrap();
    let tickets: Vec<_> = (0..24).map(|_| ticket()).collect();
    let last = tickets.into_iter().map(|ticket| ticket.append(&draft)).last().unwrap();
    assert!(last.0 - begin.0 > 4 * options.unsynced_bytes_max);
    let far = format!("{:016x}.log", last.0 / SEGMENT_BYTES);
    let images: Vec<_> = (0..40).map(|seed| storage.crash(seed)).collect();
    assert!(log.durable() <= begin, "nothing of it was acknowledged when the images were taken");
    storage.set_sync_delay(Duration::ZERO);
    let mut torn_before_the_far_end = 0;
    for image in images {
        let far = image.map(&far, SEGMENT_HEADER_BYTES + SEGMENT_BYTES, Mapping::Private).unwrap();
        let survived = far.payload()[0].load(Ordering::Relaxed) != 0;
        let log = Log::open(image, options.clone(), Lsn(0)).expect("a tear is cut");
        assert!(log.appended() > acknowledged);
        torn_before_the_far_end += u32::from(survived && log.appended() < last);
    }
    assert!(torn_before_the_far_end > 4, "{torn_before_the_far_end}");
}

#[test]
fn recovery_that_fails_half_way_finds_the_same_the_next_time() {
    let (storage, places) = one_group(50);
    storage.flip(FIRST, places[20].0 + 17, 4);
    // Opening syncs the directory, removes the segments behind one by one, syncs what it cut, what it
    // rewrote, and the directory.
    let segments = storage.list().unwrap().iter().filter(|name| name.ends_with(".log")).count();
    let syncs = 1 + segments as u64 - 1 + 3;
    for fails_at in 0..syncs + 3 {
        for seed in 0..20 {
            let image = storage.kill();
            image.fail_sync(fails_at);
            let opened = open(&image);
            assert!(opened.is_err() || fails_at >= syncs, "sync {fails_at} failed and it opened");
            drop(opened);
            let after = if seed == 0 { image.kill() } else { image.crash(seed) };
            let log = open(&after).unwrap();
            assert_eq!(
                bodies(&log, Lsn(0)).len(),
                BEFORE + 20,
                "sync {fails_at} failed, seed {seed}"
            );
        }
    }
}

#[test]
fn a_reader_that_meets_rot_says_where() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), idle_mark(), Lsn(0)).unwrap();
    let first = append(&log, b"first");
    let second = append(&log, b"second");
    log.wait_blocking(second).unwrap();
    storage.flip(FIRST, second.0 + 16, 1);
    let mut reader = log.reader(first).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().body, b"first");
    let error = reader.next().err();
    assert!(matches!(error, Some(Error::Rotted { lsn, .. }) if lsn == second), "{error:?}");
    assert!(matches!(log.read_at(second), Err(Error::NoRecord { .. })));
}

#[test]
fn a_replay_that_begins_behind_the_last_mark_finds_nothing_missing() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), idle_mark(), Lsn(0)).unwrap();
    let mut last = Lsn(0);
    while last.0 < 3 * SEGMENT_BYTES {
        last = append(&log, &[5; 100]);
    }
    log.wait_blocking(last).unwrap();
    log.release_before(log.durable());
    while log.oldest() == Lsn(0) {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(100));
    let end = log.appended();
    assert_eq!(end, log.durable());
    let again = Log::open(storage.kill(), no_idle_mark(), end).unwrap();
    assert_eq!(again.appended(), end);
    assert_eq!(bodies(&again, end).len(), 0);
}
