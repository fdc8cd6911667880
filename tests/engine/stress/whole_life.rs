//! Threads that let everything that can happen to an order happen to one order at once: the same event
//! by several keys and by one, other events meanwhile, some of them before the order is there. Others
//! look at it, at all orders, and at its trace; checkpoints are made meanwhile.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use holdfast::{
    Key, Refusal,
    model::{
        Lsn, OrderId,
        fact::FactKind,
        inbound::{OrderEvent, Taken},
        view::{FactView, OrderView},
    },
    wal::sim::Random,
};
use serde_json::json;

use super::{THREADS, UNITS};
use crate::common::*;

const STEPS: u64 = 120;
/// Events that there are; each is always the same.
const EVENTS: u64 = 56;
/// An event that only comes before the order, and is parked.
const EARLY: u64 = EVENTS + 7;
/// The step at which the order is placed, by two threads at once.
const PLACED_AT: u64 = STEPS / 4;

/// Units that the event of a number is about.
fn units(number: u64) -> u32 {
    1 + (number / 8 % 2) as u32
}

/// Minor units that the event of a number is about.
fn amount(number: u64) -> i64 {
    700 + number as i64
}

fn event(sku: &str, number: u64) -> OrderEvent {
    let at = [json!(null), json!("X"), json!("Y")][(number / 8 % 3) as usize].clone();
    let lines = json!([{"sku": sku, "quantity": units(number), "location": at}]);
    let units = json!([{"sku": sku, "quantity": units(number)}]);
    let (own, amount) = (format!("own-{number}"), amount(number));
    let said = match number % 8 {
        0 => json!({"shipment": {"shipment_id": own, "lines": lines}}),
        1 if number == 49 => json!({"cancellation": {"cancellation_id": own}}),
        1 => json!({"cancellation": {"cancellation_id": own, "lines": units}}),
        2 => json!({"invoice": {"invoice_id": own, "currency": "EUR", "amount": amount}}),
        3 => json!({"settlement":
            {"settlement_id": own, "currency": "EUR", "amount": amount, "fee": 1}}),
        4 => json!({"refund": {"refund_id": own, "currency": "EUR", "amount": amount}}),
        5 => json!({"return": {"return_id": own, "lines": units, "restock": true}}),
        6 => json!({"receipt": [format!("own-{}", number - 1),
            {"receipt_id": own, "lines": lines}]}),
        _ => json!({"note": {"note_id": own, "text": "a dispute"}}),
    };
    serde_json::from_value(said).unwrap()
}

/// What the threads share.
struct Rush<'a> {
    shop: &'a Shop,
    order: OrderId,
    sku: String,
    /// The answer about each event.
    answers: Mutex<HashMap<(FactKind, String), FactView>>,
    /// Events that were said to be new, and those that were parked.
    new: Mutex<Vec<Lsn>>,
    parked: Mutex<HashMap<String, Lsn>>,
}

/// Some orders, one after the other, while checkpoints are made.
pub fn of_orders(shop: &Shop, seed: u64) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                shop.0.checkpoint().unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let orders = scope.spawn(|| (0..3).for_each(|n| of_order(shop, seed + n, n)));
        let done = orders.join();
        over.store(true, Ordering::Relaxed);
        done.unwrap();
    });
}

fn of_order(shop: &Shop, seed: u64, number: u64) {
    let (sku, order) = (format!("W{number}"), format!("whole-{number}"));
    shop.set(&sku, "X", &stock_of(UNITS)).unwrap();
    shop.set(&sku, "Y", &stock_of(UNITS)).unwrap();
    let rush = Rush {
        shop,
        order: id(&order),
        sku,
        answers: Mutex::default(),
        new: Mutex::default(),
        parked: Mutex::default(),
    };
    rush.report(EARLY, &format!("{}-early", rush.order));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let rush = &rush;
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_mul(31).wrapping_add(thread));
                let mut before = None;
                for step in 0..STEPS {
                    if step == PLACED_AT && thread < 2 {
                        rush.place();
                    }
                    rush.step(&mut random, &format!("{}-{thread}-{step}", rush.order), &mut before);
                }
            });
        }
    });
    wait_until("what was parked to happen", || shop.0.status().parked_events == 0);
    rush.adds_up();
}

impl Rush<'_> {
    fn place(&self) {
        let name = self.order.as_str();
        let place = order_now(name, &[line_at(&self.sku, "X", UNITS)]);
        self.shop.place(&format!("{name}-placed"), &place).unwrap();
    }

    fn step(&self, random: &mut Random, name: &str, before: &mut Option<OrderView>) {
        let engine = &self.shop.0;
        match random.below(12) {
            0 | 1 => match self.shop.settle(engine.order(&self.order)) {
                Ok(seen) => self.saw(seen.value, before),
                Err(Refusal::UnknownOrder) => assert!(before.is_none(), "it was there"),
                Err(other) => panic!("{other}"),
            },
            2 => engine
                .each_order(|seen| {
                    assert!(engine.log().is_acked(seen.lsn), "told before it is durable");
                    if seen.order_id == self.order {
                        self.saw(seen, before);
                    }
                    ControlFlow::Continue(())
                })
                .unwrap(),
            3 => match self.shop.settle(engine.trace(&self.order)) {
                Ok(told) => {
                    let last = told.value.records.last().map(|record| record.lsn);
                    assert_eq!(last, Some(told.value.lsn), "a trace ends with the last record");
                }
                Err(Refusal::UnknownOrder) => {}
                Err(other) => panic!("{other}"),
            },
            // With a key of its own, or one that others have for the same event.
            mine => match random.below(EVENTS) {
                number if mine % 2 == 0 => self.report(number, name),
                number => self.report(number, &format!("{}-{number}", self.order)),
            },
        }
    }

    fn report(&self, number: u64, key: &str) {
        let (said, name) = (event(&self.sku, number), id(key));
        let key_of = Key::new("psp", &name);
        let decision = self.shop.0.happens_or_parks(key_of, &self.order, &said);
        match self.shop.settle(decision) {
            Ok(answer) => match answer.value {
                Taken::Happened(view) => self.happened(view, answer.created && !answer.replayed),
                Taken::Parked(view) => {
                    let mut parked = self.parked.lock().unwrap();
                    let first = *parked.entry(key.to_owned()).or_insert(view.id);
                    assert_eq!(first, view.id, "a repeat gets the first answer");
                }
            },
            Err(Refusal::BeyondSold { .. } | Refusal::InsufficientStock { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn happened(&self, view: FactView, new: bool) {
        if new {
            self.new.lock().unwrap().push(view.lsn);
        }
        let mut answers = self.answers.lock().unwrap();
        let event = (view.kind, view.id.to_string());
        let first = answers.entry(event).or_insert_with(|| view.clone());
        assert_eq!(*first, view, "the same event is answered the same");
    }

    /// What is seen at once belongs together, and nothing that was seen is gone later.
    fn saw(&self, now: OrderView, before: &mut Option<OrderView>) {
        let last = now.events.last().map_or(now.lsn, |event| event.lsn);
        assert_eq!(now.lsn, last, "the last record is the last event's");
        assert!(now.events.is_sorted_by_key(|event| event.lsn));
        let state = now.events.last().map_or(now.state, |event| event.state);
        assert_eq!(now.state, state, "the state is that of the last event");
        let sum = |kind: FactKind, of: fn(u64) -> i64| -> i64 {
            let events = now.events.iter().filter(|event| event.kind == kind);
            events.map(|event| of(event.id.as_str()[4..].parse().unwrap())).sum()
        };
        assert_eq!(now.money.invoiced, sum(FactKind::Invoice, amount));
        assert_eq!(now.money.settled, sum(FactKind::Settlement, amount));
        assert_eq!(now.money.refunded, sum(FactKind::Refund, amount));
        let left = sum(FactKind::Shipment, |number| units(number).into());
        assert_eq!(i64::from(now.lines[0].shipped), left);
        if let Some(before) = before {
            assert!(before.lsn <= now.lsn, "{} was seen after {}", now.lsn, before.lsn);
            assert_eq!(before.events, now.events[..before.events.len()]);
        }
        *before = Some(now);
    }

    /// What was told to the threads is what became of the order.
    fn adds_up(&self) {
        let order = self.shop.settle(self.shop.0.order(&self.order)).unwrap().value;
        for (event, told) in &*self.answers.lock().unwrap() {
            assert!(order.events.contains(told), "{event:?} was told and is not there");
        }
        let mut new = self.new.lock().unwrap();
        let told = new.len();
        new.sort_unstable();
        new.dedup();
        assert_eq!(new.len(), told, "an event was new twice");
        assert!(!self.parked.lock().unwrap().is_empty(), "nothing came before the order");
        let early = format!("own-{EARLY}");
        assert!(order.events.iter().any(|event| event.id.as_str() == early), "it was parked");
    }
}
