//! The limits of the gateway.

use std::{net::SocketAddr, path::PathBuf};

/// Where the gateway listens and how much it takes. Times in milliseconds, sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The TCP address; without API keys only a loopback one. Default: none.
    pub listen: Option<SocketAddr>,
    /// The path of the Unix socket; only the server's own user may connect. Default: none.
    pub socket: Option<PathBuf>,
    /// Connections at a time, each a thread; further ones wait to be accepted. Default: 256.
    pub connections_max: usize,
    /// The longest frame; a longer one ends its connection with `too_large`. Default: 1 MiB.
    pub frame_bytes_max: usize,
    /// Requests of a connection that may be under way; beyond, it is not read from. Default: 65,536.
    pub in_flight_max: usize,
    /// Bytes of answers that a connection holds, for the log or for a slow reader; beyond, it is not
    /// read from. Default: 16 MiB.
    pub answer_bytes_max: usize,
    /// How long a hello, or the rest of a frame that has begun, may take; then the connection is ended
    /// with `request_timeout`. Default: 10,000.
    pub frame_timeout_ms: u64,
    /// How long an answer may wait for the log (then it is `outcome_unknown`) and for its reader (then
    /// the connection is cut). Default: 10,000.
    pub answer_timeout_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: None,
            socket: None,
            connections_max: 256,
            frame_bytes_max: 1 << 20,
            in_flight_max: 65_536,
            answer_bytes_max: 16 << 20,
            frame_timeout_ms: 10_000,
            answer_timeout_ms: 10_000,
        }
    }
}
