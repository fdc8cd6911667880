//! The engine: what it promises, over crashes, under stress, and the faults that were found.

#[path = "../common/mod.rs"]
mod common;

mod crash;
mod known_faults;
mod parked;
mod past;
mod stress;
mod tallies;
