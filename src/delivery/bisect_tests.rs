//! The bisection against receivers of every kind: which lines end up where, how often each was applied, and
//! what a crash between any two steps leaves.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::delivery::testing::{Seeded, batch, batch_of_lines};

const DEDUPES: [Dedupe; 4] = [Dedupe::Line, Dedupe::Batch, Dedupe::Lookup, Dedupe::None];

/// What an attempt does, beside what its content deserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing.
    Not,
    /// It never reached the partner.
    Unreached,
    /// It had its effect, and its answer was lost.
    Lost,
    /// It had none, and nobody knows.
    Vanished,
}

/// A partner that recognises repeats as it declares, and refuses lines.
#[derive(Debug, Default)]
struct Receiver {
    bad: BTreeSet<u32>,
    names_bad: bool,
    dedupe: Dedupe,
    /// Parts taken, by their ids.
    known: BTreeSet<String>,
    /// How often each line was applied.
    applied: BTreeMap<u32, u32>,
    parts: u64,
}

enum Answer {
    Taken,
    Refused(Vec<Rejected>),
    Failed(Effect),
}

fn places(body: &[u8]) -> Vec<u32> {
    let content = Content::parse(&Bytes::copy_from_slice(body)).unwrap();
    let place = |n| content.id(n).rsplit('.').next().unwrap().parse::<u32>().unwrap() - 1;
    (0..content.len() as u32).map(place).collect()
}

impl Receiver {
    fn take(&mut self, part: &Part, fault: Fault) -> Answer {
        self.parts += 1;
        if fault == Fault::Unreached {
            return Answer::Failed(Effect::None);
        }
        // A connector that looks up first asks only where an attempt may have had its effect.
        let asks = match self.dedupe {
            Dedupe::Batch => true,
            Dedupe::Lookup => part.uncertain,
            Dedupe::Line | Dedupe::None => false,
        };
        if asks && self.known.contains(&part.id) {
            return Answer::Taken;
        }
        if fault == Fault::Vanished {
            return Answer::Failed(Effect::Unknown);
        }
        let lines = places(&part.body);
        let bad: Vec<_> = lines.iter().filter(|line| self.bad.contains(line)).collect();
        if !bad.is_empty() {
            let named = |n: &&u32| Rejected {
                line_id: format!("erp-0000-000001.{}", *n + 1),
                reason: "bad".to_owned(),
            };
            return Answer::Refused(if self.names_bad {
                bad.iter().map(named).collect()
            } else {
                Vec::new()
            });
        }
        self.apply(&part.id, &lines);
        if fault == Fault::Lost { Answer::Failed(Effect::Unknown) } else { Answer::Taken }
    }

    fn apply(&mut self, id: &str, lines: &[u32]) {
        self.known.insert(id.to_owned());
        for line in lines {
            let times = self.applied.entry(*line).or_default();
            if self.dedupe != Dedupe::Line || *times == 0 {
                *times += 1;
            }
        }
    }
}

/// What the log knows of a batch while it is delivered.
#[derive(Debug, Default)]
struct Log {
    split: Option<Split>,
    letters: Vec<Letter>,
}

impl Log {
    fn record(&mut self, plan: &mut Plan) {
        if let Some(split) = plan.split(9) {
            self.letters.extend(split.letters.clone());
            self.split = Some(split);
            plan.recorded();
        }
    }
}

/// A batch begun anew from what the log knows.
fn begun(batch: &Batch, dedupe: Dedupe, log: &Log, fresh: bool) -> (Plan, Next) {
    let batch = Batch { split: log.split.clone(), fresh, ..batch.clone() };
    let mut plan = Plan::new(batch, dedupe, 1_000);
    let next = plan.begin();
    (plan, next)
}

/// Delivers with a fault at each attempt, and a crash after the attempts named.
fn deliver(
    receiver: &mut Receiver,
    batch: &Batch,
    mut fault: impl FnMut(u64) -> Fault,
    crashes: &[u64],
) -> Vec<Letter> {
    let (mut log, mut attempts) = (Log::default(), 0);
    let (mut plan, mut next) = begun(batch, receiver.dedupe, &log, true);
    loop {
        match next {
            Next::Done => break,
            Next::Part => log.record(&mut plan),
            Next::Again => {}
        }
        plan.sent();
        attempts += 1;
        assert!(attempts < 1_000, "it does not end");
        let answer = receiver.take(plan.part(), fault(attempts));
        if crashes.contains(&attempts) {
            (plan, next) = begun(batch, receiver.dedupe, &log, false);
            continue;
        }
        next = match answer {
            Answer::Taken => plan.taken(200, &[]),
            Answer::Refused(named) => plan.refused(422, &named, "bad"),
            Answer::Failed(effect) => plan.failed(effect, "broken"),
        };
    }
    log.letters.extend(plan.letters(9));
    log.letters
}

fn receiver(dedupe: Dedupe, bad: u32, lines: u32, names_bad: bool) -> Receiver {
    let bad = (0..lines).filter(|line| bad >> line & 1 == 1).collect();
    Receiver { bad, names_bad, dedupe, ..Receiver::default() }
}

/// The lines in letters, each with whether it is uncertain; twice in letters is a failure.
fn in_letters(letters: &[Letter]) -> BTreeMap<u32, bool> {
    let mut lines = BTreeMap::new();
    for letter in letters {
        for line in places(&letter.body) {
            assert_eq!(lines.insert(line, letter.uncertain), None, "line {line} is in two letters");
        }
    }
    lines
}

/// Nothing lost, nothing doubled, and no certain letter of what was applied.
fn audit(receiver: &Receiver, letters: &[Letter], lines: u32) {
    let aside = in_letters(letters);
    for line in 0..lines {
        let applied = receiver.applied.get(&line).copied().unwrap_or(0);
        assert!(applied <= 1, "line {line} was applied {applied} times");
        match aside.get(&line) {
            None => assert_eq!(applied, 1, "line {line} is lost"),
            Some(uncertain) => assert!(*uncertain || applied == 0, "line {line} is in both"),
        }
    }
}

#[test]
fn exactly_the_bad_lines_are_set_aside_whichever_they_are() {
    for lines in 1..=9u32 {
        let batch = batch_of_lines(1, lines as usize);
        for (bad, dedupe) in (0..1u32 << lines).flat_map(|bad| DEDUPES.map(|dedupe| (bad, dedupe)))
        {
            for names_bad in [false, true] {
                let mut receiver = receiver(dedupe, bad, lines, names_bad);
                let letters = deliver(&mut receiver, &batch, |_| Fault::Not, &[]);
                let aside: Vec<_> = in_letters(&letters).into_keys().collect();
                assert_eq!(aside, receiver.bad.iter().copied().collect::<Vec<_>>());
                assert!(letters.iter().all(|l| places(&l.body).len() == 1 && !l.uncertain));
                audit(&receiver, &letters, lines);
                let k = u64::from(bad.count_ones());
                let most = 2 * k * u64::from(lines.next_power_of_two().ilog2()) + 1;
                let most = if names_bad { 2 } else { most };
                assert!(receiver.parts <= most, "{} parts for {k} of {lines}", receiver.parts);
            }
        }
    }
}

#[test]
fn a_line_is_known_by_its_own_id_and_keeps_it() {
    let batch = batch_of_lines(1, 8);
    let mut receiver = receiver(Dedupe::Batch, 0b10_0000, 8, false);
    let letters = deliver(&mut receiver, &batch, |_| Fault::Not, &[]);
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(
        (letter.id.as_str(), letter.part_id.as_str()),
        ("erp-0000-000001.6", "erp-0000-000001.b.a.b")
    );
    assert_eq!((letter.attempts, letter.status, letter.reason.as_str()), (4, 422, "bad"));
    let known: Vec<_> = receiver.known.iter().map(String::as_str).collect();
    assert_eq!(known, ["erp-0000-000001.a", "erp-0000-000001.b.a.a", "erp-0000-000001.b.b"]);
}

#[test]
fn one_bad_line_of_five_thousand_is_found_within_twice_the_depth() {
    let batch = batch_of_lines(1, 5_000);
    let bad = BTreeSet::from([4_321]);
    let mut receiver = Receiver { bad, dedupe: Dedupe::Batch, ..Receiver::default() };
    let letters = deliver(&mut receiver, &batch, |_| Fault::Not, &[]);
    assert_eq!(in_letters(&letters), BTreeMap::from([(4_321, false)]));
    assert!(receiver.parts <= 27, "{}", receiver.parts);
}

#[test]
fn what_may_have_had_its_effect_is_not_halved_at_a_partner_that_knows_batches_only() {
    let batch = batch_of_lines(1, 4);
    let first = |n| if n == 1 { Fault::Vanished } else { Fault::Not };
    for dedupe in [Dedupe::Batch, Dedupe::Lookup, Dedupe::None] {
        let mut receiver = receiver(dedupe, 0b0010, 4, false);
        let letters = deliver(&mut receiver, &batch, first, &[]);
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        assert!(letter.uncertain && letter.id == letter.part_id, "{letter:?}");
        assert_eq!(
            (letter.part_id.as_str(), &letter.body[..]),
            (batch.id.as_str(), &batch.body[..])
        );
        assert_eq!(receiver.parts, if dedupe == Dedupe::None { 1 } else { 2 });
    }
    let mut receiver = receiver(Dedupe::Line, 0b0010, 4, false);
    let letters = deliver(&mut receiver, &batch, first, &[]);
    assert_eq!(in_letters(&letters), BTreeMap::from([(1, true)]));
}

#[test]
fn a_partner_that_refuses_everything_is_not_asked_for_ever() {
    for (dedupe, names_bad) in DEDUPES.into_iter().flat_map(|d| [(d, true), (d, false)]) {
        let batch = batch_of_lines(1, 1_000);
        let mut plan = Plan::new(batch, dedupe, 20);
        let mut next = plan.begin();
        while next != Next::Done {
            plan.sent();
            let first = places(&plan.part().body)[0];
            let one =
                Rejected { line_id: format!("erp-0000-000001.{}", first + 1), reason: "no".into() };
            let nonsense = Rejected { line_id: "nothing of ours".into(), reason: "no".into() };
            let named = if names_bad { vec![one, nonsense] } else { vec![nonsense] };
            next = plan.refused(422, &named, "no");
        }
        assert_eq!(plan.attempts(), 20);
        assert!(plan.is_refused_whole());
        let letters = plan.letters(9);
        assert_eq!(in_letters(&letters).len(), 1_000);
        let bytes: usize = letters.iter().map(|letter| letter.body.len()).sum();
        assert!(bytes < 2 * plan.batch().body.len(), "{bytes}");
    }
}

#[test]
fn lines_that_are_named_with_a_success_are_set_aside_and_go_out_again_under_an_id_of_their_own() {
    let mut plan = Plan::new(batch_of_lines(1, 3), Dedupe::Batch, 9);
    plan.sent();
    let named =
        |n| Rejected { line_id: format!("erp-0000-000001.{n}"), reason: "unknown SKU".into() };
    assert_eq!(plan.taken(200, &[named(2)]), Next::Done);
    let letters = plan.letters(9);
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(
        (letter.id.as_str(), letter.part_id.as_str()),
        ("erp-0000-000001.2", "erp-0000-000001.x2")
    );
    assert!(!plan.is_refused_whole() && !letter.uncertain);
    assert!(plan.answer().1.contains("unknown SKU"));

    let mut plan = Plan::new(batch_of_lines(1, 2), Dedupe::Batch, 9);
    plan.sent();
    plan.taken(207, &[named(1), named(2)]);
    assert!(plan.is_refused_whole());

    let mut plan = Plan::new(batch(1, "{}"), Dedupe::Batch, 9);
    plan.sent();
    assert_eq!(plan.taken(200, &[named(1)]), Next::Done);
    let letters = plan.letters(9);
    assert!(letters[0].uncertain && letters[0].body == b"{}", "what was taken of it nobody knows");
}

#[test]
fn what_was_taken_without_being_clear_is_halved_where_lines_are_known_and_else_set_aside() {
    let named = |id: String| vec![Rejected { line_id: id, reason: "no".into() }];
    for (dedupe, stranger) in DEDUPES.into_iter().flat_map(|d| [(d, false), (d, true)]) {
        let mut receiver = receiver(dedupe, 0, 8, false);
        let mut plan = Plan::new(batch_of_lines(1, 8), dedupe, 100);
        let mut next = plan.begin();
        while next != Next::Done {
            plan.sent();
            receiver.take(plan.part(), Fault::Not);
            let lines = places(&plan.part().body);
            // It names a line by an id that only it knows: of which part can't be told but by halving.
            next = match (lines.contains(&5), stranger) {
                (false, _) => plan.taken(200, &[]),
                (true, false) => plan.unclear(200, "longer than can be read"),
                (true, true) => plan.taken(200, &named("ERP.6".to_owned())),
            };
        }
        let letters = plan.letters(9);
        audit(&receiver, &letters, 8);
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        let aside: Vec<_> = in_letters(&letters).into_keys().collect();
        let known = dedupe == Dedupe::Line;
        assert_eq!(aside, if known { vec![5] } else { (0..8).collect() }, "{dedupe:?}");
        assert!(letter.uncertain && letter.status == 200);
        assert_eq!(plan.attempts(), if known { 7 } else { 1 });
        assert_eq!(
            plan.is_taken(),
            known,
            "everything of a batch is refused where nothing was seen taken"
        );
        let why = if stranger { "ERP.6" } else { "longer than" };
        assert!(letter.reason.contains(why), "{}", letter.reason);
    }
    // It ends, whatever is answered.
    let mut plan = Plan::new(batch_of_lines(1, 1_000), Dedupe::Line, 20);
    let mut next = plan.begin();
    while next != Next::Done {
        plan.sent();
        next = plan.unclear(200, "longer than can be read");
    }
    assert_eq!((plan.attempts(), in_letters(&plan.letters(9)).len()), (20, 1_000));
    assert!(plan.is_refused_whole());
}

#[test]
fn a_batch_of_one_piece_is_set_aside_whole() {
    for dedupe in DEDUPES {
        let mut plan = Plan::new(batch(1, "<xml/>"), dedupe, 9);
        plan.sent();
        assert_eq!(plan.refused(400, &[], &"é".repeat(2_000)), Next::Done);
        let letters = plan.letters(9);
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        assert_eq!((&letter.body[..], letter.id.as_str()), (&b"<xml/>"[..], "erp-0000-000001"));
        assert!(letter.reason.len() <= 500 && plan.answer().1.len() <= 1_000);
    }
}

#[test]
fn without_a_record_of_it_nothing_is_halved() {
    let mut plan = Plan::new(batch_of_lines(1, 4), Dedupe::Batch, 9);
    plan.sent();
    assert_eq!(plan.refused(422, &[], "no"), Next::Part);
    let split = plan.split(9).unwrap();
    assert_eq!(split.pending.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), [".a", ".b"]);
    assert_eq!(plan.not_recorded(), Next::Done);
    let letters = plan.letters(9);
    assert_eq!((in_letters(&letters).len(), letters.len()), (4, 1));
    assert!(!letters[0].uncertain);
    let mut plan = Plan::new(batch_of_lines(1, 4), Dedupe::Line, 9);
    plan.sent();
    plan.refused(422, &[], "no");
    assert_eq!(plan.split(9), None, "a partner that knows lines may be sent them again");
}

#[test]
fn after_a_crash_a_batch_goes_out_as_it_is_once_more_and_is_uncertain() {
    let old = Batch { fresh: false, ..batch_of_lines(1, 2) };
    for dedupe in [Dedupe::Line, Dedupe::Batch, Dedupe::Lookup] {
        let mut plan = Plan::new(old.clone(), dedupe, 9);
        assert_eq!(plan.begin(), Next::Again);
        assert!(plan.part().uncertain && plan.part().body == old.body);
    }
    let mut plan = Plan::new(old.clone(), Dedupe::None, 9);
    assert_eq!(plan.begin(), Next::Done);
    assert!(plan.letters(9)[0].uncertain && plan.attempts() == 0);
}

/// A batch as a replay brings it, to a partner that lost all that it had.
fn replayed(batch: &Batch, taken: &[TakenPart]) -> Batch {
    let part = |part: &TakenPart| PendingPart {
        path: part.path.clone(),
        items: part.items.clone(),
        attempts: 0,
        uncertain: true,
    };
    let pending: Vec<_> = taken.iter().map(part).collect();
    let split = (!pending.is_empty()).then(|| Split { number: 1, pending, ..Split::default() });
    Batch { split, fresh: false, ..batch.clone() }
}

#[test]
fn what_was_taken_is_told_part_by_part_and_can_be_sent_again_as_it_was() {
    let batch = batch_of_lines(1, 8);
    for (bad, names_bad) in (0..256u32).flat_map(|bad| [(bad, false), (bad, true)]) {
        let mut first = receiver(Dedupe::Batch, bad, 8, names_bad);
        let (mut plan, mut next) = begun(&batch, Dedupe::Batch, &Log::default(), true);
        while next != Next::Done {
            plan.sent();
            next = match first.take(plan.part(), Fault::Not) {
                Answer::Taken => plan.taken(200, &[]),
                Answer::Refused(named) => plan.refused(422, &named, "bad"),
                Answer::Failed(_) => panic!("nothing fails"),
            };
        }
        let taken = plan.taken_parts().to_vec();
        assert_eq!((taken.is_empty(), plan.is_taken()), (bad == 0 || bad == 255, bad != 255));
        if !plan.is_taken() {
            continue;
        }
        // Nothing is wrong with those lines now; they are none of it.
        let mut second = receiver(Dedupe::Batch, 0, 8, false);
        let mut plan = Plan::new(replayed(&batch, &taken), Dedupe::Batch, 9);
        let mut next = plan.begin();
        while next != Next::Done {
            plan.sent();
            second.take(plan.part(), Fault::Not);
            next = plan.taken(200, &[]);
        }
        assert_eq!((&second.applied, &second.known), (&first.applied, &first.known));
        assert_eq!((plan.taken_parts(), plan.letters(9)), (taken.as_slice(), Vec::new()));
    }
}

#[test]
fn of_a_part_that_was_taken_but_for_some_lines_the_others_are_told() {
    let mut plan = Plan::new(batch_of_lines(1, 4), Dedupe::Batch, 9);
    plan.sent();
    let named = Rejected { line_id: "erp-0000-000001.2".to_owned(), reason: "no".to_owned() };
    plan.taken(200, std::slice::from_ref(&named));
    let taken = plan.taken_parts().to_vec();
    assert_eq!(taken, [TakenPart { path: String::new(), items: vec![(0, 1), (2, 4)] }]);
    let mut plan = Plan::new(replayed(&batch_of_lines(1, 4), &taken), Dedupe::Batch, 9);
    assert_eq!(plan.begin(), Next::Again);
    assert_eq!(
        (plan.part().id.as_str(), places(&plan.part().body)),
        ("erp-0000-000001", vec![0, 2, 3])
    );
    // Refused now, it is not halved: it may have been taken.
    plan.sent();
    assert_eq!(plan.refused(422, &[], "no"), Next::Done);
    assert!(plan.letters(9)[0].uncertain && plan.taken_parts().is_empty());
}

#[test]
fn what_is_held_back_is_set_aside_before_anything_is_sent() {
    let held = |n| Rejected { line_id: format!("erp-0000-000001.{n}"), reason: "later".to_owned() };
    for dedupe in DEDUPES {
        let batch = Batch { held_back: vec![held(2)], ..batch_of_lines(1, 3) };
        let mut plan = Plan::new(batch, dedupe, 9);
        assert_eq!(plan.begin(), Next::Part);
        assert_eq!((plan.part().id.as_str(), plan.attempts()), ("erp-0000-000001.a", 0));
        assert_eq!(places(&plan.part().body), [0, 2]);
        let letters = plan.letters(9);
        assert_eq!((letters[0].id.as_str(), letters[0].uncertain), ("erp-0000-000001.2", false));
        assert_eq!(plan.split(9).is_some(), dedupe != Dedupe::Line);
        let batch = Batch { held_back: vec![held(1), held(2)], ..batch_of_lines(1, 2) };
        let mut plan = Plan::new(batch, dedupe, 9);
        assert_eq!(plan.begin(), Next::Done);
        assert_eq!(plan.letters(9)[0].part_id, "erp-0000-000001", "as one, under its own id");
        assert!(!plan.is_refused_whole(), "the partner refused nothing");
    }
}

proptest! {
    /// Whatever fails, and wherever it crashes.
    #[test]
    fn no_line_is_lost_or_applied_twice(
        lines in 1u32..12, bad: u32, names_bad: bool, dedupe in 0usize..4, seed: u64,
        faulty in 0u64..4, crashes in prop::collection::vec(1u64..30, 0..4),
    ) {
        let mut receiver = receiver(DEDUPES[dedupe], bad, lines, names_bad);
        let mut dice = Seeded(seed);
        let fault = |_| match (dice.next() % 4 < faulty, dice.next() % 3) {
            (false, _) => Fault::Not,
            (true, 0) => Fault::Unreached,
            (true, 1) => Fault::Lost,
            (true, _) => Fault::Vanished,
        };
        let mut left = 40;
        let mut fault = fault;
        let fault = |n| {
            left -= 1;
            if left > 0 { fault(n) } else { Fault::Not }
        };
        let letters = deliver(&mut receiver, &batch_of_lines(1, lines as usize), fault, &crashes);
        audit(&receiver, &letters, lines);
    }
}
