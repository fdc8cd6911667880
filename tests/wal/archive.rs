//! The archive: what the log lets go is in it, whatever happens at whatever step; what is in it is what was
//! in the log, or an error.

use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use holdfast::{
    model::{Lsn, Timestamp},
    wal::{
        Draft, Error, FileStorage, Log, NoRoom, Options, RoomClass, Storage,
        archive::{ArchiveOptions, ArchiveStats, LOOK_BACK_SEGMENTS_MAX, UNPACKED_SEGMENTS_MAX},
        backup::{Folder, Piece, restore},
        inspect::inspect_with,
        sim::SimStorage,
    },
};

const KIB: u64 = 1024;
const SEGMENT: u64 = 16 * KIB;
const PATIENCE: Duration = Duration::from_secs(30);

pub fn options() -> Options {
    Options {
        segment_bytes: SEGMENT,
        budget_bytes: 40 * (SEGMENT + 4 * KIB),
        order_reserve_bytes: 0,
        delivery_reserve_bytes: 2 * SEGMENT,
        unsynced_bytes_max: 64 * KIB,
        ready_segments: 1,
        room_wait_ms_max: 5_000,
        idle_mark_ms: 1,
        // The times of these records are long past.
        archive: Some(ArchiveOptions { horizon_ms: u64::MAX, ..ArchiveOptions::default() }),
        ..Options::default()
    }
}

pub fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub type Written = BTreeMap<u64, Vec<u8>>;

/// Appends records until `segments` more are full; they are durable then.
pub fn fill<S: Storage>(log: &Log<S>, segments: u64, written: &mut Written) {
    let (mut draft, end) = (Draft::new(), log.appended().0 / SEGMENT + segments);
    while log.appended().0 / SEGMENT < end {
        let number = written.len() as u64;
        let body = [&number.to_le_bytes()[..], &[number as u8; 232]].concat();
        draft.begin(7, 1, 1_000 + number).extend(&body);
        draft.seal();
        let lsn = log.ticket(RoomClass::New, draft.bytes(), 0).unwrap().append(&draft);
        written.insert(lsn.0, body);
    }
    log.wait_durable_blocking(Lsn(*written.keys().last().unwrap())).unwrap();
}

fn archive<S: Storage>(log: &Log<S>) -> ArchiveStats {
    log.stats().archive.expect("it has an archive")
}

fn oldest_segment<S: Storage>(log: &Log<S>) -> u64 {
    log.oldest().0 / SEGMENT
}

/// Every record is in the log or in its archive, as it was written.
fn all_there<S: Storage>(log: &Log<S>, written: &Written, what: &str) {
    let mut back = log.look_back();
    for (lsn, body) in written {
        back.go_on();
        match back.read_at(Lsn(*lsn)) {
            Ok(pinned) => assert_eq!(pinned.record().body, body, "{what}: {lsn}"),
            Err(error) => panic!("{what}: {lsn} of a log from {}: {error}", log.oldest()),
        }
    }
}

/// A log of which all but the last segment is archived and recycled.
fn let_go(log: &Log<SimStorage>, segments: u64) -> Written {
    let mut written = Written::new();
    fill(log, segments, &mut written);
    log.release_before(log.durable());
    until("all is let go", || oldest_segment(log) >= segments);
    written
}

#[test]
fn what_the_log_lets_go_is_in_the_archive() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), options(), Lsn(0)).unwrap();
    let written = let_go(&log, 10);
    all_there(&log, &written, "let go");
    let stats = archive(&log);
    assert_eq!((stats.segments, stats.archived, stats.failures), (10, 10, 0), "{stats:?}");
    assert_eq!((stats.begin, stats.end, log.archive_oldest()), (Lsn(0), Lsn(10 * SEGMENT), Lsn(0)));
    assert_eq!((stats.bytes_in, stats.bytes_out), (10 * SEGMENT, stats.bytes));
    assert!(stats.bytes < 10 * SEGMENT / 2, "{stats:?}");
    let life = log.incarnation();
    assert_eq!(log.incarnation_at(Lsn(8)), life);
    // Another start knows it, and archives nothing twice.
    let from = log.oldest();
    log.close().unwrap();
    drop(log);
    let log = Log::open(storage, options(), from).unwrap();
    assert_eq!(archive(&log).begin, Lsn(0));
    all_there(&log, &written, "opened again");
    until("the bound of the next", || archive(&log).end >= Lsn(10 * SEGMENT));
    assert_eq!(archive(&log).archived, 0);
    assert!(matches!(log.read_at(Lsn(8)), Err(Error::Archived { .. })), "the log itself has not");
}

#[test]
fn full_segments_are_archived_although_the_log_still_has_them() {
    let log = Log::open(SimStorage::new(), options(), Lsn(0)).unwrap();
    let mut written = Written::new();
    fill(&log, 3, &mut written);
    until("three are archived", || archive(&log).archived == 3);
    assert_eq!((log.oldest(), archive(&log).waiting), (Lsn(0), 0));
}

#[test]
fn with_no_archive_segments_are_recycled_and_gone() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), Options { archive: None, ..options() }, Lsn(0)).unwrap();
    let_go(&log, 5);
    assert!(log.stats().archive.is_none());
    assert!(storage.archive_folder().list().unwrap().is_empty());
    let gone = log.look_back().read_at(Lsn(0));
    assert!(matches!(gone, Err(Error::Archived { .. })));
}

/// Power is lost before each step of archiving and recycling three segments: writes, syncs, names.
#[test]
fn at_whatever_step_power_is_lost_every_record_is_in_the_log_or_in_the_archive() {
    let (mut steps, mut archived, mut recycled) = (0, 0, 0);
    for step in 0.. {
        let storage = SimStorage::new();
        let none = Options { archive: None, ..options() };
        let log = Log::open(storage.clone(), none, Lsn(0)).unwrap();
        let mut written = Written::new();
        fill(&log, 3, &mut written);
        drop(log);
        let from = Lsn(3 * SEGMENT);
        storage.lose_power_before(step, step * 7919 + 1);
        let log = Log::open(storage.clone(), options(), from).unwrap();
        log.release_before(from);
        until("all is let go", || oldest_segment(&log) >= 3);
        drop(log);
        let Some(image) = storage.left_by_loss_of_power() else { break };
        // Twice: what is found after the first crash may be lost at any moment too.
        for (nth, image) in [image.crash(step), image].into_iter().enumerate() {
            let log = Log::open(image.clone(), options(), from).unwrap_or_else(|e| panic!("{e}"));
            all_there(&log, &written, &format!("step {step}, image {nth}"));
            archived += u64::from(archive(&log).segments > 0);
            recycled += u64::from(oldest_segment(&log) > 0);
            // And it goes on from there.
            log.release_before(from);
            until("all is let go after all", || oldest_segment(&log) >= 3);
            all_there(&log, &written, &format!("step {step}, image {nth}, gone on"));
        }
        steps = step;
    }
    assert!(steps > 20 && archived > 5 && recycled > 2, "{steps} {archived} {recycled}");
}

#[test]
fn an_archive_that_can_not_be_written_keeps_the_log_until_it_can() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), options(), Lsn(0)).unwrap();
    storage.archive_folder().set_space(Some(100));
    let mut written = Written::new();
    fill(&log, 5, &mut written);
    log.release_before(log.durable());
    until("it fails", || archive(&log).failures > 0);
    assert_eq!((archive(&log).failing, archive(&log).segments), (1, 0));
    until("all of them wait", || archive(&log).waiting >= 5);
    // The log's own limit does what it does, and no record is lost for it.
    let full = loop {
        let mut draft = Draft::new();
        draft.begin(7, 1, 1).extend([0; 4000]);
        draft.seal();
        match log.ticket(RoomClass::New, draft.bytes(), 0) {
            Ok(ticket) => drop(ticket.append(&draft)),
            Err(NoRoom::Busy) => {}
            Err(other) => break other,
        }
    };
    assert_eq!((full, oldest_segment(&log)), (NoRoom::Full, 0));
    all_there(&log, &written, "full");
    storage.archive_folder().set_space(None);
    until("it is tried again", || oldest_segment(&log) >= 5);
    assert_eq!(archive(&log).failing, 0);
    all_there(&log, &written, "after all");
    until("nothing is left half done", || {
        let names = storage.archive_folder().list().unwrap();
        names.iter().all(|name| name.ends_with(".log.lz4"))
    });
}

#[test]
fn a_failed_sync_of_the_archive_is_not_the_logs() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), options(), Lsn(0)).unwrap();
    storage.archive_folder().fail_sync(0);
    let written = let_go(&log, 3);
    assert!(archive(&log).failures > 0 && log.poisoned().is_none());
    all_there(&log, &written, "tried again");
    // What the failed sync left behind is on the disk nowhere but in the new file.
    let image = storage.crash(3);
    let from = log.oldest();
    drop(log);
    let log = Log::open(image, options(), from).unwrap();
    all_there(&log, &written, "after a loss of power");
}

#[test]
fn the_oldest_go_first_when_the_bound_is_met_and_when_their_time_is_over() {
    let bound =
        ArchiveOptions { bytes_max: 3 * (SEGMENT + 5 * KIB), horizon_ms: u64::MAX, dir: None };
    let storage = SimStorage::new();
    let options = |archive| Options { archive: Some(archive), ..options() };
    let log = Log::open(storage.clone(), options(bound.clone()), Lsn(0)).unwrap();
    let mut written = let_go(&log, 20);
    fill(&log, 20, &mut written);
    log.release_before(log.durable());
    until("all is let go", || oldest_segment(&log) >= 40);
    let stats = archive(&log);
    assert!(stats.bytes <= bound.bytes_max && stats.removed > 0, "{stats:?}");
    assert_eq!(stats.segments + stats.removed, 40);
    assert_eq!(stats.begin, Lsn(stats.removed * SEGMENT));
    let mut back = log.look_back();
    assert!(matches!(back.read_at(Lsn(0)), Err(Error::Archived { .. })));
    let last = written.range(39 * SEGMENT..).next().unwrap();
    assert_eq!(back.read_at(Lsn(*last.0)).unwrap().record().body, last.1);
    let from = log.oldest();
    drop(log);
    let aged = ArchiveOptions { horizon_ms: 1, ..ArchiveOptions::default() };
    let log = Log::open(storage.clone(), options(aged), from).unwrap();
    until("all are removed", || archive(&log).segments == 0);
    assert!(storage.archive_folder().list().unwrap().is_empty());
}

#[test]
fn a_look_back_unpacks_so_much_and_no_more() {
    let segments = u64::from(LOOK_BACK_SEGMENTS_MAX) + 1;
    let log = Log::open(SimStorage::new(), options(), Lsn(0)).unwrap();
    let mut written = Written::new();
    for _ in 0..segments {
        fill(&log, 1, &mut written);
        log.release_before(log.durable());
    }
    until("all is let go", || oldest_segment(&log) >= segments);
    let mut back = log.look_back();
    for (segment, expected) in (0..segments).map(|n| (n, n + 1 < segments)) {
        let first = *written.range(segment * SEGMENT..).next().unwrap().0;
        let read = back.read_at(Lsn(first));
        assert_eq!(read.is_ok(), expected, "{segment}");
        assert_eq!(matches!(read, Err(Error::Archived { .. })), !expected);
    }
    back.go_on();
    assert!(back.read_at(Lsn((segments - 1) * SEGMENT)).is_ok());
    assert!(matches!(back.read_at(Lsn(12)), Err(Error::NoRecord { .. })));
}

#[test]
fn so_many_look_back_at_a_time_and_the_next_is_told_to_wait() {
    let log = Log::open(SimStorage::new(), options(), Lsn(0)).unwrap();
    let_go(&log, 2);
    let mut looking: Vec<_> = (0..UNPACKED_SEGMENTS_MAX).map(|_| log.look_back()).collect();
    for back in &mut looking {
        assert!(back.read_at(Lsn(0)).is_ok());
        assert!(back.read_at(Lsn(SEGMENT)).is_ok(), "each has its place");
    }
    let began = Instant::now();
    assert!(matches!(log.look_back().read_at(Lsn(0)), Err(Error::ArchiveBusy)));
    assert!(began.elapsed() >= Duration::from_secs(4));
    looking.pop();
    assert!(log.look_back().read_at(Lsn(0)).is_ok());
}

/// A closed log on real files, most of it let go.
fn files(dir: &Path, segments: u64) -> Written {
    let log = Log::open(FileStorage::new(dir).unwrap(), options(), Lsn(0)).unwrap();
    let mut written = Written::new();
    fill(&log, segments, &mut written);
    log.release_before(log.durable());
    until("all is let go", || oldest_segment(&log) >= segments);
    log.close().unwrap();
    written
}

fn archived_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("archive")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension() == Some("lz4".as_ref())).collect();
    files.sort();
    files
}

#[test]
fn a_stopped_log_is_read_with_its_archive() {
    let dir = tempfile::tempdir().unwrap();
    let written = files(dir.path(), 4);
    let read = |archive: Option<&Path>| {
        let mut seen = Written::new();
        let inspection = inspect_with(dir.path(), archive, &mut |record| {
            seen.insert(record.lsn.0, record.body.to_vec());
            ControlFlow::Continue(())
        });
        (inspection.unwrap(), seen)
    };
    let folder = dir.path().join("archive");
    let (inspection, seen) = read(Some(&folder));
    assert_eq!(seen, written);
    assert_eq!((inspection.begin, inspection.rot.len()), (Lsn(0), 0));
    assert!(inspection.log_begin >= Lsn(4 * SEGMENT));
    let (inspection, seen) = read(None);
    assert!(seen.len() < written.len() && inspection.begin == inspection.log_begin);
    assert_eq!(read(Some(&dir.path().join("none"))).1, seen);
    // Where one is missing, what is before it is not of the row.
    fs::remove_file(&archived_files(dir.path())[1]).unwrap();
    assert_eq!(read(Some(&folder)).0.begin, Lsn(2 * SEGMENT));
}

#[test]
fn a_damaged_file_is_named_and_nothing_of_it_is_taken_for_a_record() {
    for (what, damage) in [
        (
            "a bit",
            (|bytes| {
                let at = bytes.len() / 2;
                bytes[at] ^= 4
            }) as fn(&mut Vec<u8>),
        ),
        ("a bit of the head", |bytes| bytes[40] ^= 1),
        ("the end", |bytes| bytes.truncate(bytes.len() - 5)),
        ("all", |bytes| bytes.clear()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let written = files(dir.path(), 3);
        let file = archived_files(dir.path())[1].clone();
        let mut bytes = fs::read(&file).unwrap();
        damage(&mut bytes);
        fs::write(&file, bytes).unwrap();
        let mut seen = Written::new();
        let inspection =
            inspect_with(dir.path(), Some(&dir.path().join("archive")), &mut |record| {
                seen.insert(record.lsn.0, record.body.to_vec());
                ControlFlow::Continue(())
            });
        let inspection = inspection.unwrap();
        assert_eq!(inspection.rot.len(), 1, "{what}: {inspection:?}");
        assert_eq!((&inspection.rot[0].file, inspection.rot[0].lsn), (&file, Lsn(SEGMENT)));
        let rest = written.iter().filter(|(lsn, _)| **lsn / SEGMENT != 1);
        assert!(seen.iter().eq(rest), "{what}: the rest is read");
        let from = inspection.log_begin;
        let log = Log::open(FileStorage::new(dir.path()).unwrap(), options(), from).unwrap();
        let mut back = log.look_back();
        let error = back.read_at(Lsn(SEGMENT)).err().expect("it is not told");
        assert!(matches!(error, Error::Archive { .. } | Error::Archived { .. }), "{what}: {error}");
        assert!(back.read_at(Lsn(2 * SEGMENT)).is_ok(), "{what}");
    }
}

/// A data directory that was copied back by hand has other records under a name that is archived already.
#[test]
fn a_log_that_was_set_back_does_not_overwrite_what_is_archived() {
    let storage = SimStorage::new();
    let log = Log::open(storage.clone(), options(), Lsn(0)).unwrap();
    let mut written = Written::new();
    fill(&log, 1, &mut written);
    until("the first is archived", || archive(&log).archived == 1);
    let back = storage.kill();
    fill(&log, 1, &mut written);
    until("the second is archived", || archive(&log).archived == 2);
    let archived = storage.archive_folder();
    drop(log);
    // The log as it was, and the archive as it is.
    for name in archived.list().unwrap() {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut archived.open(&name).unwrap(), &mut bytes).unwrap();
        let mut file = back.archive_folder().create(&name).unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
    }
    let log = Log::open(back, options(), Lsn(0)).unwrap();
    let mut draft = Draft::new();
    for _ in 0..SEGMENT / 128 + 1 {
        draft.begin(8, 1, 9).extend([9; 112]);
        draft.seal();
        let lsn = log.ticket(RoomClass::New, draft.bytes(), 0).unwrap().append(&draft);
        log.wait_durable_blocking(lsn).unwrap();
    }
    until("it is refused", || archive(&log).failing == 1);
    log.release_before(log.durable());
    until("the first is let go", || oldest_segment(&log) == 1);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!((oldest_segment(&log), archive(&log).end), (1, Lsn(SEGMENT)));
}

/// Two files that have each other's names are whole, each for itself.
#[test]
fn a_file_that_is_not_what_its_name_says_is_named_and_nothing_of_it_is_taken_for_another_record() {
    let dir = tempfile::tempdir().unwrap();
    let written = files(dir.path(), 4);
    let log =
        Log::open(FileStorage::new(dir.path()).unwrap(), options(), Lsn(4 * SEGMENT)).unwrap();
    let named = archived_files(dir.path());
    let aside = dir.path().join("aside");
    for (from, to) in [(&named[1], &aside), (&named[2], &named[1]), (&aside, &named[2])] {
        fs::rename(from, to).unwrap();
    }
    // Both by what runs meanwhile and by what starts then.
    let not_told = |log: Log| {
        let mut back = log.look_back();
        for lsn in written.keys().filter(|lsn| [1, 2].contains(&(**lsn / SEGMENT))) {
            let error = back.read_at(Lsn(*lsn)).err().expect("it is not told");
            back.go_on();
            assert!(matches!(error, Error::Archive { .. } | Error::Archived { .. }), "{error}");
        }
        log.close().unwrap();
    };
    let from = log.oldest();
    not_told(log);
    not_told(Log::open(FileStorage::new(dir.path()).unwrap(), options(), from).unwrap());
    let mut seen = Written::new();
    let inspection = inspect_with(dir.path(), Some(&dir.path().join("archive")), &mut |record| {
        seen.insert(record.lsn.0, record.body.to_vec());
        ControlFlow::Continue(())
    });
    let inspection = inspection.unwrap();
    let rot: Vec<_> = inspection.rot.iter().map(|rot| (rot.file.clone(), rot.lsn)).collect();
    assert_eq!(rot, [(named[1].clone(), Lsn(SEGMENT)), (named[2].clone(), Lsn(2 * SEGMENT))]);
    let rest = written.iter().filter(|(lsn, _)| ![1, 2].contains(&(**lsn / SEGMENT)));
    assert!(seen.iter().eq(rest), "the rest is read");
}

/// Everything that a reader reads from a position on.
fn read_from<S: Storage>(log: &Log<S>, from: Lsn, segments_max: u32) -> (Written, Option<Error>) {
    let mut seen = Written::new();
    let mut reader = log.look_back_over(segments_max).reader(from).unwrap();
    let error = loop {
        match reader.next() {
            Ok(Some(record)) => drop(seen.insert(record.lsn.0, record.body.to_vec())),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    (seen, error)
}

#[test]
fn a_reader_that_looks_back_goes_through_the_archive_into_the_log() {
    let log = Log::open(SimStorage::new(), options(), Lsn(0)).unwrap();
    let mut written = let_go(&log, 6);
    let middle = *written.range(3 * SEGMENT..).nth(5).unwrap().0;
    assert!(matches!(log.reader(Lsn(middle)), Err(Error::Archived { .. })));
    fill(&log, 3, &mut written);
    let (seen, error) = read_from(&log, Lsn(0), 6);
    assert!(seen == written && error.is_none(), "{error:?}");
    let (seen, error) = read_from(&log, Lsn(middle), u32::MAX);
    assert!(seen.iter().eq(written.range(middle..)) && error.is_none(), "{error:?}");
    // As far as it may, and then it says so.
    let (seen, error) = read_from(&log, Lsn(0), 2);
    assert!(seen.iter().eq(written.range(..2 * SEGMENT)));
    assert!(matches!(error, Some(Error::Archived { .. })), "{error:?}");
    // One that stands in the log while that is let go reads on; and it holds no place for what it does not read.
    let mut reader = log.look_back().reader(Lsn(middle)).unwrap();
    let mut seen = Written::new();
    while let Some(record) = reader.next().unwrap() {
        seen.insert(record.lsn.0, record.body.to_vec());
        if record.lsn.0 / SEGMENT == 7 {
            break;
        }
    }
    let mut looking: Vec<_> = (0..UNPACKED_SEGMENTS_MAX).map(|_| log.look_back()).collect();
    looking.iter_mut().for_each(|back| drop(back.read_at(Lsn(0)).unwrap()));
    looking.clear();
    fill(&log, 3, &mut written);
    log.release_before(log.durable());
    // The segment in which it stands is not recycled under it.
    until("all before it is let go", || oldest_segment(&log) == 7);
    while let Some(record) = reader.next().unwrap() {
        seen.insert(record.lsn.0, record.body.to_vec());
    }
    assert!(seen.iter().eq(written.range(middle..)));
}

/// Each life was restored of a backup of the one before, which went on: what it archived then under the name of
/// the segment in which the backup ends, and behind it, is lost.
#[test]
fn over_several_lives_the_archive_is_read_as_the_last_one_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("archive");
    let to =
        ArchiveOptions { dir: Some(shared.clone()), horizon_ms: u64::MAX, ..Default::default() };
    let options = Options { archive: Some(to), ..options() };
    let data = |life: u64| folder.path().join(format!("data-{life}"));
    let (mut kept, mut from) = (Written::new(), Lsn(0));
    for life in 0..3 {
        let storage = FileStorage::new(&data(life)).unwrap();
        let log = Log::open(storage, options.clone(), from).unwrap();
        fill(&log, 3, &mut kept);
        let full = log.appended().0 / SEGMENT;
        until("what is full is archived", || archive(&log).end >= Lsn(full * SEGMENT));
        // Not the segment in which the life begins: a log that was restored and never went on has it.
        log.release_before(Lsn((full - 1) * SEGMENT));
        until("it is let go", || oldest_segment(&log) + 1 == full);
        if life == 2 {
            all_there(&log, &kept, "the last life");
            let (seen, error) = read_from(&log, log.archive_oldest(), u32::MAX);
            assert!(seen == kept && error.is_none(), "{error:?}");
            assert_eq!(log.archive_oldest(), Lsn(0));
            log.close().unwrap();
            continue;
        }
        let backup = log.backup(None).unwrap();
        let end = backup.facts().end;
        let to = folder.path().join(format!("backup-{life}"));
        let mut copy = Folder::create(&to, backup.facts().clone()).unwrap();
        let take = &mut |piece: Piece<'_>| copy.take(piece).map_err(std::io::Error::other);
        backup.give(take).unwrap();
        copy.finish("", Timestamp::from_millis(1)).unwrap();
        let mut lost = kept.clone();
        fill(&log, 2, &mut lost);
        let full = log.appended().0 / SEGMENT;
        until("what is lost is archived", || archive(&log).end >= Lsn(full * SEGMENT));
        log.close().unwrap();
        kept.retain(|lsn, _| *lsn < end.0);
        from = restore(&to, &FileStorage::new(&data(life + 1)).unwrap(), None).unwrap().first;
    }
    let mut seen = Written::new();
    let inspection = inspect_with(&data(2), Some(&shared), &mut |record| {
        seen.insert(record.lsn.0, record.body.to_vec());
        ControlFlow::Continue(())
    });
    let inspection = inspection.unwrap();
    assert_eq!((inspection.begin, inspection.rot.len()), (Lsn(0), 0), "{inspection:?}");
    assert!(seen == kept, "no record of what was lost, and all others");
}
