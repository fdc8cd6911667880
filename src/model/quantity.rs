//! Numbers of things. A [`Quantity`] is what a line asks for and is never zero; a [`StockCount`] is
//! what stands on a shelf and may be.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::Invalid;

/// The most units a line may ask for.
pub const LINE_QUANTITY_MAX: u32 = 1_000_000;
/// The most units a position may hold of each kind (on hand, safety stock, backorder limit).
pub const STOCK_COUNT_MAX: u32 = 1_000_000_000;

/// Units of a line: 1 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = u32, minimum = 1, maximum = 1_000_000)]
pub struct Quantity(u32);

impl Quantity {
    /// Checks the range.
    pub fn new(units: u32) -> Result<Self, Invalid> {
        if (1..=LINE_QUANTITY_MAX).contains(&units) {
            Ok(Self(units))
        } else {
            Err(Invalid("must be 1 to 1000000"))
        }
    }

    /// The number of units.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u32::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Units on a shelf or of a limit: 0 to 1,000,000,000.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = u32, maximum = 1_000_000_000)]
pub struct StockCount(u32);

impl StockCount {
    /// No units.
    pub const ZERO: Self = Self(0);

    /// Checks the range.
    pub fn new(units: u32) -> Result<Self, Invalid> {
        if units <= STOCK_COUNT_MAX {
            Ok(Self(units))
        } else {
            Err(Invalid("must be 0 to 1000000000"))
        }
    }

    /// The number of units.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<'de> Deserialize<'de> for StockCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u32::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
