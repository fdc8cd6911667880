//! The feed: the durable log, read once for each sink and summed up into batches.
//!
//! # What it promises
//!
//! - It reads only what is durable on disk, whatever the `ack` level (law 2), and needs nothing but
//!   the log: an order's record carries the order.
//! - **Seal before send.** A batch is a [`Seal`](crate::model::event::Seal) record first, and leaves
//!   the house after that record is durable, byte for byte as sealed (law 4). After a crash the same
//!   bytes go out under the same id.
//! - **Nothing is lost and nothing is summed up twice.** A seal says where the sink's next window
//!   begins (`covers_lsn`), in the same record that fixes the sums. What was read and not sealed is
//!   simply read again. Every seal stands by itself: a window is closed before it grows beyond what
//!   one record of the log can hold, so there is no batch in several parts that a crash could cut.
//! - **Bounded.** A window holds one line for each distinct key, however long it is open, and at
//!   most `lines_max` lines and `batch_bytes_max` bytes. When a record would not fit and the sink has
//!   no room, the feed stops reading for that sink: what waits stays in the log.
//! - **One sink's trouble stays its own** (law 6): each has its own thread and place in the log.
//! - A hold that was released or expired reaches nobody.
//!
//! One thread for each sink does all of its reading and writing of the log ([`worker`]); what it and
//! the delivery tell each other stands in [`Progress`].

mod batch;
mod behind;
pub mod books;
mod carried;
mod causal;
pub mod contract;
mod entry;
mod fate;
mod filter;
mod finance;
pub mod folding;
mod fulfilment;
mod grant;
mod inventory;
mod lane;
mod lookup;
mod mend;
pub mod outstanding;
mod parked;
mod progress;
mod render;
mod replay;
mod seal;
mod stream;
#[cfg(test)]
mod test_records;
pub mod told;
mod view;
mod window;
pub mod worker;

pub use batch::{Batch, BatchId, Rejected};
pub use carried::Carried;
pub use fate::Fate;
pub use progress::{Asks, Condition, Pace, PanicGuard, Progress};

use crate::{
    model::{Lsn, event, posting},
    wal,
};

/// Why a sink's feed stopped. The sink is `broken` then; the others go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log stopped, after a failed sync for example; everything stops with it.
    #[error("the log has stopped: {0}")]
    Poisoned(#[from] wal::Poisoned),
    /// The log was closed.
    #[error("the log was closed before the sink was stopped")]
    Closed,
    /// The log can't be read.
    #[error("the log can't be read at {at}: {source}")]
    Log {
        /// Where.
        at: Lsn,
        /// What the log says.
        source: wal::Error,
    },
    /// A record is not what its header says.
    #[error(transparent)]
    Undecodable(#[from] event::Undecodable),
    /// A record names a position that no record defined.
    #[error("the record at {lsn} names position {position}, which nothing defines")]
    UnknownPosition {
        /// The record.
        lsn: Lsn,
        /// The position's number.
        position: u32,
    },
    /// A record names a SKU that no record defined.
    #[error("the record at {lsn} names SKU number {sku_number}, which nothing defines")]
    UnknownSku {
        /// The record.
        lsn: Lsn,
        /// The SKU's number.
        sku_number: u32,
    },
    /// Something happened to an order that was never placed.
    #[error("the record at {lsn} belongs to an order that was never placed")]
    UnknownOrder {
        /// The record.
        lsn: Lsn,
    },
    /// A record can't be booked; nothing of it was posted.
    #[error(transparent)]
    Posting(#[from] posting::Error),
    /// A seal that was not acknowledged reads differently from how it was written.
    #[error("the seal at {lsn} is damaged or not the one expected: {what}")]
    WrongSeal {
        /// The seal's record.
        lsn: Lsn,
        /// What is wrong.
        what: &'static str,
    },
    /// The log no longer has what the sink has not got yet.
    #[error(
        "the log begins at {oldest} but the sink was served only up to {needed}; rename the sink \
         to start it anew, after its partner's figures were corrected by hand"
    )]
    Gone {
        /// Where the log begins.
        oldest: Lsn,
        /// Where the sink's next window begins.
        needed: Lsn,
    },
    /// A batch could not be rendered.
    #[error("a batch can't be rendered: {0}")]
    Render(#[from] serde_json::Error),
    /// A batch is too large for one record of the log.
    #[error(
        "a seal of {bytes} bytes has no place in a record of the log, which takes {bytes_max}; \
         raise the log's largest record"
    )]
    TooLarge {
        /// The size of the seal.
        bytes: usize,
        /// The largest record.
        bytes_max: usize,
    },
}
