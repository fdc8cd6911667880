//! A burst against partners with limits, over the real engine, the real delivery and real HTTP: few
//! calls, and everything arrives once; and an express order does not wait behind a backlog of others.

use std::time::Duration;

use crate::far_common::{PATIENCE, Shop, options, order, order_id, sku, until};
use holdfast::{
    config::{Domain, Policy, SinkConfig},
    engine::{Engine, Key, Options},
    model::{
        IdempotencyKey, Quantity,
        command::{Priority, Ship},
    },
    sinks::{
        self,
        receiver::{Behaviour, Receiver},
    },
    wal::sim::SimStorage,
};

const ORDERS: u64 = 100_000;
const SKUS: u64 = 1_000;

fn shop(skus: u64) -> Shop<SimStorage> {
    let options = Options { keys_max: 500_000, ..options() };
    Shop::open(Engine::open_on(SimStorage::new(), options).unwrap(), skus)
}

fn key(text: &str) -> IdempotencyKey {
    text.parse().unwrap()
}

/// Places an order of one line; whoever calls waits for what is durable.
fn place(shop: &Shop<SimStorage>, n: u64, priority: Priority) -> holdfast::model::Lsn {
    let mut place = order(3 * n, shop.skus);
    place.order_id = order_id(n);
    place.lines[0].sku = sku(n * 7 % shop.skus);
    place.lines[0].location = Some(crate::far_common::location(0));
    place.lines[0].quantity = Some(Quantity::new(1).unwrap());
    place.priority = priority;
    shop.engine.place_order(Key::new("", &key(&format!("order-{n}"))), &place).lsn().unwrap()
}

fn ship(shop: &Shop<SimStorage>, n: u64) -> holdfast::model::Lsn {
    let (sku, location) = (sku(n * 7 % shop.skus), crate::far_common::location(0));
    let json = format!(
        r#"{{"shipment_id":"S-{n}","lines":[{{"sku":"{sku}","location":"{location}","quantity":1}}]}}"#
    );
    let ship: Ship = serde_json::from_str(&json).unwrap();
    let key = key(&format!("ship-{n}"));
    shop.engine.ship(Key::new("", &key), &order_id(n), &ship).lsn().unwrap()
}

/// 100,000 orders over 1,000 SKUs, all shipped: 200,000 events, and an ERP that takes 20 calls a second.
/// It needs at most one call for 500 events, and is told every unit once.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_reaches_a_limited_erp_in_few_calls() {
    let shop = shop(SKUS);
    let behaviour = Behaviour { rate_per_s: Some(20), ..Behaviour::default() };
    let erp = Receiver::start(behaviour).await.unwrap();
    let config = SinkConfig {
        rate_per_s: Some(20.0),
        ..SinkConfig::new("erp", Domain::Inventory, erp.url())
    };
    let runtime = tokio::runtime::Handle::current();
    let handle = sinks::start(&shop.engine, vec![config], &runtime).unwrap();
    handle.drain(PATIENCE).await.unwrap();
    let before = erp.totals();
    let calls = || {
        let attempts = handle.snapshot()[0].attempts;
        attempts.done + attempts.refused + attempts.denied + attempts.failed
    };
    let calls_before = calls();
    let shop = tokio::task::spawn_blocking(move || {
        for n in 0..ORDERS {
            place(&shop, n, Priority::Standard);
            let lsn = ship(&shop, n);
            if n % 1_000 == 0 {
                shop.engine.log().wait_blocking(lsn).unwrap();
            }
        }
        shop
    });
    let shop = shop.await.unwrap();
    handle.drain(PATIENCE).await.unwrap();
    let (told, calls) = (erp.totals(), calls() - calls_before);
    assert_eq!(told.violations, Vec::<String>::new());
    assert_eq!(told.events - before.events, 2 * ORDERS);
    assert!(calls <= 2 * ORDERS / 500, "{calls} calls");
    for n in 0..SKUS {
        let at = |movement: &str| {
            let place = (sku(n).to_string(), crate::far_common::location(0).to_string());
            let key = (place.0, place.1, movement.to_owned());
            told.movements.get(&key).copied().unwrap_or_default()
        };
        assert_eq!((at("sold"), at("shipped")), (100, 100), "{}", sku(n));
    }
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
}

/// A warehouse takes one call at a time, each takes 200 ms, and two lanes have a backlog of many calls:
/// an express order arrives after what was under way, and before all else.
#[tokio::test(flavor = "multi_thread")]
async fn an_express_order_waits_for_no_more_than_what_is_under_way() {
    let shop = shop(100);
    let latency = Duration::from_millis(200);
    let wms = Receiver::start(Behaviour { latency, ..Behaviour::default() }).await.unwrap();
    let config = SinkConfig {
        window_ms_max: 1,
        window_events_max: 50,
        lines_max: 50,
        policy: Policy { concurrency_max: 1, ..Policy::default() },
        ..SinkConfig::new("wms", Domain::Fulfilment, wms.url())
    };
    let runtime = tokio::runtime::Handle::current();
    let handle = sinks::start(&shop.engine, vec![config], &runtime).unwrap();
    let mut last = None;
    for n in 0..4_000 {
        last = Some(place(&shop, n, [Priority::Bulk, Priority::Standard][n as usize % 2]));
    }
    shop.engine.log().wait_blocking(last.unwrap()).unwrap();
    until("both lanes are at work", || wms.totals().batches >= 2).await;
    for n in 4_000..4_005 {
        let lsn = place(&shop, n, Priority::Express);
        shop.engine.log().wait_blocking(lsn).unwrap();
        let (before, depth) = (wms.totals(), || handle.snapshot()[0].lanes[0].depth);
        until("the order is sealed", || depth() == 1).await;
        let sealed = wms.totals();
        until("the warehouse has the order", || depth() == 0).await;
        let told = wms.totals();
        // Of others: what was under way when its record was durable, and what began until its seal was.
        let (all, others) = (told.batches - before.batches, told.batches - sealed.batches - 1);
        assert!(others <= 1, "{others} batches went before it");
        assert!(all <= 3, "{all} batches arrived meanwhile");
        assert!(told.picks < 2_000, "the lanes are still full");
    }
    assert_eq!(wms.totals().violations, Vec::<String>::new());
    drop(handle);
    shop.engine.close().unwrap();
}
