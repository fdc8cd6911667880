//! A real Tryton, made, started, killed and read by `scripts/tryton`.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use super::{Balances, Stock};

/// See the module; killed when dropped.
pub struct Tryton {
    folder: PathBuf,
    port: u16,
}

impl Tryton {
    /// A new company with `products` products, listening.
    pub fn create(folder: &Path, products: u64, locations: &[&str]) -> Self {
        script(
            &["create"],
            folder,
            &["--products", &products.to_string(), "--locations", &locations.join(",")],
        );
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let tryton = Self { folder: folder.to_owned(), port };
        tryton.start();
        tryton
    }

    fn start(&self) {
        script(&["start"], &self.folder, &[&self.port.to_string()]);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The key of the module's calls.
    pub fn key(&self) -> String {
        std::fs::read_to_string(self.folder.join("key")).unwrap().trim().to_owned()
    }

    /// SIGKILL in whatever it does, and a new start.
    pub fn kill_and_start(&self) {
        script(&["kill"], &self.folder, &[]);
        self.start();
    }

    /// Somebody receives units in Tryton itself.
    pub fn meddle(&self, sku: &str, location: &str, units: u64) {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/erp/tryton/meddle.py");
        let mut command = Command::new("python3");
        command.arg(tests).arg(&self.folder).arg(self.port.to_string());
        let out = command.args([sku, location, &units.to_string()]).output().unwrap();
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{told}");
    }

    /// What it has, from its database: stock by position, balances by account. All of it is done and
    /// posted.
    pub fn dump(&self) -> (Stock, Balances) {
        let out = script(&["dump"], &self.folder, &[]);
        let told: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(told["unfinished"], 0);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let units = |value: &Value| value.as_i64().unwrap();
        let stock = told["stock"].as_array().unwrap().iter().map(|position| {
            let at = (text(&position["sku"]), text(&position["location"]));
            (at, (units(&position["on_hand"]), units(&position["committed"])))
        });
        let balances = told["trial_balance"]
            .as_array()
            .unwrap()
            .iter()
            .map(|account| (text(&account["account"]), i128::from(units(&account["balance"]))));
        (stock.collect(), balances.filter(|(_, cents)| *cents != 0).collect())
    }
}

impl Drop for Tryton {
    fn drop(&mut self) {
        // Nothing is to be left running, however the test ends.
        let _ = command(&["kill"], &self.folder, &[]).output();
    }
}

fn command(what: &[&str], folder: &Path, more: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/tryton");
    let mut command = Command::new(script);
    command.args(what).arg(folder).args(more);
    command
}

fn script(what: &[&str], folder: &Path, more: &[&str]) -> Output {
    let out = command(what, folder, more).output().expect("scripts/tryton runs");
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "scripts/tryton {what:?}: {told}");
    out
}
