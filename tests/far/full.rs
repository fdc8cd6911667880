//! A log that is full of what partners have not got: everything that is open can be ended, and once the
//! partners are back it all drains without help.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::far_common::{PATIENCE, Shop, location, options, order, order_id, settle, sku};
use holdfast::{
    config::{Domain, SinkConfig},
    engine::{Engine, Key, Options, Refusal},
    model::{
        Quantity,
        command::{Note, Ship, ShipLine},
    },
    sinks::{
        self,
        receiver::{Behaviour, Receiver},
    },
    wal::{Storage, sim::SimStorage},
};

const DOMAINS: [Domain; 4] =
    [Domain::Inventory, Domain::Fulfilment, Domain::Finance, Domain::Stream];

fn tight() -> Options {
    let mut options = options();
    options.wal.segment_bytes = 256 << 10;
    options.wal.budget_bytes = 6 << 20;
    options.wal.unsynced_bytes_max = 1 << 20;
    options.wal.room_wait_ms_max = 2_000;
    Options { checkpoint_bytes: 512 << 10, retention_ms: 200, ..options }
}

fn place<S: Storage>(shop: &Shop<S>, n: u64) -> Result<(), Refusal> {
    let mut place = order(3 * n, shop.skus);
    place.order_id = order_id(n);
    place.lines[0].sku = sku(n % shop.skus);
    place.lines[0].location = Some(location(0));
    place.lines[0].quantity = Some(Quantity::new(1).unwrap());
    let key = format!("order-{n}").parse().unwrap();
    shop.engine.settle_blocking(shop.engine.place_order(Key::new("", &key), &place)).map(drop)
}

fn ship<S: Storage>(shop: &Shop<S>, n: u64) {
    let line = ShipLine {
        sku: sku(n % shop.skus),
        location: Some(location(0)),
        quantity: Quantity::new(1).unwrap(),
    };
    let shipment_id = format!("S-{n}").parse().unwrap();
    let ship = Ship { shipment_id, lines: vec![line], carrier: None, tracking: None };
    let key = format!("ship-{n}").parse().unwrap();
    let shipped = shop.engine.ship(Key::new("", &key), &order_id(n), &ship);
    assert_eq!((n, shop.engine.settle_blocking(shipped).map(drop)), (n, Ok(())));
}

fn note<S: Storage>(shop: &Shop<S>, n: u64) -> Result<(), Refusal> {
    let note = Note { note_id: format!("N-{n}").parse().unwrap(), text: "a note".repeat(100) };
    let key = format!("note-{n}").parse().unwrap();
    let noted = shop.engine.note(Key::new("", &key), &order_id(n % 1_000), &note);
    shop.engine.settle_blocking(noted).map(drop)
}

/// Places orders until the log is full of them, ships and settles each, and uses up what is left by notes;
/// how many orders there are.
fn fill<S: Storage>(shop: &Shop<S>) -> u64 {
    let mut orders = 0;
    let refusal = loop {
        match place(shop, orders) {
            Ok(()) => orders += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, Refusal::LogFull);
    (0..orders).for_each(|n| {
        ship(shop, n);
        settle(&shop.engine, n, 100);
    });
    let noted = (0..100_000).map(|n| note(shop, n)).find(Result::is_err);
    assert_eq!(noted, Some(Err(Refusal::LogFull)), "the reserve of orders has an end");
    orders
}

#[test]
fn what_fills_the_log_in_an_outage_can_all_be_ended_and_drains_without_help() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let behaviour = Behaviour { outage: true, ..Behaviour::default() };
    let start = || runtime.block_on(Receiver::start(behaviour.clone())).unwrap();
    let partners: Vec<_> = DOMAINS.iter().map(|_| start()).collect();
    let engine = Engine::open_on(SimStorage::new(), tight()).unwrap();
    let shop = Shop::open(engine, 100);
    let config = |(n, partner): (usize, &Receiver)| SinkConfig {
        window_ms_max: 20,
        retry_initial_ms: 2,
        retry_max_ms: 50,
        timeout_ms: 5_000,
        ..SinkConfig::new(format!("sink-{n}"), DOMAINS[n], partner.url())
    };
    let configs = partners.iter().enumerate().map(config).collect();
    let handle = sinks::start(&shop.engine, configs, runtime.handle()).unwrap();
    let orders = fill(&shop);
    assert!(orders > 1_000, "{orders}");

    partners.iter().for_each(|partner| partner.behave(|b| b.outage = false));
    let drained = runtime.block_on(handle.drain(PATIENCE));
    assert!(drained.is_ok(), "{drained:?}: {:?} of {orders} orders", shop.engine.log().stats());
    let [stock, warehouse, books, stream] = [0, 1, 2, 3].map(|n: usize| partners[n].totals());
    assert_eq!((stock.moved("sold"), stock.moved("shipped")), (orders as i64, orders as i64));
    // What left before a wave was made is in none.
    assert!((1..=orders).contains(&warehouse.picks), "{}", warehouse.picks);
    assert_eq!(books.balance("EUR", "settlement_clearing"), i128::from(orders) * 97);
    for event in ["order.placed", "order.shipped", "order.settled"] {
        let events = stream.stream.get(&format!("holdfast.{event}.v1"));
        assert_eq!(events, Some(&orders), "{event} in {:?}", stream.stream);
    }
    for told in [stock, warehouse, books, stream] {
        assert_eq!(told.violations, Vec::<String>::new());
    }
    // And it sells again.
    let deadline = Instant::now() + PATIENCE;
    while let Err(refusal) = place(&shop, orders) {
        assert!(refusal == Refusal::LogFull && Instant::now() < deadline, "{refusal:?}");
        thread::sleep(Duration::from_millis(20));
    }
    runtime.block_on(handle.shutdown(PATIENCE)).unwrap();
    shop.engine.close().unwrap();
}
