//! A server on a port of its own, over a real engine in a temporary directory, and a client that says
//! exactly what it is told to: libraries would mend paths, headers and bodies on the way.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use holdfast::{
    api::{self, NoSinks, Options, Partners, Sinks, State},
    engine::{self, Engine, Key},
    wal,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// An engine's options that suit a test.
pub fn engine_options() -> engine::Options {
    engine::Options {
        wal: wal::Options {
            segment_bytes: 1 << 20,
            budget_bytes: 64 << 20,
            ..wal::Options::default()
        },
        positions_max: 4_096,
        reservations_max: 8_192,
        keys_max: 16_384,
        orders_max: 4_096,
        customer_limits_max: 4_096,
        sourcing: vec!["BER".parse().unwrap(), "HAM".parse().unwrap()],
        ..engine::Options::default()
    }
}

pub fn open(dir: &Path) -> Engine {
    Engine::open(dir, engine_options()).unwrap()
}

/// A server under test.
pub struct Server {
    pub address: SocketAddr,
    pub state: State,
    engine: Option<Engine>,
    dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), api::Error>>,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        Self::in_dir(TempDir::new().unwrap(), options, Arc::new(NoSinks)).await
    }

    /// A server over an engine of this test's own.
    pub async fn with_engine(options: engine::Options) -> Self {
        let dir = TempDir::new().unwrap();
        let engine = Engine::open(dir.path(), options).unwrap();
        let mut server = Self::not_ready(dir, Options::default()).await;
        server.state.ready(engine.clone(), Arc::new(NoSinks));
        server.engine = Some(engine);
        server
    }

    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    pub async fn with_sinks(sinks: Arc<dyn Sinks>) -> Self {
        Self::in_dir(TempDir::new().unwrap(), Options::default(), sinks).await
    }

    /// A server that knows these partners.
    pub async fn with_partners(options: Options, partners: Partners) -> Self {
        let state = State::with_partners(options, partners);
        Self::with_state(TempDir::new().unwrap(), state).await
    }

    async fn with_state(dir: TempDir, state: State) -> Self {
        let engine = open(dir.path());
        let mut server = Self::serving(dir, state).await;
        server.state.ready(engine.clone(), Arc::new(NoSinks));
        server.engine = Some(engine);
        server
    }

    async fn in_dir(dir: TempDir, options: Options, sinks: Arc<dyn Sinks>) -> Self {
        let engine = open(dir.path());
        let mut server = Self::not_ready(dir, options).await;
        server.state.ready(engine.clone(), sinks);
        server.engine = Some(engine);
        server
    }

    /// A server whose engine is not open yet.
    pub async fn starting(options: Options) -> Self {
        Self::not_ready(TempDir::new().unwrap(), options).await
    }

    async fn not_ready(dir: TempDir, options: Options) -> Self {
        Self::serving(dir, State::new(options)).await
    }

    async fn serving(dir: TempDir, state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(api::serve(listener, state.clone(), shutdown));
        Self { address, state, engine: None, dir, stop: Some(stop), task }
    }

    /// Tells the server to stop, and doesn't wait.
    pub fn begin_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until the stopped server is done.
    pub async fn stopped(self) -> TempDir {
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
        if let Some(engine) = self.engine {
            engine.close().unwrap();
        }
        self.dir
    }

    /// The same with another one that knows these partners.
    pub async fn restarted_with(mut self, partners: Partners) -> Self {
        self.begin_stop();
        let dir = self.stopped().await;
        Self::with_state(dir, State::with_partners(Options::default(), partners)).await
    }

    /// Stops it and starts another one on the same data.
    pub async fn restarted(mut self) -> Self {
        self.begin_stop();
        let dir = self.stopped().await;
        Self::in_dir(dir, Options::default(), Arc::new(NoSinks)).await
    }

    /// A request: method and target, as they go over the wire.
    pub fn call(&self, line: &str) -> Call {
        Call { address: self.address, line: line.to_owned(), headers: vec![], body: vec![] }
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.call(&format!("GET {target}")).send().await
    }

    pub async fn put(&self, target: &str, body: Value) -> Reply {
        self.call(&format!("PUT {target}")).json(&body).send().await
    }

    pub async fn post(&self, target: &str, key: &str, body: Value) -> Reply {
        self.call(&format!("POST {target}")).key(key).json(&body).send().await
    }

    /// Sets a position at BER.
    pub async fn stock(&self, sku: &str, on_hand: u32) {
        let set = self.put(&format!("/v1/stock/{sku}/BER"), json!({"on_hand": on_hand})).await;
        assert_eq!(set.status, 200, "{set:?}");
    }

    /// Reserves at BER and says the reservation's id.
    pub async fn hold(&self, key: &str, sku: &str, quantity: u32) -> String {
        let body = json!({"lines": [{"sku": sku, "quantity": quantity}]});
        let held = self.post("/v1/reservations", key, body).await;
        assert_eq!(held.status, 201, "{held:?}");
        held.json["id"].as_str().unwrap().to_owned()
    }

    pub async fn available(&self, sku: &str) -> i64 {
        self.get(&format!("/v1/stock/{sku}")).await.json["available"].as_i64().unwrap()
    }
}

/// A request in the making.
pub struct Call {
    address: SocketAddr,
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    pub fn json(self, body: &Value) -> Self {
        self.text("application/json", &body.to_string())
    }

    pub fn text(self, content_type: &str, body: &str) -> Self {
        self.bytes(body.as_bytes()).header("Content-Type", content_type)
    }

    pub fn bytes(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// The head's bytes; `length` as Content-Length where given.
    pub fn head(&self, length: Option<usize>) -> Vec<u8> {
        let mut head = format!("{} HTTP/1.1\r\nHost: test\r\n", self.line);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(length) = length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Sends all of it on a connection of its own.
    pub async fn send(self) -> Reply {
        let call = self.header("Connection", "close");
        let mut stream = TcpStream::connect(call.address).await.unwrap();
        let length = (!call.body.is_empty()).then_some(call.body.len());
        let mut bytes = call.head(length);
        bytes.extend_from_slice(&call.body);
        // A server may answer and close before it has read everything.
        let _ = stream.write_all(&bytes).await;
        let reply = Reply::read(&mut stream).await;
        assert!(reply.headers.iter().any(|(n, _)| n == "x-request-id"), "no id: {reply:?}");
        reply
    }

    /// Sends the head and leaves the body to the caller.
    pub async fn begin(&self, length: Option<usize>) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(&self.head(length)).await.unwrap();
        stream
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body, where it is JSON.
    pub json: Value,
}

impl Reply {
    /// Reads one answer, up to what its Content-Length says, else to the end of the connection.
    pub async fn read(stream: &mut TcpStream) -> Self {
        timeout(PATIENCE, Self::read_now(stream)).await.expect("an answer in time")
    }

    async fn read_now(stream: &mut TcpStream) -> Self {
        let mut reply = Self::read_head(stream).await;
        if !reply.read_length(stream).await {
            let _ = stream.read_to_end(&mut reply.body).await;
            reply.json = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        }
        reply
    }

    /// Reads what a Content-Length says; whether there is one.
    async fn read_length(&mut self, stream: &mut TcpStream) -> bool {
        let length = self.headers.iter().find(|(name, _)| name == "content-length");
        let Some(length) = length.map(|(_, value)| value.parse::<usize>().unwrap()) else {
            return false;
        };
        while self.body.len() < length && stream.read_buf(&mut self.body).await.unwrap_or(0) > 0 {}
        self.json = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        true
    }

    /// Reads an answer's head, and what of its body has come with it.
    pub async fn read_head(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            let read = stream.read_buf(&mut bytes).await.unwrap();
            assert!(read > 0, "closed in the head: {:?}", String::from_utf8_lossy(&bytes));
        };
        let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let body = bytes[head_end + 4..].to_vec();
        Self { status, headers, body, json: Value::Null }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// It is the problem of this status and code, in the form that all have.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.json["code"], code, "{self:?}");
        assert_eq!(self.json["status"], status);
        assert_eq!(self.json["type"], format!("/problems/{code}"));
        assert!(self.json["title"].as_str().is_some_and(|t| !t.is_empty()));
        assert!(self.json["detail"].as_str().is_some_and(|d| !d.is_empty()));
        let retry = matches!(status, 429 | 503);
        assert_eq!(self.header("retry-after").is_some(), retry, "{self:?}");
        self
    }

    /// It refuses this field.
    #[track_caller]
    pub fn is_malformed(&self, field: &str) -> &Self {
        self.is_problem(400, "malformed");
        assert_eq!(self.json["field"], field, "{self:?}");
        assert!(self.json["detail"].as_str().unwrap().contains(field), "{self:?}");
        self
    }

    #[track_caller]
    pub fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// A cart of one line.
pub fn cart(sku: &str, quantity: i64) -> Value {
    json!({"lines": [{"sku": sku, "quantity": quantity}]})
}

/// A commit of one line.
pub fn payment(sku: &str, unit_price: i64) -> Value {
    json!({"currency": "EUR", "lines": [{"sku": sku, "unit_price": unit_price}]})
}

/// Writes a part of a segment: a thousand units of `A` arrive at BER.
pub fn push_log(engine: &Engine, round: u64) {
    let mut last = None;
    for n in 0..1_000 {
        let body = json!({"sku": "A", "location": "BER", "delta": 1, "reason": "receipt"});
        let key = format!("p-{round}-{n}").parse().unwrap();
        let adjust = serde_json::from_value(body).unwrap();
        last = Some(engine.adjust_stock(Key::new("", &key), &adjust));
    }
    engine.settle_blocking(last.unwrap()).unwrap();
}

/// Waits for something to come true, ten seconds at most.
pub async fn wait_until(mut condition: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came true");
}
