//! Threads that ship, call off and take back the units of one order at once, and buy what is free again.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use holdfast::{
    Key, Refusal,
    model::{
        OrderId, Quantity, ReservationId, Sku,
        command::{
            AuthorizeReturn, Cancel, ReceiveReturn, ReleaseLine, Reserve, ReturnLine, Ship,
            ShipLine,
        },
        fact::FactKind,
        view::{FactView, ReservationState},
    },
    wal::sim::Random,
};

use super::{THREADS, UNITS};
use crate::common::*;

const STEPS: u64 = 40;
/// Ids of events that several threads use, with the same content.
const SHARED: u64 = 16;

/// What the threads share.
struct Rush<'a> {
    shop: &'a Shop,
    order: OrderId,
    sku: Sku,
    seed: u64,
    /// The answer about each event, and how often it was said to be new.
    answers: Mutex<HashMap<(FactKind, String), (FactView, u32)>>,
    /// Units of each kind of event that was new.
    units: [AtomicU32; 8],
    bought: Mutex<Vec<ReservationId>>,
}

/// One order of most of what there is, and what becomes of it.
pub fn of_one_order(shop: &Shop, seed: u64, number: u64) {
    let (sku, order) = (format!("R{number}"), format!("rush-{number}"));
    shop.set(&sku, "X", &stock_of(UNITS)).unwrap();
    shop.set(&sku, "Y", &stock_of(UNITS)).unwrap();
    let sold = 2 * UNITS - 3;
    shop.place(&order, &order_now(&order, &[line(&sku, sold)])).unwrap();
    let rush = Rush {
        shop,
        order: id(&order),
        sku: id(&sku),
        seed,
        answers: Mutex::default(),
        units: Default::default(),
        bought: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let rush = &rush;
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_mul(31).wrapping_add(thread));
                for step in 0..STEPS {
                    rush.step(&mut random, &format!("{}-{thread}-{step}", rush.order));
                }
            });
        }
    });
    rush.adds_up(sold);
    wait_until("what was bought to expire", || {
        rush.bought.lock().unwrap().iter().all(|id| shop.state(*id) != ReservationState::Held)
    });
}

impl Rush<'_> {
    fn step(&self, random: &mut Random, name: &str) {
        if random.below(3) == 0 {
            return self.buy(name);
        }
        let number = random.below(SHARED);
        let (own, mut body) = match random.below(3) {
            0 => (format!("shared-{number}"), Random(self.seed ^ number)),
            _ => (name.to_owned(), random.clone()),
        };
        let quantity = 1 + body.below(2) as u32;
        let (engine, order) = (&self.shop.0, &self.order);
        let key = id(name);
        let key = Key::new("", &key);
        let units = Quantity::new(quantity).unwrap();
        let location = (body.below(3) > 0).then(|| id(["X", "Y"][body.below(2) as usize]));
        let ship = || vec![ShipLine { sku: self.sku.clone(), location, quantity: units }];
        let sku = self.sku.clone();
        let decision = match body.below(8) {
            0..=2 => {
                let shipment_id = id(&own);
                let lines = ship();
                let ship = Ship { shipment_id, lines, carrier: None, tracking: None };
                engine.ship(key, order, &ship)
            }
            3..=4 => {
                let lines = Some(vec![ReleaseLine { sku, quantity: units, location: None }]);
                engine.cancel(key, order, &Cancel { cancellation_id: id(&own), lines })
            }
            5 => {
                let lines = vec![ReturnLine { sku, quantity: units }];
                let back = AuthorizeReturn { return_id: id(&own), lines, restock: true };
                engine.authorize_return(key, order, &back)
            }
            _ => {
                let back = self.some_return(&mut body);
                let receive = ReceiveReturn { receipt_id: id(&own), lines: ship() };
                engine.receive_return(key, order, &id(&back), &receive)
            }
        };
        match self.shop.settle(decision) {
            Ok(answer) => self.answered(answer.value, answer.created, quantity),
            Err(Refusal::BeyondSold { .. } | Refusal::InsufficientStock { .. }) => {}
            // Which return is received is not said by a shared id alone.
            Err(Refusal::OtherContent { kind: FactKind::Receipt }) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn some_return(&self, random: &mut Random) -> String {
        let answers = self.answers.lock().unwrap();
        let returns = answers.keys().filter(|(kind, _)| *kind == FactKind::Return);
        let mut returns: Vec<_> = returns.map(|(_, id)| id.clone()).collect();
        returns.sort_unstable();
        let at = random.below(returns.len().max(1) as u64) as usize;
        returns.get(at).cloned().unwrap_or_else(|| "none".into())
    }

    fn answered(&self, view: FactView, created: bool, quantity: u32) {
        if created {
            self.units[view.kind as usize].fetch_add(quantity, Ordering::Relaxed);
        }
        let mut answers = self.answers.lock().unwrap();
        let event = (view.kind, view.id.to_string());
        let (first, new) = answers.entry(event).or_insert_with(|| (view.clone(), 0));
        assert_eq!(*first, view, "the same event is answered the same");
        *new += u32::from(created);
    }

    /// Buys one that is free, for a moment.
    fn buy(&self, name: &str) {
        let cart = Reserve { ttl_ms: Some(1), ..one(self.sku.as_str(), 1) };
        match self.shop.reserve(name, &cart) {
            Ok(answer) => self.bought.lock().unwrap().push(answer.value.id),
            Err(Refusal::InsufficientStock { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }

    /// What was told to the threads is what became of the order, and no more than was sold.
    fn adds_up(&self, sold: u32) {
        for (event, (_, new)) in &*self.answers.lock().unwrap() {
            assert_eq!(*new, 1, "{event:?} was new so often");
        }
        let order = self.shop.settle(self.shop.0.order(&self.order)).unwrap().value;
        let told = |kind: FactKind| self.units[kind as usize].load(Ordering::Relaxed);
        let (shipped, cancelled) = (told(FactKind::Shipment), told(FactKind::Cancellation));
        let [line] = &order.lines[..] else { panic!("{:?}", order.lines) };
        let seen = (line.shipped, line.cancelled, line.open_quantity);
        assert!(shipped + cancelled <= sold, "{shipped} left, {cancelled} called off, of {sold}");
        assert_eq!(seen, (shipped, cancelled, sold - shipped - cancelled));
        let lines = order.returns.iter().flat_map(|back| &back.lines);
        let (back, received) = (told(FactKind::Return), told(FactKind::Receipt));
        assert!(received <= back && back <= shipped, "{received} of {back} of {shipped} came back");
        let seen = lines.fold((0, 0), |sum, l| (sum.0 + l.quantity, sum.1 + l.received));
        assert_eq!(seen, (back, received));
    }
}

/// Lines of an order that is called off: the more, the longer its cancellation takes.
const LINES: u32 = 60;
const ROUNDS: u32 = 40;

/// Orders of all that there is are called off, one after the other, while others wait for the first of
/// their units: whoever gets it must stand behind the cancellation in the log.
pub fn of_cancelled_units(shop: &Shop) {
    let names: Vec<_> = (0..LINES).map(|n| format!("C{n}")).collect();
    names.iter().for_each(|sku| _ = shop.set(sku, "X", &stock_of(1)).unwrap());
    let lines: Vec<_> = names.iter().map(|sku| line(sku, 1)).collect();
    let skus: Vec<_> = names.iter().map(String::as_str).collect();
    let (over, bought) = (AtomicBool::new(false), Mutex::new(None));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (over, bought, first) = (&over, &bought, one(&names[0], 1));
            scope.spawn(move || {
                let mut tries = 0;
                while !over.load(Ordering::Relaxed) {
                    tries += 1;
                    if let Ok(answer) = shop.reserve(&format!("wait-{thread}-{tries}"), &first) {
                        *bought.lock().unwrap() = Some(answer.value.id);
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            // The first unit is what was waited for, and comes to the order by its reservation.
            let first = wait_for(&bought);
            let name = format!("called-off-{round}");
            let rest = shop.reserve(&format!("{name}-rest"), &cart(&lines[1..])).unwrap().value.id;
            shop.place(&format!("{name}-all"), &order_of(&name, &[first, rest], &skus)).unwrap();
            let key = id(&format!("{name}-off"));
            let key = Key::new("", &key);
            let all = Cancel { cancellation_id: id("all"), lines: None };
            shop.settle(shop.0.cancel(key, &id(&name), &all)).unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
}

fn wait_for(bought: &Mutex<Option<ReservationId>>) -> ReservationId {
    wait_until("a unit to be bought", || bought.lock().unwrap().is_some());
    bought.lock().unwrap().take().unwrap()
}
