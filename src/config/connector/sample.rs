//! A batch of each domain as a receiver gets it, to check templates with. The texts are as awkward as
//! they may be: quotes, angle brackets, `&`, `%`, backslashes.

use serde_json::{Value, json};

use crate::config::Domain;

/// A part's id with the most that one can have in it.
pub(super) const PART_ID: &str = "sample-3f9c-000123.a.b";

/// A batch of a domain.
pub(crate) fn batch(domain: Domain) -> Value {
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
        Domain::Fulfilment => {
            batch["wave_id"] = "sample-3f9c-000123".into();
            batch["location"] = "BER".into();
            batch["orders"] = orders();
            batch["cancellations"] = cancellations();
        }
        Domain::Stream => return events(),
    }
    batch
}

fn orders() -> Value {
    let lines = json!([{"sku": "TEE-M", "quantity": 2}, {"sku": "\"><&%\\'{{ }}/", "quantity": 1}]);
    json!([
        {"line_id": "sample-3f9c-000123.1", "order_id": "O-1", "priority": "express",
         "promised_ship_at": "2026-11-24T16:00:00.000Z", "lines": lines},
        {"line_id": "sample-3f9c-000123.2", "order_id": "O-2 <\"&>", "priority": "standard",
         "promised_ship_at": null, "lines": lines},
    ])
}

fn cancellations() -> Value {
    json!([{"line_id": "sample-3f9c-000123.3", "order_id": "O-0", "reason": "cancelled",
            "lines": [{"sku": "TEE-M", "quantity": 1}]}])
}

fn events() -> Value {
    json!([{"specversion": "1.0", "id": "3f9c000000000000-640", "source": "/holdfast/3f9c000000000000",
            "type": "holdfast.order.placed.v1", "subject": "O-1", "sequence": "640",
            "time": "2026-11-24T14:30:57.123Z", "datacontenttype": "application/json",
            "data": {"order_id": "O-1 <\"&>"}}])
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
