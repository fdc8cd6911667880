//! What the engine's tests share: small options, short ways to say commands, and the auditor, which
//! reads a log from its begin and checks law 1 on every prefix of it.
#![allow(dead_code)]

mod orders;

use std::{collections::HashMap, time::Duration};

use holdfast::{
    Answer, Decision, Engine, Key, Options, Refusal,
    engine::Refusal as R,
    model::{
        Lsn, Quantity, ReservationId, StockCount,
        command::{
            AdjustStock, AdjustmentReason, ChangeLines, Commit, Extend, OrderLine, PlaceOrder,
            PriceLine, Prices, Priority, Release, ReleaseLine, Reserve, ReserveLine, SetStock,
        },
        event::{self, Event},
        view::{OrderView, PositionView, ReservationState, ReservationView, StockView},
    },
    wal::{self, Storage, sim::SimStorage},
};

pub use orders::AuditedOrder;

pub type SimEngine = Engine<SimStorage>;

pub const KIB: u64 = 1024;

/// Small tables and a small log.
pub fn small() -> Options {
    Options {
        wal: wal::Options {
            segment_bytes: 64 * KIB,
            budget_bytes: 8192 * KIB,
            order_reserve_bytes: 64 * KIB,
            delivery_reserve_bytes: 64 * KIB,
            unsynced_bytes_max: 512 * KIB,
            ready_segments: 1,
            idle_mark_ms: 5,
            room_wait_ms_max: 5_000,
            ..wal::Options::default()
        },
        positions_max: 256,
        reservations_max: 8192,
        keys_max: 1 << 14,
        orders_max: 8192,
        customer_limits_max: 4096,
        ttl_default_ms: 3_600_000,
        overdue_grace_ms: 0,
        decision_wait_ms_max: 10_000,
        ..Options::default()
    }
}

pub fn open(storage: &SimStorage, options: &Options) -> SimEngine {
    Engine::open_on(storage.clone(), options.clone()).unwrap_or_else(|e| panic!("opening: {e}"))
}

/// Parses an id.
pub fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

pub fn count(n: u32) -> StockCount {
    StockCount::new(n).unwrap()
}

pub fn stock_of(on_hand: u32) -> SetStock {
    SetStock {
        on_hand: count(on_hand),
        safety_stock: StockCount::ZERO,
        backorder_limit: StockCount::ZERO,
        per_customer_limit: None,
        source_version: None,
        as_of_lsn: None,
        allow_shortfall: false,
    }
}

pub fn limited(on_hand: u32, limit: u32) -> SetStock {
    SetStock { per_customer_limit: Some(Some(count(limit))), ..stock_of(on_hand) }
}

pub fn line(sku: &str, quantity: u32) -> ReserveLine {
    let quantity = Quantity::new(quantity).unwrap();
    ReserveLine { sku: id(sku), quantity, location: None, split: true }
}

pub fn line_at(sku: &str, location: &str, quantity: u32) -> ReserveLine {
    ReserveLine { location: Some(id(location)), ..line(sku, quantity) }
}

pub fn cart(lines: &[ReserveLine]) -> Reserve {
    Reserve { lines: lines.to_vec(), customer: None, order_id: None, ttl_ms: None }
}

pub fn one(sku: &str, quantity: u32) -> Reserve {
    cart(&[line(sku, quantity)])
}

pub fn part(sku: &str, quantity: u32) -> Release {
    let quantity = Quantity::new(quantity).unwrap();
    Release { lines: Some(vec![ReleaseLine { sku: id(sku), quantity, location: None }]) }
}

pub fn price(sku: &str) -> PriceLine {
    let amount = |minor| holdfast::model::Amount::new(minor).unwrap();
    PriceLine {
        sku: id(sku),
        unit_price: amount(1999),
        tax_code: Some(id("DE-19")),
        tax: amount(19),
        discount: amount(0),
        unit_cost: None,
    }
}

pub fn sale(order_id: &str, skus: &[&str]) -> Commit {
    Commit {
        order_id: Some(id(order_id)),
        currency: holdfast::model::Currency::new("EUR").unwrap(),
        prices: Prices::Gross,
        lines: skus.iter().map(|sku| price(sku)).collect(),
        shipping: holdfast::model::Amount::ZERO,
        shipping_tax: holdfast::model::Amount::ZERO,
        priority: Priority::Standard,
        promised_ship_at: None,
        revive: false,
    }
}

/// An order that takes its lines now.
pub fn order_now(order_id: &str, lines: &[ReserveLine]) -> PlaceOrder {
    let lines = lines.iter().map(|line| {
        let price = price(line.sku.as_str());
        OrderLine {
            sku: line.sku.clone(),
            quantity: Some(line.quantity),
            location: line.location.clone(),
            split: line.split,
            unit_price: price.unit_price,
            tax_code: price.tax_code,
            tax: price.tax,
            discount: price.discount,
            unit_cost: None,
        }
    });
    let Commit { currency, prices, shipping, shipping_tax, priority, .. } = sale(order_id, &[]);
    PlaceOrder {
        order_id: id(order_id),
        reservations: None,
        customer: None,
        lines: lines.collect(),
        currency,
        prices,
        shipping,
        shipping_tax,
        priority,
        promised_ship_at: None,
    }
}

/// One order of several held reservations.
pub fn order_of(order_id: &str, ids: &[ReservationId], skus: &[&str]) -> PlaceOrder {
    let lines: Vec<_> = skus.iter().map(|sku| line(sku, 1)).collect();
    let mut order = order_now(order_id, &lines);
    order.lines.iter_mut().for_each(|line| line.quantity = None);
    order.reservations = Some(ids.to_vec());
    order
}

/// The engine, settled, with keys as texts.
pub struct Shop<S: Storage = SimStorage>(pub Engine<S>);

type Said<T> = Result<Answer<T>, Refusal>;

impl<S: Storage> Shop<S> {
    pub fn settle<T>(&self, decision: Decision<T>) -> Said<T> {
        self.0.settle_blocking(decision)
    }

    pub fn set(&self, sku: &str, location: &str, set: &SetStock) -> Said<PositionView> {
        self.settle(self.0.set_stock(&id(sku), &id(location), set))
    }

    pub fn adjust(&self, key: &str, sku: &str, location: &str, delta: i64) -> Said<PositionView> {
        let adjust = AdjustStock {
            sku: id(sku),
            location: id(location),
            delta,
            reason: AdjustmentReason::Count,
            reference: None,
            allow_shortfall: false,
        };
        self.settle(self.0.adjust_stock(Key::new("", &id(key)), &adjust))
    }

    pub fn reserve(&self, key: &str, reserve: &Reserve) -> Said<ReservationView> {
        self.settle(self.0.reserve(Key::new("", &id(key)), reserve))
    }

    pub fn commit(&self, key: &str, of: ReservationId, commit: &Commit) -> Said<ReservationView> {
        self.settle(self.0.commit(Key::new("", &id(key)), of, commit))
    }

    pub fn release(
        &self,
        key: &str,
        of: ReservationId,
        release: &Release,
    ) -> Said<ReservationView> {
        self.settle(self.0.release(Key::new("", &id(key)), of, release))
    }

    pub fn extend(&self, key: &str, of: ReservationId, ttl_ms: u64) -> Said<ReservationView> {
        let extend = Extend { ttl_ms };
        self.settle(self.0.extend(Key::new("", &id(key)), of, &extend))
    }

    pub fn change(&self, of: ReservationId, lines: &[ReserveLine]) -> Said<ReservationView> {
        self.settle(self.0.change_lines(of, &ChangeLines { lines: lines.to_vec() }, None))
    }

    pub fn place(&self, key: &str, order: &PlaceOrder) -> Said<OrderView> {
        self.settle(self.0.place_order(Key::new("", &id(key)), order))
    }

    pub fn see(&self, of: ReservationId) -> Said<ReservationView> {
        self.settle(self.0.reservation(of))
    }

    pub fn state(&self, of: ReservationId) -> ReservationState {
        self.see(of).unwrap().value.state
    }

    pub fn stock(&self, sku: &str) -> StockView {
        self.0.stock(&id(sku)).unwrap()
    }

    pub fn available(&self, sku: &str) -> i64 {
        self.stock(sku).available
    }

    /// Waits until a reservation is in a state, for at most ten seconds.
    pub fn wait_for(&self, of: ReservationId, state: ReservationState) {
        wait_until("a reservation's state", || self.state(of) == state);
    }
}

pub fn shop(storage: &SimStorage, options: &Options) -> Shop {
    Shop(open(storage, options))
}

/// Waits until something is so, for at most ten seconds.
pub fn wait_until(what: &str, so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(10), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a settling future is ready at its first poll. Dropped afterwards, as by a client that went
/// away.
pub fn is_ready<S: Storage, T>(engine: &Engine<S>, decision: Decision<T>) -> bool {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let future = std::pin::pin!(engine.settle(decision));
    future.poll(&mut cx).is_ready()
}

pub fn is_short(said: &Said<ReservationView>) -> bool {
    matches!(said, Err(R::InsufficientStock { .. }))
}

/// A position as a log says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditedPosition {
    pub sku: String,
    pub location: String,
    pub sku_number: u32,
    pub available: i64,
    pub on_hand: i64,
    pub committed: i64,
    pub frame: i64,
    pub forced: bool,
}

/// A reservation as a log says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditedReservation {
    pub state: ReservationState,
    pub last: u64,
    pub lines: Vec<(u32, u32)>,
    pub key: [u64; 2],
    /// Keyed hash of the customer.
    pub customer: u64,
}

/// What a log says, read from its begin.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    pub positions: Vec<AuditedPosition>,
    pub reservations: HashMap<ReservationId, AuditedReservation>,
    pub orders: HashMap<String, AuditedOrder>,
    /// Sums of the changes of adjustments, with the place of each.
    pub adjusts: Vec<(u64, u32, i64)>,
    pub granted: u64,
    pub expired: u64,
    keys: HashMap<[u64; 2], u64>,
    slots: HashMap<u32, ReservationId>,
}

fn pairs(lines: &[event::ArchivedLine]) -> Vec<(u32, u32)> {
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    for line in lines {
        let (position, quantity) = (line.position.to_native(), line.quantity.to_native());
        match pairs.iter_mut().find(|(p, _)| *p == position) {
            Some((_, sum)) => *sum += quantity,
            None => pairs.push((position, quantity)),
        }
    }
    pairs.sort_unstable();
    pairs
}

fn reservation(of: &event::ArchivedOf) -> ReservationId {
    ReservationId { lsn: Lsn(of.reservation.to_native()), slot: of.slot.to_native() }
}

fn sum_of(pairs: &[(u32, u32)], more: &[(u32, u32)], sign: i64) -> Vec<(u32, u32)> {
    let mut sums: std::collections::BTreeMap<u32, i64> =
        pairs.iter().map(|(p, q)| (*p, i64::from(*q))).collect();
    for (position, quantity) in more {
        *sums.entry(*position).or_default() += sign * i64::from(*quantity);
    }
    sums.retain(|_, quantity| *quantity != 0);
    let unsigned = |q| u32::try_from(q).expect("nothing is given back that was not taken");
    sums.into_iter().map(|(p, q)| (p, unsigned(q))).collect()
}

impl Audit {
    /// Reads the whole log of an engine and checks, record by record, that
    ///
    /// - no reservation takes a position below zero (law 1: in every prefix),
    /// - what is given back was taken, and by whom gives it back,
    /// - no more of an order leaves or is called off than was sold, and no more comes back than left,
    /// - a record that depends on another stands after it and names it rightly (cause before effect),
    /// - no key, no order id, no slot in use, no id of an order's events of a kind is used twice.
    ///
    /// Keys are let go by retention, so use it where none that was used twice was swept.
    pub fn of<S: Storage>(engine: &Engine<S>) -> Self {
        let mut audit = Self::default();
        let mut reader = engine.log().reader(Lsn(0)).expect("the log is there from its begin");
        while let Some(record) = reader.next().expect("the log can be read") {
            audit.record(&record);
        }
        audit
    }

    fn record(&mut self, record: &wal::Record<'_>) {
        let lsn = record.lsn;
        macro_rules! read {
            ($kind:ty) => {
                event::decode::<$kind>(lsn, record.kind, record.version, record.body).unwrap()
            };
        }
        match record.kind {
            event::Define::KIND => {
                let define = read!(event::Define);
                assert_eq!(define.position.to_native() as usize, self.positions.len());
                self.positions.push(AuditedPosition {
                    sku: define.sku.as_str().into(),
                    location: define.location.as_str().into(),
                    sku_number: define.sku_number.to_native(),
                    ..AuditedPosition::default()
                });
            }
            event::Stock::KIND => {
                let stock = read!(event::Stock);
                let frame = stock.backorder_limit.to_native() - stock.safety_stock.to_native();
                let position = stock.position.to_native();
                self.positions[position as usize].frame += frame;
                self.stock(lsn, position, stock.on_hand.to_native(), frame, stock.forced);
            }
            event::Adjust::KIND => {
                let adjust = read!(event::Adjust);
                let (position, delta) = (adjust.position.to_native(), adjust.delta.to_native());
                self.key(lsn, &adjust.key);
                self.adjusts.push((lsn.0, position, delta));
                self.stock(lsn, position, delta, 0, adjust.forced);
            }
            event::Reserve::KIND => {
                let reserve = read!(event::Reserve<'_>);
                let lines = pairs(&reserve.lines);
                self.take(lsn, &lines);
                self.key(lsn, &reserve.key);
                self.granted += 1;
                let opened = AuditedReservation {
                    state: ReservationState::Held,
                    last: lsn.0,
                    lines,
                    key: reserve.key.hash.map(|h| h.to_native()),
                    customer: reserve.customer_hash.to_native(),
                };
                self.open(lsn, reserve.slot.to_native(), opened);
            }
            event::Release::KIND => {
                let release = read!(event::Release);
                let (given, left) = (pairs(&release.lines), pairs(&release.left));
                self.key(lsn, &release.key);
                let now = self.turn(lsn, &release.of, ReservationState::Held);
                assert_eq!(now.lines, sum_of(&given, &left, 1), "at {lsn}");
                now.state = ReservationState::Held;
                if left.is_empty() {
                    now.state = ReservationState::Released;
                } else {
                    now.lines = left;
                }
                self.give(&given);
            }
            event::Extend::KIND => {
                let extend = read!(event::Extend);
                self.key(lsn, &extend.key);
                self.turn(lsn, &extend.of, ReservationState::Held);
            }
            event::Expire::KIND => {
                let expire = read!(event::Expire);
                let given = pairs(&expire.lines);
                let now = self.turn(lsn, &expire.of, ReservationState::Held);
                assert_eq!(now.lines, given, "at {lsn}");
                now.state = ReservationState::Expired;
                self.give(&given);
                self.expired += 1;
            }
            event::Change::KIND => {
                let change = read!(event::Change);
                let (taken, given) = (pairs(&change.taken), pairs(&change.given));
                self.take(lsn, &taken);
                let now = self.turn(lsn, &change.of, ReservationState::Held);
                now.lines = sum_of(&sum_of(&now.lines, &taken, 1), &given, -1);
                assert_eq!(now.lines, pairs(&change.lines), "at {lsn}");
                self.give(&given);
            }
            event::Placed::KIND => self.placed(lsn, read!(event::Placed)),
            event::Happened::KIND => self.happened(lsn, read!(event::Happened)),
            _ => {}
        }
    }

    fn placed(&mut self, lsn: Lsn, placed: &event::ArchivedPlaced) {
        let lines = pairs(&placed.order.allocations);
        self.key(lsn, &placed.key);
        let mut reservations = Vec::new();
        let mut sold: Vec<(u32, u32)> = Vec::new();
        for one in placed.reservations.iter() {
            let (from, revived) = match one.revived {
                true => (ReservationState::Expired, true),
                false => (ReservationState::Held, false),
            };
            let now = self.turn(lsn, &one.of, from);
            now.state = ReservationState::Committed;
            reservations.push(reservation(&one.of));
            let lines = now.lines.clone();
            if revived {
                self.take(lsn, &lines);
            }
            sold = sum_of(&sold, &lines, 1);
        }
        if let Some(slot) = placed.taken_slot.as_ref() {
            self.take(lsn, &lines);
            self.granted += 1;
            let slot = slot.to_native();
            let opened = AuditedReservation {
                state: ReservationState::Committed,
                last: lsn.0,
                lines: lines.clone(),
                key: placed.key.hash.map(|h| h.to_native()),
                customer: placed.customer_hash.to_native(),
            };
            self.open(lsn, slot, opened);
            reservations.push(ReservationId { lsn, slot });
            sold.clone_from(&lines);
        }
        assert_eq!(sold, lines, "at {lsn}: an order sells what its reservations hold");
        for (position, quantity) in lines {
            self.positions[position as usize].committed += i64::from(quantity);
        }
        let order = AuditedOrder::placed(lsn, reservations, &placed.order.allocations);
        let before = self.orders.insert(placed.order.order_id.as_str().to_owned(), order);
        assert_eq!(before, None, "an order twice, at {lsn}");
    }

    fn key(&mut self, lsn: Lsn, key: &event::ArchivedKeyRef) {
        self.hash(lsn, key.hash.map(|h| h.to_native()));
    }

    fn hash(&mut self, lsn: Lsn, hash: [u64; 2]) {
        if hash != [0, 0] {
            let before = self.keys.insert(hash, lsn.0);
            assert_eq!(before, None, "a key was used twice, again at {lsn}");
        }
    }

    fn stock(&mut self, lsn: Lsn, position: u32, on_hand: i64, frame: i64, forced: bool) {
        let position = &mut self.positions[position as usize];
        position.on_hand += on_hand;
        position.available += on_hand + frame;
        position.forced |= forced;
        assert!(position.available >= 0 || position.forced, "below zero at {lsn}: {position:?}");
    }

    fn take(&mut self, lsn: Lsn, lines: &[(u32, u32)]) {
        for (position, quantity) in lines {
            let position = &mut self.positions[*position as usize];
            position.available -= i64::from(*quantity);
            assert!(position.available >= 0, "oversold at {lsn}: {position:?}");
        }
    }

    fn give(&mut self, lines: &[(u32, u32)]) {
        for (position, quantity) in lines {
            self.positions[*position as usize].available += i64::from(*quantity);
        }
    }

    fn open(&mut self, lsn: Lsn, slot: u32, opened: AuditedReservation) {
        assert!(!opened.lines.is_empty(), "at {lsn}");
        let id = ReservationId { lsn, slot };
        if let Some(before) = self.slots.insert(slot, id) {
            let state = self.reservations[&before].state;
            let open = matches!(state, ReservationState::Held | ReservationState::Committed);
            assert!(!open, "{id} is in the slot of {before}, which is {state:?}");
        }
        self.reservations.insert(id, opened);
    }

    fn turn(
        &mut self,
        lsn: Lsn,
        of: &event::ArchivedOf,
        from: ReservationState,
    ) -> &mut AuditedReservation {
        self.turn_from(lsn, (reservation(of), of.previous.to_native()), from)
    }

    /// A reservation that turns from a state, by a record that names its record before.
    fn turn_from(
        &mut self,
        lsn: Lsn,
        (id, previous): (ReservationId, u64),
        from: ReservationState,
    ) -> &mut AuditedReservation {
        let now = self.reservations.get_mut(&id);
        let now = now.unwrap_or_else(|| panic!("at {lsn}: {id} turns before it is granted"));
        assert_eq!(now.state, from, "at {lsn}: {id}");
        assert_eq!(now.last, previous, "at {lsn}: the lineage of {id}");
        now.last = lsn.0;
        now
    }

    /// Compares the tables of an engine at rest with what its log says.
    pub fn agrees<S: Storage>(&self, engine: &Engine<S>) {
        let mut held = vec![0; self.positions.len()];
        for reservation in self.reservations.values() {
            if reservation.state == ReservationState::Held {
                for (position, quantity) in &reservation.lines {
                    held[*position as usize] += i64::from(*quantity);
                }
            }
        }
        for (said, held) in self.positions.iter().zip(held) {
            let stock = engine.stock(&id(&said.sku)).unwrap();
            let view = stock.positions.iter().find(|p| p.location.as_str() == said.location);
            let view = view.expect("a position of the log is in the tables");
            let seen = (view.available, view.on_hand, view.committed, view.held);
            assert_eq!(seen, (said.available, said.on_hand, said.committed, held), "{said:?}");
            assert_eq!(said.available, said.on_hand + said.frame - said.committed - held);
        }
        for (id, said) in &self.reservations {
            let view = engine.settle_blocking(engine.reservation(*id)).unwrap().value;
            assert_eq!((view.state, view.lsn.0), (said.state, said.last), "{id}");
        }
        self.orders_agree(engine);
        assert_eq!(engine.status().oversold, 0);
    }

    /// Units granted of a SKU and not given back.
    pub fn taken(&self, sku: &str) -> i64 {
        let of = self.positions.iter().filter(|p| p.sku == sku);
        of.map(|p| p.on_hand + p.frame - p.available).sum()
    }
}

/// Waits until everything that was appended is durable.
pub fn all_durable<S: Storage>(engine: &Engine<S>) {
    let end = engine.log().appended();
    if end > Lsn(0) {
        engine.log().wait_durable_blocking(Lsn(end.0 - 1)).unwrap();
    }
}

/// A number from the environment, for longer runs.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}
