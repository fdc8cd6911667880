//! A backup brought forward by what was archived since, and by what the lost log still had: every record up to
//! the end or to the moment that was named, and nothing behind a gap or a damage unasked.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use holdfast::{
    model::{Lsn, Timestamp},
    wal::{
        Error, FileStorage, Log, Options,
        backup::{Folder, Forward, Piece, Restored, Until, restore},
    },
};

use super::archive::{Written, fill, options, until};

const SEGMENT: u64 = 16 << 10;

/// A log that was backed up and then lost: `data` with its archive in it, `backup`.
struct Lost {
    folder: tempfile::TempDir,
    written: Written,
    /// Where the backup ends.
    backed_up: Lsn,
    /// Where its last record ends, or marks behind that.
    end: Lsn,
}

impl Lost {
    /// With so many segments in the backup and so many after it. Of the last one only a part is full.
    fn new(before: u64, after: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = FileStorage::new(&folder.path().join("data")).unwrap();
        let log = Log::open(storage, options(), Lsn(0)).unwrap();
        let mut written = Written::new();
        fill(&log, before, &mut written);
        let backup = log.backup(None).unwrap();
        let backed_up = backup.facts().end;
        let to = folder.path().join("backup");
        let mut folder_of = Folder::create(&to, backup.facts().clone()).unwrap();
        let take = &mut |piece: Piece<'_>| folder_of.take(piece).map_err(std::io::Error::other);
        backup.give(take).unwrap();
        folder_of.finish("", Timestamp::from_millis(1)).unwrap();
        fill(&log, after, &mut written);
        log.release_before(Lsn((before + after) * SEGMENT));
        until("what is full is let go", || log.oldest().0 / SEGMENT >= before + after);
        log.close().unwrap();
        let end = log.durable();
        Self { folder, written, backed_up, end }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn archived(&self, index: u64) -> PathBuf {
        let entries = fs::read_dir(self.path("data/archive")).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        let begin = format!("{index:016x}-");
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        paths.find(|path| name(path).starts_with(&begin)).unwrap()
    }

    fn restore(&self, dirs: &[&str], until: Option<Until>) -> Result<Restored, Error> {
        let to = self.path("restored");
        let _ = fs::remove_dir_all(&to);
        let dirs: Vec<_> = dirs.iter().map(|dir| self.path(dir)).collect();
        let forward = Forward::new(&dirs, until)?;
        restore(&self.path("backup"), &FileStorage::new(&to).unwrap(), Some(&forward))
    }

    /// What was restored opens as a new life, and has what was written below a position and nothing else.
    fn check(&self, restored: &Restored, end: Lsn) {
        assert_eq!(found(&self.path("restored"), restored), self.below(end));
    }

    fn below(&self, end: Lsn) -> Written {
        self.written.range(..end.0).map(|(lsn, body)| (*lsn, body.clone())).collect()
    }
}

fn found(dir: &Path, restored: &Restored) -> Written {
    let none = Options { archive: None, ..options() };
    let log = Log::open(FileStorage::new(dir).unwrap(), none, Lsn(0)).unwrap();
    assert_eq!(log.incarnation(), restored.incarnation);
    assert_ne!(log.incarnation_at(Lsn(0)), log.incarnation());
    let mut found = BTreeMap::new();
    let mut reader = log.reader(Lsn(0)).unwrap();
    while let Some(record) = reader.next().unwrap() {
        found.insert(record.lsn.0, record.body.to_vec());
    }
    found
}

#[test]
fn archive_and_lost_log_bring_everything_back() {
    let lost = Lost::new(2, 5);
    assert!(lost.below(lost.backed_up).len() < lost.written.len() / 2);
    let restored = lost.restore(&["data"], None).unwrap();
    let brought = restored.brought.unwrap();
    lost.check(&restored, lost.end);
    assert_eq!(brought.end, restored.end);
    let behind = lost.written.range(lost.backed_up.0..).count() as u64;
    assert_eq!(brought.records, behind);
    assert!(restored.first.0 > lost.end.0 + (1 << 39));
    // The archive alone lacks what was not full.
    let restored = lost.restore(&["data/archive"], None).unwrap();
    assert_eq!(restored.end, Lsn(7 * SEGMENT));
    lost.check(&restored, Lsn(7 * SEGMENT));
    // And with neither it is as it was.
    let to = lost.path("plain");
    let plain = restore(&lost.path("backup"), &FileStorage::new(&to).unwrap(), None).unwrap();
    assert_eq!((plain.end, plain.brought), (lost.backed_up, None));
    assert_eq!(found(&to, &plain), lost.below(lost.backed_up));
}

#[test]
fn up_to_a_moment_and_not_a_record_further() {
    let lost = Lost::new(1, 4);
    // In the middle, at the first record of a segment, at the last record of one.
    let behind = lost.backed_up.0;
    let first_of_third = *lost.written.range(3 * SEGMENT..).next().unwrap().0;
    let last_of_second = *lost.written.range(..3 * SEGMENT).next_back().unwrap().0;
    for lsn in [behind + 5_000, first_of_third, last_of_second, 4 * SEGMENT - 1] {
        let restored = lost.restore(&["data"], Some(Until::Lsn(Lsn(lsn)))).unwrap();
        assert!(restored.end.0 <= lsn + 256, "{} {lsn}", restored.end);
        lost.check(&restored, Lsn(lsn + 1));
    }
    // The times of these records are 1000 and their number; marks have today's.
    for number in [100, 200, 10_000] {
        let restored = lost.restore(&["data"], Some(Until::TimeMs(1_000 + number))).unwrap();
        let next = lost.written.keys().nth(number as usize + 1);
        lost.check(&restored, next.map_or(lost.end, |next| Lsn(*next)));
    }
    assert!(lost.restore(&["data"], Some(Until::TimeMs(1_001))).is_err());
    let early = lost.restore(&["data"], Some(Until::Lsn(Lsn(8)))).unwrap_err().to_string();
    assert!(early.contains("take an earlier one"), "{early}");
    let late = lost.restore(&["data"], Some(Until::Lsn(Lsn(1 << 30)))).unwrap_err().to_string();
    assert!(late.contains("only"), "{late}");
}

#[test]
fn a_gap_or_a_damage_is_told_and_passed_over_only_when_asked() {
    let lost = Lost::new(2, 5);
    let file = lost.archived(4);
    let bytes = fs::read(&file).unwrap();
    let mut damaged = bytes.clone();
    let at = damaged.len() / 2;
    damaged[at] ^= 1;
    fs::write(&file, damaged).unwrap();
    let told = lost.restore(&["data"], None).unwrap_err().to_string();
    assert!(told.contains(file.to_str().unwrap()), "{told}");
    fs::remove_file(&file).unwrap();
    let told = lost.restore(&["data"], None).unwrap_err().to_string();
    let end = 4 * SEGMENT;
    assert!(told.contains(&format!("--until {}", end - 1)), "{told}");
    let restored = lost.restore(&["data"], Some(Until::Lsn(Lsn(end - 1)))).unwrap();
    lost.check(&restored, Lsn(end));
    fs::write(&file, bytes).unwrap();
    lost.check(&lost.restore(&["data"], None).unwrap(), lost.end);
    // The first one behind the backup, whose begin the backup has.
    let first = lost.backed_up.0 / SEGMENT;
    fs::remove_file(lost.archived(first)).unwrap();
    let told = lost.restore(&["data"], None).unwrap_err().to_string();
    assert!(told.contains(&format!("--until {}", lost.backed_up.0 - 1)), "{told}");
    let until = Some(Until::Lsn(Lsn(lost.backed_up.0 - 1)));
    lost.check(&lost.restore(&["data"], until).unwrap(), lost.backed_up);
}

#[test]
fn rot_in_what_the_lost_log_still_had_is_no_torn_end() {
    let lost = Lost::new(1, 2);
    let last = lost.end.0 / SEGMENT;
    let file = lost.path(&format!("data/{last:016x}.log"));
    let mut bytes = fs::read(&file).unwrap();
    // The first record of the segment; marks behind it say that it was durable.
    bytes[4096 + 20] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let told = lost.restore(&["data"], None).unwrap_err().to_string();
    assert!(told.contains(&format!("damaged at log position {}", last * SEGMENT)), "{told}");
    let until = Some(Until::Lsn(Lsn(last * SEGMENT - 1)));
    lost.check(&lost.restore(&["data"], until).unwrap(), Lsn(last * SEGMENT));
    // The last mark itself, cut off: a torn end.
    bytes[4096 + 20] ^= 1;
    let at = (4096 + lost.end.0 % SEGMENT) as usize;
    bytes[at - 20] ^= 1;
    fs::write(&file, &bytes).unwrap();
    lost.check(&lost.restore(&["data"], None).unwrap(), lost.end);
}

#[test]
fn what_is_of_another_log_is_refused() {
    let (lost, other) = (Lost::new(1, 2), Lost::new(1, 2));
    let fake = lost.archived(1).file_name().unwrap().to_owned();
    fs::write(lost.path("data/archive").join(fake), fs::read(other.archived(1)).unwrap()).unwrap();
    let told = lost.restore(&["data"], None).unwrap_err().to_string();
    assert!(told.contains("its name and its head are of two segments"), "{told}");
    let told = Forward::new(&[lost.path("none")], None).unwrap_err().to_string();
    assert!(told.contains("is not there"), "{told}");
    // A directory that was restored from the same backup has gone its own way.
    let restored = lost.restore(&["none-yet"], None);
    assert!(restored.is_err());
    restore(&lost.path("backup"), &FileStorage::new(&lost.path("own")).unwrap(), None).unwrap();
    let told = lost.restore(&["own"], None).unwrap_err().to_string();
    assert!(told.contains("is of incarnation"), "{told}");
}

/// A copy of the directory that went on otherwise has segments of the same name, life and header.
#[test]
fn what_went_on_otherwise_before_the_backup_ended_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let open =
        |name: &str| Log::open(FileStorage::new(&path(name)).unwrap(), options(), Lsn(0)).unwrap();
    let mut written = Written::new();
    let log = open("data");
    fill(&log, 1, &mut written);
    log.close().unwrap();
    drop(log);
    fs::create_dir(path("other")).unwrap();
    for entry in fs::read_dir(path("data")).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            fs::copy(entry.path(), path("other").join(entry.file_name())).unwrap();
        }
    }
    let archived = |name: &str| {
        let names = fs::read_dir(path(name).join("archive")).unwrap();
        let mut paths: Vec<_> = names.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    for (name, mut written) in [("data", written), ("other", Written::new())] {
        let log = open(name);
        fill(&log, 1, &mut written);
        if name == "data" {
            let backup = log.backup(None).unwrap();
            let mut copy = Folder::create(&path("backup"), backup.facts().clone()).unwrap();
            let take = &mut |piece: Piece<'_>| copy.take(piece).map_err(std::io::Error::other);
            backup.give(take).unwrap();
            copy.finish("", Timestamp::from_millis(1)).unwrap();
        }
        fill(&log, 2, &mut written);
        let full = log.appended().0 / SEGMENT;
        let end = || log.stats().archive.unwrap().end;
        until("what is full is archived", || end() >= Lsn(full * SEGMENT));
        log.close().unwrap();
    }
    let brought = |from: &str| {
        let to = path(&format!("restored-{from}"));
        let forward = Forward::new(&[path(from)], None).unwrap();
        restore(&path("backup"), &FileStorage::new(&to).unwrap(), Some(&forward))
    };
    assert_eq!(archived("data")[2].file_name(), archived("other")[2].file_name());
    brought("data").unwrap();
    let told = brought("other").unwrap_err().to_string();
    assert!(told.contains("is not of the log that the backup was made of"), "{told}");
}
