//! The far end: what reaches partners, whatever becomes of them and of us. One binary, since linking each
//! of these alone would take longer than running them.

#[path = "../cli/mod.rs"]
mod cli;
#[path = "../far_common/mod.rs"]
mod far_common;

mod bad_partners;
mod books;
mod burst;
mod change;
mod crash;
mod delivery;
mod domains;
mod full;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
mod network;
mod operate;
mod outage;
mod poison;
mod reconcile;
mod steps;
mod trace;
