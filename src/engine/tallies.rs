//! Figures that whoever observes writes down from time to time, so that a restart goes on with them (see
//! [`crate::model::tally`]). They take no part in any decision; a checkpoint keeps the last of each period.

use std::collections::BTreeMap;

use crate::{
    model::{
        Lsn,
        event::{self, Event, Tallied},
        tally::Tally,
    },
    wal::{Draft, RoomClass, Storage},
};

use super::{Engine, Refusal};

/// The last tally of each thing and period.
#[derive(Debug, Default)]
pub(super) struct Tallies(BTreeMap<(String, u64), Tally>);

impl Tallies {
    /// What holds of a period from here on.
    pub(super) fn put(&mut self, tally: Tally) {
        let name = (tally.of.clone(), tally.period);
        match tally.counts.is_empty() {
            true => drop(self.0.remove(&name)),
            false => drop(self.0.insert(name, tally)),
        }
    }
}

impl<S: Storage> Engine<S> {
    /// What the log had when it was opened, by name and period; given away once.
    pub fn take_tallies(&self) -> Vec<Tally> {
        std::mem::take(&mut *self.core().tallies.lock()).0.into_values().collect()
    }

    /// Writes figures down, as one record; where it stands. Nobody waits for it to be durable: what the log
    /// loses in a crash is counted no more.
    ///
    /// # Errors
    /// `log_full`, `overloaded` or `shutting_down`: nothing was written; or they don't fit into one record.
    pub fn tally(&self, tallies: Vec<Tally>) -> Result<Lsn, Refusal> {
        let core = self.core();
        let at_ms = core.now_ms();
        let mut draft = Draft::new();
        let event = Tallied { at_ms, tallies };
        event::encode(&event, draft.begin(Tallied::KIND, Tallied::VERSION, at_ms));
        draft.seal();
        let ticket = core.ticket(RoomClass::Upkeep, draft.bytes(), 0)?;
        Ok(ticket.append(&draft))
    }
}
