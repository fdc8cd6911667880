//! The command line, as who types it sees it, and the server as a process. One binary, since linking
//! each of these alone would take longer than running them.

#[path = "../cli/mod.rs"]
mod cli;
#[allow(dead_code, reason = "here it does not lie")]
#[path = "../far_reconcile/erp.rs"]
mod erp;
#[path = "../far_common/mod.rs"]
mod far_common;

mod commands;
mod demo;
mod export;
mod gateway;
mod kill;
mod kill_steps;
mod latency;
mod live;
mod mended;
mod operate;
mod parked;
mod partners;
mod past;
mod readme;
mod secrets;
