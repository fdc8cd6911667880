//! A gate that speaks TLS and lets what it hears through to a port, with a certificate that has expired or
//! with one that has not.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// See the module; shut when dropped.
pub struct Gate {
    address: SocketAddr,
    expired: Arc<AtomicBool>,
    folder: tempfile::TempDir,
    server: JoinHandle<()>,
}

/// What shows a certificate for `localhost` that is good until a year begins, and the certificate.
fn acceptor(until: i32) -> (TlsAcceptor, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![cert.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
    (TlsAcceptor::from(Arc::new(config)), cert.pem())
}

impl Gate {
    /// One before a port, with a certificate that is good.
    pub async fn open(behind: SocketAddr) -> Self {
        let (old, old_pem) = acceptor(2021);
        let (new, new_pem) = acceptor(2099);
        let folder = tempfile::tempdir().unwrap();
        // Both are trusted: it is the time alone that makes the difference.
        std::fs::write(folder.path().join("ca.pem"), old_pem + &new_pem).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let expired = Arc::new(AtomicBool::new(false));
        let shown = expired.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor =
                    if shown.load(Ordering::Relaxed) { old.clone() } else { new.clone() };
                tokio::spawn(async move {
                    // Who does not trust it leaves.
                    let Ok(mut inner) = acceptor.accept(stream).await else { return };
                    let mut outer = TcpStream::connect(behind).await.unwrap();
                    drop(copy_bidirectional(&mut inner, &mut outer).await);
                });
            }
        });
        Self { address, expired, folder, server }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/", self.address.port())
    }

    /// The file with the certificates.
    pub fn trusted(&self) -> PathBuf {
        Path::new(self.folder.path()).join("ca.pem")
    }

    pub fn shows_the_expired(&self, expired: bool) {
        self.expired.store(expired, Ordering::Relaxed);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.server.abort();
    }
}
