//! The engine and the model side by side: asking both, repeats, restarts, and every figure of the one
//! against those of the other.

use holdfast::{
    Answer, Key, Options, Refusal,
    model::{
        Lsn, Quantity, ReservationId,
        command::ReserveLine,
        view::{PositionView, ReservationState as State},
    },
    wal::sim::SimStorage,
};

use crate::{LOCATIONS, SKUS, common::*, life::timeless, model::*, orders::is_sold, steps::*};

pub struct Both {
    pub model: Model,
    pub storage: SimStorage,
    pub options: Options,
    pub shop: Option<Shop>,
    pub keys: u32,
}

pub fn code<T: std::fmt::Debug>(said: &Result<Answer<T>, Refusal>) -> &'static str {
    said.as_ref().err().map_or("ok", Refusal::code)
}

pub fn reserve_lines(lines: &[Line]) -> Vec<ReserveLine> {
    let to = |l: &Line| ReserveLine {
        sku: id(SKUS[l.sku]),
        quantity: Quantity::new(l.quantity).unwrap(),
        location: l.location.map(|l| id(LOCATIONS[l])),
        split: l.split,
    };
    lines.iter().map(to).collect()
}

impl Both {
    pub fn new() -> Self {
        let mut options = small();
        options.wal.segment_bytes = 16 * KIB;
        options.wal.unsynced_bytes_max = 64 * KIB;
        options.sourcing = LOCATIONS.iter().map(|l| id(l)).collect();
        let storage = SimStorage::new();
        let shop = Some(shop(&storage, &options));
        Self { model: Model::default(), storage, options, shop, keys: 0 }
    }

    pub fn shop(&self) -> &Shop {
        self.shop.as_ref().unwrap()
    }

    pub fn key(&mut self) -> String {
        self.keys += 1;
        format!("key-{}", self.keys)
    }

    pub fn some_reservation(&self, of: usize) -> Option<ReservationId> {
        let all = &self.model.reservations;
        all.keys().nth(of.checked_rem(all.len())?).copied()
    }

    /// An order's id: a fresh one, or one that is there already.
    pub fn order_id(&self, order: Option<usize>) -> String {
        let mut known: Vec<_> = self.model.orders.keys().cloned().collect();
        known.sort();
        let known = order.and_then(|of| known.get(of.checked_rem(known.len())?).cloned());
        known.unwrap_or_else(|| format!("O-{}", self.keys))
    }

    pub fn ask(&self, key: &str, request: &Request) -> Result<Answer<Said>, Refusal> {
        fn map<T>(
            said: Result<Answer<T>, Refusal>,
            to: fn(T) -> Said,
        ) -> Result<Answer<Said>, Refusal> {
            said.map(|Answer { value, replayed, current_state, created }| Answer {
                value: to(value),
                replayed,
                current_state,
                created,
            })
        }
        let shop = self.shop();
        let name = id(key);
        let k = Key::new("", &name);
        match request {
            Request::Adjust(a) => map(shop.settle(shop.0.adjust_stock(k, a)), Said::Position),
            Request::Reserve(r) => map(shop.settle(shop.0.reserve(k, r)), Said::Reservation),
            Request::Commit(of, c) => map(shop.settle(shop.0.commit(k, *of, c)), Said::Reservation),
            Request::Release(of, r) => {
                map(shop.settle(shop.0.release(k, *of, r)), Said::Reservation)
            }
            Request::Extend(of, e) => map(shop.settle(shop.0.extend(k, *of, e)), Said::Reservation),
            Request::Place(p) => map(shop.settle(shop.0.place_order(k, p)), Said::Order),
        }
    }

    /// Asks for the first time; the answer is remembered for repeats.
    pub fn first(&mut self, request: Request) -> Result<Said, Refusal> {
        let key = self.key();
        self.first_with(key, request)
    }

    pub fn first_with(&mut self, key: String, request: Request) -> Result<Said, Refusal> {
        let answer = self.ask(&key, &request)?;
        assert!(!answer.replayed, "{request:?}");
        assert_eq!(answer.current_state, None);
        let lsn = match &answer.value {
            Said::Position(v) => v.lsn,
            Said::Reservation(v) => v.lsn,
            Said::Order(v) => v.lsn,
        };
        self.model.lsns.push(lsn);
        let (said, created) = (answer.value.clone(), answer.created);
        self.model.done.push(Done { key, request, answer: answer.value, created });
        Ok(said)
    }

    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Set { .. } => self.set(step),
            Step::Adjust { at, delta, allow } => self.adjust(*at, *delta, *allow),
            Step::Reserve { lines, customer, order, brief } => {
                self.reserve(lines, *customer, *order, *brief);
            }
            Step::Change { of, lines } => self.change(*of, lines),
            Step::Commit { of, skus, order, revive, bad_tax } => {
                self.commit(*of, *skus, *order, *revive, *bad_tax);
            }
            Step::Release { of, part } => self.release(*of, *part),
            Step::Extend { of, ttl_ms } => self.extend(*of, *ttl_ms),
            Step::PlaceNow { lines, customer, order, bad_tax } => {
                self.place_now(lines, *customer, *order, *bad_tax);
            }
            Step::PlaceHeld { of, skus, order } => self.place_held(of, *skus, *order),
            Step::Happen { order, what } => self.happen(*order, what),
            Step::RepeatFact(of) => self.repeat_fact(*of),
            Step::Repeat { of, other_body } => self.repeat(*of, *other_body),
            Step::Wait => self.wait(),
            Step::Checkpoint => self.shop().0.checkpoint().unwrap(),
            Step::Reopen => self.reopen(None),
            Step::Crash(seed) => self.reopen(Some(*seed)),
        }
        self.compare();
    }

    pub fn repeat(&mut self, of: usize, other_body: bool) {
        let done = &self.model.done;
        let Some(at) = of.checked_rem(done.len()) else { return };
        let Done { key, request, answer, created } = done[at].clone();
        if other_body {
            let mut other = one("A", 77);
            other.ttl_ms = Some(123);
            let said = self.ask(&key, &Request::Reserve(other));
            let known = self.model.positions.keys().any(|at| at.0 == 0);
            assert_eq!(code(&said), "idempotency_key_reused", "{known}");
            return;
        }
        let again = self.ask(&key, &request).unwrap_or_else(|why| panic!("{request:?}: {why}"));
        assert_eq!((&again.value, again.replayed), (&answer, true), "{request:?}");
        assert_eq!(again.created, created);
        let Said::Reservation(view) = answer else { return };
        let now = self.model.reservations[&view.id].state;
        assert_eq!(again.current_state, (now != view.state).then_some(now));
    }

    pub fn reopen(&mut self, crash: Option<u64>) {
        let shop = self.shop.take().unwrap();
        match crash {
            // Everything was acknowledged, so a loss of power loses nothing. (A count that was refused has
            // made its position known all the same, and nobody waited for that record.)
            Some(seed) => {
                let log = shop.0.log();
                log.wait_durable_blocking(Lsn(log.appended().0 - 1)).unwrap();
                self.storage = self.storage.crash(seed);
            }
            None => shop.0.close().unwrap(),
        }
        drop(shop);
        self.shop = Some(crate::common::shop(&self.storage, &self.options));
    }

    pub fn compare_position(&self, view: &PositionView) {
        let at = |all: &[&str], text: &str| all.iter().position(|t| *t == text).unwrap();
        let key = (at(&SKUS, view.sku.as_str()), at(&LOCATIONS, view.location.as_str()));
        let p = &self.model.positions[&key];
        let said = (
            (view.available, view.on_hand, view.held, view.committed),
            (view.safety_stock, view.backorder_limit, view.per_customer_limit),
        );
        let limit = self.model.limits.get(&key.0).copied();
        let expected =
            ((p.available(), p.on_hand, p.held, p.committed), (p.safety, p.backorder, limit));
        assert_eq!(said, expected, "{key:?}");
    }

    /// All figures of the one against those of the other.
    pub fn compare(&self) {
        let shop = self.shop();
        for (number, sku) in SKUS.iter().enumerate() {
            let of: Vec<_> = self.model.positions.keys().filter(|at| at.0 == number).collect();
            let stock = shop.0.stock(&id(sku));
            let Ok(stock) = stock else {
                assert!(of.is_empty(), "{sku}");
                continue;
            };
            let places: Vec<_> = stock.positions.iter().map(|p| p.location.as_str()).collect();
            let expected: Vec<_> = of.iter().map(|at| LOCATIONS[at.1]).collect();
            assert_eq!(places, expected, "in sourcing order");
            stock.positions.iter().for_each(|view| self.compare_position(view));
            let sum: i64 = of.iter().map(|at| self.model.positions[at].available()).sum();
            assert_eq!(stock.available, sum);
        }
        for (of, r) in &self.model.reservations {
            let view = shop.see(*of).unwrap().value;
            let expires = (r.state == State::Held).then_some(r.expires_ms);
            assert_eq!((view.state, view.expires_at.map(|t| t.millis())), (r.state, expires));
            assert_eq!(view.lsn, r.last, "{of}");
            assert_eq!(sorted(view.lines), line_views(&r.units), "{of}");
            if is_sold(r.state) {
                assert_eq!(view.order_id.map(|o| o.to_string()), r.order);
            }
        }
        for (order_id, (view, _)) in &self.model.orders {
            let told = shop.settle(shop.0.order(&id(order_id))).unwrap().value;
            assert_eq!(timeless(told), *view);
        }
        let status = shop.0.status();
        assert_eq!(status.oversold, 0);
        let held = self.model.reservations.values().filter(|r| r.state == State::Held).count();
        // The timer counts an expiry a moment after it is seen.
        wait_until("the count of open reservations", || {
            shop.0.status().open_reservations == held as u64
        });
        assert_eq!(status.orders, self.model.orders.len() as u64);
        assert_eq!(status.reservations, self.model.reservations.len() as u64);
        let keys = self.model.done.len() + self.model.facts.len();
        assert_eq!(status.keys, keys as u64);
    }
}
