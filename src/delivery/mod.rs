//! Delivery: sealed batches brought to partners, each until its fate is known.
//!
//! # What it promises
//!
//! - One batch after the other, in the order of the seals; order survives retries.
//! - A batch is tried until the partner has it or refuses its content. Attempts are unlimited, their
//!   rate is not: waits grow with full jitter, `Retry-After` is obeyed, `rate_per_s` counts every
//!   attempt.
//! - A partner that refuses us (credentials, address) pauses the sink and is asked again slowly; no
//!   content is set aside for it.
//! - A refused batch is set aside by its acknowledgement record; its seal stays in the log, and the
//!   sink goes on.
//! - Every wait ends when the sink is stopped.
//!
//! Delivery knows no protocol: what speaks to a partner is a [`Partner`], made in
//! [`sinks`](crate::sinks). It writes no log: fates go to the sink's feed, which does.

mod bisect;
mod breaker;
mod budget;
mod concurrency;
mod handle;
mod items;
mod job;
mod lanes;
mod letters;
mod partner;
mod parts;
mod rate;
mod recovery;
mod retry;
mod task;
#[cfg(test)]
mod testing;

pub use handle::{Handle, start};
pub use partner::{Effect, Outcome, Part, Partner, Sending};
pub use retry::RETRY_AFTER_MAX;

use crate::feed;

/// Why delivery could not start or end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A sink's configuration is wrong.
    #[error("sink `{sink}`: {reason}")]
    Config {
        /// The sink's name.
        sink: String,
        /// What is wrong, beginning with the field.
        reason: String,
    },
    /// Two sinks have one name.
    #[error("two sinks are named `{0}`; a name is part of every batch's identity")]
    Twice(String),
    /// A sink's feed can't begin.
    #[error("sink `{sink}`: {source}")]
    Feed {
        /// The sink's name.
        sink: String,
        /// Why.
        source: feed::Error,
    },
    /// No thread for a sink.
    #[error("no thread for sink `{sink}`: {source}")]
    Thread {
        /// The sink's name.
        sink: String,
        /// Why.
        source: std::io::Error,
    },
    /// Sinks that were not done in time.
    #[error("not done in time: {}", .0.join(", "))]
    Timeout(Vec<String>),
}
