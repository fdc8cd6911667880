//! The partners of the configuration: who may call, and whose messages are taken.
//!
//! Keys are known by their SHA-256. Those that are added to a running server are the log's; both together
//! are [`super::directory`].

use std::sync::Arc;

use crate::model::{
    mapping::Mapping,
    partner::{PartnerSource, PartnerView, Terms},
    signature::{KeyHash, Verifier},
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
    /// What it may do with its key.
    pub terms: Terms,
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

#[derive(Debug, Clone)]
struct Known {
    name: Arc<str>,
    key: Option<KeyHash>,
    hook: Option<Hook>,
    terms: Terms,
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
        let known =
            |Partner { name, key, hook, terms }| Known { name: name.into(), key, hook, terms };
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

    /// Whether there is one of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|partner| *partner.name == *name)
    }

    /// Those that have a key: name, its hash, what they may do.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&str, &KeyHash, &Terms)> {
        self.0.iter().filter_map(|known| Some((&*known.name, known.key.as_ref()?, &known.terms)))
    }

    /// Those that have a key, as they are told.
    pub(super) fn views(&self) -> impl Iterator<Item = PartnerView> {
        self.keys().map(|(name, _, terms)| PartnerView {
            name: name.to_owned(),
            source: PartnerSource::Configuration,
            revoked: false,
            scopes: terms.scopes,
            limits: terms.limits.clone(),
            added_at: None,
            changed_at: None,
            changed_by: String::new(),
            old_keys_until: Vec::new(),
        })
    }
}
