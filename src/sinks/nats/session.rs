//! One connection to a NATS server, which is never made again by itself.
//!
//! The client library would connect anew and go on with what waits in its memory; what was lost with the old
//! connection would then be missing in the middle, and be repeated behind what came later. So a broken
//! session stays broken (its second handshake is refused here), everything that waits in it is dropped, and
//! the next attempt makes a new one and begins with its first event again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{
    AuthError, Client, ConnectErrorKind, ConnectOptions, Event,
    connection::State,
    jetstream::{self, context::GetStreamErrorKind},
};
use tokio::sync::watch;

use super::{super::fault::Fault, Settings};

/// See the module.
pub(super) struct Session {
    client: Client,
    pub jetstream: jetstream::Context,
    /// The last that the server complained of, of no message in particular.
    pub complaint: watch::Receiver<Option<String>>,
}

impl Session {
    /// Connects, and looks the stream up if one is named.
    pub async fn open(settings: &Settings) -> Result<Self, Fault> {
        let (said, complaint) = watch::channel(None);
        let said = Arc::new(said);
        let (identity, begun) = (settings.identity.clone(), Arc::new(AtomicBool::new(false)));
        let mut options = ConnectOptions::with_auth_callback(move |nonce| {
            let answer = match begun.swap(true, Ordering::Relaxed) {
                false => identity.answer(&nonce),
                true => Err(AuthError::new("a broken connection is not continued")),
            };
            async move { answer }
        })
        .event_callback(move |event| {
            let said = said.clone();
            async move {
                if let Event::ServerError(error) = event {
                    said.send_replace(Some(error.to_string()));
                }
            }
        })
        .name("holdfast")
        .max_reconnects(1)
        .ignore_discovered_servers()
        // Earlier than the whole attempt: who was never reached has taken nothing.
        .connection_timeout(settings.timeout * 3 / 4)
        .request_timeout(Some(settings.timeout * 2));
        if let Some(path) = &settings.ca_file {
            options = options.add_root_certificates(path.clone());
        }
        let client =
            options.connect(settings.server.clone()).await.map_err(|e| match e.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    Fault::Denied { status: 401, retry_after: None }
                }
                _ => Fault::none(format!("no connection to the NATS server: {e}")),
            })?;
        let jetstream = jetstream::context::ContextBuilder::new()
            // Later than the whole attempt, which alone says when to give up.
            .timeout(settings.timeout * 2)
            // The most events of all parts under way is bounded elsewhere, and lower.
            .max_ack_inflight(1 << 20)
            .build(client.clone());
        let session = Self { client, jetstream, complaint };
        if let Some(name) = &settings.stream {
            session.check_stream(name, settings.duplicate_window_min).await?;
        }
        Ok(session)
    }

    /// Whether it can still be used.
    pub fn stands(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    async fn check_stream(&self, name: &str, window_min: Duration) -> Result<(), Fault> {
        let stream = self.jetstream.get_stream(name).await.map_err(|e| match e.kind() {
            GetStreamErrorKind::JetStream(error) => {
                Fault::none(format!("stream `{name}`: the server says: {error}"))
            }
            _ => Fault::none(format!("stream `{name}` can't be looked up: {e}")),
        })?;
        let window = stream.cached_info().config.duplicate_window;
        if window < window_min {
            return Err(Fault::none(format!(
                "stream `{name}` recognises repeats for {} ms only (its duplicate window); \
                 `stream.duplicate_window_ms_min` is {}",
                window.as_millis(),
                window_min.as_millis()
            )));
        }
        Ok(())
    }
}
