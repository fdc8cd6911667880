//! What the feed asks beside the log: records name positions and SKUs by numbers, and what happens to
//! an order does not say its priority. All of it was said by earlier records and never changes.

use crate::{
    engine::Engine,
    model::{Incarnation, Location, Lsn, OrderId, Sku, command::Priority},
    wal::Storage,
};

/// See the module.
pub(super) trait Lookup {
    /// The name of a position.
    fn position(&self, number: u32) -> Option<(Sku, Location)>;
    /// The name of a SKU.
    fn sku(&self, number: u32) -> Option<Sku>;
    /// The priority of an order.
    fn priority(&self, order_id: &str) -> Option<Priority>;
    /// The life of the log that a position was written in.
    fn incarnation_at(&self, lsn: Lsn) -> Incarnation;
}

impl<S: Storage> Lookup for Engine<S> {
    fn position(&self, number: u32) -> Option<(Sku, Location)> {
        self.position_name(number)
    }

    fn sku(&self, number: u32) -> Option<Sku> {
        self.sku_name(number)
    }

    fn priority(&self, order_id: &str) -> Option<Priority> {
        self.order_priority(&order_id.parse::<OrderId>().ok()?)
    }

    fn incarnation_at(&self, lsn: Lsn) -> Incarnation {
        self.log().incarnation_at(lsn)
    }
}
