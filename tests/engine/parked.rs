//! Reports of partners that come before their order: parked, found again after any crash, and happened
//! once and only once when the order is there.

use std::time::{Duration, Instant};

use crate::common::*;
use holdfast::{
    Answer, Decision, Engine, Key, Options, Refusal,
    engine::ParkedFilter,
    model::{
        Lsn, OrderId, Origin,
        fact::FactKind,
        inbound::{OrderEvent, ParkedEventView, ParkedState, Taken},
        view::{FactView, OrderView, ReservationState},
    },
    wal::{
        Storage,
        sim::{Random, SimStorage},
    },
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

fn event(said: Value) -> OrderEvent {
    serde_json::from_value(said).unwrap()
}

fn settlement(name: &str, amount: i64) -> OrderEvent {
    event(json!({"settlement": {"settlement_id": name, "currency": "EUR", "amount": amount}}))
}

/// Reports to an engine, and looks at what is parked.
struct Inbox<'e, S: Storage>(&'e Engine<S>);

impl<S: Storage> Inbox<'_, S> {
    fn decide(&self, key: &str, order: &str, event: &OrderEvent) -> Decision<Taken> {
        let key: holdfast::model::IdempotencyKey = id(key);
        let origin = Origin::new("req-7", None);
        self.0.happens_or_parks(Key { origin, ..Key::new("psp", &key) }, &id(order), event)
    }

    fn send(&self, key: &str, order: &str, event: &OrderEvent) -> Result<Answer<Taken>, Refusal> {
        self.0.settle_blocking(self.decide(key, order, event))
    }

    fn park(&self, key: &str, order: &str, event: &OrderEvent) -> ParkedEventView {
        match self.send(key, order, event).unwrap() {
            Answer { value: Taken::Parked(view), replayed: false, .. } => view,
            other => panic!("{other:?}"),
        }
    }

    fn list(&self) -> Vec<ParkedEventView> {
        let filter = ParkedFilter { events_max: 100, ..ParkedFilter::default() };
        self.0.settle_blocking(self.0.parked_events(&filter)).unwrap().value
    }

    fn place(&self, order: &str) {
        let place = order_now(order, &[line("A", 3)]);
        self.0.settle_blocking(self.0.place_order(Key::new("shop", &id(order)), &place)).unwrap();
    }

    fn order(&self, order: &str) -> OrderView {
        let order: OrderId = id(order);
        self.0.settle_blocking(self.0.order(&order)).unwrap().value
    }

    fn retry(&self, parked: Lsn) -> Result<Answer<FactView>, Refusal> {
        self.0.settle_blocking(self.0.retry_parked_event(parked))
    }

    /// Waits until nothing waits for its order.
    fn until_none_waits(&self) {
        let began = Instant::now();
        while self.0.status().parked_events > 0 {
            assert!(began.elapsed() < PATIENCE, "{:?}", self.list());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn opened(options: &Options) -> (SimStorage, SimEngine) {
    let storage = SimStorage::new();
    let engine = open(&storage, options);
    Shop(engine.clone()).set("A", "BER", &stock_of(50)).unwrap();
    (storage, engine)
}

/// What may come of an order of three units of A, latest first.
fn in_reversed_order() -> Vec<OrderEvent> {
    let lines = |quantity: u32| json!([{"sku": "A", "quantity": quantity}]);
    [
        json!({"receipt": ["RT", {"receipt_id": "RC", "lines": lines(1)}]}),
        json!({"refund": {"refund_id": "R", "currency": "EUR", "amount": 1999}}),
        json!({"return": {"return_id": "RT", "lines": lines(1)}}),
        json!({"note": {"note_id": "N", "text": "a dispute"}}),
        json!({"settlement": {"settlement_id": "P", "currency": "EUR", "amount": 3998, "fee": 9}}),
        json!({"invoice": {"invoice_id": "I", "currency": "EUR", "amount": 3998}}),
        json!({"shipment": {"shipment_id": "S", "lines": lines(2)}}),
        json!({"cancellation": {"cancellation_id": "C", "lines": lines(1)}}),
    ]
    .into_iter()
    .map(event)
    .collect()
}

#[test]
fn a_whole_life_in_reversed_order_happens_once_the_order_is_there() {
    let (storage, engine) = opened(&small());
    let inbox = Inbox(&engine);
    for (n, event) in in_reversed_order().iter().enumerate() {
        let view = inbox.park(&format!("m-{n}"), "O-1", event);
        assert_eq!((view.kind, view.event_id.as_str()), (event.kind(), event.id().as_str()));
    }
    let parked = inbox.list();
    assert_eq!(parked.len(), 8);
    assert!(parked.iter().all(|p| p.state == ParkedState::Parked && p.age_ms.is_some()));
    assert_eq!(engine.status().parked_events, 8);
    inbox.place("O-1");
    inbox.until_none_waits();
    assert_eq!(inbox.list(), []);
    let order = inbox.order("O-1");
    assert_eq!(order.state, ReservationState::Fulfilled);
    assert_eq!((order.money.settled, order.money.refunded), (3998, 1999));
    let stock = engine.stock(&id("A")).unwrap();
    assert_eq!((stock.on_hand, stock.committed, stock.available), (49, 0, 49));
    drop(engine);
    let engine = open(&storage, &small());
    assert_eq!(Inbox(&engine).order("O-1"), order);
    assert_eq!(engine.status().parked_events, 0);
}

#[test]
fn a_repeat_is_the_first_answer_before_and_after() {
    let (storage, engine) = opened(&small());
    let inbox = Inbox(&engine);
    let first = inbox.park("m-1", "O-1", &settlement("P", 100));
    let again = |engine: &SimEngine, state| {
        let said = Inbox(engine).send("m-1", "O-1", &settlement("P", 100)).unwrap();
        assert_eq!(said.value, Taken::Parked(first.clone()));
        assert!(said.replayed);
        assert_eq!(said.current_state, state);
    };
    again(&engine, None);
    // By its own id under another key, too.
    let other_key = inbox.send("m-2", "O-1", &settlement("P", 100)).unwrap();
    assert_eq!((other_key.value, other_key.replayed), (Taken::Parked(first.clone()), true));
    assert_eq!(inbox.send("m-1", "O-1", &settlement("P", 99)), Err(Refusal::KeyReused));
    assert_eq!(inbox.send("m-1", "O-2", &settlement("P", 100)), Err(Refusal::KeyReused));
    let other = Err(Refusal::OtherContent { kind: FactKind::Settlement });
    assert_eq!(inbox.send("m-3", "O-1", &settlement("P", 99)), other);
    assert_eq!(inbox.list().len(), 1);
    // The plain route parks nothing, whatever the key.
    let (key, order) = (id("m-1"), id("O-1"));
    let plain = |engine: &SimEngine| {
        let decision = engine.happens(Key::new("psp", &key), &order, &settlement("P", 100));
        engine.settle_blocking(decision)
    };
    assert_eq!(plain(&engine), Err(Refusal::UnknownOrder));
    drop(engine);
    let engine = open(&storage, &small());
    again(&engine, None);
    Inbox(&engine).place("O-1");
    Inbox(&engine).until_none_waits();
    again(&engine, Some(ReservationState::Committed));
    assert_eq!(plain(&engine).unwrap().value.kind, FactKind::Settlement);
    drop(engine);
    let engine = open(&storage, &small());
    again(&engine, Some(ReservationState::Committed));
    assert_eq!(Inbox(&engine).order("O-1").money.settled, 100);
}

#[test]
fn at_the_limit_a_report_is_refused_and_nothing_is_dropped() {
    let options = Options { parked_events_max: 2, ..small() };
    let (storage, engine) = opened(&options);
    let inbox = Inbox(&engine);
    let first = inbox.park("m-1", "O-1", &settlement("P-1", 1));
    inbox.park("m-2", "O-2", &settlement("P-2", 1));
    let refused = inbox.send("m-3", "O-3", &settlement("P-3", 1));
    assert!(matches!(refused, Err(Refusal::Overloaded { .. })), "{refused:?}");
    // Repeats are answered, and whose order is there needs no room.
    assert!(inbox.send("m-1", "O-1", &settlement("P-1", 1)).unwrap().replayed);
    inbox.place("O-3");
    let happened = inbox.send("m-3", "O-3", &settlement("P-3", 1)).unwrap();
    assert!(matches!(happened.value, Taken::Happened(_)));
    let discarded = engine.settle_blocking(engine.discard_parked_event(first.id, "a test's"));
    assert_eq!(discarded.unwrap().value.event_id, first.event_id);
    let gone = engine.settle_blocking(engine.discard_parked_event(first.id, ""));
    assert_eq!(gone.unwrap_err(), Refusal::UnknownParkedEvent);
    inbox.park("m-4", "O-4", &settlement("P-4", 1));
    drop(engine);
    // A lower limit than what is there refuses what is new, and drops nothing.
    let engine = open(&storage, &Options { parked_events_max: 1, ..options });
    let ids: Vec<_> = Inbox(&engine).list().iter().map(|p| p.event_id.to_string()).collect();
    assert_eq!(ids, ["P-2", "P-4"]);
    let refused = Inbox(&engine).send("m-5", "O-5", &settlement("P-5", 1));
    assert!(matches!(refused, Err(Refusal::Overloaded { .. })), "{refused:?}");
}

#[test]
fn what_the_order_would_not_have_stays_with_its_reason_for_a_person() {
    let (storage, engine) = opened(&small());
    let inbox = Inbox(&engine);
    let parked = inbox.park("m-1", "O-1", &settlement("P", 1_000_000));
    let late = event(json!({"shipment": {"shipment_id": "S", "lines": [
        {"sku": "A", "quantity": 3, "location": "HAM"}]}}));
    let late = inbox.park("m-2", "O-1", &late);
    inbox.place("O-1");
    inbox.until_none_waits();
    let check = |engine: &SimEngine| {
        let list = Inbox(engine).list();
        let codes: Vec<_> = list.iter().map(|p| p.refusal.as_ref().unwrap().code.clone()).collect();
        assert_eq!(codes, ["wrong_state", "unknown_sku"], "{list:?}");
        assert!(list.iter().all(|p| p.state == ParkedState::Refused));
        let status = engine.status();
        assert_eq!((status.parked_events, status.parked_events_refused), (0, 2));
    };
    check(&engine);
    let refused = inbox.retry(parked.id);
    assert!(matches!(refused, Err(Refusal::BeyondSold { .. })), "{refused:?}");
    engine.checkpoint().unwrap();
    drop(engine);
    let engine = open(&storage, &small());
    check(&engine);
    // What was missing comes: then it can happen.
    Shop(engine.clone()).set("A", "HAM", &stock_of(9)).unwrap();
    let inbox = Inbox(&engine);
    let happened = inbox.retry(late.id).unwrap().value;
    assert_eq!((happened.kind, happened.state), (FactKind::Shipment, ReservationState::Fulfilled));
    assert_eq!(inbox.retry(late.id).unwrap_err(), Refusal::UnknownParkedEvent);
    engine.settle_blocking(engine.discard_parked_event(parked.id, "paid twice")).unwrap();
    assert_eq!(inbox.list(), []);
    engine.checkpoint().unwrap();
    drop(engine);
    let engine = open(&storage, &small());
    assert_eq!(Inbox(&engine).list(), []);
    assert_eq!(Inbox(&engine).order("O-1").money.settled, 0);
}

#[test]
fn what_could_never_happen_is_not_parked() {
    let (_storage, engine) = opened(&small());
    let inbox = Inbox(&engine);
    let with = |kind: &str, id: &str, part: &str| {
        let body = json!({id: "X", "currency": "EUR", "amount": 1, part: 2});
        event(json!({ kind: body }))
    };
    for (wrong, field) in [
        (with("invoice", "invoice_id", "tax"), "tax"),
        (with("settlement", "settlement_id", "fee"), "fee"),
        (with("refund", "refund_id", "tax"), "tax"),
        (event(json!({"note": {"note_id": "N", "text": ""}})), "text"),
        (event(json!({"shipment": {"shipment_id": "S", "lines": []}})), "lines"),
        (event(json!({"cancellation": {"cancellation_id": "S", "lines": []}})), "lines"),
        (event(json!({"return": {"return_id": "S", "lines": []}})), "lines"),
        (event(json!({"receipt": ["S", {"receipt_id": "S", "lines": []}]})), "lines"),
    ] {
        let refused = inbox.send("m", "O-1", &wrong).unwrap_err();
        assert!(matches!(&refused, Refusal::Malformed { field: f, .. } if f == field), "{refused}");
    }
    // More than is kept of one.
    let lines: Vec<_> =
        (0..2_000).map(|n| json!({"sku": format!("S-{n}"), "quantity": 1})).collect();
    let large = event(json!({"shipment": {"shipment_id": "S", "lines": lines}}));
    assert_eq!(inbox.send("m", "O-1", &large), Err(Refusal::UnknownOrder));
    assert_eq!(inbox.list(), []);
}

#[test]
fn a_list_has_its_filters_and_what_happened_names_the_request_that_brought_it() {
    let (_storage, engine) = opened(&small());
    let inbox = Inbox(&engine);
    for (n, order) in ["O-1", "O-2", "O-1"].into_iter().enumerate() {
        inbox.park(&format!("m-{n}"), order, &settlement(&format!("P-{n}"), 1));
    }
    let ids = |filter: &ParkedFilter| -> Vec<String> {
        let list = engine.settle_blocking(engine.parked_events(filter)).unwrap().value;
        list.iter().map(|p| p.event_id.to_string()).collect()
    };
    let all = ParkedFilter { events_max: 9, ..ParkedFilter::default() };
    assert_eq!(ids(&all), ["P-0", "P-1", "P-2"]);
    assert_eq!(ids(&ParkedFilter { order: Some(id("O-1")), ..all.clone() }), ["P-0", "P-2"]);
    assert_eq!(ids(&ParkedFilter { events_max: 1, ..all.clone() }), ["P-0"]);
    let refused = ParkedFilter { state: Some(ParkedState::Refused), ..all.clone() };
    assert_eq!(ids(&refused), [""; 0]);
    let first = inbox.list()[0].id;
    assert_eq!(ids(&ParkedFilter { after: Some(first), ..all }), ["P-1", "P-2"]);
    let one = engine.settle_blocking(engine.parked_event(first)).unwrap().value;
    assert_eq!(one.data.unwrap()["settlement"]["settlement_id"], "P-0");
    inbox.place("O-1");
    let began = Instant::now();
    while engine.status().parked_events > 1 && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let trace = engine.settle_blocking(engine.trace(&id("O-1"))).unwrap().value;
    let requests: Vec<_> = trace.records.iter().filter_map(|r| r.request_id.as_deref()).collect();
    assert_eq!(requests, ["req-7", "req-7"], "{trace:?}");
}

/// Every moment of a report's way is crashed at: what was told is there, it happens once, and never
/// before its order.
#[test]
fn a_crash_at_any_moment_loses_no_report_and_lets_none_happen_twice() {
    let mut happened_before_unparked = 0;
    // Each waits for what happens by itself, a hundred times as long as an image takes elsewhere.
    for seed in 1..=setting("HOLDFAST_CRASH_IMAGES", 6_000) / 100 {
        let mut random = Random(seed);
        let (storage, engine) = opened(&small());
        let inbox = Inbox(&engine);
        storage.set_sync_delay(Duration::from_micros(random.below(2_000)));
        let parks: Vec<_> = (0..4)
            .map(|n| inbox.decide(&format!("m-{n}"), "O-1", &settlement(&format!("P-{n}"), 10)))
            .collect();
        let place = order_now("O-1", &[line("A", 3)]);
        let placed =
            (random.below(4) > 0).then(|| engine.place_order(Key::new("shop", &id("O-1")), &place));
        if random.below(3) == 0 {
            engine.checkpoint().unwrap();
        }
        // Up to somewhat more than the time in which they happen.
        std::thread::sleep(Duration::from_micros(random.below(160_000)));
        let durable = engine.log().durable();
        let image = match random.below(4) {
            0 => storage.kill(),
            _ => storage.crash(random.next_u64()),
        };
        drop(engine);
        let engine = open(&image, &small());
        let inbox = Inbox(&engine);
        let told = |lsn: Option<Lsn>| lsn.is_some_and(|lsn| lsn < durable);
        let order = engine.settle_blocking(engine.order(&id("O-1"))).ok();
        let settled_at_open = order.map_or(0, |order| order.value.money.settled);
        happened_before_unparked += u64::from(settled_at_open > 0 && !inbox.list().is_empty());
        for (n, park) in parks.iter().enumerate().filter(|(_, park)| told(park.lsn())) {
            let event = settlement(&format!("P-{n}"), 10);
            let again = inbox.send(&format!("m-{n}"), "O-1", &event).unwrap();
            let first = engine.settle_blocking(park.clone()).unwrap();
            assert_eq!((again.replayed, again.value), (true, first.value), "seed {seed}, {n}");
        }
        // The senders repeat what they have no answer to; the shop does too.
        for n in 0..4 {
            inbox.send(&format!("m-{n}"), "O-1", &settlement(&format!("P-{n}"), 10)).unwrap();
        }
        if told(placed.and_then(|placed| placed.lsn())) {
            inbox.order("O-1");
        }
        inbox.place("O-1");
        inbox.until_none_waits();
        assert_eq!(inbox.order("O-1").money.settled, 40, "seed {seed}");
        assert_eq!(inbox.list(), [], "seed {seed}");
        engine.checkpoint().unwrap();
        drop(engine);
        let engine = open(&image, &small());
        assert_eq!(Inbox(&engine).order("O-1").money.settled, 40, "seed {seed}");
        assert_eq!(engine.status().parked_events, 0, "seed {seed}");
    }
    println!("{happened_before_unparked} images in which one had happened and others not");
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
