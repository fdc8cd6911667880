//! The far end over the real engine and real HTTP: whatever partners do, they end up with exactly
//! what was sold, and one partner's trouble is no other's.

use std::{sync::Arc, time::Duration};

use crate::far_common::{PATIENCE, Partners, Shop, options, sold, until};
use holdfast::{
    config::{Domain, Overlay, SinkConfig},
    delivery::Error,
    engine::{Engine, Options},
    sinks::{self, receiver::Receiver},
    wal::{self, sim::SimStorage},
};

fn shop_on(storage: &SimStorage, skus: u64) -> Shop<SimStorage> {
    Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), skus)
}

#[tokio::test(flavor = "multi_thread")]
async fn partners_get_what_was_sold_and_nothing_of_what_was_given_back() {
    let mut shop = shop_on(&SimStorage::new(), 20);
    let partners = Partners::start().await;
    let handle = partners.deliver(&shop.engine);
    for n in 0..500 {
        shop.sell(n).unwrap();
        shop.change_of_mind(n).unwrap();
    }
    handle.drain(PATIENCE).await.unwrap();
    partners.assert_told(&shop);
    // The counts of stock that opened the shop are movements too.
    assert_eq!(partners.erp.totals().moved("adjustment"), 2 * 20 * 1_000_000);
    assert_eq!(partners.erp.totals().events, 500 + 2 * 20);
    assert_eq!(partners.books.totals().events, 500);
    for sink in handle.snapshot() {
        assert_eq!((sink.state.as_str(), sink.lag_records, sink.dead_letters), ("running", 0, 0));
        assert!(sink.batches_delivered >= 1 && sink.events_delivered >= 500, "{sink:?}");
    }
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_fails_in_every_way_ends_up_with_the_same() {
    let mut shop = shop_on(&SimStorage::new(), 20);
    let mut partners = Partners::start().await;
    let handle = partners.deliver(&shop.engine);
    for n in 0..600 {
        match n {
            100 => partners.behave(|b| b.lose_answers = true),
            200 => partners.behave(|b| (b.lose_answers, b.outage) = (false, true)),
            300 => partners.behave(|b| {
                (b.outage, b.latency) = (false, Duration::from_millis(30));
            }),
            400 => {
                let (memory, port) = (partners.erp.memory(), partners.erp.port());
                partners.erp = Receiver::start(Default::default()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
                partners.erp = Receiver::start_with(memory, port).await.unwrap();
            }
            500 => partners.behave(|b| b.latency = Duration::ZERO),
            _ => {}
        }
        if n % 100 == 50 {
            let erp = partners.erp.totals().repeats + partners.erp.totals().batches;
            tokio::time::sleep(Duration::from_millis(60)).await;
            assert!(
                n != 150 || partners.erp.totals().repeats + partners.erp.totals().batches > erp
            );
        }
        shop.sell(n).unwrap();
    }
    handle.drain(PATIENCE).await.unwrap();
    partners.assert_told(&shop);
    assert!(partners.erp.totals().repeats > 0, "answers were lost, so batches came again");
    assert!(handle.snapshot().iter().all(|sink| sink.retries > 0));
    handle.shutdown(PATIENCE).await.unwrap();
}

/// Batches grow wider, not longer: what a dead sink costs is bounded by distinct keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_orders_wait_for_a_dead_partner_in_a_few_batches() {
    let options =
        Options { wal: wal::Options { ack: wal::Ack::Memory, ..options().wal }, ..options() };
    let mut shop = Shop::open(Engine::open_on(SimStorage::new(), options).unwrap(), 50);
    let partners = Partners::start().await;
    partners.behave(|b| b.outage = true);
    let handle = partners.deliver(&shop.engine);
    for n in 0..100_000 {
        shop.sell(n).unwrap();
    }
    until("all is read", || handle.snapshot().iter().all(|s| s.lag_records >= 100_000)).await;
    for sink in handle.snapshot() {
        assert_eq!((sink.lanes[0].depth, sink.batches_delivered), (1, 0), "{sink:?}");
        assert!(sink.acknowledged_lsn < shop.engine.log().durable());
    }
    partners.behave(|b| b.outage = false);
    handle.drain(PATIENCE).await.unwrap();
    partners.assert_told(&shop);
    let erp = partners.erp.totals();
    assert!(erp.batches <= 4, "{} batches", erp.batches);
    assert!(erp.lines <= 4 * 2 * 2 * 50, "{} lines of 100 positions", erp.lines);
    handle.shutdown(PATIENCE).await.unwrap();
}

/// More keys than a batch holds: the feed stops reading and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_full_waits_in_the_log() {
    let mut shop = shop_on(&SimStorage::new(), 40);
    let partners = Partners::start().await;
    partners.behave(|b| b.outage = true);
    let mut configs = partners.configs();
    configs[0].lines_max = 10;
    configs[1].lines_max = 10;
    let runtime = tokio::runtime::Handle::current();
    let handle = holdfast::sinks::start(&shop.engine, configs, &runtime).unwrap();
    for n in 0..300 {
        shop.sell(n).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let erp = &handle.snapshot()[0];
    assert!(erp.lag_records <= 2 * 10, "read ahead: {}", erp.lag_records);
    partners.behave(|b| b.outage = false);
    handle.drain(PATIENCE).await.unwrap();
    partners.assert_told(&shop);
    assert!(partners.erp.totals().batches >= 8, "80 positions, 10 lines a batch");
    handle.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_partner_delays_no_other_and_drain_names_it() {
    let mut shop = shop_on(&SimStorage::new(), 5);
    let partners = Partners::start().await;
    partners.erp.behave(|b| b.outage = true);
    let handle = partners.deliver(&shop.engine);
    for n in 0..50 {
        shop.sell(n).unwrap();
    }
    let Err(Error::Timeout(behind)) = handle.drain(Duration::from_millis(500)).await else {
        panic!("the ERP is down")
    };
    assert_eq!(behind.len(), 1);
    assert!(behind[0].starts_with("erp"), "{behind:?}");
    assert_eq!(partners.books.totals().orders, 50);
    partners.erp.behave(|b| b.outage = false);
    handle.drain(PATIENCE).await.unwrap();
    partners.assert_told(&shop);
    handle.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_pause_and_lose_nothing() {
    let mut shop = shop_on(&SimStorage::new(), 5);
    let partners = Partners::start().await;
    partners.behave(|b| b.refuse_with = Some(401));
    let handle = partners.deliver(&shop.engine);
    (0..50).for_each(|n| shop.sell(n).unwrap());
    until("both paused", || handle.snapshot().iter().all(|s| s.state == "paused")).await;
    partners.behave(|b| b.refuse_with = None);
    handle.drain(PATIENCE).await.unwrap();
    partners.assert_told(&shop);
    assert!(handle.snapshot().iter().all(|s| s.state == "running" && s.dead_letters == 0));
    handle.shutdown(PATIENCE).await.unwrap();
}

/// A refused batch is set aside and listed, over a restart too, with what it said.
#[tokio::test(flavor = "multi_thread")]
async fn refused_content_is_set_aside_for_good_and_the_rest_goes_on() {
    let storage = SimStorage::new();
    let mut shop = shop_on(&storage, 5);
    let partners = Partners::start().await;
    let handle = partners.deliver(&shop.engine);
    handle.drain(PATIENCE).await.unwrap();
    partners.behave(|b| b.refuse_with = Some(422));
    (0..50).for_each(|n| shop.sell(n).unwrap());
    handle.drain(PATIENCE).await.unwrap();
    partners.behave(|b| b.refuse_with = None);
    assert_eq!(partners.erp.totals().moved("sold"), 0);
    let refused = handle.letters();
    assert!(refused.len() >= 2);
    assert!(handle.snapshot().iter().all(|s| s.dead_letters > 0 && s.state == "running"));
    let before = sold(&partners.erp.totals());
    let sold_before = shop.sold.clone();
    (50..100).for_each(|n| shop.sell(n).unwrap());
    handle.drain(PATIENCE).await.unwrap();
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.checkpoint().unwrap();
    shop.engine.close().unwrap();

    assert!(before.is_empty());
    let told = sold(&partners.erp.totals());
    for (position, units) in &shop.sold {
        let refused = sold_before.get(position).copied().unwrap_or_default();
        assert_eq!(told.get(position).copied().unwrap_or_default(), units - refused);
    }
    let engine = Engine::open_on(storage, options()).unwrap();
    let handle = partners.deliver(&engine);
    assert_eq!(handle.letters(), refused);
    handle.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn two_sinks_of_one_name_and_a_wrong_one_are_refused() {
    let shop = shop_on(&SimStorage::new(), 1);
    let partners = Partners::start().await;
    let runtime = tokio::runtime::Handle::current();
    let mut configs = partners.configs();
    configs[1].name = "erp".into();
    let start = |configs| holdfast::sinks::start(&shop.engine, configs, &runtime).map(|_| ());
    assert!(matches!(start(configs.clone()), Err(Error::Twice(name)) if name == "erp"));
    configs[1].url = "ftp://127.0.0.1/".into();
    let error = start(configs).unwrap_err().to_string();
    assert!(error.contains("url: must begin with https://"), "{error}");
}

/// A batch that was sealed and not taken goes out after a restart with the bytes that it had, though the
/// template is another one by then: the log has the one that sealed it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_is_rendered_as_it_was_after_the_template_has_changed() {
    use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
    type Bodies = Arc<parking_lot::Mutex<(bool, Vec<Bytes>)>>;
    async fn receive(State(bodies): State<Bodies>, body: Bytes) -> StatusCode {
        let mut bodies = bodies.lock();
        bodies.1.push(body);
        if bodies.0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }
    let bodies = Bodies::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let app = Router::new().route("/", post(receive)).with_state(bodies.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let config = |word: &str| {
        let body = format!("body = '{{\"{word}\": {{{{ lines | length }}}}}}'");
        SinkConfig {
            connector: Overlay::parse(&body).unwrap(),
            window_ms_max: 20,
            retry_initial_ms: 2,
            retry_max_ms: 20,
            ..SinkConfig::new("erp", Domain::Inventory, url.clone())
        }
    };
    let storage = SimStorage::new();
    let mut shop = shop_on(&storage, 3);
    let runtime = tokio::runtime::Handle::current();
    let handle = sinks::start(&shop.engine, vec![config("then")], &runtime).unwrap();
    shop.sell(1).unwrap();
    until("an attempt", || !bodies.lock().1.is_empty()).await;
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.checkpoint().unwrap();
    shop.engine.close().unwrap();
    let first = bodies.lock().1[0].clone();
    assert!(first.starts_with(b"{\"then\""));

    let engine = Engine::open_on(storage, options()).unwrap();
    bodies.lock().0 = true;
    let before = bodies.lock().1.len();
    let handle = sinks::start(&engine, vec![config("now")], &runtime).unwrap();
    handle.drain(PATIENCE).await.unwrap();
    handle.shutdown(PATIENCE).await.unwrap();
    let bodies = bodies.lock();
    assert_eq!(bodies.1[before], first, "another one went out under the same id");
    assert!(bodies.1[before + 1..].iter().all(|body| body.starts_with(b"{\"now\"")));
}

/// What waited for its window is as old after a restart as it was before: the batch counts from its first record,
/// not from its seal.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_as_old_after_a_restart_as_it_was() {
    const WINDOW_MS: u64 = 1_500;
    let storage = SimStorage::new();
    let mut shop = shop_on(&storage, 3);
    let receiver = Receiver::start(Default::default()).await.unwrap();
    receiver.behave(|b| b.outage = true);
    let wms = SinkConfig {
        window_ms_max: WINDOW_MS,
        ..SinkConfig::new("wms", Domain::Fulfilment, receiver.url())
    };
    let runtime = tokio::runtime::Handle::current();
    let handle = sinks::start(&shop.engine, vec![wms.clone()], &runtime).unwrap();
    let began = std::time::Instant::now();
    shop.sell(0).unwrap();
    until("it is sealed", || !handle.progress("wms").unwrap().with_state(|s| s.pending.is_empty()))
        .await;
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
    let engine = Engine::open_on(storage, options()).unwrap();
    let handle = sinks::start(&engine, vec![wms], &runtime).unwrap();
    until("it waits again", || !handle.delivered()[0].waiting.is_empty()).await;
    let [(age_ms, 1)] = handle.delivered()[0].waiting[..] else {
        panic!("{:?}", handle.delivered());
    };
    let most_ms = began.elapsed().as_millis() as u64;
    assert!((WINDOW_MS - 100..=most_ms + 100).contains(&age_ms), "{age_ms} of {most_ms}");
    handle.shutdown(PATIENCE).await.unwrap();
}
