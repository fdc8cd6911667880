//! Keys while the tables are being filled. Putting a key among millions of others is mostly waiting
//! for memory, and about half of what a start has to do; so a thread of its own does it, in the
//! order in which they come, while the next records are read.

use std::{
    cell::Cell,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{Builder, Scope, ScopedJoinHandle},
};

use crate::{
    ledger::keys::{Begin, Found, Outcome},
    model::{ReservationId, event::KeyRef, view::ReservationState},
};

use super::{
    Error,
    core::Tables,
    thing::{Done, made_by},
};

/// Keys that are handed over together.
const BATCH_KEYS: usize = 1024;
/// Batches that may wait.
const BATCHES_MAX: usize = 16;
/// Keys whose places are fetched together.
const WARM_KEYS: usize = 32;
/// Slots of the table of keys that are swept at a time.
const SWEEP_SLOTS: u32 = 1 << 12;

/// A key, what became of its request, and when it is put into the table.
struct Entry {
    key: KeyRef,
    outcome: Outcome,
    answer: Option<Box<str>>,
    time_ms: u64,
}

/// Takes keys and puts them into the table, one after the other.
pub(super) struct KeyQueue<'scope> {
    batch: Vec<Entry>,
    sender: SyncSender<Vec<Entry>>,
    worker: Option<ScopedJoinHandle<'scope, Result<(), Error>>>,
}

impl<'scope> KeyQueue<'scope> {
    /// Starts the thread.
    pub(super) fn start(
        scope: &'scope Scope<'scope, '_>,
        tables: &'scope Tables,
    ) -> Result<Self, Error> {
        let (sender, receiver) = sync_channel(BATCHES_MAX);
        let filler = Filler { tables, swept: Cell::new(0) };
        let worker = Builder::new()
            .name("holdfast-keys".into())
            .spawn_scoped(scope, move || filler.run(&receiver))
            .map_err(|source| Error::Io { what: "starting a thread", source })?;
        Ok(Self { batch: Vec::with_capacity(BATCH_KEYS), sender, worker: Some(worker) })
    }

    /// Hands a key over; the record that says so, or the last one before it, is of `time_ms`.
    pub(super) fn push(&mut self, done: &Done<'_>, time_ms: u64) -> Result<(), Error> {
        let answer = (!done.answer.is_empty()).then(|| done.answer.into());
        self.batch.push(Entry { key: done.key, outcome: done.outcome(), answer, time_ms });
        if self.batch.len() < BATCH_KEYS { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<(), Error> {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_KEYS));
        // It stops listening only when something went wrong.
        if self.sender.send(batch).is_ok() { Ok(()) } else { self.join() }
    }

    fn join(&mut self) -> Result<(), Error> {
        match self.worker.take().map(ScopedJoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }

    /// Waits until all are in the table.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.send()?;
        let (nobody, _) = sync_channel(1);
        drop(std::mem::replace(&mut self.sender, nobody));
        self.join()
    }
}

struct Filler<'a> {
    tables: &'a Tables,
    /// Where sweeping the table has got to.
    swept: Cell<u32>,
}

impl Filler<'_> {
    fn run(self, batches: &Receiver<Vec<Entry>>) -> Result<(), Error> {
        for mut batch in batches {
            for some in batch.chunks_mut(WARM_KEYS) {
                some.iter().for_each(|entry| self.tables.keys.warm(entry.key.hash));
                some.iter_mut().try_for_each(|entry| self.put(entry))?;
            }
        }
        Ok(())
    }

    /// Where two requests had a key, the later one's stands: the earlier one had been forgotten, but
    /// a checkpoint may have it yet.
    fn put(&self, entry: &mut Entry) -> Result<(), Error> {
        let Entry { key, outcome, .. } = entry;
        match self.tables.keys.begin(key) {
            Begin::Claimed(claim) => claim.finish(outcome),
            Begin::Taken(Found::Done(other)) if other.lsn > outcome.lsn => return Ok(()),
            Begin::Taken(Found::Reused(lsn)) if lsn > outcome.lsn => return Ok(()),
            // The log may hold more keys than there ever were at once: what had been forgotten by
            // the time of this record made room for it then, and does so now.
            Begin::Full if self.forget(entry.time_ms) => return self.put(entry),
            Begin::Full => return Err(Error::Limit { what: "engine.keys_max" }),
            Begin::Taken(_) => {
                self.tables.keys.restore(key, outcome);
            }
        }
        if let Some(answer) = entry.answer.take() {
            self.tables.answers.lock().insert(outcome.lsn, answer);
        }
        Ok(())
    }

    /// Forgets some keys whose time was over then, unless what they made was open or in its
    /// retention. False if there are none. The reservations may be some records ahead of the keys;
    /// one that has gone by then would have let its key go a little later anyway.
    fn forget(&self, time_ms: u64) -> bool {
        let keys = &self.tables.keys;
        let forget = |done: &Outcome| {
            let made = made_by(done.kind, done.lsn, done.slot);
            let kept = made.is_some_and(|id| self.is_kept(id, time_ms));
            if !kept {
                self.tables.answers.lock().remove(&done.lsn);
            }
            !kept
        };
        let mut looked = 0;
        while looked < keys.slots() {
            let from = self.swept.get() % keys.slots();
            let to = from.saturating_add(SWEEP_SLOTS).min(keys.slots());
            self.swept.set(to);
            looked += to - from;
            if keys.sweep(from..to, time_ms, forget) > 0 {
                return true;
            }
        }
        false
    }

    fn is_kept(&self, id: ReservationId, time_ms: u64) -> bool {
        let closed = [ReservationState::Released, ReservationState::Expired];
        self.tables
            .reservations
            .read(id)
            .is_ok_and(|seen| !closed.contains(&seen.state) || seen.deadline_ms > time_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Options;

    fn tables(keys_max: u32) -> Tables {
        Tables::new(&Options {
            keys_max,
            positions_max: 4,
            reservations_max: 4,
            orders_max: 4,
            customer_limits_max: 4,
            ..Options::default()
        })
    }

    fn done(number: u64, lsn: u64, expires_ms: u64) -> Done<'static> {
        let key = KeyRef { hash: [number, 1], fingerprint: 2 };
        Done { key, lsn, aux: 0, expires_ms, slot: 0, kind: 4, answer: "{}" }
    }

    fn fill(tables: &Tables, all: &[(Done<'static>, u64)]) -> Result<(), Error> {
        std::thread::scope(|scope| {
            let mut queue = KeyQueue::start(scope, tables)?;
            all.iter().try_for_each(|(done, time_ms)| queue.push(done, *time_ms))?;
            queue.finish()
        })
    }

    #[test]
    fn the_later_request_of_a_key_stands_in_whatever_order() {
        for order in [[8, 16], [16, 8]] {
            let tables = tables(8);
            fill(&tables, &order.map(|lsn| (done(1, lsn, 9), 0))).unwrap();
            let found = tables.keys.find(&done(1, 0, 0).key);
            assert_eq!(found, Found::Done(done(1, 16, 9).outcome()));
            assert!(tables.answers.lock().contains_key(&16));
        }
    }

    #[test]
    fn a_full_table_lets_go_what_was_over_and_else_refuses() {
        let all: Vec<_> = (0..5000).map(|n| (done(n, 8 * n, n + 3), n)).collect();
        let small = tables(4);
        fill(&small, &all).unwrap();
        assert_eq!(small.answers.lock().len(), small.keys.len() as usize);
        let forever: Vec<_> = (0..5000).map(|n| (done(n, 8 * n, 5000), n)).collect();
        let refused = fill(&tables(4), &forever).unwrap_err();
        assert!(matches!(refused, Error::Limit { what: "engine.keys_max" }));
    }
}
