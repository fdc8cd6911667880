//! A log of several lives under its readers, whose segments are recycled: the gap between two lives is no
//! hole in the log, wherever the backup ended, and whatever of the life before is still there.

use std::{
    fs,
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use holdfast::{
    engine::{Engine, Key, Options},
    model::{IdempotencyKey, Lsn, command::Reserve, command::SetStock},
    wal::{
        self, FileStorage,
        backup::{Folder, Piece, restore},
        checkpoint,
        inspect::inspect,
    },
};

fn options() -> Options {
    Options {
        wal: wal::Options {
            segment_bytes: 64 << 10,
            budget_bytes: 4 << 20,
            order_reserve_bytes: 64 << 10,
            delivery_reserve_bytes: 64 << 10,
            unsynced_bytes_max: 512 << 10,
            ready_segments: 1,
            idle_mark_ms: 60_000,
            room_wait_ms_max: 5_000,
            ..wal::Options::default()
        },
        positions_max: 16,
        reservations_max: 20_000,
        keys_max: 1 << 15,
        ttl_default_ms: 3_600_000,
        ..Options::default()
    }
}

fn hold(engine: &Engine, name: &str) -> Lsn {
    let cart: Reserve =
        serde_json::from_str(r#"{"lines": [{"sku": "A", "quantity": 1}]}"#).unwrap();
    let key: IdempotencyKey = name.parse().unwrap();
    engine.settle_blocking(engine.reserve(Key::new("", &key), &cart)).unwrap().value.lsn
}

fn hold_many(engine: &Engine, name: &str, all: std::ops::Range<u32>) {
    all.for_each(|n| {
        hold(engine, &format!("{name}{n}"));
    });
}

fn open(dir: &Path) -> Engine {
    Engine::open(dir, options()).unwrap()
}

fn back_up(engine: &Engine, to: &Path) -> Lsn {
    let backup = engine.backup().unwrap();
    let mut folder = Folder::create(to, backup.facts().clone()).unwrap();
    let end = backup.facts().end;
    backup.give(&mut |piece: Piece<'_>| folder.take(piece).map_err(std::io::Error::other)).unwrap();
    folder.finish("", engine.now()).unwrap();
    end
}

fn held(engine: &Engine) -> i64 {
    engine.stock(&"A".parse().unwrap()).unwrap().held
}

/// Every record from a position on, by a reader.
fn read_from(engine: &Engine, from: Lsn) -> Vec<Lsn> {
    let mut reader = engine.log().reader(from).unwrap();
    let mut all = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        all.push(record.lsn);
    }
    all
}

#[test]
fn a_reader_walks_over_the_gap_wherever_the_backup_ended() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let engine = open(&dir);
    let stock: SetStock = serde_json::from_str(r#"{"on_hand": 100000}"#).unwrap();
    let set = engine.set_stock(&"A".parse().unwrap(), &"BER".parse().unwrap(), &stock);
    engine.settle_blocking(set).unwrap();
    let mut ends = std::collections::BTreeSet::new();
    let mut n = 0;
    // Around the end of a segment, at every place that records come to.
    for round in 0..12 {
        while engine.log().durable().0 % (64 << 10) < (64 << 10) - 1_500 + 100 * round {
            hold(&engine, &format!("k{n}"));
            n += 1;
        }
        let to = folder.path().join(format!("backup-{round}"));
        let end = back_up(&engine, &to);
        ends.insert(end.0 % (64 << 10));
        let before = read_from(&engine, Lsn(0));
        let data = folder.path().join(format!("data-{round}"));
        let restored = restore(&to, &FileStorage::new(&data).unwrap(), None).unwrap();
        let second = open(&data);
        assert_eq!(held(&second), n, "{round}");
        let new = hold(&second, "new");
        assert!(new > restored.first && restored.first.0 > end.0 + (1 << 40));
        let mut expected: Vec<Lsn> = before.into_iter().filter(|lsn| *lsn < end).collect();
        expected.push(new);
        assert_eq!(read_from(&second, Lsn(0)), expected, "{round}");
        assert_eq!(read_from(&second, end), [new]);
        let lives = [Lsn(0), new].map(|lsn| second.log().incarnation_at(lsn));
        assert_eq!(lives, [engine.log().incarnation(), restored.incarnation]);
        second.close().unwrap();
        drop(second);
        assert!(inspect(&data, &mut |_| ControlFlow::Continue(())).unwrap().rot.is_empty());
        // The last segment of the life before is missed.
        fs::remove_file(data.join(format!("{:016x}.log", (end.0 - 8) / (64 << 10)))).unwrap();
        let missed = inspect(&data, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(missed.to_string().contains("is missing"), "{missed}");
        // If it was the only one, the begin is what is gone.
        let missed = Engine::open(&data, options()).unwrap_err().to_string();
        assert!(missed.contains("is missing") || missed.contains("has been archived"), "{missed}");
    }
    assert!(ends.len() > 6, "{ends:?}");
}

#[test]
fn the_life_before_is_recycled_like_any_log() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let engine = open(&dir);
    let stock: SetStock = serde_json::from_str(r#"{"on_hand": 100000}"#).unwrap();
    let set = engine.set_stock(&"A".parse().unwrap(), &"BER".parse().unwrap(), &stock);
    engine.settle_blocking(set).unwrap();
    hold_many(&engine, "k", 0..2_000);
    engine.checkpoint().unwrap();
    hold_many(&engine, "k", 2_000..2_100);
    let to = folder.path().join("backup");
    let end = back_up(&engine, &to);
    engine.close().unwrap();
    let data = folder.path().join("restored");
    let storage = FileStorage::new(&data).unwrap();
    let restored = restore(&to, &storage, None).unwrap();
    drop(storage);
    let engine = open(&data);
    assert_eq!(held(&engine), 2_100);
    let old = hold(&engine, "k7");
    // Somebody who has read all of the life before stands where the gap begins.
    let gap = Lsn(end.0.next_multiple_of(64 << 10));
    engine.hold_log("reader", gap);
    let mut more = 0;
    let mut recycle = |engine: &Engine, until: Lsn| {
        let patience = Instant::now() + Duration::from_secs(30);
        while engine.log().oldest() < until {
            assert!(Instant::now() < patience, "{} is never recycled", engine.log().oldest());
            hold_many(engine, "more-", more..more + 20);
            engine.checkpoint().unwrap();
            more += 20;
        }
        i64::from(more)
    };
    let count = recycle(&engine, gap);
    assert_eq!(engine.log().oldest(), gap, "the first segment of the new life is next");
    engine.close().unwrap();
    drop(engine);
    let looked = inspect(&data, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(looked.rot.is_empty() && looked.begin == restored.first);
    let engine = open(&data);
    assert_eq!(held(&engine), 2_100 + count);
    let all = read_from(&engine, gap);
    assert!(all.len() as i64 >= count && all[0] > restored.first, "{} from {}", all.len(), all[0]);
    assert!(engine.log().reader(Lsn(gap.0 - 8)).is_err());
    // Its answer is in the checkpoint, wherever its record was.
    assert_eq!(hold(&engine, "k7"), old);
    let count = recycle(&engine, Lsn(restored.first.0 + 1));
    engine.close().unwrap();
    drop(engine);
    let engine = open(&data);
    assert_eq!(held(&engine), 2_100 + count);
    let newest = checkpoint::newest(engine.log().storage()).unwrap().unwrap();
    assert_eq!(newest.incarnation(), restored.incarnation);
}
