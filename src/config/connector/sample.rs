//! A batch of each domain as a receiver gets it, to check templates with. The texts are as awkward as
//! they may be: quotes, angle brackets, `&`, `%`, backslashes.

use serde_json::{Value, json};

use crate::config::Domain;

/// A part's id with the most that one can have in it.
pub(super) const PART_ID: &str = "sample-3f9c-000123.a.b";

/// A batch of a domain.
pub(super) fn batch(domain: Domain) -> Value {
    let mut batch = json!({
        "batch_id": "sample-3f9c-000123",
        "sink": "sample",
        "domain": domain.as_str(),
        "priority": "standard",
        "first_lsn": 123,
        "last_lsn": 456,
        "sealed_at": "2026-11-24T14:30:57.123Z",
        "events": 20,
    });
    match domain {
        Domain::Inventory => batch["lines"] = lines(),
        Domain::Finance => batch["entries"] = entries(),
    }
    batch
}

fn lines() -> Value {
    let line = |n: u32, sku: &str, movement: &str, quantity: i64| {
        json!({"line_id": format!("sample-3f9c-000123.{n}"), "sku": sku, "location": "BER",
               "movement": movement, "quantity": quantity, "events": 3})
    };
    json!([
        line(1, "TEE-M", "sold", 17),
        line(2, "\"><&%\\'{{ }}/", "shipped", 17),
        line(3, "TEE-M", "cancelled", 2),
        line(4, "TEE-M", "returned", 1),
        line(5, "TEE-M", "receipt", 100),
        line(6, "TEE-M", "adjustment", -5),
    ])
}

fn entries() -> Value {
    let posting = |account: &str, tax_code: Option<&str>, debit: u64, credit: u64| json!({"account": account, "tax_code": tax_code, "debit": debit, "credit": credit});
    json!([{
        "entry_id": "sample-3f9c-000123.1", "first_lsn": 123, "last_lsn": 456, "orders": 3,
        "records": 3, "digest": "ab".repeat(32), "previous_digest": "00".repeat(32),
        "kind": "invoice", "currency": "EUR",
        "postings": [
            posting("receivable", None, 11900, 0),
            posting("revenue <\"&>", Some("DE-19"), 0, 10000),
            posting("tax", Some("DE-19"), 0, 1900),
        ],
    }])
}
