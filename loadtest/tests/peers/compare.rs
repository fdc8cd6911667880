//! `loadtest compare`: what it prints, and what it does where something is missing.

use std::{path::PathBuf, process::Command};

use serde_json::Value;

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn ended(command: &mut Command) -> Ended {
    let ended = command.output().unwrap();
    Ended {
        code: ended.status.code(),
        out: String::from_utf8(ended.stdout).unwrap(),
        err: String::from_utf8(ended.stderr).unwrap(),
    }
}

fn loadtest() -> Command {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
}

#[test]
fn peers_are_compared_in_turns_and_audited() {
    let dir = tempfile::tempdir().unwrap();
    let ended = ended(
        loadtest()
            .args(["compare", "--rounds", "2", "--seconds", "0.2", "--targets", "redis,postgres"])
            .args(["--situations", "hot-16,sold-out", "--out"])
            .arg(dir.path()),
    );
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    for says in ["machine ", "hot-16: ", "sold-out: ", "TigerBeetle  not measured here"] {
        assert!(ended.out.contains(says), "{says}: {}", ended.out);
    }
    let file = std::fs::read(dir.path().join("compare.json")).unwrap();
    let json: Value = serde_json::from_slice(&file).unwrap();
    let situations = json["situations"].as_array().unwrap();
    assert_eq!(situations.len(), 2);
    for situation in situations {
        let runs = situation["runs"].as_array().unwrap();
        let turns: Vec<&str> = runs.iter().map(|run| run["target"].as_str().unwrap()).collect();
        assert_eq!(turns, ["redis", "postgres", "postgres", "redis"]);
        for run in runs {
            assert!(run["figures"]["per_s"].as_f64().unwrap() > 100.0, "{run}");
            assert!(run["figures"]["service_us"][0].as_f64().unwrap() > 1.0, "{run}");
            assert_eq!(run["figures"]["differences"], Value::Array(Vec::new()), "{run}");
        }
    }
}

#[test]
fn a_peer_that_is_missing_is_named_with_its_package_and_the_others_go_on() {
    let empty = tempfile::tempdir().unwrap();
    let ended = ended(loadtest().env("PATH", empty.path()).args([
        "compare",
        "--quick",
        "--targets",
        "redis,postgres",
        "--situations",
        "lone",
    ]));
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let says =
        "LEFT OUT     redis: redis-server is not there: install Debian's package `redis-server`";
    assert!(ended.out.contains(says), "{}", ended.out);
    assert!(ended.out.contains("postgres "), "{}", ended.out);
}

#[test]
fn what_is_asked_for_wrongly_is_told() {
    let told = |args: &[&str], says: &str| {
        let ended = ended(loadtest().arg("compare").args(args));
        assert_eq!(ended.code, Some(2), "{}{}", ended.out, ended.err);
        assert!(ended.err.contains(says), "{}", ended.err);
    };
    told(&["--rounds", "0"], "--rounds");
    told(&["--seconds", "61"], "--seconds");
    told(&["--situations", "none"], "hot-16");
    told(&["--targets", "redis", "--situations", "gateway"], "no situation");
    told(&["--targets", "http1", "--situations", "lone", "--server", "/none"], "cargo build");
}

/// `cargo build -p holdfast && cargo test -p loadtest --test peers -- --ignored`
#[test]
#[ignore = "needs the `holdfast` binary, which the tester's own tests don't build"]
fn soak_every_situation_is_compared_with_every_target() {
    let this = std::env::current_exe().unwrap();
    let binary: PathBuf = this.parent().unwrap().with_file_name("holdfast");
    let ended = ended(loadtest().args(["compare", "--quick", "--server"]).arg(binary));
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    for name in ["many", "lone", "hot-16", "hot-64", "sold-out", "gateway", "pipelined"] {
        assert!(ended.out.contains(&format!("\n{name}: ")), "{name}: {}", ended.out);
    }
    for name in ["http1 / redis: ", "http1 / postgres: ", "binary / redis: "] {
        assert!(ended.out.contains(name), "{name}: {}", ended.out);
    }
    assert!(!ended.out.contains("FAIL") && !ended.out.contains("LEFT OUT"), "{}", ended.out);
}
