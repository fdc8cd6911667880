//! Where a request's time goes: its stopwatch, which handlers find without being handed it.
//!
//! [`Front`](super::front::Front) starts it and records what it shows; what reads bodies, settles
//! decisions and writes answers ends the laps. Outside of a request nothing happens.

use std::time::Instant;

use super::answer::Effect;
use crate::{
    telemetry::{Laps, Stage},
    wal::AppendSample,
};

tokio::task_local! {
    /// The stopwatch of the request under way.
    pub(super) static LAPS: Laps;
}

/// The time since the last lap was spent in `stage`.
pub(super) fn lap(stage: Stage) {
    let _ = LAPS.try_with(|laps| laps.lap(stage, Instant::now()));
}

/// What is to be done about what was received is decided. Only the first call ends a lap, however many
/// decisions are settled after it; says whether this was it.
pub(super) fn decided(effect: Effect) -> bool {
    let decided = LAPS.try_with(|laps| {
        if laps.is_decided() {
            return false;
        }
        // Between the last lap and the decision a change does not give its thread away, so an append
        // since then is its own. A read may have waited, and appends nothing.
        let sample = AppendSample::take();
        let sample = sample.filter(|s| effect == Effect::Change && s.began >= laps.last());
        laps.lap(Stage::Decide, Instant::now());
        if let Some(sample) = sample {
            laps.add(Stage::Append, sample.took);
        }
        true
    });
    decided.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::Stages;

    #[tokio::test]
    async fn only_the_first_decision_ends_a_lap_until_more_is_received() {
        let stages = Stages::default();
        LAPS.scope(Laps::new(Instant::now()), async {
            assert!(decided(Effect::Change));
            assert!(!decided(Effect::Change));
            lap(Stage::Receive);
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert!(decided(Effect::Read));
            LAPS.with(|laps| stages.record(laps));
        })
        .await;
        let decide = stages.counts(Stage::Decide);
        assert_eq!(decide.count(), 1);
        assert!(decide.max_ns() >= 2_000_000);
    }

    #[test]
    fn outside_of_a_request_nothing_happens() {
        lap(Stage::Decode);
        assert!(!decided(Effect::Change));
    }
}
