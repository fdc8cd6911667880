//! A trace from a request to the partner's answer, as a collector gets it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{House, until};

pub const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub const CALLER: &str = "00f067aa0ba902b7";

pub fn spans(house: &House) -> Vec<Value> {
    let mut spans = Vec::new();
    for body in house.collector.bodies() {
        for resource in body["resourceSpans"].as_array().unwrap() {
            let service = &resource["resource"]["attributes"][0];
            assert_eq!(service["key"], "service.name");
            assert_eq!(service["value"]["stringValue"], "holdfast");
            for scope in resource["scopeSpans"].as_array().unwrap() {
                spans.extend(scope["spans"].as_array().unwrap().clone());
            }
        }
    }
    spans
}

pub fn attribute(span: &Value, key: &str) -> Option<String> {
    let attributes = span["attributes"].as_array().unwrap();
    let value = &attributes.iter().find(|attribute| attribute["key"] == key)?["value"];
    let text = value["stringValue"].as_str().or(value["intValue"].as_str());
    text.map(str::to_owned)
}

pub fn of_sink<'a>(spans: &'a [Value], name: &str, sink: &str) -> Option<&'a Value> {
    spans.iter().find(|span| {
        span["name"] == name && attribute(span, "holdfast.sink").as_deref() == Some(sink)
    })
}

#[test]
fn a_request_leads_to_the_partners_answer_across_the_log() {
    let house = House::start();
    let traceparent = format!("00-{TRACE_ID}-{CALLER}-01");
    house.sell("O-1", &[("traceparent", &traceparent)]);
    until("the collector has the delivery to the stream", || {
        of_sink(&spans(&house), "batch", "events").is_some()
            && of_sink(&spans(&house), "batch", "wms").is_some()
    });
    let spans = spans(&house);
    let request = spans.iter().find(|span| span["name"] == "POST /v1/orders").unwrap();
    assert_eq!(request["traceId"], TRACE_ID);
    assert_eq!((&request["parentSpanId"], &request["kind"]), (&CALLER.into(), &2.into()));
    for (key, value) in [
        ("http.route", "/v1/orders"),
        ("http.response.status_code", "201"),
        ("holdfast.partner", "shop"),
    ] {
        assert_eq!(attribute(request, key).as_deref(), Some(value));
    }
    let beneath = spans.iter().filter(|span| span["parentSpanId"] == request["spanId"]);
    let stages: BTreeSet<_> = beneath.map(|span| span["name"].as_str().unwrap()).collect();
    // Not `sync_wait`: the record may be durable before anybody waits for it.
    for stage in ["receive", "decode", "decide", "reply"] {
        assert!(stages.contains(stage), "{stages:?}");
    }

    let batch = of_sink(&spans, "batch", "events").unwrap();
    let link = &batch["links"][0];
    assert_eq!((&link["traceId"], &link["spanId"]), (&request["traceId"], &request["spanId"]));
    assert_ne!(batch["traceId"], request["traceId"], "a batch belongs to many");
    let deliver = of_sink(&spans, "deliver", "events").unwrap();
    assert_eq!(deliver["parentSpanId"], batch["spanId"]);
    assert_eq!(deliver["traceId"], batch["traceId"]);
    assert_eq!(deliver["kind"], 3);
    assert_eq!(attribute(deliver, "http.response.status_code").as_deref(), Some("200"));
    assert_eq!(attribute(deliver, "holdfast.outcome").as_deref(), Some("done"));
    let seal = of_sink(&spans, "seal", "events").unwrap();
    assert_eq!(seal["parentSpanId"], batch["spanId"]);

    // The partner was told of the attempt.
    let sent = format!("00-{}-{}-01", text(&deliver["traceId"]), text(&deliver["spanId"]));
    let posts = house.stream.posts();
    assert!(
        posts.iter().any(|(headers, _)| headers.get("traceparent").is_some_and(|t| t == &sent))
    );
    until("all of them are counted", || {
        house.metric("holdfast_spans_total{outcome=\"exported\"}") >= spans.len() as f64
    });
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn who_does_not_want_a_trace_gets_none_and_a_collector_that_is_gone_costs_spans_alone() {
    let house = House::start();
    house.sell("O-1", &[("traceparent", &format!("00-{TRACE_ID}-{CALLER}-00"))]);
    house.sell("O-2", &[]);
    until("both are delivered", || {
        let labels = "sink=\"wms\",domain=\"fulfilment\",what=\"order\"";
        house.metric(&format!("holdfast_sink_delivery_seconds_count{{{labels}}}")) == 2.0
    });
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(spans(&house), Vec::<Value>::new());

    house.collector.refuse(1_000);
    house.sell("O-3", &[("traceparent", &format!("00-{TRACE_ID}-{CALLER}-01"))]);
    until("spans are given up", || house.metric("holdfast_spans_total{outcome=\"failed\"}") > 0.0);
}
