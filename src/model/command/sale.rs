//! What sells: a commit, an order.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::yes;
use crate::model::{
    Amount, Currency, CustomerId, Location, OrderId, Quantity, Reference, ReservationId, Sku,
    Timestamp, sink::Lane,
};

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
