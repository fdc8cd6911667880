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
    config::{self, SinkConfig},
    delivery::{self, Change, Error, Handle, Partner, Turn},
    engine::Engine,
    feed::Condition,
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

/// Makes what another set of sinks needs that `handle` is to run in place of `before`; nothing is changed by
/// it. See [`Handle::apply`].
///
/// # Errors
/// The first sink that is wrong or can't begin.
pub fn prepare<S: Storage>(
    engine: &Engine<S>,
    handle: &Handle,
    before: &[SinkConfig],
    after: &[SinkConfig],
) -> Result<Change<S>, Error> {
    let mut change = Change::new(engine, after.iter().map(|sink| sink.name.clone()).collect());
    for config in after {
        let wrong = |reason| Error::Config { sink: config.name.clone(), reason };
        let old = before.iter().find(|old| old.name == config.name);
        let turn = match old {
            Some(old) if old == config => continue,
            Some(old) if !is_broken(handle, old) && config::change::is_in_place(old, config) => {
                Turn::Exchanged
            }
            Some(_) => Turn::Anew,
            None => Turn::Added,
        };
        config.validate().map_err(wrong)?;
        let earlier = renderings(engine, handle, config, old).map_err(wrong)?;
        let partner = partner(config, &earlier).map_err(wrong)?;
        let config = config.clone().bounded().map_err(wrong)?;
        handle.make(&mut change, (config, partner), &turn)?;
    }
    Ok(change)
}

/// Whether nobody is there who could turn to other settings.
fn is_broken(handle: &Handle, sink: &SinkConfig) -> bool {
    let condition = handle.progress(&sink.name).map(|progress| progress.condition());
    matches!(condition, Some(Condition::Broken(_)))
}

/// What rendered the batches of a sink that may go out again; `before` has what is under way now.
fn renderings<S: Storage>(
    engine: &Engine<S>,
    handle: &Handle,
    config: &SinkConfig,
    before: Option<&SinkConfig>,
) -> Result<Vec<(u64, String)>, String> {
    let of_log = || Some(engine.sink_states().remove(&config.name)?.configurations);
    let known = handle.renderings(&config.name).or_else(of_log);
    let mut known = known.unwrap_or_default();
    if let Some(before) = before {
        known.extend(before.connector()?.shapes().map(|text| (before.render_version(), text)));
    }
    Ok(known)
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
