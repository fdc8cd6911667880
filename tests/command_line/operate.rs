//! What an operator does, over HTTP and on the command line, against a real server and an ERP that refuses
//! an article: pause, resume, skip, replay; dead letters listed, shown, mended, sent again, dropped; the
//! ERP's stock compared; and a freeze window, in which what matters is refused unless it is forced with a
//! reason. Every deed stands in the log, with who wanted it and why.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};

use crate::cli::{Ended, Server, get, holdfast, post, run, runtime};
use crate::erp::Erp;
use reqwest::Method;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server with one sink, and its partner.
struct House {
    server: Server,
    erp: Erp,
    folder: PathBuf,
    orders: u64,
    /// The ERP's.
    _runtime: tokio::runtime::Runtime,
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn configuration(folder: &Path, port: u16, freeze: bool) -> PathBuf {
    let mut toml = format!(
        "[[sinks]]\nname = \"erp\"\ndomain = \"inventory\"\nurl = \"http://127.0.0.1:{port}/batches\"\n\
         dedupe = \"line\"\nwindow_ms_max = 20\nretry_initial_ms = 10\nretry_max_ms = 50\n\
         [sinks.reconcile]\nurl = \"/stock\"\n"
    );
    if freeze {
        let at = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        let (from, until) = (at(now - 60), at(now + 3_600));
        toml += &format!(
            "[[freezes]]\nfrom = \"{from}\"\nuntil = \"{until}\"\nreason = \"the sale\"\n"
        );
    }
    let path = folder.join("holdfast.toml");
    fs::write(&path, toml).unwrap();
    path
}

impl House {
    fn start(folder: &Path) -> Self {
        let runtime = runtime();
        let erp = runtime.block_on(Erp::start());
        let config = configuration(folder, erp.port, false);
        let server =
            Server::start_with(&folder.join("data"), holdfast().env("HOLDFAST_CONFIG", config));
        Self { server, erp, folder: folder.to_owned(), orders: 0, _runtime: runtime }
    }

    fn again(self, freeze: bool) -> Self {
        assert_eq!(self.server.terminate().code(), Some(0));
        let config = configuration(&self.folder, self.erp.port, freeze);
        let data = self.folder.join("data");
        let server = Server::start_with(&data, holdfast().env("HOLDFAST_CONFIG", config));
        Self { server, ..self }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url)
    }

    fn command(&self, arguments: &[&str]) -> Ended {
        run(holdfast().args(arguments).args(["--url", &self.server.url]))
    }

    /// The same, with something to read.
    fn told(&self, arguments: &[&str], text: &str) -> Ended {
        let mut child = holdfast()
            .args(arguments)
            .args(["--url", &self.server.url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        Ended::of(child.wait_with_output().expect("it ends"))
    }

    /// Calls a route without a key; status and JSON.
    fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        runtime().block_on(async {
            let request = crate::cli::client().request(method, self.url(path));
            let request = match body {
                Some(body) => request.json(&body),
                None => request,
            };
            let answer = request.send().await.expect("an answer");
            (answer.status().as_u16(), answer.json().await.expect("JSON"))
        })
    }

    fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(body))
    }

    fn sink(&self) -> Value {
        get(&self.url("/v1/sinks"))["sinks"][0].clone()
    }

    fn letters(&self) -> Vec<Value> {
        get(&self.url("/v1/dead-letters"))["dead_letters"].as_array().unwrap().clone()
    }

    fn letter(&self) -> String {
        let [letter] = &self.letters()[..] else { panic!("{:?}", self.letters()) };
        letter["id"].as_str().unwrap().to_owned()
    }

    fn sell(&mut self, sku: &str, quantity: i64) {
        self.orders += 1;
        let body = json!({"order_id": format!("O-{}", self.orders), "currency": "EUR",
            "lines": [{"sku": sku, "quantity": quantity, "unit_price": 100}]});
        let (status, answer) = post(&self.url("/v1/orders"), &format!("k-{}", self.orders), &body);
        assert_eq!(status, 201, "{answer}");
    }

    /// Units that the ERP knows to be sold.
    fn sold(&self, sku: &str) -> i64 {
        let at = (sku.to_owned(), "BER".to_owned());
        self.erp.with(|erp| erp.stock.get(&at).map_or(0, |stock| stock.1))
    }

    fn settled(&self, sku: &str, units: i64) {
        until(&format!("{units} of {sku} sold, {}", self.sink()), || self.sold(sku) == units);
        until("acknowledged", || self.sink()["lag_records"] == 0);
    }
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or(""))
}

#[test]
fn an_operator_does_over_http_and_on_the_command_line_what_a_sale_needs() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = House::start(folder.path());
    let csv = folder.path().join("stock.csv");
    fs::write(&csv, "sku,location,on_hand\nA,BER,1000\nB,BER,1000\n").unwrap();
    house.command(&["stock", "import", csv.to_str().unwrap()]).with(0);
    pauses_and_goes_on(&mut house);
    skips(&mut house);
    compares(&house);
    mends(&mut house);
    drops(&mut house);
    replays(&house);
    let house = is_paused_over_a_restart(house);
    is_frozen(&house);
    assert_eq!(house.server.terminate().code(), Some(0));
    tells_the_log(&folder.path().join("data"));
}

fn pauses_and_goes_on(house: &mut House) {
    let paused = house.command(&["sinks", "pause", "erp", "--reason", "stocktaking"]).with(0);
    assert!(paused.out.contains("erp: pause, written down"), "{}", paused.out);
    house.sell("A", 3);
    until("it is sealed and waits", || house.sink()["lanes"][0]["depth"] == 1);
    let sink = house.sink();
    assert_eq!((&sink["state"], house.sold("A")), (&json!("paused"), 0));
    assert!(sink["reason"].as_str().unwrap().contains("stocktaking"), "{sink}");
    let list = house.command(&["sinks", "list"]).with(0).out;
    assert!(list.contains("erp: inventory, paused (paused by an operator: stocktaking)"), "{list}");
    assert_eq!(house.post("/v1/sinks/erp/resume", json!({"reason": "counted"})).0, 200);
    house.settled("A", 3);
    assert_eq!(house.post("/v1/sinks/erp/pause", json!({})).0, 200);
    house.command(&["sinks", "resume", "erp"]).with(0);
    until("it runs", || house.sink()["state"] == "running");
    for deed in ["pause", "resume", "skip"] {
        let nobody = house.post(&format!("/v1/sinks/nobody/{deed}"), json!({}));
        assert_eq!(code(&nobody), (404, "not_found"));
        let wrong = house.post(&format!("/v1/sinks/erp/{deed}"), json!({"because": "x"}));
        assert_eq!(code(&wrong), (400, "malformed"));
    }
    house.command(&["sinks", "pause", "nobody"]).with(3);
}

fn skips(house: &mut House) {
    assert_eq!(code(&house.post("/v1/sinks/erp/skip", json!({}))), (409, "wrong_state"));
    house.command(&["sinks", "skip", "erp"]).with(3);
    let mut units = 3;
    for by_http in [true, false] {
        house.erp.with(|erp| erp.outage = true);
        house.sell("A", 2);
        until("it is under way", || house.sink()["lanes"][0]["depth"] == 1);
        match by_http {
            true => {
                let (status, done) = house.post("/v1/sinks/erp/skip", json!({"reason": "stuck"}));
                assert_eq!((status, &done["count"]), (200, &json!(1)));
            }
            false => drop(house.command(&["sinks", "skip", "erp", "--reason", "stuck"]).with(0)),
        }
        until("it lies dead", || house.letters().len() == 1);
        house.erp.with(|erp| erp.outage = false);
        house.sell("A", 1);
        house.settled("A", units + 1);
        let letter = house.letter();
        let list = house.command(&["dead-letters", "list", "--sink", "erp"]).with(0).out;
        assert!(list.contains(&letter) && list.contains("skipped by an operator: stuck"), "{list}");
        house.command(&["dead-letters", "retry", &letter]).with(0);
        units += 3;
        house.settled("A", units);
        until("the letter is gone", || house.letters().is_empty());
    }
}

fn compares(house: &House) {
    let agrees = house.command(&["reconcile", "--sink", "erp"]).with(0).out;
    assert!(agrees.starts_with("erp: agrees at "), "{agrees}");
    let at = ("A".to_owned(), "BER".to_owned());
    house.erp.with(|erp| erp.stock.get_mut(&at).unwrap().0 -= 7);
    let drift = house.command(&["reconcile", "--sink", "erp"]).with(1).out;
    assert!(drift.contains("A at BER, on_hand: ledger 1000, partner 993"), "{drift}");
    assert!(drift.contains("unexplained -7"), "{drift}");
    house.command(&["reconcile", "--sink", "erp", "--last"]).with(1);
    house.erp.with(|erp| erp.stock.get_mut(&at).unwrap().0 += 7);
    let (status, report) = house.post("/v1/sinks/erp/reconcile", json!({}));
    assert_eq!((status, &report["state"]), (200, &json!("agrees")), "{report}");
    let last = get(&house.url("/v1/sinks/erp/reconciliation"));
    assert_eq!(last["state"], "agrees");
}

/// Sells what the ERP does not know: a letter.
fn refused(house: &mut House, units: i64) -> String {
    house.erp.with(|erp| erp.refused = Some("B".to_owned()));
    house.sell("B", units);
    until("a letter", || house.letters().len() == 1);
    house.letter()
}

fn mends(house: &mut House) {
    let letter = refused(house, 5);
    let path = format!("/v1/dead-letters/{letter}");
    let shown = house.command(&["dead-letters", "show", &letter]).with(0).out;
    let mut shown: Value = serde_json::from_str(&shown).unwrap();
    for field in ["id", "reason", "batch_id", "content"] {
        assert_eq!(shown[field], get(&house.url(&path))[field], "{field}");
    }
    assert_eq!((&shown["sink"], &shown["state"]), (&json!("erp"), &json!("dead")));
    assert!(shown["reason"].as_str().unwrap().contains("not ours"), "{shown}");
    let lines = shown["content"]["lines"].clone();
    assert_eq!((&lines[0]["sku"], &lines[0]["quantity"]), (&json!("B"), &json!(5)));
    // Sent again while it is refused, it is the same letter.
    assert_eq!(house.post(&format!("{path}/retry"), json!({})).0, 200);
    until("refused again", || house.letters()[0]["attempts"].as_u64() > shown["attempts"].as_u64());
    assert_eq!(house.letter(), letter);
    // Its lines keep their ids.
    let mut wrong = lines.clone();
    wrong[0]["line_id"] = "erp-0000-000001.1".into();
    let wrong = json!({"content": {"lines": wrong}});
    assert_eq!(code(&house.call(Method::PUT, &path, Some(wrong.clone()))), (400, "malformed"));
    let failed = house.told(&["dead-letters", "mend", &letter], &wrong.to_string()).with(3).err;
    assert!(failed.contains("line_id"), "{failed}");
    house.told(&["dead-letters", "mend", &letter], "{").with(2);
    assert_eq!(house.letters()[0]["mended"], false);
    // It was article A after all: by HTTP one unit too few, then on the command line as it is.
    let mut right = lines.clone();
    (right[0]["sku"], right[0]["quantity"]) = ("A".into(), 4.into());
    let body = json!({"content": {"lines": right}, "reason": "renamed"});
    let (status, mended) = house.call(Method::PUT, &path, Some(body));
    assert_eq!((status, &mended["mended"]), (200, &json!(true)), "{mended}");
    shown["content"]["lines"][0]["sku"] = "A".into();
    let mended =
        house.told(&["dead-letters", "mend", &letter, "--reason", "renamed"], &shown.to_string());
    assert!(mended.with(0).out.contains("mended; retry sends it"));
    let before = house.sold("A");
    house.command(&["dead-letters", "retry", &letter]).with(0);
    house.settled("A", before + 5);
    until("the letter is gone", || house.letters().is_empty());
    house.command(&["dead-letters", "retry", &letter]).with(3);
    assert_eq!(code(&house.call(Method::GET, &path, None)), (404, "not_found"));
}

fn drops(house: &mut House) {
    for (units, by_http) in [(1, true), (2, false)] {
        let letter = refused(house, units);
        let path = format!("/v1/dead-letters/{letter}");
        let without = house.call(Method::DELETE, &path, None);
        assert_eq!(code(&without), (400, "malformed"));
        house.command(&["dead-letters", "discard", &letter]).with(2);
        assert_eq!(house.letter(), letter);
        let gone = if by_http {
            assert_eq!(house.call(Method::DELETE, &format!("{path}?reason=by+hand"), None).0, 200);
            house.call(Method::DELETE, &format!("{path}?reason=by+hand"), None).0
        } else {
            let discard = ["dead-letters", "discard", &letter, "--reason", "by hand"];
            house.command(&discard).with(0);
            let failed = house.command(&discard).with(3).err;
            assert!(failed.contains("404"), "{failed}");
            404
        };
        assert_eq!((gone, house.letters().len(), house.sold("B")), (404, 0, 0));
    }
    // What was dropped, or mended to something else, is a difference that nobody explains.
    let drift = house.command(&["reconcile", "--sink", "erp", "--json"]).with(1).out;
    let drift: Value = serde_json::from_str(&drift).unwrap();
    let of = |sku: &str| {
        let drifts = drift["drifts"].as_array().unwrap();
        drifts.iter().find(|drift| drift["sku"] == sku).map(|drift| drift["unexplained"].clone())
    };
    assert_eq!((of("A"), of("B")), (Some(json!(5)), Some(json!(-8))), "{drift}");
}

fn replays(house: &House) {
    for wrong in [json!({}), json!({"from_lsn": 0, "from_time": "2026-01-01T00:00:00.000Z"})] {
        assert_eq!(code(&house.post("/v1/sinks/erp/replay", wrong)), (400, "malformed"));
    }
    house.command(&["sinks", "replay", "erp"]).with(2);
    let delivered = || house.sink()["attempts"]["done"].as_u64().unwrap();
    let (before, sold) = (delivered(), [house.sold("A"), house.sold("B")]);
    house.erp.with(|erp| erp.refused = None);
    let (status, done) = house.post("/v1/sinks/erp/replay", json!({"from_lsn": 0}));
    let count = done["count"].as_u64().unwrap();
    assert!(status == 202 && count >= 5, "{status} {done}");
    until("it is done", || house.sink()["replaying"] == 0);
    // What the ERP took it knows; what it refused and was dropped or mended is no business of a replay.
    let now = || [house.sold("A"), house.sold("B")];
    assert!(delivered() > before && now() == sold, "nothing twice");
    let before = delivered();
    let again = ["sinks", "replay", "erp", "--from-time", "2020-01-01T00:00:00.000Z"];
    let again = house.command(&again).with(0).out;
    assert!(again.contains("batches are sent again"), "{again}");
    until("it is done", || house.sink()["replaying"] == 0);
    assert!(delivered() > before && now() == sold, "nothing twice");
    let late = house.post("/v1/sinks/erp/replay", json!({"from_time": "2100-01-01T00:00:00.000Z"}));
    assert_eq!(code(&late), (409, "wrong_state"));
}

fn is_paused_over_a_restart(house: House) -> House {
    house.command(&["sinks", "pause", "erp", "--reason", "over night"]).with(0);
    let mut house = house.again(true);
    let sold = house.sold("A");
    house.sell("A", 1);
    until("it is sealed and waits", || house.sink()["lanes"][0]["depth"] == 1);
    let sink = house.sink();
    assert_eq!((&sink["state"], house.sold("A")), (&json!("paused"), sold), "{sink}");
    // A freeze window concerns neither.
    house.command(&["sinks", "resume", "erp"]).with(0);
    house.settled("A", sold + 1);
    refused(&mut house, 3);
    house
}

fn is_frozen(house: &House) {
    let letter = house.letter();
    let path = format!("/v1/dead-letters/{letter}");
    let attempts = || house.sink()["attempts"]["done"].as_u64().unwrap();
    let before = attempts();
    let answer = house.post("/v1/sinks/erp/replay", json!({"from_lsn": 0, "reason": "why not"}));
    assert_eq!(code(&answer), (409, "frozen"));
    assert!(answer.1["detail"].as_str().unwrap().contains("the sale"), "{}", answer.1);
    let failed = house.command(&["sinks", "replay", "erp", "--from-lsn", "0"]).with(3).err;
    assert!(failed.contains("frozen") && failed.contains("the sale"), "{failed}");
    let dropped = house.call(Method::DELETE, &format!("{path}?reason=why+not"), None);
    assert_eq!(code(&dropped), (409, "frozen"));
    house.command(&["dead-letters", "discard", &letter, "--reason", "why not"]).with(3);
    let without = house.post("/v1/sinks/erp/replay", json!({"from_lsn": 0, "force": true}));
    assert_eq!(code(&without), (400, "malformed"));
    house.command(&["sinks", "replay", "erp", "--from-lsn", "0", "--force"]).with(3);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!((attempts(), house.letter()), (before, letter.clone()), "nothing was done");
    // With a reason it is.
    house.erp.with(|erp| erp.refused = None);
    let forced = json!({"from_lsn": 0, "force": true, "reason": "they lost a disk"});
    assert_eq!(house.post("/v1/sinks/erp/replay", forced).0, 202);
    until("it is done", || house.sink()["replaying"] == 0 && attempts() > before);
    let reason = ["--reason", "sold by hand", "--force"];
    let discard = ["dead-letters", "discard", &letter];
    house.command(&[&discard[..], &reason[..]].concat()).with(0);
    assert_eq!(house.letters().len(), 0);
}

fn tells_the_log(data: &Path) {
    let dump = run(holdfast().args(["wal", "dump", "--kind", "operate", "--data"]).arg(data));
    let dump = dump.with(0).out;
    for (deed, reason, forced) in [
        ("pause", "stocktaking", false),
        ("resume", "counted", false),
        ("skip", "stuck", false),
        ("mend", "renamed", false),
        ("discard", "by hand", false),
        ("replay", "they lost a disk", true),
        ("discard", "sold by hand", true),
    ] {
        let told = dump.lines().any(|line| {
            [deed, reason, &format!("\"forced\":{forced}")].iter().all(|text| line.contains(text))
        });
        assert!(told, "{deed}, {reason}, {forced}: {dump}");
    }
    assert!(!dump.contains("why not"), "what was refused is no deed: {dump}");
}
