//! A lane of a sink's feed: its window, and where in the log it reads.

use std::collections::VecDeque;

use super::{Batch, Carried, Error, inventory::Absorbed, window::Window};
use crate::{
    config::SinkConfig,
    engine::Engine,
    model::{Lsn, sink::Lane},
    wal::{Reader, Storage},
};

/// Records read before fates and windows are looked at again.
const READ_MAX: usize = 1_024;

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// There may be more.
    More,
    /// Nothing more is durable.
    All,
    /// The next record does not fit into the window.
    Full,
}

/// See the module.
pub(super) struct LaneFeed<S: Storage> {
    pub lane: Lane,
    pub window: Window,
    /// Where the window ends: everything below is in it or in a seal.
    pub position: Lsn,
    /// Sealed batches that go out again before anything new: number and the position of the seal.
    pub again: VecDeque<(u64, Lsn)>,
    /// Batches of the last seal that were not handed over yet: one of several bodies makes several, and
    /// each waits for room. At most what one seal holds.
    pub next: VecDeque<Batch>,
    /// What was read and not told yet.
    pub carried: Carried,
    /// Whether traces are kept.
    traces: bool,
    reader: Reader<S>,
}

impl<S: Storage> LaneFeed<S> {
    /// A lane that begins with an empty window at `start`.
    pub fn new(
        engine: &Engine<S>,
        lane: Lane,
        window: Window,
        start: Lsn,
        traces: bool,
    ) -> Result<Self, Error> {
        let reader = reader_at(engine, start)?;
        let (again, next, carried) = (VecDeque::new(), VecDeque::new(), Carried::default());
        Ok(Self { lane, window, position: start, again, next, carried, traces, reader })
    }

    /// Whether everything that it sealed was handed over.
    pub fn has_handed_over(&self) -> bool {
        self.again.is_empty() && self.next.is_empty()
    }

    /// Reads what is durable into the window.
    pub fn read(&mut self, engine: &Engine<S>, config: &SinkConfig) -> Result<Read, Error> {
        for _ in 0..READ_MAX {
            let at = self.position;
            let Some(record) = self.reader.next().map_err(|source| Error::Log { at, source })?
            else {
                self.position = self.reader.position();
                return Ok(Read::All);
            };
            let absorbed = self.window.absorb(&record, config, engine)?;
            if absorbed == Absorbed::Full {
                self.position = record.lsn;
                self.reader = reader_at(engine, self.position)?;
                return Ok(Read::Full);
            }
            self.carried.take(&record, absorbed, config.domain, self.traces);
            self.position = record.end;
        }
        Ok(Read::More)
    }
}

fn reader_at<S: Storage>(engine: &Engine<S>, at: Lsn) -> Result<Reader<S>, Error> {
    engine.log().reader(at).map_err(|source| Error::Log { at, source })
}
