//! Who may call, and whose messages are taken.
//!
//! Where a partner has an API key, every request but those that anyone may make must have one:
//! `Authorization: Bearer <key>`. The partner's name is the scope of its idempotency keys. Keys are
//! known by their SHA-256; a key is compared with all of them, each in constant time.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{
    extract::{FromRequestParts, Request},
    http::{Extensions, HeaderMap, header, request::Parts},
};

use super::{State, problem::Problem};
use crate::{
    model::{
        mapping::Mapping,
        signature::{KeyHash, Verifier},
    },
    telemetry::{Exposition, Kind},
};

/// A partner.
#[derive(Debug, Clone)]
pub struct Partner {
    /// Its name, the scope of its idempotency keys.
    pub name: String,
    /// The hash of its API key, if it has one.
    pub key: Option<KeyHash>,
    /// How its messages are taken, if they are.
    pub hook: Option<Hook>,
}

/// How a partner's messages are checked and read.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Checks that they are the partner's, and of now.
    pub verifier: Verifier,
    /// What becomes of them.
    pub mapping: Mapping,
    /// Whether what is about an order that is not there yet is parked, rather than refused.
    pub parks: bool,
}

/// Why partners can't be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartnerError {
    /// Two have one name.
    #[error("two partners are called `{0}`: give each a name of its own")]
    Name(String),
    /// Two have one key.
    #[error("the partners `{0}` and `{1}` have the same API key: give each a key of its own")]
    Key(String, String),
}

/// All partners; none: no keys are asked for, no messages are taken.
#[derive(Debug, Clone, Default)]
pub struct Partners(Vec<Known>);

/// What is counted of a partner's requests: those that were done, those that it was refused, those that
/// failed here.
#[derive(Debug, Default)]
struct Counts([AtomicU64; OUTCOMES.len()]);

const OUTCOMES: [&str; 3] = ["done", "refused", "failed"];

#[derive(Debug, Clone)]
struct Known {
    name: Arc<str>,
    counts: Arc<Counts>,
    key: Option<KeyHash>,
    hook: Option<Hook>,
}

impl Partners {
    /// These.
    ///
    /// # Errors
    /// If two of them can't be told apart.
    pub fn new(partners: Vec<Partner>) -> Result<Self, PartnerError> {
        for (at, partner) in partners.iter().enumerate() {
            let others = &partners[..at];
            if others.iter().any(|other| other.name == partner.name) {
                return Err(PartnerError::Name(partner.name.clone()));
            }
            let same = |other: &&Partner| partner.key.is_some() && other.key == partner.key;
            if let Some(other) = others.iter().find(same) {
                return Err(PartnerError::Key(other.name.clone(), partner.name.clone()));
            }
        }
        let known = |Partner { name, key, hook }| {
            let (name, counts) = (name.into(), Arc::default());
            Known { name, counts, key, hook }
        };
        Ok(Self(partners.into_iter().map(known).collect()))
    }

    /// Whether anybody has a key, so that everybody needs one.
    pub(super) fn have_keys(&self) -> bool {
        self.0.iter().any(|partner| partner.key.is_some())
    }

    /// A partner's name and hook.
    pub(super) fn hook(&self, name: &str) -> Option<(&str, &Hook)> {
        let partner = self.0.iter().find(|partner| *partner.name == *name)?;
        partner.hook.as_ref().map(|hook| (&*partner.name, hook))
    }

    /// Finds out who a request is from, and writes it down for [`Caller`].
    pub(super) fn introduce(&self, request: &mut Request) -> Result<(), Problem> {
        if !self.have_keys() {
            return Ok(());
        }
        let known = self.known_by_key(bearer(request.headers())?);
        let known = known.ok_or_else(|| unauthenticated("no partner has this API key"))?;
        request.extensions_mut().insert(Caller(Some(known.name.clone())));
        Ok(())
    }

    fn known_by_key(&self, key: &str) -> Option<&Known> {
        let hash = KeyHash::of(key);
        // All of them are looked at, so that the time says nothing.
        self.0.iter().fold(None, |found, partner| match &partner.key {
            Some(of) if *of == hash => Some(partner),
            _ => found,
        })
    }

    /// The name of the partner with this key.
    pub(super) fn name_of(&self, key: &str) -> Option<Arc<str>> {
        self.known_by_key(key).map(|known| known.name.clone())
    }

    /// Counts a request of a partner by its status.
    pub(super) fn count(&self, partner: &str, status: u16) {
        let outcome = match status {
            ..400 => 0,
            400..500 => 1,
            _ => 2,
        };
        if let Some(known) = self.0.iter().find(|known| *known.name == *partner) {
            known.counts.0[outcome].fetch_add(1, Relaxed);
        }
    }

    /// Writes what was counted.
    pub(super) fn expose(&self, text: &mut Exposition) {
        let help = "Requests and messages of a partner, by what became of them.";
        text.family("holdfast_partner_requests", Kind::Counter, None, help);
        for known in &self.0 {
            for (outcome, count) in OUTCOMES.iter().zip(&known.counts.0) {
                let labels = [("partner", &*known.name), ("outcome", *outcome)];
                let count = count.load(Relaxed);
                text.sample("holdfast_partner_requests_total", &labels, count);
            }
        }
    }
}

fn unauthenticated(detail: &'static str) -> Problem {
    Problem::unauthenticated(detail, "Bearer")
}

/// The key in the one Authorization header.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => {
            let text = value.to_str().unwrap_or_default();
            let (scheme, key) = text.split_once(' ').unwrap_or((text, ""));
            match scheme.eq_ignore_ascii_case("bearer") {
                true => Ok(key.trim()),
                false => Err(unauthenticated("an API key comes as `Authorization: Bearer <key>`")),
            }
        }
        (Some(_), Some(_)) => Err(unauthenticated("the header `Authorization` is given twice")),
        (None, _) => Err(unauthenticated(
            "no API key came with the request; send it as `Authorization: Bearer <key>`",
        )),
    }
}

/// Who a request is from; where there are no API keys, one caller without a name.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller(Option<Arc<str>>);

impl Caller {
    /// As it was written down.
    pub(super) fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// The partner's name; empty for the one without.
    pub(super) fn name(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }
}

impl FromRequestParts<State> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}
