//! The client of the binary protocol: one connection for many callers.
//!
//! [`Client`] is for threads that ask and wait, or leave a function that is called with the answer;
//! any number of them share it. [`Connection`] is what is under it: requests with ids of one's own,
//! and a [`Handler`] that reads answers in place, without an allocation a request.
//!
//! ```no_run
//! use holdfast::{client::{Client, Options}, model::command::Reserve};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(&"127.0.0.1:7412".parse()?, &Options::default())?;
//! let cart: Reserve = serde_json::from_str(r#"{"lines": [{"sku": "TEE-M", "quantity": 2}]}"#)?;
//! let held = client.reserve(&"checkout-1".parse()?, &cart)?;
//! println!("{} until {:?}", held.value.id, held.value.expires_at);
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - An answer means what it means over HTTP: what it speaks of is durable.
//! - Nothing is repeated behind a caller's back. When the connection breaks, every request that was
//!   under way ends with [`Error::Broken`], and may have been done: make a new connection and repeat it
//!   with the same key.
//! - What waits to be sent is bounded ([`Options::unsent_bytes_max`]); beyond it senders wait until
//!   the server, which reads no more than it lets be under way, has taken some.

mod answer;
mod connection;
mod error;
mod outbox;
mod pending;
mod shared;

pub use answer::{Answer, Granted, Reply, StockSums};
pub use connection::{Address, Connection, Handler, NotAnAddress, Sender};
pub use error::{Error, Problem, ProblemLine};
pub use pending::Pending;
pub use shared::Client;

/// How to connect. Times in milliseconds, sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The partner's API key; empty where the server asks for none. Default: empty.
    pub api_key: String,
    /// How long the server may take to answer the hello. Default: 10,000.
    pub hello_timeout_ms: u64,
    /// The longest answer; a longer one breaks the connection. Default: 64 MiB.
    pub answer_bytes_max: usize,
    /// What may wait to be sent; beyond it, senders wait. Default: 1 MiB.
    pub unsent_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            api_key: String::new(),
            hello_timeout_ms: 10_000,
            answer_bytes_max: 64 << 20,
            unsent_bytes_max: 1 << 20,
        }
    }
}
