//! Books that hold are found to hold; whatever is altered in them is named.

use proptest::prelude::*;

use super::*;
use crate::{
    config::Domain,
    feed::{
        finance::Rules,
        inventory::{Absorbed, Limits},
        test_records::{Written, happened, order, placed, priced},
    },
    model::{
        event::OrderData,
        fact::Fact,
        life::Life,
        sink::{Sealed, SinkState},
    },
};

const LIFE: Incarnation = Incarnation(0x3f9c << 48);

fn config(recognition: Recognition) -> SinkConfig {
    let new = SinkConfig::new("books", Domain::Finance, "http://127.0.0.1:9/");
    SinkConfig { recognition, parked_max: 2, ..new }
}

fn rules(config: &SinkConfig) -> Rules<'_> {
    Rules {
        sink: &config.name,
        accounts: &config.accounts,
        recognition: config.recognition,
        parked_max: config.parked_max,
        limits: Limits { lines: 5_000, bytes: 240 << 10 },
    }
}

/// A sink's feed without threads: windows of the records given, sealed one after the other.
struct Feed {
    config: SinkConfig,
    window: Finance,
    chain: [u8; 32],
    covers: u64,
    seals: Vec<Seal>,
}

impl Feed {
    fn new(config: SinkConfig) -> Self {
        Self { config, window: Finance::default(), chain: [0; 32], covers: 0, seals: Vec::new() }
    }

    fn seal(&mut self, records: &[Written], release: &str) {
        let mut events = 0;
        for written in records {
            let absorbed = self.window.absorb(&written.record(), rules(&self.config)).unwrap();
            assert_ne!(absorbed, Absorbed::Full);
            events += absorbed.events();
        }
        events += self.window.release(release, rules(&self.config)).unwrap().0;
        let number = self.seals.len() as u64 + 1;
        let id = BatchId::new(&self.config.name, LIFE, number);
        let sealed_at = Timestamp::from_millis(5_000);
        let first_lsn = records.first().map_or(self.covers, |first| first.lsn.0);
        let last_lsn = records.last().map_or(self.covers, |last| last.lsn.0);
        self.covers = records.last().map_or(self.covers, |last| last.record().end.0);
        let head = Head {
            batch_id: id.as_str(),
            sink: &self.config.name,
            domain: "finance",
            priority: "standard",
            first_lsn: Lsn(first_lsn),
            last_lsn: Lsn(last_lsn),
            sealed_at,
            events,
        };
        let stamp = Stamp { id: &id, sink: &self.config.name, sealed_at, chain: self.chain };
        let rendered = self.window.render(head, stamp, &self.config.accounts).unwrap();
        self.chain = rendered.chain;
        self.seals.push(Seal {
            number,
            first_lsn,
            last_lsn,
            covers_lsn: self.covers,
            sealed_at_ms: 5_000,
            events,
            config_version: self.config.render_version(),
            digest: *blake3::hash(rendered.body()).as_bytes(),
            chain: rendered.chain,
            sink: self.config.name.clone(),
            body: rendered.body().to_vec(),
            parking: self.window.parking(),
            recognition: self.config.recognition as u8,
            lane: Sealed::EVERY_LANE,
            more: Vec::new(),
            letter: String::new(),
            part_id: String::new(),
        });
        self.window = std::mem::take(&mut self.window).next();
    }

    /// As after a crash: what is parked comes from the seals.
    fn restart(&mut self) {
        let mut state = SinkState::default();
        for seal in &self.seals {
            state.sealed(seal.sealed(Lsn(seal.covers_lsn)));
        }
        self.window = Finance::new(state.parked).unwrap();
    }
}

fn verify(config: &SinkConfig, records: &[Written], seals: &[Seal]) -> Report {
    let seals = seals.iter().cloned().map(|seal| Ok((LIFE, seal)));
    let mut verification = Verification::new(config, seals);
    records.iter().for_each(|written| verification.record(&written.record()));
    verification.end()
}

fn sale(order_id: &str) -> OrderData {
    let mut order = order(&[(0, 2)]);
    order.prices = vec![priced(1_000, 2, 319, 0, "DE-19")].into();
    order.order_id = order_id.into();
    order
}

fn settlement() -> Fact {
    Fact::Settlement { amount: 2_000, fee: 60 }
}

fn invoice() -> Fact {
    Fact::Invoice { amount: 2_000, tax: 319 }
}

fn refund() -> Fact {
    Fact::Refund { amount: 500, tax: 80, reason: String::new() }
}

fn kinds(seal: &Seal) -> Vec<String> {
    body_of(&seal.body).unwrap().entries.into_iter().map(|entry| entry.kind).collect()
}

/// A refund and a settlement before the invoice: both wait, over windows and a restart, and are booked
/// after it, in the order of business.
fn early() -> (Feed, Vec<Written>) {
    let (order, mut life) = (sale("O-1"), Life::default());
    let records = vec![
        placed(64, order.clone()),
        happened(1_000, &order, &mut life, refund()),
        happened(2_000, &order, &mut life, settlement()),
        happened(3_000, &order, &mut life, invoice()),
        happened(4_000, &order, &mut life, refund()),
    ];
    let mut feed = Feed::new(config(Recognition::Invoice));
    feed.seal(&records[..2], "");
    feed.seal(&records[2..3], "");
    feed.restart();
    assert_eq!(feed.window.parked().len(), 2);
    feed.seal(&records[3..], "");
    (feed, records)
}

#[test]
fn what_is_early_waits_for_what_must_come_first() {
    let (feed, records) = early();
    assert_eq!(kinds(&feed.seals[0]), [""; 0]);
    assert_eq!(feed.seals[0].parking.parked[0].lsn, 1_000);
    assert_eq!(kinds(&feed.seals[2]), ["invoice", "settlement", "refund"]);
    assert_eq!(feed.seals[2].parking.released, [1_000, 2_000]);
    assert!(feed.window.parked().is_empty());
    let refunds = &body_of(&feed.seals[2].body).unwrap().entries[2];
    assert_eq!((refunds.first_lsn, refunds.last_lsn, refunds.records), (1_000, 4_000, 2));
    // Those of the window first, then those that had been parked.
    let mut digest = blake3::Hasher::new();
    for written in [&records[4], &records[1]] {
        digest.update(&written.lsn.0.to_le_bytes()).update(&written.body);
    }
    assert_eq!(refunds.digest, digest.finalize().to_hex().to_string());
    let report = verify(&feed.config, &records, &feed.seals);
    assert_eq!(report.faults, [""; 0]);
    assert_eq!((report.seals, report.entries, report.records, report.parked), (3, 3, 4, 0));
}

fn digest_of(records: &[&Written]) -> blake3::Hash {
    let mut digest = blake3::Hasher::new();
    for written in records {
        digest.update(&written.lsn.0.to_le_bytes()).update(&written.body);
    }
    digest.finalize()
}

/// Of several records of one entry that had waited, the digest has the earlier first, whichever was
/// released first; and books that have it otherwise do not hold.
#[test]
fn what_was_parked_stands_in_the_digest_last_and_in_log_order() {
    let [mut one, mut two] = ["O-1", "O-2"].map(|id| (sale(id), Life::default()));
    let half = || Fact::Settlement { amount: 1_000, fee: 30 };
    let records = vec![
        happened(1_000, &one.0, &mut one.1, half()),
        happened(2_000, &two.0, &mut two.1, half()),
        // The later one is released first.
        happened(3_000, &two.0, &mut two.1, invoice()),
        happened(4_000, &one.0, &mut one.1, invoice()),
        happened(5_000, &two.0, &mut two.1, half()),
    ];
    let mut feed = Feed::new(config(Recognition::Invoice));
    feed.seal(&records[..2], "");
    assert_eq!(feed.window.parked().len(), 2);
    feed.seal(&records[2..], "");
    assert_eq!(kinds(&feed.seals[1]), ["invoice", "settlement"]);
    let told = digest_of(&[&records[4], &records[0], &records[1]]);
    let entry = |seal: &Seal| body_of(&seal.body).unwrap().entries.pop().unwrap();
    assert_eq!(entry(&feed.seals[1]).digest, told.to_hex().to_string());
    assert_eq!(verify(&feed.config, &records, &feed.seals).faults, [""; 0]);

    for other in [[4, 1, 0], [0, 1, 4], [0, 4, 1]] {
        let swapped = digest_of(&other.map(|at| &records[at]));
        let mut seals = feed.seals.clone();
        rewrite(&mut seals[1], &told.to_hex(), &swapped.to_hex());
        seals[1].chain = *swapped.as_bytes();
        let faults = verify(&feed.config, &records, &seals).faults.join("\n");
        assert!(faults.contains("entry books-3f9c-000002.2: its digest"), "{other:?}: {faults}");
    }
}

#[test]
fn a_refund_waits_for_a_settlement_that_waits_for_nothing() {
    let (order, mut life) = (sale("O-1"), Life::default());
    let records = [
        placed(64, order.clone()),
        happened(1_000, &order, &mut life, refund()),
        happened(2_000, &order, &mut life, settlement()),
    ];
    let mut feed = Feed::new(config(Recognition::Commit));
    feed.seal(&records[..2], "");
    assert_eq!(kinds(&feed.seals[0]), ["invoice"]);
    let view = &feed.window.parked().views(Recognition::Commit)[0];
    assert_eq!((view.order_id.as_str(), view.waits_for.as_str()), ("O-1", "settlement"));
    feed.seal(&records[2..], "");
    assert_eq!(kinds(&feed.seals[1]), ["settlement", "refund"]);
    assert_eq!(verify(&feed.config, &records, &feed.seals).faults, [""; 0]);
}

/// What a sink does not get is not missing, whether the configuration still says so or not.
#[test]
fn a_sink_of_one_currency_is_held_to_that_one() {
    let (euros, mut dollars) = (sale("O-1"), sale("O-2"));
    dollars.currency = *b"USD";
    let (mut euro_life, mut dollar_life) = (Life::default(), Life::default());
    let mut records = vec![
        placed(64, euros.clone()),
        placed(1_000, dollars.clone()),
        happened(2_000, &dollars, &mut dollar_life, refund()),
        happened(3_000, &euros, &mut euro_life, refund()),
        happened(4_000, &dollars, &mut dollar_life, settlement()),
    ];
    let currencies = vec![Currency::new("EUR").unwrap()];
    let filter = FilterConfig { currencies, ..FilterConfig::default() };
    let one = SinkConfig { filter, ..config(Recognition::Commit) };
    let filter = Filter::new(&one.filter);
    let ours: Vec<_> =
        records.iter().filter(|w| filter.books(&w.record()).unwrap()).cloned().collect();
    assert_eq!(ours.iter().map(|w| w.lsn.0).collect::<Vec<_>>(), [64, 3_000]);
    let mut feed = Feed::new(one.clone());
    feed.seal(&ours, "");
    // The last window has nothing of this currency.
    feed.covers = 10_000;
    feed.seal(&[], "");
    assert_eq!(verify(&one, &records, &feed.seals).faults, [""; 0]);
    // Nobody knows any more how it was filtered: it is held to what it has.
    let mut renamed = config(Recognition::Commit);
    renamed.accounts.tax = "1777".into();
    assert_eq!(verify(&renamed, &records, &feed.seals).faults, [""; 0]);
    // Of its own currency nothing may be missing, and where it was to get all of it, nothing at all.
    records.insert(4, placed(3_008, sale("O-3")));
    for config in [&one, &renamed] {
        let told = verify(config, &records, &feed.seals).faults;
        assert!(told.iter().any(|fault| fault.contains("range and count")), "{told:?}");
    }
    records.remove(4);
    for seal in &mut feed.seals {
        seal.config_version = config(Recognition::Commit).render_version();
    }
    let told = verify(&one, &records, &feed.seals).faults;
    assert!(told.iter().any(|fault| fault.contains("is missing")), "{told:?}");
}

/// Of more than may wait the oldest is booked as it is; a person can have one booked.
#[test]
fn what_is_parked_is_bounded_and_can_be_released_by_hand() {
    let mut feed = Feed::new(config(Recognition::Invoice));
    let orders = ["O-1", "O-2", "O-3"].map(sale);
    let early = |(at, order): (u64, &OrderData)| {
        happened(1_000 * (at + 1), order, &mut Life::default(), settlement())
    };
    let records: Vec<_> = (0..).zip(&orders).map(early).collect();
    feed.seal(&records, "");
    assert_eq!(feed.seals[0].parking.released, [1_000]);
    assert_eq!((feed.window.parked().len(), kinds(&feed.seals[0]).len()), (2, 1));
    feed.seal(&[], "O-3");
    assert_eq!(feed.seals[1].parking.released, [3_000]);
    assert_eq!(kinds(&feed.seals[1]), ["settlement"]);
    let report = verify(&feed.config, &records, &feed.seals);
    assert_eq!((report.faults, report.parked), (Vec::new(), 1));
}

/// Changes one thing in the books and gives what is found wrong.
fn with(change: impl FnOnce(&mut Vec<Seal>)) -> String {
    let (feed, records) = early();
    let (mut feed, mut records) = (feed, records);
    let more = happened(5_000, &sale("O-9"), &mut Life::default(), invoice());
    feed.seal(std::slice::from_ref(&more), "");
    records.push(more);
    assert_eq!(verify(&feed.config, &records, &feed.seals).faults_count, 0);
    change(&mut feed.seals);
    let report = verify(&feed.config, &records, &feed.seals);
    assert!(report.faults_count > 0);
    report.faults.join("\n")
}

/// Writes a body anew, with a digest that fits it.
fn rewrite(seal: &mut Seal, from: &str, to: &str) {
    let body = String::from_utf8(seal.body.clone()).unwrap();
    assert!(body.contains(from), "{body}");
    seal.body = body.replacen(from, to, 1).into_bytes();
    seal.digest = *blake3::hash(&seal.body).as_bytes();
}

#[test]
fn whatever_is_altered_is_named() {
    let told = with(|seals| seals[2].body[30] ^= 1);
    assert!(told.contains("books-3f9c-000003: its digest does not fit"), "{told}");
    let told = with(|seals| rewrite(&mut seals[2], "\"debit\":2000", "\"debit\":2001"));
    assert!(told.contains("entry books-3f9c-000003.1: is off balance by 1"), "{told}");
    // One that balances still is not what the log comes to.
    let told = with(|seals| {
        rewrite(&mut seals[2], "\"debit\":2000", "\"debit\":1000");
        rewrite(&mut seals[2], "\"credit\":1681", "\"credit\":681");
    });
    assert!(told.contains("entry books-3f9c-000003.1: its posting is"), "{told}");
    let told = with(|seals| rewrite(&mut seals[2], "\"records\":2", "\"records\":1"));
    assert!(told.contains("entry books-3f9c-000003.3: its range and count"), "{told}");
    let told = with(|seals| rewrite(&mut seals[2], "\"events\":4", "\"events\":3"));
    assert!(told.contains("batch books-3f9c-000003: its head"), "{told}");
    let told = with(|seals| rewrite(&mut seals[2], "receivable", "receivables"));
    assert!(told.contains("entry books-3f9c-000003.1: its posting"), "{told}");
}

#[test]
fn a_missing_entry_or_batch_is_named() {
    let told = with(|seals| {
        let body = String::from_utf8(seals[2].body.clone()).unwrap();
        let at = body.find(",{\"entry_id\":\"books-3f9c-000003.3\"").unwrap();
        let cut = body[at..body.len() - 2].to_owned();
        rewrite(&mut seals[2], &cut, "");
    });
    assert!(told.contains("entry books-3f9c-000003.3 is missing"), "{told}");
    assert!(told.contains("chain of its seal"), "{told}");
    let told = with(|seals| drop(seals.remove(2)));
    assert!(told.contains("batch books-3f9c-000003 is missing"), "{told}");
    assert!(told.contains("entry books-3f9c-000004.1: the chain is broken"), "{told}");
}

#[test]
fn what_is_parked_and_released_is_checked_too() {
    let told = with(|seals| seals[0].parking.parked.clear());
    assert!(told.contains("at 1000: is early, and was booked"), "{told}");
    let told = with(|seals| seals[2].parking.released = vec![2_000]);
    assert!(told.contains("entry books-3f9c-000003.3"), "{told}");
    let told = with(|seals| seals[2].parking.released.push(64));
    assert!(told.contains("record at 64 was never parked"), "{told}");
    let told = with(|seals| seals[0].parking.parked[0].body[0] ^= 1);
    assert!(told.contains("at 1000: is not what the seal says"), "{told}");
}

/// A log that begins inside a window that parked something has lost nothing that makes the books wrong; what
/// is left of them is checked all the same.
#[test]
fn a_log_that_begins_inside_a_window_that_parked_is_not_wrong() {
    let (feed, records) = early();
    for (gone, parked_beyond, beyond) in [(0, 0, 0), (1, 0, 1), (2, 1, 1), (3, 2, 2)] {
        let report = verify(&feed.config, &records[gone..], &feed.seals);
        assert_eq!(report.faults, [""; 0], "from {gone}");
        assert_eq!((report.parked_beyond, report.beyond), (parked_beyond, beyond), "from {gone}");
        assert_eq!((report.seals, report.parked), (3, 0), "from {gone}");
    }
    let broken = |change: fn(&mut Vec<Seal>)| {
        let mut seals = feed.seals.clone();
        change(&mut seals);
        let report = verify(&feed.config, &records[2..], &seals);
        report.faults.join("\n")
    };
    // The window released what the first had parked: by the copy of it, the entry can be recomputed.
    let told = broken(|seals| rewrite(&mut seals[2], "\"records\":2", "\"records\":3"));
    assert!(told.contains("entry books-3f9c-000003.3: its range and count"), "{told}");
    let told = broken(|seals| seals[0].parking.parked[0].body[0] ^= 1);
    assert!(told.contains("entry books-3f9c-000003.3: its digest"), "{told}");
    let told = broken(|seals| seals[1].parking.parked[0].lsn = 2_500);
    assert!(told.contains("parks the record at 2500, which is not in its window"), "{told}");
    let told = broken(|seals| seals[0].parking.parked[0].kind = Placed::KIND);
    assert!(told.contains("the record at 1000: was parked, and is not early"), "{told}");
}

/// Under other names of accounts all but the names is checked.
#[test]
fn another_configuration_does_not_make_old_entries_wrong() {
    let (feed, records) = early();
    let mut renamed = feed.config.clone();
    renamed.accounts.tax = "1776".into();
    renamed.recognition = Recognition::Commit;
    let mut seals = feed.seals.clone();
    assert_eq!(verify(&renamed, &records, &seals).faults, [""; 0]);
    rewrite(&mut seals[2], "\"debit\":1940", "\"debit\":1941");
    assert!(verify(&renamed, &records, &seals).faults_count > 0);
}

proptest! {
    /// Wherever windows end and whatever happens, the feed's books are found to hold, and everything is
    /// booked or parked.
    #[test]
    fn the_books_of_the_feed_hold(
        steps in prop::collection::vec((0..4_usize, 0..4_u8, any::<bool>()), 1..60),
        recognition in prop::sample::select(Recognition::ALL.to_vec()),
    ) {
        let mut feed = Feed::new(config(recognition));
        let mut orders: Vec<_> = (0..4).map(|n| (sale(&format!("O-{n}")), Life::default())).collect();
        let mut records: Vec<Written> =
            (0..).zip(&orders).map(|(n, (order, _))| placed(8 + 1_000 * n, order.clone())).collect();
        let mut open = 0;
        for (at, (who, what, seal)) in steps.iter().enumerate() {
            let (order, life) = &mut orders[*who];
            let fact = match what {
                0 => settlement(),
                1 => Fact::Invoice { amount: 500, tax: 80 },
                2 => refund(),
                _ => Fact::Note { text: "n".into() },
            };
            if life.check(order, &fact, |position| position).is_ok() {
                records.push(happened(8_000 + 1_000 * at as u64, order, life, fact));
            }
            if *seal {
                let by_hand = if at % 7 == 0 { order.order_id.to_string() } else { String::new() };
                feed.seal(&records[open..], &by_hand);
                open = records.len();
                feed.restart();
            }
        }
        feed.seal(&records[open..], "");
        let report = verify(&feed.config, &records, &feed.seals);
        prop_assert_eq!(&report.faults, &Vec::<String>::new());
        prop_assert_eq!(report.parked, feed.window.parked().len() as u64);
        let summed: u64 = feed.seals.iter().map(|seal| seal.events).sum();
        let is_booked = |w: &&Written| {
            crate::model::posting::of(w.lsn, (w.kind, w.version), &w.body, recognition).unwrap().is_some()
        };
        let booked = records.iter().filter(is_booked).count() as u64;
        prop_assert_eq!(summed + report.parked, booked);
        prop_assert_eq!(report.records, summed);
    }
}
