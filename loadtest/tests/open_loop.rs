//! The loop is open: what a target does changes what is measured, and never what is asked; nothing that
//! was planned is left out; the tester's own lateness is told apart.

mod common;

use std::time::Duration;

use common::{Fake, Manner, carried_out, scenario};
use holdfast_loadtest::{
    recording::{Outcome, Totals},
    run::{Fate, ask_again},
};

const MS: u64 = 1_000_000;

fn response(totals: &Totals, quantile: f64) -> u64 {
    totals.response.value_at_quantile(quantile) / MS
}

fn service(totals: &Totals, quantile: f64) -> u64 {
    totals.service.value_at_quantile(quantile) / MS
}

#[test]
fn a_target_that_stalls_can_t_hide_it() {
    let stall = Some((Duration::from_millis(400), Duration::from_millis(600)));
    let target = Fake::new(Manner { room: 4, stall, ..Manner::good() });
    let scenario = scenario(2_000, 1.0, "[shoppers]\nabandon = 1.0\n");
    let (_, run) = carried_out(&target, &scenario);
    let totals = run.recording.totals();
    assert_eq!((totals.all(), totals.count(Outcome::Granted)), (2_000, 2_000));
    // Four requests were under way while it stalled; four hundred were due.
    assert!(service(&totals, 0.99) < 50, "{}", service(&totals, 0.99));
    assert!(response(&totals, 0.99) > 150, "{}", response(&totals, 0.99));
    assert!(response(&totals, 0.85) > 20, "{}", response(&totals, 0.85));
    // That was the target's doing, not the tester's.
    assert!(totals.lag.value_at_quantile(0.99) < 50 * MS);
}

#[test]
fn what_finds_no_room_is_charged_as_unsent() {
    let target = Fake::new(Manner { room: 0, ..Manner::good() });
    let scenario = scenario(500, 0.4, "[sending]\ntimeout_ms = 150\n");
    let (_, run) = carried_out(&target, &scenario);
    let totals = run.recording.totals();
    assert_eq!((totals.all(), totals.count(Outcome::Unsent)), (200, 200));
    assert!(totals.response.min() >= 149 * MS, "{}", totals.response.min());
    assert!(totals.service.is_empty());
    assert_eq!(run.books.count(|fate| fate == Fate::Unsent), 200);
    assert_eq!(target.asked(), 0);
}

#[test]
fn what_is_not_answered_is_charged_as_timed_out_and_its_room_is_used_again() {
    let target = Fake::new(Manner { room: 4, silent: true, ..Manner::good() });
    let scenario = scenario(100, 0.5, "[sending]\ntimeout_ms = 100\n[retries]\nattempts_max = 1\n");
    let (_, run) = carried_out(&target, &scenario);
    let totals = run.recording.totals();
    let timed_out = totals.count(Outcome::TimedOut);
    assert_eq!(timed_out + totals.count(Outcome::Unsent), 50);
    // There was room for four at once.
    assert!(timed_out > 4, "{timed_out}");
    assert_eq!(target.asked(), timed_out);
    assert!(totals.response.min() >= 99 * MS);
    let unclear = run.books.count(|fate| matches!(fate, Fate::Unclear(_)));
    assert_eq!(unclear, timed_out);
}

#[test]
fn the_end_comes_even_if_no_answer_does() {
    let target = Fake::new(Manner { silent: true, room: 10_000, ..Manner::good() });
    let more = "[sending]\ntimeout_ms = 60000\ndrain_ms = 200\n[shoppers]\nthink_ms = [0, 0]\n";
    let scenario = scenario(1_000, 0.2, more);
    let (_, run) = carried_out(&target, &scenario);
    assert_eq!(run.recording.totals().count(Outcome::TimedOut), 200);
    assert!(run.elapsed < Duration::from_secs(3), "{:?}", run.elapsed);
}

#[test]
fn a_tester_that_is_late_makes_the_run_void() {
    let target = Fake::new(Manner { blocks: Duration::from_millis(5), ..Manner::good() });
    let scenario = scenario(500, 0.5, "[shoppers]\nabandon = 1.0\n");
    let (_, run) = carried_out(&target, &scenario);
    assert_eq!(run.recording.totals().all(), 250);
    assert!(run.is_void(&scenario.sending));
    assert!(run.lag_p999_us() > 100_000, "{}", run.lag_p999_us());
}

#[test]
fn a_warm_up_is_carried_out_and_not_measured() {
    let target = Fake::new(Manner::good());
    let more = "[shoppers]\nabandon = 1.0\n[sending]\nwarm_up_s = 0.25\n";
    let (_, run) = carried_out(&target, &scenario(1_000, 0.5, more));
    assert_eq!((run.warm_up, run.recording.totals().all()), (250, 250));
    assert_eq!(run.books.count(|fate| fate == Fate::Held), 500);
}

#[test]
fn shoppers_do_what_was_planned_and_no_more() {
    let target = Fake::new(Manner::good());
    let more = "[shoppers]\nabandon = 0.2\npayment_failure = 0.2\none_step = 0.2\nthink_ms = [10, 50]\n\
                [retries]\ntwice = 0.1\ntwice_after_ms = 5\n[sending]\nsenders = 2\nconnections = 2\n";
    let (plan, run) = carried_out(&target, &scenario(2_000, 0.5, more));
    use holdfast_loadtest::plan::Ending;
    let mut requests = 0;
    for visit in (0..plan.shoppers()).map(|n| plan.visit(n)) {
        let expected = match (visit.one_step, visit.ending) {
            (true, _) | (_, Ending::Buys) => Fate::Bought,
            (_, Ending::GivesBack) => Fate::GaveBack,
            (_, Ending::Leaves) => Fate::Held,
        };
        assert_eq!(run.books.fates[visit.shopper as usize], expected, "{visit:?}");
        requests += 1 + u64::from(visit.twice.is_some());
        requests += u64::from(!visit.one_step && visit.ending != Ending::Leaves);
    }
    let totals = run.recording.totals();
    assert_eq!((totals.all(), totals.count(Outcome::Granted)), (requests, requests));
    assert_eq!(target.asked(), requests);
    assert_eq!((run.books.twins, run.books.shared(), run.books.taken_back), (0, 0, 0));
}

#[test]
fn what_a_late_answer_delays_is_charged_from_its_planned_instant() {
    let service = Duration::from_millis(200);
    let target = Fake::new(Manner { service, room: 1_000, ..Manner::good() });
    let more = "[shoppers]\nthink_ms = [50, 50]\n";
    let (_, run) = carried_out(&target, &scenario(200, 0.5, more));
    let totals = run.recording.totals();
    // 200 ms for the reservation; the payment was planned after 50 and ends after 400.
    assert_eq!(totals.all(), 200);
    assert!((199..260).contains(&response(&totals, 0.25)), "{}", response(&totals, 0.25));
    assert!((349..420).contains(&response(&totals, 0.75)), "{}", response(&totals, 0.75));
    assert!(totals.lag.value_at_quantile(0.5) < 50 * MS);
}

#[test]
fn answers_that_are_lost_are_asked_for_again_under_the_same_key() {
    let target = Fake::new(Manner { loses_one_of: 3, ..Manner::good() });
    let more = "[shoppers]\nthink_ms = [1, 1]\n[retries]\nattempts_max = 8\nbackoff_ms = 1\n";
    let (_, run) = carried_out(&target, &scenario(1_000, 0.3, more));
    assert!(run.recording.totals().count(Outcome::Error) > 100);
    assert_eq!((run.books.twins, run.books.shared()), (0, 0));
    assert!(run.books.count(|fate| fate == Fate::Bought) > 290);
}

#[test]
fn what_is_unclear_in_the_end_is_learnt() {
    let target = Fake::new(Manner { loses_one_of: 3, ..Manner::good() });
    let more =
        "[shoppers]\nthink_ms = [1, 1]\npayment_failure = 0.3\n[retries]\nattempts_max = 1\n";
    let (plan, mut run) = carried_out(&target, &scenario(1_000, 0.3, more));
    let unclear = |fate| matches!(fate, Fate::Unclear(_) | Fate::HeldUnclear(_));
    assert!(run.books.count(unclear) > 100);
    ask_again(&target, &plan, &mut run.books, Duration::from_secs(20)).unwrap();
    assert_eq!(run.books.count(unclear), 0);
}

#[test]
fn impatient_shoppers_make_a_storm_and_the_patient_do_not() {
    let service = Duration::from_millis(60);
    let manner = Manner { service, room: 10_000, ..Manner::good() };
    let patient = Fake::new(manner.clone());
    let scenario = |more| scenario(500, 0.4, &format!("[shoppers]\nabandon = 1.0\n{more}"));
    carried_out(&patient, &scenario(""));
    assert_eq!(patient.asked(), 200);
    let stormy = Fake::new(manner);
    let (_, run) =
        carried_out(&stormy, &scenario("[retries]\npatience_ms = 25\nattempts_max = 5\n"));
    assert_eq!(stormy.asked(), 600, "after 25 and after 50 ms each asks again");
    assert_eq!((run.books.twins, run.books.shared()), (0, 0));
}

#[test]
fn who_is_turned_away_tries_again_and_not_for_ever() {
    let target = Fake::new(Manner { sheds_one_of: 1, ..Manner::good() });
    let more = "[retries]\nattempts_max = 4\nbackoff_ms = 1\n";
    let (_, run) = carried_out(&target, &scenario(500, 0.2, more));
    assert_eq!(run.recording.totals().count(Outcome::Shed), 400);
    assert_eq!(run.books.count(|fate| fate == Fate::Refused), 100);
}
