//! Odoo 19's JSON-2 API: `load` makes or changes records under external ids, all or nothing, and answers
//! 200 with `ids` or with `messages`; a draft has no effect until it is validated or posted.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::{Answered, Asked, Effects, System, answered, minor};

#[derive(Default)]
struct Record {
    id: u64,
    reference: String,
    done: bool,
    /// What it does once it is done: account or SKU and place, units or minor units.
    lines: Vec<(String, String, i64)>,
}

#[derive(Default)]
pub(super) struct Odoo {
    records: BTreeMap<String, Record>,
    /// External ids of moves, and the picking that has each.
    moves: HashMap<String, String>,
}

impl System for Odoo {
    fn changes(&self, asked: &Asked) -> bool {
        !asked.path.ends_with("/search_read")
    }

    fn answer(&mut self, asked: &Asked, effects: &mut Effects) -> Answered {
        effects.check(asked.method == "POST", "JSON-2 takes POST only");
        effects.check(asked.header("x-odoo-database") == "odoo", "no database");
        match asked.path.as_str() {
            "/json/2/stock.picking/load" => self.load(asked, effects, true),
            "/json/2/account.move/load" => self.load(asked, effects, false),
            "/json/2/stock.picking/button_validate" => self.complete(asked, effects, true),
            "/json/2/account.move/action_post" => self.complete(asked, effects, false),
            "/json/2/stock.picking/search_read" => self.search(asked, "origin", "done"),
            "/json/2/account.move/search_read" => self.search(asked, "ref", "posted"),
            _ => answered(404, json!({"name": "werkzeug.exceptions.NotFound"})),
        }
    }
}

impl Odoo {
    fn load(&mut self, asked: &Asked, effects: &mut Effects, stock: bool) -> Answered {
        let fields = asked.json["fields"].as_array().unwrap();
        let mut found: BTreeMap<String, Record> = BTreeMap::new();
        let (mut current, mut moves) = (String::new(), Vec::new());
        for row in asked.json["data"].as_array().unwrap() {
            let row = row.as_array().unwrap();
            effects.check(row.len() == fields.len(), "a row has other columns than are named");
            let cell = |name: &str| {
                let at = fields.iter().position(|field| field == name).unwrap();
                row[at].clone()
            };
            let text = |name: &str| cell(name).as_str().unwrap_or("").to_owned();
            if !text("id").is_empty() {
                current = text("id");
                effects.check(current.matches('.').count() == 1, "an external id has one dot");
                let reference = text(if stock { "origin" } else { "ref" });
                found.insert(current.clone(), Record { reference, ..Record::default() });
            }
            let line = if stock { stock_line(&text) } else { posting(&text, &cell) };
            if stock {
                moves.push((text("move_ids/id"), current.clone()));
            }
            match line {
                Ok(line) => found.get_mut(&current).unwrap().lines.push(line),
                Err(what) => {
                    let message =
                        json!({"type": "error", "message": what, "rows": {"from": 0, "to": 0}});
                    return answered(
                        200,
                        json!({"ids": false, "messages": [message], "nextrow": 0}),
                    );
                }
            }
        }
        for (id, picking) in moves {
            let before = self.moves.insert(id.clone(), picking.clone());
            effects.check(
                before.is_none_or(|b| b == picking),
                format!("{id} moves to another picking"),
            );
        }
        let mut ids = Vec::new();
        for (name, mut record) in found {
            let next = self.records.len() as u64 + 1;
            let known = self.records.get(&name);
            effects.check(known.is_none_or(|known| !known.done), "what is done is loaded again");
            record.id = known.map_or(next, |known| known.id);
            ids.push(record.id);
            self.records.insert(name, record);
        }
        answered(200, json!({"ids": ids, "messages": [], "nextrow": 0}))
    }

    fn complete(&mut self, asked: &Asked, effects: &mut Effects, stock: bool) -> Answered {
        let ids: Vec<u64> = serde_json::from_value(asked.json["ids"].clone()).unwrap();
        let wanted = |record: &&mut Record| ids.contains(&record.id);
        for record in self.records.values_mut().filter(wanted) {
            effects.check(!record.done, "completed twice");
            record.done = true;
            effects.documents += 1;
            for (a, b, n) in &record.lines {
                if stock { effects.move_stock(a, b, *n) } else { effects.book(a, *n) }
            }
            let balance: i64 = record.lines.iter().map(|(_, _, n)| n).sum();
            effects.check(stock || balance == 0, "a move is off balance");
        }
        answered(200, json!(true))
    }

    fn search(&self, asked: &Asked, by: &str, state: &str) -> Answered {
        let domain = &asked.json["domain"];
        let reference = domain[0][2].as_str().unwrap();
        if *domain != json!([[by, "=", reference], ["state", "=", state]]) {
            return answered(422, json!({"name": "builtins.ValueError"}));
        }
        let found = self.records.values().filter(|r| r.done && r.reference == reference);
        let found: Vec<Value> = found.take(1).map(|r| json!({"id": r.id})).collect();
        answered(200, json!(found))
    }
}

fn stock_line(text: &dyn Fn(&str) -> String) -> Result<(String, String, i64), String> {
    let sku = text("move_ids/product_id/id").strip_prefix("holdfast_sku.").unwrap_or("").to_owned();
    if sku.is_empty() || sku.starts_with("BAD") {
        return Err(format!("No matching record found for external id '{sku}' in field 'Product'"));
    }
    let (source, target) = (text("move_ids/location_id/id"), text("move_ids/location_dest_id/id"));
    let units: i64 = text("move_ids/quantity").parse().map_err(|_| "quantity")?;
    match (source.strip_prefix("holdfast_location."), target.strip_prefix("holdfast_location.")) {
        (Some(place), None) if target == "stock.stock_location_customers" => {
            Ok((sku, place.into(), -units))
        }
        (None, Some(place)) if source == "stock.stock_location_customers" => {
            Ok((sku, place.into(), units))
        }
        _ => Err(format!("No matching record found for '{source}' or '{target}'")),
    }
}

fn posting(
    text: &dyn Fn(&str) -> String,
    cell: &dyn Fn(&str) -> Value,
) -> Result<(String, String, i64), String> {
    let account = text("line_ids/account_id");
    if account.starts_with("BAD") {
        return Err(format!("No matching record found for name '{account}' in field 'Account'"));
    }
    let amount = |name| minor(&cell(name)).ok_or("an amount is no number");
    Ok((account, String::new(), amount("line_ids/debit")? - amount("line_ids/credit")?))
}
