//! What callers ask for: the bodies of requests, shaped as the HTTP contract has them. The same
//! types serve the library, so that an embedder and a storefront say the same thing.
//!
//! Each is checked field by field where it is parsed (a wrong one names its field); what needs more
//! than one field, or the configuration, is checked by the engine.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{
    Amount, Currency, CustomerId, IdempotencyKey, Location, Lsn, OrderId, Quantity, Reference,
    ReservationId, Sku, StockCount, Timestamp, sink::Lane,
};

/// Sets a position, `PUT /v1/stock/{sku}/{location}`.
///
/// `safety_stock` and `backorder_limit` are part of what is set: absent, they become 0.
/// `per_customer_limit` belongs to the SKU over all its locations: absent, it stays as it is;
/// `null` lifts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetStock {
    /// Units physically there.
    pub on_hand: StockCount,
    /// Units never sold.
    #[serde(default)]
    pub safety_stock: StockCount,
    /// Units sold beyond what is there.
    #[serde(default)]
    pub backorder_limit: StockCount,
    /// The most units one customer may take in the configured period.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<StockCount>)]
    pub per_customer_limit: Option<Option<StockCount>>,
    /// The sender's version of this position; must rise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_version: Option<u64>,
    /// The position in the log that the count knows of; absent: true at arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of_lsn: Option<Lsn>,
    /// Accept an `on_hand` below what is already promised.
    #[serde(default)]
    pub allow_shortfall: bool,
}

/// Tells an absent field from a `null` one: called only when the field is present.
fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// A line of `POST /v1/stock/import`: a [`SetStock`] and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportStock {
    /// The SKU.
    pub sku: Sku,
    /// The location.
    pub location: Location,
    /// Units physically there.
    pub on_hand: StockCount,
    /// Units never sold.
    #[serde(default)]
    pub safety_stock: StockCount,
    /// Units sold beyond what is there.
    #[serde(default)]
    pub backorder_limit: StockCount,
    /// The most units one customer may take in the configured period.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<StockCount>)]
    pub per_customer_limit: Option<Option<StockCount>>,
    /// The sender's version of this position; must rise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_version: Option<u64>,
    /// The position in the log that the count knows of; absent: true at arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of_lsn: Option<Lsn>,
    /// Accept an `on_hand` below what is already promised.
    #[serde(default)]
    pub allow_shortfall: bool,
}

impl ImportStock {
    /// The position and what it is set to.
    pub fn into_parts(self) -> (Sku, Location, SetStock) {
        let set = SetStock {
            on_hand: self.on_hand,
            safety_stock: self.safety_stock,
            backorder_limit: self.backorder_limit,
            per_customer_limit: self.per_customer_limit,
            source_version: self.source_version,
            as_of_lsn: self.as_of_lsn,
            allow_shortfall: self.allow_shortfall,
        };
        (self.sku, self.location, set)
    }
}

/// Why stock moved. The numbers are those of the log's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdjustmentReason {
    /// Goods came in.
    Receipt = 0,
    /// Goods were lost or broken.
    Shrinkage = 1,
    /// A count found another number.
    Count = 2,
    /// Goods moved between locations.
    Transfer = 3,
    /// An earlier number was wrong.
    Correction = 4,
}

impl AdjustmentReason {
    /// The word for a number, as records have it; `unknown` for what this version does not know.
    pub fn word(number: u8) -> &'static str {
        ["receipt", "shrinkage", "count", "transfer", "correction"]
            .get(usize::from(number))
            .copied()
            .unwrap_or("unknown")
    }
}

/// Moves a position's stock, `POST /v1/stock/adjustments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustStock {
    /// The SKU.
    pub sku: Sku,
    /// The location.
    pub location: Location,
    /// Units that came (positive) or went (negative); not zero, at most a billion either way.
    #[schema(minimum = -1_000_000_000, maximum = 1_000_000_000)]
    pub delta: i64,
    /// Why.
    pub reason: AdjustmentReason,
    /// The document that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Accept a result below what is already promised.
    #[serde(default)]
    pub allow_shortfall: bool,
}

fn yes() -> bool {
    true
}

/// A line of a cart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReserveLine {
    /// The SKU.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
    /// Where; absent: by the configured sourcing order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Whether a line without a location may be split over several.
    #[serde(default = "yes")]
    pub split: bool,
}

/// Takes stock for a while, `POST /v1/reservations`: all lines or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// The cart; lines of the same SKU and location are summed.
    #[schema(min_items = 1)]
    pub lines: Vec<ReserveLine>,
    /// Who; needed where a SKU has a limit per customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerId>,
    /// The order that it will become, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// How long to hold, in milliseconds; absent: the configured default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_u64)]
    pub ttl_ms: Option<u64>,
}

/// One of `POST /v1/reservations/batch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchReserve {
    /// The key of this one.
    pub idempotency_key: IdempotencyKey,
    /// The cart.
    #[schema(min_items = 1)]
    pub lines: Vec<ReserveLine>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerId>,
    /// The order that it will become, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// How long to hold, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_u64)]
    pub ttl_ms: Option<u64>,
}

impl BatchReserve {
    /// The key and the reservation that it asks for.
    pub fn into_parts(self) -> (IdempotencyKey, Reserve) {
        let Self { idempotency_key, lines, customer, order_id, ttl_ms } = self;
        (idempotency_key, Reserve { lines, customer, order_id, ttl_ms })
    }
}

/// A line that names what is given back, or what a cart shall hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseLine {
    /// The SKU.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
    /// Where; absent: wherever the reservation has it, last taken first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// Gives a held reservation back, in part where lines are named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// What to give back; absent or empty: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<ReleaseLine>>,
}

/// Holds a reservation for longer, from now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    /// How long from now, in milliseconds; the most is configured.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_u64)]
    pub ttl_ms: u64,
}

/// Changes what a held cart holds, as one decision, `PUT /v1/reservations/{id}/lines`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeLines {
    /// The cart as it shall be.
    #[schema(min_items = 1)]
    pub lines: Vec<ReserveLine>,
}

/// Whether prices contain their tax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prices {
    /// Tax is contained.
    #[default]
    Gross,
    /// Tax comes on top.
    Net,
}

/// How urgent an order is.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    Express,
    /// As they come.
    #[default]
    Standard,
    /// When there is time.
    Bulk,
}

impl Priority {
    /// The priority of a number, as records have it; what is beyond is the last.
    pub fn of_number(number: u8) -> Self {
        match number {
            0 => Self::Express,
            1 => Self::Standard,
            _ => Self::Bulk,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Express => "express",
            Self::Standard => "standard",
            Self::Bulk => "bulk",
        }
    }

    /// The queue that an order of it goes out in.
    pub fn lane(self) -> Lane {
        match self {
            Self::Express => Lane::Critical,
            Self::Standard => Lane::Standard,
            Self::Bulk => Lane::Bulk,
        }
    }
}

/// What a SKU of an order costs. `tax` and `discount` are of the whole line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceLine {
    /// The SKU.
    pub sku: Sku,
    /// Price of one unit.
    pub unit_price: Amount,
    /// The tax code of the books.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_code: Option<Reference>,
    /// Tax of the line.
    #[serde(default)]
    pub tax: Amount,
    /// Discount, taken off the line.
    #[serde(default)]
    pub discount: Amount,
    /// What one unit cost the house, for the cost of goods sold; absent: not booked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_cost: Option<Amount>,
}

/// Makes a held reservation an order, `POST /v1/reservations/{id}/commit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// The order's id; absent: the one given at the reservation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// The currency of every amount here.
    pub currency: Currency,
    /// Whether prices contain their tax.
    #[serde(default)]
    pub prices: Prices,
    /// Exactly one line for every reserved SKU.
    #[schema(min_items = 1)]
    pub lines: Vec<PriceLine>,
    /// Shipping fee.
    #[serde(default)]
    pub shipping: Amount,
    /// Tax of the shipping fee.
    #[serde(default)]
    pub shipping_tax: Amount,
    /// How urgent.
    #[serde(default)]
    pub priority: Priority,
    /// When the customer was promised that it leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised_ship_at: Option<Timestamp>,
    /// Take an expired reservation again if it is available.
    #[serde(default)]
    pub revive: bool,
}

/// A line of an order made in one step: what is taken and what it costs. With `reservations` it
/// prices only, and has no quantity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderLine {
    /// The SKU.
    pub sku: Sku,
    /// How many; absent exactly where `reservations` are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<Quantity>,
    /// Where; absent: by the configured sourcing order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Whether a line without a location may be split over several.
    #[serde(default = "yes")]
    pub split: bool,
    /// Price of one unit.
    pub unit_price: Amount,
    /// The tax code of the books.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_code: Option<Reference>,
    /// Tax of the line.
    #[serde(default)]
    pub tax: Amount,
    /// Discount on the line.
    #[serde(default)]
    pub discount: Amount,
    /// What one unit cost the house, for the cost of goods sold; absent: not booked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_cost: Option<Amount>,
}

/// Reserves and commits in one record, or makes one order of several held reservations,
/// `POST /v1/orders`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrder {
    /// The order's id.
    pub order_id: OrderId,
    /// The held reservations that become the order; absent: the lines are taken now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1)]
    pub reservations: Option<Vec<ReservationId>>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerId>,
    /// What is taken and what it costs.
    #[schema(min_items = 1)]
    pub lines: Vec<OrderLine>,
    /// The currency of every amount here.
    pub currency: Currency,
    /// Whether prices contain their tax.
    #[serde(default)]
    pub prices: Prices,
    /// Shipping fee.
    #[serde(default)]
    pub shipping: Amount,
    /// Tax of the shipping fee.
    #[serde(default)]
    pub shipping_tax: Amount,
    /// How urgent.
    #[serde(default)]
    pub priority: Priority,
    /// When the customer was promised that it leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised_ship_at: Option<Timestamp>,
}

/// A line of a shipment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShipLine {
    /// The SKU.
    pub sku: Sku,
    /// Where it leaves; absent: where it was reserved. Another location than that is fine if it has
    /// the stock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// How many.
    pub quantity: Quantity,
}

/// Goods left, `POST /v1/orders/{order_id}/shipments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ship {
    /// The shipment's id.
    pub shipment_id: Reference,
    /// What left.
    #[schema(min_items = 1)]
    pub lines: Vec<ShipLine>,
    /// Who carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Reference>,
    /// The carrier's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking: Option<Reference>,
}

/// Units that had not left are called off, `POST /v1/orders/{order_id}/cancellations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// The cancellation's id.
    pub cancellation_id: Reference,
    /// What is called off; absent: all that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<ReleaseLine>>,
}

/// The customer was billed, `POST /v1/orders/{order_id}/invoices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invoice {
    /// The invoice's id or number.
    pub invoice_id: Reference,
    /// The order's currency.
    #[serde(deserialize_with = "Currency::read_of_any_time")]
    pub currency: Currency,
    /// What for, gross.
    pub amount: Amount,
    /// The tax in it.
    #[serde(default)]
    pub tax: Amount,
}

/// The payment provider has the money, `POST /v1/orders/{order_id}/settlements`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// The settlement's id.
    pub settlement_id: Reference,
    /// The order's currency.
    #[serde(deserialize_with = "Currency::read_of_any_time")]
    pub currency: Currency,
    /// What the customer paid.
    pub amount: Amount,
    /// What the provider keeps of it.
    #[serde(default)]
    pub fee: Amount,
}

/// The customer got money back, `POST /v1/orders/{order_id}/refunds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refund {
    /// The refund's id.
    pub refund_id: Reference,
    /// The order's currency.
    #[serde(deserialize_with = "Currency::read_of_any_time")]
    pub currency: Currency,
    /// How much, gross.
    pub amount: Amount,
    /// The tax in it.
    #[serde(default)]
    pub tax: Amount,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reference>,
}

/// A line of a return: units of a SKU, wherever they left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnLine {
    /// The SKU.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
}

/// A return is authorised, `POST /v1/orders/{order_id}/returns`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorizeReturn {
    /// The return's id.
    pub return_id: Reference,
    /// What may come back.
    #[schema(min_items = 1)]
    pub lines: Vec<ReturnLine>,
    /// Whether it is sold again when it does (default), or written off.
    #[serde(default = "yes")]
    pub restock: bool,
}

/// Goods came back, `POST /v1/orders/{order_id}/returns/{return_id}/receipts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiveReturn {
    /// The receipt's id.
    pub receipt_id: Reference,
    /// What came back; the location where it is now, or, absent, where it left.
    #[schema(min_items = 1)]
    pub lines: Vec<ShipLine>,
}

/// Something to know that changes neither stock nor money, `POST /v1/orders/{order_id}/notes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The note's id: a dispute's, say.
    pub note_id: Reference,
    /// What; 1 to 1,024 characters.
    #[schema(min_length = 1, max_length = 1024)]
    pub text: String,
}
