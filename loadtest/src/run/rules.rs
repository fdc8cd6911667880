//! What senders go by.

use crate::{plan::Plan, scenario::Sending, target::share_of};

/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// What senders go by; times in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// How many senders there are.
    pub senders: u32,
    /// A request that has not been answered so long after its planned instant has failed.
    pub timeout: u64,
    /// When everything is given up, since the start.
    pub end: u64,
    /// What is planned before is not measured.
    pub warm_up: u64,
    /// The last part of a wait, in which the clock is looked at.
    pub spin: u64,
    /// After so long a shopper asks again.
    pub patience: Option<u64>,
    /// The most requests of one errand.
    pub attempts_max: u32,
    /// Whether the target knows orders.
    pub sells: bool,
    /// In a closed loop.
    pub closed: Option<Closed>,
}

/// What a sender in a closed loop goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed {
    /// His callers.
    pub callers: usize,
    /// When they stop, since the start.
    pub end: u64,
}

impl Rules {
    /// For the sender with this number.
    pub fn new(plan: &Plan, sending: &Sending, sells: bool, number: u32) -> Self {
        let callers = |callers| share_of(callers, sending.senders, number) as usize;
        let closed =
            plan.callers.map(|all| Closed { callers: callers(all), end: plan.schedule.end });
        Self {
            senders: sending.senders,
            timeout: sending.timeout_ms * MS,
            end: plan.end() + sending.drain_ms * MS,
            warm_up: (sending.warm_up_s * 1e9) as u64,
            spin: sending.spin_us * 1_000,
            patience: plan.retries().patience_ms.map(|ms| ms * MS),
            attempts_max: plan.retries().attempts_max,
            sells,
            closed,
        }
    }
}
