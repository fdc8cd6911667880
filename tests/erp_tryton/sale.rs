//! The storefronts of the sale: order by order, repeated with its key until it is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

/// Where the goods lie, in the order in which they are taken.
pub const LOCATIONS: [&str; 3] = ["BER", "HAM", "MUC"];
/// Storefronts at a time.
const STOREFRONTS: u64 = 32;
/// Units of every SKU at every location: enough for all orders.
const UNITS: u64 = 700;
/// How long a request is repeated.
const PATIENCE: Duration = Duration::from_secs(180);

pub fn sku(n: u64) -> String {
    format!("SKU-{:05}", n + 1)
}

struct Inside {
    client: Client,
    url: RwLock<String>,
    skus: u64,
    orders: u64,
    next: AtomicU64,
    sold: AtomicU64,
}

/// See the module; clones are the same one.
#[derive(Clone)]
pub struct Sale(Arc<Inside>);

impl Sale {
    pub fn new(skus: u64, orders: u64) -> Self {
        Self(Arc::new(Inside {
            client: Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap(),
            url: RwLock::default(),
            skus,
            orders,
            next: AtomicU64::new(0),
            sold: AtomicU64::new(0),
        }))
    }

    /// Where the server is now.
    pub fn listen_at(&self, url: &str) {
        url.clone_into(&mut self.0.url.write());
    }

    /// Goods come in.
    pub async fn stock_up(&self) {
        for n in 0..self.0.skus {
            for location in LOCATIONS {
                let path = format!("/v1/stock/{}/{location}", sku(n));
                let put = self.0.client.put(format!("{}{path}", self.0.url.read().clone()));
                let put = put.json(&json!({"on_hand": 0})).send().await.unwrap();
                assert!(put.status().is_success(), "{path}: {}", put.status());
                let receipt = json!({"sku": sku(n), "location": location, "delta": UNITS,
                    "reason": "receipt", "reference": format!("GR-{n}-{location}")});
                self.post("/v1/stock/adjustments", &format!("gr-{n}-{location}"), &receipt).await;
            }
        }
    }

    /// Opens the storefronts; done when everything is sold.
    pub fn begin(&self) -> JoinHandle<()> {
        let mut storefronts = JoinSet::new();
        for _ in 0..STOREFRONTS {
            let sale = self.clone();
            storefronts.spawn(async move {
                loop {
                    let n = sale.0.next.fetch_add(1, Ordering::Relaxed);
                    if n >= sale.0.orders {
                        return;
                    }
                    sale.post("/v1/orders", &format!("o-{n}"), &sale.order(n)).await;
                    sale.0.sold.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        tokio::spawn(async move {
            while storefronts.join_next().await.transpose().unwrap().is_some() {}
        })
    }

    /// Orders that were acknowledged.
    pub fn sold(&self) -> u64 {
        self.0.sold.load(Ordering::Relaxed)
    }

    /// Waits until so many are.
    pub async fn until_sold(&self, orders: u64) {
        let end = Instant::now() + Duration::from_secs(300);
        while self.sold() < orders {
            assert!(Instant::now() < end, "{} orders in time, not {orders}", self.sold());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What happens to some of the orders then: shipped, called off, billed, paid, refunded, sent back.
    pub async fn live_on(&self) {
        let mut lives = JoinSet::new();
        for n in (0..self.0.orders).step_by(40) {
            let sale = self.clone();
            lives.spawn(async move { sale.live(n).await });
            if lives.len() >= STOREFRONTS as usize {
                lives.join_next().await.unwrap().unwrap();
            }
        }
        while lives.join_next().await.transpose().unwrap().is_some() {}
    }

    async fn live(&self, n: u64) {
        let url = format!("{}/v1/orders/O-{n}", self.0.url.read().clone());
        let order: Value = self.0.client.get(url).send().await.unwrap().json().await.unwrap();
        let taken = order["allocations"].as_array().unwrap_or_else(|| panic!("{order}"));
        let lines: Vec<_> = taken
            .iter()
            .map(|l| json!({"sku": l["sku"], "location": l["location"], "quantity": l["quantity"]}))
            .collect();
        let happened = |what: &str, body: Value| {
            let path = format!("/v1/orders/O-{n}/{what}");
            let key = format!("{what}-{n}");
            async move { self.post(&path, &key, &body).await }
        };
        if n.is_multiple_of(280) {
            happened("cancellations", json!({"cancellation_id": format!("C-{n}"), "lines": lines}))
                .await;
            return;
        }
        let paid = gross(n);
        happened(
            "settlements",
            json!({"settlement_id": format!("P-{n}"), "currency": "EUR",
            "amount": paid, "fee": paid / 50}),
        )
        .await;
        happened("shipments", json!({"shipment_id": format!("S-{n}"), "lines": lines})).await;
        if n.is_multiple_of(160) {
            happened(
                "refunds",
                json!({"refund_id": format!("R-{n}"), "currency": "EUR",
                "amount": paid / 3, "tax": paid / 19}),
            )
            .await;
        }
        if n.is_multiple_of(200) {
            let back = json!({"return_id": format!("B-{n}"), "lines": [
                {"sku": lines[0]["sku"], "quantity": 1}], "restock": true});
            happened("returns", back).await;
            let came = json!({"receipt_id": format!("G-{n}"), "lines": [
                {"sku": lines[0]["sku"], "location": lines[0]["location"], "quantity": 1}]});
            happened(&format!("returns/B-{n}/receipts"), came).await;
        }
    }

    fn order(&self, n: u64) -> Value {
        let line = |(sku_number, quantity, price): (u64, u64, u64)| {
            json!({"sku": sku(sku_number), "quantity": quantity, "unit_price": price,
                "unit_cost": price / 2, "tax_code": "DE-19", "tax": quantity * price * 19 / 119})
        };
        let lines: Vec<_> = lines(n, self.0.skus).into_iter().map(line).collect();
        json!({"order_id": format!("O-{n}"), "currency": "EUR", "lines": lines,
            "shipping": 490, "shipping_tax": 78})
    }

    /// Posts until there is an answer that is final.
    async fn post(&self, path: &str, key: &str, body: &Value) {
        let end = Instant::now() + PATIENCE;
        loop {
            let url = format!("{}{path}", self.0.url.read().clone());
            let request = self.0.client.post(url).header("idempotency-key", key).json(body);
            let told = match request.send().await {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer)
                    if answer.status().as_u16() == 503 || answer.status().as_u16() == 504 =>
                {
                    answer.text().await.unwrap_or_default()
                }
                Ok(answer) => panic!("{path}: {}: {:?}", answer.status(), answer.text().await),
                // It is killed, or not up yet.
                Err(error) => error.to_string(),
            };
            assert!(Instant::now() < end, "{path}: not answered in time: {told}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// SKU, quantity and unit price of an order's lines.
fn lines(n: u64, skus: u64) -> Vec<(u64, u64, u64)> {
    // A third of the orders is for a tenth of the SKUs.
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let first = if n.is_multiple_of(3) { mixed % (skus / 10) } else { mixed % skus };
    let price = |sku: u64| 499 + sku * 37 % 9_000;
    let mut lines = vec![(first, 1 + mixed % 2, price(first))];
    if n.is_multiple_of(4) {
        let second = (first + 1 + mixed % (skus - 1)) % skus;
        lines.push((second, 1, price(second)));
    }
    lines
}

/// What the customer pays.
fn gross(n: u64) -> u64 {
    490 + lines(n, 500).iter().map(|(_, quantity, price)| quantity * price).sum::<u64>()
}
