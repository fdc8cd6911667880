//! How a service level's events are counted: once a second, from figures that only rise, or from how a
//! sink stands at that moment.

use std::{sync::Arc, time::Duration};

use crate::{
    config::Objective,
    model::sink::SinkView,
    telemetry::{Answered, Delivered, Promise, Requests},
};

/// The routes that decide on stock for a customer who waits.
const RESERVING: [&str; 2] = ["/v1/reservations", "/v1/orders"];

/// Counts the events of one service level.
#[derive(Debug)]
pub(super) struct Meter {
    objective: Objective,
    sink: String,
    within: Duration,
    /// What rising figures stood at.
    seen: (u64, u64),
    has_looked: bool,
}

impl Meter {
    /// `None`: there is no such objective.
    pub fn new(promise: &Promise) -> Option<Self> {
        Some(Self {
            objective: Objective::of_word(promise.objective)?,
            sink: promise.sink.clone().unwrap_or_default(),
            within: Duration::from_millis(promise.within_ms.unwrap_or(0)),
            seen: (0, 0),
            has_looked: false,
        })
    }

    /// Whether it has looked before, so that what it reads has come since.
    pub fn has_looked(&self) -> bool {
        self.has_looked
    }

    /// It has.
    pub fn looked(&mut self) {
        self.has_looked = true;
    }

    /// Good and all events since the last look.
    pub fn read(
        &mut self,
        doors: &[Arc<Requests>],
        views: &[SinkView],
        delivered: &[Delivered],
    ) -> (u64, u64) {
        match self.objective {
            Objective::SinkLag => self.second(views),
            Objective::OrderToWarehouse => {
                let of = delivered.iter().find(|of| of.sink == self.sink);
                self.since(of.map_or((0, 0), |of| of.judged(self.within)))
            }
            Objective::ReserveLatency => {
                let wanted =
                    |route: &str, method: &str| method == "POST" && RESERVING.contains(&route);
                let answered = answered(doors, wanted, self.within);
                // A failure is no answer however fast it came.
                self.since((answered.within.saturating_sub(answered.failed), answered.total))
            }
            Objective::Availability => {
                let wanted = |route: &str, _: &str| route.starts_with("/v1/");
                let answered = answered(doors, wanted, Duration::ZERO);
                self.since((answered.total - answered.failed, answered.total))
            }
        }
    }

    /// One event: whether the sink lags too far behind now. One that stands still has a lag that grows.
    fn second(&self, views: &[SinkView]) -> (u64, u64) {
        let Some(sink) = views.iter().find(|sink| sink.name == self.sink) else { return (0, 0) };
        (u64::from(u128::from(sink.lag_ms) <= self.within.as_millis()), 1)
    }

    /// What rising figures rose by. What waits for too long is counted before it has arrived, and for a
    /// moment, while it is handed on, it is not seen: then the next look has it.
    fn since(&mut self, (good, total): (u64, u64)) -> (u64, u64) {
        if good < self.seen.0 || total < self.seen.1 {
            return (0, 0);
        }
        let since = (good - self.seen.0, total - self.seen.1);
        if since.0 > since.1 {
            return (0, 0);
        }
        self.seen = (good, total);
        since
    }
}

/// How the requests of some endpoints were answered, by whichever door they came in.
fn answered(
    doors: &[Arc<Requests>],
    wanted: impl Fn(&str, &str) -> bool,
    within: Duration,
) -> Answered {
    doors.iter().map(|door| door.answered(&wanted, within)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(objective: Objective, within_ms: u64) -> Meter {
        let promise = Promise {
            name: "x".into(),
            objective: objective.as_str(),
            sink: Some("wms".into()),
            within_ms: Some(within_ms),
            target_percent: 95.0,
            window_hours: 1,
        };
        Meter::new(&promise).expect("an objective")
    }

    #[test]
    fn a_failure_is_neither_fast_nor_available() {
        let doors = [Arc::<Requests>::default(), Arc::default()];
        let record = |route, method, status, us| {
            // Refusals come in by the other door.
            let door = &doors[usize::from(status == 409)];
            let endpoint = door.endpoint(route, method);
            endpoint.record_many(status, Duration::from_micros(us), 1);
        };
        let mut latency = meter(Objective::ReserveLatency, 5);
        let mut available = meter(Objective::Availability, 0);
        record("/v1/reservations", "POST", 201, 300);
        record("/v1/reservations", "POST", 409, 300);
        record("/v1/orders", "POST", 201, 50_000);
        record("/v1/orders", "POST", 503, 100);
        record("/v1/reservations", "GET", 200, 90_000);
        record("/metrics", "GET", 500, 10);
        assert_eq!(latency.read(&doors, &[], &[]), (2, 4));
        assert_eq!(available.read(&doors, &[], &[]), (4, 5));
        assert_eq!(latency.read(&doors, &[], &[]), (0, 0), "each is counted once");
    }

    #[test]
    fn what_is_not_seen_for_a_moment_is_counted_once() {
        let mut orders = meter(Objective::OrderToWarehouse, 5_000);
        let mut look = |fast, late, waiting| {
            let fine = [(1_000_000, fast), (9_000_000_000, late)].into_iter().collect();
            let waiting = vec![(6_000, waiting)];
            let of = Delivered { sink: "wms".into(), fine, waiting, ..Delivered::default() };
            orders.read(&[], &[], &[of])
        };
        assert_eq!(look(10, 0, 3), (10, 13));
        assert_eq!(look(12, 0, 0), (0, 0), "three are on their way from one place to another");
        assert_eq!(look(15, 3, 0), (5, 5));
    }
}
