//! Connectors as they are declared: what is laid over what, what is refused and where, and that nothing
//! breaks out of its place.

use serde_json::json;

use super::*;
use crate::config::{Config, Overrides, SinkConfig};

fn overlay(text: &str) -> Overlay {
    Overlay::parse(text).unwrap()
}

fn sink(preset: &str, domain: Domain, text: &str) -> SinkConfig {
    SinkConfig {
        preset: preset.into(),
        connector: overlay(text),
        ..SinkConfig::new("erp", domain, "https://erp.example/")
    }
}

fn refused(text: &str) -> String {
    sink("generic", Domain::Inventory, text).validate().expect_err(text)
}

/// What the preset of a system can't know.
const SITE: &str = "[vars]\ncurrency = \"EUR\"\ncompany = \"c\"\njournal = \"j\"\nplant = \"1010\"\n\
                    subsidiary = \"1\"\naccount = \"2\"\nuser = \"u\"\ncompany_code = \"1010\"\n\
                    counterpart = \"Out\"\n";

#[test]
fn every_preset_fits_both_domains_once_the_site_is_said() {
    for (name, text) in PRESETS {
        assert!(text.starts_with("# ") && text.contains("# Not known:"), "{name}");
        for domain in [Domain::Inventory, Domain::Finance] {
            assert_eq!(sink(name, domain, SITE).validate(), Ok(()), "{name} {domain:?}");
        }
    }
    let error = sink("sap-s4", Domain::Inventory, "").validate().unwrap_err();
    let place = "connector.body: undefined value (in line 7 of the template); not given: ";
    assert!(error.starts_with(place), "{error}");
    assert!(error.ends_with("`vars.plant` (with the preset `sap-s4`)"), "{error}");
    // Every one that is missing, at once, and none that the preset itself gives.
    let error = sink("erpnext", Domain::Inventory, "").validate().unwrap_err();
    assert!(error.contains("not given: `vars.company`, `vars.counterpart` (with"), "{error}");
    let error = sink("oracle", Domain::Inventory, "").validate().unwrap_err();
    assert!(error.starts_with("preset: there is none of that name"), "{error}");
}

#[test]
fn a_sink_lays_its_fields_over_the_presets() {
    let plain = sink("erpnext", Domain::Inventory, SITE);
    let text = format!(
        "lines_max = 7\n[auth]\nkind = \"bearer\"\ntoken_env = \"T\"\n{SITE}\
                        [domains.inventory]\nbody = \"{{{{ part_id }}}}\"\n[domains.finance]\nbody = \"1\""
    );
    let changed = sink("erpnext", Domain::Inventory, &text);
    let (before, after) = (plain.connector().unwrap(), changed.connector().unwrap());
    assert_eq!((before.lines_max, after.lines_max), (500, 7));
    assert_eq!(after.body.as_deref(), Some("{{ part_id }}"));
    assert_eq!((&before.path, &before.rules), (&after.path, &after.rules));
    assert!(
        matches!(after.auth, Auth::Bearer { .. }) && matches!(before.auth, Auth::Header { .. })
    );
    assert_eq!(changed.clone().bounded().unwrap().lines_max, 7);
    assert_eq!(plain.clone().bounded().unwrap().lines_max, 500);
    assert_eq!(sink("odoo", Domain::Finance, SITE).bounded().unwrap().dedupe, Dedupe::Lookup);
    assert_eq!(sink("generic", Domain::Finance, "").bounded().unwrap().lines_max, 5_000);
}

#[test]
fn what_is_wrong_is_named_and_placed() {
    for (text, expected) in [
        ("colour = 1", "connector.colour: unknown field `colour`"),
        ("lines_max = \"many\"", "connector.lines_max: invalid type"),
        ("lines_max = 0", "connector.lines_max: must be 1 to"),
        ("method = \"GET\"", "connector.method: must be one that carries a body"),
        ("method = \"DELETE\"", "connector.method: unknown variant"),
        ("path = \"movements\"", "connector.path: must begin with `/` or `?`"),
        ("path = \"/{{ nobody }}\"", "connector.path: undefined value"),
        ("body = \"{{ lines[0].colour }}\"", "connector.body: undefined value"),
        ("body = \"{{ entries }}\"", "connector.body: undefined value"),
        ("body = \"{% for %}\"", "connector.body: syntax error"),
        ("body = \"{{ part_id | safe }}\"", "connector.body: unknown filter"),
        ("body = '\"{{ part_id }}\"'", "connector.body: what it renders is not JSON"),
        (
            "body = \"{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}\"",
            "connector.body: the template makes more than",
        ),
        (
            "bytes_max = 1024\nbody = \"{% for a in range(9999) %}1{% endfor %}\"",
            "connector.body: the template makes more than 1024 bytes",
        ),
        ("content_type = \"text/csv\"\nbody = \"x\"", "connector.content_type: must be JSON, XML"),
        ("headers = { host = \"x\" }", "connector.headers.host: is set by Holdfast itself"),
        ("headers = { x = \"a\\nb\" }", "connector.headers.x: its value is not visible ASCII"),
        ("rules = [{ then = \"fine\" }]", "connector.rules[0].then: unknown variant"),
        (
            "rules = [{ status = [\"6xx\"], then = \"done\" }]",
            "connector.rules[0].status[0]: must be",
        ),
        (
            "rules = [{ when = { a = 1 }, then = \"done\" }]",
            "connector.rules[0].when.a: `a` is not a JSON pointer",
        ),
        ("dedupe = \"lookup\"", "connector.lookup: must be given"),
        (
            "rejected = { at = \"/a\", line_id = \"/b\", index = \"/c\" }",
            "connector.rejected.line_id: must be given, or",
        ),
        ("domains = { stock = {} }", "connector.domains.stock: is no domain"),
        ("auth = { kind = \"bearer\" }", "connector.auth.token: must be given, or `token_env`"),
        (
            "auth = { kind = \"bearer\", token = \"a\", token_env = \"B\" }",
            "connector.auth.token: must be given, or",
        ),
        (
            "auth = { kind = \"bearer\", token_env = \"HOLDFAST__A\" }",
            "connector.auth.token_env: must be the name",
        ),
        (
            "auth = { kind = \"header\", header = \"a b\", api_key = \"k\" }",
            "connector.auth.header: is not the name",
        ),
        (
            "auth = { kind = \"oauth2\", token_url = \"ftp://a\", client_id = \"a\", client_secret = \"b\" }",
            "connector.auth.token_url: must begin",
        ),
    ] {
        let error = refused(text);
        assert!(error.starts_with(expected), "{text}\n  {error}");
    }
    let text = "[[sinks]]\nname = \"erp\"\ndomain = \"inventory\"\nurl = \"https://erp.example\"\n\
                [sinks.connector]\nlines_max = 0\n";
    let error =
        Config::from_parts("shop.toml".as_ref(), text, std::iter::empty(), &Overrides::default());
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("shop.toml:6: `sinks.0.connector.lines_max` must be"), "{error}");
}

#[test]
fn a_sink_and_its_connector_agree() {
    let mut config = sink("odoo", Domain::Inventory, "");
    config.dedupe = Dedupe::Line;
    assert!(config.validate().unwrap_err().starts_with("dedupe: the preset says otherwise"));
    let mut config = sink("odoo", Domain::Inventory, "");
    config.signing_secret = Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into());
    assert!(
        config.validate().unwrap_err().starts_with("signing_secret: the connector does not sign")
    );
    let mut config = sink("odoo", Domain::Inventory, "");
    config.headers.insert("Authorization".into(), "x".into());
    assert!(config.validate().unwrap_err().starts_with("headers.authorization: and"));
    let mut config = sink("odoo", Domain::Inventory, "");
    config.url = "https://odoo.example/?db=a".into();
    assert!(config.validate().unwrap_err().starts_with("url: must have no query"));
}

#[test]
fn no_value_breaks_out_of_its_place() {
    let hostile = "\"}],\"x\":\"{{ 7*7 }}\\\u{1f600}</Item>&amp;'--?#%2e%2e/../\r\nX-Evil: 1";
    let connector = Connector::default();
    let context = Context::new(hostile, json!({"lines": [{"sku": hostile, "n": 1}]}), &connector);
    let render = |source: &str, escape| {
        Template::new(source, escape).unwrap().render(&context, 10_000).unwrap()
    };
    let body = "{\"a\": {{ part_id }}, \"b\": [{% for l in lines %}{{ l.sku }}{% endfor %}], \
                \"c\": {{ part_id ~ '-' ~ lines[0].sku }}, \"d\": {{ lines }}, \"e\": {{ part_id|tojson }}}";
    let read: Value = serde_json::from_str(&render(body, Escape::Json)).unwrap();
    let expected = json!({"a": hostile, "b": [hostile], "c": format!("{hostile}-{hostile}"),
                          "d": [{"sku": hostile, "n": 1}], "e": hostile});
    assert_eq!(read, expected);
    let xml = render("<a>{{ part_id }}</a>", Escape::Xml);
    assert_eq!((xml.matches('<').count(), xml.contains("&amp;amp;")), (2, true), "{xml}");
    let url = render("/a/{{ part_id }}?b='{{ part_id }}'", Escape::Url);
    let url = reqwest::Url::parse(&format!("https://erp.example{url}")).unwrap();
    assert_eq!((url.host_str(), url.path_segments().unwrap().count()), (Some("erp.example"), 2));
    assert_eq!((url.fragment(), url.query_pairs().count()), (None, 1));
    let null = Context::new("p", json!({"a": null}), &connector);
    let render = |escape| Template::new("{{ a }}", escape).unwrap().render(&null, 99);
    assert_eq!(render(Escape::Json).unwrap(), "null");
    assert!(matches!(render(Escape::Xml), Err(Unrendered::Wrong(_))));
}

#[test]
fn the_same_part_is_the_same_bytes() {
    for (name, _) in PRESETS {
        for domain in [Domain::Inventory, Domain::Finance] {
            let connector = sink(name, domain, SITE).connector().unwrap();
            let Some(body) = &connector.body else { continue };
            let escape = Escape::of_content_type(&connector.content_type).unwrap();
            let render = || {
                let batch = connector.kept(sample::batch(domain));
                let context = Context::new("erp-3f9c-000123", batch, &connector);
                Template::new(body, escape).unwrap().render(&context, 100_000).unwrap()
            };
            let first = render();
            assert!(first.contains("erp-3f9c-000123"), "{first}");
            assert!((0..20).all(|_| render() == first), "{name}");
        }
    }
}

#[test]
fn what_templates_reckon_with() {
    let connector = Connector::default();
    let batch = json!({"e": [{"currency": "EUR", "n": 1}, {"currency": "JPY", "n": 1}]});
    let context = Context::new("erp-3f9c-000123.a.b", batch, &connector);
    let render =
        |source: &str| Template::new(source, Escape::Plain).unwrap().render(&context, 1_000);
    for (source, expected) in [
        (
            "{{ 1234 | major('EUR') }} {{ -5 | major('EUR') }} {{ 0 | major('EUR') }}",
            "12.34 -0.05 0.00",
        ),
        ("{{ 1234 | major('JPY') }} {{ 1234 | major('KWD') }}", "1234 1.234"),
        ("{{ 9223372036854775807 | major('EUR') }}", "92233720368547758.07"),
        ("{{ part_id | short(20) }}", "erp-3f9c-000123.a.b"),
        ("{{ (part_id | short(16)) | length }}", "16"),
        ("{{ 'a b/c' | url }}", "a%20b%2Fc"),
        ("{{ e | one('n') }} {{ e | one('n', 1) }}", "1 1"),
    ] {
        assert_eq!(render(source).unwrap(), expected, "{source}");
    }
    let other = Context::new("erp-3f9c-000123.a.a", json!({}), &connector);
    let short = Template::new("{{ part_id | short(16) }}", Escape::Plain).unwrap();
    assert_ne!(short.render(&context, 99).unwrap(), short.render(&other, 99).unwrap());
    for source in ["{{ e | one('currency') }}", "{{ e | one('n', 2) }}", "{{ [] | one('n') }}"] {
        assert!(matches!(render(source), Err(Unrendered::Content(_))), "{source}");
    }
    for source in
        ["{{ part_id | short(4) }}", "{{ 1 | major('euro') }}", "{{ now() }}", "{{ e | random }}"]
    {
        assert!(matches!(render(source), Err(Unrendered::Wrong(_))), "{source}");
    }
}

#[test]
fn the_render_version_follows_template_values_and_preset() {
    let version = |preset: &str, text: &str| sink(preset, Domain::Inventory, text).render_version();
    let plain = version("erpnext", SITE);
    assert_eq!(plain, version("erpnext", &format!("lines_max = 9\n{SITE}")));
    assert_ne!(plain, version("erpnext", &SITE.replace("Out", "Gone")));
    assert_ne!(plain, version("erpnext", &format!("body = \"1\"\n{SITE}")));
    assert_ne!(
        plain,
        version("erpnext", &format!("path = \"/\"\ncontent_type = \"text/xml\"\n{SITE}"))
    );
    assert_ne!(plain, version("netsuite", SITE));
    let mut generic = SinkConfig::new("erp", Domain::Inventory, "https://erp.example/");
    let sealed = generic.render_version();
    generic.connector = overlay("[headers]\nx = \"y\"");
    assert_eq!(sealed, generic.render_version());
}

#[test]
fn no_secret_is_shown() {
    let text = "[[sinks]]\nname = \"erp\"\ndomain = \"inventory\"\nurl = \"https://erp.example\"\n\
                [sinks.connector]\nheaders = { x = \"swordfish\" }\n\
                lookup = { path = \"/\", headers = { y = \"swordfish\" }, found = {}, absent = {} }\n";
    let auths = [
        "{ kind = \"bearer\", token = \"swordfish\" }",
        "{ kind = \"basic\", user = \"me\", password = \"swordfish\" }",
        "{ kind = \"query\", parameter = \"k\", api_key = \"swordfish\" }",
        "{ kind = \"oauth2\", token_url = \"https://a\", client_id = \"me\", client_secret = \"swordfish\" }",
    ];
    let load = |text: &str| {
        Config::from_parts("shop.toml".as_ref(), text, std::iter::empty(), &Overrides::default())
    };
    for auth in auths {
        let config = load(&format!("{text}auth = {auth}\n")).unwrap();
        let shown = config.clone().without_secrets().to_toml().unwrap();
        for printed in [shown, format!("{config:?}")] {
            assert!(printed.contains("(hidden)") && !printed.contains("swordfish"), "{printed}");
        }
        // Nor in an error, where it stands in the wrong place.
        for wrong in [
            auth.replace("kind", "x = \"swordfish\", kind"),
            auth.replace("\"swordfish\"", "[\"swordfish\"]"),
            auth.replace("kind = \"", "kind = \"swordfish"),
        ] {
            let error = load(&format!("{text}auth = {wrong}\n")).unwrap_err().to_string();
            assert!(
                !error.contains("\"swordfish\"") && error.contains("connector.auth"),
                "{error}"
            );
        }
    }
    let revealed = Auth::Bearer { token: None, token_env: Some("T".into()) };
    assert_eq!(revealed.reveal(|name| Some(format!("{name}!"))).unwrap(), "T!");
    assert_eq!(revealed.reveal(|_| None), Err(NoSecret("T".into())));
}
