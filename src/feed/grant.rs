//! An operator's wishes, granted by the sink's feed: each becomes a record, and is answered when that
//! is durable.
//!
//! A letter that is sent again is sealed anew, so that what leaves the house is fixed before its first
//! byte does. While nobody changed it, it goes out under the identity and with the bytes that it had, so
//! that a partner who did get it knows it; mended, it is a batch of its own. Its lines keep their ids
//! either way. What must not overtake it goes right behind it.

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
        event::{Operate, Seal},
        letter::Letter,
        sink::{
            Deed, Lane,
            wish::{By, Denied, Granted, Wish},
        },
    },
    wal::Storage,
};

/// A wish is granted, denied, or the sink stops.
pub(super) enum Verdict {
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
            Wish::Retry { letter } => self.retry(&letter, &by),
            Wish::Discard { letter } => match self.free_letter(&letter) {
                Ok(_) => self.operate(Deed::Discard { letter }, &by, 1),
                Err(denied) => Ok(Verdict::Denied(denied)),
            },
        }
    }

    /// Writes a deed down.
    pub(super) fn operate(&mut self, deed: Deed, by: &By, count: u64) -> Result<Verdict, Error> {
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
        let durable = self.wait_durable(lsn)?;
        // Also when it stops meanwhile: whoever goes on from here must have what the log has.
        self.progress.operated(&operate.deed, &by.reason, lsn);
        Ok(if durable { Verdict::Granted(Granted { count }) } else { Verdict::Stopping })
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

    /// Sends a letter again, and right behind it those that call off what it orders.
    fn retry(&mut self, name: &str, by: &By) -> Result<Verdict, Error> {
        let letter = match self.free_letter(name) {
            Ok(letter) => letter,
            Err(denied) => return Ok(Verdict::Denied(denied)),
        };
        if let Some(first) = self.comes_after(&letter) {
            return Ok(Verdict::Denied(Denied::Behind { letter: letter.id, first }));
        }
        let behind = self.kept_behind(&letter);
        let mut verdict = self.send_letter(&letter, by)?;
        for letter in behind {
            let Verdict::Granted(Granted { count }) = &mut verdict else { return Ok(verdict) };
            match self.send_letter(&letter, by)? {
                Verdict::Granted(_) => *count += 1,
                Verdict::Denied(why) => {
                    let (sink, letter) = (&self.config.name, &letter.id);
                    tracing::error!(sink, letter, %why, "it does not follow its order");
                }
                Verdict::Stopping => return Ok(Verdict::Stopping),
            }
        }
        Ok(verdict)
    }

    /// Writes down who wants it, and seals a letter's content anew; it goes out when its lane has room.
    fn send_letter(&mut self, letter: &Letter, by: &By) -> Result<Verdict, Error> {
        let retry = Deed::Retry { letter: letter.id.clone() };
        match self.operate(retry, by, 1)? {
            Verdict::Granted(_) => {}
            verdict => return Ok(verdict),
        }
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
        let durable = self.wait_durable(lsn)?;
        self.progress.sealed(sealed);
        if !durable {
            return Ok(Verdict::Stopping);
        }
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

    /// Writes down by what settings batches are sealed and rendered from here on, where that is not what the
    /// log says last.
    pub(super) fn configure(&mut self) -> Result<(), Error> {
        let version = self.config_version;
        let is_written = self.progress.with_state(|state| {
            let last = state.configurations.last();
            last.is_some_and(|(known, text)| *known == version && *text == self.config.written())
        });
        if is_written {
            return Ok(());
        }
        let deed = Deed::Configure { version, text: self.config.written() };
        if let Verdict::Denied(why) = self.operate(deed, &By::default(), 1)? {
            tracing::error!(
                sink = self.config.name, %why,
                "what renders can't be written down: what is sealed now is rendered as configured \
                 when it goes out"
            );
        }
        Ok(())
    }
}
