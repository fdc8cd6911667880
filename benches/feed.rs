//! How many records a second one core folds into the windows of a sink, of each domain: the records of a
//! mixed sale, read in place as the feed reads them, and every window rendered when it is full. No log, no
//! seal, no delivery.
//!
//! Of ten reservations four expire and six are ordered, shipped, billed and paid; of a hundred one is
//! followed by a goods receipt. Carts have one to three lines; half of the orders stand on one SKU in
//! twenty.
//!
//! `cargo bench --bench feed -- [--reservations N] [--skus N] [--seconds N] [--runs N]`

use std::time::{Duration, Instant};

use clap::Parser;
use holdfast::{
    config::{Domain, SinkConfig},
    feed::folding::{Folding, Names, Sums},
    model::{
        Lsn,
        event::{
            self, Adjust, Event, Expire, Happened, KeyRef, Line, Of, OrderData, Placed, Priced,
            Reserve,
        },
        fact::{Fact, Shipped},
        life::{Known, Life},
        worth,
    },
    wal::Record,
};
use rkyv::util::AlignedVec;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    /// Reservations in the sale.
    #[arg(long, default_value_t = 20_000)]
    reservations: u64,
    /// SKUs, each at one location.
    #[arg(long, default_value_t = 1_000)]
    skus: u32,
    /// How long each domain is measured.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// How often.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A record's header; its body stands in the log's bytes.
struct Head {
    kind: u8,
    version: u8,
    begin: usize,
    end: usize,
}

/// A sale's log.
#[derive(Default)]
struct Sale {
    bytes: AlignedVec<8>,
    heads: Vec<Head>,
    random: u64,
    skus: u32,
}

impl Sale {
    fn new(reservations: u64, skus: u32) -> Self {
        let mut sale = Self { random: 0x9e37_79b9_7f4a_7c15, skus, ..Self::default() };
        (0..reservations).for_each(|n| sale.reservation(n));
        sale
    }

    /// Xorshift: the same sale every time.
    fn random(&mut self, below: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 32) as u32 % below
    }

    fn push<E: Event + event::Encode>(&mut self, event: &E) -> u64 {
        let (begin, mut body) = (self.bytes.len(), Vec::new());
        event::encode(event, &mut body);
        self.bytes.extend_from_slice(&body);
        let end = self.bytes.len();
        self.heads.push(Head { kind: E::KIND, version: E::VERSION, begin, end });
        begin as u64
    }

    fn lines(&mut self) -> Vec<Line> {
        let count = 1 + self.random(3);
        let mut lines: Vec<Line> = Vec::new();
        for _ in 0..count {
            let hot = self.random(2) == 0;
            let among = if hot { self.skus.div_ceil(20) } else { self.skus };
            let position = self.random(among);
            if lines.iter().all(|line| line.position != position) {
                lines.push(Line { position, quantity: 1 + self.random(3), limited: false });
            }
        }
        lines
    }

    fn reservation(&mut self, n: u64) {
        let lines = self.lines();
        let order_id = format!("order-{n:010}");
        let reserved = self.push(&Reserve {
            key: KeyRef { hash: [n, n], fingerprint: n },
            deadline_ms: 1_764_000_600_000,
            customer_hash: n,
            order_hash: n,
            slot: n as u32,
            lines: &lines,
            customer: "customer-0042",
            order_id: &order_id,
        });
        if n % 10 < 4 {
            let of = Of { reservation: reserved, previous: reserved, slot: n as u32 };
            self.push(&Expire { of, customer_hash: n, lines });
        } else {
            self.order(n, order_id, lines);
        }
        if n.is_multiple_of(100) {
            let position = self.random(self.skus);
            self.push(&Adjust {
                key: KeyRef::default(),
                delta: 500,
                position,
                forced: false,
                reason: 0,
                reference: "GR-1001".into(),
                answer: String::new(),
            });
        }
    }

    fn order(&mut self, n: u64, order_id: String, lines: Vec<Line>) {
        let priced = |line: &Line| Priced {
            unit_price: 1_999,
            tax: 319 * i64::from(line.quantity),
            discount: 0,
            unit_cost: 900,
            sku_number: line.position,
            quantity: line.quantity,
            tax_code: "DE-19".into(),
        };
        let order = OrderData {
            shipping: 490,
            shipping_tax: 78,
            promised_ship_at_ms: 1_764_000_000_000 + n % 7,
            committed_at_ms: 1_764_000_000_000,
            order_id: order_id.into(),
            customer: "customer-0042".into(),
            prices: lines.iter().map(priced).collect(),
            allocations: lines.into(),
            currency: *b"EUR",
            net: false,
            priority: 1,
        };
        self.push(&Placed {
            key: KeyRef { hash: [n, n], fingerprint: n },
            customer_hash: n,
            order_hash: n,
            taken_slot: Some(n as u32),
            reservations: Vec::new(),
            order: order.clone(),
        });
        let total: i64 = order.prices.iter().map(|p| p.unit_price * i64::from(p.quantity)).sum();
        let tax: i64 = order.prices.iter().map(|p| p.tax).sum();
        let amount = total + order.shipping;
        let shipped = (0..).zip(&order.allocations).map(|(allocation, line)| Shipped {
            allocation,
            from: line.position,
            position: line.position,
            quantity: line.quantity,
        });
        let (carrier, tracking) = ("DHL".to_owned(), format!("{n:020}"));
        let mut life = Life::default();
        for fact in [
            Fact::Shipment { lines: shipped.collect(), carrier, tracking },
            Fact::Invoice { amount, tax: tax + order.shipping_tax },
            Fact::Settlement { amount, fee: amount / 50 },
        ] {
            self.happen(&order, &mut life, fact);
        }
    }

    fn happen(&mut self, order: &OrderData, life: &mut Life, fact: Fact) {
        let sku_of = |position| position;
        let (before, id) = (life.clone(), format!("fact-{}", life.known.len()));
        let kind = fact.kind() as u8;
        let known =
            Known { lsn: 1, content: 0, at_ms: 1_000, id: id.clone().into(), kind, state: 0 };
        life.add(order, &fact, known);
        let worth =
            worth::of(order, &before, life, &fact, sku_of).expect("the sale's money adds up");
        self.push(&Happened {
            key: KeyRef::default(),
            previous: 0,
            content: 0,
            order_id: order.order_id.clone(),
            id: id.into(),
            turned: Vec::new().into(),
            worth,
            fact,
            state: life.state(order) as u8,
        });
    }

    /// Every record in turn; a later round stands later in the log.
    fn each(&self, round: u64, mut take: impl FnMut(&Record<'_>)) {
        let begin = round * self.bytes.len() as u64;
        for head in &self.heads {
            take(&Record {
                lsn: Lsn(begin + head.begin as u64),
                end: Lsn(begin + head.end as u64),
                kind: head.kind,
                version: head.version,
                time_ms: 1_764_000_000_000,
                body: &self.bytes[head.begin..head.end],
            });
        }
    }
}

fn names(skus: u32) -> Names {
    let sku = |n: u32| format!("SKU-{n:05}").parse().expect("a SKU");
    let location: holdfast::model::Location = "BER".parse().expect("a location");
    Names {
        positions: (0..skus).map(|n| (sku(n), location.clone())).collect(),
        skus: (0..skus).map(sku).collect(),
    }
}

fn measure(domain: Domain, sale: &Sale, args: &Args) {
    let config = SinkConfig::new("bench", domain, "http://127.0.0.1:9/");
    let mut folding = Folding::new(config, names(args.skus)).expect("a window");
    let (begin, mut round) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(args.seconds) {
        sale.each(round, |record| folding.fold(record).expect("a record that can be folded"));
        round += 1;
    }
    let Sums { windows, bytes, .. } = folding.turn().expect("a body");
    let elapsed = begin.elapsed().as_secs_f64();
    let records = round * sale.heads.len() as u64;
    println!(
        "{:<11} {:>6.2} million records/s {:>7.0} ns/record {:>9.0} records/window {:>8.0} B/window",
        domain.as_str(),
        records as f64 / elapsed / 1e6,
        elapsed * 1e9 / records as f64,
        records as f64 / windows as f64,
        bytes as f64 / windows as f64,
    );
}

fn main() {
    let args = Args::parse();
    let sale = Sale::new(args.reservations, args.skus);
    println!("{} records, {} bytes", sale.heads.len(), sale.bytes.len());
    for run in 1..=args.runs {
        println!("run {run}");
        for domain in [Domain::Inventory, Domain::Fulfilment, Domain::Finance, Domain::Stream] {
            measure(domain, &sale, &args);
        }
    }
}
