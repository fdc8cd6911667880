//! How many attempts may be under way at once: a limit that finds out by itself what a partner bears.
//!
//! It grows by one and shrinks by a factor (AIMD), judged once a round trip: by one when the limit was
//! reached and the answers of that round came no later than usual; by the factor when one failed, was
//! answered "too many", or came later than usual by so many deviations. What is usual is an exponentially
//! weighted mean and variance of the round trips. Numbers and manner are those of Vector's adaptive
//! concurrency, which are tried in the field, its weakness included: what is usual follows a partner that
//! gets slower little by little, so that the configured maximum is the last word. Its code is part of its
//! own sinks and of a semaphore, and no crate of tower's (whose limit is a fixed one) has it.

use std::time::Duration;

use tokio::time::Instant;

/// The limit is multiplied by it.
const DECREASE_FACTOR: f64 = 0.9;
/// The weight of the newest round.
const EWMA_ALPHA: f64 = 0.4;
/// So many deviations beyond the mean are late.
const DEVIATIONS: f64 = 2.5;
/// What is within this share of the mean is as usual, however little the round trips differ: a steady link
/// must not be taken for one that gets slower.
const STEADY: f64 = 0.01;

/// What round trips usually take, in seconds.
#[derive(Debug, Clone, Copy)]
struct Usual {
    mean: f64,
    variance: f64,
}

impl Usual {
    fn update(&mut self, seconds: f64) {
        let difference = seconds - self.mean;
        let step = EWMA_ALPHA * difference;
        self.mean += step;
        self.variance = (1.0 - EWMA_ALPHA) * (self.variance + difference * step);
    }

    fn is_fast(&self, seconds: f64) -> bool {
        seconds <= self.mean * (1.0 + STEADY)
    }

    fn is_late(&self, seconds: f64) -> bool {
        let margin = (DEVIATIONS * self.variance.sqrt()).max(STEADY * self.mean);
        seconds > self.mean + margin
    }
}

/// The answers of the round trip that is judged next.
#[derive(Debug, Default)]
struct Round {
    seconds: f64,
    answers: u32,
    back_off: bool,
    reached: bool,
}

impl Round {
    fn mean(&self) -> Option<f64> {
        (self.answers > 0).then(|| self.seconds / f64::from(self.answers))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Concurrency {
    limit: usize,
    limit_max: usize,
    under_way: usize,
    usual: Option<Usual>,
    round: Round,
    round_ends: Option<Instant>,
}

impl Concurrency {
    /// Begins with one.
    pub fn new(limit_max: u64) -> Self {
        let limit_max = usize::try_from(limit_max).unwrap_or(usize::MAX).max(1);
        let round = Round::default();
        Self { limit: 1, limit_max, under_way: 0, usual: None, round, round_ends: None }
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    pub fn under_way(&self) -> usize {
        self.under_way
    }

    pub fn has_room(&self) -> bool {
        self.under_way < self.limit
    }

    /// An attempt is made.
    pub fn start(&mut self) {
        self.under_way += 1;
        self.round.reached |= self.under_way >= self.limit;
    }

    /// One ended that took so long. `back_off`: it failed, so that how long it took says nothing.
    pub fn end(&mut self, took: Duration, back_off: bool, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        if back_off {
            self.round.back_off = true;
        } else {
            self.round.seconds += took.as_secs_f64();
            self.round.answers += 1;
        }
        if self.round_ends.is_none_or(|ends| now >= ends) {
            self.judge();
            let mean = self.usual.map_or(took.as_secs_f64(), |usual| usual.mean);
            self.round_ends = Some(now + Duration::try_from_secs_f64(mean).unwrap_or_default());
        }
    }

    fn judge(&mut self) {
        let round = std::mem::take(&mut self.round);
        self.round.reached = self.under_way >= self.limit;
        let (mean, usual) = (round.mean(), self.usual);
        let is = |test: fn(&Usual, f64) -> bool, unknown: bool| {
            mean.zip(usual).map_or(unknown, |(mean, usual)| test(&usual, mean))
        };
        if round.back_off || is(Usual::is_late, false) {
            self.limit = ((self.limit as f64 * DECREASE_FACTOR) as usize).max(1);
        } else if round.reached && mean.is_some() && is(Usual::is_fast, true) {
            self.limit = (self.limit + 1).min(self.limit_max);
        }
        if let Some(mean) = mean {
            self.usual.get_or_insert(Usual { mean, variance: 0.0 }).update(mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    /// Rounds in which everything that may be under way is, and takes so long.
    fn full_rounds(limit: &mut Concurrency, now: &mut Instant, rounds: u32, took: Duration) {
        for _ in 0..rounds {
            while limit.has_room() {
                limit.start();
            }
            *now += took;
            for _ in 0..limit.under_way() {
                limit.end(took, false, *now);
            }
        }
    }

    #[test]
    fn it_begins_with_one_and_grows_by_one_a_round_trip_up_to_its_maximum() {
        let (mut limit, mut now) = (Concurrency::new(8), Instant::now());
        let mut seen = vec![limit.limit()];
        for _ in 0..10 {
            full_rounds(&mut limit, &mut now, 1, RTT);
            seen.push(limit.limit());
        }
        assert!(seen.windows(2).all(|two| two[1] - two[0] <= 1), "{seen:?}");
        assert_eq!((seen[0], seen[10]), (1, 8), "{seen:?}");
    }

    #[test]
    fn it_does_not_grow_beyond_what_is_needed() {
        let (mut limit, mut now) = (Concurrency::new(8), Instant::now());
        for _ in 0..100 {
            limit.start();
            now += RTT;
            limit.end(RTT, false, now);
        }
        assert_eq!(limit.limit(), 2, "one at a time reaches a limit of one, never one of two");
    }

    #[test]
    fn a_failure_shrinks_it_once_a_round_trip_and_never_below_one() {
        let (mut limit, mut now) = (Concurrency::new(20), Instant::now());
        full_rounds(&mut limit, &mut now, 40, RTT);
        assert_eq!(limit.limit(), 20);
        now += RTT;
        for _ in 0..20 {
            limit.start();
        }
        for _ in 0..20 {
            limit.end(RTT, true, now);
        }
        assert_eq!(limit.limit(), 18, "twenty failures of one round trip are one");
        let mut seen = Vec::new();
        for _ in 0..40 {
            limit.start();
            now += RTT;
            limit.end(RTT, true, now);
            seen.push(limit.limit());
        }
        assert!(seen.starts_with(&[16, 14, 12, 10, 9, 8, 7]), "{seen:?}");
        assert_eq!(seen.last(), Some(&1));
    }

    #[test]
    fn answers_that_come_late_shrink_it_and_a_steady_partner_lets_it_be() {
        let (mut limit, mut now) = (Concurrency::new(10), Instant::now());
        full_rounds(&mut limit, &mut now, 50, RTT);
        assert_eq!(limit.limit(), 10);
        full_rounds(&mut limit, &mut now, 50, RTT);
        assert_eq!(limit.limit(), 10);
        full_rounds(&mut limit, &mut now, 1, 4 * RTT);
        assert!(limit.limit() < 10, "{}", limit.limit());
    }

    #[test]
    fn it_grows_slowly_beyond_where_a_queue_begins_at_the_partner() {
        // The partner works on four at a time: with more under way each takes longer in proportion.
        let (mut limit, mut now) = (Concurrency::new(50), Instant::now());
        let mut seen = Vec::new();
        for _ in 0..300 {
            let took = RTT.mul_f64((limit.limit() as f64 / 4.0).max(1.0));
            full_rounds(&mut limit, &mut now, 1, took);
            seen.push(limit.limit());
        }
        assert!(seen[..100].iter().all(|limit| *limit <= 13), "{seen:?}");
        assert!(seen.iter().all(|limit| *limit < 40), "{seen:?}");
    }
}
