//! A batch at the delivery: what is still to be sent of it, and when.

use tokio::time::Instant;

use super::{bisect::Plan, retry::Backoff, trace::BatchTrace};
use crate::feed::Fate;

/// See the module.
#[derive(Debug)]
pub(super) struct Job {
    pub plan: Plan,
    /// Whether it belongs to a backlog.
    pub backlog: bool,
    /// Whether its first attempt was made: its lane's pacing concerns it no more.
    pub begun: bool,
    /// Whether the retry budget has been charged for the next attempt.
    pub paid: bool,
    /// The next attempt is made then at the earliest.
    pub not_before: Instant,
    pub backoff: Backoff,
    /// Its trace, if that is kept.
    pub trace: Option<BatchTrace>,
}

impl Job {
    pub fn number(&self) -> u64 {
        self.plan.batch().number
    }

    /// What became of it.
    pub fn fate(&self, at_ms: u64) -> Fate {
        let (batch, (status, answer)) = (self.plan.batch(), self.plan.answer());
        Fate {
            number: batch.number,
            seal_lsn: batch.seal_lsn,
            attempts: self.plan.attempts(),
            status,
            refused: !self.plan.is_taken(),
            answer: answer.to_owned(),
            letters: self.plan.letters(at_ms),
            taken: self.plan.taken_parts().to_vec(),
        }
    }
}
