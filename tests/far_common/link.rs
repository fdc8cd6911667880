//! A partner in memory that remembers what it was sent and what that did, for tests of what an operator
//! does and of what a crash leaves. It knows lines or batches again, as it is told.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use holdfast::{
    config::{Dedupe, SinkConfig},
    delivery::{self, Effect, Handle, Outcome, Part, Partner, Sending},
    engine::Engine,
    feed::Rejected,
    model::letter::Letter,
    wal::Storage,
};
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

/// What it knows, and how it behaves.
#[derive(Debug, Default)]
pub struct Erp {
    /// Every attempt that reached it: id and body.
    pub sent: Vec<(String, Bytes)>,
    /// How often each line was applied.
    pub applied: BTreeMap<String, u32>,
    /// The lines that were applied, each with the head of its batch.
    pub effect: Vec<(Value, Value)>,
    /// The bodies of the batches and parts that it took, by id.
    pub taken: BTreeMap<String, Bytes>,
    /// What broke a promise.
    pub violations: Vec<String>,
    /// It refuses lines in which this text stands.
    pub bad: Option<&'static str>,
    /// It takes the lines of a batch beside those that it refuses, and names these.
    pub names_bad: bool,
    /// How many bytes it says about each of them.
    pub words: usize,
    /// Batches in which this text stands fail; an empty text: all.
    pub down: Option<&'static str>,
    /// The attempt that is never answered, counted from 1, and whether it has its effect.
    pub hangs_at: Option<(usize, bool)>,
    /// Whether it knows lines again, not batches alone.
    pub knows_lines: bool,
}

/// The way to it.
#[derive(Debug, Clone, Default)]
pub struct Link(pub Arc<Mutex<Erp>>);

/// The lines of a body: their names, and the body without them.
pub fn lines(body: &[u8]) -> (Value, Vec<(String, Value)>) {
    let mut head: Value = serde_json::from_slice(body).unwrap();
    let named = |field: &str, items: Value| -> Vec<(String, Value)> {
        let Value::Array(items) = items else { panic!("{items}") };
        let name = |mut item: Value, field: &str| {
            let id = item[field].as_str().unwrap().to_owned();
            item["is"] = field.into();
            (id, item)
        };
        items.into_iter().map(|item| name(item, field)).collect()
    };
    if head.is_array() {
        return (Value::Null, named("id", head));
    }
    let mut all = Vec::new();
    for (array, id) in [
        ("lines", "line_id"),
        ("entries", "entry_id"),
        ("orders", "line_id"),
        ("cancellations", "line_id"),
    ] {
        let Some(items) = head.as_object_mut().unwrap().remove(array) else { continue };
        let items = named(id, items).into_iter().map(|(name, mut item)| {
            item["is"] = array.into();
            (name, item)
        });
        all.extend(items);
    }
    (head, all)
}

impl Erp {
    /// What was sent since attempt number `from`, by id.
    pub fn ids_since(&self, from: usize) -> Vec<String> {
        self.sent[from..].iter().map(|(id, _)| id.clone()).collect()
    }

    /// A part has come.
    pub fn take(&mut self, part: &Part) -> Outcome {
        let text = String::from_utf8(part.body.to_vec()).unwrap();
        if self.down.is_some_and(|down| text.contains(down)) {
            let reason = "down".to_owned();
            return Outcome::Failed { reason, retry_after: None, effect: Effect::None };
        }
        if let Some(before) = self.taken.get(&part.id) {
            if *before != part.body {
                self.violations.push(format!("{} came again with other bytes", part.id));
            }
            return Outcome::Done { status: 409, rejected: Vec::new() };
        }
        let (head, mut lines) = lines(&part.body);
        let bad = |line: &Value| self.bad.is_some_and(|bad| line.to_string().contains(bad));
        let mut rejected = Vec::new();
        if self.names_bad {
            let named = lines.extract_if(.., |(_, line)| bad(line));
            let reason = format!("no such article{}", " at all".repeat(self.words / 7));
            let name = |(line_id, _)| Rejected { line_id, reason: reason.clone() };
            rejected.extend(named.map(name));
        }
        if lines.iter().any(|(_, line)| bad(line)) {
            let answer = "no such article".to_owned();
            return Outcome::Refused { status: 422, rejected: Vec::new(), answer };
        }
        self.taken.insert(part.id.clone(), part.body.clone());
        for (id, line) in lines {
            if self.knows_lines && self.applied.contains_key(&id) {
                continue;
            }
            *self.applied.entry(id).or_default() += 1;
            self.effect.push((head.clone(), line));
        }
        Outcome::Done { status: 200, rejected }
    }

    /// Units that it was told are sold, by SKU and location.
    pub fn sold(&self) -> BTreeMap<(String, String), i64> {
        let mut sold = BTreeMap::new();
        for (_, line) in self.effect.iter().filter(|(_, line)| line["movement"] == "sold") {
            let text = |field: &str| line[field].as_str().unwrap().to_owned();
            *sold.entry((text("sku"), text("location"))).or_default() +=
                line["quantity"].as_i64().unwrap();
        }
        sold
    }

    /// Units that it was asked to pick less those called off, by SKU and location.
    pub fn to_pick(&self) -> BTreeMap<(String, String), i64> {
        let mut picks: BTreeMap<_, i64> = BTreeMap::new();
        for (head, item) in &self.effect {
            let sign = if item["is"] == "cancellations" { -1 } else { 1 };
            let location = head["location"].as_str().unwrap();
            for line in item["lines"].as_array().unwrap() {
                let sku = line["sku"].as_str().unwrap().to_owned();
                *picks.entry((sku, location.to_owned())).or_default() +=
                    sign * line["quantity"].as_i64().unwrap();
            }
        }
        picks.retain(|_, units| *units != 0);
        picks
    }

    /// Debit less credit of an account.
    pub fn balance(&self, account: &str) -> i128 {
        let postings = self.effect.iter().flat_map(|(_, e)| e["postings"].as_array().unwrap());
        let of = postings.filter(|posting| posting["account"] == account);
        let side = |posting: &Value, side: &str| i128::from(posting[side].as_i64().unwrap());
        of.map(|posting| side(posting, "debit") - side(posting, "credit")).sum()
    }

    /// Every line was applied once, and no promise was broken; each letter's lines were not applied
    /// unless it says that this is not certain.
    pub fn audit(&self, letters: &[(String, Arc<Letter>)]) {
        assert_eq!(self.violations, Vec::<String>::new());
        for (line, times) in &self.applied {
            assert_eq!(*times, 1, "{line} was applied {times} times");
        }
        for (_, letter) in letters.iter().filter(|(_, letter)| !letter.uncertain) {
            for (line, _) in lines(&letter.body).1 {
                assert!(!self.applied.contains_key(&line), "{line} was applied and lies dead");
            }
        }
    }
}

impl Link {
    pub fn erp(&self) -> MutexGuard<'_, Erp> {
        self.0.lock()
    }

    /// Delivers to it, and to nobody else.
    pub fn deliver<S: Storage>(&self, engine: &Engine<S>, config: SinkConfig) -> Handle {
        let dedupe = if self.erp().knows_lines { Dedupe::Line } else { Dedupe::Batch };
        let config = SinkConfig {
            dedupe,
            window_ms_max: 20,
            retry_initial_ms: 2,
            retry_max_ms: 20,
            ..config
        };
        let partner: Box<dyn Partner> = Box::new(self.clone());
        let runtime = tokio::runtime::Handle::current();
        delivery::start(engine, vec![(config, partner)], &runtime).unwrap()
    }
}

impl Partner for Link {
    fn send<'a>(&'a self, part: &'a Part) -> Sending<'a> {
        Box::pin(async move {
            let outcome = {
                let mut erp = self.0.lock();
                erp.sent.push((part.id.clone(), part.body.clone()));
                match erp.hangs_at.filter(|(at, _)| *at == erp.sent.len()) {
                    Some((_, false)) => None,
                    Some((_, true)) => {
                        erp.take(part);
                        None
                    }
                    None => Some(erp.take(part)),
                }
            };
            match outcome {
                Some(outcome) => outcome,
                None => std::future::pending().await,
            }
        })
    }
}
