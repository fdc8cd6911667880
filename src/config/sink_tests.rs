//! A sink's settings: each is checked, every default is written down, no secret is shown.

use super::*;

fn good() -> SinkConfig {
    SinkConfig::new("erp", Domain::Inventory, "http://127.0.0.1:9/in")
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(good().validate(), Ok(()));
    let secret = |text: &str| Some(text.to_owned());
    let cases = [
        ("name", SinkConfig { name: "Erp".into(), ..good() }),
        ("name", SinkConfig { name: "x".repeat(33), ..good() }),
        ("url", SinkConfig { url: "ftp://example.com".into(), ..good() }),
        ("url", SinkConfig { url: "erp".into(), ..good() }),
        ("window_events_max", SinkConfig { window_events_max: 0, ..good() }),
        ("window_ms_max", SinkConfig { window_ms_max: 0, ..good() }),
        ("lines_max", SinkConfig { lines_max: 0, ..good() }),
        ("parked_max", SinkConfig { parked_max: 0, ..good() }),
        ("batch_bytes_max", SinkConfig { batch_bytes_max: 1 << 20, ..good() }),
        ("timeout_ms", SinkConfig { timeout_ms: 0, ..good() }),
        ("rate_per_s", SinkConfig { rate_per_s: Some(f64::NAN), ..good() }),
        ("rate_per_s", SinkConfig { rate_per_s: Some(0.0), ..good() }),
        ("retry_max_ms", SinkConfig { retry_max_ms: 99, ..good() }),
        (
            "policy.ordering",
            SinkConfig {
                domain: Domain::Finance,
                policy: Policy { ordering: Ordering::None, ..Policy::default() },
                ..good()
            },
        ),
        (
            "policy.concurrency_max",
            SinkConfig { policy: Policy { concurrency_max: 0, ..Policy::default() }, ..good() },
        ),
        ("signing_secret", SinkConfig { signing_secret: secret("whsec_AAAA"), ..good() }),
        ("signing_secret", SinkConfig { signing_secret: secret("secret"), ..good() }),
        (
            "headers.webhook-id",
            SinkConfig { headers: [("webhook-id".to_owned(), "x".into())].into(), ..good() },
        ),
        (
            "filter.events",
            SinkConfig {
                filter: FilterConfig { events: vec!["order.*".into()], ..FilterConfig::default() },
                ..good()
            },
        ),
        (
            "accounts.tax",
            SinkConfig {
                accounts: Accounts { tax: String::new(), ..Accounts::default() },
                ..good()
            },
        ),
    ];
    for (field, config) in cases {
        let error = config.validate().unwrap_err();
        assert!(error.starts_with(&format!("{field}:")), "{field}: {error}");
    }
}

#[test]
fn reads_from_toml_with_defaults_and_refuses_what_it_does_not_know() {
    let text = "name = \"books\"\ndomain = \"finance\"\nurl = \"http://127.0.0.1:9/\"\n\
                rate_per_s = 2.5\n[accounts]\ntax = \"1776\"";
    let config: SinkConfig = toml::from_str(text).unwrap();
    assert_eq!(config.domain, Domain::Finance);
    assert_eq!(config.accounts.tax, "1776");
    assert_eq!(config.accounts.receivable, "receivable");
    assert_eq!(config.window_events_max, 10_000);
    assert_eq!(config.rate_per_s, Some(2.5));
    assert_eq!(config.validate(), Ok(()));
    assert_eq!(toml::from_str::<SinkConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
    assert!(toml::from_str::<SinkConfig>(&format!("colour = 1\n{text}")).is_err());
    assert!(toml::from_str::<SinkConfig>(&text.replace("domain", "#")).is_err());
    assert!(toml::from_str::<SinkConfig>(&text.replace("\"finance\"", "\"x\"")).is_err());
}

#[test]
fn secrets_are_not_printed() {
    let mut config = good();
    config.url = "http://me:swordfish@127.0.0.1/".into();
    config.signing_secret = Some("whsec_swordfish".into());
    config.headers.insert("authorization".into(), "Bearer swordfish".into());
    let printed = format!("{config:?}");
    assert!(!printed.contains("swordfish"), "{printed}");
    assert!(printed.contains("authorization"));
}

#[test]
fn the_render_version_follows_what_shapes_the_body() {
    let mut other = good();
    other.timeout_ms = 1;
    assert_eq!(good().render_version(), other.render_version());
    other.accounts.tax = "1776".into();
    assert_ne!(good().render_version(), other.render_version());
    let other = SinkConfig { recognition: Recognition::Invoice, ..good() };
    assert_ne!(good().render_version(), other.render_version());
    let filter = |skus: &[&str], locations: &[&str]| FilterConfig {
        skus: skus.iter().map(|s| (*s).to_owned()).collect(),
        locations: locations.iter().map(|l| l.parse().unwrap()).collect(),
        ..FilterConfig::default()
    };
    let filters = [filter(&[], &[]), filter(&["A"], &[]), filter(&[], &["A"])];
    let version = |filter| SinkConfig { filter, ..good() }.render_version();
    let versions: std::collections::HashSet<_> = filters.into_iter().map(version).collect();
    assert_eq!(versions.len(), 3);
}
