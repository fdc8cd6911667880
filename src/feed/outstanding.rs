//! What a sink's partner may or may not have at a moment, line by line: for who compares its figures with
//! the ledger's.

use std::sync::Arc;

use serde::Deserialize;

use super::{Error, Progress, seal};
use crate::{
    config::Movement,
    engine::Engine,
    model::{Location, Lsn, Sku, letter::Letter},
    wal::Storage,
};

/// How a sink stands at a moment.
#[derive(Debug, Clone)]
pub struct Look {
    /// Every record below is sealed, or was nothing to the sink.
    pub covers: Lsn,
    /// The number of its last batch.
    pub last_number: u64,
    /// Batches whose fate is not known: number and the position of the seal.
    pub pending: Vec<(u64, Lsn)>,
    /// What lies dead, and whether it is being sent again.
    pub letters: Vec<(Arc<Letter>, bool)>,
    /// What of the log the sink needs.
    pub needs_from: Lsn,
}

/// A line of an inventory batch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Moved {
    /// Its id.
    pub line_id: String,
    /// Its SKU.
    pub sku: Sku,
    /// Its location.
    pub location: Location,
    /// What it changes.
    pub movement: Movement,
    /// By how much, with the sign of its effect on what the movement changes.
    pub quantity: i64,
}

impl Moved {
    /// What it does to the units that are there.
    pub fn on_hand(&self) -> i64 {
        match self.movement {
            Movement::Sold | Movement::Cancelled => 0,
            Movement::Shipped => self.quantity.saturating_neg(),
            Movement::Returned | Movement::Receipt | Movement::Adjustment => self.quantity,
        }
    }

    /// What it does to the units that are sold and not shipped.
    pub fn committed(&self) -> i64 {
        match self.movement {
            Movement::Sold => self.quantity,
            Movement::Shipped | Movement::Cancelled => self.quantity.saturating_neg(),
            Movement::Returned | Movement::Receipt | Movement::Adjustment => 0,
        }
    }
}

impl Progress {
    /// How an inventory sink stands now.
    pub fn look(&self) -> Look {
        self.with_state(|state| Look {
            covers: Lsn(state.lanes.iter().map(|lane| lane.covers_lsn).max().unwrap_or(0)),
            last_number: state.last_number,
            pending: state.pending.iter().map(|p| (p.number, Lsn(p.seal_lsn))).collect(),
            letters: state
                .letters
                .values()
                .map(|letter| (letter.clone(), state.is_sent_again(&letter.id)))
                .collect(),
            needs_from: Lsn(state.needs_from()),
        })
    }
}

/// The lines of a batch of an inventory sink, as it was sealed.
///
/// # Errors
/// If the seal is in log and archive no longer, or is not what it was.
pub fn sealed_lines<S: Storage>(
    engine: &Engine<S>,
    sink: &str,
    (number, at): (u64, Lsn),
) -> Result<Vec<Moved>, Error> {
    let batch = seal::read_seal(&mut engine.log().look_back(), sink, number, at)?;
    lines_of(&batch.body)
}

/// The lines of a batch's body, or of a part's.
///
/// # Errors
/// If it is no body of an inventory sink.
pub fn lines_of(body: &[u8]) -> Result<Vec<Moved>, Error> {
    #[derive(Deserialize)]
    struct Body {
        lines: Vec<Moved>,
    }
    if body.is_empty() {
        return Ok(Vec::new());
    }
    Ok(serde_json::from_slice::<Body>(body)?.lines)
}
