//! What is tested: a reservation service, and the ways to reach it.
//!
//! A [`Target`] is prepared before a run and asked for its ledger after it. Each sending thread has a
//! [`Link`] of its own, which never blocks longer than it is told and never waits for a turn: it takes a
//! request or says that it has no room. A new kind of target is one file that implements both.

mod ask;
mod batch;
mod binary;
mod http1;
mod http2;
mod in_process;
mod reactor;
mod speech;
pub(crate) mod wire;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

pub use ask::Asker;
pub use batch::Batch;
pub use binary::Binary;
pub use http1::Http1;
pub(crate) use http1::open as open_wire;
pub use http2::Http2;
pub use in_process::InProcess;
pub(crate) use reactor::Reactor;
pub(crate) use speech::said;

use crate::plan::{Plan, Step, Visit};

/// Why a target can't be tested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL is none that can be used.
    #[error("the target `{url}` {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What it must be.
        reason: &'static str,
    },
    /// It can't be reached.
    #[error("{what} {address}: {source}; is it running?")]
    Unreachable {
        /// What was being done.
        what: &'static str,
        /// Where.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It said something else than was asked for.
    #[error("{what} was answered {status}: {body}")]
    Refused {
        /// What was asked.
        what: String,
        /// The status.
        status: u16,
        /// The begin of the answer.
        body: String,
    },
    /// Its answer can't be read.
    #[error("the answer to {what} can't be read: {reason}")]
    Garbled {
        /// What was asked.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The engine in this process.
    #[error("the engine: {0}")]
    Engine(String),
    /// A server of another make, or what was asked of it.
    #[error("{name}: {reason}")]
    Peer {
        /// Which.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    fn io(what: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// The time that a run goes by: nanoseconds since the clock was made, on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since its begin.
    pub fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    /// Nanoseconds since its begin at an instant; 0 before it.
    pub fn at(&self, instant: Instant) -> u64 {
        // 584 years fit.
        instant.saturating_duration_since(self.0).as_nanos() as u64
    }
}

/// Bytes of the longest name of a reservation.
const NAME_BYTES_MAX: usize = 47;

/// What a target calls a reservation: opaque text, held without an allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReservationName {
    length: u8,
    bytes: [u8; NAME_BYTES_MAX],
}

impl ReservationName {
    /// A name; `None` if it is empty or longer than 47 bytes, which no target's are.
    pub fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        let length = u8::try_from(text.len()).ok().filter(|length| *length > 0)?;
        Some(Self { length, bytes })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// A number that stands for it: two different names have the same one by chance alone, once in
    /// 2^64. Never 0.
    pub fn digest(&self) -> u64 {
        // FNV-1a, then mixed, since names of neighbours differ in few bits.
        let mut hash = 0xCBF2_9CE4_8422_2325u64;
        for byte in self.as_bytes() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        hash = (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (hash ^ (hash >> 29)).max(1)
    }
}

impl fmt::Debug for ReservationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// A request to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Whose.
    pub visit: &'a Visit,
    /// What it asks for.
    pub step: Step,
    /// The reservation that it is about: there for a commit and a release.
    pub reservation: Option<&'a ReservationName>,
}

/// What a target said to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Done: held, ordered, committed or released.
    Granted {
        /// The reservation, where the answer names it.
        reservation: Option<ReservationName>,
    },
    /// Too little is left.
    SoldOut,
    /// Refused by another rule of the house: a purchase limit, a state.
    Refused,
    /// Turned away for load; nothing was changed.
    Shed,
    /// It made nothing of the request (a 4xx); nothing was changed.
    Invalid,
    /// An error: what became of the request is not known.
    Failed,
    /// The connection broke: what became of the request is not known.
    Broken,
}

/// An answer that came in.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// The request's ticket.
    pub ticket: u32,
    /// When it was read, by the run's clock.
    pub at: u64,
    /// What it says.
    pub said: Said,
}

/// Whether a request was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a request that was not taken must be offered again"]
pub enum Sent {
    /// It is on its way.
    Taken,
    /// There is no room now; offer it again after the next poll.
    Full,
}

/// One thread's way to a target: made and used by that thread.
pub trait Link {
    /// Sends a request, if there is room. Never blocks. `ticket` names it in its answer; no two requests
    /// under way have the same, and none is `u32::MAX`.
    fn send(&mut self, ticket: u32, request: &Request<'_>) -> Sent;

    /// Waits for answers, for about `wait` at most, and adds those that are there.
    fn poll(&mut self, wait: Duration, answers: &mut Vec<Answer>);

    /// Gives a request up: no answer to it is told any more, and its room is free again.
    fn abandon(&mut self, ticket: u32);
}

/// What a ledger says of a SKU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SkuLedger {
    /// Units that can still be had.
    pub available: i64,
    /// Units held.
    pub held: i64,
    /// Units sold.
    pub committed: i64,
}

/// What a target's ledger says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Units that the target itself says were sold beyond the stock.
    pub oversold: u64,
    /// By number of the SKU.
    pub skus: Vec<SkuLedger>,
}

/// A reservation service.
pub trait Target: Send + Sync {
    /// What it is called in reports.
    fn name(&self) -> String;

    /// Whether it knows orders: else shoppers hold, and what they would pay for stays held.
    fn sells(&self) -> bool {
        true
    }

    /// Stocks the plan's catalogue, so that each SKU has exactly the plan's units available, whatever
    /// was there before.
    ///
    /// # Errors
    /// If it can't be reached or refuses.
    fn prepare(&self, plan: &Plan) -> Result<(), Error>;

    /// A way to it for the sending thread with this number of so many.
    ///
    /// # Errors
    /// If it can't be reached.
    fn link(&self, plan: &Arc<Plan>, clock: Clock, sender: u32) -> Result<Box<dyn Link>, Error>;

    /// What its ledger says of the plan's catalogue now.
    ///
    /// # Errors
    /// If it can't be reached or refuses.
    fn ledger(&self, plan: &Plan) -> Result<Ledger, Error>;
}

/// The share of a number that one of so many threads has: the first ones have the rest.
pub(crate) fn share_of(count: u32, senders: u32, sender: u32) -> u32 {
    (count / senders.max(1) + u32::from(sender < count % senders.max(1))).max(1)
}
