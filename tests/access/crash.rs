//! Partners on a disk whose power goes: what was acknowledged is there, and nothing was invented.

use holdfast::{
    engine::Refusal,
    model::{
        Lsn,
        partner::{AddPartner, PartnerEntry},
        signature::KeyHash,
    },
    wal::sim::{Random, SimStorage},
};

use crate::common::{SimEngine, open, small};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn partner(name: &str) -> AddPartner {
    let body = format!(r#"{{"name": "{name}", "scopes": ["reserve", "order"], "rate_per_s": 7}}"#);
    serde_json::from_str(&body).unwrap()
}

/// One change of somebody; what is there of him then, if it was one.
fn change(engine: &SimEngine, random: &mut Random, n: u64) -> Option<PartnerEntry> {
    let name = NAMES[random.below(NAMES.len() as u64) as usize];
    let key = KeyHash::of(&format!("key-{n}"));
    let decision = match random.below(8) {
        0 => engine.revoke_partner(name, "x"),
        1..4 => engine.add_partner(&partner(name), &key, "x"),
        _ => engine.rotate_partner(name, &key, random.below(2) * 60_000, "x"),
    };
    let settled = match random.below(2) {
        // Not waited for: it may be lost.
        0 => decision.into_sealed().1,
        _ => engine.settle_blocking(decision),
    };
    settled.ok().map(|answer| answer.value)
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash_and_nothing_is_invented() {
    for seed in 0..12 {
        let (mut storage, mut random) = (SimStorage::new(), Random(seed));
        let mut made: Vec<PartnerEntry> = Vec::new();
        for life in 0..3 {
            let engine = open(&storage, &small());
            for n in 0..60 {
                made.extend(change(&engine, &mut random, life * 1_000 + n));
                if random.below(20) == 0 {
                    engine.checkpoint().unwrap();
                }
            }
            let durable = engine.log().durable();
            storage = storage.crash(seed * 10 + life);
            drop(engine);
            let engine = open(&storage, &small());
            let found = engine.partners();
            // Of each, the last one that is there; whatever was made after it was not acknowledged.
            for name in NAMES {
                let of_name = made.iter().filter(|one| one.name == name);
                let kept =
                    of_name.clone().filter(|one| one.last() < durable).max_by_key(|one| one.last());
                let there = found.get(name);
                assert!(there.map(PartnerEntry::last) >= kept.map(PartnerEntry::last), "{name}");
                assert!(
                    there.is_none_or(|there| of_name.clone().any(|one| one == there)),
                    "{name}"
                );
            }
            // What the crash took is as if it had never been.
            made.retain(|one| found.get(&one.name).is_some_and(|there| one.last() <= there.last()));
            engine.close().unwrap();
        }
    }
}

#[test]
fn no_more_than_so_many_names_are_kept() {
    let storage = SimStorage::new();
    let engine = open(&storage, &small());
    let mut last = None;
    for n in 0..1_000 {
        let decision = engine.add_partner(&partner(&format!("p-{n}")), &KeyHash::of("k"), "");
        last = decision.lsn().max(last);
    }
    let refused = engine.add_partner(&partner("one-more"), &KeyHash::of("k"), "");
    let refused = engine.settle_blocking(refused).unwrap_err();
    assert!(matches!(refused, Refusal::Overloaded { .. }), "{refused:?}");
    // Those that are there can still be changed.
    let other = engine.rotate_partner("p-7", &KeyHash::of("other"), 0, "");
    assert!(engine.settle_blocking(other).unwrap().value.last() > last.unwrap_or(Lsn(0)));
    engine.checkpoint().unwrap();
    let before = engine.partners();
    engine.close().unwrap();
    let engine = open(&storage, &small());
    assert_eq!(engine.partners(), before);
}

#[test]
fn a_revoked_name_is_free_once_its_keys_are_forgotten() {
    let storage = SimStorage::new();
    let mut options = small();
    options.retention_ms = 50;
    let engine = open(&storage, &options);
    engine.settle_blocking(engine.add_partner(&partner("a"), &KeyHash::of("k"), "")).unwrap();
    engine.settle_blocking(engine.revoke_partner("a", "")).unwrap();
    let again = engine.add_partner(&partner("a"), &KeyHash::of("k2"), "");
    let refused = engine.settle_blocking(again).unwrap_err();
    assert_eq!(refused, Refusal::PartnerExists { revoked: true });
    std::thread::sleep(std::time::Duration::from_millis(60));
    let again = engine.add_partner(&partner("a"), &KeyHash::of("k2"), "");
    assert!(!engine.settle_blocking(again).unwrap().value.revoked);
}
