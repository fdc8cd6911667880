//! Peers: what a user would pick instead of Holdfast, made to do the same job with the same durability, so
//! that the two can be compared. `docs/peers.md` says what each does and why that is the same job.
//!
//! What it promises:
//!
//! - A peer is a server of the tester's own, from Debian's package, in a folder that goes with it, on a
//!   Unix socket. A package that is not there is named, and nothing else is run in its stead.
//! - A grant is durable before it is told, a key is one thing however often it is sent, a cart is taken
//!   whole or not at all, a hold runs out, and every change is a row of an outbox, in the transaction that
//!   made it.
//! - After a run what shoppers were told is compared with the peer's ledger and with its outbox.

mod asked;
mod link;
mod outbox;
mod postgres;
mod process;
mod redis;
mod sweeper;

use std::path::{Path, PathBuf};

pub use outbox::Outbox;
pub use postgres::Postgres;
pub use redis::Redis;

use crate::{
    plan::Plan,
    target::{Error as TargetError, Target},
};

/// Why there is no peer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its package is not installed.
    #[error("{program} is not there: install Debian's package `{package}`")]
    Missing {
        /// What was looked for.
        program: String,
        /// What it comes with.
        package: &'static str,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It did not do what it should have.
    #[error("{name} did not {what}: {said}")]
    Server {
        /// Which.
        name: &'static str,
        /// What it should have done.
        what: &'static str,
        /// What it said.
        said: String,
    },
    /// It was asked before or after a run.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// What went wrong with the system while something was done.
fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// A running peer. Dropped, it is ended and its folder goes.
pub trait Peer: Target {
    /// What it has told the outside, from the begin of its life.
    ///
    /// # Errors
    /// If it can't be asked.
    fn outbox(&self) -> Result<Outbox, TargetError>;

    /// Has it stop in order.
    ///
    /// # Errors
    /// If it does not.
    fn stop(&mut self) -> Result<(), Error>;
}

/// Which peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Redis: a script.
    Redis,
    /// PostgreSQL: a function.
    Postgres,
}

impl Kind {
    /// Whether it can be started here.
    ///
    /// # Errors
    /// If its package is not installed.
    pub fn find(self) -> Result<PathBuf, Error> {
        match self {
            Self::Redis => redis::find(),
            Self::Postgres => postgres::find(),
        }
    }

    /// Starts one in a folder in `data` (else the system's for what is temporary), to be reached by so
    /// many connections of so many senders.
    ///
    /// # Errors
    /// If it is missing or does not come up.
    pub fn start(
        self,
        data: Option<&Path>,
        connections: u32,
        senders: u32,
    ) -> Result<Box<dyn Peer>, Error> {
        Ok(match self {
            Self::Redis => Box::new(Redis::start(data, connections, senders)?),
            Self::Postgres => Box::new(Postgres::start(data, connections, senders)?),
        })
    }
}

/// Refuses a catalogue that a peer has no means for, rather than do another job than was meant.
fn check(name: &'static str, plan: &Plan) -> Result<(), TargetError> {
    let catalogue = plan.catalogue();
    let wrong = |reason: &str| Err(TargetError::Peer { name, reason: reason.to_owned() });
    if catalogue.purchase_limit.is_some() {
        return wrong("knows no `catalogue.purchase_limit`: leave it out to compare");
    }
    if catalogue.locations != 1 {
        return wrong("knows one location: set `catalogue.locations` to 1 to compare");
    }
    Ok(())
}
