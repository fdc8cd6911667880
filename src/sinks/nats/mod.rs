//! A [`Partner`] that is a stream of NATS JetStream: every event of a batch becomes a message, with the
//! event's id as `Nats-Msg-Id`.
//!
//! It promises that a part is done only when the server has acknowledged every event of it; that events are
//! published in their order on one connection, and that a connection which broke is never continued in the
//! middle; that an attempt ends within the configured time; and that no secret is printed. The server stores
//! an id once within the stream's duplicate window. What is repeated later than that is stored again, with
//! the same id: consumers that must not see it twice keep ids for longer.

mod identity;
mod session;

use std::{error::Error as _, path::PathBuf, sync::Arc, time::Duration};

use async_nats::{
    ServerAddr,
    jetstream::{
        self, ErrorCode,
        context::{PublishAckFuture, PublishError, PublishErrorKind},
        message::PublishMessage,
    },
};
use reqwest::Url;
use tokio::sync::Mutex;

use self::{identity::Identity, session::Session};
use super::{
    cloud_events::{CloudEvent, events_of},
    fault::Fault,
    secrets::Secrets,
};
use crate::{
    config::{Dedupe, SinkConfig, SubjectTemplate},
    delivery::{Effect, Outcome, Part, Partner, Sending},
    feed::Rejected,
};

/// The type of one CloudEvent in structured mode (CloudEvents 1.0, NATS protocol binding, section 3.2).
const CLOUD_EVENT: &str = "application/cloudevents+json";
/// The longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 1_000;

/// What a session is made from.
struct Settings {
    server: ServerAddr,
    identity: Identity,
    ca_file: Option<PathBuf>,
    stream: Option<String>,
    duplicate_window_min: Duration,
    timeout: Duration,
}

/// See the module.
pub struct NatsPartner {
    settings: Settings,
    subject: SubjectTemplate,
    dedupe: Dedupe,
    secrets: Secrets,
    session: Mutex<Option<Arc<Session>>>,
}

/// What became of a part's events.
#[derive(Default)]
struct Tally {
    stored: usize,
    rejected: Vec<Rejected>,
    /// The first event that was not taken now, and why.
    failed: Option<String>,
}

/// Why the rest of a part's answers is not waited for.
enum Broken {
    /// The connection, or the server's patience.
    Unknown(String),
    /// The server doesn't let us.
    Denied,
}

impl NatsPartner {
    /// A connector for a checked configuration.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn new(config: &SinkConfig) -> Result<Self, String> {
        let mut url = Url::parse(&config.url).map_err(|e| format!("url: {e}"))?;
        let identity = Identity::read(&url, &config.stream)?;
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| "url: can't be called".to_owned())?;
        let subject = SubjectTemplate::parse(&config.stream.subject)
            .map_err(|e| format!("stream.subject: {e}"))?;
        Ok(Self {
            subject,
            dedupe: config.dedupe,
            secrets: Secrets::of_texts(&identity.secrets()),
            settings: Settings {
                server: ServerAddr::from_url(url).map_err(|e| format!("url: {e}"))?,
                identity,
                ca_file: config.stream.ca_file.clone(),
                stream: config.stream.stream.clone(),
                duplicate_window_min: Duration::from_millis(config.stream.duplicate_window_ms_min),
                timeout: Duration::from_millis(config.timeout_ms),
            },
            session: Mutex::new(None),
        })
    }

    async fn attempt(&self, part: &Part) -> Outcome {
        let outcome = self.deliver(part).await.unwrap_or_else(Outcome::from);
        self.secrets.struck_from(outcome, None, REASON_CHARS_MAX)
    }

    async fn deliver(&self, part: &Part) -> Result<Outcome, Fault> {
        if part.uncertain && self.dedupe == Dedupe::None {
            return Err(Fault::unknown(
                "an earlier attempt may have had its effect, and the receiver is said to recognise no \
                 repeats: not sent again",
            ));
        }
        let events = events_of(&part.body).map_err(Fault::Unfit)?;
        let ends = tokio::time::Instant::now() + self.settings.timeout;
        let late = || format!("no answer within {} ms", self.settings.timeout.as_millis());
        let session = tokio::time::timeout_at(ends, self.session()).await;
        let session = session.map_err(|_| Fault::none(late()))??;
        let mut tally = Tally::default();
        let published = self.publish(&session, &events, &mut tally);
        let published = tokio::time::timeout_at(ends, published).await;
        match published.unwrap_or_else(|_| Err(Broken::Unknown(late()))) {
            Ok(()) => Ok(tally.outcome()),
            Err(broken) => {
                self.forget(&session).await;
                Err(match broken {
                    Broken::Unknown(reason) => Fault::unknown(reason),
                    Broken::Denied => Fault::Denied { status: 403, retry_after: None },
                })
            }
        }
    }

    /// The session, a new one if the last is broken.
    async fn session(&self) -> Result<Arc<Session>, Fault> {
        let mut kept = self.session.lock().await;
        if let Some(session) = kept.as_ref().filter(|session| session.stands()) {
            return Ok(session.clone());
        }
        *kept = None;
        let session = Arc::new(Session::open(&self.settings).await?);
        *kept = Some(session.clone());
        Ok(session)
    }

    /// Drops a session: whatever still waits in it is not to be followed by anything.
    async fn forget(&self, session: &Arc<Session>) {
        let mut kept = self.session.lock().await;
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, session)) {
            *kept = None;
        }
    }

    /// Publishes all events, and then hears of each.
    async fn publish(
        &self,
        session: &Session,
        events: &[CloudEvent],
        tally: &mut Tally,
    ) -> Result<(), Broken> {
        let mut complaint = session.complaint.clone();
        complaint.mark_unchanged();
        let mut answers = Vec::with_capacity(events.len());
        for event in events {
            let subject = self.subject.render(&event.name, &event.subject);
            match session.jetstream.send_publish(subject, self.message(event)).await {
                Ok(answer) => answers.push((event, answer)),
                Err(error) => tally.note(event, &error)?,
            }
        }
        for (event, answer) in answers {
            tokio::select! {
                heard = heard(answer) => match heard {
                    Ok(()) => tally.stored += 1,
                    Err(error) => tally.note(event, &error)?,
                },
                said = denied(&mut complaint) => return Err(said),
            }
        }
        Ok(())
    }

    fn message(&self, event: &CloudEvent) -> PublishMessage {
        let message = PublishMessage::build()
            .payload(event.bytes.clone())
            .message_id(&event.id)
            .header("content-type", CLOUD_EVENT);
        match &self.settings.stream {
            Some(stream) => message.expected_stream(stream),
            None => message,
        }
    }
}

/// The server has an event, now or since an earlier attempt (`duplicate`): either way it is there.
async fn heard(answer: PublishAckFuture) -> Result<(), PublishError> {
    answer.await.map(|_| ())
}

/// Waits until the server complains that we may not publish; it answers nothing else then.
async fn denied(complaint: &mut tokio::sync::watch::Receiver<Option<String>>) -> Broken {
    loop {
        if complaint.changed().await.is_err() {
            // Nobody will complain: the answers themselves tell that the connection is gone.
            return std::future::pending().await;
        }
        let said = complaint.borrow_and_update().clone().unwrap_or_default().to_lowercase();
        if said.contains("permissions violation") || said.contains("authorization") {
            return Broken::Denied;
        }
    }
}

impl Tally {
    /// An event was not stored.
    fn note(&mut self, event: &CloudEvent, error: &PublishError) -> Result<(), Broken> {
        let reason = match error.kind() {
            PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
                return Err(Broken::Unknown(format!("the NATS server did not answer: {error}")));
            }
            PublishErrorKind::MaxPayloadExceeded => return self.reject(event, error.to_string()),
            PublishErrorKind::StreamNotFound => "no stream of the server takes its subject, or \
                                                 JetStream is not ready (no responders)"
                .to_owned(),
            _ => match error.source().and_then(|e| e.downcast_ref::<jetstream::Error>()) {
                Some(said) => match said.error_code() {
                    ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM
                    | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
                        return self.reject(event, said.to_string());
                    }
                    _ => format!("the NATS server says: {said}"),
                },
                // The message never left: its channel is gone with the connection.
                None => return Err(Broken::Unknown(format!("the connection broke: {error}"))),
            },
        };
        self.failed.get_or_insert_with(|| format!("event {}: {reason}", event.id));
        Ok(())
    }

    fn reject(&mut self, event: &CloudEvent, reason: String) -> Result<(), Broken> {
        self.rejected.push(Rejected { line_id: event.id.clone(), reason });
        Ok(())
    }

    fn outcome(self) -> Outcome {
        if let Some(reason) = self.failed {
            let effect = if self.stored == 0 { Effect::None } else { Effect::Unknown };
            return Outcome::Failed { reason, retry_after: None, effect };
        }
        if self.stored == 0 && !self.rejected.is_empty() {
            let answer = self.rejected[0].reason.clone();
            return Outcome::Refused { status: 413, rejected: self.rejected, answer };
        }
        Outcome::Done { status: 200, rejected: self.rejected }
    }
}

impl Partner for NatsPartner {
    fn send<'a>(&'a self, part: &'a Part) -> Sending<'a> {
        Box::pin(self.attempt(part))
    }
}
