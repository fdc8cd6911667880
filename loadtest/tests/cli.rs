//! The command line: what it prints, writes, and exits with.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

const SMALL: &str = "[catalogue]\nskus = 5\nstock = 50\n[shoppers]\nthink_ms = [1, 20]\nabandon = 0.5\n\
                     [sending]\nlag_p999_us_max = 60000000\n";

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn loadtest(args: &[&str]) -> Ended {
    let ended = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(args).output().unwrap();
    Ended {
        code: ended.status.code(),
        out: String::from_utf8(ended.stdout).unwrap(),
        err: String::from_utf8(ended.stderr).unwrap(),
    }
}

fn scenario(folder: &Path, more: &str) -> String {
    let file = folder.join("small.toml");
    let stage = "[[stages]]\nshape = \"steady\"\nrate = 200\nfor_s = 0.5\n";
    fs::write(&file, format!("{stage}{SMALL}{more}")).unwrap();
    file.display().to_string()
}

#[test]
fn a_good_run_is_told_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (scenario(dir.path(), ""), dir.path().join("out"));
    let out_text = out.display().to_string();
    let args = [
        "run",
        &file,
        "--target",
        "in-process",
        "--rate",
        "400",
        "--seed",
        "9",
        "--out",
        &out_text,
    ];
    let ended = loadtest(&args);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("ok   units oversold, says the ledger: 0 = 0"), "{}", ended.out);
    let json: Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    assert_eq!((&json["scenario"], &json["seed"]), (&"small".into(), &9.into()));
    assert_eq!(json["audited"], true);
    let shoppers = json["shoppers"].as_u64().unwrap();
    assert!((130..280).contains(&shoppers), "{shoppers}");
    assert!(json["outcomes"]["granted"].as_u64().unwrap() > 50, "{json}");
}

#[test]
fn a_demand_that_is_not_met_and_a_void_run_have_codes_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = scenario(dir.path(), "[slo]\nmax_ms = 0.001\n");
    let ended = loadtest(&["run", &file, "--target", "in-process"]);
    assert_eq!(ended.code, Some(4), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("MISSED"), "{}", ended.out);
    let text = fs::read_to_string(&file).unwrap().replace("max = 60000000", "max = 1");
    fs::write(&file, text).unwrap();
    let ended = loadtest(&["run", &file, "--target", "in-process"]);
    assert_eq!(ended.code, Some(3), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("VOID"), "{}", ended.out);
}

#[test]
fn what_is_asked_for_wrongly_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = scenario(dir.path(), "");
    let told = |args: &[&str], says: &str| {
        let ended = loadtest(args);
        assert_eq!(ended.code, Some(2), "{}{}", ended.out, ended.err);
        assert!(ended.err.contains(says), "{}", ended.err);
    };
    told(&["run", "no-such"], "flash-drop");
    told(&["run", &file, "--server", "/nowhere/holdfast"], "cargo build --release");
    told(&["run", &file, "--target", "https://shop.example"], "http://");
    told(&["run", &file, "--target", "http://127.0.0.1:9"], "is it running?");
    told(&["run", &file, "--rate", "0"], "--rate");
    told(&["run", &file, "--connections", "0"], "--connections");
    told(&["run", &file, "--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY");
    told(&["ladder", &file, "--from", "10", "--to", "5"], "--from");
    told(&["ladder", &file, "--factor", "1"], "--factor");
}

#[test]
fn a_ladder_prints_its_knee() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (scenario(dir.path(), ""), dir.path().display().to_string());
    let ended = loadtest(&[
        "ladder",
        &file,
        "--target",
        "in-process",
        "--from",
        "50",
        "--to",
        "100",
        "--factor",
        "2",
        "--seconds",
        "0.5",
        "--p999-ms",
        "10000",
        "--out",
        &out,
    ]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("knee 100 requests a second"), "{}", ended.out);
    let json: Value =
        serde_json::from_slice(&fs::read(dir.path().join("ladder.json")).unwrap()).unwrap();
    assert_eq!(json["tried"].as_array().unwrap().len(), 2);
    assert_eq!(json["knee"]["rate"], 100.0);
}

#[test]
fn ready_scenarios_are_told_and_shown() {
    let all = loadtest(&["scenarios"]);
    assert_eq!(all.code, Some(0));
    for name in ["flash-drop", "holiday-400", "sold-out", "retry-storm", "long-tail", "erp-outage"]
    {
        assert!(all.out.contains(name), "{name}");
    }
    let one = loadtest(&["scenarios", "sold-out"]);
    assert!(one.out.contains("name = \"sold-out\""), "{}", one.out);
    assert_eq!(loadtest(&["scenarios", "sold"]).code, Some(2));
}
