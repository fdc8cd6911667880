//! CloudEvents: their attributes, what is one, and how a window of them is bounded.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rkyv::util::AlignedVec;
use serde_json::json;

use super::*;
use crate::{
    config::{FilterConfig, STREAM_EVENTS},
    feed::{
        BatchId,
        inventory::Limits,
        test_records::{Names, Written, adjust, assert_golden, happened, order, placed, stock},
    },
    model::{
        Origin,
        event::{Define, Genesis, KeyRef, Line, Of},
        fact::{CameBack, Cancelled, Fact, Shipped, Units},
        life::Life,
    },
};

const ROOMY: Limits = Limits { lines: 5_000, bytes: 240 * 1024 };

fn names() -> Names {
    let priorities = [("O-1".to_owned(), Priority::Express), ("O-2".to_owned(), Priority::Bulk)];
    Names { priorities: priorities.into() }
}

fn absorb(
    window: &mut Stream,
    record: &Record<'_>,
    limits: Limits,
    filter: &FilterConfig,
) -> Result<Absorbed, Error> {
    let terms = Terms { sink: "events", limits, lookup: &names() };
    window.absorb(record, terms, &Filter::new(filter))
}

fn body(window: &Stream) -> Vec<u8> {
    let id = BatchId::new("events", names().incarnation_at(Lsn(0)), 1);
    let sealed_at = Timestamp::from_millis(1);
    let rendered = window.render(Stamp { id: &id, sink: "events", sealed_at, chain: [7; 32] });
    assert_eq!(rendered.chain, [7; 32]);
    rendered.body().to_vec()
}

/// The events of records, through a filter.
fn events(records: &[Written], filter: &FilterConfig) -> Vec<Value> {
    let mut window = Stream::default();
    for record in records {
        absorb(&mut window, &record.record(), ROOMY, filter).unwrap();
    }
    match body(&window) {
        none if none.is_empty() => Vec::new(),
        body => serde_json::from_slice(&body).unwrap(),
    }
}

fn written<E: Event + event::Encode>(lsn: u64, event: &E) -> Written {
    let mut bytes = Vec::new();
    event::encode(event, &mut bytes);
    let mut body = AlignedVec::new();
    body.extend_from_slice(&bytes);
    Written { lsn: Lsn(lsn), kind: E::KIND, version: E::VERSION, body }
}

/// One record of every kind and every fact, in the order of [`STREAM_EVENTS`].
fn one_of_each() -> Vec<Written> {
    let of = Of { reservation: 0x40, previous: 0, slot: 9 };
    let lines = vec![Line { position: 0, quantity: 2, limited: true }];
    let (key, customer_hash) = (KeyRef { hash: [4242; 2], fingerprint: 4242 }, 4242);
    let mut data = order(&[(0, 2), (1, 3)]);
    data.promised_ship_at_ms = 1_764_000_000_000;
    let mut life = Life::default();
    let mut records = vec![
        stock(64, 2, 5),
        adjust(128, 3, -1, 1),
        written(
            192,
            &Reserve {
                key,
                deadline_ms: 9,
                customer_hash,
                order_hash: 4242,
                slot: 9,
                lines: &lines,
                customer: "c-42",
                order_id: "O-1",
            },
        ),
        written(
            256,
            &Release {
                of,
                key,
                lines: lines.clone(),
                left: Vec::new(),
                customer_hash,
                deadline_ms: 0,
                answer: String::new(),
            },
        ),
        written(320, &Extend { of, key, deadline_ms: 7, answer: String::new() }),
        written(
            384,
            &Change {
                of,
                taken: lines.clone(),
                given: Vec::new(),
                lines: lines.clone(),
                customer_hash,
                deadline_ms: 7,
            },
        ),
        written(448, &Expire { of, customer_hash, lines }),
        placed(512, data.clone()),
    ];
    let shipped = Shipped { allocation: 0, from: 0, position: 0, quantity: 2 };
    let cancelled = Cancelled {
        allocation: 1,
        position: 1,
        quantity: 3,
        limited: false,
        customer_hash,
        granted: 4242,
    };
    let (sku_number, position, quantity) = (0, 0, 1);
    let (carrier, tracking) = ("DHL".to_owned(), "42".to_owned());
    for fact in [
        Fact::Shipment { lines: vec![shipped].into(), carrier, tracking },
        Fact::Cancellation { lines: vec![cancelled] },
        Fact::Invoice { amount: 0, tax: 0 },
        Fact::Settlement { amount: 0, fee: 0 },
        Fact::Refund { amount: 0, tax: 0, reason: String::new() },
        Fact::Return { lines: vec![Units { sku_number, quantity }], restock: true },
        Fact::Receipt {
            // As the test's records are named: the return is the fact before.
            return_id: "F-5".into(),
            lines: vec![CameBack { sku_number, position, quantity }],
            restock: true,
        },
        Fact::Note { text: "rang twice".into() },
    ] {
        records.push(happened(512 + 64 * records.len() as u64, &data, &mut life, fact));
    }
    records
}

fn names_of(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|e| e["type"].as_str().unwrap())
        .map(|t| t.strip_prefix("holdfast.").unwrap().strip_suffix(".v1").unwrap())
        .collect()
}

#[test]
fn every_business_event_has_a_type_of_its_own() {
    let mut window = Stream::default();
    for record in one_of_each() {
        absorb(&mut window, &record.record(), ROOMY, &FilterConfig::default()).unwrap();
    }
    assert_golden("batch.stream", &body(&window));
    let events = events(&one_of_each(), &FilterConfig::default());
    assert_eq!(names_of(&events), STREAM_EVENTS);
    let ids: BTreeSet<_> = events.iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len());
    let sequences: Vec<_> = events.iter().map(|e| e["sequence"].as_str().unwrap()).collect();
    assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    for event in &events {
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["source"], "/holdfast/3f9c000000000000");
        assert_eq!(event["datacontenttype"], "application/json");
        // What stands in records as 4242 are hashes and keys.
        assert!(!event.to_string().contains("4242"), "{event}");
    }
    let subject = |at: usize| events[at]["subject"].as_str().unwrap();
    assert_eq!(subject(0), "SKU-1/BER");
    assert_eq!(subject(1), "SKU-1/say \"M\\UC\"");
    // The one that the record makes, and the one that the later records name.
    assert_eq!(subject(2), "r00000000000000c000000009");
    assert!((3..7).all(|at| subject(at) == "r000000000000004000000009"));
    assert!((7..16).all(|at| subject(at) == "O-1"));
}

#[test]
fn an_event_is_as_the_standard_has_it() {
    let mut record = adjust(192, 2, -3, 1);
    // A record whose request is known.
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut bytes = Vec::new();
    Origin::new("req-1", Some(trace)).unwrap().put(&mut bytes);
    bytes.extend_from_slice(&record.body);
    record.body = AlignedVec::new();
    record.body.extend_from_slice(&bytes);
    record.version |= crate::model::ORIGIN_FLAG;
    let events = events(&[record], &FilterConfig::default());
    let expected = json!([{
        "specversion": "1.0",
        "id": "3f9c000000000000-192",
        "source": "/holdfast/3f9c000000000000",
        "type": "holdfast.stock.adjusted.v1",
        "dataschema": "urn:holdfast:schema:v1:event.stock.adjusted",
        "subject": "SKU-1/BER",
        "time": "1970-01-01T00:00:01.000Z",
        "sequence": "00000000000000000192",
        "traceparent": trace,
        "datacontenttype": "application/json",
        "data": {"sku": "SKU-1", "location": "BER", "delta": -3, "reason": "shrinkage",
            "reference": ""},
    }]);
    assert_eq!(Value::from(events), expected);
}

#[test]
fn what_the_log_keeps_for_itself_is_no_event() {
    let records = [
        written(64, &Genesis { hash_secret: [17, 18] }),
        written(
            128,
            &Define {
                at_ms: 1,
                position: 0,
                sku_number: 0,
                sku: "SKU-0".into(),
                location: "BER".into(),
            },
        ),
    ];
    assert_eq!(events(&records, &FilterConfig::default()), Vec::<Value>::new());
    let mut window = Stream::default();
    for kind in [event::Seal::KIND, event::Acknowledge::KIND, 34, 200] {
        let record = Record { kind, ..records[0].record() };
        let absorbed = absorb(&mut window, &record, ROOMY, &FilterConfig::default()).unwrap();
        assert_eq!(absorbed, Absorbed::Nothing);
    }
    assert!(body(&window).is_empty());
}

#[test]
fn a_filter_lets_events_through_by_name_place_and_priority() {
    let mut other = order(&[(3, 1)]);
    (other.order_id, other.priority) = ("O-2".into(), 2);
    let mut records = one_of_each();
    records.push(placed(9_984, other));
    let through = |filter: FilterConfig| {
        let events = events(&records, &filter);
        names_of(&events).join(" ")
    };
    let all = FilterConfig::default;
    let named = |name: &str| FilterConfig { events: vec![name.into()], ..all() };
    assert_eq!(through(named("order.placed")), "order.placed order.placed");
    assert_eq!(through(named("stock.*")), "stock.set stock.adjusted");
    let bulk = FilterConfig { priorities: vec![Priority::Bulk], ..all() };
    assert_eq!(through(bulk), "order.placed");
    let express = FilterConfig { priorities: vec![Priority::Express], ..all() };
    // The order says itself that it is standard; what happens to it asks the engine.
    assert_eq!(through(express).split(' ').count(), 8);
    let sku = |sku: &str| FilterConfig { skus: vec![sku.into()], ..all() };
    assert_eq!(through(sku("SKU-1")), "stock.set stock.adjusted order.placed");
    let at = |place: &str| FilterConfig { locations: vec![place.parse().unwrap()], ..all() };
    let berlin = "stock.set reservation.held reservation.released reservation.changed \
                  reservation.expired order.placed order.shipped order.return_received";
    assert_eq!(through(at("BER")), berlin);
    assert_eq!(through(FilterConfig { skus: vec!["SKU-1".into()], ..at("BER") }), "stock.set");
}

#[test]
fn what_names_nothing_is_an_error() {
    let mut window = Stream::default();
    let all = FilterConfig::default();
    let error = absorb(&mut window, &stock(64, 1_000, 1).record(), ROOMY, &all).unwrap_err();
    assert!(error.to_string().contains("position 1000"), "{error}");
    let good = placed(64, order(&[(0, 1)]));
    let cut = Record { body: &good.body[..16], ..good.record() };
    let error = absorb(&mut window, &cut, ROOMY, &all).unwrap_err();
    assert!(matches!(error, Error::Undecodable(_)), "{error}");
    assert!(body(&window).is_empty());
}

proptest! {
    /// Whatever the limits, every event goes out once, in log order, and no batch is larger than allowed.
    #[test]
    fn batches_add_up_to_the_log(
        picks in prop::collection::vec(0_usize..16, 1..60),
        lines in 1_u64..8,
        bytes in 1_500_u64..6_000,
    ) {
        let (each, limits) = (one_of_each(), Limits { lines, bytes });
        let records = picks.iter().enumerate().map(|(i, pick)| {
            // A reservation's id is the position of its record: the later ones may name any.
            Written { lsn: Lsn(64 * (i as u64 + 1)), ..each[*pick].clone() }
        });
        let (mut window, mut bodies) = (Stream::default(), Vec::new());
        let all = FilterConfig::default();
        for record in records {
            if absorb(&mut window, &record.record(), limits, &all).unwrap() == Absorbed::Full {
                bodies.push(body(&window));
                window = Stream::default();
                let absorbed = absorb(&mut window, &record.record(), limits, &all).unwrap();
                prop_assert_eq!(absorbed, Absorbed::Taken);
            }
        }
        bodies.push(body(&window));
        let mut found = Vec::new();
        for body in &bodies {
            prop_assert!(body.len() as u64 <= bytes, "{} > {bytes}", body.len());
            let events: Vec<Value> = serde_json::from_slice(body).unwrap();
            prop_assert!((1..=lines).contains(&(events.len() as u64)));
            found.extend(events);
        }
        let expected: Vec<_> = picks.iter().map(|pick| STREAM_EVENTS[*pick]).collect();
        prop_assert_eq!(names_of(&found), expected);
        let ids: Vec<_> = (1..=picks.len()).map(|n| format!("3f9c000000000000-{}", 64 * n)).collect();
        let found: Vec<_> = found.iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect();
        prop_assert_eq!(found, ids);
    }
}
