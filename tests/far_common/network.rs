//! A network that is simulated, between a sink's delivery and a partner's memory. It delays requests and
//! answers, loses them, brings a request twice and much later, after others that were sent since, and is
//! parted for a while. A request that is under way goes on when its sender has given up or is dead.
//!
//! What becomes of a request is drawn from the seed, the part's id and how often that was sent: a seed does
//! the same to the same requests whatever the threads of the engine do meanwhile. Times are those of
//! tokio's clock, which a test may have stopped.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use holdfast::{
    delivery::{Effect, Outcome, Part, Partner, Sending},
    wal::sim::Random,
};
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::link::Link;

/// How long a sender waits for an answer.
const TIMEOUT: Duration = Duration::from_millis(200);
/// The least and the most of one spell of a parted, and of a whole, network.
const SPELL_MS: (u64, u64) = (50, 900);

/// What it did, so that a test can see that it did something.
#[derive(Debug, Default)]
pub struct Did {
    pub requests_lost: AtomicU64,
    pub answers_lost: AtomicU64,
    pub duplicates: AtomicU64,
    /// Requests that arrived after one that was sent later.
    pub overtaken: AtomicU64,
    /// Arrivals in a parted network.
    pub parted: AtomicU64,
}

/// The network of one partner; the same over all lives of the sender.
#[derive(Debug)]
pub struct Network {
    seed: u64,
    link: Link,
    /// How often each part was sent.
    sent: Mutex<HashMap<String, u64>>,
    /// The number of the last request, and of the latest that has arrived.
    numbers: [AtomicU64; 2],
    /// When it is parted, in turns with when it is not; after the last everything is well.
    spells: Vec<Instant>,
    pub did: Did,
}

/// What a sender in one life has of it.
#[derive(Debug, Clone)]
pub struct Wire {
    network: Arc<Network>,
    alive: Arc<AtomicBool>,
}

impl Network {
    /// One with troubles until `heals`.
    pub fn new(seed: u64, link: Link, heals: Duration) -> Arc<Self> {
        let (mut random, begin) = (Random(seed), Instant::now());
        let (mut spells, mut at) = (Vec::new(), Duration::ZERO);
        while at < heals {
            at += Duration::from_millis(SPELL_MS.0 + random.below(SPELL_MS.1 - SPELL_MS.0));
            spells.push(begin + at.min(heals));
        }
        let numbers = [AtomicU64::new(0), AtomicU64::new(0)];
        Arc::new(Self { seed, link, sent: Mutex::default(), numbers, spells, did: Did::default() })
    }

    /// The way to it for a process that begins.
    pub fn wire(self: &Arc<Self>) -> Wire {
        Wire { network: self.clone(), alive: Arc::new(AtomicBool::new(true)) }
    }

    fn is_well(&self) -> bool {
        self.spells.last().is_none_or(|end| *end <= Instant::now())
    }

    fn is_parted(&self) -> bool {
        let past = self.spells.iter().filter(|end| **end <= Instant::now()).count();
        !self.is_well() && past % 2 == 1
    }

    /// Chance for one request.
    fn chance(&self, part: &str) -> Random {
        let mut sent = self.sent.lock();
        let times = sent.entry(part.to_owned()).or_default();
        *times += 1;
        let hash = blake3::hash(format!("{} {part} {times}", self.seed).as_bytes());
        Random(u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap()))
    }

    /// A request travels, and its answer back.
    async fn travel(self: Arc<Self>, part: Part, fate: Fate, number: u64) -> Option<Outcome> {
        tokio::time::sleep(fate.there).await;
        if fate.request_lost {
            self.did.requests_lost.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if self.is_parted() {
            self.did.parted.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let latest = self.numbers[1].fetch_max(number, Ordering::Relaxed);
        self.did.overtaken.fetch_add(u64::from(latest > number), Ordering::Relaxed);
        let outcome = {
            let mut erp = self.link.erp();
            erp.sent.push((part.id.clone(), part.body.clone()));
            erp.take(&part)
        };
        tokio::time::sleep(fate.back).await;
        if fate.answer_lost || self.is_parted() {
            self.did.answers_lost.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(outcome)
    }

    async fn send(self: Arc<Self>, part: &Part) -> Outcome {
        let mut random = self.chance(&part.id);
        let failed = |reason: &str, effect| Outcome::Failed {
            reason: reason.to_owned(),
            retry_after: None,
            effect,
        };
        if self.is_parted() && random.below(2) == 0 {
            return failed("no route", Effect::None);
        }
        let number = self.numbers[0].fetch_add(1, Ordering::Relaxed) + 1;
        let well = self.is_well();
        if !well && random.below(4) == 0 {
            self.did.duplicates.fetch_add(1, Ordering::Relaxed);
            let fate = Fate::draw(&mut random, well);
            // Who asked hears nothing of it, and it may be there long after.
            tokio::spawn(self.clone().travel(part.clone(), fate, number));
        }
        let fate = Fate::draw(&mut random, well);
        let (tell, hear) = oneshot::channel();
        let travel = self.clone().travel(part.clone(), fate, number);
        tokio::spawn(async move {
            if let Some(outcome) = travel.await {
                // The sender may have given up, or be dead.
                let _ = tell.send(outcome);
            } else {
                // What is lost is silent.
                tokio::time::sleep(2 * TIMEOUT).await;
            }
        });
        match tokio::time::timeout(TIMEOUT, hear).await {
            Ok(Ok(outcome)) => outcome,
            _ => failed("no answer", Effect::Unknown),
        }
    }
}

/// What becomes of a request.
struct Fate {
    there: Duration,
    back: Duration,
    request_lost: bool,
    answer_lost: bool,
}

impl Fate {
    fn draw(random: &mut Random, well: bool) -> Self {
        let mut delay = || {
            let most = match random.below(8) {
                _ if well => 20,
                0 => 2_000,
                1 => 300,
                _ => 40,
            };
            Duration::from_millis(random.below(most))
        };
        let (there, back) = (delay(), delay());
        let lost = |random: &mut Random| !well && random.below(6) == 0;
        Self { there, back, request_lost: lost(random), answer_lost: lost(random) }
    }
}

impl Wire {
    /// The process is dead: it sends nothing more.
    pub fn cut(&self) {
        self.alive.store(false, Ordering::SeqCst);
    }
}

impl Partner for Wire {
    fn send<'a>(&'a self, part: &'a Part) -> Sending<'a> {
        Box::pin(async move {
            if !self.alive.load(Ordering::SeqCst) {
                return std::future::pending().await;
            }
            self.network.clone().send(part).await
        })
    }
}
