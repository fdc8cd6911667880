//! The files of a run: what they say is what was measured, and they are enough to make its page again.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

const SCENARIO: &str = "\
[[stages]]\nshape = \"steady\"\nrate = 300\nfor_s = 1.5\n\
[catalogue]\nskus = 3\nstock = 20\n[shoppers]\nthink_ms = [1, 20]\n\
[sending]\nlag_p999_us_max = 60000000\n[slo]\np99_ms = 60000.0\nerrors_share = 0.0\n";

fn loadtest(args: &[&str]) -> String {
    let ended = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(args).output().unwrap();
    let err = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{args:?}: {err}");
    String::from_utf8(ended.stdout).unwrap()
}

fn text(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

/// The last number of a table's line about its total.
fn total(table: &str) -> u64 {
    let rest = table.split("Total count    =").nth(1).unwrap();
    rest.split(']').next().unwrap().trim().parse().unwrap()
}

#[test]
fn what_a_run_leaves_agrees_with_itself_and_makes_its_page_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |file: &str| folder.path().join(file).display().to_string();
    fs::write(path("few.toml"), SCENARIO).unwrap();
    let args = ["run", &path("few.toml"), "--target", "in-process", "--out", &path("out")];
    let told = loadtest(&args);
    let out = folder.path().join("out");
    assert!(told.contains(&format!("page         {}", out.join("run.html").display())), "{told}");

    let json: Value = serde_json::from_str(&text(&out, "run.json")).unwrap();
    let count = |outcome: &str| json["outcomes"][outcome].as_u64().unwrap();
    let all: u64 = json["outcomes"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert!(count("granted") > 0 && count("sold_out") > 100, "{json}");
    for (table, expected) in [("response", all), ("service", all - count("unsent")), ("lag", all)] {
        assert_eq!(total(&text(&out, &format!("run.{table}.hgrm"))), expected, "{table}");
    }
    let log = out.join("run.hlog").display().to_string();
    assert_eq!(total(&loadtest(&["hgrm", &log, "--tag", "sold_out"])), count("sold_out"));

    let page = text(&out, "run.html");
    for words in ["<h1>few</h1>", "✓ objectives held", "✓ audit: the books agree", "skus = 3"] {
        assert!(page.contains(words), "{words}");
    }
    fs::remove_file(out.join("run.html")).unwrap();
    loadtest(&["report", &log]);
    assert_eq!(text(&out, "run.html"), page);
    let compared = path("compared.html");
    assert_eq!(loadtest(&["report", &log, "--against", &log, "--out", &compared]).trim(), compared);
    let compared = fs::read_to_string(compared).unwrap();
    assert!(compared.contains("<h2>Comparison</h2>") && compared.contains("× 1<"), "no ratio");
}

#[test]
fn a_log_that_can_not_be_read_is_told_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("cut.hlog");
    fs::write(&log, "#[StartTime: 1.000 (seconds since epoch)]\nTag=granted,0.000,1.000,").unwrap();
    let log = log.display().to_string();
    let ended =
        Command::new(env!("CARGO_BIN_EXE_loadtest")).args(["report", &log]).output().unwrap();
    let err = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{err}");
    assert!(err.contains("cut.hlog:2: "), "{err}");
}
