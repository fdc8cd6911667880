//! What the pages are shown of: a real server with an ERP, books and a warehouse behind it, and with a
//! payment provider that reports.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use holdfast::{
    client::{Address, Client},
    model::signature::Signer,
    sinks::receiver::{Behaviour, Receiver},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    cli::{self, Server, holdfast},
    erp::Erp,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PATIENCE: Duration = Duration::from_secs(30);

pub struct House {
    pub server: Server,
    pub erp: Erp,
    _books: Receiver,
    pub warehouse: Receiver,
    config: PathBuf,
    socket: PathBuf,
    _runtime: tokio::runtime::Runtime,
}

fn configuration(erp: u16, books: &str, warehouse: &str, socket: &Path) -> String {
    let socket = socket.display();
    format!(
        "[gateway]\nsocket = \"{socket}\"\n\
         [[partners]]\nname = \"psp\"\n[partners.hook]\nsecret = \"{SECRET}\"\n\
         [[sinks]]\nname = \"erp\"\ndomain = \"inventory\"\nurl = \"http://127.0.0.1:{erp}/batches\"\n\
         dedupe = \"line\"\nwindow_ms_max = 20\nretry_initial_ms = 10\nretry_max_ms = 50\n\
         [sinks.reconcile]\nurl = \"/stock\"\n\
         [[sinks]]\nname = \"books\"\ndomain = \"finance\"\nurl = \"{books}\"\n\
         window_ms_max = 20\nrecognition = \"shipment\"\n\
         [[sinks]]\nname = \"warehouse\"\ndomain = \"fulfilment\"\nurl = \"{warehouse}\"\n\
         window_ms_max = 20\n\
         [[service_levels]]\nname = \"picked-soon\"\nobjective = \"order_to_warehouse\"\n\
         sink = \"warehouse\"\nwithin_ms = 1000\ntarget_percent = 80.0\n"
    )
}

impl House {
    pub fn start(folder: &Path) -> Self {
        let runtime = cli::runtime();
        let (erp, books, warehouse) = runtime.block_on(async {
            let receiver = || Receiver::start(Behaviour::default());
            (Erp::start().await, receiver().await.unwrap(), receiver().await.unwrap())
        });
        let config = folder.join("shop.toml");
        let socket = folder.join("gateway.sock");
        let text = configuration(erp.port, &books.url(), &warehouse.url(), &socket);
        fs::write(&config, text).unwrap();
        let server =
            Server::start_with(&folder.join("data"), holdfast().env("HOLDFAST_CONFIG", &config));
        Self { server, erp, _books: books, warehouse, config, socket, _runtime: runtime }
    }

    pub fn call(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        cli::runtime().block_on(async {
            let request = cli::client().request(method, format!("{}{path}", self.server.url));
            let answer = request.json(body).send().await.expect("an answer");
            (answer.status().as_u16(), answer.json().await.expect("JSON"))
        })
    }

    pub fn get(&self, path: &str) -> Value {
        cli::get(&format!("{}{path}", self.server.url))
    }

    /// Posts under a key of its own.
    pub fn post(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        cli::post(&format!("{}{path}", self.server.url), key, body)
    }

    pub fn stock(&self, sku: &str, on_hand: u32) {
        let (status, answer) =
            self.call(Method::PUT, &format!("/v1/stock/{sku}/BER"), &json!({"on_hand": on_hand}));
        assert_eq!(status, 200, "{answer}");
    }

    pub fn reserve(&self, key: &str, sku: &str, quantity: u32) -> (u16, Value) {
        let body = json!({"lines": [{"sku": sku, "quantity": quantity}], "customer": "c-42"});
        self.post("/v1/reservations", key, &body)
    }

    /// Reserves through the gateway.
    pub fn reserve_by_gateway(&self, key: &str, sku: &str) {
        let client = Client::connect(&Address::Unix(self.socket.clone()), &Default::default());
        let cart = serde_json::from_value(json!({"lines": [{"sku": sku, "quantity": 1}]})).unwrap();
        client.unwrap().reserve(&key.parse().unwrap(), &cart).unwrap();
    }

    pub fn sell(&self, order: &str, sku: &str, quantity: u32) {
        let body = json!({"order_id": order, "currency": "EUR",
            "lines": [{"sku": sku, "quantity": quantity, "unit_price": 1999, "tax": 319}]});
        let (status, answer) = self.post("/v1/orders", order, &body);
        assert_eq!(status, 201, "{answer}");
    }

    /// A settlement, as the payment provider reports it.
    pub fn reports(&self, order: &str, id: &str) -> u16 {
        let body = json!({"type": "settlement", "data": {"order_id": order, "settlement_id": id,
            "currency": "EUR", "amount": 1999}})
        .to_string();
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let signature = Signer::new(SECRET).unwrap().sign(id, at, body.as_bytes());
        cli::runtime().block_on(async {
            let post = cli::client().post(format!("{}/v1/hooks/psp", self.server.url));
            let post = post.header("webhook-id", id).header("webhook-timestamp", at.to_string());
            let post = post.header("webhook-signature", signature).body(body);
            let sent = post.header("content-type", "application/json").send().await.unwrap();
            sent.status().as_u16()
        })
    }

    /// Writes the configuration's file anew with one thing replaced, and has the server read it.
    pub fn reconfigure(&self, from: &str, to: &str, reason: &str) {
        let text = fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&self.config, text.replacen(from, to, 1)).unwrap();
        self.config(&["reload", "--reason", reason]);
    }

    /// A command of `holdfast config`.
    pub fn config(&self, words: &[&str]) {
        self.server.config(words).with(0);
    }

    pub fn level(&self) -> Value {
        self.get("/v1/service-levels")["service_levels"][0].clone()
    }

    pub fn sink(&self, name: &str) -> Value {
        let sinks = self.get("/v1/sinks");
        let found = sinks["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == name);
        found.unwrap().clone()
    }

    pub fn letters(&self) -> Vec<Value> {
        self.get("/v1/dead-letters")["dead_letters"].as_array().unwrap().clone()
    }

    /// Sells what the ERP does not know; the id of the letter that comes of it.
    pub fn refused(&self, order: &str, sku: &str) -> String {
        self.erp.with(|erp| erp.refused = Some(sku.to_owned()));
        self.sell(order, sku, 3);
        until("a letter", || self.letters().len() == 1);
        self.letters()[0]["id"].as_str().unwrap().to_owned()
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
