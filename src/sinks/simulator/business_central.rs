//! Business Central: `$batch` with `Isolation: snapshot` in one transaction, at most 100 requests, which
//! stops at the first error; lines lie in a journal until the last request posts it; nothing recognises a
//! repeat, but entries can be searched.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Answered, Asked, Effects, System, answered, minor};

#[derive(Default)]
pub(super) struct BusinessCentral {
    documents: HashSet<String>,
}

impl System for BusinessCentral {
    fn answer(&mut self, asked: &Asked, effects: &mut Effects) -> Answered {
        if asked.method == "GET" {
            return self.search(asked);
        }
        if asked.path != "/api/v2.0/$batch" {
            return answered(404, json!({"error": {"code": "BadRequest_NotFound"}}));
        }
        let snapshot = asked.header("isolation") == "snapshot";
        effects.check(snapshot && asked.header("accept") == "application/json", "headers");
        let requests = asked.json["requests"].as_array().cloned().unwrap_or_default();
        effects.check((2..=100).contains(&requests.len()), "more than 100 requests of a batch");
        let ids: HashSet<&str> = requests.iter().filter_map(|r| r["id"].as_str()).collect();
        effects.check(ids.len() == requests.len(), "two requests of one id");
        self.post(&requests, effects)
    }
}

impl BusinessCentral {
    fn post(&mut self, requests: &[Value], effects: &mut Effects) -> Answered {
        let (mut responses, mut lines, mut number) = (Vec::new(), Vec::new(), String::new());
        for request in requests {
            let (id, url) = (&request["id"], request["url"].as_str().unwrap_or(""));
            if url.ends_with("/Microsoft.NAV.post") {
                effects.check(responses.len() + 1 == requests.len(), "posted before the last line");
                responses.push(json!({"id": id, "status": 204}));
                continue;
            }
            let stock = url == "companies(c-1)/itemJournals(j-1)/itemJournalLines";
            effects.check(stock || url == "companies(c-1)/journals(j-1)/journalLines", url);
            let line = &request["body"];
            number = line["documentNumber"].as_str().unwrap_or("").to_owned();
            effects.check((1..=20).contains(&number.len()), "a document number of Code[20]");
            match if stock { item_line(line) } else { journal_line(line) } {
                Ok((a, b, n)) => lines.push((stock, a, b, n)),
                Err(what) => {
                    // Everything is rolled back, and the rest is not executed.
                    let error = json!({"code": "Internal_RecordNotFound", "message": what});
                    responses.push(json!({"id": id, "status": 404, "body": {"error": error}}));
                    return answered(200, json!({"responses": responses}));
                }
            }
            responses.push(json!({"id": id, "status": 201, "body": {"id": "x"}}));
        }
        effects.check(self.documents.insert(number.clone()), format!("{number} is posted twice"));
        let balance: i64 = lines.iter().filter(|(stock, ..)| !stock).map(|(.., n)| n).sum();
        effects.check(balance == 0, "a journal is off balance");
        effects.documents += 1;
        for (stock, a, b, n) in lines {
            if stock { effects.move_stock(&a, &b, n) } else { effects.book(&a, n) }
        }
        answered(200, json!({"responses": responses}))
    }

    fn search(&self, asked: &Asked) -> Answered {
        let known = [
            "/api/v2.0/companies(c-1)/itemLedgerEntries",
            "/api/v2.0/companies(c-1)/generalLedgerEntries",
        ];
        let filter = asked.query.get("$filter").map_or("", String::as_str);
        let number = filter.strip_prefix("documentNumber eq '").and_then(|f| f.strip_suffix('\''));
        let Some(number) = number.filter(|_| known.contains(&asked.path.as_str())) else {
            return answered(400, json!({"error": {"code": "BadRequest"}}));
        };
        let found = self.documents.contains(number);
        let value = if found { json!([{"documentNumber": number}]) } else { json!([]) };
        answered(200, json!({"@odata.context": "x", "value": value}))
    }
}

fn item_line(line: &Value) -> Result<(String, String, i64), String> {
    let sku = line["itemNumber"].as_str().unwrap_or("").to_owned();
    let place = line["locationCode"].as_str().unwrap_or("").to_owned();
    let units = line["quantity"].as_i64().filter(|n| *n > 0).ok_or("quantity")?;
    match line["entryType"].as_str() {
        _ if sku.starts_with("BAD") => Err(format!("The Item does not exist. No.='{sku}'")),
        Some("Positive Adjmt.") => Ok((sku, place, units)),
        Some("Negative Adjmt.") => Ok((sku, place, -units)),
        _ => Err("entryType".into()),
    }
}

fn journal_line(line: &Value) -> Result<(String, String, i64), String> {
    let account = line["accountNumber"].as_str().unwrap_or("").to_owned();
    if account.starts_with("BAD") {
        return Err(format!("The G/L Account does not exist. No.='{account}'"));
    }
    Ok((account, String::new(), minor(&line["amount"]).ok_or("amount")?))
}
