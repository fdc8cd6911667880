//! The models. Each is one small run of two or three threads; loom tries every order of their steps
//! and every value that a load may see.

use std::sync::{
    Arc,
    atomic::{AtomicU64 as Count, Ordering as Std},
};

use loom::{sync::atomic::Ordering, thread};

use super::{
    keys::{Begin, Found, Keys, Outcome},
    reservations::{NotBegun, Opening, Reservations, Snapshot},
    sync::AtomicU64,
    wheel::{TICK_MS, Wheel},
    word::{StockWord, Taken},
};
use crate::{
    Breach,
    model::{
        Lsn, ReservationId,
        event::{KeyRef, Line},
        view::ReservationState,
    },
};

fn spawn<T: 'static>(run: impl FnOnce() -> T + 'static) -> thread::JoinHandle<T> {
    thread::spawn(run)
}

// ---- The stock word

pub fn takes_and_gives_add_up_and_never_go_below_zero() {
    let word = Arc::new(StockWord::default());
    word.give(2);
    let taker = {
        let word = word.clone();
        spawn(move || match word.take_pending(2) {
            Taken::Yes => {
                word.settle(2);
                2
            }
            _ => 0,
        })
    };
    let giver = {
        let word = word.clone();
        spawn(move || {
            let pending = word.take_pending(1) == Taken::Yes;
            if pending {
                word.undo(1);
            }
            word.give(1);
        })
    };
    let taken = i32::from(word.take(1) == Taken::Yes);
    assert!(word.load().0 >= 0);
    let more = taker.join().unwrap();
    giver.join().unwrap();
    assert_eq!(word.load(), (3 - taken - more, 0));
}

pub fn the_buyer_of_the_last_unit_is_not_turned_away(breach: Breach) {
    let word = Arc::new(StockWord::default());
    word.give(1);
    let carts: Vec<_> = (0..2)
        .map(|_| {
            let word = word.clone();
            // It takes the unit and then fails on another line.
            spawn(move || {
                if breach == Breach::TakeForGood {
                    if word.take(1) == Taken::Yes {
                        word.give(1);
                    }
                } else if word.take_pending(1) == Taken::Yes {
                    word.undo(1);
                }
            })
        })
        .collect();
    loop {
        match word.take(1) {
            Taken::Yes => break,
            Taken::Wait => thread::yield_now(),
            Taken::Short { .. } => panic!("turned away though a unit is there"),
        }
    }
    carts.into_iter().for_each(|cart| cart.join().unwrap());
    assert_eq!(word.load(), (0, 0));
}

// ---- Keys

/// All keys of one `bucket` share a chain; `number` tells them apart.
fn key(bucket: u64, number: u64) -> KeyRef {
    KeyRef { hash: [bucket, number], fingerprint: 7 }
}

fn outcome(lsn: u64, expires_ms: u64) -> Outcome {
    Outcome { kind: 5, lsn, slot: lsn as u32, aux: lsn, expires_ms }
}

fn done(keys: &Keys, key: &KeyRef, outcome: &Outcome) {
    match keys.begin(key) {
        Begin::Claimed(claim) => claim.finish(outcome),
        other => panic!("{other:?}"),
    }
}

/// Decides a request or waits for its twin; whether it decided, and the outcome.
fn request(keys: &Keys, key: &KeyRef, lsn: u64) -> (bool, Outcome) {
    loop {
        match keys.begin(key) {
            Begin::Claimed(claim) => {
                claim.finish(&outcome(lsn, 100));
                return (true, outcome(lsn, 100));
            }
            Begin::Taken(Found::Done(done)) => return (false, done),
            Begin::Taken(Found::InFlight | Found::Nothing) => thread::yield_now(),
            other => panic!("{other:?}"),
        }
    }
}

pub fn of_two_requests_with_one_key_one_is_decided() {
    let keys = Arc::new(Keys::new(2));
    let other = {
        let keys = keys.clone();
        spawn(move || request(&keys, &key(0, 1), 8))
    };
    let (mine, my_outcome) = request(&keys, &key(0, 1), 16);
    let (theirs, their_outcome) = other.join().unwrap();
    assert!(mine != theirs, "one is decided");
    assert_eq!(my_outcome, their_outcome, "both get the winner's outcome");
    assert_eq!(my_outcome.lsn, if mine { 16 } else { 8 }, "both get the winner's outcome");
    assert_eq!(keys.find(&key(0, 1)), Found::Done(my_outcome));
    assert_eq!(keys.len(), 1);
}

pub fn a_refused_request_leaves_its_key_to_its_twin() {
    let keys = Arc::new(Keys::new(2));
    let refused = {
        let keys = keys.clone();
        spawn(move || match keys.begin(&key(0, 1)) {
            Begin::Claimed(claim) => drop(claim),
            Begin::Taken(Found::Done(done)) => assert_eq!(done, outcome(8, 100)),
            Begin::Taken(_) => {}
            Begin::Full => panic!("there is room for two"),
        })
    };
    let (mine, _) = request(&keys, &key(0, 1), 8);
    assert!(mine);
    refused.join().unwrap();
    assert_eq!(keys.find(&key(0, 1)), Found::Done(outcome(8, 100)), "the key stays");
    assert_eq!(keys.len(), 1);
}

pub fn a_finished_key_is_found_while_its_neighbours_come_and_go() {
    let keys = Arc::new(Keys::new(3));
    // The chain: 3, 2, 1. Key 2 goes and its slot is used again, at the chain's head.
    done(&keys, &key(0, 1), &outcome(8, 100));
    done(&keys, &key(0, 2), &outcome(16, 0));
    done(&keys, &key(0, 3), &outcome(24, 100));
    let other = {
        let keys = keys.clone();
        spawn(move || {
            assert_eq!(keys.sweep(0..3, 50, |_| true), 1);
            done(&keys, &key(0, 4), &outcome(32, 100));
        })
    };
    assert_eq!(keys.find(&key(0, 1)), Found::Done(outcome(8, 100)), "a finished key is found");
    other.join().unwrap();
    assert_eq!(keys.find(&key(0, 1)), Found::Done(outcome(8, 100)));
    assert_eq!(keys.find(&key(0, 2)), Found::Nothing);
    assert_eq!(keys.find(&key(0, 3)), Found::Done(outcome(24, 100)));
    assert_eq!(keys.find(&key(0, 4)), Found::Done(outcome(32, 100)));
}

pub fn keys_come_and_go_in_one_bucket_and_none_is_there_twice() {
    let keys = Arc::new(Keys::new(4));
    done(&keys, &key(0, 1), &outcome(8, 0));
    let other = {
        let keys = keys.clone();
        spawn(move || {
            let swept = keys.sweep(0..4, 50, |_| true);
            done(&keys, &key(0, 2), &outcome(16, 100));
            swept
        })
    };
    let (mine, seen) = request(&keys, &key(0, 1), 24);
    let swept = other.join().unwrap();
    assert_eq!(keys.find(&key(0, 2)), Found::Done(outcome(16, 100)));
    assert_eq!(mine, seen.lsn == 24);
    // Forgotten once, and what was asked after that is a request of its own.
    assert_eq!(swept, 1);
    let left = if mine { Found::Done(outcome(24, 100)) } else { Found::Nothing };
    assert_eq!(keys.find(&key(0, 1)), left);
    assert_eq!(keys.len(), 1 + u32::from(mine));
}

pub fn a_removed_key_is_never_answered_with_another_ones_outcome() {
    let keys = Arc::new(Keys::new(1));
    done(&keys, &key(0, 1), &outcome(8, 0));
    let other = {
        let keys = keys.clone();
        spawn(move || {
            assert_eq!(keys.sweep(0..1, 50, |_| true), 1);
            done(&keys, &key(1, 2), &outcome(16, 100));
        })
    };
    let found = keys.find(&key(0, 1));
    let own = [Found::Nothing, Found::Done(outcome(8, 0))];
    assert!(own.contains(&found), "a key is answered with its own outcome, not {found:?}");
    other.join().unwrap();
    assert_eq!(keys.find(&key(0, 1)), Found::Nothing);
    assert_eq!(keys.find(&key(1, 2)), Found::Done(outcome(16, 100)));
}

pub fn who_sees_a_position_sold_out_finds_the_winners_key(breach: Breach) {
    let keys = Arc::new(Keys::new(2));
    let word = Arc::new(StockWord::default());
    word.give(1);
    let winner = {
        let (keys, word) = (keys.clone(), word.clone());
        spawn(move || {
            if breach == Breach::KeyAfterTake {
                assert_eq!(word.take(1), Taken::Yes);
            }
            let Begin::Claimed(claim) = keys.begin(&key(0, 1)) else { panic!("it is new") };
            if breach != Breach::KeyAfterTake {
                assert_eq!(word.take_pending(1), Taken::Yes);
                word.settle(1);
            }
            claim.finish(&outcome(8, 100));
        })
    };
    // Its repeat, as the engine does it: the position first, then the key.
    let (available, pending) = word.load();
    if i64::from(available) + i64::from(pending) < 1 {
        let found = keys.find(&key(0, 1));
        assert!(found != Found::Nothing, "the winner is told that it is sold out to itself");
    }
    winner.join().unwrap();
}

// ---- Reservations

const HELD: &[ReservationState] = &[ReservationState::Held];
const LINE: Line = Line { position: 4, quantity: 2, limited: false };

fn opening(lsn: u64, lines: &[Line]) -> Opening<'_> {
    Opening {
        lsn: Lsn(lsn),
        state: ReservationState::Held,
        deadline_ms: 1000,
        lines,
        customer: lsn,
        order: 0,
        order_id: None,
    }
}

fn table(slots: u32) -> (Arc<Reservations>, ReservationId) {
    let table = Reservations::new(slots);
    let slot = table.reserve_slot().unwrap();
    table.open(slot, &opening(8, &[LINE]));
    (Arc::new(table), ReservationId { lsn: Lsn(8), slot })
}

fn turn(table: &Reservations, id: ReservationId, to: (ReservationState, u64, u64)) -> bool {
    match table.begin(id, HELD) {
        Ok(transition) => {
            transition.finish(to.0, to.1, Lsn(to.2));
            true
        }
        Err(NotBegun::State { state, last }) => {
            let of = match state {
                ReservationState::Committed => 16,
                ReservationState::Expired => 24,
                other => panic!("nobody made it {other:?}"),
            };
            assert_eq!(last, Lsn(of), "state and last record are of one moment");
            false
        }
        Err(other) => panic!("{other:?}"),
    }
}

const COMMITTED: (ReservationState, u64, u64) = (ReservationState::Committed, 0, 16);
const EXPIRED: (ReservationState, u64, u64) = (ReservationState::Expired, 2000, 24);

pub fn of_commit_and_expiry_one_wins() {
    let (table, id) = table(1);
    let commit = {
        let table = table.clone();
        spawn(move || turn(&table, id, COMMITTED))
    };
    let expired = turn(&table, id, EXPIRED);
    let committed = commit.join().unwrap();
    assert!(expired != committed, "exactly one wins");
    let now = table.read(id).unwrap();
    let of = if committed { COMMITTED } else { EXPIRED };
    assert_eq!((now.state, now.deadline_ms, now.last.0), of);
}

pub fn of_extension_and_commit_the_later_one_builds_on_the_first() {
    let (table, id) = table(1);
    // The log, as far as it matters here: who comes first has the lower position.
    let log = Arc::new(AtomicU64::new(2));
    let turn = move |table: &Reservations, log: &AtomicU64, state, deadline_ms| {
        let transition = table.begin(id, HELD).ok()?;
        let before = transition.snapshot();
        let lsn = log.fetch_add(1, Ordering::AcqRel) * 8;
        assert!(before.last < Lsn(lsn));
        transition.finish(state, deadline_ms, Lsn(lsn));
        Some((before.last, before.deadline_ms, lsn))
    };
    let extend = {
        let (table, log) = (table.clone(), log.clone());
        spawn(move || turn(&table, &log, ReservationState::Held, 5000))
    };
    let commit = turn(&table, &log, ReservationState::Committed, 0).expect("nobody closes it");
    let now = table.read(id).unwrap();
    assert_eq!((now.state, now.last), (ReservationState::Committed, Lsn(commit.2)));
    match extend.join().unwrap() {
        Some(extend) => {
            assert_eq!(extend, (Lsn(8), 1000, 16));
            assert_eq!(commit, (Lsn(16), 5000, 24));
        }
        None => assert_eq!(commit, (Lsn(8), 1000, 16)),
    }
}

pub fn a_reservation_is_read_whole_while_it_changes() {
    let (table, id) = table(1);
    let writer = {
        let table = table.clone();
        spawn(move || {
            let transition = table.begin(id, HELD).unwrap();
            transition.finish(ReservationState::Committed, 0, Lsn(16));
        })
    };
    let seen = table.read(id).unwrap();
    let now = (seen.state, seen.deadline_ms, seen.last.0);
    let whole = [(ReservationState::Held, 1000, 8), COMMITTED];
    assert!(whole.contains(&now), "what is read is of one moment, not {now:?}");
    assert_eq!(seen.lines[0], LINE);
    writer.join().unwrap();
}

pub fn the_lines_of_a_reservation_are_read_with_its_state() {
    let (table, id) = table(1);
    let less = Line { quantity: 1, ..LINE };
    let writer = {
        let table = table.clone();
        spawn(move || {
            let transition = table.begin(id, HELD).unwrap();
            transition.set_lines(&[less]);
            transition.set_order(77, &"O-1".parse().unwrap());
            transition.finish(ReservationState::Held, 1000, Lsn(16));
        })
    };
    let seen = table.read(id).unwrap();
    let line = if seen.last == Lsn(8) { LINE } else { less };
    assert_eq!(seen.lines[0], line, "what is read is of one moment");
    let changed = (seen.granted.is_some(), seen.order, seen.order_id.is_some());
    let whole = if seen.last == Lsn(8) { (false, 0, false) } else { (true, 77, true) };
    assert_eq!(changed, whole, "what is read is of one moment");
    writer.join().unwrap();
}

/// Forgets the closed reservation in slot 0 and grants another one there.
fn reuse(table: &Reservations) {
    assert_eq!(table.sweep(0..1, u64::MAX), 1);
    let slot = table.reserve_slot().unwrap();
    table.open(slot, &opening(32, &[Line { quantity: 5, ..LINE }]));
}

pub fn a_reused_slot_is_never_taken_for_what_it_was() {
    let (table, id) = table(1);
    let of = |seen: &Snapshot| (seen.state, seen.last.0, seen.lines[0].quantity, seen.customer);
    table.begin(id, HELD).unwrap().finish(ReservationState::Released, 0, Lsn(16));
    let writer = {
        let table = table.clone();
        spawn(move || reuse(&table))
    };
    match table.read(id) {
        Ok(seen) => assert_eq!(of(&seen), (ReservationState::Released, 16, 2, 8), "one moment"),
        Err(why) => assert_eq!(why, NotBegun::Unknown),
    }
    writer.join().unwrap();
    let next = ReservationId { lsn: Lsn(32), slot: id.slot };
    assert_eq!(of(&table.read(next).unwrap()), (ReservationState::Held, 32, 5, 32));
}

/// The slot's next life begins with the same state and the same deadline as the last one.
pub fn a_transition_never_gets_hold_of_the_slots_next_life() {
    let (table, id) = table(1);
    let writer = {
        let table = table.clone();
        spawn(move || {
            if let Ok(transition) = table.begin(id, HELD) {
                transition.finish(ReservationState::Released, 0, Lsn(16));
                reuse(&table);
            }
        })
    };
    match table.begin(id, HELD) {
        Ok(transition) => assert_eq!(transition.snapshot().id, id, "of another reservation"),
        Err(NotBegun::State { state, last }) => {
            assert_eq!((state, last), (ReservationState::Released, Lsn(16)));
        }
        Err(why) => assert_eq!(why, NotBegun::Unknown),
    }
    writer.join().unwrap();
}

// ---- The timer wheel

/// Turns the wheel, and says what came up.
fn due(wheel: &Wheel, table: &Reservations, now_ms: u64) -> Vec<u32> {
    let mut up = Vec::new();
    wheel.turn(table, now_ms, |slot| {
        up.push(slot);
        None
    });
    up
}

pub fn a_timer_that_is_set_while_the_wheel_turns_comes_up() {
    let (table, id) = table(1);
    let wheel = Arc::new(Wheel::new(0));
    let setter = {
        let (table, wheel) = (table.clone(), wheel.clone());
        spawn(move || wheel.insert(&table, id.slot, 10))
    };
    let mut up = due(&wheel, &table, 2 * TICK_MS);
    setter.join().unwrap();
    up.extend(due(&wheel, &table, 4 * TICK_MS));
    assert!(!up.is_empty(), "it comes up soon after its time");
    // One that was late is in the list that was turned, too.
    up.extend(due(&wheel, &table, 9 * TICK_MS));
    assert!(up.len() <= 2 && up.iter().all(|slot| *slot == id.slot));
    assert_eq!(due(&wheel, &table, 90 * TICK_MS), [0; 0], "it leaves its list");
}

pub fn timers_set_at_once_all_come_up() {
    let (table, _) = table(2);
    let slot = table.reserve_slot().unwrap();
    table.open(slot, &opening(16, &[LINE]));
    let wheel = Arc::new(Wheel::new(2 * TICK_MS));
    let setters: Vec<_> = (0..2)
        .map(|slot| {
            let (table, wheel) = (table.clone(), wheel.clone());
            spawn(move || wheel.insert(&table, slot, 130))
        })
        .collect();
    let mut up = due(&wheel, &table, 3 * TICK_MS);
    setters.into_iter().for_each(|setter| setter.join().unwrap());
    up.extend(due(&wheel, &table, 5 * TICK_MS));
    assert!([0, 1].iter().all(|slot| up.contains(slot)), "each comes up soon after its time");
    up.extend(due(&wheel, &table, 9 * TICK_MS));
    let times = |slot| up.iter().filter(|up| **up == slot).count();
    assert!(times(0) <= 2 && times(1) <= 2);
    assert_eq!(due(&wheel, &table, 90 * TICK_MS), [0; 0], "they leave their lists");
}

pub fn a_deadline_that_is_brought_forward_comes_up_early() {
    let (table, id) = table(1);
    let wheel = Arc::new(Wheel::new(0));
    wheel.insert(&table, id.slot, 2 * TICK_MS + 1);
    let hastener = {
        let wheel = wheel.clone();
        spawn(move || wheel.hasten(id.slot, 10))
    };
    let mut up = due(&wheel, &table, TICK_MS);
    hastener.join().unwrap();
    up.extend(due(&wheel, &table, 2 * TICK_MS));
    assert_eq!(up, [id.slot], "it comes up early");
    assert_eq!(due(&wheel, &table, 5 * TICK_MS), [id.slot], "it keeps its place in its list");
}

// ---- Law 1: take before the log, give after the log; cause before effect

/// A log of which only the order matters, claimed as the real one is: a compare-and-swap of its tail.
#[derive(Debug)]
struct Log {
    tail: AtomicU64,
}

/// A record's effect on one position, and the grant that it depends on.
#[derive(Debug, Clone, Copy)]
struct Record {
    at: u64,
    delta: i64,
    /// A grant's number, or that of the grant which the record closes.
    grant: u64,
}

impl Log {
    fn new() -> Self {
        Self { tail: AtomicU64::new(0) }
    }

    fn claim(&self) -> u64 {
        let mut tail = self.tail.load(Ordering::Relaxed);
        loop {
            match self.tail.compare_exchange_weak(
                tail,
                tail + 8,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return tail,
                Err(now) => tail = now,
            }
        }
    }
}

/// Replays every prefix.
fn replay(stock: i64, mut records: Vec<Record>) -> i64 {
    records.sort_by_key(|record| record.at);
    let (mut available, mut open) = (stock, Vec::new());
    for record in records {
        available += record.delta;
        assert!(available >= 0, "a prefix of the log takes a position below zero");
        if record.delta < 0 {
            open.push(record.grant);
        } else {
            let at = open.iter().position(|grant| *grant == record.grant);
            open.swap_remove(at.expect("a prefix of the log has an effect before its cause"));
        }
        assert!(available <= stock, "a prefix of the log gives back more than was taken");
    }
    available
}

/// Two buyers of one unit; who gets it gives it back. The second can only have what the first gave.
pub fn every_prefix_of_the_log_can_be(breach: Breach) {
    let word = Arc::new(StockWord::default());
    let log = Arc::new(Log::new());
    word.give(1);
    let buyer = move |grant: u64, word: Arc<StockWord>, log: Arc<Log>| {
        let mut records = Vec::new();
        let early = (breach == Breach::LogBeforeTake).then(|| log.claim());
        if word.take_pending(1) != Taken::Yes {
            return records;
        }
        let at = early.unwrap_or_else(|| log.claim());
        records.push(Record { at, delta: -1, grant });
        word.settle(1);
        if breach == Breach::GiveBeforeLog {
            word.give(1);
        }
        let at = log.claim();
        records.push(Record { at, delta: 1, grant });
        if breach != Breach::GiveBeforeLog {
            word.give(1);
        }
        records
    };
    let other = {
        let (word, log) = (word.clone(), log.clone());
        spawn(move || buyer(1, word, log))
    };
    let mut records = buyer(2, word.clone(), log);
    records.extend(other.join().unwrap());
    let left = replay(1, records);
    assert_eq!(word.load(), (left as i32, 0));
}

/// What the engine does when a reservation's time is up.
fn expire(
    table: &Reservations,
    word: &StockWord,
    log: &Log,
    slot: u32,
    records: &mut Vec<Record>,
) {
    let Ok(seen) = table.read_any(slot) else { return };
    let Ok(transition) = table.begin(seen.id, HELD) else { return };
    let before = transition.snapshot();
    let at = log.claim();
    records.push(Record { at, delta: 1, grant: u64::from(slot) });
    word.give(before.lines[0].quantity);
    transition.finish(ReservationState::Expired, 0, Lsn(at));
}

const UNIT: Line = Line { position: 0, quantity: 1, limited: false };

/// What the engine does for a new reservation whose time is up at once.
fn reserve(
    table: &Reservations,
    wheel: &Wheel,
    word: &StockWord,
    log: &Log,
    breach: Breach,
) -> Option<Record> {
    let slot = table.reserve_slot()?;
    if word.take_pending(1) != Taken::Yes {
        table.abandon(slot);
        return None;
    }
    if breach == Breach::OpenBeforeLog {
        table.open(slot, &opening(0, &[UNIT]));
        wheel.insert(table, slot, 1);
    }
    let at = log.claim();
    word.settle(1);
    if breach != Breach::OpenBeforeLog {
        table.open(slot, &opening(at, &[UNIT]));
        wheel.insert(table, slot, 1);
    }
    Some(Record { at, delta: -1, grant: u64::from(slot) })
}

/// A time to live so short that the timer is on the reservation as soon as it can be seen.
pub fn an_effect_is_logged_after_its_cause(breach: Breach) {
    let (table, wheel) = (Arc::new(Reservations::new(1)), Arc::new(Wheel::new(0)));
    let (word, log) = (Arc::new(StockWord::default()), Arc::new(Log::new()));
    word.give(1);
    let timer = {
        let (table, wheel, word, log) = (table.clone(), wheel.clone(), word.clone(), log.clone());
        spawn(move || {
            let mut records = Vec::new();
            for tick in 1..=2 {
                wheel.turn(&table, tick * TICK_MS, |slot| {
                    expire(&table, &word, &log, slot, &mut records);
                    None
                });
            }
            records
        })
    };
    let mut records: Vec<_> = reserve(&table, &wheel, &word, &log, breach).into_iter().collect();
    records.extend(timer.join().unwrap());
    let left = replay(1, records);
    assert_eq!(word.load(), (left as i32, 0));
}

/// A reservation expires while somebody else wants its unit.
pub fn units_of_an_expired_reservation_are_sold_again(breach: Breach) {
    let (table, wheel) = (Arc::new(Reservations::new(2)), Arc::new(Wheel::new(0)));
    let (word, log) = (Arc::new(StockWord::default()), Arc::new(Log::new()));
    word.give(1);
    let mut records: Vec<_> = reserve(&table, &wheel, &word, &log, breach).into_iter().collect();
    let expired = Arc::new(Count::new(0));
    let timer = {
        let (table, word, log) = (table.clone(), word.clone(), log.clone());
        let expired = expired.clone();
        spawn(move || {
            let mut records = Vec::new();
            expire(&table, &word, &log, 0, &mut records);
            expired.fetch_add(records.len() as u64, Std::Relaxed);
            records
        })
    };
    // The buyer of the reservation, who comes late, and another one.
    let id = ReservationId { lsn: Lsn(0), slot: 0 };
    let committed = match table.begin(id, HELD) {
        Ok(transition) => {
            transition.finish(ReservationState::Committed, 0, Lsn(log.claim()));
            true
        }
        Err(_) => false,
    };
    records.extend(reserve(&table, &wheel, &word, &log, breach));
    records.extend(timer.join().unwrap());
    assert_eq!(committed, expired.load(Std::Relaxed) == 0, "sold or expired, not both");
    let left = replay(1, records);
    assert_eq!(word.load(), (left as i32, 0));
}
