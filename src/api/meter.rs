//! What a partner has left of its rate and its quota, and how it is told (the headers of
//! draft-ietf-httpapi-ratelimit-headers).
//!
//! The rate is governor's leaky bucket: a burst, and then so many a second. The quota is counted in one
//! word from midnight to midnight (UTC); it is written down now and then ([`crate::observe`]), and a restart
//! goes on with it. What is refused by either is not counted.

use std::{
    fmt::Write,
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed},
};

use crate::model::partner::Limits;

static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static LEFT: HeaderName = HeaderName::from_static("ratelimit");

const DAY_S: u64 = 86_400;
/// Of the word that counts a day's requests, the lower bits are the count, the upper ones the day.
const COUNT_BITS: u32 = 40;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

type Bucket = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// A partner's rate and quota.
#[derive(Debug)]
pub(super) struct Meter {
    rate: Option<Rate>,
    day: Option<Day>,
    /// What both allow; `None`: there is neither.
    policy: Option<HeaderValue>,
}

#[derive(Debug)]
struct Rate {
    bucket: Bucket,
    clock: DefaultClock,
    per_s: NonZeroU32,
    burst: NonZeroU32,
}

#[derive(Debug)]
struct Day {
    quota: u64,
    counted: AtomicU64,
}

/// What is left after a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Left {
    rate: Option<Part>,
    day: Option<Part>,
}

/// What is left of one of the two, and in how many seconds all of it is there again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    left: u64,
    whole_in_s: u64,
}

/// Which limit is used up, and in how many seconds there is room again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UsedUp {
    pub(super) what: What,
    pub(super) retry_after_s: u32,
    pub(super) left: Left,
}

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// So many a second.
    Rate,
    /// So many a day.
    Quota,
}

impl Meter {
    /// A meter of these limits.
    pub(super) fn new(limits: &Limits) -> Self {
        let rate = limits
            .rate_per_s
            .and_then(NonZeroU32::new)
            .map(|per_s| Rate::new(per_s, limits.burst.and_then(NonZeroU32::new).unwrap_or(per_s)));
        let day = limits.quota_per_day.map(|quota| Day { quota, counted: AtomicU64::new(0) });
        let policy = policy(rate.as_ref(), day.as_ref());
        Self { rate, day, policy }
    }

    /// Counts a request, or says which limit is used up; `now_ms` since the epoch is asked for only where
    /// it matters.
    pub(super) fn count(&self, now_ms: impl FnOnce() -> u64) -> Result<Left, UsedUp> {
        let now_ms = if self.day.is_some() { now_ms() } else { 0 };
        let day = self.day.as_ref().map(|day| day.seen(now_ms));
        if let Some(part) = day.filter(|part| part.left == 0) {
            let retry_after_s = u32::try_from(part.whole_in_s).unwrap_or(u32::MAX);
            let left = Left { rate: None, day };
            return Err(UsedUp { what: What::Quota, retry_after_s, left });
        }
        let rate = self.rate.as_ref().map(Rate::count).transpose();
        let rate = rate.map_err(|wait| UsedUp {
            what: What::Rate,
            retry_after_s: u32::try_from(seconds(wait)).unwrap_or(u32::MAX).max(1),
            left: Left { rate: Some(Part { left: 0, whole_in_s: seconds(wait) }), day },
        })?;
        let day = self.day.as_ref().map(|day| day.count(now_ms));
        Ok(Left { rate, day })
    }

    /// The last day on which something was counted, and how much; nothing without a quota.
    pub(super) fn counted(&self) -> Option<(u64, u64)> {
        let word = self.day.as_ref()?.counted.load(Relaxed);
        Some((word >> COUNT_BITS, word & COUNT_MASK))
    }

    /// Counts what was counted of a day elsewhere: before the start, or under other terms.
    pub(super) fn go_on(&self, (day, counted): (u64, u64)) {
        if let Some(own) = &self.day {
            own.add(day, counted);
        }
    }

    /// Says in an answer's headers what is allowed and what is left.
    pub(super) fn tell(&self, left: Left, headers: &mut HeaderMap) {
        let Some(policy) = &self.policy else { return };
        headers.insert(POLICY.clone(), policy.clone());
        let mut text = String::with_capacity(48);
        let parts = [("rate", left.rate), ("day", left.day)];
        for (name, part) in parts.iter().filter_map(|(name, part)| part.map(|part| (name, part))) {
            let comma = if text.is_empty() { "" } else { ", " };
            let Part { left, whole_in_s } = part;
            let _ = write!(text, "{comma}\"{name}\";r={left};t={whole_in_s}");
        }
        if let Ok(value) = HeaderValue::try_from(text)
            && !value.is_empty()
        {
            headers.insert(LEFT.clone(), value);
        }
    }
}

impl Rate {
    fn new(per_s: NonZeroU32, burst: NonZeroU32) -> Self {
        let bucket = RateLimiter::direct(Quota::per_second(per_s).allow_burst(burst));
        let clock = DefaultClock::default();
        Self { bucket: bucket.with_middleware(), clock, per_s, burst }
    }

    /// Counts a request, or says how long there is no room.
    fn count(&self) -> Result<Part, Duration> {
        let counted = self.bucket.check();
        let seen = counted.map_err(|until| until.wait_time_from(self.clock.now()))?;
        let left = seen.remaining_burst_capacity();
        let used = u64::from(self.burst.get().saturating_sub(left));
        Ok(Part { left: left.into(), whole_in_s: used.div_ceil(self.per_s.get().into()) })
    }
}

impl Day {
    /// What is left now.
    fn seen(&self, now_ms: u64) -> Part {
        self.part(self.counted.load(Relaxed), now_ms)
    }

    /// Counts a request. Who comes at the very end may find that others took the last ones: then it is
    /// one of a few too many, rather than a loop.
    fn count(&self, now_ms: u64) -> Part {
        let add = |word: u64| Some(today(word, now_ms) + 1);
        let before = self.counted.fetch_update(Relaxed, Relaxed, add).unwrap_or_else(|word| word);
        self.part(today(before, now_ms) + 1, now_ms)
    }

    /// Adds so many of a day; those of a day that is over are of no use.
    fn add(&self, day: u64, counted: u64) {
        let add = |word: u64| {
            let before = if word >> COUNT_BITS == day { word & COUNT_MASK } else { 0 };
            let sum = before.saturating_add(counted).min(COUNT_MASK);
            (word >> COUNT_BITS <= day).then_some(day << COUNT_BITS | sum)
        };
        // An error says that a later day has begun.
        let _ = self.counted.fetch_update(Relaxed, Relaxed, add);
    }

    fn part(&self, word: u64, now_ms: u64) -> Part {
        let counted = today(word, now_ms) & COUNT_MASK;
        let whole_in_s = DAY_S - now_ms / 1_000 % DAY_S;
        Part { left: self.quota.saturating_sub(counted), whole_in_s }
    }
}

/// The word, or that of a day that has just begun.
fn today(word: u64, now_ms: u64) -> u64 {
    let day = now_ms / 1_000 / DAY_S;
    if word >> COUNT_BITS == day { word } else { day << COUNT_BITS }
}

fn seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)
}

fn policy(rate: Option<&Rate>, day: Option<&Day>) -> Option<HeaderValue> {
    let rate = rate.map(|rate| {
        let (burst, per_s) = (rate.burst.get(), rate.per_s.get());
        format!("\"rate\";q={burst};w={}", burst.div_ceil(per_s))
    });
    let day = day.map(|day| format!("\"day\";q={};w={DAY_S}", day.quota));
    let parts: Vec<String> = rate.into_iter().chain(day).collect();
    if parts.is_empty() { None } else { HeaderValue::try_from(parts.join(", ")).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: u64 = (20_000 * DAY_S + DAY_S / 2) * 1_000;

    fn meter(limits: Limits) -> Meter {
        Meter::new(&limits)
    }

    fn told(meter: &Meter, left: Left) -> [String; 2] {
        let mut headers = HeaderMap::new();
        meter.tell(left, &mut headers);
        let text =
            |name| headers.get(name).map_or("", |value: &HeaderValue| value.to_str().unwrap());
        [text(&POLICY).to_owned(), text(&LEFT).to_owned()]
    }

    #[test]
    fn a_burst_is_allowed_and_then_so_many_a_second() {
        let m = meter(Limits { rate_per_s: Some(1), burst: Some(3), ..Limits::default() });
        let left = m.count(|| NOON_MS).unwrap();
        assert_eq!(told(&m, left), [r#""rate";q=3;w=3"#, r#""rate";r=2;t=1"#]);
        m.count(|| NOON_MS).unwrap();
        m.count(|| NOON_MS).unwrap();
        let used_up = m.count(|| NOON_MS).unwrap_err();
        assert_eq!((used_up.what, used_up.retry_after_s), (What::Rate, 1));
        assert_eq!(told(&m, used_up.left)[1], r#""rate";r=0;t=1"#);
    }

    #[test]
    fn a_quota_is_counted_from_midnight_to_midnight() {
        let m = meter(Limits { quota_per_day: Some(2), ..Limits::default() });
        let left = m.count(|| NOON_MS).unwrap();
        assert_eq!(told(&m, left), [r#""day";q=2;w=86400"#, r#""day";r=1;t=43200"#]);
        m.count(|| NOON_MS).unwrap();
        for _ in 0..3 {
            let used_up = m.count(|| NOON_MS + 1_000).unwrap_err();
            assert_eq!((used_up.what, used_up.retry_after_s), (What::Quota, 43_199));
        }
        assert!(m.count(|| NOON_MS + DAY_S * 500).is_ok(), "the next day");
    }

    #[test]
    fn what_was_counted_before_counts_on_its_day() {
        let m = meter(Limits { quota_per_day: Some(10), ..Limits::default() });
        assert_eq!(m.counted(), Some((0, 0)));
        m.count(|| NOON_MS).unwrap();
        m.go_on((19_999, 7));
        m.go_on((20_000, 8));
        assert_eq!(m.counted(), Some((20_000, 9)), "that of the day before is over");
        assert!(m.count(|| NOON_MS).is_ok() && m.count(|| NOON_MS).is_err());
        let fresh = meter(Limits { quota_per_day: Some(10), ..Limits::default() });
        fresh.go_on(m.counted().unwrap());
        assert!(fresh.count(|| NOON_MS).is_err());
        assert_eq!(meter(Limits::default()).counted(), None);
    }

    #[test]
    fn what_the_rate_refuses_costs_no_quota_and_no_limit_is_none() {
        let limits = Limits { rate_per_s: Some(1), quota_per_day: Some(100), ..Limits::default() };
        let m = meter(limits);
        m.count(|| NOON_MS).unwrap();
        (0..50).for_each(|_| assert_eq!(m.count(|| NOON_MS).unwrap_err().what, What::Rate));
        assert_eq!(m.day.as_ref().unwrap().seen(NOON_MS).left, 99);
        let none = meter(Limits::default());
        (0..1_000).for_each(|_| assert_eq!(none.count(|| NOON_MS), Ok(Left::default())));
        assert_eq!(told(&none, Left::default()), ["", ""]);
    }
}
