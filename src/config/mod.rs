//! The configuration.

mod sink;

pub use sink::*;
