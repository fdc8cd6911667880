//! Streams to a real NATS server with JetStream (`nats-server`, Debian's package), killed and started again
//! in the middle, with answers that get lost, and with an engine that loses power between a seal and its
//! acknowledgement. Every event ends up in the stream exactly once, in the log's order.

mod credentials;
mod server;

use std::{collections::BTreeMap, time::Duration};

use crate::far_common::{PATIENCE, Shop, options, until};
use async_nats::jetstream::stream::Config as StreamSettings;
use holdfast::{
    config::{Auth, Dedupe, Domain, SinkConfig, StreamConfig},
    delivery::{Effect, Handle, Outcome, Part, Partner},
    engine::Engine,
    sinks::{self, NatsPartner},
    wal::{Storage, sim::SimStorage},
};
use server::{Nats, Proxy, Stored};

/// The stream that the messages must reach.
const STREAM: &str = "SHOP";

fn sink(url: &str) -> SinkConfig {
    SinkConfig {
        window_ms_max: 20,
        retry_initial_ms: 2,
        retry_max_ms: 50,
        timeout_ms: 3_000,
        stream: StreamConfig { stream: Some(STREAM.into()), ..StreamConfig::default() },
        ..SinkConfig::new("events", Domain::Stream, url)
    }
}

fn part(ids: std::ops::Range<u32>, pad: usize) -> Part {
    let event = |n| {
        let pad = "x".repeat(pad);
        format!(
            r#"{{"id":"e-{n}","type":"holdfast.order.placed.v1","subject":"O.{n}","data":"{pad}"}}"#
        )
    };
    let events: Vec<_> = ids.map(event).collect();
    let body = format!("[{}]", events.join(",")).into();
    Part { id: "events-1".into(), body, config_version: 0, uncertain: false }
}

fn partner(config: &SinkConfig) -> NatsPartner {
    config.validate().unwrap();
    NatsPartner::new(config).unwrap()
}

fn assert_failed(outcome: &Outcome, expected: Effect, says: &str) {
    let Outcome::Failed { reason, effect, .. } = outcome else { panic!("{outcome:?}") };
    assert!(*effect == expected && reason.contains(says), "{outcome:?}");
}

const DONE: Outcome = Outcome::Done { status: 200, rejected: Vec::new() };

fn deliver<S: Storage>(engine: &Engine<S>, url: &str) -> Handle {
    sinks::start(engine, vec![sink(url)], &tokio::runtime::Handle::current()).unwrap()
}

/// Every event once, in the order of the log.
fn assert_once_and_in_order(stored: &[Stored]) {
    let mut times = BTreeMap::new();
    stored.iter().for_each(|event| *times.entry(event.id.clone()).or_insert(0) += 1);
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let sequences: Vec<_> =
        stored.iter().map(|event| event.json()["sequence"].to_string()).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
}

/// How many orders a stream tells of.
fn placed(stored: &[Stored]) -> u64 {
    stored.iter().filter(|event| event.subject == "holdfast.order.placed").count() as u64
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server: the test command installs it"]
async fn an_event_is_a_message_and_a_repeat_of_it_is_none() {
    let nats = Nats::start("").await;
    nats.create(StreamSettings::default()).await;
    let mut config = sink(&nats.url());
    config.stream.subject = "holdfast.{type}.{subject}".into();
    let partner = partner(&config);
    let mut part = part(0..300, 10);
    assert_eq!(partner.send(&part).await, DONE);
    part.uncertain = true;
    assert_eq!(partner.send(&part).await, DONE);
    let stored = nats.stored().await;
    assert_eq!(stored.len(), 300);
    let body = std::str::from_utf8(&part.body).unwrap();
    for (n, event) in stored.iter().enumerate() {
        assert_eq!(event.id, format!("e-{n}"));
        assert_eq!(event.subject, format!("holdfast.order.placed.O%2E{n}"));
        assert_eq!(event.content_type, "application/cloudevents+json");
        assert!(body.contains(std::str::from_utf8(&event.payload).unwrap()));
    }
    let none = SinkConfig { dedupe: Dedupe::None, ..config };
    let outcome = NatsPartner::new(&none).unwrap().send(&part).await;
    assert_failed(&outcome, Effect::Unknown, "not sent again");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server: the test command installs it"]
async fn what_the_server_does_not_take_is_told_apart() {
    let mut nats = Nats::start("max_payload: 20000").await;
    let anywhere = |url: &str| {
        let mut config = sink(url);
        config.stream.stream = None;
        config
    };
    let lost = partner(&anywhere(&nats.url())).send(&part(0..3, 10)).await;
    assert_failed(&lost, Effect::None, "no stream of the server takes its subject");
    let named = partner(&sink(&nats.url())).send(&part(0..3, 10)).await;
    assert_failed(&named, Effect::None, "stream not found");

    let limits = StreamSettings { max_message_size: 5_000, ..StreamSettings::default() };
    nats.create(limits).await;
    let narrow = partner(&sink(&nats.url()));
    // Too large for the stream, and for the server.
    for size in [10_000, 50_000] {
        let outcome = narrow.send(&part(0..2, size)).await;
        let Outcome::Refused { rejected, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(rejected.len(), 2);
    }
    let mixed = [&part(5..6, 10).body[1..], &part(6..7, 10_000).body[1..]];
    let body = [b"[", &mixed[0][..mixed[0].len() - 1], b",", mixed[1]].concat();
    let mixed = Part { body: body.into(), ..part(0..0, 0) };
    let outcome = narrow.send(&mixed).await;
    let Outcome::Done { rejected, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(rejected.iter().map(|r| r.line_id.as_str()).collect::<Vec<_>>(), ["e-6"]);
    assert_eq!(nats.stored().await.len(), 1);

    let mut long = sink(&nats.url());
    long.stream.duplicate_window_ms_min = 120_001;
    let outcome = partner(&long).send(&part(0..3, 10)).await;
    assert_failed(&outcome, Effect::None, "duplicate_window_ms_min");
    let unreadable = Part { body: "{}".into(), ..part(0..0, 0) };
    assert!(matches!(narrow.send(&unreadable).await, Outcome::Refused { status: 0, .. }));

    nats.kill();
    let outcome = partner(&sink(&nats.url())).send(&part(0..3, 10)).await;
    assert_failed(&outcome, Effect::None, "no connection");
    assert!(matches!(narrow.send(&part(0..3, 10)).await, Outcome::Failed { .. }));
    nats.restart().await;
    assert_eq!(narrow.send(&part(0..3, 10)).await, DONE);
}

/// A server that hangs takes its time: nobody knows what it has, and afterwards nothing is there twice.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server: the test command installs it"]
async fn a_server_that_hangs_is_given_up_and_told_again() {
    let nats = Nats::start("").await;
    nats.create(StreamSettings::default()).await;
    let partner = partner(&SinkConfig { timeout_ms: 500, ..sink(&nats.url()) });
    assert_eq!(partner.send(&part(0..3, 10)).await, DONE);
    nats.signal("STOP");
    let outcome = partner.send(&part(3..200, 10)).await;
    assert_failed(&outcome, Effect::Unknown, "500 ms");
    nats.signal("CONT");
    assert_eq!(partner.send(&part(3..200, 10)).await, DONE);
    let ids: Vec<_> = nats.stored().await.into_iter().map(|event| event.id).collect();
    assert_eq!(ids, (0..200).map(|n| format!("e-{n}")).collect::<Vec<_>>());
}

/// The client's library connects again by itself and would go on with what it has not sent yet: events that
/// were lost with the connection would then stand behind later ones. So a broken session is not continued.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server: the test command installs it"]
async fn a_connection_that_breaks_in_the_middle_of_a_part_is_not_continued() {
    let nats = Nats::start("").await;
    nats.create(StreamSettings::default()).await;
    let proxy = Proxy::start(nats.port).await;
    let partner = partner(&sink(&proxy.url()));
    let part = part(0..4_000, 4_000);
    proxy.cut_after(1 << 20);
    let outcome = partner.send(&part).await;
    assert!(matches!(outcome, Outcome::Failed { effect: Effect::Unknown, .. }), "{outcome:?}");
    // What the library may still be doing has time to be done.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = nats.stored().await.len();
    assert!((1..4_000).contains(&before), "it broke in the middle: {before}");
    assert_eq!(partner.send(&Part { uncertain: true, ..part }).await, DONE);
    let stored = nats.stored().await;
    let ids: Vec<_> = stored.iter().map(|event| event.id.clone()).collect();
    assert_eq!(ids, (0..4_000).map(|n| format!("e-{n}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server: the test command installs it"]
async fn who_may_not_publish_is_denied_and_no_secret_is_told() {
    let users = "authorization { users: [ {user: me, password: swordfish}, \
                 {user: mute, password: swordfish, permissions: {publish: {deny: \"holdfast.>\"}}} ] }";
    let nats = Nats::start(users).await;
    nats.create_as("me:swordfish", StreamSettings::default()).await;
    let with = |user: &str, password: &str| {
        let mut config = sink(&nats.url());
        let (user, password) = (user.to_owned(), Some(password.to_owned()));
        config.stream.auth = Auth::Basic { user, password, password_env: None };
        partner(&config)
    };
    assert_eq!(with("me", "swordfish").send(&part(0..3, 10)).await, DONE);
    let wrong = with("me", "swordfisch").send(&part(0..3, 10)).await;
    assert_eq!(wrong, Outcome::Denied { status: 401, retry_after: None });
    let mute = with("mute", "swordfish").send(&part(3..6, 10)).await;
    assert_eq!(mute, Outcome::Denied { status: 403, retry_after: None });
    let in_url = nats.url().replace("nats://", "nats://me:swordfish@");
    assert_eq!(partner(&sink(&in_url)).send(&part(6..7, 10)).await, DONE);

    let nats = Nats::start("authorization { token: swordfish }").await;
    nats.create_as("swordfish", StreamSettings::default()).await;
    let mut config = sink(&nats.url());
    config.stream.auth = Auth::Bearer { token: Some("swordfish".into()), token_env: None };
    assert_eq!(partner(&config).send(&part(0..3, 10)).await, DONE);
    config.stream.auth = Auth::None;
    let wrong = partner(&config).send(&part(0..3, 10)).await;
    assert_eq!(wrong, Outcome::Denied { status: 401, retry_after: None });
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server: the test command installs it"]
async fn a_credentials_file_says_who_we_are() {
    let ours = credentials::credentials();
    let nats = Nats::start(&ours.server).await;
    nats.create_with(&ours.file, StreamSettings::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let with = |text: &str| {
        let path = folder.path().join("holdfast.creds");
        std::fs::write(&path, text).unwrap();
        let mut config = sink(&nats.url());
        config.stream.credentials_file = Some(path);
        NatsPartner::new(&config)
    };
    assert_eq!(with(&ours.file).unwrap().send(&part(0..3, 10)).await, DONE);
    let others = credentials::credentials().file;
    let denied = with(&others).unwrap().send(&part(0..3, 10)).await;
    assert_eq!(denied, Outcome::Denied { status: 401, retry_after: None });
    for wrong in ["", "swordfish", &ours.file[..ours.file.len() / 2]] {
        let error = with(wrong).err().unwrap();
        assert!(error.starts_with("stream.credentials_file:"), "{error}");
    }
}

/// The server is killed again and again while a sale is on, and in some rounds its answers get lost.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server: the test command installs it"]
async fn a_server_that_is_killed_in_the_middle_has_every_event_once() {
    let mut nats = Nats::start("").await;
    nats.create(StreamSettings::default()).await;
    let proxy = Proxy::start(nats.port).await;
    let mut shop = Shop::open(Engine::open_on(SimStorage::new(), options()).unwrap(), 8);
    let handle = deliver(&shop.engine, &proxy.url());
    let mut orders = 0..;
    for round in 0..6 {
        proxy.lose_answers(round % 3 == 0);
        for n in orders.by_ref().take(150) {
            shop.sell(n).unwrap();
            if n % 16 == 0 {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        }
        nats.kill();
        tokio::time::sleep(Duration::from_millis(30)).await;
        nats.restart().await;
    }
    proxy.lose_answers(false);
    handle.drain(PATIENCE).await.unwrap();
    let stored = nats.stored().await;
    assert_once_and_in_order(&stored);
    assert_eq!(placed(&stored), shop.orders);
    assert!(proxy.lost() > 0, "no answer was lost");
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
}

/// The server has the events and the engine does not know: after the power is back they are sent again,
/// and known.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server: the test command installs it"]
async fn an_engine_that_dies_between_seal_and_acknowledgement_repeats_what_is_known() {
    let nats = Nats::start("").await;
    nats.create(StreamSettings::default()).await;
    let proxy = Proxy::start(nats.port).await;
    let storage = SimStorage::new();
    let mut shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), 8);
    let first = deliver(&shop.engine, &proxy.url());
    (0..20).for_each(|n| shop.sell(n).unwrap());
    first.drain(PATIENCE).await.unwrap();
    proxy.lose_answers(true);
    (20..60).for_each(|n| shop.sell(n).unwrap());
    until("an answer is lost", || proxy.lost() > 0).await;
    let before = nats.stored().await.len();
    let disk = storage.crash(7);
    first.shutdown(Duration::from_millis(200)).await.ok();
    let (sold, paid, orders) = (shop.sold, shop.paid, shop.orders);
    shop.engine.close().unwrap();

    let engine = Engine::open_on(disk, options()).unwrap();
    let shop = Shop { engine, skus: 8, sold, paid, orders };
    proxy.lose_answers(false);
    let handle = deliver(&shop.engine, &proxy.url());
    handle.drain(PATIENCE).await.unwrap();
    let stored = nats.stored().await;
    assert!(before > 0);
    assert_once_and_in_order(&stored);
    assert_eq!(placed(&stored), shop.orders);
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
}

/// Its settings change again and again while a sale is on and answers get lost: it is started anew each time,
/// so that one connection at a time publishes, and what was under way is sent again and known.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nats-server: the test command installs it"]
async fn a_stream_whose_settings_change_has_every_event_once() {
    let nats = Nats::start("").await;
    nats.create(StreamSettings::default()).await;
    let proxy = Proxy::start(nats.port).await;
    let mut shop = Shop::open(Engine::open_on(SimStorage::new(), options()).unwrap(), 8);
    let handle = deliver(&shop.engine, &proxy.url());
    let mut before = vec![sink(&proxy.url())];
    let mut orders = 0..;
    for round in 0..8_u64 {
        proxy.lose_answers(round % 3 == 1);
        for n in orders.by_ref().take(60) {
            shop.sell(n).unwrap();
            if n % 16 == 0 {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        }
        let url = if round % 2 == 0 { nats.url() } else { proxy.url() };
        let mut after = sink(&url);
        (after.timeout_ms, after.lines_max) = (1_000 + round, 5 + round);
        let after = vec![after];
        let change = sinks::prepare(&shop.engine, &handle, &before, &after).unwrap();
        handle.apply(change, Duration::from_millis(300)).await;
        before = after;
    }
    proxy.lose_answers(false);
    handle.drain(PATIENCE).await.unwrap();
    let stored = nats.stored().await;
    assert_once_and_in_order(&stored);
    assert_eq!(placed(&stored), shop.orders);
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
}
