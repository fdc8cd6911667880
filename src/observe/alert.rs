//! What an alert says: the body that whoever is alerted gets.

use serde::Serialize;
use utoipa::ToSchema;

use super::conditions::{Change, OK};
use crate::model::Timestamp;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A service level: `warning` or `breached`.
    ServiceLevel,
    /// A sink that stands still: `paused` or `broken`.
    Sink,
    /// A sink's dead letters: `waiting`.
    DeadLetters,
    /// The log's disk budget: `past_soft_mark` or `exhausted`.
    Log,
    /// A partner's stock, which is not the ledger's: `drifting`.
    Drift,
    /// Stock that was sold twice: `oversold`. Never, unless Holdfast itself is at fault.
    Oversold,
}

impl AlertKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceLevel => "service_level",
            Self::Sink => "sink",
            Self::DeadLetters => "dead_letters",
            Self::Log => "log",
            Self::Drift => "drift",
            Self::Oversold => "oversold",
        }
    }
}

/// The body of an alert. It is signed as Standard Webhooks are where a secret is configured.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AlertBody<'a> {
    /// `holdfast.alert.v1`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: &'static str,
    /// When it was raised.
    timestamp: Timestamp,
    /// What has changed.
    data: AlertData<'a>,
}

/// A state that has changed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AlertData<'a> {
    /// What it is about.
    alert: AlertKind,
    /// Which of them: the service level's or the sink's name; empty where there is one only.
    #[schema(value_type = String)]
    subject: &'a str,
    /// Its state now; `ok` where all is well.
    #[schema(value_type = String)]
    state: &'a str,
    /// Its state before.
    #[schema(value_type = String)]
    previous: &'a str,
    /// Whether all is well again.
    resolved: bool,
    /// What is the matter, or was, for a person.
    #[schema(value_type = String)]
    detail: &'a str,
}

impl<'a> AlertBody<'a> {
    pub(super) fn new(change: &'a Change, timestamp: Timestamp) -> Self {
        let Change { alert, subject, state, previous, detail } = change;
        let (alert, resolved) = (*alert, *state == OK);
        let data = AlertData { alert, subject, state, previous, resolved, detail };
        Self { kind: "holdfast.alert.v1", timestamp, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_called_in_the_log_as_in_the_body() {
        use AlertKind::{DeadLetters, Drift, Log, Oversold, ServiceLevel, Sink};
        for kind in [ServiceLevel, Sink, DeadLetters, Log, Drift, Oversold] {
            assert_eq!(serde_json::json!(kind), kind.as_str());
        }
    }
}
