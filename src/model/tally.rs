//! Figures that no other record tells and that must outlive the process: events of service levels, which
//! are judged in passing, and requests that count against a partner's quota, of which most write nothing.
//!
//! A [`Tally`] has what was counted of one thing in one period so far: the last one of a period is what
//! holds. One process writes them, so that none can be older than the one before it.

use rkyv::{Archive, Deserialize, Serialize};

/// What was counted of something in a period.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Tally {
    /// The period, by its number since the epoch; what it is long says who counts.
    pub period: u64,
    /// What was counted: `level/` and a service level's name, `open/` and the same (events that were counted as
    /// bad and are not over), or `quota/` and a partner's.
    pub of: String,
    /// What was counted, part by part of the period: good and all. Nothing: the period is over and
    /// forgotten.
    pub counts: Vec<(u64, u64)>,
}

/// Requests of a partner that count against its quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Its name.
    pub partner: String,
    /// The day since the epoch (UTC).
    pub day: u64,
    /// Requests of that day.
    pub counted: u64,
}

const QUOTA: &str = "quota/";

impl Quota {
    /// As it is written down. It has no periods, since a new day replaces the one before.
    pub fn tally(&self) -> Tally {
        let Self { partner, day, counted } = self;
        Tally { period: 0, of: format!("{QUOTA}{partner}"), counts: vec![(*day, *counted)] }
    }

    /// Of what was written down; nothing if that is of something else.
    pub fn of_tally(tally: &Tally) -> Option<Self> {
        let partner = tally.of.strip_prefix(QUOTA)?.to_owned();
        let (day, counted) = *tally.counts.first()?;
        Some(Self { partner, day, counted })
    }
}
