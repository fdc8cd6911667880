//! What is made of a server that is missing, that fails, and of its configuration. The real one is
//! tested in `tests/`.

use std::{os::unix::fs::PermissionsExt, path::Path};

use super::*;

fn scenario(more: &str) -> Scenario {
    let text = format!("[[stages]]\nshape = \"steady\"\nrate = 10\nfor_s = 1\n{more}");
    Scenario::parse("test", &text, Path::new(".")).unwrap()
}

fn config_of(more: &str) -> toml::Table {
    let scenario = scenario(more);
    let plan = Plan::new(&scenario, 1.0, "t").unwrap();
    let urls = scenario.receivers.iter().map(|_| "http://127.0.0.1:1/".to_owned());
    config::config(&scenario, &plan, (Path::new("/data"), Path::new("/gw")), urls)
}

#[test]
fn the_configuration_is_one_that_the_server_takes() {
    for more in [
        "",
        "[catalogue]\nlocations = 3\n[server]\nack = \"memory\"\n",
        "[[receivers]]\nname = \"fin\"\ndomain = \"finance\"\nrate_per_s = 20\n",
    ] {
        let text = toml::to_string(&config_of(more)).unwrap();
        toml::from_str::<holdfast::config::Config>(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    }
}

#[test]
fn what_the_scenario_says_of_the_server_is_on_top() {
    let config = config_of("[server.config.log]\ngroup_us = 7\nbudget_bytes = 9\n");
    assert_eq!(config["log"]["group_us"].as_integer(), Some(7));
    assert_eq!(config["log"]["budget_bytes"].as_integer(), Some(9));
    assert_eq!(config["log"]["ack"].as_str(), Some("disk"));
}

#[test]
fn a_binary_that_is_missing_is_told_with_what_to_do() {
    let said = binary(Some(Path::new("/nowhere/holdfast"))).unwrap_err().to_string();
    assert!(said.contains("/nowhere/holdfast") && said.contains("cargo build --release"), "{said}");
}

#[test]
fn a_server_that_ends_at_once_is_told_with_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("holdfast");
    std::fs::write(&binary, "#!/bin/sh\necho 'the log is damaged' >&2\nexit 3\n").unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    let scenario = scenario("");
    let plan = Plan::new(&scenario, 1.0, "t").unwrap();
    let said = Server::start(&binary, &scenario, &plan, None).unwrap_err().to_string();
    assert!(said.contains("come up") && said.contains("the log is damaged"), "{said}");
}

#[test]
fn a_server_that_stops_badly_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("holdfast");
    let script = "#!/bin/sh\ntrap 'echo poisoned >&2; exit 4' TERM\necho 'hello'\n\
                  echo 'listening on http://127.0.0.1:9 (data in x)'\nwhile true; do sleep 0.02; done\n";
    std::fs::write(&binary, script).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    let scenario = scenario("");
    let plan = Plan::new(&scenario, 1.0, "t").unwrap();
    let server = Server::start(&binary, &scenario, &plan, None).unwrap();
    assert_eq!(server.url, "http://127.0.0.1:9");
    let said = server.stop().unwrap_err().to_string();
    assert!(said.contains("stop in order") && said.contains("poisoned"), "{said}");
}
