//! Time for decisions: the wall clock as it was at the start, moved on by the monotonic one, so that
//! a clock that is set back expires nothing twice and one that is set forward expires nothing early.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// See the module.
#[derive(Debug)]
pub(super) struct Clock {
    from: Instant,
    from_ms: u64,
}

impl Clock {
    /// A clock that shows the wall clock's time, but not less than `not_before_ms`: the time of the
    /// log's last record.
    pub(super) fn new(not_before_ms: u64) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let from_ms = u64::try_from(wall).unwrap_or(u64::MAX).max(not_before_ms);
        Self { from: Instant::now(), from_ms }
    }

    /// Milliseconds since the epoch.
    pub(super) fn now_ms(&self) -> u64 {
        self.from_ms + self.from.elapsed().as_millis() as u64
    }
}
