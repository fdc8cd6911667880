//! The requests that a connector makes: the one with the batch, the handshake before, the question
//! whether a part is there already, and what completes the first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AnswerRule, Match};

/// A request's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    Get,
    /// Reads without the body.
    Head,
    /// Makes something.
    Post,
    /// Makes or replaces something of a given name.
    Put,
    /// Changes something.
    Patch,
}

impl Method {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }
}

/// A request as it is declared.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its method.
    pub method: Method,
    /// The template of what follows the sink's `url`.
    pub path: &'a str,
    /// Templates of headers, by name.
    pub headers: &'a BTreeMap<String, String>,
    /// The body's type.
    pub content_type: &'a str,
    /// The body's template.
    pub body: Option<&'a str>,
}

/// A request that fetches what the others must carry, such as SAP's token against forged requests. What
/// it took is kept until an answer says that it is stale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handshake {
    /// Its method. Default `GET`.
    #[serde(default = "get")]
    pub method: Method,
    /// A template of what follows the sink's `url`. Default empty.
    #[serde(default)]
    pub path: String,
    /// Templates of headers, by name. Default none.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Headers of the answer that the other requests carry.
    pub take: Vec<String>,
    /// Whether they also carry its cookies. Default false.
    #[serde(default)]
    pub cookies: bool,
    /// Which answer says that what was taken is no longer good.
    pub stale: Stale,
}

/// An answer that says that a handshake is to be made anew; then the request is sent again, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stale {
    /// Its status.
    pub status: u16,
    /// A header of it.
    pub header: String,
    /// What stands there, in any case.
    pub value: String,
}

/// How the partner is asked whether it has a part, before one that it may have is sent again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// Its method. Default `GET`.
    #[serde(default = "get")]
    pub method: Method,
    /// A template of what follows the sink's `url`.
    pub path: String,
    /// Templates of headers, by name. Default none.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body's type. Default `application/json`.
    #[serde(default = "json")]
    pub content_type: String,
    /// The template of the body. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Which answer says that it has the part.
    pub found: Match,
    /// Which answer says that it has not. Any other answer says nothing, and nothing is sent.
    pub absent: Match,
    /// How long after an attempt that was not answered the partner may still be at work on it, in
    /// milliseconds: so long it is not believed that it has not got the part. Default 0.
    #[serde(default)]
    pub settle_ms: u64,
}

/// A request that completes the first one: posts what that one has entered. It may use what the first
/// one was answered, as `answer`. Both are repeated until this one is done too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finish {
    /// Its method. Default `POST`.
    #[serde(default = "post")]
    pub method: Method,
    /// A template of what follows the sink's `url`.
    pub path: String,
    /// Templates of headers, by name. Default none.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body's type. Default `application/json`.
    #[serde(default = "json")]
    pub content_type: String,
    /// The template of the body. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// What its answer means; after the last rule come those of the generic preset. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<AnswerRule>,
    /// An answer of the first request, as JSON, that the template is checked with.
    pub sample: String,
}

const fn get() -> Method {
    Method::Get
}
const fn post() -> Method {
    Method::Post
}
fn json() -> String {
    "application/json".into()
}

impl Handshake {
    /// The request.
    pub fn request(&self) -> Request<'_> {
        let Self { method, path, headers, .. } = self;
        Request { method: *method, path, headers, content_type: "", body: None }
    }
}

impl Lookup {
    /// The request.
    pub fn request(&self) -> Request<'_> {
        let Self { method, path, headers, content_type, body, .. } = self;
        Request { method: *method, path, headers, content_type, body: body.as_deref() }
    }
}

impl Finish {
    /// The request.
    pub fn request(&self) -> Request<'_> {
        let Self { method, path, headers, content_type, body, .. } = self;
        Request { method: *method, path, headers, content_type, body: body.as_deref() }
    }
}
