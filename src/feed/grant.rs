//! An operator's wishes, granted by the sink's feed: each becomes a record, and is answered when that
//! is durable.
//!
//! A letter that is sent again is sealed anew, so that what leaves the house is fixed before its first
//! byte does. While nobody changed it, it goes out under the identity and with the bytes that it had, so
//! that a partner who did get it knows it; mended, it is a batch of its own. Its lines keep their ids
//! either way.

use std::collections::VecDeque;

use serde_json::Value;

use super::{
    Error,
    mend::mend,
    progress::{Asked, Halved},
    seal,
    worker::{Worker, covered_by},
};
use crate::{
    config::Dedupe,
    model::{
        Lsn,
        event::{Operate, Seal},
        letter::Letter,
        sink::{
            Deed, Lane,
            wish::{By, Denied, From, Granted, Wish},
        },
    },
    wal::{self, Storage},
};

/// A wish is granted, denied, or the sink stops.
enum Verdict {
    Granted(Granted),
    Denied(Denied),
    Stopping,
}

impl<S: Storage> Worker<S> {
    pub(super) fn grant_wishes(&mut self) -> Result<(), Error> {
        while let Some(Asked { wish, by, answer }) = self.progress.next_wish() {
            let result = match self.grant(wish, by)? {
                Verdict::Granted(granted) => Ok(granted),
                Verdict::Denied(denied) => Err(denied),
                Verdict::Stopping => return Ok(()),
            };
            // Whoever asked may be gone; it is done all the same.
            drop(answer.send(result));
        }
        Ok(())
    }

    fn grant(&mut self, wish: Wish, by: By) -> Result<Verdict, Error> {
        match wish {
            Wish::Pause => self.operate(Deed::Pause, &by, 1),
            Wish::Resume => self.operate(Deed::Resume, &by, 1),
            Wish::Replay { from } => self.replay(from, &by),
            Wish::Skip => match self.oldest_under_way() {
                Some(number) => self.operate(Deed::Skip { number }, &by, 1),
                None => Ok(Verdict::Denied(Denied::Nothing("no batch is under way"))),
            },
            Wish::Mend { letter, content } => self.mend(&letter, &content, &by),
            Wish::Retry { letter } => self.retry(&letter),
            Wish::Discard { letter } => match self.free_letter(&letter) {
                Ok(_) => self.operate(Deed::Discard { letter }, &by, 1),
                Err(denied) => Ok(Verdict::Denied(denied)),
            },
        }
    }

    /// Writes a deed down.
    fn operate(&mut self, deed: Deed, by: &By, count: u64) -> Result<Verdict, Error> {
        let operate = Operate {
            sink: self.config.name.clone(),
            by: by.who.clone(),
            reason: by.reason.clone(),
            forced: by.forced,
            deed,
        };
        let time_ms = self.engine.now().millis();
        let lsn = match seal::append(self.engine.log(), &operate, time_ms, &self.progress) {
            Ok(Some(lsn)) => lsn,
            Ok(None) => return Ok(Verdict::Stopping),
            Err(Error::TooLarge { bytes, bytes_max }) => {
                return Ok(Verdict::Denied(Denied::TooLarge { bytes, bytes_max }));
            }
            Err(error) => return Err(error),
        };
        if matches!(operate.deed, Deed::Split { .. }) {
            tracing::debug!(
                sink = self.config.name,
                "how far a bisection has come is written down"
            );
        } else {
            self.log_deed(&operate);
        }
        if !self.wait_durable(lsn)? {
            return Ok(Verdict::Stopping);
        }
        self.progress.operated(&operate.deed, &by.reason, lsn);
        Ok(Verdict::Granted(Granted { count }))
    }

    fn log_deed(&self, operate: &Operate) {
        tracing::info!(
            sink = self.config.name,
            deed = operate.deed.as_str(),
            by = operate.by,
            reason = operate.reason,
            forced = operate.forced,
            "written down"
        );
    }

    /// Writes down how far bisections have come; their next parts leave after that.
    pub(super) fn write_splits(&mut self) -> Result<(), Error> {
        while let Some(Halved { split, answer }) = self.progress.next_split() {
            let recorded = match self.operate(Deed::Split { split }, &By::default(), 1)? {
                Verdict::Granted(_) => true,
                Verdict::Denied(_) => false,
                Verdict::Stopping => return Ok(()),
            };
            // The delivery may have ended: the batch goes on after the next start.
            let _ = answer.send(recorded);
        }
        Ok(())
    }

    /// A letter that is not on its way.
    fn free_letter(&self, name: &str) -> Result<Letter, Denied> {
        self.progress.with_state(|state| {
            let letter = state.letters.get(name);
            let letter = letter.ok_or_else(|| Denied::NoLetter(name.to_owned()))?;
            match state.is_sent_again(name) {
                true => Err(Denied::Sending(name.to_owned())),
                false => Ok((**letter).clone()),
            }
        })
    }

    fn mend(&mut self, name: &str, content: &Value, by: &By) -> Result<Verdict, Error> {
        let mended = self.free_letter(name).and_then(|letter| {
            let body = mend(&letter.body, content).map_err(Denied::Content)?;
            Ok(Letter { body, mended: true, ..letter })
        });
        match mended {
            Ok(letter) => self.operate(Deed::Mend { letter }, by, 1),
            Err(denied) => Ok(Verdict::Denied(denied)),
        }
    }

    /// Seals a letter's content anew; it goes out when its lane has room.
    fn retry(&mut self, name: &str) -> Result<Verdict, Error> {
        let letter = match self.free_letter(name) {
            Ok(letter) => letter,
            Err(denied) => return Ok(Verdict::Denied(denied)),
        };
        let (number, chain) =
            self.progress.with_state(|state| (state.last_number + 1, state.chain));
        let lane = Lane::of_seal(letter.lane);
        let covers_lsn = self.progress.with_state(|state| state.lanes[lane.index()].covers_lsn);
        let (part_id, body, config_version) = if letter.mended {
            let id = self.batch_id(number);
            let body = super::mend::renamed(&letter.body, id.as_str());
            (String::new(), body, self.config_version)
        } else {
            (letter.part_id.clone(), letter.body.clone(), letter.config_version)
        };
        let seal = Seal {
            number,
            first_lsn: letter.seal_lsn,
            last_lsn: letter.seal_lsn,
            covers_lsn,
            sealed_at_ms: self.engine.now().millis(),
            events: 0,
            config_version,
            digest: Seal::digest_of(&body, []),
            chain,
            sink: self.config.name.clone(),
            body,
            parking: Default::default(),
            recognition: self.config.recognition as u8,
            lane: covered_by(&self.config, lane),
            more: Vec::new(),
            letter: letter.id.clone(),
            part_id,
        };
        let (lsn, sealed) = match self.seal(&seal) {
            Ok(Some(sealed)) => sealed,
            Ok(None) => return Ok(Verdict::Stopping),
            Err(Error::TooLarge { bytes, bytes_max }) => {
                return Ok(Verdict::Denied(Denied::TooLarge { bytes, bytes_max }));
            }
            Err(error) => return Err(error),
        };
        if !self.wait_durable(lsn)? {
            return Ok(Verdict::Stopping);
        }
        self.progress.sealed(sealed);
        if !letter.uncertain || self.config.dedupe == Dedupe::None {
            self.insisted.insert(number);
        }
        if let Some(lane) = self.lanes.iter_mut().find(|l| l.lane == lane) {
            lane.again.push_back((number, lsn));
        }
        Ok(Verdict::Granted(Granted { count: 1 }))
    }

    fn oldest_under_way(&self) -> Option<u64> {
        self.progress.with_state(|state| state.pending.first().map(|batch| batch.number))
    }

    fn replay(&mut self, from: From, by: &By) -> Result<Verdict, Error> {
        if self.replay_from.is_some() {
            return Ok(Verdict::Denied(Denied::Nothing("a replay is under way")));
        }
        let to = self.progress.with_state(|state| state.last_number);
        let mut batches = self.batches_from(from, to)?;
        self.leave_out_pending(&mut batches);
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

    /// What is under way goes out anyway. In another lane it may have a lower number than what is not.
    fn leave_out_pending(&self, batches: &mut Batches) {
        self.progress.with_state(|state| batches.retain(|(number, _)| !state.is_pending(*number)));
    }

    fn batches_from(&self, from: From, to: u64) -> Result<Batches, Error> {
        let sink = &self.config.name;
        let time = match from {
            From::Lsn(lsn) => return Ok(self.engine.batches_from(sink, lsn, to)),
            From::Time(time) => time,
        };
        let mut batches = self.engine.batches_from(sink, Lsn(0), to);
        let (mut low, mut high) = (0, batches.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let at = batches[middle].1;
            let before = match self.engine.log().read_at(at) {
                Ok(seal) => seal.record().time_ms < time.millis(),
                // The index hears late of what the log has let go.
                Err(wal::Error::Archived { .. }) => true,
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

    /// Writes down what renders from here on, where that is not what the log says last.
    pub(super) fn configure(&mut self) -> Result<(), Error> {
        let rendering = self.config.connector().ok().and_then(|connector| connector.rendering());
        let version = self.config_version;
        let known = self
            .progress
            .with_state(|state| state.configurations.last().map(|(version, _)| *version));
        match rendering {
            Some(text) if known != Some(version) => {
                let deed = Deed::Configure { version, text };
                if let Verdict::Denied(why) = self.operate(deed, &By::default(), 1)? {
                    tracing::error!(
                        sink = self.config.name, %why,
                        "what renders can't be written down: what is sealed now is rendered as \
                         configured when it goes out"
                    );
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes up the replay that the last life of the process did not end.
    pub(super) fn go_on_replaying(&mut self) {
        let Some(replay) = self.progress.with_state(|state| state.replay) else { return };
        let mut batches = self.engine.batches_from(&self.config.name, Lsn(0), replay.to_number);
        batches.retain(|(number, _)| *number >= replay.next_number);
        self.leave_out_pending(&mut batches);
        self.replay_from = batches.front().map(|(_, lsn)| *lsn);
        self.replaying = batches;
        if self.replaying.is_empty() {
            tracing::error!(
                sink = self.config.name,
                "the batches that were to be sent again are no longer in the log"
            );
        }
    }
}

/// Batches to be sent again: number and the position of the seal.
pub(super) type Batches = VecDeque<(u64, Lsn)>;
