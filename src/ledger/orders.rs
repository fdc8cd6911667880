//! Orders by id. An id is claimed before the order's record is, so that of two orders with one id
//! one is refused.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use parking_lot::Mutex;

use super::sync::{AtomicU32, Ordering};
use crate::model::{Lsn, OrderId, ReservationId, event::OrderData, view::ReservationState};

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// What was sold for how much.
    pub data: OrderData,
    /// The reservations that became it.
    pub reservations: Vec<ReservationId>,
    /// Its state.
    pub state: ReservationState,
    /// The position of its last record.
    pub last: Lsn,
}

#[derive(Debug)]
enum Entry {
    Claimed,
    Placed(Arc<Order>),
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
            Some(Entry::Placed(order)) => Begin::Placed(order.clone()),
            Some(Entry::Claimed) => Begin::InFlight,
            None if self.len.load(Ordering::Relaxed) >= self.orders_max => Begin::Full,
            None => {
                shard.insert(id.clone(), Entry::Claimed);
                self.len.fetch_add(1, Ordering::Relaxed);
                Begin::Claimed(Claim { orders: self, id: id.clone() })
            }
        }
    }

    /// The order of an id.
    pub fn get(&self, id: &OrderId) -> Option<Arc<Order>> {
        match self.shard(id).lock().get(id)? {
            Entry::Placed(order) => Some(order.clone()),
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
