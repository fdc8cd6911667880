//! Service levels and alerts, through an outage and after it.

use holdfast::model::signature::Signer;
use serde_json::Value;

use crate::{
    cli::{holdfast, run},
    support::{House, KEY, SECRET, until},
};

/// The command line says the same as the route.
fn told(house: &House) -> (Option<i32>, String) {
    let ended =
        run(holdfast().args(["service-levels", "--url", house.url()]).env("HOLDFAST_API_KEY", KEY));
    (ended.code, ended.out + &ended.err)
}

#[test]
fn a_promise_that_is_broken_is_told_and_so_is_its_mending() {
    let house = House::start();
    house.alerts.refuse(1);
    assert_eq!(house.level("orders")["state"], "ok");
    assert_eq!(told(&house).0, Some(0), "{}", told(&house).1);

    house.wms.behave(|b| b.outage = true);
    (0..12).for_each(|n| house.sell(&format!("LATE-{n}"), &[]));
    until("it is breached while the warehouse is gone", || {
        let level = house.level("orders");
        level["state"] == "breached" && level["total"] == 12
    });
    let level = house.level("orders");
    assert_eq!((&level["good"], &level["total"]), (&0.into(), &12.into()), "{level}");
    assert_eq!(level["percent"], 0.0, "{level}");
    assert!(level["burn_rate_1h"].as_f64().unwrap() > 4.9, "{level}");
    assert!(level["budget_left_percent"].as_f64().unwrap() < 0.0, "{level}");
    let (code, text) = told(&house);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("orders: breached; order_to_warehouse of wms within 1500 ms"), "{text}");
    let breached = "holdfast_service_level_state{service_level=\"orders\",state=\"breached\"}";
    assert_eq!(house.metric(breached), 1.0);
    until("an incident is open", || {
        house.metric("holdfast_sink_incident_open{sink=\"wms\"}") == 1.0
    });
    until("its alert was taken", || house.metric("holdfast_alerts_total{outcome=\"sent\"}") >= 1.0);

    house.wms.behave(|b| b.outage = false);
    until("the warehouse has recovered", || {
        house.metric("holdfast_sink_incidents_total{sink=\"wms\"}") == 1.0
    });
    assert!(house.metric("holdfast_sink_last_recovery_seconds{sink=\"wms\"}") > 0.5);
    (0..90).for_each(|n| house.sell(&format!("SOON-{n}"), &[]));
    until("it is kept again", || {
        let level = house.level("orders");
        level["state"] == "ok" && level["total"] == 102
    });
    let level = house.level("orders");
    assert!((85..=90).contains(&level["good"].as_u64().unwrap()), "{level}");
    until("the end is told", || {
        house.alerted("service_level", "orders").last().is_some_and(|s| s == "ok")
    });
    let states = house.alerted("service_level", "orders");
    assert_eq!(states[0], "breached", "{states:?}");

    let posts = house.alerts.posts();
    let signer = Signer::new(SECRET).unwrap();
    for (headers, body) in &posts {
        let text = |name: &str| headers[name].to_str().unwrap();
        let second = text("webhook-timestamp").parse().unwrap();
        let signature = text("webhook-signature");
        assert!(signer.verify(signature, text("webhook-id"), second, body));
    }
    is_as_published(&house);
    // The first attempt was answered 503: the repeat has the same id and the same bytes.
    assert_eq!(posts[0].0["webhook-id"], posts[1].0["webhook-id"]);
    assert_eq!(posts[0].1, posts[1].1);
    let up = house.level("up");
    assert_eq!(up["state"], "ok", "{up}");
    assert_eq!(house.level("fast")["total"], 102, "every order over HTTP is judged");
    assert!(house.level("erp-lag")["good"].as_u64().unwrap() > 1);
}

/// What is alerted is what the schema says, with nothing that it does not name.
#[track_caller]
fn is_as_published(house: &House) {
    let found = holdfast::api::schemas().iter().find(|(name, _)| *name == "alert");
    let mut schema: Value = serde_json::from_str(found.unwrap().1).unwrap();
    for part in ["", "/$defs/AlertData"] {
        schema.pointer_mut(part).unwrap()["additionalProperties"] = false.into();
    }
    let schema = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    for body in house.alerts.bodies() {
        let wrong: Vec<_> = schema.iter_errors(&body).map(|e| e.to_string()).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{body}");
        assert_eq!(body["type"], "holdfast.alert.v1");
    }
}

#[test]
fn a_sink_that_stands_still_and_what_lies_dead_are_told() {
    let house = House::start();
    house.erp.behave(|b| b.refuse_with = Some(401));
    house.books.behave(|b| b.refuse_with = Some(422));
    house.sell("O-1", &[]);
    until("the sink is paused", || house.alerted("sink", "erp") == ["paused"]);
    until("something lies dead", || house.alerted("dead_letters", "books") == ["waiting"]);
    assert!(house.metric("holdfast_finance_failed_postings_total{sink=\"books\"}") >= 1.0);
    assert!(house.metric("holdfast_finance_completeness_ratio{sink=\"books\"}") < 1.0);
    let refused = "holdfast_sink_refused_records_total{sink=\"books\",domain=\"finance\"}";
    assert_eq!(house.metric(refused), 1.0);

    house.erp.behave(|b| b.refuse_with = None);
    house.books.behave(|b| b.refuse_with = None);
    let letters = house.get("/v1/dead-letters");
    let id = letters["dead_letters"][0]["id"].as_str().unwrap_or_else(|| panic!("{letters}"));
    let retried = house.send("POST", &format!("/v1/dead-letters/{id}/retry"), &[], None);
    assert!((200..300).contains(&retried.0), "{retried:?}");
    until("the end of both is told", || {
        house.alerted("sink", "erp").last().is_some_and(|state| state == "ok")
            && house.alerted("dead_letters", "books") == ["waiting", "ok"]
    });
    is_as_published(&house);
    assert_eq!(house.metric("holdfast_finance_completeness_ratio{sink=\"books\"}"), 1.0);
}
