//! Replays: sealed batches that go out again on an operator's word.
//!
//! # What it promises
//!
//! - Batches go one after the other, in the order of their numbers, before anything new, while nothing else
//!   is under way.
//! - What the partner took of a batch goes out again, under the ids by which it took it, with the bytes that
//!   it had: of a batch that was halved, the parts; of one that was refused whole, nothing. The record of
//!   the batch's fate says which. What it did not take lies dead or was dealt with since: that is no business
//!   of a replay.
//! - It goes on after a restart where the log says that it was. A batch that was under way when it began is
//!   none of it, whenever that has its fate.
//! - The log is kept for what is still to be sent, from the moment the engine is opened. What it had let go
//!   before is read from the archive.

use std::collections::VecDeque;

use super::{Batch, Error, Fate, grant::Verdict, lane::LaneFeed, seal, worker::Worker};
use crate::{
    config::Dedupe,
    model::{
        Lsn,
        event::{self, Acknowledge, ArchivedAcknowledge},
        letter::{PendingPart, Split, TakenPart},
        sink::{
            Deed,
            wish::{By, Denied, From},
        },
    },
    wal::{self, Storage},
};

/// Batches to be sent again: number and the position of the seal.
pub(super) type Batches = VecDeque<(u64, Lsn)>;

impl<S: Storage> Worker<S> {
    pub(super) fn replay(&mut self, from: From, by: &By) -> Result<Verdict, Error> {
        if self.replay_from.is_some() {
            return Ok(Verdict::Denied(Denied::Nothing("a replay is under way")));
        }
        let to = self.progress.with_state(|state| state.last_number);
        let mut batches = match self.batches_from(from, to) {
            Err(Error::Log { source: wal::Error::ArchiveBusy, .. }) => {
                let busy = "others read the archive; ask again";
                return Ok(Verdict::Denied(Denied::Nothing(busy)));
            }
            other => other?,
        };
        // What is under way goes out anyway. In another lane it may have a lower number than what is not.
        self.progress.with_state(|state| batches.retain(|(number, _)| !state.is_pending(*number)));
        let (Some((first, _)), Some((last, _))) = (batches.front(), batches.back()) else {
            let none = "the log has no acknowledged batch from there on";
            return Ok(Verdict::Denied(Denied::Nothing(none)));
        };
        let deed = Deed::Replay { from_number: *first, to_number: *last };
        let verdict = self.operate(deed, by, batches.len() as u64)?;
        if matches!(verdict, Verdict::Granted(_)) {
            self.replay_from = batches.front().map(|(_, lsn)| *lsn);
            self.replaying = batches;
        }
        Ok(verdict)
    }

    fn batches_from(&self, from: From, to: u64) -> Result<Batches, Error> {
        let sink = &self.config.name;
        let time = match from {
            From::Lsn(lsn) => return Ok(self.engine.batches_from(sink, lsn, to)),
            From::Time(time) => time,
        };
        let mut batches = self.engine.batches_from(sink, Lsn(0), to);
        let (mut low, mut high) = (0, batches.len());
        let mut log = self.engine.log().look_back();
        while low < high {
            let middle = low + (high - low) / 2;
            let at = batches[middle].1;
            let before = match log.read_at(at) {
                Ok(seal) => seal.record().time_ms < time.millis(),
                // The index hears late of what log and archive have let go.
                Err(wal::Error::Archived { .. } | wal::Error::Archive { .. }) => true,
                Err(source) => return Err(Error::Log { at, source }),
            };
            if before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(batches.split_off(low))
    }

    /// Takes up the replay that the last life of the process did not end.
    pub(super) fn go_on_replaying(&mut self) {
        let Some(replay) = self.progress.with_state(|state| state.replay.clone()) else { return };
        let mut batches = self.engine.batches_from(&self.config.name, Lsn(0), replay.to_number);
        batches.retain(|(number, _)| replay.has(*number));
        self.replay_from = batches.front().map(|(_, lsn)| *lsn);
        self.replaying = batches;
        if self.replaying.is_empty() {
            tracing::error!(
                sink = self.config.name,
                "the batches that were to be sent again are no longer in the log"
            );
        }
    }

    /// Hands over the next batch of a replay, once nothing else is under way.
    pub(super) fn send_replayed(&mut self) -> Result<(), Error> {
        let free = self.progress.is_idle() && self.lanes.iter().all(LaneFeed::has_handed_over);
        match self.replaying.front().copied() {
            Some((number, lsn)) if free => {
                self.replaying.pop_front();
                self.replay_from = Some(lsn);
                self.replay_one(number, lsn)
            }
            _ => Ok(()),
        }
    }

    fn replay_one(&mut self, number: u64, lsn: Lsn) -> Result<(), Error> {
        match self.read_replayed(number, lsn) {
            Ok(Replayed::Send(batch)) => {
                self.progress.sent(&batch);
                self.bring(batch);
                Ok(())
            }
            Ok(Replayed::Nothing(batch, fate)) => {
                self.progress.sent(&batch);
                self.progress.report(fate);
                Ok(())
            }
            // It was let go before the replay began to keep the log; the sink needs it for nothing else.
            Ok(Replayed::Gone) | Err(Error::Log { source: wal::Error::Archived { .. }, .. }) => {
                let (sink, batch) = (&self.config.name, self.batch_id(number));
                tracing::error!(%batch, sink, "a batch can't be sent again: the log has let it go");
                Ok(())
            }
            // No more does what has become of the archive stop a sink.
            Err(Error::Log { source: error @ wal::Error::Archive { .. }, .. }) => {
                let (sink, batch) = (&self.config.name, self.batch_id(number));
                tracing::error!(%batch, sink, %error, "a batch can't be sent again");
                Ok(())
            }
            Err(Error::Log { source: wal::Error::ArchiveBusy, .. }) => {
                self.replaying.push_front((number, lsn));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// A batch, as far as the partner took it.
    fn read_replayed(&mut self, number: u64, lsn: Lsn) -> Result<Replayed, Error> {
        let sink = &self.config.name;
        let log = self.looking_back.get_or_insert_with(|| self.engine.log().look_back());
        log.go_on();
        let mut batch = seal::read_seal(log, sink, number, lsn)?;
        // At a partner that knows nothing again, a repeat is on the operator's head.
        batch.fresh = self.config.dedupe == Dedupe::None;
        batch.split = self.progress.with_state(|state| state.split_of(number));
        let Some(at) = self.engine.fate_of(sink, number) else { return Ok(Replayed::Gone) };
        let pinned = log.read_at(at).map_err(|source| Error::Log { at, source })?;
        let record = pinned.record();
        let fate = event::decode::<Acknowledge>(at, record.kind, record.version, record.body)?;
        if fate.refused && batch.split.is_none() {
            let fate = Fate::of_refused(&batch, fate);
            return Ok(Replayed::Nothing(batch, fate));
        }
        if batch.split.is_none() {
            batch.split = as_taken(&batch, fate);
        }
        Ok(Replayed::Send(batch))
    }
}

/// What a replay does with a batch.
enum Replayed {
    /// It goes out.
    Send(Batch),
    /// There is nothing to be sent of it.
    Nothing(Batch, Fate),
    /// The log, or the index of its seals, knows it no more.
    Gone,
}

/// A batch in the parts that the partner took; `None`: it took it as one.
fn as_taken(batch: &Batch, fate: &ArchivedAcknowledge) -> Option<Split> {
    let part = |part: TakenPart| PendingPart {
        path: part.path,
        items: part.items,
        attempts: 0,
        uncertain: !batch.fresh,
    };
    let pending: Vec<_> =
        fate.taken.iter().map(|taken| part(event::to_owned::<TakenPart>(taken))).collect();
    (!pending.is_empty()).then(|| Split {
        number: batch.number,
        seal_lsn: batch.seal_lsn.0,
        pending,
        ..Split::default()
    })
}
