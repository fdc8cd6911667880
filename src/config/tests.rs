//! The configuration's promises: defaults, overrides, and errors that name their place.

use super::*;

const EXAMPLE: &str = include_str!("../../holdfast.example.toml");

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
    let variables = variables.iter().map(|(n, v)| (n.into(), v.into())).collect::<Vec<_>>();
    let overrides = Overrides::default();
    Config::from_parts(Path::new("shop.toml"), text, variables.into_iter(), &overrides)
}

fn error(text: &str, variables: &[(&str, &str)]) -> String {
    load(text, variables).expect_err("must be refused").to_string()
}

#[test]
fn an_empty_file_is_a_complete_configuration() {
    assert_eq!(load("", &[]).unwrap(), Config::default());
}

#[test]
fn the_example_is_every_key_at_its_default() {
    let example: toml::Table = toml::from_str(EXAMPLE).unwrap();
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    assert_eq!(example, defaults);
    assert_eq!(load(EXAMPLE, &[]).unwrap(), Config::default());
}

/// The example's sinks, uncommented.
fn example_sinks() -> String {
    EXAMPLE
        .lines()
        .skip_while(|line| !line.starts_with("# [[sinks]]"))
        .map(|line| line.strip_prefix("# ").unwrap_or("").to_owned() + "\n")
        .collect()
}

/// Keys whose comment does not end in their value, as the default.
fn not_at_their_default(text: &str) -> Vec<&str> {
    let (mut comment, mut wrong) = ("", Vec::new());
    for line in text.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment = text.trim();
        } else if let Some((key, value)) = line.split_once(" = ") {
            if !comment.ends_with(&format!("Default: {value}.")) {
                wrong.push(key);
            }
            comment = "";
        }
    }
    wrong
}

/// The example's partner, uncommented.
fn example_partner() -> String {
    EXAMPLE
        .lines()
        .skip_while(|line| !line.starts_with("# [[partners]]"))
        .take_while(|line| !line.is_empty())
        .map(|line| line.strip_prefix("# ").unwrap_or("").to_owned() + "\n")
        .collect()
}

#[test]
fn the_partner_of_the_example_is_complete_and_at_its_defaults() {
    let text = example_partner();
    let partners = load(&text, &[]).unwrap().partners;
    let [PartnerConfig { name, hook: Some(hook), .. }] = partners.as_slice() else {
        panic!("one with a hook");
    };
    assert_eq!((name.as_str(), hook.rules.len()), ("warehouse", 1));
    let bare = "[[partners]]\nname = \"a\"\nhook = { secret_env = \"S\" }";
    let bare = load(bare, &[]).unwrap().partners.remove(0).hook.unwrap();
    assert_eq!((hook.scheme, hook.tolerance_s), (bare.scheme, bare.tolerance_s));
    for (key, default) in [("scheme", "\"standard_webhooks\""), ("tolerance_s", "300")] {
        assert!(text.contains(&format!("Default: {default}.\n{key} = {default}\n")), "{key}");
    }
    for key in ["api_key_sha256", "api_key_env", "secret", "secret_env", "rules"] {
        assert!(text.contains(&format!("{key} = ")) || text.contains(&format!(".{key}]")), "{key}");
    }
}

#[test]
fn every_comment_of_the_example_ends_in_the_default() {
    assert_eq!(not_at_their_default(EXAMPLE), Vec::<&str>::new());
    let given = ["name", "domain", "url"];
    let reconcile = ["url"];
    let expected = [&given[..], &reconcile, &given].concat();
    assert_eq!(not_at_their_default(&example_sinks()), expected);
}

#[test]
fn the_sinks_of_the_example_are_complete_and_at_their_defaults() {
    let sinks = example_sinks();
    let config = load(&sinks, &[]).unwrap();
    let sink = |name, domain, url| SinkConfig::new(name, domain, url);
    let mut expected = [
        sink("erp", Domain::Inventory, "http://127.0.0.1:8081/movements"),
        sink("finance", Domain::Finance, "http://127.0.0.1:8082/journal"),
    ];
    expected[0].reconcile = Some(Reconcile::at("stock"));
    assert_eq!(config.sinks, expected);
    let mut full = expected[0].clone();
    full.rate_per_s = Some(1.0);
    full.signing_secret = Some("whsec_".to_owned());
    for key in toml::Table::try_from(full).unwrap().keys() {
        assert!(
            sinks.contains(&format!("{key} = ")) || sinks.contains(&format!("[sinks.{key}]")),
            "{key}"
        );
    }
}

#[test]
fn what_check_config_prints_reads_as_the_same_configuration() {
    let text = "[log]\nack = \"memory\"\nbudget_bytes = 17179869184\n";
    let config = load(text, &[]).unwrap();
    assert_eq!(config.log.budget_bytes, ByteSize(16 << 30));
    assert_eq!(load(&config.to_toml().unwrap(), &[]).unwrap(), config);
}

#[test]
fn a_wrong_key_names_file_line_and_key() {
    let text = "[server]\nlisten = \"127.0.0.1:1\"\nlissten = 3\n";
    let error = error(text, &[]);
    assert!(error.contains("shop.toml"), "{error}");
    assert!(error.contains("line 3"), "{error}");
    assert!(error.contains("unknown field `lissten`"), "{error}");
}

#[test]
fn a_wrong_section_names_file_and_line() {
    let error = error("\n[sever]\n", &[]);
    assert!(error.contains("shop.toml") && error.contains("line 2"), "{error}");
    assert!(error.contains("sever"), "{error}");
}

#[test]
fn a_wrong_value_names_file_line_and_key() {
    for (line, reason) in [
        ("ack = \"disc\"", "unknown variant `disc`, expected `disk` or `memory`"),
        ("segment_bytes = \"64 MB\"", "`64 MB` is not a size"),
        ("segment_bytes = -1", "must not be negative"),
        ("idle_mark_ms = \"soon\"", "invalid type: string \"soon\", expected u64"),
        ("ready_segments = 5000000000", "expected u32"),
    ] {
        let error = error(&format!("[log]\n# a comment\n{line}\n"), &[]);
        let key = line.split(' ').next().unwrap();
        for part in ["shop.toml", "line 3", key, reason] {
            assert!(error.contains(part), "no {part} in {error}");
        }
    }
}

#[test]
fn a_value_that_cannot_be_used_names_its_place() {
    for (text, place, key) in [
        ("[engine]\nttl_max_ms = 5\nttl_default_ms = 10\n", "shop.toml:3", "engine.ttl_default_ms"),
        ("[engine]\nttl_max_ms = 5\n", "shop.toml (by default)", "engine.ttl_default_ms"),
        ("engine = { keys_max = 0 }", "shop.toml:1", "engine.keys_max"),
        ("\n\n[engine]\nsourcing = [\"A\",\n\"A\"]", "shop.toml:4", "engine.sourcing"),
        ("[server]\nlisten = \"0.0.0.0:7411\"", "shop.toml:2", "server.listen"),
        ("log.segment_bytes = 65537", "shop.toml:1", "log.segment_bytes"),
        ("[log]\nbudget_bytes = \"1 MiB\"", "shop.toml:2", "log.budget_bytes"),
        ("[log]\nrecord_bytes_max = 63", "shop.toml:2", "log.record_bytes_max"),
        ("[log]\n\nunsynced_bytes_max = 64", "shop.toml:3", "log.unsynced_bytes_max"),
        ("[log]\nready_segments = 65", "shop.toml:2", "log.ready_segments"),
        ("[log]\ngroup_us = 10001", "shop.toml:2", "log.group_us"),
    ] {
        let error = error(text, &[]);
        assert!(error.starts_with(&format!("{place}: `{key}` ")), "{error}");
    }
}

#[test]
fn two_sinks_of_one_name_are_refused() {
    let sink = "[[sinks]]\nname = \"erp\"\ndomain = \"inventory\"\nurl = \"http://127.0.0.1:1/\"\n";
    let error = error(&sink.repeat(2), &[]);
    assert!(error.starts_with("shop.toml:6: `sinks.1.name` is `erp`"), "{error}");
}

#[test]
fn a_wrong_sink_names_its_line() {
    let sink = "[[sinks]]\nname = \"erp\"\ndomain = \"inventory\"\nurl = \"http://127.0.0.1:1/\"\n";
    let wrong = error(&format!("{sink}timeout_ms = 0\n"), &[]);
    assert!(wrong.starts_with("shop.toml:5: `sinks.0.timeout_ms` must be"), "{wrong}");
    let wrong = error(&format!("{sink}retry_initial_ms = 40000\n"), &[]);
    assert!(wrong.starts_with("shop.toml:1: `sinks.0.retry_max_ms` must be"), "{wrong}");
    let wrong = error(&sink.replace("inventory", "stock"), &[]);
    assert!(wrong.contains("line 3") && wrong.contains("unknown variant `stock`"), "{wrong}");
}

#[test]
fn the_environment_overrides_the_file() {
    let text = "[server]\nlisten = \"127.0.0.1:1\"\n[engine]\nkeys_max = 5\n";
    let variables = [
        ("HOLDFAST__SERVER__LISTEN", "[::1]:80"),
        ("HOLDFAST__SERVER__DATA", "2024"),
        ("HOLDFAST__ENGINE__KEYS_MAX", "9"),
        ("HOLDFAST__ENGINE__SOURCING", "[\"BER\", \"HAM\"]"),
        ("HOLDFAST__LOG__ACK", "memory"),
        ("HOLDFAST__LOG__SEGMENT_BYTES", "4 MiB"),
        ("HOLDFAST_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    let config = load(text, &variables).unwrap();
    assert_eq!(config.server.listen.to_string(), "[::1]:80");
    assert_eq!(config.server.data, Path::new("2024"));
    assert_eq!(config.engine.keys_max, 9);
    assert_eq!(config.engine.sourcing.len(), 2);
    assert_eq!(config.log.ack, Ack::Memory);
    assert_eq!(config.log.segment_bytes, ByteSize::mib(4));
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value, reason) in [
        ("HOLDFAST__ENGINE__KEY_MAX", "9", "unknown field `key_max`"),
        ("HOLDFAST__ENGINE__KEYS_MAX", "many", "invalid type: string \"many\", expected u32"),
        ("HOLDFAST__ENGINE__KEYS_MAX", "-1", "expected u32"),
        ("HOLDFAST__ENGINE__KEYS_MAX", "1\nx = 2", "expected u32"),
        ("HOLDFAST__ENGINE__KEYS_MAX", "0", "must be above 0"),
        ("HOLDFAST__ENGINE", "9", "is not of the form"),
        ("HOLDFAST__MOTOR__KEYS_MAX", "9", "names no section"),
        ("HOLDFAST__engine__keys_max", "9", "capital letters"),
        ("HOLDFAST__SINKS__NAME", "erp", "in the file only"),
        ("HOLDFAST__PARTNERS__NAME", "erp", "in the file only"),
        ("HOLDFAST__LOG__ACK", "disc", "unknown variant `disc`"),
    ] {
        let error = error("", &[(name, value)]);
        assert!(error.contains(name) && error.contains(reason), "{name}={value}: {error}");
    }
}

#[test]
fn the_command_line_overrides_everything_and_is_checked() {
    let at = |listen: &str| {
        let overrides =
            Overrides { data: Some("elsewhere".into()), listen: Some(listen.parse().unwrap()) };
        let text = "[server]\ndata = \"here\"\n";
        Config::from_parts(Path::new("shop.toml"), text, std::iter::empty(), &overrides)
    };
    let config = at("127.0.0.1:9").unwrap();
    assert_eq!(config.server.data, Path::new("elsewhere"));
    assert_eq!(config.server.listen.port(), 9);
    let error = at("192.0.2.1:9").unwrap_err().to_string();
    assert!(error.starts_with("--listen: `server.listen` is 192.0.2.1:9"), "{error}");
}

#[test]
fn secrets_are_not_shown() {
    let text = "[[sinks]]\nname = \"erp\"\ndomain = \"inventory\"\nurl = \"http://127.0.0.1:1/\"\n\
                headers = { authorization = \"Bearer s3cret\" }\n";
    let shown = load(text, &[]).unwrap().without_secrets().to_toml().unwrap();
    assert!(shown.contains("authorization") && !shown.contains("s3cret"), "{shown}");
}
