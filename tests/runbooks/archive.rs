//! What the log has let go is still told and still sent again, from the archive.

use std::{fs, time::Instant};

use serde_json::{Value, json};

use super::{
    cli::{get, post, runtime},
    erp::Inside,
    house::{House, PATIENCE, until},
};

/// A house whose log lets go early.
fn house(folder: &std::path::Path, archive: &str) -> House {
    let house = House::new(folder);
    let config = house.path("holdfast.toml");
    let sinks = fs::read_to_string(&config).unwrap();
    let log = format!(
        "[log]\nsegment_bytes = \"64 KiB\"\nbudget_bytes = \"4 MiB\"\n{archive}\n\
         [engine]\ncheckpoint_bytes = \"128 KiB\"\n"
    );
    fs::write(&config, log + &sinks).unwrap();
    house
}

/// Reserves until the log has let go what was before.
fn let_go(house: &House) {
    let from = house.status()["durable"].as_u64().unwrap();
    let began = Instant::now();
    let url = house.url("/v1/reservations/batch");
    for round in 0.. {
        assert!(began.elapsed() < PATIENCE, "the log is never recycled");
        let batch: Vec<Value> = (0..200)
            .map(|n| {
                json!({"idempotency_key": format!("{from}-{round}-{n}"), "ttl_ms": 1000,
                    "lines": [{"sku": "B", "quantity": 1}]})
            })
            .collect();
        post(&url, &format!("{from}-{round}"), &json!({"reservations": batch}));
        std::thread::sleep(std::time::Duration::from_millis(20));
        let recycled = metric(house, "holdfast_log_segments_recycled_total");
        if recycled * f64::from(64 << 10) > from as f64 {
            return;
        }
    }
}

fn metric(house: &House, name: &str) -> f64 {
    let text = runtime().block_on(async {
        super::cli::client().get(house.url("/metrics")).send().await.unwrap().text().await.unwrap()
    });
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

/// A trace without what time changes.
fn told(mut trace: Value) -> Value {
    trace["age_ms"].take();
    for record in trace["records"].as_array_mut().unwrap() {
        record["age_ms"].take();
    }
    trace
}

#[test]
fn a_lineage_is_told_and_a_batch_sent_again_that_the_log_has_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = house(folder.path(), "");
    house.serve();
    house.stock("A,BER,100\nB,BER,1000000\n");
    house.sell("O-1", "A", 3);
    house.settled("A", 3);
    let stock = |house: &House, at: &[&str]| -> Value {
        let said = house.command(&[&["stock", "show", "A"], at].concat()).with(0).out;
        serde_json::from_str(&said).unwrap()
    };
    let then = stock(&house, &[]);
    let at = ["--at".to_owned(), then["lsn"].to_string()];
    let at = [at[0].as_str(), at[1].as_str()];
    let trace = || get(&house.url("/v1/orders/O-1/trace"));
    until("the batch is in the trace", || trace().to_string().contains("\"delivered\""));
    let before = told(trace());
    let_go(&house);
    assert_eq!(told(trace()), before);
    let trace = house.command(&["trace", "O-1"]).with(0).out;
    assert!(trace.contains("erp-") && !trace.contains("archived"), "{trace}");
    assert!(metric(&house, "holdfast_archive_archived_total") > 0.0);
    assert_eq!(metric(&house, "holdfast_archive_failing"), 0.0);
    house.sell("O-2", "A", 5);
    let past = stock(&house, &at);
    assert_eq!((&past["available"], &past["committed"]), (&json!(97), &json!(3)), "{past}");
    assert_eq!(stock(&house, &[])["available"], 92);
    // The partner has lost everything.
    house.settled("A", 8);
    house.erp.with(|erp| *erp = Inside::default());
    assert_eq!(house.sold("A"), 0);
    let lsn = before["records"][0]["lsn"].to_string();
    let said = house.command(&["sinks", "replay", "erp", "--from-lsn", &lsn, "--reason", "lost"]);
    assert!(said.with(0).out.contains("batches are sent again"));
    until("it has it again", || house.sold("A") == 8);
    until("the replay ends", || house.sink()["replaying"] == 0);
    // Stopped and started again: the index of batches and the archive are those of before.
    house.terminate();
    let offline = [&["stock", "show", "A", "--data", "data"], &at[..]].concat();
    let said = house.offline(&offline).with(0).out;
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["available"], 97, "{said}");
    let dump = house.offline(&["wal", "dump", "--data", "data", "--kind", "placed"]).with(0).out;
    assert!(dump.contains("O-1") && dump.contains("\"sku\":\"A\""), "{dump}");
    let without = ["wal", "dump", "--data", "data", "--kind", "placed", "--without-archive"];
    assert!(!house.offline(&without).with(0).out.contains("O-1"));
    let verified = house.offline(&["wal", "verify", "--data", "data"]).with(0).out;
    assert!(verified.contains("archive/0000000000000000-"), "{verified}");
    let trace = house.offline(&["trace", "O-1", "--json", "--data", "data"]).with(0).out;
    let after: Value = serde_json::from_str(&trace).unwrap();
    let (first, again) = (&before["records"][0], &after["records"][0]);
    for part in ["lsn", "at", "says"] {
        assert_eq!(first[part], again[part]);
    }
    assert_eq!(first["batches"][0]["batch_id"], again["batches"][0]["batch_id"]);
}

#[test]
fn without_an_archive_it_is_gone_and_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = house(folder.path(), "archive = false");
    house.serve();
    house.stock("A,BER,100\nB,BER,1000000\n");
    house.sell("O-1", "A", 3);
    house.settled("A", 3);
    let at = house.status()["durable"].as_u64().unwrap() - 8;
    let at = at.to_string();
    let_go(&house);
    let refused = house.command(&["trace", "O-1"]).with(3).err;
    assert!(refused.contains("archived"), "{refused}");
    let refused = house.command(&["stock", "show", "A", "--at", &at]).with(3).err;
    assert!(refused.contains("archived") && refused.contains("holdfast restore"), "{refused}");
    assert!(!house.path("data/archive").exists());
}
