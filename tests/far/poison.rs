//! Poisoned batches over the real engine: bad lines are found and the others arrive once, at a partner
//! that knows nothing but the ids of batches, wherever the process ends in the middle of the search, and
//! again when all of it is replayed. What calls a dead order off waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::far_common::{PATIENCE, Shop, link, options, order_id, until};
use holdfast::{
    config::{Dedupe, Domain, SinkConfig},
    delivery::{self, Handle, Outcome, Part, Partner, Sending},
    engine::{Engine, Key},
    model::{
        Lsn,
        command::Cancel,
        letter::Letter,
        sink::wish::{By, Denied, From, Granted, Wish},
    },
    wal::sim::SimStorage,
};
use parking_lot::Mutex;
use serde_json::Value;

/// Takes each batch and part once, by its id, and refuses those with a line of one SKU.
#[derive(Debug, Default)]
struct Erp {
    known: BTreeSet<String>,
    /// How often each line was applied.
    applied: BTreeMap<String, u32>,
    attempts: u64,
    /// The attempt that is never answered, and whether it has its effect.
    hangs_at: Option<(u64, bool)>,
    refuses: bool,
}

#[derive(Debug, Clone)]
struct Link(Arc<Mutex<Erp>>);

fn lines(body: &[u8]) -> Vec<(String, bool)> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let line = |line: &Value| {
        (line["line_id"].as_str().unwrap().to_owned(), line["sku"].as_str() == Some("SKU-3"))
    };
    body["lines"].as_array().unwrap().iter().map(line).collect()
}

impl Erp {
    fn take(&mut self, part: &Part) -> Outcome {
        let done = |status| Outcome::Done { status, rejected: Vec::new() };
        if self.known.contains(&part.id) {
            return done(409);
        }
        let lines = lines(&part.body);
        if self.refuses && lines.iter().any(|(_, bad)| *bad) {
            let answer = "no such article".to_owned();
            return Outcome::Refused { status: 422, rejected: Vec::new(), answer };
        }
        self.known.insert(part.id.clone());
        for (line, _) in lines {
            *self.applied.entry(line).or_default() += 1;
        }
        done(200)
    }
}

impl Partner for Link {
    fn send<'a>(&'a self, part: &'a Part) -> Sending<'a> {
        Box::pin(async move {
            let (outcome, hangs) = {
                let mut erp = self.0.lock();
                erp.attempts += 1;
                let hang = erp.hangs_at.filter(|(at, _)| *at == erp.attempts);
                match hang {
                    Some((_, false)) => (None, true),
                    Some((_, true)) => (Some(erp.take(part)), true),
                    None => (Some(erp.take(part)), false),
                }
            };
            match outcome {
                Some(outcome) if !hangs => outcome,
                _ => std::future::pending().await,
            }
        })
    }
}

fn deliver(engine: &Engine<SimStorage>, link: &Link, dedupe: Dedupe) -> Handle {
    let config = SinkConfig {
        dedupe,
        window_ms_max: 50,
        ..SinkConfig::new("erp", Domain::Inventory, "http://127.0.0.1:1/")
    };
    let partner: Box<dyn Partner> = Box::new(link.clone());
    delivery::start(engine, vec![(config, partner)], &tokio::runtime::Handle::current()).unwrap()
}

/// Every line was applied once or lies in one letter; both only where the letter is uncertain.
fn audit(erp: &Erp, letters: &[(String, Arc<Letter>)]) -> (usize, usize) {
    let (mut aside, mut bad_aside) = (BTreeMap::new(), 0);
    for (_, letter) in letters {
        for (line, bad) in lines(&letter.body) {
            assert_eq!(aside.insert(line.clone(), letter.uncertain), None, "{line} in two letters");
            bad_aside += usize::from(bad);
        }
    }
    for (line, times) in &erp.applied {
        assert_eq!(*times, 1, "{line} was applied {times} times");
        assert_ne!(aside.get(line), Some(&false), "{line} was applied, and is in a certain letter");
    }
    let all: BTreeSet<_> = erp.applied.keys().chain(aside.keys()).collect();
    (all.len(), bad_aside)
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_are_found_and_the_rest_arrives_once_wherever_it_ends_in_between() {
    let mut seen = BTreeSet::new();
    for (hangs_at, effect) in (1..=12).flat_map(|n| [(n, false), (n, true)]) {
        let storage = SimStorage::new();
        let shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), 8);
        let erp = Erp { refuses: true, hangs_at: Some((hangs_at, effect)), ..Erp::default() };
        let link = Link(Arc::new(Mutex::new(erp)));
        let handle = deliver(&shop.engine, &link, Dedupe::Batch);
        let end = tokio::time::Instant::now() + PATIENCE;
        while link.0.lock().attempts < hangs_at && tokio::time::Instant::now() < end {
            if handle.drain(Duration::from_millis(50)).await.is_ok() {
                break;
            }
        }
        // The attempt under way is given up, as a killed process does.
        let _ = handle.shutdown(Duration::from_millis(20)).await;
        shop.engine.close().unwrap();
        let engine = Engine::open_on(storage, options()).unwrap();
        let handle = deliver(&engine, &link, Dedupe::Batch);
        handle.drain(PATIENCE).await.unwrap();
        let letters = handle.letters();
        let (all, bad) = audit(&link.0.lock(), &letters);
        assert_eq!((all, bad), (16, 2), "ended in attempt {hangs_at}");
        seen.insert(letters.len());
        handle.shutdown(PATIENCE).await.unwrap();
    }
    assert!(seen.contains(&2), "somewhere both bad lines were found alone: {seen:?}");
}

/// The attempts that were made for each letter.
fn attempts(handle: &Handle) -> Vec<u64> {
    handle.letters().into_iter().map(|(_, letter)| letter.attempts).collect()
}

async fn retry(handle: &Handle, letters: &[String]) {
    for letter in letters {
        let wish = Wish::Retry { letter: letter.clone() };
        handle.wish("erp", wish, By::default()).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_goes_out_once_when_the_partner_knows_the_article() {
    for dedupe in [Dedupe::Line, Dedupe::Batch] {
        let storage = SimStorage::new();
        let shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), 8);
        let link = Link(Arc::new(Mutex::new(Erp { refuses: true, ..Erp::default() })));
        let handle = deliver(&shop.engine, &link, dedupe);
        handle.drain(PATIENCE).await.unwrap();
        let names: Vec<_> =
            handle.letters().into_iter().map(|(_, letter)| letter.id.clone()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        // Sent again too early, they are refused again: they are still the same letters.
        let first = attempts(&handle);
        retry(&handle, &names).await;
        let more = || attempts(&handle).iter().zip(&first).all(|(now, before)| now > before);
        until("refused again", more).await;
        let again: Vec<_> =
            handle.letters().into_iter().map(|(_, letter)| letter.id.clone()).collect();
        assert_eq!(again, names);
        link.0.lock().refuses = false;
        retry(&handle, &names).await;
        let end = tokio::time::Instant::now() + PATIENCE;
        while !handle.letters().is_empty() {
            assert!(tokio::time::Instant::now() < end, "{:?}", handle.letters());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(audit(&link.0.lock(), &[]), (16, 0));
        handle.shutdown(PATIENCE).await.unwrap();
        shop.engine.close().unwrap();
    }
}

fn erp(domain: Domain) -> SinkConfig {
    SinkConfig::new("erp", domain, "http://127.0.0.1:1/")
}

async fn wish(handle: &Handle, wish: Wish) -> Result<Granted, Denied> {
    let by = By { reason: "for a test".into(), ..By::default() };
    handle.wish("erp", wish, by).await.unwrap()
}

/// The process ends in good order, and begins again, after a checkpoint.
async fn again(
    shop: &mut Shop<SimStorage>,
    handle: Handle,
    storage: &SimStorage,
    to: (&link::Link, Domain),
) -> Handle {
    shop.engine.checkpoint().unwrap();
    handle.shutdown(Duration::from_millis(50)).await.ok();
    shop.engine.close().unwrap();
    shop.engine = Engine::open_on(storage.clone(), options()).unwrap();
    to.0.deliver(&shop.engine, erp(to.1))
}

async fn replay(handle: &Handle) {
    wish(handle, Wish::Replay { from: From::Lsn(Lsn(0)) }).await.unwrap();
    until("it is done", || handle.snapshot()[0].replaying == 0).await;
}

/// Batches that were halved, refused whole, retried, and with a line that was dropped for good: a partner
/// that has all of it takes nothing twice, and one that lost all of it has the same again.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_what_was_parted_sends_what_was_taken_and_nothing_twice() {
    for knows_lines in [false, true] {
        let storage = SimStorage::new();
        let mut shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), 8);
        let bad = || Some("\"SKU-3\"");
        let link = link::Link::default();
        *link.erp() = link::Erp { knows_lines, bad: bad(), ..link::Erp::default() };
        let mut handle = link.deliver(&shop.engine, erp(Domain::Inventory));
        handle.drain(PATIENCE).await.unwrap();
        while handle.letters().len() < 5 {
            (0..6).for_each(|_| shop.sell(shop.orders).unwrap());
            handle.drain(PATIENCE).await.unwrap();
        }
        let whole = |ids: &[String]| ids.iter().filter(|id| id.matches('.').count() == 0).count();
        let parts: Vec<_> = link.erp().taken.keys().cloned().collect();
        assert!(whole(&parts) < parts.len(), "some were halved: {parts:?}");
        link.erp().bad = None;
        let names: Vec<_> = handle.letters().iter().map(|(_, l)| l.id.clone()).collect();
        for (n, letter) in names.iter().enumerate() {
            match n {
                0 => drop(wish(&handle, Wish::Discard { letter: letter.clone() }).await.unwrap()),
                1 => {}
                _ => drop(wish(&handle, Wish::Retry { letter: letter.clone() }).await.unwrap()),
            }
        }
        until("they are taken", || handle.letters().len() == 1).await;
        let letters = handle.letters();
        let before = link.erp().taken.clone();
        let applied = link.erp().applied.clone();
        let sold = link.erp().sold();

        replay(&handle).await;
        assert_eq!(link.erp().applied, applied, "knows_lines: {knows_lines}");
        assert_eq!((&link.erp().taken, handle.letters()), (&before, letters.clone()));
        // Again after a restart, to a partner that was restored from before all of it.
        handle = again(&mut shop, handle, &storage, (&link, Domain::Inventory)).await;
        *link.erp() = link::Erp { knows_lines, ..link::Erp::default() };
        replay(&handle).await;
        link.erp().audit(&letters);
        assert_eq!(link.erp().taken, before);
        assert_eq!(link.erp().sold(), sold);
        assert_eq!(handle.letters(), letters);
        assert_eq!(link.erp().sent.len(), before.len(), "each part once");
        handle.shutdown(PATIENCE).await.unwrap();
    }
}

/// The process ends between any two parts of a replay of a halved batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_what_was_parted_goes_on_where_it_ended() {
    for (hangs_at, effect) in (1..=4).flat_map(|n| [(n, false), (n, true)]) {
        let storage = SimStorage::new();
        let mut shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), 8);
        let link = link::Link::default();
        link.erp().bad = Some("\"SKU-3\"");
        let mut handle = link.deliver(&shop.engine, erp(Domain::Inventory));
        handle.drain(PATIENCE).await.unwrap();
        let (taken, letters) = (link.erp().taken.clone(), handle.letters());
        assert!(taken.len() >= 2 && !letters.is_empty(), "{taken:?}");
        *link.erp() = link::Erp { hangs_at: Some((hangs_at, effect)), ..link::Erp::default() };
        wish(&handle, Wish::Replay { from: From::Lsn(Lsn(0)) }).await.unwrap();
        until("it hangs or is done", || {
            link.erp().sent.len() == hangs_at || handle.snapshot()[0].replaying == 0
        })
        .await;
        handle = again(&mut shop, handle, &storage, (&link, Domain::Inventory)).await;
        until("it is done", || handle.snapshot()[0].replaying == 0).await;
        link.erp().audit(&letters);
        assert_eq!((&link.erp().taken, handle.letters()), (&taken, letters));
        handle.shutdown(PATIENCE).await.unwrap();
    }
}

fn cancel(shop: &Shop<SimStorage>, n: u64) {
    let key = format!("cancel-{n}").parse().unwrap();
    let cancel = Cancel { cancellation_id: format!("C-{n}").parse().unwrap(), lines: None };
    let cancelled = shop.engine.cancel(Key::new("", &key), &order_id(n), &cancel);
    shop.engine.settle_blocking(cancelled).unwrap();
}

/// What a warehouse was told of these orders, in its order.
fn picks(link: &link::Link, orders: &[u64]) -> Vec<(String, String)> {
    let erp = link.erp();
    let item = |(_, item): &(Value, Value)| {
        let text = |field: &str| item[field].as_str().unwrap().to_owned();
        (text("order_id"), text("is"))
    };
    let wanted = |(order, _): &(String, String)| orders.iter().any(|n| format!("O-{n}") == *order);
    erp.effect.iter().map(item).filter(wanted).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_waits_for_its_order_that_lies_dead_and_follows_it() {
    let storage = SimStorage::new();
    let mut shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), 8);
    let link = link::Link::default();
    link.erp().bad = Some("\"SKU-3\"");
    let warehouse = (&link, Domain::Fulfilment);
    let mut handle = link.deliver(&shop.engine, erp(Domain::Fulfilment));
    // Order 5 has the bad SKU, alone in its wave; order 6 is good.
    let dead = (0..20)
        .find(|n| crate::far_common::order(*n, 8).lines.iter().any(|l| l.sku.as_str() == "SKU-3"));
    let (dead, good) = (dead.unwrap(), 6);
    for n in [dead, good] {
        shop.sell(n).unwrap();
        handle.drain(PATIENCE).await.unwrap();
    }
    let [(_, first)] = handle.letters().try_into().unwrap();
    cancel(&shop, dead);
    cancel(&shop, good);
    handle.drain(PATIENCE).await.unwrap();
    let told = |n: u64, is: &str| (format!("O-{n}"), is.to_owned());
    let good_alone = [told(good, "orders"), told(good, "cancellations")];
    assert_eq!(picks(&link, &[dead, good]), good_alone, "the other is not held up");
    let behind = |handle: &Handle| {
        let letters = handle.letters().into_iter().map(|(_, letter)| letter);
        letters.filter(|letter| letter.id != first.id).collect::<Vec<_>>()
    };
    let [second] = behind(&handle).try_into().unwrap();
    assert!(second.reason.contains(&first.id) && !second.uncertain, "{second:?}");
    assert_eq!(second.attempts, 0, "it was never sent");

    // By itself it does not go; right behind its order it does, but not while that is refused again.
    let alone = wish(&handle, Wish::Retry { letter: second.id.clone() }).await;
    let why = Denied::Behind { letter: second.id.clone(), first: first.id.clone() };
    assert_eq!(alone, Err(why));
    handle = again(&mut shop, handle, &storage, warehouse).await;
    let retry = || Wish::Retry { letter: first.id.clone() };
    for _ in 0..2 {
        let count = wish(&handle, retry()).await.unwrap().count;
        assert_eq!(count, 2, "both go");
        let dead = |handle: &Handle| {
            handle.letter_views(None).iter().filter(|l| l.state == "dead").count()
        };
        until("both are back", || dead(&handle) == 2).await;
        assert_eq!(picks(&link, &[dead_order(&first)]), []);
        let [now] = behind(&handle).try_into().unwrap();
        assert_eq!((&now.id, &now.part_id, now.attempts), (&second.id, &second.part_id, 0));
    }
    link.erp().bad = None;
    wish(&handle, retry()).await.unwrap();
    until("both are taken", || handle.letters().is_empty()).await;
    assert_eq!(picks(&link, &[dead]), [told(dead, "orders"), told(dead, "cancellations")]);
    assert_eq!(link.erp().to_pick(), shop.committed());
    link.erp().audit(&[]);
    handle.shutdown(PATIENCE).await.unwrap();
}

fn dead_order(letter: &Letter) -> u64 {
    let body: Value = serde_json::from_slice(&letter.body).unwrap();
    body["orders"][0]["order_id"].as_str().unwrap()[2..].parse().unwrap()
}

/// When the order is dropped for good, what calls it off is a person's to send or to drop.
#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_an_order_is_free_when_that_is_dropped() {
    let storage = SimStorage::new();
    let mut shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), 8);
    let link = link::Link::default();
    link.erp().down = Some("");
    let warehouse = (&link, Domain::Fulfilment);
    let mut handle = link.deliver(&shop.engine, erp(Domain::Fulfilment));
    shop.sell(6).unwrap();
    until("it is tried", || !link.erp().sent.is_empty()).await;
    wish(&handle, Wish::Skip).await.unwrap();
    until("it is a letter", || handle.letters().len() == 1).await;
    // The cancellation is sealed, and the process ends before it is handed over.
    wish(&handle, Wish::Pause).await.unwrap();
    link.erp().down = None;
    cancel(&shop, 6);
    handle = again(&mut shop, handle, &storage, warehouse).await;
    wish(&handle, Wish::Resume).await.unwrap();
    handle.drain(PATIENCE).await.unwrap();
    assert_eq!(picks(&link, &[6]), []);
    let letters = handle.letters();
    let behind = letters.iter().find(|(_, letter)| letter.reason.contains("must come first"));
    let (first, behind) = (&letters[0].1, &behind.unwrap().1);
    assert_eq!(letters.len(), 2);
    wish(&handle, Wish::Discard { letter: first.id.clone() }).await.unwrap();
    wish(&handle, Wish::Retry { letter: behind.id.clone() }).await.unwrap();
    until("it is taken", || handle.letters().is_empty()).await;
    assert_eq!(picks(&link, &[6]), [("O-6".to_owned(), "cancellations".to_owned())]);
    handle.shutdown(PATIENCE).await.unwrap();
}
