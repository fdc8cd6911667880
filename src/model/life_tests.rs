//! An order's life: what may happen and what may not, in examples and in random histories.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::model::{
    event::{Line, Priced},
    fact::{Cancelled, Shipped},
};

/// Position 0 and 1 are of SKU 0, position 2 of SKU 1.
fn sku_of(position: u32) -> u32 {
    position / 2
}

fn line(position: u32, quantity: u32) -> Line {
    Line { position, quantity, limited: false }
}

fn priced(sku_number: u32, quantity: u32, unit_price: i64, tax: i64) -> Priced {
    Priced {
        unit_price,
        tax,
        discount: 1,
        unit_cost: 0,
        sku_number,
        quantity,
        tax_code: "DE-19".into(),
    }
}

/// Three units of SKU 0 at two positions, two of SKU 1; it comes to 3 * 999 - 1 + 2 * 500 - 1 + 490.
fn order() -> OrderData {
    OrderData {
        shipping: 490,
        shipping_tax: 78,
        promised_ship_at_ms: 0,
        committed_at_ms: 0,
        order_id: "O-1".into(),
        customer: "".into(),
        prices: vec![priced(0, 3, 999, 478), priced(1, 2, 500, 159)].into(),
        allocations: vec![line(0, 2), line(1, 1), line(2, 2)].into(),
        currency: *b"EUR",
        net: false,
        priority: 1,
    }
}

fn known(kind: FactKind, id: &str) -> Known {
    Known { lsn: 0, content: 0, at_ms: 0, id: id.into(), kind: kind as u8, state: 0 }
}

fn do_it(life: &mut Life, order: &OrderData, fact: &Fact, id: &str) -> Result<(), Wrong> {
    life.check(order, fact, sku_of)?;
    life.add(order, fact, known(fact.kind(), id));
    Ok(())
}

fn ship(allocation: u32, position: u32, quantity: u32) -> Fact {
    let lines = vec![Shipped { allocation, from: allocation, position, quantity }];
    Fact::Shipment { lines: lines.into(), carrier: String::new(), tracking: String::new() }
}

fn cancel(allocation: u32, quantity: u32) -> Fact {
    Fact::Cancellation {
        lines: vec![Cancelled {
            allocation,
            position: allocation,
            quantity,
            limited: false,
            customer_hash: 0,
            granted: 0,
        }],
    }
}

#[test]
fn an_order_is_fulfilled_when_its_last_unit_has_left_and_cancelled_when_none_did() {
    let (order, mut life) = (order(), Life::default());
    assert_eq!(life.state(&order), ReservationState::Committed);
    do_it(&mut life, &order, &ship(0, 0, 2), "a").unwrap();
    do_it(&mut life, &order, &cancel(1, 1), "b").unwrap();
    assert_eq!(do_it(&mut life, &order, &ship(1, 1, 1), "c"), Err(Wrong::Units));
    assert_eq!(life.state(&order), ReservationState::Committed);
    do_it(&mut life, &order, &ship(2, 2, 2), "d").unwrap();
    assert_eq!(life.state(&order), ReservationState::Fulfilled);

    let mut life = Life::default();
    for (allocation, quantity) in [(0, 2), (1, 1), (2, 2)] {
        do_it(&mut life, &order, &cancel(allocation, quantity), "x").unwrap();
    }
    assert_eq!(life.state(&order), ReservationState::Cancelled);
    assert_eq!(life.sold(&order, sku_of).unwrap(), Totals::default());
    assert_eq!(life.known.last().unwrap().state, ReservationState::Cancelled as u8);
}

#[test]
fn lines_of_one_fact_are_counted_together() {
    let (order, mut life) = (order(), Life::default());
    let twice = vec![Shipped { allocation: 1, from: 1, position: 1, quantity: 1 }; 2];
    let fact =
        Fact::Shipment { lines: twice.into(), carrier: String::new(), tracking: String::new() };
    assert_eq!(do_it(&mut life, &order, &fact, "a"), Err(Wrong::Units));
    do_it(&mut life, &order, &ship(0, 0, 2), "a").unwrap();
    let two = vec![Units { sku_number: 0, quantity: 1 }, Units { sku_number: 0, quantity: 2 }];
    let back = Fact::Return { lines: two, restock: true };
    assert_eq!(do_it(&mut life, &order, &back, "r"), Err(Wrong::Returned));
}

#[test]
fn goods_come_back_once() {
    let (order, mut life) = (order(), Life::default());
    let units = |quantity| vec![Units { sku_number: 0, quantity }];
    let authorised = |quantity| Fact::Return { lines: units(quantity), restock: true };
    let came_back = |quantity| Fact::Receipt {
        return_id: "r".into(),
        lines: vec![CameBack { sku_number: 0, position: 1, quantity }],
        restock: true,
    };
    assert_eq!(do_it(&mut life, &order, &authorised(1), "r"), Err(Wrong::Returned));
    // From another place than it was sold from.
    do_it(&mut life, &order, &ship(0, 1, 2), "a").unwrap();
    assert_eq!(do_it(&mut life, &order, &came_back(1), "x"), Err(Wrong::UnknownReturn));
    do_it(&mut life, &order, &authorised(2), "r").unwrap();
    assert_eq!(do_it(&mut life, &order, &authorised(1), "s"), Err(Wrong::Returned));
    do_it(&mut life, &order, &came_back(1), "x").unwrap();
    assert_eq!(do_it(&mut life, &order, &came_back(2), "y"), Err(Wrong::Received));
    do_it(&mut life, &order, &came_back(1), "y").unwrap();
    assert_eq!(do_it(&mut life, &order, &came_back(1), "z"), Err(Wrong::Received));
}

#[test]
fn no_more_money_moves_than_was_sold() {
    let (order, mut life) = (order(), Life::default());
    let total = totals::order(&order).unwrap();
    let bill = |amount, tax| Fact::Invoice { amount, tax };
    assert_eq!(do_it(&mut life, &order, &bill(total.gross + 1, 0), "i"), Err(Wrong::Amount));
    assert_eq!(do_it(&mut life, &order, &bill(1, total.tax + 1), "i"), Err(Wrong::Tax));
    assert_eq!(do_it(&mut life, &order, &bill(-1, 0), "i"), Err(Wrong::Amount));
    do_it(&mut life, &order, &cancel(2, 1), "c").unwrap();
    let left = life.sold(&order, sku_of).unwrap();
    assert_eq!((total.gross - left.gross, total.tax - left.tax), (499, 79));
    assert_eq!(do_it(&mut life, &order, &bill(total.gross, 0), "i"), Err(Wrong::Amount));
    do_it(&mut life, &order, &bill(left.gross, left.tax), "i").unwrap();
    let pay = |amount, fee| Fact::Settlement { amount, fee };
    assert_eq!(do_it(&mut life, &order, &pay(10, 11), "s"), Err(Wrong::Amount));
    do_it(&mut life, &order, &pay(total.gross, 30), "s").unwrap();
    assert_eq!(do_it(&mut life, &order, &pay(1, 0), "t"), Err(Wrong::Amount));
    let back = |amount, tax| Fact::Refund { amount, tax, reason: String::new() };
    do_it(&mut life, &order, &back(total.gross - 1, total.tax), "f").unwrap();
    assert_eq!(do_it(&mut life, &order, &back(i64::MAX, 0), "g"), Err(Wrong::Amount));
    assert_eq!(do_it(&mut life, &order, &back(1, 1), "g"), Err(Wrong::Tax));
    do_it(&mut life, &order, &back(1, 0), "g").unwrap();
}

#[test]
fn an_order_has_a_limited_number_of_facts() {
    let (order, mut life) = (order(), Life::default());
    let note = Fact::Note { text: "a dispute".into() };
    for n in 0..FACTS_MAX {
        do_it(&mut life, &order, &note, &n.to_string()).unwrap();
    }
    assert_eq!(do_it(&mut life, &order, &note, "one more"), Err(Wrong::Facts));
}

fn fact() -> impl Strategy<Value = Fact> {
    let quantity = 1..4_u32;
    let amount = -10..3_000_i64;
    prop_oneof![
        (0..4_u32, 0..3_u32, quantity.clone()).prop_map(|(a, p, q)| ship(a, p, q)),
        (0..4_u32, quantity.clone()).prop_map(|(a, q)| cancel(a, q)),
        (amount.clone(), -1..400_i64).prop_map(|(amount, tax)| Fact::Invoice { amount, tax }),
        (amount.clone(), 0..100_i64).prop_map(|(amount, fee)| Fact::Settlement { amount, fee }),
        (amount, -1..400_i64).prop_map(|(amount, tax)| Fact::Refund {
            amount,
            tax,
            reason: String::new()
        }),
        (vec((0..3_u32, quantity.clone()), 1..3), any::<bool>()).prop_map(|(lines, restock)| {
            let unit = |(sku_number, quantity)| Units { sku_number, quantity };
            Fact::Return { lines: lines.into_iter().map(unit).collect(), restock }
        }),
        (0..9_u32, 0..3_u32, quantity).prop_map(|(of, position, quantity)| Fact::Receipt {
            return_id: of.to_string(),
            lines: vec![CameBack { sku_number: sku_of(position), position, quantity }],
            restock: true,
        }),
    ]
}

proptest! {
    /// Whatever is asked for in whatever order: the sums stay within what was sold.
    #[test]
    fn nothing_ever_exceeds_what_was_sold(facts in vec(fact(), 0..40)) {
        let (order, mut life) = (order(), Life::default());
        let total = totals::order(&order).unwrap();
        for (n, fact) in facts.iter().enumerate() {
            let _ = do_it(&mut life, &order, fact, &n.to_string());
        }
        for (at, sold) in order.allocations.iter().enumerate() {
            let gone = life.gone(at);
            prop_assert!(gone.shipped + gone.cancelled <= sold.quantity);
        }
        prop_assert!((0..=total.gross).contains(&life.invoiced));
        prop_assert!((0..=total.tax).contains(&life.invoiced_tax));
        prop_assert!((0..=total.gross).contains(&life.settled) && life.fees <= life.settled);
        prop_assert!((0..=total.gross).contains(&life.refunded));
        prop_assert!((0..=total.tax).contains(&life.refunded_tax));
        for sku in 0..2 {
            let left: u32 =
                life.left_from.iter().filter(|(p, _)| sku_of(*p) == sku).map(|(_, q)| q).sum();
            prop_assert!(life.in_returns(sku) <= left);
        }
        for r in &life.returns {
            for (line, received) in r.lines.iter().zip(&r.received) {
                prop_assert!(*received <= line.quantity);
            }
        }
        let left = life.sold(&order, sku_of).unwrap();
        prop_assert!((0..=total.gross).contains(&left.gross));
        prop_assert!((0..=left.gross).contains(&left.tax));
    }
}
