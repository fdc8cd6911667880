//! View by view: what it shows is what the API says, and what is done there has its effect.

use serde_json::{Value, json};

use crate::{
    driver::Browser,
    house::{House, until},
};

/// Confirms the dialog that is open.
fn confirm(browser: &Browser) {
    browser.click("dialog[open] button[type=submit]");
}

fn closed(browser: &Browser) {
    browser.wait("!document.querySelector('dialog[open]')");
}

pub fn sale(browser: &Browser, house: &House) {
    browser.sees("#main", "Nothing is sold or held");
    house.stock("A", 1_000);
    house.stock("B", 100);
    house.stock("RARE", 2);
    house.sell("O-1", "A", 5);
    assert_eq!(house.reserve("hold", "RARE", 2).0, 201);
    for key in 0..20 {
        assert_eq!(house.reserve(&format!("late-{key}"), "RARE", 1).0, 409);
    }
    browser.sees("dl.figures .figure:nth-child(3)", "20 so far");
    browser.sees("dl.figures .figure:nth-child(2)", "2 so far");
    for (nth, figure) in [(6, "1 carts"), (7, "1 orders"), (8, "0 units")] {
        let [number, unit] = <[_; 2]>::try_from(figure.split(' ').collect::<Vec<_>>()).unwrap();
        browser.sees(&format!("dl.figures .figure:nth-child({nth})"), number);
        browser.sees(&format!("dl.figures .figure:nth-child({nth})"), unit);
    }
    browser.sees("tbody tr:first-child", "A");
    let row = "[...document.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((c) => c.innerText.trim()))";
    let rows = json!([
        ["A", "", "0.5 %", "5", "5", "0", "995"],
        ["RARE", "", "0 %", "0", "0", "2", "sold out"]
    ]);
    browser.wait(&format!("JSON.stringify({row}) === {}", json!(rows.to_string())));
    assert_eq!(house.get("/v1/stock/A")["committed"], 5);
    // Something is painted into the heat map, and lines are drawn.
    browser.wait(
        "[...document.querySelectorAll('canvas')].some((c) => c.getContext('2d').getImageData(0, 0, c.width, \
         c.height).data.some((value) => value > 0))",
    );
    browser.wait("document.querySelectorAll('path.line').length === 12");
    browser.wait("[...document.querySelectorAll('path.line')].some((p) => p.getAttribute('d').includes('L'))");
    // Each line is that of its outcome: more was sold out than granted, and nothing beyond a limit.
    let peaks = "[...document.querySelectorAll('[aria-label^=\"Decisions by outcome\"] path.line')].map((line) => \
                 Math.min(...[...line.getAttribute('d').matchAll(/[ML][0-9.]+ ([0-9.]+)/g)].map((at) => Number(at[1]))))";
    browser
        .wait(&format!("(([granted, gone, limit]) => gone < granted && granted < limit)({peaks})"));
    assert_eq!(house.post("/v1/orders", "x", &json!({})).0, 400, "a refusal of a server that runs");
}

pub fn flow(browser: &Browser, house: &House) {
    browser.view("flow");
    for (sink, domain) in [("erp", "inventory"), ("books", "finance"), ("warehouse", "fulfilment")]
    {
        browser.sees(&format!("[data-sink={sink}]"), domain);
        browser.sees(&format!("[data-sink={sink}]"), "running");
        browser.sees(&format!("[data-sink={sink}]"), "breaker closed");
    }
    browser.sees("[data-sink=warehouse]", "critical");
    browser.sees("[data-sink=warehouse]", "bulk");
    browser.click("[data-sink=erp] [data-deed=pause]");
    browser.fill("#field-reason", "stocktaking");
    confirm(browser);
    closed(browser);
    until("paused", || house.sink("erp")["state"] == "paused");
    assert!(house.sink("erp")["reason"].as_str().unwrap().contains("stocktaking"));
    browser.sees("[data-sink=erp] .why", "stocktaking");
    browser.sees("#alerts", "erp is paused");
    house.sell("O-2", "A", 1);
    browser.sees("[data-sink=erp] .lane", "1 batch");
    browser.click("[data-sink=erp] [data-deed=resume]");
    confirm(browser);
    until("resumed", || house.sink("erp")["lag_records"] == 0);
    browser.sees("[data-sink=erp]", "running");
    browser.sees("[data-sink=erp] .lane", "0 batches");
    // What the server does not take is told at its field.
    browser.click("[data-sink=erp] [data-deed=replay]");
    browser.fill("#field-from_lsn", "soon");
    confirm(browser);
    browser.sees("#field-from_lsn-wrong", "whole number");
    browser.fill("#field-from_lsn", "");
    confirm(browser);
    browser.sees("#field-from_lsn-wrong", "must be given");
    let before = house.sink("erp")["attempts"]["done"].as_u64().unwrap();
    browser.fill("#field-from_lsn", "0");
    browser.fill("#field-reason", "restored from a backup");
    confirm(browser);
    closed(browser);
    until("sent again", || {
        let sink = house.sink("erp");
        sink["attempts"]["done"].as_u64().unwrap() >= before + 2 && sink["replaying"] == 0
    });
    until("all of it is with the ERP", || house.sink("erp")["lanes"][0]["depth"] == 0);
}

/// A partner fails: it is seen, at that sink alone; a batch is set aside by hand; and its recovery is seen.
pub fn outage(browser: &Browser, house: &House) {
    browser.view("flow");
    house.erp.with(|erp| erp.outage = true);
    house.sell("O-3", "A", 1);
    browser.sees("[data-sink=erp]", "breaker open");
    browser.sees("#alerts", "erp: the partner fails");
    browser.sees(".lamps", "1 of 3 sinks in trouble");
    browser.sees("[data-sink=erp] .lane", "1 batch");
    browser.sees("[data-sink=books]", "breaker closed");
    browser.picture("outage");
    browser.click("[data-sink=erp] [data-deed=skip]");
    browser.fill("#field-reason", "the partner looks into it");
    confirm(browser);
    closed(browser);
    until("it is set aside", || house.letters().len() == 1);
    house.erp.with(|erp| erp.outage = false);
    house.sell("O-4", "A", 1);
    browser.sees("[data-sink=erp]", "breaker closed");
    browser.sees("#alerts", "erp: the partner answers again");
    browser.sees_no("#alerts", "the partner fails");
    browser.sees("#badge-letters", "1");
    until("all is with the ERP", || house.sink("erp")["lag_records"] == 0);
    browser.sees(".lamps", "3 sinks");
    browser.sees("[data-sink=erp] .lane", "0 batches");
}

pub fn dead_letters(browser: &Browser, house: &House) {
    browser.view("dead-letters?sink=erp");
    browser.sees("tbody", "the partner looks into it");
    // Nobody knows whether the ERP had it when it failed: it is asked whether that is meant.
    assert_eq!(house.letters()[0]["uncertain"], true);
    browser.click("tbody [data-deed=retry]");
    browser.sees("dialog[open]", "may have had its effect");
    confirm(browser);
    until("the letter is gone", || house.letters().is_empty());
    browser.sees("#main", "No dead letters");
    let letter = house.refused("O-5", "B");
    browser.sees("tbody", "not ours");
    browser.click("tbody button.link");
    browser.sees("#main pre", "\"sku\": \"B\"");
    // Mended: what is no JSON, and what breaks the rules, is told at the field, and nothing is lost.
    browser.click("tbody [data-deed=mend]");
    browser.sees("dialog h2", &letter);
    let content = browser.text("document.querySelector('#field-content').value");
    browser.paste("#field-content", "{\n  \"lines\": [\n");
    confirm(browser);
    browser.sees("#field-content-wrong", "not JSON");
    let mut whole: Value = serde_json::from_str(&content).unwrap();
    whole["lines"][0]["line_id"] = "erp-0000-000001.1".into();
    browser.paste("#field-content", &whole.to_string());
    confirm(browser);
    browser.sees("#field-content-wrong", "line_id");
    assert_eq!(house.letters()[0]["mended"], false);
    browser.paste("#field-content", &content.replace("\"sku\": \"B\"", "\"sku\": \"A\""));
    browser.fill("#field-reason", "the SKU was renamed");
    confirm(browser);
    closed(browser);
    browser.sees("tbody", "mended");
    assert_eq!(house.letters()[0]["mended"], true);
    browser.click("tbody [data-deed=retry]");
    until("the letter is gone", || house.letters().is_empty());
    browser.sees("#main", "No dead letters");
    // Discarded: only with a reason.
    house.refused("O-6", "B");
    browser.click("tbody [data-deed=discard]");
    confirm(browser);
    browser.sees("#field-reason-wrong", "must be given");
    assert_eq!(house.letters().len(), 1);
    browser.fill("#field-reason", "test article");
    confirm(browser);
    closed(browser);
    until("it is discarded", || house.letters().is_empty());
    browser.sees("#main", "No dead letters");
    house.erp.with(|erp| erp.refused = None);
}

pub fn orders(browser: &Browser, house: &House) {
    let shipped =
        json!({"shipment_id": "S-1", "lines": [{"sku": "A", "location": "BER", "quantity": 5}]});
    assert_eq!(house.post("/v1/orders/O-1/shipments", "S-1", &shipped).0, 201);
    until("the warehouse has it", || {
        let trace = house.get("/v1/orders/O-1/trace");
        let batches = trace["records"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|record| record["batches"].as_array().unwrap());
        batches.filter(|batch| batch["state"] == "delivered").count() >= 4
    });
    // What has left is sold all the same.
    browser.view("sale");
    let row = "[...document.querySelector('tbody tr').cells].map((c) => c.innerText.trim())";
    browser.wait(&format!("(([sku, , , sold, open]) => sku === 'A' && sold - open === 5)({row})"));
    browser.view("orders");
    browser.wait("document.activeElement.type === 'search'");
    browser.fill("input[type=search]", "O-1");
    browser.click(".search button");
    browser.sees("#main", "Order O-1");
    browser.sees("#main", "fulfilled");
    browser.sees("#main", "€99.95");
    let trace = house.get("/v1/orders/O-1/trace");
    let records = trace["records"].as_array().unwrap();
    let kinds: Vec<_> = records.iter().map(|record| record["kind"].clone()).collect();
    let shown = "[...document.querySelectorAll('.timeline > li')].map((li) => li.dataset.kind)";
    assert_eq!(browser.run(&format!("return {shown}")), json!(kinds));
    let erp = records[0]["batches"].as_array().unwrap().iter().find(|b| b["sink"] == "erp");
    let batch = erp.unwrap()["batch_id"].as_str().unwrap();
    browser.sees(".timeline > li:first-child [data-sink=erp]", batch);
    browser.sees(".timeline > li:first-child [data-sink=erp]", "status 200");
    browser.sees(".timeline > li:first-child [data-sink=erp]", "delivered");
    // Times are local, with UTC beside them.
    browser.wait("document.querySelector('.timeline time').title.endsWith('UTC')");
    browser.view("orders/O-NONE");
    browser.sees("[role=alert]", "order is not known");
    browser.view("orders");
    browser.wait("document.activeElement.type === 'search'");
    browser.choose("select[name=kind]", "customer");
    browser.fill("input[type=search]", "c-42");
    browser.click(".search button");
    browser.sees("tbody", "2 × RARE at BER");
    browser.click("tbody a");
    browser.sees("#main", "Reservation ");
    browser.sees("#main", "held");
}

pub fn parked(browser: &Browser, house: &House) {
    assert_eq!(house.reports("O-LATE", "P-1"), 202);
    assert_eq!(house.reports("O-LATER", "P-2"), 202);
    let settled = json!({"settlement_id": "P-3", "currency": "EUR", "amount": 1999});
    assert_eq!(house.post("/v1/orders/O-2/settlements", "P-3", &settled).0, 201);
    until("it is parked", || house.sink("books")["parked"] == 1);
    browser.view("parked");
    browser.sees("tbody", "recognition");
    browser.click("[data-deed=release]");
    browser.sees("dialog", "O-2");
    confirm(browser);
    closed(browser);
    until("it is released", || house.sink("books")["parked"] == 0);
    browser.sees("#main", "Nothing is parked");
    browser.sees("tbody", "O-LATE");
    browser.click("tbody button.link");
    browser.sees("dialog[open] pre", "P-1");
    browser.click("dialog[open] button");
    browser.click("[data-deed=retry][aria-label='Retry P-1']");
    browser.sees("#alerts .bad", "order");
    browser.run("document.querySelectorAll('#alerts button').forEach((b) => b.click())");
    browser.click("[data-deed=discard][aria-label='Discard P-1']");
    browser.fill("#field-reason", "a test of the provider");
    confirm(browser);
    closed(browser);
    browser.sees_no("tbody", "P-1");
    let left = house.get("/v1/parked-events");
    assert_eq!(left["parked_events"].as_array().unwrap().len(), 1);
    // The order comes: what waits happens to it, and leaves the list.
    house.sell("O-LATER", "A", 1);
    browser.sees("#main", "No reports wait");
}

pub fn reconciliation(browser: &Browser, house: &House) {
    browser.view("reconciliation");
    browser.sees("[data-sink=erp]", "Not compared since the start");
    browser.click("[data-sink=erp] [data-deed=reconcile]");
    browser.sees("[data-sink=erp] header", "drift");
    let last = house.get("/v1/sinks/erp/reconciliation");
    let drifts = last["drifts"].as_array().unwrap();
    let rows = "document.querySelectorAll('[data-sink=erp] tbody tr').length";
    assert_eq!(browser.text(rows), drifts.len().to_string());
    let first = &drifts[0];
    browser.sees("[data-sink=erp] tbody tr:first-child", first["sku"].as_str().unwrap());
    let unexplained = first["unexplained"].as_i64().unwrap();
    assert_ne!(unexplained, 0, "an order was discarded: {last}");
    let shown = format!("{unexplained:+}").replace('-', "−");
    browser.sees("[data-sink=erp] tbody tr:first-child td:last-child", &shown);
    assert_ne!(first["ledger"], first["partner"], "{last}");
    for (nth, figure) in [(4, "ledger"), (5, "partner"), (6, "in_flight"), (7, "dead_lettered")] {
        let cell = format!("[data-sink=erp] tbody tr:first-child td:nth-child({nth})");
        let text = browser.text(&format!("document.querySelector('{cell}').innerText.trim()"));
        let text = text.replace(',', "").replace('−', "-");
        assert_eq!(text.trim_start_matches('+'), first[figure].to_string(), "{figure}: {last}");
    }
    house.erp.with(|erp| erp.lie = crate::erp::Lie::Garbage);
    browser.click("[data-sink=erp] [data-deed=reconcile]");
    browser.sees("[data-sink=erp] header", "failed");
    browser.sees("[data-sink=erp]", "There is no comparison");
    house.erp.with(|erp| erp.lie = crate::erp::Lie::None);
}

pub fn latency(browser: &Browser, house: &House) {
    // Not one alone: who is held up right after its record finds it durable, and waits for no sync.
    house.stock("OFTEN", 21);
    house.reserve_by_gateway("by-gateway", "OFTEN");
    (0..20).for_each(|n| assert_eq!(house.reserve(&format!("often-{n}"), "OFTEN", 1).0, 201));
    browser.view("latency");
    browser.wait("document.querySelector('#route').value === 'POST /v1/reservations'");
    browser.sees("[aria-label=Stages] tbody", "Wait for the sync");
    browser.sees("[aria-label='All routes'] tbody", "PUT /v1/stock/{sku}/{location}");
    browser.sees("[aria-label='The log'] tbody", "Sync of a group");
    browser.wait("document.querySelectorAll('path.line').length >= 5");
    browser.choose("#route", "POST /v1/orders");
    browser.choose("#span", "recent");
    let counted = "document.querySelector('[aria-label=Stages] tbody tr td').innerText";
    browser.wait(&format!("Number({counted}) >= 1"));
    browser.choose("#span", "start");
    browser.choose("#stage", "decide");
    browser.wait(&format!("Number({counted}) >= 7"));
    figures_are_of_the_api(browser, house);
    let listed = "[aria-label='All routes'] tbody";
    for span in ["recent", "start"] {
        browser.choose("#span", span);
        browser.sees(listed, "gateway POST /v1/reservations");
    }
    browser.wait("document.querySelectorAll('.bars i i').length >= 5");
}

/// A duration as a page has it, in nanoseconds.
fn ns(text: &str) -> f64 {
    let (number, unit) = text.split_once(' ').unwrap();
    let size = [("µs", 1e3), ("ms", 1e6), ("s", 1e9)].into_iter().find(|(name, _)| *name == unit);
    number.replace(',', "").parse::<f64>().unwrap() * size.unwrap_or_else(|| panic!("{text}")).1
}

/// Each figure of a route stands in its column: nobody asks for this one meanwhile.
fn figures_are_of_the_api(browser: &Browser, house: &House) {
    let report = house.get("/v1/latency");
    let routes = report["routes"].as_array().unwrap();
    let route = routes.iter().find(|of| of["route"] == "/v1/orders" && of["method"] == "POST");
    let total = &route.unwrap()["total"];
    let cells = "[...document.querySelector('[aria-label=Stages] tbody tr').cells].map((c) => c.innerText.trim())";
    let cells = browser.run(&format!("return {cells}"));
    assert_eq!(cells[1], total["count"].to_string());
    for (at, figure) in (2..).zip(["p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"]) {
        let (shown, said) = (ns(cells[at].as_str().unwrap()), total[figure].as_f64().unwrap());
        assert!((shown / said - 1.0).abs() < 0.01, "{figure}: {cells} {total}");
    }
    assert!(total["p50_ns"].as_u64() < total["max_ns"].as_u64(), "{total}");
}

/// A page whose requests to an address are answered by `answer`, whatever the server has there.
fn answered(path: &str, status: u16, body: &Value) -> String {
    let (path, body) = (json!(path), json!(body.to_string()));
    format!(
        "{{ const ask = window.fetch; window.fetch = (url, options) => String(url).startsWith({path}) ? \
         Promise.resolve(new Response({body}, {{status: {status}}})) : ask(url, options); }}"
    )
}

/// A promise is kept, broken by an outage of the warehouse, and kept again.
pub fn service_levels(browser: &Browser, house: &House) {
    browser.view("service-levels");
    let row = "tbody tr:first-child";
    for text in ["picked-soon", "order_to_warehouse", "80 %", "ok", "100 % left"] {
        browser.sees(row, text);
    }
    house.warehouse.behave(|b| b.outage = true);
    let before = house.level()["total"].as_u64().unwrap();
    for n in 0..before + 20 {
        house.sell(&format!("LATE-{n}"), "A", 1);
    }
    browser.sees(row, "breached");
    browser.sees(row, "overspent by");
    browser.picture("service-level-breached");
    let level = house.level();
    assert_eq!(level["state"], "breached", "{level}");
    let (good, total) = (&level["good"], &level["total"]);
    browser.sees(row, &format!("{good} of {total}"));
    let (kept, burn) =
        (level["percent"].as_f64().unwrap(), level["burn_rate_1h"].as_f64().unwrap());
    assert!(burn > 1.0, "{level}");
    for (nth, said) in [(5, kept), (7, burn), (8, level["burn_rate_6h"].as_f64().unwrap())] {
        let cell = format!("document.querySelector('{row} td:nth-child({nth})').innerText");
        let shown: f64 = browser.text(&cell).split(' ').next().unwrap().parse().unwrap();
        assert!((shown - said).abs() < 0.01, "{nth}: {shown} {level}");
    }
    browser.sees(".lamps", "1 of 3 sinks in trouble");
    house.warehouse.behave(|b| b.outage = false);
    until("the warehouse has all of it", || house.sink("warehouse")["lag_records"] == 0);
    let bad = total.as_u64().unwrap() - good.as_u64().unwrap();
    for n in 0..5 * bad {
        house.sell(&format!("SOON-{n}"), "A", 1);
    }
    browser.sees(row, "ok");
    browser.sees(row, "left");
    assert_eq!(house.level()["state"], "ok", "{}", house.level());
}

/// The configuration is changed and taken back by the command line; the page tells of both.
pub fn configuration(browser: &Browser, house: &House) {
    browser.view("configuration");
    browser.sees("#main", "No versions are recorded");
    let [from, to] = ["retry_max_ms = 50", "retry_max_ms = 75"];
    house.reconfigure(from, to, "the ERP asked for it");
    browser.load(&format!("{}/#/configuration", house.server.url));
    browser.sees("[data-version='2']", "current");
    for text in ["Version 2", "the ERP asked for it", "sinks.erp.retry_max_ms", "50 → 75"] {
        browser.sees("[data-version='2']", text);
    }
    browser.sees_no("[data-version='1']", "current");
    let recorded = house.get("/v1/configuration/history")["versions"].clone();
    let second = recorded.as_array().unwrap().iter().find(|of| of["version"] == 2).unwrap();
    let by = second["by"].as_str().filter(|by| !by.is_empty()).unwrap_or("(unknown)");
    browser.sees("[data-version='2']", &format!("by {by}"));
    let when = browser.text("document.querySelector('[data-version=\"2\"] time').dateTime");
    assert_eq!(json!(when), second["at"], "{second}");
    house.config(&["rollback", "1", "--reason", "it was <b>wrong</b>", "--force"]);
    browser.load(&format!("{}/#/configuration", house.server.url));
    for text in ["Version 3", "current", "forced", "it was <b>wrong</b>", "75 → 50"] {
        browser.sees("[data-version='3']", text);
    }
    browser.sees_no("[data-version='2']", "current");
    browser.picture("configuration-rolled-back");
    let versions = house.get("/v1/configuration/history")["versions"].as_array().unwrap().len();
    let shown = browser.text("document.querySelectorAll('[data-version]').length");
    assert_eq!(shown, versions.to_string());
}

/// Views whose routes a server may have or not.
pub fn what_other_versions_offer(browser: &Browser, url: &str) {
    // As the server itself says it.
    let none = crate::cli::get(&format!("{url}/v1/none"));
    assert_eq!(none["code"], "unknown_route");
    for (view, path) in
        [("service-levels", "/v1/service-levels"), ("configuration", "/v1/configuration/history")]
    {
        let stub = browser.before_pages(&answered(path, 404, &none));
        browser.load(&format!("{url}/#/{view}"));
        browser.sees("#main", "does not offer it");
        browser.no_longer_before_pages(&stub);
    }
}

/// A thing that is not there is no route that is not there, whatever words it is told in.
pub fn what_is_not_there(browser: &Browser, url: &str) {
    let none = crate::cli::get(&format!("{url}/v1/sinks/nobody/reconciliation"));
    assert_eq!(none["code"], "not_found");
    let stub = browser.before_pages(&answered("/v1/service-levels", 404, &none));
    browser.load(&format!("{url}/#/service-levels"));
    browser.sees("#main", none["title"].as_str().unwrap());
    browser.sees_no("#main", "does not offer it");
    browser.no_longer_before_pages(&stub);
}

pub fn what_a_key_does_not_allow(browser: &Browser, url: &str) {
    let problem = json!({"status": 403, "code": "forbidden", "title": "The caller may not do this",
        "detail": "this key has no scope `operate`"});
    let stub = browser.before_pages(&answered("/v1/sinks/erp/pause", 403, &problem));
    browser.load(&format!("{url}/#/flow"));
    browser.click("[data-sink=erp] [data-deed=pause]");
    confirm(browser);
    browser.sees(
        "dialog[open] .wrong",
        "Your key does not allow this: this key has no scope `operate`",
    );
    browser.no_longer_before_pages(&stub);
}
