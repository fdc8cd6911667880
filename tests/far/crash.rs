//! The far end over crashes: a machine that loses power at any moment and any unsynced page, and a
//! process that is killed. Partners end up with exactly what the ledger says was sold, every repeated
//! batch has the bytes it had before, and the chain of the books never breaks.

use std::time::Duration;

use crate::far_common::{PATIENCE, Partners, Shop, options, order, order_id, paid, sold, until};
use holdfast::{
    engine::{Engine, Options, Refusal},
    wal::sim::{Random, SimStorage},
};

const SKUS: u64 = 8;

/// A life: sells, while partners behave as they like, until the power is cut at some moment. What
/// comes back is the disk.
async fn live(
    storage: &SimStorage,
    partners: &Partners,
    random: &mut Random,
    orders: &mut std::ops::RangeFrom<u64>,
) -> SimStorage {
    let engine = Engine::open_on(storage.clone(), options()).unwrap();
    let mut shop = Shop::open(engine, SKUS);
    storage.set_sync_delay(Duration::from_millis([0, 0, 5, 15][random.below(4) as usize]));
    partners.behave(|b| b.outage = false);
    let lose_answers = random.below(3) == 0;
    partners.behave(|b| b.lose_answers = lose_answers);
    let handle = partners.deliver(&shop.engine);
    for _ in 0..random.below(60) {
        shop.sell(orders.next().unwrap()).unwrap();
        if random.below(8) == 0 {
            tokio::time::sleep(Duration::from_millis(random.below(30))).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(random.below(60))).await;
    // The machine dies: nothing has an effect on a partner from here on, and then the disk is as it
    // is. A kill keeps what was in the page cache, a loss of power does not.
    partners.behave(|b| b.outage = true);
    let seed = random.next_u64();
    let disk = if random.below(3) == 0 { storage.kill() } else { storage.crash(seed) };
    handle.shutdown(Duration::from_millis(200)).await.ok();
    shop.engine.close().unwrap();
    disk
}

async fn lives_of(seed: u64) {
    let mut random = Random(seed);
    let partners = Partners::start().await;
    let (mut storage, mut orders) = (SimStorage::new(), 0..);
    for _ in 0..4 {
        storage = live(&storage, &partners, &mut random, &mut orders).await;
    }
    partners.behave(|b| (b.outage, b.lose_answers) = (false, false));
    let engine = Engine::open_on(storage, options()).unwrap();
    let handle = partners.deliver(&engine);
    handle.drain(PATIENCE).await.unwrap();
    let shop = Shop { engine, skus: SKUS, sold: Default::default(), paid: 0, orders: 0 };
    let (erp, books) = (partners.erp.totals(), partners.books.totals());
    assert_eq!(erp.violations, Vec::<String>::new(), "seed {seed}");
    assert_eq!(books.violations, Vec::<String>::new(), "seed {seed}");
    assert_eq!(sold(&erp), shop.committed(), "seed {seed}");
    let there = (0..orders.start).filter(|n| {
        let decision = shop.engine.order(&order_id(*n));
        shop.engine.settle_blocking(decision).is_ok()
    });
    let orders: Vec<_> = there.map(|n| order(n, SKUS)).collect();
    assert_eq!(books.orders, orders.len() as u64, "seed {seed}");
    assert_eq!(books.balance("EUR", "receivable"), orders.iter().map(paid).sum::<i128>());
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_lost_partners_have_what_the_ledger_has() {
    for seed in 0..8 {
        lives_of(seed).await;
    }
}

/// The receiver has a batch and the engine does not know: after the restart the same bytes go out
/// under the same id, first of all.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_answer_was_lost_in_a_crash_is_sent_again_as_it_was() {
    let storage = SimStorage::new();
    let mut shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), SKUS);
    let partners = Partners::start().await;
    partners.behave(|b| b.lose_answers = true);
    let handle = partners.deliver(&shop.engine);
    (0..30).for_each(|n| shop.sell(n).unwrap());
    until("both have a batch", || {
        partners.erp.totals().batches == 1 && partners.books.totals().batches == 1
    })
    .await;
    partners.behave(|b| b.outage = true);
    let disk = storage.crash(7);
    handle.shutdown(PATIENCE).await.ok();
    shop.engine.close().unwrap();
    let repeats = partners.erp.totals().repeats;

    let (sold, paid, orders) = (shop.sold, shop.paid, shop.orders);
    let engine = Engine::open_on(disk, options()).unwrap();
    let shop = Shop { engine, skus: SKUS, sold, paid, orders };
    partners.behave(|b| (b.outage, b.lose_answers) = (false, false));
    let handle = partners.deliver(&shop.engine);
    handle.drain(PATIENCE).await.unwrap();
    assert!(partners.erp.totals().repeats > repeats, "the first batch was sent again");
    // Violations would tell of other bytes under the same id, and of a chain that broke.
    partners.assert_told(&shop);
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
}

/// Seal before send: the moment a partner has a batch, no loss of power can take its seal away.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_before_its_seal_is_durable() {
    let storage = SimStorage::new();
    let mut shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), SKUS);
    let partners = Partners::start().await;
    (0..10).for_each(|n| shop.sell(n).unwrap());
    storage.set_sync_delay(Duration::from_millis(300));
    let handle = partners.deliver(&shop.engine);
    until("a batch has arrived", || {
        partners.erp.totals().batches + partners.books.totals().batches > 0
    })
    .await;
    partners.behave(|b| b.outage = true);
    let disks: Vec<_> = (0..8).map(|seed| storage.crash(seed)).collect();
    let sent = [("erp", partners.erp.totals()), ("books", partners.books.totals())];
    handle.shutdown(PATIENCE).await.ok();
    shop.engine.close().unwrap();
    for disk in disks {
        let engine = Engine::open_on(disk, options()).unwrap();
        let states = engine.sink_states();
        for (name, totals) in &sent {
            let sealed = states.get(*name).map_or(0, |state| state.last_number);
            assert!(sealed >= totals.batches, "{name}: {} sent, {sealed} sealed", totals.batches);
        }
        engine.close().unwrap();
    }
}

/// A sink to which nothing happens must not keep the log from being recycled.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_nothing_to_a_sink_does_not_pin_the_log() {
    let mut options = options();
    options.wal.segment_bytes = 256 << 10;
    options.wal.budget_bytes = 8 << 20;
    options.wal.unsynced_bytes_max = 1 << 20;
    let options = Options { checkpoint_bytes: 512 << 10, retention_ms: 200, ..options };
    let engine = Engine::open_on(SimStorage::new(), options).unwrap();
    let mut shop = Shop::open(engine, SKUS);
    let partners = Partners::start().await;
    let handle = partners.deliver(&shop.engine);
    // Three times as much log as the budget, of holds that were given back.
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut n = 0;
    while shop.engine.log().appended().0 < 24 << 20 {
        match shop.change_of_mind(n) {
            Ok(()) => n += 1,
            Err(Refusal::LogFull) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other}"),
        }
        let (oldest, status) = (shop.engine.log().oldest(), shop.engine.status());
        assert!(std::time::Instant::now() < deadline, "{oldest} {status:?}");
    }
    shop.sell(0).unwrap();
    handle.drain(PATIENCE).await.unwrap();
    partners.assert_told(&shop);
    assert!(shop.engine.log().oldest().0 > 8 << 20);
    assert_eq!(partners.books.totals().batches, 1);
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
}
