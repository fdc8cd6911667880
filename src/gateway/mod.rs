//! The server of the binary protocol: for gateways that hold one connection for many shoppers, over
//! TCP and over a Unix socket. `docs/gateway.md` describes the protocol byte by byte.
//!
//! # What it promises
//!
//! - The same operations, idempotency, partners and codes as the HTTP API: a request that was made
//!   here and is repeated there is a repeat, and the other way round.
//! - No answer leaves before the records that it speaks of are durable at the configured level
//!   (law 2). Refusals that speak of no record (sold out, above all) leave at once, so answers come in
//!   another order than requests; ids match them.
//! - Everything has a limit ([`Options`]), a metric and a behaviour: who sends more than may be under
//!   way, or does not read his answers, is not read from until he does.
//! - Nothing that comes in makes it panic. A body that is no body costs its own request, what can't be
//!   a frame costs its connection, and both are told.
//! - A connection that breaks drops answers, never decisions: who repeats with the same key gets them.
//!
//! # How it is fast
//!
//! A connection is a thread, and everything of it is that thread's own: it reads what has come,
//! decides it request by request with the engine's synchronous calls, and encodes each answer at once
//! behind those that wait (`queue`). Whenever the log's durable mark has moved, the answers that are
//! due leave in one write. One waiter a connection is woken once a group of the log, and no request
//! costs a task, a wake-up or a lock.

mod bell;
mod calls;
mod connection;
mod desk;
mod house;
mod named;
mod options;
mod queue;
mod refusal;
mod server;

pub use house::{Call, Done, Guest, House, NoHouse, Reply};
pub use options::Options;
pub use server::{Error, Handle, Listeners, start};
