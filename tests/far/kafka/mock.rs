//! Partners that are no real brokers: librdkafka's mock cluster, run and read by `kcat` (Debian's package),
//! and one that talks nonsense.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::broker::TOPIC;

/// Brokers in one process, killed at the end.
pub struct Cluster {
    brokers: String,
    child: Child,
}

impl Cluster {
    /// Starts one of so many brokers.
    pub async fn start(brokers: usize) -> Self {
        let mut child = Command::new("kcat")
            .args(["-b", "none", "-C", "-t", TOPIC, "-d", "mock"])
            .args(["-X", &format!("test.mock.num.brokers={brokers}")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kcat, Debian's package of that name");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find_map(|line| {
            line.unwrap().split_once("bootstrap.servers=").map(|(_, brokers)| brokers.to_owned())
        });
        // What it says must be read, or it waits.
        std::thread::spawn(move || lines.for_each(drop));
        let cluster = Self { brokers: line.expect("a cluster"), child };
        // It takes a moment until the topic is there.
        for _ in 0..500 {
            if cluster.kcat(&["-L", "-t", TOPIC]).contains("partition 3") {
                return cluster;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the mock cluster has no topic");
    }

    pub fn url(&self) -> String {
        format!("kafka://{}", self.brokers.split(',').next().unwrap())
    }

    /// All records of the topic, as librdkafka reads them.
    pub fn read(&self) -> Vec<Value> {
        self.read_topic(TOPIC)
    }

    /// Where librdkafka's form of the Java producer's partitioner puts these keys.
    pub fn places_of(&self, keys: &[&String]) -> BTreeMap<String, i64> {
        let mut child = Command::new("kcat")
            .args(["-b", &self.brokers, "-P", "-t", "placed", "-K:"])
            .args(["-X", "topic.partitioner=murmur2"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        keys.iter().for_each(|key| writeln!(stdin, "{key}:-").unwrap());
        drop(stdin);
        assert!(child.wait().unwrap().success());
        let place = |record: Value| {
            let key = record["key"].as_str().unwrap().to_owned();
            (key, record["partition"].as_i64().unwrap())
        };
        self.read_topic("placed").into_iter().map(place).collect()
    }

    fn read_topic(&self, topic: &str) -> Vec<Value> {
        let read = self.kcat(&["-C", "-t", topic, "-e", "-J", "-q"]);
        read.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn kcat(&self, arguments: &[&str]) -> String {
        let told = Command::new("kcat").args(["-b", &self.brokers]).args(arguments).output();
        String::from_utf8(told.unwrap().stdout).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Answers every request with something else: frames that lie about their length, that end early, that are
/// random, and nothing at all. What it says of its versions is sometimes right, so that more is asked.
pub async fn nonsense(listener: TcpListener) {
    let mut seed = 7_u64;
    while let Ok((mut client, _)) = listener.accept().await {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::spawn(async move {
            let mut seed = seed;
            let mut random = move |below: u64| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed % below
            };
            let kind = random(8);
            loop {
                let Ok(len) = client.read_i32().await else { return };
                let mut request = vec![0; usize::try_from(len).unwrap()];
                client.read_exact(&mut request).await.unwrap();
                let correlation = &request[4..8];
                let versions = request[..2] == [0, 18];
                let mut body: Vec<u8> = match () {
                    () if versions && kind > 0 => all_versions(),
                    () => (0..random(200)).map(|_| random(256) as u8).collect(),
                };
                if matches!(kind, 1 | 7) && !versions {
                    // Small numbers look like lengths.
                    let small = |byte: u8| if byte < 200 { 0 } else { byte & 3 };
                    body.iter_mut().for_each(|byte| *byte = small(*byte));
                }
                let announced = match kind {
                    2 if !versions => i32::MAX,
                    3 if !versions => -1,
                    4 if !versions => 15 << 20,
                    _ => (4 + body.len()) as i32,
                };
                let correlation = if kind == 5 && !versions { &[9; 4] } else { correlation };
                let answer = [&announced.to_be_bytes()[..], correlation, &body].concat();
                if client.write_all(&answer).await.is_err() || (kind == 6 && !versions) {
                    return;
                }
            }
        });
    }
}

/// It speaks everything.
fn all_versions() -> Vec<u8> {
    let one = |key: i16| [key.to_be_bytes(), [0, 0], [0, 9]].concat();
    [&[0, 0, 0, 0, 0, 40][..], &(0..40).flat_map(one).collect::<Vec<_>>()].concat()
}
