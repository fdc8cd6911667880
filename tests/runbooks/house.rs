//! A server with an ERP behind it, in a folder of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    cli::{Ended, Server, get, holdfast, post, run, runtime},
    erp::Erp,
};

/// What the ERP is shown and nobody else.
pub const SECRET: &str = "correct-horse-7411";

pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// See the module. The folder has `holdfast.toml` and `data`.
pub struct House {
    pub folder: PathBuf,
    pub erp: Erp,
    server: Option<Server>,
    /// Where the server is that somebody else starts and stops.
    pub fixed: Option<String>,
    /// Variables of the server and of what is run beside it.
    pub variables: Vec<(&'static str, String)>,
    _runtime: tokio::runtime::Runtime,
}

impl House {
    /// A house that does not serve yet.
    pub fn new(folder: &Path) -> Self {
        let runtime = runtime();
        let erp = runtime.block_on(Erp::start());
        let toml = format!(
            "[[sinks]]\nname = \"erp\"\ndomain = \"inventory\"\n\
             url = \"http://127.0.0.1:{}/batches\"\ndedupe = \"line\"\nwindow_ms_max = 20\n\
             retry_initial_ms = 10\nretry_max_ms = 50\n[sinks.reconcile]\nurl = \"/stock\"\n\
             [sinks.headers]\nauthorization = \"Bearer {SECRET}\"\n",
            erp.port
        );
        fs::write(folder.join("holdfast.toml"), toml).unwrap();
        let folder = folder.to_owned();
        Self { folder, erp, server: None, fixed: None, variables: Vec::new(), _runtime: runtime }
    }

    /// Another sink beside the ERP.
    pub fn add_sink(&self, name: &str, domain: &str, url: &str) {
        let config = self.path("holdfast.toml");
        let sink = format!(
            "[[sinks]]\nname = \"{name}\"\ndomain = \"{domain}\"\nurl = \"{url}\"\n\
             dedupe = \"line\"\nwindow_ms_max = 20\n"
        );
        let toml = fs::read_to_string(&config).unwrap();
        fs::write(&config, toml + &sink).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn serve(&mut self) {
        let mut command = holdfast();
        command.env("HOLDFAST_CONFIG", self.path("holdfast.toml"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        self.server = Some(Server::start_with(&self.path("data"), &mut command));
    }

    pub fn kill(&mut self) {
        self.server.take().unwrap().kill();
    }

    pub fn terminate(&mut self) {
        assert_eq!(self.server.take().unwrap().terminate().code(), Some(0));
    }

    pub fn base(&self) -> &str {
        self.fixed.as_ref().unwrap_or_else(|| &self.server.as_ref().unwrap().url)
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base())
    }

    /// A command about the running server.
    pub fn command(&self, arguments: &[&str]) -> Ended {
        run(holdfast().args(arguments).args(["--url", self.base()]))
    }

    /// A command that works on the folder, without a server.
    pub fn offline(&self, arguments: &[&str]) -> Ended {
        let mut command = holdfast();
        command.current_dir(&self.folder).args(arguments);
        command.env("HOLDFAST_CONFIG", self.path("holdfast.toml"));
        run(command.envs(self.variables.iter().map(|(name, value)| (name, value))))
    }

    pub fn backup(&self, to: &str) -> Ended {
        self.command(&["backup", "--to", self.path(to).to_str().unwrap()]).with(0)
    }

    pub fn stock(&self, csv: &str) {
        let file = self.path("stock.csv");
        fs::write(&file, format!("sku,location,on_hand\n{csv}")).unwrap();
        self.command(&["stock", "import", file.to_str().unwrap()]).with(0);
    }

    pub fn sell(&self, order: &str, sku: &str, quantity: i64) -> (u16, Value) {
        let body = json!({"order_id": order, "currency": "EUR",
            "lines": [{"sku": sku, "quantity": quantity, "unit_price": 100}]});
        post(&self.url("/v1/orders"), order, &body)
    }

    pub fn reserve(&self, key: &str, sku: &str, quantity: i64) -> (u16, Value) {
        let body = json!({"lines": [{"sku": sku, "quantity": quantity}]});
        post(&self.url("/v1/reservations"), key, &body)
    }

    pub fn sink(&self) -> Value {
        get(&self.url("/v1/sinks"))["sinks"][0].clone()
    }

    pub fn status(&self) -> Value {
        get(&self.url("/v1/status"))
    }

    /// Units that the ERP knows to be sold.
    pub fn sold(&self, sku: &str) -> i64 {
        let at = (sku.to_owned(), "BER".to_owned());
        self.erp.with(|erp| erp.stock.get(&at).map_or(0, |stock| stock.1))
    }

    pub fn settled(&self, sku: &str, units: i64) {
        until(&format!("{units} of {sku} sold"), || self.sold(sku) == units);
        until("acknowledged", || self.sink()["lag_records"] == 0);
    }
}
