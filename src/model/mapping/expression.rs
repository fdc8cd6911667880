//! Where the value of a field comes from: a pointer, or a table that says more. Each is total: it
//! gives a value, nothing, or a reason, whatever the payload is.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, value::MapAccessDeserializer},
};
use serde_json::Value;

use super::Pointer;

/// The most pointers of a `first`, and parts of a `join`.
pub(super) const PARTS_MAX: usize = 16;
/// The most decimals of a currency.
const DECIMALS_MAX: u32 = 4;

/// A value that stands in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "must be a text, an integer, true or false")]
pub enum Constant {
    /// `true` or `false`.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A text.
    Text(String),
}

impl Constant {
    /// The same as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Boolean(value) => (*value).into(),
            Self::Integer(value) => (*value).into(),
            Self::Text(value) => value.as_str().into(),
        }
    }
}

/// What is done to a value on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// A text in capital letters: `eur` becomes `EUR`.
    Uppercase,
    /// A number as a text: `1001` becomes `"1001"`.
    Text,
    /// A text as an integer: `"12"` becomes `12`.
    Integer,
    /// An integer with the other sign: `3` becomes `-3`.
    Negated,
    /// A decimal number or text as an integer of minor units, with `decimals`: `"19.99"` becomes
    /// `1999`. Digits that would be lost are refused.
    Minor,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// What stands at the pointer; inside `each`, counted from the element.
    Pointer(Pointer),
    /// What stands at the pointer, counted from the payload's root inside `each` too.
    Root(Pointer),
    /// The first of these that is there.
    First(Vec<Pointer>),
    /// Always the same.
    Constant(Constant),
    /// Texts put together; nothing if one of them is not there.
    Join(Vec<Expression>),
    /// One object for each element of the array at the pointer.
    Each {
        /// The array.
        array: Pointer,
        /// What each element becomes.
        fields: BTreeMap<String, Expression>,
    },
}

/// How a field gets its value. In the configuration a plain text is a pointer, else a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// Where it comes from.
    pub origin: Origin,
    /// What it is if it is not there.
    pub default: Option<Constant>,
    /// What is done to it; not to the default.
    pub transform: Option<Transform>,
    /// The currency's decimals, with [`Transform::Minor`].
    pub decimals: u32,
}

/// An expression as the configuration has it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<Pointer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<Pointer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Vec<Pointer>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    constant: Option<Constant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<Constant>,
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    transform: Option<Transform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decimals: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    join: Option<Vec<Expression>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    each: Option<Pointer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<BTreeMap<String, Expression>>,
}

impl Table {
    fn origin(&mut self) -> Result<Origin, String> {
        let mut origins = Vec::new();
        origins.extend(self.pointer.take().map(Origin::Pointer));
        origins.extend(self.root.take().map(Origin::Root));
        origins.extend(self.first.take().map(Origin::First));
        origins.extend(self.constant.take().map(Origin::Constant));
        origins.extend(self.join.take().map(Origin::Join));
        match (self.each.take(), self.fields.take()) {
            (Some(array), Some(fields)) => origins.push(Origin::Each { array, fields }),
            (None, None) => {}
            _ => return Err("`each` and `fields` need each other".to_owned()),
        }
        let one = origins.pop().filter(|_| origins.is_empty());
        one.ok_or_else(|| {
            "needs exactly one of `pointer`, `root`, `first`, `constant`, `join`, `each`".to_owned()
        })
    }
}

impl TryFrom<Table> for Expression {
    type Error = String;

    fn try_from(mut table: Table) -> Result<Self, String> {
        let origin = table.origin()?;
        let parts = match &origin {
            Origin::First(pointers) => Some(pointers.len()),
            Origin::Join(parts) => Some(parts.len()),
            _ => None,
        };
        if parts.is_some_and(|parts| !(1..=PARTS_MAX).contains(&parts)) {
            return Err(format!("needs 1 to {PARTS_MAX} parts"));
        }
        match (&origin, table.transform) {
            (Origin::Each { .. } | Origin::Join(_), Some(_)) => {
                return Err("`as` can't go with `each` or `join`".to_owned());
            }
            (Origin::Constant(_), transform) if transform.is_some() || table.default.is_some() => {
                return Err("a `constant` needs neither `as` nor `default`".to_owned());
            }
            (Origin::Each { .. }, None) if table.default.is_some() => {
                return Err("`each` can have no `default`".to_owned());
            }
            _ => {}
        }
        let decimals = match (table.transform, table.decimals) {
            (Some(Transform::Minor), Some(decimals)) if decimals <= DECIMALS_MAX => decimals,
            (Some(Transform::Minor), _) => {
                return Err(format!("`as = \"minor\"` needs `decimals`, 0 to {DECIMALS_MAX}"));
            }
            (_, None) => 0,
            (_, Some(_)) => return Err("`decimals` goes with `as = \"minor\"` only".to_owned()),
        };
        Ok(Self { origin, default: table.default, transform: table.transform, decimals })
    }
}

impl From<&Expression> for Table {
    fn from(expression: &Expression) -> Self {
        let Expression { origin, default, transform, decimals } = expression.clone();
        let decimals = (transform == Some(Transform::Minor)).then_some(decimals);
        let mut table = Self { default, transform, decimals, ..Self::default() };
        match origin {
            Origin::Pointer(pointer) => table.pointer = Some(pointer),
            Origin::Root(pointer) => table.root = Some(pointer),
            Origin::First(pointers) => table.first = Some(pointers),
            Origin::Constant(constant) => table.constant = Some(constant),
            Origin::Join(parts) => table.join = Some(parts),
            Origin::Each { array, fields } => {
                (table.each, table.fields) = (Some(array), Some(fields));
            }
        }
        table
    }
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (&self.origin, &self.default, self.transform) {
            (Origin::Pointer(pointer), None, None) => pointer.serialize(serializer),
            _ => Table::from(self).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Expression;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON pointer, or a table with `pointer`, `first`, `constant`, …")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Expression, E> {
                let pointer = Pointer::deserialize(de::value::StrDeserializer::new(text))?;
                let origin = Origin::Pointer(pointer);
                Ok(Expression { origin, default: None, transform: None, decimals: 0 })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Expression, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Expression::try_from(table).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
