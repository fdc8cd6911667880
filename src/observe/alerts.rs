//! Alerts on their way to whoever gets them: posted one after the other in the order in which they were
//! raised, signed as Standard Webhooks are, each under an id that its repeats have too.
//!
//! Those that wait are bounded; beyond, the oldest is dropped, since the newest says how things stand.
//! One that is not taken is tried again, after waits that double from a second to a minute; after as many
//! attempts as may be, or where the answer is that it never will be taken, it is given up.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::{Error, alert::AlertBody, conditions::Change, stopped};
use crate::{
    config,
    model::{Timestamp, signature::Signer},
    sinks::Post,
    telemetry::{AlertCounts, Observed},
};

/// The longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// An alert that waits.
#[derive(Debug, Clone)]
struct Alert {
    id: String,
    body: Bytes,
}

/// See the module.
pub(super) struct Alarms {
    post: Post,
    signer: Option<Signer>,
    attempts_max: u32,
    queue_max: usize,
    waiting: Mutex<VecDeque<Alert>>,
    raised: Notify,
    observed: Arc<Observed>,
}

impl Alarms {
    /// As configured; nothing where nobody is to be told.
    pub fn new(
        config: &config::Alerts,
        secret: &str,
        observed: &Arc<Observed>,
    ) -> Result<Option<Self>, Error> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let wrong = |key| move |reason: String| Error::Config { key, reason };
        let timeout = Duration::from_millis(config.timeout_ms);
        let signer = (!secret.is_empty()).then(|| Signer::new(secret)).transpose();
        Ok(Some(Self {
            post: Post::new(&config.url, timeout).map_err(wrong("alerts.url"))?,
            signer: signer.map_err(|e| wrong("alerts.secret")(e.to_string()))?,
            attempts_max: config.attempts_max,
            queue_max: config.queue_max as usize,
            waiting: Mutex::default(),
            raised: Notify::new(),
            observed: observed.clone(),
        }))
    }

    fn counts(&self) -> &AlertCounts {
        &self.observed.alerts
    }

    /// Something has changed.
    pub fn raise(&self, change: Change, at: Timestamp) {
        let Change { alert, subject, state, previous, detail } = &change;
        let alert = alert.as_str();
        tracing::warn!(alert, subject, state, previous, detail, "an alert");
        let mut body = Vec::new();
        // A body of texts can't fail to be written.
        let _ = serde_json::to_writer(&mut body, &AlertBody::new(&change, at));
        // Without randomness the time tells them apart.
        let id = format!("alert-{:016x}", getrandom::u64().unwrap_or(at.millis()));
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.queue_max {
            waiting.pop_front();
            self.counts().dropped.fetch_add(1, Relaxed);
        }
        waiting.push_back(Alert { id, body: body.into() });
        drop(waiting);
        self.raised.notify_one();
    }

    /// Sends what is raised, until it is stopped; then each that waits is tried once.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            let next = self.waiting.lock().pop_front();
            let Some(alert) = next else {
                if *stop.borrow() {
                    return;
                }
                tokio::select! {
                    () = self.raised.notified() => continue,
                    () = stopped(&mut stop) => continue,
                }
            };
            let sent = self.deliver(&alert, &mut stop).await;
            let count = if sent { &self.counts().sent } else { &self.counts().failed };
            count.fetch_add(1, Relaxed);
        }
    }

    /// Whether it was taken in the end.
    async fn deliver(&self, alert: &Alert, stop: &mut watch::Receiver<bool>) -> bool {
        let mut wait = Duration::from_secs(1);
        for attempt in 1..=self.attempts_max {
            let Err(not_taken) = self.attempt(alert).await else { return true };
            let last = attempt == self.attempts_max || !not_taken.again || *stop.borrow();
            let reason = &not_taken.reason;
            tracing::warn!(alert = alert.id, attempt, %reason, last, "an alert was not taken");
            if last {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopped(stop) => {}
            }
            wait = (wait * 2).min(WAIT_MAX);
        }
        false
    }

    async fn attempt(&self, alert: &Alert) -> Result<(), crate::sinks::NotTaken> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signed = self.signer.as_ref().map(|s| s.sign(&alert.id, now_s, &alert.body));
        let second = now_s.to_string();
        let mut headers =
            vec![("webhook-id", alert.id.as_str()), ("webhook-timestamp", second.as_str())];
        headers.extend(signed.as_deref().map(|signature| ("webhook-signature", signature)));
        self.post.send(&headers, alert.body.clone()).await
    }
}
