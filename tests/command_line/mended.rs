//! What finance was told in the end of entries that lay dead: sent again as they were, changed by a person,
//! or dropped. The journal shows it entry by entry, and a verification names what was changed.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use crate::cli::{holdfast, run};
use crate::far_common::{PATIENCE, Shop, link::Link, options, order, until};
use holdfast::{
    config::{Domain, SinkConfig},
    delivery::Handle,
    engine::{Engine, Key},
    model::{
        Currency, Lsn,
        letter::Letter,
        sink::wish::{By, From, Wish},
    },
    wal::Storage,
};
use serde_json::Value;
use tempfile::TempDir;

const CURRENCIES: [&str; 5] = ["CHF", "EUR", "JPY", "KWD", "USD"];

/// An order of each currency: an entry of each, in one batch. Those of euros, dinars and dollars have the tax
/// code DE-7.
fn sell<S: Storage>(engine: &Engine<S>) {
    for (n, code) in [0, 1, 2, 3, 7].into_iter().zip(CURRENCIES) {
        let mut order = order(n, 5);
        order.currency = Currency::new(code).unwrap();
        let key = format!("order-{n}").parse().unwrap();
        let placed = engine.place_order(Key::new("", &key), &order);
        engine.settle_blocking(placed).unwrap();
    }
}

fn letter(handle: &Handle, currency: &str) -> Arc<Letter> {
    let of = |letter: &Letter| String::from_utf8_lossy(&letter.body).contains(currency);
    let letters = handle.letters();
    let found = letters.into_iter().find(|(_, letter)| of(letter));
    found.unwrap_or_else(|| panic!("no letter of {currency}")).1
}

async fn wish(handle: &Handle, wish: Wish) {
    let by = By { who: "ops".into(), reason: "the account was closed".into(), forced: false };
    handle.wish("fin", wish, by).await.unwrap().unwrap();
}

fn output(data: &Path, words: &[&str]) -> String {
    let ended = run(holdfast().args(words).arg("--data").arg(data)).with(0);
    assert_eq!(ended.err, "");
    ended.out
}

/// The journal's entries by currency.
fn journal(data: &Path) -> BTreeMap<String, Value> {
    let lines = output(data, &["export", "journal", "--format", "jsonl"]);
    let entries = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.map(|entry| (entry["currency"].as_str().unwrap().to_owned(), entry)).collect()
}

fn states(journal: &BTreeMap<String, Value>) -> [&str; 5] {
    CURRENCIES.map(|code| journal[code]["state"].as_str().unwrap())
}

fn verified(data: &Path) -> String {
    output(data, &["books", "verify"])
}

/// An engine on a directory that exports may read once it is closed.
struct House {
    dir: TempDir,
    link: Link,
}

impl House {
    async fn open(&self) -> (Engine, Handle) {
        let engine = Engine::open(self.dir.path(), options()).unwrap();
        let config = SinkConfig::new("fin", Domain::Finance, "http://127.0.0.1:1/");
        let handle = self.link.deliver(&engine, config);
        handle.drain(PATIENCE).await.unwrap();
        (engine, handle)
    }

    async fn close(&self, engine: Engine, handle: Handle) -> &Path {
        handle.shutdown(PATIENCE).await.unwrap();
        engine.close().unwrap();
        self.dir.path()
    }
}

/// Of one batch the partner takes two entries and refuses three. Of these one is changed by a person, refused
/// once more and then taken, one is sent again as it was, and one is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn each_entry_says_whether_the_partner_has_it_and_as_what() {
    const D: &str = "delivered";
    const R: &str = "refused";
    for knows_lines in [false, true] {
        let house = House { dir: TempDir::new().unwrap(), link: Link::default() };
        let shop = Shop::open(Engine::open(house.dir.path(), options()).unwrap(), 5);
        sell(&shop.engine);
        shop.engine.close().unwrap();
        drop(shop);
        house.link.erp().knows_lines = knows_lines;
        house.link.erp().bad = Some("DE-7");
        let (engine, handle) = house.open().await;
        let data = house.close(engine, handle).await;
        let sealed = journal(data);
        assert_eq!(states(&sealed), [D, R, D, R, R]);
        assert!(!verified(data).contains("MENDED"));

        let (engine, handle) = house.open().await;
        let [euros, dinars, dollars] =
            ["EUR", "KWD", "USD"].map(|currency| letter(&handle, currency).id.clone());
        let mut content: Value = serde_json::from_slice(&letter(&handle, "EUR").body).unwrap();
        content["entries"][0]["postings"][0]["account"] = "1400".into();
        wish(&handle, Wish::Mend { letter: euros.clone(), content }).await;
        wish(&handle, Wish::Retry { letter: euros.clone() }).await;
        until("refused again", || !letter(&handle, "EUR").mended).await;
        let data = house.close(engine, handle).await;
        assert_eq!(journal(data), sealed, "nobody has it yet");
        assert!(!verified(data).contains("MENDED"));

        let (engine, handle) = house.open().await;
        wish(&handle, Wish::Discard { letter: dollars }).await;
        house.link.erp().bad = None;
        for letter in [&euros, &dinars] {
            wish(&handle, Wish::Retry { letter: letter.clone() }).await;
        }
        until("both are taken", || handle.letters().is_empty()).await;
        let data = house.close(engine, handle).await;
        let told = journal(data);
        assert_eq!(states(&told), [D, D, D, D, R]);

        // What the partner has goes out again, and changes nothing of that.
        let (engine, handle) = house.open().await;
        let sent = house.link.erp().sent.len();
        wish(&handle, Wish::Replay { from: From::Lsn(Lsn(0)) }).await;
        until("all is sent again", || house.link.erp().sent.len() >= sent + 3).await;
        let data = house.close(engine, handle).await;
        assert_eq!(journal(data), told);

        let entry = &told["EUR"];
        assert_eq!(entry["postings"][0]["account"], "1400", "as the partner was told");
        let changed = entry["mended"].as_str().unwrap();
        let account = r#"postings[0].account: "receivable" became "1400""#;
        let who = format!("(letter {euros}, mended by ops at ");
        for said in [account, &who, "Z: the account was closed)"] {
            assert!(changed.contains(said), "{changed}");
        }
        for code in ["CHF", "JPY", "KWD", "USD"] {
            let mut before = sealed[code].clone();
            before["state"] = told[code]["state"].clone();
            assert_eq!(told[code], before, "{code}");
        }

        let out = verified(data);
        let line = format!("MENDED: entry {}: {changed}", entry["entry_id"].as_str().unwrap());
        assert!(out.lines().any(|said| said == line), "{out}");
        assert_eq!(out.matches("MENDED").count(), 1, "{out}");
        assert!(out.contains("; 0 faults"), "{out}");

        let text = |format| output(data, &["export", "journal", "--format", format]);
        let hledger = text("hledger");
        assert_eq!(hledger.matches(" * (fin-").count(), 4, "{hledger}");
        assert_eq!(hledger.matches(" ! (fin-").count(), 1, "{hledger}");
        for (program, arguments, journal) in [
            ("hledger", &["check", "--strict", "-f"][..], hledger),
            ("bean-check", &[], text("beancount")),
        ] {
            assert_eq!(journal.matches("mended:").count(), 1, "{journal}");
            let dir = TempDir::new().unwrap();
            let file = dir.path().join("journal");
            std::fs::write(&file, journal).unwrap();
            let mut command = std::process::Command::new(program);
            let ended = command.args(arguments).arg(&file).output();
            let ended = ended.unwrap_or_else(|e| panic!("{program} must be installed: {e}"));
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        }
        let csv = text("csv");
        let mut rows = csv::Reader::from_reader(csv.as_bytes());
        let rows = rows.deserialize::<BTreeMap<String, String>>().map(Result::unwrap);
        let mended: Vec<_> = rows.filter(|row| !row["mended"].is_empty()).collect();
        assert!(mended.iter().all(|row| row["currency"] == "EUR" && row["mended"] == changed));
        assert_eq!(mended.len(), entry["postings"].as_array().unwrap().len());
    }
}
