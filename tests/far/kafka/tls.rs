//! A broker that is spoken to by TLS: what comes is passed on to it without.

use std::{path::Path, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::broker::{Broker, TOPIC};

/// See the module.
pub struct Server {
    pub broker: Broker,
    pub port: u16,
}

/// One with this certificate.
pub async fn server(cert: &Path, key: &Path) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certs = CertificateDer::pem_file_iter(cert).unwrap().map(Result::unwrap).collect();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certs, PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broker = Broker::start_behind(inner, port, &[]).await;
    broker.create(TOPIC, 3);
    let (acceptor, to) = (TlsAcceptor::from(Arc::new(config)), broker.port);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Server { broker, port }
}
