//! Money: integers of a currency's minor unit, never a float. The currency stands once per order,
//! so amounts carry none of their own.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{Invalid, currencies::IN_FORCE};

/// The largest amount of one field, in minor units (a hundred billion in a currency of two
/// decimals). Sums of an order's fields can't overflow an `i64` then.
pub const AMOUNT_MINOR_MAX: i64 = 10_000_000_000_000;

/// An amount in minor units: 0 to [`AMOUNT_MINOR_MAX`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = i64, minimum = 0, maximum = 10_000_000_000_000_i64)]
pub struct Amount(i64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Checks the range.
    pub fn new(minor: i64) -> Result<Self, Invalid> {
        if (0..=AMOUNT_MINOR_MAX).contains(&minor) {
            Ok(Self(minor))
        } else {
            Err(Invalid("must be 0 to 10000000000000 minor units"))
        }
    }

    /// The amount of a record, which was checked when it was written.
    pub fn clamped(minor: i64) -> Self {
        Self(minor.clamp(0, AMOUNT_MINOR_MAX))
    }

    /// The number of minor units.
    pub fn minor(self) -> i64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(i64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// What a currency must be that is not in force.
pub(crate) const NOT_IN_FORCE: &str = "must be a currency of ISO 4217 that is in force";

/// An ISO 4217 currency code: three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, pattern = "^[A-Z]{3}$")]
pub struct Currency([u8; 3]);

impl Currency {
    /// A currency that is in force.
    ///
    /// # Errors
    /// If the code has another form, or is no currency's, or no more.
    pub fn new(code: &str) -> Result<Self, Invalid> {
        let currency = Self::of_any_time(code)?;
        if !currency.is_in_force() {
            return Err(Invalid(NOT_IN_FORCE));
        }
        Ok(currency)
    }

    /// A currency of what was written before, which may be in force no more: the form alone is checked.
    ///
    /// # Errors
    /// If the code has another form.
    pub fn of_any_time(code: &str) -> Result<Self, Invalid> {
        match code.as_bytes() {
            [a, b, c] if [a, b, c].iter().all(|l| l.is_ascii_uppercase()) => Ok(Self([*a, *b, *c])),
            _ => Err(Invalid("must be three capital letters (ISO 4217)")),
        }
    }

    /// The code of a record, which was checked when it was written; `XXX` (no currency) if it is
    /// none.
    pub fn from_bytes(code: [u8; 3]) -> Self {
        let code = std::str::from_utf8(&code).ok();
        code.and_then(|code| Self::of_any_time(code).ok()).unwrap_or(Self(*b"XXX"))
    }

    /// Whether it is in force.
    pub fn is_in_force(&self) -> bool {
        IN_FORCE.binary_search(&self.as_str()).is_ok()
    }

    /// Reads one of any time, for fields that tell of what there is: a view, an entry, an order's event.
    ///
    /// # Errors
    /// If it is no text, or one of another form.
    pub fn read_of_any_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = compact_str::CompactString::deserialize(deserializer)?;
        Self::of_any_time(&code).map_err(serde::de::Error::custom)
    }

    /// How many digits of an amount in minor units stand behind the decimal mark (ISO 4217).
    pub fn decimals(&self) -> u32 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG"
            | b"RWF" | b"UGX" | b"UYI" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            b"CLF" | b"UYW" => 4,
            _ => 2,
        }
    }

    /// The code's letters.
    pub fn as_bytes(&self) -> [u8; 3] {
        self.0
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = compact_str::CompactString::deserialize(deserializer)?;
        Self::new(&code).map_err(serde::de::Error::custom)
    }
}
