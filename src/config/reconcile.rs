//! How an inventory sink's partner is asked for its stock: `[sinks.reconcile]`.
//!
//! A GET that answers JSON, page by page. The defaults are those of the calls that come with the preset
//! `tryton`; for another partner say where in its answer things stand (JSON pointers).

use serde::{Deserialize, Serialize};

use super::{Domain, SinkConfig, sink::between};
use crate::model::{Invalid, mapping::Pointer};

/// The longest time of any setting here, in milliseconds: a week.
const MS_MAX: u64 = 7 * 86_400_000;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconcile {
    /// Where the stock is read, with a GET: an address, or what of the sink's `url` is to be replaced
    /// (`/shop/r/holdfast/stock`). Credentials and headers are the sink's.
    pub url: String,
    /// So long after one comparison the next is made. Default absent: only when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// The query's parameter that says where a page begins; empty: there is one page only. Default
    /// `after`.
    #[serde(default = "after")]
    pub after: String,
    /// The query's parameter that says how large a page is; empty: not said. Default `limit`.
    #[serde(default = "limit")]
    pub limit: String,
    /// How large a page is asked for. Default 1,000.
    #[serde(default = "page_max")]
    pub page_max: u64,
    /// Where in an answer the positions stand, an array. Default `/positions`.
    #[serde(default = "rows")]
    pub rows: String,
    /// Where in one of them the SKU stands. Default `/sku`.
    #[serde(default = "sku")]
    pub sku: String,
    /// Where its location stands. Default `/location`.
    #[serde(default = "location")]
    pub location: String,
    /// Where the units stand that are there, a whole number. Default `/on_hand`.
    #[serde(default = "on_hand")]
    pub on_hand: String,
    /// Where the units stand that are sold and not shipped; empty: the partner does not say. Default
    /// `/committed`.
    #[serde(default = "committed")]
    pub committed: String,
    /// Where in an answer the next page's beginning stands; null or nothing there: it was the last.
    /// Default `/next`.
    #[serde(default = "next")]
    pub next: String,
    /// Where in an answer the partner's word for the state stands that a page is of; empty: it has
    /// none. Where it changes between pages all are read again. Default `/revision`.
    #[serde(default = "revision")]
    pub revision: String,
    /// How often all pages are read at most. Default 5.
    #[serde(default = "readings_max")]
    pub readings_max: u64,
    /// The most bytes of a page. Default 8,388,608.
    #[serde(default = "page_bytes_max")]
    pub page_bytes_max: u64,
    /// The most positions that a partner may have. Default 1,000,000.
    #[serde(default = "positions_max")]
    pub positions_max: u64,
    /// How long one page may take, in milliseconds. Default 10,000.
    #[serde(default = "page_ms_max")]
    pub page_ms_max: u64,
    /// How long the whole comparison may take, in milliseconds. Default 50,000.
    #[serde(default = "run_ms_max")]
    pub run_ms_max: u64,
}

fn after() -> String {
    "after".into()
}
fn limit() -> String {
    "limit".into()
}
const fn page_max() -> u64 {
    1_000
}
fn rows() -> String {
    "/positions".into()
}
fn sku() -> String {
    "/sku".into()
}
fn location() -> String {
    "/location".into()
}
fn on_hand() -> String {
    "/on_hand".into()
}
fn committed() -> String {
    "/committed".into()
}
fn next() -> String {
    "/next".into()
}
fn revision() -> String {
    "/revision".into()
}
const fn readings_max() -> u64 {
    5
}
const fn page_bytes_max() -> u64 {
    8 << 20
}
const fn positions_max() -> u64 {
    1_000_000
}
const fn page_ms_max() -> u64 {
    10_000
}
const fn run_ms_max() -> u64 {
    50_000
}

impl Reconcile {
    /// Every default, for a partner that is read at `url`.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            every_ms: None,
            after: after(),
            limit: limit(),
            page_max: page_max(),
            rows: rows(),
            sku: sku(),
            location: location(),
            on_hand: on_hand(),
            committed: committed(),
            next: next(),
            revision: revision(),
            readings_max: readings_max(),
            page_bytes_max: page_bytes_max(),
            positions_max: positions_max(),
            page_ms_max: page_ms_max(),
            run_ms_max: run_ms_max(),
        }
    }

    /// The address that is read.
    ///
    /// # Errors
    /// What is wrong with it, beginning with the field.
    pub fn address(&self, base: &reqwest::Url) -> Result<reqwest::Url, String> {
        let url = base.join(&self.url).map_err(|e| format!("reconcile.url: {e}"))?;
        let same = url.host_str() == base.host_str()
            && url.port_or_known_default() == base.port_or_known_default()
            && url.scheme() == base.scheme();
        match same {
            true => Ok(url),
            false => Err("reconcile.url: must be of the same server as the sink's `url`, whose \
                          credentials it is given"
                .into()),
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub(super) fn validate(&self, sink: &SinkConfig) -> Result<(), String> {
        if sink.domain != Domain::Inventory {
            return Err("reconcile: only an inventory sink has stock to compare".into());
        }
        if !sink.filter.movements.is_empty() {
            return Err(
                "reconcile: a sink that gets some `filter.movements` only has no stock that \
                        could be compared"
                    .into(),
            );
        }
        if self.url.is_empty() {
            return Err("reconcile.url: must be given".into());
        }
        let base = reqwest::Url::parse(&sink.url).map_err(|e| format!("url: {e}"))?;
        self.address(&base)?;
        for (field, pointer, may_be_empty) in [
            ("rows", &self.rows, false),
            ("sku", &self.sku, false),
            ("location", &self.location, false),
            ("on_hand", &self.on_hand, false),
            ("committed", &self.committed, true),
            ("next", &self.next, self.after.is_empty()),
            ("revision", &self.revision, true),
        ] {
            if !(pointer.is_empty() && may_be_empty) {
                let read = pointer.parse::<Pointer>();
                read.map_err(|e: Invalid| format!("reconcile.{field}: {e}"))?;
            }
        }
        for (field, value, least, most) in [
            ("every_ms", self.every_ms.unwrap_or(MS_MAX), 100, MS_MAX),
            ("page_max", self.page_max, 1, 1_000_000),
            ("readings_max", self.readings_max, 1, 100),
            ("page_bytes_max", self.page_bytes_max, 1_024, 256 << 20),
            ("positions_max", self.positions_max, 1, 100_000_000),
            ("page_ms_max", self.page_ms_max, 1, MS_MAX),
            ("run_ms_max", self.run_ms_max, self.page_ms_max, MS_MAX),
        ] {
            between(&format!("reconcile.{field}"), value, least, most)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(change: impl FnOnce(&mut Reconcile)) -> SinkConfig {
        let mut reconcile = Reconcile::at("stock");
        change(&mut reconcile);
        let sink =
            SinkConfig::new("erp", Domain::Inventory, "http://127.0.0.1:9/r/holdfast/batches");
        SinkConfig { reconcile: Some(reconcile), ..sink }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(sink(|_| {}).validate(), Ok(()));
        type Spoil = fn(&mut Reconcile);
        let cases: [(&str, Spoil); 8] = [
            ("reconcile.url", |r| r.url.clear()),
            ("reconcile.url", |r| r.url = "http://127.0.0.1:10/stock".into()),
            ("reconcile.rows", |r| r.rows = "positions".into()),
            ("reconcile.on_hand", |r| r.on_hand.clear()),
            ("reconcile.next", |r| r.next.clear()),
            ("reconcile.every_ms", |r| r.every_ms = Some(1)),
            ("reconcile.page_max", |r| r.page_max = 0),
            ("reconcile.run_ms_max", |r| r.run_ms_max = 1),
        ];
        for (field, spoil) in cases {
            let error = sink(spoil).validate().unwrap_err();
            assert!(error.starts_with(&format!("{field}: ")), "{field}: {error}");
        }
        let books = SinkConfig { domain: Domain::Finance, ..sink(|_| {}) };
        assert!(books.validate().unwrap_err().starts_with("reconcile: "));
        let mut sold = sink(|_| {});
        sold.filter.movements = vec![crate::config::Movement::Sold];
        assert!(sold.validate().unwrap_err().starts_with("reconcile: "));
    }

    #[test]
    fn what_a_file_leaves_out_is_at_its_default_and_the_example_names_every_key() {
        let read: Reconcile = toml::from_str("url = \"stock\"").unwrap();
        assert_eq!(read, Reconcile::at("stock"));
        assert!(toml::from_str::<Reconcile>("url = \"stock\"\nevery = 1").is_err());
        let example = include_str!("../../holdfast.example.toml");
        for (key, value) in &toml::Table::try_from(Reconcile::at("stock")).unwrap() {
            assert!(example.contains(&format!("# {key} = {value}\n")), "{key}");
        }
    }
}
