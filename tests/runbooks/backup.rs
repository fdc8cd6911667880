//! `holdfast backup` and `holdfast restore`: what was answered before the backup is in it, whatever goes on
//! meanwhile; what is restored is a new life that takes nothing of the lost one for its own.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use holdfast::sinks::receiver::{Behaviour, Receiver};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    cli::{get, holdfast, post, run, runtime},
    house::{House, SECRET, until},
};

fn manifest(dir: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join("manifest.json")).unwrap()).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The names of a directory's files.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_backup_under_load_has_all_that_was_answered_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = House::new(folder.path());
    house.serve();
    house.stock("A,BER,100000\n");
    let (answered, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let url = house.url("/v1/reservations");
    let reserve = |thread: u64| {
        runtime().block_on(async {
            let client = super::cli::client();
            let body = json!({"lines": [{"sku": "A", "quantity": 1}]});
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let request = client.post(&url).header("idempotency-key", format!("{thread}-{n}"));
                let answer = request.json(&body).send().await.unwrap();
                assert_eq!(answer.status().as_u16(), 201);
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
    };
    let before = std::thread::scope(|scope| {
        scope.spawn(|| reserve(0));
        scope.spawn(|| reserve(1));
        until("a few are answered", || answered.load(Ordering::SeqCst) > 200);
        let before = answered.load(Ordering::SeqCst);
        house.backup("backup");
        let during = answered.load(Ordering::SeqCst);
        until("the sale goes on", || answered.load(Ordering::SeqCst) > during + 50);
        stop.store(true, Ordering::Relaxed);
        before
    });
    let after = answered.load(Ordering::SeqCst);
    house.kill();
    fs::rename(house.path("data"), house.path("lost")).unwrap();
    let told = house.offline(&["restore", "backup", "--data", "data", "--lost", "lost"]).with(0);
    assert!(told.out.contains("oversold 0"), "{}", told.out);
    house.serve();
    let held = get(&house.url("/v1/stock/A"))["held"].as_u64().unwrap();
    assert!((before..after).contains(&held), "{before} answered, then {held} held, of {after}");
    let lost = format!("({} reserve)", after - held);
    assert!(told.out.contains(&lost), "{} in {}", lost, told.out);
    // What was answered is answered again; what was lost is decided anew.
    let (status, again) = house.reserve("0-0", "A", 1);
    assert_eq!(status, 201);
    let id = text(&again["id"]);
    assert_eq!(get(&house.url(&format!("/v1/reservations/{id}")))["state"], "held");
    assert_eq!(get(&house.url("/v1/stock/A"))["held"].as_u64(), Some(held));
    let metrics = runtime().block_on(async {
        super::cli::client().get(house.url("/metrics")).send().await.unwrap().text().await.unwrap()
    });
    assert!(metrics.contains("holdfast_backups_total{result=\"done\"} 0"), "{metrics}");
}

#[test]
fn a_restored_directory_is_a_new_life() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = House::new(folder.path());
    house.serve();
    house.stock("A,BER,100\n");
    house.settled("A", 0);
    house.sell("O-1", "A", 3);
    house.settled("A", 3);
    // Sealed and not acknowledged when the backup is made; the answer is lost, so to say.
    house.erp.with(|erp| erp.latency = Duration::from_secs(5));
    house.sell("O-2", "A", 5);
    until("the ERP has it", || house.sold("A") == 8);
    assert_ne!(house.sink()["lag_records"], 0);
    let said = house.backup("backup").out;
    let first_life = text(&house.status()["incarnation"]);
    assert!(said.contains(&first_life), "{said}");
    house.erp.with(|erp| erp.latency = Duration::ZERO);
    // After the backup: sold, and the ERP knows it.
    house.sell("O-3", "A", 7);
    house.settled("A", 15);
    let lost_end = house.status()["durable"].as_u64().unwrap();
    house.kill();
    fs::rename(house.path("data"), house.path("lost")).unwrap();
    let told =
        house.offline(&["restore", "backup", "--data", "data", "--lost", "lost"]).with(0).out;
    assert!(told.contains("1 positions, 2 orders") && told.contains("lost order O-3"), "{told}");
    assert!(told.contains("erp: paused"), "{told}");
    assert!(!house.path("data.part").exists());
    house.serve();
    let life = text(&house.status()["incarnation"]);
    assert_ne!(life[..4], first_life[..4]);
    let sink = house.sink();
    assert_eq!((&sink["state"], &sink["batches_delivered"]), (&json!("paused"), &json!(2)));
    assert!(text(&sink["reason"]).contains("restored from a backup"), "{sink}");
    // A position of the new life is above any that the lost one had.
    let (status, new) = house.sell("O-4", "A", 2);
    assert_eq!(status, 201, "{new}");
    assert!(new["lsn"].as_u64().unwrap() > lost_end + (1 << 39), "{new} {lost_end}");
    // The ERP has what was lost: the comparison says so, and nothing else.
    let drift = house.command(&["reconcile", "--sink", "erp"]).with(1).out;
    assert!(
        drift.contains("A at all locations, committed: ledger 10, partner 15; in flight -2"),
        "{drift}"
    );
    house.command(&["sinks", "resume", "erp"]).with(0);
    // O-2 goes out under the id that it had and is known; O-4 is new.
    house.settled("A", 17);
    let trace = get(&house.url("/v1/orders/O-2/trace")).to_string();
    assert!(trace.contains(&format!("erp-{}-", &first_life[..4])), "{trace}");
    let trace = get(&house.url("/v1/orders/O-4/trace")).to_string();
    assert!(trace.contains(&format!("erp-{}-", &life[..4])), "{trace}");
    assert_eq!(get(&house.url("/v1/orders/O-1"))["state"], "committed");
    assert_eq!(get(&house.url("/v1/stock/A"))["committed"], json!(10));
    is_backed_up_again(house);
}

/// A life that was restored is backed up and restored like the first.
fn is_backed_up_again(mut house: House) {
    house.terminate();
    house.offline(&["wal", "verify", "--data", "data"]).with(0);
    let second = house.offline(&["backup", "--data", "data", "--to", "again"]).with(0).out;
    assert!(second.contains("incarnation"), "{second}");
    fs::rename(house.path("data"), house.path("second")).unwrap();
    house.offline(&["restore", "again", "--data", "data"]).with(0);
    house.serve();
    house.command(&["sinks", "resume", "erp"]).with(0);
    assert_eq!(house.sell("O-5", "A", 1).0, 201);
    house.settled("A", 18);
    let lives: Vec<_> =
        ["backup", "again"].map(|b| manifest(&house.path(b))["log"]["incarnation"].clone()).into();
    assert_ne!(lives[0], lives[1]);
    house.terminate();
    let verified = house.offline(&["wal", "verify", "--data", "data"]).with(0).out;
    assert!(verified.contains("; 0 damaged places"), "{verified}");
}

/// Events that came, each with its id.
async fn listen() -> (String, Arc<Mutex<Vec<Value>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = events.clone();
    let take = move |body: axum::body::Bytes| {
        let all: Vec<Value> = serde_json::from_slice(&body).unwrap();
        heard.lock().extend(all);
        std::future::ready("")
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    let app = axum::Router::new().route("/events", axum::routing::post(take));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, events)
}

/// An event's id is made of the life that its record was written in, whoever sends it.
#[test]
fn events_of_the_life_before_keep_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = House::new(folder.path());
    house.serve();
    house.stock("A,BER,100\n");
    let first_lsn = house.sell("O-1", "A", 3).1["lsn"].as_u64().unwrap();
    let first_life = text(&house.status()["incarnation"]);
    house.backup("backup");
    house.kill();
    fs::remove_dir_all(house.path("data")).unwrap();
    // A sink that gets everything from the begin on.
    let runtime = runtime();
    let (url, events) = runtime.block_on(listen());
    house.add_sink("events", "stream", &url);
    house.offline(&["restore", "backup", "--data", "data"]).with(0);
    house.serve();
    house.command(&["sinks", "resume", "events"]).with(0);
    let second_lsn = house.sell("O-2", "A", 3).1["lsn"].as_u64().unwrap();
    let life = text(&house.status()["incarnation"]);
    let id_of = |order: &str| {
        let events = events.lock();
        let of = |event: &&Value| event["subject"] == order;
        events.iter().find(of).map(|event| text(&event["id"]))
    };
    until("both came", || id_of("O-1").is_some() && id_of("O-2").is_some());
    assert_eq!(id_of("O-1"), Some(format!("{first_life}-{first_lsn}")));
    assert_eq!(id_of("O-2"), Some(format!("{life}-{second_lsn}")));
}

/// What one life sealed is verified under its name, what the next one sealed under its own.
#[test]
fn the_books_hold_over_two_lives() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let finance = runtime.block_on(Receiver::start(Behaviour::default())).unwrap();
    let mut house = House::new(folder.path());
    house.add_sink("books", "finance", &finance.url());
    house.serve();
    house.stock("A,BER,100\n");
    let booked = |house: &House, orders: i64| {
        let receivable = || finance.totals().balance("EUR", "receivable");
        until("it is booked", || receivable() == i128::from(orders) * 300);
        until("and known to be", || get(&house.url("/v1/sinks"))["sinks"][1]["lag_records"] == 0);
    };
    house.sell("O-1", "A", 3);
    booked(&house, 1);
    house.backup("backup");
    house.kill();
    fs::remove_dir_all(house.path("data")).unwrap();
    let told = house.offline(&["restore", "backup", "--data", "data"]).with(0).out;
    assert!(told.contains("books: paused") && told.contains("erp: paused"), "{told}");
    house.serve();
    house.command(&["sinks", "resume", "books"]).with(0);
    house.sell("O-2", "A", 3);
    booked(&house, 2);
    house.terminate();
    let verified = house.offline(&["books", "verify", "--data", "data"]).with(0).out;
    assert!(verified.contains(" 2 entries, ") && verified.contains("; 0 faults"), "{verified}");
    assert_eq!(finance.totals().violations, Vec::<String>::new());
}

#[test]
fn what_is_no_backup_is_refused_with_the_file_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = House::new(folder.path());
    house.serve();
    house.stock("A,BER,100\n");
    house.backup("backup");
    // One is never written over.
    let backup = house.path("backup");
    let refused = house.command(&["backup", "--to", backup.to_str().unwrap()]).with(3).err;
    assert!(refused.contains("has something in it"), "{refused}");
    house.terminate();
    let restore = |from: &str| house.offline(&["restore", from, "--data", "new"]);
    let refused = house.offline(&["restore", "backup", "--data", "data"]).with(3).err;
    assert!(refused.contains("has something in it"), "{refused}");
    let toml = fs::read_to_string(backup.join("configuration.toml")).unwrap();
    assert!(toml.contains("[[sinks]]"), "{toml}");
    for name in names(&backup) {
        let bytes = fs::read(backup.join(&name)).unwrap();
        let has = bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
        assert!(!has, "a secret in {name}");
    }
    let manifest = manifest(&backup);
    for file in manifest["log"]["files"].as_array().unwrap() {
        let path = backup.join(file["name"].as_str().unwrap());
        let good = fs::read(&path).unwrap();
        assert_eq!(good.len() as u64, file["bytes"].as_u64().unwrap());
        let mut bad = good.clone();
        let at = bad.len() - 9;
        bad[at] ^= 4;
        for content in [&bad[..], &good[..good.len() - 8]] {
            fs::write(&path, content).unwrap();
            let refused = restore("backup").with(3).err;
            assert!(refused.contains(path.file_name().unwrap().to_str().unwrap()), "{refused}");
        }
        fs::remove_file(&path).unwrap();
        restore("backup").with(3);
        fs::write(&path, good).unwrap();
    }
    let text = manifest.to_string();
    for (from, to) in
        [("\"format\":1", "\"format\":2"), (".log\"", ".lob\""), ("\"log\"", "\"lug\"")]
    {
        assert!(text.contains(from), "{text}");
        fs::write(backup.join("manifest.json"), text.replacen(from, to, 1)).unwrap();
        let refused = restore("backup").with(3).err;
        assert!(refused.contains("manifest.json"), "{refused}");
    }
    fs::write(backup.join("manifest.json"), &text).unwrap();
    assert!(!house.path("new").exists() && !house.path("new.part").exists());
    fs::create_dir(house.path("new.part")).unwrap();
    assert!(restore("backup").with(3).err.contains("left by one that was cut"));
    fs::remove_dir(house.path("new.part")).unwrap();
    fs::create_dir(house.path("new")).unwrap();
    restore("backup").with(0);
    // Not of this log.
    fs::create_dir(house.path("other")).unwrap();
    let other = house.path("stock.csv");
    house.offline(&["stock", "import", other.to_str().unwrap(), "--data", "other"]).with(0);
    let refused =
        house.offline(&["restore", "backup", "--data", "new2", "--lost", "other"]).with(2).err;
    assert!(refused.contains("--lost other: its log is of incarnation"), "{refused}");
    assert!(!house.path("new2").exists());
}

#[test]
fn a_damaged_log_gives_no_backup_and_there_is_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = House::new(folder.path());
    house.serve();
    let rows: String = (0..40_000).map(|n| format!("SKU-{n:08},BER,1\n")).collect();
    house.stock(&rows);
    // A reader that does not read holds it up, and so the next one is refused.
    let mut reader = TcpStream::connect(house.base().strip_prefix("http://").unwrap()).unwrap();
    reader.write_all(b"GET /v1/backup HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut head = [0; 12];
    reader.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let to = house.path("backup");
    let refused = house.command(&["backup", "--to", to.to_str().unwrap()]).with(3).err;
    assert!(refused.contains("503") && refused.contains("one at a time"), "{refused}");
    // It goes away: the next one is made, while the sale goes on.
    drop(reader);
    until("the first one has ended", || {
        house.command(&["backup", "--to", to.to_str().unwrap()]).code == Some(0)
    });
    assert_eq!(
        post(
            &house.url("/v1/reservations"),
            "k",
            &json!({"lines": [{"sku": "SKU-00000001", "quantity": 1}]})
        )
        .0,
        201
    );
    // Rot in a segment that is mapped is seen on its way out.
    let segment = house.path("data").join("0000000000000001.log");
    let file = fs::OpenOptions::new().write(true).open(segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xAA; 64], 500_000).unwrap();
    let rotted = house.path("rotted");
    let ended =
        run(holdfast().args(["backup", "--url", house.base(), "--to"]).arg(&rotted)).with(3);
    assert!(ended.err.contains("the log is damaged"), "{}", ended.err);
    assert!(!rotted.exists() && !house.path("rotted.part").exists());
}
