//! Service levels: what share of events is to be good, how much of the rest was used up, and how fast.
//!
//! A burn rate is the share of bad events over a span, divided by the share that may be bad: 1 spends the
//! budget of the whole window in exactly its time. The states are those of the SRE workbook's multi-window
//! alerts, so that neither a short dip nor an outage long over raises one:
//!
//! - `breached`: above 14.4 over the last hour and the last five minutes, or above 6 over the last six
//!   hours and the last half hour. A low target can't burn so fast (at 80 % nothing burns faster than 5),
//!   so each is capped at half of the fastest that there can be.
//! - `warning`: above 1 over the last three days and the last six hours.
//! - Spans with fewer than [`EVENTS_MIN`] events say nothing.
//!
//! Counts are kept by minute over the window, in memory. Whoever writes them down can let a level go on with
//! what was counted before.

mod minutes;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Exposition, Kind};
use minutes::{Counts, Minutes};

/// Fewer events of a span say nothing of it.
pub const EVENTS_MIN: u64 = 10;

/// The spans of burn rates: name and minutes.
const SPANS: [(&str, usize); 5] =
    [("5m", 5), ("30m", 30), ("1h", 60), ("6h", 360), ("3d", 3 * 24 * 60)];
/// States and what makes them: a burn rate that both spans, by their place, are above.
const ALARMS: [(State, f64, [usize; 2]); 3] = [
    (State::Breached, 14.4, [2, 0]),
    (State::Breached, 6.0, [3, 1]),
    (State::Warning, 1.0, [4, 3]),
];

/// How a service level stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its budget lasts.
    Ok,
    /// Its budget will be spent before its window is over.
    Warning,
    /// Its budget is being spent fast: somebody must look now.
    Breached,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Warning, Self::Breached];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Breached => "breached",
        }
    }
}

/// What is promised.
#[derive(Debug, Clone, PartialEq)]
pub struct Promise {
    /// Its name.
    pub name: String,
    /// What is measured.
    pub objective: &'static str,
    /// At which sink, if it is about one.
    pub sink: Option<String>,
    /// Within how long, if it is about a time.
    pub within_ms: Option<u64>,
    /// The share that is to be good, in percent.
    pub target_percent: f64,
    /// How far it looks back.
    pub window_hours: u64,
}

/// A service level as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceLevelView {
    /// Its name.
    pub name: String,
    /// `order_to_warehouse`, `sink_lag`, `reserve_latency` or `availability`.
    pub objective: String,
    /// The sink that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// How long a good event may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
    /// The share of events that is to be good.
    pub target_percent: f64,
    /// Hours that it looks back on.
    pub window_hours: u64,
    /// Good events in the window.
    pub good: u64,
    /// All events in the window.
    pub total: u64,
    /// The share that was good; 100 without any.
    pub percent: f64,
    /// How fast the budget is spent, over the last hour.
    pub burn_rate_1h: f64,
    /// The same over the last six hours.
    pub burn_rate_6h: f64,
    /// What is left of the events that may be bad, in percent; below 0 once the promise is broken.
    pub budget_left_percent: f64,
    /// `ok`, `warning` or `breached`.
    pub state: State,
}

/// One service level.
#[derive(Debug)]
pub struct ServiceLevel {
    promise: Promise,
    minutes: Mutex<Minutes>,
    good: AtomicU64,
    total: AtomicU64,
    /// Events that were counted as bad before they were over, and that are not yet.
    open: AtomicU64,
}

impl ServiceLevel {
    /// One that has seen nothing yet.
    pub fn new(promise: Promise) -> Self {
        let window = usize::try_from(promise.window_hours).unwrap_or(usize::MAX).saturating_mul(60);
        let [good, total, open] = [0; 3].map(AtomicU64::new);
        Self { promise, minutes: Mutex::new(Minutes::new(window)), good, total, open }
    }

    /// What is promised.
    pub fn promise(&self) -> &Promise {
        &self.promise
    }

    /// Adds events that were seen by a second since the epoch.
    pub fn add(&self, now_s: u64, good: u64, total: u64) {
        let good = good.min(total);
        self.good.fetch_add(good, Relaxed);
        self.total.fetch_add(total, Relaxed);
        self.minutes.lock().add(now_s / 60, Counts { good, total });
    }

    /// Goes on with good and all events of minutes from `minute` on, which were counted before the start. To
    /// be called in the order of time, before any [`ServiceLevel::add`].
    pub fn go_on(&self, minute: u64, counts: &[(u64, u64)]) {
        let mut minutes = self.minutes.lock();
        for (minute, (good, total)) in (minute..).zip(counts) {
            minutes.add(minute, Counts { good: (*good).min(*total), total: *total });
        }
    }

    /// Events that were counted as bad before they were over, and that are not yet: an order that is late while
    /// it waits. Whoever counts anew must not count these again.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// So many are open now.
    pub fn set_open(&self, events: u64) {
        self.open.store(events, Relaxed);
    }

    /// The newest minute in which something was counted, or could have been.
    pub fn newest_minute(&self) -> Option<u64> {
        self.minutes.lock().newest()
    }

    /// Good and all events of so many minutes from `minute` on, without those at the end that had none.
    pub fn minutes(&self, minute: u64, length: u64) -> Vec<(u64, u64)> {
        self.minutes.lock().part(minute, length)
    }

    /// How it stands.
    pub fn view(&self) -> ServiceLevelView {
        let (Counts { good, total }, spans) = self.counts();
        let burns = spans.map(|counts| self.burn(counts));
        let promise = &self.promise;
        ServiceLevelView {
            name: promise.name.clone(),
            objective: promise.objective.to_owned(),
            sink: promise.sink.clone(),
            within_ms: promise.within_ms,
            target_percent: promise.target_percent,
            window_hours: promise.window_hours,
            good,
            total,
            percent: if total == 0 { 100.0 } else { good as f64 / total as f64 * 100.0 },
            burn_rate_1h: burns[2],
            burn_rate_6h: burns[3],
            budget_left_percent: 100.0 * (1.0 - self.burn(Counts { good, total })),
            state: self.state(&spans),
        }
    }

    /// The whole window, and each span.
    fn counts(&self) -> (Counts, [Counts; SPANS.len()]) {
        let minutes = self.minutes.lock();
        (minutes.last(usize::MAX), SPANS.map(|(_, length)| minutes.last(length)))
    }

    /// The share of events that may be bad.
    fn allowed(&self) -> f64 {
        1.0 - self.promise.target_percent / 100.0
    }

    fn burn(&self, Counts { good, total }: Counts) -> f64 {
        if total == 0 {
            return 0.0;
        }
        (total - good) as f64 / total as f64 / self.allowed()
    }

    fn state(&self, spans: &[Counts; SPANS.len()]) -> State {
        let fastest = 1.0 / self.allowed();
        let alarm = ALARMS.iter().find(|(_, limit, of)| {
            of.iter().all(|at| {
                let counts = spans[*at];
                counts.total >= EVENTS_MIN && self.burn(counts) > limit.min(fastest / 2.0)
            })
        });
        alarm.map_or(State::Ok, |(state, ..)| *state)
    }
}

/// A metric's name, its help, and how it is read.
type Figure<Of, Value> = (&'static str, &'static str, fn(&Of) -> Value);

/// Writes service levels.
pub(super) fn expose(levels: &[Arc<ServiceLevel>], text: &mut Exposition) {
    let counters: [Figure<ServiceLevel, u64>; 2] = [
        ("holdfast_service_level_good_events", "Good events.", |l| l.good.load(Relaxed)),
        ("holdfast_service_level_events", "Events judged.", |l| l.total.load(Relaxed)),
    ];
    for (name, help, read) in counters {
        text.family(name, Kind::Counter, None, help);
        for level in levels {
            text.sample(&format!("{name}_total"), &labels(level), read(level));
        }
    }
    let views: Vec<_> = levels.iter().map(|level| level.view()).collect();
    let gauges: [Figure<ServiceLevelView, f64>; 2] = [
        ("holdfast_service_level_target_ratio", "The share that is to be good.", |view| {
            view.target_percent / 100.0
        }),
        ("holdfast_service_level_budget_left_ratio", "What is left of the error budget.", |view| {
            view.budget_left_percent / 100.0
        }),
    ];
    for (name, help, read) in gauges {
        text.family(name, Kind::Gauge, None, help);
        for (level, view) in levels.iter().zip(&views) {
            text.sample(name, &labels(level), read(view));
        }
    }
    expose_burns(levels, text);
    expose_states(levels, &views, text);
}

fn expose_burns(levels: &[Arc<ServiceLevel>], text: &mut Exposition) {
    let name = "holdfast_service_level_burn_rate";
    let help = "How fast the error budget is spent; 1 lasts for the window.";
    text.family(name, Kind::Gauge, None, help);
    for level in levels {
        for ((span, _), counts) in SPANS.iter().zip(level.counts().1) {
            let labels = [("service_level", level.promise.name.as_str()), ("span", *span)];
            text.sample(name, &labels, level.burn(counts));
        }
    }
}

fn expose_states(levels: &[Arc<ServiceLevel>], views: &[ServiceLevelView], text: &mut Exposition) {
    let name = "holdfast_service_level_state";
    text.family(name, Kind::Gauge, None, "1 for the state in which it is.");
    for (level, view) in levels.iter().zip(views) {
        for state in State::ALL {
            let labels =
                [("service_level", level.promise.name.as_str()), ("state", state.as_str())];
            text.sample(name, &labels, u8::from(view.state == state));
        }
    }
}

fn labels(level: &ServiceLevel) -> [(&str, &str); 2] {
    [("service_level", &level.promise.name), ("objective", level.promise.objective)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(target_percent: f64) -> ServiceLevel {
        ServiceLevel::new(Promise {
            name: "orders".into(),
            objective: "order_to_warehouse",
            sink: Some("wms".into()),
            within_ms: Some(5_000),
            target_percent,
            window_hours: 720,
        })
    }

    /// Events of one minute after the other.
    fn after(target: f64, minutes: &[(u64, u64, u64)]) -> ServiceLevelView {
        let level = level(target);
        let mut minute = 0;
        for (count, good, total) in minutes {
            for _ in 0..*count {
                level.add(minute * 60, *good, *total);
                minute += 1;
            }
        }
        level.view()
    }

    #[test]
    fn a_fast_burn_is_a_breach_until_it_is_over() {
        // 2 % bad at 99.9 % is a burn rate of 20.
        assert_eq!(after(99.9, &[(60, 980, 1_000)]).state, State::Breached);
        assert_eq!(after(99.9, &[(60, 980, 1_000), (5, 1_000, 1_000)]).state, State::Breached);
        // The last five minutes are good; the last half hour still burns at 17.
        let calm = after(99.9, &[(60, 980, 1_000), (31, 1_000, 1_000)]);
        assert_ne!(calm.state, State::Breached, "{calm:?}");
        assert!((after(99.9, &[(60, 980, 1_000)]).burn_rate_1h - 20.0).abs() < 1e-6);
    }

    #[test]
    fn a_slow_burn_is_a_breach_and_a_slower_one_a_warning() {
        assert_eq!(after(99.9, &[(360, 993, 1_000)]).state, State::Breached);
        assert_eq!(after(99.9, &[(4_320, 998, 1_000)]).state, State::Warning);
        assert_eq!(after(99.9, &[(4_320, 9_995, 10_000)]).state, State::Ok);
    }

    #[test]
    fn a_low_target_can_be_breached_too() {
        assert_eq!(after(80.0, &[(10, 0, 10)]).state, State::Breached, "nothing burns above 5");
        assert_eq!(after(80.0, &[(10, 9, 10)]).state, State::Ok);
    }

    #[test]
    fn few_events_say_nothing() {
        let one = after(99.0, &[(1, 0, 1)]);
        assert_eq!((one.state, one.good, one.total), (State::Ok, 0, 1));
        assert_eq!(after(99.0, &[(1, 0, EVENTS_MIN)]).state, State::Breached);
    }

    #[test]
    fn the_budget_is_what_may_be_bad() {
        let view = after(90.0, &[(1, 95, 100)]);
        assert!((view.budget_left_percent - 50.0).abs() < 1e-6, "{view:?}");
        assert!((view.percent - 95.0).abs() < 1e-6);
        let none = after(90.0, &[]);
        assert_eq!((none.percent, none.budget_left_percent), (100.0, 100.0));
    }
}
