//! Identifiers. Each is a type of its own, so that an order id never travels as a SKU, and each is
//! checked once, where it enters the house.
//!
//! An external id ([`Sku`], [`Location`], [`OrderId`], [`CustomerId`], [`Reference`]) is 1 to 64
//! printable ASCII characters without a leading or trailing space, and neither `.` nor `..` (which a
//! URL path cannot carry). Ids up to 24 bytes are stored inline, without an allocation.

use std::{fmt, str::FromStr};

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{ObjectBuilder, Schema, Type},
    },
};

/// The most characters an external id may have.
pub const ID_CHARS_MAX: usize = 64;
/// The most characters an idempotency key may have.
pub const KEY_CHARS_MAX: usize = 255;

/// Why a text is not an id; the text itself is not repeated, since it may be long or hostile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

fn check_id(text: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > ID_CHARS_MAX {
        return Err(Invalid("must be 1 to 64 characters"));
    }
    if !text.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
        return Err(Invalid("must be printable ASCII"));
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(Invalid("must not begin or end with a space"));
    }
    if text == "." || text == ".." {
        return Err(Invalid("must not be `.` or `..`"));
    }
    Ok(())
}

fn check_key(text: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > KEY_CHARS_MAX {
        return Err(Invalid("must be 1 to 255 characters"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Invalid("must be visible ASCII without spaces"));
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:ident, $max:tt, $pattern:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, min_length = 1, max_length = $max, pattern = $pattern)]
        pub struct $name(CompactString);

        impl $name {
            /// The text of it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                $check(text)?;
                Ok(Self(CompactString::new(text)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = CompactString::deserialize(deserializer)?;
                $check(&text).map_err(serde::de::Error::custom)?;
                Ok(Self(text))
            }
        }
    };
}

text_id!(/// A stock keeping unit.
    Sku, check_id, 64, r"^(?!\.{1,2}$)[!-~]([ -~]*[!-~])?$");
text_id!(/// A place that has stock: a warehouse, a shop.
    Location, check_id, 64, r"^(?!\.{1,2}$)[!-~]([ -~]*[!-~])?$");
text_id!(/// The storefront's name for an order.
    OrderId, check_id, 64, r"^(?!\.{1,2}$)[!-~]([ -~]*[!-~])?$");
text_id!(/// The storefront's name for a customer.
    CustomerId, check_id, 64, r"^(?!\.{1,2}$)[!-~]([ -~]*[!-~])?$");
text_id!(/// A document of a partner: a goods receipt, a tax code, a tracking number.
    Reference, check_id, 64, r"^(?!\.{1,2}$)[!-~]([ -~]*[!-~])?$");
text_id!(/// The `Idempotency-Key` of a request: 1 to 255 visible ASCII characters.
    IdempotencyKey, check_key, 255, "^[!-~]+$");

/// A place in the log: the offset in bytes of a record's first byte since the log began. A multiple
/// of eight. "Durable up to `x`" means that every record that begins below `x` is durable.
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
#[serde(transparent)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one life of a data directory. A restored or recreated directory is a new incarnation,
/// so that a batch of the old one is never taken for a batch of the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A reservation's id: where its record stands in the log, and its slot in the table, which makes
/// the look-up one array access. Written `r` and 24 hexadecimal digits; opaque to callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReservationId {
    /// The position of the record that granted it.
    pub lsn: Lsn,
    /// Its slot in the reservation table; the same in every life of the log.
    pub slot: u32,
}

impl PartialSchema for ReservationId {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^r[0-9a-f]{24}$"));
        text.description(Some("A reservation's id; opaque.")).build().into()
    }
}

impl ToSchema for ReservationId {}

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{:016x}{:08x}", self.lsn.0, self.slot)
    }
}

impl FromStr for ReservationId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        const WRONG: Invalid = Invalid("is not a reservation id");
        let digits = text.strip_prefix('r').filter(|d| d.len() == 24).ok_or(WRONG)?;
        if !digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(WRONG);
        }
        let lsn = u64::from_str_radix(&digits[..16], 16).map_err(|_| WRONG)?;
        let slot = u32::from_str_radix(&digits[16..], 16).map_err(|_| WRONG)?;
        Ok(Self { lsn: Lsn(lsn), slot })
    }
}

impl Serialize for ReservationId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReservationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        CompactString::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_where_they_enter() {
        for good in ["a", "TEE-M", "a b", "~", "...", &"x".repeat(64)] {
            assert_eq!(good.parse::<Sku>().unwrap().as_str(), good);
        }
        for bad in ["", " a", "a ", ".", "..", "ä", "a\n", "\u{7f}", &"x".repeat(65)] {
            assert!(bad.parse::<Sku>().is_err(), "{bad:?}");
        }
        assert!("a b".parse::<IdempotencyKey>().is_err());
        assert!("x".repeat(255).parse::<IdempotencyKey>().is_ok());
        assert!("x".repeat(256).parse::<IdempotencyKey>().is_err());
    }

    #[test]
    fn a_reservation_id_reads_as_it_is_written() {
        let id = ReservationId { lsn: Lsn(0x1234_5678), slot: 77 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "r", "r+0000000000000000000000f", &"r".repeat(25)] {
            assert!(bad.parse::<ReservationId>().is_err(), "{bad:?}");
        }
    }
}
