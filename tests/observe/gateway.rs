//! Requests of gateways are seen as those over HTTP are: in service levels, in the metrics of routes and of
//! partners, and as traces.

use std::collections::BTreeSet;

use holdfast::{
    client::Error,
    model::command::{PlaceOrder, Reserve},
    protocol::Request,
    telemetry::TraceContext,
};
use serde_json::json;

use crate::{
    cli::{holdfast, run},
    support::{House, KEY, until},
    traces::{CALLER, TRACE_ID, attribute, of_sink, spans},
};

fn cart(sku: &str) -> Reserve {
    serde_json::from_value(json!({"lines": [{"sku": sku, "quantity": 1}]})).unwrap()
}

fn order(id: &str) -> PlaceOrder {
    let body = json!({"order_id": id, "currency": "EUR",
        "lines": [{"sku": "TEE-M", "quantity": 1, "unit_price": 1_999}]});
    serde_json::from_value(body).unwrap()
}

#[test]
fn they_count_in_service_levels_and_in_the_metrics_of_routes_and_partners() {
    let house = House::start();
    let client = house.gateway();
    let of_shop = |outcome| {
        house.metric(&format!(
            "holdfast_partner_requests_total{{partner=\"shop\",outcome=\"{outcome}\"}}"
        ))
    };
    let refused = of_shop("refused");
    for n in 0..20 {
        client.reserve(&format!("r-{n}").parse().unwrap(), &cart("TEE-M")).unwrap();
    }
    let gone = client.reserve(&"g".parse().unwrap(), &cart("NONE"));
    assert!(matches!(gone, Err(Error::Refused(_))), "{gone:?}");
    client.place_order(&"o".parse().unwrap(), &order("O-1")).unwrap();
    client.stock(&"TEE-M".parse().unwrap()).unwrap();
    assert_eq!(of_shop("refused"), refused + 1.0);
    assert!(of_shop("done") >= 22.0);
    for (route, method, status, count) in [
        ("/v1/reservations", "POST", 201, 20.0),
        ("/v1/reservations", "POST", 404, 1.0),
        ("/v1/orders", "POST", 201, 1.0),
        ("/v1/stock/{sku}", "GET", 200, 1.0),
    ] {
        let labels = format!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
        assert_eq!(house.metric(&format!("holdfast_gateway_requests_total{{{labels}}}")), count);
    }
    let took = "holdfast_gateway_request_duration_seconds_count";
    let labels = "{route=\"/v1/reservations\",method=\"POST\"}";
    assert_eq!(house.metric(&format!("{took}{labels}")), 21.0);
    let latency = house.get("/v1/latency");
    let counts = |door: &str, route: &str| {
        let routes = latency[door].as_array().unwrap();
        let of = routes.iter().find(|of| of["route"] == route && of["method"] == "POST");
        of.map_or(0, |of| of["total"]["count"].as_u64().unwrap())
    };
    assert_eq!((counts("gateway", "/v1/reservations"), counts("gateway", "/v1/orders")), (21, 1));
    assert_eq!((counts("routes", "/v1/reservations"), counts("routes", "/v1/orders")), (0, 0));
    let (_, hlog) = house.send("GET", "/v1/latency?format=hlog", &[], None);
    let tag = "Tag=gateway:POST:/v1/reservations:total,";
    assert!(hlog.lines().any(|line| line.starts_with(tag)), "{hlog}");
    let mut drawn = holdfast();
    drawn
        .args(["latency", "--route", "gateway", "--url", house.url()])
        .env("HOLDFAST_API_KEY", KEY);
    let drawn = run(&mut drawn).with(0).out;
    assert!(drawn.contains("\ngateway POST /v1/reservations\n"), "{drawn}");
    assert!(drawn.contains("count: total 21\n") && !drawn.contains("\nPOST "), "{drawn}");
    until("they are judged", || house.level("fast")["total"] == 22);
    assert_eq!(house.level("fast")["good"], 22, "they take less than two seconds");
    // The looks at the levels are requests of HTTP.
    let up = house.level("up");
    assert!(up["total"].as_u64() >= Some(23) && up["total"] == up["good"], "{up}");
}

#[test]
fn a_trace_leads_from_a_gateways_request_to_the_partners_answer() {
    let house = House::start();
    let client = house.gateway();
    let parent = format!("00-{TRACE_ID}-{CALLER}-01");
    let trace = TraceContext::parse(&parent).unwrap();
    let (key, order) = ("o".parse().unwrap(), order("O-1"));
    client.ask(&Request::Traced(&trace, &Request::Order(&key, &order))).unwrap();
    let unwanted = TraceContext { sampled: false, ..trace };
    client
        .ask(&Request::Traced(&unwanted, &Request::ReadStock(&"TEE-M".parse().unwrap())))
        .unwrap();
    let call = Request::Call { method: "GET", path: "/v1/stock/TEE-M", key: None, body: b"" };
    client.ask(&Request::Traced(&trace, &call)).unwrap();
    until("the collector has the delivery to the stream", || {
        let spans = spans(&house);
        of_sink(&spans, "batch", "events").is_some()
            && spans.iter().any(|span| span["name"] == "GET /v1/stock/{sku}")
    });
    let spans = spans(&house);
    let read = spans.iter().filter(|span| span["name"] == "GET /v1/stock/{sku}");
    assert_eq!(read.count(), 1, "the call, and not what no trace is wanted of");
    let request = spans.iter().find(|span| span["name"] == "POST /v1/orders").unwrap();
    assert_eq!((&request["traceId"], &request["parentSpanId"]), (&TRACE_ID.into(), &CALLER.into()));
    assert_eq!(attribute(request, "holdfast.partner").as_deref(), Some("shop"));
    assert_eq!(attribute(request, "http.response.status_code").as_deref(), Some("201"));
    let beneath = spans.iter().filter(|span| span["parentSpanId"] == request["spanId"]);
    let stages: BTreeSet<_> = beneath.map(|span| span["name"].as_str().unwrap()).collect();
    assert!(stages.contains("receive") && stages.contains("decide"), "{stages:?}");
    let batch = of_sink(&spans, "batch", "events").unwrap();
    let link = &batch["links"][0];
    assert_eq!((&link["traceId"], &link["spanId"]), (&request["traceId"], &request["spanId"]));

    // Its records say the same, under the name that the span has.
    let lineage = house.get("/v1/orders/O-1/trace");
    let (own, id) =
        (request["spanId"].as_str().unwrap(), attribute(request, "holdfast.request_id"));
    let said = lineage.to_string();
    assert!(said.contains(&format!("00-{TRACE_ID}-{own}-01")), "{said}");
    assert!(id.as_deref().is_some_and(|id| said.contains(id)), "{id:?} {said}");
    let metrics =
        house.send("GET", "/metrics", &[("accept", "application/openmetrics-text")], None).1;
    let example = metrics.lines().find(|line| {
        line.starts_with("holdfast_gateway_request_duration_seconds_bucket{route=\"/v1/orders\"")
            && line.contains(TRACE_ID)
    });
    assert!(example.is_some(), "{metrics}");
}
