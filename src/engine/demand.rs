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
    /// Units physically there.
    pub on_hand: i64,
}

impl<S: Storage> Engine<S> {
    /// The SKUs of which most is held and sold, at most so many, the greatest first; those of which
    /// nothing is, are left out. Walks all positions and keeps only the answer in memory.
    pub fn in_demand(&self, skus_max: usize) -> Vec<Demand> {
        let positions = &self.core().tables.positions;
        let mut most = BinaryHeap::new();
        for number in 0..positions.skus_len() {
            let counts = positions.of_sku(number).map(|(_, position)| position.counts());
            let taken: i64 = counts.map(|counts| counts.held + counts.committed).sum();
            if taken > 0 {
                // The earlier SKU first where as much of two is taken, so that a list stays as it is.
                most.push(Reverse((taken, Reverse(number))));
            }
            if most.len() > skus_max {
                most.pop();
            }
        }
        let numbers = most.into_sorted_vec().into_iter().map(|Reverse((_, Reverse(n)))| n);
        numbers.filter_map(|number| self.demand(number)).collect()
    }

    fn demand(&self, number: u32) -> Option<Demand> {
        let positions = &self.core().tables.positions;
        let mut sum = Counts::default();
        for (_, position) in positions.of_sku(number) {
            let counts = position.counts();
            sum.available += counts.available;
            sum.held += counts.held;
            sum.committed += counts.committed;
            sum.on_hand += counts.on_hand;
        }
        let Counts { available, held, committed, on_hand, .. } = sum;
        Some(Demand { sku: positions.sku(number)?.clone(), available, held, committed, on_hand })
    }
}
