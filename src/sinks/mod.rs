//! What speaks to partners: the HTTP connector, and the built-in receivers that
//! stand in for partners in the demo and in tests.
//!
//! [`start`] joins the configured sinks to the delivery.

mod http;
mod judge;
pub mod receiver;

pub use http::HttpPartner;

use tokio::runtime;

use crate::{
    config::SinkConfig,
    delivery::{self, Error, Handle, Partner},
    engine::Engine,
    wal::Storage,
};

/// Checks the sinks' configuration and starts them all, on `runtime` and a thread each.
///
/// # Errors
/// The first sink that is wrong or can't begin; nothing runs then.
pub fn start<S: Storage>(
    engine: &Engine<S>,
    sinks: Vec<SinkConfig>,
    runtime: &runtime::Handle,
) -> Result<Handle, Error> {
    let mut partners = Vec::with_capacity(sinks.len());
    for gone in engine.sink_states().keys().filter(|name| sinks.iter().all(|s| s.name != **name)) {
        tracing::warn!(sink = %gone, "this sink is configured no longer; the log isn't kept for it");
        engine.release_hold(&Engine::<S>::sink_reader(gone));
    }
    for config in sinks {
        let wrong = |reason| Error::Config { sink: config.name.clone(), reason };
        config.validate().map_err(wrong)?;
        let partner = HttpPartner::new(&config).map_err(wrong)?;
        partners.push((config, Box::new(partner) as Box<dyn Partner>));
    }
    delivery::start(engine, partners, runtime)
}
