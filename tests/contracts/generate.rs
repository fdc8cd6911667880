//! Makes the files of `schemas/v1/` from the types that are sent and taken.

use std::collections::{BTreeMap, BTreeSet};

use holdfast::{
    config::STREAM_EVENTS,
    feed::contract::{Shape, shapes},
    model::{SchemaVersion, command, view},
    observe::AlertBody,
};
use serde_json::{Map, Value, json};

/// Every file of the first version, by name: schemas, and the AsyncAPI document.
pub fn files() -> BTreeMap<String, Value> {
    let mut files: BTreeMap<_, _> = shapes()
        .into_iter()
        .chain(entities())
        .chain([Shape::of::<AlertBody<'_>>("alert")])
        .map(|shape| (shape.name.clone(), file(shape)))
        .collect();
    files.insert("batch.stream".into(), stream_batch(&files["cloudevent"]));
    files.insert("asyncapi".into(), asyncapi());
    files
}

fn entities() -> Vec<Shape> {
    vec![
        Shape::of::<view::StockView>("entity.stock"),
        Shape::of::<view::PositionView>("entity.position"),
        Shape::of::<view::ReservationView>("entity.reservation"),
        Shape::of::<view::OrderView>("entity.order"),
        Shape::of::<view::FactView>("entity.order_event"),
        Shape::of::<view::ReturnView>("entity.return"),
        Shape::of::<command::Ship>("entity.shipment"),
        Shape::of::<command::Cancel>("entity.cancellation"),
        Shape::of::<command::Invoice>("entity.invoice"),
        Shape::of::<command::Settle>("entity.settlement"),
        Shape::of::<command::Refund>("entity.refund"),
    ]
}

fn head(name: &str) -> Map<String, Value> {
    let mut head = Map::new();
    head.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    head.insert("$id".into(), SchemaVersion::V1.urn(name).into());
    head.insert("title".into(), name.into());
    head
}

/// A schema that stands by itself.
fn file(shape: Shape) -> Value {
    let parts: BTreeMap<String, Value> =
        shape.parts.iter().map(|(name, part)| (name.clone(), json(part))).collect();
    let mut schema = json(&shape.schema);
    merge_flattened(&mut schema, &parts);
    let mut used = BTreeSet::new();
    names_used(&schema, &parts, &mut used);
    let mut defs: Map<String, Value> =
        used.into_iter().map(|name| (name.clone(), parts[&name].clone())).collect();
    defs.values_mut().for_each(point_inside);
    point_inside(&mut schema);
    let mut file = head(&shape.name);
    if let Value::Object(fields) = schema {
        file.extend(fields);
    }
    if !defs.is_empty() {
        file.insert("$defs".into(), defs.into());
    }
    file.into()
}

fn json(schema: &impl serde::Serialize) -> Value {
    serde_json::to_value(schema).unwrap()
}

const COMPONENTS: &str = "#/components/schemas/";

/// What was flattened into one object becomes one: a list of everything that it has.
fn merge_flattened(schema: &mut Value, parts: &BTreeMap<String, Value>) {
    let Some(all) = schema["allOf"].as_array().cloned() else { return };
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for part in all {
        let part = match part["$ref"].as_str() {
            Some(name) => parts[name.strip_prefix(COMPONENTS).unwrap()].clone(),
            None => part,
        };
        properties.extend(part["properties"].as_object().unwrap().clone());
        required.extend(part["required"].as_array().unwrap().clone());
    }
    let description = schema["description"].take();
    *schema = json!({"type": "object", "description": description, "properties": properties,
        "required": required});
}

fn names_used(schema: &Value, parts: &BTreeMap<String, Value>, used: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                let name = name.strip_prefix(COMPONENTS).unwrap().to_owned();
                if used.insert(name.clone()) {
                    names_used(&parts[&name], parts, used);
                }
            }
            fields.values().for_each(|value| names_used(value, parts, used));
        }
        Value::Array(items) => items.iter().for_each(|item| names_used(item, parts, used)),
        _ => {}
    }
}

fn point_inside(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(name)) = fields.get_mut("$ref") {
                *name = name.replace(COMPONENTS, "#/$defs/");
            }
            fields.values_mut().for_each(point_inside);
        }
        Value::Array(items) => items.iter_mut().for_each(point_inside),
        _ => {}
    }
}

/// A list of events, which says what data belongs to which type.
fn stream_batch(event: &Value) -> Value {
    let mut event = event.clone();
    for field in ["$schema", "$id", "title"] {
        event.as_object_mut().unwrap().remove(field);
    }
    let defs = event.as_object_mut().unwrap().remove("$defs").unwrap();
    event["properties"]["type"]["enum"] =
        STREAM_EVENTS.map(|name| format!("holdfast.{name}.v1")).to_vec().into();
    let mut file = head("batch.stream");
    file.insert(
        "description".into(),
        "The body of a batch of a stream: CloudEvents 1.0, JSON batch format.".into(),
    );
    file.insert("type".into(), "array".into());
    file.insert("minItems".into(), 1.into());
    file.insert("items".into(), event);
    file.insert("$defs".into(), defs);
    file.into()
}

fn schema_of(name: &str) -> Value {
    json!({
        "schemaFormat": "application/schema+json;version=draft-2020-12",
        "schema": {"$ref": format!("/schemas/v1/{name}")},
    })
}

fn batch_message(domain: &str) -> Value {
    let content_type = match domain {
        "stream" => "application/cloudevents-batch+json",
        _ => "application/json",
    };
    json!({
        "name": format!("batch.{domain}"),
        "title": format!("A batch of a sink of the domain {domain}"),
        "contentType": content_type,
        "headers": {"$ref": "#/components/schemas/batchHeaders"},
        "payload": schema_of(&format!("batch.{domain}")),
    })
}

fn event_message(name: &str) -> Value {
    json!({
        "name": format!("holdfast.{name}.v1"),
        "title": format!("The event {name}"),
        "summary": format!("A CloudEvent, structured mode; its data is event.{name}."),
        "contentType": "application/cloudevents+json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"allOf": [
                {"$ref": "/schemas/v1/cloudevent"},
                {"properties": {
                    "type": {"const": format!("holdfast.{name}.v1")},
                    "data": {"$ref": format!("/schemas/v1/event.{name}")},
                }},
            ]},
        },
    })
}

/// Whoever is alerted: a channel, what is sent over it, and its message.
fn alerts() -> [Value; 3] {
    let channel = json!({
        "address": null,
        "description": "HTTP: a POST to the configured `alerts.url`, again until it is taken or too many \
                        attempts were made, with the same id.",
        "messages": {"alert": {"$ref": "#/components/messages/alert"}},
    });
    let operation = json!({
        "action": "send",
        "channel": {"$ref": "#/channels/alerts"},
        "messages": [{"$ref": "#/channels/alerts/messages/alert"}],
    });
    let message = json!({
        "name": "holdfast.alert.v1",
        "title": "What an operator must know has changed",
        "contentType": "application/json",
        "headers": {"$ref": "#/components/schemas/alertHeaders"},
        "payload": schema_of("alert"),
    });
    [channel, operation, message]
}

/// AsyncAPI 3.0: what sinks and whoever is alerted receive, by channel. Where a channel is, is configured.
fn asyncapi() -> Value {
    let domains = ["inventory", "fulfilment", "finance", "stream"];
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for domain in domains {
        let key = format!("batch.{domain}");
        messages.insert(key.clone(), batch_message(domain));
        let message = json!({"$ref": format!("#/components/messages/{key}")});
        channels.insert(domain.into(), json!({
            "address": null,
            "description": "HTTP: a POST to the sink's configured url, exactly once in effect for a \
                            receiver that keeps ids as it keeps the content.",
            "messages": {"batch": message},
        }));
        operations.insert(
            format!("deliver.{domain}"),
            json!({
                "action": "send",
                "channel": {"$ref": format!("#/channels/{domain}")},
                "messages": [{"$ref": format!("#/channels/{domain}/messages/batch")}],
            }),
        );
    }
    let [channel, operation, message] = alerts();
    channels.insert("alerts".into(), channel);
    operations.insert("alert".into(), operation);
    messages.insert("alert".into(), message);
    let mut events = Map::new();
    for name in STREAM_EVENTS {
        messages.insert(format!("event.{name}"), event_message(name));
        events.insert(name.into(), json!({"$ref": format!("#/components/messages/event.{name}")}));
    }
    let brokers = [
        (
            "nats",
            "holdfast.{type}",
            "type",
            "What stands in the event's type between `holdfast.` and \
          `.v1`; the whole subject is a template of the sink.",
        ),
        ("kafka", "{topic}", "topic", "The sink's configured topic."),
    ];
    for (broker, address, parameter, description) in brokers {
        channels.insert(
            broker.into(),
            json!({
                "address": address,
                "parameters": {parameter: {"description": description}},
                "messages": events,
            }),
        );
        let sent: Vec<_> = STREAM_EVENTS
            .map(|name| json!({"$ref": format!("#/channels/{broker}/messages/{name}")}))
            .into();
        operations.insert(
            format!("publish.{broker}"),
            json!({
                "action": "send",
                "channel": {"$ref": format!("#/channels/{broker}")},
                "messages": sent,
            }),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Holdfast: what sinks receive",
            "version": "1",
            "description": "Batches and alerts by HTTP and events by message broker. Receivers ignore \
                            fields that they do not know.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": {"alertHeaders": {
                "type": "object",
                "required": ["webhook-id", "webhook-timestamp"],
                "properties": {
                    "webhook-id": {"type": "string", "description": "The same in every repeat."},
                    "webhook-timestamp": {"type": "string"},
                    "webhook-signature": {"type": "string", "description": "With a secret."},
                },
            }, "batchHeaders": {
                "type": "object",
                "required": ["idempotency-key", "holdfast-schema-version", "webhook-id",
                             "webhook-timestamp"],
                "properties": {
                    "idempotency-key": {"type": "string", "description": "The batch's id, or a half's."},
                    "holdfast-schema-version": {"const": "1"},
                    "webhook-id": {"type": "string"},
                    "webhook-timestamp": {"type": "string"},
                    "webhook-signature": {"type": "string", "description": "With a signing_secret."},
                },
            }},
        },
    })
}
