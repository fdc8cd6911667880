//! A caller who stays: a connection of the gateway, which says once who it is and is asked at each of its
//! requests whether it still may. What was found is kept until the partners change or the key ends.

use std::sync::Arc;

use super::{
    State,
    directory::{Known, Refused},
};
use crate::model::{
    partner::{Barred, Scope},
    signature::KeyHash,
};

/// See the module.
pub struct Pass {
    state: State,
    /// `None`: it came without one.
    key: Option<KeyHash>,
    version: u64,
    known: Option<Known>,
}

impl Pass {
    /// Lets a caller in with a key, which may be empty where none is needed.
    pub(super) fn new(state: &State, api_key: &str) -> Option<Self> {
        let key = state.needs_keys().then(|| KeyHash::of(api_key));
        let version = state.partners_version();
        let known = key.as_ref().map(|key| state.known(key));
        match known {
            Some(None) => None,
            known => Some(Self { state: state.clone(), key, version, known: known.flatten() }),
        }
    }

    /// The partner's name: the scope of its idempotency keys. Empty where there are no keys.
    pub fn name(&self) -> Arc<str> {
        self.known.as_ref().map_or_else(|| "".into(), |known| known.account.name.clone())
    }

    /// Counts a request that needs one of `scopes`.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn enter(&mut self, scopes: &'static [Scope]) -> Result<(), Barred> {
        self.check()?;
        let Some(known) = &self.known else { return Ok(()) };
        match known.account.enter(scopes, || self.state.now_ms()) {
            Ok(_) => Ok(()),
            Err((Refused::Scope(scopes), _)) => Err(Barred::Scope(scopes)),
            Err((Refused::UsedUp(used_up), _)) => {
                Err(Barred::Limit { retry_after_s: used_up.retry_after_s })
            }
        }
    }

    /// So many of its requests were answered with this status. Those that were not taken are counted
    /// elsewhere, as those over HTTP are.
    pub fn answered(&self, status: u16, count: u64) {
        let is_taken = !matches!(status, 401 | 403 | 429);
        if let Some(known) = self.known.as_ref().filter(|_| is_taken) {
            known.account.counts.outcomes.count(status, count);
        }
    }

    /// Whether its key is still good, or still not needed.
    fn check(&mut self) -> Result<(), Barred> {
        let version = self.state.partners_version();
        if version != self.version {
            self.look_up()?;
            self.version = version;
        }
        let until_ms = self.known.as_ref().map_or(u64::MAX, |known| known.until_ms);
        // Nearly every key is good for ever: then the clock is not asked.
        let is_over = until_ms != u64::MAX && until_ms <= self.state.now_ms();
        if is_over { Err(Barred::Unknown) } else { Ok(()) }
    }

    fn look_up(&mut self) -> Result<(), Barred> {
        match &self.key {
            // Who came without a key when none was needed needs one now.
            None if self.state.needs_keys() => Err(Barred::Unknown),
            None => Ok(()),
            Some(key) => {
                self.known = Some(self.state.known(key).ok_or(Barred::Unknown)?);
                Ok(())
            }
        }
    }
}
