//! A sale through each preset to a simulator of its system: answers are lost after their effect, calls
//! limited, tokens forgotten in the middle, and a line is bad. In the end everything but the bad line has
//! had its effect exactly once.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Callers, Simulator, System, business_central::BusinessCentral, erpnext::ErpNext,
    netsuite::NetSuite, odoo::Odoo, sap::Sap,
};
use crate::{
    config::{Dedupe, Domain, Overlay, SinkConfig},
    delivery::{Effect, Outcome, Part, Partner},
    sinks::HttpPartner,
};

const CLIENT: Callers = Callers::Tokens {
    id: "app",
    secret: "s3cr3t",
    scope: "https://api.businesscentral.dynamics.com/.default",
};

/// The systems, with who may call and what a site says of itself.
const SYSTEMS: [&str; 5] = ["odoo", "erpnext", "business-central", "netsuite", "sap-s4"];

fn system(name: &str) -> (Box<dyn System>, Callers, String) {
    let header = |value: &str| Callers::Header("authorization", value.to_owned());
    let site = "[vars]\ncurrency = \"EUR\"\ncompany_code = \"1010\"\nuser = \"TESTER\"\nplant = \"1010\"\n\
                counterpart = \"Out\"\nwarehouse_suffix = \" - S\"\nsubsidiary = \"1\"\naccount = \"2\"\n";
    match name {
        "odoo" => (
            Box::<Odoo>::default(),
            header("bearer k3y-k3y"),
            format!("[auth]\napi_key = \"k3y-k3y\"\n[lookup]\nsettle_ms = 30\n{site}"),
        ),
        "erpnext" => (
            Box::<ErpNext>::default(),
            header("token k3y:s3cr3t"),
            format!("[auth]\napi_key = \"k3y:s3cr3t\"\n{site}company = \"Shop\"\n"),
        ),
        "business-central" => (
            Box::<BusinessCentral>::default(),
            CLIENT,
            format!(
                "[auth]\ntoken_url = \"TOKENS\"\nclient_id = \"app\"\nclient_secret = \"s3cr3t\"\n\
                     [lookup]\nsettle_ms = 30\n{site}company = \"c-1\"\njournal = \"j-1\"\n"
            ),
        ),
        "netsuite" => (
            Box::<NetSuite>::default(),
            header("Bearer t0k3n"),
            format!("[auth]\ntoken = \"t0k3n\"\n{site}"),
        ),
        "sap-s4" => (
            Box::<Sap>::default(),
            header("Basic SE9MREZBU1Q6czNjcjN0"),
            format!("[auth]\npassword = \"s3cr3t\"\n[lookup]\nsettle_ms = 30\n{site}"),
        ),
        other => panic!("{other}"),
    }
}

/// A sink of a system.
fn config(name: &str, domain: Domain, url: &str, overlay: &str) -> SinkConfig {
    let path = if name == "business-central" { "/api/v2.0" } else { "" };
    let mut config = SinkConfig::new("erp", domain, format!("{url}{path}"));
    config.preset = name.into();
    config.timeout_ms = 5_000;
    config.connector = Overlay::parse(&overlay.replace("TOKENS", &format!("{url}/token"))).unwrap();
    config
}

/// A part's body, its items and under what name they stand.
fn body(id: &str, domain: Domain, items: &[Value]) -> Bytes {
    let name = if domain == Domain::Inventory { "lines" } else { "entries" };
    let mut body = json!({"batch_id": id, "sink": "erp", "domain": domain.as_str(),
        "priority": "standard", "first_lsn": 1, "last_lsn": 2, "sealed_at": "2026-11-24T14:30:57.123Z",
        "events": items.len()});
    body[name] = items.into();
    body.to_string().into()
}

/// Ids and items.
type Batches = Vec<(String, Vec<Value>)>;

/// Batches of about so many lines each; the bad one is in the last. What is right is summed up.
fn sale(domain: Domain, per_batch: usize) -> (Batches, BTreeMap<String, i64>) {
    let mut sums = BTreeMap::new();
    let mut batches = Vec::new();
    for number in 1..=4_usize {
        let id = format!("erp-3f9c-{number:06}");
        let mut items = Vec::new();
        for n in 1..=per_batch {
            let bad = number == 4 && n == per_batch / 3;
            let item_id = format!("{id}.{n}");
            let mut add = |key: String, n: i64| *sums.entry(key).or_default() += n;
            items.push(match domain {
                Domain::Inventory => {
                    let sku = if bad { "BAD".to_owned() } else { format!("SKU \"{}\" <&'>", n % 40) };
                    let place = format!("L{}", n % 3);
                    let movement = ["shipped", "returned", "sold"][n % 3];
                    let quantity = i64::try_from(n % 7 + 1).unwrap() * if n % 11 == 0 { -1 } else { 1 };
                    let (movement, quantity) = if bad { ("shipped", 1) } else { (movement, quantity) };
                    match movement {
                        _ if bad => {}
                        "shipped" => add(format!("{sku}@{place}"), -quantity),
                        "returned" => add(format!("{sku}@{place}"), quantity),
                        _ => {}
                    }
                    json!({"line_id": item_id, "sku": sku, "location": place, "movement": movement,
                           "quantity": quantity, "events": 1})
                }
                _ => {
                    let gross = i64::try_from(n * 119).unwrap();
                    let net = i64::try_from(n * 100).unwrap();
                    let revenue = if bad { "BAD <&>" } else { "40\"00" };
                    if !bad {
                        add("1200".into(), gross);
                        add(revenue.into(), -net);
                        add("4800".into(), net - gross);
                    }
                    let posting = |account: &str, net: i64| json!({"account": account,
                        "tax_code": "DE-19", "debit": net.max(0), "credit": (-net).max(0)});
                    json!({"entry_id": item_id, "first_lsn": 1, "last_lsn": 2, "orders": 1, "records": 1,
                           "digest": "ab", "previous_digest": "00", "kind": "invoice", "currency": "EUR",
                           "postings": [posting("1200", gross), posting(revenue, -net),
                                        posting("4800", net - gross)]})
                }
            });
        }
        batches.push((id, items));
    }
    (batches, sums.into_iter().filter(|(_, n)| *n != 0).collect())
}

/// As the delivery does it: repeats what failed, halves what is refused as far as that is allowed.
async fn deliver(
    partner: &HttpPartner,
    config: &SinkConfig,
    id: &str,
    items: &[Value],
) -> Vec<String> {
    let mut part = Part {
        id: id.to_owned(),
        body: body(id, config.domain, items),
        config_version: 0,
        uncertain: false,
    };
    for _ in 0..40 {
        match partner.send(&part).await {
            Outcome::Done { rejected, .. } => {
                return rejected.into_iter().map(|r| r.line_id).collect();
            }
            Outcome::Failed { retry_after, effect, .. } => {
                part.uncertain |= effect == Effect::Unknown;
                let wait = retry_after.unwrap_or_default().min(Duration::from_millis(50));
                tokio::time::sleep(wait).await;
            }
            Outcome::Refused { .. } if items.len() == 1 => {
                let id = items[0].get("line_id").or(items[0].get("entry_id")).unwrap();
                return vec![id.as_str().unwrap().to_owned()];
            }
            Outcome::Refused { .. } => {
                assert!(!part.uncertain || config.dedupe == Dedupe::Line, "{id} may not be halved");
                let (a, b) = items.split_at(items.len() / 2);
                let mut bad = Box::pin(deliver(partner, config, &format!("{id}.a"), a)).await;
                bad.extend(Box::pin(deliver(partner, config, &format!("{id}.b"), b)).await);
                return bad;
            }
            Outcome::Denied { status, .. } => panic!("{id}: denied, {status}"),
            Outcome::Withheld { reason } | Outcome::Unclear { reason, .. } => {
                panic!("{id}: {reason}")
            }
        }
    }
    panic!("{id}: no end");
}

async fn sell(name: &str, domain: Domain) {
    let (rules, callers, site) = system(name);
    let simulator = Simulator::start(rules, callers).await;
    let config = config(name, domain, &simulator.url(), &site);
    config.validate().unwrap();
    let partner = HttpPartner::new(&config, &[]).unwrap();
    let config = config.bounded().unwrap();
    let lines_max = usize::try_from(config.lines_max).unwrap().min(120);
    let per_batch = if domain == Domain::Inventory { lines_max } else { lines_max / 3 };
    let (batches, expected) = sale(domain, per_batch);
    let mut bad = Vec::new();
    for (n, (id, items)) in batches.iter().enumerate() {
        simulator.fault(|faults| match n {
            0 => faults.lost = 0b101,
            1 => faults.limited = 2,
            2 => faults.token = None,
            _ => {}
        });
        bad.extend(deliver(&partner, &config, id, items).await);
    }
    let effects = simulator.effects();
    let place = |(sku, place): &(String, String)| format!("{sku}@{place}");
    let stock = effects.stock.iter().map(|(key, n)| (place(key), *n));
    let accounts = effects.accounts.iter().map(|(key, n)| (key.clone(), *n));
    let found: BTreeMap<_, _> = stock.chain(accounts).filter(|(_, n)| *n != 0).collect();
    assert_eq!(effects.violations, Vec::<String>::new(), "{name}");
    assert_eq!(found, expected, "{name}");
    assert_eq!(bad, [format!("erp-3f9c-000004.{}", per_batch / 3)], "{name}");
    assert!(effects.documents >= 4 && simulator.fault(|f| f.changes) > 5, "{name}");
    // What has been taken is known, whoever asks again.
    let (id, items) = &batches[1];
    let again =
        Part { id: id.clone(), body: body(id, domain, items), config_version: 0, uncertain: true };
    let outcome = partner.send(&again).await;
    assert!(matches!(outcome, Outcome::Done { .. }), "{name}: {outcome:?}");
    assert_eq!(simulator.effects().stock, effects.stock);
    assert_eq!(simulator.effects().accounts, effects.accounts);
}

#[tokio::test]
async fn stock_moves_once_in_every_system() {
    for name in SYSTEMS {
        sell(name, Domain::Inventory).await;
    }
}

#[tokio::test]
async fn entries_are_booked_once_in_every_system() {
    for name in SYSTEMS {
        sell(name, Domain::Finance).await;
    }
}

#[tokio::test]
async fn wrong_credentials_and_a_wrong_address_pause_and_set_nothing_aside() {
    for name in SYSTEMS {
        let (rules, callers, site) = system(name);
        let simulator = Simulator::start(rules, callers).await;
        let (batches, _) = sale(Domain::Inventory, 9);
        let part = Part {
            id: batches[0].0.clone(),
            body: body(&batches[0].0, Domain::Inventory, &batches[0].1),
            config_version: 0,
            uncertain: false,
        };
        let wrong =
            site.replace("s3cr3t", "wrong").replace("k3y-k3y", "wrong").replace("t0k3n", "wrong");
        let config = config(name, Domain::Inventory, &simulator.url(), &wrong);
        let outcome = HttpPartner::new(&config, &[]).unwrap().send(&part).await;
        let denied = Outcome::Denied { status: 401, retry_after: None };
        assert_eq!(outcome, denied, "{name}");
        let mut elsewhere = super::sale::config(name, Domain::Inventory, &simulator.url(), &site);
        elsewhere.url = format!("{}/elsewhere", simulator.url());
        let outcome = HttpPartner::new(&elsewhere, &[]).unwrap().send(&part).await;
        let lost = matches!(outcome, Outcome::Denied { status: 404, .. })
            || matches!(&outcome, Outcome::Failed { reason, effect: Effect::None, .. } if reason.contains("404"));
        assert!(lost, "{name}: {outcome:?}");
        assert_eq!(simulator.effects().documents, 0);
    }
}

#[tokio::test]
async fn a_token_is_struck_from_what_a_partner_says() {
    struct Parrot;
    impl System for Parrot {
        fn answer(&mut self, asked: &super::Asked, _: &mut super::Effects) -> super::Answered {
            super::answered(400, json!({"you said": asked.header("authorization")}))
        }
    }
    let simulator = Simulator::start(Box::new(Parrot), CLIENT).await;
    let (_, _, site) = system("business-central");
    let config = config("business-central", Domain::Inventory, &simulator.url(), &site);
    let (batches, _) = sale(Domain::Inventory, 9);
    let body = body("p", Domain::Inventory, &batches[0].1);
    let part = Part { id: "p".into(), body, config_version: 0, uncertain: false };
    match HttpPartner::new(&config, &[]).unwrap().send(&part).await {
        Outcome::Refused { answer, .. } => assert_eq!(answer, r#"{"you said":"Bearer (hidden)"}"#),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_for_many_and_anew_when_it_is_forgotten() {
    let (rules, callers, site) = system("business-central");
    let simulator = Simulator::start(rules, callers).await;
    let config = config("business-central", Domain::Inventory, &simulator.url(), &site);
    let partner = HttpPartner::new(&config, &[]).unwrap();
    let (batches, _) = sale(Domain::Inventory, 9);
    let parts: Vec<Part> = (0..8)
        .map(|n| {
            let id = format!("erp-3f9c-{n:06}");
            let body = body(&id, Domain::Inventory, &batches[0].1);
            Part { id, body, config_version: 0, uncertain: false }
        })
        .collect();
    let all = |range: std::ops::Range<usize>| {
        let sends = parts[range].iter().map(|part| partner.send(part));
        let joined: Vec<_> = sends.collect();
        async move {
            let mut done = 0;
            // Polled together: none waits for the others to end.
            let mut pending = joined;
            while !pending.is_empty() {
                let (outcome, rest) = first_of(pending).await;
                assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
                (done, pending) = (done + 1, rest);
            }
            done
        }
    };
    assert_eq!(all(0..4).await, 4);
    assert_eq!(simulator.fault(|faults| faults.tokens), 1);
    simulator.fault(|faults| faults.token = None);
    assert_eq!(all(4..8).await, 4);
    assert_eq!(simulator.fault(|faults| faults.tokens), 2);
    assert_eq!(simulator.effects().violations, Vec::<String>::new());
}

/// The first of some futures that ends, and the others.
async fn first_of<F: Future + Unpin>(mut pending: Vec<F>) -> (F::Output, Vec<F>) {
    std::future::poll_fn(move |context| {
        let ready =
            pending.iter_mut().enumerate().find_map(|(at, future)| {
                match std::pin::Pin::new(future).poll(context) {
                    std::task::Poll::Ready(output) => Some((at, output)),
                    std::task::Poll::Pending => None,
                }
            });
        match ready {
            Some((at, output)) => {
                drop(pending.swap_remove(at));
                std::task::Poll::Ready((output, std::mem::take(&mut pending)))
            }
            None => std::task::Poll::Pending,
        }
    })
    .await
}
