//! What is wrong with a scenario is named, and the ready ones are right.

use super::*;

const STEADY: &str = "[[stages]]\nshape = \"steady\"\nrate = 100\nfor_s = 1\n";

fn parse(text: &str) -> Result<Scenario, Error> {
    Scenario::parse("test", text, Path::new("."))
}

fn said(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn a_short_one_has_the_defaults() {
    let scenario = parse(STEADY).unwrap();
    assert_eq!(scenario.name, "test");
    assert_eq!(scenario.catalogue, Catalogue::default());
    assert_eq!(scenario.receivers.len(), 1);
    assert_eq!(scenario.peak_rate(), 100.0);
}

#[test]
fn unknown_fields_are_refused_wherever_they_stand() {
    for (text, field) in [
        (format!("sead = 1\n{STEADY}"), "sead"),
        (format!("{STEADY}[catalogue]\nsku = 1\n"), "sku"),
        (format!("{STEADY}[slo]\np95_ms = 1\n"), "p95_ms"),
        (format!("{STEADY}burst = 1\n"), "burst"),
        (format!("{STEADY}[[receivers]]\nname = \"a\"\ndomain = \"finance\"\nrate = 1\n"), "rate"),
    ] {
        let said = said(&text);
        assert!(said.contains(&format!("unknown field `{field}`")), "{said}");
    }
}

#[test]
fn what_is_of_a_wrong_kind_is_named() {
    for (text, field) in [
        (format!("{STEADY}[catalogue]\nskus = \"many\"\n"), "`catalogue.skus`"),
        (format!("{STEADY}[shoppers]\nthink_ms = 5\n"), "`shoppers.think_ms`"),
        (format!("{STEADY}[sending]\ntimeout_ms = -1\n"), "`sending.timeout_ms`"),
        ("[[stages]]\nshape = \"steady\"\nrate = 1\n".to_owned(), "`for_s`"),
        ("seed = 1\n".to_owned(), "`stages`"),
        ("stages = [".to_owned(), "`the file`"),
    ] {
        let said = said(&text);
        assert!(said.starts_with("test: ") && said.contains(field), "{said}");
    }
}

#[test]
fn what_is_out_of_range_is_named() {
    for (more, field) in [
        ("[catalogue]\nskus = 0", "catalogue.skus"),
        ("[catalogue]\nzipf = nan", "catalogue.zipf"),
        ("[catalogue]\npurchase_limit = 0", "catalogue.purchase_limit"),
        ("[shoppers]\nlines = []", "shoppers.lines"),
        ("[shoppers]\nquantity = [0.0]", "shoppers.quantity"),
        ("[shoppers]\nabandon = 1.5", "shoppers.abandon"),
        ("[shoppers]\nabandon = 0.6\npayment_failure = 0.6", "shoppers.abandon"),
        ("[shoppers]\nthink_ms = [5, 4]", "shoppers.think_ms"),
        ("[retries]\nattempts_max = 0", "retries.attempts_max"),
        ("[sending]\nconnections = 0", "sending.connections"),
        ("[sending]\nsenders = 8\nconnections = 4", "sending.connections"),
        ("[slo]\np999_ms = 0", "slo.p999_ms"),
        ("[[receivers]]\nname = \"A\"\ndomain = \"finance\"", "receivers[0].name"),
    ] {
        let said = said(&format!("{STEADY}{more}\n"));
        assert!(
            said.starts_with(&format!("test: `{field}` must")) || said.contains("together"),
            "{said}"
        );
        assert!(said.contains(field), "{said}");
    }
    let spike = "[[stages]]\nshape = \"spike\"\nbase = 1\npeak = 9\nat_s = 1\nrise_s = 1\nhold_s = 1\n\
                 fall_s = 1\nfor_s = 3\n";
    assert!(
        said(spike).starts_with("test: `stages[0].for_s` must be at least 4"),
        "{}",
        said(spike)
    );
    let twin = "[[receivers]]\nname = \"a\"\ndomain = \"finance\"\n".repeat(2);
    assert!(said(&format!("{STEADY}{twin}")).contains("`receivers[1].name`"));
}

#[test]
fn the_ready_ones_are_right_and_have_a_plan() {
    for (name, _) in READY {
        let scenario = Scenario::find(name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(scenario.name, name);
        assert!(!scenario.about.is_empty(), "{name}");
        let count = scenario.schedule(1.0).unwrap().instants.len();
        assert!((1_000..5_000_000).contains(&count), "{name}: {count}");
    }
}

#[test]
fn a_name_that_is_none_is_told_with_those_that_are() {
    let said = Scenario::find("flash-dorp").unwrap_err().to_string();
    assert!(said.contains("flash-dorp") && said.contains("flash-drop"), "{said}");
}

#[test]
fn the_documentation_s_scenario_is_one() {
    let text = include_str!("../../../docs/loadtest.md");
    let block = text.lines().skip_while(|line| !line.starts_with("    name = \"my-drop\""));
    let block: Vec<&str> =
        block.take_while(|line| line.is_empty() || line.starts_with("    ")).collect();
    let scenario = parse(&block.join("\n")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((scenario.stages.len(), scenario.receivers.len()), (4, 2));
    // What it shows is the defaults, but for what there is none of.
    assert_eq!(scenario.sending, Sending::default());
    assert_eq!(scenario.shoppers, Shoppers::default());
    assert_eq!(scenario.retries, Retries::default());
    assert_eq!(scenario.catalogue, Catalogue::default());
}
