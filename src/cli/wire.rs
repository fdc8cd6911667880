//! One request to a running server, over plain HTTP or by TLS.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Response, body::Incoming};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use reqwest::{
    Method, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// How long the server may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Whom a client trusts, and what it shows, where the server's URL begins with `https://`.
#[derive(Debug, Clone, Default, Args)]
pub struct Tls {
    /// The authorities that are trusted instead of the system's, PEM.
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CA")]
    ca: Option<PathBuf>,
    /// The certificate that is shown to the server, PEM.
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CERTIFICATE", requires = "certificate_key")]
    certificate: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CERTIFICATE_KEY", requires = "certificate")]
    certificate_key: Option<PathBuf>,
}

/// What is asked.
pub struct Request<'a> {
    pub method: Method,
    pub target: &'a Url,
    pub headers: HeaderMap,
    pub body: Option<Body<'a>>,
}

/// What is sent.
pub enum Body<'a> {
    Json(&'a serde_json::Value),
    /// JSON, one a line.
    Lines(Vec<u8>),
}

impl Body<'_> {
    fn parts(self) -> (&'static str, Bytes) {
        match self {
            Self::Json(value) => ("application/json", value.to_string().into()),
            Self::Lines(lines) => ("application/x-ndjson", lines.into()),
        }
    }
}

impl Tls {
    /// Sends a request; the status and the text of the answer, or why there is none.
    pub async fn send(&self, request: Request<'_>) -> Result<(StatusCode, String), String> {
        let answer = async { text(self.begin(request).await?).await };
        in_time(answer).await
    }

    /// Sends a request, and hands over what is answered piece by piece, however long all of it takes; no
    /// piece may take too long. The status and the text of an answer that is no success.
    pub async fn download(
        &self,
        request: Request<'_>,
        each: &mut dyn FnMut(&[u8]) -> Result<(), super::Error>,
    ) -> Result<Result<(), super::Error>, Refused> {
        let mut answer = in_time(self.begin(request)).await.map_err(Refused::Unanswered)?;
        if !answer.status().is_success() {
            let (status, text) = in_time(text(answer)).await.map_err(Refused::Unanswered)?;
            return Err(Refused::Answered(status, text));
        }
        loop {
            let next = async { answer.frame().await.transpose().map_err(|e| causes(&e)) };
            let Some(frame) = in_time(next).await.map_err(Refused::Unanswered)? else {
                return Ok(Ok(()));
            };
            if let Err(error) = frame.into_data().map_or(Ok(()), |piece| each(&piece)) {
                return Ok(Err(error));
            }
        }
    }

    async fn begin(&self, request: Request<'_>) -> Result<Response<Incoming>, String> {
        let config = self.config(request.target.scheme() == "https")?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(config);
        let connector = connector.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
        client.request(built(request)?).await.map_err(|e| causes(&e))
    }

    fn config(&self, is_used: bool) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|e| format!("{}: {e}", path.display()))?;
                }
            }
            None if is_used => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            None => {}
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("no TLS: {e}"))?
            .with_root_certificates(roots);
        let (Some(certificate), Some(key)) = (&self.certificate, &self.certificate_key) else {
            return Ok(builder.with_no_client_auth());
        };
        let secret = PrivateKeyDer::from_pem_file(key);
        let secret = secret.map_err(|_| format!("{}: has no private key in PEM", key.display()))?;
        let shown = builder.with_client_auth_cert(certificates(certificate)?, secret);
        shown.map_err(|e| format!("{}: {e}", certificate.display()))
    }
}

/// Why nothing was downloaded.
pub enum Refused {
    /// There was no answer, or not all of it.
    Unanswered(String),
    /// The answer was another.
    Answered(StatusCode, String),
}

async fn text(answer: Response<Incoming>) -> Result<(StatusCode, String), String> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let bytes = body.map_err(|e| causes(&*e))?.to_bytes();
    Ok((head.status, String::from_utf8_lossy(&bytes).into_owned()))
}

async fn in_time<T>(answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let answered = tokio::time::timeout(TIMEOUT, answer).await;
    answered.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |e: rustls::pki_types::pem::Error| format!("{}: {e}", path.display());
    CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)
}

fn built(request: Request<'_>) -> Result<hyper::Request<Full<Bytes>>, String> {
    let Request { method, target, headers, body } = request;
    let (kind, bytes) = body.map(Body::parts).unzip();
    let mut built = hyper::Request::new(Full::new(bytes.unwrap_or_default()));
    *built.method_mut() = method;
    *built.uri_mut() = target.as_str().parse().map_err(|e| format!("no target: {e}"))?;
    *built.headers_mut() = headers;
    if let Some(kind) = kind {
        built.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    Ok(built)
}

/// An error with every cause.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
