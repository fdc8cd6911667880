//! Poisoned batches over the real engine: bad lines are found and the others arrive once, at a partner
//! that knows nothing but the ids of batches, wherever the process ends in the middle of the search.

mod far_common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use far_common::{PATIENCE, Shop, options, until};
use holdfast::{
    config::{Dedupe, Domain, SinkConfig},
    delivery::{self, Handle, Outcome, Part, Partner, Sending},
    engine::Engine,
    model::{
        letter::Letter,
        sink::wish::{By, Wish},
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
