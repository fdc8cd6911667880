//! What is observed, of a real server with real partners: every metric moves by its cause, a promise that
//! is broken is told and so is its mending, a trace leads from a request to the partner's answer, and what
//! ships in `deploy/` fits the server that it is for.

#[path = "../cli/mod.rs"]
mod cli;

mod gateway;
mod kept;
mod metrics;
mod promises;
mod shipped;
mod support;
mod traces;
