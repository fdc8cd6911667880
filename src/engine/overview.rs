//! All orders at a glance: how many have not come to a stage of their life yet and since when the oldest is,
//! and what was sold of each SKU.

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

/// All orders at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Orders with units that neither left nor were called off; and those whose bill or whose payments do
    /// not come to what was sold of them yet.
    pub waiting: [Waiting; 3],
    /// By the number of a SKU: units of it that were sold and not called off, shipped or not. SKUs beyond its
    /// end were never sold.
    pub sold_units: Vec<u64>,
}

impl Overview {
    /// Nothing is ordered.
    fn new() -> Self {
        let stages = [FactKind::Shipment, FactKind::Invoice, FactKind::Settlement];
        let waiting = stages.map(|stage| Waiting { stage, orders: 0, oldest_at: None });
        Self { waiting, sold_units: Vec::new() }
    }

    fn sell(&mut self, sku_number: u32, units: u32) {
        let at = sku_number as usize;
        if at >= self.sold_units.len() {
            self.sold_units.resize(at + 1, 0);
        }
        self.sold_units[at] += u64::from(units);
    }
}

impl<S: Storage> Engine<S> {
    /// All orders that are kept, at a glance. Walks every one of them, and holds nobody up.
    pub fn orders_overview(&self) -> Overview {
        let mut overview = Overview::new();
        let core = self.core();
        core.tables.orders.each(|order| order.read(|order| core.look_at(&order, &mut overview)));
        overview
    }
}

impl<S: Storage> Core<S> {
    fn look_at(&self, order: &Standing<'_>, overview: &mut Overview) {
        for (waiting, waits) in overview.waiting.iter_mut().zip(self.waits(order)) {
            if waits {
                waiting.count(order.data.committed_at_ms);
            }
        }
        for (at, line) in order.data.allocations.iter().enumerate() {
            let units = line.quantity.saturating_sub(order.life.gone(at).cancelled);
            if let Some(position) = self.tables.positions.get(line.position) {
                overview.sell(position.sku_number(), units);
            }
        }
    }

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
