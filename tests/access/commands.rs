//! `holdfast partner`, without a server and with one; addresses that others reach; a killed server.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use crate::cli::{Ended, Server, client, holdfast, run, runtime};

fn partner(arguments: &[&str]) -> Command {
    let mut command = holdfast();
    command.arg("partner").args(arguments);
    command
}

/// The status of a request with a key.
fn status(server: &Server, path: &str, key: &str) -> u16 {
    status_of(&format!("{}{path}", server.url), key)
}

fn status_of(url: &str, key: &str) -> u16 {
    runtime().block_on(async {
        let request = client().get(url).bearer_auth(key);
        request.send().await.expect("an answer").status().as_u16()
    })
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn key_of(ended: Ended) -> String {
    let ended = ended.with(0);
    assert_eq!(ended.out.lines().count(), 1, "the key alone: {}", ended.out);
    assert!(ended.err.contains("shown this once"), "{}", ended.err);
    ended.out.trim().to_owned()
}

#[test]
fn the_first_partner_is_added_before_there_is_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let chief = key_of(run(&mut partner(&["add", "chief", "--scope", "operate", "--data", data])));
    let again = run(&mut partner(&["add", "chief", "--scope", "operate", "--data", data])).with(3);
    assert!(again.err.contains("partner_exists"), "{}", again.err);
    let wrong = run(&mut partner(&["add", "x", "--scope", "all", "--data", data])).with(2);
    assert!(wrong.err.contains("availability, reserve, order"), "{}", wrong.err);
    let listed = run(&mut partner(&["list", "--data", data])).with(0);
    assert_eq!(listed.out, "chief: in the log; operate\n");

    let server = Server::start(folder.path());
    assert_eq!(
        [status(&server, "/v1/status", ""), status(&server, "/v1/status", &chief)],
        [401, 200]
    );
    let at = |arguments: &[&str]| {
        let mut command = partner(arguments);
        command.args(["--url", &server.url]).env("HOLDFAST_API_KEY", &chief);
        run(&mut command)
    };
    let limits = [
        "--rate-per-s",
        "50",
        "--burst",
        "100",
        "--quota-per-day",
        "1000",
        "--body-bytes-max",
        "4096",
        "--timeout-ms",
        "900",
    ];
    let shop = key_of(at(&[&["add", "shop", "--scope", "reserve,observe"], &limits[..]].concat()));
    let listed = at(&["list"]).with(0).out;
    let line = "50 requests a second, 100 at once, 1000 a day, 4096 bytes a body, 900 ms at most";
    assert!(listed.contains("shop: in the log; reserve, observe\n"), "{listed}");
    assert!(listed.contains(line), "{listed}");
    let second = key_of(at(&["rotate", "shop", "--grace-ms", "0"]));
    assert_eq!([&shop, &second].map(|key| status(&server, "/v1/status", key)), [401, 200]);
    let json = at(&["list", "--json"]).with(0).out;
    assert!(json.contains("\"changed_by\": \"chief\""), "{json}");

    // A killed server keeps what it has told.
    at(&["revoke", "shop"]).with(0);
    let third = at(&["add", "third", "--scope", "observe", "--json"]).with(0).out;
    let third: serde_json::Value = serde_json::from_str(&third).unwrap();
    let third = third["api_key"].as_str().unwrap();
    server.kill();
    let server = Server::start(folder.path());
    let statuses = [&second, third, &chief].map(|key| status(&server, "/v1/status", key));
    assert_eq!(statuses, [401, 200, 200]);
    let refused = run(&mut partner(&["list", "--url", &server.url])).with(3);
    assert!(refused.err.contains("unauthenticated"), "{}", refused.err);
    assert!(server.terminate().success());
    let dump =
        run(holdfast().args(["wal", "dump", "--kind", "partner", "--data", data])).with(0).out;
    let deeds: Vec<_> = ["add", "rotate", "revoke"]
        .map(|deed| dump.matches(&format!("\"deed\":\"{deed}\"")).count())
        .into();
    assert_eq!(deeds, [3, 1, 1], "{dump}");
}

#[test]
fn others_are_served_where_the_keys_are_in_the_log_and_only_there() {
    let folder = tempfile::tempdir().unwrap();
    let (data, config) = (folder.path().join("data"), folder.path().join("holdfast.toml"));
    fs::create_dir(&data).unwrap();
    let serve = || {
        let mut serve = holdfast();
        serve.args(["serve", "--listen", "0.0.0.0:0", "--data"]).arg(&data);
        serve
    };
    let refused = run(&mut serve()).with(2);
    assert!(refused.err.contains("no API keys"), "{}", refused.err);
    fs::write(&config, "[server]\nkeys_in_log = true\n").unwrap();
    let refused = run(serve().env("HOLDFAST_CONFIG", &config)).with(2);
    assert!(refused.err.contains("no API key in the log"), "{}", refused.err);
    let name = data.to_str().unwrap();
    let chief = key_of(run(&mut partner(&["add", "chief", "--scope", "operate", "--data", name])));
    let mut child =
        Killed(serve().env("HOLDFAST_CONFIG", &config).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.split(' ').find_map(|word| word.strip_prefix("http://0.0.0.0:"));
    let url = format!("http://127.0.0.1:{}/v1/status", port.unwrap_or_else(|| panic!("{line}")));
    assert_eq!([status_of(&url, "x"), status_of(&url, &chief)], [401, 200]);
}

#[test]
fn nobody_is_in_the_configuration_and_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    key_of(run(&mut partner(&["add", "shop", "--scope", "operate", "--data", data])));
    let config = folder.path().join("holdfast.toml");
    fs::write(&config, "[[partners]]\nname = \"shop\"\napi_key_env = \"K\"\n").unwrap();
    let mut serve = holdfast();
    serve.env("HOLDFAST_CONFIG", &config).env("K", "a-key-of-more-than-20-characters");
    let refused = run(serve.args(["serve", "--listen", "127.0.0.1:0", "--data", data])).with(2);
    assert!(refused.err.contains("`shop`") && refused.err.contains("revoke"), "{}", refused.err);
    let mut add = partner(&["add", "shop", "--scope", "operate", "--data", data]);
    let refused = run(add.env("HOLDFAST_CONFIG", &config)).with(2);
    assert!(refused.err.contains("in the configuration"), "{}", refused.err);
    run(&mut partner(&["revoke", "shop", "--data", data])).with(0);
    let mut serve = holdfast();
    serve.env("HOLDFAST_CONFIG", &config).env("K", "a-key-of-more-than-20-characters");
    let server = Server::start_with(folder.path(), &mut serve);
    assert_eq!(status(&server, "/v1/status", "a-key-of-more-than-20-characters"), 200);
}

/// The commands that the guide shows are there, with their flags.
#[test]
fn every_command_of_the_guide_is_there() {
    let guide = include_str!("../../docs/partners.md");
    let lines = guide.lines().filter_map(|line| line.strip_prefix("    holdfast "));
    let mut count = 0;
    for line in lines {
        let words: Vec<_> = line.split(' ').take(2).collect();
        let help = run(holdfast().args(&words).arg("--help")).with(0).out;
        for flag in line.split(' ').filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "no {flag} in the help of {words:?}");
        }
        count += 1;
    }
    assert_eq!(count, 5, "add twice, list, rotate, revoke");
}
