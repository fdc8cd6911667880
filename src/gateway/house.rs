//! What the gateway asks of the server around it: who a caller is, and the routes of the HTTP API,
//! for what has no frame of its own.

use std::sync::Arc;

use crate::{
    model::partner::{Barred, Scope},
    telemetry::Spans,
};

/// A call of a route.
#[derive(Debug, Clone)]
pub struct Call {
    /// The API key of the connection; empty where there are none.
    pub api_key: Arc<str>,
    /// `GET`, `PUT`, `POST` or `DELETE`.
    pub method: String,
    /// Path and query, percent-encoded.
    pub path: String,
    /// The idempotency key; may be empty.
    pub key: String,
    /// Whether it is new work that can wait.
    pub can_wait: bool,
    /// The W3C `traceparent` of its caller, if it named one.
    pub traceparent: Option<String>,
    /// The JSON body; may be empty.
    pub body: Vec<u8>,
}

/// What a route answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status of HTTP.
    pub status: u16,
    /// Whether it is the first answer again.
    pub replayed: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// Takes the reply to a call, on any thread.
pub type Done = Box<dyn FnOnce(Reply) + Send>;

/// A caller who was let in, and is asked at each of his requests whether he still may.
pub trait Guest: Send {
    /// Counts a request that needs one of `scopes`.
    ///
    /// # Errors
    /// Why it is not taken.
    fn enter(&mut self, scopes: &'static [Scope]) -> Result<(), Barred>;

    /// So many requests were answered with this status of HTTP, those that were not taken among them.
    fn answered(&self, _status: u16, _count: u64) {}
}

/// One who may do everything.
struct Anyone;

impl Guest for Anyone {
    fn enter(&mut self, _scopes: &'static [Scope]) -> Result<(), Barred> {
        Ok(())
    }
}

/// One who has not said who he is.
pub(super) struct Stranger;

impl Guest for Stranger {
    fn enter(&mut self, _scopes: &'static [Scope]) -> Result<(), Barred> {
        Err(Barred::Unknown)
    }
}

/// The server around the gateway.
pub trait House: Send + Sync {
    /// Whether every connection needs an API key.
    fn needs_keys(&self) -> bool;

    /// The partner with this API key: the scope of its idempotency keys.
    fn partner(&self, api_key: &str) -> Option<Arc<str>>;

    /// Who comes with this API key, to be asked at each request; nobody: he is not let in. A house that
    /// says nothing of it lets everybody do everything.
    fn guest(&self, _api_key: &str) -> Option<Box<dyn Guest>> {
        Some(Box::new(Anyone))
    }

    /// Where spans of requests go; nothing: none are kept.
    fn spans(&self) -> Option<Arc<Spans>> {
        None
    }

    /// Begins a call. Must not wait; `done` is called when the route has answered, which it does in
    /// the time that it has.
    fn call(&self, call: Call, done: Done);
}

/// No server around: no keys are asked for, and no route is there.
pub struct NoHouse;

impl House for NoHouse {
    fn needs_keys(&self) -> bool {
        false
    }

    fn partner(&self, _api_key: &str) -> Option<Arc<str>> {
        None
    }

    fn call(&self, _call: Call, done: Done) {
        done(Reply {
            status: 404,
            replayed: false,
            body: b"{\"code\":\"unknown_route\"}".to_vec(),
        });
    }
}
