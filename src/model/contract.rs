//! The versions of what the house promises to those that it sends to.
//!
//! A sink is bound to one. A later version of Holdfast that renders otherwise gets a variant here, keeps
//! what renders the earlier ones, and every `match` on this type shows where the two differ. Golden files
//! (`schemas/v1/golden/`) hold each version's bytes.

use serde::{Deserialize, Serialize};

/// A version of the bodies that sinks receive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub enum SchemaVersion {
    /// The first: that of a sink that names none, also where there are later ones.
    #[default]
    V1,
}

impl SchemaVersion {
    /// All that can be rendered, the oldest first.
    pub const ALL: [Self; 1] = [Self::V1];

    /// Its number, as the configuration and headers have it.
    pub fn number(self) -> u64 {
        match self {
            Self::V1 => 1,
        }
    }

    /// The name of one of its schemas.
    pub fn urn(self, name: &str) -> String {
        format!("urn:holdfast:schema:v{}:{name}", self.number())
    }
}

impl From<SchemaVersion> for u64 {
    fn from(version: SchemaVersion) -> Self {
        version.number()
    }
}

impl TryFrom<u64> for SchemaVersion {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        let known = || Self::ALL.map(|version| version.number().to_string()).join(", ");
        let found = Self::ALL.into_iter().find(|version| version.number() == number);
        found.ok_or_else(|| format!("schema_version {number} is not known; known: {}", known()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_its_number_and_an_unknown_one_is_refused_with_those_known() {
        for version in SchemaVersion::ALL {
            assert_eq!(SchemaVersion::try_from(version.number()), Ok(version));
        }
        // Whoever names none goes on getting what he was promised, whatever comes.
        assert_eq!(SchemaVersion::default().number(), 1);
        let error = SchemaVersion::try_from(9).unwrap_err();
        assert_eq!(error, "schema_version 9 is not known; known: 1");
        assert_eq!(
            SchemaVersion::V1.urn("event.order.placed"),
            "urn:holdfast:schema:v1:event.order.placed"
        );
    }
}
