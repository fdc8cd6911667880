//! Which SKUs a sale is about: those of which most is held and sold.

use std::{cmp::Reverse, collections::BinaryHeap};

use serde::Serialize;
use utoipa::ToSchema;

use super::Engine;
use crate::{ledger::positions::Counts, model::Sku, wal::Storage};

/// How far a SKU is sold, over all its locations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Demand {
    /// The SKU.
    pub sku: Sku,
    /// Units that can be reserved now.
    pub available: i64,
    /// Units reserved and not paid.
    pub held: i64,
    /// Units sold and not shipped.
    pub committed: i64,
    /// Units sold and not called off, shipped or not, of the orders that are kept.
    pub sold: i64,
    /// Units physically there.
    pub on_hand: i64,
}

impl<S: Storage> Engine<S> {
    /// The SKUs of which most is held and sold, at most so many, the greatest first; those of which
    /// nothing is, are left out. What was sold is what `sold_units` says by the number of a SKU (as
    /// [`Overview`](super::Overview) has it), or what is sold and not shipped where that is more by now. Walks all
    /// positions and keeps only the answer in memory.
    pub fn in_demand(&self, skus_max: usize, sold_units: &[u64]) -> Vec<Demand> {
        let mut most = BinaryHeap::new();
        for number in 0..self.core().tables.positions.skus_len() {
            let counts = self.counts_of_sku(number);
            let taken = counts.held + sold(number, &counts, sold_units);
            if taken > 0 {
                // The earlier SKU first where as much of two is taken, so that a list stays as it is.
                most.push(Reverse((taken, Reverse(number))));
            }
            if most.len() > skus_max {
                most.pop();
            }
        }
        let numbers = most.into_sorted_vec().into_iter().map(|Reverse((_, Reverse(n)))| n);
        numbers.filter_map(|number| self.demand(number, sold_units)).collect()
    }

    fn demand(&self, number: u32, sold_units: &[u64]) -> Option<Demand> {
        let sku = self.core().tables.positions.sku(number)?.clone();
        let counts = self.counts_of_sku(number);
        let sold = sold(number, &counts, sold_units);
        let Counts { available, held, committed, on_hand, .. } = counts;
        Some(Demand { sku, available, held, committed, sold, on_hand })
    }

    /// Over all its locations.
    fn counts_of_sku(&self, number: u32) -> Counts {
        let mut sum = Counts::default();
        for (_, position) in self.core().tables.positions.of_sku(number) {
            let counts = position.counts();
            sum.available += counts.available;
            sum.held += counts.held;
            sum.committed += counts.committed;
            sum.on_hand += counts.on_hand;
        }
        sum
    }
}

fn sold(number: u32, counts: &Counts, sold_units: &[u64]) -> i64 {
    let sold = sold_units.get(number as usize).copied().unwrap_or(0);
    i64::try_from(sold).unwrap_or(i64::MAX).max(counts.committed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        engine::{Key, Options},
        model::{IdempotencyKey, command::Reserve},
        wal::sim::SimStorage,
    };

    fn said<T: serde::de::DeserializeOwned>(said: Value) -> T {
        serde_json::from_value(said).unwrap()
    }

    fn open() -> Engine<SimStorage> {
        Engine::open_on(SimStorage::new(), Options::small()).unwrap()
    }

    fn key_of(key: &IdempotencyKey) -> Key<'_> {
        Key::new("", key)
    }

    fn reserve(engine: &Engine<SimStorage>, sku: &str, quantity: u32) {
        let cart: Reserve = said(json!({"lines": [{"sku": sku, "quantity": quantity}]}));
        let key: IdempotencyKey = sku.parse().unwrap();
        engine.settle_blocking(engine.reserve(key_of(&key), &cart)).unwrap();
    }

    #[test]
    fn what_is_taken_most_comes_first_over_all_locations_and_nothing_untaken() {
        let engine = open();
        let set = said(json!({"on_hand": 100}));
        for sku in ["NONE", "FEW", "MANY", "SAME"] {
            for at in ["BER", "HAM"] {
                let set = engine.set_stock(&sku.parse().unwrap(), &at.parse().unwrap(), &set);
                engine.settle_blocking(set).unwrap();
            }
        }
        assert_eq!(engine.in_demand(9, &[]), []);
        [("FEW", 3), ("MANY", 150), ("SAME", 3)]
            .iter()
            .for_each(|(sku, n)| reserve(&engine, sku, *n));
        let names = |skus_max| -> Vec<String> {
            engine.in_demand(skus_max, &[]).iter().map(|demand| demand.sku.to_string()).collect()
        };
        assert_eq!(names(9), ["MANY", "FEW", "SAME"]);
        assert_eq!(names(2), ["MANY", "FEW"]);
        assert_eq!(names(0), [""; 0]);
        let most = &engine.in_demand(1, &[])[0];
        assert_eq!((most.available, most.held, most.committed, most.on_hand), (50, 150, 0, 200));
    }

    #[test]
    fn what_was_shipped_stays_sold_and_what_was_called_off_does_not() {
        let engine = open();
        let at = "BER".parse().unwrap();
        let set = engine.set_stock(&"TEE".parse().unwrap(), &at, &said(json!({"on_hand": 100})));
        engine.settle_blocking(set).unwrap();
        let order = said(json!({"order_id": "O-1", "currency": "EUR",
            "lines": [{"sku": "TEE", "quantity": 9, "unit_price": 100}]}));
        let [placed, ship, off] = ["O-1", "S-1", "C-1"].map(|key| key.parse().unwrap());
        engine.settle_blocking(engine.place_order(key_of(&placed), &order)).unwrap();
        let id = "O-1".parse().unwrap();
        let figures = || {
            let demand = engine.in_demand(1, &engine.orders_overview().sold_units).remove(0);
            (demand.available, demand.committed, demand.sold, demand.on_hand)
        };
        assert_eq!(figures(), (91, 9, 9, 100));
        let shipped = said(json!({"shipment_id": "S-1",
            "lines": [{"sku": "TEE", "location": "BER", "quantity": 4}]}));
        engine.settle_blocking(engine.ship(key_of(&ship), &id, &shipped)).unwrap();
        assert_eq!(figures(), (91, 5, 9, 96));
        let called_off =
            said(json!({"cancellation_id": "C-1", "lines": [{"sku": "TEE", "quantity": 2}]}));
        engine.settle_blocking(engine.cancel(key_of(&off), &id, &called_off)).unwrap();
        assert_eq!(figures(), (93, 3, 7, 96));
    }
}
