//! A log looked at without opening it: what it tells, and that it changes nothing.

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use holdfast::{
    model::Lsn,
    wal::{
        Draft, Error, FileStorage, Log, Options, RoomClass,
        inspect::{Inspection, inspect},
    },
};

const HEADER_BYTES: u64 = 4096;

fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        budget_bytes: 4 << 20,
        unsynced_bytes_max: 128 << 10,
        archive: None,
        ..Options::default()
    }
}

/// A closed log with so many records of 256 bytes.
fn log_of(dir: &Path, records: u64) -> Vec<Lsn> {
    let log = Log::open(FileStorage::new(dir).unwrap(), options(), Lsn(0)).unwrap();
    let mut draft = Draft::new();
    let mut written = Vec::new();
    for number in 0..records {
        draft.begin(7, 1, number).extend([number as u8; 240]);
        draft.seal();
        let lsn = log.ticket(RoomClass::New, draft.bytes(), 0).unwrap().append(&draft);
        // A group for each tenth, so that there are marks between.
        if number % 10 == 0 {
            log.wait_durable_blocking(lsn).unwrap();
        }
        written.push(lsn);
    }
    log.close().unwrap();
    written
}

fn look(dir: &Path) -> Result<(Inspection, Vec<Lsn>), Error> {
    let mut seen = Vec::new();
    let inspection = inspect(dir, &mut |record| {
        assert_eq!((record.kind, record.body.len()), (7, 240));
        seen.push(record.lsn);
        ControlFlow::Continue(())
    })?;
    Ok((inspection, seen))
}

/// Every file with its content.
fn image(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// The file with a position of the log, and the offset in it.
fn place(dir: &Path, lsn: Lsn) -> (PathBuf, usize) {
    let segment_bytes = options().segment_bytes;
    let file = dir.join(format!("{:016x}.log", lsn.0 / segment_bytes));
    (file, (HEADER_BYTES + lsn.0 % segment_bytes) as usize)
}

fn damage(dir: &Path, lsn: Lsn) {
    let (file, offset) = place(dir, lsn);
    let mut bytes = fs::read(&file).unwrap();
    bytes[offset + 20] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_whole_log_is_counted_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let written = log_of(dir.path(), 1000);
    let before = image(dir.path());
    let (inspection, seen) = look(dir.path()).unwrap();
    assert_eq!(seen, written);
    assert_eq!(inspection.segments.iter().map(|s| s.records).sum::<u64>(), 1000);
    assert_eq!(inspection.segments.iter().map(|s| s.record_bytes).sum::<u64>(), 1000 * 256);
    assert!(inspection.segments.len() > 3);
    assert!(inspection.segments.iter().map(|s| s.marks).sum::<u64>() > 10);
    assert_eq!((inspection.begin, inspection.torn_bytes), (Lsn(0), 0));
    assert!(inspection.rot.is_empty() && inspection.incarnation.is_some());
    assert!(inspection.durable > *written.last().unwrap());
    assert!(inspection.end >= inspection.durable);
    assert_eq!(image(dir.path()), before);
}

#[test]
fn damage_below_a_mark_is_rot_and_all_of_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let written = log_of(dir.path(), 1000);
    let (first, second) = (written[100], written[600]);
    damage(dir.path(), first);
    damage(dir.path(), second);
    let before = image(dir.path());
    let (inspection, seen) = look(dir.path()).unwrap();
    let rot: Vec<_> =
        inspection.rot.iter().map(|r| (r.lsn, r.file.clone(), r.offset as usize)).collect();
    let expected = [first, second].map(|lsn| {
        let (file, offset) = place(dir.path(), lsn);
        (lsn, file, offset)
    });
    assert_eq!(rot, expected);
    assert!(seen.contains(&written[99]) && !seen.contains(&first));
    assert!(seen.contains(written.last().unwrap()));
    assert_eq!(image(dir.path()), before);
    let error = Log::open(FileStorage::new(dir.path()).unwrap(), options(), Lsn(0)).err().unwrap();
    assert!(matches!(error, Error::Rotted { lsn, .. } if lsn == first), "{error}");
}

#[test]
fn what_no_mark_covers_is_a_torn_end() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 100);
    let (whole, _) = look(dir.path()).unwrap();
    let (file, offset) = place(dir.path(), whole.end);
    let mut bytes = fs::read(&file).unwrap();
    bytes[offset..offset + 24].copy_from_slice(&[0x55; 24]);
    fs::write(&file, bytes).unwrap();
    let (torn, seen) = look(dir.path()).unwrap();
    assert_eq!((seen.len(), torn.end, torn.torn_bytes), (100, whole.end, 24));
    assert!(torn.rot.is_empty());
    // The next start agrees.
    let log = Log::open(FileStorage::new(dir.path()).unwrap(), options(), Lsn(0)).unwrap();
    assert_eq!(log.appended(), whole.end);
}

#[test]
fn a_look_can_be_ended_early() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 100);
    let mut seen = 0;
    inspect(dir.path(), &mut |_| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(seen, 3);
}

#[test]
fn what_is_no_log_or_in_use_is_refused_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let error = look(dir.path()).unwrap_err().to_string();
    assert!(error.contains("there is no log in"), "{error}");
    assert!(image(dir.path()).is_empty());
    let log = Log::open(FileStorage::new(dir.path()).unwrap(), options(), Lsn(0)).unwrap();
    assert!(matches!(look(dir.path()), Err(Error::Locked { .. })));
    log.close().unwrap();
    drop(log);
    assert!(look(dir.path()).is_ok());
}

#[test]
fn a_missing_segment_is_named() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 1000);
    let gone = place(dir.path(), Lsn(64 << 10)).0;
    fs::remove_file(&gone).unwrap();
    let error = look(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Missing { lsn: Lsn(65536), .. }), "{error}");
    assert!(error.to_string().contains(gone.to_str().unwrap()), "{error}");
}
