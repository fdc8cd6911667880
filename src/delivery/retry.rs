//! How long to wait before the next attempt.
//!
//! Full jitter: a random wait between nothing and a bound that doubles with each failed attempt. It
//! is written here rather than taken from a crate because the ones at hand (backon among them) add
//! jitter on top of a fixed wait, which keeps clients in step after an outage, and know no
//! `Retry-After`.

use std::time::Duration;

/// The longest that a partner's `Retry-After` is obeyed: five minutes. A longer one, or a clock that
/// is an hour off, must not silence a sink.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// No two attempts are closer than this, however the dice fall.
const WAIT_MIN: Duration = Duration::from_millis(10);

/// The waits of one batch.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    initial: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(initial_ms: u64, max_ms: u64) -> Self {
        let (initial, max) = (Duration::from_millis(initial_ms), Duration::from_millis(max_ms));
        Self { initial, max, failures: 0 }
    }

    /// The wait after a failed attempt; `dice` is random over all its values.
    pub fn after_failure(&mut self, retry_after: Option<Duration>, dice: u64) -> Duration {
        let bound = self.initial.saturating_mul(1 << self.failures.min(30)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let wait = bound.mul_f64(dice as f64 / u64::MAX as f64).max(WAIT_MIN);
        // Jitter comes on top of what the partner asked for, so that not all come back at once.
        retry_after.map_or(wait, |asked| asked.min(RETRY_AFTER_MAX) + wait.min(self.initial))
    }

    /// The wait after the partner refused us.
    pub fn after_denial(&self, retry_after: Option<Duration>) -> Duration {
        retry_after.map_or(self.max, |asked| asked.min(RETRY_AFTER_MAX).max(self.max))
    }
}

/// A random number; the largest where the system has none to give, which only waits longer.
pub(super) fn dice() -> u64 {
    let mut bytes = [0xff; 8];
    if getrandom::fill(&mut bytes).is_err() {
        return u64::MAX;
    }
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_bound_doubles_up_to_the_maximum() {
        let mut backoff = Backoff::new(100, 1_000);
        let waits: Vec<_> =
            (0..6).map(|_| backoff.after_failure(None, u64::MAX).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
        for _ in 0..100 {
            assert_eq!(backoff.after_failure(None, u64::MAX), SECOND);
        }
    }

    #[test]
    fn the_wait_is_anywhere_below_the_bound_and_never_nothing() {
        let mut backoff = Backoff::new(1_000, 1_000);
        assert_eq!(backoff.after_failure(None, 0), WAIT_MIN);
        let half = backoff.after_failure(None, u64::MAX / 2).as_millis();
        assert!((499..=501).contains(&half), "{half}");
    }

    #[test]
    fn retry_after_is_obeyed_up_to_a_cap() {
        let mut backoff = Backoff::new(100, 30_000);
        let wait = backoff.after_failure(Some(7 * SECOND), u64::MAX);
        assert!(wait >= 7 * SECOND && wait <= 8 * SECOND, "{wait:?}");
        let wait = backoff.after_failure(Some(86_400 * SECOND), 0);
        assert!(wait >= RETRY_AFTER_MAX && wait <= RETRY_AFTER_MAX + SECOND, "{wait:?}");
        assert_eq!(backoff.after_denial(None), 30 * SECOND);
        assert_eq!(backoff.after_denial(Some(60 * SECOND)), 60 * SECOND);
        assert_eq!(backoff.after_denial(Some(SECOND)), 30 * SECOND);
    }
}
