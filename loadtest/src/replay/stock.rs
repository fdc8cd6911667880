//! The stock that a log begins with, set at another server; and that server's ledger of its SKUs.

use std::{collections::BTreeMap, fmt::Write};

use serde::{Deserialize, Serialize};

use super::{Error, Summary};
use crate::target::{Asker, Error as TargetError, SkuLedger};

/// SKUs of one question.
const SKUS_ASKED: usize = 100;
/// Positions of one import.
const POSITIONS_IMPORTED: usize = 50_000;
/// Units that a position can have.
const UNITS_MAX: i64 = 1_000_000_000;

/// A server's ledger of the SKUs of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    pub oversold: u64,
    /// By the number that a SKU has in the log.
    pub skus: BTreeMap<u32, SkuLedger>,
}

#[derive(Deserialize)]
struct Status {
    oversold: u64,
}

#[derive(Deserialize)]
struct Known {
    stock: Vec<Stock>,
}

#[derive(Deserialize)]
struct Stock {
    sku: String,
    available: i64,
    held: i64,
    committed: i64,
    positions: Vec<Position>,
}

#[derive(Deserialize)]
struct Position {
    location: String,
    held: i64,
    committed: i64,
}

#[derive(Serialize)]
struct Line<'a> {
    sku: &'a str,
    location: &'a str,
    on_hand: i64,
    safety_stock: i64,
    backorder_limit: i64,
    per_customer_limit: Option<u32>,
}

#[derive(Deserialize)]
struct Imported {
    applied: u64,
    refused: Vec<serde_json::Value>,
}

/// Stocks the server with all that ever came in. What is held or sold there already stays so, and comes on
/// top.
pub(super) fn set(asker: &Asker, summary: &Summary) -> Result<(), Error> {
    let known = known(asker, summary)?;
    let mut lines = Vec::new();
    for stocked in summary.stock.values() {
        let (sku, location) = (&*stocked.position.sku, &*stocked.position.location);
        let positions = known.get(sku).map_or(&[][..], |stock| &stock.positions);
        let there = positions.iter().find(|position| position.location == location);
        let taken = there.map_or(0, |position| position.held + position.committed);
        let line = Line {
            sku,
            location,
            on_hand: (stocked.on_hand + taken).clamp(0, UNITS_MAX),
            safety_stock: stocked.safety_stock.clamp(0, UNITS_MAX),
            backorder_limit: stocked.backorder_limit.clamp(0, UNITS_MAX),
            per_customer_limit: stocked.per_customer_limit,
        };
        lines.push(serde_json::to_string(&line).unwrap_or_default());
    }
    for some in lines.chunks(POSITIONS_IMPORTED) {
        import(asker, some)?;
    }
    Ok(())
}

fn import(asker: &Asker, lines: &[String]) -> Result<(), TargetError> {
    let path = "/v1/stock/import";
    let body = asker.post(path, "application/x-ndjson", lines.join("\n").as_bytes())?;
    let garbled = |reason| TargetError::Garbled { what: format!("POST {path}"), reason };
    let imported: Imported = serde_json::from_slice(&body).map_err(|e| garbled(e.to_string()))?;
    if imported.applied == lines.len() as u64 {
        return Ok(());
    }
    let first = imported.refused.first().map(ToString::to_string).unwrap_or_default();
    let (applied, all) = (imported.applied, lines.len());
    Err(garbled(format!("{applied} of {all} positions were stocked; {first}")))
}

/// What the server's ledger says of the SKUs of a log.
pub(super) fn ledger(asker: &Asker, summary: &Summary) -> Result<Ledger, Error> {
    let status: Status = asker.get("/v1/status")?;
    let known = known(asker, summary)?;
    let mut ledger = Ledger { oversold: status.oversold, skus: BTreeMap::new() };
    for stocked in summary.stock.values() {
        if let Some(&Stock { available, held, committed, .. }) = known.get(&*stocked.position.sku) {
            let figures = SkuLedger { available, held, committed };
            ledger.skus.insert(stocked.position.sku_number, figures);
        }
    }
    Ok(ledger)
}

/// What the server knows of the SKUs of a log, by their names.
fn known(asker: &Asker, summary: &Summary) -> Result<BTreeMap<String, Stock>, TargetError> {
    let mut skus: Vec<&str> = summary.stock.values().map(|s| &*s.position.sku).collect();
    skus.sort_unstable();
    skus.dedup();
    // A name with a comma can't stand in a list of them.
    let (alone, listed): (Vec<&str>, Vec<&str>) = skus.iter().partition(|sku| sku.contains(','));
    let mut all = BTreeMap::new();
    for some in listed.chunks(SKUS_ASKED) {
        let names: Vec<String> = some.iter().map(|sku| encoded(sku)).collect();
        let path = format!("/v1/stock?skus={}", names.join(","));
        let found = found(asker.get::<Known>(&path))?;
        all.extend(found.into_iter().flat_map(|known| known.stock).map(|s| (s.sku.clone(), s)));
    }
    for sku in alone {
        let path = format!("/v1/stock?sku={}", encoded(sku));
        all.extend(found(asker.get::<Stock>(&path))?.map(|stock| (stock.sku.clone(), stock)));
    }
    Ok(all)
}

/// A server that knows none of them says so with 404.
fn found<T>(answer: Result<T, TargetError>) -> Result<Option<T>, TargetError> {
    match answer {
        Err(TargetError::Refused { status: 404, .. }) => Ok(None),
        other => other.map(Some),
    }
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            // Writing into a string can't fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_stand_in_a_query() {
        assert_eq!(encoded("TEE-M_1.~"), "TEE-M_1.~");
        assert_eq!(encoded("a b,&%+"), "a%20b%2C%26%25%2B");
    }
}
