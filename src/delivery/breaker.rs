//! The circuit breaker: leaves a partner alone that does not work, and asks carefully whether it does
//! again.
//!
//! - *closed*: attempts are made. After so many failed ones in a row it opens; content that the partner
//!   refuses is no failure of the partner.
//! - *open*: none are made. It waits with full jitter under a bound that doubles each time, and at least
//!   as long as the partner asked for.
//! - *half open*: the wait is over, and one attempt is made, the probe. It closes the breaker or opens it
//!   again. Attempts that were under way before it opened decide nothing any more.
//!
//! A partner that refuses us opens it at once and is asked again slowly. It is written here: the crates
//! for it wrap a call, and count it; none lets a scheduler look, before it takes a batch out of its queue,
//! whether and when an attempt may be made, or knows `Retry-After`.

use std::time::Duration;

use tokio::time::Instant;

use super::retry::Backoff;
use crate::config::Policy;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Attempts are made.
    Closed,
    /// None until then.
    Open(Instant),
    /// One, the probe, which is under way.
    HalfOpen,
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Yes.
    Open,
    /// Not before then.
    Until(Instant),
    /// Not before the probe has ended.
    Probing,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    failures: u64,
    failures_max: u64,
    fresh: Backoff,
    backoff: Backoff,
}

impl Breaker {
    /// No wait is longer than `wait_ms_max`, beside what the partner asks for.
    pub fn new(policy: &Policy, wait_ms_max: u64) -> Self {
        let longest = policy.breaker_open_ms_max.min(wait_ms_max);
        let fresh = Backoff::new(policy.breaker_open_ms.min(longest), longest);
        let backoff = fresh.clone();
        let failures_max = policy.breaker_failures;
        Self { state: State::Closed, failures: 0, failures_max, fresh, backoff }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Whether an attempt may be made now.
    pub fn gate(&self, now: Instant) -> Gate {
        match self.state {
            State::Open(until) if until > now => Gate::Until(until),
            State::HalfOpen => Gate::Probing,
            _ => Gate::Open,
        }
    }

    /// An attempt is made, which its [`gate`](Self::gate) allowed: whether it is the probe.
    pub fn start(&mut self) -> bool {
        let probe = self.state != State::Closed;
        if probe {
            self.state = State::HalfOpen;
        }
        probe
    }

    /// An attempt ended, and the partner works.
    pub fn worked(&mut self, probe: bool) {
        if probe || self.state == State::Closed {
            self.reset();
        }
    }

    /// An attempt failed: whether that opened the breaker.
    pub fn failed(
        &mut self,
        probe: bool,
        retry_after: Option<Duration>,
        now: Instant,
        dice: u64,
    ) -> bool {
        if self.state == State::Closed {
            self.failures += 1;
        }
        let opens = probe || (self.state == State::Closed && self.failures >= self.failures_max);
        if opens {
            let wait = self.backoff.after_failure(retry_after, dice);
            self.open(now + wait);
        }
        opens
    }

    /// The partner refused us: nothing before then, and then one attempt.
    pub fn open(&mut self, until: Instant) {
        self.state = State::Open(until);
    }

    /// As if nothing had happened: also for a probe that was given up.
    pub fn reset(&mut self) {
        (self.state, self.failures, self.backoff) = (State::Closed, 0, self.fresh.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = u64::MAX;

    fn breaker() -> Breaker {
        let policy =
            Policy { breaker_failures: 3, breaker_open_ms_max: 60_000, ..Policy::default() };
        Breaker::new(&policy, 60_000)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Fails until it is open, from closed.
    fn open(breaker: &mut Breaker, now: Instant) {
        for n in 1..=3 {
            assert_eq!(breaker.gate(now), Gate::Open);
            assert!(!breaker.start());
            assert_eq!(breaker.failed(false, None, now, MOST), n == 3);
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_success_begins_the_row_anew() {
        let (mut breaker, now) = (breaker(), Instant::now());
        for _ in 0..10 {
            assert!(!breaker.failed(false, None, now, MOST));
            assert!(!breaker.failed(false, None, now, MOST));
            breaker.worked(false);
        }
        open(&mut breaker, now);
        assert_eq!(breaker.gate(now), Gate::Until(now + ms(1_000)));
        assert_eq!(breaker.gate(now + ms(999)), Gate::Until(now + ms(1_000)));
    }

    #[test]
    fn exactly_one_probe_goes_through_and_decides() {
        let (mut breaker, now) = (breaker(), Instant::now());
        open(&mut breaker, now);
        let later = now + ms(1_000);
        assert_eq!(breaker.gate(later), Gate::Open);
        assert!(breaker.start());
        assert_eq!((breaker.state(), breaker.gate(later)), (State::HalfOpen, Gate::Probing));
        breaker.worked(false);
        breaker.failed(false, None, later, MOST);
        assert_eq!(breaker.gate(later), Gate::Probing, "stragglers decide nothing");
        breaker.worked(true);
        assert_eq!((breaker.state(), breaker.gate(later)), (State::Closed, Gate::Open));
        open(&mut breaker, later);
        assert_eq!(breaker.gate(later), Gate::Until(later + ms(1_000)), "the bound began anew");
    }

    #[test]
    fn the_wait_grows_with_each_failed_probe_up_to_its_bound_under_full_jitter() {
        let (mut breaker, mut now) = (breaker(), Instant::now());
        open(&mut breaker, now);
        for wait in [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            let Gate::Until(until) = breaker.gate(now) else { panic!() };
            now = until;
            assert!(breaker.start());
            assert!(breaker.failed(true, None, now, MOST));
            assert_eq!(breaker.gate(now), Gate::Until(now + ms(wait)));
        }
        now += ms(60_000);
        assert!(breaker.start());
        breaker.failed(true, None, now, MOST / 4);
        let Gate::Until(until) = breaker.gate(now) else { panic!() };
        assert_eq!((until - now).as_secs(), 15);
    }

    #[test]
    fn what_the_partner_asks_for_is_waited_for() {
        let (mut breaker, now) = (breaker(), Instant::now());
        open(&mut breaker, now);
        let now = now + ms(1_000);
        assert!(breaker.start());
        breaker.failed(true, Some(ms(20_000)), now, 0);
        let Gate::Until(until) = breaker.gate(now) else { panic!() };
        assert!(until >= now + ms(20_000));
    }

    #[test]
    fn no_wait_is_longer_than_the_longest_back_off() {
        let (mut breaker, now) = (Breaker::new(&Policy::default(), 50), Instant::now());
        for _ in 0..5 {
            let probe = breaker.start();
            breaker.failed(probe, None, now, MOST);
        }
        assert_eq!(breaker.gate(now), Gate::Until(now + ms(50)));
    }

    #[test]
    fn a_reset_forgets_everything() {
        let (mut breaker, now) = (breaker(), Instant::now());
        open(&mut breaker, now);
        breaker.reset();
        assert_eq!((breaker.state(), breaker.gate(now)), (State::Closed, Gate::Open));
        open(&mut breaker, now);
    }
}
