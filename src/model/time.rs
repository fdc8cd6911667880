//! Time as the house writes it: milliseconds since 1970 in UTC, RFC 3339 with milliseconds outside.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::Invalid;

/// The last instant a [`Timestamp`] can name: 9999-12-30T22:00:00Z, the limit of RFC 3339 and of
/// the 48 bits that a record's header gives to it.
const MILLIS_MAX: u64 = 253_402_207_200_000;

/// An instant: milliseconds since the Unix epoch. Serialises as RFC 3339 with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `millis` after the epoch; what lies beyond year 9999 becomes its last day.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.min(MILLIS_MAX))
    }

    /// Milliseconds since the epoch.
    pub fn millis(self) -> u64 {
        self.0
    }

    /// The instant `millis` later.
    pub fn plus_millis(self, millis: u64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The range is checked at construction, so jiff can't refuse it.
        let instant = jiff::Timestamp::from_millisecond(self.0 as i64).unwrap_or_default();
        write!(f, "{instant:.3}")
    }
}

impl std::str::FromStr for Timestamp {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let instant: jiff::Timestamp =
            text.parse().map_err(|_| Invalid("must be a time as in RFC 3339"))?;
        u64::try_from(instant.as_millisecond())
            .map(Self::from_millis)
            .map_err(|_| Invalid("must not lie before 1970"))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = compact_str::CompactString::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_in_utc_with_milliseconds() {
        let t = Timestamp::from_millis(1_764_000_000_120);
        assert_eq!(t.to_string(), "2025-11-24T16:00:00.120Z");
        assert_eq!(t.to_string().parse(), Ok(t));
        assert_eq!("2025-11-24T17:00:00.12+01:00".parse(), Ok(t));
        assert!("1969-01-01T00:00:00Z".parse::<Timestamp>().is_err());
        assert!(Timestamp::from_millis(u64::MAX).to_string().starts_with("9999-12-30"));
    }
}
