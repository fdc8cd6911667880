//! The engine against a dull sequential model: plain maps, no log, no threads, no cleverness.
//!
//! Random operations go to both; after each, the answer and every figure must be the same. At random
//! points the engine is closed and opened again, makes a checkpoint, or loses power after everything
//! was acknowledged: the model notices nothing of it, and neither may anybody else.

mod common;

use std::collections::{BTreeMap, HashMap};

use common::*;
use holdfast::{
    Answer, Key, Options, Refusal,
    model::{
        Amount, Lsn, OrderId, Quantity, ReservationId,
        command::{
            AdjustStock, AdjustmentReason, ChangeLines, Commit, Extend, PlaceOrder, Release,
            ReleaseLine, Reserve, ReserveLine, SetStock,
        },
        view::{LineView, OrderView, PositionView, ReservationState as State, ReservationView},
    },
    wal::sim::SimStorage,
};
use proptest::prelude::*;

const SKUS: [&str; 3] = ["A", "B", "C"];
/// In sourcing order.
const LOCATIONS: [&str; 3] = ["MUC", "BER", "HAM"];
const CUSTOMERS: [&str; 2] = ["ann", "bob"];

/// A step, in small numbers; references to earlier things are taken modulo how many there are.
#[derive(Debug, Clone)]
enum Step {
    Set {
        at: (usize, usize),
        on_hand: u32,
        safety: u32,
        backorder: u32,
        limit: Option<Option<u32>>,
        version: Option<u64>,
        as_of: Option<usize>,
        allow: bool,
    },
    Adjust {
        at: (usize, usize),
        delta: i64,
        allow: bool,
    },
    Reserve {
        lines: Vec<Line>,
        customer: Option<usize>,
        order: bool,
        brief: bool,
    },
    Change {
        of: usize,
        lines: Vec<Line>,
    },
    Commit {
        of: usize,
        skus: u8,
        order: Option<usize>,
        revive: bool,
        bad_tax: bool,
    },
    Release {
        of: usize,
        part: Option<(usize, Option<usize>, u32)>,
    },
    Extend {
        of: usize,
        ttl_ms: u64,
    },
    PlaceNow {
        lines: Vec<Line>,
        customer: Option<usize>,
        order: Option<usize>,
        bad_tax: bool,
    },
    PlaceHeld {
        of: Vec<usize>,
        skus: u8,
        order: Option<usize>,
    },
    /// An earlier request again, or its key with another body.
    Repeat {
        of: usize,
        other_body: bool,
    },
    /// Waits until brief reservations have expired.
    Wait,
    Checkpoint,
    Reopen,
    Crash(u64),
}

#[derive(Debug, Clone)]
struct Line {
    sku: usize,
    location: Option<usize>,
    quantity: u32,
    split: bool,
}

fn a_line() -> impl Strategy<Value = Line> {
    let location = prop_oneof![3 => Just(None), 2 => (0..3usize).prop_map(Some)];
    (0..3usize, location, 1..6u32, prop::bool::weighted(0.7))
        .prop_map(|(sku, location, quantity, split)| Line { sku, location, quantity, split })
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    prop::collection::vec(a_line(), 1..4)
}

fn customer() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![1 => Just(None), 3 => (0..2usize).prop_map(Some)]
}

fn a_step() -> impl Strategy<Value = Step> {
    let at = || (0..3usize, 0..3usize);
    let some = || prop::option::weighted(0.2, any::<usize>());
    let rarely = prop::bool::weighted(0.1);
    let limit = prop_oneof![
        5 => Just(None),
        1 => Just(Some(None)),
        2 => (1..12u32).prop_map(|l| Some(Some(l)))
    ];
    prop_oneof![
        3 => (at(), 0..30u32, 0..3u32, 0..3u32, limit, prop::option::weighted(0.3, 0..20u64), some(),
              prop::bool::weighted(0.2))
            .prop_map(|(at, on_hand, safety, backorder, limit, version, as_of, allow)| {
                Step::Set { at, on_hand, safety, backorder, limit, version, as_of, allow }
            }),
        2 => (at(), -8..12i64, rarely)
            .prop_map(|(at, delta, allow)| Step::Adjust { at, delta, allow }),
        8 => (lines(), customer(), prop::bool::weighted(0.3), prop::bool::weighted(0.15))
            .prop_map(|(lines, customer, order, brief)| {
                Step::Reserve { lines, customer, order, brief }
            }),
        3 => (any::<usize>(), lines()).prop_map(|(of, lines)| Step::Change { of, lines }),
        4 => (any::<usize>(), prop_oneof![4 => Just(0u8), 1 => 1..8u8], some(), rarely,
              rarely)
            .prop_map(|(of, skus, order, revive, bad_tax)| {
                Step::Commit { of, skus, order, revive, bad_tax }
            }),
        3 => (any::<usize>(), prop::option::weighted(0.6,
              (0..3usize, prop::option::weighted(0.3, 0..3usize), 1..4u32)))
            .prop_map(|(of, part)| Step::Release { of, part }),
        2 => (any::<usize>(), 3_000_000..3_000_100u64)
            .prop_map(|(of, ttl_ms)| Step::Extend { of, ttl_ms }),
        2 => (lines(), customer(), some(), rarely)
            .prop_map(|(lines, customer, order, bad_tax)| {
                Step::PlaceNow { lines, customer, order, bad_tax }
            }),
        2 => (prop::collection::vec(any::<usize>(), 1..4), prop_oneof![4 => Just(0u8), 1 => 1..8u8],
              some())
            .prop_map(|(of, skus, order)| Step::PlaceHeld { of, skus, order }),
        4 => (any::<usize>(), prop::bool::weighted(0.2))
            .prop_map(|(of, other_body)| Step::Repeat { of, other_body }),
        1 => Just(Step::Wait),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

// ---- The model ----

#[derive(Debug, Clone, Default, PartialEq)]
struct Position {
    /// How many were defined before it.
    number: usize,
    on_hand: i64,
    safety: i64,
    backorder: i64,
    held: i64,
    committed: i64,
    version: Option<u64>,
    /// Position in the log and change of each adjustment.
    movements: Vec<(Lsn, i64)>,
}

impl Position {
    fn available(&self) -> i64 {
        self.on_hand - self.safety + self.backorder - self.held - self.committed
    }
}

/// Units by SKU and place in the sourcing order, and whether they count against the limit.
type Units = Vec<(At, u32, bool)>;

/// A SKU and a place in the sourcing order.
type At = (usize, usize);

#[derive(Debug, Clone)]
struct Reservation {
    state: State,
    units: Units,
    customer: Option<usize>,
    order: Option<String>,
    expires_ms: u64,
    brief: bool,
    /// Made by an order in one step.
    at_once: bool,
    last: Lsn,
}

/// A request that was done: what it was, and its first answer.
#[derive(Debug, Clone)]
struct Done {
    key: String,
    request: Request,
    answer: Said,
    created: bool,
}

#[derive(Debug, Clone)]
enum Request {
    Adjust(AdjustStock),
    Reserve(Reserve),
    Commit(ReservationId, Commit),
    Release(ReservationId, Release),
    Extend(ReservationId, Extend),
    Place(PlaceOrder),
}

#[derive(Debug, Clone, PartialEq)]
enum Said {
    Position(PositionView),
    Reservation(ReservationView),
    Order(OrderView),
}

#[derive(Debug, Default)]
struct Model {
    /// SKUs are in the order in which they were defined; positions in the sourcing order.
    positions: BTreeMap<(usize, usize), Position>,
    limits: HashMap<usize, u32>,
    taken: HashMap<(usize, usize), u32>,
    reservations: BTreeMap<ReservationId, Reservation>,
    orders: HashMap<String, (OrderView, Units)>,
    done: Vec<Done>,
    lsns: Vec<Lsn>,
}

/// The code of a refusal; what it says besides is looked at where it matters.
type Refused = &'static str;

impl Model {
    fn resolve(&self, lines: &[Line]) -> Result<Vec<Line>, Refused> {
        let mut wants: Vec<Line> = Vec::new();
        for line in lines {
            let known =
                |at: &(usize, usize)| at.0 == line.sku && line.location.is_none_or(|l| l == at.1);
            if !self.positions.keys().any(known) {
                return Err("unknown_sku");
            }
            let same = wants.iter_mut().find(|w| {
                let alike = w.split == line.split || line.location.is_some();
                w.sku == line.sku && w.location == line.location && alike
            });
            match same {
                Some(same) => same.quantity += line.quantity,
                None => wants.push(line.clone()),
            }
        }
        // Those that can only be met in one way first, in the order of their definition.
        let number = |w: &Line| Some(self.positions[&(w.sku, w.location?)].number);
        wants.sort_by_key(|w| (w.sku, w.location.is_none(), number(w), w.split));
        Ok(wants)
    }

    /// Where each line is taken, or that it can't be.
    fn source(&self, wants: &[Line]) -> Result<Vec<(At, u32)>, Refused> {
        let mut left: BTreeMap<_, _> =
            self.positions.iter().map(|(at, p)| (*at, p.available().max(0))).collect();
        let mut taken: Vec<(At, u32)> = Vec::new();
        for want in wants {
            let mut quantity = i64::from(want.quantity);
            let fits: Vec<_> = left
                .keys()
                .filter(|at| at.0 == want.sku && want.location.is_none_or(|l| l == at.1))
                .copied()
                .collect();
            let whole = fits.iter().find(|at| left[at] >= quantity);
            let parts = match whole {
                Some(at) => vec![*at],
                None if want.split && want.location.is_none() => fits.clone(),
                None => return Err("insufficient_stock"),
            };
            for at in parts {
                let part = quantity.min(left[&at]);
                if part > 0 {
                    *left.get_mut(&at).unwrap() -= part;
                    match taken.iter_mut().find(|(there, _)| *there == at) {
                        Some((_, sum)) => *sum += part as u32,
                        None => taken.push((at, part as u32)),
                    }
                    quantity -= part;
                }
            }
            if quantity > 0 {
                return Err("insufficient_stock");
            }
        }
        Ok(taken)
    }

    /// Takes lines for a customer who has nothing of them yet. What is short is said first.
    fn take(&self, wants: &[Line], customer: Option<usize>) -> Result<Units, Refused> {
        self.source(wants)?;
        self.take_more(wants, customer, &vec![])
    }

    /// Takes lines for a customer, who gives `credit` back by the same decision. What is beyond the
    /// limit is said first.
    fn take_more(
        &self,
        wants: &[Line],
        customer: Option<usize>,
        credit: &Units,
    ) -> Result<Units, Refused> {
        for sku in 0..3 {
            let wanted: u32 = wants.iter().filter(|w| w.sku == sku).map(|w| w.quantity).sum();
            let Some(limit) = self.limits.get(&sku).filter(|_| wanted > 0) else { continue };
            let Some(customer) = customer else { return Err("malformed") };
            let given: u32 = credit
                .iter()
                .filter(|(at, _, limited)| at.0 == sku && *limited)
                .map(|(_, q, _)| q)
                .sum();
            let taken = self.taken.get(&(customer, sku)).copied().unwrap_or(0);
            if taken + wanted > limit + given {
                return Err("purchase_limit");
            }
        }
        let limited = |at: &(usize, usize)| self.limits.contains_key(&at.0);
        Ok(self.source(wants)?.into_iter().map(|(at, q)| (at, q, limited(&at))).collect())
    }

    fn apply(&mut self, units: &Units, customer: Option<usize>, sign: i64) {
        for (at, quantity, limited) in units {
            self.positions.get_mut(at).unwrap().held += sign * i64::from(*quantity);
            if let Some(customer) = customer.filter(|_| *limited) {
                let taken = self.taken.entry((customer, at.0)).or_default();
                *taken = taken.checked_add_signed((sign * i64::from(*quantity)) as i32).unwrap();
            }
        }
    }

    fn sell(&mut self, units: &Units) {
        for (at, quantity, _) in units {
            let position = self.positions.get_mut(at).unwrap();
            position.held -= i64::from(*quantity);
            position.committed += i64::from(*quantity);
        }
    }

    fn due(&mut self) {
        let due: Vec<_> = self
            .reservations
            .iter()
            .filter(|(_, r)| r.brief && r.state == State::Held)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let r = self.reservations[&id].clone();
            self.apply(&r.units, r.customer, -1);
            self.reservations.get_mut(&id).unwrap().state = State::Expired;
        }
    }
}

fn line_views(units: &Units) -> Vec<LineView> {
    let mut views: Vec<LineView> = Vec::new();
    for (at, quantity, _) in units {
        let (sku, location) = (id(SKUS[at.0]), id(LOCATIONS[at.1]));
        match views.iter_mut().find(|v| v.sku == sku && v.location == location) {
            Some(same) => same.quantity += quantity,
            None => views.push(LineView { sku, location, quantity: *quantity }),
        }
    }
    views.sort_by_key(|v| (v.sku.clone(), v.location.clone()));
    views
}

/// Whether an order's prices are these: all have the same unit price here.
fn is_same_money(view: &OrderView, mut lines: Vec<(&str, Amount)>) -> bool {
    let mut sold: Vec<_> = view.lines.iter().map(|l| (l.sku.as_str(), l.tax)).collect();
    sold.sort();
    lines.sort();
    sold == lines
}

fn sorted(mut lines: Vec<LineView>) -> Vec<LineView> {
    lines.sort_by_key(|v| (v.sku.clone(), v.location.clone()));
    lines
}

// ---- The two side by side ----

struct Both {
    model: Model,
    storage: SimStorage,
    options: Options,
    shop: Option<Shop>,
    keys: u32,
}

fn code<T: std::fmt::Debug>(said: &Result<Answer<T>, Refusal>) -> &'static str {
    said.as_ref().err().map_or("ok", Refusal::code)
}

fn reserve_lines(lines: &[Line]) -> Vec<ReserveLine> {
    let to = |l: &Line| ReserveLine {
        sku: id(SKUS[l.sku]),
        quantity: Quantity::new(l.quantity).unwrap(),
        location: l.location.map(|l| id(LOCATIONS[l])),
        split: l.split,
    };
    lines.iter().map(to).collect()
}

impl Both {
    fn new() -> Self {
        let mut options = small();
        options.wal.segment_bytes = 16 * KIB;
        options.wal.unsynced_bytes_max = 64 * KIB;
        options.sourcing = LOCATIONS.iter().map(|l| id(l)).collect();
        let storage = SimStorage::new();
        let shop = Some(shop(&storage, &options));
        Self { model: Model::default(), storage, options, shop, keys: 0 }
    }

    fn shop(&self) -> &Shop {
        self.shop.as_ref().unwrap()
    }

    fn key(&mut self) -> String {
        self.keys += 1;
        format!("key-{}", self.keys)
    }

    fn some_reservation(&self, of: usize) -> Option<ReservationId> {
        let all = &self.model.reservations;
        all.keys().nth(of.checked_rem(all.len())?).copied()
    }

    /// An order's id: a fresh one, or one that is there already.
    fn order_id(&self, order: Option<usize>) -> String {
        let mut known: Vec<_> = self.model.orders.keys().cloned().collect();
        known.sort();
        let known = order.and_then(|of| known.get(of.checked_rem(known.len())?).cloned());
        known.unwrap_or_else(|| format!("O-{}", self.keys))
    }

    fn ask(&self, key: &str, request: &Request) -> Result<Answer<Said>, Refusal> {
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
    fn first(&mut self, request: Request) -> Result<Said, Refusal> {
        let key = self.key();
        self.first_with(key, request)
    }

    fn first_with(&mut self, key: String, request: Request) -> Result<Said, Refusal> {
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

    fn step(&mut self, step: &Step) {
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
            Step::Repeat { of, other_body } => self.repeat(*of, *other_body),
            Step::Wait => self.wait(),
            Step::Checkpoint => self.shop().0.checkpoint().unwrap(),
            Step::Reopen => self.reopen(None),
            Step::Crash(seed) => self.reopen(Some(*seed)),
        }
        self.compare();
    }

    fn set(&mut self, step: &Step) {
        let Step::Set { at, on_hand, safety, backorder, limit, version, as_of, allow } = step
        else {
            return;
        };
        let lsns = &self.model.lsns;
        let as_of = as_of.and_then(|of| lsns.get(of.checked_rem(lsns.len())?).copied());
        let set = SetStock {
            on_hand: count(*on_hand),
            safety_stock: count(*safety),
            backorder_limit: count(*backorder),
            per_customer_limit: limit.map(|l| l.map(count)),
            source_version: *version,
            as_of_lsn: as_of,
            allow_shortfall: *allow,
        };
        let shop = self.shop.as_ref().unwrap();
        let said = shop.set(SKUS[at.0], LOCATIONS[at.1], &set);
        // Whatever is said, the position is defined by now.
        let number = self.model.positions.len();
        let fresh = Position { number, ..Position::default() };
        let position = self.model.positions.entry(*at).or_insert(fresh);
        let moved: i64 = as_of.map_or(0, |as_of| {
            position.movements.iter().filter(|(lsn, _)| *lsn > as_of).map(|(_, d)| d).sum()
        });
        let on_hand = i64::from(*on_hand) + moved;
        let after = Position {
            on_hand,
            safety: i64::from(*safety),
            backorder: i64::from(*backorder),
            ..position.clone()
        };
        let expected = if version.is_some_and(|v| position.version.is_some_and(|last| v <= last)) {
            "stale_version"
        } else if on_hand < 0 && !allow {
            "malformed"
        } else if after.available() < 0 && !allow {
            "shortfall"
        } else {
            "ok"
        };
        assert_eq!(code(&said), expected, "{step:?} on {position:?}: {said:?}");
        if let Ok(answer) = said {
            *position = Position { version: version.or(position.version), ..after };
            if let Some(limit) = limit {
                match limit {
                    Some(limit) => self.model.limits.insert(at.0, *limit),
                    None => self.model.limits.remove(&at.0),
                };
            }
            self.model.lsns.push(answer.value.lsn);
            self.compare_position(&answer.value);
        }
    }

    fn adjust(&mut self, at: (usize, usize), delta: i64, allow: bool) {
        let adjust = AdjustStock {
            sku: id(SKUS[at.0]),
            location: id(LOCATIONS[at.1]),
            delta,
            reason: AdjustmentReason::Correction,
            reference: None,
            allow_shortfall: allow,
        };
        let said = self.first(Request::Adjust(adjust));
        let expected = match self.model.positions.get(&at) {
            _ if delta == 0 => "malformed",
            None => "unknown_sku",
            // What comes in is never refused.
            Some(p) if delta < 0 && !allow => {
                if p.on_hand + delta < 0 || p.available() + delta < 0 { "shortfall" } else { "ok" }
            }
            Some(p) if p.on_hand + delta < 0 && !allow => "shortfall",
            Some(_) => "ok",
        };
        assert_eq!(said.as_ref().err().map_or("ok", Refusal::code), expected, "{delta} at {at:?}");
        if let Ok(Said::Position(view)) = said {
            let position = self.model.positions.get_mut(&at).unwrap();
            position.on_hand += delta;
            position.movements.push((view.lsn, delta));
            self.compare_position(&view);
        }
    }

    fn reserve(&mut self, lines: &[Line], customer: Option<usize>, order: bool, brief: bool) {
        let order = order.then(|| format!("R-{}", self.keys));
        let reserve = Reserve {
            lines: reserve_lines(lines),
            customer: customer.map(|c| id(CUSTOMERS[c])),
            order_id: order.as_deref().map(id),
            ttl_ms: brief.then_some(1),
        };
        let expected = self.model.resolve(lines).and_then(|w| self.model.take(&w, customer));
        let before = self.shop().0.now().millis();
        let said = self.first(Request::Reserve(reserve));
        let (units, view) = match (expected, said) {
            (Ok(units), Ok(Said::Reservation(view))) => (units, view),
            (Err(expected), Err(said)) if said.code() == expected => return,
            (expected, said) => panic!("{lines:?}: {said:?} instead of {expected:?}"),
        };
        assert_eq!((view.state, view.lsn), (State::Held, view.id.lsn));
        assert_eq!(sorted(view.lines), line_views(&units));
        let expires_ms = view.expires_at.unwrap().millis();
        let ttl_ms = if brief { 1 } else { self.options.ttl_default_ms };
        assert!((before + ttl_ms..=self.shop().0.now().millis() + ttl_ms).contains(&expires_ms));
        self.model.apply(&units, customer, 1);
        let state = State::Held;
        let last = view.lsn;
        let at_once = false;
        let r = Reservation { state, units, customer, order, expires_ms, brief, at_once, last };
        self.model.reservations.insert(view.id, r);
        if brief {
            // It may expire at any moment from now on; the model waits until it has.
            self.wait();
        }
    }

    fn wait(&mut self) {
        let brief: Vec<_> = self.model.reservations.iter().filter(|(_, r)| r.brief).collect();
        for (of, r) in brief {
            if r.state == State::Held {
                self.shop().wait_for(*of, State::Expired);
            }
        }
        self.model.due();
        for (of, r) in &mut self.model.reservations {
            if r.brief {
                r.last = self.shop.as_ref().unwrap().see(*of).unwrap().value.lsn;
            }
        }
    }

    fn change(&mut self, of: usize, lines: &[Line]) {
        let Some(of) = self.some_reservation(of) else { return };
        let change = ChangeLines { lines: reserve_lines(lines) };
        let said = self.shop().settle(self.shop().0.change_lines(of, &change));
        let r = self.model.reservations[&of].clone();
        let expected = self.model.resolve(lines).and_then(|mut wants| {
            if r.state != State::Held {
                return Err("wrong_state");
            }
            // What it has and may keep stays where it is.
            let (mut kept, mut left) = (Units::new(), r.units.clone());
            for want in &mut wants {
                for (at, quantity, limited) in &mut left {
                    let fits = at.0 == want.sku && want.location.is_none_or(|l| l == at.1);
                    let whole = want.location.is_some() || want.split || *quantity >= want.quantity;
                    let part = (*quantity).min(want.quantity);
                    if fits && whole && part > 0 {
                        *quantity -= part;
                        want.quantity -= part;
                        kept.push((*at, part, *limited));
                    }
                }
            }
            wants.retain(|w| w.quantity > 0);
            left.retain(|(_, q, _)| *q > 0);
            let taken = self.model.take_more(&wants, r.customer, &left)?;
            Ok((kept, left, taken))
        });
        let ((mut kept, given, taken), view) = match (expected, said) {
            (Ok(units), Ok(answer)) => (units, answer.value),
            (Err(expected), Err(said)) if said.code() == expected => return,
            (expected, said) => panic!("{lines:?} of {r:?}: {said:?} instead of {expected:?}"),
        };
        self.model.apply(&given, r.customer, -1);
        self.model.apply(&taken, r.customer, 1);
        kept.extend(taken);
        let mut units = Units::new();
        for (at, quantity, limited) in kept {
            match units.iter_mut().find(|u| u.0 == at && u.2 == limited) {
                Some(same) => same.1 += quantity,
                None => units.push((at, quantity, limited)),
            }
        }
        assert_eq!(sorted(view.lines), line_views(&units));
        let r = self.model.reservations.get_mut(&of).unwrap();
        (r.units, r.last) = (units, view.lsn);
        self.model.lsns.push(view.lsn);
    }

    /// The money side for a mask of SKUs; 0: those that are sold.
    fn priced(&self, skus: u8, units: &[&Units]) -> (Vec<&'static str>, bool) {
        let sold: Vec<usize> =
            (0..3).filter(|s| units.iter().any(|u| u.iter().any(|(at, ..)| at.0 == *s))).collect();
        let named: Vec<usize> = match skus {
            0 => sold.clone(),
            mask => (0..3).filter(|s| mask & 1 << s != 0).collect(),
        };
        let fits = named == sold;
        (named.into_iter().map(|s| SKUS[s]).collect(), fits)
    }

    fn commit(&mut self, of: usize, skus: u8, order: Option<usize>, revive: bool, bad_tax: bool) {
        let Some(of) = self.some_reservation(of) else { return };
        let r = self.model.reservations[&of].clone();
        let key = self.key();
        let order_id = match (&r.order, order) {
            (Some(given), None) => given.clone(),
            _ => self.order_id(order),
        };
        let (named, fits) = self.priced(skus, &[&r.units]);
        let mut commit = sale(&order_id, &named);
        commit.revive = revive;
        if r.order.is_some() && order.is_none() {
            commit.order_id = None;
        }
        if let Some(line) = commit.lines.first_mut().filter(|_| bad_tax) {
            line.tax = Amount::new(1_000_000_000).unwrap();
        }
        let sound = fits && (!bad_tax || commit.lines.is_empty());
        let said = self.first_with(key, Request::Commit(of, commit.clone()));
        let said_code = said.as_ref().err().map_or("ok", Refusal::code);
        let expected = if r.order.as_ref().is_some_and(|given| *given != order_id) {
            "order_mismatch"
        } else if r.state == State::Committed {
            match self.model.orders.get(&order_id) {
                None => "order_mismatch",
                Some((view, _)) if !view.reservations.contains(&of) => "order_exists",
                Some((view, _)) => {
                    let lines = commit.lines.iter().map(|l| (l.sku.as_str(), l.tax));
                    if is_same_money(view, lines.collect()) { "ok" } else { "wrong_state" }
                }
            }
        } else if self.model.orders.contains_key(&order_id) {
            "order_exists"
        } else if r.state == State::Expired && revive {
            let wants: Vec<_> = r
                .units
                .iter()
                .map(|(at, quantity, _)| Line {
                    sku: at.0,
                    location: Some(at.1),
                    quantity: *quantity,
                    split: true,
                })
                .collect();
            match self.model.take_more(&wants, r.customer, &vec![]) {
                Err(why) => why,
                Ok(_) if !sound => "malformed",
                Ok(units) => {
                    self.model.apply(&units, r.customer, 1);
                    self.model.reservations.get_mut(&of).unwrap().units = units;
                    "ok"
                }
            }
        } else if r.state != State::Held {
            "wrong_state"
        } else if !sound {
            "malformed"
        } else {
            "ok"
        };
        assert_eq!(said_code, expected, "{commit:?} of {r:?}: {said:?}");
        let Ok(Said::Reservation(view)) = said else { return };
        assert_eq!((view.id, view.state), (of, State::Committed));
        assert_eq!(view.order_id.as_ref().map(OrderId::as_str), Some(order_id.as_str()));
        if r.state == State::Committed {
            return self.forget_last();
        }
        let units = self.model.reservations[&of].units.clone();
        assert_eq!(sorted(view.lines.clone()), line_views(&units));
        self.model.sell(&units);
        let r = self.model.reservations.get_mut(&of).unwrap();
        (r.state, r.last, r.order) = (State::Committed, view.lsn, Some(order_id.clone()));
        self.remember_order(&order_id, units);
    }

    /// A repeat of what was done already, with a new key: nothing is remembered of that key.
    fn forget_last(&mut self) {
        self.model.done.pop();
    }

    fn remember_order(&mut self, order_id: &str, units: Units) {
        let shop = self.shop();
        let view = shop.settle(shop.0.order(&id(order_id))).unwrap().value;
        assert_eq!(sorted(view.allocations.clone()), line_views(&units));
        let sold: u32 = view.lines.iter().map(|l| l.quantity).sum();
        assert_eq!(sold, units.iter().map(|(_, q, _)| q).sum::<u32>());
        assert_eq!(view.total, i64::from(sold) * 1999);
        self.model.orders.insert(order_id.into(), (view, units));
    }

    fn release(&mut self, of: usize, part: Option<(usize, Option<usize>, u32)>) {
        let Some(of) = self.some_reservation(of) else { return };
        let r = self.model.reservations[&of].clone();
        let lines = part.map(|(sku, location, quantity)| {
            vec![ReleaseLine {
                sku: id(SKUS[sku]),
                quantity: Quantity::new(quantity).unwrap(),
                location: location.map(|l| id(LOCATIONS[l])),
            }]
        });
        let said = self.first(Request::Release(of, Release { lines }));
        let said_code = said.as_ref().err().map_or("ok", Refusal::code);
        let view = match said {
            Ok(Said::Reservation(view)) => Some(view),
            _ => None,
        };
        if r.state == State::Released && part.is_none() {
            assert_eq!(said_code, "ok", "a release again is nothing new");
            return self.forget_last();
        }
        let held: u32 = match part {
            None => u32::MAX,
            Some((sku, location, _)) => r
                .units
                .iter()
                .filter(|(at, ..)| at.0 == sku && location.is_none_or(|l| l == at.1))
                .map(|(_, q, _)| q)
                .sum(),
        };
        let expected = match (r.state, part) {
            (State::Held, Some((.., quantity))) if quantity > held => "malformed",
            (State::Held, _) => "ok",
            _ => "wrong_state",
        };
        assert_eq!(said_code, expected, "{part:?} of {r:?}");
        let Some(view) = view else { return };
        let (mut given, mut left) = (Units::new(), r.units.clone());
        match part {
            None => given = std::mem::take(&mut left),
            Some((sku, location, mut quantity)) => {
                // Last taken first.
                for (at, has, limited) in left.iter_mut().rev() {
                    if at.0 == sku && location.is_none_or(|l| l == at.1) {
                        let some = quantity.min(*has);
                        (*has, quantity) = (*has - some, quantity - some);
                        given.push((*at, some, *limited));
                    }
                }
                left.retain(|(_, q, _)| *q > 0);
            }
        }
        let closed = left.is_empty();
        // Where it is given back among several locations is the engine's to say; the sums are not.
        let left_view = if closed { line_views(&r.units) } else { line_views(&left) };
        assert_eq!(sorted(view.lines.clone()), left_view, "{part:?} of {r:?}");
        assert_eq!(view.state, if closed { State::Released } else { State::Held });
        self.model.apply(&given, r.customer, -1);
        let r = self.model.reservations.get_mut(&of).unwrap();
        r.last = view.lsn;
        match closed {
            true => r.state = State::Released,
            false => r.units = left,
        }
    }

    fn extend(&mut self, of: usize, ttl_ms: u64) {
        let Some(of) = self.some_reservation(of) else { return };
        let before = self.shop().0.now().millis();
        let said = self.first(Request::Extend(of, Extend { ttl_ms }));
        let now = self.shop().0.now().millis();
        let r = self.model.reservations.get_mut(&of).unwrap();
        match said {
            Ok(Said::Reservation(view)) => {
                assert_eq!((r.state, view.state), (State::Held, State::Held));
                r.expires_ms = view.expires_at.unwrap().millis();
                assert!((before + ttl_ms..=now + ttl_ms).contains(&r.expires_ms));
                assert_eq!(sorted(view.lines), line_views(&r.units));
                r.last = view.lsn;
            }
            other => {
                assert_eq!(other, Err(Refusal::WrongState { state: r.state }));
                assert_ne!(r.state, State::Held);
            }
        }
    }

    fn place_now(
        &mut self,
        lines: &[Line],
        customer: Option<usize>,
        order: Option<usize>,
        bad_tax: bool,
    ) {
        let key = self.key();
        let order_id = self.order_id(order);
        let mut place = order_now(&order_id, &reserve_lines(lines));
        place.customer = customer.map(|c| id(CUSTOMERS[c]));
        if bad_tax {
            place.lines[0].tax = Amount::new(1_000_000_000).unwrap();
        }
        let said = self.first_with(key, Request::Place(place));
        let said_code = said.as_ref().err().map_or("ok", Refusal::code);
        let exists = self.model.orders.contains_key(&order_id);
        let taken = self.model.resolve(lines).and_then(|wants| {
            if exists { Err("order_exists") } else { self.model.take(&wants, customer) }
        });
        let expected = match &taken {
            Err(why) => why,
            Ok(_) if bad_tax => "malformed",
            Ok(_) => "ok",
        };
        assert_eq!(said_code, expected, "{lines:?}: {said:?}");
        let (Ok(Said::Order(view)), Ok(units)) = (said, taken) else { return };
        self.model.apply(&units, customer, 1);
        self.model.sell(&units);
        let of = view.reservations[0];
        let r = Reservation {
            state: State::Committed,
            units: units.clone(),
            customer,
            order: Some(order_id.clone()),
            expires_ms: 0,
            brief: false,
            at_once: true,
            last: view.lsn,
        };
        self.model.reservations.insert(of, r);
        self.remember_order(&order_id, units);
        assert_eq!(self.model.orders[&order_id].0, view);
    }

    fn place_held(&mut self, of: &[usize], skus: u8, order: Option<usize>) {
        let mut ids: Vec<_> = of.iter().filter_map(|of| self.some_reservation(*of)).collect();
        ids.sort();
        ids.dedup();
        if ids.is_empty() {
            return;
        }
        let key = self.key();
        let order_id = self.order_id(order);
        let all: Vec<_> = ids.iter().map(|id| self.model.reservations[id].clone()).collect();
        let units: Vec<&Units> = all.iter().map(|r| &r.units).collect();
        let (named, fits) = self.priced(skus, &units);
        let place = order_of(&order_id, &ids, &named);
        let money = named.iter().map(|sku| (*sku, price(sku).tax)).collect();
        let said = self.first_with(key, Request::Place(place));
        let said_code = said.as_ref().err().map_or("ok", Refusal::code);
        let other_order = |r: &&Reservation| r.order.as_ref().is_some_and(|o| *o != order_id);
        let not_held = all.iter().find(|r| r.state != State::Held);
        let expected = if all.iter().any(|r| other_order(&r)) {
            "order_mismatch"
        } else if let Some((view, _)) = self.model.orders.get(&order_id) {
            // An order that was taken at once may name its customer, and this one names none.
            let nobody = all.iter().all(|r| !r.at_once || r.customer.is_none());
            let same = view.reservations == ids && is_same_money(view, money) && nobody;
            if same { "ok" } else { "order_exists" }
        } else if not_held.is_some() {
            "wrong_state"
        } else if !fits {
            "malformed"
        } else {
            "ok"
        };
        assert_eq!(said_code, expected, "{named:?} of {all:?}: {said:?}");
        let Ok(Said::Order(view)) = said else { return };
        if let Some((before, _)) = self.model.orders.get(&order_id) {
            assert_eq!(view, *before);
            return self.forget_last();
        }
        let mut sold = Units::new();
        for (of, r) in ids.iter().zip(&all) {
            self.model.sell(&r.units);
            sold.extend(r.units.iter().cloned());
            let r = self.model.reservations.get_mut(of).unwrap();
            (r.state, r.last, r.order) = (State::Committed, view.lsn, Some(order_id.clone()));
        }
        self.remember_order(&order_id, sold);
        assert_eq!(self.model.orders[&order_id].0, view);
    }

    fn repeat(&mut self, of: usize, other_body: bool) {
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

    fn reopen(&mut self, crash: Option<u64>) {
        let shop = self.shop.take().unwrap();
        match crash {
            // Everything was acknowledged, so a loss of power loses nothing.
            Some(seed) => self.storage = self.storage.crash(seed),
            None => shop.0.close().unwrap(),
        }
        drop(shop);
        self.shop = Some(common::shop(&self.storage, &self.options));
    }

    fn compare_position(&self, view: &PositionView) {
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
    fn compare(&self) {
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
            if r.state == State::Committed {
                assert_eq!(view.order_id.map(|o| o.to_string()), r.order);
            }
        }
        for (order_id, (view, _)) in &self.model.orders {
            assert_eq!(shop.settle(shop.0.order(&id(order_id))).unwrap().value, *view);
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
        assert_eq!(status.keys, self.model.done.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: setting("HOLDFAST_MODEL_CASES", 96) as u32,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_engine_says_what_the_model_says(steps in prop::collection::vec(a_step(), 20..90)) {
        let mut both = Both::new();
        // Something to sell, so that not all is refused.
        for sku in 0..3 {
            both.step(&Step::Set {
                at: (sku, sku % 2),
                on_hand: 25,
                safety: 0,
                backorder: 0,
                limit: (sku == 1).then_some(Some(9)),
                version: None,
                as_of: None,
                allow: false,
            });
        }
        for step in &steps {
            both.step(step);
        }
    }
}
