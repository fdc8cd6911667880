//! What callers are told: the bodies of answers, shaped as the HTTP contract has them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Amount, Currency, Location, Lsn, OrderId, Reference, ReservationId, Sku, Timestamp,
    command::{Prices, Priority},
    fact::FactKind,
};

/// The stock of one SKU at one location.
/// `available = on_hand - held - committed - safety_stock + backorder_limit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PositionView {
    /// The SKU.
    pub sku: Sku,
    /// The location.
    pub location: Location,
    /// Units that can be reserved now; negative only after a forced correction.
    pub available: i64,
    /// Units physically there.
    pub on_hand: i64,
    /// Units reserved and not paid.
    pub held: i64,
    /// Units sold and not shipped.
    pub committed: i64,
    /// Units never sold.
    pub safety_stock: i64,
    /// Units sold beyond what is there.
    pub backorder_limit: i64,
    /// The SKU's limit per customer.
    pub per_customer_limit: Option<u32>,
    /// At least everything up to here is in it.
    pub lsn: Lsn,
}

/// The stock of one SKU over all its locations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StockView {
    /// The SKU.
    pub sku: Sku,
    /// Sum over the positions.
    pub available: i64,
    /// Sum over the positions.
    pub on_hand: i64,
    /// Sum over the positions.
    pub held: i64,
    /// Sum over the positions.
    pub committed: i64,
    /// Sum over the positions.
    pub safety_stock: i64,
    /// Sum over the positions.
    pub backorder_limit: i64,
    /// The most units one customer may take in the configured period.
    pub per_customer_limit: Option<u32>,
    /// Each location, in sourcing order.
    pub positions: Vec<PositionView>,
    /// At least everything up to here is in it.
    pub lsn: Lsn,
}

/// Where a reservation stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReservationState {
    /// Taken, not paid.
    Held,
    /// Sold.
    Committed,
    /// Given back by its holder.
    Released,
    /// Given back by time.
    Expired,
    /// Shipped.
    Fulfilled,
    /// Sold and called off.
    Cancelled,
}

impl ReservationState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Committed => "committed",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Fulfilled => "fulfilled",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of a number, as records and checkpoints have it.
    pub fn of_number(number: u8) -> Option<Self> {
        [
            Self::Held,
            Self::Committed,
            Self::Released,
            Self::Expired,
            Self::Fulfilled,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|state| *state as u8 == number)
    }
}

/// What is taken where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineView {
    /// The SKU.
    pub sku: Sku,
    /// The location.
    pub location: Location,
    /// How many.
    pub quantity: u32,
}

/// A reservation as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReservationView {
    /// Its id.
    pub id: ReservationId,
    /// Its state.
    pub state: ReservationState,
    /// What it holds; of a released or expired one, what it held.
    pub lines: Vec<LineView>,
    /// When it expires, while it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The order that it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// The position of its last record in the log.
    pub lsn: Lsn,
}

/// A line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderLineView {
    /// The SKU.
    pub sku: Sku,
    /// Units sold.
    pub quantity: u32,
    /// Units not shipped or cancelled yet.
    pub open_quantity: u32,
    /// Units shipped.
    #[serde(default)]
    pub shipped: u32,
    /// Units cancelled.
    #[serde(default)]
    pub cancelled: u32,
    /// Price of one unit.
    pub unit_price: Amount,
    /// The tax code of the books.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_code: Option<Reference>,
    /// Tax of the line.
    pub tax: Amount,
    /// Discount on the line.
    pub discount: Amount,
}

/// An order as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderView {
    /// Its id.
    pub order_id: OrderId,
    /// Its state.
    pub state: ReservationState,
    /// The reservations that became it.
    pub reservations: Vec<ReservationId>,
    /// What was sold, priced by SKU.
    pub lines: Vec<OrderLineView>,
    /// Where it is taken from.
    pub allocations: Vec<LineView>,
    /// The currency of every amount here.
    #[serde(deserialize_with = "Currency::read_of_any_time")]
    pub currency: Currency,
    /// Whether prices contain their tax.
    pub prices: Prices,
    /// Shipping fee.
    pub shipping: Amount,
    /// Tax of the shipping fee.
    pub shipping_tax: Amount,
    /// What the customer pays, in minor units, tax contained.
    pub total: i64,
    /// The tax contained in it.
    pub total_tax: i64,
    /// How urgent.
    pub priority: Priority,
    /// When the customer was promised that it leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised_ship_at: Option<Timestamp>,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// What was billed, paid and paid back.
    #[serde(default)]
    pub money: MoneyView,
    /// Returns.
    #[serde(default)]
    pub returns: Vec<ReturnView>,
    /// What happened to it, in the order of the log.
    #[serde(default)]
    pub events: Vec<FactView>,
    /// How old it is, in milliseconds, rounded down to whole seconds.
    #[serde(default)]
    pub age_ms: u64,
    /// The position of its last record in the log.
    pub lsn: Lsn,
}

/// Something that happened to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FactView {
    /// The order.
    pub order_id: OrderId,
    /// What kind of thing it is.
    pub kind: FactKind,
    /// Its own id.
    pub id: Reference,
    /// The order's state after it.
    pub state: ReservationState,
    /// When.
    pub at: Timestamp,
    /// The position of its record in the log.
    pub lsn: Lsn,
}

/// A return, authorised or under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReturnView {
    /// Its id.
    pub return_id: Reference,
    /// Whether what comes back is sold again.
    pub restock: bool,
    /// What may come back, and what did.
    pub lines: Vec<ReturnLineView>,
}

/// A line of a return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReturnLineView {
    /// The SKU.
    pub sku: Sku,
    /// Units authorised.
    pub quantity: u32,
    /// Units that came back.
    pub received: u32,
}

/// The money of an order, in minor units of its currency, gross.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoneyView {
    /// Billed.
    pub invoiced: i64,
    /// Paid.
    pub settled: i64,
    /// What the payment provider kept of it.
    pub fees: i64,
    /// Paid back.
    pub refunded: i64,
}

/// A line that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShortLine {
    /// The SKU.
    pub sku: Sku,
    /// The location, where the line named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Units asked for.
    pub requested: u64,
    /// Units that could have been taken.
    pub available: i64,
}

/// A line beyond the customer's limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitedLine {
    /// The SKU.
    pub sku: Sku,
    /// Units asked for.
    pub requested: u64,
    /// The limit.
    pub limit: u32,
    /// Units the customer has taken in this period.
    pub taken: u32,
}
