//! What a request about an order comes to: which allocations leave, which are called off, where goods
//! are that came back. Reads the order as it is; whether the fact may be is said by
//! [`crate::model::life::Life::check`].

use smallvec::SmallVec;

use crate::{
    ledger::{orders::Standing, reservations::NotBegun},
    model::{
        Location, Sku,
        command::{ReleaseLine, ShipLine},
        fact::{CameBack, Cancelled, Shipped, Units},
        life::Wrong,
    },
    wal::Storage,
};

use super::{Refusal, core::Core};

/// A reservation that is being decided on for longer than it is waited for.
pub(super) const BUSY: &str = "a reservation of the order is busy; try again";

pub(super) fn beyond(order: Standing<'_>, why: Wrong) -> Refusal {
    Refusal::BeyondSold { why, state: order.state() }
}

fn open_units(order: Standing<'_>) -> SmallVec<[u32; 4]> {
    (0..order.data.allocations.len()).map(|at| order.life.open(&order.data, at)).collect()
}

impl<S: Storage> Core<S> {
    /// Who took each allocation: keyed hash of the customer, and the record of the reservation. An
    /// order's allocations are the lines of its reservations, one after the other; so none may be left
    /// out, or the next one's customer would be taken for its own. (Those of a closed order may be
    /// forgotten, but nothing of it can be called off.)
    fn takers(&self, order: Standing<'_>) -> Result<Vec<(u64, u64)>, Refusal> {
        let mut takers = Vec::with_capacity(order.data.allocations.len());
        for id in &order.reservations {
            match self.tables.reservations.read(*id) {
                Ok(seen) => takers.extend(seen.lines.iter().map(|_| (seen.customer, id.lsn.0))),
                Err(NotBegun::Busy) => return Err(Refusal::Overloaded { what: BUSY }),
                Err(_) => {}
            }
        }
        Ok(takers)
    }

    /// Where a shipment's units were sold from: at its own location first.
    pub(super) fn shipped(
        &self,
        order: Standing<'_>,
        lines: &[ShipLine],
    ) -> Result<SmallVec<[Shipped; 2]>, Refusal> {
        self.count_lines(lines.len())?;
        let mut open = open_units(order);
        let mut shipped = SmallVec::with_capacity(lines.len());
        for (index, line) in lines.iter().enumerate() {
            let field = || format!("lines[{index}].sku");
            let sku_number = self.sold_sku(order, &line.sku, field)?;
            let at = line.location.as_ref().map(|at| self.position_at(sku_number, &line.sku, at));
            let at = at.transpose()?;
            let mut left = line.quantity.get();
            for here in [true, false] {
                for (allocation, sold) in order.data.allocations.iter().enumerate() {
                    let is_here = at.is_none_or(|at| at == sold.position);
                    if self.sku_of(sold.position) != sku_number || is_here != here {
                        continue;
                    }
                    let quantity = left.min(open[allocation]);
                    open[allocation] -= quantity;
                    left -= quantity;
                    if quantity > 0 {
                        let (allocation, from) = (allocation as u32, sold.position);
                        let position = at.unwrap_or(from);
                        shipped.push(Shipped { allocation, from, position, quantity });
                    }
                }
            }
            if left > 0 {
                return Err(beyond(order, Wrong::Units));
            }
        }
        Ok(shipped)
    }

    /// Which allocations are called off: the last of each SKU first; all that is open without lines.
    pub(super) fn cancelled(
        &self,
        order: Standing<'_>,
        lines: Option<&[ReleaseLine]>,
    ) -> Result<Vec<Cancelled>, Refusal> {
        let mut open = open_units(order);
        let takers = self.takers(order)?;
        let cancel = |at: usize, quantity: u32| {
            let sold = order.data.allocations[at];
            let (position, limited) = (sold.position, sold.limited);
            let (customer_hash, granted) = takers.get(at).copied().unwrap_or_default();
            let allocation = at as u32;
            Cancelled { allocation, position, quantity, limited, customer_hash, granted }
        };
        let Some(lines) = lines else {
            let all = open.iter().enumerate().filter(|(_, open)| **open > 0);
            let all: Vec<_> = all.map(|(at, open)| cancel(at, *open)).collect();
            return if all.is_empty() { Err(beyond(order, Wrong::Units)) } else { Ok(all) };
        };
        self.count_lines(lines.len())?;
        let mut cancelled = Vec::with_capacity(lines.len());
        for line in lines {
            let mut left = line.quantity.get();
            for (at, sold) in order.data.allocations.iter().enumerate().rev() {
                if !self.is_at(sold.position, &line.sku, line.location.as_ref()) {
                    continue;
                }
                let quantity = left.min(open[at]);
                open[at] -= quantity;
                left -= quantity;
                if quantity > 0 {
                    cancelled.push(cancel(at, quantity));
                }
            }
            if left > 0 {
                return Err(beyond(order, Wrong::Units));
            }
        }
        Ok(cancelled)
    }

    pub(super) fn units<'a>(
        &self,
        order: Standing<'_>,
        lines: impl ExactSizeIterator<Item = (&'a Sku, u32)>,
    ) -> Result<Vec<Units>, Refusal> {
        self.count_lines(lines.len())?;
        let units = lines.enumerate().map(|(index, (sku, quantity))| {
            let field = || format!("lines[{index}].sku");
            Ok(Units { sku_number: self.sold_sku(order, sku, field)?, quantity })
        });
        units.collect()
    }

    /// Where goods are that came back: where the line says, or where they left.
    pub(super) fn came_back(
        &self,
        order: Standing<'_>,
        lines: &[ShipLine],
    ) -> Result<Vec<CameBack>, Refusal> {
        self.count_lines(lines.len())?;
        let back = lines.iter().enumerate().map(|(index, line)| {
            let field = || format!("lines[{index}].sku");
            let sku_number = self.sold_sku(order, &line.sku, field)?;
            let quantity = line.quantity.get();
            let position = match &line.location {
                Some(location) => self.position_at(sku_number, &line.sku, location)?,
                None => {
                    let mut left = order.life.left_from.iter().map(|(position, _)| *position);
                    let left = left.find(|position| self.sku_of(*position) == sku_number);
                    left.ok_or_else(|| beyond(order, Wrong::Received))?
                }
            };
            Ok(CameBack { sku_number, position, quantity })
        });
        back.collect()
    }

    fn count_lines(&self, lines: usize) -> Result<(), Refusal> {
        if (1..=self.options.lines_max as usize).contains(&lines) {
            return Ok(());
        }
        let reason = format!("must have 1 to {} lines", self.options.lines_max);
        Err(Refusal::malformed("lines", reason))
    }

    fn position_at(&self, sku_number: u32, sku: &Sku, location: &Location) -> Result<u32, Refusal> {
        let known = self.tables.positions.at(sku_number, location).map(|(number, _)| number);
        let unknown = || Refusal::UnknownSku { sku: sku.clone(), location: Some(location.clone()) };
        known.ok_or_else(unknown)
    }

    /// A SKU's number, if the order has it.
    fn sold_sku(
        &self,
        order: Standing<'_>,
        sku: &Sku,
        field: impl Fn() -> String,
    ) -> Result<u32, Refusal> {
        let number = self.tables.positions.sku_number(sku);
        let sold = number.filter(|n| order.data.prices.iter().any(|p| p.sku_number == *n));
        sold.ok_or_else(|| Refusal::malformed(field(), "is not in the order"))
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Engine, Key, Options, Refusal,
        model::{
            IdempotencyKey, OrderId,
            command::{Cancel, PlaceOrder, Reserve, SetStock},
            view::ReservationState,
        },
        wal::sim::SimStorage,
    };

    fn said<T: serde::de::DeserializeOwned>(said: serde_json::Value) -> T {
        serde_json::from_value(said).unwrap()
    }

    /// While the first reservation of an order is busy, the second one's customer is not taken for the
    /// first one's.
    #[test]
    fn whose_units_are_called_off_is_not_guessed() {
        let engine = Engine::open_on(SimStorage::new(), Options::small()).unwrap();
        let set: SetStock = said(serde_json::json!({"on_hand": 9}));
        let (sku, at) = ("A".parse().unwrap(), "X".parse().unwrap());
        engine.settle_blocking(engine.set_stock(&sku, &at, &set)).unwrap();
        let ids = ["one", "two"].map(|customer| {
            let lines = serde_json::json!([{"sku": "A", "quantity": 1}]);
            let reserve = serde_json::json!({"lines": lines, "customer": customer});
            let (reserve, key): (Reserve, IdempotencyKey) =
                (said(reserve), customer.parse().unwrap());
            engine.settle_blocking(engine.reserve(Key::new("", &key), &reserve)).unwrap().value.id
        });
        let place: PlaceOrder = said(serde_json::json!({"order_id": "O", "reservations": ids,
            "currency": "EUR", "lines": [{"sku": "A", "unit_price": 5, "tax": 0}]}));
        let key: IdempotencyKey = "placed".parse().unwrap();
        engine.settle_blocking(engine.place_order(Key::new("", &key), &place)).unwrap();
        let (order, key): (OrderId, IdempotencyKey) =
            ("O".parse().unwrap(), "off".parse().unwrap());
        let lines = serde_json::json!([{"sku": "A", "quantity": 1}]);
        let cancel: Cancel = said(serde_json::json!({"cancellation_id": "C", "lines": lines}));
        let cancel = || engine.settle_blocking(engine.cancel(Key::new("", &key), &order, &cancel));
        let committed = [ReservationState::Committed];
        let busy = engine.core().tables.reservations.begin(ids[0], &committed).unwrap();
        let refused = cancel();
        assert!(matches!(refused, Err(Refusal::Overloaded { .. })), "{refused:?}");
        drop(busy);
        cancel().unwrap();
    }
}
