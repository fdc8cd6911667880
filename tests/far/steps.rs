//! A process that dies at each step between the seal of a batch and its acknowledgement, over the real
//! engine and real HTTP, with a partner of every domain that knows lines again and one that knows batches:
//!
//! - sealed, and no attempt made;
//! - on its way, with or without its effect: no answer, a connection that is closed, an answer that breaks
//!   off;
//! - answered, and the acknowledgement not durable;
//! - acknowledged.
//!
//! It dies by a kill, which leaves what was in the page cache, or by a loss of power, which takes of
//! what was not synced whatever it likes. After the restart what is not acknowledged goes out first, under
//! the same id and with the same bytes; what is acknowledged does not; in the end the partners have the
//! effect of the ledger, each line once.

use std::{collections::BTreeMap, time::Duration};

use crate::far_common::{
    PATIENCE, Shop,
    link::{Erp, Link},
    options, order, paid,
    port::{Does, LIFE, Port},
    settle, until,
};
use holdfast::{
    config::{Dedupe, Domain, SinkConfig},
    delivery::Handle,
    engine::{Engine, Options},
    model::sink::wish::{By, Wish},
    sinks,
    wal::{
        self,
        sim::{Random, SimStorage},
    },
};

const SKUS: u64 = 8;
const DOMAINS: [Domain; 4] =
    [Domain::Inventory, Domain::Fulfilment, Domain::Finance, Domain::Stream];
/// How long a sync takes where an acknowledgement is to be lost.
const SLOW: Duration = Duration::from_millis(400);

/// How far the batches of all sinks are when the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Sealed,
    /// The request is there and had no effect, or had it; the answer is still waited for.
    Asked,
    Taken,
    /// The connection was closed without a word, before or after the effect.
    CutBefore,
    CutAfter,
    Broken,
    /// The answer has arrived, the acknowledgement is not durable.
    Answered,
    Acknowledged,
}

const STEPS: [Step; 8] = [
    Step::Sealed,
    Step::Asked,
    Step::Taken,
    Step::CutBefore,
    Step::CutAfter,
    Step::Broken,
    Step::Answered,
    Step::Acknowledged,
];

impl Step {
    /// What partners do until it is reached.
    fn does(self) -> Does {
        match self {
            Self::Asked => Does::Hangs { effect: false },
            Self::Taken => Does::Hangs { effect: true },
            Self::CutBefore => Does::Cuts { effect: false },
            Self::CutAfter => Does::Cuts { effect: true },
            Self::Broken => Does::Breaks,
            Self::Answered => Does::Waits,
            Self::Sealed | Self::Acknowledged => Does::Answers,
        }
    }
}

/// A partner and its sink.
struct Partner {
    config: SinkConfig,
    port: Port,
    /// How much was sent to it before this life.
    before: usize,
    /// What waited for its acknowledgement when this life began, by name.
    waits: Vec<String>,
}

impl Partner {
    async fn start(domain: Domain, dedupe: Dedupe) -> Self {
        let knows_lines = dedupe == Dedupe::Line;
        let link = Link::default();
        *link.erp() = Erp { knows_lines, ..Erp::default() };
        let port = Port::open(link).await;
        let name = format!("{}-{}", domain.as_str(), if knows_lines { "line" } else { "batch" });
        let config = SinkConfig {
            dedupe,
            window_ms_max: 10,
            retry_initial_ms: 2,
            retry_max_ms: 20,
            ..SinkConfig::new(name, domain, port.url())
        };
        Self { config, port, before: 0, waits: Vec::new() }
    }

    fn sent(&self) -> usize {
        self.port.link().erp().sent.len()
    }

    /// What was sent first in this life; it must be what waited.
    fn first(&self) -> Option<String> {
        let erp = self.port.link().erp();
        let first = erp.sent.get(self.before).map(|(id, _)| id.clone());
        if let (Some(first), Some(waits)) = (&first, self.waits.first()) {
            assert_eq!(first, waits, "went out first");
        }
        first
    }
}

/// A shop that dies and comes back.
struct House {
    disk: SimStorage,
    shop: Shop<SimStorage>,
    handle: Handle,
    partners: Vec<Partner>,
    life: u64,
    /// What was settled, in cents.
    settled: i128,
    settlements: u64,
}

/// Small segments: an image of the disk is soon made.
fn open(disk: &SimStorage) -> Engine<SimStorage> {
    let wal = wal::Options {
        segment_bytes: 1 << 20,
        ready_segments: 1,
        room_wait_ms_max: 10_000,
        ..options().wal
    };
    let options = Options {
        wal,
        reservations_max: 10_000,
        keys_max: 20_000,
        orders_max: 10_000,
        ..options()
    };
    Engine::open_on(disk.clone(), options).unwrap()
}

fn deliver(engine: &Engine<SimStorage>, partners: &[Partner], life: u64) -> Handle {
    let config = |partner: &Partner| {
        let mut config = partner.config.clone();
        config.headers.insert(LIFE.to_owned(), life.to_string());
        config
    };
    let configs = partners.iter().map(config).collect();
    sinks::start(engine, configs, &tokio::runtime::Handle::current()).unwrap()
}

impl House {
    async fn open() -> Self {
        let disk = SimStorage::new();
        let shop = Shop::open(open(&disk), SKUS);
        let mut partners = Vec::new();
        for domain in DOMAINS {
            for dedupe in [Dedupe::Line, Dedupe::Batch] {
                partners.push(Partner::start(domain, dedupe).await);
            }
        }
        let handle = deliver(&shop.engine, &partners, 0);
        handle.drain(PATIENCE).await.unwrap();
        Self { disk, shop, handle, partners, life: 0, settled: 0, settlements: 0 }
    }

    fn all_do(&self, does: &Does) {
        self.partners.iter().for_each(|partner| partner.port.does(does.clone()));
    }

    /// Orders, of which one is paid in part: something new for each domain.
    fn sell(&mut self) {
        let first = self.shop.orders;
        (first..first + 3).for_each(|n| self.shop.sell(n).unwrap());
        settle(&self.shop.engine, first, paid(&order(first, SKUS)) / 2);
        self.settled += paid(&order(first, SKUS)) / 2;
        self.settlements += 1;
    }

    async fn wish_all(&self, wish: fn() -> Wish) {
        for partner in &self.partners {
            self.handle.wish(&partner.config.name, wish(), By::default()).await.unwrap().unwrap();
        }
    }

    /// Sells, and waits until the batches of all sinks are so far. `power` says how the process dies.
    async fn come_to(&mut self, step: Step, power: bool) {
        self.all_do(&step.does());
        match step {
            Step::Sealed => self.wish_all(|| Wish::Pause).await,
            _ if self.is_paused() => self.wish_all(|| Wish::Resume).await,
            _ => {}
        }
        let reached: Vec<_> = self.partners.iter().map(Partner::sent).collect();
        let answered: Vec<_> = self.partners.iter().map(|p| p.port.answered()).collect();
        self.sell();
        let all = |so: &dyn Fn(usize, &Partner) -> bool| {
            self.partners.iter().enumerate().all(|(i, partner)| so(i, partner))
        };
        if step == Step::Acknowledged {
            self.handle.drain(PATIENCE).await.unwrap();
            let log = self.shop.engine.log();
            return until("all of it is durable", || log.durable() == log.appended()).await;
        }
        if step == Step::Sealed {
            // A seal is seen before it is durable, and then a loss of power may forget it.
            let sealed = || {
                self.handle.snapshot().iter().all(|sink| {
                    sink.lag_records > 0 && sink.lanes.iter().any(|lane| lane.depth > 0)
                })
            };
            until("all have sealed", sealed).await;
            let log = self.shop.engine.log();
            return until("all seals are durable", || log.durable() == log.appended()).await;
        }
        until("all have a batch", || all(&|i, partner| partner.sent() > reached[i])).await;
        if step == Step::Answered {
            // A loss of power forgets what the slow sync was to keep.
            self.disk.set_sync_delay(if power { SLOW } else { Duration::ZERO });
            self.all_do(&Does::Answers);
            until("all answered", || all(&|i, p| p.port.answered() > answered[i])).await;
        }
    }

    /// The process dies. What comes back is the disk.
    fn die(&mut self, step: Step, power: bool, seed: u64) -> SimStorage {
        // Nothing has an effect on a partner from here on, and then the disk is as it is.
        self.all_do(&Does::Dead);
        self.life += 1;
        self.partners.iter().for_each(|partner| partner.port.hears_only(self.life));
        let moment = self.disk.kill();
        self.disk.set_sync_delay(Duration::ZERO);
        if !power {
            return moment;
        }
        // An acknowledgement may be on the disk by chance; that is another step.
        let lost = |disk: &SimStorage| {
            let engine = open(&disk.kill());
            let lost = self.partners.iter().all(|p| !pending(&engine, p).is_empty());
            engine.close().unwrap();
            lost
        };
        let mut disks = (seed..seed + 64).map(|seed| moment.crash(seed));
        let disk = disks.find(|disk| step != Step::Answered || lost(disk));
        disk.expect("some loss of power takes every acknowledgement")
    }

    /// A life that ends at a step; in the next one nobody is there yet.
    async fn live(&mut self, step: Step, power: bool, seed: u64) {
        self.come_to(step, power).await;
        self.disk = self.die(step, power, seed);
        let engine = open(&self.disk);
        for partner in &mut self.partners {
            partner.first();
            (partner.before, partner.waits) = (partner.sent(), pending(&engine, partner));
            match step {
                Step::Acknowledged => assert_eq!(partner.waits, Vec::<String>::new()),
                // The page cache of a killed process has the acknowledgement.
                Step::Answered if !power => {}
                _ => assert!(!partner.waits.is_empty(), "{step:?}: {}", partner.config.name),
            }
        }
        let old = std::mem::replace(&mut self.shop.engine, engine);
        let handle = deliver(&self.shop.engine, &self.partners, self.life);
        // Of before nobody is left who could send something.
        let dead = std::mem::replace(&mut self.handle, handle);
        dead.shutdown(Duration::ZERO).await.ok();
        old.close().unwrap();
    }

    fn is_paused(&self) -> bool {
        self.handle.snapshot().iter().any(|sink| sink.state == "paused")
    }

    /// Partners answer, and what waited goes out.
    async fn recover(&self) {
        self.all_do(&Does::Answers);
        if self.is_paused() {
            self.wish_all(|| Wish::Resume).await;
        }
        for partner in self.partners.iter().filter(|partner| !partner.waits.is_empty()) {
            until("what waited goes out", || partner.first().is_some()).await;
        }
    }

    /// Everything is with everybody, once.
    async fn audit(&self, what: &str) {
        self.handle.drain(PATIENCE).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(self.shop.committed(), self.shop.sold, "{what}");
        for partner in &self.partners {
            let erp = partner.port.link().erp();
            erp.audit(&[]);
            let mut bytes = BTreeMap::new();
            for (id, body) in &erp.sent {
                let before = bytes.entry(id).or_insert(body);
                assert_eq!(*before, body, "{what}: {id} went out with other bytes");
            }
            let name = &partner.config.name;
            match partner.config.domain {
                Domain::Inventory => assert_eq!(erp.sold(), self.shop.sold, "{what}: {name}"),
                Domain::Fulfilment => assert_eq!(erp.to_pick(), self.shop.sold, "{what}: {name}"),
                Domain::Finance => {
                    let owed = self.shop.paid - self.settled;
                    assert_eq!(erp.balance("receivable"), owed, "{what}: {name}");
                }
                Domain::Stream => {
                    let count = |word: &str| {
                        let of = |(_, event): &&(_, serde_json::Value)| {
                            event["type"].as_str().unwrap().contains(word)
                        };
                        erp.effect.iter().filter(of).count() as u64
                    };
                    assert_eq!(count("order.placed"), self.shop.orders, "{what}: {name}");
                    assert_eq!(count("settle"), self.settlements, "{what}: {name}");
                }
            }
        }
    }

    async fn close(self) {
        self.handle.shutdown(PATIENCE).await.unwrap();
        self.shop.engine.close().unwrap();
    }
}

/// The names of a sink's batches that are not acknowledged, in the order of their seals.
fn pending(engine: &Engine<SimStorage>, partner: &Partner) -> Vec<String> {
    let name = &partner.config.name;
    let states = engine.sink_states();
    let pending = states.get(name).map_or(&[][..], |state| &state.pending);
    let id = |number| holdfast::model::sink::batch_name(name, engine.log().incarnation(), number);
    pending.iter().map(|pending| id(pending.number)).collect()
}

async fn dies_at_every_step(power: bool) {
    let mut house = House::open().await;
    for (n, step) in (0..).zip(STEPS) {
        house.live(step, power, 100 * n).await;
        house.recover().await;
        house.audit(&format!("{step:?}, power lost: {power}")).await;
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_at_a_step_leaves_every_effect_once() {
    dies_at_every_step(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_loses_power_at_a_step_leaves_every_effect_once() {
    dies_at_every_step(true).await;
}

/// Without a moment of peace in between: what one life left is what the next one dies with.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_deaths_leaves_every_effect_once() {
    for seed in 0..2 {
        let mut random = Random(seed);
        let mut house = House::open().await;
        let mut steps = Vec::new();
        for _ in 0..8 {
            let (step, power) = (STEPS[random.below(8) as usize], random.below(2) == 0);
            steps.push((step, power));
            house.live(step, power, random.next_u64() >> 8).await;
        }
        house.recover().await;
        house.audit(&format!("seed {seed}: {steps:?}")).await;
        house.close().await;
    }
}
