//! What the ledger says against what its receivers got. The receivers of the tester's own server are
//! asked themselves; of another server's, only what that server says of them can be told.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use holdfast::sinks::receiver::Totals;
use serde::Deserialize;

use super::{Check, Told};
use crate::{
    plan::Plan,
    target::{Asker, Error},
};

/// Between two looks at the sinks.
const GLANCE: Duration = Duration::from_millis(50);

#[derive(Debug, Deserialize)]
struct Sinks {
    sinks: Vec<Sink>,
}

#[derive(Debug, Deserialize)]
struct Sink {
    name: String,
    state: String,
    lag_records: u64,
    dead_letters: u64,
    acknowledged_lsn: u64,
}

#[derive(Debug, Deserialize)]
struct Status {
    durable: u64,
}

/// What became of the sinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Whether there are any.
    pub sinks: usize,
    /// How long they took to bring everything.
    pub took: Duration,
    /// The comparisons.
    pub checks: Vec<Check>,
}

/// Waits until every sink of a server has brought everything that was durable when it was asked, for
/// `patience` at most.
///
/// # Errors
/// If the server can't be asked.
pub fn wait_for_sinks(asker: &Asker, patience: Duration) -> Result<Delivery, Error> {
    let begin = Instant::now();
    let status: Status = asker.get("/v1/status")?;
    loop {
        let Sinks { sinks } = sinks(asker)?;
        let done = |sink: &Sink| sink.lag_records == 0 && sink.acknowledged_lsn >= status.durable;
        let late: Vec<&Sink> = sinks.iter().filter(|sink| !done(sink)).collect();
        if late.is_empty() || begin.elapsed() >= patience {
            let tell = |s: &&Sink| format!("{} ({}): {} records", s.name, s.state, s.lag_records);
            let mut behind = Check::number("sinks that are behind", 0, late.len() as i128);
            behind.differences = late.iter().map(tell).collect();
            let letters: u64 = sinks.iter().map(|sink| sink.dead_letters).sum();
            let checks = vec![behind, Check::number("dead letters", 0, letters.into())];
            return Ok(Delivery { sinks: sinks.len(), took: begin.elapsed(), checks });
        }
        thread::sleep(GLANCE);
    }
}

fn sinks(asker: &Asker) -> Result<Sinks, Error> {
    asker.get("/v1/sinks")
}

/// What each receiver got against what the ledger must have told it.
pub fn delivered(
    plan: &Plan,
    told: &Told,
    inventory: &[(String, Totals)],
    finance: &[(String, Totals)],
) -> Vec<Check> {
    let mut checks = Vec::new();
    let stocked: BTreeMap<String, i64> = (0..plan.catalogue().skus)
        .map(|sku| (Plan::sku(sku), i64::from(plan.catalogue().stock)))
        .collect();
    let bought: BTreeMap<String, i64> =
        told.bought.iter().map(|(sku, units)| (Plan::sku(*sku), *units)).collect();
    for (name, totals) in inventory {
        let what = format!("units sold: shoppers = {name}");
        checks.push(Check::table(what, &bought, &moved(totals, "sold")));
        let what = format!("units stocked: plan = {name}");
        checks.push(Check::table(what, &stocked, &moved(totals, "adjustment")));
        checks.push(promises(name, totals));
    }
    for (name, totals) in finance {
        let orders = format!("orders: shoppers = {name}");
        checks.push(Check::number(orders, told.orders.into(), totals.orders.into()));
        let minor = format!("cents: shoppers = {name}");
        checks.push(Check::number(minor, told.minor, totals.balance("EUR", "receivable")));
        let debits: i128 = totals.accounts.values().map(|sum| sum.debit).sum();
        let credits: i128 = totals.accounts.values().map(|sum| sum.credit).sum();
        checks.push(Check::number(format!("debits = credits at {name}"), debits, credits));
        checks.push(promises(name, totals));
    }
    checks
}

fn promises(name: &str, totals: &Totals) -> Check {
    let what = format!("broken promises, says {name}");
    let mut check = Check::number(what, 0, totals.violations.len() as i128);
    check.differences = totals.violations.iter().take(super::DIFFERENCES_TOLD).cloned().collect();
    check
}

/// Units of a movement by SKU.
fn moved(totals: &Totals, movement: &str) -> BTreeMap<String, i64> {
    let mut by_sku = BTreeMap::new();
    let of = totals.movements.iter().filter(|((_, _, kind), _)| kind == movement);
    of.for_each(|((sku, _, _), units)| *by_sku.entry(sku.clone()).or_default() += units);
    by_sku
}
