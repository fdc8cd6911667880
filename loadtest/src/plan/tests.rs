//! A plan comes out the same again, does what its scenario says, and its bodies are what the server
//! reads.

use std::path::Path;

use holdfast::model::command::{BatchReserve, Commit, PlaceOrder, Reserve};

use super::*;

fn scenario(more: &str) -> Scenario {
    let text = format!(
        "[[stages]]\nshape = \"steady\"\nrate = 20000\nfor_s = 1\n[catalogue]\nskus = 100\nzipf = 1.0\n{more}"
    );
    Scenario::parse("test", &text, Path::new(".")).unwrap()
}

const RICH: &str = "stock = 10\nlocations = 3\n[shoppers]\nlines = [1, 1, 1]\nquantity = [3, 1]\nabandon = 0.2\n\
                    payment_failure = 0.1\none_step = 0.25\nthink_ms = [100, 300]\ncustomers = 1000\n\
                    [retries]\ntwice = 0.1\ntwice_after_ms = 7\n";

fn plan(seed: u64) -> Plan {
    let scenario = Scenario { seed, ..scenario(RICH) };
    Plan::new(&scenario, 1.0, "t").unwrap()
}

fn whole(plan: &Plan) -> (Vec<u64>, Vec<Visit>, Vec<u8>) {
    let visits: Vec<Visit> = (0..plan.shoppers()).map(|n| plan.visit(n)).collect();
    let mut bodies = Vec::new();
    for visit in &visits {
        for step in [Step::Reserve, Step::Order, Step::Commit, Step::Release] {
            plan.body(visit, step, &mut bodies);
            plan.write_key(visit.shopper, step, &mut bodies);
        }
    }
    (plan.schedule.instants.clone(), visits, bodies)
}

#[test]
fn the_same_seed_makes_the_same_plan_down_to_the_byte() {
    let first = whole(&plan(5));
    assert!(first == whole(&plan(5)));
    let other = whole(&plan(6));
    assert!(first.0 != other.0 && first.1 != other.1 && first.2 != other.2);
}

#[test]
fn shoppers_do_what_the_scenario_says() {
    let plan = plan(1);
    let visits: Vec<Visit> = (0..plan.shoppers()).map(|n| plan.visit(n)).collect();
    let count = visits.len() as f64;
    let share =
        |of: &dyn Fn(&Visit) -> bool| visits.iter().filter(|v| of(v)).count() as f64 / count;
    let near = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 0.02, "{found} instead of {expected}");
    };
    near(share(&|v| v.ending == Ending::Leaves), 0.2);
    near(share(&|v| v.ending == Ending::GivesBack), 0.1);
    near(share(&|v| v.one_step), 0.25);
    near(share(&|v| v.twice == Some(7_000_000)), 0.1);
    near(share(&|v| v.lines.len() == 1 && v.lines[0].quantity == 1), 0.25);
    near(share(&|v| (100..=200).contains(&(v.think / 1_000_000))), 0.5);
    assert!(visits.iter().all(|v| (100_000_000..=300_000_000).contains(&v.think)));
    assert!(visits.iter().all(|v| v.customer < 1_000));
    // The first SKU of a hundred after Zipf has a share of 1 / H(100).
    near(share(&|v| v.lines[0].sku == 0), 0.1928);
}

#[test]
fn a_cart_has_each_sku_once() {
    let plan = plan(2);
    for shopper in 0..plan.shoppers() {
        let visit = plan.visit(shopper);
        for (at, line) in visit.lines.iter().enumerate() {
            assert!(visit.lines[..at].iter().all(|other| other.sku != line.sku));
        }
    }
}

#[test]
fn bodies_are_what_the_server_reads() {
    let plan = plan(3);
    let body = |visit: &Visit, step| {
        let mut body = Vec::new();
        plan.body(visit, step, &mut body);
        body
    };
    for visit in (0..200).map(|n| plan.visit(n)) {
        let skus: Vec<String> = visit.lines.iter().map(|line| Plan::sku(line.sku)).collect();
        let reserve: Reserve = serde_json::from_slice(&body(&visit, Step::Reserve)).unwrap();
        assert!(reserve.lines.iter().map(|l| l.sku.as_str()).eq(&skus));
        assert_eq!(reserve.lines[0].quantity.get(), visit.lines[0].quantity);
        assert_eq!(reserve.ttl_ms, Some(3_600_000));
        let mut member = Vec::new();
        plan.batch_member(&visit, &mut member);
        let member: BatchReserve = serde_json::from_slice(&member).unwrap();
        let (key, same) = member.into_parts();
        assert_eq!(
            (key.as_str(), same),
            (plan.key(visit.shopper, Step::Reserve).as_str(), reserve)
        );
        let commit: Commit = serde_json::from_slice(&body(&visit, Step::Commit)).unwrap();
        assert_eq!(commit.order_id.unwrap().as_str(), plan.order_id(visit.shopper));
        assert!(commit.lines.iter().map(|l| l.sku.as_str()).eq(&skus));
        let order: PlaceOrder = serde_json::from_slice(&body(&visit, Step::Order)).unwrap();
        assert_eq!(order.lines[0].quantity.unwrap().get(), visit.lines[0].quantity);
        assert!(body(&visit, Step::Release).is_empty());
    }
}

#[test]
fn names_and_numbers_are_written_as_they_are_read() {
    assert_eq!(Plan::sku(0), "SKU-0000000");
    assert_eq!(Plan::sku(999_999), "SKU-0999999");
    for value in [0, 7, 10, 4_294_967_295, u64::MAX] {
        let mut out = Vec::new();
        render::number(&mut out, value);
        assert_eq!(out, value.to_string().as_bytes());
    }
}

#[test]
fn stock_is_dealt_out_whole() {
    let plan = plan(1);
    assert_eq!((0..3).map(|l| plan.units_at(l)).collect::<Vec<_>>(), [4, 3, 3]);
}

#[test]
fn who_failed_waits_longer_each_time_and_never_beyond_the_bound() {
    let plan = plan(1);
    let longest = |attempt| (0..2_000).map(|n| plan.backoff(n, attempt)).max().unwrap();
    let (first, third) = (longest(1), longest(3));
    assert!((190_000_000..=200_000_000).contains(&first), "{first}");
    assert!((760_000_000..=800_000_000).contains(&third), "{third}");
}
