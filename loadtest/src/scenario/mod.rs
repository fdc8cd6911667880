//! Scenarios: what shoppers do, how many come when, what they meet, and how well they must be served.
//!
//! A scenario is a TOML file. Every field but `stages` has a default; a field that is unknown, of a wrong
//! kind or out of its range is refused by its name, so that a misspelt one never makes another run than
//! was meant. `docs/loadtest.md` has them all.

mod check;
mod ready;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::schedule::{self, Arrivals, Schedule, Stage};
pub use ready::READY;

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a ready one nor a file.
    #[error(
        "there is no scenario `{name}`: it is neither a file nor one of {}",
        READY.map(|(name, _)| name).join(", ")
    )]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The file can't be read.
    #[error("reading the scenario {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not TOML, or a field is unknown, missing or of a wrong kind.
    #[error("{name}: `{field}`: {reason}")]
    Malformed {
        /// The scenario.
        name: String,
        /// The field.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// A field is out of its range.
    #[error("{name}: `{field}` {reason}")]
    OutOfRange {
        /// The scenario.
        name: String,
        /// The field.
        field: String,
        /// What it must be.
        reason: String,
    },
}

/// A scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, for reports; absent: that of its file.
    #[serde(default)]
    pub name: String,
    /// What it is about, in a sentence.
    #[serde(default)]
    pub about: String,
    /// What its plan is made from; the same seed makes the same plan.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// How instants follow from the rates.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// How the rate goes; at least one.
    pub stages: Vec<Stage>,
    /// What there is to buy.
    #[serde(default)]
    pub catalogue: Catalogue,
    /// What shoppers do.
    #[serde(default)]
    pub shoppers: Shoppers,
    /// When they ask again.
    #[serde(default)]
    pub retries: Retries,
    /// How requests are sent.
    #[serde(default)]
    pub sending: Sending,
    /// How well they must be served.
    #[serde(default)]
    pub slo: Slo,
    /// The server that the tester starts for itself.
    #[serde(default)]
    pub server: Server,
    /// The receivers behind that server. Absent: one of stock movements that is always there.
    #[serde(default = "default_receivers")]
    pub receivers: Vec<ReceiverSpec>,
    /// What the files that it names are relative to.
    #[serde(skip)]
    pub folder: PathBuf,
}

fn default_seed() -> u64 {
    1
}

/// What there is to buy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Catalogue {
    /// SKUs: 1 to 1,000,000.
    pub skus: u32,
    /// Units of each SKU, over all locations: 0 to 1,000,000,000.
    pub stock: u32,
    /// Locations that each SKU is stocked at: 1 to 16.
    pub locations: u32,
    /// Popularity: the SKU of rank r is chosen in proportion to 1 / r^zipf; 0: all alike. 0 to 4.
    pub zipf: f64,
    /// The most units of a SKU that a customer may have; absent: no limit.
    pub purchase_limit: Option<u32>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self { skus: 1_000, stock: 1_000_000, locations: 1, zipf: 1.0, purchase_limit: None }
    }
}

/// What shoppers do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shoppers {
    /// Different customers: 1 to 1,000,000,000.
    pub customers: u32,
    /// Weights of carts with one line, two lines and so on, at most 16.
    pub lines: Vec<f64>,
    /// Weights of lines of one unit, two units and so on, at most 100.
    pub quantity: Vec<f64>,
    /// The share of shoppers who leave what they hold until it expires.
    pub abandon: f64,
    /// The share whose payment fails, so that they give back what they hold.
    pub payment_failure: f64,
    /// The share who order in one step, without holding first.
    pub one_step: f64,
    /// Those who hold think for a time between these two before they pay or give back, in milliseconds.
    pub think_ms: [u64; 2],
    /// How long a hold lasts, in milliseconds.
    pub ttl_ms: u64,
}

impl Default for Shoppers {
    fn default() -> Self {
        Self {
            customers: 10_000_000,
            lines: vec![1.0],
            quantity: vec![1.0],
            abandon: 0.0,
            payment_failure: 0.0,
            one_step: 0.0,
            think_ms: [1_000, 3_000],
            ttl_ms: 3_600_000,
        }
    }
}

/// When shoppers ask again, always under the same key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// The most times that a request is sent: 1 to 20.
    pub attempts_max: u32,
    /// Without an answer for so long a shopper asks again, in milliseconds, and goes on waiting for the
    /// first answer too: what makes a retry storm. Absent: he is patient.
    pub patience_ms: Option<u64>,
    /// After an error or an answer "overloaded" he asks again after a random time up to so long, which
    /// doubles each time, in milliseconds.
    pub backoff_ms: u64,
    /// The share of shoppers who send their first request twice.
    pub twice: f64,
    /// How long after the first they do, in milliseconds.
    pub twice_after_ms: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            patience_ms: None,
            backoff_ms: 200,
            twice: 0.0,
            twice_after_ms: 100,
        }
    }
}

/// How requests are sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sending {
    /// Connections: 1 to 20,000.
    pub connections: u32,
    /// Threads that send: 1 to 64.
    pub senders: u32,
    /// A request without an answer so long after its planned instant has failed, in milliseconds.
    pub timeout_ms: u64,
    /// How long the rest is waited for after the last planned instant, in milliseconds.
    pub drain_ms: u64,
    /// What is planned in the first so many seconds is sent and audited, but not measured.
    pub warm_up_s: f64,
    /// The last so many microseconds before an instant are waited for by looking at the clock rather
    /// than by sleeping.
    pub spin_us: u64,
    /// A run in which one request in a thousand was sent later than this by the tester's own fault is
    /// void, in microseconds.
    pub lag_p999_us_max: u64,
    /// The most reservations of one batch request: 1 to 1,000. Only where batches are sent.
    pub batch_max: u32,
}

impl Default for Sending {
    fn default() -> Self {
        Self {
            connections: 64,
            senders: 1,
            timeout_ms: 10_000,
            drain_ms: 15_000,
            warm_up_s: 0.0,
            spin_us: 10,
            lag_p999_us_max: 5_000,
            batch_max: 100,
        }
    }
}

/// How well requests must be served; what is absent is not asked for. Times are response times, from
/// the planned instant, of everything that was planned.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slo {
    /// Half are answered within, in milliseconds.
    pub p50_ms: Option<f64>,
    /// 99 % are.
    pub p99_ms: Option<f64>,
    /// 99.9 % are.
    pub p999_ms: Option<f64>,
    /// All are.
    pub max_ms: Option<f64>,
    /// The largest share of errors, requests without an answer in time among them.
    pub errors_share: Option<f64>,
    /// The largest share of answers "overloaded".
    pub shed_share: Option<f64>,
}

/// The server that the tester starts for itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// When it answers: `disk` or `memory`.
    pub ack: Ack,
    /// Further configuration of Holdfast, as in its own file.
    pub config: toml::Table,
}

impl Default for Server {
    fn default() -> Self {
        Self { ack: Ack::Disk, config: toml::Table::new() }
    }
}

/// When the tester's own server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// After the sync.
    #[default]
    Disk,
    /// As soon as it would survive a killed process.
    Memory,
}

impl Ack {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
        }
    }
}

/// A receiver behind the tester's own server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverSpec {
    /// Its name.
    pub name: String,
    /// What it gets.
    pub domain: Domain,
    /// The most calls a second that it takes; absent: all.
    #[serde(default)]
    pub rate_per_s: Option<u32>,
    /// How long it thinks about a call, in milliseconds.
    #[serde(default)]
    pub latency_ms: u64,
    /// When it is down.
    #[serde(default)]
    pub outages: Vec<Outage>,
}

/// What a receiver gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// Net stock movements, as an ERP.
    Inventory,
    /// Journal entries, as finance.
    Finance,
}

impl Domain {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Finance => "finance",
        }
    }
}

/// When a receiver is down: it answers 503 to everything.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// From here on, in seconds since the run's start.
    pub at_s: f64,
    /// So long.
    pub for_s: f64,
}

fn default_receivers() -> Vec<ReceiverSpec> {
    vec![ReceiverSpec {
        name: "erp".to_owned(),
        domain: Domain::Inventory,
        rate_per_s: None,
        latency_ms: 20,
        outages: Vec::new(),
    }]
}

impl Scenario {
    /// The one of this name: a ready one, else a file.
    ///
    /// # Errors
    /// If there is none, or it is not one.
    pub fn find(name: &str) -> Result<Self, Error> {
        if let Some((_, text)) = READY.iter().find(|(ready, _)| *ready == name) {
            return Self::parse(name, text, Path::new("."));
        }
        let path = Path::new(name);
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Unknown { name: name.to_owned() });
            }
            Err(source) => return Err(Error::Unreadable { path: path.to_owned(), source }),
        };
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Self::parse(&stem.unwrap_or_default(), &text, path.parent().unwrap_or(Path::new(".")))
    }

    /// Reads one. `name` is for errors and for a scenario that has none of its own; `folder` is what
    /// the files that it names are relative to.
    ///
    /// # Errors
    /// If it is not one; the field is named.
    pub fn parse(name: &str, text: &str, folder: &Path) -> Result<Self, Error> {
        let malformed = |field: &str, reason: &str| Error::Malformed {
            name: name.to_owned(),
            field: field.to_owned(),
            reason: reason.trim().to_owned(),
        };
        let toml = toml::Deserializer::parse(text)
            .map_err(|error| malformed("the file", &error.to_string()))?;
        let mut scenario: Self = serde_path_to_error::deserialize(toml).map_err(|error| {
            let field = error.path().to_string();
            malformed(&field, error.inner().message())
        })?;
        if scenario.name.is_empty() {
            scenario.name = name.to_owned();
        }
        scenario.folder = folder.to_owned();
        scenario.check().map_err(|(field, reason)| Error::OutOfRange {
            name: name.to_owned(),
            field,
            reason,
        })?;
        Ok(scenario)
    }

    /// The highest planned rate of first requests, in requests a second; 0 for a trace.
    pub fn peak_rate(&self) -> f64 {
        schedule::peak(&self.stages)
    }

    /// The instants of its requests, with all rates multiplied by `scale`.
    ///
    /// # Errors
    /// As [`Schedule::new`].
    pub fn schedule(&self, scale: f64) -> Result<Schedule, schedule::Error> {
        Schedule::new(&self.stages, self.arrivals, scale, self.seed, &self.folder)
    }
}

#[cfg(test)]
mod tests;
