//! A mapping meets a payload.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Expression, Mapping, Operation, Origin, Pointer, Rule, Transform};

/// The most elements of an `each`: the most lines that an event may have.
const LINES_MAX: usize = 1_000;
/// The longest text that is taken from a payload; what takes more is refused by its type anyway.
const TEXT_BYTES_MAX: usize = 4_096;

/// What a payload became.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// What is to be done.
    pub operation: Operation,
    /// Its fields, not yet checked: the command's own type does that.
    pub fields: Map<String, Value>,
}

/// Why a payload became nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmapped {
    /// No rule is for it.
    #[error("no rule of the partner is for this payload{}", kind.as_ref().map(|k| format!(" (its `type` is `{k}`)")).unwrap_or_default())]
    NoRule {
        /// Its `type`, where it has a short one.
        kind: Option<String>,
    },
    /// A field that the operation needs has no value.
    #[error("`{field}` has no value: the payload has nothing at {from}")]
    Missing {
        /// The field.
        field: String,
        /// Where it was looked for.
        from: String,
    },
    /// A value can't be made what the rule says.
    #[error("`{field}` {reason}")]
    Value {
        /// The field.
        field: String,
        /// Why.
        reason: String,
    },
}

impl Mapping {
    /// What a payload becomes.
    ///
    /// # Errors
    /// Why it becomes nothing.
    pub fn map(&self, payload: &Value) -> Result<Mapped, Unmapped> {
        if self.0.is_empty() {
            return native(payload);
        }
        let rule = self.0.iter().find(|rule| rule.holds(payload));
        let rule = rule.ok_or_else(|| Unmapped::NoRule { kind: kind(payload) })?;
        let scope = Scope { root: payload, here: payload, prefix: String::new() };
        let fields = scope.object(&rule.fields, rule.then.fields().required, rule.then)?;
        Ok(Mapped { operation: rule.then, fields })
    }
}

/// `{"type": …, "data": {…}}`; other members (a `timestamp`) are the sender's own.
fn native(payload: &Value) -> Result<Mapped, Unmapped> {
    let named = payload.get("type").and_then(|kind| Operation::deserialize(kind).ok());
    let operation = named.ok_or_else(|| Unmapped::NoRule { kind: kind(payload) })?;
    match (operation, payload.get("data")) {
        (_, Some(Value::Object(fields))) => Ok(Mapped { operation, fields: fields.clone() }),
        (Operation::Ignore, _) => Ok(Mapped { operation, fields: Map::new() }),
        _ => Err(Unmapped::Missing { field: "data".to_owned(), from: "`/data`".to_owned() }),
    }
}

/// The payload's type, if it is a word that can be shown.
fn kind(payload: &Value) -> Option<String> {
    let kind = payload.get("type")?.as_str()?;
    let short = (1..=64).contains(&kind.len()) && kind.bytes().all(|b| b.is_ascii_graphic());
    short.then(|| kind.to_owned())
}

impl Rule {
    fn holds(&self, payload: &Value) -> bool {
        self.when.iter().all(|(pointer, condition)| condition.holds(pointer.find(payload)))
    }
}

/// Where pointers are counted from, and what the fields are called in a problem.
struct Scope<'v> {
    root: &'v Value,
    here: &'v Value,
    prefix: String,
}

impl Scope<'_> {
    fn object(
        &self,
        fields: &BTreeMap<String, Expression>,
        required: &[&str],
        operation: Operation,
    ) -> Result<Map<String, Value>, Unmapped> {
        let mut object = Map::new();
        for (name, expression) in fields {
            let field = format!("{}{name}", self.prefix);
            let value = match (&expression.origin, name.as_str()) {
                (Origin::Each { array, fields }, _) => {
                    self.each(&field, array, fields, operation)?
                }
                (Origin::Pointer(pointer), "lines") => pointer.find(self.here).cloned(),
                _ => self.scalar(&field, expression)?,
            };
            match value {
                Some(value) => drop(object.insert(name.clone(), value)),
                None if required.contains(&name.as_str()) => {
                    return Err(Unmapped::Missing { field, from: places(expression) });
                }
                None => {}
            }
        }
        Ok(object)
    }

    fn each(
        &self,
        field: &str,
        array: &Pointer,
        fields: &BTreeMap<String, Expression>,
        operation: Operation,
    ) -> Result<Option<Value>, Unmapped> {
        let elements = match array.find(self.here) {
            None => return Ok(None),
            Some(Value::Array(elements)) if elements.len() <= LINES_MAX => elements,
            Some(Value::Array(_)) => {
                return Err(wrong(field, format!("has more than {LINES_MAX}")));
            }
            Some(_) => return Err(wrong(field, format!("needs a list at `{array}`"))),
        };
        let required = operation.line_fields().required;
        let line = |(at, here): (usize, &Value)| {
            let scope = Scope { root: self.root, here, prefix: format!("{field}[{at}].") };
            scope.object(fields, required, operation).map(Value::Object)
        };
        elements.iter().enumerate().map(line).collect::<Result<_, _>>().map(Some)
    }

    /// A text, a number or a truth value; nothing if there is none.
    fn scalar(&self, field: &str, expression: &Expression) -> Result<Option<Value>, Unmapped> {
        let found = match &expression.origin {
            Origin::Pointer(pointer) => pointer.find(self.here).cloned_scalar(field, pointer)?,
            Origin::Root(pointer) => pointer.find(self.root).cloned_scalar(field, pointer)?,
            Origin::First(pointers) => {
                let found = pointers.iter().find_map(|p| p.find(self.here).map(|v| (p, v)));
                match found {
                    Some((pointer, value)) => Some(value).cloned_scalar(field, pointer)?,
                    None => None,
                }
            }
            Origin::Constant(constant) => Some(constant.to_json()),
            Origin::Join(parts) => self.join(field, parts)?,
            Origin::Each { .. } => None, // Only `lines` are, which the check sees to.
        };
        match (found, expression.transform) {
            (None, _) => Ok(expression.default.as_ref().map(super::Constant::to_json)),
            (Some(value), None) => Ok(Some(value)),
            (Some(value), Some(transform)) => {
                let made = transformed(value, transform, expression.decimals);
                made.map(Some).map_err(|reason| wrong(field, reason))
            }
        }
    }

    fn join(&self, field: &str, parts: &[Expression]) -> Result<Option<Value>, Unmapped> {
        let mut joined = String::new();
        for part in parts {
            match self.scalar(field, part)? {
                Some(value) => joined.push_str(&text(value)),
                None => return Ok(None),
            }
        }
        if joined.len() > TEXT_BYTES_MAX {
            return Err(wrong(field, format!("is longer than {TEXT_BYTES_MAX} bytes")));
        }
        Ok(Some(joined.into()))
    }
}

fn wrong(field: &str, reason: impl Into<String>) -> Unmapped {
    Unmapped::Value { field: field.to_owned(), reason: reason.into() }
}

/// The pointers that were tried, for people.
fn places(expression: &Expression) -> String {
    let quoted = |pointer: &Pointer| format!("`{pointer}`");
    match &expression.origin {
        Origin::Pointer(pointer) | Origin::Root(pointer) => quoted(pointer),
        Origin::Each { array, .. } => quoted(array),
        Origin::First(pointers) => pointers.iter().map(quoted).collect::<Vec<_>>().join(", "),
        Origin::Join(parts) => parts.iter().map(places).collect::<Vec<_>>().join(", "),
        Origin::Constant(_) => String::new(),
    }
}

trait ClonedScalar {
    /// A copy of what may be a field's value: not a list, not an object, not a very long text.
    fn cloned_scalar(self, field: &str, at: &Pointer) -> Result<Option<Value>, Unmapped>;
}

impl ClonedScalar for Option<&Value> {
    fn cloned_scalar(self, field: &str, at: &Pointer) -> Result<Option<Value>, Unmapped> {
        match self {
            Some(Value::Array(_) | Value::Object(_)) => {
                Err(wrong(field, format!("needs a text or a number at `{at}`")))
            }
            Some(Value::String(text)) if text.len() > TEXT_BYTES_MAX => {
                Err(wrong(field, format!("is longer than {TEXT_BYTES_MAX} bytes")))
            }
            other => Ok(other.cloned()),
        }
    }
}

/// A scalar as a text.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn transformed(value: Value, transform: Transform, decimals: u32) -> Result<Value, String> {
    match (transform, value) {
        (Transform::Uppercase, Value::String(text)) => Ok(text.to_ascii_uppercase().into()),
        (Transform::Text, value) => Ok(text(value).into()),
        (Transform::Integer, Value::Number(number)) if number.is_i64() => Ok(number.into()),
        (Transform::Integer, Value::String(text)) => {
            integer(&text).map(Value::from).ok_or_else(|| "is not an integer".to_owned())
        }
        (Transform::Negated, Value::Number(number)) => {
            let negated = number.as_i64().and_then(i64::checked_neg);
            negated.map(Value::from).ok_or_else(|| "is not an integer".to_owned())
        }
        (Transform::Minor, Value::String(text)) => minor(&text, decimals).map(Value::from),
        // A float is written in its shortest form, which up to fifteen digits is what was sent.
        (Transform::Minor, Value::Number(number)) => {
            minor(&number.to_string(), decimals).map(Value::from)
        }
        (transform, _) => Err(format!("can't be taken `as` {transform:?}").to_lowercase()),
    }
}

/// Only digits with an optional minus: `+1`, ` 1` and `1_000` are other people's conventions.
fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A decimal as minor units; refused rather than rounded.
fn minor(text: &str, decimals: u32) -> Result<i64, String> {
    let places = decimals as usize;
    let number = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let kept = fraction.trim_end_matches('0');
    let exact = digits(whole) && digits(fraction) && kept.len() <= places;
    let minor = exact.then(|| format!("{whole}{kept:0<places$}").parse::<i64>().ok()).flatten();
    match minor {
        Some(minor) if number.len() < text.len() => Ok(-minor),
        Some(minor) => Ok(minor),
        None => Err(format!("is not a decimal number with at most {decimals} decimals")),
    }
}
