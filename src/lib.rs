//! Holdfast reserves stock under a flash sale: a durable, final answer in under a millisecond, never
//! oversold; behind it the aggregated result goes to ERP, warehouse and finance.
//!
//! The map of the house, in the direction in which imports may point:
//! `model <- {wal, ledger} <- engine <- {feed, api, gateway}`, `wal <- feed <- delivery <- sinks`,
//! `model <- protocol <- {gateway, client}`, `{engine, sinks} <- observe`.

pub mod api;
pub mod client;
pub mod config;
pub mod delivery;
pub mod engine;
pub mod feed;
pub mod gateway;
pub mod ledger;
pub mod model;
pub mod observe;
pub mod protocol;
pub mod sinks;
pub mod telemetry;
pub mod wal;

pub use engine::{Answer, Decision, Engine, Error, Key, Options, Refusal, Status};

/// The README's example of embedding, compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
