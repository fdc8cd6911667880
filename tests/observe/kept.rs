//! Error budgets and quotas go on after a restart, and after a crash with all but the last seconds.

use crate::support::{House, until};

/// The shop's quota, as an answer tells it: how many requests are left.
fn left(house: &House) -> u64 {
    let told = house.header("GET", "/v1/status", "ratelimit");
    let part = told.split(", ").find_map(|part| part.strip_prefix("\"day\";r="));
    let part = part.unwrap_or_else(|| panic!("no quota in {told}"));
    part.split(';').next().unwrap().parse().unwrap()
}

#[test]
fn a_broken_promise_and_a_spent_quota_outlive_the_process() {
    let mut house = House::start();
    house.wms.behave(|b| b.outage = true);
    (0..12).for_each(|n| house.sell(&format!("LATE-{n}"), &[]));
    until("it is breached while the warehouse is gone", || house.level("orders")["total"] == 12);
    house.wms.behave(|b| b.outage = false);
    until("the warehouse has recovered", || {
        house.metric("holdfast_sink_incidents_total{sink=\"wms\"}") == 1.0
    });
    let (before, fast) = (left(&house), house.level("fast"));
    house.restart(false);
    let level = house.level("orders");
    assert_eq!((&level["good"], &level["total"]), (&0.into(), &12.into()), "{level}");
    assert_eq!(level["state"], "breached", "{level}");
    assert!(level["budget_left_percent"].as_f64().unwrap() < 0.0, "{level}");
    assert_eq!(house.level("fast")["total"], fast["total"]);
    let after = left(&house);
    assert!(after < before, "{before} were left and now {after}");

    // By force: what was written down before is there.
    let day = house.written();
    assert!(day > 0, "the quota was never written down");
    (0..20).for_each(|n| house.sell(&format!("SOON-{n}"), &[]));
    until("they are written down", || house.written() >= day + 20);
    let (sold, before) = (house.level("fast")["total"].clone(), left(&house));
    house.restart(true);
    assert_eq!(house.level("fast")["total"], sold);
    let after = left(&house);
    // Of the looks since the last time some may be lost, which were no more than these.
    assert!(after < before + 500, "{before} were left and now {after}");
    assert!(after < 100_000 - day - 20, "{after}");
}

/// Orders are late and not at the warehouse when the process ends, in order and by force: some are in a batch
/// that was tried, others in no batch yet. They count once, whenever they arrive.
#[test]
fn an_order_that_is_late_over_a_restart_counts_once() {
    let mut house = House::start();
    house.wms.behave(|b| b.outage = true);
    (0..5).for_each(|n| house.sell(&format!("TRIED-{n}"), &[]));
    until("they are late", || house.level("orders")["total"] == 5);
    (0..7).for_each(|n| house.sell(&format!("READ-{n}"), &[]));
    until("all are late", || house.level("orders")["total"] == 12);
    house.restart(false);
    let judged = |house: &House| {
        let level = house.level("orders");
        (level["good"].as_u64().unwrap(), level["total"].as_u64().unwrap())
    };
    let lag = |house: &House| {
        let sinks = house.get("/v1/sinks");
        let sinks = sinks["sinks"].as_array().unwrap();
        sinks.iter().find(|sink| sink["name"] == "wms").unwrap()["lag_records"].as_u64().unwrap()
    };
    let one_more_is_late = |house: &House, name: &str, all| {
        house.sell(name, &[]);
        until("one more is late", || judged(house).1 >= all);
        assert_eq!(judged(house), (0, all), "{name}");
    };
    until("they are read again", || lag(&house) >= 12);
    one_more_is_late(&house, "LATE-1", 13);
    let written = || house.written_of("open/orders");
    until("it is written down", || written() == Some(13));
    house.restart(true);
    until("they are read again", || lag(&house) >= 13);
    one_more_is_late(&house, "LATE-2", 14);
    house.restart(false);
    house.wms.behave(|b| b.outage = false);
    until("the warehouse has all", || lag(&house) == 0);
    house.sell("FAST", &[]);
    until("the fast one counts", || judged(&house).0 == 1);
    assert_eq!(judged(&house), (1, 15));
    until("none is open", || house.written_of("open/orders").is_none());
}
