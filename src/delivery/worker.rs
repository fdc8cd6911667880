//! A sink's delivery task.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    Effect, Outcome, Part, Partner,
    pace::Pace,
    retry::{self, Backoff},
};
use crate::{
    config::SinkConfig,
    feed::{Batch, Condition, Fate, Progress, Rejected},
    model::letter::Letter,
};

/// Characters of a partner's answer that are kept.
const ANSWER_CHARS_MAX: usize = 1_000;

/// Brings a sink's batches to its partner, one after the other.
pub(super) struct Worker {
    pub config: SinkConfig,
    pub partner: Box<dyn Partner>,
    pub progress: Arc<Progress>,
    pub inbox: mpsc::Receiver<Batch>,
    /// Turns true once.
    pub stop: watch::Receiver<bool>,
}

impl Worker {
    /// Works until it is stopped or the feed has ended. An attempt under way is let finish.
    pub async fn run(mut self) {
        let _guard = self.progress.broken_by_panic("its delivery");
        let mut pace = Pace::new(self.config.rate_per_s);
        while let Some(batch) = self.next().await {
            match self.deliver(&batch, &mut pace).await {
                Some(fate) => self.progress.report(fate),
                None => return,
            }
        }
    }

    async fn next(&mut self) -> Option<Batch> {
        tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => None,
            batch = self.inbox.recv() => batch,
        }
    }

    /// Tries until the batch's fate is known; `None` if stopped before.
    async fn deliver(&mut self, batch: &Batch, pace: &mut Pace) -> Option<Fate> {
        let mut backoff = Backoff::new(self.config.retry_initial_ms, self.config.retry_max_ms);
        let mut part = Part::whole(batch);
        for attempts in 1.. {
            if attempts > 1 {
                self.progress.count_retry();
            }
            self.sleep_until(pace.next(Instant::now())).await?;
            let outcome = self.partner.send(&part).await;
            let wait = match outcome {
                Outcome::Done { status, rejected } => {
                    self.progress.set_condition(Condition::Running);
                    return Some(self.done(batch, attempts, status, &rejected));
                }
                Outcome::Refused { status, answer, .. } => {
                    self.progress.set_condition(Condition::Running);
                    return Some(self.refused(batch, attempts, status, &answer));
                }
                Outcome::Denied { status, retry_after } => {
                    self.denied(batch, status);
                    backoff.after_denial(retry_after)
                }
                Outcome::Failed { reason, retry_after, effect } => {
                    part.uncertain |= effect == Effect::Unknown;
                    self.failed(batch, attempts, &reason);
                    backoff.after_failure(retry_after, retry::dice())
                }
            };
            self.sleep_until(Instant::now() + wait).await?;
        }
        None
    }

    /// Waits; `None` if stopped.
    async fn sleep_until(&mut self, at: Instant) -> Option<()> {
        tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => None,
            () = tokio::time::sleep_until(at) => Some(()),
        }
    }

    fn done(&self, batch: &Batch, attempts: u64, status: u16, rejected: &[Rejected]) -> Fate {
        let mut fate = fate(batch, attempts, status);
        if let Some(first) = rejected.first() {
            tracing::error!(
                sink = self.config.name,
                batch = batch.id.as_str(),
                lines = rejected.len(),
                first = first.line_id,
                "the partner took the batch but refused lines of it; they are set aside"
            );
            let answer = serde_json::to_string(rejected).unwrap_or_default();
            shortened(&answer).clone_into(&mut fate.answer);
            let set_aside = |line: &Rejected| letter(batch, &fate, &line.line_id, &line.reason);
            fate.letters = rejected.iter().map(set_aside).collect();
        }
        fate
    }

    fn refused(&self, batch: &Batch, attempts: u64, status: u16, answer: &str) -> Fate {
        tracing::error!(
            sink = self.config.name,
            batch = batch.id.as_str(),
            status,
            answer = shortened(answer),
            "the partner refused the batch for its content; it is set aside"
        );
        let mut fate = fate(batch, attempts, status);
        shortened(answer).clone_into(&mut fate.answer);
        fate.refused = true;
        fate.letters = vec![letter(batch, &fate, batch.id.as_str(), answer)];
        fate
    }

    fn denied(&self, batch: &Batch, status: u16) {
        tracing::error!(
            sink = self.config.name,
            batch = batch.id.as_str(),
            status,
            "the partner refuses us: the sink is paused; check its address and credentials"
        );
        self.progress.set_condition(Condition::Paused(format!("the partner answers {status}")));
    }

    /// The first failure and every doubling of their number is told, not each.
    fn failed(&self, batch: &Batch, attempts: u64, reason: &str) {
        self.progress.set_condition(Condition::Running);
        if attempts.is_power_of_two() {
            let (sink, batch) = (&self.config.name, batch.id.as_str());
            tracing::warn!(sink, batch, attempts, reason, "an attempt failed; it is repeated");
        }
    }
}

fn fate(batch: &Batch, attempts: u64, status: u16) -> Fate {
    Fate {
        number: batch.number,
        seal_lsn: batch.seal_lsn,
        attempts,
        status,
        refused: false,
        answer: String::new(),
        letters: Vec::new(),
    }
}

/// A batch, or a line of it, that is set aside.
fn letter(batch: &Batch, fate: &Fate, id: &str, reason: &str) -> Letter {
    Letter {
        id: id.to_owned(),
        part_id: batch.id.to_string(),
        number: batch.number,
        seal_lsn: batch.seal_lsn.0,
        config_version: batch.config_version,
        at_ms: batch.newest.millis(),
        status: fate.status,
        lane: batch.lane as u8,
        attempts: fate.attempts,
        uncertain: false,
        mended: false,
        reason: shortened(reason).to_owned(),
        body: batch.body.to_vec(),
    }
}

fn shortened(text: &str) -> &str {
    text.char_indices().nth(ANSWER_CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}

/// Waits for the tasks of all sinks, at most so long; then gives up what is under way.
pub(super) async fn join(tasks: Vec<tokio::task::JoinHandle<()>>, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    let mut all = true;
    for mut task in tasks {
        if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
            task.abort();
            all = false;
        }
    }
    all
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
