//! JSON pointers (RFC 6901), checked when they are read, so that a misspelt one is an error of the
//! configuration and not a payload's.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use crate::model::Invalid;

/// The most characters of a pointer.
const POINTER_CHARS_MAX: usize = 256;

/// Where in a payload something stands: `/data/object/id`, `/lines/0/sku`; `~1` stands for `/` and
/// `~0` for `~`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Pointer(String);

impl Pointer {
    /// What stands there. `null` counts as nothing.
    pub fn find<'v>(&self, payload: &'v Value) -> Option<&'v Value> {
        payload.pointer(&self.0).filter(|value| !value.is_null())
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pointer {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if !text.starts_with('/') {
            return Err(Invalid("is not a JSON pointer: must begin with `/`, as in `/data/id`"));
        }
        if text.chars().count() > POINTER_CHARS_MAX {
            return Err(Invalid("is not a JSON pointer: must be at most 256 characters"));
        }
        let escapes = text.split('~').skip(1);
        if escapes.into_iter().any(|rest| !rest.starts_with(['0', '1'])) {
            return Err(Invalid("is not a JSON pointer: `~` must be followed by 0 or 1"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|e: Invalid| {
            let shown: String = text.chars().take(80).collect();
            de::Error::custom(format!("`{shown}` {e}"))
        })
    }
}
