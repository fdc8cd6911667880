//! Checkpoints: a background reader folds the durable log into a sorted file, so that a start reads
//! the newest one and the tail. It never stalls or locks the ledger, and never holds a second ledger
//! in memory.
//!
//! The log from the last checkpoint's end is read in pieces; the effects of each are sorted by the
//! thing they are about and written to a *run* ([`super::run`]). Then the last checkpoint and the
//! runs are merged, thing by thing, into the next one ([`super::merge`]). Memory is bounded by one
//! piece's effects; the piece grows with the ledger, so that there are few runs and the memory stays
//! a small part of the ledger's.
//!
//! The last checkpoint is checked while it is merged. If it is damaged it goes, and the log is folded
//! again from the end of the one before it, which is why the log is kept back to there.

use std::sync::atomic::Ordering;

use crate::{
    ledger::reservations::{NotBegun, Reservations},
    model::{Lsn, ReservationId},
    wal::{self, Reader, Storage, checkpoint},
};

use super::{
    Error,
    core::Core,
    counters::Count,
    effect::Effects,
    fold::Now,
    merge::Merge,
    run::{self, Sorter},
};

/// Log that is sorted at a time; its effects take about as much memory.
const PIECE_BYTES_MIN: u64 = 16 << 20;
const PIECE_BYTES_MAX: u64 = 128 << 20;
/// The piece grows by so much for each reservation, which has twenty times that in the ledger: room
/// for the buffers, which may be twice what is in them.
const PIECE_BYTES_EACH: u64 = 6;

impl<S: Storage> Core<S> {
    /// Makes a checkpoint of everything that is durable now, if there is anything new.
    pub(super) fn make_checkpoint(&self) -> Result<(), Error> {
        let _one = self.checkpointing.lock();
        let from = Lsn(self.checkpoint.load(Ordering::Acquire));
        let to = self.log.durable();
        if to <= from {
            return self.rely_on_newest(from);
        }
        match self.fold_from(from, to) {
            Err(Error::Wal(damage @ wal::Error::Checkpoint { .. })) => {
                tracing::error!(%damage, "the last checkpoint goes; the log is folded from the one before");
                let before = checkpoint::list(&self.storage)?.into_iter().find(|c| *c < from);
                checkpoint::remove(&self.storage, from)?;
                self.fold_from(before.unwrap_or(Lsn(0)), to)
            }
            other => other,
        }
    }

    /// Merges the checkpoint at `from`, if that is not the log's begin, with the log up to `to`.
    fn fold_from(&self, from: Lsn, to: Lsn) -> Result<(), Error> {
        let mut reader = self.log.reader(from)?;
        let mut runs = 0;
        let mut sorter = Sorter::default();
        while reader.position() < to {
            if self.is_stopping() {
                return Ok(());
            }
            self.gather(&mut reader, to, &mut sorter)?;
            sorter.write(&self.storage, runs)?;
            runs += 1;
        }
        drop(sorter);
        let Some(bytes) = self.merge(from, reader.position(), runs)? else { return Ok(()) };
        for number in 0..runs {
            let what = "removing a checkpoint's run";
            let removed = self.storage.remove(&run::name(number));
            removed.map_err(|source| Error::Io { what, source })?;
        }
        self.checkpoint_bytes.store(bytes, Ordering::Release);
        self.counters.add(Count::Checkpoints);
        // The log stays as far back as the checkpoint before this one, in case this one rots.
        self.checkpoint.store(reader.position().0, Ordering::Release);
        self.checkpoint_before.store(from.0, Ordering::Release);
        self.release_log();
        self.seals.lock().forget_before(self.log.archive_oldest());
        Ok(())
    }

    /// A full log that has nothing new would stay full: it is kept back to the checkpoint before the
    /// newest, in case that one rots, and no next one will come. So the newest is read through once
    /// more, and then what it covers may go.
    fn rely_on_newest(&self, covers: Lsn) -> Result<(), Error> {
        if self.waits_for_checkpoint()
            && checkpoint::newest(&self.storage)?.is_some_and(|c| c.covers() == covers)
        {
            self.checkpoint_before.store(covers.0, Ordering::Release);
            self.release_log();
        }
        Ok(())
    }

    /// Gathers the effects of the next piece of the log.
    fn gather(&self, reader: &mut Reader<S>, to: Lsn, sorter: &mut Sorter) -> Result<(), Error> {
        let each = u64::from(self.tables.reservations.len()) * PIECE_BYTES_EACH;
        let until = reader.position().0 + each.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        let positions = &self.tables.positions;
        let effects = Effects {
            retention_ms: self.options.retention_ms,
            sku_of: &|number| positions.get(number).map_or(u32::MAX, |p| p.sku_number()),
        };
        while reader.position() < to && reader.position().0 < until {
            let Some(record) = reader.next()? else { break };
            effects.of(&record, |thing, effect| sorter.push(thing, effect))?;
        }
        Ok(())
    }

    /// Merges; returns the new checkpoint's bytes, or nothing if the engine stopped meanwhile.
    fn merge(&self, from: Lsn, covers: Lsn, runs: usize) -> Result<Option<u64>, Error> {
        let before = match from {
            Lsn(0) => None,
            from => Some(checkpoint::at(&self.storage, from)?),
        };
        let now = Now {
            now_ms: self.now_ms(),
            limit_period_ms: self.options.limit_period_ms,
            known: |id| is_known(&self.tables.reservations, id),
            seals: self.seals.lock().remembered(self.log.archive_oldest()),
        };
        let writer = checkpoint::Writer::create(&self.storage, self.log.incarnation(), covers)?;
        let mut merge = Merge::new(writer, now, before, runs, &self.storage)?;
        while merge.step()? {
            if self.is_stopping() {
                return Ok(None);
            }
        }
        merge.finish().map(Some)
    }
}

/// Whether a reservation is still in the table, in whatever state: it can be asked for, and an
/// expired one sold after all. One that is busy is there.
pub(super) fn is_known(reservations: &Reservations, id: ReservationId) -> bool {
    !matches!(reservations.read(id), Err(NotBegun::Unknown))
}
