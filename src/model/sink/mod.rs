//! Sinks: their lanes, what the log says of them, and how an operator sees them.
//!
//! What the log says of a sink ([`SinkState`]) is folded from [`super::event::Seal`],
//! [`super::event::Acknowledge`] and [`super::event::Operate`] records, in checkpoints and at recovery
//! alike.

mod attempts;
pub mod body;
#[allow(missing_docs, reason = "the archived form's hidden fields have no words of their own")]
mod deed;
pub mod reconciliation;
mod state;
mod view;
pub mod wish;

use rkyv::{Archive, Deserialize, Serialize};

use super::Incarnation;

pub use attempts::{Attempts, Wait, Waits};
pub use deed::{ArchivedDeed, Deed};
pub use state::{LaneState, Pending, Replay, Sealed, SinkState};
pub use view::*;

/// The name of a sink's batch, by which a partner knows it: `erp-3f9c-000123`.
pub fn batch_name(sink: &str, incarnation: Incarnation, number: u64) -> String {
    let life = incarnation.to_string();
    format!("{sink}-{}-{number:06}", &life[..4])
}

/// A sink's queue of one priority class. A batch of an earlier one never waits behind what of a later one
/// has not begun.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Express orders.
    Critical,
    /// Everything that says nothing else.
    #[default]
    Standard,
    /// What may wait.
    Bulk,
}

impl Lane {
    /// All of them, most urgent first.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Standard, Self::Bulk];

    /// Its place among all: 0 is the most urgent.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The lane of a place; what is beyond is the last.
    pub fn of_index(index: usize) -> Self {
        Self::ALL.get(index).copied().unwrap_or(Self::Bulk)
    }

    /// The lane of a seal: one that covers every lane belongs to the only one that its sink has.
    pub fn of_seal(place: u8) -> Self {
        if place == Sealed::EVERY_LANE { Self::default() } else { Self::of_index(place.into()) }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Standard => "standard",
            Self::Bulk => "bulk",
        }
    }
}

/// A record that came before what must come first: it waits.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Parked {
    /// Its position.
    pub lsn: u64,
    /// When it was written, in milliseconds since the epoch.
    pub at_ms: u64,
    /// Its body: it may be gone from the log before it is released.
    pub body: Vec<u8>,
    /// Its kind.
    pub kind: u8,
    /// The version of its layout.
    pub version: u8,
}

/// What a seal changes of what is parked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Parking {
    /// Parked by the window, and not released by it.
    pub parked: Vec<Parked>,
    /// Positions of the records that the window released and summed up, in ascending order: those of
    /// earlier windows and of its own.
    pub released: Vec<u64>,
}

impl Parking {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty() && self.released.is_empty()
    }

    /// What it released of earlier windows; its own begins at a position.
    pub fn released_of_before(&self, first_lsn: u64) -> &[u64] {
        &self.released[..self.released.partition_point(|lsn| *lsn < first_lsn)]
    }
}
