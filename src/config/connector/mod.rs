//! A declared connector: how batches reach a partner's own interface, in TOML rather than code.
//!
//! A sink names a preset (`preset = "odoo"`), and its `[sinks.connector]` overrides any field of it.
//! What comes out is a [`Connector`]: requests as templates, an ordered list of rules that say what an
//! answer means, authentication, and what the receiver promises about repeats.
//!
//! Promises: an unknown key is refused; [`Connector::check`] renders every template once against a
//! sample of the sink's domain, so that a misspelt name is found before the first batch; no secret is
//! printed. Templates have no clock and no dice, so the same part renders to the same bytes.

mod auth;
mod call;
mod check;
mod overlay;
mod rule;
mod sample;
mod template;
mod written;

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use auth::{Auth, ClientAuth, NoSecret};
pub use call::{Finish, Handshake, Lookup, Method, Request, Stale};
pub(crate) use check::HEADER_BYTES_MAX;
pub use overlay::{Overlay, PRESETS};
pub use rule::{AnswerRule, Heard, Match, RejectedLines, StatusSet, Then, Took};
pub(crate) use sample::batch as sample_batch;
pub use template::{Context, Escape, Template, Unrendered};
pub(crate) use written::{written_domain, written_recognition, written_rendering};

use super::{Dedupe, Domain};
use crate::model::{
    SchemaVersion,
    mapping::{Condition, Pointer},
    sink::body,
};

/// How a partner is spoken to. Every field has a default: without any it is the generic connector
/// without its headers.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connector {
    /// The method of the request that carries a batch. Default `POST`.
    pub method: Method,
    /// A template of what follows the sink's `url`: a path, a query. Default empty.
    pub path: String,
    /// Templates of headers, by name. Default none.
    pub headers: BTreeMap<String, String>,
    /// The body's type, which also decides how a template escapes: JSON, XML or a form.
    /// Default `application/json`.
    pub content_type: String,
    /// The template of the body; absent: the batch as it was sealed. Default absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// What templates find under `vars`: the names of a site's own accounts, warehouses and companies.
    /// Default none.
    pub vars: BTreeMap<String, Value>,
    /// The lines that are sent, by what stands in them; the others are left out, and a part without any
    /// is done without a request. Default all.
    pub keep: BTreeMap<Pointer, Condition>,
    /// The most lines that the receiver takes at once; it bounds the sink's window. Default 1,000,000.
    pub lines_max: u64,
    /// The most bytes of a rendered body. A larger one is not sent but halved, as content that the
    /// partner refuses. Default 16,777,216.
    pub bytes_max: u64,
    /// The most bytes of an answer that are read, beside as many as its request has: an answer may name
    /// every line. Default 65,536.
    pub answer_bytes_max: u64,
    /// What an answer means: the first rule that holds decides. After the last of them come those of
    /// the generic preset. Default none.
    pub rules: Vec<AnswerRule>,
    /// Where an answer names the lines that it refuses. Default nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<RejectedLines>,
    /// How the partner recognises what it has already; absent: what the sink says. Default absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<Dedupe>,
    /// How long it does, in milliseconds since the batch was sealed; absent: for ever. Default absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedupe_horizon_ms: Option<u64>,
    /// How we say who we are. Default `none`.
    pub auth: Auth,
    /// A request that fetches what the others must carry. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Handshake>,
    /// How the partner is asked whether it has a part. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<Lookup>,
    /// A second request that completes the first. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish: Option<Finish>,
    /// Whether requests carry the Standard Webhooks headers, signed if the sink has a
    /// `signing_secret`. Default false.
    pub webhooks: bool,
    /// A file of certificates (PEM) that are trusted besides the system's. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The version of the sealed bodies. It stands in the sink, and here only in what the log keeps.
    #[serde(skip_serializing_if = "is_first")]
    pub(crate) schema_version: SchemaVersion,
    /// The domains that it is made for; empty: all. Default empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_for: Vec<Domain>,
}

impl Default for Connector {
    fn default() -> Self {
        Self {
            method: Method::Post,
            path: String::new(),
            headers: BTreeMap::new(),
            content_type: "application/json".into(),
            body: None,
            vars: BTreeMap::new(),
            keep: BTreeMap::new(),
            lines_max: 1_000_000,
            bytes_max: 16 << 20,
            answer_bytes_max: 64 << 10,
            rules: Vec::new(),
            rejected: None,
            dedupe: None,
            dedupe_horizon_ms: None,
            auth: Auth::None,
            handshake: None,
            lookup: None,
            finish: None,
            webhooks: false,
            ca_file: None,
            schema_version: SchemaVersion::V1,
            only_for: Vec::new(),
        }
    }
}

impl Connector {
    /// The request that carries a batch.
    pub fn request(&self) -> Request<'_> {
        Request {
            method: self.method,
            path: &self.path,
            headers: &self.headers,
            content_type: &self.content_type,
            body: self.body.as_deref(),
        }
    }

    /// Every request that it may make, with the field that declares it.
    pub(crate) fn requests(&self) -> Vec<(&'static str, Request<'_>)> {
        let mut all = vec![("", self.request())];
        all.extend(self.handshake.as_ref().map(|h| ("handshake.", h.request())));
        all.extend(self.lookup.as_ref().map(|l| ("lookup.", l.request())));
        all.extend(self.finish.as_ref().map(|f| ("finish.", f.request())));
        all
    }

    /// The batch without the items that are not sent.
    pub fn kept(&self, mut batch: Value) -> Value {
        if !self.keep.is_empty() {
            body::retain(&mut batch, |item| rule::stands(&self.keep, item));
        }
        batch
    }

    /// What shapes the bytes that are sent, as text for [`Connector::as_rendered`]; `None` where the
    /// sealed bytes are sent. It has no credentials: addresses, headers and what answers mean are those of
    /// the present whatever was sealed when.
    pub fn rendering(&self) -> Option<String> {
        let sends_sealed = self.body.is_none() && self.finish.is_none();
        if sends_sealed && is_first(&self.schema_version) { None } else { self.shapes() }
    }

    /// The same, also where the sealed bytes are sent.
    pub(crate) fn shapes(&self) -> Option<String> {
        let schema_version = self.schema_version;
        let Self { method, path, content_type, body, vars, keep, finish, .. } = self.clone();
        let shapes = Self {
            method,
            path,
            content_type,
            body,
            vars,
            keep,
            finish,
            schema_version,
            ..Self::default()
        };
        toml::to_string(&shapes).ok()
    }

    /// This connector with what shaped the bytes under an earlier configuration.
    ///
    /// # Errors
    /// If the text can't be read.
    pub fn as_rendered(&self, text: &str) -> Result<Self, String> {
        let then: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        let Self { method, path, content_type, body, vars, keep, finish, schema_version, .. } =
            then;
        Ok(Self {
            method,
            path,
            content_type,
            body,
            vars,
            keep,
            finish,
            schema_version,
            ..self.clone()
        })
    }

    /// The most bytes that are read of the answer to a request of so many.
    pub fn answer_bytes_max(&self, request_bytes: usize) -> u64 {
        self.answer_bytes_max.saturating_add(request_bytes as u64)
    }

    /// Whether a repeat of what may have had its effect is safe, so long after its batch was sealed.
    pub fn remembers(&self, age_ms: u64) -> bool {
        self.dedupe_horizon_ms.is_none_or(|horizon| age_ms <= horizon)
    }

    /// Adds what shapes the bytes that are sent to a digest; nothing where the sealed bytes are sent.
    pub(super) fn digest_into(&self, hasher: &mut blake3::Hasher) {
        if self.body.is_none() && self.finish.is_none() {
            return;
        }
        let keep = serde_json::to_string(&self.keep).unwrap_or_default();
        let vars = serde_json::to_string(&self.vars).unwrap_or_default();
        let mut parts = vec![keep, vars];
        for (place, request) in self.requests() {
            parts.push(place.to_owned());
            parts.push(request.method.as_str().to_owned());
            parts.push(request.path.to_owned());
            parts.push(request.content_type.to_owned());
            parts.push(request.body.unwrap_or_default().to_owned());
        }
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
}

fn is_first(version: &SchemaVersion) -> bool {
    *version == SchemaVersion::V1
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
