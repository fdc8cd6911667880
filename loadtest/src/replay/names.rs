//! What the log's definitions say of numbers, and how orders are called in another run.

use std::{collections::HashMap, sync::Arc};

use holdfast::model::event::Define;

/// Characters of an order's id, at most.
const ORDER_CHARS_MAX: usize = 64;

/// A position of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub sku_number: u32,
    pub sku: Arc<str>,
    pub location: Arc<str>,
}

/// The names that a log's definitions gave so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    positions: HashMap<u32, Position>,
    skus: HashMap<u32, Arc<str>>,
}

impl Names {
    pub fn learn(&mut self, define: Define) {
        let sku = self.skus.entry(define.sku_number).or_insert_with(|| define.sku.into()).clone();
        let Define { position, sku_number, location, .. } = define;
        self.positions.insert(position, Position { sku_number, sku, location: location.into() });
    }

    pub fn position(&self, number: u32) -> Option<&Position> {
        self.positions.get(&number)
    }

    pub fn sku(&self, number: u32) -> Option<&Arc<str>> {
        self.skus.get(&number)
    }
}

/// What an order is called in this run: its name behind the run's, or where that is too long, a number that
/// stands for it.
pub(super) fn order(run: &str, recorded: &str) -> String {
    let name = format!("{run}.{recorded}");
    if name.len() <= ORDER_CHARS_MAX {
        return name;
    }
    // FNV-1a of 128 bits: no two orders of a sale have the same.
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58du128;
    for byte in recorded.bytes() {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    format!("{run}.{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_a_name_of_this_run_that_is_short_enough() {
        assert_eq!(order("r1", "O-7"), "r1.O-7");
        let (one, other) = (order("r1", &"x".repeat(64)), order("r1", &"y".repeat(64)));
        assert!(one.len() <= 64 && one.starts_with("r1.") && one != other, "{one} {other}");
        assert_eq!(one, order("r1", &"x".repeat(64)));
    }
}
