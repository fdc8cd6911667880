//! The files of `deploy/`: systemd takes the unit and finds it tight, and every command line in them is one
//! that the real binary takes and serves with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::cli::{Ended, Server, holdfast, run};

fn text(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

/// The values of a key of the unit, lines that go on put together.
fn values(unit: &str, key: &str) -> Vec<String> {
    let unit = unit.replace("\\\n", " ");
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.map(str::to_owned).collect()
}

/// The unit in a folder, with the real binary in place of the installed one.
fn unit_in(folder: &Path, change: impl FnOnce(String) -> String) -> PathBuf {
    let path = folder.join("holdfast.service");
    let unit =
        text("holdfast.service").replace("/usr/bin/holdfast", env!("CARGO_BIN_EXE_holdfast"));
    fs::write(&path, change(unit)).unwrap();
    path
}

fn systemd_analyze(arguments: &[&str], unit: &Path) -> Ended {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).arg(unit).env("SYSTEMD_PAGER", "").env("SYSTEMD_COLORS", "0");
    Ended::of(command.output().expect("systemd-analyze, which the package `systemd` has"))
}

#[test]
fn systemd_takes_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let unit = unit_in(folder.path(), |unit| unit);
    let ours = |ended: &Ended| -> Vec<String> {
        let lines = ended.err.lines().filter(|line| line.contains("holdfast.service"));
        lines.map(str::to_owned).collect()
    };
    let good = systemd_analyze(&["verify", "--man=no"], &unit);
    assert_eq!(ours(&good), Vec::<String>::new());
    good.with(0);
    // It would say so if something were wrong.
    let unit = unit_in(folder.path(), |unit| unit.replace("ProtectClock=", "ProtectClocks="));
    let wrong = systemd_analyze(&["verify", "--man=no"], &unit);
    assert!(ours(&wrong).iter().any(|line| line.contains("ProtectClocks")), "{wrong:?}");
}

#[test]
fn the_unit_may_do_little() {
    let folder = tempfile::tempdir().unwrap();
    // Tenths of the exposure level: 2.0 of 10; a unit that says nothing has 9.6.
    let tight = ["security", "--offline=true", "--no-pager", "--threshold=20"];
    systemd_analyze(&tight, &unit_in(folder.path(), |unit| unit)).with(0);
    let loose = unit_in(folder.path(), |unit| {
        unit.lines()
            .filter(|l| !l.starts_with("System") && !l.starts_with("Capab"))
            .collect::<Vec<_>>()
            .join("\n")
    });
    assert_ne!(systemd_analyze(&tight, &loose).code, Some(0));
}

#[test]
fn the_configuration_that_is_deployed_is_whole() {
    let mut command = holdfast();
    command.env_remove("HOLDFAST__LOG__BUDGET_BYTES").env_remove("HOLDFAST__LOG__SEGMENT_BYTES");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/holdfast.toml");
    let said = run(command.arg("check-config").arg("--config").arg(path)).with(0).out;
    assert!(said.contains("data = \"/var/lib/holdfast/data\""), "{said}");
    assert!(said.contains("budget_bytes = \"16 GiB\""), "{said}");
}

/// A copy of the deployed configuration for a folder, and the arguments of a command line of the unit
/// that name it.
fn localised(folder: &Path, line: &str) -> Command {
    let data = folder.join("data").display().to_string();
    let config = folder.join("holdfast.toml");
    let toml = text("holdfast.toml").replace("/var/lib/holdfast/data", &data);
    fs::write(&config, toml.replace("16 GiB", "256 MiB").replace(":7411", ":0")).unwrap();
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("/usr/bin/holdfast"), "{line}");
    let mut command = holdfast();
    for word in words {
        let is_config = word == "/etc/holdfast/holdfast.toml";
        command.arg(if is_config { config.as_os_str() } else { word.as_ref() });
    }
    command
}

#[test]
fn the_units_commands_check_and_serve() {
    let folder = tempfile::tempdir().unwrap();
    let unit = text("holdfast.service");
    let pre = values(&unit, "ExecStartPre");
    assert_eq!(pre.len(), 1);
    run(&mut localised(folder.path(), &pre[0])).with(0);
    let [start] = &values(&unit, "ExecStart")[..] else { panic!("one command") };
    let server = Server::spawn(&mut localised(folder.path(), start));
    run(holdfast().args(["ready", "--wait", "10", "--url", &server.url])).with(0);
    assert!(folder.path().join("data/LOCK").exists());
    assert_eq!(server.terminate().code(), Some(0));
    run(holdfast().args(["ready", "--url", "http://127.0.0.1:1"])).with(3);
    // What another start does not mend is not started again.
    let codes = values(&unit, "RestartPreventExitStatus");
    assert_eq!(codes, ["2 4"]);
    fs::write(folder.path().join("wrong.toml"), "[server]\nlisen = 1\n").unwrap();
    run(holdfast().args(["serve", "--config"]).arg(folder.path().join("wrong.toml"))).with(2);
    let help = run(holdfast().arg("--help")).with(0).out;
    assert!(help.contains("4  the log was poisoned"), "{help}");
    assert_eq!(values(&unit, "User"), ["holdfast"]);
    assert!(text("holdfast.sysusers.conf").contains("\nu holdfast "));
}

/// The words of an instruction of the container file that has them as a list.
fn list(file: &str, instruction: &str) -> Vec<String> {
    let lines = file.replace("\\\n", " ");
    let line = lines.lines().find(|line| line.starts_with(instruction)).unwrap();
    serde_json::from_str(&line[line.find('[').unwrap()..]).unwrap()
}

#[test]
fn the_containers_commands_serve_and_see_that_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let file = text("Containerfile");
    for line in file.lines().filter(|line| line.starts_with("FROM ")) {
        assert!(!line.contains('/') && !line.contains(".io"), "a plain image name: {line}");
    }
    for (copied, _) in file.lines().filter_map(|l| l.strip_prefix("COPY deploy/")?.split_once(' '))
    {
        text(copied);
    }
    assert!(file.contains("\nENV HOLDFAST_CONFIG=/etc/holdfast/holdfast.toml\n"));
    assert!(file.contains("\nUSER 7411:7411\n") && file.contains("\nVOLUME /var/lib/holdfast\n"));
    let [entry] = &list(&file, "ENTRYPOINT")[..] else { panic!("the binary alone") };
    let mut words = vec![entry.clone()];
    words.extend(list(&file, "CMD"));
    let mut command = localised(folder.path(), &words.join(" "));
    command.env("HOLDFAST_CONFIG", folder.path().join("holdfast.toml"));
    let server = Server::spawn(&mut command);
    let health = list(&file, "HEALTHCHECK");
    assert_eq!(health[0], *entry);
    run(holdfast().args(&health[1..]).args(["--url", &server.url])).with(0);
    assert_eq!(server.terminate().code(), Some(0));
}

/// The configurations that the guide shows are whole.
#[test]
fn the_guides_configurations_are_whole() {
    let guide = include_str!("../../docs/deploy.md");
    let folder = tempfile::tempdir().unwrap();
    let blocks: Vec<_> =
        guide.split("```toml\n").skip(1).map(|b| b.split_once("```").unwrap().0).collect();
    assert_eq!(blocks.len(), 1);
    for block in blocks {
        let path = folder.path().join("holdfast.toml");
        fs::write(&path, block).unwrap();
        run(holdfast().arg("check-config").arg("--config").arg(path)).with(0);
    }
}
