//! What delivery asks of a connector, and what it may hear.

use std::{future::Future, pin::Pin, time::Duration};

use crate::feed::{Batch, Rejected};

/// One attempt under way.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// What brings a batch to a partner.
pub trait Partner: Send + Sync + 'static {
    /// Makes one attempt, in bounded time. Dropping it gives the attempt up; whether it had an
    /// effect is then unknown, as after any broken connection.
    fn send<'a>(&'a self, batch: &'a Batch) -> Sending<'a>;
}

/// What one attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The partner has it, now or since an earlier attempt.
    Done {
        /// Its status code.
        status: u16,
        /// Lines that it refused while it took the others.
        rejected: Vec<Rejected>,
    },
    /// The partner refuses this content and will again.
    Refused {
        /// Its status code.
        status: u16,
        /// What it said, shortened.
        answer: String,
    },
    /// The partner refuses us, whatever the content: wrong credentials, wrong address.
    Denied {
        /// Its status code.
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// Not now.
    Failed {
        /// What happened; no secrets in it.
        reason: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
}
