//! What a sink's delivery did since the start, in numbers.

use utoipa::ToSchema;

/// Attempts by how they ended, and waits by their reason.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema,
)]
pub struct Attempts {
    /// The partner took the content, or had it.
    pub done: u64,
    /// It refused the content.
    pub refused: u64,
    /// It refused us.
    pub denied: u64,
    /// It failed.
    pub failed: u64,
    /// Attempts under way now.
    pub under_way: u64,
    /// How often the breaker opened.
    pub breaker_opens: u64,
    /// How often something that was to be sent had to wait.
    pub waits: Waits,
}

/// Waits by their reason.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema,
)]
pub struct Waits {
    /// After a failed attempt.
    pub back_off: u64,
    /// For the breaker.
    pub breaker: u64,
    /// For the retry budget.
    pub budget: u64,
    /// As many as may be were under way.
    pub concurrency: u64,
    /// The sink is paused.
    pub paused: u64,
    /// For the rate limit.
    pub rate: u64,
    /// A backlog is brought slowly.
    pub recovery: u64,
    /// The partner asked for it.
    pub retry_after: u64,
}

/// Why something that is to be sent waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// See [`Waits`].
    BackOff,
    /// See [`Waits`].
    Breaker,
    /// See [`Waits`].
    Budget,
    /// See [`Waits`].
    Concurrency,
    /// See [`Waits`].
    Paused,
    /// See [`Waits`].
    Rate,
    /// See [`Waits`].
    Recovery,
    /// See [`Waits`].
    RetryAfter,
}

impl Waits {
    /// All of them, with their names.
    pub fn by_reason(&self) -> [(&'static str, u64); 8] {
        [
            ("back_off", self.back_off),
            ("breaker", self.breaker),
            ("budget", self.budget),
            ("concurrency", self.concurrency),
            ("paused", self.paused),
            ("rate", self.rate),
            ("recovery", self.recovery),
            ("retry_after", self.retry_after),
        ]
    }

    /// Counts one.
    pub fn count(&mut self, wait: Wait) {
        let number = match wait {
            Wait::BackOff => &mut self.back_off,
            Wait::Breaker => &mut self.breaker,
            Wait::Budget => &mut self.budget,
            Wait::Concurrency => &mut self.concurrency,
            Wait::Paused => &mut self.paused,
            Wait::Rate => &mut self.rate,
            Wait::Recovery => &mut self.recovery,
            Wait::RetryAfter => &mut self.retry_after,
        };
        *number += 1;
    }
}
