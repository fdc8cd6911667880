//! Stock movements: summed by position and movement.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    config::FilterConfig,
    feed::{
        BatchId,
        test_records::{Names, Written, adjust, assert_golden, order, placed, stock},
    },
    model::{Incarnation, Timestamp},
};

const ROOMY: Limits = Limits { lines: 5_000, bytes: 240 * 1024 };

fn absorb(
    window: &mut Inventory,
    record: &Record<'_>,
    limits: Limits,
    filter: &FilterConfig,
) -> Result<Absorbed, Error> {
    let terms = Terms { sink: "erp", limits, lookup: &Names::default() };
    window.absorb(record, terms, &mut Filter::new(filter))
}

fn take(window: &mut Inventory, written: &Written, limits: Limits) -> Absorbed {
    absorb(window, &written.record(), limits, &FilterConfig::default()).unwrap()
}

fn rendered(window: &Inventory, events: u64) -> Vec<u8> {
    let id = BatchId::new("erp", Incarnation(0x3f9c << 48), 123);
    let sealed_at = Timestamp::from_millis(1_764_000_000_120);
    let head = Head {
        batch_id: id.as_str(),
        sink: "erp",
        domain: "inventory",
        priority: "standard",
        first_lsn: Lsn(64),
        last_lsn: Lsn(640),
        sealed_at,
        events,
    };
    window
        .render(head, Stamp { id: &id, sink: "erp", sealed_at, chain: [0; 32] })
        .unwrap()
        .body()
        .to_vec()
}

#[test]
fn a_body_is_as_the_contract_has_it() {
    let mut window = Inventory::default();
    for record in [
        placed(64, order(&[(0, 2), (1, 1)])),
        placed(128, order(&[(0, 3), (0, 4)])),
        adjust(192, 0, 50, AdjustmentReason::Receipt as u8),
        adjust(256, 2, -3, AdjustmentReason::Shrinkage as u8),
        stock(320, 2, 1),
    ] {
        assert_eq!(take(&mut window, &record, ROOMY), Absorbed::Taken);
    }
    let bytes = rendered(&window, 5);
    assert_golden("batch.inventory", &bytes);
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    let line = |n: usize, sku: &str, location: &str, movement: &str, quantity: i64, events: u64| {
        serde_json::json!({"line_id": format!("erp-3f9c-000123.{n}"), "sku": sku, "location": location,
            "movement": movement, "quantity": quantity, "events": events})
    };
    let expected = serde_json::json!({
        "batch_id": "erp-3f9c-000123", "sink": "erp", "domain": "inventory", "priority": "standard",
        "first_lsn": 64, "last_lsn": 640, "sealed_at": "2025-11-24T16:00:00.120Z", "events": 5,
        "lines": [
            line(1, "SKU-0", "BER", "sold", 9, 2),
            line(2, "SKU-0", "BER", "receipt", 50, 1),
            line(3, "SKU-0", "say \"M\\UC\"", "sold", 1, 1),
            line(4, "SKU-1", "BER", "adjustment", -2, 2),
        ],
    });
    assert_eq!(body, expected);
}

#[test]
fn what_moves_nothing_is_left_out() {
    let mut window = Inventory::default();
    let count = AdjustmentReason::Count as u8;
    assert_eq!(take(&mut window, &stock(64, 0, 0), ROOMY), Absorbed::Nothing);
    assert_eq!(take(&mut window, &adjust(128, 0, 3, count), ROOMY), Absorbed::Taken);
    assert_eq!(take(&mut window, &adjust(192, 0, -3, count), ROOMY), Absorbed::Taken);
    assert!(rendered(&window, 2).is_empty());
    assert_eq!(take(&mut window, &placed(256, order(&[(4, 1)])), ROOMY), Absorbed::Taken);
    let body: Value = serde_json::from_slice(&rendered(&window, 3)).unwrap();
    assert_eq!(body["lines"].as_array().unwrap().len(), 1);
    assert_eq!(body["events"], 3);
}

#[test]
fn a_full_window_takes_known_keys_and_nothing_of_an_order_that_needs_more() {
    let limits = Limits { lines: 2, ..ROOMY };
    let mut window = Inventory::default();
    assert_eq!(take(&mut window, &placed(64, order(&[(0, 1), (1, 1)])), limits), Absorbed::Taken);
    assert_eq!(take(&mut window, &placed(128, order(&[(0, 5), (2, 1)])), limits), Absorbed::Full);
    assert_eq!(take(&mut window, &placed(192, order(&[(0, 5)])), limits), Absorbed::Taken);
    let body: Value = serde_json::from_slice(&rendered(&window, 2)).unwrap();
    assert_eq!(body["lines"][0]["quantity"], 6);
    // An order that is larger than any window stands alone rather than never.
    let mut empty = Inventory::default();
    let large = placed(64, order(&[(0, 1), (1, 1), (2, 1)]));
    assert_eq!(take(&mut empty, &large, limits), Absorbed::Taken);
}

#[test]
fn a_filter_lets_lines_through_by_name_place_and_movement() {
    let sold = |filter: FilterConfig| {
        let mut window = Inventory::default();
        for record in [placed(64, order(&[(0, 1), (1, 2), (2, 4)])), adjust(128, 2, 8, 0)] {
            absorb(&mut window, &record.record(), ROOMY, &filter).unwrap();
        }
        let body = rendered(&window, 0);
        if body.is_empty() {
            return Vec::new();
        }
        let body: Value = serde_json::from_slice(&body).unwrap();
        let lines = body["lines"].as_array().unwrap();
        lines.iter().map(|line| line["quantity"].as_i64().unwrap()).collect()
    };
    let all = FilterConfig::default;
    let skus = |skus: &[&str]| FilterConfig {
        skus: skus.iter().map(|sku| (*sku).to_owned()).collect(),
        ..all()
    };
    assert_eq!(sold(all()), [1, 2, 4, 8]);
    assert_eq!(sold(skus(&["SKU-0"])), [1, 2]);
    assert_eq!(sold(skus(&["X", "SKU-*"])), [1, 2, 4, 8]);
    assert_eq!(sold(skus(&["SKU-0*", "SKU-9"])), [1, 2]);
    let berlin = || FilterConfig { locations: vec!["BER".parse().unwrap()], ..all() };
    assert_eq!(sold(berlin()), [1, 4, 8]);
    assert_eq!(sold(FilterConfig { skus: vec!["SKU-0".into()], ..berlin() }), [1]);
    assert_eq!(sold(FilterConfig { movements: vec![Movement::Receipt], ..all() }), [8]);
    assert_eq!(sold(skus(&["CAP"])), [0; 0]);
    // What is filtered out is nothing, and an undefined position an error all the same.
    let record = placed(64, order(&[(0, 1)]));
    let mut window = Inventory::default();
    let absorbed = absorb(&mut window, &record.record(), ROOMY, &skus(&["CAP"])).unwrap();
    assert_eq!(absorbed, Absorbed::Nothing);
    let unknown = placed(64, order(&[(1_000, 1)]));
    assert!(absorb(&mut window, &unknown.record(), ROOMY, &skus(&["CAP"])).is_err());
}

#[test]
fn a_sum_never_wraps() {
    let mut window = Inventory::default();
    assert_eq!(take(&mut window, &adjust(64, 0, i64::MAX, 1), ROOMY), Absorbed::Taken);
    assert_eq!(take(&mut window, &adjust(128, 0, 1, 1), ROOMY), Absorbed::Full);
    assert_eq!(take(&mut window, &adjust(192, 0, -1, 1), ROOMY), Absorbed::Taken);
}

#[test]
fn an_undefined_position_and_a_damaged_record_are_errors() {
    let mut window = Inventory::default();
    let unknown = placed(64, order(&[(1_000, 1)]));
    let error =
        absorb(&mut window, &unknown.record(), ROOMY, &FilterConfig::default()).unwrap_err();
    assert!(error.to_string().contains("position 1000"), "{error}");
    let good = placed(64, order(&[(0, 1)]));
    let cut = Record { body: &good.body[..16], ..good.record() };
    let result = absorb(&mut window, &cut, ROOMY, &FilterConfig::default());
    assert!(matches!(result, Err(Error::Undecodable(_))));
    assert!(rendered(&window, 0).is_empty());
}

fn some_record() -> impl Strategy<Value = Written> {
    let line = (0_u32..12, 1_u32..1_000_000);
    prop_oneof![
        prop::collection::vec(line, 1..8).prop_map(|lines| placed(64, order(&lines))),
        (0_u32..12, -1_000_000_i64..1_000_000, 0_u8..5).prop_map(|(p, d, r)| adjust(64, p, d, r)),
        (0_u32..12, -1_000_000_i64..1_000_000).prop_map(|(p, d)| stock(64, p, d)),
    ]
}

/// The sums, computed as dully as can be.
fn dull_sums<'a>(records: impl Iterator<Item = &'a Written>) -> BTreeMap<(u32, &'static str), i64> {
    let mut sums = BTreeMap::new();
    for written in records {
        let (lsn, kind, body) = (written.lsn, written.kind, &written.body);
        let version = written.version;
        let mut add = |position, movement, delta| {
            *sums.entry((position, movement)).or_insert(0) += delta;
        };
        if let Ok(order) = event::decode::<event::Placed>(lsn, kind, version, body) {
            for line in order.order.allocations.iter() {
                add(line.position.to_native(), "sold", i64::from(line.quantity.to_native()));
            }
        } else if let Ok(moved) = event::decode::<event::Adjust>(lsn, kind, version, body) {
            let movement = if moved.reason == 0 { "receipt" } else { "adjustment" };
            add(moved.position.to_native(), movement, moved.delta.to_native());
        } else if let Ok(set) = event::decode::<event::Stock>(lsn, kind, version, body) {
            add(set.position.to_native(), "adjustment", set.on_hand.to_native());
        }
    }
    sums.retain(|_, sum| *sum != 0);
    sums
}

proptest! {
    /// Whatever the limits and wherever windows end, what goes out adds up to what was recorded,
    /// and no body is larger than allowed.
    #[test]
    fn windows_add_up_to_the_log(
        records in prop::collection::vec(some_record(), 1..60),
        lines in 8_u64..20,
        bytes in 2_000_u64..4_000,
    ) {
        let limits = Limits { lines, bytes };
        let (mut window, mut bodies) = (Inventory::default(), Vec::new());
        for record in &records {
            if take(&mut window, record, limits) == Absorbed::Full {
                bodies.push(rendered(&window, u64::MAX));
                window = Inventory::default();
                prop_assert_ne!(take(&mut window, record, limits), Absorbed::Full);
            }
        }
        bodies.push(rendered(&window, u64::MAX));
        let mut sums = BTreeMap::new();
        for body in bodies.iter().filter(|body| !body.is_empty()) {
            prop_assert!(body.len() as u64 <= bytes, "{} > {bytes}", body.len());
            let body: Value = serde_json::from_slice(body).unwrap();
            let found = body["lines"].as_array().unwrap();
            prop_assert!(found.len() as u64 <= lines);
            for line in found {
                let of = |field: &str| line[field].as_str().unwrap();
                let key = (of("sku").to_owned(), of("location").to_owned(), of("movement").to_owned());
                *sums.entry(key).or_insert(0) += line["quantity"].as_i64().unwrap();
            }
        }
        sums.retain(|_, sum| *sum != 0);
        let expected: BTreeMap<_, _> = dull_sums(records.iter())
            .into_iter()
            .map(|((position, movement), sum)| {
                let (sku, location) = Names::default().position(position).unwrap();
                ((sku.to_string(), location.to_string(), movement.to_owned()), sum)
            })
            .collect();
        prop_assert_eq!(sums, expected);
    }
}

/// What a window counts is enough whatever its numbers are, and not much more than it takes: or windows
/// were closed for bytes that no body has.
#[test]
fn the_bytes_of_a_window_are_a_tight_bound() {
    let counted = |window: &Inventory| window.bytes + render::head_bytes("erp");
    let mut window = Inventory::default();
    for (lsn, position) in (1..=100).map(|n| (64 * n, n as u32 % 3)) {
        take(&mut window, &placed(lsn, order(&[(position, 1)])), ROOMY);
    }
    let mut sizes = vec![(counted(&window), rendered(&window, 100).len() as u64)];
    // The widest numbers, at once and after narrow ones; a line is widened once.
    for delta in [-999_999, -1, 1 - i64::MAX / 2, -i64::MAX / 2] {
        take(&mut window, &adjust(8_000, 0, delta, 0), ROOMY);
        sizes.push((counted(&window), rendered(&window, 100).len() as u64));
    }
    take(&mut window, &adjust(9_000, 1, i64::MAX, 0), ROOMY);
    if let Some(line) = window.lines.get_mut(&(2, Movement::Sold)) {
        line.events = NARROW_MAX;
    }
    take(&mut window, &placed(9_064, order(&[(2, 1)])), ROOMY);
    sizes.push((counted(&window), rendered(&window, 100).len() as u64));
    for (most, is) in sizes {
        assert!(is <= most, "{is} bytes, counted as {most}");
    }
    let lines: u64 = window.lines.values().map(|line| 100 + 26 * u64::from(line.wide)).sum();
    assert_eq!(lines, 5 * 100 + 3 * 26, "three lines are wide");
}
