//! Orders by id. An id is claimed before the order's record is, so that of two orders with one id
//! one is refused; and of several requests that would let something happen to one order, one does at a
//! time ([`Step`]).

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use parking_lot::Mutex;

use super::sync::{AtomicU32, Ordering};
use crate::model::{
    Lsn, OrderId, ReservationId,
    event::OrderData,
    fact::Fact,
    life::{Known, Life},
    view::ReservationState,
};

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// What was sold for how much.
    pub data: Arc<OrderData>,
    /// The reservations that became it.
    pub reservations: Vec<ReservationId>,
    /// What became of it.
    pub life: Life,
    /// The position of its last record.
    pub last: Lsn,
}

impl Order {
    /// Its state.
    pub fn state(&self) -> ReservationState {
        self.life.state(&self.data)
    }
}

#[derive(Debug)]
enum Entry {
    Claimed,
    Placed(Arc<Order>),
    /// Something is happening to it.
    Busy(Arc<Order>),
}

/// What is known of an order's id.
#[derive(Debug)]
pub enum Begin<'a> {
    /// The id is this request's.
    Claimed(Claim<'a>),
    /// An order has it.
    Placed(Arc<Order>),
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
}

impl Claim<'_> {
    /// The order stands.
    pub fn place(self, order: Order) -> Arc<Order> {
        let order = Arc::new(order);
        self.orders.shard(&self.id).lock().insert(self.id.clone(), Entry::Placed(order.clone()));
        order
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut shard = self.orders.shard(&self.id).lock();
        if matches!(shard.get(&self.id), Some(Entry::Claimed)) {
            shard.remove(&self.id);
            self.orders.len.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The right to let something happen to an order; of several that would, one has it. Dropped, it
/// leaves the order as it was.
#[derive(Debug)]
pub struct Step<'a> {
    orders: &'a Orders,
    order: Arc<Order>,
}

impl Step<'_> {
    /// The order as it is.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// It happened: its record stands.
    pub fn finish(mut self, life: Life, last: Lsn) -> Arc<Order> {
        let Order { id, data, reservations, .. } = (*self.order).clone();
        self.order = Arc::new(Order { id, data, reservations, life, last });
        self.order.clone()
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        let mut shard = self.orders.shard(&self.order.id).lock();
        if let Some(entry) = shard.get_mut(&self.order.id) {
            *entry = Entry::Placed(self.order.clone());
        }
    }
}

/// What beginning a step finds.
#[derive(Debug)]
pub enum BeginStep<'a> {
    /// The order is this request's.
    Begun(Step<'a>),
    /// There is no such order.
    Unknown,
    /// It is being placed, or something is happening to it.
    InFlight,
}

type Shard = Mutex<HashMap<OrderId, Entry, RandomState>>;

const SHARDS: usize = 256;

/// All orders.
#[derive(Debug)]
pub struct Orders {
    shards: Box<[Shard]>,
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

    fn shard(&self, id: &OrderId) -> &Shard {
        &self.shards[self.hasher.hash_one(id) as usize % SHARDS]
    }

    /// Claims an id for a new order, or says what has it.
    pub fn begin(&self, id: &OrderId) -> Begin<'_> {
        let mut shard = self.shard(id).lock();
        match shard.get(id) {
            Some(Entry::Placed(order) | Entry::Busy(order)) => Begin::Placed(order.clone()),
            Some(Entry::Claimed) => Begin::InFlight,
            None if self.len.load(Ordering::Relaxed) >= self.orders_max => Begin::Full,
            None => {
                shard.insert(id.clone(), Entry::Claimed);
                self.len.fetch_add(1, Ordering::Relaxed);
                Begin::Claimed(Claim { orders: self, id: id.clone() })
            }
        }
    }

    /// Begins to let something happen to an order.
    pub fn begin_step(&self, id: &OrderId) -> BeginStep<'_> {
        let mut shard = self.shard(id).lock();
        let Some(entry) = shard.get_mut(id) else { return BeginStep::Unknown };
        match entry {
            Entry::Claimed | Entry::Busy(_) => BeginStep::InFlight,
            Entry::Placed(order) => {
                let order = order.clone();
                *entry = Entry::Busy(order.clone());
                BeginStep::Begun(Step { orders: self, order })
            }
        }
    }

    /// The order of an id.
    pub fn get(&self, id: &OrderId) -> Option<Arc<Order>> {
        match self.shard(id).lock().get(id)? {
            Entry::Placed(order) | Entry::Busy(order) => Some(order.clone()),
            Entry::Claimed => None,
        }
    }

    /// Replay: an order stands.
    pub fn restore(&self, order: Order) {
        let id = order.id.clone();
        if self.shard(&id).lock().insert(id, Entry::Placed(Arc::new(order))).is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Replay: something happened to an order. `false`: there is no such order.
    pub fn restore_fact(&self, id: &OrderId, fact: &Fact, known: Known) -> bool {
        let mut shard = self.shard(id).lock();
        let Some(Entry::Placed(order)) = shard.get_mut(id) else { return false };
        let order = Arc::make_mut(order);
        order.last = Lsn(known.lsn);
        order.life.add(&order.data, fact, known);
        true
    }

    /// Every order as it stands, in no order.
    pub fn all(&self) -> Vec<Arc<Order>> {
        let mut all = Vec::with_capacity(self.len() as usize);
        for shard in &self.shards {
            all.extend(shard.lock().values().filter_map(|entry| match entry {
                Entry::Placed(order) | Entry::Busy(order) => Some(order.clone()),
                Entry::Claimed => None,
            }));
        }
        all
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

#[cfg(all(test, not(feature = "model-check")))]
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
}
