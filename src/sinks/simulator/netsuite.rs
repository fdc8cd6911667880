//! NetSuite: PUT under an external id makes a record or replaces it; 204 without a body; errors in
//! `o:errorDetails`; the idempotency key of a request that is executed at once is ignored.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{Answered, Asked, Effects, System, answered, minor};

#[derive(Default)]
pub(super) struct NetSuite {
    /// What each record does, so that replacing it takes that back.
    records: HashMap<String, Vec<(bool, String, String, i64)>>,
}

impl System for NetSuite {
    fn answer(&mut self, asked: &Asked, effects: &mut Effects) -> Answered {
        let path = asked.path.strip_prefix("/services/rest/record/v1/").unwrap_or("");
        let (stock, id, sublist) = match path.split_once("/eid:") {
            Some(("inventoryAdjustment", id)) => (true, id, "inventory"),
            Some(("journalEntry", id)) => (false, id, "line"),
            _ => return answered(404, json!({"o:errorDetails": [{"o:errorCode": "INVALID_URL"}]})),
        };
        let named = id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        effects.check(asked.method == "PUT" && named, format!("no external id: {id}"));
        let replaces = asked.query.get("replace").is_some_and(|list| list == sublist);
        effects.check(replaces, "a repeat would add its lines to those that are there");
        effects.check(asked.json["externalId"] == id, "another external id in the body");
        let items = asked.json[sublist]["items"].as_array().cloned().unwrap_or_default();
        let lines: Result<Vec<_>, String> = items.iter().map(|item| line(stock, item)).collect();
        let lines = match lines {
            Ok(lines) => lines,
            Err(what) => {
                let detail = json!({"detail": what, "o:errorCode": "INVALID_CONTENT",
                                    "o:errorPath": format!("{sublist}.items[0]")});
                return answered(400, json!({"status": 400, "o:errorDetails": [detail]}));
            }
        };
        let balance: i64 = lines.iter().map(|(.., n)| n).sum();
        effects.check(stock || balance == 0, "an entry is off balance");
        let before = self.records.insert(id.to_owned(), lines.clone());
        effects.documents += u64::from(before.is_none());
        let undone = before.into_iter().flatten().map(|(stock, a, b, n)| (stock, a, b, -n));
        for (stock, a, b, n) in undone.chain(lines) {
            if stock { effects.move_stock(&a, &b, n) } else { effects.book(&a, n) }
        }
        Answered { status: 204, headers: Vec::new(), body: String::new() }
    }
}

fn line(stock: bool, item: &Value) -> Result<(bool, String, String, i64), String> {
    let name = |field: &str| item[field]["externalId"].as_str().unwrap_or("").to_owned();
    let (a, b, n) = match stock {
        true => (name("item"), name("location"), item["adjustQtyBy"].as_i64()),
        false => {
            let net = match (item.get("debit"), item.get("credit")) {
                (Some(debit), None) => minor(debit),
                (None, Some(credit)) => minor(credit).map(|n| -n),
                _ => None,
            };
            (name("account"), String::new(), net)
        }
    };
    if a.is_empty() || a.starts_with("BAD") {
        return Err(format!("Invalid Field Value {a} for the following field"));
    }
    Ok((stock, a, b, n.ok_or("Invalid number")?))
}
