//! What the log says of one sink now, while the engine runs: for a sink that broke, whose memory nobody vouches
//! for. The newest whole checkpoint is read as far as sinks go, and the log behind it, a few million records a
//! second; it holds nothing of the ledger, and the next checkpoint waits for it.

use crate::{
    model::{Lsn, sink::SinkState},
    wal::{Storage, checkpoint},
};

use super::{
    Engine, Error,
    core::Core,
    effect::Effects,
    fold::from_archived,
    replay::apply_sink,
    thing::{Effect, Thing},
};

impl<S: Storage> Engine<S> {
    /// What every record that is in the log now says of a sink, and the position up to which these are. Waits
    /// until they are durable; nobody may write records of the sink meanwhile. What the index of seals was
    /// not told is put right.
    ///
    /// # Errors
    /// The log has stopped, or can't be read.
    pub(crate) fn sink_of_log(&self, sink: &str) -> Result<(SinkState, Lsn), Error> {
        let end = self.log().appended();
        self.log().wait_durable_blocking(Lsn(end.0.saturating_sub(1)))?;
        self.core().sink_of_log(sink, end)
    }
}

impl<S: Storage> Core<S> {
    fn sink_of_log(&self, sink: &str, end: Lsn) -> Result<(SinkState, Lsn), Error> {
        // No checkpoint comes or goes meanwhile, and the log is kept as far back as to the newest.
        let _still = self.checkpointing.lock();
        let newest = checkpoint::newest(&self.storage)?;
        let mut state = SinkState::default();
        if let Some(newest) = &newest {
            let mut entries = newest.iter()?;
            while let Some((key, value)) = entries.next()? {
                match Thing::of_key(key) {
                    Some(Thing::Sink(name)) if name == sink => state = from_archived(value)?,
                    Some(Thing::Letter(of, name)) if of == sink => {
                        state.set_letter(name, Some(from_archived(value)?));
                    }
                    _ => {}
                }
            }
        }
        let positions = &self.tables.positions;
        let effects = Effects {
            retention_ms: self.options.retention_ms,
            sku_of: &|number| positions.get(number).map_or(u32::MAX, |p| p.sku_number()),
        };
        let mut reader = self.log.reader(newest.map_or(Lsn(0), |newest| newest.covers()))?;
        while let Some(record) = reader.next()?.filter(|record| record.lsn < end) {
            effects.of(&record, |thing, effect| match (thing, effect) {
                (Thing::Sink(name), effect) if name == sink => apply_sink(&mut state, &effect),
                (Thing::Letter(of, name), Effect::Letter(letter)) if of == sink => {
                    state.set_letter(name, letter.map(|letter| *letter));
                }
                (Thing::Seal(number, of), effect) if of == sink => {
                    self.seals.lock().replay((of, number), &effect);
                }
                _ => {}
            })?;
        }
        Ok((state, Lsn(end.0.saturating_sub(1))))
    }
}
