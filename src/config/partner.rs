//! The configuration of one partner: the key that it calls with, and how its own messages (hooks) are
//! checked and read.
//!
//! It promises that an unknown key is refused, that [`PartnerConfig::validate`] names the field that is
//! wrong, and that no secret is printed. A secret need not stand in the file at all: of an API key its
//! hash is enough, and either can be in a variable of the environment that the file names. Variables
//! are read when the server starts, so that a configuration can be checked where its secrets are not.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ByteSize, sink::check_name};
use crate::model::{
    mapping::{Mapping, Rule},
    partner::{Limits, Scopes, Terms},
    signature::{KeyHash, Scheme},
};

/// The most that a message's time may be off, in seconds: an hour.
const TOLERANCE_S_MAX: u64 = 3_600;

/// One partner. `name` must be given, and a key or a hook.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartnerConfig {
    /// Its name: 1 to 32 lower-case letters, digits, `-` and `_`. It is the scope of the partner's
    /// idempotency keys, so that a renamed partner is a new one, and part of its hook's path.
    pub name: String,
    /// The SHA-256 of its API key, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_sha256: Option<String>,
    /// The variable that holds its API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// What it may do with its key: `availability`, `reserve`, `order`, `fulfil`, `settle`, `observe`,
    /// `operate`. Default: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes>,
    /// Requests a second with its key, on the average. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<u32>,
    /// Requests at once after a pause. Default: as many as `rate_per_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Requests a day (UTC) with its key. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_per_day: Option<u64>,
    /// The largest body that it may send. Default: the server's `body_bytes_max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes_max: Option<ByteSize>,
    /// The longest that a body of its may take, and then the answer. Default: the server's
    /// `request_timeout_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How its messages to `POST /v1/hooks/{name}` are checked and read; absent: none are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookConfig>,
}

/// How a partner's own messages are checked and read.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookConfig {
    /// How they are signed: `standard_webhooks` or `stripe`. Default `standard_webhooks`.
    #[serde(default)]
    pub scheme: Scheme,
    /// The secret that they are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The variable that holds the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_env: Option<String>,
    /// The most that a message's time may be off, either way, in seconds. Default 300.
    #[serde(default = "tolerance_s")]
    pub tolerance_s: u64,
    /// Whether a message about an order that is not there yet is parked until it is, rather than
    /// refused with 404. Default true.
    #[serde(default = "parks")]
    pub parks: bool,
    /// Messages a second on the average, the partner's and, beside them, those that are not signed as its
    /// own; more are refused with 429. Default 1000.
    #[serde(default = "hook_rate_per_s")]
    pub rate_per_s: u32,
    /// Messages at once after a pause. Default: as many as `rate_per_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// What becomes of which payload; the first that holds decides. None: payloads are in the native
    /// form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

const fn tolerance_s() -> u64 {
    300
}

const fn parks() -> bool {
    true
}

const fn hook_rate_per_s() -> u32 {
    1_000
}

impl PartnerConfig {
    /// Whether it can call with a key.
    pub fn has_key(&self) -> bool {
        self.api_key_sha256.is_some() || self.api_key_env.is_some()
    }

    /// What it may do with its key, and how much of it.
    pub fn terms(&self) -> Terms {
        let Self { rate_per_s, burst, quota_per_day, timeout_ms, .. } = *self;
        let body_bytes_max = self.body_bytes_max.map(ByteSize::bytes);
        let limits = Limits { rate_per_s, burst, quota_per_day, body_bytes_max, timeout_ms };
        Terms { scopes: self.scopes.unwrap_or(Scopes::ALL), limits }
    }

    /// The same without what must not be shown.
    pub fn without_secrets(mut self) -> Self {
        let hide = |secret: &mut Option<String>| {
            if let Some(secret) = secret {
                "(hidden)".clone_into(secret);
            }
        };
        hide(&mut self.api_key_sha256);
        if let Some(hook) = &mut self.hook {
            hide(&mut hook.secret);
        }
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    /// What is wrong, beginning with the field's name.
    pub fn validate(&self) -> Result<(), String> {
        check_name(&self.name)?;
        if let Some(hash) = &self.api_key_sha256 {
            KeyHash::from_hex(hash).map_err(|e| format!("api_key_sha256: {e}"))?;
        }
        check_variable("api_key_env", self.api_key_env.as_deref())?;
        if self.api_key_sha256.is_some() && self.api_key_env.is_some() {
            return Err("api_key_env: and `api_key_sha256` exclude each other".into());
        }
        self.check_terms()?;
        match &self.hook {
            Some(hook) => hook.validate().map_err(|e| format!("hook.{e}")),
            None if self.has_key() => Ok(()),
            None => Err("name: has neither an API key nor a hook, and so can't do anything".into()),
        }
    }
}

impl PartnerConfig {
    fn check_terms(&self) -> Result<(), String> {
        let Terms { scopes, limits } = self.terms();
        if scopes.is_empty() {
            return Err("scopes: must name at least one".into());
        }
        let limited = limits != Limits::default() || self.scopes.is_some();
        if limited && !self.has_key() {
            return Err("name: has scopes or limits, which are for an API key, and has none".into());
        }
        limits.check().map_err(|(field, wrong)| format!("{field}: {wrong}"))
    }
}

impl HookConfig {
    fn validate(&self) -> Result<(), String> {
        match (&self.secret, &self.secret_env) {
            (Some(secret), None) => {
                self.scheme.check_secret(secret).map_err(|e| format!("secret: {e}"))?;
            }
            (None, Some(_)) => check_variable("secret_env", self.secret_env.as_deref())?,
            _ => return Err("secret: must be given, or `secret_env`, and not both".into()),
        }
        if !(1..=TOLERANCE_S_MAX).contains(&self.tolerance_s) {
            return Err(format!("tolerance_s: must be 1 to {TOLERANCE_S_MAX}"));
        }
        self.limits().check().map_err(|(field, wrong)| format!("{field}: {wrong}"))?;
        self.mapping().check()
    }

    /// How many messages are taken.
    pub fn limits(&self) -> Limits {
        Limits { rate_per_s: Some(self.rate_per_s), burst: self.burst, ..Limits::default() }
    }

    /// What becomes of which payload.
    pub fn mapping(&self) -> Mapping {
        Mapping(self.rules.clone())
    }
}

/// Variables that override the configuration can't be secrets at once.
pub(super) fn check_variable(field: &str, name: Option<&str>) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let valid = (1..=128).contains(&name.len()) && name.bytes().all(allowed);
    if !valid || name.starts_with("HOLDFAST__") {
        return Err(format!(
            "{field}: must be the name of a variable: letters, digits and `_`, not beginning with \
             HOLDFAST__"
        ));
    }
    Ok(())
}

impl fmt::Debug for PartnerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.clone().without_secrets();
        f.debug_struct("PartnerConfig")
            .field("name", &shown.name)
            .field("api_key_sha256", &shown.api_key_sha256)
            .field("api_key_env", &shown.api_key_env)
            .field("terms", &self.terms())
            .field("hook", &shown.hook)
            .finish()
    }
}

impl fmt::Debug for HookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookConfig")
            .field("scheme", &self.scheme)
            .field("secret", &self.secret.as_ref().map(|_| "(hidden)"))
            .field("secret_env", &self.secret_env)
            .field("tolerance_s", &self.tolerance_s)
            .field("parks", &self.parks)
            .field("limits", &self.limits())
            .field("rules", &self.rules)
            .finish()
    }
}

#[cfg(test)]
#[path = "partner_tests.rs"]
mod tests;
