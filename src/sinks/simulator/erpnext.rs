//! ERPNext: one document a request, submitted at once; a unique field refuses the second one with 409 or
//! 417, by version; a row that is wrong refuses the document with 417 and words.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Answered, Asked, Effects, System, answered, minor};

#[derive(Default)]
pub(super) struct ErpNext {
    batches: HashSet<String>,
}

impl System for ErpNext {
    fn answer(&mut self, asked: &Asked, effects: &mut Effects) -> Answered {
        let doc = &asked.json;
        let stock = match asked.path.as_str() {
            "/api/resource/Stock Entry" => true,
            "/api/resource/Journal Entry" => false,
            _ => return answered(404, json!({"exc_type": "DoesNotExistError"})),
        };
        effects.check(asked.method == "POST", "documents are made by POST");
        effects.check(doc["docstatus"] == 1 && doc["company"] == "Shop", "not to be submitted");
        let batch = doc["custom_holdfast_batch"].as_str().unwrap_or("").to_owned();
        effects.check(!batch.is_empty(), "no batch");
        if self.batches.contains(&batch) {
            let even = self.batches.len().is_multiple_of(2);
            let (status, kind) =
                if even { (409, "DuplicateEntryError") } else { (417, "UniqueValidationError") };
            return answered(status, json!({"exc_type": kind, "exception": "frappe.exceptions"}));
        }
        let rows =
            doc[if stock { "items" } else { "accounts" }].as_array().cloned().unwrap_or_default();
        effects.check(!rows.is_empty() && rows.len() <= 500, "rows beyond the preset's bound");
        let lines: Result<Vec<_>, String> =
            rows.iter().map(if stock { stock_row } else { account_row }).collect();
        let lines = match lines {
            Ok(lines) => lines,
            Err(what) => {
                let said = json!({"exc_type": "LinkValidationError", "_server_messages": what});
                return answered(417, said);
            }
        };
        let balance: i64 = lines.iter().map(|(_, _, n)| n).sum();
        effects.check(stock || balance == 0, "an entry is off balance");
        for (a, b, n) in lines {
            if stock { effects.move_stock(&a, &b, n) } else { effects.book(&a, n) }
        }
        effects.documents += 1;
        self.batches.insert(batch);
        answered(200, json!({"data": {"name": "MAT-STE-1", "docstatus": 1}}))
    }
}

fn stock_row(row: &Value) -> Result<(String, String, i64), String> {
    let text = |name: &str| row[name].as_str().unwrap_or("").to_owned();
    let (sku, source, target) = (text("item_code"), text("s_warehouse"), text("t_warehouse"));
    let units =
        row["qty"].as_i64().filter(|units| *units > 0).ok_or("Quantity must be positive")?;
    if sku.starts_with("BAD") || sku.is_empty() {
        return Err(format!("Could not find Row #1: Item Code: {sku}"));
    }
    let place = |name: &str| name.strip_suffix(" - S").map(str::to_owned);
    match (place(&source), place(&target)) {
        (Some(place), None) if target == "Out" => Ok((sku, place, -units)),
        (None, Some(place)) if source == "Out" => Ok((sku, place, units)),
        _ => Err(format!("Could not find Row #1: Warehouse: {source} {target}")),
    }
}

fn account_row(row: &Value) -> Result<(String, String, i64), String> {
    let account = row["account"].as_str().unwrap_or("").to_owned();
    if account.starts_with("BAD") || account.is_empty() {
        return Err(format!("Could not find Row #1: Account: {account}"));
    }
    let amount = |name: &str| minor(&row[name]).ok_or("no amount");
    let net = amount("debit_in_account_currency")? - amount("credit_in_account_currency")?;
    Ok((account, String::new(), net))
}
