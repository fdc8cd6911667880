//! The books over the real engine, real HTTP and crashes: every event of an order reaches finance in the
//! order of business, what waits survives, and `holdfast books verify` says whether the entries hold.

use std::path::Path;

use crate::cli::{holdfast, run};
use crate::far_common::{
    PATIENCE, Partners, Shop, amount, euro, invoice, options, order, order_id, settle, until,
};
use holdfast::{
    delivery::Handle,
    engine::{Engine, Key, Options},
    model::{
        IdempotencyKey, Lsn, Quantity,
        command::{AuthorizeReturn, Cancel, ReceiveReturn, Refund, ReturnLine, Ship, ShipLine},
        event::{self, Event, Seal},
        posting::Recognition,
        sink::{Release, SinkView},
    },
    sinks,
    sinks::receiver::Totals,
    wal::{Draft, RoomClass, Storage, sim::SimStorage},
};

const SKUS: u64 = 8;

/// Lets something happen to order number `n`.
macro_rules! happens {
    ($engine:expr, $n:expr, $id:expr, $what:ident, $event:expr) => {{
        let key: IdempotencyKey = format!("{}-{}", $id, $n).parse().unwrap();
        let key = Key::new("", &key);
        let decision = $engine.$what(key, &order_id($n), &$event);
        $engine.settle_blocking(decision).unwrap()
    }};
}

fn refund<S: Storage>(engine: &Engine<S>, n: u64, minor: i128, tax: i128) {
    let refund_id = format!("BACK-{n}").parse().unwrap();
    let (amount, tax) = (amount(minor), amount(tax));
    let event = Refund { refund_id, currency: euro(), amount, tax, reason: None };
    happens!(engine, n, "back", refund, event);
}

fn deliver<S: Storage>(engine: &Engine<S>, partners: &Partners, when: Recognition) -> Handle {
    let mut configs = partners.configs();
    configs.iter_mut().for_each(|config| config.recognition = when);
    sinks::start(engine, configs, &tokio::runtime::Handle::current()).unwrap()
}

fn books(handle: &Handle) -> SinkView {
    handle.snapshot().into_iter().find(|sink| sink.name == "books").unwrap()
}

fn balances(totals: &Totals) -> [i128; 5] {
    ["receivable", "settlement_clearing", "processor_fees", "refunds", "revenue"]
        .map(|account| totals.balance("EUR", account))
}

/// Money that comes before its invoice waits for it, over the loss of the machine and a checkpoint.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_early_waits_over_a_crash_and_is_released_by_what_it_waits_for_or_by_hand() {
    let storage = SimStorage::new();
    let mut shop = Shop::open(Engine::open_on(storage.clone(), options()).unwrap(), SKUS);
    let partners = Partners::start().await;
    let handle = deliver(&shop.engine, &partners, Recognition::Invoice);
    // Two units at 3.00 and more: gross prices, one line.
    (0..7).for_each(|n| shop.sell(n).unwrap());
    let paid = crate::far_common::paid(&order(6, SKUS));
    refund(&shop.engine, 6, 100, 0);
    settle(&shop.engine, 6, paid);
    settle(&shop.engine, 0, 50);
    handle.drain(PATIENCE).await.unwrap();
    assert_eq!(books(&handle).parked, 3);
    let waiting = handle.parked("books").unwrap();
    let told: Vec<_> = waiting.iter().map(|p| (p.order_id.as_str(), p.kind.as_str())).collect();
    assert_eq!(told, [("O-6", "refund"), ("O-6", "settlement"), ("O-0", "settlement")]);
    assert!(waiting.iter().all(|parked| parked.waits_for == "recognition"), "{waiting:?}");
    assert_eq!(partners.books.totals().entries, 0);
    assert_eq!(handle.release_parked("books", "O-3"), Some(Release::NothingParked));
    assert_eq!(handle.release_parked("tax", "O-3"), None);

    shop.engine.checkpoint().unwrap();
    let disk = storage.crash(7);
    handle.shutdown(PATIENCE).await.ok();
    shop.engine.close().unwrap();
    let engine = Engine::open_on(disk, options()).unwrap();
    let handle = deliver(&engine, &partners, Recognition::Invoice);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let sink = books(&handle);
    assert_eq!(sink.parked, 3);
    assert!(sink.oldest_parked_age_ms >= 20, "{sink:?}");

    invoice(&engine, 6);
    handle.drain(PATIENCE).await.unwrap();
    let totals = partners.books.totals();
    let (fee, view) = (paid / 30, engine.order(&order_id(6)));
    let view = engine.settle_blocking(view).unwrap().value;
    let net = i128::from(view.total - view.total_tax) - (490 - 78);
    assert_eq!(balances(&totals), [0, paid - fee - 100, fee, 100, -net]);
    assert_eq!(books(&handle).parked, 1);

    assert_eq!(handle.release_parked("books", "O-0"), Some(Release::Asked { records: 1 }));
    until("released", || books(&handle).parked == 0).await;
    handle.drain(PATIENCE).await.unwrap();
    until("booked", || partners.books.totals().balance("EUR", "receivable") == -50).await;
    assert_eq!(partners.books.totals().violations, Vec::<String>::new());
    handle.shutdown(PATIENCE).await.unwrap();
    engine.close().unwrap();
}

/// A life of everything that can happen to order number `n`.
fn live<S: Storage>(engine: &Engine<S>, n: u64) {
    let view = engine.settle_blocking(engine.order(&order_id(n))).unwrap().value;
    let paid = i128::from(view.total);
    let line = |quantity: u32| ShipLine {
        sku: view.lines[0].sku.clone(),
        quantity: Quantity::new(quantity).unwrap(),
        location: None,
    };
    let id = |what: &str| format!("{what}-{n}").parse().unwrap();
    if n.is_multiple_of(4) {
        refund(engine, n, paid / 3, i128::from(view.total_tax) / 3);
    }
    settle(engine, n, paid);
    if n.is_multiple_of(3) {
        let event = Cancel { cancellation_id: id("CANCEL"), lines: None };
        happens!(engine, n, "cancel", cancel, event);
        return;
    }
    let (carrier, tracking) = (None, None);
    let lines = vec![line(1)];
    happens!(engine, n, "ship", ship, Ship { shipment_id: id("SHIP"), lines, carrier, tracking });
    invoice(engine, n);
    let back = AuthorizeReturn {
        return_id: id("RETURN"),
        lines: vec![ReturnLine {
            sku: view.lines[0].sku.clone(),
            quantity: Quantity::new(1).unwrap(),
        }],
        restock: n.is_multiple_of(2),
    };
    happens!(engine, n, "return", authorize_return, back);
    let key: IdempotencyKey = format!("receive-{n}").parse().unwrap();
    let receive = ReceiveReturn { receipt_id: id("RECEIPT"), lines: vec![line(1)] };
    let key = Key::new("", &key);
    let decision = engine.receive_return(key, &order_id(n), &id("RETURN"), &receive);
    engine.settle_blocking(decision).unwrap();
}

fn verify(data: &Path, config: Option<&str>) -> crate::cli::Ended {
    let mut command = holdfast();
    command.args(["books", "verify", "--data"]).arg(data);
    if let Some(config) = config {
        command.args(["--config", config]);
    }
    run(&mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_verifies_the_books_of_a_stopped_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = dir.path().join("shop.toml");
    let file = "[[sinks]]\nname = \"books\"\ndomain = \"finance\"\nurl = \"http://127.0.0.1:9/\"\n\
                recognition = \"shipment\"\n";
    std::fs::write(&config, file).unwrap();
    let config = config.to_str().unwrap();
    let mut shop = Shop::open(Engine::open(&data, options()).unwrap(), SKUS);
    let partners = Partners::start().await;
    let handle = deliver(&shop.engine, &partners, Recognition::Shipment);
    for n in 0..40 {
        shop.sell(n).unwrap();
        live(&shop.engine, n);
    }
    handle.drain(PATIENCE).await.unwrap();
    let sink = books(&handle);
    assert_eq!((sink.state.as_str(), sink.dead_letters), ("running", 0));
    let totals = partners.books.totals();
    assert_eq!(totals.violations, Vec::<String>::new());
    assert_ne!(totals.balance("EUR", "revenue"), 0);
    assert!(
        run(holdfast().args(["books", "verify", "--data"]).arg(&data)).with(3).err.contains("use")
    );
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
    drop(shop);

    for config in [Some(config), None] {
        let ended = verify(&data, config).with(0);
        let said = format!("{} entries", totals.entries);
        assert!(ended.out.contains(&said) && ended.out.contains(" 0 faults"), "{}", ended.out);
    }

    // One more batch, which says of itself what the last one did.
    let engine = Engine::open(&data, options()).unwrap();
    let mut seal = last_seal(&engine);
    seal.number += 1;
    let covers = seal.covers_lsn;
    (seal.first_lsn, seal.last_lsn) = (covers, covers);
    seal.parking = Default::default();
    let mut draft = Draft::new();
    event::encode(&seal, draft.begin(Seal::KIND, Seal::VERSION, seal.sealed_at_ms));
    draft.seal();
    let log = engine.log();
    let ticket = log.ticket(RoomClass::Delivery, draft.bytes(), 0).unwrap();
    log.wait_durable_blocking(ticket.append(&draft)).unwrap();
    engine.close().unwrap();
    drop(engine);
    let out = verify(&data, Some(config)).with(1).out;
    let named = format!("{:06}", seal.number);
    assert!(out.contains("WRONG: entry books-") && out.contains(&named), "{out}");
    assert!(out.contains("is not in the log") && out.contains("the chain is broken"), "{out}");
}

/// The last seal of the books that has a body.
fn last_seal(engine: &Engine) -> Seal {
    let mut reader = engine.log().reader(Lsn(0)).unwrap();
    let mut last = None;
    while let Some(record) = reader.next().unwrap() {
        if record.kind == Seal::KIND {
            let read = event::decode::<Seal>(record.lsn, record.kind, record.version, record.body);
            let seal = event::to_owned::<Seal>(read.unwrap());
            if seal.sink == "books" {
                last = Some(seal);
            }
        }
    }
    last.unwrap()
}

/// A log of small segments, whose archive is soon needed.
fn soon_let_go() -> Options {
    let mut options = options();
    options.wal.segment_bytes = SEGMENT;
    options.wal.budget_bytes = 8 << 20;
    options.wal.unsynced_bytes_max = 512 << 10;
    options
}

const SEGMENT: u64 = 64 << 10;

/// Sells, and lets the log go on until it has let go of all that, and has archived what is full.
async fn sell_and_let_go(data: &Path, sells: std::ops::Range<u64>) -> Totals {
    let shop = Engine::open(data, soon_let_go()).unwrap();
    let mut shop = Shop { engine: shop, skus: SKUS, sold: Default::default(), paid: 0, orders: 0 };
    let partners = Partners::start().await;
    let handle = deliver(&shop.engine, &partners, Recognition::Shipment);
    for n in sells.clone() {
        shop.sell(n).unwrap();
        live(&shop.engine, n);
    }
    handle.drain(PATIENCE).await.unwrap();
    let end = shop.engine.log().durable();
    for n in sells.start * 1_000_000.. {
        if n.is_multiple_of(500) {
            handle.drain(PATIENCE).await.unwrap();
            shop.engine.checkpoint().unwrap();
            let archived = shop.engine.log().stats().archive.unwrap().end;
            if shop.engine.log().oldest() > end && archived.0 > end.0 + SEGMENT {
                break;
            }
        }
        shop.change_of_mind(n).unwrap();
    }
    handle.drain(PATIENCE).await.unwrap();
    handle.shutdown(PATIENCE).await.unwrap();
    shop.engine.close().unwrap();
    partners.books.totals()
}

fn exported(data: &Path, what: &[&str], more: &[&str]) -> crate::cli::Ended {
    let mut command = holdfast();
    command.arg("export").args(what).args(["--format", "jsonl", "--data"]).arg(data).args(more);
    run(&mut command).with(0)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// The archived segments, oldest first.
fn archived(data: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(data.join("archive")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// What the log has let go is recomputed and exported from the archive; and a segment of it that was exchanged for
/// one that is whole for itself, and of the same log, does not pass.
#[tokio::test(flavor = "multi_thread")]
async fn books_are_verified_and_exported_from_the_archive_and_an_exchanged_segment_shows() {
    let dir = tempfile::tempdir().unwrap();
    let (data, other) = (dir.path().join("data"), dir.path().join("other"));
    Shop::open(Engine::open(&data, soon_let_go()).unwrap(), SKUS).engine.close().unwrap();
    let first = sell_and_let_go(&data, 0..120).await;
    let journal = |more: &[&str]| exported(&data, &["journal"], more);
    let before = journal(&[]).out;
    assert_eq!(before.lines().count() as u64, first.entries);
    copy(&data, &other);
    let second = sell_and_let_go(&data, 120..150).await;
    let third = sell_and_let_go(&data, 150..160).await;
    let entries = first.entries + second.entries + third.entries;

    let verified = verify(&data, None).with(0).out;
    assert!(verified.contains(&format!(" {entries} entries")), "{verified}");
    assert!(verified.contains(" 0 seals beyond") && verified.contains(" 0 faults"), "{verified}");
    let after = journal(&[]);
    assert!(after.out.starts_with(&before) && after.err.is_empty(), "{}", after.err);
    assert_eq!(after.out.lines().count() as u64, entries);
    // Orders and stock are as they stand, wherever their records are.
    assert_eq!(exported(&data, &["orders"], &[]).out.lines().count(), 160);
    assert_eq!(exported(&data, &["stock"], &[]).out.lines().count() as u64, 2 * SKUS);

    // The log alone has nothing of it any more, and says so.
    let mut command = holdfast();
    let arguments = ["export", "journal", "--format", "csv", "--without-archive", "--data"];
    let alone = run(command.args(arguments).arg(&data)).with(3).err;
    let says = |said: &str| said.contains("still there: the log in") && said.contains("restore");
    assert!(says(&alone), "{alone}");
    let mut command = holdfast();
    command.args(["books", "verify", "--without-archive", "--data"]).arg(&data);
    let alone = run(&mut command).with(0).out;
    assert!(says(&alone), "{alone}");

    // Where the archive ends, too: where a seal is there, and its records are not.
    let named = archived(&data);
    let aside = dir.path().join("aside");
    std::fs::create_dir(&aside).unwrap();
    let away = |path: &Path| aside.join(path.file_name().unwrap());
    let cut = (1..5).find_map(|gone| {
        std::fs::rename(&named[gone - 1], away(&named[gone - 1])).unwrap();
        let out = verify(&data, None).with(0).out;
        out.contains("are not recomputed").then_some((gone, out))
    });
    let (gone, cut) = cut.expect("a seal begins before a segment that has it");
    let begins = format!("begins at {}", gone as u64 * SEGMENT);
    assert!(cut.contains(&begins) && cut.contains("holdfast restore"), "{cut}");
    let cut = journal(&[]).err;
    assert!(cut.contains("are not in it") && cut.contains(&begins), "{cut}");
    named[..gone].iter().for_each(|path| std::fs::rename(away(path), path).unwrap());

    // Of the same log: the same life went on otherwise, from a copy. Everything in the file fits its name.
    let shared = archived(&other).len();
    sell_and_let_go(&other, 1_030..1_060).await;
    let (ours, theirs) = (&named[shared], &archived(&other)[shared]);
    assert_eq!(ours.file_name(), theirs.file_name());
    std::fs::rename(ours, away(ours)).unwrap();
    std::fs::copy(theirs, ours).unwrap();
    let mut command = holdfast();
    run(command.args(["wal", "verify", "--data"]).arg(&data)).with(0);
    let out = verify(&data, None).with(1).out;
    assert!(out.contains("WRONG: ") && !out.contains("DAMAGED"), "{out}");
    std::fs::rename(away(ours), ours).unwrap();
    verify(&data, None).with(0);

    // Two that have each other's names.
    let (one, two) = (&named[1], &named[2]);
    for (from, to) in [(one, &away(one)), (two, one), (&away(one), two)] {
        std::fs::rename(from, to).unwrap();
    }
    let out = verify(&data, None).with(1).out;
    for path in [one, two] {
        assert!(out.contains(&format!("DAMAGED: {}", path.display())), "{out}");
    }
    let mut command = holdfast();
    let arguments = ["export", "journal", "--format", "csv", "--data"];
    let refused = run(command.args(arguments).arg(&data)).with(3).err;
    assert!(refused.contains(&one.display().to_string()), "{refused}");
}
