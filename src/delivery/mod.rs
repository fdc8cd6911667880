//! Delivery: sealed batches brought to partners, each until its fate is known.
//!
//! # What it promises
//!
//! - Batches of a lane go out in the order of their seals, which survives retries, unless the sink's policy
//!   asks for no order. The most urgent lane goes first: a critical batch waits for what is under way.
//! - A batch is tried until the partner has it or refuses its content. Attempts are unlimited, their
//!   rate is not: waits grow with full jitter, `Retry-After` is obeyed by all lanes, repeats have a budget,
//!   `rate_per_s` counts every attempt, the number under way adapts to the partner, and after failures in a
//!   row a circuit breaker leaves it alone.
//! - A backlog is brought a little faster than it arrived.
//! - A partner that refuses us (credentials, address) pauses the sink and is asked again slowly; no
//!   content is set aside for it. One that refuses everything of many batches in a row is left alone until
//!   an operator resumes the sink.
//! - Refused content is halved down to the bad lines, as far as the partner's way to recognise repeats
//!   allows; these are set aside as letters and the rest is delivered. How far that has come is durable
//!   before a half leaves.
//! - Every wait ends when the sink is stopped.
//!
//! # Where it is
//!
//! `task` is the loop of a sink; what may go when is decided by small state machines that know no network
//! and are given the time: `lanes`, `recovery`, `breaker`, `concurrency`, `budget`, `rate`, `retry`. What is
//! still to be sent of a batch is a `bisect::Plan`, over a body taken apart by `parts`.
//!
//! Delivery knows no protocol: what speaks to a partner is a [`Partner`], made in
//! [`sinks`](crate::sinks). It writes no log: fates go to the sink's feed, which does.

mod bisect;
mod breaker;
mod budget;
mod change;
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
mod running;
mod task;
#[cfg(test)]
mod testing;
mod trace;

pub(crate) use bisect::never_sent;
pub use change::Change;
pub(crate) use change::Turn;
pub use handle::{Handle, start, start_traced};
pub use partner::{Effect, Outcome, Part, Partner, Sending};
pub use retry::RETRY_AFTER_MAX;
pub use trace::traceparent;

use crate::{config::Domain, engine, feed, model::worth::Recognition};

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
    /// A sink that broke and went is to come back, and the log does not say how it is.
    #[error("sink `{sink}` broke, and what the log says of it can't be read: {source}")]
    Unknown {
        /// The sink's name.
        sink: String,
        /// Why.
        source: engine::Error,
    },
    /// A sink is to go on as something else.
    #[error(
        "sink `{sink}`: domain: it was `{}`, and what it sealed and how far it is say nothing of another; \
         give the sink of another domain another name",
        .had.as_str()
    )]
    OtherDomain {
        /// The sink's name.
        sink: String,
        /// What it was.
        had: Domain,
    },
    /// A finance sink is to go on with other books.
    #[error(
        "sink `{sink}`: recognition: it was `{}`; orders that are open would have their revenue booked twice or \
         never. Keep it, or give the sink another name and a ledger that begins with it",
        .had.as_str()
    )]
    OtherRecognition {
        /// The sink's name.
        sink: String,
        /// What it was.
        had: Recognition,
    },
    /// A sink that is to be started anew does not run.
    #[error("sink `{0}` does not run")]
    Gone(String),
    /// Sinks that were not done in time.
    #[error("not done in time: {}", .0.join(", "))]
    Timeout(Vec<String>),
}
