//! Changes of the configuration of a running server: what is asked, what comes of it, and the history.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Timestamp;

/// A key whose value is another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// The key; lists of sinks and partners by name: `sinks.erp.policy.breaker_failures`.
    pub key: String,
    /// As it was, without secrets; null: it was not there.
    #[schema(value_type = Object, nullable)]
    pub before: Value,
    /// As it is then.
    #[schema(value_type = Object, nullable)]
    pub after: Value,
    /// `live`, or `restart` where it needs one.
    pub applies: String,
}

/// A configuration that was in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// Its number.
    pub version: u64,
    /// Since when.
    pub at: Timestamp,
    /// Who wanted it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Whether it was applied in a freeze window in spite of it.
    pub forced: bool,
    /// `current` or `past`.
    #[serde(default)]
    pub state: String,
    /// What it changed of the one before.
    pub changes: Vec<ChangeView>,
}

/// The configurations that were in force, the newest last; of more than sixteen the oldest are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistoryView {
    /// Each.
    pub versions: Vec<VersionView>,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationView {
    /// As TOML with every key, without secrets.
    pub toml: String,
}

/// What is to be in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposal {
    /// What the server's own file says now.
    File,
    /// A text.
    Toml(String),
    /// An earlier version.
    Version(u64),
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotApplied {
    /// The configuration is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Some of it needs a restart.
    #[error("these keys can't be changed without a restart: {}; nothing was changed", .0.join(", "))]
    NeedsRestart(Vec<String>),
    /// A sink of it can't begin.
    #[error("{0}; nothing was changed")]
    Unstartable(String),
    /// Not now.
    #[error(
        "a freeze window is open until {until} ({reason}); say `force` with a reason to do it all the same"
    )]
    Frozen {
        /// Its end.
        until: Timestamp,
        /// What it is for.
        reason: String,
    },
    /// There is no such version.
    #[error("version {0} of the configuration is not in the history")]
    NoVersion(u64),
    /// Its secrets are not kept.
    #[error("secrets are not kept, and these are not in force any more: {}; give a file", .0.join(", "))]
    Hidden(Vec<String>),
    /// Nothing is to be changed.
    #[error("the configuration is the one in force; nothing was changed")]
    Same,
    /// The log has too little room for it.
    #[error("it can't be written down: {0}; nothing was changed")]
    Unwritable(String),
    /// It is not there yet, or no longer.
    #[error("the server is starting or stopping; nothing was changed")]
    Stopping,
}
