//! Whether a change of the schemas or of the API's description breaks somebody who built on the last
//! release (`schemas/released/`). Who reads may rely on every field, on its type and on the words that it
//! can be; who writes, on being understood as before. What is added breaks nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Map, Value, json};

use super::{
    generate::files,
    published::{folder, pretty, schema, writes},
};

/// Every release, whose promises are kept, and the digest of its documents: what was promised is not changed
/// afterwards.
const RELEASES: [(&str, &str); 1] =
    [("0.1.0", "f225f0aa4d5bc6958bdd5acd3faed469765441e2f0fd3d3e9d01446bb87989cd")];

/// Who makes what a schema describes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Holdfast: a reader must go on understanding it.
    Out,
    /// Its callers: what they send must go on being taken.
    In,
}

/// Reports of partners; all else is Holdfast's own word.
const REPORTS: [&str; 5] = ["shipment", "cancellation", "invoice", "settlement", "refund"];

/// Looks for what the new one of two documents breaks.
struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    broken: Vec<String>,
    /// References under way or seen, each with what stands in its place now, so that a schema within itself has
    /// an end.
    seen: BTreeSet<(String, String, bool)>,
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema["$ref"].as_str().and_then(|name| name.strip_prefix('#'));
    target.and_then(|inside| document.pointer(inside)).unwrap_or(schema)
}

/// The types that a schema allows; none stands for any.
fn types(document: &Value, schema: &Value) -> BTreeSet<String> {
    let schema = resolve(document, schema);
    if let Some(all) = ["oneOf", "anyOf"].iter().find_map(|key| schema[*key].as_array()) {
        return all.iter().flat_map(|one| types(document, one)).collect();
    }
    match &schema["type"] {
        Value::String(one) => [one.clone()].into(),
        Value::Array(all) => all.iter().filter_map(|t| t.as_str().map(str::to_owned)).collect(),
        _ => BTreeSet::new(),
    }
}

/// Of an alternative with nothing, what it is else.
fn without_null<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let schema = resolve(document, schema);
    let other = schema["oneOf"].as_array().and_then(|all| {
        let mut others = all.iter().filter(|one| one["type"] != "null");
        others.next().filter(|_| others.next().is_none())
    });
    other.map_or(schema, |one| resolve(document, one))
}

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

impl<'a> Comparison<'a> {
    fn new(old: &'a Value, new: &'a Value) -> Self {
        Self { old, new, broken: Vec::new(), seen: BTreeSet::new() }
    }

    fn breaks(&mut self, at: &str, what: &str) {
        self.broken.push(format!("{at}: {what}"));
    }

    fn schemas(&mut self, at: &str, flow: Flow, old: &'a Value, new: &'a Value) {
        if let Some(name) = old["$ref"].as_str()
            && !self.seen.insert((name.to_owned(), new.to_string(), flow == Flow::In))
        {
            return;
        }
        let (before, after) = (types(self.old, old), types(self.new, new));
        let narrowed = !after.is_empty() && !before.is_subset(&after);
        let widened = !before.is_empty() && (after.is_empty() || !after.is_subset(&before));
        if flow == Flow::In && narrowed || flow == Flow::Out && widened {
            self.breaks(at, &format!("its type was {before:?} and is {after:?}"));
        }
        let (old, new) = (without_null(self.old, old), without_null(self.new, new));
        self.words(at, flow, old, new);
        self.bounds(at, flow, old, new);
        self.properties(at, flow, old, new);
        if !old["items"].is_null() {
            self.schemas(&format!("{at}[]"), flow, &old["items"], &new["items"]);
        }
        self.parts(at, flow, old, new);
    }

    fn words(&mut self, at: &str, flow: Flow, old: &Value, new: &Value) {
        let (before, after) = (names(&old["enum"]), names(&new["enum"]));
        for word in before.difference(&after) {
            // A reader may wait for it, a writer may say it.
            if !after.is_empty() || flow == Flow::Out {
                self.breaks(at, &format!("`{word}` is no longer one of its values"));
            }
        }
        if before.is_empty() && !after.is_empty() && flow == Flow::In {
            self.breaks(at, "only some values are taken now");
        }
        if old["const"] != new["const"] {
            self.breaks(at, "its value was changed");
        }
    }

    /// Limits on what is taken must not get narrower, those on what is given not wider.
    fn bounds(&mut self, at: &str, flow: Flow, old: &Value, new: &Value) {
        for (key, is_least) in [
            ("minimum", true),
            ("minLength", true),
            ("minItems", true),
            ("maximum", false),
            ("maxLength", false),
            ("maxItems", false),
        ] {
            let (before, after) = (old[key].as_f64(), new[key].as_f64());
            let narrower = match (before, after) {
                (None, Some(_)) => true,
                (Some(a), Some(b)) => {
                    if is_least {
                        b > a
                    } else {
                        b < a
                    }
                }
                _ => false,
            };
            let wider = match (before, after) {
                (Some(_), None) => true,
                (Some(a), Some(b)) => {
                    if is_least {
                        b < a
                    } else {
                        b > a
                    }
                }
                _ => false,
            };
            if flow == Flow::In && narrower || flow == Flow::Out && wider {
                self.breaks(at, &format!("`{key}` was {} and is {}", old[key], new[key]));
            }
        }
        for key in ["pattern", "format"] {
            if old[key] != new[key] && (flow == Flow::Out || !new[key].is_null()) {
                self.breaks(at, &format!("`{key}` was {} and is {}", old[key], new[key]));
            }
        }
    }

    fn properties(&mut self, at: &str, flow: Flow, old: &'a Value, new: &'a Value) {
        let (before, after) = (names(&old["required"]), names(&new["required"]));
        for (name, value) in fields(&old["properties"]) {
            let at = format!("{at}.{name}");
            match new["properties"].get(name) {
                Some(now) => self.schemas(&at, flow, value, now),
                None => self.breaks(&at, "it is gone"),
            }
        }
        for name in before.difference(&after).filter(|_| flow == Flow::Out) {
            self.breaks(&format!("{at}.{name}"), "it may be left out now");
        }
        for name in after.difference(&before).filter(|_| flow == Flow::In) {
            self.breaks(&format!("{at}.{name}"), "it is required now");
        }
        let (before, after) = (&old["additionalProperties"], &new["additionalProperties"]);
        if flow == Flow::In && after == false && before != false {
            self.breaks(at, "what it does not name is refused now");
        }
        if before.is_object() {
            self.schemas(&format!("{at}.*"), flow, before, after);
        }
    }

    /// What a schema is put together of, part by part in its order.
    fn parts(&mut self, at: &str, flow: Flow, old: &'a Value, new: &'a Value) {
        for key in ["allOf", "anyOf", "oneOf"] {
            let (before, after) = (old[key].as_array(), new[key].as_array());
            let (before, after) = (before.map_or(&[][..], |a| a), after.map_or(&[][..], |a| a));
            if after.len() < before.len() {
                self.breaks(at, &format!("`{key}` has fewer parts"));
            }
            for (n, (one, other)) in before.iter().zip(after).enumerate() {
                self.schemas(&format!("{at}/{key}/{n}"), flow, one, other);
            }
        }
    }

    fn api(&mut self) {
        for (path, item) in fields(&self.old["paths"]) {
            for (method, operation) in fields(item) {
                let at = format!("{} {path}", method.to_uppercase());
                match self.new["paths"][path].get(method) {
                    Some(now) => self.operation(&at, operation, now),
                    None => self.breaks(&at, "it is gone"),
                }
            }
        }
    }

    fn operation(&mut self, at: &str, old: &'a Value, new: &'a Value) {
        self.parameters(at, old, new);
        let (before, after) = (&old["requestBody"], &new["requestBody"]);
        if after["required"] == true && before["required"] != true {
            self.breaks(at, "its body is required now");
        }
        self.contents(&format!("{at} request"), Flow::In, before, after);
        for (status, answer) in fields(&old["responses"]) {
            let at = format!("{at} {status}");
            match new["responses"].get(status) {
                Some(now) => self.answer(&at, answer, now),
                None => self.breaks(&at, "it is no longer an answer"),
            }
        }
    }

    fn answer(&mut self, at: &str, old: &'a Value, new: &'a Value) {
        for (name, header) in fields(&old["headers"]) {
            let at = format!("{at} header {name}");
            match new["headers"].get(name) {
                Some(now) => {
                    let (old, new) = (resolve(self.old, header), resolve(self.new, now));
                    self.schemas(&at, Flow::Out, &old["schema"], &new["schema"]);
                }
                None => self.breaks(&at, "it is gone"),
            }
        }
        self.contents(at, Flow::Out, old, new);
    }

    fn contents(&mut self, at: &str, flow: Flow, old: &'a Value, new: &'a Value) {
        for (kind, content) in fields(&old["content"]) {
            match new["content"].get(kind) {
                Some(now) => self.schemas(at, flow, &content["schema"], &now["schema"]),
                None => self.breaks(at, &format!("it is no longer {kind}")),
            }
        }
    }

    /// Who receives must find every channel where it was, with every message that it had, and understand it; the
    /// schemas of its content are compared by themselves.
    fn channels(&mut self) {
        for (name, channel) in fields(&self.old["channels"]) {
            let now = &self.new["channels"][name];
            if now.is_null() {
                self.breaks(name, "it is gone");
                continue;
            }
            if channel["address"] != now["address"] {
                self.breaks(name, "its address was changed");
            }
            for (message, old) in fields(&channel["messages"]) {
                let at = format!("{name} {message}");
                match now["messages"].get(message) {
                    Some(new) => self.message(&at, old, new),
                    None => self.breaks(&at, "it is gone"),
                }
            }
        }
        for (name, operation) in fields(&self.old["operations"]) {
            if self.new["operations"][name]["action"] != operation["action"] {
                self.breaks(name, "it is no longer done");
            }
        }
    }

    fn message(&mut self, at: &str, old: &'a Value, new: &'a Value) {
        let (old, new) = (resolve(self.old, old), resolve(self.new, new));
        for key in ["name", "contentType", "payload"] {
            if old[key] != new[key] {
                self.breaks(at, &format!("`{key}` was {} and is {}", old[key], new[key]));
            }
        }
        let headers =
            |document: &'a Value, message: &'a Value| resolve(document, &message["headers"]);
        let (before, after) = (headers(self.old, old), headers(self.new, new));
        self.schemas(&format!("{at} headers"), Flow::Out, before, after);
    }

    fn parameters(&mut self, at: &str, old: &'a Value, new: &'a Value) {
        let all = |operation: &'a Value| operation["parameters"].as_array().into_iter().flatten();
        let same = |a: &Value, b: &Value| a["name"] == b["name"] && a["in"] == b["in"];
        for parameter in all(old) {
            let at = format!("{at} parameter {}", parameter["name"]);
            match all(new).find(|now| same(now, parameter)) {
                Some(now) => self.schemas(&at, Flow::In, &parameter["schema"], &now["schema"]),
                None => self.breaks(&at, "it is gone"),
            }
        }
        for now in all(new).filter(|now| now["required"] == true) {
            if !all(old).any(|known| same(known, now) && known["required"] == true) {
                self.breaks(&format!("{at} parameter {}", now["name"]), "it is required now");
            }
        }
    }
}

fn flow_of(name: &str) -> Flow {
    let entity = name.strip_prefix("entity.").unwrap_or("");
    if REPORTS.contains(&entity) { Flow::In } else { Flow::Out }
}

/// What a new schema breaks of an old one.
fn broken_schema(name: &str, old: &Value, new: &Value) -> Vec<String> {
    let mut comparison = Comparison::new(old, new);
    comparison.schemas(name, flow_of(name), old, new);
    comparison.broken
}

/// What a new description of the API breaks of an old one.
fn broken_api(old: &Value, new: &Value) -> Vec<String> {
    let mut comparison = Comparison::new(old, new);
    comparison.api();
    comparison.broken
}

/// What a new AsyncAPI document breaks of an old one.
fn broken_channels(old: &Value, new: &Value) -> Vec<String> {
    let mut comparison = Comparison::new(old, new);
    comparison.channels();
    comparison.broken
}

fn openapi() -> Value {
    serde_json::from_slice(holdfast::api::openapi()).unwrap()
}

/// The documents of a release, by name.
fn released(release: &str) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder("released").join(release)).unwrap().flatten();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    files.map(|file| (name(&file.path()), fs::read(file.path()).unwrap())).collect()
}

fn digest(documents: &BTreeMap<String, Vec<u8>>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, text) in documents {
        let parts = [name.as_bytes(), text];
        parts.iter().for_each(|part| {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        });
    }
    hasher.finalize().to_hex().to_string()
}

/// At a release the promises of the day are written down: `HOLDFAST_WRITE_SCHEMAS=released`.
fn write_release(release: &str) {
    let folder = folder("released").join(release);
    assert!(!folder.exists(), "{release} was released; a new release has a new version");
    fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, value: &Value| {
        fs::write(folder.join(format!("{name}.json")), pretty(value)).unwrap();
    };
    write("openapi", &openapi());
    write("asyncapi", &files()["asyncapi"]);
    for (name, _) in holdfast::api::schemas() {
        write(name, &schema(name));
    }
    panic!("{release} is written; name it among the releases: {}", digest(&released(release)));
}

#[test]
fn nothing_that_was_released_is_broken() {
    if writes() && std::env::var("HOLDFAST_WRITE_SCHEMAS").is_ok_and(|what| what == "released") {
        write_release(env!("CARGO_PKG_VERSION"));
    }
    for (release, promised) in RELEASES {
        let documents = released(release);
        assert_eq!(digest(&documents), promised, "{release}: what was promised was changed");
        let mut broken = Vec::new();
        for (name, old) in &documents {
            let old = serde_json::from_slice(old).unwrap();
            broken.extend(match name.as_str() {
                "openapi" => broken_api(&old, &openapi()),
                "asyncapi" => broken_channels(&old, &files()["asyncapi"]),
                name => broken_schema(name, &old, &schema(name)),
            });
        }
        assert!(broken.is_empty(), "broken since {release}:\n{}", broken.join("\n"));
    }
}

/// A pointer into a document, and what is put there; null takes it away.
fn changed(document: &Value, pointer: &str, to: Value) -> Value {
    let mut document = document.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("no {pointer}"));
    let name = name.replace("~1", "/").replace("~0", "~");
    match (parent, to) {
        (Value::Object(fields), Value::Null) => drop(fields.remove(&name).expect("it is there")),
        (Value::Object(fields), to) => drop(fields.insert(name, to)),
        (Value::Array(items), Value::Null) => drop(items.remove(name.parse().unwrap())),
        (Value::Array(items), to) => items.push(to),
        (other, _) => panic!("{pointer}: {other}"),
    }
    document
}

/// The index of a word in a list.
fn index(document: &Value, pointer: &str, word: &str) -> String {
    let list = document.pointer(pointer).and_then(Value::as_array).expect("a list");
    let at = list.iter().position(|one| one == word).expect("it is there");
    format!("{pointer}/{at}")
}

#[test]
fn a_break_of_a_schema_is_named_and_an_addition_is_none() {
    let batch = schema("batch.inventory");
    let movement = "/$defs/Movement/enum";
    let line = "/$defs/MovementLine";
    for (pointer, to, at) in [
        ("/properties/sealed_at".to_owned(), Value::Null, "batch.inventory.sealed_at: it is gone"),
        (format!("{line}/properties/quantity/type"), json!("string"), "lines[].quantity: its type"),
        (index(&batch, movement, "returned"), Value::Null, "lines[].movement: `returned`"),
        (index(&batch, "/required", "events"), Value::Null, "inventory.events: it may be left out"),
        ("/$defs/Timestamp/format".to_owned(), Value::Null, "sealed_at: `format` was"),
        // Another field refers to the same, and still does.
        (
            "/properties/last_lsn".to_owned(),
            json!({"type": "string", "minimum": 0, "format": "u-int64"}),
            "inventory.last_lsn: its type",
        ),
    ] {
        let broken = broken_schema("batch.inventory", &batch, &changed(&batch, &pointer, to));
        assert!(broken.iter().any(|b| b.contains(at)), "{pointer}: {broken:?}");
        assert_eq!(broken.len(), 1, "{broken:?}");
    }
    let more = changed(&batch, "/properties/region", json!({"type": "string"}));
    let more = changed(&more, &format!("{movement}/-"), "damaged".into());
    assert_eq!(broken_schema("batch.inventory", &batch, &more), Vec::<String>::new());
}

#[test]
fn a_report_must_be_taken_as_before() {
    let old = schema("entity.invoice");
    for (pointer, to, at) in [
        ("/required/-", json!("tax"), "invoice.tax: it is required now"),
        ("/properties/tax", Value::Null, "invoice.tax: it is gone"),
        ("/$defs/Reference/maxLength", json!(9), "invoice_id: `maxLength`"),
    ] {
        let broken = broken_schema("entity.invoice", &old, &changed(&old, pointer, to));
        assert!(broken.iter().any(|b| b.contains(at)), "{pointer}: {broken:?}");
    }
    // What was let through and is refused now.
    let lenient = changed(&old, "/additionalProperties", Value::Null);
    let broken = broken_schema("entity.invoice", &lenient, &old);
    assert_eq!(broken, ["entity.invoice: what it does not name is refused now"]);
    assert_eq!(broken_schema("entity.invoice", &old, &lenient), Vec::<String>::new());
    let more = changed(&old, "/properties/memo", json!({"type": "string"}));
    assert_eq!(broken_schema("entity.invoice", &old, &more), Vec::<String>::new());
}

#[test]
fn a_break_of_the_api_is_named_and_an_addition_is_none() {
    let api = openapi();
    let schemas = "/components/schemas";
    let get = "/paths/~1v1~1orders~1{order_id}/get";
    for (pointer, to, at) in [
        (format!("{schemas}/OrderView/properties/total"), Value::Null, ".total: it is gone"),
        (
            index(&api, &format!("{schemas}/ReservationState/enum"), "expired"),
            Value::Null,
            ".state: `expired`",
        ),
        (
            format!("{schemas}/Reserve/required/-"),
            "customer".into(),
            "request.customer: it is required",
        ),
        (
            format!("{schemas}/Extend/properties/ttl_ms/type"),
            "string".into(),
            "request.ttl_ms: its type",
        ),
        (get.to_owned(), Value::Null, "GET /v1/orders/{order_id}: it is gone"),
        (
            "/paths/~1v1~1reservations/post/responses/201/headers/Idempotent-Replayed".to_owned(),
            Value::Null,
            "201 header Idempotent-Replayed: it is gone",
        ),
        (format!("{get}/responses/200"), Value::Null, "200: it is no longer an answer"),
        (
            format!("{get}/parameters/-"),
            json!({"name": "tenant", "in": "query", "required": true, "schema": {"type": "string"}}),
            "parameter \"tenant\": it is required now",
        ),
    ] {
        let broken = broken_api(&api, &changed(&api, &pointer, to));
        assert!(broken.iter().any(|b| b.contains(at)), "{pointer}: {broken:?}");
    }
    let mut more = api.clone();
    let route = json!({"responses": {"200": {"description": "new"}}});
    more["paths"]["/v1/new"] = Value::Object(Map::from_iter([("get".to_owned(), route)]));
    more["components"]["schemas"]["OrderView"]["properties"]["region"] = json!({"type": "string"});
    more["components"]["schemas"]["Reserve"]["properties"]["region"] = json!({"type": "string"});
    assert_eq!(broken_api(&api, &more), Vec::<String>::new());
}

#[test]
fn a_break_of_a_channel_is_named_and_an_addition_is_none() {
    let document = files()["asyncapi"].clone();
    for (pointer, to, at) in [
        ("/channels/alerts", Value::Null, "alerts: it is gone"),
        ("/channels/nats/address", json!("shop.{type}"), "nats: its address"),
        ("/channels/kafka/messages/order.placed", Value::Null, "kafka order.placed: it is gone"),
        ("/operations/deliver.finance", Value::Null, "deliver.finance: it is no longer done"),
        ("/components/messages/alert/contentType", json!("text/plain"), "alert: `contentType`"),
        (
            "/components/messages/batch.finance/payload/schema/$ref",
            json!("/schemas/v1/batch.stream"),
            "finance batch: `payload`",
        ),
        (
            "/components/schemas/alertHeaders/properties/webhook-id",
            Value::Null,
            "alerts alert headers.webhook-id: it is gone",
        ),
    ] {
        let broken = broken_channels(&document, &changed(&document, pointer, to));
        assert!(broken.iter().any(|b| b.contains(at)), "{pointer}: {broken:?}");
    }
    let more = changed(&document, "/channels/mqtt", json!({"address": "holdfast"}));
    let header = "/components/schemas/batchHeaders/properties/holdfast-region";
    let more = changed(&more, header, json!({"type": "string"}));
    assert_eq!(broken_channels(&document, &more), Vec::<String>::new());
}
