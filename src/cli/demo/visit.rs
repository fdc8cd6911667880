//! What a shopper is going to do, decided before he does it, so that a run can be repeated and so
//! that an invented flash sale and a file of real orders take the same path.

use std::time::Duration;

use holdfast::model::{CustomerId, Location, OrderId, Sku};

/// Something that is sold.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its SKU.
    pub sku: Sku,
    /// What is there, by location.
    pub stock: Vec<(Location, u32)>,
    /// The most that one customer may take.
    pub per_customer_limit: Option<u32>,
    /// Whether everybody wants it.
    pub hot: bool,
}

impl Item {
    /// Units over all locations.
    pub fn units(&self) -> u64 {
        self.stock.iter().map(|(_, units)| u64::from(*units)).sum()
    }
}

/// A line of a cart, with what it costs. Amounts in minor units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CartLine {
    /// The item's place in the catalogue; no two lines of a cart have the same.
    pub item: usize,
    /// Units.
    pub quantity: u32,
    /// Where, if the shopper insists (he picks it up himself).
    pub location: Option<Location>,
    /// Price of one unit, tax contained.
    pub unit_price: i64,
    /// Taken off the line.
    pub discount: i64,
    /// The tax that the line contains.
    pub tax: i64,
}

impl CartLine {
    /// What the line costs, tax contained.
    pub fn total(&self) -> i64 {
        self.unit_price * i64::from(self.quantity) - self.discount
    }
}

/// How a visit ends once the cart is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The shopper pays.
    Pays,
    /// The payment fails and the shop releases the cart.
    PaymentFails,
    /// The shopper is never seen again; the cart expires.
    Abandons,
}

/// What a client repeats with the same key, as after a lost answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Nothing.
    Nothing,
    /// The reservation, at the same time.
    ReservationAtOnce,
    /// The reservation, later.
    ReservationLater,
    /// The payment.
    Payment,
}

/// One shopper with one cart.
#[derive(Debug, Clone)]
pub struct Visit {
    /// When it begins, from the beginning of the sale.
    pub due: Duration,
    /// The order that it becomes; also the stem of its idempotency keys.
    pub order_id: OrderId,
    /// Who.
    pub customer: CustomerId,
    /// What.
    pub cart: Vec<CartLine>,
    /// Shipping fee, tax contained.
    pub shipping: i64,
    /// The tax that the shipping fee contains.
    pub shipping_tax: i64,
    /// How long the cart is held; absent: the server's default.
    pub ttl_ms: Option<u64>,
    /// How long paying takes.
    pub pause: Duration,
    /// How it ends.
    pub ending: Ending,
    /// What is sent twice.
    pub repeat: Repeat,
}

impl Visit {
    /// What the customer pays.
    pub fn total(&self) -> i64 {
        self.cart.iter().map(CartLine::total).sum::<i64>() + self.shipping
    }
}

/// A whole sale.
#[derive(Debug)]
pub struct Plan {
    /// What it is, for the report.
    pub title: String,
    /// The currency of every amount.
    pub currency: holdfast::model::Currency,
    /// The tax code of every line.
    pub tax_code: Option<holdfast::model::Reference>,
    /// What is sold.
    pub catalogue: Vec<Item>,
    /// Who comes, in the order in which they come.
    pub visits: Vec<Visit>,
    /// The names of the sale's phases and when each begins, in order.
    pub phases: Vec<(Duration, String)>,
    /// What the plan itself says must have been sold in the end: units and minor units.
    pub must_sell: Option<(u64, i64)>,
}

impl Plan {
    /// The name of the phase at this time.
    pub fn phase(&self, at: Duration) -> &str {
        let next = self.phases.partition_point(|(begin, _)| *begin <= at);
        next.checked_sub(1).map_or("", |i| &self.phases[i].1)
    }
}
