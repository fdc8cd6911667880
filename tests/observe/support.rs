//! A house with a warehouse, an ERP and finance, and a listener who writes down what is posted to it.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use holdfast::{
    client::{self, Address, Client},
    sinks::receiver::{Behaviour, Receiver},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::cli::{Server, holdfast, run, runtime};

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub const KEY: &str = "a-key-of-the-shop-1234567890";
const PATIENCE: Duration = Duration::from_secs(40);

/// What was posted: its headers and its body.
pub type Posted = (HeaderMap, Bytes);

#[derive(Default)]
struct Heard {
    posts: Vec<Posted>,
    /// How many are answered 503 first.
    refuse: usize,
}

/// Takes whatever is posted.
#[derive(Clone)]
pub struct Listener {
    pub url: String,
    heard: Arc<Mutex<Heard>>,
}

impl Listener {
    pub fn start(runtime: &Runtime) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let take = |State(heard): State<Arc<Mutex<Heard>>>, headers: HeaderMap, body: Bytes| async move {
            let mut heard = heard.lock().unwrap();
            heard.posts.push((headers, body));
            if heard.refuse > 0 {
                heard.refuse -= 1;
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            StatusCode::OK
        };
        let app = Router::new().fallback(take).with_state(heard.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { url, heard }
    }

    /// The next so many are answered 503.
    pub fn refuse(&self, count: usize) {
        self.heard.lock().unwrap().refuse = count;
    }

    pub fn posts(&self) -> Vec<Posted> {
        self.heard.lock().unwrap().posts.clone()
    }

    pub fn bodies(&self) -> Vec<Value> {
        self.posts().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }
}

/// A server, its partners, and what listens to it. Stopped when dropped.
pub struct House {
    server: Option<Server>,
    pub runtime: Runtime,
    pub wms: Receiver,
    pub erp: Receiver,
    pub books: Receiver,
    pub alerts: Listener,
    pub collector: Listener,
    /// Stands in for a stream's receiver.
    pub stream: Listener,
    socket: PathBuf,
    dir: TempDir,
}

impl House {
    pub fn start() -> Self {
        let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
        let receiver = || runtime.block_on(Receiver::start(Behaviour::default())).unwrap();
        let (wms, erp, books) = (receiver(), receiver(), receiver());
        let listener = || Listener::start(&runtime);
        let (alerts, collector, stream) = (listener(), listener(), listener());
        let socket = dir.path().join("holdfast.sock");
        let mut toml = format!(
            "[gateway]\nsocket = \"{}\"\n\
             [telemetry]\notlp_endpoint = \"{}\"\notlp_sample_ratio = 0.0\n\
             [alerts]\nurl = \"{}\"\nsecret_env = \"ALERT_SECRET\"\n\
             [[partners]]\nname = \"shop\"\napi_key_env = \"SHOP_KEY\"\n\
             quota_per_day = 100000\n\
             [[service_levels]]\nname = \"orders\"\nobjective = \"order_to_warehouse\"\nsink = \"wms\"\n\
             within_ms = 1500\ntarget_percent = 80.0\n\
             [[service_levels]]\nname = \"erp-lag\"\nobjective = \"sink_lag\"\nsink = \"erp\"\n\
             within_ms = 60000\ntarget_percent = 99.0\n\
             [[service_levels]]\nname = \"fast\"\nobjective = \"reserve_latency\"\nwithin_ms = 2000\n\
             target_percent = 99.0\n\
             [[service_levels]]\nname = \"up\"\nobjective = \"availability\"\ntarget_percent = 99.9\n",
            socket.display(),
            collector.url,
            alerts.url
        );
        let sinks = [
            ("wms", "fulfilment", wms.url()),
            ("erp", "inventory", erp.url()),
            ("books", "finance", books.url()),
            ("events", "stream", stream.url.clone()),
        ];
        for (name, domain, url) in sinks {
            toml += &format!(
                "[[sinks]]\nname = \"{name}\"\ndomain = \"{domain}\"\nurl = \"{url}\"\n\
                 window_ms_max = 20\nretry_initial_ms = 5\nretry_max_ms = 50\ntimeout_ms = 5000\n"
            );
        }
        let config = dir.path().join("holdfast.toml");
        fs::write(&config, toml).unwrap();
        let server = serve(&dir);
        let house = Self {
            server: Some(server),
            runtime,
            wms,
            erp,
            books,
            alerts,
            collector,
            stream,
            socket,
            dir,
        };
        let put = house.send("PUT", "/v1/stock/TEE-M/BER", &[], Some(json!({"on_hand": 1_000})));
        assert_eq!(put.0, 200, "{put:?}");
        house
    }

    /// Ends the server, by force or in order, and starts it again.
    pub fn restart(&mut self, kill: bool) {
        let server = self.server.take().unwrap();
        if kill {
            server.kill();
        } else {
            assert!(server.terminate().success());
        }
        self.server = Some(serve(&self.dir));
    }

    /// Where the server is.
    pub fn url(&self) -> &str {
        &self.server.as_ref().unwrap().url
    }

    /// A request of the shop; status and text.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> (u16, String) {
        self.runtime.block_on(async {
            let method = method.parse().unwrap();
            let mut request = crate::cli::client()
                .request(method, format!("{}{path}", self.url()))
                .bearer_auth(KEY);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(body) = body {
                request = request.json(&body);
            }
            let answer = request.send().await.expect("an answer");
            (answer.status().as_u16(), answer.text().await.expect("a body"))
        })
    }

    /// A connection of the shop's to the gateway.
    pub fn gateway(&self) -> Client {
        let options = client::Options { api_key: KEY.to_owned(), ..Default::default() };
        Client::connect(&Address::Unix(self.socket.clone()), &options).unwrap()
    }

    /// A header of an answer to the shop.
    pub fn header(&self, method: &str, path: &str, name: &str) -> String {
        self.runtime.block_on(async {
            let method = method.parse().unwrap();
            let request = crate::cli::client().request(method, format!("{}{path}", self.url()));
            let answer = request.bearer_auth(KEY).send().await.expect("an answer");
            let value = answer.headers().get(name).unwrap_or_else(|| panic!("no {name}"));
            value.to_str().unwrap().to_owned()
        })
    }

    /// What the log has last of the shop's quota.
    pub fn written(&self) -> u64 {
        self.tallied("quota/shop").map_or(0, |counts| counts[0][1].as_u64().unwrap())
    }

    /// What the log has last of something that is one number; `None`: nothing.
    pub fn written_of(&self, of: &str) -> Option<u64> {
        self.tallied(of)?.get(0)?.get(0)?.as_u64()
    }

    /// What the log has last of something: read from a copy, since one process owns the log.
    fn tallied(&self, of: &str) -> Option<Value> {
        let copy = tempfile::tempdir().unwrap();
        for file in fs::read_dir(self.dir.path().join("data")).unwrap().flatten() {
            // What is gone meanwhile was of no more use.
            let _ = fs::copy(file.path(), copy.path().join(file.file_name()));
        }
        let mut dump = holdfast();
        dump.args(["wal", "dump", "--kind", "tally", "--data"]).arg(copy.path());
        let dump = run(&mut dump);
        let records = dump.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let tallies = records.flat_map(|record| record["event"]["tallies"].as_array().cloned());
        let mut tallies = tallies.flatten().filter(|tally| tally["of"] == of);
        tallies.next_back().map(|tally| tally["counts"].clone())
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, text) = self.send("GET", path, &[], None);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Sells one shirt.
    pub fn sell(&self, order_id: &str, headers: &[(&str, &str)]) {
        let body = json!({"order_id": order_id, "currency": "EUR",
            "lines": [{"sku": "TEE-M", "quantity": 1, "unit_price": 1_999}]});
        let headers: Vec<_> =
            [("idempotency-key", order_id)].into_iter().chain(headers.iter().copied()).collect();
        let (status, text) = self.send("POST", "/v1/orders", &headers, Some(body));
        assert_eq!(status, 201, "{text}");
    }

    /// Something happens to an order.
    pub fn happens(&self, order_id: &str, what: &str, body: Value) {
        let key = format!("{order_id}-{what}");
        let path = format!("/v1/orders/{order_id}/{what}");
        let (status, text) = self.send("POST", &path, &[("idempotency-key", &key)], Some(body));
        assert_eq!(status, 201, "{text}");
    }

    /// The metrics, in the older text format.
    pub fn metrics(&self) -> String {
        self.send("GET", "/metrics", &[("accept", "text/plain")], None).1
    }

    /// The value of a sample, whose name and labels are given as they are written.
    pub fn metric(&self, sample: &str) -> f64 {
        let text = self.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {sample} in\n{text}"));
        value.parse().unwrap()
    }

    pub fn level(&self, name: &str) -> Value {
        let levels = self.get("/v1/service-levels");
        let levels = levels["service_levels"].as_array().unwrap().clone();
        levels.into_iter().find(|level| level["name"] == name).unwrap()
    }

    /// What was alerted of a kind and a subject: the states, in their order.
    pub fn alerted(&self, alert: &str, subject: &str) -> Vec<String> {
        let of = |body: &Value| {
            let data = &body["data"];
            (data["alert"] == alert && data["subject"] == subject)
                .then(|| data["state"].as_str().unwrap().to_owned())
        };
        let mut states: Vec<_> = self.alerts.bodies().iter().filter_map(of).collect();
        states.dedup();
        states
    }
}

fn serve(dir: &TempDir) -> Server {
    let mut command = holdfast();
    command.env("HOLDFAST_CONFIG", dir.path().join("holdfast.toml"));
    command.env("ALERT_SECRET", SECRET).env("SHOP_KEY", KEY);
    Server::start_with(&dir.path().join("data"), &mut command)
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
