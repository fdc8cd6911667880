//! Commands about reservations, until they are sold.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::yes;
use crate::model::{CustomerId, IdempotencyKey, Location, OrderId, Quantity, Sku};

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
