//! The most attempts a second, first ones and repeats alike.
//!
//! governor's leaky bucket with a burst of one: attempts are spaced evenly, and a pause is not saved up for
//! a burst afterwards, which a partner that allows 20 calls a second would answer with 429. It is given the
//! runtime's clock, so that it stands still when tests stop that.

use std::time::Duration;

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

/// Time since it was made.
#[derive(Debug, Clone)]
struct Since(Instant);

impl Clock for Since {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Instant::now().duration_since(self.0)
    }
}

/// See the module.
pub(super) struct Rate {
    clock: Since,
    limiter: Option<RateLimiter<NotKeyed, InMemoryState, Since, NoOpMiddleware<Duration>>>,
}

impl Rate {
    /// Without a number: no limit.
    pub fn new(rate_per_s: Option<f64>) -> Self {
        let clock = Since(Instant::now());
        let gap = rate_per_s.and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok());
        let quota = gap.and_then(Quota::with_period);
        let limiter = quota.map(|quota| RateLimiter::direct_with_clock(quota, clock.clone()));
        Self { clock, limiter }
    }

    /// Counts an attempt that is made now; or says when it may be, and counts nothing.
    pub fn check(&self) -> Result<(), Instant> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let not_until = |until: governor::NotUntil<Duration>| {
            Instant::now() + until.wait_time_from(self.clock.now()).max(Duration::from_nanos(1))
        };
        limiter.check().map_err(not_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the next attempts are made, in milliseconds from `start`.
    async fn attempts(rate: &Rate, n: usize, start: Instant) -> Vec<u128> {
        let mut at = Vec::new();
        while at.len() < n {
            match rate.check() {
                Ok(()) => at.push(start.elapsed().as_millis()),
                Err(until) => tokio::time::sleep_until(until).await,
            }
        }
        at
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_spaced_and_pauses_not_saved_up() {
        let (rate, start) = (Rate::new(Some(20.0)), Instant::now());
        let at = attempts(&rate, 4, start).await;
        assert!(at.windows(2).all(|two| (50..=52).contains(&(two[1] - two[0]))), "{at:?}");
        tokio::time::sleep(Duration::from_secs(9)).await;
        let at = attempts(&rate, 2, start).await;
        assert!((50..=52).contains(&(at[1] - at[0])), "{at:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_not_counted_and_no_limit_is_none() {
        let (rate, start) = (Rate::new(Some(1.0)), Instant::now());
        assert!(rate.check().is_ok());
        (0..100).for_each(|_| assert!(rate.check().is_err()));
        assert!(attempts(&rate, 1, start).await[0] <= 1_001);
        let rate = Rate::new(None);
        (0..100).for_each(|_| assert!(rate.check().is_ok()));
    }
}
