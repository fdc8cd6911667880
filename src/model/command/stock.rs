//! Commands about stock.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::model::{Location, Lsn, Reference, Sku, StockCount};

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
