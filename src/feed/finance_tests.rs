//! Journal entries: balanced, aggregated, chained.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    feed::{
        BatchId,
        test_records::{Written, adjust, assert_golden, order, placed, priced},
    },
    model::{Incarnation, Timestamp, event::OrderData},
};

const ROOMY: Limits = Limits { lines: 5_000, bytes: 240 * 1024 };

fn accounts() -> Accounts {
    Accounts { tax: "1776 \"USt\"".into(), ..Accounts::default() }
}

fn rules(accounts: &Accounts, limits: Limits) -> Rules<'_> {
    Rules { sink: "books", accounts, recognition: Recognition::Commit, parked_max: 10, limits }
}

fn take(window: &mut Finance, written: &Written, limits: Limits) -> Absorbed {
    window.absorb(&written.record(), rules(&accounts(), limits)).unwrap()
}

fn rendered(window: &Finance, chain: [u8; 32]) -> Rendered {
    let id = BatchId::new("books", Incarnation(0x3f9c << 48), 7);
    let sealed_at = Timestamp::from_millis(1_764_000_000_120);
    let head = Head {
        batch_id: id.as_str(),
        sink: "books",
        domain: "finance",
        priority: "standard",
        first_lsn: Lsn(64),
        last_lsn: Lsn(128),
        sealed_at,
        events: 2,
    };
    let stamp = Stamp { id: &id, sink: "books", sealed_at, chain };
    window.render(head, stamp, &accounts()).unwrap()
}

fn gross_order() -> OrderData {
    let mut order = order(&[(0, 2)]);
    order.prices = vec![priced(1_999, 2, 638, 0, "DE-19"), priced(500, 1, 33, 10, "DE-7")].into();
    (order.shipping, order.shipping_tax) = (490, 78);
    order
}

/// Gross prices contain their tax, net ones do not; one entry for each currency; the digest is that
/// of the records; each entry names the one before.
#[test]
fn a_body_is_as_the_contract_has_it() {
    let mut net = gross_order();
    net.net = true;
    let mut dollars = order(&[(0, 1)]);
    dollars.currency = *b"USD";
    dollars.prices = vec![priced(100, 1, 0, 0, "")].into();
    let records = [placed(64, gross_order()), placed(128, net), placed(192, dollars)];
    let mut window = Finance::default();
    for record in &records {
        assert_eq!(take(&mut window, record, ROOMY), Absorbed::Taken);
    }
    let digest = |records: &[Written]| {
        let mut hasher = blake3::Hasher::new();
        for written in records {
            hasher.update(&written.lsn.0.to_le_bytes()).update(&written.body);
        }
        *hasher.finalize().as_bytes()
    };
    let (euro, dollar) = (digest(&records[..2]), digest(&records[2..]));
    let Rendered { bodies, chain } = rendered(&window, [9; 32]);
    assert_golden("batch.finance", &bodies[0]);
    let body: Value = serde_json::from_slice(&bodies[0]).unwrap();
    // Gross: 3998 + 490 + 490 = 4978, of it 638 + 33 + 78 tax. Net: 4978 + 749 tax.
    let posting = |account: &str, tax_code: Value, debit: i64, credit: i64| serde_json::json!({"account": account, "tax_code": tax_code, "debit": debit, "credit": credit});
    let tax = "1776 \"USt\"";
    let expected = serde_json::json!([
        {"entry_id": "books-3f9c-000007.1", "first_lsn": 64, "last_lsn": 128, "orders": 2, "records": 2,
         "digest": render::hex(&euro), "previous_digest": render::hex(&[9; 32]),
         "kind": "invoice", "currency": "EUR", "postings": [
            posting("receivable", Value::Null, 4_978 + 4_978 + 749, 0),
            posting("revenue", "DE-19".into(), 0, 3_998 - 638 + 3_998),
            posting("revenue", "DE-7".into(), 0, 490 - 33 + 490),
            posting(tax, Value::Null, 0, 78 + 78),
            posting(tax, "DE-19".into(), 0, 638 + 638),
            posting(tax, "DE-7".into(), 0, 33 + 33),
            posting("shipping", Value::Null, 0, 490 - 78 + 490),
         ]},
        {"entry_id": "books-3f9c-000007.2", "first_lsn": 192, "last_lsn": 192, "orders": 1, "records": 1,
         "digest": render::hex(&dollar), "previous_digest": render::hex(&euro),
         "kind": "invoice", "currency": "USD", "postings": [
            posting("receivable", Value::Null, 100, 0),
            posting("revenue", Value::Null, 0, 100),
         ]},
    ]);
    assert_eq!(body["entries"], expected);
    assert_eq!(body["domain"], "finance");
    assert_eq!(chain, dollar);
}

#[test]
fn amounts_that_make_no_sense_are_never_booked() {
    let mut order = order(&[(0, 1)]);
    order.prices = vec![priced(100, 1, 0, 300, "")].into();
    let record = placed(64, order);
    let mut window = Finance::default();
    let error = window.absorb(&record.record(), rules(&accounts(), ROOMY)).unwrap_err();
    let amounts = posting::Error::Amounts { lsn: Lsn(64), source: crate::model::Invalid("") };
    assert!(error.to_string().starts_with(&amounts.to_string()), "{error}");
}

#[test]
fn stock_is_nothing_to_the_books_and_a_full_window_takes_no_new_code() {
    let mut window = Finance::default();
    assert_eq!(take(&mut window, &adjust(64, 0, 5, 0), ROOMY), Absorbed::Nothing);
    let limits = Limits { lines: 7, ..ROOMY };
    assert_eq!(take(&mut window, &placed(64, gross_order()), limits), Absorbed::Taken);
    let mut other = gross_order();
    other.prices[0].tax_code = "AT-20".into();
    assert_eq!(take(&mut window, &placed(128, other), limits), Absorbed::Full);
    assert_eq!(take(&mut window, &placed(192, gross_order()), limits), Absorbed::Taken);
    let body: Value = serde_json::from_slice(rendered(&window, [0; 32]).body()).unwrap();
    assert_eq!(body["entries"][0]["orders"], 2);
}

const AMOUNT_MAX: i64 = crate::model::AMOUNT_MINOR_MAX;

fn some_order() -> impl Strategy<Value = OrderData> {
    let amount = || prop_oneof![0..10_000_i64, 0..=AMOUNT_MAX];
    let code = prop_oneof!["[A-Z]{0,2}", Just("\"\\".repeat(32))];
    let line = (amount(), 1..=1_000_000_u32, amount(), amount(), code).prop_map(
        |(price, quantity, tax, discount, code)| {
            let worth = i128::from(price) * i128::from(quantity);
            let discount = worth.min(discount.into());
            let tax = (worth - discount).min(tax.into());
            priced(price, quantity, tax as i64, discount as i64, &code)
        },
    );
    let currency = prop_oneof![Just(*b"EUR"), Just(*b"USD"), Just(*b"JPY")];
    (prop::collection::vec(line, 1..6), amount(), amount(), any::<bool>(), currency).prop_map(
        |(prices, shipping, shipping_tax, net, currency)| OrderData {
            prices: prices.into(),
            shipping,
            shipping_tax: shipping_tax.min(shipping),
            net,
            currency,
            ..order(&[(0, 1)])
        },
    )
}

proptest! {
    /// Every entry balances, whatever the amounts; receivables add up to what customers pay; the
    /// chain holds across windows; no body is larger than allowed.
    #[test]
    fn every_entry_balances(
        orders in prop::collection::vec(some_order(), 1..40),
        bytes in 12_000_u64..20_000,
    ) {
        let limits = Limits { lines: 60, bytes };
        let (mut window, mut chain, mut bodies) = (Finance::default(), [0; 32], Vec::new());
        for (i, order) in orders.iter().enumerate() {
            let record = placed(64 * (i as u64 + 1), order.clone());
            if take(&mut window, &record, limits) == Absorbed::Full {
                let done = rendered(&window, chain);
                (chain, window) = (done.chain, Finance::default());
                bodies.push(done.body().to_vec());
                prop_assert_eq!(take(&mut window, &record, limits), Absorbed::Taken);
            }
        }
        bodies.push(rendered(&window, chain).body().to_vec());

        let mut receivable = 0_i128;
        let mut previous = "0".repeat(64);
        let mut counted = 0;
        for body in &bodies {
            prop_assert!(body.len() as u64 <= bytes);
            let body: Read = serde_json::from_slice(body).unwrap();
            for entry in body.entries {
                prop_assert_eq!(&entry.previous_digest, &previous);
                previous = entry.digest;
                counted += entry.orders;
                prop_assert_eq!(entry.postings.iter().map(|p| p.debit - p.credit).sum::<i128>(), 0);
                for posting in &entry.postings {
                    prop_assert!(posting.debit >= 0 && posting.credit >= 0);
                    prop_assert!((posting.debit == 0) != (posting.credit == 0));
                    if posting.account == "receivable" {
                        receivable += posting.debit - posting.credit;
                    }
                }
            }
        }
        prop_assert_eq!(counted, orders.len() as u64);
        prop_assert_eq!(receivable, orders.iter().map(paid).sum::<i128>());
    }
}

/// What a customer pays, computed as dully as can be.
fn paid(order: &OrderData) -> i128 {
    let mut sum = i128::from(order.shipping);
    let mut tax = i128::from(order.shipping_tax);
    for line in &order.prices {
        sum += i128::from(line.unit_price) * i128::from(line.quantity) - i128::from(line.discount);
        tax += i128::from(line.tax);
    }
    if order.net { sum + tax } else { sum }
}

#[derive(serde::Deserialize)]
struct Read {
    entries: Vec<ReadEntry>,
}

#[derive(serde::Deserialize)]
struct ReadEntry {
    digest: String,
    previous_digest: String,
    orders: u64,
    postings: Vec<ReadPosting>,
}

#[derive(serde::Deserialize)]
struct ReadPosting {
    account: String,
    debit: i128,
    credit: i128,
}
