//! The binary protocol, against a real engine and over real sockets: that it says what the HTTP
//! contract says, that nothing is told before it is durable, and that bad callers harm nobody.

#[path = "../common/mod.rs"]
mod common;

mod bytes;
mod hostile;
mod operations;
mod promises;
mod support;
