//! Rules that say what an answer means: conditions on its status and on what stands where in its body.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::model::mapping::{Condition, Pointer};

/// What of an answer rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// Its status code.
    pub status: u16,
    /// Its body, if it is JSON.
    pub json: Option<&'a Value>,
    /// Its body as text, as far as it was read.
    pub text: &'a str,
}

/// One status code or a range of them: `409`, `"5xx"`, `"500-599"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusSet {
    least: u16,
    most: u16,
}

impl StatusSet {
    /// Whether a status code is in it.
    pub fn has(self, status: u16) -> bool {
        (self.least..=self.most).contains(&status)
    }
}

impl FromStr for StatusSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let code = |text: &str| text.parse().ok().filter(|code| (100..=599).contains(code));
        let found = match (text.strip_suffix("xx"), text.split_once('-')) {
            (Some(hundred), _) => {
                code(&format!("{hundred}00")).map(|least: u16| (least, least + 99))
            }
            (None, Some((least, most))) => code(least).zip(code(most)),
            (None, None) => code(text).map(|code| (code, code)),
        };
        match found {
            Some((least, most)) if least <= most => Ok(Self { least, most }),
            _ => {
                Err("must be a status code, or a range of them such as \"5xx\" or \"500-504\""
                    .into())
            }
        }
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.least == self.most {
            true => write!(f, "{}", self.least),
            false => write!(f, "{}-{}", self.least, self.most),
        }
    }
}

impl Serialize for StatusSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StatusSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let text = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        text.parse().map_err(de::Error::custom)
    }
}

/// Conditions on an answer; all of them must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Status codes; none: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<StatusSet>,
    /// What must stand where in the body, which must then be JSON.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<Pointer, Condition>,
    /// Texts of which one must stand somewhere in the body; none: any body. For answers in XML.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
}

impl Match {
    /// Whether an answer is meant.
    pub fn holds(&self, heard: Heard<'_>) -> bool {
        holds(&self.status, &self.when, &self.contains, heard)
    }
}

fn holds(
    status: &[StatusSet],
    when: &BTreeMap<Pointer, Condition>,
    contains: &[String],
    heard: Heard<'_>,
) -> bool {
    let known = status.is_empty() || status.iter().any(|set| set.has(heard.status));
    let stands = when.is_empty() || heard.json.is_some_and(|json| stands(when, json));
    let said = contains.is_empty() || contains.iter().any(|text| heard.text.contains(text));
    known && stands && said
}

/// Whether everything stands where it must.
pub(super) fn stands(when: &BTreeMap<Pointer, Condition>, json: &Value) -> bool {
    when.iter().all(|(pointer, condition)| condition.holds(pointer.find(json)))
}

/// What an answer comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It took the part.
    Done,
    /// It has had the part since an earlier attempt.
    Known,
    /// Not now.
    Retry,
    /// It refuses the content.
    Refused,
    /// It refuses us.
    Denied,
}

/// Whether a failed attempt can have had its effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Took {
    /// It took nothing.
    Nothing,
    /// Nobody knows.
    #[default]
    Unknown,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerRule {
    /// Status codes; none: any. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<StatusSet>,
    /// What must stand where in the body, which must then be JSON. Default nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<Pointer, Condition>,
    /// Texts of which one must stand somewhere in the body; none: any body. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
    /// What it comes to.
    pub then: Then,
    /// With `retry`: whether it may have taken the part. Default `unknown`.
    #[serde(default)]
    pub took: Took,
    /// With `done` and `refused`: whether it names lines that it refuses. Default false.
    #[serde(default)]
    pub lines: bool,
}

impl AnswerRule {
    /// Whether an answer is meant.
    pub fn holds(&self, heard: Heard<'_>) -> bool {
        holds(&self.status, &self.when, &self.contains, heard)
    }

    /// Whether an answer with this status is meant by what its body says.
    pub fn hangs_on_body(&self, status: u16) -> bool {
        let known = self.status.is_empty() || self.status.iter().any(|set| set.has(status));
        known && !(self.when.is_empty() && self.contains.is_empty())
    }
}

/// Where an answer names the lines that it refuses. A line is named by its id or by its place among
/// those that were sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectedLines {
    /// The list.
    pub at: Pointer,
    /// Which items of it name a refused line. Default all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<Pointer, Condition>,
    /// Where in an item the line's id stands. Default nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line_id: Option<Pointer>,
    /// Where in an item the line's place stands, as a number or a text of digits. Default nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Pointer>,
    /// The place of the first line. Default 0.
    #[serde(default)]
    pub index_first: u64,
    /// Where in an item the reason stands. Default nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Pointer>,
}

impl RejectedLines {
    /// Whether an item names a refused line.
    pub fn means(&self, item: &Value) -> bool {
        stands(&self.when, item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_are_read_alone_and_in_ranges() {
        let set = |text: &str| text.parse::<StatusSet>().unwrap();
        assert!(set("409").has(409) && !set("409").has(410));
        assert!(set("5xx").has(500) && set("5xx").has(599) && !set("5xx").has(499));
        assert!(set("425-429").has(427) && !set("425-429").has(430));
        for wrong in ["", "xx", "9xx", "99", "600", "504-500", "4x", "a-b", "-1"] {
            assert!(wrong.parse::<StatusSet>().is_err(), "{wrong}");
        }
        let read: Match = toml::from_str("status = [409, \"5xx\"]").unwrap();
        assert_eq!(read.status, [set("409"), set("500-599")]);
    }

    #[test]
    fn all_conditions_of_a_rule_must_hold() {
        let rule: AnswerRule = toml::from_str(
            "status = [409]\nwhen = { \"/code\" = [\"a\", \"b\"], \"/x\" = { present = false } }\n\
             contains = [\"b\\\"\"]\nthen = \"known\"",
        )
        .unwrap();
        let holds = |status, text: &str| {
            let json = serde_json::from_str(text).ok();
            rule.holds(Heard { status, json: json.as_ref(), text })
        };
        assert!(holds(409, r#"{"code": "b"}"#));
        for (status, text) in [
            (410, r#"{"code": "b"}"#),
            (409, r#"{"code": "a"}"#),
            (409, r#"{"code": "b", "x": 1}"#),
            (409, r#"{"code": "c", "d": "b"}"#),
            (409, r#"nothing "b""#),
        ] {
            assert!(!holds(status, text), "{status} {text}");
        }
    }
}
