//! Incidents of sinks: a time in which a partner could not be delivered to, and how long it took until
//! it had all that had waited.
//!
//! An incident begins when a sink no longer runs or its breaker opens. The partner is back when it runs
//! again with the breaker closed; it has recovered once it has everything that was durable then. What
//! arrives meanwhile does not count, so that a busy shop recovers too.

use super::Ages;
use crate::model::{Lsn, sink::SinkView};

/// How a sink's incidents went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Incidents {
    now: Phase,
    /// How many there were that are over.
    pub count: u64,
    /// How long they took together, from the first sign to the recovery.
    pub seconds: f64,
    /// How long the last took.
    pub last_s: f64,
    /// How much of that it took to catch up once the partner was back.
    pub last_catch_up_s: f64,
    /// How long each took.
    pub recoveries: Ages,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Phase {
    #[default]
    None,
    /// Since a second.
    Down { since_s: f64 },
    /// The partner is back; it has recovered at a position.
    CatchingUp { since_s: f64, back_s: f64, until: Lsn },
}

impl Incidents {
    /// Looks at the sink; `durable` is the log's end, `now_s` any clock that goes on.
    pub fn look(&mut self, sink: &SinkView, durable: Lsn, now_s: f64) {
        let works = sink.state == "running" && sink.breaker == "closed";
        self.now = match (self.now, works) {
            (Phase::None, true) => Phase::None,
            (Phase::None, false) => Phase::Down { since_s: now_s },
            (Phase::Down { since_s }, true) => {
                Phase::CatchingUp { since_s, back_s: now_s, until: durable }
            }
            (Phase::Down { since_s } | Phase::CatchingUp { since_s, .. }, false) => {
                Phase::Down { since_s }
            }
            (at @ Phase::CatchingUp { .. }, true) => at,
        };
        if let Phase::CatchingUp { since_s, back_s, until } = self.now
            && sink.acknowledged_lsn >= until
        {
            self.count += 1;
            (self.last_s, self.last_catch_up_s) = (now_s - since_s, now_s - back_s);
            self.seconds += self.last_s;
            self.recoveries.record((self.last_s * 1e3) as u64, 1);
            self.now = Phase::None;
        }
    }

    /// Whether one is not over.
    pub fn is_open(&self) -> bool {
        self.now != Phase::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(state: &str, breaker: &str, acknowledged: u64) -> SinkView {
        let view = serde_json::json!({
            "name": "erp", "domain": "inventory", "state": state, "breaker": breaker, "lanes": [],
            "acknowledged_lsn": acknowledged, "lag_records": 0, "lag_ms": 0, "concurrency": 1,
            "batches_delivered": 0, "events_delivered": 0, "retries": 0, "dead_letters": 0,
        });
        serde_json::from_value(view).unwrap()
    }

    #[test]
    fn an_incident_is_over_when_what_had_waited_is_delivered() {
        let mut incidents = Incidents::default();
        let mut look = |state, breaker, acknowledged, durable, now_s| {
            incidents.look(&sink(state, breaker, acknowledged), Lsn(durable), now_s);
            (incidents.is_open(), incidents.count)
        };
        assert_eq!(look("running", "closed", 8, 80, 0.0), (false, 0), "to lag is no incident");
        assert_eq!(look("running", "open", 8, 80, 10.0), (true, 0));
        assert_eq!(look("running", "half_open", 8, 160, 20.0), (true, 0));
        assert_eq!(look("running", "closed", 8, 240, 30.0), (true, 0));
        assert_eq!(look("paused", "closed", 16, 320, 31.0), (true, 0), "still the same one");
        assert_eq!(look("running", "closed", 16, 400, 40.0), (true, 0));
        assert_eq!(look("running", "closed", 392, 800, 44.0), (true, 0));
        assert_eq!(look("running", "closed", 400, 880, 45.0), (false, 1));
        assert_eq!((incidents.last_s, incidents.last_catch_up_s), (35.0, 5.0));
        assert_eq!(incidents.seconds, 35.0);
        assert_eq!(incidents.recoveries.count(), 1);
    }
}
