//! What a fact about an order moves, under law 1: what is taken is taken before the record, what is
//! given is given after it, and no count of the stock comes in between.

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use crate::{
    ledger::{
        positions::{Cold, Movement},
        word::Taken,
    },
    model::{
        Lsn,
        event::Happened,
        fact::{Fact, Shipped},
        view::ShortLine,
    },
    wal::Storage,
};

use super::{Refusal, core::Core};

/// What a fact moves: begun before its record, finished after it. Dropped in between, it gives back
/// what it took.
pub(super) struct Moves<'a, S: Storage> {
    core: &'a Core<S>,
    /// The positions whose goods move, locked in the order of their numbers, as no count may come in
    /// between.
    locked: SmallVec<[(u32, MutexGuard<'a, Cold>); 2]>,
    /// Units taken where they were not sold, pending.
    taken: SmallVec<[(u32, u32); 2]>,
}

impl<'a, S: Storage> Moves<'a, S> {
    pub(super) fn begin(core: &'a Core<S>, fact: &Fact) -> Result<Self, Refusal> {
        let mut positions: SmallVec<[u32; 4]> = match fact {
            Fact::Shipment { lines, .. } => lines.iter().map(|line| line.position).collect(),
            Fact::Receipt { lines, restock: true, .. } => {
                lines.iter().map(|line| line.position).collect()
            }
            _ => SmallVec::new(),
        };
        positions.sort_unstable();
        positions.dedup();
        let lock = |at: u32| Some((at, core.tables.positions.get(at)?.lock()));
        let locked = positions.into_iter().filter_map(lock).collect();
        let mut moves = Self { core, locked, taken: SmallVec::new() };
        if let Fact::Shipment { lines, .. } = fact {
            for line in lines.iter().filter(|line| line.position != line.from) {
                moves.take(line)?;
            }
        }
        Ok(moves)
    }

    fn take(&mut self, line: &Shipped) -> Result<(), Refusal> {
        let core = self.core;
        let Some(position) = core.tables.positions.get(line.position) else { return Ok(()) };
        let taken = core.until("carts are being decided on this position; try again", || {
            match position.word().take_pending(line.quantity) {
                Taken::Yes => Some(Ok(())),
                Taken::Short { available } => Some(Err(available)),
                Taken::Wait => None,
            }
        })?;
        if let Err(available) = taken {
            let (requested, available) = (u64::from(line.quantity), i64::from(available));
            let (sku, location) = core.name_of(line.position).ok_or(Refusal::OutcomeUnknown)?;
            let short = ShortLine { sku, location: Some(location), requested, available };
            return Err(Refusal::InsufficientStock { lines: vec![short] });
        }
        self.taken.push((line.position, line.quantity));
        Ok(())
    }

    /// After the record.
    pub(super) fn finish(mut self, record: &Happened, lsn: Lsn) {
        let core = self.core;
        let positions = &core.tables.positions;
        for (at, units) in self.taken.drain(..) {
            if let Some(position) = positions.get(at) {
                position.word().settle(units);
            }
        }
        match &record.fact {
            Fact::Shipment { lines, .. } => {
                for line in lines {
                    let units = i64::from(line.quantity);
                    let Some(from) = positions.get(line.from) else { continue };
                    from.add_committed(-units);
                    if line.position != line.from {
                        from.word().give(line.quantity);
                    }
                    self.moved(line.position, -units, lsn);
                }
            }
            Fact::Cancellation { lines } => {
                for line in lines {
                    if let Some(position) = positions.get(line.position) {
                        position.add_committed(-i64::from(line.quantity));
                    }
                    core.tables.give_back(&[line.line()], line.customer_hash, Lsn(line.granted));
                }
            }
            Fact::Receipt { lines, restock: true, .. } => {
                for line in lines {
                    self.moved(line.position, i64::from(line.quantity), lsn);
                    if let Some(position) = positions.get(line.position) {
                        position.word().give(line.quantity);
                    }
                }
            }
            _ => {}
        }
    }

    fn moved(&mut self, at: u32, delta: i64, lsn: Lsn) {
        if let Some(position) = self.core.tables.positions.get(at) {
            position.add_stock(delta, 0, 0);
        }
        if let Some((_, cold)) = self.locked.iter_mut().find(|(number, _)| *number == at) {
            cold.moved(Movement { lsn: lsn.0, delta });
        }
    }
}

impl<S: Storage> Drop for Moves<'_, S> {
    fn drop(&mut self) {
        for (at, units) in self.taken.drain(..) {
            if let Some(position) = self.core.tables.positions.get(at) {
                position.word().undo(units);
            }
        }
    }
}
