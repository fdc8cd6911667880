//! A real NATS server with a store of its own, and a proxy before it that loses answers.

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    ConnectOptions,
    jetstream::{self, stream::Config},
};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A server, killed at the end.
pub struct Nats {
    folder: tempfile::TempDir,
    pub port: u16,
    child: Child,
    user: std::sync::Mutex<String>,
}

/// A message of the stream.
pub struct Stored {
    pub id: String,
    pub subject: String,
    pub content_type: String,
    pub payload: Bytes,
}

impl Stored {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

impl Nats {
    /// Starts one; `more` stands in its configuration.
    pub async fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let store = folder.path().join("store");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?}, max_file: 256MB }}\n{more}\n"
        );
        std::fs::write(folder.path().join("nats.conf"), text).unwrap();
        let child = run(&folder);
        let nats = Self { folder, port, child, user: std::sync::Mutex::default() };
        nats.until_up().await;
        nats
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Makes the stream `SHOP` of everything under `holdfast.`.
    pub async fn create(&self, config: Config) {
        create(&self.client().await, config).await;
    }

    /// The same where one has to show credentials.
    pub async fn create_with(&self, credentials: &str, config: Config) {
        let options = ConnectOptions::with_credentials(credentials).unwrap();
        create(&jetstream::new(options.connect(self.url()).await.unwrap()), config).await;
    }

    /// The same where one has to say who one is: `user:password`, or a token.
    pub async fn create_as(&self, user: &str, config: Config) {
        user.clone_into(&mut self.user.lock().unwrap());
        self.create(config).await;
    }

    /// All messages of the stream, in its order.
    pub async fn stored(&self) -> Vec<Stored> {
        let mut stream = self.client().await.get_stream("SHOP").await.unwrap();
        let last = stream.info().await.unwrap().state.last_sequence;
        let mut stored = Vec::new();
        for sequence in 1..=last {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let header = |name: &str| message.headers.get(name).unwrap().to_string();
            stored.push(Stored {
                id: header("Nats-Msg-Id"),
                content_type: header("content-type"),
                subject: message.subject.to_string(),
                payload: message.payload,
            });
        }
        stored
    }

    async fn client(&self) -> jetstream::Context {
        let user = self.user.lock().unwrap().clone();
        let options = match user.split_once(':') {
            Some((user, password)) => {
                ConnectOptions::with_user_and_password(user.into(), password.into())
            }
            None if user.is_empty() => ConnectOptions::new(),
            None => ConnectOptions::with_token(user),
        };
        jetstream::new(options.connect(self.url()).await.unwrap())
    }

    /// At once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with the same store.
    pub async fn restart(&mut self) {
        self.child = run(&self.folder);
        self.until_up().await;
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    async fn until_up(&self) {
        for _ in 0..2_000 {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nats-server did not start");
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn create(jetstream: &jetstream::Context, config: Config) {
    let config = Config { name: "SHOP".into(), subjects: vec!["holdfast.>".into()], ..config };
    jetstream.create_stream(config).await.unwrap();
}

fn run(folder: &tempfile::TempDir) -> Child {
    Command::new("nats-server")
        .arg("-c")
        .arg(folder.path().join("nats.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server, Debian's package of that name")
}

/// Stands between Holdfast and the server.
pub struct Proxy {
    port: u16,
    lose: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
    cut_after: Arc<AtomicU64>,
}

impl Proxy {
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (lose, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (losing, counted) = (lose.clone(), lost.clone());
        let cut_after = Arc::new(AtomicU64::new(u64::MAX));
        let cutting = cut_after.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { continue };
                let faults = (losing.clone(), counted.clone(), cutting.clone());
                tokio::spawn(between(client, server, faults));
            }
        });
        Self { port, lose, lost, cut_after }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// From now on a connection breaks as soon as an event is acknowledged on it.
    pub fn lose_answers(&self, lose: bool) {
        self.lose.store(lose, Ordering::Relaxed);
    }

    /// Once, a connection breaks when so many bytes came over it. Before that nothing is read for a
    /// while, so that what comes behind piles up at the sender.
    pub fn cut_after(&self, bytes: u64) {
        self.cut_after.store(bytes, Ordering::Relaxed);
    }

    /// How many connections broke so.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Passes everything on, until one side ends or an acknowledgement is to be lost.
async fn between(
    client: TcpStream,
    server: TcpStream,
    (lose, lost, cut_after): (Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>),
) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let there = async move {
        let (mut buffer, mut bytes) = (vec![0; 16 << 10], 0);
        loop {
            let n = from_client.read(&mut buffer).await?;
            if n == 0 {
                return Ok::<(), std::io::Error>(());
            }
            to_server.write_all(&buffer[..n]).await?;
            bytes += n as u64;
            if bytes > cut_after.load(Ordering::Relaxed) {
                cut_after.store(u64::MAX, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(300)).await;
                return Ok(());
            }
        }
    };
    let back = async move {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let n = from_server.read(&mut buffer).await?;
            if n == 0 {
                return Ok(());
            }
            // Acknowledgements name the message's place; the answer to a lookup of the stream does not.
            let acknowledges = buffer[..n].windows(6).any(|w| w == b"\"seq\":");
            if acknowledges && lose.load(Ordering::Relaxed) {
                lost.fetch_add(1, Ordering::Relaxed);
                return Ok::<(), std::io::Error>(());
            }
            to_client.write_all(&buffer[..n]).await?;
        }
    };
    tokio::select! { _ = there => (), _ = back => () }
}
