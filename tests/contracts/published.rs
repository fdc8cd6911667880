//! What is published is what is committed, and what is committed is what the code says. After a wanted
//! change of it, HOLDFAST_WRITE_SCHEMAS=1 writes the files anew.

use std::{fs, path::PathBuf};

use holdfast::api;
use jsonschema::Validator;
use serde_json::{Value, json};

use super::{
    cli::{Server, get},
    generate::files,
};

/// A folder of the schemas.
pub fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name)
}

/// Whether files are to be written rather than compared.
pub fn writes() -> bool {
    std::env::var_os("HOLDFAST_WRITE_SCHEMAS").is_some()
}

/// A document as its file has it.
pub fn pretty(value: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).unwrap())
}

/// A schema as it is published.
pub fn schema(name: &str) -> Value {
    let found = api::schemas().iter().find(|(known, _)| *known == name);
    serde_json::from_str(found.unwrap_or_else(|| panic!("no schema {name}")).1).unwrap()
}

/// The same, so strict that what it does not name is refused: nothing is sent that is not described.
pub fn strict(name: &str) -> Validator {
    let mut schema = schema(name);
    close(&mut schema);
    validator(&schema)
}

pub fn validator(schema: &Value) -> Validator {
    jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .unwrap_or_else(|e| panic!("{e}: {schema}"))
}

/// Refuses what a schema does not name, wherever it names anything.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(close);
            if fields.contains_key("properties") && fields.contains_key("type") {
                fields.insert("additionalProperties".into(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Must be valid.
#[track_caller]
pub fn check(validator: &Validator, value: &Value) {
    let wrong: Vec<_> =
        validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "{}\n{value:#}", wrong.join("\n"));
}

#[test]
fn the_committed_files_are_what_the_code_says() {
    let files = files();
    for (name, value) in &files {
        let path = folder("v1").join(format!("{name}.json"));
        if writes() {
            fs::write(&path, pretty(value)).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        let hint = "changed on purpose? HOLDFAST_WRITE_SCHEMAS=1 writes it anew";
        assert_eq!(committed, pretty(value), "{}: {hint}", path.display());
    }
    let mut published: Vec<_> = api::schemas().iter().map(|(name, _)| (*name).to_owned()).collect();
    published.push("asyncapi".into());
    published.sort();
    assert_eq!(published, files.into_keys().collect::<Vec<_>>());
}

#[test]
fn golden_bodies_are_what_the_schemas_say() {
    for domain in ["inventory", "fulfilment", "finance", "stream"] {
        let name = format!("batch.{domain}");
        let text = fs::read(folder("v1/golden").join(format!("{name}.json"))).unwrap();
        let body: Value = serde_json::from_slice(&text).unwrap();
        check(&strict(&name), &body);
        // A schema that lets everything through would pass as well.
        assert!(!strict(&name).is_valid(&json!({})) && !strict(&name).is_valid(&json!([{}])));
        for event in body.as_array().into_iter().flatten() {
            let data = event["dataschema"].as_str().unwrap();
            check(&strict(data.strip_prefix("urn:holdfast:schema:v1:").unwrap()), &event["data"]);
        }
    }
}

#[test]
fn a_server_publishes_them() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let list = get(&format!("{}/schemas/v1", server.url));
    let list = list["schemas"].as_array().unwrap();
    assert_eq!(list.len(), api::schemas().len());
    for entry in list {
        let name = entry["name"].as_str().unwrap();
        let got = get(&format!("{}{}", server.url, entry["href"].as_str().unwrap()));
        assert_eq!(got, schema(name));
        assert_eq!(got["$id"], format!("urn:holdfast:schema:v1:{name}"));
    }
    assert_eq!(
        get(&format!("{}/schemas/v1/entity.order.json", server.url)),
        schema("entity.order")
    );
    assert_eq!(get(&format!("{}/schemas/v1/entity.none", server.url))["code"], "not_found");
    assert_eq!(get(&format!("{}/asyncapi.json", server.url)), files()["asyncapi"]);
}

/// Every reference of the AsyncAPI document leads somewhere, and what it says of events is true of them.
#[test]
fn the_asyncapi_document_holds_together() {
    let document = &files()["asyncapi"];
    let mut references = Vec::new();
    collect(document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        match (reference.strip_prefix('#'), reference.strip_prefix("/schemas/v1/")) {
            (Some(inside), _) => assert!(document.pointer(inside).is_some(), "{reference}"),
            (None, Some(name)) => drop(schema(name)),
            (None, None) => panic!("{reference}"),
        }
    }
}

fn collect<'a>(value: &'a Value, references: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}
