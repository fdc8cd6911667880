//! The server's own configurations, as the log has them: each is written down as a deed of an operator, like
//! those that are done to sinks, under a name that no sink can have. So they are folded into checkpoints,
//! shown by `holdfast wal dump` and bounded by the same code.

use super::{Engine, Refusal, core::Core};
use crate::{
    model::{
        event::{self, Event, Operate},
        sink::{Deed, wish::By},
    },
    wal::{Draft, NoRoom, RoomClass, Storage},
};

/// The name under which the server's own configurations are written down.
pub(super) const SERVER: &str = "(server)";

/// As many as a checkpoint keeps.
const KEPT_MAX: usize = 16;

impl<S: Storage> Engine<S> {
    /// The configurations that were in force, by version, as the texts that were written down; the newest
    /// last.
    pub fn configurations(&self) -> Vec<(u64, String)> {
        self.core().configurations.lock().clone()
    }

    /// Writes a configuration down; its version, when it is durable.
    ///
    /// # Errors
    /// If the log takes no record so large, has no room now, or has stopped.
    pub async fn configure(&self, by: &By, text: String) -> Result<u64, Refusal> {
        let (version, lsn) = self.core().configure(by, text)?;
        self.log().wait(lsn).await?;
        Ok(version)
    }
}

impl<S: Storage> Core<S> {
    fn configure(&self, by: &By, text: String) -> Result<(u64, crate::model::Lsn), Refusal> {
        let mut kept = self.configurations.lock();
        let version = kept.last().map_or(1, |(version, _)| version + 1);
        let event = Operate {
            sink: SERVER.to_owned(),
            by: by.who.clone(),
            reason: by.reason.clone(),
            forced: by.forced,
            deed: Deed::Configure { version, text: text.clone() },
        };
        let mut draft = Draft::new();
        event::encode(&event, draft.begin(Operate::KIND, Operate::VERSION, self.now_ms()));
        draft.seal();
        if draft.bytes() > self.log.record_bytes_max() {
            return Err(Refusal::malformed("toml", "makes a record larger than the log takes"));
        }
        let ticket = match self.log.ticket(RoomClass::Delivery, draft.bytes(), 0) {
            Ok(ticket) => ticket,
            Err(NoRoom::Poisoned) => return Err(Refusal::ShuttingDown),
            Err(NoRoom::Busy | NoRoom::Full) => return Err(Refusal::LogFull),
        };
        let lsn = ticket.append(&draft);
        kept.push((version, text));
        if kept.len() > KEPT_MAX {
            kept.remove(0);
        }
        Ok((version, lsn))
    }
}
