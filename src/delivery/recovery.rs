//! Recovery pacing: a backlog is brought a little faster than it arrived, not as fast as possible.
//!
//! A partner that comes back after an outage has the day's work to do as well. A batch that was sealed far
//! behind the log's end belongs to a backlog; it is followed, in its lane, by a pause until its start and
//! its arrival span divided by the factor, so that records reach the partner at most `factor` times as fast
//! as they were written. A sink whose lines merge has one wide batch for the whole outage, which ends near
//! the log's end: no backlog, no pause.

use std::time::Duration;

use tokio::time::Instant;

use crate::{config::Policy, feed::Batch, model::Timestamp};

/// The pacing of one lane.
#[derive(Debug)]
pub(super) struct Recovery {
    factor: f64,
    pause_max: Duration,
    not_before: Option<Instant>,
}

impl Recovery {
    pub fn new(policy: &Policy) -> Self {
        Self {
            factor: policy.recovery_factor.max(1.0),
            pause_max: Duration::from_millis(policy.recovery_pause_ms_max),
            not_before: None,
        }
    }

    /// A batch is begun.
    pub fn begin(&mut self, batch: &Batch, backlog: bool, now: Instant) {
        let pause = since(batch.oldest, batch.newest).div_f64(self.factor).min(self.pause_max);
        self.not_before = backlog.then(|| now + pause);
    }

    /// When the lane's next batch may be begun, if that is not now.
    pub fn waits(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|at| *at > now)
    }
}

/// Whether a batch belongs to a backlog; `sealed_at` is the time of its seal.
pub(super) fn is_backlog(policy: &Policy, batch: &Batch, sealed_at: Timestamp) -> bool {
    since(batch.newest, sealed_at) > Duration::from_millis(policy.recovery_lag_ms)
}

fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::from_millis(later.millis().saturating_sub(earlier.millis()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::testing::batch;

    fn of(oldest_s: u64, newest_s: u64) -> Batch {
        let at = |s| Timestamp::from_millis(s * 1_000);
        Batch { oldest: at(oldest_s), newest: at(newest_s), ..batch(1, "{}") }
    }

    #[test]
    fn a_backlog_is_paced_by_its_span_and_the_factor_up_to_a_bound() {
        let (mut recovery, now) = (Recovery::new(&Policy::default()), Instant::now());
        let at = |s| now + Duration::from_secs(s);
        for (span, pause) in [(10, 5), (60, 30), (3_600, 30)] {
            let batch = of(1_000, 1_000 + span);
            assert!(is_backlog(&Policy::default(), &batch, Timestamp::from_millis(9_000_000)));
            recovery.begin(&batch, true, now);
            assert_eq!(recovery.waits(now), Some(at(pause)));
            assert_eq!(recovery.waits(at(pause)), None);
        }
    }

    #[test]
    fn what_ends_near_the_log_s_end_is_no_backlog_however_wide_it_is() {
        let (mut recovery, now) = (Recovery::new(&Policy::default()), Instant::now());
        let batch = of(1_000, 9_000);
        assert!(!is_backlog(&Policy::default(), &batch, Timestamp::from_millis(9_060_000)));
        assert!(is_backlog(&Policy::default(), &batch, Timestamp::from_millis(9_060_001)));
        assert!(
            !is_backlog(&Policy::default(), &batch, Timestamp::from_millis(0)),
            "a clock put back"
        );
        recovery.begin(&batch, true, now);
        recovery.begin(&batch, false, now);
        assert_eq!(recovery.waits(now), None);
    }
}
