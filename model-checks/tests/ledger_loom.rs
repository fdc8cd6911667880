//! The ledger's protocols under loom: the very files of `src/ledger/`, compiled against loom's atomics
//! and locks, and the order of take, log and give that the engine keeps (law 1).
//!
//! Run: `cargo test --release -p model-checks --test ledger_loom`. `LOOM_MAX_PREEMPTIONS` bounds
//! the search (default here: 3).
//!
//! A model that can't fail proves nothing. So every model also runs broken, and has to fail then: with
//! the order of steps turned round ([`Breach`]), or with the same files compiled against orderings that
//! are too weak: `unfenced` has no fences, `weak` has neither fences nor Acquire. What loom can't show
//! is a compare-and-swap that reads something else than the newest value, so it can't tell whether the
//! Acquire and Release of the stock word and of the log's tail are needed.
//!
//! Loom tries all of a few steps. Shuttle (`schedules`) tries some of many: several threads that
//! reserve, commit, release and extend, and a timer that expires and sweeps, on few units and slots.
#![allow(missing_docs, dead_code, clippy::duplicate_mod)]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

mod model {
    pub use holdfast::model::*;
}

#[path = "ledger_loom/sync.rs"]
#[macro_use]
mod names;

/// The ledger's files and the models over them, with one kind of atomics.
macro_rules! ledger {
    ($name:ident) => {
        ledger!($name, models, "../../model-checks/tests/ledger_loom/models.rs");
    };
    ($name:ident, $over:ident, $file:literal) => {
        #[path = "../../src/ledger"]
        mod $name {
            pub(crate) use crate::names::$name as sync;
            pub mod keys;
            #[path = "../../model-checks/tests/ledger_loom/limit_models.rs"]
            pub mod limit_models;
            pub mod limits;
            pub mod memory;
            pub mod reservations;
            pub mod slab;
            pub mod stripe;
            pub mod wheel;
            pub mod word;
            #[path = $file]
            pub mod $over;
        }
    };
}

ledger!(sound);
ledger!(weak);
ledger!(unfenced);
ledger!(shuttled, schedules, "../../model-checks/tests/ledger_loom/schedules.rs");

/// An order of steps that breaks law 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    None,
    /// Units are back before the record that gives them has its place in the log.
    GiveBeforeLog,
    /// The record that takes them has its place before they are taken.
    LogBeforeTake,
    /// A reservation can be seen before the record that grants it has its place.
    OpenBeforeLog,
    /// A cart takes for good what it may have to give back.
    TakeForGood,
    /// The request's key is put into the table after its units are taken.
    KeyAfterTake,
}

/// Three switches between threads that could have gone on are enough for every breach known here.
const SWITCHES: usize = 3;

fn check(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(switches));
    builder.max_branches = 20_000;
    let runs = Arc::new(AtomicU64::new(0));
    let counted = runs.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let runs = runs.load(Ordering::Relaxed);
    println!("{runs} runs");
    assert!(runs > 1, "the threads never meet, so the model proves nothing");
}

/// A model, and how it fails when it is broken.
macro_rules! model {
    ($name:ident($breach:expr)) => {
        #[test]
        fn $name() {
            check(SWITCHES, || sound::models::$name($breach));
        }
    };
    ($name:ident) => {
        model!($name, SWITCHES);
    };
    ($name:ident, $switches:expr) => {
        #[test]
        fn $name() {
            check($switches, sound::models::$name);
        }
    };
    ($test:ident: $kind:ident::$name:ident fails with $why:literal) => {
        #[test]
        #[should_panic(expected = $why)]
        fn $test() {
            check(SWITCHES, $kind::models::$name);
        }
    };
    ($test:ident: $name:ident($breach:expr) fails with $why:literal) => {
        #[test]
        #[should_panic(expected = $why)]
        fn $test() {
            check(SWITCHES, || sound::models::$name($breach));
        }
    };
    ($test:ident: $kind:ident::$name:ident($breach:expr) fails with $why:literal) => {
        #[test]
        #[should_panic(expected = $why)]
        fn $test() {
            check(SWITCHES, || $kind::models::$name($breach));
        }
    };
}

model!(takes_and_gives_add_up_and_never_go_below_zero);

model!(the_buyer_of_the_last_unit_is_not_turned_away(Breach::None));
model!(a_cart_that_takes_for_good_is_caught:
    the_buyer_of_the_last_unit_is_not_turned_away(Breach::TakeForGood) fails with "turned away");

model!(of_two_requests_with_one_key_one_is_decided);
model!(a_key_table_without_acquire_is_caught:
    weak::of_two_requests_with_one_key_one_is_decided fails with "one is decided");
model!(a_refused_request_leaves_its_key_to_its_twin);
// Long chains of steps: one switch less keeps it to seconds.
model!(keys_come_and_go_in_one_bucket_and_none_is_there_twice, 2);
model!(a_finished_key_is_found_while_its_neighbours_come_and_go);
model!(a_removed_key_is_never_answered_with_another_ones_outcome);
model!(a_key_table_without_fences_is_caught:
    unfenced::a_removed_key_is_never_answered_with_another_ones_outcome fails with "its own outcome");
model!(who_sees_a_position_sold_out_finds_the_winners_key(Breach::None));
model!(a_key_that_comes_after_the_take_is_caught:
    who_sees_a_position_sold_out_finds_the_winners_key(Breach::KeyAfterTake)
    fails with "sold out to itself");
model!(a_sold_out_position_read_without_acquire_is_caught:
    weak::who_sees_a_position_sold_out_finds_the_winners_key(Breach::None)
    fails with "sold out to itself");

model!(of_commit_and_expiry_one_wins);
model!(of_extension_and_commit_the_later_one_builds_on_the_first);
model!(a_reservation_is_read_whole_while_it_changes);
model!(a_reservation_without_fences_is_caught:
    unfenced::a_reservation_is_read_whole_while_it_changes fails with "of one moment");
model!(a_reservation_without_acquire_is_caught:
    weak::of_commit_and_expiry_one_wins fails with "of one moment");
model!(the_lines_of_a_reservation_are_read_with_its_state);
model!(a_reused_slot_is_never_taken_for_what_it_was);
model!(a_reused_slot_without_fences_is_caught:
    unfenced::a_reused_slot_is_never_taken_for_what_it_was fails with "one moment");
model!(a_transition_never_gets_hold_of_the_slots_next_life);

model!(a_timer_that_is_set_while_the_wheel_turns_comes_up);
model!(a_timer_that_does_not_see_the_wheel_turn_is_caught:
    weak::a_timer_that_is_set_while_the_wheel_turns_comes_up fails with "soon after its time");
// Three threads.
model!(timers_set_at_once_all_come_up, 2);
model!(a_deadline_that_is_brought_forward_comes_up_early);

model!(every_prefix_of_the_log_can_be(Breach::None));
model!(giving_before_the_log_is_caught:
    every_prefix_of_the_log_can_be(Breach::GiveBeforeLog) fails with "prefix of the log");
model!(taking_after_the_log_is_caught:
    every_prefix_of_the_log_can_be(Breach::LogBeforeTake) fails with "prefix of the log");

model!(an_effect_is_logged_after_its_cause(Breach::None));
model!(a_reservation_that_is_seen_before_the_log_is_caught:
    an_effect_is_logged_after_its_cause(Breach::OpenBeforeLog) fails with "prefix of the log");
model!(units_of_an_expired_reservation_are_sold_again(Breach::None));

macro_rules! limit_model {
    ($name:ident) => {
        #[test]
        fn $name() {
            check(SWITCHES, sound::limit_models::$name);
        }
    };
    ($test:ident: $name:ident fails with $why:literal) => {
        #[test]
        #[should_panic(expected = $why)]
        fn $test() {
            check(SWITCHES, weak::limit_models::$name);
        }
    };
}

limit_model!(a_customer_gets_the_limit_once);
limit_model!(a_bucket_locked_without_acquire_is_caught:
    a_customer_gets_the_limit_once fails with "beyond the limit");
limit_model!(a_customer_is_not_turned_away_for_a_request_that_fails);
limit_model!(a_count_is_not_forgotten_while_units_are_taken);

/// How many schedules of each kind; `HOLDFAST_SCHEDULES` for more.
fn schedules() -> usize {
    std::env::var("HOLDFAST_SCHEDULES").map_or(30_000, |n| n.parse().expect("a number"))
}

#[test]
fn many_threads_at_random() {
    shuttle::check_random(|| shuttled::schedules::run(Breach::None), schedules());
}

#[test]
fn many_threads_with_a_few_switches_at_the_worst_places() {
    shuttle::check_pct(|| shuttled::schedules::run(Breach::None), schedules(), 3);
}

/// Some thousand schedules are enough to see it; the seed makes it the same ones every time.
fn broken(breach: Breach) {
    shuttle::check_random_with_seed(move || shuttled::schedules::run(breach), 1, 200_000);
}

#[test]
#[should_panic(expected = "below zero")]
fn giving_before_the_log_is_caught_at_random() {
    broken(Breach::GiveBeforeLog);
}

#[test]
#[should_panic(expected = "before its cause")]
fn a_reservation_that_is_seen_before_the_log_is_caught_at_random() {
    broken(Breach::OpenBeforeLog);
}
