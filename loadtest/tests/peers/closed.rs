//! The closed loop: so many callers, each of whom waits for his answer.

use std::{sync::Arc, time::Duration};

use holdfast_loadtest::{
    plan::Plan,
    recording::Outcome,
    run::{self, Progress},
    target::Target,
    trial::{Place, Protocol, Setup},
};

use super::common::{Fake, Manner, scenario};

const HOLDS: &str =
    "[catalogue]\nskus = 50\n[shoppers]\nabandon = 1.0\n[sending]\nconnections = 8\n";

#[test]
fn callers_ask_when_they_are_answered_and_not_before() {
    let target = Fake::new(Manner { service: Duration::from_millis(5), ..Manner::good() });
    let scenario = scenario(1, 1.0, HOLDS);
    let plan = Arc::new(Plan::closed(&scenario, 8, 0.5, 1_000_000, "t"));
    target.prepare(&plan).unwrap();
    let (second, progress) = (Duration::from_secs(1), Progress::default());
    let run = run::carry_out(&target, &plan, &scenario.sending, second, &progress, || {});
    let totals = run.unwrap().recording.totals();
    let granted = totals.count(Outcome::Granted);
    // A hundred turns of five milliseconds, at most.
    assert!((80..=808).contains(&granted), "{granted}");
    assert_eq!((totals.all(), target.asked()), (granted, granted));
    assert!(totals.service.min() >= 4_900_000, "{}", totals.service.min());
}

#[test]
fn it_ends_when_the_plan_has_no_more_visits() {
    let target = Fake::new(Manner::good());
    let scenario = scenario(1, 1.0, HOLDS);
    let plan = Arc::new(Plan::closed(&scenario, 4, 600.0, 100, "t"));
    target.prepare(&plan).unwrap();
    let (second, progress) = (Duration::from_secs(1), Progress::default());
    let run = run::carry_out(&target, &plan, &scenario.sending, second, &progress, || {}).unwrap();
    assert_eq!(run.recording.totals().all(), 100);
    assert!(run.elapsed < Duration::from_secs(60), "{:?}", run.elapsed);
}

#[test]
fn it_is_audited_like_any_run() {
    let mut scenario = scenario(1, 1.0, HOLDS);
    scenario.sending.senders = 2;
    let plan = Arc::new(Plan::closed(&scenario, 16, 0.3, 200_000, "t"));
    let place = Place::InProcess { data: None };
    let setup = Setup { scenario, place, protocol: Protocol::Http1 };
    let trial = setup.try_plan(plan, &Progress::default()).unwrap_or_else(|e| panic!("{e}"));
    assert!(trial.audited(), "{:#?}", trial.checks);
    let held = trial.checks.iter().find(|c| c.what == "units held: shoppers = ledger").unwrap();
    assert!(held.found > 50, "{held:?}");
}
