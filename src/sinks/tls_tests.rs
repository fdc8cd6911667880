//! HTTPS: what is trusted, and what is said where it is not.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    config::{Domain, Overlay, SinkConfig},
    delivery::{Effect, Outcome, Part, Partner},
    sinks::HttpPartner,
};

/// A server that answers 200 to everything, and the certificate that it shows.
async fn secure(name: &str, until: i32) -> (SocketAddr, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    (address, cert.pem())
}

async fn outcome(address: SocketAddr, trusted: &str) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, trusted).unwrap();
    let url = format!("https://localhost:{}/", address.port());
    let mut config = SinkConfig::new("erp", Domain::Inventory, url);
    config.connector = Overlay::parse(&format!("ca_file = {file:?}")).unwrap();
    config.validate().unwrap();
    let part = Part {
        id: "erp-0001-000001".into(),
        body: "{\"lines\": []}".into(),
        config_version: 0,
        uncertain: false,
    };
    HttpPartner::new(&config, &[]).unwrap().send(&part).await
}

#[tokio::test]
async fn a_certificate_is_trusted_by_its_file_and_checked() {
    let (address, pem) = secure("localhost", 2099).await;
    assert_eq!(outcome(address, &pem).await, Outcome::Done { status: 200, rejected: vec![] });
    let (_, other) = secure("localhost", 2099).await;
    for (name, until, trusted, said) in [
        ("localhost", 2021, None, "expired"),
        ("localhost", 2099, Some(&other), "invalid peer certificate"),
        ("elsewhere.example", 2099, None, "not valid for name"),
    ] {
        let (address, pem) = secure(name, until).await;
        match outcome(address, trusted.unwrap_or(&pem)).await {
            Outcome::Failed { reason, effect, .. } => {
                assert!(reason.contains(said), "{said}: {reason}");
                assert_eq!(effect, Effect::None);
            }
            other => panic!("{said}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_file_without_certificates_is_an_error_with_its_name() {
    let mut config = SinkConfig::new("erp", Domain::Inventory, "https://localhost/");
    config.connector = Overlay::parse("ca_file = \"/nowhere/ca.pem\"").unwrap();
    let error = HttpPartner::new(&config, &[]).err().unwrap();
    assert!(error.starts_with("connector.ca_file: /nowhere/ca.pem: "), "{error}");
}
