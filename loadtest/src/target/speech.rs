//! How Holdfast is spoken to over HTTP, whatever carries it: paths, keys and bodies of requests, what an
//! answer means, the stock before a run and the ledger after it.

use serde::Deserialize;

use super::{Asker, Error, Ledger, Request, ReservationName, Said, SkuLedger};
use crate::plan::{Plan, Step};

/// SKUs of one question.
const SKUS_ASKED: u32 = 500;
/// Positions of one import.
const POSITIONS_IMPORTED: usize = 50_000;

/// The path of a request.
pub(super) fn path(request: &Request<'_>, out: &mut Vec<u8>) {
    match (request.step, request.reservation) {
        (Step::Reserve, _) => out.extend_from_slice(b"/v1/reservations"),
        (Step::Order, _) => out.extend_from_slice(b"/v1/orders"),
        (step, name) => {
            out.extend_from_slice(b"/v1/reservations/");
            out.extend_from_slice(name.map_or(b"none".as_slice(), ReservationName::as_bytes));
            let verb: &[u8] = if step == Step::Commit { b"/commit" } else { b"/release" };
            out.extend_from_slice(verb);
        }
    }
}

#[derive(Deserialize)]
struct Made<'a> {
    #[serde(default, borrow)]
    id: Option<&'a str>,
    #[serde(default, borrow)]
    reservations: Vec<&'a str>,
}

#[derive(Deserialize)]
struct Problem<'a> {
    #[serde(borrow)]
    code: &'a str,
}

/// What an answer means.
pub(crate) fn said(status: u16, step: Step, body: &[u8]) -> Said {
    match status {
        200 | 201 => granted(step, body),
        409 => match serde_json::from_slice::<Problem<'_>>(body) {
            Ok(Problem { code: "insufficient_stock" }) => Said::SoldOut,
            Ok(_) => Said::Refused,
            Err(_) => Said::Failed,
        },
        429 | 503 => Said::Shed,
        400..=499 => Said::Invalid,
        _ => Said::Failed,
    }
}

fn granted(step: Step, body: &[u8]) -> Said {
    // Of what is released or committed the name is known.
    if matches!(step, Step::Commit | Step::Release) {
        return Said::Granted { reservation: None };
    }
    match name(body) {
        Some(name) => Said::Granted { reservation: Some(name) },
        None => Said::Failed,
    }
}

/// The name of the reservation in an answer.
fn name(body: &[u8]) -> Option<ReservationName> {
    // As Holdfast writes it; an id has nothing that would be escaped.
    if let Some(rest) = body.strip_prefix(b"{\"id\":\"")
        && let Some(end) = rest.iter().take(64).position(|byte| *byte == b'"')
    {
        return ReservationName::new(&rest[..end]);
    }
    let made: Made<'_> = serde_json::from_slice(body).ok()?;
    let text = made.id.or_else(|| made.reservations.first().copied())?;
    ReservationName::new(text.as_bytes())
}

#[derive(Deserialize)]
struct BatchAnswer<'a> {
    #[serde(borrow)]
    results: Vec<BatchResult<'a>>,
}

#[derive(Deserialize)]
struct BatchResult<'a> {
    status: u16,
    #[serde(default, borrow)]
    id: Option<&'a str>,
    #[serde(default, borrow)]
    code: Option<&'a str>,
}

/// What the answer to a batch of `count` reservations says to each, in their order. Something else than
/// an answer to all of them is a failure of all.
pub(super) fn batch_said(status: u16, body: &[u8], count: usize, mut each: impl FnMut(Said)) {
    let answer = serde_json::from_slice::<BatchAnswer<'_>>(body);
    let (all, results) = match (status, answer) {
        (200, Ok(answer)) if answer.results.len() == count => (Said::Failed, answer.results),
        (429 | 503, _) => (Said::Shed, Vec::new()),
        (400..=499, _) => (Said::Invalid, Vec::new()),
        _ => (Said::Failed, Vec::new()),
    };
    for at in 0..count {
        each(results.get(at).map_or(all, member_said));
    }
}

fn member_said(result: &BatchResult<'_>) -> Said {
    match (result.status, result.id, result.code) {
        (200 | 201, Some(id), _) => {
            let reservation = ReservationName::new(id.as_bytes());
            reservation.map_or(Said::Failed, |name| Said::Granted { reservation: Some(name) })
        }
        (409, _, Some("insufficient_stock")) => Said::SoldOut,
        (409, _, Some(_)) => Said::Refused,
        (429 | 503, _, _) => Said::Shed,
        (400..=499, _, _) => Said::Invalid,
        _ => Said::Failed,
    }
}

#[derive(Deserialize)]
struct Stocks {
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

#[derive(Deserialize)]
struct Status {
    oversold: u64,
}

#[derive(Deserialize)]
struct Imported {
    applied: u64,
    refused: Vec<serde_json::Value>,
}

/// What the ledger says.
pub(super) fn ledger(asker: &Asker, plan: &Plan) -> Result<Ledger, Error> {
    let status: Status = asker.get("/v1/status")?;
    let mut skus = Vec::with_capacity(plan.catalogue().skus as usize);
    for stock in stocks(asker, plan)? {
        let Stock { available, held, committed, .. } = stock.unwrap_or(Stock {
            sku: String::new(),
            available: 0,
            held: 0,
            committed: 0,
            positions: Vec::new(),
        });
        skus.push(SkuLedger { available, held, committed });
    }
    Ok(Ledger { oversold: status.oversold, skus })
}

/// The stock of each SKU of the catalogue, in their order; `None` where the server knows none.
fn stocks(asker: &Asker, plan: &Plan) -> Result<Vec<Option<Stock>>, Error> {
    let count = plan.catalogue().skus;
    let mut all = Vec::with_capacity(count as usize);
    for first in (0..count).step_by(SKUS_ASKED as usize) {
        let names: Vec<String> = (first..count.min(first + SKUS_ASKED)).map(Plan::sku).collect();
        let path = format!("/v1/stock?skus={}", names.join(","));
        let known: Stocks = asker.get(&path)?;
        let mut known: std::collections::HashMap<String, Stock> =
            known.stock.into_iter().map(|stock| (stock.sku.clone(), stock)).collect();
        all.extend(names.iter().map(|name| known.remove(name)));
    }
    Ok(all)
}

/// Stocks the catalogue: what was held or sold there before stays so, and comes on top of the plan's
/// units.
pub(super) fn stock(asker: &Asker, plan: &Plan) -> Result<(), Error> {
    let before = stocks_before(asker, plan)?;
    let mut lines = Vec::new();
    let mut count = 0;
    for sku in 0..plan.catalogue().skus {
        for number in 0..plan.catalogue().locations {
            let location = Plan::location(number);
            let taken = before.get(sku as usize).and_then(Option::as_ref).map_or(0, |stock| {
                let at = stock.positions.iter().find(|p| p.location == location);
                at.map_or(0, |p| p.held + p.committed)
            });
            lines.push(import_line(plan, sku, number, taken));
            count += 1;
            if lines.len() == POSITIONS_IMPORTED {
                import(asker, &mut lines)?;
            }
        }
    }
    if count % POSITIONS_IMPORTED > 0 { import(asker, &mut lines) } else { Ok(()) }
}

/// As [`stocks`]; a server that knows none of them says so with 404, or leaves them out.
fn stocks_before(asker: &Asker, plan: &Plan) -> Result<Vec<Option<Stock>>, Error> {
    match stocks(asker, plan) {
        Err(Error::Refused { status: 404, .. }) => Ok(Vec::new()),
        other => other,
    }
}

fn import_line(plan: &Plan, sku: u32, location: u32, taken: i64) -> String {
    let on_hand = i64::from(plan.units_at(location)) + taken;
    let limit = plan.catalogue().purchase_limit;
    let limit = limit.map_or("null".to_owned(), |limit| limit.to_string());
    let (sku, location) = (Plan::sku(sku), Plan::location(location));
    format!(
        r#"{{"sku":"{sku}","location":"{location}","on_hand":{on_hand},"per_customer_limit":{limit}}}"#
    )
}

fn import(asker: &Asker, lines: &mut Vec<String>) -> Result<(), Error> {
    let path = "/v1/stock/import";
    let body = asker.post(path, "application/x-ndjson", lines.join("\n").as_bytes())?;
    let garbled = |reason: String| Error::Garbled { what: format!("POST {path}"), reason };
    let imported: Imported = serde_json::from_slice(&body).map_err(|e| garbled(e.to_string()))?;
    if imported.applied != lines.len() as u64 {
        let first = imported.refused.first().map(ToString::to_string).unwrap_or_default();
        let (applied, all) = (imported.applied, lines.len());
        return Err(garbled(format!("{applied} of {all} positions were stocked; {first}")));
    }
    lines.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Said {
        Said::Granted { reservation: ReservationName::new(text.as_bytes()) }
    }

    #[test]
    fn an_answer_means_what_the_contract_says() {
        let held = br#"{"id":"r01","state":"held"}"#;
        assert_eq!(said(201, Step::Reserve, held), named("r01"));
        assert_eq!(said(200, Step::Reserve, br#"{ "state": "held", "id": "r02" }"#), named("r02"));
        let order = br#"{"order_id":"o","reservations":["r03"],"lines":[]}"#;
        assert_eq!(said(201, Step::Order, order), named("r03"));
        assert_eq!(said(200, Step::Commit, held), Said::Granted { reservation: None });
        let code = |code: &str| format!(r#"{{"type":"/p","code":"{code}","lines":[]}}"#);
        let conflict = |c: &str| said(409, Step::Reserve, code(c).as_bytes());
        assert_eq!(conflict("insufficient_stock"), Said::SoldOut);
        assert_eq!(conflict("purchase_limit"), Said::Refused);
        for (status, means) in [(429, Said::Shed), (503, Said::Shed), (400, Said::Invalid)] {
            assert_eq!(said(status, Step::Reserve, code("x").as_bytes()), means);
        }
        for status in [500, 504, 302, 0] {
            assert_eq!(said(status, Step::Reserve, b""), Said::Failed);
        }
    }

    #[test]
    fn what_says_it_is_done_and_names_nothing_has_failed() {
        for body in ["", "{}", "null", r#"{"id":""}"#, r#"{"id":7}"#, "<html>"] {
            assert_eq!(said(201, Step::Reserve, body.as_bytes()), Said::Failed, "{body}");
        }
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(48));
        assert_eq!(said(201, Step::Reserve, long.as_bytes()), Said::Failed);
        assert_eq!(said(409, Step::Reserve, b"nginx"), Said::Failed);
    }

    #[test]
    fn a_batch_is_told_one_by_one() {
        let all = |status, body: &str, count| {
            let mut all = Vec::new();
            batch_said(status, body.as_bytes(), count, |said| all.push(said));
            all
        };
        let body = r#"{"results":[{"status":201,"id":"r1","lines":[]},
            {"status":409,"code":"insufficient_stock"},{"status":409,"code":"purchase_limit"},
            {"status":503,"code":"overloaded"},{"status":422,"code":"x"},{"status":201}]}"#;
        let Said::Granted { .. } = all(200, body, 6)[0] else { panic!() };
        use Said::{Failed, Invalid, Refused, Shed, SoldOut};
        assert_eq!(all(200, body, 6)[1..], [SoldOut, Refused, Shed, Invalid, Failed]);
        // An answer to others than were asked about is an answer to none.
        assert_eq!(all(200, body, 2), [Failed, Failed]);
        assert_eq!(all(503, "", 2), [Shed, Shed]);
        assert_eq!(all(400, "", 1), [Invalid]);
        assert_eq!(all(500, "", 1), [Failed]);
    }

    #[test]
    fn a_path_names_what_it_is_about() {
        let name = ReservationName::new(b"r7").unwrap();
        let visit = crate::plan::Visit {
            shopper: 0,
            customer: 0,
            lines: Default::default(),
            one_step: false,
            ending: crate::plan::Ending::Buys,
            think: 0,
            twice: None,
        };
        let path = |step| {
            let mut out = Vec::new();
            path(&Request { visit: &visit, step, reservation: Some(&name) }, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(path(Step::Reserve), "/v1/reservations");
        assert_eq!(path(Step::Order), "/v1/orders");
        assert_eq!(path(Step::Commit), "/v1/reservations/r7/commit");
        assert_eq!(path(Step::Release), "/v1/reservations/r7/release");
    }
}
