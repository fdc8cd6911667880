//! Peers and the binary protocol as targets, comparisons, and replays of recorded logs. Redis and
//! PostgreSQL are the real ones: without Debian's `redis-server` and `postgresql` these tests fail.

#[path = "../common/mod.rs"]
mod common;

mod binary;
mod closed;
mod compare;
mod peers;
mod replay;
mod support;
