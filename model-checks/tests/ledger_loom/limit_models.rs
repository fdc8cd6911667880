//! The models of limits per customer: a lock in a bucket's head, and decisions that end without it.

use std::sync::Arc;

use loom::thread;

use super::limits::{Allowed, Limits, Who};

/// Two customers of one bucket.
const WHO: Who = Who { customer: 7, sku_number: 0 };
const OTHER: Who = Who { customer: 11, sku_number: 0 };
const PERIOD_MS: u64 = 100;

fn limits() -> Arc<Limits> {
    let limits = Limits::new(2, PERIOD_MS);
    // The first chunk is made before the threads begin: what orders its making is not modelled.
    limits.make_ahead(0);
    Arc::new(limits)
}

/// Takes one unit of at most one; says whether it got it.
fn take_one(limits: &Limits, who: Who, now_ms: u64) -> bool {
    loop {
        match limits.take(who, 1, 1, now_ms, now_ms) {
            Allowed::Yes(pending) => {
                limits.settle(pending);
                return true;
            }
            Allowed::Wait => thread::yield_now(),
            Allowed::Beyond { .. } => return false,
            Allowed::Full => panic!("there is room for both customers"),
        }
    }
}

pub fn a_customer_gets_the_limit_once() {
    let limits = limits();
    let other = {
        let limits = limits.clone();
        thread::spawn(move || u32::from(take_one(&limits, WHO, 0)))
    };
    let mine = u32::from(take_one(&limits, WHO, 0));
    assert_eq!(mine + other.join().unwrap(), 1, "units beyond the limit");
    assert_eq!((limits.taken(WHO, 0), limits.len()), (1, 1), "units beyond the limit");
}

pub fn a_customer_is_not_turned_away_for_a_request_that_fails() {
    let limits = limits();
    let fails = {
        let limits = limits.clone();
        thread::spawn(move || {
            if let Allowed::Yes(pending) = limits.take(WHO, 1, 1, 0, 0) {
                limits.undo(pending);
            }
        })
    };
    assert!(take_one(&limits, WHO, 0), "turned away though a unit is left");
    fails.join().unwrap();
    assert_eq!(limits.taken(WHO, 0), 1);
}

pub fn a_count_is_not_forgotten_while_units_are_taken() {
    let limits = limits();
    assert!(take_one(&limits, WHO, 0) && take_one(&limits, OTHER, 0));
    let sweeper = {
        let limits = limits.clone();
        thread::spawn(move || (0..limits.groups()).for_each(|group| limits.sweep(group, PERIOD_MS)))
    };
    assert!(take_one(&limits, WHO, PERIOD_MS), "a new period has begun");
    sweeper.join().unwrap();
    assert_eq!(limits.taken(WHO, PERIOD_MS), 1, "what was taken is forgotten");
    assert_eq!(limits.taken(OTHER, PERIOD_MS), 0);
}
