//! TLS on the HTTP server: `[server.tls]`. The files are read when the server starts, so that a
//! configuration can be checked where they are not.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// See the module. `certificate` and `key` must be given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The file of the server's certificate and those between it and its authority, PEM. It is read again
    /// when it changes, and on SIGHUP.
    pub certificate: PathBuf,
    /// The file of the certificate's key, PEM.
    pub key: PathBuf,
    /// The file of the authorities of which every client must show a certificate, PEM. Default: none, a
    /// client needs no certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// How long a handshake may take, in milliseconds. Default 10,000.
    #[serde(default = "handshake_timeout_ms")]
    pub handshake_timeout_ms: u64,
    /// Handshakes at once; further ones wait. Default 256.
    #[serde(default = "handshakes_max")]
    pub handshakes_max: u32,
}

const fn handshake_timeout_ms() -> u64 {
    10_000
}

const fn handshakes_max() -> u32 {
    256
}
