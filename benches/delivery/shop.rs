//! A shop that sells as fast as it can.

use std::{path::Path, time::Duration};

use holdfast::{
    Engine, Key, Options,
    delivery::Handle,
    model::{
        IdempotencyKey, Lsn, OrderId, Sku,
        command::{PlaceOrder, Priority, SetStock, Ship},
    },
    wal,
};

/// Orders whose durability is awaited at once.
const GROUP: u64 = 16_384;

pub fn text<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("a text that is one")
}

pub fn sku(n: u64) -> Sku {
    text(&format!("SKU-{n:06}"))
}

pub fn order_id(n: u64) -> OrderId {
    text(&format!("O-{n}"))
}

/// An engine with room for so many orders, each shipped once, and stock of so many SKUs.
pub fn open(dir: &Path, orders: u64, skus: u64) -> Engine {
    let orders = u32::try_from(orders).expect("a number of orders") + 10_000;
    let options = Options {
        wal: wal::Options { budget_bytes: 16 << 30, ..wal::Options::default() },
        reservations_max: orders,
        orders_max: orders,
        keys_max: 2 * orders,
        reservations_prepared: 2 * orders,
        checkpoint_bytes: 1 << 40,
        ..Options::default()
    };
    let engine = Engine::open(dir, options).expect("an engine");
    for n in 0..skus {
        stock(&engine, &sku(n));
    }
    engine
}

pub fn stock(engine: &Engine, sku: &Sku) {
    let set: SetStock = serde_json::from_str(r#"{"on_hand":900000000}"#).expect("stock");
    let decision = engine.set_stock(sku, &text("BER"), &set);
    engine.settle_blocking(decision).expect("stock that is set");
}

/// An order of one unit, to be changed for each.
pub fn order() -> PlaceOrder {
    let order = r#"{"order_id":"O","currency":"EUR","lines":[{"sku":"S","quantity":1,
        "unit_price":1999,"tax_code":"DE-19","tax":319}]}"#;
    serde_json::from_str(order).expect("an order")
}

/// Which orders are sold.
#[derive(Clone)]
pub struct Sale {
    pub orders: std::ops::Range<u64>,
    pub skus: u64,
    pub shipped: bool,
    pub priority: Priority,
}

/// Sells, with two threads; returns once all of it is durable.
pub fn sell(engine: &Engine, sale: &Sale) {
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || sell_half(engine, sale, thread));
        }
    });
}

fn sell_half(engine: &Engine, sale: &Sale, thread: u64) {
    let mut place = order();
    place.priority = sale.priority;
    let ship = r#"{"shipment_id":"S","lines":[{"sku":"S","quantity":1}]}"#;
    let mut ship: Ship = serde_json::from_str(ship).expect("a shipment");
    let skus: Vec<Sku> = (0..sale.skus).map(sku).collect();
    let mut last = None;
    for n in sale.orders.clone().filter(|n| n % 2 == thread) {
        let id = order_id(n);
        place.order_id = id.clone();
        place.lines[0].sku.clone_from(&skus[(n * 7 % sale.skus) as usize]);
        let key = text::<IdempotencyKey>(&format!("o-{n}"));
        last = engine.place_order(Key::new("bench", &key), &place).lsn();
        assert!(last.is_some(), "order {n} is taken");
        if sale.shipped {
            ship.lines[0].sku.clone_from(&place.lines[0].sku);
            let key = text::<IdempotencyKey>(&format!("s-{n}"));
            last = engine.ship(Key::new("bench", &key), &id, &ship).lsn();
            assert!(last.is_some(), "order {n} is shipped");
        }
        if (n / 2).is_multiple_of(GROUP) {
            durable(engine, last);
        }
    }
    durable(engine, last);
}

pub fn durable(engine: &Engine, lsn: Option<Lsn>) {
    if let Some(lsn) = lsn {
        engine.log().wait_blocking(lsn).expect("a log that goes on");
    }
}

/// Waits until every sink has everything that is durable now; windows close when they are due.
pub fn delivered(engine: &Engine, sinks: &Handle) {
    let target = engine.log().durable();
    while sinks.snapshot().iter().any(|sink| sink.acknowledged_lsn < target) {
        std::thread::sleep(Duration::from_millis(1));
    }
}
