//! The engine under contention: threads that fight over few units, few reservations, few keys and the
//! units of one order, with times to live so short that the timer is always among them.
//!
//! Every run is audited from the log (law 1 in every prefix, cause before effect, no transition twice;
//! see [`crate::common::Audit`]), and the tables, and those of an engine that is opened on the same log, must
//! be what the log says. Schedules that real threads don't come to are tried in `ledger_loom`.
//!
//! `HOLDFAST_STRESS_RUNS` sets how many runs; `HOLDFAST_STRESS_SEED` where the seeds begin.

mod rush;
mod whole_life;

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::common::*;
use holdfast::{
    Options,
    engine::Refusal,
    model::{
        Lsn, ReservationId,
        command::{Release, Reserve},
        view::{ReservationState, ReservationView},
    },
    wal::sim::{Random, SimStorage},
};

const SKUS: [&str; 3] = ["A", "B", "C"];
const UNITS: u32 = 8;
const THREADS: u64 = 4;
const STEPS: u64 = 150;

/// What the threads of a run share.
struct Fight {
    shop: Shop,
    known: Mutex<Vec<ReservationId>>,
    /// The first answer to each key.
    answers: Mutex<HashMap<String, ReservationView>>,
    orders: AtomicU64,
    seed: u64,
    /// Keys that several threads ask with.
    shared_keys: u64,
    few_slots: bool,
}

fn some<T: Copy>(random: &mut Random, of: &Mutex<Vec<T>>) -> Option<T> {
    let of = of.lock().unwrap();
    // Mostly a late one, since those are still open.
    let back = random.below(8).min(of.len() as u64);
    (of.len() as u64).checked_sub(1 + back).and_then(|at| of.get(at as usize)).copied()
}

impl Fight {
    fn reserve(&self, random: &mut Random, name: &str) {
        // A request of its own, or one that others make with the same key and body.
        let shared = random.below(3) == 0 && self.shared_keys > 0;
        let number = random.below(self.shared_keys.max(1));
        let (key, mut body) = match shared {
            true => (format!("shared-{number}"), Random(self.seed ^ number)),
            false => (name.to_owned(), random.clone()),
        };
        let mut lines = vec![line(SKUS[body.below(3) as usize], 1 + body.below(3) as u32)];
        if body.below(3) == 0 {
            lines.push(line(SKUS[body.below(3) as usize], 1 + body.below(2) as u32));
        }
        let mut cart = cart(&lines);
        cart.ttl_ms = Some(1 + body.below(120));
        match self.shop.reserve(&key, &cart) {
            Ok(answer) => {
                let mut answers = self.answers.lock().unwrap();
                let first = answers.entry(key).or_insert_with(|| answer.value.clone());
                assert_eq!(*first, answer.value, "a repeat gets the first answer");
                self.known.lock().unwrap().push(answer.value.id);
            }
            Err(Refusal::InsufficientStock { .. }) => {
                let granted = self.answers.lock().unwrap().contains_key(name);
                assert!(!granted, "who was granted it is not told that it is sold out");
            }
            // Slots come back when the timer's thread sweeps them.
            Err(Refusal::Overloaded { .. }) if self.few_slots => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            // Its reservation was closed and forgotten.
            Err(Refusal::UnknownReservation) if shared => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn act(&self, random: &mut Random, name: &str) {
        let Some(of) = some(random, &self.known) else { return self.reserve(random, name) };
        let said = match random.below(10) {
            0 => {
                let order = format!("O{}", self.orders.fetch_add(1, Ordering::Relaxed));
                let skus: Vec<_> = SKUS.into_iter().filter(|_| random.below(2) == 0).collect();
                self.shop.commit(name, of, &sale(&order, &skus))
            }
            1 => self.shop.release(name, of, &Release::default()),
            2 => self.shop.release(name, of, &part(SKUS[random.below(3) as usize], 1)),
            3 => self.shop.extend(name, of, 1 + random.below(150)),
            4 => self.shop.change(of, &[line(SKUS[random.below(3) as usize], 1)]),
            _ => return self.reserve(random, name),
        };
        match said {
            Ok(_)
            | Err(
                Refusal::Malformed { .. }
                | Refusal::WrongState { .. }
                | Refusal::OrderMismatch
                | Refusal::UnknownReservation
                | Refusal::InsufficientStock { .. },
            ) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

fn fight(seed: u64, options: &Options, shared_keys: u64) -> (Fight, SimStorage) {
    let storage = SimStorage::new();
    let shop = shop(&storage, options);
    for sku in SKUS {
        shop.set(sku, "X", &stock_of(UNITS)).unwrap();
        shop.set(sku, "Y", &stock_of(UNITS)).unwrap();
    }
    let fight = Fight {
        shop,
        known: Mutex::default(),
        answers: Mutex::default(),
        orders: AtomicU64::new(0),
        seed,
        shared_keys,
        few_slots: options.reservations_max < 1000,
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let fight = &fight;
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_mul(31).wrapping_add(thread));
                for step in 0..STEPS {
                    fight.act(&mut random, &format!("{thread}-{step}"));
                }
            });
        }
    });
    (fight, storage)
}

/// What is closed may be forgotten at any moment where retention is short, so it is not asked for.
fn without_closed(mut audit: Audit, retention_ms: u64) -> Audit {
    let closed = [ReservationState::Released, ReservationState::Expired];
    audit.reservations.retain(|_, said| retention_ms > 1 || !closed.contains(&said.state));
    audit
}

fn run(seed: u64, options: &Options, shared_keys: u64) {
    println!("seed {seed}");
    let (fight, storage) = fight(seed, options, shared_keys);
    let engine = &fight.shop.0;
    // Nobody extends any more, so all that is held expires, and then everything is at rest.
    wait_until("what is held to expire", || {
        fight.known.lock().unwrap().iter().all(|id| {
            let seen = engine.settle_blocking(engine.reservation(*id));
            seen.is_err() || seen.is_ok_and(|s| s.value.state != ReservationState::Held)
        })
    });
    audit(fight.shop, &storage, options);
}

/// Audits an engine at rest, and the one that is opened on its log.
fn audit(shop: Shop, storage: &SimStorage, options: &Options) {
    all_durable(&shop.0);
    let audit = Audit::of(&shop.0);
    without_closed(audit.clone(), options.retention_ms).agrees(&shop.0);
    assert!(audit.granted > 0 && audit.expired > 0);
    drop(shop);
    let again = open(storage, options);
    without_closed(audit, options.retention_ms).agrees(&again);
}

fn runs() -> impl Iterator<Item = u64> {
    let begin = setting("HOLDFAST_STRESS_SEED", 1);
    begin..begin + setting("HOLDFAST_STRESS_RUNS", 10)
}

#[test]
fn few_units_few_reservations_few_keys() {
    for seed in runs() {
        run(seed, &small(), 12);
    }
}

/// What is closed is forgotten at once, so that slots are used again while others still ask for what
/// they were.
#[test]
fn slots_are_used_again_while_they_are_asked_for() {
    let options = Options { retention_ms: 1, reservations_max: 150, ..small() };
    for seed in runs() {
        run(seed, &options, 0);
    }
}

/// Units of an order that are shipped, called off and taken back at once: no more than was sold, each
/// own id once, and what is free again is bought at once.
#[test]
fn the_units_of_one_order_go_only_once() {
    for seed in runs() {
        println!("seed {seed}");
        let storage = SimStorage::new();
        let shop = shop(&storage, &small());
        for number in 0..4 {
            rush::of_one_order(&shop, seed.wrapping_mul(101).wrapping_add(number), number);
        }
        audit(shop, &storage, &small());
    }
}

/// Everything that can happen to an order happens to it at once, and before it is there; it is looked at
/// and checkpoints are made meanwhile.
#[test]
fn everything_happens_to_one_order_at_once() {
    for seed in runs() {
        println!("seed {seed}");
        let storage = SimStorage::new();
        let shop = shop(&storage, &small());
        // The auditor reads the log from its begin.
        shop.0.hold_log("audit", Lsn(0));
        whole_life::of_orders(&shop, seed.wrapping_mul(101));
        all_durable(&shop.0);
        let audit = Audit::of(&shop.0);
        audit.agrees(&shop.0);
        drop(shop);
        audit.agrees(&open(&storage, &small()));
    }
}

/// What a cancellation frees is taken by others behind its record, never before it.
#[test]
fn who_waits_for_cancelled_units_stands_behind_the_cancellation() {
    for _ in runs() {
        let storage = SimStorage::new();
        let shop = shop(&storage, &small());
        rush::of_cancelled_units(&shop);
        all_durable(&shop.0);
        Audit::of(&shop.0).agrees(&shop.0);
    }
}

/// One thread that buys until so many were granted to all, and doesn't mind that it is sold out.
fn insist(shop: &Shop, name: u64, granted: &AtomicU64, until: u64) {
    let cart = Reserve { ttl_ms: Some(1), ..one("A", 1) };
    for step in 0.. {
        if granted.load(Ordering::Relaxed) >= until {
            return;
        }
        match shop.reserve(&format!("{name}-{step}"), &cart) {
            Ok(_) => _ = granted.fetch_add(1, Ordering::Relaxed),
            Err(Refusal::InsufficientStock { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// So many expire at once that the timer's thread is interrupted among them, and those who wait for
/// the units take them meanwhile.
#[test]
fn what_expires_is_taken_again_at_once() {
    const TIDE: u32 = 256;
    for _ in runs() {
        let storage = SimStorage::new();
        let shop = shop(&storage, &small());
        shop.set("A", "X", &stock_of(TIDE)).unwrap();
        let granted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..2 * THREADS {
                let (shop, granted) = (&shop, &granted);
                scope.spawn(move || insist(shop, thread, granted, 4 * u64::from(TIDE)));
            }
        });
        wait_until("all to expire", || shop.available("A") == i64::from(TIDE));
        audit(shop, &storage, &small());
    }
}
