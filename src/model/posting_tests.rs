//! Random lives of orders: whatever happens, every record balances, and in the end the accounts say
//! what the order's own sums say.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use rkyv::util::AlignedVec;

use super::*;
use crate::model::{
    event::{KeyRef, Line, OrderData, Priced},
    fact::{CameBack, Cancelled, Fact, Shipped, Units},
    life::{Known, Life},
    totals,
    view::ReservationState,
    worth::{self, Worth},
};

/// Two positions a SKU.
fn sku_of(position: u32) -> u32 {
    position / 2
}

type Sums = BTreeMap<(Account, String), i128>;

/// An order, what became of it, and what was posted of it, however revenue is recognised.
struct Shop {
    order: OrderData,
    life: Life,
    sums: [Sums; 3],
}

impl Shop {
    fn new(order: OrderData) -> Self {
        let placed = Placed {
            key: KeyRef::default(),
            customer_hash: 0,
            order_hash: 1,
            taken_slot: Some(0),
            reservations: Vec::new(),
            order: order.clone(),
        };
        let mut shop = Self { order, life: Life::default(), sums: Default::default() };
        shop.post(&placed);
        shop
    }

    fn post<E: Event + event::Encode>(&mut self, event: &E) {
        let mut bytes = Vec::new();
        event::encode(event, &mut bytes);
        let mut body = AlignedVec::<8>::new();
        body.extend_from_slice(&bytes);
        for when in Recognition::ALL {
            let booking = of(Lsn(8), (E::KIND, E::VERSION), &body, when).expect("it balances");
            for posting in booking.iter().flat_map(|booking| &booking.postings) {
                let key = (posting.account, posting.tax_code.to_owned());
                *self.sums[when as usize].entry(key).or_default() += posting.amount;
            }
        }
        self.sums.iter_mut().for_each(|sums| sums.retain(|_, sum| *sum != 0));
    }

    /// Lets something happen, if it may.
    fn happens(&mut self, fact: Fact) -> bool {
        if self.life.check(&self.order, &fact, sku_of).is_err() {
            return false;
        }
        let id = format!("F-{}", self.life.known.len());
        let known = Known {
            lsn: 0,
            content: 0,
            at_ms: 0,
            id: id.as_str().into(),
            kind: fact.kind() as u8,
            state: 0,
        };
        let before = self.life.clone();
        self.life.add(&self.order, &fact, known);
        let worth = worth::of(&self.order, &before, &self.life, &fact, sku_of).unwrap();
        self.post(&happened(fact, worth, &id, self.life.state(&self.order)));
        true
    }

    fn sum(&self, when: Recognition, account: Account) -> i128 {
        let of_account = self.sums[when as usize].iter().filter(|((a, _), _)| *a == account);
        of_account.map(|(_, sum)| sum).sum()
    }

    /// The sales of each tax code.
    fn sales(&self, when: Recognition) -> Sums {
        let is_sale = |(account, _): &(Account, String)| {
            matches!(account, Account::Revenue | Account::Tax | Account::Shipping)
        };
        let sums = self.sums[when as usize].iter().filter(|(key, _)| is_sale(key));
        sums.map(|(key, sum)| (key.clone(), *sum)).collect()
    }
}

fn happened(fact: Fact, worth: Worth, id: &str, state: ReservationState) -> Happened {
    Happened {
        key: KeyRef::default(),
        previous: 0,
        content: 0,
        order_id: "O-1".into(),
        id: id.into(),
        turned: Default::default(),
        fact,
        worth,
        state: state as u8,
    }
}

fn priced(sku_number: u32, quantity: u32, unit_price: i64, tax: i64, tax_code: &str) -> Priced {
    let tax_code = tax_code.into();
    Priced { unit_price, tax, discount: 0, unit_cost: 7, sku_number, quantity, tax_code }
}

fn order_of(prices: Vec<Priced>) -> OrderData {
    // Each SKU is taken at its two positions.
    let at = |p: &Priced| {
        let here = p.quantity / 2;
        [(2 * p.sku_number, here), (2 * p.sku_number + 1, p.quantity - here)]
    };
    let allocations = prices.iter().flat_map(at).filter(|(_, quantity)| *quantity > 0);
    OrderData {
        shipping: 490,
        shipping_tax: 78,
        promised_ship_at_ms: 0,
        committed_at_ms: 0,
        order_id: "O-1".into(),
        customer: "".into(),
        allocations: allocations
            .map(|(position, quantity)| Line { position, quantity, limited: false })
            .collect(),
        prices: prices.into(),
        currency: *b"EUR",
        net: false,
        priority: 1,
    }
}

fn settle(amount: i64, fee: i64) -> Fact {
    Fact::Settlement { amount, fee }
}

fn refund(amount: i64, tax: i64) -> Fact {
    Fact::Refund { amount, tax, reason: String::new() }
}

fn sums(of: &[(Account, &str, i128)]) -> Sums {
    of.iter().map(|(account, code, sum)| ((*account, (*code).to_owned()), *sum)).collect()
}

/// Three refunds that each leave cents over give back, code by code, exactly what was sold.
#[test]
fn repeated_partial_refunds_add_up_to_the_cent() {
    use Account::{Clearing, Fees, Refunds, Revenue, Shipping, Tax};
    let order = order_of(vec![priced(0, 1, 1_000, 160, "DE-19"), priced(1, 1, 501, 33, "DE-7")]);
    let mut shop = Shop::new(order);
    assert!(shop.happens(settle(1_991, 59)));
    for (amount, tax) in [(663, 90), (664, 90), (664, 91)] {
        assert!(shop.happens(refund(amount, tax)));
    }
    let expected = [
        (Revenue, "DE-19", -840),
        (Revenue, "DE-7", -468),
        (Shipping, "", -412),
        (Clearing, "", -59),
        (Fees, "", 59),
        (Refunds, "DE-19", 840),
        (Refunds, "DE-7", 468),
        (Refunds, "", 412),
    ];
    assert_eq!(shop.sums[Recognition::Commit as usize], sums(&expected));
    assert_eq!(shop.sum(Recognition::Commit, Tax), 0);
}

/// What is paid back of a cancelled order lessens no sale: the cancellation did.
#[test]
fn a_cancelled_order_that_was_paid_and_paid_back_leaves_nothing_but_the_fee() {
    let mut shop = Shop::new(order_of(vec![priced(0, 2, 1_000, 319, "DE-19")]));
    let called_off = |allocation: u32| Cancelled {
        allocation,
        position: allocation,
        quantity: 1,
        limited: false,
        customer_hash: 0,
        granted: 0,
    };
    assert!(shop.happens(settle(2_490, 50)));
    assert!(shop.happens(Fact::Cancellation { lines: vec![called_off(0), called_off(1)] }));
    assert_eq!(shop.sum(Recognition::Commit, Account::Receivable), -2_490);
    assert!(shop.happens(refund(2_490, 397)));
    let expected = [(Account::Clearing, "", -50), (Account::Fees, "", 50)];
    for when in Recognition::ALL {
        assert_eq!(shop.sums[when as usize], sums(&expected), "{when:?}");
    }
}

#[test]
fn goods_go_at_cost_and_come_back_to_the_shelf_or_to_the_write_off() {
    use Account::{CostOfGoods, Inventory, WriteOff};
    let mut shop = Shop::new(order_of(vec![priced(0, 4, 100, 0, "")]));
    let shipped = Shipped { allocation: 0, from: 0, position: 0, quantity: 2 };
    let lines = vec![shipped, Shipped { allocation: 1, from: 1, position: 1, quantity: 1 }];
    let (carrier, tracking) = (String::new(), String::new());
    assert!(shop.happens(Fact::Shipment { lines: lines.into(), carrier, tracking }));
    let costs = |shop: &Shop| {
        [Inventory, CostOfGoods, WriteOff].map(|account| shop.sum(Recognition::Invoice, account))
    };
    assert_eq!(costs(&shop), [-21, 21, 0]);
    for (restock, expected) in [(true, [-14, 14, 0]), (false, [-14, 7, 7])] {
        let id = format!("F-{}", shop.life.known.len());
        let one = Units { sku_number: 0, quantity: 1 };
        assert!(shop.happens(Fact::Return { lines: vec![one], restock }));
        let lines = vec![CameBack { sku_number: 0, position: 0, quantity: 1 }];
        assert!(shop.happens(Fact::Receipt { return_id: id, lines, restock }));
        assert_eq!(costs(&shop), expected);
    }
}

fn some_order() -> impl Strategy<Value = OrderData> {
    let line = (0..5_000_i64, 1..6_u32, 0..300_i64, 0..200_i64, "[AB]?");
    (vec(line, 1..4), 0..900_i64, 0..200_i64, any::<bool>()).prop_map(
        |(lines, shipping, shipping_tax, net)| {
            let prices = (0..).zip(lines).map(|(sku, (price, units, tax, discount, code))| {
                let worth = price * i64::from(units);
                let discount = discount.min(worth);
                let mut priced = priced(sku, units, price, tax.min(worth - discount), &code);
                priced.discount = discount;
                priced
            });
            let order = order_of(prices.collect());
            OrderData { shipping, shipping_tax: shipping_tax.min(shipping), net, ..order }
        },
    )
}

/// Something that may happen, or not: what, to which allocation, how much in per cent.
fn some_fact(shop: &Shop, (what, at, share): (u8, usize, i64)) -> Fact {
    let (order, life) = (&shop.order, &shop.life);
    let all = totals::order(order).unwrap();
    let at = at % order.allocations.len();
    let (allocation, position) = (at as u32, order.allocations[at].position);
    let part = |amount: i64| (amount * share + 50) / 100;
    let quantity = (part(i64::from(life.open(order, at))) as u32).max(1);
    let sku_number = sku_of(position);
    match what {
        0 => Fact::Shipment {
            lines: vec![Shipped { allocation, from: position, position, quantity }].into(),
            carrier: String::new(),
            tracking: String::new(),
        },
        1 => Fact::Cancellation {
            lines: vec![Cancelled {
                allocation,
                position,
                quantity,
                limited: false,
                customer_hash: 0,
                granted: 0,
            }],
        },
        2 => {
            let sold = life.sold(order, sku_of).unwrap();
            let (amount, tax) = (sold.gross - life.invoiced, sold.tax - life.invoiced_tax);
            let amount = part(amount);
            Fact::Invoice { amount, tax: part(tax).min(amount) }
        }
        3 => settle(part(all.gross - life.settled), part(all.gross - life.settled) / 30),
        4 => {
            let amount = part(all.gross - life.refunded);
            refund(amount, part(all.tax - life.refunded_tax).min(amount))
        }
        5 => {
            Fact::Return { lines: vec![Units { sku_number, quantity: 1 }], restock: share % 2 == 0 }
        }
        _ => match life.returns.last() {
            Some(back) => Fact::Receipt {
                return_id: back.id.clone(),
                lines: vec![CameBack {
                    sku_number: back.lines[0].sku_number,
                    position,
                    quantity: 1,
                }],
                restock: back.restock,
            },
            None => Fact::Note { text: "nothing".into() },
        },
    }
}

/// Ships, or calls off, everything that is open, and bills what is not billed.
fn finish(shop: &mut Shop, ship: bool) {
    for at in 0..shop.order.allocations.len() {
        if shop.life.open(&shop.order, at) > 0 {
            let fact = some_fact(shop, (u8::from(!ship), at, 100));
            assert!(shop.happens(fact));
        }
    }
    let bill = some_fact(shop, (2, 0, 100));
    shop.happens(bill);
}

proptest! {
    #[test]
    fn whatever_happens_the_books_balance_and_say_what_the_order_says(
        order in some_order(),
        steps in vec((0..7_u8, 0..8_usize, 0..=100_i64), 0..25),
        ship in any::<bool>(),
    ) {
        let mut shop = Shop::new(order);
        for step in steps {
            let fact = some_fact(&shop, step);
            shop.happens(fact);
        }
        check(&shop)?;
        finish(&mut shop, ship);
        check(&shop)?;
        let sold = shop.life.sold(&shop.order, sku_of).unwrap();
        if shop.life.refunded == 0 {
            // Nothing is open: what left is what was sold, code by code and to the cent.
            prop_assert_eq!(shop.sales(Recognition::Shipment), shop.sales(Recognition::Commit));
            if (shop.life.invoiced, shop.life.invoiced_tax) == (sold.gross, sold.tax) {
                prop_assert_eq!(shop.sales(Recognition::Invoice), shop.sales(Recognition::Commit));
            }
        }
    }
}

/// What the accounts must say at any time.
fn check(shop: &Shop) -> Result<(), TestCaseError> {
    let life = &shop.life;
    let sold = life.sold(&shop.order, sku_of).unwrap();
    let open = life.state(&shop.order) == ReservationState::Committed;
    for when in Recognition::ALL {
        let sum = |account| shop.sum(when, account);
        let clearing = life.settled - life.fees - life.refunded;
        prop_assert_eq!(sum(Account::Clearing), i128::from(clearing));
        prop_assert_eq!(sum(Account::Fees), i128::from(life.fees));
        let goods = sum(Account::Inventory) + sum(Account::CostOfGoods) + sum(Account::WriteOff);
        prop_assert_eq!(goods, 0);
        let recognised = match when {
            Recognition::Commit => sold.gross,
            Recognition::Shipment if open => continue,
            Recognition::Shipment => sold.gross,
            Recognition::Invoice => life.invoiced.min(sold.gross),
        };
        // A customer's credit is paid back first.
        let credit = (life.settled - sold.gross).max(0).min(life.refunded);
        let owed = recognised - life.settled + credit;
        prop_assert_eq!(sum(Account::Receivable), i128::from(owed), "{:?}", when);
        if when == Recognition::Commit && life.refunded == 0 {
            prop_assert_eq!(sum(Account::Tax), -i128::from(sold.tax));
        }
    }
    Ok(())
}
