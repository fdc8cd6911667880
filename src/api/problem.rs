//! Errors as `application/problem+json` (RFC 9457): type, title, status, detail, code, and the
//! members that the code promises.

use std::borrow::Cow;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::codes::{self, Code};
use crate::{
    engine::Refusal,
    model::mapping::Unmapped,
    model::partner::Scope,
    model::view::{LimitedLine, ReservationState, ShortLine},
};

/// The media type of a problem.
pub(super) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A detail may repeat what the caller sent, but not a megabyte of it.
const DETAIL_CHARS_MAX: usize = 300;
const FIELD_CHARS_MAX: usize = 120;

/// Why a request was not done.
#[derive(Debug)]
pub struct Problem {
    code: &'static Code,
    detail: Cow<'static, str>,
    members: Members,
}

/// What a problem says beside its code.
#[derive(Debug)]
enum Members {
    None,
    Field(String),
    ShortLines(Vec<ShortLine>),
    LimitedLines(Vec<LimitedLine>),
    State(ReservationState),
    LastVersion(u64),
    Promised {
        held: i64,
        committed: i64,
    },
    LimitBytes(u64),
    /// Of which the caller lacks all.
    Scopes(&'static [Scope]),
    /// For the header Retry-After, in seconds.
    RetryAfter(u32),
    /// For the header WWW-Authenticate.
    Challenge(&'static str),
    Import(Box<super::import::ImportAnswer>),
}

impl Problem {
    /// A problem that its code explains.
    pub fn new(code: &'static Code) -> Self {
        Self { code, detail: Cow::Borrowed(code.meaning), members: Members::None }
    }

    /// A problem with more to say.
    pub fn detailed(code: &'static Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: shortened(detail.into(), DETAIL_CHARS_MAX), members: Members::None }
    }

    /// A field, parameter or header is wrong.
    pub fn malformed(field: impl Into<String>, reason: &str) -> Self {
        let field = shortened(field.into().into(), FIELD_CHARS_MAX).into_owned();
        let detail = shortened(format!("`{field}` {reason}").into(), DETAIL_CHARS_MAX);
        Self { code: &codes::MALFORMED, detail, members: Members::Field(field) }
    }

    /// The caller is not known; `challenge` is what would make it so, for WWW-Authenticate.
    pub(super) fn unauthenticated(
        detail: impl Into<Cow<'static, str>>,
        challenge: &'static str,
    ) -> Self {
        let members = Members::Challenge(challenge);
        Self { members, ..Self::detailed(&codes::UNAUTHENTICATED, detail) }
    }

    /// A partner that has none of the scopes that a route takes.
    pub(super) fn forbidden(partner: &str, scopes: &'static [Scope]) -> Self {
        let words: Vec<_> = scopes.iter().map(|scope| format!("`{}`", scope.as_str())).collect();
        let detail =
            format!("this takes the scope {}, which `{partner}` has not", words.join(" or "));
        Self { members: Members::Scopes(scopes), ..Self::detailed(&codes::FORBIDDEN, detail) }
    }

    /// A partner whose rate or quota is used up for so many seconds.
    pub(super) fn rate_limited(detail: String, retry_after_s: u32) -> Self {
        let members = Members::RetryAfter(retry_after_s);
        Self { members, ..Self::detailed(&codes::RATE_LIMITED, detail) }
    }

    /// A hook's payload that its rules make nothing of.
    pub(super) fn unmapped(why: &Unmapped) -> Self {
        let members = match why {
            Unmapped::NoRule { .. } => Members::None,
            Unmapped::Missing { field, .. } | Unmapped::Value { field, .. } => {
                Members::Field(shortened(field.clone().into(), FIELD_CHARS_MAX).into_owned())
            }
        };
        Self { members, ..Self::detailed(&codes::UNMAPPED, why.to_string()) }
    }

    /// A body larger than the server takes.
    pub fn too_large(limit_bytes: u64) -> Self {
        let detail = format!("the body is larger than {limit_bytes} bytes");
        Self {
            code: &codes::TOO_LARGE,
            detail: detail.into(),
            members: Members::LimitBytes(limit_bytes),
        }
    }

    /// An import that ended early; what was done stays done.
    pub(super) fn with_import(mut self, done: super::import::ImportAnswer) -> Self {
        self.members = Members::Import(Box::new(done));
        self
    }

    /// The code of it.
    pub fn code(&self) -> &'static Code {
        self.code
    }

    /// The sentence about this one.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The body's bytes.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(256);
        super::answer::write(&mut json, self);
        json
    }
}

/// Cuts at a character, and says so.
fn shortened(text: Cow<'static, str>, chars_max: usize) -> Cow<'static, str> {
    match text.char_indices().nth(chars_max) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = codes::find(refusal.code()).unwrap_or(&codes::INTERNAL);
        let detail = match &refusal {
            Refusal::Malformed { field, reason } => return Self::malformed(field.clone(), reason),
            other => other.to_string(),
        };
        let members = match refusal {
            Refusal::InsufficientStock { lines } => Members::ShortLines(lines),
            Refusal::PurchaseLimit { lines } => Members::LimitedLines(lines),
            Refusal::WrongState { state } | Refusal::BeyondSold { state, .. } => {
                Members::State(state)
            }
            Refusal::StaleVersion { last } => Members::LastVersion(last),
            Refusal::Shortfall { held, committed } => Members::Promised { held, committed },
            _ => Members::None,
        };
        Self { code, detail: detail.into(), members }
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &Type(self.code))?;
        map.serialize_entry("title", self.code.title)?;
        map.serialize_entry("status", &self.code.status)?;
        map.serialize_entry("detail", &self.detail)?;
        map.serialize_entry("code", self.code.code)?;
        match &self.members {
            Members::None | Members::Challenge(_) | Members::RetryAfter(_) => {}
            Members::Scopes(scopes) => map.serialize_entry("scopes", scopes)?,
            Members::Field(field) => map.serialize_entry("field", field)?,
            Members::ShortLines(lines) => map.serialize_entry("lines", lines)?,
            Members::LimitedLines(lines) => map.serialize_entry("lines", lines)?,
            Members::State(state) => map.serialize_entry("state", state)?,
            Members::LastVersion(last) => map.serialize_entry("last_source_version", last)?,
            Members::Promised { held, committed } => {
                map.serialize_entry("held", held)?;
                map.serialize_entry("committed", committed)?;
            }
            Members::LimitBytes(limit) => map.serialize_entry("limit_bytes", limit)?,
            Members::Import(done) => {
                map.serialize_entry("applied", &done.applied)?;
                map.serialize_entry("refused", &done.refused)?;
                map.serialize_entry("refused_unlisted", &done.refused_unlisted)?;
            }
        }
        map.end()
    }
}

/// The page about a code.
struct Type(&'static Code);

impl Serialize for Type {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("/problems/{}", self.0.code))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json()));
        *response.status_mut() =
            StatusCode::from_u16(self.code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
        if let Members::Challenge(challenge) = self.members {
            let challenge = HeaderValue::from_static(challenge);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        let own = match self.members {
            Members::RetryAfter(seconds) => Some(seconds),
            _ => None,
        };
        if let Some(seconds) = own.or_else(|| self.code.retry_after_s()) {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::view::ReservationState;

    fn json(problem: impl Into<Problem>) -> serde_json::Value {
        serde_json::from_slice(&problem.into().to_json()).unwrap()
    }

    #[test]
    fn a_refusal_becomes_its_problem_with_the_members_promised() {
        let short =
            ShortLine { sku: "A".parse().unwrap(), location: None, requested: 3, available: 1 };
        let p = json(Refusal::InsufficientStock { lines: vec![short] });
        assert_eq!(p["type"], "/problems/insufficient_stock");
        assert_eq!(p["status"], 409);
        assert_eq!(p["code"], "insufficient_stock");
        assert_eq!(p["lines"][0]["requested"], 3);
        let p = json(Refusal::WrongState { state: ReservationState::Expired });
        assert_eq!((&p["code"], &p["state"]), (&"wrong_state".into(), &"expired".into()));
        let p = json(Refusal::Shortfall { held: 4, committed: 5 });
        assert_eq!((&p["held"], &p["committed"]), (&4.into(), &5.into()));
        let p = json(Refusal::StaleVersion { last: 9 });
        assert_eq!(p["last_source_version"], 9);
        let p = json(Refusal::malformed("ttl_ms", "must be at most 5"));
        assert_eq!((&p["status"], &p["field"]), (&400.into(), &"ttl_ms".into()));
    }

    #[test]
    fn every_refusal_has_a_code_of_the_table() {
        let line = LimitedLine { sku: "A".parse().unwrap(), requested: 1, limit: 1, taken: 1 };
        for refusal in [
            Refusal::malformed("a", "b"),
            Refusal::UnknownSku { sku: "A".parse().unwrap(), location: None },
            Refusal::UnknownReservation,
            Refusal::UnknownOrder,
            Refusal::UnknownParkedEvent,
            Refusal::PartnerExists { revoked: true },
            Refusal::UnknownPartner,
            Refusal::InsufficientStock { lines: vec![] },
            Refusal::PurchaseLimit { lines: vec![line] },
            Refusal::WrongState { state: ReservationState::Held },
            Refusal::StaleVersion { last: 1 },
            Refusal::Shortfall { held: 1, committed: 1 },
            Refusal::OrderExists,
            Refusal::OrderMismatch,
            Refusal::KeyReused,
            Refusal::Archived { oldest: crate::model::Lsn(8) },
            Refusal::TooFarBack { segments: 40, segments_max: 32 },
            Refusal::LogFull,
            Refusal::Overloaded { what: "x" },
            Refusal::ShuttingDown,
            Refusal::OutcomeUnknown,
        ] {
            assert!(codes::find(refusal.code()).is_some(), "{refusal:?}");
        }
    }

    #[test]
    fn what_the_caller_sent_is_not_repeated_at_length() {
        let problem = Problem::malformed("ä".repeat(100_000), "is unknown");
        assert!(problem.to_json().len() < 2_000);
    }
}
