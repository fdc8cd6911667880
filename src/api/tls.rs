//! TLS on the server's connections: who they are shown, whom they are shown by, and how both are replaced
//! while they are served.
//!
//! - TLS 1.2 and 1.3 by rustls with ring; HTTP/2 or HTTP/1.1 as the two agree (ALPN).
//! - Where a file of certificate authorities is given, a client must show a certificate of one of them.
//! - The files are read at the start, and again when they have changed or on demand; what can't be used is
//!   reported, and what was in use stays. Connections that are open keep what they agreed on.
//! - A handshake has a time, and there are at most so many at once: beyond that they wait for their turn
//!   within the same time, and then the connection is closed.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use parking_lot::{Mutex, RwLock};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A larger file is none of keys or certificates.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How often it is looked whether a file has changed.
const WATCH_PACE: Duration = Duration::from_secs(5);

/// Which files, and the limits of handshakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// The server's certificate and those between it and its authority, PEM.
    pub certificate: PathBuf,
    /// The certificate's key, PEM.
    pub key: PathBuf,
    /// The authorities of which a client must show a certificate, PEM; `None`: it need not.
    pub client_ca: Option<PathBuf>,
    /// How long a handshake may take. Default: 10,000.
    pub handshake_timeout_ms: u64,
    /// Handshakes at once; further ones wait. Default: 256.
    pub handshakes_max: usize,
}

/// Why TLS can't be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it must be.
    #[error("{}: {reason}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What there was to see of the files when they were read.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// See the module.
pub struct Tls {
    options: TlsOptions,
    config: RwLock<Arc<ServerConfig>>,
    stamp: Mutex<Stamp>,
    turns: Semaphore,
    pub(super) counts: TlsCounts,
}

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct TlsCounts {
    pub(super) handshakes: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) reloads: AtomicU64,
    pub(super) reloads_failed: AtomicU64,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Which of them can't be used, and why.
    pub fn new(options: TlsOptions) -> Result<Self, TlsError> {
        let stamp = stamp(&options);
        Ok(Self {
            config: RwLock::new(load(&options)?),
            stamp: Mutex::new(stamp),
            turns: Semaphore::new(options.handshakes_max.clamp(1, Semaphore::MAX_PERMITS)),
            counts: TlsCounts::default(),
            options,
        })
    }

    /// Reads the files again, for connections from now on.
    ///
    /// # Errors
    /// Which of them can't be used, and why; then what was in use stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        *self.stamp.lock() = stamp(&self.options);
        let loaded = load(&self.options);
        let count = if loaded.is_ok() { &self.counts.reloads } else { &self.counts.reloads_failed };
        count.fetch_add(1, Relaxed);
        *self.config.write() = loaded?;
        Ok(())
    }

    /// Reads the files again, and says in the server's log how it went.
    pub fn reload_and_tell(&self) {
        match self.reload() {
            Ok(()) => tracing::info!("the TLS certificate was read again"),
            Err(error) => tracing::error!(%error, "the TLS certificate in use stays"),
        }
    }

    /// Reads the files again whenever they have changed; for ever.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            sleep(WATCH_PACE).await;
            let tls = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                if stamp(&tls.options) != *tls.stamp.lock() {
                    tls.reload_and_tell();
                }
            });
            // A look that panicked was told where it did; the next one is another.
            let _ = looked.await;
        }
    }

    /// Shakes hands; nothing if that came to nothing.
    pub(super) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let shaken = timeout(Duration::from_millis(self.options.handshake_timeout_ms), async {
            let _turn = self.turns.acquire().await.ok()?;
            let acceptor = TlsAcceptor::from(self.config.read().clone());
            let shaken = acceptor.accept(stream).await;
            shaken.inspect_err(|error| tracing::debug!(%error, "no TLS handshake")).ok()
        });
        let shaken = shaken.await.ok().flatten();
        let count = if shaken.is_some() { &self.counts.handshakes } else { &self.counts.failed };
        count.fetch_add(1, Relaxed);
        shaken
    }
}

/// Whether the two agreed on HTTP/2.
pub(super) fn speaks_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

fn stamp(options: &TlsOptions) -> Stamp {
    let seen = |path: &PathBuf| {
        let file = fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len()))
    };
    [&options.certificate, &options.key].into_iter().chain(&options.client_ca).map(seen).collect()
}

fn load(options: &TlsOptions) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |reason: String| TlsError::Content { path, reason }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(&options.certificate)(e.to_string()))?;
    let builder = match &options.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).map_err(|e| wrong(path)(e.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = verifier.build().map_err(|e| wrong(path)(e.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(&read(&options.key)?);
    let key = key.map_err(|_| wrong(&options.key)("has no private key in PEM".to_owned()))?;
    let mut config = builder
        .with_single_cert(certificates(&options.certificate)?, key)
        .map_err(|e| wrong(&options.certificate)(e.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificates of a file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::Content { path: path.to_owned(), reason };
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|e| wrong(e.to_string()))?;
    if found.is_empty() { Err(wrong("has no certificate in PEM".to_owned())) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
