//! The canonical bodies, taken apart and put together again with some of their items.
//!
//! A body is a JSON object with arrays of items: `lines` and `orders` and `cancellations` (named by
//! `line_id`), `entries` (`entry_id`); or an array of CloudEvents (`id`). A part is the same object with some
//! of the items: everything else, digests and numbers of whatever size included, stays byte for byte as it
//! was sealed; only `batch_id` becomes the part's own. A body that is none of these is one piece.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::items::Items;
use crate::model::sink::body::{EVENT_ID, id_field};

/// The field that a part's own id replaces.
const BATCH_ID: &str = "batch_id";

/// One field of the object.
#[derive(Debug)]
enum Field {
    /// Key and value as they were.
    Kept(String, Bytes),
    /// The id of the batch.
    BatchId,
    /// Key, and the places of the items in its array.
    Items(String, std::ops::Range<u32>),
}

#[derive(Debug)]
struct Item {
    id: String,
    bytes: Bytes,
}

/// A body in its parts.
#[derive(Debug)]
pub(super) struct Content {
    /// None: the body is the array itself.
    fields: Option<Vec<Field>>,
    items: Vec<Item>,
}

impl Content {
    /// Takes a body apart; `None` if it is one piece.
    pub fn parse(body: &Bytes) -> Option<Self> {
        let mut content = Self { fields: None, items: Vec::new() };
        if let Ok(Object(fields)) = serde_json::from_slice(body) {
            let fields = fields.into_iter().map(|(key, value)| content.field(body, key, value));
            content.fields = Some(fields.collect::<Option<_>>()?);
        } else {
            content.take(body, serde_json::from_slice(body).ok()?, EVENT_ID)?;
        }
        (!content.items.is_empty()).then_some(content)
    }

    fn field(&mut self, body: &Bytes, key: String, value: &RawValue) -> Option<Field> {
        if key == BATCH_ID {
            return Some(Field::BatchId);
        }
        let Some(id) = id_field(&key).filter(|_| value.get().starts_with('[')) else {
            return Some(Field::Kept(key, body.slice_ref(value.get().as_bytes())));
        };
        let begin = self.items.len() as u32;
        self.take(body, serde_json::from_str(value.get()).ok()?, id)?;
        Some(Field::Items(key, begin..self.items.len() as u32))
    }

    fn take(&mut self, body: &Bytes, items: Vec<&RawValue>, id_field: &str) -> Option<()> {
        for item in items {
            let ids: Ids<'_> = serde_json::from_str(item.get()).ok()?;
            let id = match id_field {
                "line_id" => ids.line_id,
                "entry_id" => ids.entry_id,
                _ => ids.id,
            };
            let id = id?.into_owned();
            self.items.push(Item { id, bytes: body.slice_ref(item.get().as_bytes()) });
        }
        Some(())
    }

    /// The number of its items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The id of an item.
    pub fn id(&self, place: u32) -> &str {
        self.items.get(place as usize).map_or("", |item| &item.id)
    }

    /// The id of an item that stands alone.
    pub fn only(&self, items: &Items) -> Option<&str> {
        (items.len() == 1).then(|| items.iter().next()).flatten().map(|place| self.id(place))
    }

    /// Whether it is an array of events, which have one id wherever they go.
    pub fn is_stream(&self) -> bool {
        self.fields.is_none()
    }

    /// The bytes of the items alone.
    pub fn bytes(&self, items: &Items) -> usize {
        items.iter().filter_map(|place| self.items.get(place as usize)).map(|i| i.bytes.len()).sum()
    }

    /// The body of a part.
    pub fn render(&self, part_id: &str, items: &Items) -> Bytes {
        let mut out = Vec::with_capacity(self.bytes(items) + items.len() + 512);
        let Some(fields) = &self.fields else {
            self.array(&mut out, items.iter());
            return out.into();
        };
        out.push(b'{');
        for (n, field) in fields.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            match field {
                Field::Kept(key, value) => {
                    name(&mut out, key);
                    out.extend_from_slice(value);
                }
                Field::BatchId => {
                    name(&mut out, BATCH_ID);
                    text(&mut out, part_id);
                }
                Field::Items(key, places) => {
                    name(&mut out, key);
                    self.array(&mut out, items.iter().filter(|place| places.contains(place)));
                }
            }
        }
        out.push(b'}');
        out.into()
    }

    fn array(&self, out: &mut Vec<u8>, places: impl Iterator<Item = u32>) {
        out.push(b'[');
        let items = places.filter_map(|place| self.items.get(place as usize));
        for (n, item) in items.enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&item.bytes);
        }
        out.push(b']');
    }
}

fn name(out: &mut Vec<u8>, key: &str) {
    text(out, key);
    out.push(b':');
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
}

/// What may name an item.
#[derive(Deserialize)]
struct Ids<'a> {
    #[serde(borrow, default)]
    line_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    entry_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
}

/// An object's fields in their order, which serde_json's own map would sort.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Option<Content> {
        Content::parse(&Bytes::copy_from_slice(body.as_bytes()))
    }

    const LINES: &str = r#"{"batch_id":"erp-1","z":1.0e400,"events":12345678901234567890123,"a":{"lines":[1]},"lines":[{"line_id":"erp-1.1","sku":"\u00e9","quantity":-3},{"line_id":"erp-1.2"},{"sku":"x","line_id":"erp-1.3"}]}"#;

    #[test]
    fn a_part_has_its_items_and_everything_else_byte_for_byte() {
        let content = parse(LINES).unwrap();
        assert_eq!((content.len(), content.id(2)), (3, "erp-1.3"));
        assert_eq!(content.render("erp-1", &Items::all(3)), LINES);
        let part = content.render("erp-1.a", &Items::of([(0, 1), (2, 3)]));
        let expected = LINES.replace("\"erp-1\"", "\"erp-1.a\"");
        assert_eq!(part, expected.replace(r#",{"line_id":"erp-1.2"}"#, ""));
    }

    #[test]
    fn white_space_between_the_fields_does_no_harm() {
        let content = parse(
            "{ \"batch_id\" : \"x\" , \"lines\" : [ {\"line_id\": \"1\"} , {\"line_id\": \"2\"} ] }",
        );
        let part = content.unwrap().render("x.b", &Items::one(1));
        assert_eq!(part, r#"{"batch_id":"x.b","lines":[{"line_id": "2"}]}"#);
    }

    #[test]
    fn entries_waves_and_events_are_items_too() {
        let books = r#"{"batch_id":"f","entries":[{"entry_id":"f.1","orders":3,"digest":"ab"},{"entry_id":"f.2","previous_digest":"ab"}]}"#;
        let part = parse(books).unwrap().render("f.b", &Items::one(1));
        assert_eq!(
            part,
            r#"{"batch_id":"f.b","entries":[{"entry_id":"f.2","previous_digest":"ab"}]}"#
        );

        let wave = r#"{"batch_id":"w","wave_id":"w","orders":[{"line_id":"w.1","lines":[{"sku":"x"}]}],"cancellations":[{"line_id":"w.2"}]}"#;
        let content = parse(wave).unwrap();
        assert_eq!(content.len(), 2);
        assert_eq!(
            content.render("w.b", &Items::one(1)),
            r#"{"batch_id":"w.b","wave_id":"w","orders":[],"cancellations":[{"line_id":"w.2"}]}"#
        );

        let stream = r#"[{"specversion":"1.0","id":"s.1"},{"id":"s.2","data":{"id":"no"}}]"#;
        let content = parse(stream).unwrap();
        assert_eq!(content.render("any", &Items::all(2)), stream);
        assert_eq!(content.render("any", &Items::one(1)), r#"[{"id":"s.2","data":{"id":"no"}}]"#);
    }

    #[test]
    fn what_has_no_items_or_items_without_a_name_is_one_piece() {
        for body in [
            "",
            "{}",
            "[]",
            "7",
            "\u{feff}{}",
            r#"{"lines":[]}"#,
            r#"{"lines":{"line_id":"1"}}"#,
            r#"{"lines":[{"line_id":"1"},{"sku":"2"}]}"#,
            r#"{"lines":[{"line_id":7}]}"#,
            r#"{"lines":[{"line_id":"1"}"#,
            r#"{"lines":[[1]]}"#,
            r#"[{"line_id":"1"}]"#,
            r#"{"rows":[{"line_id":"1"}]}"#,
        ] {
            assert!(parse(body).is_none(), "{body}");
        }
    }
}
