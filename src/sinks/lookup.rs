//! Whether a partner has a part already: asked before one that it may have is sent again.
//!
//! "It has not" is not believed while the partner may still be at work on an attempt that was not
//! answered: that time is counted from the attempt, or from the start of this process where an earlier
//! one made it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{fault::Fault, request::Declared, rules::Rules, wire::Answer};
use crate::{
    config::{self, Match},
    delivery::{Effect, Outcome},
};

/// The most attempts that are remembered; of more, the time of the oldest is forgotten and that of the
/// newest stands for it.
const ATTEMPTS_MAX: usize = 1_024;

/// See the module.
pub(super) struct Lookup {
    pub request: Declared,
    found: Match,
    absent: Match,
    settle: Duration,
    attempts: Mutex<Attempts>,
}

struct Attempts {
    /// Of what is not known, the last that there can have been.
    others: Instant,
    by_part: HashMap<String, Instant>,
}

/// What came of the question.
pub(super) enum Found {
    /// It has the part.
    Yes(u16),
    /// It has not.
    No,
}

impl Lookup {
    /// Reads the declaration.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn new(declared: &config::Lookup) -> Result<Self, String> {
        Ok(Self {
            request: Declared::new(&declared.request())?,
            found: declared.found.clone(),
            absent: declared.absent.clone(),
            settle: Duration::from_millis(declared.settle_ms),
            attempts: Mutex::new(Attempts { others: Instant::now(), by_part: HashMap::new() }),
        })
    }

    /// A part is being sent.
    pub fn attempted(&self, part_id: &str) {
        let (now, mut attempts) = (Instant::now(), self.attempts.lock());
        if attempts.by_part.len() >= ATTEMPTS_MAX {
            attempts.by_part.clear();
            attempts.others = now;
        }
        attempts.by_part.insert(part_id.to_owned(), now);
    }

    /// It is known what became of a part.
    pub fn settled(&self, part_id: &str) {
        self.attempts.lock().by_part.remove(part_id);
    }

    /// What an answer says; `rules` judge one that says nothing of the part.
    pub fn hear(&self, part_id: &str, answer: &Answer, rules: &Rules) -> Result<Found, Fault> {
        if self.found.holds(answer.heard()) {
            return Ok(Found::Yes(answer.status));
        }
        if self.absent.holds(answer.heard()) {
            return self.believe(part_id).map(|()| Found::No);
        }
        let reason =
            format!("asked whether it has the part, the partner answered {}", answer.status);
        Err(match rules.judge(answer, Vec::new) {
            Outcome::Denied { status, retry_after } => Fault::Denied { status, retry_after },
            Outcome::Failed { retry_after, .. } => {
                Fault::Failed { reason, retry_after, effect: Effect::Unknown }
            }
            _ => Fault::unknown(reason),
        })
    }

    fn believe(&self, part_id: &str) -> Result<(), Fault> {
        let attempts = self.attempts.lock();
        let last = attempts.by_part.get(part_id).copied().unwrap_or(attempts.others);
        match self.settle.checked_sub(last.elapsed()).filter(|left| !left.is_zero()) {
            None => Ok(()),
            Some(left) => Err(Fault::Failed {
                reason: "the partner has not got the part, but may still be at work on it".into(),
                retry_after: Some(left),
                effect: Effect::Unknown,
            }),
        }
    }
}
