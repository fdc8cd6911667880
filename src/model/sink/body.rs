//! Where a batch's body has its content: in lists of items, each with an id of its own. What takes a body
//! apart, changes it or leaves some of it out asks here, so that no domain is forgotten by one of them.

use serde_json::Value;

/// The lists that a body which is an object may have, and the field that names an item in each.
pub const LISTS: [(&str, &str); 4] = [
    ("lines", "line_id"),
    ("entries", "entry_id"),
    ("orders", "line_id"),
    ("cancellations", "line_id"),
];
/// The field that names an item of a body which is a list itself: a CloudEvent.
pub const EVENT_ID: &str = "id";

/// The field that names an item in the list of this name; `None`: it is no such list.
pub fn id_field(list: &str) -> Option<&'static str> {
    LISTS.iter().find(|(name, _)| *name == list).map(|(_, id)| *id)
}

/// Leaves items out of every list.
pub fn retain(body: &mut Value, mut keeps: impl FnMut(&Value) -> bool) {
    match body {
        Value::Array(items) => items.retain(keeps),
        Value::Object(object) => {
            let lists = object.iter_mut().filter(|(name, _)| id_field(name).is_some());
            for items in lists.filter_map(|(_, list)| list.as_array_mut()) {
                items.retain(&mut keeps);
            }
        }
        _ => {}
    }
}

/// The ids of all items: list after list, as [`LISTS`] has them; empty for one that has none.
pub fn item_ids(body: &Value) -> Vec<&str> {
    if body.is_array() {
        return ids(body, EVENT_ID);
    }
    let lists = LISTS.iter().filter_map(|(name, id)| Some((body.get(name)?, *id)));
    lists.flat_map(|(list, id)| ids(list, id)).collect()
}

fn ids<'a>(items: &'a Value, field: &str) -> Vec<&'a str> {
    let items = items.as_array().map_or(&[][..], Vec::as_slice);
    items.iter().map(|item| item.get(field).and_then(Value::as_str).unwrap_or("")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_list_is_seen() {
        let mut wave = json!({"location": "BER", "tags": [{"line_id": "x"}],
            "cancellations": [{"line_id": "w.2", "n": 2}, {"line_id": "w.3", "n": 3}],
            "orders": [{"line_id": "w.1", "n": 1}]});
        assert_eq!(item_ids(&wave), ["w.1", "w.2", "w.3"]);
        retain(&mut wave, |item| item["n"] == 3);
        assert_eq!((item_ids(&wave), &wave["orders"]), (vec!["w.3"], &json!([])));
        assert_eq!(wave["tags"], json!([{"line_id": "x"}]));
        let mut events = json!([{"id": "1"}, {"id": "2"}, {}]);
        assert_eq!(item_ids(&events), ["1", "2", ""]);
        retain(&mut events, |event| event["id"] == "2");
        assert_eq!(item_ids(&events), ["2"]);
        assert_eq!(item_ids(&json!({"entries": [{"entry_id": "b.1"}]})), ["b.1"]);
        assert_eq!(item_ids(&json!({"rows": [{"line_id": "1"}]})), Vec::<&str>::new());
    }
}
