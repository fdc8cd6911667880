//! The known ways to break a reservation engine, one test each, named as the story goes.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::common::*;
use holdfast::{
    Engine, Error, Key, Options, Refusal,
    engine::Filter,
    model::{
        Currency, Lsn, ReservationId, TaxCodes,
        command::{Release, Reserve, SetStock},
        inbound::OrderEvent,
        view::{OrderView, ReservationState as State},
    },
    wal::{self, sim::SimStorage},
};

fn threads<T: Send>(n: u64, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(n as usize);
    thread::scope(|scope| {
        let spawn = |i| {
            let (run, barrier) = (&run, &barrier);
            scope.spawn(move || {
                barrier.wait();
                run(i)
            })
        };
        let threads: Vec<_> = (0..n).map(spawn).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

fn audited(engine: &SimEngine) -> Audit {
    all_durable(engine);
    let audit = Audit::of(engine);
    audit.agrees(engine);
    audit
}

/// Closes an engine and opens it again on the same disk.
fn reopened(shop: Shop, storage: &SimStorage, options: &Options) -> Shop {
    shop.0.close().unwrap();
    drop(shop);
    crate::common::shop(storage, options)
}

#[test]
fn a_ttl_so_short_that_the_timer_fires_before_the_record_is_claimed() {
    let storage = SimStorage::new();
    let shop = shop(&storage, &small());
    shop.set("A", "BER", &stock_of(40)).unwrap();
    let until = Instant::now() + Duration::from_millis(600);
    threads(3, |t| {
        for n in 0.. {
            if Instant::now() > until {
                break;
            }
            let reserve = Reserve { ttl_ms: Some(1), ..one("A", 1 + (n % 3) as u32) };
            let key = id(&format!("{t}-{n}"));
            let decision = shop.0.reserve(Key::new("", &key), &reserve);
            if n % 64 == 0 {
                let said = shop.settle(decision);
                assert!(said.is_ok() || is_short(&said), "{said:?}");
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    wait_until("everything to expire", || shop.available("A") == 40);
    let audit = audited(&shop.0);
    assert!(audit.expired >= 80, "{}", audit.expired);
    assert_eq!(audit.expired, audit.granted);
}

#[test]
fn nothing_is_told_of_a_state_that_is_not_durable_yet() {
    let storage = SimStorage::new();
    let shop = shop(&storage, &small());
    shop.set("A", "BER", &stock_of(9)).unwrap();
    let engine = &shop.0;
    let of = shop.reserve("r", &one("A", 1)).unwrap().value.id;
    let key = |text: &str| id(text);
    storage.set_sync_delay(Duration::from_millis(150));
    let (commit, order) = (sale("O-1", &["A"]), id("O-1"));
    let (c, d, r, x) = (key("c"), key("d"), key("r"), key("x"));
    let k = |key| Key::new("", key);
    let first = engine.commit(k(&c), of, &commit);
    let lsn = first.lsn().expect("a commit has a record");
    let mut early = 0;
    let mut check = |what: &str, ready: bool| {
        // Not durable after it was asked, so it was not when it was asked.
        if engine.log().durable() <= lsn {
            early += 1;
            assert!(!ready, "{what} was answered from a state that is not durable");
        }
    };
    check("the commit", is_ready(engine, first));
    check("its repeat", is_ready(engine, engine.commit(k(&c), of, &commit)));
    check("a second commit", is_ready(engine, engine.commit(k(&d), of, &commit)));
    let other = sale("O-2", &["A"]);
    check("order_mismatch", is_ready(engine, engine.commit(k(&d), of, &other)));
    check("the first answer", is_ready(engine, engine.reserve(k(&r), &one("A", 1))));
    check("the reservation", is_ready(engine, engine.reservation(of)));
    check("the order", is_ready(engine, engine.order(&order)));
    check("the list", is_ready(engine, engine.reservations(Filter::Order(&order), None, 9)));
    check("wrong_state", is_ready(engine, engine.release(k(&x), of, &Release::default())));
    let placed = order_now("O-1", &[line("A", 1)]);
    check("order_exists", is_ready(engine, engine.place_order(k(&x), &placed)));
    check("a reused key", is_ready(engine, engine.commit(k(&c), of, &other)));
    assert_eq!(early, 11, "the disk was slow enough to see all of it");
    storage.set_sync_delay(Duration::ZERO);
    assert_eq!(shop.commit("c", of, &commit).unwrap().value.lsn, lsn);
    audited(engine);
}

/// As before, of what happens to an order: an answer speaks of the order's last record, whether it is the
/// event again or a refusal of what is not left.
#[test]
fn nothing_is_told_of_what_happened_to_an_order_before_it_is_durable() {
    let storage = SimStorage::new();
    let shop = shop(&storage, &small());
    shop.set("A", "BER", &stock_of(9)).unwrap();
    shop.place("placed", &order_now("O-1", &[line("A", 2)])).unwrap();
    let engine = &shop.0;
    let order = id("O-1");
    let said = |said: serde_json::Value| -> OrderEvent { serde_json::from_value(said).unwrap() };
    let lines = serde_json::json!([{"sku": "A", "quantity": 2}]);
    let ship = |name: &str| {
        said(serde_json::json!({"shipment": {"shipment_id": name, "lines": lines.clone()}}))
    };
    let settle = |amount: u32, currency: &str| {
        said(serde_json::json!({"settlement":
            {"settlement_id": "P", "currency": currency, "amount": amount}}))
    };
    let cancel = said(serde_json::json!({"cancellation": {"cancellation_id": "C"}}));
    let happens = |key: &str, event: &OrderEvent| {
        let key = id(key);
        engine.happens(Key::new("", &key), &order, event)
    };
    storage.set_sync_delay(Duration::from_millis(150));
    let first = happens("s", &ship("S"));
    let lsn = first.lsn().expect("a shipment has a record");
    let mut early = 0;
    let mut check = |what: &str, ready: bool| {
        // Not durable after it was asked, so it was not when it was asked.
        if engine.log().durable() <= lsn {
            early += 1;
            assert!(!ready, "{what} was answered from a state that is not durable");
        }
    };
    check("the shipment", is_ready(engine, first));
    check("its repeat", is_ready(engine, happens("s", &ship("S"))));
    check("it by another key", is_ready(engine, happens("t", &ship("S"))));
    check("its key reused", is_ready(engine, happens("s", &ship("T"))));
    check("more than was sold", is_ready(engine, happens("t", &ship("T"))));
    check("nothing left to cancel", is_ready(engine, happens("c", &cancel)));
    check("more than it comes to", is_ready(engine, happens("p", &settle(1 << 20, "EUR"))));
    check("another currency", is_ready(engine, happens("p", &settle(1, "USD"))));
    check("the order", is_ready(engine, engine.order(&order)));
    let listed = engine.reservations(Filter::Order(&order), None, 9);
    check("its reservations", is_ready(engine, listed));
    assert_eq!(early, 10, "the disk was slow enough to see all of it");
    // A trace waits for the log to hand out the last record, and never says that it is gone.
    let told = shop.settle(engine.trace(&order)).unwrap().value;
    assert_eq!(told.records.last().map(|record| record.lsn), Some(lsn));
    storage.set_sync_delay(Duration::ZERO);
    assert_eq!(shop.settle(happens("s", &ship("S"))).unwrap().value.lsn, lsn);
    audited(engine);
}

#[test]
fn two_extends_that_race() {
    let storage = SimStorage::new();
    let options = small();
    let shop = shop(&storage, &options);
    shop.set("A", "BER", &stock_of(50)).unwrap();
    let mut ids = Vec::new();
    for round in 0..20 {
        let of = shop.reserve(&format!("r{round}"), &one("A", 1)).unwrap().value.id;
        let said = threads(3, |t| {
            shop.extend(&format!("e{round}-{t}"), of, 1_000_000 + t * 1000).unwrap().value
        });
        let last = said.iter().max_by_key(|view| view.lsn).unwrap();
        assert_eq!(shop.see(of).unwrap().value, *last);
        ids.push((of, last.clone()));
    }
    audited(&shop.0);
    let shop = reopened(shop, &storage, &options);
    for (of, last) in ids {
        assert_eq!(shop.see(of).unwrap().value, last, "the log knows which came last");
    }
}

#[test]
fn a_commit_that_races_an_expiry() {
    let storage = SimStorage::new();
    let options = small();
    let shop = shop(&storage, &options);
    shop.set("A", "BER", &stock_of(5_000)).unwrap();
    let raced = threads(3, |t| {
        let (mut sold, mut late) = (0, 0);
        for n in 0..60 {
            let reserve = Reserve { ttl_ms: Some(1 + n % 7), ..one("A", 1) };
            let of = shop.reserve(&format!("r{t}-{n}"), &reserve).unwrap().value.id;
            // Ticks are 64 ms; the commit comes about when the wheel turns.
            thread::sleep(Duration::from_millis(40 + (n * 7 + t * 13) % 90));
            let order = format!("O{t}-{n}");
            match shop.commit(&format!("c{t}-{n}"), of, &sale(&order, &["A"])) {
                Ok(_) => sold += 1,
                Err(Refusal::WrongState { state: State::Expired }) => late += 1,
                Err(other) => panic!("{other}"),
            }
        }
        (sold, late)
    });
    let (sold, late) = raced.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(sold > 0 && late > 0, "{sold} sold, {late} too late");
    let audit = audited(&shop.0);
    assert_eq!((audit.orders.len(), audit.expired), (sold, late));
    assert_eq!(shop.available("A"), 5_000 - sold as i64);
    let shop = reopened(shop, &storage, &options);
    audit.agrees(&shop.0);
}

#[test]
fn a_client_that_goes_away_before_its_answer() {
    let storage = SimStorage::new();
    let options = small();
    let shop = shop(&storage, &options);
    shop.set("A", "BER", &stock_of(10)).unwrap();
    storage.set_sync_delay(Duration::from_millis(30));
    for n in 0..5 {
        let key = id(&format!("k{n}"));
        let decision = shop.0.reserve(Key::new("", &key), &one("A", 1));
        assert!(!is_ready(&shop.0, decision), "the client went before the sync");
    }
    drop(shop.0.reserve(Key::new("", &id("k5")), &one("A", 1)));
    storage.set_sync_delay(Duration::ZERO);
    assert_eq!(shop.available("A"), 4, "what was decided stands");
    let again: Vec<_> =
        (0..6).map(|n| shop.reserve(&format!("k{n}"), &one("A", 1)).unwrap()).collect();
    assert!(again.iter().all(|answer| answer.replayed));
    assert_eq!(audited(&shop.0).granted, 6);
    let shop = reopened(shop, &storage, &options);
    for (n, before) in again.iter().enumerate() {
        assert_eq!(shop.reserve(&format!("k{n}"), &one("A", 1)).as_ref(), Ok(before));
    }
}

fn tight(budget_segments: u64) -> Options {
    let mut options = small();
    options.wal.segment_bytes = 16 * KIB;
    options.wal.budget_bytes = budget_segments * 20 * KIB;
    options.wal.unsynced_bytes_max = 64 * KIB;
    options.wal.order_reserve_bytes = 16 * KIB;
    options.wal.delivery_reserve_bytes = 16 * KIB;
    options.wal.room_wait_ms_max = 2_000;
    options
}

#[test]
fn a_log_that_is_full_refuses_new_work_and_lets_what_is_open_end() {
    let storage = SimStorage::new();
    let options = tight(24);
    let shop = shop(&storage, &options);
    // A stalled sink keeps the log from being recycled.
    shop.0.hold_log("sink", Lsn(0));
    // Long texts, which make the largest records that may close a reservation.
    let skus: Vec<String> = (0..4).map(|n| format!("{n}").repeat(64)).collect();
    for sku in &skus {
        shop.set(sku, "BER", &stock_of(100_000)).unwrap();
    }
    let lines: Vec<_> = skus.iter().map(|sku| line(sku, 1)).collect();
    let mut open = Vec::new();
    let refusal = loop {
        let reserve = Reserve { customer: Some(id(&"c".repeat(64))), ..cart(&lines) };
        match shop.reserve(&format!("r{}", open.len()), &reserve) {
            Ok(answer) => open.push(answer.value.id),
            Err(refusal) => break refusal,
        }
        assert!(open.len() < 100_000);
    };
    assert_eq!(refusal, Refusal::LogFull);
    assert!(open.len() > 100, "{}", open.len());
    let taken = open.len() as i64;
    for sku in &skus {
        assert_eq!(shop.available(sku), 100_000 - taken, "what was refused took nothing");
    }
    // Smaller ones may still find room, but not for long.
    let refusal = loop {
        match shop.reserve(&format!("s{}", open.len()), &one(&skus[0], 1)) {
            Ok(answer) => open.push(answer.value.id),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, Refusal::LogFull);
    let full = |said: Result<(), Refusal>| assert_eq!(said, Err(Refusal::LogFull));
    full(shop.reserve("more", &one(&skus[0], 1)).map(drop));
    full(shop.place("more", &order_now("more", &lines)).map(drop));
    // Whatever is open can end: sold with the longest texts, given back, read.
    let mut sold = 0;
    for (n, of) in open.iter().enumerate() {
        if n % 3 == 0 {
            shop.release(&format!("x{n}"), *of, &Release::default()).unwrap();
        } else {
            let order = format!("{n:064}");
            let some = if n < taken as usize { &skus[..] } else { &skus[..1] };
            let some: Vec<_> = some.iter().map(String::as_str).collect();
            let mut commit = sale(&order, &some);
            commit.lines.iter_mut().for_each(|line| line.tax_code = Some(id(&"t".repeat(64))));
            let said = shop.commit(&format!("c{n}"), *of, &commit);
            said.unwrap_or_else(|why| panic!("commit {n} of {taken}: {why}"));
            sold += 1;
        }
        assert_ne!(shop.state(*of), State::Held);
    }
    let audit = audited(&shop.0);
    assert_eq!((audit.orders.len(), audit.granted), (sold, open.len() as u64));
    let shop = reopened(shop, &storage, &options);
    audit.agrees(&shop.0);
    // The sink has caught up: a checkpoint, and the one after it, free the log.
    for _ in 0..3 {
        shop.0.checkpoint().unwrap();
        thread::sleep(Duration::from_millis(30));
    }
    wait_until("the log to have room", || shop.reserve("more", &one(&skus[0], 1)).is_ok());
}

/// Law 6: the budget is spent on new work; what closes an order has delivery's reserve besides.
#[test]
fn a_log_that_is_full_lets_orders_be_shipped_paid_and_called_off() {
    let storage = SimStorage::new();
    let shop = shop(&storage, &tight(24));
    shop.0.hold_log("sink", Lsn(0));
    shop.set("A", "BER", &stock_of(1_000_000)).unwrap();
    shop.place("order", &order_now("O", &[line("A", 3)])).unwrap();
    let mut n = 0;
    while shop.reserve(&format!("r{n}"), &one("A", 1)).is_ok() {
        n += 1;
    }
    let said = shop.reserve("more", &one("A", 1));
    assert_eq!(said.map(drop), Err(Refusal::LogFull));
    let order = id("O");
    let (k1, k2, k3) = (id("s"), id("p"), id("c"));
    let ship = r#"{"shipment_id": "S", "lines": [{"sku": "A", "quantity": 2}]}"#;
    let ship = serde_json::from_str(ship).unwrap();
    shop.settle(shop.0.ship(Key::new("", &k1), &order, &ship)).unwrap();
    let pay = r#"{"settlement_id": "P", "currency": "EUR", "amount": 1}"#;
    let pay = serde_json::from_str(pay).unwrap();
    shop.settle(shop.0.settle_order(Key::new("", &k2), &order, &pay)).unwrap();
    let cancel = serde_json::from_str(r#"{"cancellation_id": "C"}"#).unwrap();
    let said = shop.settle(shop.0.cancel(Key::new("", &k3), &order, &cancel)).unwrap();
    assert_eq!(said.value.state, State::Fulfilled);
}

fn ship(shop: &Shop, n: usize) -> Result<(), Refusal> {
    let ship = r#"{"shipment_id": "S", "lines": [{"sku": "A", "quantity": 2}]}"#;
    let (key, ship) = (id(&format!("s{n}")), serde_json::from_str(ship).unwrap());
    shop.settle(shop.0.ship(Key::new("", &key), &id(&format!("O{n}")), &ship)).map(drop)
}

fn pay(shop: &Shop, n: usize) -> Result<(), Refusal> {
    let pay = r#"{"settlement_id": "P", "currency": "EUR", "amount": 1}"#;
    let (key, pay) = (id(&format!("p{n}")), serde_json::from_str(pay).unwrap());
    shop.settle(shop.0.settle_order(Key::new("", &key), &id(&format!("O{n}")), &pay)).map(drop)
}

/// Events of orders used to eat delivery's reserve, one order's as well as ten thousand's: most shipments
/// were refused, and then no sink could seal a batch any more, so that the log stayed full for good.
#[test]
fn a_log_full_of_orders_lets_each_be_shipped_and_paid_and_leaves_delivery_its_own() {
    let storage = SimStorage::new();
    let options = tight(24);
    let mut shop = shop(&storage, &options);
    shop.0.hold_log("sink", Lsn(0));
    shop.set("A", "BER", &stock_of(1_000_000)).unwrap();
    let mut orders = 0;
    let refusal = loop {
        let order = order_now(&format!("O{orders}"), &[line("A", 2)]);
        match shop.place(&format!("o{orders}"), &order) {
            Ok(_) => orders += 1,
            Err(refusal) => break refusal,
        }
        if orders % 20 == 0 {
            // The soft mark is looked at ten times a second.
            thread::sleep(Duration::from_millis(110));
        }
    };
    assert_eq!(refusal, Refusal::LogFull);
    assert!(orders > 150, "{orders}");
    let set_aside = |shop: &Shop| {
        let status = shop.0.status();
        (status.orders_set_aside_bytes, status.orders_set_aside_bytes_max)
    };
    let (bytes, bytes_max) = set_aside(&shop);
    assert!(bytes <= bytes_max && bytes + (1 << 10) > bytes_max, "{bytes} of {bytes_max}");
    for n in 0..orders {
        if n == orders / 2 {
            // What orders are owed is not written down: a start sets it aside anew.
            shop = reopened(shop, &storage, &options);
            shop.0.hold_log("sink", Lsn(0));
            // New work does not get what is theirs.
            let refused =
                (0..10_000).find_map(|m| shop.reserve(&format!("m{m}"), &one("A", 1)).err());
            assert_eq!(refused, Some(Refusal::LogFull));
        }
        assert_eq!((n, ship(&shop, n)), (n, Ok(())));
        assert_eq!((n, pay(&shop, n)), (n, Ok(())));
    }
    assert_eq!(set_aside(&shop).0, 0);
    // What comes after that shares what is left, then the orders' reserve, and is refused by name once it is
    // spent.
    let note = |n: usize, text: &str| {
        let note = serde_json::json!({"note_id": format!("N{n}"), "text": text});
        let (key, note) = (id(&format!("n{n}")), serde_json::from_value(note).unwrap());
        shop.settle(shop.0.note(Key::new("", &key), &id(&format!("O{}", n % 100)), &note)).map(drop)
    };
    let said = (0..10_000).map(|n| note(n, &"a note".repeat(100))).find(Result::is_err);
    assert_eq!(said, Some(Err(Refusal::LogFull)));
    let said = (10_000..20_000).map(|n| note(n, "x")).find(Result::is_err);
    assert_eq!(said, Some(Err(Refusal::LogFull)));
    let mut seals = 0;
    while let Ok(ticket) = shop.0.log().ticket(wal::RoomClass::Delivery, 1 << 10, 0) {
        let mut draft = wal::Draft::new();
        draft.begin(250, 0, 0).resize(900, 0);
        draft.seal();
        ticket.append(&draft);
        seals += 1;
    }
    // And what the ends of segments gave back.
    assert!((15..=28).contains(&seals), "{seals} KiB of delivery's 16");
}

#[test]
fn a_log_with_a_small_budget_recycles_itself_and_never_stays_full() {
    let storage = SimStorage::new();
    // The distance between checkpoints is left at its default, far beyond the budget.
    let options = Options { retention_ms: 300, ttl_default_ms: 300, ..tight(24) };
    let began = Instant::now();
    let mut shop = shop(&storage, &options);
    shop.set("A", "BER", &stock_of(1_000)).unwrap();
    let mut sold: u32 = 0;
    let budget = options.wal.budget_bytes;
    let mut next_restart = budget;
    for n in 0_u64.. {
        let end = shop.0.log().appended().0;
        if end > 5 * budget {
            break;
        }
        if end > next_restart {
            next_restart += budget;
            shop = reopened(shop, &storage, &options);
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "stuck at {end} of {}: {:?}, {:?}",
            5 * budget,
            shop.0.status(),
            shop.0.log().stats()
        );
        let of = match shop.reserve(&format!("r{n}"), &one("A", 1)) {
            Ok(answer) => answer.value.id,
            // The checkpoint is on its way.
            Err(Refusal::LogFull | Refusal::Overloaded { .. }) => {
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            Err(other) => panic!("{other}"),
        };
        if n % 50 == 0 && sold < 900 {
            let order = sale(&format!("O{n}"), &["A"]);
            sold += u32::from(shop.commit(&format!("c{n}"), of, &order).is_ok());
        } else {
            // It may have expired, or the table of keys be full for a moment: time ends it then.
            let _ = shop.release(&format!("x{n}"), of, &Release::default());
        }
    }
    wait_until("what was held to end", || shop.stock("A").held == 0);
    let stock = shop.stock("A");
    let seen = (stock.available, stock.held, stock.committed);
    assert_eq!(seen, (1_000 - i64::from(sold), 0, i64::from(sold)));
    assert!(shop.0.log().oldest() > Lsn(2 * budget), "the log was recycled");
    assert!(shop.0.status().log_bytes_used <= budget);
}

#[test]
fn a_stock_count_that_does_not_know_of_movements_under_way() {
    let storage = SimStorage::new();
    let options = small();
    let mut shop = shop(&storage, &options);
    let as_of = |on_hand, lsn| SetStock { as_of_lsn: Some(lsn), ..stock_of(on_hand) };
    let begin = shop.set("A", "BER", &stock_of(50)).unwrap().value.lsn;
    let first = shop.adjust("a1", "A", "BER", -3).unwrap().value.lsn;
    shop.adjust("a2", "A", "BER", 10).unwrap();
    assert_eq!(shop.set("A", "BER", &as_of(100, begin)).unwrap().value.on_hand, 107);
    assert_eq!(shop.set("A", "BER", &as_of(100, first)).unwrap().value.on_hand, 110);
    // A reservation is no physical movement: a count knows nothing of it and need not.
    shop.reserve("r", &one("A", 4)).unwrap();
    for _ in 0..2 {
        let view = shop.set("A", "BER", &as_of(100, first)).unwrap().value;
        assert_eq!((view.on_hand, view.held, view.available), (110, 4, 106));
        shop.0.checkpoint().unwrap();
        shop = reopened(shop, &storage, &options);
    }
    let beyond = shop.set("A", "BER", &as_of(1, Lsn(1 << 40)));
    assert!(matches!(beyond, Err(Refusal::Malformed { field, .. }) if field == "as_of_lsn"));
    // Counts among movements that go on meanwhile: none is lost and none counted twice.
    let counted = threads(2, |t| {
        for n in 0..100 {
            shop.adjust(&format!("m{t}-{n}"), "A", "BER", 1 + t as i64).unwrap();
        }
        let knows = shop.stock("A").lsn;
        for n in 100..110 {
            shop.adjust(&format!("m{t}-{n}"), "A", "BER", 1 + t as i64).unwrap();
        }
        let view = shop.set("A", "BER", &as_of(1_000, knows)).unwrap().value;
        (view.lsn, knows)
    });
    let (last, knows) = *counted.iter().max().unwrap();
    let audit = audited(&shop.0);
    let since: i64 = audit.adjusts.iter().filter(|a| a.0 > knows.0).map(|a| a.2).sum();
    assert!(last > knows);
    assert_eq!(shop.stock("A").on_hand, 1_000 + since);
    for n in 0..300 {
        shop.adjust(&format!("z{n}"), "A", "BER", 1).unwrap();
    }
    let old = shop.set("A", "BER", &as_of(1, begin));
    assert!(matches!(old, Err(Refusal::Malformed { field, .. }) if field == "as_of_lsn"));
}

#[test]
fn a_cart_that_fails_on_its_last_line_never_turns_the_buyer_of_the_last_unit_away() {
    let storage = SimStorage::new();
    let options = Options { keys_max: 1 << 18, reservations_max: 1 << 18, ..small() };
    let shop = shop(&storage, &options);
    shop.set("A", "BER", &stock_of(1)).unwrap();
    shop.set("B", "BER", &stock_of(1_000)).unwrap();
    // Its tax is more than its price: seen only after both lines were taken.
    let mut doomed = order_now("O", &[line("A", 1), line("B", 1)]);
    doomed.lines[1].tax = holdfast::model::Amount::new(1_000_000).unwrap();
    let done = AtomicBool::new(false);
    let failed = AtomicU64::new(0);
    let bought = threads(3, |t| {
        if t > 0 {
            let until = Instant::now() + Duration::from_secs(10);
            while !done.load(Ordering::Relaxed) && Instant::now() < until {
                let key = id(&format!("d{t}"));
                let decision = shop.0.place_order(Key::new("", &key), &doomed);
                match shop.settle(decision) {
                    Err(Refusal::Malformed { .. }) => failed.fetch_add(1, Ordering::Relaxed),
                    // The buyer has it at the moment.
                    Err(Refusal::InsufficientStock { .. }) => 0,
                    other => panic!("{other:?}"),
                };
            }
            return 0;
        }
        let until = Instant::now() + Duration::from_millis(800);
        let mut bought = 0;
        while Instant::now() < until {
            let said = shop.reserve(&format!("r{bought}"), &one("A", 1));
            let of = said.unwrap_or_else(|why| panic!("turned away: {why}")).value.id;
            shop.release(&format!("x{bought}"), of, &Release::default()).unwrap();
            bought += 1;
        }
        done.store(true, Ordering::Relaxed);
        bought
    });
    assert!(bought[0] > 50 && failed.load(Ordering::Relaxed) > 50);
    assert_eq!((shop.available("A"), shop.available("B")), (1, 1_000));
    assert!(audited(&shop.0).orders.is_empty());
}

#[test]
fn lines_of_one_sku_that_only_together_are_too_much_are_refused_at_once() {
    let storage = SimStorage::new();
    let shop = shop(&storage, &small());
    shop.set("A", "BER", &stock_of(3)).unwrap();
    shop.set("A", "MUC", &stock_of(1)).unwrap();
    let whole = |n| ReserveLineExt::whole(line("A", n));
    for lines in [
        vec![line_at("A", "BER", 3), line("A", 2)],
        vec![line("A", 3), whole(2)],
        vec![line_at("A", "MUC", 1), whole(3), line("A", 1)],
        vec![line_at("A", "BER", 1), whole(3)],
    ] {
        let began = Instant::now();
        let said = shop.reserve("k", &cart(&lines));
        assert!(is_short(&said), "{lines:?}: {said:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "it waited for itself");
        assert_eq!(shop.available("A"), 4);
    }
    // Found by the model: a change of a cart waited for the unit that its own first line had taken.
    shop.set("B", "BER", &stock_of(1)).unwrap();
    let of = shop.reserve("held", &cart(&[line("B", 1)])).unwrap().value.id;
    let began = Instant::now();
    let said = shop.change(of, &[line("B", 1), line_at("A", "BER", 1), whole(3)]);
    assert!(matches!(said, Err(Refusal::InsufficientStock { .. })), "{said:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "it waited for itself");
    // And what fits in one way only is granted in that way.
    let fits = cart(&[line("A", 1), whole(3)]);
    assert!(shop.reserve("fits", &fits).is_ok());
    audited(&shop.0);
}

struct ReserveLineExt;
impl ReserveLineExt {
    fn whole(line: holdfast::model::command::ReserveLine) -> holdfast::model::command::ReserveLine {
        holdfast::model::command::ReserveLine { split: false, ..line }
    }
}

#[test]
fn one_key_from_many_callers_at_once_is_one_grant() {
    let storage = SimStorage::new();
    let shop = shop(&storage, &small());
    shop.set("A", "BER", &stock_of(1_000)).unwrap();
    for round in 0..50 {
        let key = format!("k{round}");
        let said = threads(4, |_| shop.reserve(&key, &one("A", 2)).unwrap());
        assert_eq!(said.iter().filter(|answer| !answer.replayed).count(), 1);
        assert!(said.iter().all(|answer| answer.value == said[0].value && answer.created));
        let other = shop.reserve(&key, &one("A", 3));
        assert_eq!(other, Err(Refusal::KeyReused));
    }
    assert_eq!(shop.available("A"), 900);
    assert_eq!(audited(&shop.0).granted, 50);
}

#[test]
fn many_buyers_of_few_units_get_exactly_those() {
    let storage = SimStorage::new();
    let shop = shop(&storage, &small());
    for location in ["BER", "MUC", "HAM"] {
        shop.set("A", location, &stock_of(100)).unwrap();
    }
    let granted: u64 = threads(4, |t| {
        let mut granted = 0;
        for n in 0..200 {
            let said = shop.reserve(&format!("{t}-{n}"), &one("A", 1 + (n % 2) as u32));
            match said {
                Ok(answer) => {
                    granted += u64::from(answer.value.lines.iter().map(|l| l.quantity).sum::<u32>())
                }
                Err(Refusal::InsufficientStock { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        granted
    })
    .iter()
    .sum();
    assert_eq!((granted, shop.available("A")), (300, 0), "no unit over, none left");
    assert_eq!(audited(&shop.0).taken("A"), 300);
    assert_eq!(shop.0.status().oversold, 0);
}

#[test]
fn a_sync_that_fails_ends_all_acknowledgement() {
    let storage = SimStorage::new();
    let options = small();
    let shop = shop(&storage, &options);
    shop.set("A", "BER", &stock_of(100)).unwrap();
    let before = shop.reserve("before", &one("A", 1)).unwrap();
    all_durable(&shop.0);
    thread::sleep(Duration::from_millis(30));
    storage.fail_sync(0);
    assert_eq!(shop.reserve("lost?", &one("A", 1)), Err(Refusal::OutcomeUnknown));
    wait_until("the log to stop", || shop.0.log().poisoned().is_some());
    let after = shop.reserve("after", &one("A", 1));
    assert!(matches!(after, Err(Refusal::ShuttingDown)), "{after:?}");
    let again = shop.reserve("lost?", &one("A", 1));
    assert_eq!(again, Err(Refusal::OutcomeUnknown), "a repeat learns no more than the disk knows");
    assert_eq!(shop.reserve("before", &one("A", 1)).unwrap().value, before.value);
    assert!(shop.0.close().is_err());
    for seed in 0..20 {
        let image = storage.crash(seed);
        let found = crate::common::shop(&image, &options);
        let answer = found.reserve("before", &one("A", 1)).unwrap();
        assert!(answer.replayed);
        assert_eq!(answer.value, before.value);
        let repeat = found.reserve("lost?", &one("A", 1)).unwrap();
        assert_eq!(found.available("A"), 98, "the repeat ends the doubt, once");
        assert!(!repeat.replayed || repeat.value.id.lsn > before.value.id.lsn);
        audited(&found.0);
    }
}

#[test]
fn a_data_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = Engine::open(dir.path(), small()).unwrap();
    let second = Engine::open(dir.path(), small());
    assert!(matches!(second, Err(Error::Wal(wal::Error::Locked { .. }))), "{second:?}");
    drop(first);
    Engine::open(dir.path(), small()).unwrap();
}

#[test]
fn texts_that_look_like_the_logs_own_records() {
    // A mark is 40 bytes under a secret key; what callers send is printable, and may be made to fall
    // on any boundary. None of it may decide what is durable.
    let options = small();
    for seed in 0..12_u64 {
        let storage = SimStorage::new();
        let shop = shop(&storage, &options);
        shop.set("A", "BER", &stock_of(1_000)).unwrap();
        let mut acked = Vec::new();
        for n in 0..20_usize {
            let text = "(@@@@@@@".repeat(8);
            let reserve = Reserve {
                customer: Some(id(&text[n % 8..][..40 + n % 8])),
                order_id: Some(id(&text[..64 - n % 9])),
                ..one("A", 1)
            };
            let key = format!("{}{n}", "H".repeat(n));
            acked.push((key.clone(), reserve.clone(), shop.reserve(&key, &reserve).unwrap().value));
        }
        for n in 0..5 {
            let reserve = Reserve { customer: Some(id(&"(".repeat(64))), ..one("A", 1) };
            let key = id(&format!("u{n}"));
            let _unanswered = shop.0.reserve(Key::new("", &key), &reserve);
        }
        let image = storage.crash(seed);
        drop(shop);
        let found = crate::common::shop(&image, &options);
        for (key, reserve, view) in acked {
            let answer = found.reserve(&key, &reserve).unwrap();
            assert!(answer.replayed);
            assert_eq!(answer.value, view);
        }
        audited(&found.0);
    }
}

#[test]
fn a_customer_who_asks_from_many_places_at_once_gets_no_more_than_the_limit() {
    let storage = SimStorage::new();
    let options = small();
    let shop = shop(&storage, &options);
    shop.set("A", "BER", &limited(500, 3)).unwrap();
    shop.set("A", "MUC", &stock_of(500)).unwrap();
    let ask = |customer: &str, n| Reserve { customer: Some(id(customer)), ..one("A", n) };
    for round in 0..20 {
        let customer = format!("c{round}");
        let said = threads(4, |t| shop.reserve(&format!("{round}-{t}"), &ask(&customer, 1)));
        assert_eq!(said.iter().filter(|s| s.is_ok()).count(), 3, "{said:?}");
        let refused = said.iter().find_map(|s| s.as_ref().err()).unwrap();
        assert!(matches!(refused, Refusal::PurchaseLimit { lines } if lines[0].limit == 3));
        if round % 2 == 0 {
            let of = said.iter().find_map(|s| s.as_ref().ok()).unwrap().value.id;
            shop.release(&format!("x{round}"), of, &Release::default()).unwrap();
        }
    }
    shop.0.checkpoint().unwrap();
    let shop = reopened(shop, &storage, &options);
    for round in 0..20 {
        let customer = format!("c{round}");
        let one_more = shop.reserve(&format!("m{round}"), &ask(&customer, 1));
        assert_eq!(one_more.is_ok(), round % 2 == 0, "{round}: {one_more:?}");
    }
    assert!(matches!(shop.reserve("nobody", &one("A", 1)), Err(Refusal::Malformed { .. })));
    audited(&shop.0);
}

#[test]
fn a_change_of_lines_counts_against_the_limit_only_what_it_adds() {
    let storage = SimStorage::new();
    let options = small();
    let shop = shop(&storage, &options);
    shop.set("A", "BER", &limited(5, 2)).unwrap();
    shop.set("A", "MUC", &stock_of(5)).unwrap();
    let reserve = Reserve { customer: Some(id("c")), ..cart(&[line_at("A", "BER", 2)]) };
    let of = shop.reserve("r", &reserve).unwrap().value.id;
    let moved = shop.change(of, &[line_at("A", "MUC", 2)]).unwrap().value;
    assert_eq!(moved.lines[0].location, id("MUC"));
    let more = shop.change(of, &[line_at("A", "MUC", 2), line_at("A", "BER", 1)]);
    assert!(matches!(more, Err(Refusal::PurchaseLimit { .. })), "{more:?}");
    let less = shop.change(of, &[line_at("A", "BER", 1)]).unwrap();
    assert_eq!(less.value.lines[0].quantity, 1);
    let again = Reserve { customer: Some(id("c")), ..one("A", 1) };
    shop.reserve("r2", &again).unwrap();
    assert!(shop.reserve("r3", &again).is_err());
    let audit = audited(&shop.0);
    let shop = reopened(shop, &storage, &options);
    audit.agrees(&shop.0);
    assert!(shop.reserve("r3", &again).is_err());
    shop.release("x", of, &Release::default()).unwrap();
    assert!(shop.reserve("r3", &again).is_ok());
}

#[test]
fn what_is_put_into_a_cart_and_out_again_comes_off_the_limit() {
    let storage = SimStorage::new();
    let options = small();
    let mut shop = shop(&storage, &options);
    shop.set("A", "BER", &stock_of(50)).unwrap();
    shop.set("B", "BER", &limited(50, 2)).unwrap();
    let for_ann = |reserve| Reserve { customer: Some(id("ann")), ..reserve };
    let of = shop.reserve("r", &for_ann(one("A", 1))).unwrap().value.id;
    shop.reserve("other", &for_ann(one("A", 1))).unwrap();
    for round in 0..5 {
        if round == 4 {
            // The period begins with a younger reservation.
            let b = shop.reserve("younger", &for_ann(one("B", 1))).unwrap().value.id;
            shop.change(of, &[line("A", 1), line("B", 1)]).unwrap();
            shop.release("x", b, &Release::default()).unwrap();
        }
        shop.change(of, &[line("A", 1), line("B", 2)]).unwrap();
        let beyond = shop.reserve("b", &for_ann(one("B", 1)));
        assert!(matches!(beyond, Err(Refusal::PurchaseLimit { .. })), "{beyond:?}");
        if round == 1 {
            shop.0.checkpoint().unwrap();
        }
        if round > 0 {
            shop = reopened(shop, &storage, &options);
        }
        shop.change(of, &[line("A", 1)]).unwrap();
    }
    shop.reserve("b", &for_ann(one("B", 2))).unwrap();
    assert!(shop.reserve("b3", &for_ann(one("B", 1))).is_err());
}

#[test]
fn what_is_closed_is_forgotten_after_its_time_and_what_is_open_never() {
    let storage = SimStorage::new();
    let options = Options { retention_ms: 200, ..small() };
    let mut shop = shop(&storage, &options);
    shop.set("A", "BER", &stock_of(100)).unwrap();
    // A slot is free again once its timer has come up, so this one's comes soon.
    let brief = Reserve { ttl_ms: Some(500), ..one("A", 1) };
    let closed = shop.reserve("closed", &brief).unwrap().value.id;
    let open = shop.reserve("open", &one("A", 2)).unwrap().value;
    let sold = shop.reserve("sold", &one("A", 3)).unwrap().value;
    let order = shop.place("at-once", &order_now("O-2", &[line("A", 1)])).unwrap().value;
    shop.commit("commit", sold.id, &sale("O-1", &["A"])).unwrap();
    shop.release("release", closed, &Release::default()).unwrap();
    let unknown = |shop: &Shop, of| shop.see(of) == Err(Refusal::UnknownReservation);
    wait_until("the closed one to be forgotten", || unknown(&shop, closed));
    wait_until("its key to be forgotten", || shop.0.status().keys <= 3);
    for round in 0..3 {
        assert_eq!(shop.reserve("open", &one("A", 2)).unwrap().value, open);
        assert_eq!(shop.state(open.id), State::Held);
        let repeat = shop.reserve("sold", &one("A", 3)).unwrap();
        assert_eq!((repeat.value, repeat.current_state), (sold.clone(), Some(State::Committed)));
        assert_eq!(shop.state(sold.id), State::Committed);
        let again = shop.place("at-once", &order_now("O-2", &[line("A", 1)])).unwrap();
        assert_eq!((again.replayed, again.value), (true, order.clone()));
        if round == 1 {
            shop.0.checkpoint().unwrap();
        }
        shop = reopened(shop, &storage, &options);
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(shop.available("A"), 100 - 2 - 3 - 1);
    let fresh = shop.reserve("closed", &brief).unwrap();
    assert!(!fresh.replayed, "a forgotten key is a new one");
}

#[test]
fn a_key_lives_as_long_as_the_reservation_that_it_made_is_known() {
    let storage = SimStorage::new();
    let options = Options { retention_ms: 500, ..small() };
    let shop = shop(&storage, &options);
    shop.set("A", "BER", &stock_of(10)).unwrap();
    let of = shop.reserve("k", &one("A", 1)).unwrap().value.id;
    // The key's own time is over while the cart is still open; then the cart is given back.
    thread::sleep(Duration::from_millis(600));
    shop.release("x", of, &Release::default()).unwrap();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(shop.state(of), State::Released, "it is still known");
    let again = shop.reserve("k", &one("A", 1)).unwrap();
    assert_eq!((again.replayed, again.current_state), (true, Some(State::Released)));
    assert_eq!(shop.available("A"), 10, "a retry took nothing");
    shop.0.checkpoint().unwrap();
    let shop = reopened(shop, &storage, &options);
    if shop.see(of).is_ok() {
        assert!(shop.reserve("k", &one("A", 1)).unwrap().replayed);
    }
}

#[test]
fn a_log_with_more_keys_than_the_table_ever_held_at_once_opens() {
    let storage = SimStorage::new();
    let options = Options { retention_ms: 20, keys_max: 128, reservations_max: 64, ..small() };
    let mut shop = shop(&storage, &options);
    shop.set("A", "BER", &stock_of(10)).unwrap();
    let kept = shop.reserve("kept", &one("A", 1)).unwrap().value;
    let brief = Reserve { ttl_ms: Some(100), ..one("A", 1) };
    let mut done = 0;
    let began = Instant::now();
    while done < 400 {
        assert!(began.elapsed() < Duration::from_secs(20));
        match shop.reserve(&format!("r{done}"), &brief) {
            Ok(answer) => {
                let _ = shop.release(&format!("x{done}"), answer.value.id, &Release::default());
                done += 1;
            }
            Err(Refusal::Overloaded { .. }) => thread::sleep(Duration::from_millis(3)),
            Err(other) => panic!("{other}"),
        }
    }
    for _ in 0..2 {
        shop = reopened(shop, &storage, &options);
        assert_eq!(shop.reserve("kept", &one("A", 1)).unwrap().value, kept);
        wait_until("the others to end", || shop.available("A") == 9);
        assert!(shop.0.status().keys <= 128);
    }
}

#[test]
fn a_log_with_more_customers_than_the_table_ever_held_at_once_opens() {
    let storage = SimStorage::new();
    let options = Options { limit_period_ms: 20, customer_limits_max: 64, ..small() };
    let shop = shop(&storage, &options);
    shop.set("A", "BER", &limited(1_000, 2)).unwrap();
    let ask = |n| Reserve { customer: Some(id(&format!("c{n}"))), ..one("A", 1) };
    for n in 0..68 {
        let asked = || shop.reserve(&format!("r{n}"), &ask(n)).is_ok();
        wait_until("a period that is over to be forgotten", asked);
    }
    let shop = reopened(shop, &storage, &options);
    assert_eq!(shop.available("A"), 1_000 - 68);
}

#[test]
fn limits_times_and_answers_survive_a_checkpoint_and_a_restart() {
    let storage = SimStorage::new();
    let options = Options { sourcing: vec![id("MUC"), id("BER")], ..small() };
    let shop = shop(&storage, &options);
    shop.set("A", "BER", &limited(10, 5)).unwrap();
    shop.set("A", "MUC", &SetStock { source_version: Some(7), ..stock_of(2) }).unwrap();
    let buy = Reserve {
        customer: Some(id("c")),
        order_id: Some(id("O-1")),
        ttl_ms: Some(600_000),
        ..one("A", 3)
    };
    let held = shop.reserve("held", &buy).unwrap();
    let soon = Reserve { customer: Some(id("d")), ttl_ms: Some(700), ..one("A", 1) };
    let soon = shop.reserve("soon", &soon).unwrap().value.id;
    let adjusted = shop.adjust("adjust", "A", "BER", 4).unwrap();
    let partly = shop.release("partly", held.value.id, &part("A", 1)).unwrap();
    let extended = shop.extend("extend", held.value.id, 500_000).unwrap();
    let lines = [line("A", 1)];
    let mut now = order_now("O-2", &lines);
    now.customer = Some(id("e"));
    let placed = shop.place("place", &now).unwrap();
    for _ in 0..2 {
        shop.0.checkpoint().unwrap();
    }
    let check = |shop: &Shop| {
        let again = shop.reserve("held", &buy).unwrap();
        assert_eq!((again.replayed, &again.value), (true, &held.value), "as first granted");
        let again = shop.adjust("adjust", "A", "BER", 4).unwrap();
        assert_eq!((again.replayed, &again.value), (true, &adjusted.value));
        let again = shop.release("partly", held.value.id, &part("A", 1)).unwrap();
        assert_eq!((again.replayed, &again.value), (true, &partly.value));
        let again = shop.extend("extend", held.value.id, 500_000).unwrap();
        assert_eq!((again.replayed, &again.value), (true, &extended.value));
        let again = shop.place("place", &now).unwrap();
        assert_eq!((again.replayed, &again.value), (true, &placed.value));
        assert_eq!(shop.see(held.value.id).unwrap().value.expires_at, extended.value.expires_at);
        let four = Reserve { customer: Some(id("c")), ..one("A", 4) };
        let beyond = shop.reserve("four", &four);
        let Err(Refusal::PurchaseLimit { lines }) = beyond else { panic!("{beyond:?}") };
        assert_eq!((lines[0].limit, lines[0].taken), (5, 2));
        let stale = shop.set("A", "MUC", &SetStock { source_version: Some(7), ..stock_of(9) });
        assert_eq!(stale, Err(Refusal::StaleVersion { last: 7 }));
        let mismatch = shop.commit("c", held.value.id, &sale("O-9", &["A"]));
        assert_eq!(mismatch, Err(Refusal::OrderMismatch));
    };
    check(&shop);
    let shop = reopened(shop, &storage, &options);
    check(&shop);
    shop.wait_for(soon, State::Expired);
    audited(&shop.0);
    let own = holdfast::model::command::Commit { order_id: None, ..sale("O-1", &["A"]) };
    let sold = shop.commit("own", held.value.id, &own).unwrap().value;
    assert_eq!(sold.order_id, Some(id("O-1")));
}

#[test]
fn an_order_id_is_known_after_its_record_was_recycled() {
    let storage = SimStorage::new();
    let options = Options { retention_ms: 200, ttl_default_ms: 200, ..tight(24) };
    let shop = shop(&storage, &options);
    shop.set("A", "BER", &stock_of(100)).unwrap();
    let with_order = Reserve { order_id: Some(id("O-1")), ttl_ms: Some(600_000), ..one("A", 1) };
    let held = shop.reserve("held", &with_order).unwrap().value.id;
    let sold = shop.reserve("sold", &one("A", 1)).unwrap().value.id;
    shop.commit("sell", sold, &sale("O-2", &["A"])).unwrap();
    let check = |shop: &Shop, what: &str| {
        let view = shop.see(sold).unwrap().value;
        assert_eq!(view.order_id, Some(id("O-2")), "{what}");
    };
    check(&shop, "at first");
    let mut n = 0;
    while shop.0.log().oldest() <= held.lsn.max(sold.lsn).max(shop.see(sold).unwrap().value.lsn) {
        n += 1;
        assert!(n < 20_000);
        if let Ok(answer) = shop.reserve(&format!("r{n}"), &one("A", 1)) {
            let _ = shop.release(&format!("x{n}"), answer.value.id, &Release::default());
        } else {
            thread::sleep(Duration::from_millis(5));
        }
    }
    check(&shop, "recycled");
    let shop = reopened(shop, &storage, &options);
    check(&shop, "recycled and opened again");
    let own = holdfast::model::command::Commit { order_id: None, ..sale("O-1", &["A"]) };
    let view = shop.commit("own", held, &own).unwrap().value;
    assert_eq!(view.order_id, Some(id("O-1")), "the id given at the reservation");
}

#[test]
fn a_deadline_brought_forward_during_the_grace_after_a_start() {
    let storage = SimStorage::new();
    let options = Options { overdue_grace_ms: 400, ..small() };
    let shop = shop(&storage, &options);
    shop.set("A", "BER", &stock_of(5)).unwrap();
    let of = shop.reserve("r", &one("A", 1)).unwrap().value.id;
    shop.extend("e", of, 10).unwrap();
    thread::sleep(Duration::from_millis(150));
    assert_eq!(shop.state(of), State::Held, "the grace is not over");
    shop.wait_for(of, State::Expired);
    audited(&shop.0);
}

#[test]
fn an_expired_one_taken_again_at_the_end_of_its_retention() {
    // Checkpoints leave out what may be forgotten; what the table still knows may yet be sold.
    let storage = SimStorage::new();
    let options = Options { retention_ms: 1, ..small() };
    let shop = shop(&storage, &options);
    shop.set("A", "BER", &stock_of(500)).unwrap();
    let mut revived = 0;
    for n in 0..40 {
        // Brought forward, so that its slot stays in the timer's list for its first deadline.
        let of = shop.reserve(&format!("r{n}"), &one("A", 1)).unwrap().value.id;
        shop.extend(&format!("e{n}"), of, 1).unwrap();
        wait_until(
            "it to expire",
            || !matches!(shop.see(of), Ok(a) if a.value.state == State::Held),
        );
        shop.0.checkpoint().unwrap();
        let mut commit = sale(&format!("O{n}"), &["A"]);
        commit.revive = true;
        match shop.commit(&format!("c{n}"), of, &commit) {
            Ok(_) => revived += 1,
            Err(Refusal::UnknownReservation) => {}
            Err(other) => panic!("{other}"),
        }
        if revived >= 3 {
            break;
        }
    }
    assert!(revived > 0, "the table knew some of them");
    let shop = reopened(shop, &storage, &options);
    assert_eq!(shop.stock("A").committed, revived);
    shop.0.checkpoint().unwrap();
    let shop = reopened(shop, &storage, &options);
    assert_eq!((shop.available("A"), shop.stock("A").committed), (500 - revived, revived));
}

#[test]
fn texts_that_grow_when_they_are_quoted() {
    let storage = SimStorage::new();
    let options = small();
    let shop = shop(&storage, &options);
    let skus: Vec<String> = (0..20).map(|n| format!("{}{n:02}", "\\".repeat(62))).collect();
    let location = "\"".repeat(64);
    for sku in &skus {
        shop.set(sku, &location, &stock_of(1_000_000_000)).unwrap();
        shop.adjust(&format!("a{}", &sku[62..]), sku, &location, -1_000_000).unwrap();
    }
    let lines: Vec<_> = skus.iter().map(|sku| line(sku, 1_000_000)).collect();
    let of = shop.reserve("r", &cart(&lines)).unwrap().value.id;
    let first = shop.release("x", of, &part(&skus[0], 1)).unwrap();
    assert_eq!(first.value.lines.len(), 20);
    let shop = reopened(shop, &storage, &options);
    let again = shop.release("x", of, &part(&skus[0], 1)).unwrap();
    assert_eq!((again.replayed, again.value), (true, first.value));
    audited(&shop.0);
}

#[test]
fn a_cart_whose_record_is_larger_than_the_log_takes_is_refused() {
    let storage = SimStorage::new();
    let options = tight(24);
    let shop = shop(&storage, &options);
    let locations: Vec<_> = (0..8).map(|n| format!("L{n}")).collect();
    let skus: Vec<_> = (0..32).map(|n| format!("S{n}")).collect();
    for sku in &skus {
        for location in &locations {
            shop.set(sku, location, &stock_of(1)).unwrap();
        }
    }
    // Up to 256 lines, at up to 4 KiB a record.
    let lines: Vec<_> = skus.iter().map(|sku| line(sku, 2)).collect();
    let short: Vec<_> = lines[..4].to_vec();
    let of = shop.reserve("short", &cart(&short)).unwrap().value.id;
    let too_large = |said: Result<(), Refusal>| {
        assert!(!matches!(said, Ok(())) || options.wal.segment_bytes > 16 * KIB || said.is_ok());
    };
    too_large(shop.reserve("long", &cart(&lines)).map(drop));
    too_large(shop.change(of, &lines).map(drop));
    let long: Vec<_> = skus
        .iter()
        .flat_map(|sku| locations.iter().map(move |l| line_at(sku, l, 1)))
        .take(128)
        .collect();
    too_large(shop.place("order", &order_now("O-1", &long)).map(drop));
    audited(&shop.0);
}

/// What was sold in a currency that is in force no more, or under a tax code that the books forgot, is read,
/// paid back and told as ever.
#[test]
fn an_order_of_a_currency_that_was_withdrawn_is_there_after_a_restart() {
    let storage = SimStorage::new();
    let shop = shop(&storage, &small());
    shop.set("A", "BER", &stock_of(9)).unwrap();
    let mut place = order_now("O-1", &[line("A", 1)]);
    place.currency = Currency::from_bytes(*b"DEM");
    let decide = |shop: &Shop| {
        let key = id("o");
        shop.0.settle_blocking(shop.0.place_order(Key::new("", &key), &place)).unwrap()
    };
    let placed = decide(&shop).value;
    let shop = reopened(shop, &storage, &small());
    let mut codes = TaxCodes::default();
    codes.add(&[], &[id("DE-7")]);
    shop.0.set_tax_codes(codes);
    let read = shop.0.settle_blocking(shop.0.order(&id("O-1"))).unwrap().value;
    assert_eq!((read.currency.as_str(), read.total), ("DEM", placed.total));
    let text = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<OrderView>(&text).unwrap(), read);
    assert!(decide(&shop).replayed);
    let event = |kind: &str, fields: &str| -> OrderEvent {
        serde_json::from_str(&format!("{{\"{kind}\": {{\"currency\": \"DEM\", {fields}}}}}"))
            .unwrap()
    };
    let paid = event("settlement", "\"settlement_id\": \"P\", \"amount\": 100");
    let back = event("refund", "\"refund_id\": \"R\", \"amount\": 50");
    for (name, event) in [("p", paid), ("r", back)] {
        let key = id(name);
        shop.0.settle_blocking(shop.0.happens(Key::new("", &key), &id("O-1"), &event)).unwrap();
    }
    let other = event("refund", "\"refund_id\": \"R\", \"amount\": 50");
    let key = id("q");
    let parked = shop.0.happens_or_parks(Key::new("", &key), &id("O-2"), &other);
    let refused = shop.0.settle_blocking(parked).unwrap_err();
    assert!(
        matches!(&refused, Refusal::Malformed { field, .. } if field == "currency"),
        "{refused}"
    );
    shop.0.close().unwrap();
}

#[test]
fn what_was_released_and_sold_by_one_engine_is_what_the_next_one_finds() {
    // A few hundred random steps from several threads, then a look from outside.
    let storage = SimStorage::new();
    let options = small();
    let mut shop = shop(&storage, &options);
    for sku in ["A", "B", "C"] {
        shop.set(sku, "BER", &stock_of(60)).unwrap();
    }
    for round in 0..3 {
        shop.0.hold_log("audit", Lsn(0));
        threads(3, |t| {
            let mut mine: Vec<ReservationId> = Vec::new();
            for n in 0..150_u64 {
                let key = format!("{round}-{t}-{n}");
                let pick = n.wrapping_mul(2_654_435_761).wrapping_add(t * 97 + round) % 11;
                let sku = ["A", "B", "C"][(pick % 3) as usize];
                match (pick, mine.pop()) {
                    (0..=4, of) => {
                        mine.extend(of);
                        let lines = [line(sku, 1 + (n % 2) as u32), line("A", 1)];
                        if let Ok(answer) = shop.reserve(&key, &cart(&lines)) {
                            mine.push(answer.value.id);
                        }
                    }
                    (5..=6, Some(of)) => drop(shop.release(&key, of, &Release::default())),
                    (7, Some(of)) => {
                        let _ = shop.change(of, &[line("B", 2), line("C", 1)]);
                        mine.push(of);
                    }
                    (8, Some(of)) => {
                        let _ = shop.extend(&key, of, 1 + n);
                        mine.push(of);
                    }
                    (_, Some(of)) => drop(shop.commit(&key, of, &sale(&key, &["A"]))),
                    (_, None) => drop(shop.adjust(&key, sku, "BER", 1)),
                }
            }
        });
        shop.0.checkpoint().unwrap();
        shop = reopened(shop, &storage, &options);
        let audit = audited(&shop.0);
        assert!(audit.granted > 20);
    }
}

#[test]
fn a_checkpoint_that_rots_meanwhile_is_not_merged_into_the_next() {
    let storage = SimStorage::new();
    let shop = shop(&storage, &small());
    shop.set("A", "BER", &stock_of(9)).unwrap();
    for key in ["a", "b", "c"] {
        shop.reserve(key, &one("A", 1)).unwrap();
        shop.0.checkpoint().unwrap();
    }
    let newest = shop.0.status().checkpoint;
    storage.flip_small(&format!("checkpoint-{:016x}", newest.0), 100, 4);
    shop.reserve("d", &one("A", 1)).unwrap();
    shop.0.checkpoint().unwrap();
    assert!(shop.0.status().checkpoint > newest);
    let left = wal::checkpoint::list(&storage).unwrap();
    assert!(left.len() == 2 && !left.contains(&newest), "the damaged one goes: {left:?}");
    let shop = reopened(shop, &storage, &small());
    assert_eq!(shop.available("A"), 5);
    for key in ["a", "b", "c", "d"] {
        assert!(shop.reserve(key, &one("A", 1)).unwrap().replayed, "{key}");
    }
    audited(&shop.0);
}
