//! Service levels: what is promised, and who is told when it is not kept.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Domain, SinkConfig, address, sink::check_name};
use crate::model::signature::signing_key;

/// The most service levels: each keeps eight bytes for each minute of its window.
pub const SERVICE_LEVELS_MAX: usize = 32;
/// The longest window, in hours: 30 days.
const WINDOW_HOURS_MAX: u64 = 720;

/// What a service level measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Orders that reach a fulfilment sink's warehouse in time.
    OrderToWarehouse,
    /// Seconds in which a sink's oldest record that is not with its partner is young enough.
    SinkLag,
    /// Reservations and orders over HTTP that are answered in time, and not with a failure.
    ReserveLatency,
    /// Requests over HTTP that are not answered with a failure.
    Availability,
}

impl Objective {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderToWarehouse => "order_to_warehouse",
            Self::SinkLag => "sink_lag",
            Self::ReserveLatency => "reserve_latency",
            Self::Availability => "availability",
        }
    }

    /// The one of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        const ALL: [Objective; 4] = [
            Objective::OrderToWarehouse,
            Objective::SinkLag,
            Objective::ReserveLatency,
            Objective::Availability,
        ];
        ALL.into_iter().find(|objective| objective.as_str() == word)
    }

    fn is_of_a_sink(self) -> bool {
        matches!(self, Self::OrderToWarehouse | Self::SinkLag)
    }
}

/// One service level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceLevelConfig {
    /// Its name: 1 to 32 lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// What is measured.
    pub objective: Objective,
    /// The sink that it is about, for `order_to_warehouse` and `sink_lag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// How long a good one may take, in milliseconds; not for `availability`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
    /// The share that is to be good, in percent.
    pub target_percent: f64,
    /// How far it looks back, in hours, 1 to 720. Default 720.
    #[serde(default = "window_hours")]
    pub window_hours: u64,
}

const fn window_hours() -> u64 {
    WINDOW_HOURS_MAX
}

impl ServiceLevelConfig {
    /// Checks it against the sinks that there are.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub(super) fn validate(&self, sinks: &[SinkConfig]) -> Result<(), String> {
        check_name(&self.name)?;
        let open = self.target_percent > 0.0 && self.target_percent < 100.0;
        if !open {
            return Err("target_percent: must be above 0 and below 100".into());
        }
        if !(1..=WINDOW_HOURS_MAX).contains(&self.window_hours) {
            return Err(format!("window_hours: must be 1 to {WINDOW_HOURS_MAX}"));
        }
        match self.within_ms {
            Some(_) if self.objective == Objective::Availability => {
                return Err("within_ms: `availability` has no time".into());
            }
            None if self.objective != Objective::Availability => {
                return Err(format!("within_ms: `{}` needs one", self.objective.as_str()));
            }
            // What is measured in fine buckets ends at 73 minutes.
            Some(ms) if !(1..=3_600_000).contains(&ms) => {
                return Err("within_ms: must be 1 to 3600000".into());
            }
            _ => {}
        }
        self.check_sink(sinks)
    }

    fn check_sink(&self, sinks: &[SinkConfig]) -> Result<(), String> {
        let what = self.objective.as_str();
        let Some(name) = &self.sink else {
            return match self.objective.is_of_a_sink() {
                true => Err(format!("sink: `{what}` needs one")),
                false => Ok(()),
            };
        };
        if !self.objective.is_of_a_sink() {
            return Err(format!("sink: `{what}` is about none"));
        }
        let Some(sink) = sinks.iter().find(|sink| sink.name == *name) else {
            return Err(format!("sink: no sink is called `{name}`"));
        };
        if self.objective == Objective::OrderToWarehouse && sink.domain != Domain::Fulfilment {
            return Err(format!("sink: `{name}` is of another domain than `fulfilment`"));
        }
        Ok(())
    }
}

/// Who is told of what an operator must know.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// Where alerts are posted; empty: nowhere.
    pub url: String,
    /// The secret that signs them (Standard Webhooks): `whsec_` and 24 to 64 bytes in base64.
    pub secret: String,
    /// Or the variable of the environment that holds it.
    pub secret_env: String,
    /// How long one attempt may take.
    pub timeout_ms: u64,
    /// Attempts before an alert is given up; the wait between them doubles from one second to a minute.
    pub attempts_max: u32,
    /// Alerts that may wait; beyond, the oldest is dropped.
    pub queue_max: u32,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            url: String::new(),
            secret: String::new(),
            secret_env: String::new(),
            timeout_ms: 5_000,
            attempts_max: 12,
            queue_max: 1_000,
        }
    }
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerts").field("attempts_max", &self.attempts_max).finish_non_exhaustive()
    }
}

impl Alerts {
    /// The same without what must not be shown; a URL may be a secret as a whole, but for where it is.
    #[must_use]
    pub(super) fn without_secrets(mut self) -> Self {
        if !self.secret.is_empty() {
            address::HIDDEN.clone_into(&mut self.secret);
        }
        self.url = address::shown_server(&self.url);
        self
    }

    /// Checks it.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub(super) fn validate(&self) -> Result<(), String> {
        check_url("url", &self.url)?;
        if !self.secret.is_empty() {
            signing_key(&self.secret).map_err(|e| format!("secret: {e}"))?;
            if !self.secret_env.is_empty() {
                return Err("secret_env: must be empty where `secret` is given".into());
            }
        }
        if !(1..=60_000).contains(&self.timeout_ms) {
            return Err("timeout_ms: must be 1 to 60000".into());
        }
        if !(1..=100).contains(&self.attempts_max) {
            return Err("attempts_max: must be 1 to 100".into());
        }
        if !(1..=100_000).contains(&self.queue_max) {
            return Err("queue_max: must be 1 to 100000".into());
        }
        Ok(())
    }
}

/// What is observed, and where traces go.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// SKUs whose sales `/metrics` tells one by one: those that sold most. 0: none.
    pub skus_max: u32,
    /// The collector that gets spans by OTLP over HTTP, as JSON; empty: traces are off.
    pub otlp_endpoint: String,
    /// The share of requests without a `traceparent` whose spans are kept, 0 to 1.
    pub otlp_sample_ratio: f64,
    /// Spans that may wait; beyond, new ones are dropped.
    pub otlp_queue_max: u32,
    /// How long one attempt to send spans may take.
    pub otlp_timeout_ms: u64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            skus_max: 20,
            otlp_endpoint: String::new(),
            otlp_sample_ratio: 0.01,
            otlp_queue_max: 16_384,
            otlp_timeout_ms: 5_000,
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("skus_max", &self.skus_max).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// The same without what must not be shown.
    #[must_use]
    pub(super) fn without_secrets(mut self) -> Self {
        self.otlp_endpoint = address::shown_server(&self.otlp_endpoint);
        self
    }

    /// Checks it.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub(super) fn validate(&self) -> Result<(), String> {
        check_url("otlp_endpoint", &self.otlp_endpoint)?;
        if self.skus_max > 1_000 {
            return Err("skus_max: must be at most 1000".into());
        }
        if !(0.0..=1.0).contains(&self.otlp_sample_ratio) {
            return Err("otlp_sample_ratio: must be 0 to 1".into());
        }
        if !(1..=1_000_000).contains(&self.otlp_queue_max) {
            return Err("otlp_queue_max: must be 1 to 1000000".into());
        }
        if !(1..=60_000).contains(&self.otlp_timeout_ms) {
            return Err("otlp_timeout_ms: must be 1 to 60000".into());
        }
        Ok(())
    }
}

fn check_url(field: &str, url: &str) -> Result<(), String> {
    if url.is_empty() {
        return Ok(());
    }
    match reqwest::Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => Ok(()),
        _ => Err(format!("{field}: must be a URL of http:// or https://")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level() -> ServiceLevelConfig {
        ServiceLevelConfig {
            name: "orders".into(),
            objective: Objective::OrderToWarehouse,
            sink: Some("wms".into()),
            within_ms: Some(5_000),
            target_percent: 95.0,
            window_hours: 720,
        }
    }

    #[test]
    fn what_is_wrong_with_a_service_level_is_named() {
        let sinks = [
            SinkConfig::new("wms", Domain::Fulfilment, "http://127.0.0.1:1/"),
            SinkConfig::new("erp", Domain::Inventory, "http://127.0.0.1:1/"),
        ];
        assert_eq!(level().validate(&sinks), Ok(()));
        type Spoil = fn(&mut ServiceLevelConfig);
        let cases: [(&str, Spoil); 11] = [
            ("name", |l| l.name = "A b".into()),
            ("target_percent", |l| l.target_percent = 100.0),
            ("target_percent", |l| l.target_percent = f64::NAN),
            ("window_hours", |l| l.window_hours = 721),
            ("within_ms", |l| l.within_ms = None),
            ("within_ms", |l| l.within_ms = Some(0)),
            ("within_ms", |l| (l.objective, l.sink) = (Objective::Availability, None)),
            ("sink", |l| l.sink = None),
            ("sink", |l| l.sink = Some("erp".into())),
            ("sink", |l| l.sink = Some("nobody".into())),
            ("sink", |l| l.objective = Objective::ReserveLatency),
        ];
        for (field, spoil) in cases {
            let mut wrong = level();
            spoil(&mut wrong);
            let error = wrong.validate(&sinks).unwrap_err();
            assert!(error.starts_with(&format!("{field}: ")), "{field}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_with_alerts_and_telemetry_is_named() {
        let alerts = Alerts { url: "ftp://x".into(), ..Alerts::default() };
        assert!(alerts.validate().unwrap_err().starts_with("url: "));
        let alerts = Alerts { secret: "s3cret".into(), ..Alerts::default() };
        assert!(alerts.validate().unwrap_err().starts_with("secret: "));
        let alerts = Alerts { attempts_max: 0, ..Alerts::default() };
        assert!(alerts.validate().unwrap_err().starts_with("attempts_max: "));
        let telemetry = Telemetry { otlp_sample_ratio: 1.1, ..Telemetry::default() };
        assert!(telemetry.validate().unwrap_err().starts_with("otlp_sample_ratio: "));
    }

    #[test]
    fn secrets_are_not_shown() {
        let url = "https://user:pass@hooks.example/T0/token";
        let alerts = Alerts { url: url.into(), secret: "whsec_x".into(), ..Alerts::default() };
        assert!(!format!("{alerts:?}").contains("whsec"));
        let shown = alerts.without_secrets();
        assert_eq!(shown.url, "https://hooks.example/(hidden)");
        assert_eq!(shown.secret, "(hidden)");
    }
}
