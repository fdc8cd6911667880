//! Orders by id. An id is claimed before the order's record is, so that of two orders with one id
//! one is refused; and of several requests that would let something happen to one order, one does at a
//! time ([`Step`]).
//!
//! What was sold never changes and is read without a lock; what has become of it stands beside it, and
//! a step changes it in place once its record stands. An order is one block of memory as long as it has
//! few lines.

use std::{ops::Deref, sync::Arc};

use ahash::RandomState;
use hashbrown::HashTable;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::sync::{AtomicU32, Ordering};
use crate::model::{
    Lsn, OrderId, ReservationId,
    event::OrderData,
    fact::{Fact, FactKind},
    life::{Known, Life},
    view::ReservationState,
};

/// What never changes of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    /// Its id.
    pub id: OrderId,
    /// What was sold for how much.
    pub data: OrderData,
    /// The reservations that became it.
    pub reservations: SmallVec<[ReservationId; 1]>,
}

#[derive(Debug)]
struct Now {
    life: Life,
    last: Lsn,
    /// Something is happening to it.
    busy: bool,
    aside: Aside,
}

/// Bytes of the log that are set aside for what an order is still owed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Aside {
    /// For goods that leave or are called off.
    pub goods: u32,
    /// For its payment.
    pub payment: u32,
}

impl Aside {
    /// Both.
    pub fn bytes(self) -> u64 {
        u64::from(self.goods) + u64::from(self.payment)
    }
}

impl Now {
    /// Whether goods are still to leave, and whether it is still to be paid.
    fn owed(&self, data: &OrderData) -> (bool, bool) {
        let state = self.life.state(data);
        let is_paid = self.life.settled > 0 || state == ReservationState::Cancelled;
        (state == ReservationState::Committed, !is_paid)
    }
}

/// An order in the table.
#[derive(Debug)]
pub struct Kept {
    sale: Sale,
    now: Mutex<Now>,
}

impl Deref for Kept {
    type Target = Sale;
    fn deref(&self) -> &Sale {
        &self.sale
    }
}

/// An order at one moment: what was sold, what has become of it, the position of its last record.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    sale: &'a Sale,
    /// What became of it.
    pub life: &'a Life,
    /// The position of its last record.
    pub last: Lsn,
}

impl<'a> Standing<'a> {
    /// An order as it would stand.
    pub fn new(sale: &'a Sale, life: &'a Life, last: Lsn) -> Self {
        Self { sale, life, last }
    }

    /// Its state.
    pub fn state(&self) -> ReservationState {
        self.life.state(&self.sale.data)
    }
}

impl Deref for Standing<'_> {
    type Target = Sale;
    fn deref(&self) -> &Sale {
        self.sale
    }
}

/// An order as it stood when it was looked up.
#[derive(Debug, Clone)]
pub struct Order {
    kept: Arc<Kept>,
    /// What had become of it.
    pub life: Life,
    /// The position of its last record.
    pub last: Lsn,
}

impl Order {
    /// Its state then.
    pub fn state(&self) -> ReservationState {
        self.life.state(&self.kept.sale.data)
    }
}

impl Deref for Order {
    type Target = Sale;
    fn deref(&self) -> &Sale {
        &self.kept.sale
    }
}

impl Kept {
    fn new(sale: Sale, life: Life, last: Lsn) -> Arc<Self> {
        let now = Now { life, last, busy: false, aside: Aside::default() };
        Arc::new(Self { sale, now: Mutex::new(now) })
    }

    /// Calls with the order as it stands. Nothing happens to it meanwhile, so the call should be short.
    pub fn read<T>(&self, call: impl FnOnce(Standing<'_>) -> T) -> T {
        let now = self.now.lock();
        call(Standing { sale: &self.sale, life: &now.life, last: now.last })
    }

    /// The position of its last record.
    pub fn last(&self) -> Lsn {
        self.now.lock().last
    }

    /// Of room for either, what the order may still need.
    pub fn owed(&self, room: Aside) -> Aside {
        let (goods, payment) = self.now.lock().owed(&self.sale.data);
        Aside {
            goods: if goods { room.goods } else { 0 },
            payment: if payment { room.payment } else { 0 },
        }
    }

    /// So much is set aside for it, beside what was.
    pub fn set_aside(&self, room: Aside) {
        let aside = &mut self.now.lock().aside;
        aside.goods += room.goods;
        aside.payment += room.payment;
    }

    /// Whether a record of this kind is what the order is still owed.
    pub fn is_owed(&self, kind: FactKind) -> bool {
        let (goods, payment) = self.now.lock().owed(&self.sale.data);
        match kind {
            FactKind::Shipment | FactKind::Cancellation => goods,
            FactKind::Settlement => payment,
            _ => false,
        }
    }

    /// Takes what is set aside for what the order is not owed any more.
    pub fn take_unowed(&self) -> Aside {
        let mut now = self.now.lock();
        let (goods, payment) = now.owed(&self.sale.data);
        let Aside { goods: for_goods, payment: for_payment } = &mut now.aside;
        Aside {
            goods: if goods { 0 } else { std::mem::take(for_goods) },
            payment: if payment { 0 } else { std::mem::take(for_payment) },
        }
    }

    /// Begins to let something happen to it; `None` while something else is happening.
    pub fn begin_step(&self) -> Option<Step<'_>> {
        let busy = std::mem::replace(&mut self.now.lock().busy, true);
        // Made only where it is due: a step that is dropped ends one.
        (!busy).then(|| Step { order: self })
    }
}

/// What is known of an order's id.
#[derive(Debug)]
pub enum Begin<'a> {
    /// The id is this request's.
    Claimed(Claim<'a>),
    /// An order has it.
    Placed(Arc<Kept>),
    /// A request that is being decided has it.
    InFlight,
    /// No more orders can be kept.
    Full,
}

/// The right to place an order. Dropped without [`Claim::place`], the id is free again.
#[derive(Debug)]
pub struct Claim<'a> {
    orders: &'a Orders,
    id: OrderId,
    hash: u64,
    placed: bool,
}

impl Claim<'_> {
    /// The order stands, since its record at `last`. Its id is the claimed one.
    pub fn place(
        mut self,
        data: OrderData,
        reservations: SmallVec<[ReservationId; 1]>,
        last: Lsn,
    ) -> Arc<Kept> {
        let sale = Sale { id: self.id.clone(), data, reservations };
        let order = Kept::new(sale, Life::default(), last);
        let mut shard = self.orders.shard(self.hash).lock();
        shard.unclaim(&self.id);
        shard.insert(self.hash, order.clone());
        self.placed = true;
        order
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.placed {
            self.orders.shard(self.hash).lock().unclaim(&self.id);
            self.orders.len.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The right to let something happen to an order; of several that would, one has it. Dropped, it
/// leaves the order as it was.
#[derive(Debug)]
pub struct Step<'a> {
    order: &'a Kept,
}

impl Step<'_> {
    /// It happened: its record stands at `known.lsn`.
    pub fn finish(self, fact: &Fact, known: Known) {
        let mut now = self.order.now.lock();
        now.last = Lsn(known.lsn);
        now.life.add(&self.order.data, fact, known);
        now.busy = false;
        drop(now);
        std::mem::forget(self);
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.order.now.lock().busy = false;
    }
}

/// An order and the hash of its id, so that a table that grows need not look at orders.
#[derive(Debug)]
struct Entry {
    hash: u64,
    order: Arc<Kept>,
}

#[derive(Debug, Default)]
struct Shard {
    placed: HashTable<Entry>,
    /// Ids of orders that are being decided: as many as there are requests at the same time.
    claimed: Vec<OrderId>,
}

impl Shard {
    fn find(&self, hash: u64, id: &OrderId) -> Option<&Arc<Kept>> {
        let is_it = |entry: &Entry| entry.hash == hash && entry.order.id == *id;
        self.placed.find(hash, is_it).map(|entry| &entry.order)
    }

    fn insert(&mut self, hash: u64, order: Arc<Kept>) {
        self.placed.insert_unique(hash, Entry { hash, order }, |entry| entry.hash);
    }

    fn unclaim(&mut self, id: &OrderId) {
        if let Some(at) = self.claimed.iter().position(|claimed| claimed == id) {
            self.claimed.swap_remove(at);
        }
    }
}

const SHARDS: usize = 256;

/// All orders.
#[derive(Debug)]
pub struct Orders {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    orders_max: u32,
    len: AtomicU32,
}

impl Orders {
    /// Room for at most `orders_max`.
    pub fn new(orders_max: u32) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            orders_max,
            len: AtomicU32::new(0),
        }
    }

    fn hash(&self, id: &OrderId) -> u64 {
        self.hasher.hash_one(id.as_str())
    }

    /// By bits in the middle: a table takes the lowest ones for the place and the highest for its tags.
    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    /// Claims an id for a new order, or says what has it.
    pub fn begin(&self, id: &OrderId) -> Begin<'_> {
        let hash = self.hash(id);
        let mut shard = self.shard(hash).lock();
        if let Some(order) = shard.find(hash, id) {
            return Begin::Placed(order.clone());
        }
        if shard.claimed.contains(id) {
            return Begin::InFlight;
        }
        if self.len.load(Ordering::Relaxed) >= self.orders_max {
            return Begin::Full;
        }
        shard.claimed.push(id.clone());
        self.len.fetch_add(1, Ordering::Relaxed);
        Begin::Claimed(Claim { orders: self, id: id.clone(), hash, placed: false })
    }

    /// The order of an id.
    pub fn find(&self, id: &OrderId) -> Option<Arc<Kept>> {
        let hash = self.hash(id);
        self.shard(hash).lock().find(hash, id).cloned()
    }

    /// The order of an id, as it stands.
    pub fn get(&self, id: &OrderId) -> Option<Order> {
        let kept = self.find(id)?;
        let (life, last) = kept.read(|order| (order.life.clone(), order.last));
        Some(Order { kept, life, last })
    }

    /// Replay: an order stands.
    pub fn restore(&self, sale: Sale, life: Life, last: Lsn) {
        let hash = self.hash(&sale.id);
        let mut shard = self.shard(hash).lock();
        let id = sale.id.clone();
        let before = shard.placed.find_entry(hash, |entry| entry.order.id == id);
        match before {
            Ok(entry) => drop(entry.remove()),
            Err(_) => drop(self.len.fetch_add(1, Ordering::Relaxed)),
        }
        shard.insert(hash, Kept::new(sale, life, last));
    }

    /// Replay: something happened to an order. `false`: there is no such order.
    pub fn restore_fact(&self, id: &OrderId, fact: &Fact, known: Known) -> bool {
        let Some(order) = self.find(id) else { return false };
        let Some(step) = order.begin_step() else { return false };
        step.finish(fact, known);
        true
    }

    /// Every order, in no order.
    pub fn all(&self) -> Vec<Arc<Kept>> {
        let mut all = Vec::with_capacity(self.len() as usize);
        for shard in &self.shards {
            all.extend(shard.lock().placed.iter().map(|entry| entry.order.clone()));
        }
        all
    }

    /// Calls with every order, in no order. No part of the table is locked meanwhile.
    pub fn each(&self, mut call: impl FnMut(&Kept)) {
        let mut some = Vec::new();
        for shard in &self.shards {
            some.extend(shard.lock().placed.iter().map(|entry| entry.order.clone()));
            some.drain(..).for_each(|order| call(&order));
        }
    }

    /// Orders known.
    pub fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_claimed_once_and_free_again_if_nothing_came_of_it() {
        let orders = Orders::new(1);
        let id: OrderId = "O-1".parse().unwrap();
        let claim = orders.begin(&id);
        assert!(matches!(claim, Begin::Claimed(_)));
        assert!(matches!(orders.begin(&id), Begin::InFlight));
        assert!(matches!(orders.begin(&"O-2".parse().unwrap()), Begin::Full));
        drop(claim);
        assert!(orders.is_empty());
        assert!(matches!(orders.begin(&id), Begin::Claimed(_)));
    }

    fn data() -> OrderData {
        OrderData {
            shipping: 0,
            shipping_tax: 0,
            promised_ship_at_ms: 0,
            committed_at_ms: 0,
            order_id: "O-1".into(),
            customer: "".into(),
            prices: SmallVec::new(),
            allocations: SmallVec::new(),
            currency: *b"EUR",
            net: false,
            priority: 1,
        }
    }

    fn settled(lsn: u64) -> (Fact, Known) {
        let known = Known { lsn, content: 0, at_ms: 0, id: "P".into(), kind: 3, state: 0 };
        (Fact::Settlement { amount: 5, fee: 1 }, known)
    }

    #[test]
    fn one_step_at_a_time_and_one_that_is_dropped_changes_nothing() {
        let orders = Orders::new(1);
        let id: OrderId = "O-1".parse().unwrap();
        let Begin::Claimed(claim) = orders.begin(&id) else { panic!() };
        assert!(orders.find(&id).is_none());
        let order = claim.place(data(), SmallVec::new(), Lsn(8));
        assert!(matches!(orders.begin(&id), Begin::Placed(_)));
        let step = order.begin_step().unwrap();
        assert!(order.begin_step().is_none());
        drop(step);
        assert_eq!(order.read(|now| (now.last, now.life.settled)), (Lsn(8), 0));
        let (fact, known) = settled(16);
        order.begin_step().unwrap().finish(&fact, known);
        assert!(order.begin_step().is_some());
        let now = orders.get(&id).unwrap();
        assert_eq!((now.last, now.life.settled, now.life.known.len()), (Lsn(16), 5, 1));
    }

    #[test]
    fn replay_replaces_and_adds_and_many_orders_are_found() {
        let orders = Orders::new(10_000);
        let id = |n: u64| format!("O-{n}").parse::<OrderId>().unwrap();
        for n in (0..10_000).chain(0..100) {
            let sale = Sale { id: id(n), data: data(), reservations: SmallVec::new() };
            orders.restore(sale, Life::default(), Lsn(8 * n));
        }
        let mut each = 0;
        orders.each(|_| each += 1);
        assert_eq!((orders.len(), orders.all().len(), each), (10_000, 10_000, 10_000));
        assert!((0..10_000).all(|n| orders.find(&id(n)).is_some_and(|o| o.last() == Lsn(8 * n))));
        let (fact, known) = settled(1 << 20);
        assert!(orders.restore_fact(&id(7), &fact, known.clone()));
        assert_eq!(orders.get(&id(7)).unwrap().last, Lsn(1 << 20));
        assert!(!orders.restore_fact(&id(10_000), &fact, known));
    }
}
