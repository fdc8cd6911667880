//! The configuration of one sink: which partner gets what, how wide its batches grow, and how they
//! are delivered.
//!
//! It promises that every default and unit is written at its field, that an unknown key is refused,
//! that [`SinkConfig::validate`] names the field that is wrong, and that no secret is printed.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Accounts, Auth, Connector, FilterConfig, KafkaConfig, Ordering, Overlay, Policy, Reconcile,
    StreamConfig, address, address::HIDDEN, broker_address,
};
use crate::model::{
    SchemaVersion,
    posting::{Account, Recognition},
    signature::signing_key,
    sink::Lane,
};

/// The most characters a sink's name may have.
pub const SINK_NAME_CHARS_MAX: usize = 32;
/// The most bytes that a batch's body may have: a seal is one record of the log, and a record has a
/// limit (256 KiB by default) that also has to carry the seal's own fields.
pub const BATCH_BYTES_LIMIT: u64 = 256 * 1024 - 4096;
/// The least that `batch_bytes_max` may be: the largest single order must fit.
pub const BATCH_BYTES_MIN: u64 = 96 * 1024;
/// The type of a list of CloudEvents (CloudEvents 1.0, JSON event format, section 4).
const CLOUD_EVENTS: &str = "application/cloudevents-batch+json";
/// The longest time of any setting here, in milliseconds: a day.
pub(super) const MS_MAX: u64 = 86_400_000;

/// What a sink's partner is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// Net stock movements per position: an ERP.
    Inventory,
    /// Pick waves, orders and not sums, most urgent first: a warehouse.
    Fulfilment,
    /// Balanced double-entry journal entries: the books.
    Finance,
    /// Every business event as a CloudEvent, in log order.
    Stream,
}

impl Domain {
    pub(crate) const ALL: [Self; 4] =
        [Self::Inventory, Self::Fulfilment, Self::Finance, Self::Stream];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Fulfilment => "fulfilment",
            Self::Finance => "finance",
            Self::Stream => "stream",
        }
    }

    /// The queues that its sinks have, most urgent first: where orders go out one by one, one for each
    /// priority.
    pub fn lanes(self) -> &'static [Lane] {
        match self {
            Self::Fulfilment => &Lane::ALL,
            Self::Inventory | Self::Finance | Self::Stream => &[Lane::Standard],
        }
    }
}

/// How a partner recognises what it has already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dedupe {
    /// By the id of every line, whatever batch brings it.
    Line,
    /// By the id of the batch, or of the half of one: a line that comes in another one is taken again.
    #[default]
    Batch,
    /// It does not, but can be asked whether it has a batch before it is sent again.
    Lookup,
    /// It does not: what may have had its effect must not be sent again.
    None,
}

/// One sink. `name`, `domain` and `url` must be given; the rest has defaults.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// Its name: 1 to 32 lower-case letters, digits, `-` and `_`. It is part of every batch's
    /// identity, so that a renamed sink is a new one.
    pub name: String,
    /// What it gets: `inventory` (net stock movements), `fulfilment` (pick waves), `finance` (journal
    /// entries) or `stream` (CloudEvents).
    pub domain: Domain,
    /// Where its partner is: an `http://` or `https://` URL, without what the preset adds; of a stream also
    /// `nats://host:port` or `tls://host:port`, a NATS server with JetStream, and `kafka://host:port` or
    /// `kafka+tls://host:port`, a broker of Kafka.
    pub url: String,
    /// The version of the schemas that its bodies keep to, whatever this program's own is: 1. Default:
    /// the newest, 1.
    #[serde(default)]
    pub schema_version: SchemaVersion,
    /// How the partner is spoken to: `generic`, `tryton`, `odoo`, `erpnext`, `business-central`,
    /// `netsuite` or `sap-s4`. Default `generic`.
    #[serde(default = "preset")]
    pub preset: String,
    /// What is laid over the preset, any field of it. Default empty.
    #[serde(default, skip_serializing_if = "Overlay::is_empty")]
    pub connector: Overlay,
    /// A window is large enough with so many records. Default 10,000.
    #[serde(default = "window_events_max")]
    pub window_events_max: u64,
    /// A window is old enough after so many milliseconds. Default 1,000.
    #[serde(default = "window_ms_max")]
    pub window_ms_max: u64,
    /// The most lines of a batch (postings of a finance sink, orders and cancellations of a fulfilment
    /// sink, events of a stream). Default 5,000.
    #[serde(default = "lines_max")]
    pub lines_max: u64,
    /// The most bytes of a batch's body, 98,304 to 258,048. What does not fit into one window waits
    /// in the log, not in memory. Default 245,760.
    #[serde(default = "batch_bytes_max")]
    pub batch_bytes_max: u64,
    /// How the partner recognises what it has already: `line`, `batch`, `lookup` or `none`. It decides
    /// whether a batch may be halved to find its bad lines, and whether one may be repeated. Default
    /// `batch`.
    #[serde(default)]
    pub dedupe: Dedupe,
    /// How long one attempt may take, in milliseconds. Default 10,000.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// The most attempts a second, retries included; absent: no limit. Default absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    /// The first wait before a repeated attempt is random, up to so many milliseconds; the bound
    /// doubles with each attempt. Default 100.
    #[serde(default = "retry_initial_ms")]
    pub retry_initial_ms: u64,
    /// The longest of these waits, in milliseconds. Default 30,000.
    #[serde(default = "retry_max_ms")]
    pub retry_max_ms: u64,
    /// Signs what is sent (Standard Webhooks): `whsec_` and 24 to 64 bytes in base64. Default
    /// absent: unsigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_secret: Option<String>,
    /// Headers sent along, by name; their values are kept out of logs. Default none.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// When a finance sink recognises revenue: `commit`, `shipment` or `invoice`. Default `commit`.
    #[serde(default)]
    pub recognition: Recognition,
    /// The most records of a finance sink that wait for what must be booked first. Beyond it the
    /// oldest is booked as it is. Default 1,000.
    #[serde(default = "parked_max")]
    pub parked_max: u64,
    /// The most dead letters of the sink. With so many it seals nothing more until somebody has dealt
    /// with some. Default 10,000.
    #[serde(default = "letters_max")]
    pub letters_max: u64,
    /// The accounts of a finance sink.
    #[serde(default)]
    pub accounts: Accounts,
    /// What of the log it gets. Default all.
    #[serde(default)]
    pub filter: FilterConfig,
    /// How batches are delivered.
    #[serde(default)]
    pub policy: Policy,
    /// How a stream reaches a message broker. Only with a `nats://` or `tls://` URL.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stream: StreamConfig,
    /// How a stream reaches a topic of Kafka. Only with a `kafka://` or `kafka+tls://` URL.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kafka: KafkaConfig,
    /// How an inventory sink's partner is asked for its stock. Default absent: it can't be reconciled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<Reconcile>,
}

fn is_default<T: Default + PartialEq>(section: &T) -> bool {
    *section == T::default()
}

fn preset() -> String {
    "generic".into()
}
const fn window_events_max() -> u64 {
    10_000
}
const fn window_ms_max() -> u64 {
    1_000
}
const fn lines_max() -> u64 {
    5_000
}
const fn batch_bytes_max() -> u64 {
    240 * 1024
}
const fn timeout_ms() -> u64 {
    10_000
}
const fn retry_initial_ms() -> u64 {
    100
}
const fn parked_max() -> u64 {
    1_000
}
const fn letters_max() -> u64 {
    10_000
}
const fn retry_max_ms() -> u64 {
    30_000
}

impl Default for SinkConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            domain: Domain::Inventory,
            url: String::new(),
            schema_version: SchemaVersion::default(),
            preset: preset(),
            connector: Overlay::default(),
            window_events_max: window_events_max(),
            window_ms_max: window_ms_max(),
            lines_max: lines_max(),
            batch_bytes_max: batch_bytes_max(),
            dedupe: Dedupe::default(),
            timeout_ms: timeout_ms(),
            rate_per_s: None,
            retry_initial_ms: retry_initial_ms(),
            retry_max_ms: retry_max_ms(),
            signing_secret: None,
            headers: BTreeMap::new(),
            recognition: Recognition::default(),
            parked_max: parked_max(),
            letters_max: letters_max(),
            accounts: Accounts::default(),
            filter: FilterConfig::default(),
            policy: Policy::default(),
            stream: StreamConfig::default(),
            kafka: KafkaConfig::default(),
            reconcile: None,
        }
    }
}

impl fmt::Debug for SinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.clone().without_secrets();
        f.debug_struct("SinkConfig")
            .field("name", &shown.name)
            .field("domain", &shown.domain)
            .field("url", &shown.url)
            .field("schema_version", &shown.schema_version)
            .field("preset", &shown.preset)
            .field("connector", &shown.connector)
            .field("window_events_max", &shown.window_events_max)
            .field("window_ms_max", &shown.window_ms_max)
            .field("lines_max", &shown.lines_max)
            .field("batch_bytes_max", &shown.batch_bytes_max)
            .field("dedupe", &shown.dedupe)
            .field("timeout_ms", &shown.timeout_ms)
            .field("rate_per_s", &shown.rate_per_s)
            .field("retry_initial_ms", &shown.retry_initial_ms)
            .field("retry_max_ms", &shown.retry_max_ms)
            .field("signing_secret", &shown.signing_secret)
            .field("headers", &shown.headers)
            .field("recognition", &shown.recognition)
            .field("parked_max", &shown.parked_max)
            .field("letters_max", &shown.letters_max)
            .field("accounts", &shown.accounts)
            .field("filter", &shown.filter)
            .field("policy", &shown.policy)
            .field("stream", &shown.stream)
            .field("kafka", &shown.kafka)
            .field("reconcile", &shown.reconcile)
            .finish()
    }
}

impl SinkConfig {
    /// A sink with every default.
    pub fn new(name: impl Into<String>, domain: Domain, url: impl Into<String>) -> Self {
        Self { name: name.into(), domain, url: url.into(), ..Self::default() }
    }

    /// The same without what must not be shown: header values, the signing secret, and of addresses what
    /// [`address::shown`] hides.
    pub fn without_secrets(mut self) -> Self {
        for value in self.headers.values_mut() {
            HIDDEN.clone_into(value);
        }
        if let Some(secret) = &mut self.signing_secret {
            HIDDEN.clone_into(secret);
        }
        self.url = address::shown(&self.url);
        if let Some(reconcile) = &mut self.reconcile {
            reconcile.url = address::shown(&reconcile.url);
        }
        self.connector = self.connector.without_secrets();
        self.stream = self.stream.without_secrets();
        self.kafka = self.kafka.without_secrets();
        self
    }

    /// How the partner is spoken to: the preset with what the sink lays over it.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn connector(&self) -> Result<Connector, String> {
        let mut connector = self.connector.over(&self.preset, self.domain)?;
        connector.schema_version = self.schema_version;
        let is_default = connector.content_type == Connector::default().content_type;
        if self.domain == Domain::Stream && connector.body.is_none() && is_default {
            // The JSON batch format of CloudEvents 1.0.
            CLOUD_EVENTS.clone_into(&mut connector.content_type);
        }
        Ok(connector)
    }

    /// The same with what its connector decides: windows no wider than the receiver takes at once, and
    /// how that recognises what it has.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn bounded(mut self) -> Result<Self, String> {
        let connector = self.connector()?;
        self.lines_max = self.lines_max.min(connector.lines_max);
        self.dedupe = connector.dedupe.unwrap_or(self.dedupe);
        if self.speaks_nats() && self.dedupe != Dedupe::None {
            // A server and consumers know an event by its id, whatever batch brings it.
            self.dedupe = Dedupe::Line;
        }
        if self.speaks_kafka() && self.dedupe == Dedupe::default() {
            // What is committed in the topic can be read back.
            self.dedupe = Dedupe::Lookup;
        }
        Ok(self)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// What is wrong, beginning with the field's name.
    pub fn validate(&self) -> Result<(), String> {
        check_name(&self.name)?;
        self.check_url()?;
        self.check_headers()?;
        self.check_window()?;
        self.check_retry()?;
        self.policy.validate()?;
        if let Some(reconcile) = &self.reconcile {
            reconcile.validate(self)?;
        }
        if self.domain == Domain::Finance && self.policy.ordering == Ordering::None {
            return Err(
                "policy.ordering: a finance sink's must be strict; what an order does must \
                        reach the books in its order"
                    .into(),
            );
        }
        self.check_stream()?;
        self.check_connector()?;
        if let Some(secret) = &self.signing_secret {
            signing_key(secret).map_err(|e| format!("signing_secret: {e}"))?;
        }
        self.accounts.validate().map_err(|e| format!("accounts.{e}"))?;
        self.filter.validate(self.domain)
    }

    /// The version of what renders a batch, as its seal records it: a digest of the settings that
    /// shape the body, so that two seals of one version were rendered alike.
    pub fn render_version(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        let names = Account::ALL.map(|account| self.accounts.name(account));
        let head = ["2", &self.name, self.domain.as_str(), self.recognition.as_str()];
        let filter = self.filter.parts();
        for part in head.into_iter().chain(names).chain(filter.iter().map(String::as_str)) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        if self.schema_version != SchemaVersion::V1 {
            // What was sealed before there were versions is of the first.
            hasher.update(&self.schema_version.number().to_le_bytes());
        }
        if let Ok(connector) = self.connector() {
            connector.digest_into(&mut hasher);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }

    fn check_url(&self) -> Result<(), String> {
        let url = reqwest::Url::parse(&self.url).map_err(|e| format!("url: {e}"))?;
        match url.scheme() {
            "http" | "https" => Ok(()),
            "nats" | "tls" | "kafka" | "kafka+tls" if self.domain != Domain::Stream => {
                Err("url: only a stream goes to a message broker; its `domain` is another".into())
            }
            "nats" | "tls" if cfg!(not(feature = "nats")) => {
                Err("url: this program was built without NATS (the cargo feature `nats`)".into())
            }
            "kafka" | "kafka+tls" if cfg!(not(feature = "kafka")) => {
                Err("url: this program was built without Kafka (the cargo feature `kafka`)".into())
            }
            "kafka" | "kafka+tls" => {
                broker_address(&self.url).map(|_| ()).map_err(|e| format!("url: {e}"))
            }
            "nats" | "tls" => {
                let bare = matches!(url.path(), "" | "/") && url.query().is_none();
                let has_host = url.host_str().is_some_and(|host| !host.is_empty());
                (bare && has_host).then_some(()).ok_or_else(|| {
                    "url: of a NATS server must be nats://host:port or tls://host:port".into()
                })
            }
            _ => Err("url: must begin with https:// or http://".into()),
        }
    }

    /// Whether its partner is a NATS server.
    pub fn speaks_nats(&self) -> bool {
        ["nats:", "tls:"].iter().any(|scheme| self.url.starts_with(scheme))
    }

    /// Whether its partner is a broker of Kafka.
    pub fn speaks_kafka(&self) -> bool {
        ["kafka:", "kafka+tls:"].iter().any(|scheme| self.url.starts_with(scheme))
    }

    /// What is there for HTTP or another broker must not be set for a message broker, and the other way
    /// round.
    fn check_stream(&self) -> Result<(), String> {
        if !self.speaks_nats() && !is_default(&self.stream) {
            return Err("stream: is for sinks whose `url` begins with nats:// or tls://".into());
        }
        if !self.speaks_kafka() && !is_default(&self.kafka) {
            return Err(
                "kafka: is for sinks whose `url` begins with kafka:// or kafka+tls://".into()
            );
        }
        if !self.speaks_nats() && !self.speaks_kafka() {
            return Ok(());
        }
        if self.preset != preset() || !self.connector.is_empty() {
            return Err("preset: and `connector` are for HTTP; see docs/streams.md".into());
        }
        if !self.headers.is_empty() {
            return Err("headers: are for HTTP; see docs/streams.md".into());
        }
        if self.signing_secret.is_some() {
            return Err("signing_secret: is for HTTP; messages are not signed".into());
        }
        if self.speaks_kafka() {
            let url = broker_address(&self.url).map_err(|e| format!("url: {e}"))?;
            return self.kafka.validate(&url).map_err(|e| format!("kafka.{e}"));
        }
        if self.dedupe == Dedupe::Lookup {
            return Err("dedupe: a NATS server can't be asked; leave it out, or say `none`".into());
        }
        let url = reqwest::Url::parse(&self.url).map_err(|e| format!("url: {e}"))?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        self.stream.validate(has_user).map_err(|e| format!("stream.{e}"))
    }

    fn check_connector(&self) -> Result<(), String> {
        let connector = self.connector()?;
        // A topic is read back without being told how.
        let dedupe = if self.speaks_kafka() { Dedupe::default() } else { self.dedupe };
        connector.check(self.domain, dedupe).map_err(|e| match self.preset.as_str() {
            "generic" => format!("connector.{e}"),
            preset => format!("connector.{e} (with the preset `{preset}`)"),
        })?;
        if connector
            .dedupe
            .is_some_and(|known| self.dedupe != Dedupe::default() && self.dedupe != known)
        {
            return Err("dedupe: the preset says otherwise; say it in [sinks.connector] if the \
                        receiver was changed"
                .into());
        }
        if self.signing_secret.is_some() && !connector.webhooks {
            return Err("signing_secret: the connector does not sign; see its `webhooks`".into());
        }
        let authorized = self.headers.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
        if authorized && connector.auth != Auth::None {
            return Err("headers.authorization: and `connector.auth` exclude each other".into());
        }
        let base_has_query = reqwest::Url::parse(&self.url).is_ok_and(|url| url.query().is_some());
        if base_has_query
            && connector.requests().iter().any(|(_, request)| !request.path.is_empty())
        {
            return Err("url: must have no query, since the connector adds to it".into());
        }
        Ok(())
    }

    fn check_headers(&self) -> Result<(), String> {
        for (name, value) in &self.headers {
            let wrong = |what: &str| format!("headers.{name}: {what}");
            reqwest::header::HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| wrong("is not the name of a header"))?;
            reqwest::header::HeaderValue::from_str(value)
                .map_err(|_| wrong("its value is not visible ASCII"))?;
            if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                return Err(wrong("is set by Holdfast itself"));
            }
        }
        Ok(())
    }

    fn check_window(&self) -> Result<(), String> {
        between("window_events_max", self.window_events_max, 1, 10_000_000)?;
        between("window_ms_max", self.window_ms_max, 1, MS_MAX)?;
        between("lines_max", self.lines_max, 1, 1_000_000)?;
        between("parked_max", self.parked_max, 1, 100_000)?;
        between("letters_max", self.letters_max, 1, 1_000_000)?;
        between("batch_bytes_max", self.batch_bytes_max, BATCH_BYTES_MIN, BATCH_BYTES_LIMIT)
    }

    fn check_retry(&self) -> Result<(), String> {
        between("timeout_ms", self.timeout_ms, 1, MS_MAX)?;
        between("retry_initial_ms", self.retry_initial_ms, 1, MS_MAX)?;
        between("retry_max_ms", self.retry_max_ms, self.retry_initial_ms, MS_MAX)?;
        match self.rate_per_s {
            Some(rate) if !(0.001..=100_000.0).contains(&rate) => {
                Err("rate_per_s: must be 0.001 to 100000".into())
            }
            _ => Ok(()),
        }
    }
}

/// Headers that every batch carries and no configuration may set.
const OWN_HEADERS: [&str; 8] = [
    "content-type",
    "content-length",
    "holdfast-schema-version",
    "host",
    "idempotency-key",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];

/// Refuses what is no name of a sink or a partner.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if !(1..=SINK_NAME_CHARS_MAX).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err("name: must be 1 to 32 lower-case letters, digits, `-` or `_`".into());
    }
    Ok(())
}

/// Refuses what is not within its bounds.
pub(super) fn between<T: PartialOrd + fmt::Display>(
    field: &str,
    value: T,
    least: T,
    most: T,
) -> Result<(), String> {
    if (&least..=&most).contains(&&value) {
        Ok(())
    } else {
        Err(format!("{field}: must be {least} to {most}, is {value}"))
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
