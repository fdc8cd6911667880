//! Each metric moves by its cause.

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
    // O-1 has it all, O-2 is called off.
    let waiting =
        |stage: &str| house.metric(&format!("holdfast_orders_waiting{{stage=\"{stage}\"}}"));
    until("orders that wait are counted", || {
        ["shipped", "invoiced", "settled"].into_iter().all(|stage| waiting(stage) == 3.0)
    });
    let age = |stage: &str| {
        house.metric(&format!("holdfast_orders_waiting_age_seconds{{stage=\"{stage}\"}}"))
    };
    let before = age("shipped");
    for n in [0, 3, 4] {
        let line = json!([{"sku": "TEE-M", "location": "BER", "quantity": 1}]);
        let shipment = json!({"shipment_id": format!("S-{n}"), "lines": line});
        house.happens(&format!("O-{n}"), "shipments", shipment);
    }
    until("none waits for its shipment", || waiting("shipped") == 0.0);
    assert_eq!((waiting("invoiced"), age("shipped")), (3.0, 0.0));
    assert!(age("invoiced") > before, "it grows: {before}");
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
