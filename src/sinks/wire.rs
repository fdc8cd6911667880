//! One exchange by HTTP or HTTPS, and nothing beyond: no redirect is followed, no proxy of the
//! environment used, a certificate is always checked, and of an answer only so much read as is wanted.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, Response, body::Incoming, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::Value;

use super::{fault::Fault, rules};
use crate::{config::Heard, delivery::Effect};

/// What speaks HTTP.
#[derive(Clone)]
pub(super) struct Wire {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// An answer, as far as it was read.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// The body as text, as far as it was read; what is no UTF-8 is replaced.
    pub text: String,
    /// The body, if all of it was read and is JSON.
    pub json: Option<Value>,
    /// Why nobody knows what it says: it is longer than what is read, compressed, or broken JSON. What is
    /// empty or is no JSON, such as a page, says nothing, and that is known.
    pub unread: Option<String>,
}

impl Answer {
    /// An answer of which at most so much is read.
    pub fn new(status: u16, headers: HeaderMap, mut body: Vec<u8>, bytes_max: u64) -> Self {
        let most = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let cut = body.len() > most;
        body.truncate(most);
        let text = String::from_utf8(body)
            .unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned());
        let compressed = headers.get(header::CONTENT_ENCODING).and_then(|name| name.to_str().ok());
        let compressed = compressed.filter(|name| !name.eq_ignore_ascii_case("identity"));
        let (json, unread) = match compressed {
            _ if cut => (None, Some(format!("it is longer than {bytes_max} bytes"))),
            Some(name) if !text.is_empty() => (None, Some(format!("it is compressed ({name})"))),
            _ => match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
                Ok(json) => (Some(json), None),
                Err(e) => (None, looks_like_json(&text).then(|| format!("it is broken JSON: {e}"))),
            },
        };
        Self { status, headers, text, json, unread }
    }

    /// What rules look at.
    pub fn heard(&self) -> Heard<'_> {
        Heard { status: self.status, json: self.json.as_ref(), text: &self.text }
    }

    /// When it wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
        rules::retry_after(value, SystemTime::now(), rules::date_of(&self.headers))
    }
}

impl Wire {
    /// A client that trusts the system's certificates and those of a file.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn new(secure: bool, ca_file: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("url: no TLS: {e}"))?
            .with_root_certificates(trusted(secure, ca_file)?)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        // Earlier than the whole attempt: who was never reached has taken nothing.
        http.set_connect_timeout(Some(timeout * 3 / 4));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(16)
            .build(connector);
        Ok(Self { client })
    }

    /// Sends a request and reads at most so much of the answer. One that breaks off is no answer,
    /// whatever its status.
    pub async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: u64,
    ) -> Result<Answer, Fault> {
        let response = self.client.request(request).await.map_err(|e| broken(&e))?;
        read(response, bytes_max).await
    }
}

fn trusted(secure: bool, ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    if !secure {
        return Ok(store);
    }
    let system = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(system.certs);
    if let Some(path) = ca_file {
        let wrong = |e: String| format!("connector.ca_file: {}: {e}", path.display());
        let certs = CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))?;
        for cert in certs {
            let cert = cert.map_err(|e| wrong(e.to_string()))?;
            store.add(cert).map_err(|e| wrong(e.to_string()))?;
        }
    }
    match store.is_empty() {
        true => {
            Err("url: no certificate is trusted here, so that https:// can't be checked; install \
                     the system's (ca-certificates) or give a `connector.ca_file`"
                .into())
        }
        false => Ok(store),
    }
}

/// Reads until there is more than is wanted, which is then known to be cut.
async fn read(response: Response<Incoming>, bytes_max: u64) -> Result<Answer, Fault> {
    let (head, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    while body.len() as u64 <= bytes_max {
        let Some(frame) = incoming.frame().await else { break };
        let frame = frame.map_err(|e| Fault::unknown(causes(&e)))?;
        body.extend_from_slice(frame.data_ref().map_or(&[], |chunk| chunk));
    }
    Ok(Answer::new(head.status.as_u16(), head.headers, body, bytes_max))
}

/// Whether a text begins as an object or a list does.
fn looks_like_json(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim_start().starts_with(['{', '['])
}

fn broken(error: &Error) -> Fault {
    // A partner that was not reached has taken nothing; an expired certificate is found then.
    let effect = if error.is_connect() { Effect::None } else { Effect::Unknown };
    Fault::Failed { reason: causes(error), retry_after: None, effect }
}

/// An error and what led to it. None of it repeats the URL, which may carry a password.
fn causes(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        told = format!("{told}: {cause}");
        source = cause.source();
    }
    told
}
