//! A target that lies is caught, whichever way it lies, and one that does not is not.

mod common;

use std::time::Duration;

use common::{Fake, Manner, carried_out, scenario};
use holdfast_loadtest::{
    audit::{self, Check, Told},
    run::ask_again,
    target::Target,
};

const SALE: &str = "[catalogue]\nskus = 5\nstock = 40\n[shoppers]\nthink_ms = [1, 5]\nabandon = 0.3\n\
                    payment_failure = 0.2\none_step = 0.2\n[retries]\ntwice = 0.2\ntwice_after_ms = 3\n\
                    attempts_max = 4\nbackoff_ms = 1\n";

fn audited(manner: Manner) -> Vec<Check> {
    let target = Fake::new(manner);
    let scenario = scenario(2_000, 0.3, SALE);
    let (plan, mut run) = carried_out(&target, &scenario);
    ask_again(&target, &plan, &mut run.books, Duration::from_secs(20)).unwrap();
    let told = Told::of(&plan, &run.books);
    // As it was when it had been stocked.
    let fresh = Fake::new(Manner::good());
    fresh.prepare(&plan).unwrap();
    let before = fresh.ledger(&plan).unwrap();
    let after = target.ledger(&plan).unwrap();
    audit::ledger(&plan, &run.books, &told, &before, &after, false)
}

/// What does not agree.
fn failed(manner: Manner) -> Vec<String> {
    let checks = audited(manner);
    assert_eq!(audit::passed(&checks), checks.iter().all(|check| check.ok));
    checks.into_iter().filter(|check| !check.ok).map(|check| check.what).collect()
}

fn caught(manner: Manner, what: &str) {
    let failed = failed(manner);
    assert!(failed.iter().any(|failed| failed.starts_with(what)), "{what}: {failed:?}");
}

#[test]
fn honest_targets_pass() {
    let checks = audited(Manner::good());
    assert!(audit::passed(&checks), "{checks:#?}");
    let sold = checks.iter().find(|check| check.what.starts_with("units sold")).unwrap();
    assert!(sold.expected > 50, "{sold:?}");
}

#[test]
fn lost_answers_and_load_shed_make_no_difference() {
    assert_eq!(failed(Manner { loses_one_of: 4, ..Manner::good() }), [""; 0]);
    assert_eq!(failed(Manner { sheds_one_of: 3, ..Manner::good() }), [""; 0]);
}

#[test]
fn one_that_sells_what_it_does_not_have_is_caught() {
    caught(Manner { oversells: true, ..Manner::good() }, "units promised beyond the stock");
}

#[test]
fn one_that_forgets_keys_is_caught() {
    caught(Manner { forgets_keys: true, ..Manner::good() }, "keys that got two reservations");
}

#[test]
fn one_that_gives_a_reservation_to_two_is_caught() {
    caught(Manner { same_name_every: 20, ..Manner::good() }, "reservations given to two shoppers");
}

#[test]
fn one_that_grants_and_does_nothing_is_caught() {
    caught(Manner { grants_nothing: true, ..Manner::good() }, "units held");
}

#[test]
fn one_that_takes_and_says_nothing_is_caught() {
    caught(Manner { takes_in_secret: true, ..Manner::good() }, "units held");
}

#[test]
fn one_that_forgets_sales_is_caught() {
    caught(Manner { forgets_sales: true, ..Manner::good() }, "units sold");
}

#[test]
fn one_that_never_answers_is_not_taken_for_honest() {
    let target = Fake::new(Manner { silent: true, ..Manner::good() });
    let scenario = scenario(100, 0.2, "[sending]\ntimeout_ms = 50\n[retries]\nattempts_max = 1\n");
    let (plan, mut run) = carried_out(&target, &scenario);
    ask_again(&target, &plan, &mut run.books, Duration::from_millis(100)).unwrap();
    let told = Told::of(&plan, &run.books);
    let ledger = target.ledger(&plan).unwrap();
    let checks = audit::ledger(&plan, &run.books, &told, &ledger, &ledger, false);
    let unknown = checks.iter().find(|check| check.what.contains("stays unknown")).unwrap();
    assert!(!unknown.ok, "{unknown:?}");
}
