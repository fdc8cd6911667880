//! Rules against payloads: what they make of good ones, of bad ones, and of anything at all.

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::model::command;

fn mapping(toml: &str) -> Result<Mapping, String> {
    #[derive(Deserialize)]
    struct File {
        rules: Vec<Rule>,
    }
    let file: File = toml::from_str(toml).map_err(|e| e.to_string())?;
    let mapping = Mapping(file.rules);
    mapping.check().map(|()| mapping)
}

/// A rule that makes a note of `text`, which is this expression.
fn note(expression: &str) -> Result<Mapping, String> {
    mapping(&format!(
        "[[rules]]\nthen = \"note\"\n[rules.fields]\norder_id = \"/o\"\nnote_id = \"/n\"\n\
         text = {expression}\n"
    ))
}

fn noted(expression: &str, mut payload: Value) -> Result<Value, Unmapped> {
    payload["o"] = json!("O-1");
    payload["n"] = json!("N-1");
    note(expression).unwrap().map(&payload).map(|mapped| mapped.fields["text"].clone())
}

fn refused(expression: &str, payload: Value) -> String {
    noted(expression, payload).unwrap_err().to_string()
}

#[test]
fn a_value_comes_from_where_the_rule_says() {
    let payload = || json!({"a": {"b/c": "x", "n": null, "i": 7, "t": true}, "l": [{"s": "y"}]});
    let get = |expression| noted(expression, payload()).unwrap();
    assert_eq!(get("\"/a/b~1c\""), "x");
    assert_eq!(get("\"/l/0/s\""), "y");
    assert_eq!(get("{ pointer = \"/a/b~1c\" }"), "x");
    assert_eq!(get("{ first = [\"/z\", \"/a/n\", \"/a/i\"] }"), 7);
    assert_eq!(get("{ constant = \"c\" }"), "c");
    assert_eq!(get("{ constant = -3 }"), -3);
    assert_eq!(get("{ pointer = \"/a/n\", default = \"d\" }"), "d");
    assert_eq!(get("{ pointer = \"/a/t\", default = false }"), true);
    let joined = "{ join = [{ constant = \"n \" }, \"/a/i\", { root = \"/a/t\" }] }";
    assert_eq!(get(joined), "n 7true");
    assert_eq!(get("{ join = [\"/z\", \"/a/i\"], default = \"d\" }"), "d");
}

#[test]
fn a_value_that_is_not_there_or_not_fit_is_named() {
    let text = "{ first = [\"/a\", \"/b\"] }";
    assert_eq!(
        refused(text, json!({"b": null})),
        "`text` has no value: the payload has nothing at `/a`, `/b`"
    );
    assert_eq!(refused("\"/a\"", json!({"a": []})), "`text` needs a text or a number at `/a`");
    assert_eq!(refused(text, json!({"b": {}})), "`text` needs a text or a number at `/b`");
    let long = refused("\"/a\"", json!({"a": "x".repeat(4_097)}));
    assert_eq!(long, "`text` is longer than 4096 bytes");
    let parts = "{ join = [\"/a\", \"/a\"] }";
    assert!(refused(parts, json!({"a": "x".repeat(4_000)})).contains("longer"));
}

#[test]
fn values_are_transformed_exactly_or_not_at_all() {
    let minor = "{ pointer = \"/a\", as = \"minor\", decimals = 2 }";
    for (expression, from, to) in [
        ("{ pointer = \"/a\", as = \"uppercase\" }", json!("eur"), json!("EUR")),
        ("{ pointer = \"/a\", as = \"text\" }", json!(1001), json!("1001")),
        ("{ pointer = \"/a\", as = \"text\" }", json!("x"), json!("x")),
        ("{ pointer = \"/a\", as = \"integer\" }", json!("-12"), json!(-12)),
        ("{ pointer = \"/a\", as = \"integer\" }", json!(12), json!(12)),
        ("{ pointer = \"/a\", as = \"negated\" }", json!(3), json!(-3)),
        (minor, json!("19.99"), json!(1999)),
        (minor, json!("-0.5"), json!(-50)),
        (minor, json!("19"), json!(1900)),
        (minor, json!("19.9900"), json!(1999)),
        (minor, json!(19.99), json!(1999)),
        (minor, json!(0.29), json!(29)),
        (minor, json!(1), json!(100)),
        (minor, json!(99_999_999_999.99), json!(9_999_999_999_999_i64)),
        ("{ pointer = \"/a\", as = \"minor\", decimals = 0 }", json!("7.0"), json!(7)),
    ] {
        assert_eq!(noted(expression, json!({"a": from})), Ok(to), "{expression} of {from}");
    }
    for (expression, from) in [
        ("{ pointer = \"/a\", as = \"uppercase\" }", json!(1)),
        ("{ pointer = \"/a\", as = \"integer\" }", json!("1.0")),
        ("{ pointer = \"/a\", as = \"integer\" }", json!("+1")),
        ("{ pointer = \"/a\", as = \"integer\" }", json!("")),
        ("{ pointer = \"/a\", as = \"integer\" }", json!(1.5)),
        ("{ pointer = \"/a\", as = \"negated\" }", json!("3")),
        ("{ pointer = \"/a\", as = \"negated\" }", json!(i64::MIN)),
        (minor, json!("19.999")),
        (minor, json!("19,99")),
        (minor, json!("1e3")),
        (minor, json!(1e300)),
        (minor, json!("")),
        (minor, json!(".5")),
        (minor, json!("5.")),
        (minor, json!("--5")),
        (minor, json!("99999999999999999999")),
        (minor, json!(true)),
    ] {
        let refused = noted(expression, json!({"a": from}));
        assert!(matches!(refused, Err(Unmapped::Value { .. })), "{expression} of {from}");
    }
}

#[test]
fn the_first_rule_that_holds_decides() {
    let rules = mapping(
        r#"
        [[rules]]
        when = { "/type" = "a", "/n" = [1, 2], "/there" = { present = true } }
        then = "ignore"
        [[rules]]
        when = { "/type" = "a", "/gone" = { present = false } }
        then = "note"
        fields = { order_id = "/o", note_id = { constant = "1" }, text = { constant = "t" } }
        "#,
    )
    .unwrap();
    let then = |payload: Value| rules.map(&payload).map(|mapped| mapped.operation);
    assert_eq!(then(json!({"type": "a", "n": 2, "there": 0})), Ok(Operation::Ignore));
    for other in [json!({"type": "a", "n": 3, "there": 0}), json!({"type": "a", "n": "1"})] {
        let mut other = other;
        other["o"] = json!("O");
        assert_eq!(then(other), Ok(Operation::Note));
    }
    let none = then(json!({"type": "a", "gone": 1})).unwrap_err();
    assert_eq!(none, Unmapped::NoRule { kind: Some("a".to_owned()) });
    assert!(none.to_string().contains("`a`"));
    let long = then(json!({"type": "x".repeat(65)})).unwrap_err();
    assert_eq!(long, Unmapped::NoRule { kind: None });
}

#[test]
fn lines_are_taken_whole_or_made_one_by_one() {
    let rule = |lines: &str| {
        let rule = "[[rules]]\nthen = \"shipment\"\n[rules.fields]\norder_id = \"/o\"\n\
                    shipment_id = \"/s\"\nlines = ";
        mapping(&format!("{rule}{lines}"))
    };
    let each = "{ each = \"/picks\", fields = { sku = \"/article\", \
                quantity = { pointer = \"/n\", as = \"integer\" }, location = { root = \"/from\" } } }";
    let mut payload = json!({"o": "O", "s": "S", "from": "BER",
        "picks": [{"article": "A", "n": "2"}, {"article": "B", "n": 1}]});
    let lines = json!([{"sku": "A", "quantity": 2, "location": "BER"},
        {"sku": "B", "quantity": 1, "location": "BER"}]);
    assert_eq!(rule(each).unwrap().map(&payload).unwrap().fields["lines"], lines);
    payload["picks"][1] = json!({"article": "B"});
    let missing = rule(each).unwrap().map(&payload).unwrap_err();
    assert!(missing.to_string().starts_with("`lines[1].quantity` has no value"), "{missing}");
    payload["picks"] = json!({});
    assert!(rule(each).unwrap().map(&payload).is_err());
    payload["picks"] = json!(vec![json!({"article": "A", "n": 1}); 1_001]);
    assert!(rule(each).unwrap().map(&payload).unwrap_err().to_string().contains("1000"));
    payload["picks"] = lines.clone();
    assert_eq!(rule("\"/picks\"").unwrap().map(&payload).unwrap().fields["lines"], lines);
    for (wrong, reason) in [
        ("{ constant = 1 }", "rules.0.fields.lines: must be a pointer to a list"),
        ("{ each = \"/p\", fields = { sku = \"/a\" } }", "must have `quantity` for `a line`"),
        (
            "{ each = \"/p\", fields = { sku = \"/a\", quantity = \"/b\", x = \"/c\" } }",
            "fields.x:",
        ),
        ("{ each = \"/p\" }", "need each other"),
    ] {
        let error = rule(wrong).unwrap_err();
        assert!(error.contains(reason), "{wrong}: {error}");
    }
}

#[test]
fn what_is_wrong_with_a_rule_is_found_without_a_payload() {
    for (expression, reason) in [
        ("\"data\"", "must begin with `/`"),
        ("\"/a~2\"", "`~` must be followed by 0 or 1"),
        ("\"/a~\"", "`~` must be followed by 0 or 1"),
        ("7", "a JSON pointer, or a table"),
        ("{}", "exactly one of"),
        ("{ pointer = \"/a\", constant = 1 }", "exactly one of"),
        ("{ constant = 1.5 }", "must be a text, an integer"),
        ("{ constant = 1, default = 2 }", "neither"),
        ("{ first = [] }", "1 to 16"),
        ("{ pointer = \"/a\", as = \"lowercase\" }", "unknown variant `lowercase`"),
        ("{ pointer = \"/a\", as = \"minor\" }", "needs `decimals`"),
        ("{ pointer = \"/a\", as = \"minor\", decimals = 5 }", "needs `decimals`"),
        ("{ pointer = \"/a\", decimals = 2 }", "goes with"),
        ("{ join = [{ join = [\"/a\"] }] }", "can't have a `join`"),
        ("{ each = \"/a\", fields = {} }", "only `lines`"),
        ("{ pointr = \"/a\" }", "unknown field `pointr`"),
    ] {
        let error = note(expression).unwrap_err();
        assert!(error.contains(reason), "{expression}: {error}");
    }
    for (rule, reason) in [
        ("then = \"refunds\"", "unknown variant `refunds`"),
        ("then = \"note\"", "rules.0.fields: must have `order_id` for `note`"),
        ("then = \"ignore\"\nfields = { a = \"/a\" }", "rules.0.fields.a: is no field of `ignore`"),
        ("then = \"ignore\"\nwhen = { type = \"a\" }", "must begin with `/`"),
        ("then = \"ignore\"\nwhen = { \"/type\" = 1.5 }", "must be a text, an integer"),
        ("then = \"ignore\"\nwen = {}", "unknown field `wen`"),
    ] {
        let error = mapping(&format!("[[rules]]\n{rule}\n")).unwrap_err();
        assert!(error.contains(reason), "{rule}: {error}");
    }
    let many = "[[rules]]\nthen = \"ignore\"\n";
    assert!(mapping(&many.repeat(100)).is_ok());
    assert!(mapping(&many.repeat(101)).unwrap_err().contains("at most 100"));
}

#[test]
fn without_rules_the_native_form_is_read() {
    let native = Mapping::default();
    let payload = json!({"type": "refund", "timestamp": "x", "data": {"order_id": "O"}});
    let mapped = native.map(&payload).unwrap();
    assert_eq!(mapped.operation, Operation::Refund);
    assert_eq!(Value::Object(mapped.fields), payload["data"]);
    let ignored = native.map(&json!({"type": "ignore"})).unwrap();
    assert_eq!(ignored.operation, Operation::Ignore);
    for other in [json!(null), json!([]), json!({}), json!({"type": 1}), json!({"type": "x"})] {
        assert!(matches!(native.map(&other), Err(Unmapped::NoRule { .. })), "{other}");
    }
    let none = native.map(&json!({"type": "note", "data": 1}));
    assert!(matches!(none, Err(Unmapped::Missing { .. })), "{none:?}");
}

/// The fields of a body, as its own type says them.
fn fields_of<T: DeserializeOwned>() -> Vec<String> {
    let Err(error) = serde_json::from_value::<T>(json!({"?": 0})) else { return Vec::new() };
    error.to_string().split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

/// The table of fields says what the commands say: the same names, needed where the type needs them.
#[track_caller]
fn same_fields<T: DeserializeOwned>(fields: Fields, in_the_path: &[&str], sample: Value) {
    let mut named: Vec<_> = fields.names().filter(|name| !in_the_path.contains(name)).collect();
    let mut known = fields_of::<T>();
    named.sort_unstable();
    known.sort_unstable();
    assert_eq!(named, known);
    for name in named {
        let mut rest = sample.clone();
        assert!(rest.as_object_mut().unwrap().remove(name).is_some(), "no {name} in the sample");
        // A hook needs the version, which the route does not.
        let required = fields.required.contains(&name) && name != "source_version";
        assert_eq!(serde_json::from_value::<T>(rest).is_err(), required, "{name}");
    }
    assert!(serde_json::from_value::<T>(sample).is_ok());
}

#[test]
fn the_fields_are_those_of_the_commands() {
    use Operation::*;
    let line = json!({"sku": "A", "quantity": 1, "location": "L"});
    let lines = json!([line]);
    let order = &["order_id"];
    let ship = json!({"shipment_id": "1", "lines": lines, "carrier": "c", "tracking": "t"});
    same_fields::<command::Ship>(Shipment.fields(), order, ship);
    let cancel = json!({"cancellation_id": "1", "lines": lines});
    same_fields::<command::Cancel>(Cancellation.fields(), order, cancel);
    let invoice = json!({"invoice_id": "1", "currency": "EUR", "amount": 1, "tax": 0});
    same_fields::<command::Invoice>(Invoice.fields(), order, invoice);
    let settle = json!({"settlement_id": "1", "currency": "EUR", "amount": 1, "fee": 0});
    same_fields::<command::Settle>(Settlement.fields(), order, settle);
    let refund = json!({"refund_id": "1", "currency": "EUR", "amount": 1, "tax": 0, "reason": "r"});
    same_fields::<command::Refund>(Refund.fields(), order, refund);
    let return_line = json!({"sku": "A", "quantity": 1});
    let back = json!({"return_id": "1", "lines": [return_line], "restock": true});
    same_fields::<command::AuthorizeReturn>(Return.fields(), order, back);
    let receive = json!({"receipt_id": "1", "lines": lines});
    same_fields::<command::ReceiveReturn>(Receipt.fields(), &["order_id", "return_id"], receive);
    let note = json!({"note_id": "1", "text": "t"});
    same_fields::<command::Note>(Note.fields(), order, note);
    let adjust = json!({"sku": "A", "location": "L", "delta": 1, "reason": "count",
        "reference": "r", "allow_shortfall": false});
    same_fields::<command::AdjustStock>(StockAdjustment.fields(), &[], adjust);
    let set = json!({"sku": "A", "location": "L", "on_hand": 1, "safety_stock": 0,
        "backorder_limit": 0, "per_customer_limit": 1, "source_version": 1, "as_of_lsn": 8,
        "allow_shortfall": false});
    same_fields::<command::ImportStock>(StockSet.fields(), &[], set);
    same_fields::<command::ShipLine>(Shipment.line_fields(), &[], line.clone());
    same_fields::<command::ShipLine>(Receipt.line_fields(), &[], line.clone());
    same_fields::<command::ReleaseLine>(Cancellation.line_fields(), &[], line);
    same_fields::<command::ReturnLine>(Return.line_fields(), &[], return_line);
}

const STRIPE: &str = include_str!("../../../examples/stripe.toml");

fn stripe() -> Mapping {
    #[derive(Deserialize)]
    struct File {
        partners: Vec<Partner>,
    }
    #[derive(Deserialize)]
    struct Partner {
        hook: Hook,
    }
    #[derive(Deserialize)]
    struct Hook {
        rules: Vec<Rule>,
    }
    let mut file: File = toml::from_str(STRIPE).unwrap();
    Mapping(file.partners.remove(0).hook.rules)
}

#[test]
fn rules_read_as_they_are_written() {
    #[derive(Serialize, Deserialize)]
    struct File {
        rules: Vec<Rule>,
    }
    let Mapping(rules) = stripe();
    assert!(rules.len() > 4);
    let written = toml::to_string(&File { rules: rules.clone() }).unwrap();
    assert_eq!(toml::from_str::<File>(&written).unwrap().rules, rules);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~äß]{0,12}".prop_map(Value::from),
    ];
    let names = "(id|type|data|object|metadata|order_id|amount|currency|lines|sku|refunds|0|a)";
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_payload_is_mapped_or_refused_without_a_panic(payload in any_json(), kind in 0..9_usize) {
        let kinds = ["charge.succeeded", "charge.refunded", "refund.created", "note", "receipt",
            "charge.dispute.created", "stock_set", "ignore", "shipment"];
        let mut event = json!({"type": kinds[kind], "data": {"object": payload}});
        let wide = mapping(
            "[[rules]]\nthen = \"shipment\"\n[rules.fields]\norder_id = \"/data/object/id\"\n\
             shipment_id = { join = [\"/data/object/a\", { root = \"/type\" }], default = \"d\" }\n\
             carrier = { pointer = \"/data/object/amount\", as = \"minor\", decimals = 2 }\n\
             tracking = { pointer = \"/data/object/amount\", as = \"negated\" }\n\
             lines = { each = \"/data/object/lines\", fields = { sku = \"/sku\", \
             quantity = { pointer = \"/amount\", as = \"integer\" }, location = { root = \"/type\" } } }",
        ).unwrap();
        for mapping in [&stripe(), &Mapping::default(), &wide] {
            if let Ok(mapped) = mapping.map(&event) {
                let known: Vec<_> = mapped.operation.fields().names().collect();
                let native = mapping.0.is_empty();
                prop_assert!(native || mapped.fields.keys().all(|k| known.contains(&k.as_str())));
            }
            if let Err(why) = mapping.map(&payload) {
                prop_assert!(!why.to_string().is_empty());
            }
        }
        event["data"] = payload;
        let _ = (stripe().map(&event), wide.map(&event));
    }

    #[test]
    fn decimals_become_minor_units_exactly(whole in -9_999_999_999_i64..=9_999_999_999, cents in 0..100_i64) {
        let expression = "{ pointer = \"/a\", as = \"minor\", decimals = 2 }";
        let text = format!("{whole}.{cents:02}");
        let expected = if whole < 0 { whole * 100 - cents } else { whole * 100 + cents };
        prop_assert_eq!(noted(expression, json!({"a": text})), Ok(json!(expected)));
        let number: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(noted(expression, json!({"a": number})), Ok(json!(expected)));
    }
}
