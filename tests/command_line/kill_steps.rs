//! The real server, killed with SIGKILL while partners of all four domains are in the middle of a batch:
//! with or without its effect, before or after they closed the connection, and when they have answered. The
//! restarted server sends just that batch again first, under the same id and with the same bytes, and
//! every effect is there once in the end.
//!
//! `far/steps.rs` does the same step by step over a simulated disk, which also loses power.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::cli::{Server, get, holdfast, post, run};
use crate::far_common::{
    link::{Erp, Link},
    port::{Does, Port},
};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);
const DOMAINS: [&str; 4] = ["inventory", "fulfilment", "finance", "stream"];
const SKUS: u64 = 5;
const PRICE: i64 = 1_999;

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The partners, and what was sold to whom.
struct House {
    ports: Vec<Port>,
    /// Units by SKU and location.
    sold: BTreeMap<(String, String), i64>,
    orders: u64,
}

impl House {
    /// A partner of every domain that knows lines again, and one that knows batches.
    async fn open() -> Self {
        let mut ports = Vec::new();
        for n in 0..2 * DOMAINS.len() {
            let link = Link::default();
            *link.erp() = Erp { knows_lines: n % 2 == 0, ..Erp::default() };
            ports.push(Port::open(link).await);
        }
        Self { ports, sold: BTreeMap::new(), orders: 0 }
    }

    fn serve(&self, folder: &Path) -> Command {
        let sink = |(n, port): (usize, &Port)| {
            let (domain, url) = (DOMAINS[n / 2], port.url());
            let dedupe = ["line", "batch"][n % 2];
            format!(
                "[[sinks]]\nname = \"{domain}-{dedupe}\"\ndomain = \"{domain}\"\nurl = \"{url}\"\n\
                 dedupe = \"{dedupe}\"\nwindow_ms_max = 20\nretry_initial_ms = 5\nretry_max_ms = 50\n"
            )
        };
        let config = folder.join("holdfast.toml");
        fs::write(&config, self.ports.iter().enumerate().map(sink).collect::<String>()).unwrap();
        let mut command = holdfast();
        // What is seen here is wanted: attempts that fail.
        command.env("HOLDFAST_CONFIG", config).env("RUST_LOG", "off");
        command
    }

    fn sell(&mut self, server: &Server) {
        for _ in 0..3 {
            let n = self.orders;
            self.orders += 1;
            let (sku, quantity) = (format!("SKU-{}", n % SKUS), 1 + (n % 3) as i64);
            let body = json!({"order_id": format!("O-{n}"), "currency": "EUR",
                "lines": [{"sku": sku, "quantity": quantity, "unit_price": PRICE}]});
            let (status, answer) =
                post(&format!("{}/v1/orders", server.url), &format!("k-{n}"), &body);
            assert_eq!(status, 201, "{answer}");
            *self.sold.entry((sku, "BER".to_owned())).or_default() += quantity;
        }
    }

    fn all_do(&self, does: &Does) {
        self.ports.iter().for_each(|port| port.does(does.clone()));
    }

    fn sent(&self) -> Vec<usize> {
        self.ports.iter().map(|port| port.link().erp().sent.len()).collect()
    }

    /// Every partner has everything, once.
    fn is_told(&self) -> bool {
        let units: i64 = self.sold.values().sum();
        self.ports.iter().enumerate().all(|(n, port)| {
            let erp = port.link().erp();
            match DOMAINS[n / 2] {
                "inventory" => erp.sold() == self.sold,
                "fulfilment" => erp.to_pick() == self.sold,
                "finance" => erp.balance("receivable") == i128::from(units * PRICE),
                _ => {
                    let placed =
                        |event: &serde_json::Value| event["type"] == "holdfast.order.placed.v1";
                    let count = erp.effect.iter().filter(|(_, event)| placed(event)).count();
                    count as u64 == self.orders
                }
            }
        })
    }

    fn audit(&self) {
        for port in &self.ports {
            let erp = port.link().erp();
            erp.audit(&[]);
            let mut bytes = BTreeMap::new();
            for (id, body) in &erp.sent {
                let before = bytes.entry(id).or_insert(body);
                assert_eq!(*before, body, "{id} went out with other bytes");
            }
        }
    }
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_its_batches_sends_just_these_again() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = crate::cli::runtime();
    let mut house = runtime.block_on(House::open());
    let data = folder.path().join("data");
    let start = |house: &House| Server::start_with(&data, &mut house.serve(folder.path()));
    let mut server = start(&house);
    let csv = folder.path().join("stock.csv");
    let line = |n| format!("SKU-{n},BER,1000\n");
    let stock: String = (0..SKUS).map(line).collect();
    fs::write(&csv, format!("sku,location,on_hand\n{stock}")).unwrap();
    run(holdfast().args(["stock", "import", "--url", &server.url]).arg(&csv)).with(0);
    house.sell(&server);
    until("all is told", || house.is_told());
    for step in [
        Does::Hangs { effect: true },
        Does::Hangs { effect: false },
        Does::Cuts { effect: true },
        Does::Breaks,
        Does::Answers,
    ] {
        house.all_do(&step);
        let before = house.sent();
        house.sell(&server);
        let all = || house.sent().iter().zip(&before).all(|(now, before)| now > before);
        until("all have a batch", all);
        server.kill();
        let last = |port: &Port| port.link().erp().sent.last().cloned();
        let asked: Vec<_> = house.ports.iter().map(last).collect();
        let before = house.sent();
        house.all_do(&Does::Answers);
        server = start(&house);
        let all = || house.sent().iter().zip(&before).all(|(now, before)| now > before);
        until("what was cut short is sent again", || step == Does::Answers || all());
        until("all is told", || house.is_told());
        for ((port, before), asked) in house.ports.iter().zip(before).zip(asked) {
            let next = port.link().erp().sent.get(before).cloned();
            // What was answered may be acknowledged.
            assert!(step == Does::Answers || next == asked, "{step:?}: {asked:?}, {next:?}");
        }
        house.audit();
    }
    let committed: i64 = (0..SKUS)
        .map(|n| get(&format!("{}/v1/stock/SKU-{n}", server.url))["committed"].as_i64().unwrap())
        .sum();
    assert_eq!(committed, house.sold.values().sum::<i64>());
    assert_eq!(server.terminate().code(), Some(0));
}
