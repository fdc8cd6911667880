//! What a peer's outbox says: the sum of its rows, each of which is one change.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

/// The sum of an outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbox {
    /// Units held by number of the SKU.
    pub held: BTreeMap<u32, i64>,
    /// Units sold.
    pub sold: BTreeMap<u32, i64>,
    /// Carts that were taken, whatever became of them.
    pub grants: u64,
    /// Keys that have two rows.
    pub twice: u64,
    /// Rows that mean nothing.
    pub unreadable: u64,
    keys: HashSet<u64>,
}

impl Outbox {
    /// Takes a row in: what happened, under which key (empty where nobody asked), to which cart, as
    /// `SKU=units` with commas between.
    pub fn take(&mut self, kind: &str, key: &str, cart: &str) {
        let lines: Option<Vec<(u32, i64)>> = cart.split(',').map(line).collect();
        // Into the hold, and into what is sold.
        let signs = match kind {
            "held" => (1, 0),
            "ordered" => (0, 1),
            "committed" => (-1, 1),
            "released" | "expired" => (-1, 0),
            _ => (0, 0),
        };
        let (Some(lines), true) = (lines, signs != (0, 0)) else {
            self.unreadable += 1;
            return;
        };
        for (sku, units) in lines {
            *self.held.entry(sku).or_default() += signs.0 * units;
            *self.sold.entry(sku).or_default() += signs.1 * units;
        }
        self.grants += u64::from(matches!(kind, "held" | "ordered"));
        if !key.is_empty() {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            self.twice += u64::from(!self.keys.insert(hasher.finish()));
        }
    }
}

fn line(text: &str) -> Option<(u32, i64)> {
    let (sku, units) = text.split_once('=')?;
    Some((sku.strip_prefix("SKU-")?.parse().ok()?, units.parse::<u32>().ok()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_summed_up() {
        let mut outbox = Outbox::default();
        outbox.take("held", "a", "SKU-0000001=2,SKU-0000002=1");
        outbox.take("held", "b", "SKU-0000001=5");
        outbox.take("ordered", "c", "SKU-0000003=4");
        outbox.take("committed", "d", "SKU-0000001=2,SKU-0000002=1");
        outbox.take("expired", "", "SKU-0000001=5");
        assert_eq!(outbox.held, [(1, 0), (2, 0), (3, 0)].into());
        assert_eq!(outbox.sold, [(1, 2), (2, 1), (3, 4)].into());
        assert_eq!((outbox.grants, outbox.twice, outbox.unreadable), (3, 0, 0));
        outbox.take("held", "a", "SKU-0000001=2");
        assert_eq!((outbox.grants, outbox.twice), (4, 1));
        for (kind, cart) in [("lost", "SKU-1=1"), ("held", "TEE=1"), ("held", "SKU-1=-1")] {
            outbox.take(kind, "", cart);
        }
        assert_eq!((outbox.grants, outbox.unreadable), (4, 3));
    }
}
