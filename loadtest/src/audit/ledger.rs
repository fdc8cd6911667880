//! What shoppers were told against what the ledger says.

use std::collections::BTreeMap;

use super::Check;
use crate::{
    plan::Plan,
    run::{Books, Fate},
    target::Ledger,
};

/// What shoppers were told, summed up by SKU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Units that are held.
    pub held: BTreeMap<u32, i64>,
    /// Units that were bought.
    pub bought: BTreeMap<u32, i64>,
    /// Orders.
    pub orders: u64,
    /// What they cost, in minor units.
    pub minor: i128,
    /// Reservations that were granted, whatever became of them.
    pub granted: u64,
}

impl Told {
    /// Sums up the books.
    pub fn of(plan: &Plan, books: &Books) -> Self {
        let mut told = Self::default();
        for (shopper, fate) in books.fates.iter().enumerate() {
            let table = match fate {
                Fate::Held | Fate::HeldUnclear(_) => &mut told.held,
                Fate::Bought => &mut told.bought,
                Fate::GaveBack => {
                    told.granted += 1;
                    continue;
                }
                Fate::Unsent | Fate::Refused | Fate::Unclear(_) => continue,
            };
            let visit = plan.visit(shopper as u32);
            for line in &visit.lines {
                *table.entry(line.sku).or_default() += i64::from(line.quantity);
            }
            told.granted += 1;
            if *fate == Fate::Bought {
                told.orders += 1;
                told.minor += i128::from(visit.total());
            }
        }
        told
    }
}

/// Units that are promised beyond what was stocked, over all SKUs.
fn beyond(plan: &Plan, promised: &BTreeMap<u32, i64>) -> i128 {
    let stock = i64::from(plan.catalogue().stock);
    promised.values().map(|units| i128::from((units - stock).max(0))).sum()
}

/// The comparisons. `before` is the ledger as it was when the target had been prepared; `expiring` says
/// that the run was so long that holds may have run out.
pub fn ledger(
    plan: &Plan,
    books: &Books,
    told: &Told,
    before: &Ledger,
    after: &Ledger,
    expiring: bool,
) -> Vec<Check> {
    let unclear = |fate| matches!(fate, Fate::Unclear(_) | Fate::HeldUnclear(_));
    let figure = |of: &dyn Fn(&crate::target::SkuLedger) -> i64| {
        let value = |ledger: &Ledger, sku: usize| ledger.skus.get(sku).map_or(0, of);
        let moved = |sku: u32| value(after, sku as usize) - value(before, sku as usize);
        (0..plan.catalogue().skus)
            .map(|sku| (sku, moved(sku)))
            .filter(|(_, moved)| *moved != 0)
            .collect::<BTreeMap<u32, i64>>()
    };
    let held = figure(&|sku| sku.held);
    let gone = figure(&|sku| -sku.available);
    let mut promised = told.bought.clone();
    let still_held = if expiring { &held } else { &told.held };
    still_held.iter().for_each(|(sku, units)| *promised.entry(*sku).or_default() += units);
    let units_held = if expiring {
        let more =
            |(sku, units): (&u32, &i64)| (units - told.held.get(sku).copied().unwrap_or(0)).max(0);
        let what = "units held beyond what shoppers were told (holds ran out during the run)";
        Check::number(what, 0, held.iter().map(more).map(i128::from).sum())
    } else {
        Check::table("units held: shoppers = ledger", &told.held, &held)
    };
    vec![
        Check::number("units oversold, says the ledger", 0, after.oversold.into()),
        Check::number("units promised beyond the stock", 0, beyond(plan, &promised)),
        Check::number("reservations given to two shoppers", 0, books.shared().into()),
        Check::number("keys that got two reservations", 0, books.twins.into()),
        Check::number("grants that a repeat took back", 0, books.taken_back.into()),
        Check::number("requests whose outcome stays unknown", 0, books.count(unclear).into()),
        Check::table("units sold: shoppers = ledger", &told.bought, &figure(&|s| s.committed)),
        units_held,
        Check::table("units gone = held + sold", &promised, &gone),
    ]
}
