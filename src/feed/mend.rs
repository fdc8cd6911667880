//! A letter's content, changed by a person: its lines may say something else, but they are the same
//! lines.

use serde_json::{Map, Value};

use crate::model::sink::body::{EVENT_ID, LISTS};

/// A body with the arrays of `content` in place of its own.
///
/// # Errors
/// What does not fit: other lines, no array of the body, an entry that does not balance.
pub(super) fn mend(body: &[u8], content: &Value) -> Result<Vec<u8>, String> {
    let body: Value =
        serde_json::from_slice(body).map_err(|e| format!("the letter's own is no JSON: {e}"))?;
    let mended = match (body, content) {
        (Value::Object(body), Value::Object(content)) => Value::Object(mend_arrays(body, content)?),
        (Value::Array(old), Value::Array(new)) => {
            same_items(&old, new, EVENT_ID)?;
            Value::Array(new.clone())
        }
        (Value::Object(_), _) => return Err("must be an object".into()),
        _ => return Err("must be an array".into()),
    };
    serde_json::to_vec(&mended).map_err(|e| e.to_string())
}

fn mend_arrays(
    mut body: Map<String, Value>,
    content: &Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    let mut changed = false;
    for (name, id) in LISTS {
        let (Some(Value::Array(old)), Some(new)) = (body.get(name), content.get(name)) else {
            continue;
        };
        let new = new.as_array().ok_or_else(|| format!("{name}: must be an array"))?;
        same_items(old, new, id).map_err(|e| format!("{name}: {e}"))?;
        if name == "entries" {
            new.iter().try_for_each(balanced)?;
        }
        body.insert(name.to_owned(), Value::Array(new.clone()));
        changed = true;
    }
    if !changed {
        return Err("has none of the letter's lists of lines".into());
    }
    Ok(body)
}

/// Checks that two lists have the same items by their ids, in the same order.
fn same_items(old: &[Value], new: &[Value], id: &str) -> Result<(), String> {
    let ids = |items: &[Value]| -> Vec<Option<String>> {
        items.iter().map(|item| item.get(id)?.as_str().map(str::to_owned)).collect()
    };
    match ids(old) == ids(new) {
        true => Ok(()),
        false => Err(format!("must have the same `{id}`s in the same order")),
    }
}

fn balanced(entry: &Value) -> Result<(), String> {
    let postings = entry.get("postings").and_then(Value::as_array);
    let amount = |posting: &Value, side: &str| {
        posting.get(side).map_or(Some(0), Value::as_i64).map(i128::from)
    };
    let sum = postings.and_then(|postings| {
        postings.iter().try_fold(0_i128, |sum, posting| {
            Some(sum + amount(posting, "debit")? - amount(posting, "credit")?)
        })
    });
    match sum {
        Some(0) => Ok(()),
        Some(_) => Err("entries: an entry does not balance".into()),
        None => Err("entries: an entry's postings are no amounts".into()),
    }
}

/// A body under another name.
pub(super) fn renamed(body: &[u8], id: &str) -> Vec<u8> {
    let Ok(Value::Object(mut object)) = serde_json::from_slice::<Value>(body) else {
        return body.to_vec();
    };
    object.insert("batch_id".to_owned(), id.into());
    serde_json::to_vec(&object).unwrap_or_else(|_| body.to_vec())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body() -> Vec<u8> {
        let lines = json!([{"line_id": "e.1", "sku": "A"}, {"line_id": "e.2", "sku": "B"}]);
        serde_json::to_vec(&json!({"batch_id": "e", "lines": lines})).unwrap()
    }

    #[test]
    fn lines_may_say_something_else_but_are_the_same_lines() {
        let new =
            json!({"lines": [{"line_id": "e.1", "sku": "C"}, {"line_id": "e.2", "sku": "B"}]});
        let mended: Value = serde_json::from_slice(&mend(&body(), &new).unwrap()).unwrap();
        assert_eq!((&mended["batch_id"], &mended["lines"]), (&json!("e"), &new["lines"]));
        for wrong in [
            json!({"lines": [{"line_id": "e.1"}]}),
            json!({"lines": [{"line_id": "e.2"}, {"line_id": "e.1"}]}),
            json!({"lines": 3}),
            json!({"entries": []}),
            json!([]),
        ] {
            assert!(mend(&body(), &wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_entry_must_balance() {
        let entry = |credit: i64| {
            json!({"entries": [{"entry_id": "b.1", "postings": [
                {"account": "a", "debit": 5, "credit": 0}, {"account": "b", "debit": 0, "credit": credit},
            ]}]})
        };
        let body = serde_json::to_vec(&entry(5)).unwrap();
        assert!(mend(&body, &entry(5)).is_ok());
        assert_eq!(mend(&body, &entry(4)).unwrap_err(), "entries: an entry does not balance");
    }

    #[test]
    fn a_body_gets_another_name() {
        let renamed: Value = serde_json::from_slice(&renamed(&body(), "f")).unwrap();
        assert_eq!(renamed["batch_id"], "f");
        assert_eq!(renamed["lines"][1]["line_id"], "e.2");
    }
}
