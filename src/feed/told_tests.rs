//! What became of entries of which some lay dead, were changed, sent again or dropped.

use serde_json::json;

use super::*;
use crate::model::letter::{Split, TakenPart};

fn body(entries: &[(&str, i64)]) -> Vec<u8> {
    let entry = |(id, debit): &(&str, i64)| json!({"entry_id": id, "debit": debit});
    let entries: Vec<_> = entries.iter().map(entry).collect();
    serde_json::to_vec(&json!({"domain": "finance", "entries": entries})).unwrap()
}

fn seal(number: u64, letter: &str, part_id: &str, entries: &[(&str, i64)]) -> Seal {
    let body = body(entries);
    Seal {
        number,
        first_lsn: 8,
        last_lsn: 8,
        covers_lsn: 16,
        sealed_at_ms: 0,
        events: 1,
        config_version: 0,
        digest: Seal::digest_of(&body, []),
        chain: [0; 32],
        sink: "fin".into(),
        body,
        parking: Default::default(),
        recognition: 0,
        lane: 0,
        more: Vec::new(),
        letter: letter.into(),
        part_id: part_id.into(),
    }
}

fn letter(id: &str, entries: &[(&str, i64)]) -> Letter {
    Letter {
        id: id.into(),
        part_id: String::new(),
        number: 1,
        seal_lsn: 8,
        config_version: 0,
        at_ms: 0,
        status: 422,
        lane: 0,
        attempts: 1,
        uncertain: false,
        mended: false,
        reason: String::new(),
        body: body(entries),
    }
}

fn fate(number: u64, letter: &str, taken: &[(u32, u32)], letters: Vec<Letter>) -> Acknowledge {
    let part = |range: &(u32, u32)| TakenPart { path: ".a".into(), items: vec![*range] };
    Acknowledge {
        number,
        seal_lsn: 8,
        attempts: 1,
        status: 200,
        refused: taken.is_empty() && !letters.is_empty(),
        sink: "fin".into(),
        answer: String::new(),
        letter: letter.into(),
        letters,
        taken: taken.iter().map(part).collect(),
    }
}

fn deed(deed: Deed) -> Operate {
    let (sink, by, reason) = ("fin".into(), "ops".into(), String::new());
    Operate { sink, by, reason, forced: false, deed }
}

/// The states of the three entries of the first batch.
fn states(told: &Told) -> [&'static str; 3] {
    [0, 1, 2].map(|place| told.state(&format!("fin-3f9c-000001.{}", place + 1), 1, place).as_str())
}

const ONE: (&str, i64) = ("fin-3f9c-000001.1", 1);
const TWO: (&str, i64) = ("fin-3f9c-000001.2", 2);
const THREE: (&str, i64) = ("fin-3f9c-000001.3", 3);
const OTHER: (&str, i64) = ("fin-3f9c-000001.3", 4);

/// A letter of two entries, one of which is changed, is halved when it goes out again.
#[test]
fn each_entry_of_a_letter_has_a_fate_of_its_own() {
    let mut told = Told::default();
    told.seal(&seal(1, "", "", &[ONE, TWO, THREE]));
    assert_eq!(states(&told), ["sealed"; 3]);
    told.acknowledged(&fate(1, "", &[(0, 1)], vec![letter("fin.r", &[TWO, THREE])]));
    assert_eq!(states(&told), ["delivered", "refused", "refused"]);
    let mended = letter("fin.r", &[TWO, OTHER]);
    told.operated(&deed(Deed::Mend { letter: mended }), (Lsn(40), 9));
    told.seal(&seal(2, "fin.r", "", &[TWO, OTHER]));
    assert_eq!(states(&told), ["delivered", "refused", "refused"], "it is under way");
    let split = Split { number: 2, letters: vec![letter("two", &[TWO])], ..Split::default() };
    told.operated(&deed(Deed::Split { split }), (Lsn(48), 10));
    told.acknowledged(&fate(2, "fin.r", &[(1, 2)], Vec::new()));
    assert_eq!(states(&told), ["delivered", "refused", "delivered"]);
    let [(id, changed)] = told.all_mended().collect::<Vec<_>>()[..] else { panic!("{told:?}") };
    assert_eq!((id, changed.letter.as_str(), changed.mends.len()), (OTHER.0, "fin.r", 1));
    assert_eq!(changed.changes(), "debit: 3 became 4");
    assert!(changed.who().starts_with("by ops at 1970-01-01T00:00:00.009"), "{}", changed.who());
    // A replay brings what was taken of it, and nothing else.
    told.acknowledged(&fate(2, "", &[(1, 2)], Vec::new()));
    assert_eq!(states(&told), ["delivered", "refused", "delivered"]);
    // What was not changed of it goes out by the part of the letter that it was in.
    told.seal(&seal(3, "two", "fin-3f9c-000002.b", &[TWO]));
    told.acknowledged(&fate(3, "two", &[], Vec::new()));
    assert_eq!(states(&told), ["delivered"; 3]);
    assert!(told.mended(TWO.0).is_none());
    // A replay that is refused takes it back, and what it had been sealed as is still known.
    told.acknowledged(&fate(2, "", &[], vec![letter("again", &[OTHER])]));
    assert_eq!((states(&told)[2], told.all_mended().count()), ("refused", 0));
    told.seal(&seal(4, "again", "fin-3f9c-000002.b", &[OTHER]));
    told.acknowledged(&fate(4, "again", &[], Vec::new()));
    assert_eq!(told.mended(OTHER.0).unwrap().changes(), "debit: 3 became 4");
    told.operated(&deed(Deed::Discard { letter: "again".into() }), (Lsn(56), 11));
    assert_eq!(states(&told), ["delivered"; 3], "there is nothing left of it to drop");
}

/// Of a letter whose mending the log has let go, the id tells that it was one.
#[test]
fn what_was_mended_before_the_log_begins_is_told_as_far_as_it_is_known() {
    let mut told = Told::default();
    for (number, part_id) in [(7, ""), (8, "fin-3f9c-000006"), (9, "fin-3f9c-000001.b")] {
        told.seal(&seal(number, "x", part_id, &[[TWO, THREE, ONE][number as usize - 7]]));
        told.acknowledged(&fate(number, "x", &[], Vec::new()));
    }
    let mended: Vec<_> = told.all_mended().map(|(id, _)| id).collect();
    assert_eq!(mended, [TWO.0, THREE.0]);
    let one = told.mended(TWO.0).unwrap();
    assert_eq!(one.changes(), "what it was sealed as is no longer in the log");
    assert_eq!(one.who(), "who did it is no longer in the log");
}
