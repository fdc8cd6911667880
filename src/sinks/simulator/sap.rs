//! SAP S/4HANA: OData that wants a token against forged requests and its cookies, SOAP that does not;
//! nothing recognises a repeat, but documents can be searched by reference.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Answered, Asked, Effects, System, answered, minor};

const SERVICE: &str = "/sap/opu/odata/sap/API_MATERIAL_DOCUMENT_SRV/";

#[derive(Default)]
pub(super) struct Sap {
    references: HashSet<String>,
    tokens: u64,
    /// Changes that were taken since the last token; it is good for three.
    used: u64,
}

impl System for Sap {
    fn answer(&mut self, asked: &Asked, effects: &mut Effects) -> Answered {
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", SERVICE) if asked.header("x-csrf-token") == "fetch" => self.shake(),
            ("GET", path) if path.ends_with("/A_MaterialDocumentHeader") => {
                self.search(asked, "ReferenceDocument eq '", "'")
            }
            ("GET", path) if path.ends_with("/A_OperationalAcctgDocItemCube") => {
                self.search(asked, "DocumentReferenceID eq '", "' and CompanyCode eq '1010'")
            }
            ("POST", path) if path == format!("{SERVICE}A_MaterialDocumentHeader") => {
                if !self.is_shaken(asked) {
                    let headers = vec![("x-csrf-token", "Required".to_owned())];
                    return Answered {
                        status: 403,
                        headers,
                        body: "CSRF token validation failed".into(),
                    };
                }
                self.used += 1;
                self.material(&asked.json, effects)
            }
            ("POST", "/sap/bc/srt/scs_ext/sap/journalentrycreaterequestconfi") => {
                self.journal(&asked.text, effects)
            }
            _ => answered(404, json!({"error": {"code": "/IWFND/MED/170"}})),
        }
    }
}

impl Sap {
    fn shake(&mut self) -> Answered {
        self.tokens += 1;
        self.used = 0;
        let headers = vec![
            ("x-csrf-token", format!("csrf-{}", self.tokens)),
            ("set-cookie", format!("SAP_SESSIONID=s{}; path=/; secure; HttpOnly", self.tokens)),
            ("set-cookie", "sap-usercontext=sap-client=100; path=/".to_owned()),
        ];
        Answered { status: 200, headers, body: "{\"d\":{}}".into() }
    }

    fn is_shaken(&self, asked: &Asked) -> bool {
        let cookie = format!("SAP_SESSIONID=s{}; sap-usercontext=sap-client=100", self.tokens);
        self.tokens > 0
            && self.used < 3
            && asked.header("x-csrf-token") == format!("csrf-{}", self.tokens)
            && asked.header("cookie") == cookie
    }

    fn material(&mut self, document: &Value, effects: &mut Effects) -> Answered {
        effects.check(document["GoodsMovementCode"] == "03", "goods movement code");
        let items = document["to_MaterialDocumentItem"]["results"].as_array().cloned();
        let lines: Result<Vec<_>, String> = items.iter().flatten().map(material_item).collect();
        let lines = match lines {
            Ok(lines) => lines,
            Err(what) => {
                let message = json!({"lang": "en", "value": what});
                return answered(400, json!({"error": {"code": "M7/001", "message": message}}));
            }
        };
        let reference = document["ReferenceDocument"].as_str().unwrap_or("");
        self.refer(reference, effects);
        lines.iter().for_each(|(sku, place, units)| effects.move_stock(sku, place, *units));
        answered(
            201,
            json!({"d": {"MaterialDocument": "4900000001", "MaterialDocumentYear": "2026"}}),
        )
    }

    fn journal(&mut self, xml: &str, effects: &mut Effects) -> Answered {
        let soap = |inner: String| Answered {
            status: 200,
            headers: vec![("content-type", "text/xml".into())],
            body: format!(
                "<soap-env:Envelope><soap-env:Body>{inner}</soap-env:Body></soap-env:Envelope>"
            ),
        };
        let all = |name: &str| -> Vec<String> {
            let opening = format!("<{name}");
            let parts = xml.split(&opening).skip(1);
            parts.filter_map(|p| Some(unescaped(p.split_once('>')?.1.split_once('<')?.0))).collect()
        };
        effects
            .check(all("CompanyCode") == ["1010"] && all("CreatedByUser") == ["TESTER"], "header");
        let (accounts, amounts) = (all("GLAccount"), all("AmountInTransactionCurrency"));
        let sides = all("DebitCreditCode");
        effects.check(accounts.len() == amounts.len() && accounts.len() <= 999, "items");
        if let Some(bad) = accounts.iter().find(|account| account.starts_with("BAD")) {
            let log = format!(
                "<Log><MaximumLogItemSeverityCode>3</MaximumLogItemSeverityCode><Item>\
                               <Note>G/L account {bad} is not defined</Note></Item></Log>"
            );
            return soap(format!("<AccountingDocument>0000000000</AccountingDocument>{log}"));
        }
        self.refer(&all("DocumentReferenceID").concat(), effects);
        let mut balance = 0;
        for ((account, amount), side) in accounts.iter().zip(&amounts).zip(&sides) {
            let net = minor(&json!(amount)).unwrap();
            effects.check((net > 0) == (side == "S"), "the side does not fit the sign");
            balance += net;
            effects.book(account, net);
        }
        effects.check(balance == 0, "a document is off balance");
        soap("<AccountingDocument>1000000001</AccountingDocument>".into())
    }

    fn refer(&mut self, reference: &str, effects: &mut Effects) {
        effects.check((1..=16).contains(&reference.len()), "a reference of 16 characters");
        effects.check(
            self.references.insert(reference.into()),
            format!("{reference} is posted twice"),
        );
        effects.documents += 1;
    }

    fn search(&self, asked: &Asked, before: &str, after: &str) -> Answered {
        let filter = asked.query.get("$filter").map_or("", String::as_str);
        let reference = filter.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        let Some(reference) = reference else {
            return answered(400, json!({"error": {"code": "005056A509B11EE1B9A8FEC11C21578E"}}));
        };
        let found = self.references.contains(reference);
        let results = if found { json!([{"ReferenceDocument": reference}]) } else { json!([]) };
        answered(200, json!({"d": {"results": results}}))
    }
}

fn material_item(item: &Value) -> Result<(String, String, i64), String> {
    let text = |name: &str| item[name].as_str().unwrap_or("").to_owned();
    let (sku, place) = (text("Material"), text("StorageLocation"));
    let units: i64 = text("QuantityInEntryUnit").parse().map_err(|_| "quantity")?;
    match text("GoodsMovementType").as_str() {
        _ if sku.starts_with("BAD") => Err(format!("Material {sku} does not exist")),
        _ if text("Plant") != "1010" || units <= 0 => Err("Enter Plant".into()),
        "251" => Ok((sku, place, -units)),
        "252" => Ok((sku, place, units)),
        other => Err(format!("Movement type {other} is not allowed")),
    }
}

fn unescaped(text: &str) -> String {
    let entities =
        [("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&#x27;", "'"), ("&#x2f;", "/")];
    let text = entities.iter().fold(text.to_owned(), |text, (name, c)| text.replace(name, c));
    text.replace("&amp;", "&")
}
