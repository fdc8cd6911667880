//! A shop with an ERP and a finance receiver, for the far end's tests: what is sold is counted here,
//! by hand, and compared with what the receivers were told.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod link;
pub mod network;
pub mod port;

use std::{collections::BTreeMap, time::Duration};

use holdfast::{
    config::{Domain, SinkConfig},
    delivery::Handle,
    engine::{Engine, Key, Options, Refusal},
    model::{
        Amount, Currency, IdempotencyKey, Location, OrderId, Quantity, Sku, StockCount,
        command::{
            Invoice, OrderLine, PlaceOrder, Prices, Priority, Release, Reserve, ReserveLine,
            SetStock, Settle,
        },
    },
    sinks::{
        self,
        receiver::{Behaviour, Receiver, Totals},
    },
    wal::{self, Storage},
};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Small tables, small segments.
pub fn options() -> Options {
    Options {
        wal: wal::Options {
            segment_bytes: 4 << 20,
            budget_bytes: 256 << 20,
            unsynced_bytes_max: 16 << 20,
            room_wait_ms_max: 5_000,
            ..wal::Options::default()
        },
        positions_max: 4_096,
        reservations_max: 200_000,
        keys_max: 400_000,
        orders_max: 200_000,
        customer_limits_max: 1_000,
        ..Options::default()
    }
}

pub fn sku(n: u64) -> Sku {
    format!("SKU-{n}").parse().unwrap()
}

pub fn location(n: u64) -> Location {
    ["BER", "MUC"][n as usize % 2].parse().unwrap()
}

fn key(text: &str) -> IdempotencyKey {
    text.parse().unwrap()
}

/// An engine, and what was sold on it as its answers say.
pub struct Shop<S: Storage> {
    pub engine: Engine<S>,
    pub skus: u64,
    /// Units by SKU and location.
    pub sold: BTreeMap<(String, String), i64>,
    /// What customers pay, in cents of EUR.
    pub paid: i128,
    pub orders: u64,
}

impl<S: Storage> Shop<S> {
    /// `skus` SKUs, plenty of each in Berlin and in Munich.
    pub fn open(engine: Engine<S>, skus: u64) -> Self {
        let shop = Self { engine, skus, sold: BTreeMap::new(), paid: 0, orders: 0 };
        for n in 0..2 * skus {
            let set = SetStock {
                on_hand: StockCount::new(1_000_000).unwrap(),
                safety_stock: StockCount::ZERO,
                backorder_limit: StockCount::ZERO,
                per_customer_limit: None,
                source_version: None,
                as_of_lsn: None,
                allow_shortfall: false,
            };
            let decision = shop.engine.set_stock(&sku(n / 2), &location(n), &set);
            shop.engine.settle_blocking(decision).unwrap();
        }
        shop
    }

    /// Sells order number `n`: one to three lines, net or gross.
    pub fn sell(&mut self, n: u64) -> Result<(), Refusal> {
        let order = order(n, self.skus);
        let key = key(&format!("order-{n}"));
        let decision = self.engine.place_order(Key::new("", &key), &order);
        let view = self.engine.settle_blocking(decision)?.value;
        for line in view.allocations {
            let at = (line.sku.to_string(), line.location.to_string());
            *self.sold.entry(at).or_default() += i64::from(line.quantity);
        }
        self.paid += paid(&order);
        self.orders += 1;
        Ok(())
    }

    /// Holds a cart and gives it back.
    pub fn change_of_mind(&mut self, n: u64) -> Result<(), Refusal> {
        let line = ReserveLine {
            sku: sku(n % self.skus),
            quantity: Quantity::new(7).unwrap(),
            location: None,
            split: true,
        };
        let reserve =
            Reserve { lines: vec![line], customer: None, order_id: None, ttl_ms: Some(60_000) };
        let (hold, release) = (key(&format!("hold-{n}")), key(&format!("release-{n}")));
        let held = self.engine.reserve(Key::new("", &hold), &reserve);
        let held = self.engine.settle_blocking(held)?.value;
        let given = self.engine.release(Key::new("", &release), held.id, &Release::default());
        self.engine.settle_blocking(given).map(|_| ())
    }

    /// What the ledger itself says is sold, by SKU and location.
    pub fn committed(&self) -> BTreeMap<(String, String), i64> {
        let positions = (0..self.skus).flat_map(|n| self.engine.stock(&sku(n)).unwrap().positions);
        positions
            .filter(|position| position.committed != 0)
            .map(|p| ((p.sku.to_string(), p.location.to_string()), p.committed))
            .collect()
    }
}

/// Order number `n`.
pub fn order(n: u64, skus: u64) -> PlaceOrder {
    let lines = (0..=n % 3)
        .map(|i| OrderLine {
            sku: sku((n * 7 + i) % skus),
            quantity: Some(Quantity::new((n % 4 + 1) as u32).unwrap()),
            location: Some(location(n / 3)),
            split: false,
            unit_price: Amount::new((n % 5_000 + 1) as i64 * 100).unwrap(),
            tax_code: (!n.is_multiple_of(5))
                .then(|| ["DE-19", "DE-7"][n as usize % 2].parse().unwrap()),
            tax: Amount::new((n % 13) as i64).unwrap(),
            discount: Amount::new((n % 3) as i64 * 10).unwrap(),
            unit_cost: None,
        })
        .collect();
    PlaceOrder {
        order_id: order_id(n),
        reservations: None,
        customer: None,
        lines,
        currency: Currency::new("EUR").unwrap(),
        prices: if n.is_multiple_of(2) { Prices::Gross } else { Prices::Net },
        shipping: Amount::new(490).unwrap(),
        shipping_tax: Amount::new(78).unwrap(),
        priority: Priority::Standard,
        promised_ship_at: None,
    }
}

pub fn order_id(n: u64) -> OrderId {
    format!("O-{n}").parse().unwrap()
}

pub fn amount(minor: i128) -> Amount {
    Amount::new(i64::try_from(minor).unwrap()).unwrap()
}

pub fn euro() -> Currency {
    Currency::new("EUR").unwrap()
}

/// Order number `n` is paid in part, less a thirtieth for who processes it.
pub fn settle<S: Storage>(engine: &Engine<S>, n: u64, minor: i128) {
    let (amount, fee) = (amount(minor), amount(minor / 30));
    let settlement_id = format!("PAY-{n}").parse().unwrap();
    let event = Settle { settlement_id, currency: euro(), amount, fee };
    let key = key(&format!("pay-{n}"));
    let settled = engine.settle_order(Key::new("", &key), &order_id(n), &event);
    engine.settle_blocking(settled).unwrap();
}

/// Order number `n` is invoiced, all of it.
pub fn invoice<S: Storage>(engine: &Engine<S>, n: u64) {
    let view = engine.settle_blocking(engine.order(&order_id(n))).unwrap().value;
    let invoice_id = format!("INV-{n}").parse().unwrap();
    let (amount, tax) = (amount(view.total.into()), amount(view.total_tax.into()));
    let event = Invoice { invoice_id, currency: euro(), amount, tax };
    let key = key(&format!("bill-{n}"));
    let invoiced = engine.invoice(Key::new("", &key), &order_id(n), &event);
    engine.settle_blocking(invoiced).unwrap();
}

/// What the customer pays for an order, tax contained.
pub fn paid(order: &PlaceOrder) -> i128 {
    let mut sum = i128::from(order.shipping.minor());
    let mut tax = i128::from(order.shipping_tax.minor());
    for line in &order.lines {
        let quantity = i128::from(line.quantity.unwrap().get());
        sum += i128::from(line.unit_price.minor()) * quantity - i128::from(line.discount.minor());
        tax += i128::from(line.tax.minor());
    }
    if order.prices == Prices::Net { sum + tax } else { sum }
}

/// An ERP and a finance system.
pub struct Partners {
    pub erp: Receiver,
    pub books: Receiver,
}

impl Partners {
    pub async fn start() -> Self {
        let start = || Receiver::start(Behaviour::default());
        Self { erp: start().await.unwrap(), books: start().await.unwrap() }
    }

    /// Sinks for both, with short windows and waits.
    pub fn configs(&self) -> Vec<SinkConfig> {
        let quick = |name, domain, receiver: &Receiver| SinkConfig {
            window_ms_max: 20,
            retry_initial_ms: 2,
            retry_max_ms: 50,
            timeout_ms: 5_000,
            ..SinkConfig::new(name, domain, receiver.url())
        };
        vec![
            quick("erp", Domain::Inventory, &self.erp),
            quick("books", Domain::Finance, &self.books),
        ]
    }

    pub fn deliver<S: Storage>(&self, engine: &Engine<S>) -> Handle {
        let runtime = tokio::runtime::Handle::current();
        sinks::start(engine, self.configs(), &runtime).unwrap()
    }

    pub fn behave(&self, change: impl Fn(&mut Behaviour)) {
        self.erp.behave(&change);
        self.books.behave(&change);
    }

    /// Checks that both were told exactly what was sold, and nothing that broke a promise.
    pub fn assert_told<S: Storage>(&self, shop: &Shop<S>) {
        let (erp, books) = (self.erp.totals(), self.books.totals());
        assert_eq!(erp.violations, Vec::<String>::new());
        assert_eq!(books.violations, Vec::<String>::new());
        assert_eq!(sold(&erp), shop.sold, "the ERP");
        assert_eq!(shop.sold, shop.committed(), "the ledger");
        assert_eq!(books.balance("EUR", "receivable"), shop.paid, "the books");
        assert_eq!(books.orders, shop.orders);
        let balance: i128 = books.accounts.values().map(|sum| sum.debit - sum.credit).sum();
        assert_eq!(balance, 0);
    }
}

/// Units that a receiver was told are sold, by SKU and location.
pub fn sold(totals: &Totals) -> BTreeMap<(String, String), i64> {
    totals
        .movements
        .iter()
        .filter(|((_, _, movement), _)| movement == "sold")
        .map(|((sku, location, _), units)| ((sku.clone(), location.clone()), *units))
        .collect()
}

/// Waits until something is so.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
