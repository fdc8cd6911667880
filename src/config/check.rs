//! What one value alone can't tell: rules between keys, and values that have the right form but
//! can't be used.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{Config, Error, Freeze, PartnerConfig, SinkConfig, service_level::SERVICE_LEVELS_MAX};

/// The most partners: a key is compared with each.
const PARTNERS_MAX: usize = 1_000;
/// The most freeze windows.
const FREEZES_MAX: usize = 1_000;

/// Where each key was set, so that an error can name the place.
#[derive(Debug, Clone)]
pub struct Source {
    path: PathBuf,
    text: String,
    overridden: HashMap<String, String>,
}

impl Source {
    /// The file and its text.
    pub fn new(path: &Path, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), overridden: HashMap::new() }
    }

    /// A key is no longer what the file says.
    pub fn overridden(&mut self, key: &str, by: String) {
        self.overridden.insert(key.to_owned(), by);
    }

    /// Where a key (`section.key`, `sinks.0.key`) is set.
    fn place(&self, key: &str) -> String {
        if let Some(by) = self.overridden.get(key) {
            return by.clone();
        }
        match self.line(key) {
            Some(line) => format!("{}:{line}", self.path.display()),
            None => format!("{} (by default)", self.path.display()),
        }
    }

    /// The line of a key in the file; of a sink's or partner's key that is absent, the line of the
    /// nearest that there is.
    fn line(&self, key: &str) -> Option<usize> {
        let table = DeTable::parse(&self.text).ok()?;
        let mut at = None;
        let mut node = DeValue::Table(table.into_inner());
        for part in key.split('.') {
            match step(node, part) {
                Some((offset, found)) => (at, node) = (Some(offset), found),
                None if ["sinks.", "partners.", "freezes.", "service_levels."]
                    .iter()
                    .any(|list| key.starts_with(list)) =>
                {
                    break;
                }
                None => return None,
            }
        }
        at.map(|offset| 1 + self.text.get(..offset).unwrap_or("").matches('\n').count())
    }

    fn unusable(&self, key: &str, reason: impl Into<String>) -> Error {
        Error::Unusable { place: self.place(key), key: key.to_owned(), reason: reason.into() }
    }
}

/// Where a part of a key begins in the text, and what it holds.
fn step<'t>(node: DeValue<'t>, part: &str) -> Option<(usize, DeValue<'t>)> {
    let (offset, found) = match node {
        DeValue::Table(mut table) => {
            let name = table.keys().find(|k| k.get_ref().as_ref() == part)?.clone();
            (name.span().start, table.remove(&name)?)
        }
        DeValue::Array(array) => {
            let item = array.into_iter().nth(part.parse().ok()?)?;
            (item.span().start, item)
        }
        _ => return None,
    };
    Some((offset, found.into_inner()))
}

/// Checks what can be checked without opening anything.
pub(super) fn check(config: &Config, source: &Source) -> Result<(), Error> {
    check_server(config, source)?;
    check_gateway(config, source)?;
    check_log(config, source)?;
    check_engine(config, source)?;
    check_sinks(&config.sinks, source)?;
    check_observing(config, source)?;
    check_freezes(&config.freezes, source)?;
    check_partners(config, source)
}

/// Whether others can be kept out. Whether keys that are said to be in the log are there is seen when it
/// is read.
fn has_keys(config: &Config) -> bool {
    config.server.keys_in_log || config.partners.iter().any(PartnerConfig::has_key)
}

fn check_server(config: &Config, source: &Source) -> Result<(), Error> {
    let server = &config.server;
    let keys = has_keys(config);
    if !server.listen.ip().to_canonical().is_loopback() && !keys {
        let reason = format!(
            "is {}, which others can reach, and there are no API keys to keep them out: \
             give a partner one (`[[partners]]`, or `holdfast partner add` and `server.keys_in_log`), or \
             use a loopback address such as 127.0.0.1:7411",
            server.listen
        );
        return Err(source.unusable("server.listen", reason));
    }
    for (key, value) in [
        ("server.body_bytes_max", server.body_bytes_max.bytes()),
        ("server.import_bytes_max", server.import_bytes_max.bytes()),
        ("server.import_line_bytes_max", server.import_line_bytes_max.bytes()),
        ("server.import_timeout_ms", server.import_timeout_ms),
        ("server.headers_max", server.headers_max.into()),
        ("server.header_read_timeout_ms", server.header_read_timeout_ms),
        ("server.request_timeout_ms", server.request_timeout_ms),
        ("server.connections_max", server.connections_max.into()),
        ("server.streams_max", server.streams_max.into()),
        ("server.in_flight_max", server.in_flight_max.into()),
        ("server.batch_max", server.batch_max.into()),
        ("server.skus_max", server.skus_max.into()),
        ("server.page_max", server.page_max.into()),
        ("server.live_max", server.live_max.into()),
    ] {
        above_zero(source, key, value)?;
    }
    if let Some(tls) = &server.tls {
        let timeout_ms = tls.handshake_timeout_ms;
        above_zero(source, "server.tls.handshake_timeout_ms", timeout_ms)?;
        above_zero(source, "server.tls.handshakes_max", tls.handshakes_max.into())?;
    }
    if server.header_bytes_max.bytes() < 8 << 10 {
        return Err(source.unusable("server.header_bytes_max", "must be at least 8 KiB"));
    }
    Ok(())
}

fn check_gateway(config: &Config, source: &Source) -> Result<(), Error> {
    let gateway = &config.gateway;
    let keys = has_keys(config);
    if let Some(address) = gateway.listen.0
        && !address.ip().to_canonical().is_loopback()
        && !keys
    {
        let reason = format!(
            "is {address}, which others can reach, and there are no API keys to keep them out: \
             give a partner one (`[[partners]]`), or use a loopback address such as 127.0.0.1:7412"
        );
        return Err(source.unusable("gateway.listen", reason));
    }
    for (key, value) in [
        ("gateway.connections_max", u64::from(gateway.connections_max)),
        ("gateway.in_flight_max", gateway.in_flight_max.into()),
        ("gateway.frame_timeout_ms", gateway.frame_timeout_ms),
        ("gateway.answer_timeout_ms", gateway.answer_timeout_ms),
    ] {
        above_zero(source, key, value)?;
    }
    if !(4 << 10..=64 << 20).contains(&gateway.frame_bytes_max.bytes()) {
        return Err(source.unusable("gateway.frame_bytes_max", "must be 4 KiB to 64 MiB"));
    }
    if gateway.answer_bytes_max.bytes() < 64 << 10 {
        return Err(source.unusable("gateway.answer_bytes_max", "must be at least 64 KiB"));
    }
    Ok(())
}

fn check_log(config: &Config, source: &Source) -> Result<(), Error> {
    let log = &config.log;
    let segment = log.segment_bytes.bytes();
    if !segment.is_power_of_two() || !(16 << 10..=1 << 30).contains(&segment) {
        let reason = "must be a power of two from 16 KiB to 1 GiB";
        return Err(source.unusable("log.segment_bytes", reason));
    }
    // Each segment's file has a header of its own, so that four times the size is not enough.
    if log.budget_bytes.bytes() / 4 <= segment {
        return Err(source.unusable("log.budget_bytes", "must be more than four segments"));
    }
    if !(1..=100).contains(&log.soft_mark_percent) {
        return Err(source.unusable("log.soft_mark_percent", "must be 1 to 100"));
    }
    if !(1..=64).contains(&log.ready_segments) {
        return Err(source.unusable("log.ready_segments", "must be 1 to 64"));
    }
    let record = log.record_bytes_max.bytes();
    if !(64..=u64::from(u32::MAX)).contains(&record) {
        return Err(source.unusable("log.record_bytes_max", "must be 64 B to 4 GiB"));
    }
    let least = 4 * record.min(segment / 4);
    if !(least..=16 << 30).contains(&log.unsynced_bytes_max.bytes()) {
        let reason = format!("must be from four of the largest records ({least} B) to 16 GiB");
        return Err(source.unusable("log.unsynced_bytes_max", reason));
    }
    if log.group_us > 10_000 {
        return Err(source.unusable("log.group_us", "must be at most 10000"));
    }
    above_zero(source, "log.idle_mark_ms", log.idle_mark_ms)?;
    above_zero(source, "log.hole_ms_max", log.hole_ms_max)?;
    check_archive(config, source)
}

fn check_archive(config: &Config, source: &Source) -> Result<(), Error> {
    let log = &config.log;
    // A file may be a little larger than its segment if nothing of it compresses.
    if log.archive_bytes_max.bytes() / 3 < log.segment_bytes.bytes() {
        let reason = "must have room for three segments";
        return Err(source.unusable("log.archive_bytes_max", reason));
    }
    if log.archive_dir.as_ref().is_some_and(|dir| *dir == config.server.data) {
        let reason = "must be another directory than server.data";
        return Err(source.unusable("log.archive_dir", reason));
    }
    match log.archive_horizon_days {
        1..=36_500 => Ok(()),
        _ => Err(source.unusable("log.archive_horizon_days", "must be 1 to 36500")),
    }
}

fn check_engine(config: &Config, source: &Source) -> Result<(), Error> {
    let engine = &config.engine;
    for (key, value) in [
        ("engine.positions_max", u64::from(engine.positions_max)),
        ("engine.reservations_max", engine.reservations_max.into()),
        ("engine.keys_max", engine.keys_max.into()),
        ("engine.orders_max", engine.orders_max.into()),
        ("engine.customer_limits_max", engine.customer_limits_max.into()),
        ("engine.parked_events_max", engine.parked_events_max.into()),
        ("engine.lines_max", engine.lines_max.into()),
        ("engine.ttl_default_ms", engine.ttl_default_ms),
        ("engine.limit_period_ms", engine.limit_period_ms),
        ("engine.checkpoint_bytes", engine.checkpoint_bytes.bytes()),
    ] {
        above_zero(source, key, value)?;
    }
    if engine.ttl_default_ms > engine.ttl_max_ms {
        let reason = format!("must not be above `engine.ttl_max_ms` ({})", engine.ttl_max_ms);
        return Err(source.unusable("engine.ttl_default_ms", reason));
    }
    let mut seen = HashSet::new();
    match engine.sourcing.iter().find(|location| !seen.insert(*location)) {
        Some(twice) => Err(source.unusable("engine.sourcing", format!("names `{twice}` twice"))),
        None => Ok(()),
    }
}

fn check_sinks(sinks: &[SinkConfig], source: &Source) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for (i, sink) in sinks.iter().enumerate() {
        let key = |name: &str| format!("sinks.{i}.{name}");
        if let Err(wrong) = sink.validate() {
            // The field's name comes first.
            let (field, reason) = wrong.split_once(": ").unwrap_or(("name", &wrong));
            return Err(source.unusable(&key(field), reason));
        }
        if !seen.insert(&sink.name) {
            let reason = format!("is `{}`, which an earlier sink has", sink.name);
            return Err(source.unusable(&key("name"), reason));
        }
    }
    Ok(())
}

fn check_observing(config: &Config, source: &Source) -> Result<(), Error> {
    for (section, checked) in
        [("telemetry", config.telemetry.validate()), ("alerts", config.alerts.validate())]
    {
        if let Err(wrong) = checked {
            let (field, reason) = wrong.split_once(": ").unwrap_or(("url", &wrong));
            return Err(source.unusable(&format!("{section}.{field}"), reason));
        }
    }
    let levels = &config.service_levels;
    if levels.len() > SERVICE_LEVELS_MAX {
        let reason = format!("must be at most {SERVICE_LEVELS_MAX}");
        return Err(source.unusable("service_levels", reason));
    }
    let mut seen = HashSet::new();
    for (i, level) in levels.iter().enumerate() {
        let key = |name: &str| format!("service_levels.{i}.{name}");
        if let Err(wrong) = level.validate(&config.sinks) {
            let (field, reason) = wrong.split_once(": ").unwrap_or(("name", &wrong));
            return Err(source.unusable(&key(field), reason));
        }
        if !seen.insert(&level.name) {
            let reason = format!("is `{}`, which an earlier service level has", level.name);
            return Err(source.unusable(&key("name"), reason));
        }
    }
    Ok(())
}

fn check_freezes(freezes: &[Freeze], source: &Source) -> Result<(), Error> {
    if freezes.len() > FREEZES_MAX {
        return Err(source.unusable("freezes", format!("must be at most {FREEZES_MAX}")));
    }
    for (i, freeze) in freezes.iter().enumerate() {
        if let Err(wrong) = freeze.validate() {
            let (field, reason) = wrong.split_once(": ").unwrap_or(("reason", &wrong));
            return Err(source.unusable(&format!("freezes.{i}.{field}"), reason));
        }
    }
    Ok(())
}

fn check_partners(config: &Config, source: &Source) -> Result<(), Error> {
    let partners = &config.partners;
    if partners.len() > PARTNERS_MAX {
        return Err(source.unusable("partners", format!("must be at most {PARTNERS_MAX}")));
    }
    let (mut names, mut keys) = (HashSet::new(), HashSet::new());
    for (i, partner) in partners.iter().enumerate() {
        let key = |name: &str| format!("partners.{i}.{name}");
        if let Err(wrong) = partner.validate() {
            let (field, reason) = wrong.split_once(": ").unwrap_or(("name", &wrong));
            return Err(source.unusable(&key(field), reason));
        }
        if !names.insert(&partner.name) {
            let reason = format!("is `{}`, which an earlier partner has", partner.name);
            return Err(source.unusable(&key("name"), reason));
        }
        let hash = partner.api_key_sha256.as_ref().map(|hash| hash.to_ascii_lowercase());
        if hash.is_some_and(|hash| !keys.insert(hash)) {
            return Err(source.unusable(&key("api_key_sha256"), "is an earlier partner's too"));
        }
        if let Some(hook) = &partner.hook
            && config.engine.retention_ms / 2_000 < hook.tolerance_s
        {
            let reason = "must be at most half of `engine.retention_ms`: a message that could come \
                          again must not be forgotten before";
            return Err(source.unusable(&key("hook.tolerance_s"), reason));
        }
    }
    Ok(())
}

fn above_zero(source: &Source, key: &str, value: u64) -> Result<(), Error> {
    if value == 0 { Err(source.unusable(key, "must be above 0")) } else { Ok(()) }
}
