//! Why an attempt ended before there was an answer to judge.

use std::time::Duration;

use crate::{
    config::Unrendered,
    delivery::{Effect, Outcome},
};

/// See the module.
#[derive(Debug)]
pub(super) enum Fault {
    /// Not now.
    Failed { reason: String, retry_after: Option<Duration>, effect: Effect },
    /// The partner, or the server that gives tokens, refuses us.
    Denied { status: u16, retry_after: Option<Duration> },
    /// The content can't be sent like this; nothing was sent.
    Unfit(String),
    /// The part must not be sent again; nothing was sent.
    Withheld(String),
}

impl Fault {
    /// Nothing was sent.
    pub fn none(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), retry_after: None, effect: Effect::None }
    }

    /// Nobody knows.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), retry_after: None, effect: Effect::Unknown }
    }
}

impl From<Fault> for Outcome {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Failed { reason, retry_after, effect } => {
                Self::Failed { reason, retry_after, effect }
            }
            Fault::Denied { status, retry_after } => Self::Denied { status, retry_after },
            Fault::Unfit(answer) => Self::Refused { status: 0, rejected: Vec::new(), answer },
            Fault::Withheld(reason) => Self::Withheld { reason },
        }
    }
}

/// What is too large is the content's matter: its halves are smaller. A template that does not fit is
/// the configuration's: nothing is set aside for it, the sink waits until it is put right.
impl From<Unrendered> for Fault {
    fn from(unrendered: Unrendered) -> Self {
        match unrendered {
            Unrendered::TooLarge { .. } | Unrendered::Content(_) => {
                Self::Unfit(unrendered.to_string())
            }
            Unrendered::Wrong(_) => Self::none(format!("the connector's template: {unrendered}")),
        }
    }
}
