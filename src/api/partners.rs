//! The partners of the configuration: who may call, and whose messages are taken.
//!
//! Keys are known by their SHA-256. Those that are added to a running server are the log's; both together
//! are [`super::directory`].

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::meter::Meter;
use crate::model::{
    mapping::Mapping,
    partner::{Limits, PartnerSource, PartnerView, Terms},
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
    /// How many messages are taken.
    pub limits: Limits,
}

/// What a hook still takes. Messages that are not the partner's are counted by themselves, so that nobody
/// without the secret can use up what the partner has.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) signed: Meter,
    pub(super) unsigned: Meter,
    /// Messages that were too many: the partner's, and others.
    pub(super) refused: [AtomicU64; 2],
}

impl Door {
    fn new(limits: &Limits) -> Self {
        let meter = || Meter::new(limits);
        Self { signed: meter(), unsigned: meter(), refused: Default::default() }
    }
}

/// A partner that has a hook.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hooked<'a> {
    pub(super) name: &'a str,
    pub(super) hook: &'a Hook,
    pub(super) door: &'a Door,
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

/// What became of a partner's requests or messages: those that were done, those that it was refused, those
/// that failed here.
#[derive(Debug, Default)]
pub(super) struct Outcomes([AtomicU64; Self::NAMES.len()]);

impl Outcomes {
    /// What they are called in the metrics.
    pub(super) const NAMES: [&str; 3] = ["done", "refused", "failed"];

    /// Counts so many by their status.
    pub(super) fn count(&self, status: u16, count: u64) {
        let outcome = match status {
            ..400 => 0,
            400..500 => 1,
            _ => 2,
        };
        self.0[outcome].fetch_add(count, Relaxed);
    }

    /// How many there were of each.
    pub(super) fn counted(&self) -> [u64; Self::NAMES.len()] {
        self.0.each_ref().map(|count| count.load(Relaxed))
    }
}

#[derive(Debug, Clone)]
struct Known {
    name: Arc<str>,
    /// Of its signed messages.
    outcomes: Arc<Outcomes>,
    key: Option<KeyHash>,
    hook: Option<(Hook, Arc<Door>)>,
    terms: Terms,
}

impl Known {
    /// Goes on with what its hook still takes, unless that is to be another.
    fn keep_door(&mut self, before: &Self) {
        if let (Some((hook, door)), Some((hook_before, before))) = (&mut self.hook, &before.hook)
            && hook.limits == hook_before.limits
        {
            *door = before.clone();
        }
    }
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
        let known = |Partner { name, key, hook, terms }| {
            let (name, outcomes) = (name.into(), Arc::default());
            let hook = hook.map(|hook| {
                let door = Arc::new(Door::new(&hook.limits));
                (hook, door)
            });
            Known { name, outcomes, key, hook, terms }
        };
        Ok(Self(partners.into_iter().map(known).collect()))
    }

    /// The same, going on with what was counted of those that were there before.
    pub(super) fn with_counts_of(mut self, before: &Self) -> Self {
        for partner in &mut self.0 {
            if let Some(known) = before.0.iter().find(|known| known.name == partner.name) {
                partner.outcomes = known.outcomes.clone();
                partner.keep_door(known);
            }
        }
        self
    }

    /// Whether anybody has a key, so that everybody needs one.
    pub(super) fn have_keys(&self) -> bool {
        self.0.iter().any(|partner| partner.key.is_some())
    }

    /// A partner's hook.
    pub(super) fn hook(&self, name: &str) -> Option<Hooked<'_>> {
        self.hooks().find(|hooked| hooked.name == name)
    }

    /// All of them.
    pub(super) fn hooks(&self) -> impl Iterator<Item = Hooked<'_>> {
        self.0.iter().filter_map(|known| {
            let (hook, door) = known.hook.as_ref()?;
            Some(Hooked { name: &known.name, hook, door })
        })
    }

    /// Counts a signed message by its status.
    pub(super) fn count_message(&self, partner: &str, status: u16) {
        if let Some(known) = self.0.iter().find(|known| *known.name == *partner) {
            known.outcomes.count(status, 1);
        }
    }

    /// What became of the messages of each.
    pub(super) fn messages(&self) -> impl Iterator<Item = (&str, [u64; Outcomes::NAMES.len()])> {
        self.0.iter().map(|known| (&*known.name, known.outcomes.counted()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::partner::{Limits, Scopes};

    #[test]
    fn what_was_counted_of_a_partner_goes_on_when_others_change() {
        let partners = |names: &[&str]| {
            let partner = |name: &&str| Partner {
                name: (*name).to_owned(),
                key: None,
                hook: None,
                terms: Terms { scopes: Scopes::ALL, limits: Limits::default() },
            };
            Partners::new(names.iter().map(partner).collect()).unwrap()
        };
        let before = partners(&["shop", "wms"]);
        before.count_message("wms", 201);
        let after = partners(&["wms", "late"]).with_counts_of(&before);
        after.count_message("wms", 404);
        let counted: Vec<_> = after.messages().collect();
        assert_eq!(counted, [("wms", [1, 1, 0]), ("late", [0, 0, 0])]);
    }
}
