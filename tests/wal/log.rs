//! The log as its users see it, on real files and on the simulated disk.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use holdfast::{
    model::Lsn,
    wal::{
        Ack, Draft, Error, FileStorage, Log, NoRoom, Options, Poisoned, RoomClass, Storage,
        sim::SimStorage,
    },
};

const KIB: u64 = 1024;

fn small() -> Options {
    Options {
        segment_bytes: 64 * KIB,
        budget_bytes: 4096 * KIB,
        unsynced_bytes_max: 256 * KIB,
        room_wait_ms_max: 2000,
        // Here it is about the log alone, which may let go as fast as it is written.
        archive: None,
        ..Options::default()
    }
}

fn append<S: Storage>(log: &Log<S>, draft: &mut Draft, body: &[u8]) -> Lsn {
    draft.begin(1, 1, 42).extend(body);
    draft.seal();
    log.ticket(RoomClass::New, draft.bytes(), 0).unwrap().append(draft)
}

fn read_all<S: Storage>(log: &Log<S>) -> Vec<(Lsn, Vec<u8>)> {
    let mut reader = log.reader(log.oldest()).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        assert_eq!((record.kind, record.version, record.time_ms), (1, 1, 42));
        assert_eq!(record.body.as_ptr() as usize % 8, 0);
        records.push((record.lsn, record.body.to_vec()));
    }
    records
}

fn body(number: u64) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(8 + (number % 97) as usize, number as u8);
    body
}

#[test]
fn what_was_appended_is_read_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let storage = FileStorage::new(dir.path()).unwrap();
    let log = Log::open(storage, small(), Lsn(0)).unwrap();
    let incarnation = log.incarnation();
    let mut draft = Draft::new();
    let mut written = Vec::new();
    for number in 0..5000 {
        written.push((append(&log, &mut draft, &body(number)), body(number)));
    }
    log.wait_blocking(written.last().unwrap().0).unwrap();
    assert_eq!(read_all(&log), written);
    let some = &written[777];
    assert_eq!(log.read_at(some.0).unwrap().record().body, some.1);
    assert!(matches!(log.read_at(Lsn(some.0.0 + 8)), Err(Error::NoRecord { .. })));
    log.close().unwrap();
    log.close().unwrap();
    assert!(matches!(log.ticket(RoomClass::New, 64, 0), Err(NoRoom::Poisoned)));
    assert_eq!(log.poisoned(), Some(Poisoned::Closed));
    drop(log);
    let storage = FileStorage::new(dir.path()).unwrap();
    let log = Log::open(storage, small(), Lsn(0)).unwrap();
    assert_eq!(log.incarnation(), incarnation);
    assert_eq!(read_all(&log), written);
    let next = append(&log, &mut draft, b"next");
    log.wait_durable_blocking(next).unwrap();
    assert_eq!(read_all(&log).last().unwrap(), &(next, b"next".to_vec()));
}

#[test]
fn many_threads_append_and_every_record_is_there_once() {
    for ack in [Ack::Disk, Ack::Memory] {
        let dir = tempfile::tempdir().unwrap();
        let storage = FileStorage::new(dir.path()).unwrap();
        let log = Log::open(storage, Options { ack, ..small() }, Lsn(0)).unwrap();
        let mut written: Vec<(Lsn, Vec<u8>)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4u64)
                .map(|thread| {
                    let log = log.clone();
                    scope.spawn(move || {
                        let mut draft = Draft::new();
                        let mut written = Vec::new();
                        for number in 0..4000 {
                            let body = body(number * 4 + thread);
                            written.push((append(&log, &mut draft, &body), body));
                            if number % 500 == 0 {
                                log.wait_blocking(written.last().unwrap().0).unwrap();
                                assert!(log.is_acked(written.last().unwrap().0));
                            }
                        }
                        log.wait_blocking(written.last().unwrap().0).unwrap();
                        written
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        written.sort();
        log.wait_durable_blocking(written.last().unwrap().0).unwrap();
        assert_eq!(read_all(&log), written);
        assert_eq!(log.stats().closing_bytes, 0);
    }
}

#[test]
fn released_segments_are_recycled_and_their_records_never_come_back() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), small(), Lsn(0)).unwrap();
    let mut draft = Draft::new();
    let mut last = Lsn(0);
    for number in 0..60_000u64 {
        last = append(&log, &mut draft, &body(number));
        if number % 100 == 0 {
            log.release_before(log.durable());
        }
    }
    log.wait_blocking(last).unwrap();
    let stats = log.stats();
    assert!(stats.segments_recycled > 10, "{stats:?}");
    assert!(log.oldest() > Lsn(0));
    assert!(matches!(log.reader(Lsn(0)), Err(Error::Archived { .. })));
    let records = read_all(&log);
    log.close().unwrap();
    let oldest = log.oldest();
    drop(log);
    let again = Log::open(storage.crash(1), small(), oldest).unwrap();
    assert_eq!(read_all(&again), records);
    assert!(matches!(Log::open(storage.crash(1), small(), Lsn(0)), Err(Error::Archived { .. })));
}

#[test]
fn a_pinned_segment_is_not_recycled() {
    let storage = SimStorage::new();
    let log = Log::open(storage, small(), Lsn(0)).unwrap();
    let mut draft = Draft::new();
    let first = append(&log, &mut draft, b"first");
    log.wait_blocking(first).unwrap();
    let pinned = log.read_at(first).unwrap();
    let mut last = first;
    for number in 0..5_000u64 {
        last = append(&log, &mut draft, &body(number));
    }
    log.wait_blocking(last).unwrap();
    log.release_before(last);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(log.oldest(), Lsn(0));
    assert_eq!(pinned.record().body, b"first");
    drop(pinned);
    let begun = Instant::now();
    while log.oldest() == Lsn(0) {
        assert!(begun.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whole segments may go, of which nobody needs anything, from the moment that it is said: also where one is still
/// held and can be read. All the others stay, however much is written behind them.
#[test]
fn what_is_released_may_go_and_nothing_else_does() {
    let log = Log::open(SimStorage::new(), small(), Lsn(0)).unwrap();
    let mut draft = Draft::new();
    let mut write = |records: u64| {
        let lsns: Vec<_> = (0..records).map(|n| append(&log, &mut draft, &body(n))).collect();
        log.wait_blocking(*lsns.last().unwrap()).unwrap();
        lsns
    };
    let segment = small().segment_bytes;
    let written = write(8_000);
    assert!(written.last().unwrap().0 > 8 * segment);
    assert_eq!((log.released(), log.oldest()), (Lsn(0), Lsn(0)));
    let held = log.read_at(written[0]).unwrap();
    for in_segment in [3, 5] {
        let of = |lsn: &&Lsn| lsn.0 / segment == in_segment;
        let needed = *written.iter().filter(of).nth(10).unwrap();
        log.release_before(needed);
        assert_eq!(log.released(), Lsn(in_segment * segment), "at once, by whole segments");
        assert_eq!(log.oldest(), Lsn(0), "it is held");
    }
    // What is needed once more does not come back, and what is not durable yet is not let go.
    log.release_before(written[0]);
    assert_eq!(log.released(), Lsn(5 * segment));
    drop(held);
    let begun = Instant::now();
    while log.oldest() < log.released() {
        assert!(begun.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(5));
    }
    let more = write(8_000);
    thread::sleep(Duration::from_millis(300));
    assert_eq!((log.oldest(), log.released()), (Lsn(5 * segment), Lsn(5 * segment)));
    for lsn in written.iter().filter(|lsn| lsn.0 >= 5 * segment) {
        assert!(log.read_at(*lsn).is_ok(), "{lsn}");
    }
    log.release_before(Lsn(u64::MAX));
    assert!(log.released() <= log.durable());
    assert!(log.released().0 + segment > more.last().unwrap().0);
}

/// Fills a log with records that set closing room aside; returns how many were granted, and checks
/// that closing and delivery still go through, to the last byte that was set aside.
fn fill<S: Storage>(log: &Log<S>) -> u64 {
    let mut draft = Draft::new();
    let closing = 128;
    let mut granted = 0u64;
    let refused = loop {
        draft.begin(1, 1, 42).extend(body(granted));
        draft.seal();
        match log.ticket(RoomClass::New, draft.bytes(), closing) {
            Ok(ticket) => ticket.append(&draft),
            Err(refused) => break refused,
        };
        granted += 1;
    };
    assert_eq!(refused, NoRoom::Full);
    assert!(log.stats().closing_bytes >= granted * closing);
    draft.begin(2, 1, 42).extend([2; 80]);
    draft.seal();
    // Half of delivery's reserve; the marks of the groups may take from it too.
    for _ in 0..64 * KIB / draft.bytes() as u64 {
        log.ticket(RoomClass::Delivery, draft.bytes(), 0).unwrap().append(&draft);
    }
    draft.begin(3, 1, 42).extend([3; 112]);
    draft.seal();
    assert_eq!(draft.bytes(), 128);
    let mut last = Lsn(0);
    for number in 0..granted {
        let ticket = log.ticket(RoomClass::Closing, draft.bytes(), 0);
        last = ticket
            .unwrap_or_else(|refused| panic!("{number} of {granted}: {refused}"))
            .append(&draft);
        log.give_back(closing);
    }
    log.wait_blocking(last).unwrap();
    assert_eq!(log.ticket(RoomClass::New, 4096, 1 << 20).err(), Some(NoRoom::Full));
    granted
}

#[test]
fn a_spent_budget_refuses_new_work_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(FileStorage::new(dir.path()).unwrap(), small(), Lsn(0)).unwrap();
    let granted = fill(&log);
    assert!(granted > 5_000, "{granted}");
    // Once there is room again, new work is taken again.
    log.release_before(log.durable());
    let begun = Instant::now();
    while log.ticket(RoomClass::New, 4096, 1 << 20).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_full_disk_refuses_new_work_and_nothing_else() {
    let storage = SimStorage::new();
    storage.set_space(Some(20 * 65 * KIB));
    let options = Options { budget_bytes: 1 << 30, ..small() };
    let log = Log::open(storage.clone(), options, Lsn(0)).unwrap();
    let granted = fill(&log);
    assert!(granted > 1_000, "{granted}");
    assert_eq!(log.poisoned(), None);
    storage.set_space(None);
    let begun = Instant::now();
    while log.ticket(RoomClass::New, 4096, 1 << 20).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn nothing_is_acknowledged_after_a_failed_sync() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), small(), Lsn(0)).unwrap();
    let mut draft = Draft::new();
    let good = append(&log, &mut draft, b"good");
    log.wait_blocking(good).unwrap();
    thread::sleep(Duration::from_millis(200));
    let durable = log.durable();
    storage.fail_sync(0);
    let bad = append(&log, &mut draft, b"bad");
    assert!(matches!(log.wait_blocking(bad), Err(Poisoned::Sync(_))));
    assert!(log.wait_blocking(good).is_ok(), "it was on the disk before");
    assert!(matches!(log.ticket(RoomClass::Closing, 64, 0), Err(NoRoom::Poisoned)));
    assert_eq!(log.durable(), durable);
    assert!(log.close().is_err());
    drop(log);
    // A killed process: memory holds the record as clean, the disk may not have it. Opening must not
    // trust what it reads before it has written it again.
    let killed = storage.kill();
    let log = Log::open(killed.clone(), small(), Lsn(0)).unwrap();
    let found = read_all(&log);
    drop(log);
    for seed in 0..20 {
        let log = Log::open(killed.crash(seed), small(), Lsn(0)).unwrap();
        assert_eq!(read_all(&log), found);
    }
}

#[test]
fn a_segment_is_recycled_only_once_the_mark_that_frees_it_is_durable() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), small(), Lsn(0)).unwrap();
    let mut draft = Draft::new();
    let mut last = Lsn(0);
    while last.0 < 3 * 64 * KIB {
        last = append(&log, &mut draft, &[1; 200]);
    }
    log.wait_blocking(last).unwrap();
    thread::sleep(Duration::from_millis(300));
    storage.set_sync_delay(Duration::from_millis(300));
    let from = log.durable();
    log.release_before(from);
    let begun = Instant::now();
    while log.oldest() == Lsn(0) {
        assert!(begun.elapsed() < Duration::from_secs(5));
        thread::yield_now();
    }
    for seed in 0..20 {
        Log::open(storage.crash(seed), small(), from).unwrap();
    }
}

#[test]
fn tickets_wait_for_a_segment_that_is_not_ready() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), small(), Lsn(0)).unwrap();
    thread::sleep(Duration::from_millis(50));
    storage.set_make_delay(Duration::from_millis(60));
    let mut draft = Draft::new();
    let mut written = Vec::new();
    for number in 0..20_000 {
        written.push((append(&log, &mut draft, &body(number)), body(number)));
    }
    log.wait_blocking(written.last().unwrap().0).unwrap();
    assert_eq!(read_all(&log), written);
    assert!(log.stats().room_waits > 0);
    storage.set_make_delay(Duration::from_secs(1));
    let impatient = Options { room_wait_ms_max: 20, budget_bytes: 1 << 30, ..small() };
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), impatient, Lsn(0)).unwrap();
    storage.set_make_delay(Duration::from_secs(1));
    let refused = (0..100_000).find_map(|_| {
        draft.begin(1, 1, 1).extend([0; 500]);
        draft.seal();
        match log.ticket(RoomClass::New, draft.bytes(), 0) {
            Ok(ticket) => {
                ticket.append(&draft);
                None
            }
            Err(refused) => Some(refused),
        }
    });
    assert_eq!(refused, Some(NoRoom::Busy));
}

#[test]
fn an_unused_ticket_gives_everything_back() {
    let log = Log::open(SimStorage::new(), small(), Lsn(0)).unwrap();
    thread::sleep(Duration::from_millis(100));
    let before = log.stats();
    drop(log.ticket(RoomClass::New, 1000, 5000).unwrap());
    assert_eq!(log.stats().free_bytes, before.free_bytes);
    let mut draft = Draft::new();
    draft.begin(1, 1, 1).extend([1; 48]);
    draft.seal();
    log.ticket(RoomClass::New, 1000, 500).unwrap().append(&draft);
    assert_eq!(log.stats().closing_bytes, 500);
    log.give_back(500);
    log.set_aside(77);
    assert_eq!(log.stats().closing_bytes, 77);
}

#[tokio::test]
async fn waiting_can_be_dropped_and_many_wait_at_once() {
    let storage = SimStorage::new();
    storage.set_sync_delay(Duration::from_millis(2));
    let log = Log::open(storage.clone(), small(), Lsn(0)).unwrap();
    let mut draft = Draft::new();
    let mut tasks = Vec::new();
    for number in 0..500u64 {
        let lsn = append(&log, &mut draft, &body(number));
        let log = log.clone();
        tasks.push(tokio::spawn(async move {
            if number % 3 == 0 {
                let _ = tokio::time::timeout(Duration::from_micros(10), log.wait(lsn)).await;
            }
            log.wait(lsn).await.unwrap();
            assert!(log.is_acked(lsn));
            log.wait_durable(lsn).await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let waits = tokio::spawn({
        let log = log.clone();
        async move { log.wait_poisoned().await }
    });
    storage.fail_sync(0);
    append(&log, &mut draft, b"bad");
    assert!(matches!(waits.await.unwrap(), Poisoned::Sync(_)));
}

#[test]
fn an_idle_log_names_its_last_position_and_then_rests() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), small(), Lsn(0)).unwrap();
    let lsn = append(&log, &mut Draft::new(), b"only");
    log.wait_blocking(lsn).unwrap();
    thread::sleep(Duration::from_millis(300));
    let (durable, syncs) = (log.durable(), storage.syncs());
    thread::sleep(Duration::from_millis(300));
    assert_eq!((log.durable(), storage.syncs()), (durable, syncs), "an idle log rests");
    // Rot in what the idle mark covers is found.
    drop(log);
    storage.flip("0000000000000000.log", lsn.0 + 17, 1);
    assert!(matches!(Log::open(storage, small(), Lsn(0)), Err(Error::Rotted { .. })));
}

#[test]
fn memory_acknowledges_a_lone_caller_without_a_sync() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), Options { ack: Ack::Memory, ..small() }, Lsn(0)).unwrap();
    thread::sleep(Duration::from_millis(200));
    storage.set_sync_delay(Duration::from_secs(1));
    let mut draft = Draft::new();
    let begun = Instant::now();
    for number in 0..100 {
        let lsn = append(&log, &mut draft, &body(number));
        log.wait_blocking(lsn).unwrap();
        assert!(log.is_acked(lsn) && log.published() > lsn);
    }
    assert!(begun.elapsed() < Duration::from_millis(900));
    let last = append(&log, &mut draft, b"last");
    assert_eq!(log.wait_durable_timeout(last, Duration::from_millis(20)), Ok(false));
    assert_eq!(log.wait_durable_timeout(last, Duration::from_secs(10)), Ok(true));
}

#[test]
fn the_follower_sees_only_what_is_durable() {
    let log = Log::open(SimStorage::new(), small(), Lsn(0)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let follower = thread::spawn({
        let (log, stop) = (log.clone(), stop.clone());
        move || {
            let mut reader = log.reader(Lsn(0)).unwrap();
            let mut next = 0u64;
            loop {
                let done = stop.load(Ordering::Acquire);
                while let Some(record) = reader.next().unwrap() {
                    assert!(record.lsn < log.durable());
                    assert_eq!(record.body, body(next));
                    next += 1;
                }
                if done {
                    return next;
                }
                let _ = log.wait_durable_timeout(reader.position(), Duration::from_millis(1));
            }
        }
    });
    let mut draft = Draft::new();
    let mut last = Lsn(0);
    for number in 0..10_000 {
        last = append(&log, &mut draft, &body(number));
    }
    log.wait_blocking(last).unwrap();
    stop.store(true, Ordering::Release);
    assert_eq!(follower.join().unwrap(), 10_000);
}
