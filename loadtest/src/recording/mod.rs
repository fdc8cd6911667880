//! What a run recorded.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done.
    Granted,
    /// Nothing left.
    SoldOut,
    /// Refused for another reason of the house.
    Refused,
    /// Turned away for load.
    Shed,
    /// An error, or no answer.
    Error,
    /// No answer in time.
    TimedOut,
    /// Never sent.
    Unsent,
}
