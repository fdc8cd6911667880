//! The bodies of requests that sell: a reservation becomes an order, or an order is made in one step.
//! Money is in minor units; -1 stands for an absent cost.

use rkyv::{Archive, Serialize, with::InlineAsBox};
use smallvec::SmallVec;

use crate::model::{
    Amount, Currency, IdempotencyKey, Quantity, ReservationId, Timestamp,
    command::{self, OrderLine, PriceLine, Prices, Priority},
};

use super::{
    commands::{Id, Wrong, key, of_line, optional, text, word},
    kind, push,
};

/// A line of an order: what it costs, and, where it is taken now, how much of it.
#[derive(Debug, Clone, Copy, Archive, Serialize)]
pub struct SaleLine<'a> {
    /// Price of one unit.
    pub unit_price: i64,
    /// Tax of the line.
    pub tax: i64,
    /// Discount on the line.
    pub discount: i64,
    /// What one unit cost the house; -1: not said.
    pub unit_cost: i64,
    /// How many; 0 where held reservations are priced.
    pub quantity: u32,
    /// 1 if a line without a location must not be split over several; else 0.
    pub whole: u8,
    /// The SKU.
    #[rkyv(with = InlineAsBox)]
    pub sku: &'a str,
    /// Where; empty: by the configured sourcing order.
    #[rkyv(with = InlineAsBox)]
    pub location: &'a str,
    /// The tax code of the books; may be empty.
    #[rkyv(with = InlineAsBox)]
    pub tax_code: &'a str,
}

/// What is the same of every sale.
#[derive(Debug, Clone, Copy, Archive, Serialize)]
pub struct Terms {
    /// Shipping fee.
    pub shipping: i64,
    /// Tax of the shipping fee.
    pub shipping_tax: i64,
    /// When the customer was promised that it leaves, in milliseconds since 1970; 0: not said.
    pub promised_ship_at_ms: u64,
    /// ISO 4217.
    pub currency: [u8; 3],
    /// 0: prices contain their tax; 1: tax comes on top.
    pub prices: u8,
    /// 0 express, 1 standard, 2 bulk.
    pub priority: u8,
    /// 1: take an expired reservation again if it is available; else 0.
    pub revive: u8,
}

/// Makes a held reservation an order.
#[derive(Debug, Archive, Serialize)]
pub struct Commit<'a> {
    /// Which.
    pub reservation: Id,
    /// The terms.
    pub terms: Terms,
    /// The idempotency key.
    #[rkyv(with = InlineAsBox)]
    pub key: &'a str,
    /// The order's id; empty: the one given at the reservation.
    #[rkyv(with = InlineAsBox)]
    pub order_id: &'a str,
    /// Exactly one line for every reserved SKU.
    #[rkyv(with = InlineAsBox)]
    pub lines: &'a [SaleLine<'a>],
}

/// Reserves and commits in one record, or makes one order of several held reservations.
#[derive(Debug, Archive, Serialize)]
pub struct Order<'a> {
    /// The terms; `revive` is 0.
    pub terms: Terms,
    /// The idempotency key.
    #[rkyv(with = InlineAsBox)]
    pub key: &'a str,
    /// The order's id.
    #[rkyv(with = InlineAsBox)]
    pub order_id: &'a str,
    /// Who; may be empty.
    #[rkyv(with = InlineAsBox)]
    pub customer: &'a str,
    /// The held reservations that become the order; empty: the lines are taken now.
    #[rkyv(with = InlineAsBox)]
    pub reservations: &'a [Id],
    /// What is taken and what it costs.
    #[rkyv(with = InlineAsBox)]
    pub lines: &'a [SaleLine<'a>],
}

const ABSENT: i64 = -1;

fn amount(minor: i64, field: impl FnOnce() -> String) -> Result<Amount, Wrong> {
    Amount::new(minor).map_err(|e| Wrong::new(field(), e.0))
}

/// The terms, read.
struct Said {
    currency: Currency,
    prices: Prices,
    shipping: Amount,
    shipping_tax: Amount,
    priority: Priority,
    promised_ship_at: Option<Timestamp>,
}

impl ArchivedTerms {
    fn read(&self) -> Result<Said, Wrong> {
        let of = |name: &'static str| move || name.to_owned();
        let prices = match self.prices {
            0 => Prices::Gross,
            1 => Prices::Net,
            _ => return Err(Wrong::new("prices", "must be 0 or 1")),
        };
        if self.priority > 2 {
            return Err(Wrong::new("priority", "must be 0, 1 or 2"));
        }
        let currency = std::str::from_utf8(&self.currency).unwrap_or("");
        let promised = self.promised_ship_at_ms.to_native();
        Ok(Said {
            currency: Currency::new(currency).map_err(|e| Wrong::new("currency", e.0))?,
            prices,
            shipping: amount(self.shipping.to_native(), of("shipping"))?,
            shipping_tax: amount(self.shipping_tax.to_native(), of("shipping_tax"))?,
            priority: Priority::of_number(self.priority),
            promised_ship_at: (promised != 0).then(|| Timestamp::from_millis(promised)),
        })
    }
}

impl ArchivedSaleLine<'_> {
    fn price(&self, at: usize) -> Result<PriceLine, Wrong> {
        let of = |name| move || of_line(at, name);
        let unit_cost = Some(self.unit_cost.to_native()).filter(|cost| *cost != ABSENT);
        Ok(PriceLine {
            sku: text(&self.sku, of("sku"))?,
            unit_price: amount(self.unit_price.to_native(), of("unit_price"))?,
            tax_code: optional(&self.tax_code, of("tax_code"))?,
            tax: amount(self.tax.to_native(), of("tax"))?,
            discount: amount(self.discount.to_native(), of("discount"))?,
            unit_cost: unit_cost.map(|cost| amount(cost, of("unit_cost"))).transpose()?,
        })
    }

    fn order(&self, at: usize) -> Result<OrderLine, Wrong> {
        let PriceLine { sku, unit_price, tax_code, tax, discount, unit_cost } = self.price(at)?;
        let quantity = Some(self.quantity.to_native()).filter(|quantity| *quantity != 0);
        let quantity = quantity.map(Quantity::new).transpose();
        Ok(OrderLine {
            sku,
            quantity: quantity.map_err(|e| Wrong::new(of_line(at, "quantity"), e.0))?,
            location: optional(&self.location, || of_line(at, "location"))?,
            split: self.whole == 0,
            unit_price,
            tax_code,
            tax,
            discount,
            unit_cost,
        })
    }
}

impl ArchivedCommit<'_> {
    /// The key and the command.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn read(&self) -> Result<(IdempotencyKey, command::Commit), Wrong> {
        let said = self.terms.read()?;
        let mut lines = Vec::with_capacity(self.lines.len());
        for (at, line) in self.lines.iter().enumerate() {
            if line.quantity != 0 || !line.location.is_empty() || line.whole != 0 {
                return Err(Wrong::new(of_line(at, "quantity"), "is the reservation's"));
            }
            lines.push(line.price(at)?);
        }
        let commit = command::Commit {
            order_id: optional(&self.order_id, || "order_id".to_owned())?,
            currency: said.currency,
            prices: said.prices,
            lines,
            shipping: said.shipping,
            shipping_tax: said.shipping_tax,
            priority: said.priority,
            promised_ship_at: said.promised_ship_at,
            revive: self.terms.revive != 0,
        };
        Ok((key(&self.key)?, commit))
    }
}

impl ArchivedOrder<'_> {
    /// The key and the command.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn read(&self) -> Result<(IdempotencyKey, command::PlaceOrder), Wrong> {
        let said = self.terms.read()?;
        let lines = self.lines.iter().enumerate().map(|(at, line)| line.order(at));
        let reservations: Vec<_> = self.reservations.iter().map(|id| id.read()).collect();
        let order = command::PlaceOrder {
            order_id: text(&self.order_id, || "order_id".to_owned())?,
            reservations: Some(reservations).filter(|ids| !ids.is_empty()),
            customer: optional(&self.customer, || "customer".to_owned())?,
            lines: lines.collect::<Result<_, _>>()?,
            currency: said.currency,
            prices: said.prices,
            shipping: said.shipping,
            shipping_tax: said.shipping_tax,
            priority: said.priority,
            promised_ship_at: said.promised_ship_at,
        };
        Ok((key(&self.key)?, order))
    }
}

impl<'a> From<&'a PriceLine> for SaleLine<'a> {
    fn from(line: &'a PriceLine) -> Self {
        Self {
            unit_price: line.unit_price.minor(),
            tax: line.tax.minor(),
            discount: line.discount.minor(),
            unit_cost: line.unit_cost.map_or(ABSENT, Amount::minor),
            quantity: 0,
            whole: 0,
            sku: line.sku.as_str(),
            location: "",
            tax_code: word(line.tax_code.as_ref()),
        }
    }
}

impl<'a> From<&'a OrderLine> for SaleLine<'a> {
    fn from(line: &'a OrderLine) -> Self {
        Self {
            unit_price: line.unit_price.minor(),
            tax: line.tax.minor(),
            discount: line.discount.minor(),
            unit_cost: line.unit_cost.map_or(ABSENT, Amount::minor),
            quantity: line.quantity.map_or(0, Quantity::get),
            whole: u8::from(!line.split),
            sku: line.sku.as_str(),
            location: word(line.location.as_ref()),
            tax_code: word(line.tax_code.as_ref()),
        }
    }
}

pub(super) fn push_commit(
    out: &mut Vec<u8>,
    flags: u8,
    id: u64,
    key: &IdempotencyKey,
    reservation: ReservationId,
    commit: &command::Commit,
) {
    let lines: SmallVec<[SaleLine<'_>; 4]> = commit.lines.iter().map(SaleLine::from).collect();
    let terms = Terms {
        shipping: commit.shipping.minor(),
        shipping_tax: commit.shipping_tax.minor(),
        promised_ship_at_ms: commit.promised_ship_at.map_or(0, Timestamp::millis),
        currency: commit.currency.as_bytes(),
        prices: commit.prices as u8,
        priority: commit.priority as u8,
        revive: u8::from(commit.revive),
    };
    let body = Commit {
        reservation: reservation.into(),
        terms,
        key: key.as_str(),
        order_id: word(commit.order_id.as_ref()),
        lines: &lines,
    };
    push(out, kind::COMMIT, flags, id, &body);
}

pub(super) fn push_sale(
    out: &mut Vec<u8>,
    flags: u8,
    id: u64,
    key: &IdempotencyKey,
    order: &command::PlaceOrder,
) {
    let lines: SmallVec<[SaleLine<'_>; 4]> = order.lines.iter().map(SaleLine::from).collect();
    let reservations = order.reservations.iter().flatten().map(|id| Id::from(*id));
    let reservations: SmallVec<[Id; 4]> = reservations.collect();
    let terms = Terms {
        shipping: order.shipping.minor(),
        shipping_tax: order.shipping_tax.minor(),
        promised_ship_at_ms: order.promised_ship_at.map_or(0, Timestamp::millis),
        currency: order.currency.as_bytes(),
        prices: order.prices as u8,
        priority: order.priority as u8,
        revive: 0,
    };
    let body = Order {
        terms,
        key: key.as_str(),
        order_id: order.order_id.as_str(),
        customer: word(order.customer.as_ref()),
        reservations: &reservations,
        lines: &lines,
    };
    push(out, kind::ORDER, flags, id, &body);
}
