//! What ships in `deploy/`, and the guide, fit the server: promtool takes the rules, their tests and the
//! live metrics, and every metric that any of them names is there.

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::support::{House, until};

fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

fn read(of: &str) -> String {
    std::fs::read_to_string(path(of)).unwrap_or_else(|e| panic!("{of}: {e}"))
}

/// Runs promtool, which must be there: Debian's package `prometheus` has it.
fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(path("deploy/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("promtool: {e}; install Debian's package `prometheus`"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let told = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ended.status.success(), "promtool {arguments:?}: {}", told.concat());
}

#[test]
fn the_rules_are_right_and_do_what_they_say() {
    promtool(&["check", "rules", "alerts.yml"], "");
    promtool(&["test", "rules", "alerts_test.yml"], "");
    promtool(&["check", "config", "prometheus.yml"], "");
}

/// A rule without a test of its own would do whatever it says.
#[test]
fn every_rule_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() {
    let [rules, tests] =
        ["alerts.yml", "alerts_test.yml"].map(|of| read(&format!("deploy/prometheus/{of}")));
    let rules: Vec<_> = rules.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")).collect();
    assert!(rules.len() > 10, "{rules:?}");
    for rule in rules {
        assert!(tests.contains(&format!("alertname: {rule}\n")), "{rule} never fires");
        let quiet = format!("alertname: {rule}, exp_alerts: []}}");
        assert!(tests.contains(&quiet), "{rule} is never quiet");
    }
}

/// Words that are a metric's name. A file's stem (`holdfast.toml`) and the like are none.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("holdfast_")).map(str::to_owned).collect()
}

/// The names of the samples that there are or may be.
fn exposed(metrics: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        names.insert(name.to_owned());
        if kind == "histogram" {
            names.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        }
    }
    names
}

#[test]
fn the_live_metrics_are_well_formed_and_are_those_that_are_spoken_of() {
    let house = House::start();
    house.sell("O-1", &[]);
    until("something was sold", || house.metrics().contains("holdfast_sku_sold_units{"));
    let metrics = house.metrics();
    promtool(&["check", "metrics"], &metrics);
    let exposed = exposed(&metrics);
    for file in [
        "deploy/grafana/holdfast.json",
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/alerts_test.yml",
        "docs/observability.md",
        "docs/limits.md",
    ] {
        let named = named(&read(file));
        assert!(named.len() > 3, "{file} names {named:?}");
        let missing: Vec<_> = named.difference(&exposed).collect();
        assert!(missing.is_empty(), "{file} names what is not there: {missing:?}");
    }
    // And the guide leaves none out.
    let guide = named(&read("docs/observability.md"));
    let families = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let families = families.filter_map(|line| line.split_once(' ')).map(|(name, _)| name);
    let untold: Vec<_> = families.filter(|name| !guide.contains(*name)).collect();
    assert!(untold.is_empty(), "docs/observability.md does not say what these mean: {untold:?}");
}

/// Prometheus understands every expression of the dashboard: each is made a rule, and the rules are checked.
#[test]
fn prometheus_understands_the_dashboard() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("deploy/grafana/holdfast.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions: Vec<_> = targets.map(|of| of["expr"].as_str().unwrap()).collect();
    assert!(expressions.len() > 30, "{}", expressions.len());
    let rules = expressions.iter().enumerate();
    let rules = rules.map(|(n, of)| serde_json::json!({"record": format!("r:{n}"), "expr": of}));
    let groups = serde_json::json!({"groups": [{"name": "d", "rules": rules.collect::<Vec<_>>()}]});
    // JSON is YAML.
    let file = tempfile::NamedTempFile::with_suffix(".yml").unwrap();
    std::fs::write(file.path(), groups.to_string()).unwrap();
    promtool(&["check", "rules", file.path().to_str().unwrap()], "");
}

#[test]
fn the_dashboard_is_one() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("deploy/grafana/holdfast.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "no two panels have one id");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            assert!(!named(target["expr"].as_str().unwrap()).is_empty(), "{target}");
        }
    }
}
