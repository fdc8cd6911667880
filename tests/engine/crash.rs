//! Crash images of the engine, two crashes deep.
//!
//! Threads do random operations on an engine over the simulated disk, with checkpoints in between. At
//! some moment the power goes: what was not synced is there, is not, or is torn, page by page. From one
//! moment many such images are made. Each must open, and then:
//!
//! - the log obeys law 1 in every prefix, and the tables (made of a checkpoint and the tail) are what
//!   the whole log says (see [`crate::common::Audit`]): stock is conserved, no position is below zero;
//! - whatever could have been acknowledged before the moment is there: a repeat of each such request
//!   gets the first answer again, as does what names an order's event by its own id under another key;
//! - nothing is invented: every reservation, order and event of an order that is found is one that was
//!   decided.
//!
//! Then it happens again: in the middle of opening (a sync fails, then the power goes), or after more
//! was done with what was found.
//!
//! `HOLDFAST_CRASH_IMAGES` sets how many images are opened; `HOLDFAST_CRASH_SEED` where the seeds begin.

mod asked;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::common::*;
use asked::{Asked, Known};
use holdfast::{
    Answer, Decision, Engine, Key, Options, Refusal,
    model::{
        Lsn, OrderId, ReservationId,
        command::{
            AdjustStock, AdjustmentReason, ChangeLines, Commit, Extend, PlaceOrder, Release,
            Reserve,
        },
        fact::FactKind,
        view::{FactView, OrderView, PositionView, ReservationView},
    },
    wal::{
        Ack,
        sim::{Random, SimStorage},
    },
};

const IMAGES_A_MOMENT: u64 = 16;
const SKUS: [&str; 3] = ["A", "B", "C"];
const LOCATIONS: [&str; 2] = ["BER", "MUC"];

/// A request with its key.
#[derive(Debug, Clone)]
enum Act {
    Reserve(Reserve),
    Commit(ReservationId, Commit),
    Release(ReservationId, Release),
    Extend(ReservationId, Extend),
    Change(ReservationId, ChangeLines),
    Place(PlaceOrder),
    Adjust(AdjustStock),
    Ask(OrderId, Asked),
}

/// What was decided.
#[derive(Debug, Clone)]
enum Decided {
    Reservation(Decision<ReservationView>),
    Order(Decision<OrderView>),
    Position(Decision<PositionView>),
    Fact(Decision<FactView>),
}

/// What was said of it.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Reservation(ReservationView),
    Order(OrderView),
    Position(PositionView),
    Fact(FactView),
}

impl Decided {
    fn lsn(&self) -> Option<Lsn> {
        match self {
            Self::Reservation(d) => d.lsn(),
            Self::Order(d) => d.lsn(),
            Self::Position(d) => d.lsn(),
            Self::Fact(d) => d.lsn(),
        }
    }

    fn settle(self, engine: &SimEngine) -> Result<Answer<Said>, Refusal> {
        fn map<T>(answer: Answer<T>, to: fn(T) -> Said) -> Answer<Said> {
            let Answer { value, replayed, current_state, created } = answer;
            Answer { value: to(value), replayed, current_state, created }
        }
        match self {
            Self::Reservation(d) => engine.settle_blocking(d).map(|a| map(a, Said::Reservation)),
            Self::Order(d) => engine.settle_blocking(d).map(|a| map(a, Said::Order)),
            Self::Position(d) => engine.settle_blocking(d).map(|a| map(a, Said::Position)),
            Self::Fact(d) => engine.settle_blocking(d).map(|a| map(a, Said::Fact)),
        }
    }
}

fn decide(engine: &SimEngine, key: &str, act: &Act) -> Decided {
    let name = id(key);
    let key = Key::new("p", &name);
    match act {
        Act::Reserve(reserve) => Decided::Reservation(engine.reserve(key, reserve)),
        Act::Commit(of, commit) => Decided::Reservation(engine.commit(key, *of, commit)),
        Act::Release(of, release) => Decided::Reservation(engine.release(key, *of, release)),
        Act::Extend(of, extend) => Decided::Reservation(engine.extend(key, *of, extend)),
        Act::Change(of, change) => Decided::Reservation(engine.change_lines(*of, change, None)),
        Act::Place(order) => Decided::Order(engine.place_order(key, order)),
        Act::Adjust(adjust) => Decided::Position(engine.adjust_stock(key, adjust)),
        Act::Ask(of, asked) => Decided::Fact(asked.decide(engine, key, of)),
    }
}

/// A step: its key, its request, and what was decided.
type Step = (String, Act, Decided);

/// Thinks of the next step of one who knows some reservations.
fn think(random: &mut Random, name: &str, known: &[ReservationId]) -> Act {
    let sku = |random: &mut Random| SKUS[random.below(3) as usize];
    let mut lines = Vec::new();
    for _ in 0..1 + random.below(3) {
        let mut one = line(sku(random), 1 + random.below(3) as u32);
        match random.below(4) {
            0 => one.location = Some(id(LOCATIONS[random.below(2) as usize])),
            1 => one.split = false,
            _ => {}
        }
        lines.push(one);
    }
    let of = known.get(random.below(known.len() as u64) as usize).copied();
    let skus: Vec<_> = SKUS.into_iter().filter(|s| random.below(2) == 0 || *s == "A").collect();
    match (random.below(20), of) {
        (0..=1, Some(of)) => Act::Release(of, Release::default()),
        (2..=3, Some(of)) => Act::Release(of, part(sku(random), 1)),
        (4..=7, Some(of)) => Act::Commit(of, sale(&format!("O{name}"), &skus)),
        (8, Some(of)) => Act::Extend(of, Extend { ttl_ms: 3_600_000 + random.below(1000) }),
        (9..=10, Some(of)) => Act::Change(of, ChangeLines { lines }),
        (11, _) => Act::Adjust(AdjustStock {
            sku: id(sku(random)),
            location: id(LOCATIONS[random.below(2) as usize]),
            delta: 1 + random.below(20) as i64,
            reason: AdjustmentReason::Receipt,
            reference: None,
            allow_shortfall: false,
        }),
        (12, Some(of)) => Act::Place(order_of(&format!("O{name}"), &[of], &skus)),
        (13..=14, _) => {
            // One price a SKU, so one line a SKU.
            let mut seen = HashSet::new();
            lines.retain(|line| seen.insert(line.sku.clone()));
            Act::Place(order_now(&format!("O{name}"), &lines))
        }
        _ => Act::Reserve(Reserve {
            customer: (random.below(2) == 0).then(|| id(&format!("c{}", random.below(5)))),
            order_id: (random.below(4) == 0).then(|| id(&format!("O{name}"))),
            ttl_ms: (random.below(10) == 0).then_some(1 + random.below(5)),
            ..cart(&lines)
        }),
    }
}

/// What happens next to one of the orders that one knows: something new, or, under another key, what
/// was asked for before.
fn think_of_order(random: &mut Random, name: &str, known: &[Known], steps: &[Step]) -> Option<Act> {
    if random.below(3) > 0 || known.is_empty() {
        return None;
    }
    if random.below(6) == 0 {
        let back = steps.iter().rev().filter(|(_, act, _)| matches!(act, Act::Ask(..)));
        return back.map(|(_, act, _)| act.clone()).nth(random.below(8) as usize);
    }
    // Mostly a late one, of which more is open.
    let back = random.below(6).min(known.len() as u64 - 1) as usize;
    let of = match random.below(4) {
        0 => &known[random.below(known.len() as u64) as usize],
        _ => &known[known.len() - 1 - back],
    };
    Some(Act::Ask(of.order.clone(), of.think(random, name)))
}

/// Remembers the order that a step made, or the return that it authorised.
fn remember(orders: &mut Vec<Known>, act: &Act, decided: &Decided) {
    if decided.lsn().is_none() {
        return;
    }
    match act {
        Act::Place(order) => {
            let skus = order.lines.iter().map(|line| line.sku.clone());
            orders.push(Known::new(order.order_id.clone(), skus.collect()));
        }
        Act::Commit(_, Commit { order_id: Some(order), lines, .. }) => {
            let skus = lines.iter().map(|line| line.sku.clone());
            orders.push(Known::new(order.clone(), skus.collect()));
        }
        Act::Ask(order, Asked::Return(back)) => {
            let of = orders.iter_mut().find(|known| known.order == *order);
            of.into_iter().for_each(|known| known.authorised(back));
        }
        _ => {}
    }
}

/// One who does step after step until told to stop, and knows some orders already.
fn work(
    engine: &SimEngine,
    name: &str,
    seed: u64,
    mut orders: Vec<Known>,
    go_on: impl Fn(u64) -> bool,
) -> Vec<Step> {
    let mut random = Random(seed);
    let mut steps: Vec<Step> = Vec::new();
    let mut known = Vec::new();
    for n in 0.. {
        if !go_on(n) {
            break;
        }
        if let Some((key, act, _)) = steps.get(random.below(400) as usize).cloned() {
            steps.push((key.clone(), act.clone(), decide(engine, &key, &act)));
            continue;
        }
        let key = format!("{name}-{n}");
        let act = think_of_order(&mut random, &key, &orders, &steps);
        let act = act.unwrap_or_else(|| think(&mut random, &key, &known));
        let decided = decide(engine, &key, &act);
        remember(&mut orders, &act, &decided);
        if matches!(act, Act::Reserve(_)) && random.below(2) == 0 {
            // Some wait for their answer before they go on, others never do.
            if let Ok(Answer { value: Said::Reservation(view), .. }) =
                decided.clone().settle(engine)
            {
                known.push(view.id);
            }
        }
        steps.push((key, act, decided));
    }
    steps
}

fn options(random: &mut Random) -> Options {
    let mut options = small();
    options.wal.segment_bytes = 16 * KIB;
    options.wal.unsynced_bytes_max = 64 * KIB;
    options.wal.idle_mark_ms = 1 + random.below(10);
    options.wal.room_wait_ms_max = 10_000;
    options.wal.ack = if random.below(2) == 0 { Ack::Disk } else { Ack::Memory };
    options.sourcing = vec![id("MUC")];
    options
}

/// What must be found in an image: answers by key, and everything that may be found.
#[derive(Clone, Default)]
struct Expected {
    acked: Vec<(String, Act, Said)>,
    reservations: HashSet<ReservationId>,
    orders: HashMap<String, Lsn>,
    facts: HashSet<Lsn>,
}

impl Expected {
    /// Adds steps whose answers were acknowledged if their records stand below `durable`.
    fn add(&mut self, engine: &SimEngine, steps: Vec<Step>, durable: Lsn) {
        for (key, act, decided) in steps {
            let lsn = decided.lsn();
            let Ok(answer) = decided.settle(engine) else { continue };
            match &answer.value {
                Said::Reservation(view) => {
                    self.reservations.insert(view.id);
                    self.orders.extend(view.order_id.as_ref().map(|o| (o.to_string(), view.lsn)));
                }
                Said::Order(view) => {
                    self.reservations.extend(&view.reservations);
                    self.orders.insert(view.order_id.to_string(), view.lsn);
                }
                Said::Position(_) => {}
                Said::Fact(view) => _ = self.facts.insert(view.lsn),
            }
            let keyed = !matches!(act, Act::Change(..));
            if keyed && lsn.is_some_and(|lsn| lsn < durable) {
                self.acked.push((key, act, answer.value));
            }
        }
    }

    /// Checks what is found in an image, and returns the orders that are.
    fn check(&self, engine: &SimEngine, seed: u64) -> Vec<Known> {
        let audit = Audit::of(engine);
        audit.agrees(engine);
        for id in audit.reservations.keys() {
            assert!(self.reservations.contains(id), "seed {seed}: {id} was invented");
        }
        for (order, said) in &audit.orders {
            assert_eq!(self.orders.get(order), Some(&Lsn(said.placed)), "seed {seed}: {order}");
            for (lsn, kind, own, _) in &said.facts {
                let decided = self.facts.contains(&Lsn(*lsn));
                assert!(decided, "seed {seed}: {kind:?} {own} of {order} was invented");
            }
        }
        let appended = engine.log().appended();
        for (key, act, said) in &self.acked {
            let again = decide(engine, key, act).settle(engine);
            match &again {
                Ok(answer) => {
                    assert_eq!(answer.value, *said, "seed {seed}: {key} {act:?}");
                    assert!(answer.replayed || !answer.created, "seed {seed}: {key} {act:?}");
                }
                Err(why) => panic!("seed {seed}: {key} {act:?} was acknowledged; now: {why}"),
            }
        }
        // Marks of the log itself and expiries may come, but no repeat has written anything.
        let audit_after = Audit::of(engine);
        assert_eq!(audit_after.granted, audit.granted, "seed {seed}: from {appended}");
        assert_eq!(audit_after.orders, audit.orders, "seed {seed}");
        let mut found: Vec<_> = audit.orders.iter().map(|(name, o)| (o.placed, name)).collect();
        found.sort_unstable();
        let known = |name: &str| Known::new(id(name), SKUS.map(id).to_vec());
        found.into_iter().map(|(_, name)| known(name)).collect()
    }
}

/// Lets threads work on an engine and takes images of the disk while they do.
fn run(storage: &SimStorage, options: &Options, seed: u64) -> (Expected, Vec<SimStorage>) {
    let mut random = Random(seed);
    let engine = open(storage, options);
    engine.hold_log("audit", Lsn(0));
    let setup = Shop(engine.clone());
    for sku in SKUS {
        for location in LOCATIONS {
            setup.set(sku, location, &stock_of(20 + random.below(80) as u32)).unwrap();
        }
    }
    setup.set("B", "BER", &limited(50, 30)).unwrap();
    all_durable(&engine);
    storage.set_sync_delay(Duration::from_micros(random.below(3) * random.below(600)));
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let all = Mutex::new(Vec::new());
    let enough = 10 + random.below(300);
    let mut durable = Lsn(0);
    let mut images = Vec::new();
    thread::scope(|scope| {
        for worker in 0..2 {
            let (engine, stop, done, all) = (&engine, &stop, &done, &all);
            scope.spawn(move || {
                let go_on = |_| {
                    done.fetch_add(1, Ordering::Relaxed);
                    !stop.load(Ordering::Relaxed)
                };
                let steps =
                    work(engine, &format!("w{worker}"), seed ^ worker << 40, Vec::new(), go_on);
                all.lock().unwrap().extend(steps);
            });
        }
        while done.load(Ordering::Relaxed) < enough {
            match random.below(12) {
                0..=1 => storage.write_back(random.next_u64()),
                2 => engine.checkpoint().unwrap(),
                _ => {}
            }
            thread::sleep(Duration::from_micros(random.below(300)));
        }
        if random.below(4) == 0 {
            // In the middle of a checkpoint.
            scope.spawn(|| engine.checkpoint().unwrap());
            thread::sleep(Duration::from_micros(random.below(2_000)));
        }
        durable = engine.log().durable();
        let killed = random.below(4) == 0;
        for _ in 0..IMAGES_A_MOMENT {
            let seed = random.next_u64();
            images.push(if killed { storage.kill().crash(seed) } else { storage.crash(seed) });
        }
        stop.store(true, Ordering::Relaxed);
    });
    storage.set_sync_delay(Duration::ZERO);
    let mut expected = Expected::default();
    expected.add(&engine, all.into_inner().unwrap(), durable);
    (expected, images)
}

/// Opens an image; may crash it in the middle of that first.
fn open_image(
    image: SimStorage,
    options: &Options,
    random: &mut Random,
) -> (SimStorage, SimEngine) {
    let mut image = image;
    if random.below(4) == 0 {
        image.fail_sync(random.below(8));
        match Engine::open_on(image.clone(), options.clone()) {
            Err(holdfast::Error::Wal(_) | holdfast::Error::Poisoned(_)) => {}
            Err(other) => panic!("{other}"),
            // Opened before its turn came: the failure is one of the running log's.
            Ok(engine) => drop(engine),
        }
        let seed = random.next_u64();
        image = if random.below(3) == 0 { image.kill() } else { image.crash(seed) };
    }
    let engine = open(&image, options);
    engine.hold_log("audit", Lsn(0));
    (image, engine)
}

/// One moment: its images, and the second crash of each. Returns how many images were opened, and adds
/// the kinds of events of orders that were acknowledged.
fn moment(seed: u64, kinds: &Mutex<HashSet<FactKind>>) -> u64 {
    let mut random = Random(seed);
    let options = options(&mut random);
    let (expected, images) = run(&SimStorage::new(), &options, seed);
    kinds.lock().unwrap().extend(expected.acked.iter().filter_map(|(_, _, said)| match said {
        Said::Fact(view) => Some(view.kind),
        _ => None,
    }));
    // What is looked at does not expire meanwhile.
    let options = Options { overdue_grace_ms: 3_600_000, ..options };
    let mut opened = 0;
    for image in images {
        let mut expected = expected.clone();
        let (image, engine) = open_image(image, &options, &mut random);
        let found = expected.check(&engine, seed);
        let steps_max = random.below(40);
        let name = format!("again{}", random.next_u64());
        let steps = work(&engine, &name, random.next_u64(), found, |n| n < steps_max);
        if random.below(3) == 0 {
            engine.checkpoint().unwrap();
        }
        let durable = engine.log().durable();
        let second = image.crash(random.next_u64());
        expected.add(&engine, steps, durable);
        drop(engine);
        let (_, engine) = open_image(second, &options, &mut random);
        expected.check(&engine, seed);
        opened += 2;
    }
    opened
}

#[test]
fn what_was_acknowledged_is_found_and_nothing_is_invented() {
    let images = setting("HOLDFAST_CRASH_IMAGES", 8_000);
    let next = AtomicU64::new(setting("HOLDFAST_CRASH_SEED", 1));
    let opened = AtomicU64::new(0);
    let kinds = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while opened.load(Ordering::Relaxed) < images {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    opened.fetch_add(moment(seed, &kinds), Ordering::Relaxed);
                }
            });
        }
    });
    assert!(opened.load(Ordering::Relaxed) >= images);
    // A run that is long enough has seen every kind.
    let kinds = kinds.into_inner().unwrap();
    assert!(images < 1_000 || kinds.len() == 8, "only {kinds:?} were acknowledged");
}
