//! Figures of service levels and quotas on a disk whose power goes: what was durable is there, the last of
//! each period holds, what is forgotten stays forgotten, whatever checkpoints were made between.

use std::collections::BTreeMap;

use holdfast::{
    model::{Lsn, tally::Tally},
    wal::sim::{Random, SimStorage},
};

use crate::common::{SimEngine, open, small};

type Kept = BTreeMap<(String, u64), Vec<(u64, u64)>>;

fn some(random: &mut Random, n: u64) -> Vec<Tally> {
    let one = |random: &mut Random| {
        let of = ["level/a", "level/a-2", "quota/shop"][random.below(3) as usize].to_owned();
        // Now and then a period is forgotten.
        let counts = (0..random.below(4)).map(|part| (n, n + part)).collect();
        Tally { period: random.below(300), of, counts }
    };
    (0..1 + random.below(3)).map(|_| one(random)).collect()
}

fn put(kept: &mut Kept, tally: &Tally) {
    let name = (tally.of.clone(), tally.period);
    match tally.counts.is_empty() {
        true => drop(kept.remove(&name)),
        false => drop(kept.insert(name, tally.counts.clone())),
    }
}

fn found(engine: &SimEngine) -> Kept {
    let mut kept = Kept::new();
    engine.take_tallies().iter().for_each(|tally| put(&mut kept, tally));
    assert!(engine.take_tallies().is_empty(), "they are given away once");
    kept
}

#[test]
fn what_was_durable_is_there_after_a_crash_and_the_last_of_a_period_holds() {
    for seed in 0..12 {
        let (mut storage, mut random) = (SimStorage::new(), Random(seed));
        let mut before = Kept::new();
        for life in 0..3 {
            let engine = open(&storage, &small());
            assert_eq!(found(&engine), before);
            let mut written: Vec<(Lsn, Vec<Tally>)> = Vec::new();
            for n in 0..80 {
                let tallies = some(&mut random, n);
                written.push((engine.tally(tallies.clone()).unwrap(), tallies));
                if random.below(25) == 0 {
                    engine.log().wait_durable_blocking(written.last().unwrap().0).unwrap();
                    engine.checkpoint().unwrap();
                }
            }
            let durable = engine.log().durable();
            storage = storage.crash(seed * 10 + life);
            drop(engine);
            let engine = open(&storage, &small());
            let there = found(&engine);
            // What was durable is there, and of the rest a part from its begin.
            let mut kept = before.clone();
            let sure = written.iter().take_while(|(lsn, _)| *lsn < durable).count();
            let each = |kept: &mut Kept, tallies: &[Tally]| {
                tallies.iter().for_each(|tally| put(kept, tally));
            };
            written[..sure].iter().for_each(|(_, tallies)| each(&mut kept, tallies));
            let mut rest = written[sure..].iter();
            while kept != there {
                let (_, tallies) = rest.next().unwrap_or_else(|| panic!("{there:?} of nothing"));
                each(&mut kept, tallies);
            }
            before = there;
            engine.checkpoint().unwrap();
            engine.close().unwrap();
        }
    }
}
