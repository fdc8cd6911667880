//! Parses bodies: JSON in UTF-8, an object, no unknown and no repeated field, nothing behind it.
//! What is wrong is named as a path (`lines[2].quantity`).

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, error::Category};

use super::{codes, problem::Problem, strict::Strict};

/// What a problem with the body as a whole names.
const BODY: &str = "body";

/// Parses a whole body.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::malformed(BODY, "is empty; a JSON object is needed"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = T::deserialize(Strict(&mut json)).and_then(|value| json.end().map(|()| value));
    // Only what is refused is read again to find where: keeping track costs as much as the parsing.
    parsed.or_else(|_| parse_tracking(bytes))
}

/// Parses a body and names what is wrong with it.
fn parse_tracking<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(Strict(&mut json)).map_err(|error| {
        let path = error.path().to_string();
        named(&path, &error.into_inner())
    })?;
    json.end().map_err(|error| Problem::malformed(BODY, &format!("is not JSON: {error}")))?;
    Ok(value)
}

/// Reads a body that may be anything, as long as it is JSON.
pub(super) fn any(bytes: &[u8]) -> Result<Value, Problem> {
    let not_json = |error| Problem::malformed(BODY, &format!("is not JSON: {error}"));
    serde_json::from_slice(bytes).map_err(not_json)
}

/// Reads an object that is parsed already as strictly as [`parse`] reads a body.
pub(super) fn object<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Strict(Value::Object(fields))).map_err(|error| {
        let path = error.path().to_string();
        named(&path, &error.into_inner())
    })
}

/// Names the field that a parser's error is about.
fn named(path: &str, error: &serde_json::Error) -> Problem {
    if error.classify() != Category::Data {
        return Problem::malformed(BODY, &format!("is not JSON: {error}"));
    }
    let message = without_place(error);
    let parent = if path == "." { "" } else { path };
    if let Some(field) = quoted(&message, "missing field `", "`") {
        return Problem::malformed(joined(parent, field), "is missing");
    }
    if let Some(field) = quoted(&message, "duplicate field `", "`") {
        return Problem::malformed(joined(parent, field), "is given twice");
    }
    if let Some(field) = quoted(&message, "unknown field `", "`, ") {
        return Problem::malformed(joined(unknown_parent(parent, field), field), "is unknown");
    }
    let field = if parent.is_empty() { BODY } else { parent };
    Problem::malformed(field, &message)
}

/// The message without the parser's ` at line 1 column 2`: the path says it better.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&place).unwrap_or(&message).to_owned()
}

/// What stands between the two, at the beginning of the message.
fn quoted<'a>(message: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = message.strip_prefix(before)?;
    rest.find(after).or_else(|| rest.rfind('`')).map(|end| &rest[..end])
}

/// The path of an unknown field may or may not end in the field itself.
fn unknown_parent<'a>(path: &'a str, field: &str) -> &'a str {
    path.strip_suffix(field).map_or(path, |parent| parent.strip_suffix('.').unwrap_or(parent))
}

fn joined(parent: &str, field: &str) -> String {
    if parent.is_empty() { field.to_owned() } else { format!("{parent}.{field}") }
}

/// Whether a media type is JSON in UTF-8; parameters but the charset are tolerated.
pub(super) fn check_media_type(content_type: &str, wanted: &str) -> Result<(), Problem> {
    let mut parts = content_type.split(';');
    let essence = parts.next().unwrap_or_default().trim();
    let other_charset = parts.filter_map(|p| p.split_once('=')).any(|(name, value)| {
        name.trim().eq_ignore_ascii_case("charset")
            && !matches!(
                value.trim().trim_matches('"').to_ascii_lowercase().as_str(),
                "utf-8" | "utf8"
            )
    });
    if !essence.eq_ignore_ascii_case(wanted) || other_charset {
        let detail = format!("the body must be {wanted} in UTF-8");
        return Err(Problem::detailed(&codes::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::command::{AdjustStock, Reserve, SetStock};

    fn field<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> String {
        let problem = parse::<T>(body.as_bytes()).unwrap_err();
        let json: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
        assert_eq!(json["code"], "malformed");
        json["field"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_wrong_field_is_named() {
        assert_eq!(field::<SetStock>("{}"), "on_hand");
        assert_eq!(field::<SetStock>(r#"{"on_hand": -1}"#), "on_hand");
        assert_eq!(field::<SetStock>(r#"{"on_hand": 1.0}"#), "on_hand");
        assert_eq!(field::<SetStock>(r#"{"on_hand": "1"}"#), "on_hand");
        assert_eq!(field::<SetStock>(r#"{"on_hand": 1, "on_hand": 1}"#), "on_hand");
        assert_eq!(field::<SetStock>(r#"{"on_hand": 1, "onhand": 1}"#), "onhand");
        assert_eq!(
            field::<SetStock>(r#"{"on_hand": 1, "per_customer_limit": "x"}"#),
            "per_customer_limit"
        );
        let line = |line: &str| field::<Reserve>(&format!(r#"{{"lines": [{line}]}}"#));
        assert_eq!(line(r#"{"sku": "A"}"#), "lines[0].quantity");
        assert_eq!(line(r#"{"sku": "A", "quantity": 0}"#), "lines[0].quantity");
        assert_eq!(line(r#"{"sku": "A", "quantity": 1, "qty": 1}"#), "lines[0].qty");
        assert_eq!(line(r#"{"sku": "A", "sku": "B", "quantity": 1}"#), "lines[0].sku");
        assert_eq!(line(r#"{"sku": " A", "quantity": 1}"#), "lines[0].sku");
        assert_eq!(line(r#"{"sku": null, "quantity": 1}"#), "lines[0].sku");
        assert_eq!(line(r#"{"sku": "A", "quantity": 1}, 7"#), "lines[1]");
        assert_eq!(field::<Reserve>(r#"{"lines": {}}"#), "lines");
        let adjust = r#"{"sku": "A", "location": "B", "delta": 1, "reason": "gift"}"#;
        assert_eq!(field::<AdjustStock>(adjust), "reason");
    }

    #[test]
    fn only_an_object_is_an_object_and_only_a_word_is_a_word() {
        assert_eq!(field::<SetStock>("[100]"), "body");
        assert_eq!(field::<SetStock>("100"), "body");
        assert_eq!(field::<SetStock>("null"), "body");
        assert_eq!(field::<Reserve>(r#"{"lines": [["A", 1]]}"#), "lines[0]");
        let adjust = r#"{"sku": "A", "location": "B", "delta": 1, "reason": {"count": null}}"#;
        assert_eq!(field::<AdjustStock>(adjust), "reason");
    }

    #[test]
    fn what_is_not_json_is_said_to_be_so() {
        for body in [
            "",
            " \n",
            "{",
            "{]",
            "{\"on_hand\": 1} {}",
            "{\"on_hand\": 1} x",
            "\u{feff}{}",
            "{\"a",
        ] {
            assert_eq!(field::<SetStock>(body), "body", "{body:?}");
        }
        assert!(parse::<SetStock>(b"{\"on_hand\": 1, \"\xff\": 1}").is_err());
        assert!(parse::<SetStock>(&b"[".repeat(100_000)).is_err());
    }

    #[test]
    fn what_is_right_is_taken_as_it_is() {
        let set: SetStock = parse(br#"{"on_hand": 3, "per_customer_limit": null}"#).unwrap();
        assert_eq!(set.on_hand.get(), 3);
        assert_eq!(set.per_customer_limit, Some(None));
        let set: SetStock = parse(br#" {"on_hand": 3, "per_customer_limit": 2} "#).unwrap();
        assert_eq!(set.per_customer_limit.flatten().map(|limit| limit.get()), Some(2));
        let reserve: Reserve = parse(br#"{"lines": [{"sku": "A", "quantity": 1}]}"#).unwrap();
        assert!(reserve.lines[0].split);
    }

    #[test]
    fn a_charset_is_tolerated_if_it_is_utf_8() {
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;x=y"]
        {
            assert!(check_media_type(good, "application/json").is_ok(), "{good}");
        }
        for bad in ["", "text/json", "application/json; charset=latin1", "application/jsonx"] {
            assert!(check_media_type(bad, "application/json").is_err(), "{bad}");
        }
    }
}
