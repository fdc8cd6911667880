//! Every body that a real server sends, and every entity that it answers with, is what the published
//! schemas say: no field is missing and none is there that they do not name.

use std::collections::BTreeSet;

use holdfast::config::STREAM_EVENTS;
use serde_json::{Value, json};

use super::{
    cli::{holdfast, run},
    published::{check, strict, validator},
    shop::{Receiver, live, serve, sink, until},
};

const DOMAINS: [&str; 4] = ["inventory", "fulfilment", "finance", "stream"];

/// The events of all batches of the stream.
fn events(receiver: &Receiver) -> Vec<Value> {
    let of_stream = receiver.got().into_iter().filter(|(sink, ..)| sink == "stream");
    of_stream.flat_map(|(_, _, body)| body.as_array().cloned().unwrap_or_default()).collect()
}

fn types(receiver: &Receiver) -> BTreeSet<String> {
    events(receiver).iter().map(|e| e["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_a_shops_life_sends_and_answers_is_as_the_schemas_say() {
    let receiver = Receiver::start();
    let dir = tempfile::tempdir().unwrap();
    let config: String = DOMAINS.map(|domain| sink(domain, domain, &receiver.url)).concat();
    let server = serve(dir.path(), &config);
    let answers = live(&server);
    until("every event", || types(&receiver).len() == STREAM_EVENTS.len());
    until("every sink", || {
        let sinks: BTreeSet<_> = receiver.got().into_iter().map(|(sink, ..)| sink).collect();
        sinks.len() == DOMAINS.len()
    });
    assert_eq!(server.terminate().code(), Some(0));
    for (sink, headers, body) in receiver.got() {
        check(&strict(&format!("batch.{sink}")), &body);
        assert_eq!(headers["holdfast-schema-version"], "1");
        let document: Value =
            serde_json::from_str(include_str!("../../schemas/v1/asyncapi.json")).unwrap();
        let said = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let said = said.map(|(name, value)| (name.to_owned(), value.into())).collect();
        check(&validator(&document["components"]["schemas"]["batchHeaders"]), &Value::Object(said));
    }
    for event in events(&receiver) {
        let name = event["type"].as_str().unwrap();
        let name = name.strip_prefix("holdfast.").unwrap().strip_suffix(".v1").unwrap();
        assert_eq!(event["dataschema"], format!("urn:holdfast:schema:v1:event.{name}"));
        check(&strict(&format!("event.{name}")), &event["data"]);
    }
    entities(&answers.into_iter().map(|(path, _, body)| (path, body)).collect::<Vec<_>>());
}

/// What was answered, by the end of its path.
fn entities(answers: &[(String, Value)]) {
    let mut seen = BTreeSet::new();
    for (path, body) in answers {
        let name = match path.rsplit('/').next().unwrap() {
            "BER" | "adjustments" => "entity.position",
            "commit" | "extend" | "lines" | "release" | "reservations" => "entity.reservation",
            "orders" | "O-1" => "entity.order",
            "TEE-M" => "entity.stock",
            _ => "entity.order_event",
        };
        check(&strict(name), body);
        seen.insert(name);
        for returned in body["returns"].as_array().into_iter().flatten() {
            check(&strict("entity.return"), returned);
            seen.insert("entity.return");
        }
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

/// What partners report has schemas too, and these know a wrong report from a right one.
#[test]
fn reports_are_as_the_schemas_say() {
    let lines = json!([{"sku": "TEE-M", "quantity": 3, "location": "BER"}]);
    for (name, id, right) in [
        ("shipment", "shipment_id", json!({"shipment_id": "S", "lines": lines})),
        ("cancellation", "cancellation_id", json!({"cancellation_id": "C", "lines": lines})),
        ("invoice", "invoice_id", json!({"invoice_id": "I", "currency": "EUR", "amount": 1})),
        (
            "settlement",
            "settlement_id",
            json!({"settlement_id": "S", "currency": "EUR", "amount": 1}),
        ),
        ("refund", "refund_id", json!({"refund_id": "R", "currency": "EUR", "amount": 1})),
    ] {
        let schema = strict(&format!("entity.{name}"));
        check(&schema, &right);
        let mut wrong = right.clone();
        wrong[id] = "".into();
        assert!(!schema.is_valid(&wrong), "{name}");
        wrong.as_object_mut().unwrap().remove(id);
        assert!(!schema.is_valid(&wrong), "{name}");
    }
}

/// A sink is bound to a version; one that is not known is refused, and those known are named.
#[test]
fn an_unknown_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("holdfast.toml");
    let mut config = sink("erp", "inventory", "http://127.0.0.1:1");
    let checked = |version: u32, code| {
        std::fs::write(&path, format!("{config}schema_version = {version}\n")).unwrap();
        run(holdfast().args(["check-config", "--config"]).arg(&path)).with(code)
    };
    assert!(checked(1, 0).out.contains("schema_version = 1"));
    let error = checked(7, 2).err;
    assert!(error.contains("schema_version 7 is not known; known: 1"), "{error}");
    config += "[sinks.connector]\n";
    std::fs::write(&path, format!("{config}schema_version = 1\n")).unwrap();
    let error = run(holdfast().args(["check-config", "--config"]).arg(&path)).with(2).err;
    assert!(error.contains("stands in the sink itself"), "{error}");
}
