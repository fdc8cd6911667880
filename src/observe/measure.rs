//! How a service level's events are counted: once a second, from figures that only rise, or from how a
//! sink stands at that moment.

use std::{sync::Arc, time::Duration};

use crate::{
    config::Objective,
    model::{Lsn, sink::SinkView},
    telemetry::{Answered, Delivered, Requests, ServiceLevel},
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
    /// Events that were counted before the start, as late, and are to be seen once more when they are read and
    /// delivered again.
    again: u64,
    /// Everything of before the start is below; what is to be seen again is seen when it is with the partner.
    start: Lsn,
    /// Events that are counted as late and still wait.
    open: u64,
}

impl Meter {
    /// Of a level that goes on with what was counted before the log's position `start`. `None`: there is no such
    /// objective.
    pub fn new(level: &ServiceLevel, start: Lsn) -> Option<Self> {
        let (promise, again) = (level.promise(), level.open());
        Some(Self {
            objective: Objective::of_word(promise.objective)?,
            sink: promise.sink.clone().unwrap_or_default(),
            within: Duration::from_millis(promise.within_ms.unwrap_or(0)),
            seen: (0, 0),
            has_looked: false,
            again,
            start,
            open: again,
        })
    }

    /// Events that are counted as late and still wait.
    pub fn open(&self) -> u64 {
        self.open
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
                let Some(of) = delivered.iter().find(|of| of.sink == self.sink) else {
                    return (0, 0);
                };
                let since = self.since(of.judged(self.within));
                since.map_or((0, 0), |counts| self.but_those_seen_again(counts, of, views))
            }
            Objective::ReserveLatency => {
                let wanted =
                    |route: &str, method: &str| method == "POST" && RESERVING.contains(&route);
                let answered = answered(doors, wanted, self.within);
                // A failure is no answer however fast it came.
                let good = answered.within.saturating_sub(answered.failed);
                self.since((good, answered.total)).unwrap_or_default()
            }
            Objective::Availability => {
                let wanted = |route: &str, _: &str| route.starts_with("/v1/");
                let answered = answered(doors, wanted, Duration::ZERO);
                let good = answered.total - answered.failed;
                self.since((good, answered.total)).unwrap_or_default()
            }
        }
    }

    /// Leaves out what the life before counted as late and had not delivered.
    fn but_those_seen_again(
        &mut self,
        (good, total): (u64, u64),
        of: &Delivered,
        views: &[SinkView],
    ) -> (u64, u64) {
        let again = self.again.min(total - good);
        self.again -= again;
        // One that was delivered and not counted any more before a crash is never seen again. The views are
        // older than what is counted here.
        let sink = views.iter().find(|sink| sink.name == self.sink);
        if sink.is_some_and(|sink| sink.acknowledged_lsn >= self.start) {
            self.again = 0;
        }
        self.open = self.again + of.late(self.within);
        (good, total - again)
    }

    /// One event: whether the sink lags too far behind now. One that stands still has a lag that grows.
    fn second(&self, views: &[SinkView]) -> (u64, u64) {
        let Some(sink) = views.iter().find(|sink| sink.name == self.sink) else { return (0, 0) };
        (u64::from(u128::from(sink.lag_ms) <= self.within.as_millis()), 1)
    }

    /// What rising figures rose by. What waits for too long is counted before it has arrived, and for a
    /// moment, while it is handed on, it is not seen (`None`): then the next look has it.
    fn since(&mut self, (good, total): (u64, u64)) -> Option<(u64, u64)> {
        let since = (good.checked_sub(self.seen.0)?, total.checked_sub(self.seen.1)?);
        if since.0 > since.1 {
            return None;
        }
        self.seen = (good, total);
        Some(since)
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
    use crate::telemetry::Promise;

    fn level(objective: Objective, within_ms: u64) -> ServiceLevel {
        ServiceLevel::new(Promise {
            name: "x".into(),
            objective: objective.as_str(),
            sink: Some("wms".into()),
            within_ms: Some(within_ms),
            target_percent: 95.0,
            window_hours: 1,
        })
    }

    fn meter(objective: Objective, within_ms: u64) -> Meter {
        Meter::new(&level(objective, within_ms), Lsn(0)).expect("an objective")
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

    fn view(acknowledged: u64) -> [SinkView; 1] {
        let view = crate::feed::Progress::new(
            "wms",
            crate::config::Domain::Fulfilment,
            1,
            Default::default(),
        );
        [SinkView { acknowledged_lsn: Lsn(acknowledged), ..view.view(0) }]
    }

    /// Three were late and waiting when the process ended: they are seen once more, late again or delivered at
    /// last, among others that are new.
    #[test]
    fn what_was_late_before_the_start_is_not_counted_again() {
        let level = level(Objective::OrderToWarehouse, 5_000);
        level.set_open(3);
        let mut orders = Meter::new(&level, Lsn(100)).unwrap();
        let mut look = |fast, late, waiting, acknowledged| {
            let fine = [(1_000_000, fast), (9_000_000_000, late)].into_iter().collect();
            let waiting = vec![(6_000, waiting)];
            let of = Delivered { sink: "wms".into(), fine, waiting, ..Delivered::default() };
            (orders.read(&[], &view(acknowledged), &[of]), orders.open())
        };
        assert_eq!(look(0, 0, 0, 10), ((0, 0), 3), "nothing is read yet");
        assert_eq!(look(2, 0, 2, 10), ((2, 2), 3), "two of them wait, and two others were fast");
        assert_eq!(look(2, 2, 2, 10), ((0, 1), 2), "the third, and one that got late");
        assert_eq!(look(2, 4, 0, 100), ((0, 0), 0));
        assert_eq!(look(2, 6, 0, 120), ((0, 2), 0));
    }

    /// A crash forgot that they were delivered.
    #[test]
    fn what_is_never_seen_again_hides_nothing() {
        let level = level(Objective::OrderToWarehouse, 5_000);
        level.set_open(3);
        let mut orders = Meter::new(&level, Lsn(100)).unwrap();
        let mut look = |late, acknowledged| {
            let fine = [(9_000_000_000, late)].into_iter().collect();
            let of = Delivered { sink: "wms".into(), fine, ..Delivered::default() };
            (orders.read(&[], &view(acknowledged), &[of]), orders.open())
        };
        assert_eq!(look(0, 100), ((0, 0), 0));
        assert_eq!(look(2, 130), ((0, 2), 0));
    }
}
