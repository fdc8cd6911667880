//! TLS: with and without certificates of clients, HTTP/1.1 and HTTP/2, files that change, hands that are
//! not shaken.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast::{
    api::{self, NoSinks, Options, Partners, State, Tls, TlsOptions},
    engine::Engine,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    cli::{self, holdfast},
    support::engine_options,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// An authority, its name first.
struct Authority(String, Issuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(pem, Issuer::new(params, key))
    }

    /// A certificate for `localhost` and its key, PEM.
    fn signs(&self) -> [String; 2] {
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        [params.signed_by(&key, &self.1).unwrap().pem(), key.serialize_pem()]
    }
}

/// A folder with the server's files.
fn files(folder: &Path, server: &Authority, clients: Option<&Authority>) -> TlsOptions {
    let path = |name: &str| folder.join(name);
    show(folder, server);
    let client_ca: Option<PathBuf> = clients.map(|clients| {
        fs::write(path("clients.pem"), &clients.0).unwrap();
        path("clients.pem")
    });
    TlsOptions {
        certificate: path("server.pem"),
        key: path("server.key"),
        client_ca,
        handshake_timeout_ms: 400,
        handshakes_max: 4,
    }
}

/// Another certificate for the server.
fn show(folder: &Path, server: &Authority) {
    let [certificate, key] = server.signs();
    fs::write(folder.join("server.pem"), certificate).unwrap();
    fs::write(folder.join("server.key"), key).unwrap();
}

struct Served {
    address: SocketAddr,
    tls: Arc<Tls>,
    task: JoinHandle<Result<(), api::Error>>,
    folder: tempfile::TempDir,
    server: Authority,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(clients: Option<&Authority>) -> Served {
    let (folder, server) = (tempfile::tempdir().unwrap(), Authority::new());
    let tls = Arc::new(Tls::new(files(folder.path(), &server, clients)).unwrap());
    let state = State::with_partners(Options::default(), Partners::default());
    let engine = Engine::open(&folder.path().join("data"), engine_options()).unwrap();
    state.use_tls(tls.clone());
    state.ready(engine, Arc::new(NoSinks));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(api::serve(listener, state, std::future::pending()));
    Served { address, tls, task, folder, server }
}

/// A client that trusts an authority, and shows a certificate if it has one.
fn client(trusted: &str, own: Option<[String; 2]>, alpn: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some([certificate, key]) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn connect(
    address: SocketAddr,
    connector: &TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, TcpStream::connect(address).await?).await
}

/// Asks on an open connection, and reads what there is of the answer.
async fn ask(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let mut answer = vec![0; 16 << 10];
    let bytes = timeout(PATIENCE, stream.read(&mut answer)).await.expect("in time")?;
    Ok(String::from_utf8_lossy(&answer[..bytes]).into_owned())
}

/// The certificate that the other end shows.
fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_and_plain_text_is_not() {
    let s = serve(None).await;
    for alpn in [&["http/1.1"][..], &[]] {
        let mut stream = connect(s.address, &client(&s.server.0, None, alpn)).await.unwrap();
        assert!(ask(&mut stream).await.unwrap().starts_with("HTTP/1.1 200"), "{alpn:?}");
    }
    let stream = connect(s.address, &client(&s.server.0, None, &["h2", "http/1.1"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http_body_util::Empty::<bytes::Bytes>::new();
    let request = axum::http::Request::get("https://localhost/livez").body(request).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    connection.abort();

    let mut plain = TcpStream::connect(s.address).await.unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("it is closed");
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
    let stranger = Authority::new();
    assert!(connect(s.address, &client(&stranger.0, None, &[])).await.is_err());
}

#[tokio::test]
async fn where_clients_must_show_a_certificate_only_those_of_the_authority_are_served() {
    let (clients, strangers) = (Authority::new(), Authority::new());
    let s = serve(Some(&clients)).await;
    for own in [None, Some(strangers.signs())] {
        let connector = client(&s.server.0, own, &[]);
        // In TLS 1.3 a client believes that it is done before the server has looked.
        let refused = match connect(s.address, &connector).await {
            Err(_) => true,
            Ok(mut stream) => ask(&mut stream).await.map_or(true, |said| said.is_empty()),
        };
        assert!(refused);
    }
    let connector = client(&s.server.0, Some(clients.signs()), &[]);
    let mut stream = connect(s.address, &connector).await.unwrap();
    assert!(ask(&mut stream).await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn another_certificate_is_shown_from_then_on_and_a_broken_one_is_not() {
    let s = serve(None).await;
    let connector = client(&s.server.0, None, &[]);
    let mut open = connect(s.address, &connector).await.unwrap();
    let first = shown(&open);
    show(s.folder.path(), &s.server);
    s.tls.reload().unwrap();
    let second = shown(&connect(s.address, &connector).await.unwrap());
    assert_ne!(first, second);
    fs::write(s.folder.path().join("server.key"), "no key at all").unwrap();
    let error = s.tls.reload().unwrap_err().to_string();
    assert!(error.contains("server.key") && error.contains("no private key"), "{error}");
    show(s.folder.path(), &s.server);
    let other = s.server.signs();
    fs::write(s.folder.path().join("server.key"), &other[1]).unwrap();
    assert!(s.tls.reload().is_err(), "the key of another certificate");
    assert_eq!(shown(&connect(s.address, &connector).await.unwrap()), second);
    assert!(ask(&mut open).await.unwrap().starts_with("HTTP/1.1 200"), "what is open goes on");
}

#[tokio::test]
async fn a_hand_that_is_not_shaken_is_let_go_and_holds_up_nobody_for_long() {
    let s = serve(None).await;
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..12 {
        silent.push(TcpStream::connect(s.address).await.unwrap());
    }
    for stream in &mut silent {
        let read = timeout(PATIENCE, stream.read(&mut [0; 8])).await.expect("it is closed");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());
    let mut stream = connect(s.address, &client(&s.server.0, None, &[])).await.unwrap();
    assert!(ask(&mut stream).await.unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn what_can_not_be_used_stops_the_start_and_names_the_file() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Authority::new());
    let options = files(folder.path(), &server, Some(&server));
    let wrong = |change: &dyn Fn(&mut TlsOptions)| {
        let mut options = options.clone();
        change(&mut options);
        Tls::new(options).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(wrong(&|_| {}), "");
    let none = folder.path().join("none.pem");
    assert!(wrong(&|o| o.certificate = none.clone()).contains("none.pem"));
    assert!(wrong(&|o| o.key = o.certificate.clone()).contains("no private key"));
    assert!(wrong(&|o| o.certificate = o.key.clone()).contains("no certificate"));
    assert!(wrong(&|o| o.client_ca = Some(o.key.clone())).contains("no certificate"));
}

#[test]
fn the_binary_speaks_tls_and_reads_its_files_again_on_a_hangup() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Authority::new());
    let options = files(folder.path(), &server, None);
    let config = folder.path().join("holdfast.toml");
    let toml =
        format!("[server.tls]\ncertificate = {:?}\nkey = {:?}\n", options.certificate, options.key);
    fs::write(&config, toml).unwrap();
    let mut serve = holdfast();
    let running =
        cli::Server::start_with(&folder.path().join("data"), serve.env("HOLDFAST_CONFIG", &config));
    let address = running.url.strip_prefix("https://").expect("TLS").parse().unwrap();
    let connector = client(&server.0, None, &[]);
    let show_now = || {
        cli::runtime().block_on(async {
            let mut stream = connect(address, &connector).await.unwrap();
            assert!(ask(&mut stream).await.unwrap().starts_with("HTTP/1.1 200"));
            shown(&stream)
        })
    };
    // The commands speak it too, and trust whom they are told to.
    let url = format!("https://localhost:{}", running.url.rsplit_once(':').expect("a port").1);
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, &server.0).unwrap();
    let list = || {
        let mut list = holdfast();
        list.args(["partner", "list", "--url", &url]);
        list
    };
    cli::run(list().arg("--ca").arg(&ca)).with(0);
    let refused = cli::run(&mut list()).with(3);
    assert!(refused.err.contains("certificate"), "{}", refused.err);
    let rows = folder.path().join("stock.csv");
    fs::write(&rows, "sku,location,on_hand\nTEE-M,BER,7\n").unwrap();
    let import = || {
        let mut import = holdfast();
        import.args(["stock", "import"]).arg(&rows).args(["--url", &url]);
        import
    };
    let said = cli::run(import().arg("--ca").arg(&ca)).with(0);
    assert!(said.out.contains("1 applied, 0 refused"), "{}", said.out);
    let refused = cli::run(&mut import()).with(3);
    assert!(refused.err.contains("certificate"), "{}", refused.err);

    let first = show_now();
    show(folder.path(), &server);
    running.signal("HUP");
    let began = Instant::now();
    while show_now() == first {
        assert!(began.elapsed() < PATIENCE, "the old certificate is shown for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(running.terminate().success());
}
