//! The engine: ledger and log joined under law 1, and the embedder's API.
//!
//! Every operation is one synchronous decision of about a microsecond: it changes memory and the log
//! and never waits for the disk. What it says is sealed in a [`Decision`] until the records that it
//! speaks of are durable: [`Engine::settle`] (async) and [`Engine::settle_blocking`] open it.
//!
//! ```
//! use holdfast::{Engine, Key, Options, model::command::{Reserve, SetStock}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let mut options = Options::default();
//! # options.wal.segment_bytes = 1 << 20;
//! # options.wal.budget_bytes = 64 << 20;
//! # options.wal.delivery_reserve_bytes = 1 << 20;
//! let engine = Engine::open(dir.path(), options)?;
//! let set: SetStock = serde_json::from_str(r#"{"on_hand": 100}"#)?;
//! engine.settle_blocking(engine.set_stock(&"TEE-M".parse()?, &"BER".parse()?, &set))?;
//!
//! let cart: Reserve = serde_json::from_str(r#"{"lines": [{"sku": "TEE-M", "quantity": 2}]}"#)?;
//! let name = "checkout-1".parse()?;
//! let key = Key::new("", &name);
//! let held = engine.settle_blocking(engine.reserve(key, &cart))?;
//! assert_eq!(held.value.lines[0].quantity, 2);
//! assert_eq!(engine.stock(&"TEE-M".parse()?)?.available, 98);
//! # Ok(())
//! # }
//! ```
//!
//! # Order of things
//!
//! *Take before the log, give after the log; cause before effect.* A decision looks its key up, gets
//! a room ticket (the only place where it can be refused for room), takes, builds its record, claims
//! its place in the log, copies, publishes; guards give everything back until the claim, and after it
//! nothing can fail. A reservation is visible only from then on. So every prefix of the log replays
//! to a state in which no reservation has taken a position below zero and nothing was given back
//! that had not been taken; recovery checks it.

mod background;
mod backup;

mod cause;
mod checkpoint;
mod clock;
mod codec;
mod configuration;
mod core;
mod counters;
mod decision;
mod demand;
mod effect;
mod events;
mod fingerprint;
mod fold;
mod hash;
mod life;
mod load;
mod merge;
mod moves;
mod open;
mod options;
mod order;
mod order_view;
mod overview;
mod owed;
mod parked;
mod partners;
mod plan;
mod pricing;
mod read;
mod reckon;
mod refusal;
mod replay;
mod replay_keys;
mod reserve;
mod run;
pub mod say;
mod seals;
mod sink_of_log;
mod status;
mod stock;
mod take;
mod tallies;
mod thing;
mod trace;
mod transition;
mod travel;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
};

use parking_lot::Mutex;

pub use counters::Counters;
pub use decision::{Answer, Decision};
pub use demand::Demand;
pub use hash::Key;
pub use options::Options;
pub use overview::{Overview, Waiting};
pub use parked::ParkedFilter;
pub use read::{Filter, Page};
pub use reckon::{ReckonError, Reckoned};
pub use refusal::Refusal;
pub use status::Status;
pub use trace::TRACE_RECORDS_MAX;
pub use travel::{At, Reach};

use crate::{
    model::{Lsn, Timestamp, event::Undecodable, sink::SinkState},
    wal::{self, FileStorage, Log, Storage},
};
use core::Core;

/// Why an engine can't be opened, or a checkpoint can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log.
    #[error(transparent)]
    Wal(#[from] wal::Error),
    /// The log stopped.
    #[error(transparent)]
    Poisoned(#[from] wal::Poisoned),
    /// A record that this version can't read.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// The log holds more than a configured limit allows.
    #[error("the log holds more than `{what}` allows; raise it")]
    Limit {
        /// The option.
        what: &'static str,
    },
    /// The log says something that can't be: law 1 was broken, or it is not a log of ours.
    #[error("the record at {lsn} names {what}; the log contradicts itself, restore a backup")]
    Inconsistent {
        /// Where.
        lsn: Lsn,
        /// What.
        what: &'static str,
    },
    /// A checkpoint that this version can't read, or of another life of the log.
    #[error("a checkpoint can't be used: {reason}; remove it to replay the log from its begin")]
    Checkpoint {
        /// Why.
        reason: String,
    },
    /// No room for the first record.
    #[error("there is no room for the first record; raise the log's budget")]
    NoRoom,
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

struct Handle<S: Storage> {
    core: Arc<Core<S>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<S: Storage> Handle<S> {
    fn close(&self) -> Result<(), Error> {
        self.core.stopping.store(true, Ordering::Release);
        for thread in self.threads.lock().drain(..) {
            thread.thread().unpark();
            // A thread of ours that panicked has said so already.
            let _ = thread.join();
        }
        Ok(self.core.log.close()?)
    }
}

impl<S: Storage> Drop for Handle<S> {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the log could not be closed in order");
        }
    }
}

/// An engine on its data directory. A handle: clones share it, and the last one that is dropped
/// closes it.
pub struct Engine<S: Storage = FileStorage>(Arc<Handle<S>>);

impl<S: Storage> Clone for Engine<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Storage> std::fmt::Debug for Engine<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("incarnation", &self.log().incarnation())
            .finish_non_exhaustive()
    }
}

impl Engine<FileStorage> {
    /// Opens a data directory, and makes it if need be: reads the newest checkpoint, replays the
    /// log's tail, and starts the engine's threads.
    ///
    /// # Errors
    /// If another process has the directory, the disk can't be read, the log is damaged at or below
    /// its last known durable position, or holds more than the options allow.
    pub fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        Self::open_on(FileStorage::new(dir)?, options)
    }
}

impl<S: Storage> Engine<S> {
    /// Like [`Engine::open`], on another kind of storage.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_on(storage: S, options: Options) -> Result<Self, Error> {
        let core = Arc::new(open::open(storage, options)?);
        let threads = background::start(&core)?;
        Ok(Self(Arc::new(Handle { core, threads: Mutex::new(threads) })))
    }

    fn core(&self) -> &Core<S> {
        &self.0.core
    }

    /// Waits until what a decision speaks of is durable at the configured level, and says it.
    /// Dropping the future drops the wait only: the decision stands.
    ///
    /// # Errors
    /// The decision's refusal; `outcome_unknown` if the log stopped meanwhile.
    pub async fn settle<T>(&self, decision: Decision<T>) -> Result<Answer<T>, Refusal> {
        if let Some(lsn) = decision.behind {
            self.log().wait(lsn).await?;
        }
        decision.outcome
    }

    /// [`Engine::settle`] for threads.
    ///
    /// # Errors
    /// As [`Engine::settle`].
    pub fn settle_blocking<T>(&self, decision: Decision<T>) -> Result<Answer<T>, Refusal> {
        if let Some(lsn) = decision.behind {
            self.log().wait_blocking(lsn)?;
        }
        decision.outcome
    }

    /// The log, for who follows it.
    pub fn log(&self) -> &Log<S> {
        &self.core().log
    }

    /// The time that decisions go by.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.core().now_ms())
    }

    /// Sinks as the log had them when the engine was opened.
    pub fn sink_states(&self) -> HashMap<String, SinkState> {
        self.core().sinks.clone()
    }

    /// Says that a reader still needs the log from a position on; call again to move it up. What
    /// neither a reader nor a checkpoint needs is recycled.
    pub fn hold_log(&self, reader: &str, from: Lsn) {
        self.core().holds.lock().insert(reader.to_owned(), from);
        self.core().release_log();
    }

    /// Says that a reader may need the log from a position on: what it holds already it goes on holding.
    pub(crate) fn keep_log(&self, reader: &str, from: Lsn) {
        let mut holds = self.core().holds.lock();
        let held = holds.entry(reader.to_owned()).or_insert(from);
        *held = from.min(*held);
    }

    /// Says that a reader needs the log no longer.
    pub fn release_hold(&self, reader: &str) {
        self.core().holds.lock().remove(reader);
        self.core().release_log();
    }

    /// The name under which a sink holds the log; its hold is there from the moment the engine is
    /// opened, so that nothing it needs is recycled before it begins.
    pub fn sink_reader(sink: &str) -> String {
        open::sink_reader(sink)
    }

    /// Makes a checkpoint now rather than when one is due.
    ///
    /// # Errors
    /// If the log or the disk refuses.
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.core().make_checkpoint()
    }

    /// Stops the engine's threads and closes the log: everything appended is durable then, and the
    /// next start finds a closing mark. Requests are refused from here on.
    ///
    /// # Errors
    /// If the log had stopped already.
    pub fn close(&self) -> Result<(), Error> {
        self.0.close()
    }
}
