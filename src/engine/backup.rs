//! A backup of a running engine: the newest whole checkpoint and the log, pinned at one moment.

use crate::{
    model::{
        event::{self, Event, Operate},
        sink::Deed,
    },
    wal::{Draft, Storage, backup::Backup, checkpoint},
};

use super::{Engine, Error, open::first_ticket};

impl<S: Storage> Engine<S> {
    /// Pins what a backup of this moment holds. No request waits for it; the next checkpoint may, while the
    /// newest is read through. What it pins stays in the log until it is given away or dropped.
    ///
    /// # Errors
    /// The disk can't be read, or no checkpoint that is there is whole.
    pub fn backup(&self) -> Result<Backup<S>, Error> {
        let core = self.core();
        // No checkpoint comes or goes while one is picked and the log behind it pinned.
        let _still = core.checkpointing.lock();
        let newest = checkpoint::newest(&core.storage)?;
        Ok(self.log().backup(newest.map(|newest| newest.covers()))?)
    }

    /// Writes down that sinks are paused, whether they are known yet or not: for a log that was restored,
    /// before anything of it is sent.
    ///
    /// # Errors
    /// The log has no room or has stopped.
    pub fn pause_sinks<'a>(
        &self,
        sinks: impl Iterator<Item = &'a str>,
        reason: &str,
    ) -> Result<(), Error> {
        let mut draft = Draft::new();
        for sink in sinks {
            let operate = Operate {
                sink: sink.to_owned(),
                by: String::new(),
                reason: reason.to_owned(),
                forced: false,
                deed: Deed::Pause,
            };
            let body = draft.begin(Operate::KIND, Operate::VERSION, self.now().millis());
            event::encode(&operate, body);
            draft.seal();
            let lsn = first_ticket(self.log(), draft.bytes())?.append(&draft);
            self.log().wait_durable_blocking(lsn)?;
        }
        Ok(())
    }
}
