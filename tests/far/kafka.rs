//! Streams to a real broker that speaks Kafka's protocol: Tansu, in memory, with a proxy before it that loses
//! requests and answers, and with an engine that loses power between a seal and its acknowledgement. Every
//! event ends up in the topic exactly once for whoever reads what is committed, in the log's order for each
//! key. And to the mock cluster of librdkafka, Kafka's client in C, whose reader reads what is written here.

mod broker;
mod mock;
mod sasl;
mod tls;

use std::{collections::BTreeMap, time::Duration};

use crate::far_common::{PATIENCE, Shop, options, until};
use broker::{Broker, END_TRANSACTION, Faults, PRODUCE, Stored, TOPIC, free_port};
use holdfast::{
    config::{Auth, Dedupe, Domain, KafkaConfig, Sasl, SinkConfig},
    delivery::{Effect, Handle, Outcome, Part, Partner},
    engine::Engine,
    sinks::{self, KafkaPartner},
    wal::{Storage, sim::SimStorage},
};
use tokio::net::TcpListener;

fn sink(url: &str) -> SinkConfig {
    SinkConfig {
        window_ms_max: 20,
        retry_initial_ms: 2,
        retry_max_ms: 50,
        timeout_ms: 5_000,
        kafka: KafkaConfig { topic: TOPIC.into(), ..KafkaConfig::default() },
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
    let id = format!("events-{}", ids.start);
    let events: Vec<_> = ids.map(event).collect();
    let body = format!("[{}]", events.join(",")).into();
    Part { id, body, config_version: 0, uncertain: false }
}

fn hundred(first: u32) -> Part {
    part(first..first + 100, 10)
}

/// The same part, of which an earlier attempt may have had its effect.
fn again(part: &Part) -> Part {
    Part { uncertain: true, ..part.clone() }
}

fn partner(config: &SinkConfig) -> KafkaPartner {
    config.validate().unwrap();
    KafkaPartner::new(config).unwrap()
}

fn assert_failed(outcome: &Outcome, expected: Effect, says: &str) {
    let Outcome::Failed { reason, effect, .. } = outcome else { panic!("{outcome:?}") };
    assert!(*effect == expected && reason.contains(says), "{outcome:?}");
}

const DONE: Outcome = Outcome::Done { status: 200, rejected: Vec::new() };

fn deliver<S: Storage>(engine: &Engine<S>, url: &str) -> Handle {
    sinks::start(engine, vec![sink(url)], &tokio::runtime::Handle::current()).unwrap()
}

/// Numbers of the events, sorted.
fn numbers(stored: &[Stored]) -> Vec<u32> {
    let mut all: Vec<u32> = stored.iter().map(|s| s.id()[2..].parse().unwrap()).collect();
    all.sort_unstable();
    all
}

/// Every event once, in a partition in the order of the log; and what has one key is in one partition.
fn assert_once_and_in_order(stored: &[Stored]) {
    let (mut times, mut homes) = (BTreeMap::new(), BTreeMap::new());
    for event in stored {
        times.entry(event.id()).or_insert(Vec::new()).push(&event.headers["holdfast-batch"]);
        let home = homes.entry(event.key.clone()).or_insert(event.partition);
        assert_eq!(*home, event.partition, "{:?}", event.key);
    }
    let twice: Vec<_> = times.iter().filter(|(_, batches)| batches.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for partition in 0..3 {
        let own = stored.iter().filter(|event| event.partition == partition);
        let sequences: Vec<_> = own.map(|event| event.json()["sequence"].to_string()).collect();
        assert!(!sequences.is_empty() && sequences.is_sorted(), "{sequences:?}");
    }
}

/// How many orders a stream tells of.
fn placed(stored: &[Stored]) -> u64 {
    let placed = |event: &&Stored| event.json()["type"] == "holdfast.order.placed.v1";
    stored.iter().filter(placed).count() as u64
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tansu: the test command fetches it"]
async fn an_event_is_a_record_and_a_repeat_of_it_is_none() {
    let broker = Broker::start().await;
    let config = sink(&broker.url());
    let first = partner(&config);
    let part = part(0..300, 10);
    assert_eq!(first.send(&part).await, DONE);
    assert_eq!(first.send(&again(&part)).await, DONE);
    // After a restart nothing is remembered.
    assert_eq!(partner(&config).send(&again(&part)).await, DONE);
    let stored = broker.committed().await;
    assert_eq!(numbers(&stored), (0..300).collect::<Vec<_>>());
    assert_eq!(broker.not_committed().await, 0);
    let body = std::str::from_utf8(&part.body).unwrap();
    for event in &stored {
        assert_eq!(event.key.as_deref(), Some(&*event.id().replace("e-", "O.")));
        assert_eq!(event.headers["content-type"], "application/cloudevents+json; charset=UTF-8");
        assert_eq!(event.headers["holdfast-batch"], part.id);
        assert!(body.contains(std::str::from_utf8(&event.value).unwrap()));
    }
    assert!((0..3).all(|p| stored.iter().filter(|event| event.partition == p).count() > 50));
    let none = SinkConfig { dedupe: Dedupe::None, ..config };
    assert_failed(&partner(&none).send(&again(&part)).await, Effect::Unknown, "not sent again");
}

/// An answer that was lost, and a request: the one has had its effect, the other has not, and nobody can
/// tell until the topic is read back.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tansu: the test command fetches it"]
async fn what_may_be_there_is_looked_up_before_it_is_sent_again() {
    let broker = Broker::start().await;
    let partner = partner(&sink(&broker.url()));
    broker.set(Faults { lose_answer_to: Some(END_TRANSACTION), ..Faults::default() });
    let part = hundred(0);
    assert_failed(&partner.send(&part).await, Effect::Unknown, "EndTxn");
    assert_eq!(broker.committed().await.len(), 100);
    assert_eq!(partner.send(&again(&part)).await, DONE);
    assert_eq!(broker.happened(), 1);

    broker.set(Faults { lose: Some(END_TRANSACTION), ..Faults::default() });
    let part = hundred(100);
    for attempt in [part.clone(), again(&part)] {
        assert_failed(&partner.send(&attempt).await, Effect::Unknown, "EndTxn");
        assert_eq!(broker.committed().await.len(), 100);
    }
    broker.set(Faults::default());
    assert_eq!(partner.send(&again(&part)).await, DONE);
    assert_eq!(numbers(&broker.committed().await), (0..200).collect::<Vec<_>>());
    // Each of the lost requests left what it was to commit.
    assert_eq!(broker.not_committed().await, 200);
}

/// Until it is told to commit, a broker commits nothing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tansu: the test command fetches it"]
async fn what_was_not_told_to_commit_is_not_there() {
    let broker = Broker::start().await;
    let partner = partner(&sink(&broker.url()));
    let part = part(0..100, 10);
    for fault in [
        Faults { lose_answer_to: Some(PRODUCE), ..Faults::default() },
        Faults { lose: Some(PRODUCE), ..Faults::default() },
        Faults { refuse: Some((19, 0)), ..Faults::default() },
    ] {
        broker.set(fault);
        assert_failed(&partner.send(&part).await, Effect::None, "Produce");
    }
    broker.set(Faults { refuse: Some((29, 0)), ..Faults::default() });
    let denied = Outcome::Denied { status: 403, retry_after: None };
    assert_eq!(partner.send(&part).await, denied);
    broker.set(Faults::default());
    assert_eq!(broker.committed().await.len(), 0);
    assert_eq!(partner.send(&part).await, DONE);
    assert_eq!(numbers(&broker.committed().await), (0..100).collect::<Vec<_>>());
    assert!(broker.not_committed().await >= 30);
}

/// Without transactions nothing is read back: what was lost is sent again, with the same id.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tansu: the test command fetches it"]
async fn without_transactions_a_repeat_has_the_same_id() {
    let broker = Broker::start().await;
    let partner = partner(&SinkConfig { dedupe: Dedupe::Line, ..sink(&broker.url()) });
    let part = part(0..100, 10);
    broker.set(Faults { lose_answer_to: Some(PRODUCE), ..Faults::default() });
    assert_failed(&partner.send(&part).await, Effect::Unknown, "Produce");
    broker.set(Faults::default());
    assert_eq!(partner.send(&again(&part)).await, DONE);
    let twice: Vec<_> = (0..200).map(|n| n / 2).collect();
    assert_eq!(numbers(&broker.committed().await), twice);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tansu: the test command fetches it"]
async fn what_the_broker_does_not_take_is_told_apart() {
    let broker = Broker::start_with(&[]).await;
    let config = sink(&broker.url());
    let lost = partner(&config).send(&part(0..3, 10)).await;
    assert_failed(&lost, Effect::None, "UNKNOWN_TOPIC_OR_PARTITION to Metadata");
    // A broker judges each partition's records for themselves: so there is one.
    broker.create(TOPIC, 1);
    let partner = partner(&config);

    // MESSAGE_TOO_LARGE; a request has about 150 bytes besides events of 200.
    broker.set(Faults { refuse: Some((10, 5_000)), ..Faults::default() });
    let outcome = partner.send(&part(0..2, 10_000)).await;
    let Outcome::Refused { rejected, status: 413, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(rejected.len(), 2);
    assert_eq!(broker.committed().await.len(), 0);
    let many = part(0..299, 10);
    let large = &part(299..300, 10_000).body[1..];
    let body = [&many.body[..many.body.len() - 1], b",", large].concat();
    let mixed = Part { body: body.into(), ..many };
    let outcome = partner.send(&mixed).await;
    let Outcome::Done { rejected, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(rejected.iter().map(|r| r.line_id.as_str()).collect::<Vec<_>>(), ["e-299"]);
    assert!(rejected[0].reason.contains("MESSAGE_TOO_LARGE"), "{rejected:?}");
    assert_eq!(numbers(&broker.committed().await), (0..299).collect::<Vec<_>>());
    let halved = broker.committed().await.into_iter();
    assert!(halved.map(|event| event.id()[2..].parse::<u32>().unwrap()).is_sorted());
    // If the answer to that was lost, what was refused is still told.
    let outcome = partner.send(&again(&mixed)).await;
    let Outcome::Done { rejected, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(rejected.iter().map(|r| r.line_id.as_str()).collect::<Vec<_>>(), ["e-299"]);

    let unreadable = Part { body: "{}".into(), ..part(0..0, 0) };
    assert!(matches!(partner.send(&unreadable).await, Outcome::Refused { status: 0, .. }));
    let nobody = self::partner(&sink(&format!("kafka://127.0.0.1:{}", free_port())));
    assert_failed(&nobody.send(&part(0..3, 10)).await, Effect::None, "no connection to the broker");
    // One of several brokers is enough to begin with.
    let mut config = sink(&format!("kafka://127.0.0.1:{}", free_port()));
    config.kafka.brokers = vec![broker.url()];
    assert_eq!(self::partner(&config).send(&part(1_000..1_003, 10)).await, DONE);
}

/// A broker that hangs takes its time: afterwards nothing is there twice.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tansu: the test command fetches it"]
async fn a_broker_that_hangs_is_given_up_and_told_again() {
    let broker = Broker::start().await;
    let partner = partner(&SinkConfig { timeout_ms: 700, ..sink(&broker.url()) });
    assert_eq!(partner.send(&part(0..3, 10)).await, DONE);
    broker.signal("STOP");
    let part = part(3..200, 10);
    for _ in 0..3 {
        let begun = tokio::time::Instant::now();
        assert!(matches!(partner.send(&part).await, Outcome::Failed { .. }));
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
    broker.signal("CONT");
    // What was sent to it in the meantime has time to have its effect.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(partner.send(&again(&part)).await, DONE);
    assert_eq!(numbers(&broker.committed().await), (0..200).collect::<Vec<_>>());
}

/// What another one with the same transactional id has begun, is over.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tansu: the test command fetches it"]
async fn who_takes_over_shuts_out_who_was_there_before() {
    let broker = Broker::start().await;
    let config = sink(&broker.url());
    let (first, second) = (partner(&config), partner(&config));
    assert_eq!(first.send(&part(0..30, 10)).await, DONE);
    assert_eq!(second.send(&part(30..60, 10)).await, DONE);
    let outcome = first.send(&part(60..90, 10)).await;
    assert_failed(&outcome, Effect::None, "taken over");
    assert_eq!(numbers(&broker.committed().await), (0..60).collect::<Vec<_>>());
    assert_eq!(first.send(&part(60..90, 10)).await, DONE);
    let mut config = config;
    config.kafka.transactional_id = Some("another".into());
    assert_eq!(partner(&config).send(&part(90..120, 10)).await, DONE);
    assert_eq!(first.send(&part(120..150, 10)).await, DONE);
    assert_eq!(numbers(&broker.committed().await), (0..150).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tansu: the test command fetches it"]
async fn who_we_are_is_proved_and_no_secret_is_told() {
    for sasl in [Sasl::ScramSha256, Sasl::ScramSha512, Sasl::Plain] {
        let server = sasl::server(sasl.as_str()).await;
        let with = |sasl, user: &str, password: &str| {
            let mut config = sink(&format!("kafka://localhost:{}", server.port));
            let (user, password) = (user.to_owned(), Some(password.to_owned()));
            config.kafka.auth = Auth::Basic { user, password, password_env: None };
            config.kafka.sasl = sasl;
            // Thousands of rounds of a hash, twice, in a build that is not optimised.
            config.timeout_ms = 60_000;
            partner(&config)
        };
        assert_eq!(with(sasl, "me", "swordfish").send(&part(0..30, 10)).await, DONE);
        let denied = Outcome::Denied { status: 401, retry_after: None };
        for (user, password) in [("me", "swordfisch"), ("you", "swordfish")] {
            assert_eq!(with(sasl, user, password).send(&part(0..3, 10)).await, denied);
        }
        let other = if sasl == Sasl::Plain { Sasl::ScramSha512 } else { Sasl::Plain };
        let other = with(other, "me", "swordfish").send(&part(0..3, 10)).await;
        assert_failed(&other, Effect::None, "UNSUPPORTED_SASL_MECHANISM");
        let nobody = partner(&sink(&format!("kafka://localhost:{}", server.port)));
        assert_failed(&nobody.send(&part(0..3, 10)).await, Effect::None, "connection broke");
        assert_eq!(numbers(&server.broker.committed().await), (0..30).collect::<Vec<_>>());
    }
}

/// Certificates are checked, and the name in them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tansu: the test command fetches it"]
async fn a_broker_is_trusted_by_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let ours = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let others = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) =
        (write("cert.pem", ours.cert.pem()), write("key.pem", ours.signing_key.serialize_pem()));
    let server = tls::server(&cert, &key).await;
    let with = |host: &str, ca: &std::path::Path| {
        let mut config = sink(&format!("kafka+tls://{host}:{}", server.port));
        config.kafka.ca_file = Some(ca.to_owned());
        partner(&config)
    };
    let trusted = with("localhost", &cert).send(&part(0..30, 10)).await;
    assert_eq!(trusted, DONE);
    assert_eq!(numbers(&server.broker.committed().await), (0..30).collect::<Vec<_>>());
    let wrong = with("localhost", &write("others.pem", others.cert.pem()));
    assert_failed(&wrong.send(&part(0..3, 10)).await, Effect::None, "certificate");
    let elsewhere = with("127.0.0.1", &cert);
    assert_failed(&elsewhere.send(&part(0..3, 10)).await, Effect::None, "certificate");
}

/// Whatever a broker answers, an attempt ends, and not with a panic.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_talks_nonsense_is_survived() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let nonsense = tokio::spawn(mock::nonsense(listener));
    let config = SinkConfig { timeout_ms: 300, ..sink(&format!("kafka://127.0.0.1:{port}")) };
    let mut reasons = BTreeMap::new();
    for _ in 0..150 {
        let outcome = partner(&config).send(&part(0..3, 10)).await;
        let Outcome::Failed { reason, effect: Effect::None, .. } = outcome else {
            panic!("{outcome:?}")
        };
        *reasons.entry(reason).or_insert(0) += 1;
    }
    nonsense.abort();
    assert!(reasons.len() > 5, "{reasons:?}");
}

/// Requests and answers are lost again and again while a sale is on, and the broker hangs for a while.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tansu: the test command fetches it"]
async fn a_broker_that_is_hardly_reached_has_every_event_once() {
    let broker = Broker::start().await;
    let mut shop = Shop::open(Engine::open_on(SimStorage::new(), options()).unwrap(), 8);
    let handle = deliver(&shop.engine, &broker.url());
    let mut orders = 0..;
    let lost = |api| Faults { lose: Some(api), ..Faults::default() };
    let unheard = |api| Faults { lose_answer_to: Some(api), ..Faults::default() };
    let faults = [
        unheard(END_TRANSACTION),
        lost(END_TRANSACTION),
        unheard(PRODUCE),
        lost(PRODUCE),
        Faults { refuse: Some((6, 0)), ..Faults::default() },
    ];
    for fault in faults.into_iter().chain(faults) {
        broker.set(fault);
        let before = broker.happened();
        for n in orders.by_ref().take(60) {
            shop.sell(n).unwrap();
        }
        until("a fault", || broker.happened() > before).await;
        broker.set(Faults::default());
        for n in orders.by_ref().take(20) {
            shop.sell(n).unwrap();
        }
        broker.signal("STOP");
        tokio::time::sleep(Duration::from_millis(30)).await;
        broker.signal("CONT");
    }
    handle.drain(PATIENCE).await.unwrap();
    let stored = broker.committed().await;
    assert_once_and_in_order(&stored);
    assert_eq!(placed(&stored), shop.orders);
    assert!(broker.not_committed().await > 0, "nothing was lost in the middle");
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
}

/// Nobody is there; reservations go on, and when the broker comes it gets everything.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tansu: the test command fetches it"]
async fn a_broker_that_comes_late_gets_everything() {
    let port = free_port();
    let mut shop = Shop::open(Engine::open_on(SimStorage::new(), options()).unwrap(), 8);
    let handle = deliver(&shop.engine, &format!("kafka://127.0.0.1:{port}"));
    (0..200).for_each(|n| shop.sell(n).unwrap());
    until("the breaker opens", || handle.snapshot()[0].breaker != "closed").await;
    (200..300).for_each(|n| shop.sell(n).unwrap());
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let broker = Broker::start_behind(listener, port, &[]).await;
    broker.create(TOPIC, 3);
    handle.drain(PATIENCE).await.unwrap();
    let stored = broker.committed().await;
    assert_once_and_in_order(&stored);
    assert_eq!(placed(&stored), 300);
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
}

/// The broker has the events and the engine does not know: after the power is back they are found there.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tansu: the test command fetches it"]
async fn an_engine_that_dies_between_seal_and_acknowledgement_repeats_nothing() {
    let broker = Broker::start().await;
    let storage = SimStorage::new();
    let mut shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), 8);
    let first = deliver(&shop.engine, &broker.url());
    (0..20).for_each(|n| shop.sell(n).unwrap());
    first.drain(PATIENCE).await.unwrap();
    broker.set(Faults { lose_answer_to: Some(END_TRANSACTION), ..Faults::default() });
    (20..60).for_each(|n| shop.sell(n).unwrap());
    until("an answer is lost", || broker.happened() > 0).await;
    let before = placed(&broker.committed().await);
    // Who has no power sends nothing.
    broker.set(Faults { cut: true, ..Faults::default() });
    let disk = storage.crash(7);
    first.shutdown(Duration::from_millis(200)).await.ok();
    let (sold, paid, orders) = (shop.sold, shop.paid, shop.orders);
    shop.engine.close().unwrap();

    let engine = Engine::open_on(disk, options()).unwrap();
    let shop = Shop { engine, skus: 8, sold, paid, orders };
    broker.set(Faults::default());
    let handle = deliver(&shop.engine, &broker.url());
    handle.drain(PATIENCE).await.unwrap();
    let stored = broker.committed().await;
    assert!(before > 20);
    assert_once_and_in_order(&stored);
    assert_eq!(placed(&stored), shop.orders);
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
}

/// Another implementation of both sides: brokers that lead a partition each, and a reader.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kcat: the test command installs it"]
async fn every_partition_is_brought_to_its_leader_and_read_by_others() {
    let cluster = mock::Cluster::start(3).await;
    let part = part(0..300, 10);
    for dedupe in [Dedupe::Lookup, Dedupe::Line] {
        let config = SinkConfig { dedupe, ..sink(&cluster.url()) };
        assert_eq!(partner(&config).send(&part).await, DONE);
    }
    let read = cluster.read();
    assert_eq!(read.len(), 600);
    let body = std::str::from_utf8(&part.body).unwrap();
    let mut homes: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for record in &read {
        let (key, value) = (record["key"].as_str().unwrap(), record["payload"].as_str().unwrap());
        assert!(body.contains(value));
        let headers = record["headers"].as_array().unwrap();
        let names: Vec<_> = headers.iter().step_by(2).map(|h| h.as_str().unwrap()).collect();
        assert_eq!(names, ["content-type", "ce_id", "holdfast-batch"]);
        assert_eq!(headers[3].as_str().unwrap().replace("e-", "O."), key);
        homes.entry(key.to_owned()).or_default().push(record["partition"].as_i64().unwrap());
    }
    assert!(homes.values().all(|at| at.len() == 2 && at[0] == at[1]));
    let used: std::collections::BTreeSet<_> = homes.values().map(|at| at[0]).collect();
    assert!(used.len() > 2, "{used:?}");
    // The partitioner of Kafka's own producer, as librdkafka has it, puts a key at the same place.
    let places = cluster.places_of(&homes.keys().collect::<Vec<_>>());
    assert_eq!(places.len(), 300);
    assert!(homes.iter().all(|(key, at)| places[key] == at[0]));
}

/// Its settings change again and again while a sale is on and requests get lost: the sender is another one
/// each time, and shuts the one before out.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tansu: the test command fetches it"]
async fn a_topic_whose_settings_change_has_every_event_once() {
    let broker = Broker::start().await;
    let mut shop = Shop::open(Engine::open_on(SimStorage::new(), options()).unwrap(), 8);
    let handle = deliver(&shop.engine, &broker.url());
    let mut before = vec![sink(&broker.url())];
    let mut orders = 0..;
    for round in 0..6_u64 {
        let lose_answer_to = [None, Some(END_TRANSACTION), Some(PRODUCE)][round as usize % 3];
        broker.set(Faults { lose_answer_to, ..Faults::default() });
        for n in orders.by_ref().take(60) {
            shop.sell(n).unwrap();
        }
        let mut after = sink(&broker.url());
        (after.timeout_ms, after.lines_max) = (2_000 + round, 5 + round);
        let after = vec![after];
        let change = sinks::prepare(&shop.engine, &handle, &before, &after).unwrap();
        handle.apply(change, Duration::from_millis(300)).await;
        before = after;
    }
    broker.set(Faults::default());
    handle.drain(PATIENCE).await.unwrap();
    let stored = broker.committed().await;
    assert_once_and_in_order(&stored);
    assert_eq!(placed(&stored), shop.orders);
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
}
