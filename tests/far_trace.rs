//! Lineage to the far end: a trace names the batch that carried each record, and what became of it.

mod far_common;

use std::time::{Duration, Instant};

use far_common::{PATIENCE, Partners, Shop, options, order_id, until};
use holdfast::{
    engine::{Engine, Key},
    model::{
        command::Note,
        lineage::{BatchState, TraceBatch, TraceView},
    },
    wal::{Storage, sim::SimStorage},
};

fn trace<S: Storage>(engine: &Engine<S>, n: u64) -> TraceView {
    engine.settle_blocking(engine.trace(&order_id(n))).unwrap().value
}

/// The batches of an order's first record, by sink.
fn batches<S: Storage>(engine: &Engine<S>, n: u64) -> Vec<TraceBatch> {
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
