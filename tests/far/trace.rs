//! Lineage to the far end: a trace names the batch that carried each record, and what became of it.

use std::time::{Duration, Instant};

use crate::far_common::{PATIENCE, Partners, Shop, invoice, options, order_id, settle, until};
use holdfast::{
    engine::{Engine, Key, Refusal},
    model::{
        Lsn,
        command::Note,
        lineage::{BatchState, TraceBatch, TraceParked, TraceRecord, TraceView},
        posting::Recognition,
    },
    sinks,
    wal::{Storage, sim::SimStorage},
};

fn trace<S: Storage>(engine: &Engine<S>, n: u64) -> TraceView {
    engine.settle_blocking(engine.trace(&order_id(n))).unwrap().value
}

/// The batches of an order's first record, by sink. A trace tells what is durable: whatever was written is, first.
fn batches<S: Storage>(engine: &Engine<S>, n: u64) -> Vec<TraceBatch> {
    let written = Lsn(engine.log().appended().0 - 1);
    engine.log().wait_durable_blocking(written).unwrap();
    trace(engine, n).records.remove(0).batches
}

fn states(batches: &[TraceBatch]) -> Vec<(&str, BatchState)> {
    batches.iter().map(|batch| (batch.sink.as_str(), batch.state)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_names_the_batches_that_carried_it_also_after_restarts() {
    let storage = SimStorage::new();
    let mut shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), 5);
    let partners = Partners::start().await;
    let handle = partners.deliver(&shop.engine);
    shop.sell(1).unwrap();
    handle.drain(PATIENCE).await.unwrap();
    shop.sell(2).unwrap();
    let note: Note = serde_json::from_str(r#"{"note_id": "N", "text": "a dispute"}"#).unwrap();
    let key = "note".parse().unwrap();
    let noted = shop.engine.note(Key::new("", &key), &order_id(2), &note);
    shop.engine.settle_blocking(noted).unwrap();
    handle.drain(PATIENCE).await.unwrap();
    use BatchState::Delivered;
    let first = batches(&shop.engine, 1);
    assert_eq!(states(&first), [("books", Delivered), ("erp", Delivered)]);
    for batch in &first {
        assert_eq!((batch.attempts, batch.status), (Some(1), Some(200)), "{batch:?}");
        assert!(batch.answered_at.unwrap() >= batch.sealed_at);
        let sink = &batch.sink;
        assert!(batch.batch_id.as_ref().unwrap().starts_with(&format!("{sink}-")), "{batch:?}");
    }
    let second = trace(&shop.engine, 2);
    assert_eq!(states(&second.records[0].batches), [("books", Delivered), ("erp", Delivered)]);
    assert_ne!(second.records[0].batches[0].batch_id, first[0].batch_id);
    assert_eq!(second.records[1].batches, [], "a note is carried to nobody");

    let opened_again = |checkpoint: bool| {
        let engine = Engine::open_on(storage.clone(), options()).unwrap();
        assert_eq!(batches(&engine, 1), first);
        assert_eq!(batches(&engine, 2), second.records[0].batches);
        if checkpoint {
            engine.checkpoint().unwrap();
        }
        engine.close().unwrap();
    };
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
    drop(shop);
    // From the tail of the log, then from what lies behind a checkpoint.
    opened_again(true);
    opened_again(false);
}

/// The index of seals comes from the checkpoint. What lies before it in the log is not read: there, a
/// record is damaged, which whoever reads it would see.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_knows_the_batches_of_before_its_checkpoint_without_reading_the_log_there() {
    let storage = SimStorage::new();
    let mut shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), 5);
    let partners = Partners::start().await;
    let handle = partners.deliver(&shop.engine);
    for n in 1..=3 {
        shop.sell(n).unwrap();
        handle.drain(PATIENCE).await.unwrap();
    }
    handle.shutdown(PATIENCE).await.unwrap();
    let told: Vec<_> = (1..=3).map(|n| batches(&shop.engine, n)).collect();
    let damaged = trace(&shop.engine, 2).records[0].lsn.0;
    shop.engine.checkpoint().unwrap();
    shop.engine.close().unwrap();
    drop(shop);
    let segment_bytes = options().wal.segment_bytes;
    let segment = format!("{:016x}.log", damaged / segment_bytes);
    storage.flip(&segment, damaged % segment_bytes + 40, 1);

    let engine = Engine::open_on(storage, options()).unwrap();
    let lost = engine.settle_blocking(engine.trace(&order_id(2))).unwrap_err();
    assert!(matches!(lost, Refusal::Archived { .. }), "{lost}");
    assert_eq!(told[0].len(), 2);
    assert_eq!(batches(&engine, 1), told[0]);
    assert_eq!(batches(&engine, 3), told[2]);
    engine.close().unwrap();
}

/// The record of order `n` of a kind.
fn record<S: Storage>(engine: &Engine<S>, n: u64, kind: &str) -> TraceRecord {
    let records = trace(engine, n).records;
    records.into_iter().find(|record| record.kind == kind).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_waited_names_who_parked_it_who_released_it_and_the_batch_of_that() {
    let storage = SimStorage::new();
    let mut shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), 5);
    let partners = Partners::start().await;
    let deliver = |engine: &Engine<SimStorage>| {
        let mut configs = partners.configs();
        configs.iter_mut().for_each(|config| config.recognition = Recognition::Invoice);
        sinks::start(engine, configs, &tokio::runtime::Handle::current()).unwrap()
    };
    (1..=3).for_each(|n| shop.sell(n).unwrap());
    // The entry of the two invoices spans a settlement and an order, which are none of its records.
    invoice(&shop.engine, 2);
    settle(&shop.engine, 1, 90);
    shop.sell(4).unwrap();
    invoice(&shop.engine, 3);
    let handle = deliver(&shop.engine);
    handle.drain(PATIENCE).await.unwrap();
    let waiting = record(&shop.engine, 1, "settlement");
    assert_eq!(waiting.batches, []);
    let sold = batches(&shop.engine, 4);
    assert_eq!(sold.iter().map(|batch| batch.sink.as_str()).collect::<Vec<_>>(), ["erp"]);
    let by_invoices = record(&shop.engine, 2, "invoice").batches.remove(0);
    let TraceParked { sink, window, seal_lsn, parked_at, .. } = waiting.parked[0].clone();
    assert_eq!((sink.as_str(), window, seal_lsn), ("books", 1, by_invoices.seal_lsn));
    assert_eq!(parked_at, by_invoices.sealed_at);
    assert_eq!(waiting.parked[0].released_at, None);
    assert_eq!(record(&shop.engine, 2, "invoice").parked, []);

    // Parked before a checkpoint, released behind it.
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.checkpoint().unwrap();
    shop.engine.close().unwrap();
    drop(shop);
    let engine = Engine::open_on(storage.clone(), options()).unwrap();
    assert_eq!(record(&engine, 1, "settlement").parked, waiting.parked);
    let handle = deliver(&engine);
    invoice(&engine, 1);
    handle.drain(PATIENCE).await.unwrap();
    let delivered = [("books", BatchState::Delivered)];
    until("delivered", || states(&record(&engine, 1, "settlement").batches) == delivered).await;
    let released = record(&engine, 1, "settlement");
    let batch = released.batches[0].clone();
    assert_eq!(batch.attempts, Some(1));
    let by_invoice = record(&engine, 1, "invoice").batches.remove(0);
    assert_eq!((&batch.batch_id, batch.seal_lsn), (&by_invoice.batch_id, by_invoice.seal_lsn));
    let parked = TraceParked {
        released_window: Some(2),
        released_seal_lsn: Some(batch.seal_lsn),
        released_at: Some(batch.sealed_at),
        ..waiting.parked[0].clone()
    };
    assert_eq!(released.parked, [parked]);

    handle.shutdown(PATIENCE).await.unwrap();
    engine.close().unwrap();
    drop(engine);
    // From the log's tail, then from a checkpoint.
    for checkpoint in [true, false] {
        let engine = Engine::open_on(storage.clone(), options()).unwrap();
        let again = record(&engine, 1, "settlement");
        assert_eq!((again.parked, again.batches), (released.parked.clone(), vec![batch.clone()]));
        if checkpoint {
            engine.checkpoint().unwrap();
        }
        engine.close().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_sealed_until_the_partner_has_answered_and_refused_if_it_says_so() {
    let mut shop = Shop::open(Engine::open_on(SimStorage::new(), options()).unwrap(), 5);
    let partners = Partners::start().await;
    partners.erp.behave(|b| b.outage = true);
    partners.books.behave(|b| b.refuse_with = Some(422));
    // Sold before anything is sealed, so that the first batches have it.
    shop.sell(1).unwrap();
    let handle = partners.deliver(&shop.engine);
    let wanted = [("books", BatchState::Refused), ("erp", BatchState::Sealed)];
    until("refused and sealed", || states(&batches(&shop.engine, 1)) == wanted).await;
    let told = batches(&shop.engine, 1);
    assert_eq!((told[0].status, told[1].attempts), (Some(422), None));
    assert_eq!(told[1].answered_at, None);
    until("tried again", || handle.snapshot().iter().any(|sink| sink.retries > 0)).await;
    partners.erp.behave(|b| b.outage = false);
    until("delivered", || batches(&shop.engine, 1)[1].state == BatchState::Delivered).await;
    assert!(batches(&shop.engine, 1)[1].attempts > Some(1));
    handle.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_takes_a_few_milliseconds_among_many_orders() {
    let mut shop = Shop::open(Engine::open_on(SimStorage::new(), options()).unwrap(), 20);
    let partners = Partners::start().await;
    let handle = partners.deliver(&shop.engine);
    for n in 0..3_000 {
        shop.sell(n).unwrap();
    }
    handle.drain(PATIENCE).await.unwrap();
    let began = Instant::now();
    for n in (0..3_000).step_by(30) {
        assert_eq!(batches(&shop.engine, n).len(), 2, "{n}");
    }
    let each = began.elapsed() / 100;
    // Unoptimised, and beside other tests; it is far below.
    assert!(each < Duration::from_millis(50), "{each:?}");
    handle.shutdown(PATIENCE).await.unwrap();
}

/// Waves and streams name what they bring: of several lanes, several batches of a seal, and a filter, a
/// trace has the batches alone whose bodies name the order.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_of_waves_and_streams_names_the_batches_whose_bodies_name_the_order() {
    use crate::far_common::{link::Link, location, order};
    use holdfast::{
        config::{Domain, FilterConfig, SinkConfig},
        model::command::Priority,
    };
    let shop = Shop::open(Engine::open_on(SimStorage::new(), options()).unwrap(), 5);
    let sold = |n: u64, priority, locations: &[u64]| {
        let mut place = order(n, 5);
        place.priority = priority;
        place.lines = locations.iter().map(|_| place.lines[0].clone()).collect();
        for (line, at) in place.lines.iter_mut().zip(locations) {
            line.location = Some(location(*at));
        }
        let key = format!("order-{n}").parse().unwrap();
        let placed = shop.engine.place_order(Key::new("", &key), &place);
        shop.engine.settle_blocking(placed).unwrap();
    };
    // All before anything is sealed, so that a seal of the standard lane has a batch for each location.
    sold(1, Priority::Standard, &[0]);
    sold(2, Priority::Express, &[1]);
    sold(3, Priority::Standard, &[0, 1]);
    sold(4, Priority::Standard, &[1]);
    let waves = |name: &str| SinkConfig::new(name, Domain::Fulfilment, "http://127.0.0.1:1/");
    let filter = FilterConfig { locations: vec![location(0)], ..FilterConfig::default() };
    let links: Vec<_> = [
        waves("wms"),
        SinkConfig { filter, ..waves("wms-ber") },
        SinkConfig::new("events", Domain::Stream, "http://127.0.0.1:1/"),
    ]
    .map(|config| (Link::default(), config))
    .into();
    for (link, config) in &links {
        let handle = link.deliver(&shop.engine, config.clone());
        handle.drain(PATIENCE).await.unwrap();
        handle.shutdown(PATIENCE).await.unwrap();
    }
    for n in 1..=4 {
        let told: Vec<_> = batches(&shop.engine, n)
            .into_iter()
            .map(|batch| (batch.sink, batch.batch_id.unwrap(), batch.state))
            .collect();
        let (order_id, lsn) = (order_id(n).to_string(), trace(&shop.engine, n).records[0].lsn);
        let life = shop.engine.log().incarnation();
        let needles = [format!("\"order_id\":\"{order_id}\""), format!("\"id\":\"{life}-{lsn}\"")];
        let mut expected = Vec::new();
        for (link, config) in &links {
            let needle = &needles[usize::from(config.domain == Domain::Stream)];
            let erp = link.erp();
            let named = |body: &[u8]| String::from_utf8_lossy(body).contains(needle.as_str());
            for (id, _) in erp.taken.iter().filter(|(_, body)| named(body)) {
                expected.push((config.name.clone(), id.clone(), BatchState::Delivered));
            }
        }
        expected.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        assert_eq!(told, expected, "order {n}");
    }
    let count = |n| batches(&shop.engine, n).len();
    assert_eq!([1, 2, 3, 4].map(count), [3, 2, 4, 2]);
}

/// A partner takes what one batch says of an order and refuses what it says of another: the two are told
/// apart, and what is sent again is told behind what was refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_tells_what_became_of_the_orders_own_items_and_of_their_letters() {
    use crate::far_common::{link::Link, order};
    use BatchState::{Delivered, PartlyDelivered, Refused};
    use holdfast::{
        config::{Domain, SinkConfig},
        model::{
            Currency,
            sink::wish::{By, Wish},
        },
    };
    // What is refused of the second order: of its movements one of three.
    let domains = [
        (Domain::Fulfilment, "\"O-2\"", Refused),
        (Domain::Stream, "\"O-2\"", Refused),
        (Domain::Finance, "\"JPY\"", Refused),
        (Domain::Inventory, "\"SKU-4\"", PartlyDelivered),
    ];
    for ((domain, bad, second), knows_lines) in
        domains.into_iter().flat_map(|domain| [(domain, false), (domain, true)])
    {
        let what = format!("{domain:?}, knows lines: {knows_lines}");
        let storage = SimStorage::new();
        let mut shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), 5);
        let link = Link::default();
        let config = SinkConfig::new("far", domain, "http://127.0.0.1:1/");
        link.erp().knows_lines = knows_lines;
        // The stock is with the partner; both orders are sold before anything more is sealed.
        let handle = link.deliver(&shop.engine, config.clone());
        handle.drain(PATIENCE).await.unwrap();
        handle.shutdown(PATIENCE).await.unwrap();
        shop.engine.close().unwrap();
        shop.engine = Engine::open_on(storage.clone(), options()).unwrap();
        for (n, currency) in [(1, "EUR"), (2, "JPY")] {
            let mut place = order(n, 5);
            place.currency = Currency::new(currency).unwrap();
            let key = format!("order-{n}").parse().unwrap();
            let placed = shop.engine.place_order(Key::new("", &key), &place);
            shop.engine.settle_blocking(placed).unwrap();
        }
        link.erp().bad = Some(bad);
        let handle = link.deliver(&shop.engine, config);
        handle.drain(PATIENCE).await.unwrap();
        let of = |n| -> Vec<(BatchState, bool)> {
            let batches = batches(&shop.engine, n).into_iter();
            batches.map(|batch| (batch.state, batch.letter.is_some())).collect()
        };
        assert_eq!((of(1), of(2)), (vec![(Delivered, false)], vec![(second, false)]), "{what}");
        let answers = [1, 2].map(|n| batches(&shop.engine, n).remove(0).answer);
        assert_eq!(answers, [None, Some("no such article".to_owned())], "{what}");

        let retry = async || {
            let letter = handle.letters().remove(0).1.id.clone();
            let wish = Wish::Retry { letter: letter.clone() };
            handle.wish("far", wish, By::default()).await.unwrap().unwrap();
            letter
        };
        retry().await;
        until("refused again", || of(2).last() == Some(&(Refused, true))).await;
        link.erp().bad = None;
        let letter = retry().await;
        until("taken", || of(2).last() == Some(&(Delivered, true))).await;
        let sent = batches(&shop.engine, 2);
        assert_eq!(of(1), [(Delivered, false)], "{what}");
        assert_eq!(of(2), [(second, false), (Refused, true), (Delivered, true)], "{what}");
        assert_eq!(sent[2].letter.as_ref(), Some(&letter), "{what}");
        assert_eq!(sent[2].batch_id.as_ref(), Some(&link.erp().sent.last().unwrap().0), "{what}");
        assert!(sent[2].seal_lsn > sent[0].seal_lsn && sent[2].attempts == Some(1), "{sent:?}");

        // From the tail of the log, then from a checkpoint.
        handle.shutdown(PATIENCE).await.unwrap();
        shop.engine.close().unwrap();
        drop(shop);
        for checkpoint in [true, false] {
            let engine = Engine::open_on(storage.clone(), options()).unwrap();
            assert_eq!(batches(&engine, 2), sent, "{what}");
            if checkpoint {
                engine.checkpoint().unwrap();
            }
            engine.close().unwrap();
        }
    }
}
