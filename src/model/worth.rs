//! What a fact is worth to the books: the money side of a [`Happened`](super::event::Happened) record.
//!
//! # What it promises
//!
//! - The record says it all. Whoever posts it needs neither the order nor the facts before, so that the
//!   feed, an export and a verification can't come to different sums, whenever they read it.
//! - Exact. What is recognised of an order, and what is given back, is a function of the order and its
//!   [`Life`]; a fact is worth the difference between after and before. So whatever is done bit by bit
//!   adds up to the whole, to the last minor unit, for each tax code.
//!
//! # What is recognised
//!
//! By tax code, net and tax apart; the shipping fee is one more part, without a code.
//!
//! - At the commit: everything that was sold and not called off, the fee as long as not all is.
//! - At the shipment: what left, at its share of what it was sold for; the fee with the first unit.
//! - At the invoice: what was billed, at most what was sold and not called off, shared out over the
//!   codes in proportion to what is left of the order.
//!
//! # What is given back
//!
//! A refund first pays back what the customer paid beyond what is sold and not called off: the
//! cancellation has lessened the sales already. Only what exceeds that lessens them, shared out over the
//! codes of the whole order. That does not depend on when revenue is recognised.

use compact_str::CompactString;
use rkyv::{Archive, Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use super::{
    Invalid,
    event::{OrderData, Priced},
    fact::Fact,
    life::Life,
    text::AsText,
    totals,
    view::ReservationState,
};

/// When revenue is recognised.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Recognition {
    /// When the order is placed.
    #[default]
    Commit = 0,
    /// When goods leave.
    Shipment = 1,
    /// When the customer is billed.
    Invoice = 2,
}

impl Recognition {
    /// All of them, by number.
    pub const ALL: [Self; 3] = [Self::Commit, Self::Shipment, Self::Invoice];

    /// The bits of all of them.
    const ALL_BITS: u8 = 0b111;

    /// The one of a number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|when| *when as u8 == number)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Shipment => "shipment",
            Self::Invoice => "invoice",
        }
    }
}

/// What a share is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
#[repr(u8)]
pub enum Part {
    /// Goods sold: adds to revenue.
    Goods,
    /// The shipping fee: adds to shipping.
    Fee,
    /// Given back: lessens the sales.
    Refund,
}

/// A part of an amount: net and tax, in minor units. Negative where something is undone.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Share {
    /// Without tax.
    pub net: i64,
    /// The tax on it.
    pub tax: i64,
    /// The tax code; may be empty.
    #[rkyv(with = AsText)]
    pub tax_code: CompactString,
    /// Of what.
    pub part: Part,
    /// Where it holds: bit `n` for [`Recognition`] number `n`.
    pub when: u8,
}

/// What a fact is worth.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Worth {
    /// What the goods cost that left or came back, in minor units, as far as that is known.
    pub cost: i64,
    /// What is recognised and what is given back.
    pub shares: SmallVec<[Share; 1]>,
    /// The currency of every amount.
    pub currency: [u8; 3],
    /// What had happened to the order before: bit `n` for [`super::fact::FactKind`] number `n`.
    pub before: u8,
}

/// What a fact is worth that turns `before` into `after` (as [`Life::after`] has it, or the whole life).
///
/// # Errors
/// If the order's amounts make no sense; they were checked when it was placed.
pub fn of(
    order: &OrderData,
    before: &Life,
    after: &Life,
    fact: &Fact,
    sku_of: impl Fn(u32) -> u32,
) -> Result<Worth, Invalid> {
    let mut worth = Worth { currency: order.currency, before: kinds(before), ..Worth::default() };
    worth.cost = match fact {
        Fact::Shipment { lines, .. } => {
            cost(order, lines.iter().map(|line| (sku_of(line.from), line.quantity)))
        }
        Fact::Receipt { lines, .. } => {
            cost(order, lines.iter().map(|line| (line.sku_number, line.quantity)))
        }
        _ => 0,
    };
    let recognised: &[Recognition] = match fact {
        Fact::Shipment { .. } => &[Recognition::Shipment],
        Fact::Invoice { .. } => &[Recognition::Invoice],
        Fact::Cancellation { .. } => &Recognition::ALL,
        _ => &[],
    };
    // Without a refund nothing is given back, whatever was paid or called off.
    let given_back = after.refunded > 0
        && matches!(
            fact,
            Fact::Settlement { .. } | Fact::Cancellation { .. } | Fact::Refund { .. }
        );
    if recognised.is_empty() && !given_back {
        return Ok(worth);
    }
    let books = Books::new(order)?;
    for &when in recognised {
        let then = books.recognised(before, when, &sku_of);
        let now = books.recognised(after, when, &sku_of);
        worth.differences(&books, Some(when), &then, &now);
    }
    if given_back {
        let then = books.given_back(before, &sku_of);
        let now = books.given_back(after, &sku_of);
        worth.differences(&books, None, &then, &now);
    }
    Ok(worth)
}

/// The kinds of facts that an order has had.
fn kinds(life: &Life) -> u8 {
    life.known.iter().fold(0, |bits, known| bits | 1_u8.checked_shl(known.kind.into()).unwrap_or(0))
}

fn cost(order: &OrderData, units: impl Iterator<Item = (u32, u32)>) -> i64 {
    let cost_of =
        |sku| order.prices.iter().find(|p| p.sku_number == sku).map_or(0, |p| p.unit_cost);
    let sum: i128 = units.map(|(sku, units)| i128::from(cost_of(sku)) * i128::from(units)).sum();
    // The cost of the whole order fits; see `totals::order`.
    i64::try_from(sum).unwrap_or(i64::MAX)
}

/// Net and tax of one tax code, or of the fee.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    net: i64,
    tax: i64,
}

impl Sum {
    /// Of what fits 64 bits, as every part of an order does.
    fn of(gross: i128, tax: i128) -> Self {
        Self { net: (gross - tax) as i64, tax: tax as i64 }
    }

    fn add(&mut self, other: Self) {
        self.net += other.net;
        self.tax += other.tax;
    }
}

/// A sum for each tax code and the fee.
type Sums = SmallVec<[Sum; 4]>;

/// A priced line, what it comes to, and where its code stands.
struct Line<'a> {
    priced: &'a Priced,
    gross: i128,
    tax: i128,
    code: usize,
}

/// An order by tax code. Sums stand in the order of the codes, the fee's last.
struct Books<'a> {
    order: &'a OrderData,
    codes: SmallVec<[&'a str; 4]>,
    lines: SmallVec<[Line<'a>; 4]>,
    fee: Sum,
}

impl<'a> Books<'a> {
    fn new(order: &'a OrderData) -> Result<Self, Invalid> {
        totals::order(order)?;
        let (mut codes, mut lines) = (SmallVec::<[&str; 4]>::new(), SmallVec::new());
        for priced in &order.prices {
            let (price, units) = (priced.unit_price, priced.quantity);
            let (gross, tax) = totals::line(price, units, priced.discount, priced.tax, order.net)?;
            let code = codes.iter().position(|code| *code == priced.tax_code);
            let code = code.unwrap_or_else(|| {
                codes.push(priced.tax_code.as_str());
                codes.len() - 1
            });
            lines.push(Line { priced, gross, tax, code });
        }
        let fee = totals::shipping(order.shipping, order.shipping_tax, order.net)?;
        Ok(Self { order, codes, lines, fee: Sum::of(fee.0, fee.1) })
    }

    fn nothing(&self) -> Sums {
        smallvec![Sum::default(); self.codes.len() + 1]
    }

    fn sums(&self, with_fee: bool, of: impl Fn(&Line<'_>) -> Sum) -> Sums {
        let mut sums = self.nothing();
        self.lines.iter().for_each(|line| sums[line.code].add(of(line)));
        if with_fee {
            sums[self.codes.len()] = self.fee;
        }
        sums
    }

    /// The whole order.
    fn all(&self) -> Sums {
        self.sums(true, |line| Sum::of(line.gross, line.tax))
    }

    /// What was sold and not called off.
    fn sold(&self, life: &Life, sku_of: &impl Fn(u32) -> u32) -> Sums {
        let with_fee = life.state(self.order) != ReservationState::Cancelled;
        self.sums(with_fee, |line| {
            let (_, cancelled) = self.gone(life, line, sku_of);
            line.share(line.priced.quantity).less(line.share(cancelled))
        })
    }

    /// What left. Of the cents that can't be shared out the goods that are called off have none,
    /// so that in the end what left comes to what was sold and not called off.
    fn left(&self, life: &Life, sku_of: &impl Fn(u32) -> u32) -> Sums {
        let any = life.gone.iter().any(|gone| gone.shipped > 0);
        self.sums(any, |line| {
            let (shipped, cancelled) = self.gone(life, line, sku_of);
            line.share(shipped + cancelled).less(line.share(cancelled))
        })
    }

    /// Units of a line that left and that were called off.
    fn gone(&self, life: &Life, line: &Line<'_>, sku_of: &impl Fn(u32) -> u32) -> (u32, u32) {
        let lines = self.order.allocations.iter().zip(&life.gone);
        let of_sku = lines.filter(|(sold, _)| sku_of(sold.position) == line.priced.sku_number);
        of_sku.fold((0, 0), |sum, (_, gone)| (sum.0 + gone.shipped, sum.1 + gone.cancelled))
    }

    fn recognised(&self, life: &Life, when: Recognition, sku_of: &impl Fn(u32) -> u32) -> Sums {
        match when {
            Recognition::Commit => self.sold(life, sku_of),
            Recognition::Shipment => self.left(life, sku_of),
            // Most orders are billed once: before, there is nothing to share out.
            Recognition::Invoice if life.invoiced == 0 => self.nothing(),
            Recognition::Invoice => {
                let sold = self.sold(life, sku_of);
                let all = total(&sold);
                let gross = life.invoiced.min(all.net + all.tax);
                let tax = life.invoiced_tax.min(all.tax);
                share_out(gross - tax, tax, &sold)
            }
        }
    }

    fn given_back(&self, life: &Life, sku_of: &impl Fn(u32) -> u32) -> Sums {
        if life.refunded == 0 {
            return self.nothing();
        }
        let sold = total(&self.sold(life, sku_of));
        let beyond = (life.settled - sold.net - sold.tax).max(0);
        let gross = life.refunded - life.refunded.min(beyond);
        // At most the tax of the whole refund, so it fits.
        let tax = i128::from(life.refunded_tax) * i128::from(gross) / i128::from(life.refunded);
        let tax = tax as i64;
        share_out(gross - tax, tax, &self.all())
    }
}

impl Line<'_> {
    fn share(&self, units: u32) -> Sum {
        let all = self.priced.quantity;
        Sum::of(totals::part(self.gross, units, all), totals::part(self.tax, units, all))
    }
}

impl Sum {
    fn less(self, other: Self) -> Self {
        Self { net: self.net - other.net, tax: self.tax - other.tax }
    }
}

fn total(sums: &[Sum]) -> Sum {
    sums.iter().fold(Sum::default(), |mut all, sum| {
        all.add(*sum);
        all
    })
}

fn share_out(net: i64, tax: i64, over: &[Sum]) -> Sums {
    let weights = |of: fn(&Sum) -> i64| over.iter().map(of).collect::<SmallVec<[i64; 4]>>();
    let nets = totals::allocate(net, &weights(|sum| sum.net));
    let taxes = totals::allocate(tax, &weights(|sum| sum.tax));
    nets.into_iter().zip(taxes).map(|(net, tax)| Sum { net, tax }).collect()
}

impl Worth {
    /// Adds what has changed: of what is recognised, or, without a `when`, of what is given back.
    fn differences(
        &mut self,
        books: &Books<'_>,
        when: Option<Recognition>,
        then: &[Sum],
        now: &[Sum],
    ) {
        for (at, (then, now)) in then.iter().zip(now).enumerate() {
            let code = books.codes.get(at);
            let part = match (when, code) {
                (None, _) => Part::Refund,
                (Some(_), Some(_)) => Part::Goods,
                (Some(_), None) => Part::Fee,
            };
            let bits = when.map_or(Recognition::ALL_BITS, |when| 1 << when as u8);
            self.add(part, code.unwrap_or(&""), bits, now.less(*then));
        }
    }

    fn add(&mut self, part: Part, tax_code: &str, when: u8, sum: Sum) {
        if sum == Sum::default() {
            return;
        }
        // Shares that are the same however revenue is recognised stand once.
        let same = self.shares.iter_mut().find(|share| {
            (share.part, share.net, share.tax) == (part, sum.net, sum.tax)
                && share.tax_code == tax_code
                && share.when & when == 0
        });
        match same {
            Some(same) => same.when |= when,
            None => {
                let tax_code = tax_code.into();
                self.shares.push(Share { net: sum.net, tax: sum.tax, tax_code, part, when });
            }
        }
    }
}
