//! What a sink says of its connector, laid over its preset.
//!
//! Tables are laid over field by field, lists and texts replaced as a whole. A table `domains.finance`
//! counts for sinks of that domain and is laid over the rest of its own file.

use std::fmt;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::Connector;
use crate::config::{Domain, address};

/// The presets, by name.
pub const PRESETS: [(&str, &str); 7] = [
    ("generic", include_str!("../../sinks/presets/generic.toml")),
    ("tryton", include_str!("../../sinks/presets/tryton.toml")),
    ("odoo", include_str!("../../sinks/presets/odoo.toml")),
    ("erpnext", include_str!("../../sinks/presets/erpnext.toml")),
    ("business-central", include_str!("../../sinks/presets/business-central.toml")),
    ("netsuite", include_str!("../../sinks/presets/netsuite.toml")),
    ("sap-s4", include_str!("../../sinks/presets/sap-s4.toml")),
];

/// Fields of `auth` that are no secrets.
const SHOWN: [&str; 13] = [
    "kind",
    "user",
    "header",
    "prefix",
    "parameter",
    "token_url",
    "client_id",
    "scope",
    "client_auth",
    "token_env",
    "password_env",
    "api_key_env",
    "client_secret_env",
];

/// A sink's own `[sinks.connector]`, as it stands in the file.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overlay(Table);

impl Overlay {
    /// Reads one.
    ///
    /// # Errors
    /// Where it is no TOML.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|e: toml::de::Error| e.message().to_owned())
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The connector of a sink of a domain: the preset with this laid over.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn over(&self, preset: &str, domain: Domain) -> Result<Connector, String> {
        let text = PRESETS.iter().find(|(name, _)| *name == preset).map(|(_, text)| *text);
        let Some(text) = text else {
            let names = PRESETS.map(|(name, _)| name).join(", ");
            return Err(format!("preset: there is none of that name; there are: {names}"));
        };
        if self.0.contains_key("schema_version") {
            return Err("connector.schema_version: stands in the sink itself".into());
        }
        let base = text.parse().map_err(|e: toml::de::Error| format!("preset: {}", e.message()))?;
        let mut table = for_domain(base, domain)?;
        lay_over(&mut table, for_domain(self.0.clone(), domain)?);
        serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
            let path = match error.path().to_string().as_str() {
                "." => String::new(),
                path => format!(".{path}"),
            };
            let mut message = error.inner().message().trim().replace('\n', " ");
            if path.starts_with(".auth") || path.starts_with(".headers") {
                message = without_quoted(&message);
            }
            format!("connector{path}: {message}")
        })
    }

    /// The same without what must not be shown.
    pub fn without_secrets(mut self) -> Self {
        hide(&mut self.0);
        if let Some(Value::Table(domains)) = self.0.get_mut("domains") {
            domains.iter_mut().filter_map(|(_, domain)| domain.as_table_mut()).for_each(hide);
        }
        self
    }
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.clone().without_secrets().0)
    }
}

/// The table without `domains`, with what that says of one laid over.
fn for_domain(mut table: Table, domain: Domain) -> Result<Table, String> {
    let Some(domains) = table.remove("domains") else { return Ok(table) };
    let Value::Table(mut domains) = domains else {
        return Err("connector.domains: must be a table by domain".into());
    };
    let known = |name: &String| Domain::deserialize(Value::String(name.clone())).is_ok();
    if let Some(unknown) = domains.keys().find(|name| !known(name)) {
        return Err(format!("connector.domains.{unknown}: is no domain"));
    }
    match domains.remove(domain.as_str()) {
        Some(Value::Table(own)) => lay_over(&mut table, own),
        Some(_) => return Err(format!("connector.domains.{}: must be a table", domain.as_str())),
        None => {}
    }
    Ok(table)
}

fn lay_over(base: &mut Table, over: Table) {
    for (key, value) in over {
        // Another kind of authentication has other fields.
        let replaced = key == "auth"
            && value
                .get("kind")
                .is_some_and(|kind| base.get("auth").and_then(|a| a.get("kind")) != Some(kind));
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) if !replaced => {
                if key == "auth" {
                    base.retain(|name, _| !over.keys().any(|other| is_same_secret(name, other)));
                }
                lay_over(base, over);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Whether one is the variable that would hold the other: only one of them counts.
fn is_same_secret(name: &str, other: &str) -> bool {
    name.strip_suffix("_env") == Some(other) || other.strip_suffix("_env") == Some(name)
}

/// Header values, what `auth` has beyond what is known to be no secret, and everything in `vars` that
/// is called one.
fn hide(table: &mut Table) {
    let hidden = || Value::String(address::HIDDEN.into());
    for (name, value) in table.iter_mut() {
        match (name.as_str(), value) {
            ("headers", Value::Table(headers)) => {
                headers.iter_mut().for_each(|(_, value)| *value = hidden());
            }
            ("auth", Value::Table(auth)) => {
                let secret = auth.iter_mut().filter(|(name, _)| !SHOWN.contains(&name.as_str()));
                secret.for_each(|(_, value)| *value = hidden());
                if let Some(Value::String(url)) = auth.get_mut("token_url") {
                    *url = address::shown(url);
                }
            }
            ("auth" | "headers", other) => *other = hidden(),
            ("handshake" | "lookup" | "finish", Value::Table(request)) => hide(request),
            _ => {}
        }
    }
}

/// What an error quotes may be a secret that stands in the wrong place.
fn without_quoted(message: &str) -> String {
    let parts = message.split('"').enumerate();
    parts.map(|(i, part)| if i % 2 == 0 { part } else { "***" }).collect::<Vec<_>>().join("\"")
}
