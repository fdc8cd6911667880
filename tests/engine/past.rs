//! Stock as it was before the oldest checkpoint: read on into the archive, by position and by time, as far as
//! that goes and no further than one may ask; and what is said where it ends.

use std::time::Duration;

use holdfast::{
    Key, Options, Refusal,
    engine::{At, Reach},
    model::{
        Lsn, Timestamp,
        command::{Reserve, SetStock},
    },
    wal::{Storage, archive::LOOK_BACK_SEGMENTS_MAX, sim::SimStorage},
};
use serde_json::{Value, json};

use crate::common::{KIB, SimEngine, all_durable, id, limited, line, open, small, stock_of};

/// A moment at which the stock of `A` was looked at.
struct Moment {
    lsn: Lsn,
    time: Timestamp,
    seen: Value,
}

fn set(engine: &SimEngine, sku: &str, location: &str, stock: &SetStock) {
    engine.settle_blocking(engine.set_stock(&id(sku), &id(location), stock)).unwrap();
}

fn reserve(engine: &SimEngine, name: &str, sku: &str, quantity: u32) {
    let cart = Reserve {
        lines: vec![line(sku, quantity)],
        customer: Some(id("c")),
        order_id: None,
        ttl_ms: None,
    };
    let name = id(name);
    engine.settle_blocking(engine.reserve(Key::new("", &name), &cart)).unwrap();
}

/// What a view says, without up to where.
fn figures(view: impl serde::Serialize) -> Value {
    let mut view = serde_json::to_value(view).unwrap();
    view["lsn"] = json!(0);
    view["positions"].as_array_mut().unwrap().iter_mut().for_each(|p| p["lsn"] = json!(0));
    view
}

/// Looks at the stock once everything is durable; what comes later has a later time.
fn look(engine: &SimEngine) -> Moment {
    all_durable(engine);
    let (lsn, time) = (Lsn(engine.log().durable().0 - 8), engine.now());
    let seen = figures(engine.stock(&id("A")).unwrap());
    std::thread::sleep(Duration::from_millis(3));
    Moment { lsn, time, seen }
}

/// Units of another SKU arrive until the log has more than so many segments more.
fn push(engine: &SimEngine, segments: u64) {
    let to = engine.log().appended().0 / (64 * KIB) + segments;
    for n in engine.log().appended().0.. {
        if engine.log().appended().0 / (64 * KIB) >= to {
            break;
        }
        let adjust = json!({"sku": "B", "location": "BER", "delta": 1, "reason": "receipt"});
        let adjust = serde_json::from_value(adjust).unwrap();
        let name = id(&format!("push-{n}"));
        engine.settle_blocking(engine.adjust_stock(Key::new("", &name), &adjust)).unwrap();
    }
}

/// Lets the log go on until it begins behind a position.
fn let_go(engine: &SimEngine, behind: Lsn) {
    for round in 0.. {
        if engine.log().oldest() > behind {
            return;
        }
        assert!(round < 500, "the log is never recycled");
        push(engine, 1);
        engine.checkpoint().unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn both(moment: &Moment) -> [At; 2] {
    [At::Lsn(moment.lsn), At::Time(moment.time)]
}

#[track_caller]
fn assert_told(engine: &SimEngine, moments: &[Moment], reach: Reach) {
    for (nth, moment) in moments.iter().enumerate() {
        for at in both(moment) {
            let then = engine.stock_at(&id("A"), at, reach);
            let then = then.unwrap_or_else(|e| panic!("moment {nth}, {at:?}: {e}"));
            assert!(then.lsn <= moment.lsn, "moment {nth}, {at:?}");
            assert_eq!(figures(then), moment.seen, "moment {nth}, {at:?}");
        }
    }
}

#[track_caller]
fn refused(engine: &SimEngine, sku: &str, at: At) -> Refusal {
    engine.stock_at(&id(sku), at, Reach::Bounded).expect_err("it is not told")
}

/// Stock set, limited, reserved, at a further location, without a limit, counted anew: a moment after each, and
/// so much log after it.
fn moments(engine: &SimEngine, segments: u64) -> Vec<Moment> {
    set(engine, "B", "BER", &stock_of(1));
    let mut moments = Vec::new();
    let mut then = |change: &dyn Fn()| {
        change();
        moments.push(look(engine));
        push(engine, segments);
    };
    then(&|| set(engine, "A", "BER", &limited(50, 9)));
    then(&|| reserve(engine, "one", "A", 3));
    then(&|| {
        set(engine, "A", "HAM", &SetStock { safety_stock: stock_of(1).on_hand, ..stock_of(5) })
    });
    then(&|| set(engine, "A", "BER", &limited(40, 7)));
    then(&|| set(engine, "A", "BER", &SetStock { per_customer_limit: Some(None), ..stock_of(60) }));
    then(&|| reserve(engine, "two", "A", 20));
    moments
}

#[test]
fn stock_is_told_from_the_archive_as_it_was_before_the_oldest_checkpoint() {
    let (storage, options) = (SimStorage::new(), small());
    let engine = open(&storage, &options);
    let mut moments = moments(&engine, 1);
    set(&engine, "LATE", "BER", &stock_of(1));
    let_go(&engine, engine.log().durable());
    set(&engine, "A", "BER", &limited(70, 3));
    moments.push(look(&engine));
    let (first, last) = (moments[0].lsn, moments[5].lsn);
    assert!(last < engine.log().oldest() && engine.log().archive_oldest() == Lsn(0));
    let limits: Vec<_> = moments.iter().map(|m| m.seen["per_customer_limit"].clone()).collect();
    assert_eq!(
        limits,
        [json!(9), json!(9), json!(9), json!(7), json!(null), json!(null), json!(3)]
    );
    assert_told(&engine, &moments, Reach::Bounded);
    // Neither was there yet.
    for at in [At::Lsn(last), At::Time(moments[5].time)] {
        assert_eq!(refused(&engine, "LATE", at).code(), "unknown_sku");
    }
    for at in [At::Lsn(Lsn(8)), At::Time("2001-01-01T00:00:00Z".parse().unwrap())] {
        assert_eq!(refused(&engine, "A", at).code(), "unknown_sku", "{at:?}");
    }
    // Positions between two records are the one before.
    let between = engine.stock_at(&id("A"), At::Lsn(Lsn(first.0 + 3)), Reach::Bounded).unwrap();
    assert_eq!(figures(between), moments[0].seen);
    engine.close().unwrap();
    drop(engine);
    assert_told(&open(&storage, &options), &moments, Reach::Bounded);
}

/// A request must not take the server's time and memory for as long as it likes; a person with a stopped one may.
#[test]
fn what_lies_further_back_than_a_request_may_read_is_refused_with_the_reason() {
    let engine = open(&SimStorage::new(), &small());
    let moments = moments(&engine, 1);
    let far = moments[0].lsn.0 + (u64::from(LOOK_BACK_SEGMENTS_MAX) + 4) * 64 * KIB;
    let_go(&engine, Lsn(far));
    for at in both(&moments[0]) {
        let refusal = refused(&engine, "A", at);
        assert!(matches!(refusal, Refusal::TooFarBack { segments, .. } if segments > 32));
        assert_eq!(refusal.code(), "archived");
        assert!(refusal.to_string().contains("--data"), "{refusal}");
    }
    assert_told(&engine, &moments, Reach::Whole);
}

#[test]
fn where_the_archive_ends_it_is_said_where_it_begins() {
    let (storage, options) = (SimStorage::new(), small());
    let engine = open(&storage, &options);
    let moments = moments(&engine, 2);
    let_go(&engine, engine.log().durable());
    set(&engine, "A", "BER", &limited(70, 3));
    engine.close().unwrap();
    drop(engine);
    let archive = storage.archive_folder();
    let mut names = archive.list().unwrap();
    names.sort();
    let begin = moments[1].lsn.0 / (64 * KIB) + 1;
    names[..begin as usize].iter().for_each(|name| archive.remove(name).unwrap());
    let engine = open(&storage, &options);
    let oldest = engine.log().archive_oldest();
    assert_eq!(oldest, Lsn(begin * 64 * KIB));
    for at in moments[..2].iter().flat_map(both) {
        let refusal = refused(&engine, "A", at);
        assert_eq!(refusal, Refusal::Archived { oldest }, "{at:?}");
        let said = refusal.to_string();
        assert!(said.contains(&oldest.to_string()) && said.contains("holdfast restore"), "{said}");
    }
    // That limit was set before what is there, and another one since: nobody knows it any more.
    for at in both(&moments[2]) {
        assert_eq!(refused(&engine, "A", at), Refusal::Archived { oldest });
    }
    assert_told(&engine, &moments[3..], Reach::Bounded);
}

/// The log is kept from a segment's begin on, which lies before the oldest checkpoint.
#[test]
fn without_an_archive_it_is_told_as_far_as_the_log_goes() {
    let mut options = small();
    options.wal.archive = None;
    let engine = open(&SimStorage::new(), &options);
    let before = moments(&engine, 1);
    let_go(&engine, engine.log().durable());
    for at in before.iter().flat_map(both) {
        assert!(matches!(refused(&engine, "A", at), Refusal::Archived { .. }), "{at:?}");
    }
    for round in 0..20 {
        reserve(&engine, &format!("before-{round}"), "A", 1);
        let moment = look(&engine);
        for n in 0..2 {
            reserve(&engine, &format!("after-{round}-{n}"), "A", 1);
            engine.checkpoint().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
        // It may be that a segment ended just then.
        if engine.log().oldest() < moment.lsn {
            return assert_told(&engine, &[moment], Reach::Bounded);
        }
    }
    panic!("the log always begins at its oldest checkpoint");
}

/// What is read is let go meanwhile, and read on in the archive.
#[test]
fn a_moment_is_told_while_the_log_lets_it_go() {
    let engine = open(&SimStorage::new(), &Options { ..small() });
    let moments = moments(&engine, 1);
    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| let_go(&engine, Lsn(moments[5].lsn.0 + 10 * 64 * KIB)));
        while !pushing.is_finished() {
            assert_told(&engine, &moments, Reach::Bounded);
        }
    });
    assert_told(&engine, &moments, Reach::Bounded);
}
