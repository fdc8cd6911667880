//! Overrides by the environment: `HOLDFAST__SECTION__KEY=value`.
//!
//! A value is taken as a text where the key wants one, else as it would stand in the file: `7`,
//! `true`, `["BER", "HAM"]`.

use std::{collections::BTreeMap, ffi::OsString, fmt};

use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, Error};

/// What the names of overriding variables begin with.
const PREFIX: &str = "HOLDFAST__";
/// The sections that can be overridden.
const SECTIONS: [&str; 6] = ["server", "gateway", "log", "engine", "telemetry", "alerts"];

/// A variable's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    section: String,
    key: String,
}

impl Name {
    fn parse(name: &str) -> Result<Self, Error> {
        let wrong =
            |reason: &str| Error::Variable { name: name.to_owned(), reason: reason.to_owned() };
        let rest = &name[PREFIX.len()..];
        let (section, key) = rest.split_once("__").ok_or_else(|| {
            wrong("is not of the form HOLDFAST__SECTION__KEY; rename it or unset it")
        })?;
        if rest.bytes().any(|b| b.is_ascii_lowercase()) {
            return Err(wrong("must be in capital letters"));
        }
        let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
        if section == "sinks" || section == "partners" {
            return Err(wrong("sinks and partners can be set in the file only"));
        }
        if !SECTIONS.contains(&section.as_str()) {
            return Err(wrong(
                "names no section; there are SERVER, GATEWAY, LOG, ENGINE, TELEMETRY and ALERTS",
            ));
        }
        Ok(Self { section, key })
    }

    /// The key as in the file: `section.key`.
    pub(super) fn key(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}__{}", self.section.to_uppercase(), self.key.to_uppercase())
    }
}

/// The variables that override something, in the order of their names.
pub(super) fn overrides(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<Name, String>, Error> {
    let mut found = BTreeMap::new();
    for (name, value) in variables {
        let name = name.to_string_lossy();
        if !name.starts_with(PREFIX) {
            continue;
        }
        let parsed = Name::parse(&name)?;
        let value = value.into_string().map_err(|_| Error::Variable {
            name: name.to_string(),
            reason: "is not UTF-8".to_owned(),
        })?;
        found.insert(parsed, value);
    }
    Ok(found)
}

/// The configuration with one key set to `value`.
pub(super) fn apply(config: Config, name: &Name, value: &str) -> Result<Config, Error> {
    let wrong = |reason: String| Error::Variable { name: name.to_string(), reason };
    let table = Table::try_from(&config).map_err(|e| wrong(e.to_string()))?;
    let as_text = with(&table, name, Value::String(value.to_owned()));
    match (as_text, literal(value)) {
        (Ok(config), _) => Ok(config),
        (Err(_), Some(literal)) => with(&table, name, literal).map_err(wrong),
        (Err(reason), None) => Err(wrong(reason)),
    }
}

/// The value as it would stand in the file.
fn literal(value: &str) -> Option<Value> {
    let mut table: Table = toml::from_str(&format!("value = {value}")).ok()?;
    // A line break would smuggle further keys in.
    if table.len() == 1 { table.remove("value") } else { None }
}

fn with(table: &Table, name: &Name, value: Value) -> Result<Config, String> {
    let mut table = table.clone();
    if let Some(Value::Table(section)) = table.get_mut(&name.section) {
        section.insert(name.key.clone(), value);
    }
    Config::deserialize(table).map_err(|e| e.message().to_owned())
}
