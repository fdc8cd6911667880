//! The HTTP server: the contract's routes over an [`Engine`](crate::engine::Engine), version 1.
//!
//! Promises: every body, header, line, wait and number of requests has a limit ([`Options`]); every
//! error is a problem of RFC 9457 with a code of [`codes`]; nothing a caller sends makes it panic or
//! answer 5xx without a reason that lies with the server. A decision is made in one synchronous
//! call; a caller who goes away drops only the wait for its answer, never half a decision.
//!
//! It speaks HTTP/1.1, and HTTP/2 to a client that begins with it (prior knowledge, RFC 9113 section
//! 3.3) or agrees on it by TLS, where that is spoken ([`Tls`]). What isn't HTTP at all (a head that can't be parsed) is answered with a bare
//! 400 and the connection closed, before any of this is reached.
//!
//! ```no_run
//! # async fn run(engine: holdfast::engine::Engine) -> Result<(), holdfast::api::Error> {
//! let options = holdfast::api::Options::default();
//! let listener = tokio::net::TcpListener::bind(options.listen).await.expect("the port is free");
//! let state = holdfast::api::State::new(options);
//! state.ready(engine, std::sync::Arc::new(holdfast::api::NoSinks));
//! holdfast::api::serve(listener, state, std::future::pending()).await
//! # }
//! ```

mod access;
mod answer;
mod backup;
mod batch;
pub mod codes;
mod configuration;
mod dead_letters;
mod directory;
mod front;
mod hook_message;
mod hooks;
mod import;
mod json;
mod latency;
mod live;
mod meter;
mod metrics;
mod openapi;
mod openapi_rules;
mod operations;
mod options;
mod order_events;
mod orders;
mod pages;
mod parked;
mod parked_events;
mod partner_operations;
mod partners;
mod pass;
mod priority;
mod problem;
mod reconcile;
mod request;
mod reservations;
mod router;
mod schemas;
mod scopes;
mod server;
mod service_levels;
mod sink_operations;
mod spans;
mod stages;
mod state;
mod stock;
mod strict;
mod tls;
mod trace;

pub use hook_message::{TriedMessage, try_message};
pub use openapi::document as openapi;
pub use options::Options;
pub use partners::{Hook, Partner, PartnerError, Partners};
pub use pass::Pass;
pub use problem::Problem;
pub use router::{router, served};
pub use schemas::published as schemas;
pub use scopes::scopes;
pub use server::{Error, serve};
pub use state::{Configuring, NoSinks, Reconciling, Sinks, State, Wishing};
pub use tls::{Tls, TlsError, TlsOptions};
