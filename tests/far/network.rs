//! Partitions and reordering: all four domains over the real engine and the real delivery, through a
//! simulated network ([`crate::far_common::network`]) that delays, loses, doubles and reorders what it carries and
//! is parted for a while, while the machine loses power twice.
//!
//! In the end, whatever the seed: every line had its effect once; in each lane the first effects came in
//! the order of the seals (events and the chain of the books in theirs); and everything of the ledger is
//! there.
//!
//! `turmoil` was looked at and not used: it stands in for tokio's sockets and runs every host on one thread,
//! while the log and the feeds are threads of their own (a crashed host of it would be futures that are
//! dropped, not a disk that lost what was not synced), and the connector's client is bound to tokio's own
//! sockets. The seam here is [`holdfast::delivery::Partner`], so that the whole delivery is the real one; what
//! sockets do is in `far/steps.rs` and `far/bad_partners.rs`. Time is tokio's, stopped: waits cost nothing, and a
//! brake lets the threads of the engine, which know no other time than the real one, keep up.
//!
//! `HOLDFAST_NETWORK_SEEDS` sets how many seeds, `HOLDFAST_NETWORK_SEED` where they begin.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::far_common::{
    Shop,
    link::{Erp, Link},
    network::{Network, Wire},
    options, order, order_id, paid,
};
use holdfast::{
    config::{Dedupe, Domain, Policy, SinkConfig},
    delivery::{self, Handle, Partner},
    engine::{Engine, Key, Options},
    model::{IdempotencyKey, command::Priority},
    wal::{
        self,
        sim::{Random, SimStorage},
    },
};

const SKUS: u64 = 6;
const DOMAINS: [Domain; 4] =
    [Domain::Inventory, Domain::Fulfilment, Domain::Finance, Domain::Stream];
/// How long the network is in trouble.
const HEALS: Duration = Duration::from_secs(4);
/// A life is at most so long.
const LIFE_MS: u64 = 2_000;
/// Far more of stopped time than anything here takes.
const PATIENCE: Duration = Duration::from_secs(600);
/// An article that some partners refuse.
const BAD: &str = "\"SKU-3\"";

/// The world of one seed.
struct World {
    random: Random,
    networks: Vec<(SinkConfig, Link, Arc<Network>)>,
    orders: u64,
}

fn open(disk: &SimStorage) -> Engine<SimStorage> {
    let wal = wal::Options {
        segment_bytes: 1 << 20,
        ready_segments: 1,
        room_wait_ms_max: 20_000,
        ..options().wal
    };
    let small = Options {
        wal,
        reservations_max: 10_000,
        keys_max: 20_000,
        orders_max: 10_000,
        ..options()
    };
    Engine::open_on(disk.clone(), small).unwrap()
}

fn config(domain: Domain, dedupe: Dedupe) -> SinkConfig {
    SinkConfig {
        dedupe,
        window_ms_max: 1,
        retry_initial_ms: 20,
        retry_max_ms: 200,
        policy: Policy { retries_per_s_min: 1_000, ..Policy::default() },
        ..SinkConfig::new(domain.as_str(), domain, "http://127.0.0.1:1/")
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let network = |domain| {
            // Who knows lines again may refuse some; where batches are known, what is refused after a
            // lost answer waits for a person, which is another test's.
            let knows_lines = random.below(2) == 0;
            let bad = (knows_lines && random.below(2) == 0).then_some(BAD);
            let link = Link::default();
            *link.erp() = Erp { knows_lines, bad, ..Erp::default() };
            let dedupe = if knows_lines { Dedupe::Line } else { Dedupe::Batch };
            let network = Network::new(random.next_u64(), link.clone(), HEALS);
            (config(domain, dedupe), link, network)
        };
        let networks = DOMAINS.into_iter().map(network).collect();
        Self { random, networks, orders: 0 }
    }

    fn deliver(&self, engine: &Engine<SimStorage>) -> (Handle, Vec<Wire>) {
        let wires: Vec<_> = self.networks.iter().map(|(_, _, network)| network.wire()).collect();
        let sinks = self.networks.iter().zip(&wires).map(|((config, _, _), wire)| {
            (config.clone(), Box::new(wire.clone()) as Box<dyn Partner>)
        });
        let runtime = tokio::runtime::Handle::current();
        (delivery::start(engine, sinks.collect(), &runtime).unwrap(), wires)
    }

    fn sell(&mut self, engine: &Engine<SimStorage>) {
        let n = self.orders;
        self.orders += 1;
        let mut place = order(n, SKUS);
        place.priority =
            [Priority::Express, Priority::Standard, Priority::Bulk][self.random.below(3) as usize];
        let key: IdempotencyKey = format!("order-{n}").parse().unwrap();
        engine.settle_blocking(engine.place_order(Key::new("", &key), &place)).unwrap();
    }

    /// A life, which ends with a loss of power.
    async fn live(&mut self, disk: &SimStorage) -> SimStorage {
        let engine = open(disk);
        if self.orders == 0 {
            Shop::open(engine.clone(), SKUS);
        }
        let (handle, wires) = self.deliver(&engine);
        for _ in 0..2 + self.random.below(8) {
            self.sell(&engine);
            let pause = Duration::from_millis(self.random.below(LIFE_MS / 8));
            tokio::time::sleep(pause).await;
        }
        wires.iter().for_each(Wire::cut);
        let disk = disk.crash(self.random.next_u64());
        handle.shutdown(Duration::ZERO).await.ok();
        engine.close().unwrap();
        disk
    }

    async fn run(&mut self) {
        let mut disk = SimStorage::new();
        for _ in 0..2 {
            disk = self.live(&disk).await;
        }
        let engine = open(&disk);
        let (handle, _) = self.deliver(&engine);
        for _ in 0..3 {
            self.sell(&engine);
        }
        handle.drain(PATIENCE).await.unwrap();
        // What is still on its way arrives, too late.
        tokio::time::sleep(HEALS).await;
        self.audit(&engine, &handle);
        handle.shutdown(Duration::ZERO).await.ok();
        engine.close().unwrap();
    }

    fn audit(&self, engine: &Engine<SimStorage>, handle: &Handle) {
        let shop =
            Shop { engine: engine.clone(), skus: SKUS, sold: BTreeMap::new(), paid: 0, orders: 0 };
        // An order is there when its answer was: `sell` waits for it.
        for n in 0..self.orders {
            engine.settle_blocking(engine.order(&order_id(n))).unwrap();
        }
        let letters = handle.letters();
        for (config, link, _) in &self.networks {
            let erp = link.erp();
            let aside: Vec<_> =
                letters.iter().filter(|(s, _)| *s == config.name).cloned().collect();
            assert!(aside.is_empty() || erp.bad.is_some(), "{}: {aside:?}", config.name);
            erp.audit(&aside);
            in_order(&erp, config.domain);
            // A refused line lies dead, and says itself what the partner lacks.
            let lacks = |effect: &mut Erp| {
                for (_, letter) in &aside {
                    let (head, lines) = crate::far_common::link::lines(&letter.body);
                    effect.effect.extend(lines.into_iter().map(|(_, line)| (head.clone(), line)));
                }
            };
            let mut all = Erp { effect: erp.effect.clone(), ..Erp::default() };
            lacks(&mut all);
            match config.domain {
                Domain::Inventory => assert_eq!(all.sold(), shop.committed()),
                Domain::Fulfilment => assert_eq!(all.to_pick(), shop.committed()),
                Domain::Finance => {
                    let paid: i128 = (0..self.orders).map(|n| paid(&order(n, SKUS))).sum();
                    assert_eq!(all.balance("receivable"), paid);
                }
                Domain::Stream => {
                    let of =
                        |kind: &str| all.effect.iter().filter(|(_, e)| e["type"] == kind).count();
                    assert_eq!(of("holdfast.order.placed.v1") as u64, self.orders);
                }
            }
        }
    }
}

/// The first effects came in the order of each lane.
fn in_order(erp: &Erp, domain: Domain) {
    let (mut last, mut chain) = (BTreeMap::new(), "0".repeat(64));
    for (head, line) in &erp.effect {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (lane, at) = match domain {
            Domain::Stream => (String::new(), text(&line["sequence"])),
            _ => (text(&head["priority"]), text(&head["batch_id"])),
        };
        let before = last.insert(lane, at.clone()).unwrap_or_default();
        assert!(before <= at, "{domain:?}: {at} had its effect after {before}");
        // Where an entry lies dead, the chain has a gap.
        if domain == Domain::Finance && erp.bad.is_none() {
            assert_eq!(text(&line["previous_digest"]), chain, "the chain of the books");
            chain = text(&line["digest"]);
        }
    }
}

/// Lets real time go on with the stopped one: while a blocking task runs, tokio's clock stands still.
async fn brake() {
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let real = || thread::sleep(Duration::from_micros(100));
        tokio::task::spawn_blocking(real).await.unwrap();
    }
}

/// What the networks of a seed did: lost requests, lost answers, duplicates, overtaken, parted.
fn run(seed: u64) -> [u64; 5] {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let brake = tokio::spawn(brake());
        let mut world = World::new(seed);
        world.run().await;
        brake.abort();
        let did = world.networks.iter().map(|(_, _, network)| {
            let did = &network.did;
            [&did.requests_lost, &did.answers_lost, &did.duplicates, &did.overtaken, &did.parted]
                .map(|count| count.load(Ordering::Relaxed))
        });
        did.fold([0; 5], |sum, did| std::array::from_fn(|i| sum[i] + did[i]))
    })
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn whatever_the_network_does_every_effect_is_there_once_and_in_order() {
    let first = number("HOLDFAST_NETWORK_SEED", 0);
    let end = first + number("HOLDFAST_NETWORK_SEEDS", 24);
    let next = AtomicU64::new(first);
    let work = || {
        let mut sum = [0; 5];
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return sum;
            }
            let did = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|panic| {
                eprintln!("seed {seed}: HOLDFAST_NETWORK_SEED={seed} HOLDFAST_NETWORK_SEEDS=1");
                std::panic::resume_unwind(panic)
            });
            sum = std::array::from_fn(|i| sum[i] + did[i]);
        }
    };
    let did = thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        let sums = workers.into_iter().map(|w| w.join().expect("every seed is well"));
        sums.fold([0; 5], |sum, did| std::array::from_fn(|i| sum[i] + did[i]))
    });
    println!("requests lost, answers lost, duplicates, overtaken, parted: {did:?}");
    // A network that does nothing shows nothing.
    assert!(end - first < 10 || did.iter().all(|count| *count > 10), "{did:?}");
}
