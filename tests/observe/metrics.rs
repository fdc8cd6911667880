//! Each metric moves by its cause.

use std::time::Duration;

use serde_json::json;

use crate::support::{House, until};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn what_happens_to_orders_shows_in_the_metrics() {
    let house = House::start();
    for n in 0..5 {
        house.sell(&format!("O-{n}"), &[]);
    }
    let line = json!([{"sku": "TEE-M", "location": "BER", "quantity": 1}]);
    house.happens("O-1", "shipments", json!({"shipment_id": "S-1", "lines": line}));
    let invoice = json!({"invoice_id": "I-1", "currency": "EUR", "amount": 1_999, "tax": 0});
    house.happens("O-1", "invoices", invoice);
    let paid = json!({"settlement_id": "P-1", "currency": "EUR", "amount": 1_999, "fee": 9});
    house.happens("O-1", "settlements", paid);
    let off = json!({"cancellation_id": "C-1", "lines": [{"sku": "TEE-M", "quantity": 1}]});
    house.happens("O-2", "cancellations", off);

    let all = |samples: &[(&str, f64)]| samples.iter().all(|(s, v)| house.metric(s) == *v);
    until("stages, sales and deliveries are counted", || {
        let text = house.metrics();
        text.contains("holdfast_sku_sold_units{sku=\"TEE-M\"}")
            && all(&[
                ("holdfast_order_stage_seconds_count{stage=\"shipped\"}", 1.0),
                ("holdfast_order_stage_seconds_count{stage=\"invoiced\"}", 1.0),
                ("holdfast_order_stage_seconds_count{stage=\"settled\"}", 1.0),
                ("holdfast_order_stage_seconds_count{stage=\"cancelled\"}", 1.0),
                ("holdfast_order_stage_seconds_count{stage=\"refunded\"}", 0.0),
                ("holdfast_sku_sold_units{sku=\"TEE-M\"}", 4.0),
                (delivered("wms", "fulfilment", "order").as_str(), 5.0),
                (delivered("erp", "inventory", "shipment").as_str(), 1.0),
                ("holdfast_finance_completeness_ratio{sink=\"books\"}", 1.0),
            ])
    });
    let ratio = house.metric("holdfast_sku_sell_through_ratio{sku=\"TEE-M\"}");
    assert!((ratio - 4.0 / 1_000.0).abs() < 1e-9, "{ratio}");
    assert!(house.metric(&delivered("books", "finance", "posting")) >= 5.0);
    let (posted, owed) = ("holdfast_finance_posted_records", "holdfast_finance_owed_records");
    let of = |name: &str| house.metric(&format!("{name}{{sink=\"books\"}}"));
    assert!(of(posted) >= 5.0 && of(posted) == of(owed), "{} of {}", of(posted), of(owed));
    assert_eq!(house.metric("holdfast_oversold_units"), 0.0);
}

/// An order waits for each stage by itself, also when it came to it in part, and no more once it is called off; the
/// age is that of the oldest which waits for that stage.
#[test]
fn orders_that_wait_are_counted_by_what_they_wait_for() {
    let house = House::start();
    house.sell("O-0", &[]);
    let younger_by = Duration::from_millis(2_500);
    std::thread::sleep(younger_by);
    (1..5).for_each(|n| house.sell(&format!("O-{n}"), &[]));
    let line = json!([{"sku": "TEE-M", "location": "BER", "quantity": 1}]);
    let ship = |n: u32| {
        let shipment = json!({"shipment_id": format!("S-{n}"), "lines": line});
        house.happens(&format!("O-{n}"), "shipments", shipment);
    };
    let bill = |n: u32, amount: u32| {
        let id = format!("I-{n}");
        let invoice = json!({"invoice_id": id, "currency": "EUR", "amount": amount, "tax": 0});
        house.happens(&format!("O-{n}"), "invoices", invoice);
    };
    let pay = |n: u32, amount: u32| {
        let id = format!("P-{n}");
        let paid = json!({"settlement_id": id, "currency": "EUR", "amount": amount, "fee": 9});
        house.happens(&format!("O-{n}"), "settlements", paid);
    };
    // One has it all, one is called off, one is not paid, one is billed and paid in part.
    [1, 3, 4].into_iter().for_each(&ship);
    [(1, 1_999), (3, 1_999), (4, 1_998)].into_iter().for_each(|(n, amount)| bill(n, amount));
    [(1, 1_999), (4, 1_998)].into_iter().for_each(|(n, amount)| pay(n, amount));
    let off = json!({"cancellation_id": "C-2", "lines": [{"sku": "TEE-M", "quantity": 1}]});
    house.happens("O-2", "cancellations", off);
    let stages = ["shipped", "invoiced", "settled"];
    let of = |name: &str| {
        stages.map(|stage| house.metric(&format!("holdfast_orders_{name}{{stage=\"{stage}\"}}")))
    };
    until("orders that wait are counted", || of("waiting") == [1.0, 2.0, 3.0]);
    let before = of("waiting_age_seconds");
    assert!(before.iter().all(|age| *age >= younger_by.as_secs_f64()), "{before:?}");
    assert_eq!(before, [before[0]; 3], "the oldest waits for all of it");
    ship(0);
    bill(0, 1_999);
    until("the oldest waits to be paid alone", || of("waiting") == [0.0, 1.0, 3.0]);
    let [shipped, invoiced, settled] = of("waiting_age_seconds");
    assert!(shipped == 0.0 && settled > before[2], "{shipped} {settled}, and before {before:?}");
    let younger = settled - invoiced;
    assert!((2.0..10.0).contains(&younger), "{invoiced} and {settled}");
}

fn delivered(sink: &str, domain: &str, what: &str) -> String {
    let labels = format!("sink=\"{sink}\",domain=\"{domain}\",what=\"{what}\"");
    format!("holdfast_sink_delivery_seconds_count{{{labels}}}")
}

#[test]
fn a_queue_and_failed_postings_show_while_a_partner_is_gone() {
    let house = House::start();
    house.books.behave(|b| b.outage = true);
    house.sell("O-1", &[]);
    let depth = "holdfast_sink_lane_depth{sink=\"books\",domain=\"finance\",priority=\"standard\"}";
    until("a batch waits", || house.metric(depth) == 1.0);
    let age = depth.replace("depth", "age_seconds");
    until("it grows old", || house.metric(&age) > 0.2);
    let failed = "holdfast_finance_failed_postings_total{sink=\"books\"}";
    until("attempts fail", || house.metric(failed) >= 2.0);
    assert!(house.metric("holdfast_finance_completeness_ratio{sink=\"books\"}") < 1.0);
}

/// One dead letter of finance is an entry over many orders: none of their records is posted.
#[test]
fn what_a_dead_letter_sums_up_is_not_posted() {
    let house = House::start();
    house.sell("O-0", &[]);
    let of =
        |name: &str| house.metric(&format!("holdfast_{name}{{sink=\"books\",domain=\"finance\"}}"));
    let book = |name: &str| house.metric(&format!("holdfast_finance_{name}{{sink=\"books\"}}"));
    until("the first is posted", || book("posted_records") >= 1.0);
    let posted = book("posted_records");
    let paused = house.send("POST", "/v1/sinks/books/pause", &[], Some(json!({})));
    assert_eq!(paused.0, 200, "{paused:?}");
    (1..=20).for_each(|n| house.sell(&format!("O-{n}"), &[]));
    house.books.behave(|b| b.refuse_with = Some(422));
    let resumed = house.send("POST", "/v1/sinks/books/resume", &[], Some(json!({})));
    assert_eq!(resumed.0, 200, "{resumed:?}");
    until("all of it lies dead", || of("sink_lag_records") == 0.0 && of("sink_dead_letters") > 0.0);
    assert!(of("sink_dead_letters") < 20.0, "an entry sums up many");
    assert_eq!(book("posted_records"), posted);
    assert_eq!(book("owed_records"), posted + 20.0);
}

#[test]
fn what_a_partner_sends_is_counted_by_what_became_of_it() {
    let house = House::start();
    let count = |outcome: &str| {
        let labels = format!("partner=\"shop\",outcome=\"{outcome}\"");
        house.metric(&format!("holdfast_partner_requests_total{{{labels}}}"))
    };
    let (done, refused) = (count("done"), count("refused"));
    house.sell("O-1", &[]);
    let wrong = house.send("POST", "/v1/reservations", &[], Some(json!({})));
    assert_eq!(wrong.0, 400);
    // The looks themselves are requests that are done.
    assert!(count("done") > done);
    assert_eq!(count("refused"), refused + 1.0);
    let replayed = house.metric("holdfast_replayed_total");
    house.sell("O-1", &[]);
    assert_eq!(house.metric("holdfast_replayed_total"), replayed + 1.0);
}

#[test]
fn latency_leads_to_an_example_for_who_can_read_it() {
    let house = House::start();
    house.sell("O-1", &[("traceparent", TRACE)]);
    let read = |accept: &str| house.send("GET", "/metrics", &[("accept", accept)], None).1;
    let text = read("application/openmetrics-text; version=1.0.0");
    let example = text.lines().find(|line| line.contains("# {trace_id="));
    let example = example.unwrap_or_else(|| panic!("no exemplar in\n{text}"));
    assert!(example.starts_with("holdfast_http_request_duration_seconds_bucket"), "{example}");
    assert!(example.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{example}");
    assert!(text.ends_with("# EOF\n"));
    for simple in ["*/*", "text/plain"] {
        assert!(!read(simple).contains("trace_id"));
    }
    assert!(!read("text/plain").contains("# EOF"));
}
