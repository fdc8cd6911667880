//! The generic HTTP connector: one POST a batch.
//!
//! It promises that an attempt ends within the configured time, reads at most 64 KiB of an answer,
//! follows no redirect, uses no proxy of the environment, and sends the sealed bytes as they are.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{
    Client, Response, Url,
    header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};

use super::judge;
use crate::{
    config::SinkConfig,
    delivery::{Effect, Outcome, Part, Partner, Sending},
    model::signature::Signer,
};

/// The most of an answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A partner that takes batches by HTTP.
pub struct HttpPartner {
    client: Client,
    url: Url,
    headers: HeaderMap,
    signer: Option<Signer>,
}

impl HttpPartner {
    /// A connector for a checked configuration.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn new(config: &SinkConfig) -> Result<Self, String> {
        let url = Url::parse(&config.url).map_err(|e| format!("url: {e}"))?;
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(Duration::from_millis(config.timeout_ms))
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|e| format!("url: no client for it: {}", e.without_url()))?;
        let signer = config.signing_secret.as_deref().map(Signer::new).transpose();
        let signer = signer.map_err(|e| format!("signing_secret: {e}"))?;
        Ok(Self { client, url, headers: headers(config)?, signer })
    }

    async fn post(&self, part: &Part) -> Outcome {
        let id = part.id.as_str();
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut request = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .header("content-type", "application/json")
            .header("idempotency-key", id)
            .header("webhook-id", id)
            .header("webhook-timestamp", second);
        if let Some(signer) = &self.signer {
            request = request.header("webhook-signature", signer.sign(id, second, &part.body));
        }
        match request.body(part.body.clone()).send().await {
            Ok(response) => hear(response, now).await,
            Err(error) => broken(error),
        }
    }
}

impl Partner for HttpPartner {
    fn send<'a>(&'a self, part: &'a Part) -> Sending<'a> {
        Box::pin(self.post(part))
    }
}

fn headers(config: &SinkConfig) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let wrong = || format!("headers.{name}: is no header");
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

/// Reads an answer. One that breaks off is no answer, whatever its status: the batch is sent again,
/// and its id tells the partner so.
async fn hear(mut response: Response, now: SystemTime) -> Outcome {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| judge::retry_after(value, now));
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = ANSWER_BYTES_MAX - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() >= room {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => return broken(error),
        }
    }
    judge::judge(status, retry_after, &body)
}

/// The URL may carry a password, so it is not repeated.
fn broken(error: reqwest::Error) -> Outcome {
    let error = error.without_url();
    // A partner that was not reached has taken nothing.
    let effect = if error.is_connect() { Effect::None } else { Effect::Unknown };
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    Outcome::Failed { reason, retry_after: None, effect }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
