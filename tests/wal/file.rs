//! Real files: that the pages which recovery writes again are written again.
//!
//! The kernel is asked: `/proc/self/smaps` says how much of a shared mapping is dirty, `/proc/self/io` how
//! much was given to the disk. The test runs in the
//! release profile too (`scripts/test`), since it is there that a store of what is there already is
//! dropped by the compiler, unless it can't see that.

use std::{fs, path::Path, sync::atomic::Ordering};

use holdfast::wal::{
    FileStorage, Storage,
    storage::{Mapping, Memory, PAGE_BYTES, SEGMENT_HEADER_BYTES, SegmentMemory},
};

const PAGES: u64 = 8;

/// How many bytes of the mapping of a file are dirty.
fn dirty_bytes(file: &Path) -> u64 {
    let file = file.to_str().unwrap();
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mapping = maps.lines().skip_while(|line| !line.ends_with(file)).skip(1);
    // Each mapping's figures end with its flags.
    let figures: Vec<&str> = mapping.take_while(|line| !line.starts_with("VmFlags")).collect();
    assert!(!figures.is_empty(), "{file} is mapped");
    let dirty = figures.iter().filter_map(|line| {
        let kib = line.strip_prefix("Shared_Dirty:").or(line.strip_prefix("Private_Dirty:"))?;
        kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    dirty.sum::<u64>() * 1024
}

/// Found by reading: an update that changes nothing compiled to nothing in a release build, so a failed
/// sync's pages, clean in memory and absent on the disk, stayed so when recovery "rewrote" them.
#[test]
fn pages_that_are_rewritten_are_dirty_although_nothing_changed() {
    // Not in the system's folder for such things: where that is memory, nothing is ever clean.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let storage = FileStorage::new(dir.path()).unwrap();
    let (file, bytes) = (dir.path().join("segment"), SEGMENT_HEADER_BYTES + PAGES * PAGE_BYTES);
    storage.allocate("segment", bytes).unwrap();
    storage.zero("segment", bytes, Mapping::Shared).unwrap();
    let segment = storage.map("segment", bytes, Mapping::Shared).unwrap();
    segment.populate();
    segment.payload().iter().for_each(|word| word.store(7, Ordering::Relaxed));
    assert!(dirty_bytes(&file) >= PAGES * PAGE_BYTES, "what is written is dirty");
    segment.sync_header().unwrap();
    segment.sync(0, PAGES * PAGE_BYTES).unwrap();
    assert_eq!(dirty_bytes(&file), 0, "what is synced is clean, or this file system can't tell");
    for (from, to, pages) in [(0, 8, 1), (PAGE_BYTES + 8, 4 * PAGE_BYTES, 3), (0, 1, 1)] {
        segment.rewrite(from, to);
        assert!(dirty_bytes(&file) >= pages * PAGE_BYTES, "[{from}, {to}) is {pages} pages");
        segment.sync(0, PAGES * PAGE_BYTES).unwrap();
        assert_eq!(dirty_bytes(&file), 0);
    }
    let words = segment.payload();
    assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 7), "nothing changed");
}

/// The bytes that this process has given to the disk.
fn written_bytes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    written.unwrap().parse().unwrap()
}

/// As above, of a private mapping, whose pages of the cache are as clean after a failed sync.
#[test]
fn what_is_synced_again_is_written_again_although_nothing_changed() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let storage = FileStorage::new(dir.path()).unwrap();
    let bytes = SEGMENT_HEADER_BYTES + PAGES * PAGE_BYTES;
    storage.allocate("segment", bytes).unwrap();
    storage.zero("segment", bytes, Mapping::Private).unwrap();
    for is_opened_again in [false, true] {
        let segment = storage.map("segment", bytes, Mapping::Private).unwrap();
        if !is_opened_again {
            segment.payload().iter().for_each(|word| word.store(7, Ordering::Relaxed));
        }
        segment.sync(0, PAGES * PAGE_BYTES).unwrap();
        let before = written_bytes();
        segment.rewrite(0, PAGES * PAGE_BYTES);
        segment.sync(0, PAGES * PAGE_BYTES).unwrap();
        assert!(written_bytes() - before >= PAGES * PAGE_BYTES, "again: {is_opened_again}");
        assert!(segment.payload().iter().all(|word| word.load(Ordering::Relaxed) == 7));
    }
}
