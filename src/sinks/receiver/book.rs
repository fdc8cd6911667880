//! What the receiver keeps: the batches it took, their sums, and what was wrong with them.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

/// The most batches that are remembered.
pub const BATCHES_MAX: usize = 1_000_000;
/// The most violations that are told.
const VIOLATIONS_MAX: usize = 100;

/// Debits and credits of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Minor units.
    pub debit: i128,
    /// Minor units.
    pub credit: i128,
}

/// What a receiver was told, each batch once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Batches taken.
    pub batches: u64,
    /// Batches that were sent again.
    pub repeats: u64,
    /// Records summed up in those taken.
    pub events: u64,
    /// Lines of those taken.
    pub lines: u64,
    /// Units by SKU, location and movement.
    pub movements: BTreeMap<(String, String, String), i64>,
    /// Journal entries.
    pub entries: u64,
    /// Orders summed up in them.
    pub orders: u64,
    /// Sums by currency, account and tax code (empty: none).
    pub accounts: BTreeMap<(String, String, String), Sum>,
    /// Orders to be picked.
    pub picks: u64,
    /// Units to be picked by SKU and location: what waves ask for less what they call off.
    pub to_pick: BTreeMap<(String, String), i64>,
    /// Events of a stream by type.
    pub stream: BTreeMap<String, u64>,
    /// What broke a promise of the contract, the first hundred.
    pub violations: Vec<String>,
}

impl Totals {
    /// Units of one movement over all positions.
    pub fn moved(&self, movement: &str) -> i64 {
        self.movements.iter().filter(|((_, _, m), _)| m == movement).map(|(_, units)| units).sum()
    }

    /// Debit less credit of an account in a currency, over all tax codes.
    pub fn balance(&self, currency: &str, account: &str) -> i128 {
        self.accounts
            .iter()
            .filter(|((c, a, _), _)| c == currency && a == account)
            .map(|(_, sum)| sum.debit - sum.credit)
            .sum()
    }
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Taken,
    Known,
    Wrong(String),
    Full,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    totals: Totals,
    /// Digest of each batch's bytes, by id.
    known: HashMap<String, [u8; 32]>,
    /// By priority.
    last_numbers: HashMap<String, u64>,
    chain: Option<String>,
    /// The position of the last event of a stream.
    last_sequence: String,
}

enum Body {
    Batch(Batch),
    Stream(Vec<CloudEvent>),
}

#[derive(Deserialize)]
struct CloudEvent {
    specversion: String,
    id: String,
    r#type: String,
    sequence: String,
}

#[derive(Deserialize)]
struct Batch {
    batch_id: String,
    #[serde(default)]
    priority: String,
    #[serde(default)]
    events: u64,
    #[serde(default)]
    location: String,
    #[serde(default)]
    orders: Vec<Pick>,
    #[serde(default)]
    cancellations: Vec<Pick>,
    #[serde(default)]
    lines: Vec<Line>,
    #[serde(default)]
    entries: Vec<Entry>,
}

/// An order to be picked, or what is called off of one.
#[derive(Deserialize)]
struct Pick {
    line_id: String,
    lines: Vec<PickLine>,
}

#[derive(Deserialize)]
struct PickLine {
    sku: String,
    quantity: i64,
}

#[derive(Deserialize)]
struct Line {
    line_id: String,
    sku: String,
    location: String,
    movement: String,
    quantity: i64,
}

#[derive(Deserialize)]
struct Entry {
    entry_id: String,
    orders: u64,
    digest: String,
    previous_digest: String,
    currency: String,
    postings: Vec<Posting>,
}

#[derive(Deserialize)]
struct Posting {
    account: String,
    tax_code: Option<String>,
    debit: i128,
    credit: i128,
}

impl Book {
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Takes a batch that came under an idempotency key.
    pub fn take(&mut self, id: &str, body: &[u8]) -> Verdict {
        let digest = *blake3::hash(body).as_bytes();
        if let Some(before) = self.known.get(id) {
            let same = *before == digest;
            self.totals.repeats += 1;
            self.check(same, || format!("{id}: sent again with other bytes"));
            return Verdict::Known;
        }
        if self.known.len() >= BATCHES_MAX {
            return Verdict::Full;
        }
        let read = match body.first() {
            Some(b'[') => serde_json::from_slice(body).map(Body::Stream),
            _ => serde_json::from_slice(body).map(Body::Batch),
        };
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                self.check(false, || format!("{id}: {error}"));
                return Verdict::Wrong(error.to_string());
            }
        };
        self.known.insert(id.to_owned(), digest);
        self.totals.batches += 1;
        match read {
            Body::Batch(batch) => self.take_batch(id, batch),
            Body::Stream(events) => self.take_stream(id, events),
        }
        Verdict::Taken
    }

    fn take_batch(&mut self, id: &str, batch: Batch) {
        self.check(id == batch.batch_id, || format!("{id}: the body says {}", batch.batch_id));
        self.check_order(id, batch.priority);
        self.totals.events += batch.events;
        batch.lines.into_iter().enumerate().for_each(|(i, line)| self.take_line(id, i, line));
        batch.entries.into_iter().enumerate().for_each(|(i, entry)| self.take_entry(id, i, entry));
        self.totals.picks += batch.orders.len() as u64;
        let orders = batch.orders.into_iter().map(|order| (1, order));
        let picks = orders.chain(batch.cancellations.into_iter().map(|order| (-1, order)));
        for (i, (sign, pick)) in picks.enumerate() {
            self.take_pick(id, i, &batch.location, sign, pick);
        }
    }

    fn take_stream(&mut self, id: &str, events: Vec<CloudEvent>) {
        self.check_order(id, String::new());
        self.totals.events += events.len() as u64;
        for event in events {
            self.check(event.specversion == "1.0", || format!("{}: not of 1.0", event.id));
            let follows = event.sequence > self.last_sequence;
            self.check(follows, || format!("{}: came again or too late", event.id));
            self.last_sequence = event.sequence;
            self.totals.lines += 1;
            *self.totals.stream.entry(event.r#type).or_default() += 1;
        }
    }

    fn take_pick(&mut self, id: &str, index: usize, location: &str, sign: i64, pick: Pick) {
        let fits = pick.line_id == format!("{id}.{}", index + 1);
        self.check(fits, || format!("{id}: order {} is named {}", index + 1, pick.line_id));
        self.totals.lines += 1;
        for line in pick.lines {
            let key = (line.sku, location.to_owned());
            let left = self.totals.to_pick.entry(key).or_default();
            *left += sign * line.quantity;
            let fits = *left >= 0 && line.quantity > 0;
            self.check(fits, || format!("{}: calls off what is not asked for", pick.line_id));
        }
    }

    fn check(&mut self, right: bool, what: impl FnOnce() -> String) {
        if !right && self.totals.violations.len() < VIOLATIONS_MAX {
            self.totals.violations.push(what());
        }
    }

    fn check_order(&mut self, key: &str, priority: String) {
        let number = key.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let last = self.last_numbers.insert(priority, number).unwrap_or(0);
        self.check(number > last, || format!("{key}: came after number {last}"));
    }

    fn take_line(&mut self, id: &str, index: usize, line: Line) {
        let fits = line.line_id == format!("{id}.{}", index + 1);
        self.check(fits, || format!("{id}: line {} is named {}", index + 1, line.line_id));
        self.totals.lines += 1;
        let key = (line.sku, line.location, line.movement);
        *self.totals.movements.entry(key).or_default() += line.quantity;
    }

    fn take_entry(&mut self, id: &str, index: usize, entry: Entry) {
        let fits = entry.entry_id == format!("{id}.{}", index + 1);
        self.check(fits, || format!("{id}: entry {} is named {}", index + 1, entry.entry_id));
        let chain = self.chain.take().unwrap_or_else(|| "0".repeat(64));
        let chained = entry.previous_digest == chain;
        self.check(chained, || format!("{}: the chain of digests is broken", entry.entry_id));
        self.chain = Some(entry.digest);
        let off = entry.postings.iter().map(|p| p.debit - p.credit).sum::<i128>();
        self.check(off == 0, || format!("{}: off balance by {off}", entry.entry_id));
        self.totals.entries += 1;
        self.totals.orders += entry.orders;
        for posting in entry.postings {
            self.totals.lines += 1;
            let tax_code = posting.tax_code.unwrap_or_default();
            let key = (entry.currency.clone(), posting.account, tax_code);
            let sum = self.totals.accounts.entry(key).or_default();
            sum.debit += posting.debit;
            sum.credit += posting.credit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn entry(id: &str, digest: &str, previous: &str, debit: u64) -> String {
        format!(
            r#"{{"batch_id":"{id}","events":1,"entries":[{{"entry_id":"{id}.1","orders":2,
            "digest":"{digest}","previous_digest":"{previous}","currency":"EUR","postings":[
            {{"account":"receivable","tax_code":null,"debit":{debit},"credit":0}},
            {{"account":"revenue","tax_code":"A","debit":0,"credit":100}}]}}]}}"#
        )
    }

    #[test]
    fn right_batches_are_summed_up_without_a_word() {
        let mut book = Book::default();
        let first = entry("f-1-000001", "aa", ZEROS, 100);
        assert_eq!(book.take("f-1-000001", first.as_bytes()), Verdict::Taken);
        assert_eq!(book.take("f-1-000001", first.as_bytes()), Verdict::Known);
        let second = entry("f-1-000002", "bb", "aa", 100);
        assert_eq!(book.take("f-1-000002", second.as_bytes()), Verdict::Taken);
        let totals = book.totals();
        assert_eq!((totals.batches, totals.repeats, totals.entries, totals.orders), (2, 1, 2, 4));
        assert_eq!(totals.balance("EUR", "receivable"), 200);
        assert_eq!(totals.balance("EUR", "revenue"), -200);
        assert_eq!(totals.violations, Vec::<String>::new());
    }

    fn wave(id: &str, priority: &str, asked: i64, called_off: i64) -> String {
        format!(
            r#"{{"batch_id":"{id}","priority":"{priority}","events":2,"location":"BER",
            "orders":[{{"line_id":"{id}.1","lines":[{{"sku":"A","quantity":{asked}}}]}}],
            "cancellations":[{{"line_id":"{id}.2","lines":[{{"sku":"A","quantity":{called_off}}}]}}]}}"#
        )
    }

    fn event(sequence: &str) -> String {
        format!(r#"[{{"specversion":"1.0","id":"x","type":"t","sequence":"{sequence}"}}]"#)
    }

    #[test]
    fn waves_and_events_are_counted_without_a_word() {
        let mut book = Book::default();
        // The bulk lane's wave is older and comes later.
        for (id, priority) in [("w-1-000002", "critical"), ("w-1-000001", "bulk")] {
            assert_eq!(book.take(id, wave(id, priority, 5, 2).as_bytes()), Verdict::Taken);
        }
        let totals = book.totals();
        assert_eq!((totals.picks, totals.lines, totals.events), (2, 4, 4));
        assert_eq!(totals.to_pick[&("A".to_owned(), "BER".to_owned())], 6);
        assert_eq!(totals.violations, Vec::<String>::new());
        let mut book = Book::default();
        for (id, sequence) in [("s-1-000001", "064"), ("s-1-000002", "128")] {
            assert_eq!(book.take(id, event(sequence).as_bytes()), Verdict::Taken);
        }
        assert_eq!((book.totals().stream["t"], book.totals().events), (2, 2));
        assert_eq!(book.totals().violations, Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_told() {
        let told = |batches: &[(&str, String)]| {
            let mut book = Book::default();
            for (id, body) in batches {
                book.take(id, body.as_bytes());
            }
            book.totals().violations.join("; ")
        };
        let one = || ("f-1-000001", entry("f-1-000001", "aa", ZEROS, 100));
        let cases = [
            (vec![("f-1-000001", entry("f-1-000001", "aa", ZEROS, 101))], "off balance by 1"),
            (vec![one(), ("f-1-000002", entry("f-1-000002", "bb", "cc", 100))], "chain"),
            (vec![one(), ("f-1-000001", entry("f-1-000001", "ab", ZEROS, 100))], "other bytes"),
            (vec![("f-1-000009", entry("f-1-000009", "aa", ZEROS, 100)), one()], "came after"),
            (vec![("f-1-000001", entry("f-1-000002", "aa", ZEROS, 100))], "the body says"),
            (vec![("f-1-000001", "{".to_owned())], "EOF"),
            (vec![("w-1-000001", wave("w-1-000001", "bulk", 1, 2))], "calls off"),
            (vec![("w-1-000001", wave("w-1-000002", "bulk", 1, 1))], "is named w-1-000002.1"),
            (vec![("s-1-000001", event("064")), ("s-1-000002", event("064"))], "came again"),
        ];
        for (batches, expected) in cases {
            let violations = told(&batches);
            assert!(violations.contains(expected), "{expected}: {violations}");
        }
    }
}
