//! Every position's stock at one exact position of the log, and what was done to it since an earlier one.
//!
//! The live ledger can't say this: it changes while it is read, and what it has may not be durable. So the
//! newest checkpoint is read as far as positions go, and then the log, forwards to the moment; what
//! happened since the earlier position is summed up on the way. The earlier position may lie before the
//! checkpoint: the stock of then is the stock of now less what happened since.
//!
//! It holds nothing of the ledger. One entry a position in memory, one reading of the log from the earlier
//! of the two beginnings on; for operators, in a thread of its own. The caller keeps the log from being
//! recycled from the earlier position on.

use std::collections::BTreeMap;

use crate::{
    model::{Location, Lsn, Sku},
    wal::{self, Storage, checkpoint},
};

use super::{
    Engine,
    core::Core,
    effect::Effects,
    fold::{PositionValue, from_archived},
    thing::{Effect, Thing},
};

/// Records read between two looks at whether the engine stops.
const STEP_RECORDS: usize = 4_096;

/// A position's stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reckoned {
    /// Its SKU.
    pub sku: Sku,
    /// Its location.
    pub location: Location,
    /// Units there, after the last record.
    pub on_hand: i64,
    /// Units sold and not shipped, after the last record.
    pub committed: i64,
    /// What of `on_hand` came about since the earlier position.
    pub on_hand_since: i64,
    /// What of `committed` came about since the earlier position.
    pub committed_since: i64,
}

/// Why it can't be told.
#[derive(Debug, thiserror::Error)]
pub enum ReckonError {
    /// The log or a checkpoint can't be read, or has gone meanwhile.
    #[error("the ledger's past can't be read: {0}")]
    Unreadable(String),
    /// The engine stops.
    #[error("the engine is stopping")]
    Stopping,
}

/// Four sums a position.
#[derive(Default)]
struct Sums {
    on_hand: i64,
    committed: i64,
    on_hand_since: i64,
    committed_since: i64,
}

impl From<wal::Error> for ReckonError {
    fn from(error: wal::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl<S: Storage> Engine<S> {
    /// Every position after the records below `until`, and what those from `since` on did. Blocks for as
    /// long as it takes to read them.
    ///
    /// # Errors
    /// If the log has them no longer, or can't be read.
    pub fn reckon(&self, since: Lsn, until: Lsn) -> Result<Vec<Reckoned>, ReckonError> {
        self.core().reckon(since, until)
    }
}

impl<S: Storage> Core<S> {
    fn reckon(&self, since: Lsn, until: Lsn) -> Result<Vec<Reckoned>, ReckonError> {
        let (start, mut sums) = self.newest_stock(until)?;
        self.add_log(&mut sums, (start, since, until))?;
        let named = |(number, sums): (u32, Sums)| {
            let (sku, location) = self.name_of(number)?;
            let Sums { on_hand, committed, on_hand_since, committed_since } = sums;
            Some(Reckoned { sku, location, on_hand, committed, on_hand_since, committed_since })
        };
        Ok(sums.into_iter().filter_map(named).collect())
    }

    /// The stock of the newest checkpoint that can be read, and what it covers.
    fn newest_stock(&self, until: Lsn) -> Result<(Lsn, BTreeMap<u32, Sums>), ReckonError> {
        let oldest = self.log.oldest();
        let mut failed = format!("no checkpoint reaches back to {oldest}");
        let covers = checkpoint::list(&self.storage)?;
        for covers in covers.into_iter().filter(|covers| (oldest..=until).contains(covers)) {
            match self.stock_of_checkpoint(covers) {
                Ok(sums) => return Ok((covers, sums)),
                Err(error) => failed = error.to_string(),
            }
        }
        match oldest {
            Lsn(0) => Ok((Lsn(0), BTreeMap::new())),
            _ => Err(ReckonError::Unreadable(failed)),
        }
    }

    fn stock_of_checkpoint(&self, covers: Lsn) -> Result<BTreeMap<u32, Sums>, ReckonError> {
        let mut sums = BTreeMap::new();
        let mut entries = checkpoint::at(&self.storage, covers)?;
        while let Some((key, value)) = entries.next()? {
            match Thing::of_key(key) {
                Some(Thing::Secret) => {}
                Some(Thing::Position(number)) => {
                    let value = from_archived::<PositionValue>(value)
                        .map_err(|error| ReckonError::Unreadable(error.to_string()))?;
                    let PositionValue { on_hand, committed, .. } = value;
                    sums.insert(number, Sums { on_hand, committed, ..Sums::default() });
                }
                _ => break,
            }
        }
        Ok(sums)
    }

    fn add_log(
        &self,
        sums: &mut BTreeMap<u32, Sums>,
        (start, since, until): (Lsn, Lsn, Lsn),
    ) -> Result<(), ReckonError> {
        let table = &self.tables.positions;
        let effects = Effects {
            retention_ms: self.options.retention_ms,
            sku_of: &|number| table.get(number).map_or(u32::MAX, |p| p.sku_number()),
        };
        let mut reader = self.log.reader(start.min(since))?;
        for count in 1_usize.. {
            if count.is_multiple_of(STEP_RECORDS) && self.is_stopping() {
                return Err(ReckonError::Stopping);
            }
            let Some(record) = reader.next()?.filter(|record| record.lsn < until) else { break };
            let (fresh, later) = (record.lsn >= start, record.lsn >= since);
            let read = effects.of(&record, |thing, effect| {
                let Thing::Position(number) = thing else { return };
                let position = sums.entry(number).or_default();
                let Effect::Shifted(shift) = effect else { return };
                if fresh {
                    position.on_hand += shift.on_hand;
                    position.committed += shift.committed;
                }
                if later {
                    position.on_hand_since += shift.on_hand;
                    position.committed_since += shift.committed;
                }
            });
            read.map_err(|error| ReckonError::Unreadable(error.to_string()))?;
        }
        Ok(())
    }
}
