//! The gateway: the binary protocol on TCP and on a Unix socket.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::ByteSize;

/// An address to listen on, or none, which is written as an empty text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listen(pub Option<SocketAddr>);

impl FromStr for Listen {
    type Err = std::net::AddrParseError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() { Ok(Self(None)) } else { text.parse().map(|a| Self(Some(a))) }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| address.fmt(f))
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = CompactString::deserialize(deserializer)?;
        let wrong = |_| de::Error::custom("must be an address such as 127.0.0.1:7412, or empty");
        text.parse().map_err(wrong)
    }
}

/// The gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// The TCP address, or none; without API keys (`[[partners]]`) only a loopback one.
    pub listen: Listen,
    /// The path of the Unix socket; empty: none.
    pub socket: PathBuf,
    /// Connections at a time.
    pub connections_max: u32,
    /// The longest frame.
    pub frame_bytes_max: ByteSize,
    /// Requests of a connection that may be under way.
    pub in_flight_max: u32,
    /// Bytes of answers that a connection holds.
    pub answer_bytes_max: ByteSize,
    /// The longest that a hello, or the rest of a frame, may take.
    pub frame_timeout_ms: u64,
    /// The longest that an answer may wait for the log, and for its reader.
    pub answer_timeout_ms: u64,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: Listen(None),
            socket: PathBuf::new(),
            connections_max: 256,
            frame_bytes_max: ByteSize::mib(1),
            in_flight_max: 65_536,
            answer_bytes_max: ByteSize::mib(16),
            frame_timeout_ms: 10_000,
            answer_timeout_ms: 10_000,
        }
    }
}
