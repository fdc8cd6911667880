//! Posts to a fixed address, for what is no sink's: alerts and spans. As with sinks, no redirect is
//! followed, no proxy of the environment used, a certificate always checked; an attempt ends in time.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    HeaderMap, Method,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use reqwest::Url;

use super::{
    auth::{basic, user_info},
    fault::Fault,
    http::built,
    wire::Wire,
};

/// So much of an answer is read.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// See the module.
pub struct Post {
    wire: Wire,
    url: Url,
    own: HeaderMap,
    timeout: Duration,
}

/// Why something was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotTaken {
    /// What happened; no secrets in it.
    pub reason: String,
    /// Whether another attempt may do.
    pub again: bool,
}

impl Post {
    /// To a URL, with the name and password that stand in it, of bodies that are JSON.
    ///
    /// # Errors
    /// What is wrong with the URL or with the certificates of this machine.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, String> {
        let mut url = Url::parse(url).map_err(|e| format!("url: {e}"))?;
        let mut own = HeaderMap::new();
        own.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if !url.username().is_empty() || url.password().is_some() {
            let (user, password) = user_info(&url);
            own.insert(AUTHORIZATION, basic(&user, &password)?);
            let cleared = url.set_username("").and_then(|()| url.set_password(None));
            cleared.map_err(|()| "url: can't be called".to_owned())?;
        }
        let wire = Wire::new(url.scheme() == "https", None, timeout)?;
        Ok(Self { wire, url, own, timeout })
    }

    /// Makes one attempt.
    ///
    /// # Errors
    /// If it was not taken.
    pub async fn send(
        &self,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<(), NotTaken> {
        let exchange = async {
            let mut all = self.own.clone();
            for (name, value) in headers {
                let value = HeaderValue::from_str(value)
                    .map_err(|_| Fault::none(format!("{name}: its value is not visible ASCII")))?;
                all.insert(HeaderName::from_static(name), value);
            }
            let request = built(Method::POST, &self.url, all, body)?;
            self.wire.exchange(request, ANSWER_BYTES_MAX).await
        };
        let again = true;
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(Ok(answer)) => judged(answer.status),
            Ok(Err(Fault::Failed { reason, .. })) => Err(NotTaken { reason, again }),
            Ok(Err(other)) => Err(NotTaken { reason: format!("{other:?}"), again }),
            Err(_) => {
                let reason = format!("no answer within {} ms", self.timeout.as_millis());
                Err(NotTaken { reason, again })
            }
        }
    }
}

fn judged(status: u16) -> Result<(), NotTaken> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    let again = matches!(status, 408 | 425 | 429 | 500..);
    Err(NotTaken { reason: format!("answered {status}"), again })
}
