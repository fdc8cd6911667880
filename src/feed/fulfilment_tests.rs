//! Pick waves: what they ask for, what they call off, and in which order.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    config::FilterConfig,
    feed::{
        BatchId,
        inventory::Limits,
        test_records::{LIFE, MUC, Names, Written, assert_golden, happened, order, placed},
    },
    model::{
        event::OrderData,
        fact::{Cancelled, Fact, Shipped},
        life::Life,
    },
};

const ROOMY: Limits = Limits { lines: 5_000, bytes: 240 * 1024 };

fn absorb(
    window: &mut Fulfilment,
    written: &Written,
    (names, limits): (&Names, Limits),
    filter: &FilterConfig,
) -> Result<Absorbed, Error> {
    let terms = Terms { sink: "wms", limits, lookup: names };
    window.absorb(&written.record(), terms, &mut Filter::new(filter))
}

fn rendered(window: &Fulfilment, number: u64) -> Vec<Vec<u8>> {
    let id = BatchId::new("wms", LIFE, number);
    let sealed_at = Timestamp::from_millis(1_764_000_000_120);
    let head = Head {
        batch_id: id.as_str(),
        sink: "wms",
        domain: "fulfilment",
        priority: window.lane.as_str(),
        first_lsn: Lsn(64),
        last_lsn: Lsn(640),
        sealed_at,
        events: 99,
    };
    window.render(head, Stamp { id: &id, sink: "wms", sealed_at, chain: [7; 32] }).unwrap().bodies
}

fn read(bodies: &[Vec<u8>]) -> Vec<Value> {
    bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect()
}

/// A shop: its orders, and the records of what happens to them.
#[derive(Default)]
struct Shop {
    names: Names,
    orders: Vec<(OrderData, Life)>,
    lsn: u64,
}

impl Shop {
    fn lsn(&mut self) -> u64 {
        self.lsn += 64;
        self.lsn
    }

    fn place(&mut self, lines: &[(u32, u32)], priority: Priority, promised_ms: u64) -> Written {
        let mut data = order(lines);
        data.order_id = format!("O-{}", self.orders.len() + 1).into();
        data.priority = priority as u8;
        data.promised_ship_at_ms = promised_ms;
        self.names.priorities.insert(data.order_id.to_string(), priority);
        self.orders.push((data.clone(), Life::default()));
        placed(self.lsn(), data)
    }

    fn happen(&mut self, at: usize, fact: Fact) -> Written {
        let lsn = self.lsn();
        let (data, life) = &mut self.orders[at];
        happened(lsn, data, life, fact)
    }

    /// Calls units of an order's allocation off.
    fn cancel(&mut self, at: usize, allocation: u32, quantity: u32) -> Written {
        let line = self.orders[at].0.allocations[allocation as usize];
        let line = Cancelled {
            allocation,
            position: line.position,
            quantity,
            limited: false,
            customer_hash: 0,
            granted: 0,
        };
        self.happen(at, Fact::Cancellation { lines: vec![line] })
    }

    /// Ships units of an order's allocation from where they were sold, or from the other location.
    fn ship(&mut self, at: usize, allocation: u32, quantity: u32, elsewhere: bool) -> Written {
        let from = self.orders[at].0.allocations[allocation as usize].position;
        let position = if elsewhere { from ^ 1 } else { from };
        let line = Shipped { allocation, from, position, quantity };
        let (carrier, tracking) = (String::new(), String::new());
        self.happen(at, Fact::Shipment { lines: vec![line].into(), carrier, tracking })
    }
}

fn take(window: &mut Fulfilment, shop: &Shop, written: &Written) -> Absorbed {
    absorb(window, written, (&shop.names, ROOMY), &FilterConfig::default()).unwrap()
}

#[test]
fn waves_are_as_the_contract_has_them() {
    let mut shop = Shop::default();
    let mut window = Fulfilment::new(Lane::Critical);
    let express = Priority::Express;
    for record in [
        shop.place(&[(2, 1), (0, 2), (1, 3), (2, 4)], express, 0),
        shop.place(&[(0, 5)], express, 1_764_000_000_000),
        shop.place(&[(0, 6)], express, 1_763_000_000_000),
        shop.place(&[(0, 7)], express, 1_764_000_000_000),
    ] {
        assert_eq!(take(&mut window, &shop, &record), Absorbed::Taken);
    }
    // Of another lane.
    let record = shop.place(&[(0, 8)], Priority::Bulk, 0);
    assert_eq!(take(&mut window, &shop, &record), Absorbed::Nothing);
    let bodies = read(&rendered(&window, 123));
    let line = |sku: &str, quantity: u64| json!({"sku": sku, "quantity": quantity});
    let order = |n: u32, order: u32, promised: Option<&str>, lines: &[Value]| {
        json!({"line_id": format!("wms-3f9c-000123.{n}"), "order_id": format!("O-{order}"),
            "priority": "express", "promised_ship_at": promised, "lines": lines})
    };
    let berlin = json!({
        "batch_id": "wms-3f9c-000123", "sink": "wms", "domain": "fulfilment", "priority": "critical",
        "first_lsn": 64, "last_lsn": 640, "sealed_at": "2025-11-24T16:00:00.120Z", "events": 4,
        "wave_id": "wms-3f9c-000123", "location": "BER", "cancellations": [], "orders": [
            order(1, 3, Some("2025-11-13T02:13:20.000Z"), &[line("SKU-0", 6)]),
            order(2, 2, Some("2025-11-24T16:00:00.000Z"), &[line("SKU-0", 5)]),
            order(3, 4, Some("2025-11-24T16:00:00.000Z"), &[line("SKU-0", 7)]),
            order(4, 1, None, &[line("SKU-0", 2), line("SKU-1", 5)]),
        ],
    });
    assert_eq!(bodies[0], berlin);
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[1]["batch_id"], "wms-3f9c-000124");
    assert_eq!(bodies[1]["wave_id"], "wms-3f9c-000124");
    assert_eq!((&bodies[1]["location"], &bodies[1]["events"]), (&json!(MUC), &json!(1)));
    assert_eq!(bodies[1]["orders"][0]["line_id"], "wms-3f9c-000124.1");
    assert_eq!(bodies[1]["orders"][0]["lines"], json!([line("SKU-0", 3)]));
}

#[test]
fn what_is_called_off_in_the_window_is_not_asked_for() {
    let mut shop = Shop::default();
    let mut window = Fulfilment::new(Lane::Standard);
    for record in [
        shop.place(&[(0, 2), (1, 3)], Priority::Standard, 0),
        shop.place(&[(0, 5)], Priority::Standard, 0),
        shop.cancel(0, 0, 1),
        shop.cancel(1, 0, 5),
        shop.ship(0, 1, 1, false),
    ] {
        assert_eq!(take(&mut window, &shop, &record), Absorbed::Taken);
    }
    let bodies = read(&rendered(&window, 1));
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0]["orders"].as_array().unwrap().len(), 1);
    assert_eq!(bodies[0]["orders"][0]["lines"], json!([{"sku": "SKU-0", "quantity": 1}]));
    assert_eq!(bodies[0]["events"], 4);
    assert_eq!(bodies[1]["orders"][0]["lines"], json!([{"sku": "SKU-0", "quantity": 2}]));
    for record in [shop.cancel(0, 0, 1), shop.cancel(0, 1, 2)] {
        assert_eq!(take(&mut window, &shop, &record), Absorbed::Taken);
    }
    assert!(rendered(&window, 1).is_empty());
}

#[test]
fn what_is_called_off_later_goes_where_its_order_went() {
    let mut shop = Shop::default();
    let bulk = Priority::Bulk;
    shop.place(&[(0, 9), (1, 3)], bulk, 0);
    let later = shop.place(&[(2, 1)], bulk, 0);
    let mut windows = Lane::ALL.map(Fulfilment::new);
    let records = [
        shop.cancel(0, 0, 1),
        shop.ship(0, 0, 2, false),
        shop.ship(0, 0, 3, true),
        shop.cancel(0, 0, 2),
        shop.cancel(0, 1, 3),
        later,
    ];
    let expected = [Absorbed::Taken, Absorbed::Nothing, Absorbed::Taken, Absorbed::Taken];
    for (at, record) in records.iter().enumerate() {
        let taken = expected.get(at).copied().unwrap_or(Absorbed::Taken);
        for window in &mut windows {
            let ours = window.lane == Lane::Bulk;
            let expected = if ours { taken } else { Absorbed::Nothing };
            assert_eq!(take(window, &shop, record), expected, "{at} {:?}", window.lane);
        }
    }
    let bytes = rendered(&windows[2], 1);
    assert_golden("batch.fulfilment", &bytes[1]);
    let bodies = read(&bytes);
    let item = |n: &str, reason: &str, quantity: u64| {
        json!({"line_id": format!("wms-3f9c-{n}"), "order_id": "O-1", "reason": reason,
            "lines": [{"sku": "SKU-0", "quantity": quantity}]})
    };
    // What only calls off comes first.
    assert_eq!(bodies[0]["location"], MUC);
    assert_eq!(bodies[0]["cancellations"], json!([item("000001.1", "cancelled", 3)]));
    assert_eq!(bodies[0]["orders"], json!([]));
    assert_eq!(bodies[1]["location"], "BER");
    assert_eq!(bodies[1]["orders"][0]["line_id"], "wms-3f9c-000002.1");
    let called_off = [item("000002.2", "cancelled", 3), item("000002.3", "shipped_elsewhere", 3)];
    assert_eq!(bodies[1]["cancellations"], json!(called_off));
}

#[test]
fn a_full_window_changes_nothing() {
    let mut shop = Shop::default();
    let limits = Limits { lines: 1, ..ROOMY };
    let standard = Priority::Standard;
    let records = [
        shop.place(&[(0, 1), (2, 1)], standard, 0),
        shop.place(&[(0, 1)], standard, 0),
        shop.place(&[(0, 1), (1, 1)], standard, 0),
        shop.place(&[(1, 1)], standard, 0),
    ];
    let mut window = Fulfilment::new(Lane::Standard);
    let mut take = |record: &Written| {
        let before = rendered(&window, 1);
        let filter = FilterConfig::default();
        let absorbed = absorb(&mut window, record, (&shop.names, limits), &filter).unwrap();
        assert_eq!(absorbed == Absorbed::Full, before == rendered(&window, 1));
        absorbed
    };
    use Absorbed::{Full, Taken};
    // The other location still has room, but an order goes out whole.
    assert_eq!([0, 1, 2, 3].map(|at| take(&records[at])), [Taken, Full, Full, Taken]);
}

#[test]
fn a_filter_leaves_out_the_order_and_what_is_called_off_of_it_alike() {
    let mut shop = Shop::default();
    let records = [
        shop.place(&[(0, 1), (1, 2)], Priority::Express, 0),
        shop.place(&[(1, 4)], Priority::Express, 0),
        shop.cancel(1, 0, 1),
        shop.cancel(0, 0, 1),
    ];
    let asked = |records: &[&Written], filter: FilterConfig| {
        let mut window = Fulfilment::new(Lane::Critical);
        for record in records {
            absorb(&mut window, record, (&shop.names, ROOMY), &filter).unwrap();
        }
        let bodies = read(&rendered(&window, 1));
        let sum = |items: &Value| {
            let items = items.as_array().unwrap().iter();
            let lines = items.flat_map(|item| item["lines"].as_array().unwrap());
            lines.map(|line| line["quantity"].as_u64().unwrap()).sum::<u64>()
        };
        let sum = |field: &str| bodies.iter().map(|body| sum(&body[field])).sum::<u64>();
        (sum("orders"), sum("cancellations"))
    };
    let all = FilterConfig::default;
    let berlin = || FilterConfig { locations: vec!["BER".parse().unwrap()], ..all() };
    let bulk = || FilterConfig { priorities: vec![Priority::Bulk], ..all() };
    let other = || FilterConfig { skus: vec!["SKU-1".into()], ..all() };
    let [one, two, three, four] = records.each_ref();
    assert_eq!(asked(&[one, two], all()), (7, 0));
    assert_eq!(asked(&[one, two, three, four], all()), (5, 0));
    assert_eq!(asked(&[one, two], berlin()), (1, 0));
    assert_eq!(asked(&[three, four], all()), (0, 2));
    assert_eq!(asked(&[three, four], berlin()), (0, 1));
    for filter in [bulk(), other()] {
        assert_eq!(asked(&[one, two, three, four], filter.clone()), (0, 0));
        assert_eq!(asked(&[three, four], filter), (0, 0));
    }
}

#[test]
fn what_names_nothing_is_an_error() {
    let mut shop = Shop::default();
    let mut window = Fulfilment::new(Lane::Standard);
    let unknown = shop.place(&[(1_000, 1)], Priority::Standard, 0);
    let all = FilterConfig::default();
    let error = absorb(&mut window, &unknown, (&shop.names, ROOMY), &all).unwrap_err();
    assert!(error.to_string().contains("position 1000"), "{error}");
    shop.place(&[(0, 1)], Priority::Standard, 0);
    let orphan = shop.cancel(1, 0, 1);
    let error = absorb(&mut window, &orphan, (&Names::default(), ROOMY), &all).unwrap_err();
    assert!(matches!(error, Error::UnknownOrder { lsn: Lsn(192) }), "{error}");
    assert!(rendered(&window, 1).is_empty());
}

/// What happens next.
#[derive(Debug, Clone)]
enum Deed {
    Place { lines: Vec<(u32, u32)>, priority: u8, promised: u64 },
    Cancel { order: usize, allocation: u32, quantity: u32 },
    Ship { order: usize, allocation: u32, quantity: u32, elsewhere: bool },
}

fn some_deed() -> impl Strategy<Value = Deed> {
    let lines = prop::collection::vec((0_u32..6, 1_u32..9), 1..5);
    let part = || (0_usize..8, 0_u32..4, 1_u32..9);
    prop_oneof![
        3 => (lines, 0_u8..3, 0_u64..4)
            .prop_map(|(lines, priority, promised)| Deed::Place { lines, priority, promised }),
        3 => part().prop_map(|(order, allocation, quantity)| {
            Deed::Cancel { order, allocation, quantity }
        }),
        2 => (part(), any::<bool>()).prop_map(|((order, allocation, quantity), elsewhere)| {
            Deed::Ship { order, allocation, quantity, elsewhere }
        }),
    ]
}

/// Does what can be done, the most recent orders first: an order's number counts back.
fn records_of(deeds: &[Deed]) -> (Shop, Vec<(Written, Deed)>) {
    let (mut shop, mut records) = (Shop::default(), Vec::new());
    for deed in deeds {
        let of = |shop: &Shop, back: usize, allocation: u32, quantity: u32| {
            let at = shop.orders.len().checked_sub(back + 1)?;
            let (data, life) = &shop.orders[at];
            let allocation = allocation % data.allocations.len() as u32;
            let quantity = quantity.min(life.open(data, allocation as usize));
            (quantity > 0).then_some((at, allocation, quantity))
        };
        match deed.clone() {
            Deed::Place { lines, priority, promised } => {
                let priority = Priority::of_number(priority);
                records.push((shop.place(&lines, priority, promised * 1_000), deed.clone()));
            }
            Deed::Cancel { order, allocation, quantity } => {
                let Some((order, allocation, quantity)) = of(&shop, order, allocation, quantity)
                else {
                    continue;
                };
                let deed = Deed::Cancel { order, allocation, quantity };
                records.push((shop.cancel(order, allocation, quantity), deed));
            }
            Deed::Ship { order, allocation, quantity, elsewhere } => {
                let Some((order, allocation, quantity)) = of(&shop, order, allocation, quantity)
                else {
                    continue;
                };
                let deed = Deed::Ship { order, allocation, quantity, elsewhere };
                records.push((shop.ship(order, allocation, quantity, elsewhere), deed));
            }
        }
    }
    (shop, records)
}

/// What a lane's windows came to, and where they ended: before which records.
type Sent = (Vec<Vec<Vec<u8>>>, Vec<usize>);

/// Runs a lane over the records. It is cut where `cut` says so and where it is full; where `crash` says
/// so, what was not sealed is read again.
fn run(
    lane: Lane,
    shop: &Shop,
    records: &[(Written, Deed)],
    limits: Limits,
    (cut, crash): (&dyn Fn(usize) -> bool, &dyn Fn(usize) -> bool),
) -> Sent {
    let all = FilterConfig::default();
    let (mut window, mut begin) = (Fulfilment::new(lane), 0);
    let (mut sent, mut ends) = (Vec::new(), Vec::new());
    let mut number = 1;
    let mut seal = |window: &mut Fulfilment, at| {
        let bodies = rendered(window, number);
        number += bodies.len().max(1) as u64;
        sent.push(bodies);
        ends.push(at);
        *window = Fulfilment::new(lane);
    };
    for (at, (record, _)) in records.iter().enumerate() {
        if crash(at) {
            window = Fulfilment::new(lane);
            for (record, _) in &records[begin..at] {
                let absorbed = absorb(&mut window, record, (&shop.names, limits), &all).unwrap();
                assert_ne!(absorbed, Absorbed::Full);
            }
        }
        if cut(at) {
            seal(&mut window, at);
            begin = at;
        }
        if absorb(&mut window, record, (&shop.names, limits), &all).unwrap() == Absorbed::Full {
            seal(&mut window, at);
            begin = at;
            let absorbed = absorb(&mut window, record, (&shop.names, limits), &all).unwrap();
            assert_ne!(absorbed, Absorbed::Full);
        }
    }
    seal(&mut window, records.len());
    (sent, ends)
}

type Picks = HashMap<(String, String, String), i64>;

/// Follows what a lane's waves say, as a warehouse would: what is to be picked in the end.
fn follow(sent: &[Vec<Vec<u8>>], limits: Limits, ids: &mut HashSet<String>) -> Picks {
    let mut picks = Picks::new();
    for bodies in sent {
        assert!(bodies.iter().map(|body| body.len() as u64).sum::<u64>() <= limits.bytes);
        let mut locations = HashSet::new();
        for body in read(bodies) {
            let location = body["location"].as_str().unwrap();
            assert!(locations.insert(location.to_owned()), "{location} twice in a window");
            assert!(ids.insert(body["batch_id"].to_string()));
            follow_one(&body, location, limits, ids, &mut picks);
        }
    }
    picks
}

fn follow_one(
    body: &Value,
    location: &str,
    limits: Limits,
    ids: &mut HashSet<String>,
    picks: &mut Picks,
) {
    let (orders, stops) = (&body["orders"], &body["cancellations"]);
    let (orders, stops) = (orders.as_array().unwrap(), stops.as_array().unwrap());
    assert!((1..=limits.lines).contains(&((orders.len() + stops.len()) as u64)));
    let urgency: Vec<_> = orders
        .iter()
        .map(|o| {
            let number = o["order_id"].as_str().unwrap()[2..].parse::<u64>().unwrap();
            (o["promised_ship_at"].as_str().unwrap_or("9").to_owned(), number)
        })
        .collect();
    assert!(urgency.is_sorted(), "{urgency:?}");
    for (items, sign) in [(orders, 1), (stops, -1)] {
        for item in items {
            assert!(ids.insert(item["line_id"].to_string()), "{item}");
            assert!(!item["lines"].as_array().unwrap().is_empty());
            for line in item["lines"].as_array().unwrap() {
                let of = |value: &Value| value.as_str().unwrap().to_owned();
                let key = (of(&item["order_id"]), of(&line["sku"]), location.to_owned());
                let quantity = line["quantity"].as_i64().unwrap();
                let known = picks.contains_key(&key);
                assert_eq!(known, sign < 0, "an order twice, or called off before it: {item}");
                let left = picks.entry(key).or_default();
                *left += sign * quantity;
                assert!(*left >= 0, "more called off than asked for: {item}");
            }
        }
    }
}

/// What is to be picked, of a lane whose windows ended at `ends`: what is open, and what was shipped by the
/// location that had been asked.
fn to_pick(lane: Lane, shop: &Shop, records: &[(Written, Deed)], ends: &[usize]) -> Picks {
    let mut picks = Picks::new();
    let window_of = |at: usize| ends.iter().take_while(|end| **end <= at).count();
    let mut placed_in = Vec::new();
    let mut add = |order: usize, allocation: usize, quantity: i64| {
        let data = &shop.orders[order].0;
        let position = data.allocations[allocation].position;
        let (sku, location) = shop.names.position(position).unwrap();
        let key = (data.order_id.to_string(), sku.to_string(), location.to_string());
        *picks.entry(key).or_default() += quantity;
    };
    let lane_of = |order: usize| Priority::of_number(shop.orders[order].0.priority).lane();
    for (at, (_, deed)) in records.iter().enumerate() {
        match deed {
            Deed::Place { .. } => placed_in.push(window_of(at)),
            Deed::Ship { order, allocation, quantity, elsewhere: false }
                if lane_of(*order) == lane && window_of(at) > placed_in[*order] =>
            {
                add(*order, *allocation as usize, i64::from(*quantity));
            }
            _ => {}
        }
    }
    for (order, (data, life)) in shop.orders.iter().enumerate() {
        for allocation in 0..data.allocations.len() {
            if lane_of(order) == lane {
                add(order, allocation, life.open(data, allocation).into());
            }
        }
    }
    picks
}

fn without_nothing(mut picks: Picks) -> Picks {
    picks.retain(|_, quantity| *quantity != 0);
    picks
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Wherever windows end: what the waves ask for less what they call off is what the ledger says is
    /// to be picked; nothing is called off before it is asked for, or twice; every line has a name of
    /// its own; no wave is larger than allowed, and the most urgent order stands first. And whoever
    /// reads again what was not sealed seals the same bytes.
    #[test]
    fn waves_add_up_to_what_is_to_be_picked(
        deeds in prop::collection::vec(some_deed(), 1..40),
        cuts in prop::collection::vec(0_u8..16, 40),
        crashes in prop::collection::vec(any::<bool>(), 40),
        lines in 2_u64..8,
        bytes in 4_000_u64..8_000,
    ) {
        let (shop, records) = records_of(&deeds);
        let limits = Limits { lines, bytes };
        for lane in Lane::ALL {
            let mut ids = HashSet::new();
            // One time in eight on its own, one in sixteen together with the other lanes.
            let cut = |at: usize| cuts[at] == lane.index() as u8 || cuts[at] == 15;
            let (sent, ends) = run(lane, &shop, &records, limits, (&cut, &|_| false));
            let picks = follow(&sent, limits, &mut ids);
            let expected = to_pick(lane, &shop, &records, &ends);
            prop_assert_eq!(without_nothing(picks), without_nothing(expected));
            let again = run(lane, &shop, &records, limits, (&cut, &|at| crashes[at]));
            prop_assert_eq!(again, (sent, ends));
        }
    }
}
