//! The real server, killed with SIGKILL under HTTP load again and again on one data directory, and
//! audited over HTTP after each restart:
//!
//! - every acknowledged reservation is there, with its id, in the acknowledged state, and the repeat
//!   of its request gets the first answer;
//! - none is invented: once the requests whose outcome the kill left open are repeated, what is held
//!   and committed is, to the unit, what the clients know of;
//! - no position is oversold;
//! - in the end ERP and finance, which were never killed, have exactly what was sold.
//!
//! A kill leaves the page cache alone, so this proves the order of things (what is told is in the
//! log, what is in the log is recovered), not the sync; crash images of the simulated disk do that.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::cli::{Server, client, get, holdfast};
use holdfast::sinks::receiver::{Behaviour, Receiver};
use reqwest::Client;
use serde_json::{Value, json};

/// How often the server is killed.
const KILLS: u64 = 24;
/// Clients at a time.
const CLIENTS: u64 = 12;
/// SKUs, units of each at the beginning, and units that come in after each kill, so that there is
/// something to sell to the end. The first SKU has next to nothing, so that there are refusals however
/// slow the machine is.
const SKUS: u64 = 12;
const SCARCE_SKU: u64 = 0;
const SCARCE_UNITS: i64 = 5;
const UNITS: i64 = 150;
const RECEIPT: i64 = 20;
/// Of what earlier rounds left, one in so many is looked at after each kill; all at the end.
const SAMPLE: u64 = 4;
/// The price of a unit, in cents.
const PRICE: i64 = 1999;

/// What a client did last with its reservation, and whether it knows how that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Reserve,
    Commit,
    Release,
}

/// One client's purchase, as far as the client knows.
#[derive(Debug, Clone)]
struct Purchase {
    number: u64,
    lines: Vec<(u64, i64)>,
    id: Option<String>,
    /// The last step, and whether its answer came.
    step: Step,
    answered: bool,
    /// Refused for lack of stock: it holds nothing and is not asked for again.
    refused: bool,
}

impl Purchase {
    fn new(number: u64) -> Self {
        let first = number % SKUS;
        let mut lines = vec![(first, 1 + (number / 7 % 2) as i64)];
        if number.is_multiple_of(3) {
            lines.push(((first + 5) % SKUS, 1));
        }
        Self { number, lines, id: None, step: Step::Reserve, answered: false, refused: false }
    }

    fn order_id(&self) -> String {
        format!("O-{}", self.number)
    }

    /// The state that was acknowledged.
    fn state(&self) -> &'static str {
        match self.step {
            Step::Reserve => "held",
            Step::Commit => "committed",
            Step::Release => "released",
        }
    }

    fn cart(&self) -> Value {
        let line =
            |(sku, quantity): &(u64, i64)| json!({"sku": sku_name(*sku), "quantity": quantity});
        json!({
            "lines": self.lines.iter().map(line).collect::<Vec<_>>(),
            "customer": format!("c-{}", self.number % 50),
            "ttl_ms": 3_600_000,
        })
    }

    fn order(&self) -> Value {
        let line = |(sku, _): &(u64, i64)| json!({"sku": sku_name(*sku), "unit_price": PRICE});
        json!({
            "order_id": self.order_id(),
            "currency": "EUR",
            "lines": self.lines.iter().map(line).collect::<Vec<_>>(),
        })
    }

    /// The request of the last step: path, key, body.
    fn request(&self) -> (String, String, Value) {
        let id = self.id.clone().unwrap_or_default();
        let number = self.number;
        match self.step {
            Step::Reserve => ("/v1/reservations".into(), format!("k{number}-r"), self.cart()),
            Step::Commit => {
                (format!("/v1/reservations/{id}/commit"), format!("k{number}-c"), self.order())
            }
            Step::Release => {
                (format!("/v1/reservations/{id}/release"), format!("k{number}-x"), json!({}))
            }
        }
    }

    /// Takes an answer of the last step in; panics if it is one that there must not be.
    fn take(&mut self, answer: &Answer) {
        match (self.step, answer.status) {
            (Step::Reserve, 201) => {
                let id = answer.body["id"].as_str().expect("an id").to_owned();
                assert!(self.id.as_ref().is_none_or(|known| *known == id), "{self:?}: {answer:?}");
                self.id = Some(id);
            }
            (Step::Reserve, 409) if !self.answered => {
                assert_eq!(answer.body["code"], "insufficient_stock", "{self:?}: {answer:?}");
                self.refused = true;
            }
            (Step::Commit | Step::Release, 200) => {
                assert_eq!(answer.body["id"].as_str(), self.id.as_deref(), "{self:?}: {answer:?}");
                assert_eq!(answer.body["state"], self.state(), "{self:?}: {answer:?}");
            }
            _ => panic!("{self:?} was answered {answer:?}"),
        }
        self.answered = true;
    }
}

fn sku_name(sku: u64) -> String {
    format!("SKU-{sku}")
}

#[derive(Debug)]
struct Answer {
    status: u16,
    replayed: bool,
    body: Value,
}

/// One attempt; `None` where no answer came, or one that says that nothing was done.
async fn ask(client: &Client, url: &str, purchase: &Purchase) -> Option<Answer> {
    let (path, key, body) = purchase.request();
    let request = client.post(format!("{url}{path}")).header("idempotency-key", key).json(&body);
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    let replayed = answer.headers().contains_key("idempotent-replayed");
    let body = answer.json().await.ok()?;
    (!matches!(status, 503 | 504)).then_some(Answer { status, replayed, body })
}

/// The same until an answer comes.
async fn insist(client: &Client, url: &str, purchase: &Purchase) -> Answer {
    for _ in 0..100 {
        if let Some(answer) = ask(client, url, purchase).await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no answer for {purchase:?}");
}

/// All purchases of all rounds.
#[derive(Debug, Default)]
struct Books {
    purchases: Vec<Purchase>,
    /// Purchases of rounds before the last.
    audited: usize,
    /// Receipts of each SKU but the scarce one.
    receipts: i64,
}

impl Books {
    /// Units of a SKU that there are or were.
    fn stocked(&self, sku: u64) -> i64 {
        if sku == SCARCE_SKU { SCARCE_UNITS } else { UNITS + RECEIPT * self.receipts }
    }

    fn sums(&self, state: &str) -> BTreeMap<u64, i64> {
        let mut sums: BTreeMap<u64, i64> = (0..SKUS).map(|sku| (sku, 0)).collect();
        let counted = self.purchases.iter().filter(|p| !p.refused && p.state() == state);
        for (sku, quantity) in counted.flat_map(|purchase| &purchase.lines) {
            *sums.get_mut(sku).expect("a known SKU") += quantity;
        }
        sums
    }
}

/// Clients that buy until their server dies.
struct Load {
    client: Client,
    url: String,
    next: AtomicU64,
    stop: AtomicBool,
    done: Mutex<Vec<Purchase>>,
}

impl Load {
    async fn buy(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut purchase = Purchase::new(self.next.fetch_add(1, Ordering::Relaxed));
            let alive = self.live(&mut purchase).await;
            self.done.lock().unwrap().push(purchase);
            if !alive {
                return;
            }
        }
    }

    /// Whether the server answered to the end.
    async fn live(&self, purchase: &mut Purchase) -> bool {
        let Some(answer) = ask(&self.client, &self.url, purchase).await else { return false };
        purchase.take(&answer);
        let step = match purchase.number % 8 {
            _ if purchase.refused => return true,
            0..2 => return true,
            2..4 => Step::Release,
            _ => Step::Commit,
        };
        (purchase.step, purchase.answered) = (step, false);
        let Some(answer) = ask(&self.client, &self.url, purchase).await else { return false };
        purchase.take(&answer);
        true
    }
}

/// Buys against a server that is killed after `life`; returns what the clients know.
async fn round(server: Server, first: u64, life: Duration) -> Vec<Purchase> {
    let load = Arc::new(Load {
        client: client(),
        url: server.url.clone(),
        next: AtomicU64::new(first),
        stop: AtomicBool::new(false),
        done: Mutex::default(),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let load = load.clone();
            tokio::spawn(async move { load.buy().await })
        })
        .collect();
    tokio::time::sleep(life).await;
    tokio::task::spawn_blocking(|| server.kill()).await.unwrap();
    load.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    std::mem::take(&mut *load.done.lock().unwrap())
}

/// Repeats every request whose outcome is open, then compares everything.
async fn audit(url: &str, books: &mut Books, sample: u64, round: u64) -> usize {
    let client = client();
    let mut open = 0;
    let audited = books.audited as u64;
    let chosen: Vec<usize> = (0..books.purchases.len())
        .filter(|at| *at as u64 >= audited || *at as u64 % sample == round % sample)
        .collect();
    // Several at a time, each purchase alone.
    for group in chosen.chunks(CLIENTS as usize) {
        let tasks: Vec<_> = group
            .iter()
            .map(|at| {
                let (client, url) = (client.clone(), url.to_owned());
                let purchase = books.purchases[*at].clone();
                tokio::spawn(async move { examine(&client, &url, purchase).await })
            })
            .collect();
        for (at, task) in group.iter().zip(tasks) {
            let (purchase, was_open) = task.await.unwrap();
            open += usize::from(was_open);
            books.purchases[*at] = purchase;
        }
    }
    books.audited = books.purchases.len();
    let mut ids = HashSet::new();
    for id in books.purchases.iter().filter_map(|purchase| purchase.id.as_ref()) {
        assert!(ids.insert(id), "two purchases have {id}");
    }
    open
}

/// One purchase: its last request again, then its reservation (and order) as it stands.
async fn examine(client: &Client, url: &str, mut purchase: Purchase) -> (Purchase, bool) {
    if purchase.refused {
        return (purchase, false);
    }
    let was_open = !purchase.answered;
    let answer = insist(client, url, &purchase).await;
    assert!(was_open || answer.replayed, "{purchase:?} was decided twice: {answer:?}");
    purchase.take(&answer);
    let Some(id) = &purchase.id else { return (purchase, was_open) };
    let reservation = read(client, &format!("{url}/v1/reservations/{id}")).await;
    assert_eq!(reservation["state"], purchase.state(), "{purchase:?}: {reservation}");
    if purchase.step != Step::Reserve {
        let reserve = Purchase { step: Step::Reserve, answered: true, ..purchase.clone() };
        let answer = insist(client, url, &reserve).await;
        assert!(answer.replayed && answer.status == 201, "{purchase:?}: {answer:?}");
        assert_eq!(answer.body["id"].as_str(), Some(id.as_str()), "{purchase:?}");
    }
    if purchase.step == Step::Commit {
        let order = read(client, &format!("{url}/v1/orders/{}", purchase.order_id())).await;
        assert_eq!(order["state"], "committed", "{purchase:?}: {order}");
    }
    (purchase, was_open)
}

async fn read(client: &Client, url: &str) -> Value {
    let answer = client.get(url).send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{url}");
    answer.json().await.expect("JSON")
}

/// What the ledger holds is what the clients know of, to the unit.
async fn compare(url: &str, books: &Books) {
    let client = client();
    let (held, committed) = (books.sums("held"), books.sums("committed"));
    for sku in 0..SKUS {
        let stock = read(&client, &format!("{url}/v1/stock/{}", sku_name(sku))).await;
        let figure = |name: &str| stock[name].as_i64().expect("a number");
        assert_eq!(figure("held"), held[&sku], "held of {sku}: {stock}");
        assert_eq!(figure("committed"), committed[&sku], "committed of {sku}: {stock}");
        assert_eq!(
            figure("available"),
            books.stocked(sku) - held[&sku] - committed[&sku],
            "{stock}"
        );
        assert!(figure("available") >= 0, "{stock}");
    }
    let status = read(&client, &format!("{url}/v1/status")).await;
    assert_eq!(status["oversold"], 0, "{status}");
    let open: i64 =
        books.purchases.iter().filter(|p| !p.refused && p.state() == "held").count() as i64;
    assert_eq!(status["open_reservations"], open, "{status}");
}

/// Goods come in; asked for twice, they come once.
async fn receive_goods(url: &str, books: &mut Books, round: u64) {
    let client = client();
    for sku in (0..SKUS).filter(|sku| *sku != SCARCE_SKU) {
        let body = json!({"sku": sku_name(sku), "location": "BER", "delta": RECEIPT,
            "reason": "receipt", "reference": format!("GR-{round}")});
        for _ in 0..2 {
            let key = format!("gr-{round}-{sku}");
            let request = client.post(format!("{url}/v1/stock/adjustments"));
            let answer = request.header("idempotency-key", key).json(&body).send().await.unwrap();
            assert_eq!(answer.status(), 201, "{:?}", answer.text().await);
        }
    }
    books.receipts += 1;
}

fn configuration(dir: &Path, erp: &Receiver, finance: &Receiver) -> PathBuf {
    let path = dir.join("holdfast.toml");
    let sink = |name: &str, domain: &str, url: &str| {
        format!(
            "[[sinks]]\nname = \"{name}\"\ndomain = \"{domain}\"\nurl = \"{url}\"\n\
             window_ms_max = 50\nretry_initial_ms = 20\nretry_max_ms = 200\n"
        )
    };
    let text = sink("erp", "inventory", &erp.url()) + &sink("books", "finance", &finance.url());
    fs::write(&path, text).unwrap();
    path
}

fn command(configuration: &Path) -> Command {
    let mut command = holdfast();
    // Checkpoints often enough that kills hit them too.
    command.env("HOLDFAST__ENGINE__CHECKPOINT_BYTES", "256 KiB");
    command.env("HOLDFAST_CONFIG", configuration);
    command
}

#[test]
fn twenty_four_kills_lose_and_invent_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let runtime = crate::cli::runtime();
    let erp = runtime.block_on(Receiver::start(Behaviour::default())).unwrap();
    let finance = runtime.block_on(Receiver::start(Behaviour::default())).unwrap();
    let configuration = configuration(dir.path(), &erp, &finance);
    let start = || Server::start_with(&data, &mut command(&configuration));

    let mut server = start();
    let line = |sku| format!("{},BER,{}\n", sku_name(sku), Books::default().stocked(sku));
    let stock: String = (0..SKUS).map(line).collect();
    let csv = dir.path().join("stock.csv");
    fs::write(&csv, format!("sku,location,on_hand\n{stock}")).unwrap();
    crate::cli::run(holdfast().args(["stock", "import", "--url", &server.url]).arg(&csv)).with(0);

    let mut books = Books::default();
    let mut open = 0;
    for kill in 0..KILLS {
        // From a kill in the middle of the first requests to a second of load.
        let life = Duration::from_millis(20 + (kill * 137) % 400);
        let first = 1_000_000 * (kill + 1);
        books.purchases.extend(runtime.block_on(round(server, first, life)));
        server = start();
        open += runtime.block_on(audit(&server.url, &mut books, SAMPLE, kill));
        runtime.block_on(compare(&server.url, &books));
        runtime.block_on(receive_goods(&server.url, &mut books, kill));
    }
    assert!(open > 0, "no kill hit a request under way");
    runtime.block_on(audit(&server.url, &mut books, 1, 0));
    runtime.block_on(compare(&server.url, &books));
    let granted = books.purchases.iter().filter(|p| p.id.is_some()).count();
    let refused = books.purchases.iter().filter(|p| p.refused).count();
    println!("{granted} granted, {refused} refused, {open} left open by {KILLS} kills");
    assert!(granted > KILLS as usize && refused > 0);
    reconcile(&server.url, &books, &erp, &finance);
    assert_eq!(server.terminate().code(), Some(0));
}

/// The receivers have, in the end, exactly what was sold.
fn reconcile(url: &str, books: &Books, erp: &Receiver, finance: &Receiver) {
    let sold: i64 = books.sums("committed").values().sum();
    let orders = books.purchases.iter().filter(|p| p.id.is_some() && p.state() == "committed");
    let orders = orders.count() as u64;
    let settled = || {
        let (erp, finance) = (erp.totals(), finance.totals());
        erp.moved("sold") == sold && finance.orders == orders
    };
    for _ in 0..600 {
        if settled() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let (erp, finance) = (erp.totals(), finance.totals());
    let sinks = get(&format!("{url}/v1/sinks"));
    assert_eq!(erp.moved("sold"), sold, "{sinks}");
    for (sku, units) in books.sums("committed") {
        let key = (sku_name(sku), "BER".to_owned(), "sold".to_owned());
        assert_eq!(erp.movements.get(&key).copied().unwrap_or(0), units, "{key:?}");
    }
    assert_eq!(finance.orders, orders, "{sinks}");
    assert_eq!(finance.balance("EUR", "receivable"), i128::from(sold * PRICE));
    assert_eq!((erp.violations, finance.violations), (Vec::new(), Vec::new()));
}
