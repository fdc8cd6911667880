//! What the server said that it did, and the comparison with its ledger.

use std::collections::BTreeMap;

use super::{Summary, read::Units, stock::Ledger};
use crate::{audit::Check, target::SkuLedger};

/// What the server said, summed up by number of the SKU.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Units sold.
    pub sold: BTreeMap<u32, i64>,
    /// Units of holds that are open for certain.
    pub held: BTreeMap<u32, i64>,
    /// Units of holds that may have run out, or may not.
    pub maybe: BTreeMap<u32, i64>,
    /// Requests of which it is not known whether they happened.
    pub unclear: u64,
}

pub(super) fn add(table: &mut BTreeMap<u32, i64>, units: &Units) {
    for (sku, more) in units {
        *table.entry(*sku).or_default() += more;
    }
}

/// The comparisons.
pub(super) fn checks(
    told: &Told,
    summary: &Summary,
    before: &Ledger,
    after: &Ledger,
) -> Vec<Check> {
    let names: BTreeMap<u32, &str> =
        summary.stock.values().map(|s| (s.position.sku_number, &*s.position.sku)).collect();
    let named = |table: &BTreeMap<u32, i64>| -> BTreeMap<&str, i64> {
        table.iter().filter_map(|(number, units)| Some((*names.get(number)?, *units))).collect()
    };
    let moved = |of: fn(&SkuLedger) -> i64| -> BTreeMap<u32, i64> {
        let value = |ledger: &Ledger, number| ledger.skus.get(number).map_or(0, of);
        names.keys().map(|number| (*number, value(after, number) - value(before, number))).collect()
    };
    let (sold, held, gone) = (moved(|s| s.committed), moved(|s| s.held), moved(|s| -s.available));
    let mut promised = sold.clone();
    held.iter().for_each(|(sku, units)| *promised.entry(*sku).or_default() += units);
    let oversold = after.oversold.saturating_sub(before.oversold);
    let mut checks = vec![
        Check::number("units oversold, says the ledger", 0, oversold.into()),
        Check::number("requests whose outcome stays unknown", 0, told.unclear.into()),
        Check::table("units sold: shoppers = ledger", &named(&told.sold), &named(&sold)),
    ];
    if told.maybe.is_empty() {
        let what = "units held: shoppers = ledger";
        checks.push(Check::table(what, &named(&told.held), &named(&held)));
    } else {
        let mut most = told.held.clone();
        told.maybe.iter().for_each(|(sku, units)| *most.entry(*sku).or_default() += units);
        checks.push(beyond("units held that the ledger has lost", &told.held, &held));
        checks.push(beyond("units held beyond what shoppers were told", &held, &most));
    }
    let what = "units gone = held + sold, says the ledger";
    checks.push(Check::table(what, &named(&promised), &named(&gone)));
    checks
}

/// That no figure of the first is above that of the second.
fn beyond(what: &str, of: &BTreeMap<u32, i64>, than: &BTreeMap<u32, i64>) -> Check {
    let more = |(sku, units): (&u32, &i64)| (units - than.get(sku).copied().unwrap_or(0)).max(0);
    Check::number(what, 0, of.iter().map(more).map(i128::from).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::{names::Position, read::Stocked};

    #[test]
    fn a_ledger_that_says_something_else_is_caught() {
        let position = Position { sku_number: 3, sku: "TEE".into(), location: "BER".into() };
        let (on_hand, safety_stock, backorder_limit, per_customer_limit) = (9, 0, 0, None);
        let stocked =
            Stocked { position, on_hand, safety_stock, backorder_limit, per_customer_limit };
        let summary = Summary { stock: [(0, stocked)].into(), ..Summary::default() };
        let ledger = |available, held, committed| Ledger {
            oversold: 0,
            skus: [(3, SkuLedger { available, held, committed })].into(),
        };
        let told = |maybe: &[(u32, i64)]| Told {
            sold: [(3, 2)].into(),
            held: [(3, 4)].into(),
            maybe: maybe.iter().copied().collect(),
            unclear: 0,
        };
        let failed = |told: &Told, after: &Ledger| -> Vec<String> {
            let checks = checks(told, &summary, &ledger(9, 0, 0), after);
            checks.into_iter().filter(|check| !check.ok).map(|check| check.what).collect()
        };
        assert!(failed(&told(&[]), &ledger(3, 4, 2)).is_empty());
        assert_eq!(failed(&told(&[]), &ledger(4, 4, 1)), ["units sold: shoppers = ledger"]);
        assert_eq!(failed(&told(&[]), &ledger(2, 5, 2)), ["units held: shoppers = ledger"]);
        assert_eq!(failed(&told(&[]), &ledger(2, 4, 2)).len(), 1);
        // One more may be held, and no other.
        assert!(failed(&told(&[(3, 1)]), &ledger(2, 5, 2)).is_empty());
        assert_eq!(failed(&told(&[(3, 1)]), &ledger(1, 6, 2)).len(), 1);
        assert_eq!(failed(&told(&[(3, 1)]), &ledger(6, 1, 2)).len(), 1);
        let unclear = Told { unclear: 1, ..told(&[]) };
        assert_eq!(failed(&unclear, &ledger(3, 4, 2)).len(), 1);
    }
}
