//! Pick waves and a stream of events over the real engine and real HTTP: the warehouse ends up with what
//! the ledger says is to be picked, and the stream with every event once, whatever happens on the way.

use std::collections::BTreeMap;

use crate::far_common::{PATIENCE, Shop, location, options, order, order_id};
use holdfast::{
    config::{Domain, FilterConfig, SinkConfig},
    engine::{Engine, Key},
    model::{
        IdempotencyKey, Quantity, Timestamp,
        command::{Cancel, Priority, ReleaseLine},
    },
    sinks::{
        self,
        receiver::{Behaviour, Receiver},
    },
    wal::sim::SimStorage,
};

const ORDERS: u64 = 300;

/// Places order number `n` at both locations, with one of three priorities; of every third one line is called
/// off later.
fn place(shop: &Shop<SimStorage>, n: u64) {
    let key: IdempotencyKey = format!("order-{n}").parse().unwrap();
    let mut place = order(n, shop.skus);
    place.priority = [Priority::Express, Priority::Standard, Priority::Bulk][(n / 2) as usize % 3];
    place.promised_ship_at =
        (!n.is_multiple_of(4)).then(|| Timestamp::from_millis(1_764_000_000_000 - n % 7));
    for (i, line) in (0..).zip(&mut place.lines) {
        line.location = Some(location(n + i));
    }
    let decision = shop.engine.place_order(Key::new("", &key), &place);
    shop.engine.settle_blocking(decision).unwrap();
}

fn cancel(shop: &Shop<SimStorage>, n: u64) {
    let key: IdempotencyKey = format!("cancel-{n}").parse().unwrap();
    let line = order(n, shop.skus).lines[0].clone();
    let cancel = Cancel {
        cancellation_id: format!("C-{n}").parse().unwrap(),
        lines: Some(vec![ReleaseLine {
            sku: line.sku,
            location: Some(location(n)),
            quantity: Quantity::new(1).unwrap(),
        }]),
    };
    let decision = shop.engine.cancel(Key::new("", &key), &order_id(n), &cancel);
    shop.engine.settle_blocking(decision).unwrap();
}

fn quick(name: &str, domain: Domain, receiver: &Receiver) -> SinkConfig {
    SinkConfig {
        window_ms_max: 20,
        retry_initial_ms: 2,
        retry_max_ms: 50,
        timeout_ms: 5_000,
        ..SinkConfig::new(name, domain, receiver.url())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn warehouse_and_stream_end_up_with_what_the_ledger_says() {
    let storage = SimStorage::new();
    let shop = Shop::open(Engine::open_on(storage, options()).unwrap(), 20);
    let start = || Receiver::start(Behaviour::default());
    let (all, berlin, stream) =
        (start().await.unwrap(), start().await.unwrap(), start().await.unwrap());
    let filter = FilterConfig { locations: vec![location(0)], ..FilterConfig::default() };
    let configs = vec![
        quick("wms", Domain::Fulfilment, &all),
        SinkConfig { filter, ..quick("wms-ber", Domain::Fulfilment, &berlin) },
        quick("events", Domain::Stream, &stream),
    ];
    let runtime = tokio::runtime::Handle::current();
    let handle = sinks::start(&shop.engine, configs, &runtime).unwrap();
    for n in 0..ORDERS {
        match n {
            100 => all.behave(|b| b.lose_answers = true),
            200 => all.behave(|b| b.lose_answers = false),
            _ => {}
        }
        place(&shop, n);
        if n >= 9 && n.is_multiple_of(3) {
            cancel(&shop, n - 9);
        }
        if n.is_multiple_of(25) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    handle.drain(PATIENCE).await.unwrap();
    let (all, berlin, stream) = (all.totals(), berlin.totals(), stream.totals());
    for totals in [&all, &berlin, &stream] {
        assert_eq!(totals.violations, Vec::<String>::new());
    }
    assert!(all.repeats > 0 && all.batches > 6, "{} {}", all.repeats, all.batches);
    let committed = shop.committed();
    assert_eq!(committed.len(), 20);
    let told = |picks: &BTreeMap<(String, String), i64>| {
        picks.clone().into_iter().filter(|(_, units)| *units != 0).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(told(&all.to_pick), committed);
    let mut ours = committed;
    ours.retain(|(_, at), _| *at == location(0).as_str());
    assert_eq!(told(&berlin.to_pick), ours);
    let expected = [
        ("holdfast.order.cancelled.v1", ORDERS / 3 - 3),
        ("holdfast.order.placed.v1", ORDERS),
        ("holdfast.stock.set.v1", 2 * 20),
    ];
    assert_eq!(stream.stream, expected.map(|(t, n)| (t.to_owned(), n)).into());
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
}
