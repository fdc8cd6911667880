//! Rehearsal: the arrivals of a recorded log, played against another server, faster if need be: last year's
//! sale at four times the pace.
//!
//! What it promises:
//!
//! - What was granted in the record is asked for again: reservations, releases, changes, extensions,
//!   commits, orders, with their lines and customers, at the recorded distances divided by the speed. A
//!   request counts from the instant that this gives it, whatever keeps it. (Records tell the time to the
//!   millisecond: what was granted in one is due at once.)
//! - What follows a reservation is asked of the one that the server now gave, after it has answered what
//!   came before. Keys and orders are named after the run, so that a log can be played as often as one
//!   likes.
//! - Memory does not grow with the log: it is read as it is played, and what is kept are the holds that
//!   are open ([`HELD_MAX`] at most, else it ends with an error), and a sum a SKU.
//! - Afterwards what the server granted is compared with its ledger, SKU by SKU.
//!
//! What was refused, what was sent twice, and what is not a shopper's (stock that changed during the
//! sale, shipments, the server's own expiries) is not played, and is told.

mod body;
mod errand;
mod names;
mod play;
mod read;
mod stock;
mod told;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use holdfast::wal;

pub use read::Summary;

use crate::{
    plan::Plan,
    run::{Books, Progress, Run},
    scenario::{self, Scenario},
    schedule::Schedule,
    target::{self, Asker},
    trial::{self, Trial},
};
use play::Played;

/// Holds that are open at once, at most.
pub const HELD_MAX: usize = 4_000_000;
/// Arrivals that are read ahead.
const AHEAD: usize = 4_096;

/// Why a log can't be played.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log can't be read.
    #[error("the log in {}: {source}; it must be the data directory of a stopped server", path.display())]
    Log {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        source: wal::Error,
    },
    /// A record can't be read.
    #[error("the log in {}: {reason}", path.display())]
    Record {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Its begin is gone.
    #[error(
        "the log in {} begins at {begin}, since what was before has been recycled: SKUs are named and \
         stocked there. Record with a `log.budget_bytes` that keeps the whole sale", path.display()
    )]
    Recycled {
        /// Its folder.
        path: PathBuf,
        /// Where it begins.
        begin: u64,
    },
    /// Nothing in it can be played.
    #[error("the log in {} has no reservation and no order", path.display())]
    Empty {
        /// Its folder.
        path: PathBuf,
    },
    /// Too many holds, or requests that wait for one.
    #[error(
        "more than {HELD_MAX} holds or requests would be open at once: play a shorter log, or slower"
    )]
    TooMany,
    /// The server.
    #[error(transparent)]
    Target(#[from] target::Error),
    /// What a run is made of.
    #[error(transparent)]
    Trial(#[from] trial::Error),
    /// The scenario that a replay is told as.
    #[error(transparent)]
    Scenario(#[from] scenario::Error),
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How a log is played.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory of a server that has stopped.
    pub log: PathBuf,
    /// How many times as fast.
    pub speed: f64,
    /// Whether the server's stock is left as it is.
    pub keep_stock: bool,
}

/// A replay that has been carried out.
pub struct Replay {
    /// As any run: what was measured, and the audit.
    pub trial: Trial,
    /// What stands in the log.
    pub summary: Summary,
    /// Arrivals that were not sent, since the server had not granted what they are about.
    pub skipped: u64,
}

/// The scenario that a replay is told as; it says how requests are sent.
///
/// # Errors
/// Never for a folder whose name can be printed.
pub fn scenario(log: &Path, speed: f64, connections: u32) -> Result<Scenario, scenario::Error> {
    let about = format!("The arrivals of {} at {speed} times their pace", log.display());
    let text = format!(
        "about = {about:?}\n[[stages]]\nshape = \"steady\"\nrate = 1\nfor_s = 1\n\
         [sending]\nconnections = {connections}\n"
    );
    Scenario::parse("replay", &text, Path::new("."))
}

/// Plays a log against a server.
///
/// # Errors
/// If the log can't be read or the server can't be reached. Books that differ are no error: they are in
/// what comes out.
pub fn replay(
    options: &Options,
    scenario: &Scenario,
    asker: &Asker,
    progress: &Progress,
) -> Result<Replay, Error> {
    let summary = read::summary(&options.log)?;
    if !options.keep_stock {
        stock::set(asker, &summary)?;
    }
    let before = stock::ledger(asker, &summary)?;
    let run = trial::run_name();
    let (send, arrivals) = mpsc::sync_channel(AHEAD);
    let length = summary.length_ns(options.speed);
    let played: Played = thread::scope(|scope| {
        let reading = thread::Builder::new().name("reading".to_owned());
        let reader = read::Reader::new(options, &run, send);
        let reading = reading.spawn_scoped(scope, move || reader.read());
        let reading = reading.map_err(|source| Error::Io { what: "starting a thread", source })?;
        let played = play::play(asker, &scenario.sending, (&run, length), arrivals, progress);
        let read = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // What stopped the reader is the reason why there was no more to play.
        read.and(played)
    })?;
    let after = stock::ledger(asker, &summary)?;
    let checks = told::checks(&played.told, &summary, &before, &after);
    let schedule = Schedule { instants: Vec::new(), end: length };
    let run = Run {
        recording: played.recording,
        books: Books::default(),
        warm_up: 0,
        elapsed: played.elapsed,
        cpu: played.cpu,
    };
    let mut trial = Trial {
        target: format!("holdfast over HTTP/1.1, {} connections", scenario.sending.connections),
        planned: summary.arrivals,
        verdicts: Vec::new(),
        void: run.is_void(&scenario.sending),
        plan: Arc::new(Plan::of_schedule(scenario, schedule, "replay")),
        run,
        checks,
        delivery: None,
    };
    trial.add_delivery(asker)?;
    Ok(Replay { trial, summary, skipped: played.skipped })
}
