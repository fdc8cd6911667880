//! What a sender records into: it owns the interval that is being filled, and gives it away when the
//! next one begins.

use std::{sync::Arc, time::Duration};

use super::{
    book::{Late, Parcel, Shared},
    series::Outcome,
    slot::{Measured, Slot, nanoseconds},
};

/// Requests that ended in an interval which was given away already, at most so many at once.
const LATE_MAX: usize = 8_192;

/// Records what one thread measures; no lock, and no allocation but at an interval's begin. What it
/// still has when it is dropped is not lost.
pub struct Recorder {
    shared: Arc<Shared>,
    /// The interval that is being filled, and when it begins and ends, in nanoseconds.
    interval: u64,
    begin_ns: u64,
    end_ns: u64,
    slot: Box<Slot>,
    late: Vec<Late>,
}

impl Recorder {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (slot, end_ns) = (shared.empty(), shared.interval_ns);
        Self { shared, interval: 0, begin_ns: 0, end_ns, slot, late: Vec::new() }
    }

    /// Records a request: when it was planned (since the run's start), how it ended, and how long it
    /// took from the planned instant to the answer (response), from the sending to the answer (service;
    /// not looked at if it was never sent), from the planned instant to the sending (lag).
    ///
    /// It belongs to the interval in which it ended: `planned + response`. A request without an answer
    /// ended when it was given up. Times beyond 10 minutes count as 10 minutes.
    pub fn record(
        &mut self,
        planned: Duration,
        outcome: Outcome,
        response: Duration,
        service: Duration,
        lag: Duration,
    ) {
        let measured = Measured {
            outcome,
            response_ns: nanoseconds(response),
            service_ns: nanoseconds(service),
            lag_ns: nanoseconds(lag),
        };
        let ended_ns = since_start(planned.saturating_add(response));
        if ended_ns >= self.end_ns {
            self.turn(ended_ns);
        }
        let planned = self.planned_in(since_start(planned));
        if ended_ns >= self.begin_ns {
            self.slot.record(planned, &measured);
        } else {
            self.remember(Late { interval: self.shared.interval_at(ended_ns), planned, measured });
        }
    }

    /// The interval of a planned instant: nearly always this one, which costs no division.
    fn planned_in(&self, planned_ns: u64) -> u64 {
        if planned_ns >= self.begin_ns && planned_ns < self.end_ns {
            self.interval
        } else {
            self.shared.interval_at(planned_ns)
        }
    }

    fn remember(&mut self, late: Late) {
        self.late.push(late);
        if self.late.len() >= LATE_MAX {
            self.give_late();
        }
    }

    /// Gives the interval away and begins the one in which something ended at this instant.
    fn turn(&mut self, ended_ns: u64) {
        self.give();
        self.interval = self.shared.interval_at(ended_ns);
        self.begin_ns = self.interval * self.shared.interval_ns;
        self.end_ns = self.shared.end_of(self.interval);
    }

    fn give(&mut self) {
        self.give_late();
        let slot = std::mem::replace(&mut self.slot, self.shared.empty());
        self.shared.give(Parcel::Slot { interval: self.interval, slot });
    }

    fn give_late(&mut self) {
        if !self.late.is_empty() {
            self.shared.give(Parcel::Late(std::mem::take(&mut self.late)));
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.give();
    }
}

/// Nanoseconds since the start: 584 years at most.
fn since_start(instant: Duration) -> u64 {
    u64::try_from(instant.as_nanos()).unwrap_or(u64::MAX)
}
