//! The reconciliation: what shoppers were told, what the ledger says over HTTP, what the ERP and
//! finance received. Every difference is found, down to the unit and the cent.

use std::collections::{BTreeMap, HashMap};

use holdfast::{model::view::StockView, sinks::receiver::Totals};
use serde::{Deserialize, Serialize};

use super::{
    super::Error,
    shop::Shop,
    visit::{Item, Plan},
};

/// SKUs of one question.
const SKUS_ASKED: usize = 100;
/// Differences that are told of one check.
const DIFFERENCES_TOLD: usize = 5;

/// One comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What is compared.
    pub what: String,
    /// What it must be.
    pub expected: i128,
    /// What it is.
    pub found: i128,
    /// Whether all of it, not the sum alone, is as it must be.
    pub ok: bool,
    /// The first differences.
    pub differences: Vec<String>,
}

impl Check {
    fn number(what: impl Into<String>, expected: i128, found: i128) -> Self {
        let what = what.into();
        Self { what, expected, found, ok: expected == found, differences: Vec::new() }
    }

    /// Compares two tables by key; an absent key is 0.
    fn table<K: Ord + std::fmt::Debug>(
        what: impl Into<String>,
        expected: &BTreeMap<K, i64>,
        found: &BTreeMap<K, i64>,
    ) -> Self {
        let value = |table: &BTreeMap<K, i64>, key: &K| table.get(key).copied().unwrap_or(0);
        let keys = expected.keys().chain(found.keys().filter(|key| !expected.contains_key(key)));
        let differing: Vec<_> =
            keys.filter(|key| value(expected, key) != value(found, key)).collect();
        let tell = |key: &&K| {
            format!("{key:?}: {} instead of {}", value(found, key), value(expected, key))
        };
        Self {
            what: what.into(),
            expected: expected.values().map(|v| i128::from(*v)).sum(),
            found: found.values().map(|v| i128::from(*v)).sum(),
            ok: differing.is_empty(),
            differences: differing.iter().take(DIFFERENCES_TOLD).map(tell).collect(),
        }
    }
}

/// The part of `GET /v1/status` that is needed.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Units below zero: must be 0.
    pub oversold: u64,
    /// Reservations that are held.
    pub open_reservations: u64,
    /// Bytes of the log.
    pub log_bytes_used: u64,
    /// What the engine counted.
    pub counters: Counters,
}

/// The part of the counters that is needed.
#[derive(Debug, Clone, Deserialize)]
pub struct Counters {
    /// Reservations that expired.
    pub expired: u64,
}

/// The answer of `GET /v1/stock?skus=`.
#[derive(Debug, Deserialize)]
struct Stocks {
    stock: Vec<StockView>,
}

/// What the server says at the end.
#[derive(Debug)]
pub struct Ledger {
    /// How it stands.
    pub status: Status,
    stocks: HashMap<String, StockView>,
}

impl Ledger {
    /// Reads it over HTTP.
    pub async fn read(shop: &Shop, plan: &Plan) -> Result<Self, Error> {
        let status = shop.get("/v1/status").await?;
        let mut stocks = HashMap::new();
        let skus = plan.catalogue.iter().map(|item| item.sku.as_str());
        // A comma parts the SKUs of a question, so that one with a comma is asked for alone.
        let (alone, together): (Vec<_>, Vec<_>) = skus.partition(|sku| sku.contains(','));
        for sku in alone {
            let stock: StockView = shop.get(&format!("/v1/stock?sku={}", encoded(sku))).await?;
            stocks.insert(sku.to_owned(), stock);
        }
        for skus in together.chunks(SKUS_ASKED) {
            let list = skus.iter().map(|sku| encoded(sku)).collect::<Vec<_>>().join(",");
            let answer: Stocks = shop.get(&format!("/v1/stock?skus={list}")).await?;
            stocks.extend(answer.stock.into_iter().map(|s| (s.sku.to_string(), s)));
        }
        Ok(Self { status, stocks })
    }

    fn stock(&self, item: &Item) -> Option<&StockView> {
        self.stocks.get(item.sku.as_str())
    }

    /// A figure of every item.
    fn by_sku(&self, plan: &Plan, figure: impl Fn(&StockView) -> i64) -> BTreeMap<String, i64> {
        plan.catalogue
            .iter()
            .filter_map(|item| Some((item.sku.to_string(), figure(self.stock(item)?))))
            .collect()
    }

    /// Committed units of every position.
    fn committed(&self) -> BTreeMap<(String, String), i64> {
        let positions = self.stocks.values().flat_map(|stock| &stock.positions);
        positions.map(|p| ((p.sku.to_string(), p.location.to_string()), p.committed)).collect()
    }
}

/// Percent-encodes what a query can't carry.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Units of a movement by position, as the ERP got them.
fn moved(erp: &Totals, movement: &str) -> BTreeMap<(String, String), i64> {
    erp.movements
        .iter()
        .filter(|((_, _, kind), _)| kind == movement)
        .map(|((sku, location, _), units)| ((sku.clone(), location.clone()), *units))
        .collect()
}

/// All comparisons, in the order in which they are told.
pub fn reconcile(
    shop: &Shop,
    plan: &Plan,
    ledger: &Ledger,
    erp: &Totals,
    finance: &Totals,
) -> Vec<Check> {
    let tally = &shop.tally;
    let told: BTreeMap<_, _> = (0..plan.catalogue.len())
        .map(|i| (plan.catalogue[i].sku.to_string(), tally.sold(i) as i64))
        .collect();
    let stocked: BTreeMap<_, _> =
        plan.catalogue.iter().map(|i| (i.sku.to_string(), i.units() as i64)).collect();
    let positions: BTreeMap<_, _> = plan.catalogue.iter().flat_map(stocked_positions).collect();
    let left = |stock: &StockView| stock.available + stock.committed;
    let currency = plan.currency.as_str();
    let mut checks = vec![
        Check::number("units oversold, says the ledger", 0, ledger.status.oversold.into()),
        Check::number("units promised beyond the stock", 0, beyond(&told, &stocked)),
        Check::number("complaints", 0, tally.complaints_count.get().into()),
        Check::table("units sold: shoppers = ledger", &told, &ledger.by_sku(plan, |s| s.committed)),
        Check::table("units left + sold = stocked", &stocked, &ledger.by_sku(plan, left)),
        Check::number("reservations still held", 0, ledger.status.open_reservations.into()),
        Check::table("units stocked: shop = ERP", &positions, &moved(erp, "adjustment")),
        Check::table("units sold: ledger = ERP", &ledger.committed(), &moved(erp, "sold")),
        Check::number(
            format!("{currency} minor units: shoppers = finance"),
            tally.minor().into(),
            finance.balance(currency, "receivable"),
        ),
        Check::number("debits = credits", debits(finance), credits(finance)),
        Check::number(
            "orders: shoppers = finance",
            tally.orders.get().into(),
            finance.orders.into(),
        ),
        Check::number("broken promises, says the ERP", 0, erp.violations.len() as i128),
        Check::number("broken promises, says finance", 0, finance.violations.len() as i128),
    ];
    if let Some((units, minor)) = plan.must_sell {
        checks.push(Check::number("units: file = ERP", units.into(), erp.moved("sold").into()));
        let found = finance.balance(currency, "receivable");
        let what = format!("{currency} minor units: file = finance");
        checks.push(Check::number(what, minor.into(), found));
    }
    checks
}

fn stocked_positions(item: &Item) -> impl Iterator<Item = ((String, String), i64)> + '_ {
    let at = |(location, units): &(holdfast::model::Location, u32)| {
        ((item.sku.to_string(), location.to_string()), i64::from(*units))
    };
    item.stock.iter().map(at)
}

/// Units told to be sold that were never there.
fn beyond(told: &BTreeMap<String, i64>, stocked: &BTreeMap<String, i64>) -> i128 {
    let excess = |(sku, units): (&String, &i64)| {
        i128::from((units - stocked.get(sku).copied().unwrap_or(0)).max(0))
    };
    told.iter().map(excess).sum()
}

fn debits(finance: &Totals) -> i128 {
    finance.accounts.values().map(|sum| sum.debit).sum()
}

fn credits(finance: &Totals) -> i128 {
    finance.accounts.values().map(|sum| sum.credit).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, i64)]) -> BTreeMap<String, i64> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
    }

    #[test]
    fn tables_of_the_same_sum_are_not_the_same() {
        let expected = table(&[("a", 1), ("b", 2)]);
        let check = Check::table("", &expected, &table(&[("a", 2), ("b", 1)]));
        assert_eq!((check.ok, check.expected, check.found), (false, 3, 3));
        assert_eq!(check.differences, ["\"a\": 2 instead of 1", "\"b\": 1 instead of 2"]);
    }

    #[test]
    fn what_is_absent_is_zero() {
        let expected = table(&[("a", 1), ("b", 0)]);
        assert!(Check::table("", &expected, &table(&[("a", 1), ("c", 0)])).ok);
        let check = Check::table("", &expected, &table(&[("a", 1), ("c", 4)]));
        assert_eq!(check.differences, ["\"c\": 4 instead of 0"]);
        assert!(!Check::table("", &expected, &table(&[])).ok);
    }

    #[test]
    fn more_promised_than_there_was_is_counted_by_item() {
        let stocked = table(&[("a", 5), ("b", 5)]);
        assert_eq!(beyond(&table(&[("a", 7), ("b", 1)]), &stocked), 2);
        assert_eq!(beyond(&table(&[("a", 5)]), &stocked), 0);
        assert_eq!(beyond(&table(&[("c", 1)]), &stocked), 1);
    }

    #[test]
    fn a_query_carries_any_sku() {
        assert_eq!(encoded("TEE-M"), "TEE-M");
        assert_eq!(encoded("a b,c&d/%"), "a%20b%2Cc%26d%2F%25");
    }
}
