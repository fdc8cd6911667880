//! Orders that have not come to a stage of their life yet: how many, and since when the oldest is.

use crate::{
    ledger::orders::Standing,
    model::{Timestamp, fact::FactKind, view::ReservationState},
    wal::Storage,
};

use super::{Engine, core::Core};

/// Orders that have not come to a stage yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// What makes them come to it.
    pub stage: FactKind,
    /// How many there are.
    pub orders: u64,
    /// When the oldest of them was placed.
    pub oldest_at: Option<Timestamp>,
}

impl Waiting {
    fn count(&mut self, placed_at_ms: u64) {
        let placed_at = Timestamp::from_millis(placed_at_ms);
        self.orders += 1;
        self.oldest_at = Some(self.oldest_at.map_or(placed_at, |oldest| oldest.min(placed_at)));
    }
}

impl<S: Storage> Engine<S> {
    /// Orders with units that neither left nor were called off; and those whose bill or whose payments do
    /// not come to what was sold of them yet. Walks all orders, and holds nobody up.
    pub fn waiting_orders(&self) -> [Waiting; 3] {
        let stages = [FactKind::Shipment, FactKind::Invoice, FactKind::Settlement];
        let mut all = stages.map(|stage| Waiting { stage, orders: 0, oldest_at: None });
        let core = self.core();
        core.tables.orders.each(|order| {
            order.read(|order| {
                let waits = core.waits(&order);
                for (waiting, waits) in all.iter_mut().zip(waits) {
                    if waits {
                        waiting.count(order.data.committed_at_ms);
                    }
                }
            });
        });
        all
    }
}

impl<S: Storage> Core<S> {
    /// Whether an order waits for its shipment, its invoice, its payment.
    fn waits(&self, order: &Standing<'_>) -> [bool; 3] {
        let sku_of =
            |number| self.tables.positions.get(number).map_or(u32::MAX, |p| p.sku_number());
        // Nothing of an order that was called off; what does not add up was refused when it was placed.
        let due = order.life.sold(&order.data, sku_of).map_or(0, |sold| sold.gross);
        let (invoiced, settled) = (order.life.invoiced, order.life.settled);
        let has_open_units = order.state() == ReservationState::Committed;
        [has_open_units, invoiced < due, settled < due]
    }
}
