//! The engine.
mod refusal;
pub use refusal::Refusal;
