//! The whole configuration, read and checked once at the start: TOML, then the environment, then
//! the command line.
//!
//! # What it promises
//!
//! - Every key has a default; an empty file is a complete configuration (without sinks).
//!   `holdfast.example.toml` lists every key with its unit and its default, and is tested to say
//!   the truth.
//! - A misspelt key or a wrong value is an error that names the file, the line and the key, or the
//!   variable of the environment. Nothing is ignored silently.
//! - `HOLDFAST__SECTION__KEY` in the environment overrides a key of the sections `server`,
//!   `gateway`, `log`, `engine`, `telemetry` and `alerts`. The double underscore keeps clear of the variables that container platforms make
//!   from a service's name. Sinks and partners, being lists, come from the file alone; the
//!   secrets of partners may stand in variables that the file names.
//! - Units stand last in a name: `_ms` milliseconds, `_bytes` bytes (a number, or a text such as
//!   `"64 MiB"`), `_max` the most there may be.
//!
//! The sections mirror the options of the parts that they configure, but this module imports the
//! words of the house only; the command line turns one into the other.

mod accounts;
pub mod address;
pub mod change;
mod check;
mod connector;
mod environment;
mod error;
mod filter;
mod freeze;
mod gateway;
mod kafka;
mod partner;
mod policy;
mod reconcile;
mod service_level;
mod sink;
mod size;
mod stream;
mod tls;

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::model::{Location, TaxCodes};

pub use accounts::Accounts;
pub use check::Source;
pub use connector::*;
pub(crate) use connector::{
    HEADER_BYTES_MAX, sample_batch, written_domain, written_recognition, written_rendering,
};
pub use error::Error;
pub use filter::*;
pub use freeze::Freeze;
pub use gateway::{Gateway, Listen};
pub use kafka::{BrokerAddress, KafkaConfig, Sasl, broker_address};
pub use partner::*;
pub use policy::{Ordering, Policy};
pub use reconcile::Reconcile;
pub use service_level::{Alerts, Objective, ServiceLevelConfig, Telemetry};
pub use sink::*;
pub use size::{ByteSize, NotASize};
pub use stream::{StreamConfig, SubjectTemplate};
pub use tls::TlsConfig;

/// The archive's directory in the data directory, unless another one is named.
const ARCHIVE: &str = "archive";

/// Everything that can be configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The HTTP server, and where the data lies.
    pub server: Server,
    /// The gateway.
    pub gateway: Gateway,
    /// The log.
    pub log: Log,
    /// Reservations and what is kept of them.
    pub engine: Engine,
    /// What is observed.
    pub telemetry: Telemetry,
    /// Who is told of what an operator must know.
    pub alerts: Alerts,
    /// What is promised.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_levels: Vec<ServiceLevelConfig>,
    /// The receivers behind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<SinkConfig>,
    /// Who may call, and whose messages are taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partners: Vec<PartnerConfig>,
    /// When nobody may replay or discard.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<Freeze>,
}

/// The HTTP server, and where the data lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// The address to listen on; without API keys (`[[partners]]`) only a loopback one.
    pub listen: SocketAddr,
    /// Whether the API keys are in the log, where `holdfast partner add` puts them: then other addresses
    /// than loopback ones may be listened on, and a start without a key in the log is refused.
    pub keys_in_log: bool,
    /// The data directory.
    pub data: PathBuf,
    /// Worker threads; 0: one a core.
    pub threads: u32,
    /// The largest body of a request, imports apart.
    pub body_bytes_max: ByteSize,
    /// The largest body of a stock import.
    pub import_bytes_max: ByteSize,
    /// The longest line of an import.
    pub import_line_bytes_max: ByteSize,
    /// Refused lines that an import names.
    pub import_refused_max: u32,
    /// The longest that an import may take.
    pub import_timeout_ms: u64,
    /// Headers of a request.
    pub headers_max: u32,
    /// A request's target and headers together.
    pub header_bytes_max: ByteSize,
    /// The longest that a head may take, and that a kept connection may idle.
    pub header_read_timeout_ms: u64,
    /// The longest that a body may take, and then the answer's wait for the log.
    pub request_timeout_ms: u64,
    /// Whether connections are kept for further requests.
    pub keep_alive: bool,
    /// Connections at a time.
    pub connections_max: u32,
    /// Requests at a time on one HTTP/2 connection.
    pub streams_max: u32,
    /// Requests at a time.
    pub in_flight_max: u32,
    /// At the end: how long accepted requests may take to be answered, and sinks to come to rest.
    pub shutdown_grace_ms: u64,
    /// Reservations of one batch.
    pub batch_max: u32,
    /// SKUs of one question.
    pub skus_max: u32,
    /// Reservations of one page.
    pub page_max: u32,
    /// Streams of the live view at a time.
    pub live_max: u32,
    /// How connections speak TLS; absent: they don't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7411)),
            keys_in_log: false,
            data: PathBuf::from("holdfast-data"),
            threads: 0,
            body_bytes_max: ByteSize::mib(1),
            import_bytes_max: ByteSize::mib(1024),
            import_line_bytes_max: ByteSize(16 << 10),
            import_refused_max: 10_000,
            import_timeout_ms: 600_000,
            headers_max: 64,
            header_bytes_max: ByteSize(16 << 10),
            header_read_timeout_ms: 60_000,
            request_timeout_ms: 10_000,
            keep_alive: true,
            connections_max: 10_000,
            streams_max: 250,
            in_flight_max: 65_536,
            shutdown_grace_ms: 10_000,
            batch_max: 1_000,
            skus_max: 1_000,
            page_max: 1_000,
            live_max: 64,
            tls: None,
        }
    }
}

/// When a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// After its record is synced to the disk.
    Disk,
    /// After its record is in memory that survives a killed process, but not a lost machine.
    Memory,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// When a request is answered.
    pub ack: Ack,
    /// The size of one segment's file.
    pub segment_bytes: ByteSize,
    /// The disk space that the log may take; beyond it new reservations are refused.
    pub budget_bytes: ByteSize,
    /// The share of the budget, in percent, beyond which low-priority work is refused.
    pub soft_mark_percent: u32,
    /// The part of the budget that is kept for what happens to orders.
    pub order_reserve_bytes: ByteSize,
    /// The part of the budget that is kept for deliveries.
    pub delivery_reserve_bytes: ByteSize,
    /// Segments kept ready ahead of the tail.
    pub ready_segments: u32,
    /// The largest record.
    pub record_bytes_max: ByteSize,
    /// The most that may wait for a sync.
    pub unsynced_bytes_max: ByteSize,
    /// Under load, groups of records are synced so far apart at least.
    pub group_us: u64,
    /// An idle log writes its mark after so long.
    pub idle_mark_ms: u64,
    /// How long a request waits for room in the log.
    pub room_wait_ms_max: u64,
    /// A record that is claimed and not written for so long poisons the log.
    pub hole_ms_max: u64,
    /// Whether what the log lets go is kept compressed.
    pub archive: bool,
    /// Where; absent: in `archive` in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_dir: Option<PathBuf>,
    /// What the archive may take; the oldest goes first.
    pub archive_bytes_max: ByteSize,
    /// How long it keeps a segment after its last record.
    pub archive_horizon_days: u32,
}

impl Log {
    /// The archive's directory beside a data directory; `None` if nothing is archived.
    pub fn archive_of(&self, data: &Path) -> Option<PathBuf> {
        let dir = self.archive_dir.clone().unwrap_or_else(|| data.join(ARCHIVE));
        self.archive.then_some(dir)
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            ack: Ack::Disk,
            segment_bytes: ByteSize::mib(64),
            budget_bytes: ByteSize::mib(16 * 1024),
            soft_mark_percent: 80,
            order_reserve_bytes: ByteSize::mib(64),
            delivery_reserve_bytes: ByteSize::mib(512),
            ready_segments: 3,
            record_bytes_max: ByteSize(256 << 10),
            unsynced_bytes_max: ByteSize::mib(64),
            group_us: 1_000,
            idle_mark_ms: 50,
            room_wait_ms_max: 200,
            hole_ms_max: 5_000,
            archive: true,
            archive_dir: None,
            archive_bytes_max: ByteSize::mib(16 * 1024),
            archive_horizon_days: 30,
        }
    }
}

/// Reservations and what is kept of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// Positions (SKU at a location).
    pub positions_max: u32,
    /// Reservations, open and retained.
    pub reservations_max: u32,
    /// Memory for so many reservations is made at the start.
    pub reservations_prepared: u32,
    /// Idempotency keys.
    pub keys_max: u32,
    /// Orders; none is ever forgotten.
    pub orders_max: u32,
    /// Customers and SKUs under a purchase limit.
    pub customer_limits_max: u32,
    /// Reports of partners that wait for their order.
    pub parked_events_max: u32,
    /// Lines of a cart.
    pub lines_max: u32,
    /// How long a reservation holds where the request does not say.
    pub ttl_default_ms: u64,
    /// The longest that a reservation may hold.
    pub ttl_max_ms: u64,
    /// How long closed reservations and their keys are remembered.
    pub retention_ms: u64,
    /// The period of a limit per customer.
    pub limit_period_ms: u64,
    /// After downtime: the grace before overdue reservations expire.
    pub overdue_grace_ms: u64,
    /// How long a decision waits for its twin, or for units that another cart is deciding on.
    pub decision_wait_ms_max: u64,
    /// Locations in the order in which lines without one are taken.
    pub sourcing: Vec<Location>,
    /// A checkpoint is made after so much log.
    pub checkpoint_bytes: ByteSize,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            positions_max: 1 << 20,
            reservations_max: 4_000_000,
            reservations_prepared: 0,
            keys_max: 8_000_000,
            orders_max: 4_000_000,
            customer_limits_max: 4_000_000,
            parked_events_max: 4_096,
            lines_max: 128,
            ttl_default_ms: 600_000,
            ttl_max_ms: 86_400_000,
            retention_ms: 86_400_000,
            limit_period_ms: 86_400_000,
            overdue_grace_ms: 5_000,
            decision_wait_ms_max: 1_000,
            sourcing: Vec::new(),
            checkpoint_bytes: ByteSize::mib(256),
        }
    }
}

/// What the command line says; it overrides file and environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// The configuration of `file` (or the defaults), the environment and the command line.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, Error> {
        let text = match file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| Error::Unreadable { path: path.to_owned(), source })?,
            None => String::new(),
        };
        let path = file.unwrap_or(Path::new("(no file)"));
        Self::from_parts(path, &text, std::env::vars_os(), overrides)
    }

    /// The configuration of a file's text, of variables and of the command line.
    pub fn from_parts(
        path: &Path,
        text: &str,
        variables: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
        overrides: &Overrides,
    ) -> Result<Self, Error> {
        Self::parse(path, text)?.complete(path, text, variables, overrides)
    }

    /// What a text says, without anything else and not checked.
    ///
    /// # Errors
    /// The line that can't be read, without the secrets that may be in it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|source| Error::in_file(path, text, source))
    }

    /// This, as a text says it, with what variables and the command line say.
    ///
    /// # Errors
    /// What is wrong, and where that stands.
    pub fn complete(
        self,
        path: &Path,
        text: &str,
        variables: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
        overrides: &Overrides,
    ) -> Result<Self, Error> {
        let mut config = self;
        let mut source = Source::new(path, text);
        for (name, value) in environment::overrides(variables)? {
            config = environment::apply(config, &name, &value)?;
            source.overridden(&name.key(), name.to_string());
        }
        if let Some(data) = &overrides.data {
            config.server.data.clone_from(data);
            source.overridden("server.data", "--data".to_owned());
        }
        if let Some(listen) = overrides.listen {
            config.server.listen = listen;
            source.overridden("server.listen", "--listen".to_owned());
        }
        check::check(&config, &source)?;
        Ok(config)
    }

    /// The same without what must not be shown: the secrets of sinks, partners and alerts.
    pub fn without_secrets(mut self) -> Self {
        self.sinks = self.sinks.into_iter().map(SinkConfig::without_secrets).collect();
        self.partners = self.partners.into_iter().map(PartnerConfig::without_secrets).collect();
        self.alerts = self.alerts.without_secrets();
        self.telemetry = self.telemetry.without_secrets();
        self
    }

    /// The tax codes that an order may have.
    pub fn tax_codes(&self) -> TaxCodes {
        let mut codes = TaxCodes::default();
        for sink in self.sinks.iter().filter(|sink| sink.domain == Domain::Finance) {
            codes.add(&sink.filter.currencies, &sink.accounts.tax_codes);
        }
        codes
    }

    /// The configuration as a file that says it.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|source| Error::Unwritable { source: Box::new(source) })
    }
}

#[cfg(test)]
mod tests;
