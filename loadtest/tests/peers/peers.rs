//! Redis and PostgreSQL: that they do the job, and that the audit finds it where they don't.

use std::sync::Arc;

use holdfast_loadtest::{
    peer::{Kind, Peer, Postgres, Redis},
    plan::Plan,
    recording::Outcome,
    run::Progress,
    scenario::Scenario,
    trial::{Place, Protocol, Setup, Trial},
};

use super::{
    common::scenario,
    support::{SALE, agree, caught, tried},
};

fn setup(kind: Kind, scenario: Scenario) -> Setup {
    Setup { scenario, place: Place::Peer { kind, data: None }, protocol: Protocol::Http1 }
}

/// A trial against a peer that was made for it.
fn against(peer: Box<dyn Peer>, scenario: Scenario) -> Trial {
    let plan = Arc::new(Plan::new(&scenario, 1.0, "t").unwrap());
    let setup = setup(Kind::Redis, scenario);
    setup.against(peer, plan, &Progress::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Another text, which must have something to replace.
#[track_caller]
fn without(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

fn redis_with(script: &str) -> Trial {
    let redis = Redis::start_with(None, 8, 1, script).unwrap_or_else(|e| panic!("{e}"));
    against(Box::new(redis), scenario(500, 0.5, SALE))
}

fn postgres_with(schema: &str) -> Trial {
    let postgres = Postgres::start_with(None, 8, 1, schema).unwrap_or_else(|e| panic!("{e}"));
    against(Box::new(postgres), scenario(500, 0.5, SALE))
}

#[test]
fn redis_does_the_whole_job() {
    let trial = tried(&setup(Kind::Redis, scenario(1_000, 0.8, SALE)));
    agree(&trial);
    let grants = trial.checks.iter().find(|c| c.what == "grants: shoppers = outbox").unwrap();
    assert!(grants.found > 100, "{grants:?}");
    assert!(trial.target.contains("appendfsync always"), "{}", trial.target);
}

#[test]
fn postgres_does_the_whole_job() {
    let trial = tried(&setup(Kind::Postgres, scenario(1_000, 0.8, SALE)));
    agree(&trial);
    let grants = trial.checks.iter().find(|c| c.what == "grants: shoppers = outbox").unwrap();
    assert!(grants.found > 100, "{grants:?}");
    assert!(trial.target.contains("synchronous_commit on"), "{}", trial.target);
}

/// Twenty callers for the same units: twins that are under way at once, and the last unit.
#[test]
fn both_keep_their_word_under_contention() {
    let more = "[catalogue]\nskus = 1\nstock = 150\n[shoppers]\nthink_ms = [1, 2]\n\
                [retries]\ntwice = 1.0\ntwice_after_ms = 0\n\
                [sending]\nconnections = 20\nlag_p999_us_max = 60000000\n";
    for kind in [Kind::Redis, Kind::Postgres] {
        let trial = tried(&setup(kind, scenario(1_000, 0.5, more)));
        assert!(trial.audited(), "{kind:?}: {:#?}", trial.checks);
        let sold = trial.checks.iter().find(|c| c.what.starts_with("units sold")).unwrap();
        assert_eq!(sold.found, 150, "{kind:?}");
    }
}

#[test]
fn holds_run_out_in_both() {
    let more = "[catalogue]\nskus = 5\nstock = 20\n[shoppers]\nabandon = 1.0\nttl_ms = 150\n\
                [sending]\nconnections = 8\nlag_p999_us_max = 60000000\n";
    for kind in [Kind::Redis, Kind::Postgres] {
        let trial = tried(&setup(kind, scenario(400, 1.2, more)));
        assert!(trial.audited(), "{kind:?}: {:#?}", trial.checks);
        let granted = trial.run.recording.totals().count(Outcome::Granted);
        assert!(granted > 150, "{kind:?}: what ran out was sold again: {granted}");
    }
}

#[test]
fn a_redis_that_forgets_keys_is_caught() {
    let script = without(Redis::HOLD, "if known then", "if false then");
    caught(&redis_with(&script), "keys that got two reservations");
}

#[test]
fn a_redis_that_sells_what_it_does_not_have_is_caught() {
    let script = without(Redis::HOLD, "return 'sold_out'", "");
    caught(&redis_with(&script), "units oversold");
}

#[test]
fn a_redis_that_tells_nobody_is_caught() {
    let script = without(Redis::HOLD, "redis.call('XADD'", "local _ = ('XADD'");
    let script = script.replace("local _ = ('XADD', ", "local _ = ({");
    let script = without(&script, "'hold', id)", "'hold', id})");
    caught(&redis_with(&script), "grants: shoppers = outbox");
}

#[test]
fn a_postgres_that_tells_twice_is_caught() {
    let row = "INSERT INTO outbox (kind, key, hold, skus, units) VALUES (p_kind, p_key, v_hold, p_skus, p_units);";
    let schema = without(Postgres::SCHEMA, row, &format!("{row} {row}"));
    caught(&postgres_with(&schema), "keys that stand twice in the outbox");
}

#[test]
fn a_postgres_that_takes_half_a_cart_is_caught() {
    let schema = without(
        Postgres::SCHEMA,
        "committed = committed + p_units[i]\n            WHERE sku = p_skus[i]",
        "committed = committed + p_units[i]\n            WHERE i = 1 AND sku = p_skus[i]",
    );
    let raise = "IF NOT FOUND THEN RAISE EXCEPTION 'sold out' USING ERRCODE = 'HF001'; END IF;";
    caught(&postgres_with(&without(&schema, raise, "")), "units sold: shoppers = ledger");
}

#[test]
fn what_a_peer_has_no_means_for_is_refused() {
    let more = "[catalogue]\nlocations = 2\n";
    let trial = setup(Kind::Redis, scenario(10, 0.1, more)).try_at(1.0, &Progress::default());
    let said = trial.err().unwrap().to_string();
    assert!(said.contains("catalogue.locations"), "{said}");
    let more = "[catalogue]\npurchase_limit = 2\n";
    let trial = setup(Kind::Postgres, scenario(10, 0.1, more)).try_at(1.0, &Progress::default());
    let said = trial.err().unwrap().to_string();
    assert!(said.contains("catalogue.purchase_limit"), "{said}");
}
