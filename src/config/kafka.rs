//! How a stream reaches a topic of Kafka: `[sinks.kafka]`, of sinks whose `url` begins with `kafka://` or
//! `kafka+tls://`. The other settings of the sink (window, time limit, policy) count as for any partner.
//!
//! It promises what that of a sink promises: every default and unit stands at its field, what is wrong is
//! named, and no secret is printed.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Auth, between};

/// The most bytes of a topic's name, as Kafka has it, and of a transactional id.
const NAME_BYTES_MAX: usize = 249;
/// The most brokers that are tried besides that of `url`.
const BROKERS_MAX: usize = 32;
/// The port of a broker whose address has none.
const PORT: u16 = 9092;

/// See the module.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// The topic that the records go to. It must be there, and be written to by nobody else. Required.
    pub topic: String,
    /// More brokers to begin with, like `url`, for when its is away: at most 32. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub brokers: Vec<String>,
    /// As whom transactions are made (`dedupe = "lookup"`): no two sinks of a cluster may have the same.
    /// Default `holdfast-` and the sink's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transactional_id: Option<String>,
    /// How far back a partition is read to find out whether a batch is there, in records: at least what may
    /// be under way at once. Default 10,000.
    pub lookback_records: u64,
    /// How we say who we are: `none` or `basic` (user and password). Default `none`.
    #[serde(skip_serializing_if = "is_none")]
    pub auth: Auth,
    /// How the password is shown: `plain`, `scram-sha-256` or `scram-sha-512`. Default `scram-sha-512`.
    pub sasl: Sasl,
    /// A file of certificates (PEM) that are trusted instead of the system's. Default absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// How a password is shown to a broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sasl {
    /// As it is: only by TLS.
    #[serde(rename = "plain")]
    Plain,
    /// Proved without being shown.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// Proved without being shown, with a longer hash.
    #[default]
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

impl Sasl {
    /// Its name in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            topic: String::new(),
            brokers: Vec::new(),
            transactional_id: None,
            lookback_records: 10_000,
            auth: Auth::None,
            sasl: Sasl::default(),
            ca_file: None,
        }
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("topic", &self.topic)
            .field("brokers", &self.brokers)
            .field("transactional_id", &self.transactional_id)
            .field("lookback_records", &self.lookback_records)
            .field("authenticates", &!is_none(&self.auth))
            .field("sasl", &self.sasl)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

fn is_none(auth: &Auth) -> bool {
    *auth == Auth::None
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Its name or number.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it is spoken to by TLS.
    pub secure: bool,
}

/// Reads `kafka://host:port` or `kafka+tls://host:port`.
///
/// # Errors
/// What it must be.
pub fn broker_address(url: &str) -> Result<BrokerAddress, String> {
    let url = reqwest::Url::parse(url).map_err(|e| e.to_string())?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    let host = url.host_str().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    let known = matches!(url.scheme(), "kafka" | "kafka+tls");
    if !known || !bare || !anonymous || host.is_empty() {
        return Err(
            "of a Kafka broker must be kafka://host:port or kafka+tls://host:port; who we are \
                    stands in `kafka.auth`"
                .into(),
        );
    }
    let (host, port) = (host.to_owned(), url.port().unwrap_or(PORT));
    Ok(BrokerAddress { host, port, secure: url.scheme() == "kafka+tls" })
}

impl KafkaConfig {
    /// The same without what must not be shown.
    pub fn without_secrets(mut self) -> Self {
        if let Auth::Basic { password: Some(password), .. } = &mut self.auth {
            "(hidden)".clone_into(password);
        }
        self
    }

    /// Checks every field; `url` is the sink's.
    ///
    /// # Errors
    /// What is wrong, beginning with the field's name.
    pub fn validate(&self, url: &BrokerAddress) -> Result<(), String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let is_name =
            |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed);
        if !is_name(&self.topic) || matches!(&*self.topic, "." | "..") {
            return Err("topic: must be given: 1 to 249 letters, digits, `.`, `_` or `-`".into());
        }
        if self.transactional_id.as_ref().is_some_and(|id| !is_name(id)) {
            return Err(
                "transactional_id: must be 1 to 249 letters, digits, `.`, `_` or `-`".into()
            );
        }
        if self.brokers.len() > BROKERS_MAX {
            return Err(format!("brokers: must be at most {BROKERS_MAX}"));
        }
        for broker in &self.brokers {
            let address = broker_address(broker).map_err(|e| format!("brokers: {e}"))?;
            if address.secure != url.secure {
                return Err("brokers: must be spoken to as `url` is, all by TLS or none".into());
            }
        }
        between("lookback_records", self.lookback_records, 1, 100_000_000)?;
        if !matches!(self.auth, Auth::None | Auth::Basic { .. }) {
            return Err("auth.kind: must be none or basic".into());
        }
        self.auth.check()?;
        if let Auth::Basic { user, .. } = &self.auth
            && (user.is_empty() || user.contains('\0'))
        {
            return Err("auth.user: must be given".into());
        }
        let shown = self.sasl == Sasl::Plain && !is_none(&self.auth);
        let loopback = matches!(&*url.host, "localhost" | "127.0.0.1" | "::1");
        if shown && !url.secure && !loopback {
            return Err("sasl: `plain` shows the password: only with kafka+tls://".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Dedupe, Domain, SinkConfig};

    fn sink(text: &str) -> Result<SinkConfig, String> {
        let head = "name = \"s\"\ndomain = \"stream\"\nurl = \"kafka://broker:9093\"\n";
        toml::from_str(&format!("{head}{text}")).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn brokers_are_found_by_their_address() {
        let address = |url| broker_address(url).map(|a| (a.host, a.port, a.secure));
        assert_eq!(address("kafka://broker:9093"), Ok(("broker".into(), 9093, false)));
        assert_eq!(address("kafka+tls://[::1]"), Ok(("::1".into(), 9092, true)));
        for wrong in [
            "kafka:",
            "kafka://",
            "kafka://b/topic",
            "kafka://me:pw@b",
            "http://b",
            "kafka://b?a=b",
        ] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    #[cfg(feature = "kafka")]
    fn what_is_wrong_is_named() {
        const TOPIC: &str = "[kafka]\ntopic = \"shop\"\n";
        assert_eq!(sink(TOPIC).unwrap().validate(), Ok(()));
        assert!(sink("[kafka]\ncolour = 1").is_err());
        for (text, field) in [
            ("", "kafka.topic:"),
            ("[kafka]\ntopic = \"a b\"", "kafka.topic:"),
            ("[kafka]\ntopic = \"..\"", "kafka.topic:"),
            ("[kafka]\ntopic = \"t\"\ntransactional_id = \"\"", "kafka.transactional_id:"),
            ("[kafka]\ntopic = \"t\"\nlookback_records = 0", "kafka.lookback_records:"),
            ("[kafka]\ntopic = \"t\"\nbrokers = [\"b:9092\"]", "kafka.brokers:"),
            ("[kafka]\ntopic = \"t\"\nbrokers = [\"kafka+tls://b\"]", "kafka.brokers:"),
            (
                "[kafka]\ntopic = \"t\"\n[kafka.auth]\nkind = \"bearer\"\ntoken = \"t\"",
                "kafka.auth.kind:",
            ),
            (
                "[kafka]\ntopic = \"t\"\nsasl = \"plain\"\n[kafka.auth]\nkind = \"basic\"\n\
                 user = \"u\"\npassword = \"p\"",
                "kafka.sasl:",
            ),
            ("preset = \"odoo\"\n[kafka]\ntopic = \"t\"", "preset:"),
            ("headers = { a = \"b\" }\n[kafka]\ntopic = \"t\"", "headers:"),
            ("[stream]\nsubject = \"a\"\n[kafka]\ntopic = \"t\"", "stream:"),
        ] {
            let error = sink(text).unwrap().validate().unwrap_err();
            assert!(error.starts_with(field), "{field} {error}");
        }
        let other = SinkConfig { domain: Domain::Finance, ..sink(TOPIC).unwrap() };
        assert!(other.validate().unwrap_err().starts_with("url:"));
        let http = SinkConfig { url: "http://127.0.0.1:1/".into(), ..sink(TOPIC).unwrap() };
        assert!(http.validate().unwrap_err().starts_with("kafka:"));
    }

    #[test]
    fn the_topic_is_read_back_unless_it_is_said_otherwise() {
        let dedupe = |text: &str| sink(text).unwrap().bounded().unwrap().dedupe;
        assert_eq!(dedupe(""), Dedupe::Lookup);
        assert_eq!(dedupe("dedupe = \"lookup\""), Dedupe::Lookup);
        assert_eq!(dedupe("dedupe = \"line\""), Dedupe::Line);
        assert_eq!(dedupe("dedupe = \"none\""), Dedupe::None);
    }

    #[test]
    fn secrets_are_not_printed() {
        let auth = "[kafka]\ntopic = \"t\"\n[kafka.auth]\nkind = \"basic\"\nuser = \"me\"\n\
                    password = \"swordfish\"";
        let config = sink(auth).unwrap();
        assert!(!format!("{config:?}").contains("swordfish"));
        let shown = toml::to_string(&config.without_secrets()).unwrap();
        assert!(shown.contains("(hidden)") && !shown.contains("swordfish"), "{shown}");
    }
}
