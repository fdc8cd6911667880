//! What speaks to partners: connectors that are declared rather than written (`presets/` has those of
//! known systems), and the built-in receivers that stand in for partners in the demo and in tests.
//!
//! [`start`] joins the configured sinks to the delivery.

mod auth;
#[cfg(any(feature = "kafka", feature = "nats"))]
mod cloud_events;
mod fault;
mod handshake;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod lookup;
#[cfg(feature = "nats")]
mod nats;
mod post;
pub mod receiver;
pub mod reconcile;
mod rendering;
mod request;
mod rules;
mod secrets;
#[cfg(test)]
mod simulator;
#[cfg(test)]
mod tls_tests;
pub mod trial;
mod wire;

pub use http::HttpPartner;
#[cfg(feature = "kafka")]
pub use kafka::KafkaPartner;
#[cfg(feature = "nats")]
pub use nats::NatsPartner;

pub use post::{NotTaken, Post};

use std::sync::Arc;

use tokio::runtime;

use crate::{
    config::SinkConfig,
    delivery::{self, Error, Handle, Partner},
    engine::Engine,
    telemetry::Spans,
    wal::Storage,
};

/// Checks the sinks' configuration and starts them all, on `runtime` and a thread each, without traces.
///
/// # Errors
/// As [`start_traced`].
pub fn start<S: Storage>(
    engine: &Engine<S>,
    sinks: Vec<SinkConfig>,
    runtime: &runtime::Handle,
) -> Result<Handle, Error> {
    start_traced(engine, sinks, runtime, None)
}

/// Checks the sinks' configuration and starts them all, on `runtime` and a thread each; what they do is
/// told to `spans`, if traces are kept.
///
/// # Errors
/// The first sink that is wrong or can't begin; nothing runs then.
pub fn start_traced<S: Storage>(
    engine: &Engine<S>,
    sinks: Vec<SinkConfig>,
    runtime: &runtime::Handle,
    spans: Option<Arc<Spans>>,
) -> Result<Handle, Error> {
    let mut partners = Vec::with_capacity(sinks.len());
    let states = engine.sink_states();
    for gone in states.keys().filter(|name| sinks.iter().all(|s| s.name != **name)) {
        tracing::warn!(sink = %gone, "this sink is configured no longer; the log isn't kept for it");
        engine.release_hold(&Engine::<S>::sink_reader(gone));
    }
    for config in sinks {
        let wrong = |reason| Error::Config { sink: config.name.clone(), reason };
        config.validate().map_err(wrong)?;
        let earlier = states.get(&config.name).map_or(&[][..], |state| &state.configurations);
        let partner = partner(&config, earlier).map_err(wrong)?;
        let config = config.clone().bounded().map_err(wrong)?;
        partners.push((config, partner));
    }
    delivery::start_traced(engine, partners, runtime, spans)
}

/// Makes what speaks to the partner of a running sink under other settings than those of `before`, by which
/// what is under way was sealed; nothing is changed by it. See [`Handle::reconfigure`].
///
/// # Errors
/// What is wrong, beginning with the field.
pub fn prepare(
    handle: &Handle,
    before: &SinkConfig,
    config: &SinkConfig,
) -> Result<(SinkConfig, Box<dyn Partner>), String> {
    config.validate()?;
    let mut earlier = handle.renderings(&config.name);
    earlier.extend(before.connector()?.shapes().map(|text| (before.render_version(), text)));
    let partner = partner(config, &earlier)?;
    Ok((config.clone().bounded()?, partner))
}

/// What speaks to a sink's partner, as its URL says.
fn partner(config: &SinkConfig, earlier: &[(u64, String)]) -> Result<Box<dyn Partner>, String> {
    #[cfg(feature = "nats")]
    if config.speaks_nats() {
        return Ok(Box::new(NatsPartner::new(config)?));
    }
    #[cfg(feature = "kafka")]
    if config.speaks_kafka() {
        return Ok(Box::new(KafkaPartner::new(config)?));
    }
    Ok(Box::new(HttpPartner::new(config, earlier)?))
}
