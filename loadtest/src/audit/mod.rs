//! The books after a run: what shoppers were told, what the target's ledger says, what its receivers got,
//! and what stands in its log. Every difference is found, down to the unit; sums that agree by chance
//! over SKUs that don't are not agreement.
//!
//! What shoppers were told is not taken from the target: it is reckoned up from the plan and the answers
//! that came in, so that a target that lies is caught.

mod delivered;
mod ledger;
mod log;
mod outbox;

use std::{collections::BTreeMap, fmt::Debug};

use serde::Serialize;

pub use delivered::{Delivery, delivered, wait_for_sinks};
pub use ledger::{Told, ledger};
pub use log::log;
pub use outbox::outbox;

/// Differences that are told of one comparison.
const DIFFERENCES_TOLD: usize = 5;

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is compared.
    pub what: String,
    /// What it must be, summed up.
    pub expected: i128,
    /// What it is, summed up.
    pub found: i128,
    /// Whether all of it, not the sum alone, is as it must be.
    pub ok: bool,
    /// The first differences.
    pub differences: Vec<String>,
}

impl Check {
    /// Compares two numbers.
    pub fn number(what: impl Into<String>, expected: i128, found: i128) -> Self {
        let ok = expected == found;
        Self { what: what.into(), expected, found, ok, differences: Vec::new() }
    }

    /// Compares two tables by key; an absent key is 0.
    pub fn table<K: Ord + Debug>(
        what: impl Into<String>,
        expected: &BTreeMap<K, i64>,
        found: &BTreeMap<K, i64>,
    ) -> Self {
        let value = |table: &BTreeMap<K, i64>, key: &K| table.get(key).copied().unwrap_or(0);
        let keys = expected.keys().chain(found.keys().filter(|key| !expected.contains_key(key)));
        let differing: Vec<_> =
            keys.filter(|key| value(expected, key) != value(found, key)).collect();
        let tell = |key: &&K| {
            format!("{key:?}: {} instead of {}", value(found, key), value(expected, key))
        };
        Self {
            what: what.into(),
            expected: expected.values().map(|v| i128::from(*v)).sum(),
            found: found.values().map(|v| i128::from(*v)).sum(),
            ok: differing.is_empty(),
            differences: differing.iter().take(DIFFERENCES_TOLD).map(tell).collect(),
        }
    }
}

/// Whether all comparisons came out right.
pub fn passed(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.ok)
}
