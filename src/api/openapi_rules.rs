//! What the OpenAPI document says beyond what the types say by themselves: rules between the fields of a
//! body, how large a number may be, and the headers of answers. A caller who keeps to the document is never told that his request
//! is malformed; `scripts/contracts` holds the server to that.

use serde_json::{Map, Value, json};

use crate::model::currencies::IN_FORCE;

/// Adds them to the document.
pub(super) fn add(document: &mut Value) {
    bound(document);
    name_headers(document);
    let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut)
    else {
        return;
    };
    for schema in schemas.values_mut() {
        if schema.pointer("/properties/force").is_some() {
            require(schema, forced());
        }
    }
    for (name, rule) in rules() {
        if let Some(schema) = schemas.get_mut(name) {
            require(schema, rule);
        }
    }
}

/// Adds a rule to those that an object has to keep.
fn require(schema: &mut Value, rule: Value) {
    if let Some(schema) = schema.as_object_mut() {
        let rules = schema.entry("allOf").or_insert_with(|| json!([]));
        if let Some(rules) = rules.as_array_mut() {
            rules.push(rule);
        }
    }
}

/// The headers that answers may have, by name.
fn headers() -> Value {
    let header =
        |description: &str, schema: Value| json!({"description": description, "schema": schema});
    json!({
        "X-Request-Id": header("The id of the request: the caller's own, or a new one.",
            json!({"type": "string", "minLength": 1, "maxLength": 128})),
        "RateLimit": header("What the partner has left, where it has a limit (IETF draft, RateLimit header fields).",
            json!({"type": "string"})),
        "RateLimit-Policy": header("The partner's limits, where it has any.", json!({"type": "string"})),
        "Idempotent-Replayed": header("`true` where the request is a repeat and this the first answer.",
            json!({"type": "string", "enum": ["true"]})),
        "Retry-After": header("Seconds after which to try again, where that may help.",
            json!({"type": "integer", "minimum": 1})),
    })
}

/// Says which headers an answer may have.
fn name_headers(document: &mut Value) {
    let named = |names: &[&str]| -> Map<String, Value> {
        let header = |name: &&str| {
            ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")}))
        };
        names.iter().map(header).collect()
    };
    let of_all = ["X-Request-Id", "RateLimit", "RateLimit-Policy"];
    let items = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in items.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        let parameters = operation["parameters"].as_array();
        let keyed =
            parameters.is_some_and(|all| all.iter().any(|p| p["name"] == "Idempotency-Key"));
        let answers = operation["responses"].as_object_mut().into_iter().flatten();
        for (status, answer) in answers {
            let mut headers = named(&of_all);
            match status.as_str() {
                "default" => headers.extend(named(&["Retry-After"])),
                _ if keyed => headers.extend(named(&["Idempotent-Replayed"])),
                _ => {}
            }
            answer["headers"] = headers.into();
        }
    }
    document["components"]["headers"] = headers();
}

/// A number is no larger than what it is kept in.
fn bound(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(most) = most(object)
                && !object.contains_key("maximum")
            {
                object.insert("maximum".to_owned(), most.into());
            }
            object.values_mut().for_each(bound);
        }
        Value::Array(items) => items.iter_mut().for_each(bound),
        _ => {}
    }
}

fn most(schema: &Map<String, Value>) -> Option<u64> {
    Some(match schema.get("format")?.as_str()? {
        "int32" => i32::MAX.unsigned_abs().into(),
        "u-int32" => u32::MAX.into(),
        "int64" => i64::MAX.unsigned_abs(),
        "u-int64" => u64::MAX,
        _ => return None,
    })
}

/// Who forces something says why.
fn forced() -> Value {
    json!({"anyOf": [
        {"properties": {"force": {"const": false}}},
        {"required": ["reason"], "properties": {"reason": {"type": "string", "pattern": "\\S"}}},
    ]})
}

fn rules() -> [(&'static str, Value); 7] {
    let given =
        |name: &str| json!({"required": [name], "properties": {name: {"not": {"type": "null"}}}});
    let absent = |name: &str| json!({"properties": {name: {"type": "null"}}});
    let priced = |quantity: Value| json!({"lines": {"items": quantity}});
    [
        // One of the two, and not both.
        (
            "Replay",
            json!({"oneOf": [
                {"allOf": [given("from_lsn"), absent("from_time")]},
                {"allOf": [given("from_time"), absent("from_lsn")]},
            ]}),
        ),
        // Lines have a quantity, and may have a location, exactly where they are taken now.
        (
            "PlaceOrder",
            json!({"oneOf": [
                {"allOf": [given("reservations"), {"properties": priced(absent("quantity"))},
                    {"properties": priced(absent("location"))}]},
                {"allOf": [absent("reservations"), {"properties": priced(given("quantity"))}]},
            ]}),
        ),
        // What is there already may be in a currency of the past, what is made may not.
        ("PlaceOrder", in_force()),
        ("Commit", in_force()),
        // Before 1970 nothing was.
        ("Timestamp", json!({"pattern": "^(19[789]|[2-9][0-9]{2})[0-9]-"})),
        ("AddPartner", json!({"anyOf": [absent("burst"), given("rate_per_s")]})),
        ("AdjustStock", json!({"properties": {"delta": {"not": {"const": 0}}}})),
    ]
}

fn in_force() -> Value {
    json!({"properties": {"currency": {"enum": &IN_FORCE[..]}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_finds_its_schema_and_every_number_has_an_end() {
        let document: Value = serde_json::from_slice(crate::api::openapi()).unwrap();
        let schemas = &document["components"]["schemas"];
        for (name, rule) in rules() {
            let all = schemas[name]["allOf"].as_array().unwrap_or_else(|| panic!("{name}"));
            assert!(all.contains(&rule), "{name}");
        }
        for name in ["Why", "Replay", "NewConfiguration", "Rollback"] {
            assert!(schemas[name]["allOf"].as_array().unwrap().contains(&forced()), "{name}");
        }
        assert_eq!(schemas["Rollback"]["properties"]["version"]["maximum"], u64::MAX);
        let delta = &schemas["AdjustStock"]["properties"]["delta"];
        assert_eq!(delta["maximum"], 1_000_000_000, "what was said is kept");
    }
}
