//! What the model checks need of Holdfast, compiled by itself: optimised, since the checkers try a great
//! many schedules, and without what they do not look at, since that would take minutes to build.
#![allow(missing_docs, dead_code)]

#[path = "../../src/telemetry/durations.rs"]
mod durations;
// Not under test itself: the tests that stand in these files need the rest of the house.
#[cfg(not(test))]
#[path = "../../src/model/mod.rs"]
pub mod model;
#[cfg(not(test))]
#[path = "../../src/wal/mod.rs"]
pub mod wal;

/// What the log takes of it.
pub mod telemetry {
    pub use crate::durations::{DurationCounts, Durations};
}
