//! The command line's promises: exit codes, error texts that name the place, and what each command
//! does, with the real binary.

use std::{fs, path::Path};

use crate::cli::{Server, get, holdfast, post, run};
use serde_json::{Value, json};

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn wrong_arguments_are_exit_code_2() {
    for arguments in [&["sell"][..], &[], &["serve", "--listen", "here"], &["wal", "repair"]] {
        let ended = run(holdfast().args(arguments)).with(2);
        assert!(ended.out.is_empty() && !ended.err.is_empty(), "{ended:?}");
    }
    let help = run(holdfast().arg("--help")).with(0);
    assert!(help.out.contains("Exit codes:"), "{}", help.out);
    let version = run(holdfast().arg("--version")).with(0);
    assert_eq!(version.out, format!("holdfast {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn check_config_prints_what_holds() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(
        dir.path(),
        "shop.toml",
        "[engine]\nkeys_max = 5\n[[sinks]]\nname = \"erp\"\ndomain = \"inventory\"\n\
         url = \"http://127.0.0.1:9/\"\nheaders = { authorization = \"Bearer s3cret\" }\n",
    );
    let ended = run(holdfast()
        .args(["check-config", "--config", &file])
        .env("HOLDFAST__SERVER__LISTEN", "127.0.0.1:99")
        .env("HOLDFAST_PORT", "tcp://10.0.0.1:7411"))
    .with(0);
    let printed: toml::Table = toml::from_str(&ended.out).unwrap();
    assert_eq!(printed["engine"]["keys_max"].as_integer(), Some(5));
    assert_eq!(printed["server"]["listen"].as_str(), Some("127.0.0.1:99"));
    assert_eq!(printed["log"]["segment_bytes"].as_str(), Some("1 MiB"));
    assert!(!ended.out.contains("s3cret"), "{}", ended.out);
    let through_environment = run(holdfast().arg("check-config").env("HOLDFAST_CONFIG", &file));
    assert!(through_environment.with(0).out.contains("keys_max = 5"));
}

#[test]
fn the_example_is_accepted() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/holdfast.example.toml");
    run(holdfast().args(["check-config", "--config", example])).with(0);
}

#[test]
fn a_wrong_configuration_names_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "shop.toml", "[server]\n\nlisen = \"127.0.0.1:1\"\n");
    for command in [&["check-config"][..], &["serve"], &["wal", "verify"]] {
        let ended = run(holdfast().args(command).args(["--config", &file])).with(2);
        for part in [file.as_str(), "line 3", "unknown field `lisen`", "expected one of"] {
            assert!(ended.err.contains(part), "no `{part}` in {}", ended.err);
        }
    }
    let ended = run(holdfast().arg("check-config").env("HOLDFAST__LOG__ACKS", "disk")).with(2);
    assert!(ended.err.contains("HOLDFAST__LOG__ACKS: unknown field `acks`"), "{}", ended.err);
    let missing = dir.path().join("missing.toml");
    let ended = run(holdfast().arg("check-config").arg("--config").arg(&missing)).with(2);
    assert!(ended.err.contains(missing.to_str().unwrap()), "{}", ended.err);
}

#[test]
fn only_loopback_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let ended = run(holdfast().args(["serve", "--listen", "0.0.0.0:0", "--data"]).arg(&data));
    let ended = ended.with(2);
    assert!(ended.err.contains("--listen: `server.listen` is 0.0.0.0:0"), "{}", ended.err);
    assert!(!data.exists());
}

#[test]
fn serve_ends_well_at_sigterm_and_finds_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let csv = write(dir.path(), "stock.csv", "sku,location,on_hand\nTEE-M,BER,5\n");
    run(holdfast().args(["stock", "import", &csv, "--url", &server.url])).with(0);
    let body = json!({"lines": [{"sku": "TEE-M", "quantity": 2}]});
    let (status, first) = post(&format!("{}/v1/reservations", server.url), "k1", &body);
    assert_eq!(status, 201, "{first}");
    assert_eq!(server.terminate().code(), Some(0));
    let server = Server::start(dir.path());
    let stock = get(&format!("{}/v1/stock/TEE-M", server.url));
    assert_eq!((&stock["available"], &stock["held"]), (&json!(3), &json!(2)));
    let (status, again) = post(&format!("{}/v1/reservations", server.url), "k1", &body);
    assert_eq!((status, &again["id"]), (201, &first["id"]));
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn a_second_server_is_told_what_is_in_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let port = server.url.strip_prefix("http://").unwrap();
    let other = dir.path().join("other");
    let ended = run(holdfast().args(["serve", "--listen", port, "--data"]).arg(&other)).with(3);
    assert!(ended.err.contains(&format!("can't listen on {port}")), "{}", ended.err);
    let ended =
        run(holdfast().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path()));
    assert!(ended.with(3).err.contains("in use by another process"));
    for command in ["verify", "dump"] {
        let ended = run(holdfast().args(["wal", command, "--data"]).arg(dir.path())).with(3);
        assert!(ended.err.contains("in use by another process"), "{}", ended.err);
    }
}

const CSV: &str = "sku,location,on_hand,safety_stock,backorder_limit,per_customer_limit,\
source_version\nTEE-M,BER,100,1,2,3,7\nTEE-M,HAM,many,,,,\n\nTEE-L,BER,5,,,,\n\
TEE-M,BER,90,,,,7\n";

#[test]
fn stock_import_over_http_tells_each_refused_line() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let csv = write(dir.path(), "stock.csv", CSV);
    let ended = run(holdfast().args(["stock", "import", &csv, "--url", &server.url])).with(1);
    check_import(&ended.out);
    let stock = get(&format!("{}/v1/stock/TEE-M", server.url));
    let figures = ["available", "on_hand", "safety_stock", "backorder_limit", "per_customer_limit"];
    assert_eq!(figures.map(|name| stock[name].as_i64().unwrap()), [101, 100, 1, 2, 3]);
    let json = "{\"sku\":\"CAP\",\"location\":\"BER\",\"on_hand\":4}\n{\"sku\":\"CAP\"}\n";
    let ndjson = write(dir.path(), "stock.txt", json);
    let import = ["stock", "import", &ndjson, "--url", &server.url];
    let ended = run(holdfast().args(import)).with(2);
    assert!(ended.err.contains("--format"), "{}", ended.err);
    let ended = run(holdfast().args(import).args(["--format", "ndjson"])).with(1);
    assert_eq!(ended.out, "line 2: malformed: missing field `location`\n1 applied, 1 refused\n");
}

/// What importing [`CSV`] tells.
fn check_import(out: &str) {
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    let malformed = "line 3: malformed: `on_hand` must be a whole number";
    assert!(lines.contains(&malformed), "{out}");
    assert!(lines.iter().any(|line| line.starts_with("line 6: stale_version: ")), "{out}");
    assert_eq!(lines[2], "2 applied, 2 refused");
}

#[test]
fn stock_import_works_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let csv = write(dir.path(), "stock.csv", CSV);
    let import = |file: &str| run(holdfast().args(["stock", "import", file, "--data"]).arg(&data));
    check_import(&import(&csv).with(1).out);
    let good = write(dir.path(), "good.csv", "sku,location,on_hand\nCAP,HAM,9\n");
    assert_eq!(import(&good).with(0).out, "1 applied, 0 refused\n");
    let server = Server::start(&data);
    assert_eq!(get(&format!("{}/v1/stock/TEE-M", server.url))["on_hand"], 100);
    assert_eq!(get(&format!("{}/v1/stock/CAP", server.url))["on_hand"], 9);
    let ended = import(&good).with(3);
    assert!(ended.err.contains("in use by another process"), "{}", ended.err);
}

#[test]
fn stock_import_names_a_wrong_header_and_an_absent_server() {
    let dir = tempfile::tempdir().unwrap();
    let csv = write(dir.path(), "stock.csv", "sku,place,on_hand\nA,B,1\n");
    let ended = run(holdfast().args(["stock", "import", &csv])).with(3);
    assert!(ended.err.contains(&format!("{csv}:1: unknown column `place`")), "{}", ended.err);
    let csv = write(dir.path(), "stock.csv", "sku,location,on_hand\nA,B,1\n");
    // Port 1 is never served.
    let url = "http://127.0.0.1:1";
    let ended = run(holdfast().args(["stock", "import", &csv, "--url", url])).with(3);
    assert!(ended.err.contains("http://127.0.0.1:1/v1/stock/import: "), "{}", ended.err);
    let ended = run(holdfast().args(["stock", "import", "missing.csv"])).with(3);
    assert!(ended.err.contains("missing.csv: "), "{}", ended.err);
}

/// A data directory in which a little has happened.
fn used(dir: &Path) -> Value {
    let server = Server::start(dir);
    let csv = write(dir.parent().unwrap(), "stock.csv", "sku,location,on_hand\nTEE-M,BER,5\n");
    run(holdfast().args(["stock", "import", &csv, "--url", &server.url])).with(0);
    let url = format!("{}/v1/reservations", server.url);
    let cart = json!({"lines": [{"sku": "TEE-M", "quantity": 2}], "customer": "c-42"});
    let (status, held) = post(&url, "k1", &cart);
    assert_eq!(status, 201, "{held}");
    let id = held["id"].as_str().unwrap();
    let order = json!({"order_id": "O-1", "currency": "EUR",
        "lines": [{"sku": "TEE-M", "unit_price": 1999, "tax_code": "DE-19", "tax": 638}]});
    let (status, sold) = post(&format!("{url}/{id}/commit"), "k2", &order);
    assert_eq!(status, 200, "{sold}");
    assert_eq!(server.terminate().code(), Some(0));
    held
}

#[test]
fn wal_dump_prints_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let held = used(&data);
    let dump = |arguments: &[&str]| -> Vec<Value> {
        let ended = run(holdfast().args(["wal", "dump", "--data"]).arg(&data).args(arguments));
        ended.with(0).out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = dump(&[]);
    let kinds: Vec<_> = all.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["genesis", "define", "stock", "reserve", "placed"]);
    assert_eq!(all[3]["event"]["reservation"], held["id"]);
    assert_eq!(all[3]["lsn"], held["lsn"]);
    let line = json!({"sku": "TEE-M", "location": "BER", "quantity": 2});
    assert_eq!(all[3]["event"]["lines"], json!([line]));
    assert_eq!(all[4]["event"]["lines"][0]["unit_price"], 1999);
    assert_eq!(dump(&["--kind", "reserve", "--kind", "define"]).len(), 2);
    assert_eq!(dump(&["--limit", "2"]), all[..2]);
    assert_eq!(dump(&["--from", &held["lsn"].to_string()]), all[3..]);
    let ended =
        run(holdfast().args(["wal", "dump", "--kind", "sale", "--data"]).arg(&data)).with(2);
    assert!(ended.err.contains("possible values: genesis, define"), "{}", ended.err);
}

#[test]
fn wal_verify_counts_and_finds_damage() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let held = used(&data);
    let verify = || run(holdfast().args(["wal", "verify", "--data"]).arg(&data));
    let ended = verify().with(0);
    assert!(ended.out.contains(" 5 records, "), "{}", ended.out);
    assert!(
        ended.out.contains("; 0 damaged places, 0 records that do not decode"),
        "{}",
        ended.out
    );
    let file = data.join("0000000000000000.log");
    let mut bytes = fs::read(&file).unwrap();
    let place = 4096 + held["lsn"].as_u64().unwrap() as usize;
    bytes[place + 30] ^= 4;
    fs::write(&file, bytes).unwrap();
    let ended = verify().with(1);
    let named =
        format!("DAMAGED: {} at byte {place} (log position {})", file.display(), held["lsn"]);
    assert!(ended.out.contains(&named), "{}", ended.out);
    let ended = run(holdfast().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data));
    let ended = ended.with(3);
    assert!(ended.err.contains(&format!("{} at byte {place}", file.display())), "{}", ended.err);
    let ended = run(holdfast().args(["wal", "verify", "--data"]).arg(dir.path())).with(3);
    assert!(ended.err.contains("there is no log in"), "{}", ended.err);
}

#[test]
fn json_logs_are_json() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = holdfast();
    command.args(["--log-format", "json"]).env("RUST_LOG", "info");
    command.stderr(fs::File::create(dir.path().join("log")).unwrap());
    let server = Server::start_with(&dir.path().join("data"), &mut command);
    assert_eq!(server.terminate().code(), Some(0));
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stopping =
        |line: &Value| line["fields"]["message"].as_str().unwrap_or("").contains("SIGTERM");
    assert!(lines.iter().any(stopping), "{log}");
}
