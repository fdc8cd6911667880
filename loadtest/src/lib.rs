//! An open-loop load tester of reservation services, Holdfast first of all.
//!
//! What it promises:
//!
//! - Every request's instant is fixed before the run, and its latency counts from there, whenever it
//!   was sent; what was not answered in time, or never sent, is charged rather than dropped. A slow
//!   target can't make itself look better by being asked less.
//! - The tester's own lateness is measured beside, and a run in which it was too late is void.
//! - The same scenario with the same seed is the same plan, down to the bytes of each body.
//! - After every run the books are compared: what shoppers were told, what the ledger says, what the
//!   receivers got. A run whose books differ has failed, however fast it was.
//!
//! The map: `schedule` (when) and `plan` (what) come out of a `scenario`; `run` carries a plan out
//! against a `target` and fills a `recording`; `audit` compares; `report` tells; `ladder` looks for the
//! knee; `server` starts a Holdfast of its own where none is named, and `peer` what `compare` sets
//! beside it; `replay` plays a recorded log.

pub mod audit;
pub mod cli;
pub mod compare;
pub mod dice;
pub mod ladder;
pub mod peer;
pub mod plan;
pub mod recording;
pub mod replay;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod server;
pub mod slo;
pub mod target;
pub mod trial;
