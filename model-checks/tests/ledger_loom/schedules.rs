//! Larger schedules: the tables joined as the engine joins them, over a log of which only the order
//! matters. Afterwards every prefix of the log is replayed, and the tables must be what it says.

use std::{collections::HashMap, sync::Arc};

use shuttle::{
    rand::{Rng, thread_rng},
    thread,
};

use super::{
    keys::{Begin, Found, Keys, Outcome},
    reservations::{NotBegun, Opening, Reservations, Snapshot, Transition},
    sync::{AtomicU64, Mutex, Ordering},
    wheel::{TICK_MS, Wheel},
    word::{StockWord, Taken},
};
use crate::{
    Breach,
    model::{
        Lsn, ReservationId,
        event::{KeyRef, Line},
        view::ReservationState::{self, Committed, Expired, Held, Released},
    },
};

const POSITIONS: usize = 2;
const UNITS: u32 = 3;
const SLOTS: u32 = 3;
const SHOPPERS: u64 = 3;
const STEPS: usize = 5;
const KEYS: u64 = 6;

#[derive(Debug, Clone)]
enum Act {
    Grant { key: u64, lines: Vec<Line> },
    Turn { to: ReservationState, of: ReservationId, previous: Lsn, lines: Vec<Line> },
}

/// All that threads share.
struct World {
    table: Reservations,
    wheel: Wheel,
    keys: Keys,
    words: [StockWord; POSITIONS],
    tail: AtomicU64,
    log: Mutex<Vec<(u64, Act)>>,
    known: Mutex<Vec<ReservationId>>,
    now_ms: AtomicU64,
    breach: Breach,
}

fn key(number: u64) -> KeyRef {
    KeyRef { hash: [number % 2, number], fingerprint: 0 }
}

impl World {
    fn new(breach: Breach) -> Self {
        let world = Self {
            table: Reservations::new(SLOTS),
            wheel: Wheel::new(0),
            keys: Keys::new(KEYS as u32 + 2),
            words: Default::default(),
            tail: AtomicU64::new(0),
            log: Mutex::default(),
            known: Mutex::default(),
            now_ms: AtomicU64::new(0),
            breach,
        };
        world.words.iter().for_each(|word| word.give(UNITS));
        world
    }

    fn now(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn claim(&self) -> u64 {
        self.tail.fetch_add(8, Ordering::SeqCst)
    }

    fn append(&self, act: Act) -> u64 {
        let at = self.claim();
        self.log.lock().push((at, act));
        at
    }

    fn give(&self, lines: &[Line]) {
        lines.iter().for_each(|line| self.words[line.position as usize].give(line.quantity));
    }

    fn is_short(&self, cart: &[Line]) -> bool {
        cart.iter().any(|line| {
            let (available, pending) = self.words[line.position as usize].load();
            i64::from(available) + i64::from(pending) < i64::from(line.quantity)
        })
    }

    /// Takes a cart, or nothing; `None`: it has to wait.
    fn take(&self, cart: &[Line]) -> Option<bool> {
        for (at, line) in cart.iter().enumerate() {
            let taken = self.words[line.position as usize].take_pending(line.quantity);
            if taken != Taken::Yes {
                for line in &cart[..at] {
                    self.words[line.position as usize].undo(line.quantity);
                }
                return if taken == Taken::Wait { None } else { Some(false) };
            }
        }
        Some(true)
    }

    fn reserve(&self, number: u64, cart: &[Line], ttl_ms: u64) {
        let was_granted = self.is_granted(number);
        if self.is_short(cart) {
            let found = self.keys.find(&key(number));
            assert!(!was_granted || found != Found::Nothing, "sold out, to who was granted it");
            return;
        }
        let claim = loop {
            match self.keys.begin(&key(number)) {
                Begin::Claimed(claim) => break claim,
                Begin::Taken(Found::Done(outcome)) => return self.check_repeat(number, &outcome),
                Begin::Taken(_) => thread::yield_now(),
                Begin::Full => panic!("there is room for every key"),
            }
        };
        let Some(slot) = self.table.reserve_slot() else { return };
        let taken = loop {
            match self.take(cart) {
                Some(taken) => break taken,
                None => thread::yield_now(),
            }
        };
        if !taken {
            return self.table.abandon(slot);
        }
        let deadline_ms = self.now() + ttl_ms;
        let opening = |lsn| Opening {
            lsn: Lsn(lsn),
            state: Held,
            deadline_ms,
            lines: cart,
            customer: number,
            order: 0,
            order_id: None,
        };
        let early = self.breach == Breach::OpenBeforeLog;
        if early {
            // A place that it will not have.
            self.table.open(slot, &opening(1 << 40 | u64::from(slot)));
            self.wheel.insert(&self.table, slot, deadline_ms);
        }
        let lsn = self.append(Act::Grant { key: number, lines: cart.to_vec() });
        cart.iter().for_each(|line| self.words[line.position as usize].settle(line.quantity));
        if !early {
            self.table.open(slot, &opening(lsn));
            self.wheel.insert(&self.table, slot, deadline_ms);
        }
        let aux = deadline_ms;
        claim.finish(&Outcome { kind: 1, lsn, slot, aux, expires_ms: u64::MAX >> 8 });
        self.known.lock().push(ReservationId { lsn: Lsn(lsn), slot });
    }

    fn is_granted(&self, number: u64) -> bool {
        let log = self.log.lock();
        log.iter().any(|(_, act)| matches!(act, Act::Grant { key, .. } if *key == number))
    }

    fn check_repeat(&self, number: u64, outcome: &Outcome) {
        let log = self.log.lock();
        let first = log.iter().find(|(at, _)| *at == outcome.lsn);
        let granted = matches!(first, Some((_, Act::Grant { key, .. })) if *key == number);
        assert!(granted, "a repeat gets the first answer");
    }

    /// Turns a held reservation, if it is held.
    fn turn(&self, of: ReservationId, to: ReservationState, deadline_ms: u64) {
        match self.table.begin(of, &[Held]) {
            Ok(transition) => self.turn_it(transition, to, deadline_ms),
            Err(NotBegun::Unknown | NotBegun::State { .. }) => {}
            Err(NotBegun::Busy) => panic!("nobody holds it for so long"),
        }
    }

    fn turn_it(&self, transition: Transition<'_>, to: ReservationState, deadline_ms: u64) {
        let before: Snapshot = transition.snapshot();
        let lines = before.lines.to_vec();
        let gives = to == Released || to == Expired;
        if gives && self.breach == Breach::GiveBeforeLog {
            self.give(&lines);
        }
        let act = Act::Turn { to, of: before.id, previous: before.last, lines: lines.clone() };
        let lsn = self.append(act);
        if gives && self.breach != Breach::GiveBeforeLog {
            self.give(&lines);
        }
        transition.finish(to, deadline_ms, Lsn(lsn));
        if to == Held && deadline_ms < before.deadline_ms {
            self.wheel.hasten(before.id.slot, deadline_ms);
        }
    }

    /// What the engine does when a timer comes up.
    fn expire(&self, slot: u32, now_ms: u64) -> Option<u64> {
        let seen = match self.table.read_any(slot) {
            Ok(seen) => seen,
            Err(NotBegun::Busy) => return Some(now_ms + TICK_MS),
            Err(_) => return None,
        };
        if seen.state != Held {
            return None;
        }
        let transition = self.table.begin(seen.id, &[Held]).ok()?;
        let before = transition.snapshot();
        if before.deadline_ms > now_ms {
            return Some(before.deadline_ms);
        }
        self.turn_it(transition, Expired, now_ms);
        None
    }

    fn tick(&self) {
        let now_ms = self.now_ms.fetch_add(TICK_MS, Ordering::SeqCst) + TICK_MS;
        self.wheel.turn(&self.table, now_ms, |slot| self.expire(slot, now_ms));
        self.table.sweep(0..SLOTS, now_ms);
    }

    fn shop(&self) {
        for _ in 0..STEPS {
            let of = {
                let known = self.known.lock();
                let some = thread_rng().gen_range(0..known.len().max(1));
                known.get(some).copied()
            };
            let ttl_ms = thread_rng().gen_range(0..3 * TICK_MS);
            let now_ms = self.now();
            match (thread_rng().gen_range(0..8), of) {
                (0, Some(of)) => self.turn(of, Committed, 0),
                (1 | 2, Some(of)) => self.turn(of, Released, now_ms),
                (3, Some(of)) => self.turn(of, Held, now_ms + ttl_ms),
                _ => self.reserve(thread_rng().gen_range(0..KEYS), &cart(), ttl_ms),
            }
        }
    }
}

/// One or two lines, in the global order.
fn cart() -> Vec<Line> {
    let quantity = || thread_rng().gen_range(1..=2);
    let line = |position| Line { position, quantity: quantity(), limited: false };
    match thread_rng().gen_range(0..3) {
        0 => vec![line(0)],
        1 => vec![line(1)],
        _ => vec![line(0), line(1)],
    }
}

/// What a prefix of the log makes of the world.
#[derive(Default)]
struct Replay {
    available: [i64; POSITIONS],
    slots: HashMap<u32, ReservationId>,
    keys: HashMap<u64, u64>,
    all: HashMap<ReservationId, (ReservationState, u64, Vec<Line>)>,
}

impl Replay {
    fn shift(&mut self, lines: &[Line], sign: i64) {
        for line in lines {
            let available = &mut self.available[line.position as usize];
            *available += sign * i64::from(line.quantity);
            assert!(*available >= 0, "a prefix of the log takes a position below zero");
            assert!(*available <= i64::from(UNITS), "more is given back than was taken");
        }
    }

    fn apply(&mut self, at: u64, act: &Act, slot_of: &HashMap<u64, u32>) {
        match act {
            Act::Grant { key, lines } => {
                self.shift(lines, -1);
                assert_eq!(self.keys.insert(*key, at), None, "one key is granted once");
                let Some(slot) = slot_of.get(&at).copied() else { return };
                let id = ReservationId { lsn: Lsn(at), slot };
                let before = self.slots.insert(slot, id).and_then(|id| self.all.get(&id));
                let closed = before.is_none_or(|b| b.0 == Released || b.0 == Expired);
                assert!(closed, "a slot in use is granted again");
                self.all.insert(id, (Held, at, lines.clone()));
            }
            Act::Turn { to, of, previous, lines } => {
                let now = self.all.get_mut(of);
                let now = now.expect("a record stands before its cause");
                assert_eq!((now.0, now.1), (Held, previous.0), "each turn follows the last one");
                assert_eq!(now.2, *lines);
                (now.0, now.1) = (*to, at);
                if *to != Committed && *to != Held {
                    self.shift(&lines.clone(), 1);
                }
            }
        }
    }
}

pub fn run(breach: Breach) {
    let world = Arc::new(World::new(breach));
    let mut threads: Vec<_> = (0..SHOPPERS)
        .map(|_| {
            let world = world.clone();
            thread::spawn(move || world.shop())
        })
        .collect();
    let timer = world.clone();
    threads.push(thread::spawn(move || (0..STEPS).for_each(|_| timer.tick())));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // Whatever is still held has its time over within this.
    (0..10).for_each(|_| world.tick());
    check(&world);
}

fn check(world: &World) {
    let mut log = world.log.lock().clone();
    log.sort_by_key(|(at, _)| *at);
    let slot_of = world.known.lock().iter().map(|id| (id.lsn.0, id.slot)).collect();
    let mut replay = Replay { available: [i64::from(UNITS); POSITIONS], ..Replay::default() };
    for (at, act) in &log {
        replay.apply(*at, act, &slot_of);
    }
    for (word, available) in world.words.iter().zip(replay.available) {
        assert_eq!(word.load(), (available as i32, 0), "the tables are what the log says");
    }
    for (id, (state, last, _)) in &replay.all {
        assert_ne!(*state, Held, "what is held past its time expires");
        match world.table.read(*id) {
            Ok(seen) => assert_eq!((seen.state, seen.last.0), (*state, *last)),
            Err(why) => assert!(why == NotBegun::Unknown && *state != Committed),
        }
    }
    for (number, at) in replay.keys {
        let found = world.keys.find(&key(number));
        assert!(matches!(found, Found::Done(done) if done.lsn == at), "a key is kept: {found:?}");
    }
    let grants = log.iter().filter(|(_, act)| matches!(act, Act::Grant { .. })).count();
    assert_eq!(world.keys.len() as usize, grants, "what was refused leaves no key");
}
