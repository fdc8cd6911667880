//! The HTTP contract, rule by rule, against a real server on a loopback port over a real engine in a
//! temporary directory. Each test is named for the rule that it holds the server to.

mod bodies;
mod common_rules;
mod hooks;
mod hooks_stripe;
mod hostile;
mod http2;
mod idempotency;
mod latency;
mod limits;
mod operations;
mod order_events;
mod orders;
mod parked_events;
mod partners;
mod reservations;
mod soft_mark;
mod stock;
mod stock_import;
mod support;
mod time_travel;
mod traces;
