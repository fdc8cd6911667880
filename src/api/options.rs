//! The limits of the server.

use std::net::{Ipv4Addr, SocketAddr};

/// What the server listens on and how much it takes. Times in milliseconds, sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where to listen; without API keys only loopback addresses are served. Default: 127.0.0.1:7411.
    pub listen: SocketAddr,
    /// The largest body of a request but an import; beyond: 413 `too_large`. Default: 1 MiB.
    pub body_bytes_max: usize,
    /// The largest import; beyond, 413 with what was done until then. Default: 1 GiB.
    pub import_bytes_max: u64,
    /// The longest line of an import; a longer one is refused, the rest goes on. Default: 16 KiB.
    pub import_line_bytes_max: usize,
    /// Refused lines an import names; more are only counted. Default: 10,000.
    pub import_refused_max: usize,
    /// The longest an import may take; beyond, 408 with what was done. Default: 600,000 (10 min).
    pub import_timeout_ms: u64,
    /// Headers a request may have; beyond: 431. Default: 64.
    pub headers_max: usize,
    /// Bytes of a request's target and headers together; beyond: 431. Default: 16 KiB.
    pub header_bytes_max: usize,
    /// How long a head may take to arrive, and how long a kept-alive connection may idle; then it
    /// is closed. Default: 60,000.
    pub header_read_timeout_ms: u64,
    /// How long a body may take to arrive (408 beyond: nothing was done), and, from then, how long
    /// an answer may wait for the log (504 `outcome_unknown` beyond). Default: 10,000.
    pub request_timeout_ms: u64,
    /// Whether connections are kept for further requests. Default: true.
    pub keep_alive: bool,
    /// Connections open at once; further ones wait to be accepted. Default: 10,000.
    pub connections_max: usize,
    /// Requests under way at once on one HTTP/2 connection; further ones wait. Default: 250.
    pub streams_max: u32,
    /// Requests under way at once; beyond: 503 `overloaded`. Health, status and metrics are always
    /// answered. Default: 65,536.
    pub in_flight_max: usize,
    /// How long a shutdown waits for what was accepted; then connections are cut. Default: 10,000.
    pub shutdown_grace_ms: u64,
    /// Reservations in one batch; beyond: 400. Default: 1,000.
    pub batch_max: usize,
    /// SKUs asked for at once; beyond: 400. Default: 1,000.
    pub skus_max: usize,
    /// Reservations on one page of a list; also the most `limit` may ask for. Default: 1,000.
    pub page_max: usize,
    /// Streams of `/v1/live` at once; beyond: 503 `overloaded`. Default: 64.
    pub live_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7411)),
            body_bytes_max: 1 << 20,
            import_bytes_max: 1 << 30,
            import_line_bytes_max: 16 << 10,
            import_refused_max: 10_000,
            import_timeout_ms: 600_000,
            headers_max: 64,
            header_bytes_max: 16 << 10,
            header_read_timeout_ms: 60_000,
            request_timeout_ms: 10_000,
            keep_alive: true,
            connections_max: 10_000,
            streams_max: 250,
            in_flight_max: 65_536,
            shutdown_grace_ms: 10_000,
            batch_max: 1_000,
            skus_max: 1_000,
            page_max: 1_000,
            live_max: 64,
        }
    }
}
