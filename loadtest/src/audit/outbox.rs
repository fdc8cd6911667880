//! What shoppers were told against what stands in a peer's outbox.

use super::{Check, Told};
use crate::peer::Outbox;

/// The comparisons. `expiring` says that the run was so long that holds may have run out.
pub fn outbox(told: &Told, outbox: &Outbox, expiring: bool) -> Vec<Check> {
    let mut checks = vec![
        Check::number("rows of the outbox that can't be read", 0, outbox.unreadable.into()),
        Check::number("keys that stand twice in the outbox", 0, outbox.twice.into()),
        Check::number("grants: shoppers = outbox", told.granted.into(), outbox.grants.into()),
        Check::table("units sold: shoppers = outbox", &told.bought, &outbox.sold),
    ];
    if expiring {
        let beyond = |(sku, units): (&u32, &i64)| {
            i128::from((units - told.held.get(sku).copied().unwrap_or(0)).max(0))
        };
        let what = "units held in the outbox beyond what shoppers were told";
        checks.push(Check::number(what, 0, outbox.held.iter().map(beyond).sum()));
    } else {
        checks.push(Check::table("units held: shoppers = outbox", &told.held, &outbox.held));
    }
    checks
}
