//! What delivery asks of a connector, and what it may hear.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::feed::{Batch, Rejected};

/// What one attempt sends: a sealed batch, or a half of one whose content was refused.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its identity: the batch's, and for a half its path (`erp-3f9c-000123.a.b`).
    pub id: String,
    /// The body as it was sealed; of a half, the same head with the half's lines.
    pub body: Bytes,
    /// The version of the configuration that rendered it.
    pub config_version: u64,
    /// Whether an earlier attempt may have had its effect: one broke off without an answer, or was
    /// made in an earlier life of the process.
    pub uncertain: bool,
}

impl Part {
    /// A batch as a whole.
    pub fn whole(batch: &Batch) -> Self {
        Self {
            id: batch.id.to_string(),
            body: batch.body.clone(),
            config_version: batch.config_version,
            uncertain: !batch.fresh,
        }
    }
}

/// A partner that can be exchanged for another while batches are under way: an attempt ends with the one that
/// it began with.
pub(super) struct Exchangeable(RwLock<Arc<dyn Partner>>);

impl Exchangeable {
    /// At first this one.
    pub fn new(partner: Box<dyn Partner>) -> Self {
        Self(RwLock::new(partner.into()))
    }

    /// Attempts that begin from here on are made with this one.
    pub fn exchange(&self, partner: Box<dyn Partner>) {
        *self.0.write() = partner.into();
    }
}

impl Partner for Exchangeable {
    fn send<'a>(&'a self, part: &'a Part) -> Sending<'a> {
        let partner = self.0.read().clone();
        Box::pin(async move { partner.send(part).await })
    }
}

/// One attempt under way.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// What brings batches to a partner.
pub trait Partner: Send + Sync + 'static {
    /// Makes one attempt, in bounded time. Dropping it gives the attempt up; whether it had an
    /// effect is then unknown, as after any broken connection.
    fn send<'a>(&'a self, part: &'a Part) -> Sending<'a>;
}

/// Whether an attempt that failed can have had its effect all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The partner took nothing: it said so, or was never reached.
    None,
    /// Nobody knows: the connection broke, or the answer says nothing of it.
    Unknown,
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
    /// The partner refuses this content, has taken nothing of it, and will refuse it again.
    Refused {
        /// Its status code.
        status: u16,
        /// The lines that it names as the reason; none: it names none.
        rejected: Vec<Rejected>,
        /// What it said, shortened.
        answer: String,
    },
    /// The partner took the content or some of it, and its answer does not say what: it could not be read,
    /// or refuses lines that nobody can tell.
    Unclear {
        /// Its status code.
        status: u16,
        /// What is wrong with the answer, and how that begins; no secrets in it.
        reason: String,
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
        /// Whether it may have taken the content all the same.
        effect: Effect,
    },
    /// Nothing was sent: an earlier attempt may have had its effect, and the receiver would not know the
    /// part again. A person must find out.
    Withheld {
        /// Why.
        reason: String,
    },
}
