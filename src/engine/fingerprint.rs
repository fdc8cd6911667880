//! What a command is fed to a hash as: field by field, as serde walks it, into one buffer. Writing it
//! as JSON first would say the same and cost several times as much.
//!
//! # What it promises
//!
//! - Different values are different bytes: texts and lists have their length in front of them, and every
//!   value begins with what it is.
//! - A field that a later version adds and that is left out where it is not given changes nothing, as
//!   fields are fed with their names.
//! - The bytes are the same in every later version, since hashes of them are in the log.

use serde::ser::{self, Serialize};

/// What begins a value.
#[derive(Clone, Copy)]
enum Tag {
    None,
    Some,
    False,
    True,
    Signed,
    Unsigned,
    Text,
    Bytes,
    Word,
    List,
    Fields,
    End,
}

/// The bytes that are hashed.
pub(super) struct Feed<'a>(pub(super) &'a mut Vec<u8>);

impl Feed<'_> {
    /// A text, its length first.
    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A number.
    pub(super) fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// A text that may be absent.
    pub(super) fn optional(&mut self, text: Option<&str>) {
        self.number(u64::from(text.is_some()));
        self.text(text.unwrap_or(""));
    }

    /// Any value. Commands have nothing that can't be fed (see [`Unfed`]), and tests feed each of them.
    pub(super) fn value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Unfed> {
        value.serialize(self)
    }

    fn tag(&mut self, tag: Tag) {
        self.0.push(tag as u8);
    }

    /// A value of eight bytes, with its tag in one piece.
    fn word(&mut self, tag: Tag, word: u64) {
        let mut bytes = [tag as u8; 9];
        bytes[1..].copy_from_slice(&word.to_le_bytes());
        self.0.extend_from_slice(&bytes);
    }

    /// The name of a field or of a variant. In line, since the compiler knows it wherever it is fed.
    #[inline(always)]
    fn name(&mut self, name: &'static str) {
        self.0.reserve(2 + name.len());
        self.0.extend_from_slice(&[Tag::Word as u8, name.len() as u8]);
        self.0.extend_from_slice(name.as_bytes());
    }
}

/// A value that no command has: one that refuses to be serialised.
#[derive(Debug, thiserror::Error)]
#[error("a value refused to be serialised")]
pub(super) struct Unfed;

impl ser::Error for Unfed {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

type Fed = Result<(), Unfed>;

/// Methods that feed a signed number.
macro_rules! signed {
    ($($method:ident $type:ty),+) => {
        $(#[inline]
        fn $method(self, value: $type) -> Fed {
            self.word(Tag::Signed, i64::from(value).cast_unsigned());
            Ok(())
        })+
    };
}

impl<'f, 'b> ser::Serializer for &'f mut Feed<'b> {
    type Ok = ();
    type Error = Unfed;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    signed! { serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64 }

    fn serialize_u8(self, value: u8) -> Fed {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Fed {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Fed {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> Fed {
        self.word(Tag::Unsigned, value);
        Ok(())
    }

    fn serialize_bool(self, value: bool) -> Fed {
        self.tag(if value { Tag::True } else { Tag::False });
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Fed {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Fed {
        self.serialize_u64(value.to_bits())
    }

    fn serialize_char(self, value: char) -> Fed {
        self.serialize_u32(value.into())
    }

    fn serialize_str(self, value: &str) -> Fed {
        self.word(Tag::Text, value.len() as u64);
        self.0.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Fed {
        self.word(Tag::Bytes, value.len() as u64);
        self.0.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Fed {
        self.tag(Tag::None);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Fed {
        self.tag(Tag::Some);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Fed {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Fed {
        self.serialize_none()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Fed {
        self.name(variant);
        Ok(())
    }

    fn serialize_newtype_struct<T>(self, _: &'static str, value: &T) -> Fed
    where
        T: Serialize + ?Sized,
    {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Fed
    where
        T: Serialize + ?Sized,
    {
        self.name(variant);
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Unfed> {
        self.tag(Tag::List);
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Unfed> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Unfed> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, Unfed> {
        self.name(variant);
        self.serialize_seq(None)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Unfed> {
        self.tag(Tag::Fields);
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Unfed> {
        self.serialize_map(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, Unfed> {
        self.name(variant);
        self.serialize_map(None)
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Fed {
        use std::io::Write;
        self.tag(Tag::Text);
        let length_at = self.0.len();
        self.number(0);
        let begin = self.0.len();
        write!(self.0, "{value}").map_err(|_| Unfed)?;
        let length = (self.0.len() - begin) as u64;
        self.0[length_at..begin].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }
}

/// What has elements: each is fed, and an end.
macro_rules! elements {
    ($($of:ident $method:ident),+) => {
        $(impl ser::$of for &mut Feed<'_> {
            type Ok = ();
            type Error = Unfed;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Fed {
                value.serialize(&mut **self)
            }

            fn end(self) -> Fed {
                self.tag(Tag::End);
                Ok(())
            }
        })+
    };
}

elements! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
}

/// What has named fields: each is fed with its name, and an end. One that is left out is nothing.
macro_rules! fields {
    ($($of:ident),+) => {
        $(impl ser::$of for &mut Feed<'_> {
            type Ok = ();
            type Error = Unfed;

            #[inline]
            fn serialize_field<T>(&mut self, name: &'static str, value: &T) -> Fed
            where
                T: Serialize + ?Sized,
            {
                self.name(name);
                value.serialize(&mut **self)
            }

            fn end(self) -> Fed {
                self.tag(Tag::End);
                Ok(())
            }
        })+
    };
}

fields! { SerializeStruct, SerializeStructVariant }

impl ser::SerializeMap for &mut Feed<'_> {
    type Ok = ();
    type Error = Unfed;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Fed {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Fed {
        value.serialize(&mut **self)
    }

    fn end(self) -> Fed {
        self.tag(Tag::End);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;
    use crate::model::command::{AdjustStock, PlaceOrder, Ship};

    fn fed(value: &impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        Feed(&mut bytes).value(value).unwrap();
        bytes
    }

    #[test]
    fn what_differs_is_fed_differently() {
        let place = |change: fn(&mut serde_json::Value)| {
            let mut body = json!({"order_id": "O", "currency": "EUR", "lines": [
                {"sku": "A", "quantity": 1, "unit_price": 5},
                {"sku": "B", "quantity": 2, "unit_price": 6, "tax_code": "T"},
            ]});
            change(&mut body);
            fed(&serde_json::from_value::<PlaceOrder>(body).unwrap())
        };
        let all = [
            place(|_| ()),
            place(|body| body["order_id"] = "P".into()),
            place(|body| body["customer"] = "P".into()),
            place(|body| body["currency"] = "USD".into()),
            place(|body| body["prices"] = "net".into()),
            place(|body| body["priority"] = "bulk".into()),
            place(|body| body["shipping"] = 1.into()),
            place(|body| body["shipping_tax"] = 1.into()),
            place(|body| body["promised_ship_at"] = "2026-01-01T00:00:00Z".into()),
            place(|body| body["reservations"] = json!(["r000000000000000100000002"])),
            place(|body| body["reservations"] = json!(["r000000000000000200000001"])),
            place(|body| body["lines"][0]["sku"] = "AB".into()),
            place(|body| body["lines"][0]["quantity"] = 2.into()),
            place(|body| body["lines"][0]["location"] = "X".into()),
            place(|body| body["lines"][0]["split"] = false.into()),
            place(|body| body["lines"][0]["tax_code"] = "T".into()),
            place(|body| body["lines"][0]["unit_cost"] = 0.into()),
            place(|body| body["lines"].as_array_mut().unwrap().reverse()),
            place(|body| body["lines"].as_array_mut().unwrap().truncate(1)),
        ];
        let len = all.len();
        assert_eq!(HashSet::from(all).len(), len);
    }

    #[test]
    fn ends_and_kinds_can_not_be_confused() {
        let all = [
            fed(&("ab", "c")),
            fed(&("a", "bc")),
            fed(&(("a",), "bc")),
            fed(&(Some("a"), "bc")),
            fed(&(None::<u8>, "a", "bc")),
            fed(&(1_u8, 2_i8)),
            fed(&(1_u16, 2_u8)),
            fed(&(true, false)),
            fed(&[[1_u8, 2], [3, 4]]),
            fed(&[1_u8, 2, 3, 4]),
            fed(&'a'),
            fed(&()),
        ];
        let len = all.len();
        assert_eq!(HashSet::from(all).len(), len);
    }

    /// A field that a later version adds changes nothing for those who don't give it.
    #[test]
    fn a_field_that_is_left_out_is_nothing() {
        #[derive(serde::Serialize)]
        struct Older<'a> {
            shipment_id: &'a str,
            lines: [(); 0],
            carrier: &'a str,
        }
        let newer = r#"{"shipment_id":"S","lines":[],"carrier":"C"}"#;
        let newer: Ship = serde_json::from_str(newer).unwrap();
        let Ship { carrier, .. } = &newer;
        assert!(carrier.is_some() && newer.tracking.is_none());
        let older = Older { shipment_id: "S", lines: [], carrier: "C" };
        // An optional field says that it is there.
        let some = fed(&older).len() + 1;
        assert_eq!(fed(&newer).len(), some);
        let adjust = r#"{"sku":"A","location":"B","delta":-1,"reason":"count"}"#;
        let adjust: AdjustStock = serde_json::from_str(adjust).unwrap();
        assert!(!fed(&adjust).windows(9).any(|bytes| bytes == b"reference"));
    }
}
