//! How a partner's own payload becomes one of the house's commands: declared rules, read from the
//! configuration, so that a provider is connected without code.
//!
//! A [`Mapping`] is a list of rules; the first whose `when` holds decides. Its fields are pointers into
//! the payload with a few total transformations: there are no loops, no arithmetic and no texts to be
//! parsed, so a rule can't run long, and what it needs can be checked before it meets a payload. A
//! template language would bring both back, and quoting with it: a template writes JSON as text.
//!
//! Promises: [`Mapping::check`] finds what can be found without a payload (unknown and missing fields);
//! [`Mapping::map`] never panics, takes time and memory in proportion to the payload, and says of what
//! it can't map which field and why. What comes out is not trusted further than a request's body is:
//! it goes through the same types.
//!
//! Without rules the payload must be in the native form: `{"type": "shipment", "data": {…}}`, where
//! `type` is an [`Operation`] and `data` has its fields.

mod apply;
mod expression;
mod operation;
mod pointer;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use apply::{Mapped, Unmapped};
pub use expression::{Constant, Expression, Origin, Transform};
pub use operation::{Fields, Operation};
pub use pointer::Pointer;

/// The most rules of a partner.
pub const RULES_MAX: usize = 100;

/// What must stand at a pointer for a rule to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "must be a text, an integer, true or false, a list of these, or { present = true }"
)]
pub enum Condition {
    /// This value.
    Is(Constant),
    /// One of these values.
    OneOf(Vec<Constant>),
    /// Something, or nothing.
    Presence(Presence),
}

impl Condition {
    /// Whether what was found, if anything, is what must stand there.
    pub fn holds(&self, found: Option<&Value>) -> bool {
        match self {
            Self::Is(constant) => found == Some(&constant.to_json()),
            Self::OneOf(constants) => {
                found.is_some_and(|found| constants.iter().any(|c| c.to_json() == *found))
            }
            Self::Presence(wanted) => found.is_some() == wanted.present,
        }
    }
}

/// Whether something must stand there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// Something must, or nothing may; `null` is nothing.
    pub present: bool,
}

/// One kind of payload, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What must stand where; empty: any payload.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<Pointer, Condition>,
    /// What it becomes.
    pub then: Operation,
    /// The operation's fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Expression>,
}

/// A partner's rules, in the order in which they are tried; none: the native form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping(pub Vec<Rule>);

impl Mapping {
    /// Checks what can be checked without a payload.
    ///
    /// # Errors
    /// What is wrong, beginning with where: `rules.1.fields.fee: …`.
    pub fn check(&self) -> Result<(), String> {
        if self.0.len() > RULES_MAX {
            return Err(format!("rules: must be at most {RULES_MAX}"));
        }
        let mut rules = self.0.iter().enumerate();
        rules.try_for_each(|(at, rule)| rule.check().map_err(|e| format!("rules.{at}.{e}")))
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let operation = self.then;
        check_fields(operation.as_str(), operation.fields(), &self.fields, "fields")?;
        for (name, expression) in &self.fields {
            let place = format!("fields.{name}");
            match &expression.origin {
                Origin::Each { fields, .. } if name == "lines" => {
                    let known = operation.line_fields();
                    check_fields("a line", known, fields, &format!("{place}.fields"))?;
                    for (name, expression) in fields {
                        check_scalar(expression, &format!("{place}.fields.{name}"))?;
                    }
                }
                Origin::Each { .. } => return Err(format!("{place}: only `lines` can be `each`")),
                Origin::Pointer(_) if name == "lines" => {}
                _ if name == "lines" => {
                    return Err(format!("{place}: must be a pointer to a list, or `each`"));
                }
                _ => check_scalar(expression, &place)?,
            }
        }
        Ok(())
    }
}

/// Refuses fields that the operation doesn't know, and misses those that it needs.
fn check_fields(
    what: &str,
    known: Fields,
    given: &BTreeMap<String, Expression>,
    place: &str,
) -> Result<(), String> {
    let unknown = |name: &&String| known.names().all(|field| field != **name);
    if let Some(name) = given.keys().find(unknown) {
        let names = known.names().collect::<Vec<_>>().join(", ");
        return Err(format!("{place}.{name}: is no field of `{what}`; there are: {names}"));
    }
    match known.required.iter().find(|field| !given.contains_key(**field)) {
        Some(field) => Err(format!("{place}: must have `{field}` for `{what}`")),
        None => Ok(()),
    }
}

fn check_scalar(expression: &Expression, place: &str) -> Result<(), String> {
    match &expression.origin {
        Origin::Each { .. } => Err(format!("{place}: only `lines` can be `each`")),
        Origin::Join(parts) => {
            let nested =
                |part: &Expression| matches!(part.origin, Origin::Join(_) | Origin::Each { .. });
            match parts.iter().any(nested) {
                true => Err(format!("{place}: a `join` can't have a `join` or `each` in it")),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
