//! A real broker that speaks Kafka's protocol (Tansu, written in Rust, in memory; it keeps nothing over a
//! restart), a proxy before it that loses requests and answers, and a reader of what is committed.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The topic of every test.
pub const TOPIC: &str = "shop";
/// Requests by their number in the protocol.
pub const PRODUCE: i16 = 0;
pub const END_TRANSACTION: i16 = 26;

/// Tansu's binary: that of `HOLDFAST_TANSU`, or of the path.
fn tansu() -> Command {
    let named = std::env::var_os("HOLDFAST_TANSU").map(PathBuf::from);
    Command::new(named.unwrap_or_else(|| "tansu".into()))
}

/// What happens to requests on their way.
#[derive(Debug, Default, Clone, Copy)]
pub struct Faults {
    /// The connection breaks instead of the answer to this request; the broker has done it.
    pub lose_answer_to: Option<i16>,
    /// The connection breaks instead of this request; the broker never sees it.
    pub lose: Option<i16>,
    /// Every connection breaks with its next request.
    pub cut: bool,
    /// The broker says so to each partition of a `Produce` of more bytes than the other number.
    pub refuse: Option<(i16, usize)>,
    /// So many faults happened.
    pub happened: u64,
}

/// A broker behind a proxy, killed at the end.
pub struct Broker {
    own_port: u16,
    pub port: u16,
    child: Child,
    partitions: AtomicI32,
    pub faults: Arc<Mutex<Faults>>,
}

/// A record that is committed.
#[derive(Debug, Clone)]
pub struct Stored {
    pub partition: i32,
    pub key: Option<String>,
    pub value: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

impl Stored {
    pub fn id(&self) -> &str {
        &self.headers["ce_id"]
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.value).unwrap()
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Broker {
    /// Starts one with the topic, of three partitions.
    pub async fn start() -> Self {
        let broker = Self::start_with(&[]).await;
        broker.create(TOPIC, 3);
        broker
    }

    /// Starts one without a topic, with more arguments.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::start_behind(listener, port, arguments).await
    }

    /// The same behind a proxy at a place that was chosen before; it says itself to be at `advertised`.
    pub async fn start_behind(listener: TcpListener, advertised: u16, arguments: &[&str]) -> Self {
        let (port, own_port) = (listener.local_addr().unwrap().port(), free_port());
        let child = tansu()
            .arg("broker")
            .args(["--listener-url", &format!("tcp://127.0.0.1:{own_port}")])
            .args(["--advertised-listener-url", &format!("tcp://localhost:{advertised}")])
            .args(["--storage-engine", "memory://tansu/", "--silent"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect(
                "tansu, from the wheel that scripts/test fetches; HOLDFAST_TANSU says where it is",
            );
        let partitions = AtomicI32::new(0);
        let broker = Self { own_port, port, child, partitions, faults: Arc::default() };
        let faults = broker.faults.clone();
        for _ in 0..2_000 {
            if TcpStream::connect(("127.0.0.1", own_port)).await.is_ok() {
                tokio::spawn(proxy(listener, own_port, faults));
                return broker;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("tansu did not start");
    }

    pub fn url(&self) -> String {
        format!("kafka://localhost:{}", self.port)
    }

    /// Makes a topic.
    pub fn create(&self, topic: &str, partitions: i32) {
        self.partitions.store(partitions, Ordering::Relaxed);
        let broker = format!("tcp://127.0.0.1:{}", self.own_port);
        let create = [
            "topic",
            "create",
            "--partitions",
            &partitions.to_string(),
            "--broker",
            &broker,
            topic,
        ];
        let told = tansu().args(create).output().unwrap();
        assert!(told.status.success(), "{told:?}");
    }

    /// From now on this happens.
    pub fn set(&self, faults: Faults) {
        let mut now = self.faults.lock();
        *now = Faults { happened: now.happened, ..faults };
    }

    pub fn happened(&self) -> u64 {
        self.faults.lock().happened
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// What is committed, partition by partition in its order.
    pub async fn committed(&self) -> Vec<Stored> {
        let mut all = Vec::new();
        for partition in 0..self.partitions.load(Ordering::Relaxed) {
            all.extend(self.read(partition).await.0);
        }
        all
    }

    /// How many records stand there whose transaction was aborted or is open.
    pub async fn not_committed(&self) -> usize {
        let mut count = 0;
        for partition in 0..self.partitions.load(Ordering::Relaxed) {
            count += self.read(partition).await.1;
        }
        count
    }

    async fn read(&self, partition: i32) -> (Vec<Stored>, usize) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.own_port)).await.unwrap();
        let (mut committed, mut dropped, mut at) = (Vec::new(), 0, 0_i64);
        let mut open: BTreeMap<i64, Vec<Stored>> = BTreeMap::new();
        let end = end(&mut stream, partition).await;
        loop {
            if at >= end {
                return (committed, dropped + open.values().map(Vec::len).sum::<usize>());
            }
            let fetched = fetch(&mut stream, partition, at).await;
            let mut cursor = Cursor(&fetched);
            while !cursor.0.is_empty() {
                let batch = batch(&mut cursor, partition);
                at = batch.next;
                match (batch.marker, batch.producer) {
                    (Some(true), id) => committed.extend(open.remove(&id).unwrap_or_default()),
                    (Some(false), id) => dropped += open.remove(&id).unwrap_or_default().len(),
                    (None, -1) => committed.extend(batch.records),
                    (None, id) => open.entry(id).or_default().extend(batch.records),
                }
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn proxy(listener: TcpListener, to: u16, faults: Arc<Mutex<Faults>>) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { continue };
        let faults = faults.clone();
        tokio::spawn(async move { between(client, server, faults).await.ok() });
    }
}

/// Passes on one request after the other, and the answer to each.
async fn between(
    mut client: TcpStream,
    mut server: TcpStream,
    faults: Arc<Mutex<Faults>>,
) -> std::io::Result<()> {
    loop {
        let request = frame(&mut client).await?;
        let api = i16::from_be_bytes([request[0], request[1]]);
        let now = *faults.lock();
        if now.cut || now.lose == Some(api) {
            faults.lock().happened += 1;
            return Ok(());
        }
        let refused = now.refuse.filter(|(_, bytes)| api == PRODUCE && request.len() > *bytes);
        if let Some((code, _)) = refused {
            faults.lock().happened += 1;
            send(&mut client, &refusal(&request, code)).await?;
            continue;
        }
        send(&mut server, &request).await?;
        let answer = frame(&mut server).await?;
        // As it is now: the broker may have hung in between.
        if faults.lock().lose_answer_to == Some(api) {
            faults.lock().happened += 1;
            return Ok(());
        }
        send(&mut client, &answer).await?;
    }
}

pub async fn frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; usize::try_from(stream.read_i32().await?).unwrap()];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

pub async fn send(stream: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    let len = i32::try_from(frame.len()).unwrap().to_be_bytes();
    stream.write_all(&[&len[..], frame].concat()).await
}

/// The answer to a `Produce` that says the same of every partition.
fn refusal(request: &[u8], code: i16) -> Vec<u8> {
    let mut cursor = Cursor(&request[8..]);
    cursor.text();
    cursor.text();
    cursor.take(6);
    assert_eq!(cursor.i32(), 1, "one topic");
    let topic = cursor.text();
    let partitions = cursor.i32();
    let mut answer = [&request[4..8], &1_i32.to_be_bytes()].concat();
    answer.extend_from_slice(&(topic.len() as i16).to_be_bytes());
    answer.extend_from_slice(topic.as_bytes());
    answer.extend_from_slice(&partitions.to_be_bytes());
    for _ in 0..partitions {
        answer.extend_from_slice(&cursor.i32().to_be_bytes());
        answer.extend_from_slice(&code.to_be_bytes());
        answer.extend_from_slice(&[0xff; 16]);
        let len = cursor.i32();
        cursor.take(len as usize);
    }
    answer.extend_from_slice(&[0; 4]);
    answer
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(bytes);
        self.0 = rest;
        head
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let len = usize::try_from(self.i16()).unwrap_or(0);
        String::from_utf8(self.take(len).to_vec()).unwrap()
    }

    fn varint(&mut self) -> i64 {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = self.take(1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
            }
        }
    }

    fn var_bytes(&mut self) -> Option<Vec<u8>> {
        let len = usize::try_from(self.varint()).ok()?;
        Some(self.take(len).to_vec())
    }

    fn var_text(&mut self) -> Option<String> {
        self.var_bytes().map(|bytes| String::from_utf8(bytes).unwrap())
    }
}

struct Batch {
    next: i64,
    producer: i64,
    /// Whether it is the end of a transaction, and a good one.
    marker: Option<bool>,
    records: Vec<Stored>,
}

fn batch(cursor: &mut Cursor<'_>, partition: i32) -> Batch {
    let base = cursor.i64();
    let len = cursor.i32();
    let mut batch = Cursor(cursor.take(len as usize));
    batch.take(9);
    let attributes = batch.i16();
    let next = base + i64::from(batch.i32()) + 1;
    batch.take(16);
    let producer = batch.i64();
    batch.take(6);
    let count = batch.i32();
    let (mut marker, mut records) = (None, Vec::new());
    for _ in 0..count {
        let len = batch.varint();
        let mut record = Cursor(batch.take(len as usize));
        record.take(1);
        record.varint();
        record.varint();
        let (key, value) = (record.var_bytes(), record.var_bytes().unwrap_or_default());
        if attributes & 0x20 != 0 {
            marker = Some(key.unwrap()[3] == 1);
            continue;
        }
        let headers = record.varint();
        let header = |_| (record.var_text().unwrap(), record.var_text().unwrap());
        let headers = (0..headers).map(header).collect();
        let key = key.map(|key| String::from_utf8(key).unwrap());
        records.push(Stored { partition, key, value, headers });
    }
    Batch { next, producer, marker, records }
}

/// The offset behind the last record of a partition.
async fn end(stream: &mut TcpStream, partition: i32) -> i64 {
    let topic = [&(TOPIC.len() as i16).to_be_bytes()[..], TOPIC.as_bytes()].concat();
    let request = [
        &[0, 2, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1][..],
        &topic,
        &1_i32.to_be_bytes(),
        &partition.to_be_bytes(),
        &(-1_i64).to_be_bytes(),
    ];
    send(stream, &request.concat()).await.unwrap();
    let answer = frame(stream).await.unwrap();
    let (rest, offset) = answer.split_at(answer.len() - 8);
    assert_eq!(rest[rest.len() - 10..][..2], [0, 0], "ListOffsets");
    i64::from_be_bytes(offset.try_into().unwrap())
}

/// What stands in a partition from an offset on, whether it is committed or not.
async fn fetch(stream: &mut TcpStream, partition: i32, at: i64) -> Vec<u8> {
    let topic = [&(TOPIC.len() as i16).to_be_bytes()[..], TOPIC.as_bytes()].concat();
    let head = [0, 1, 0, 4, 0, 0, 0, 7, 0xff, 0xff];
    let numbers = [-1_i32, 5_000, 1, 1 << 24].map(i32::to_be_bytes).concat();
    let request = [
        &head[..],
        &numbers,
        &[0, 0, 0, 0, 1],
        &topic,
        &1_i32.to_be_bytes(),
        &partition.to_be_bytes(),
        &at.to_be_bytes(),
        &(1_i32 << 24).to_be_bytes(),
    ];
    send(stream, &request.concat()).await.unwrap();
    let answer = frame(stream).await.unwrap();
    let mut cursor = Cursor(&answer[12..]);
    cursor.text();
    cursor.take(4 + 4);
    let code = cursor.i16();
    assert_eq!(code, 0, "Fetch at {at}");
    cursor.take(16);
    let aborted = cursor.i32().max(0);
    cursor.take(16 * aborted as usize);
    let len = cursor.i32().max(0);
    cursor.take(len as usize).to_vec()
}
