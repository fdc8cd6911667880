//! The comparison: causes of differences, figure by figure.

use std::collections::HashMap;

use super::{
    judge::{CHOICES_MAX, Judgement, Told, judge},
    lines::Missing,
    read::Reading,
};
use crate::{config::Movement, engine::Reckoned, feed::outstanding::Moved};

fn ledger(on_hand: i64, since: i64) -> Vec<Reckoned> {
    vec![Reckoned {
        sku: "A".parse().unwrap(),
        location: "BER".parse().unwrap(),
        on_hand,
        committed: 0,
        on_hand_since: since,
        committed_since: 0,
    }]
}

fn reading(on_hand: i64) -> Reading {
    let told = Told { on_hand, committed: Some(0) };
    let positions = HashMap::from([(("A".to_owned(), "BER".to_owned()), told)]);
    Reading { positions, ..Reading::default() }
}

fn line(n: usize, quantity: i64, certain: bool, dead: bool) -> Missing {
    let line = Moved {
        line_id: format!("erp-1-{n}.1"),
        sku: "A".parse().unwrap(),
        location: "BER".parse().unwrap(),
        movement: Movement::Adjustment,
        quantity,
    };
    Missing { line, certain, dead }
}

/// In flight, dead-lettered, unexplained.
fn causes(judgement: &Judgement) -> (i64, i64, i64) {
    judgement.drifts.first().map_or((0, 0, 0), |d| (d.in_flight, d.dead_lettered, d.unexplained))
}

#[test]
fn a_line_is_whole_or_absent() {
    let lines = [line(1, 4, false, false), line(2, 9, false, false)];
    for (partner, expected) in [
        (100, (0, 0, 0)),
        (96, (-4, 0, 0)),
        (91, (-9, 0, 0)),
        (87, (-13, 0, 0)),
        // Within what is under way, and no choice of lines comes to it.
        (95, (-4, 0, -1)),
        (99, (0, 0, -1)),
        (86, (-13, 0, -1)),
        (101, (0, 0, 1)),
    ] {
        let judged = judge(ledger(100, 0), &reading(partner), &lines, true);
        assert_eq!(causes(&judged), expected, "{partner}");
    }
}

#[test]
fn certain_lines_are_missing_and_what_is_not_sealed_makes_no_difference() {
    let lines = [line(1, 4, true, true), line(2, 9, false, true)];
    for (partner, expected) in [
        (90, (-6, -4, 0)),
        (81, (-6, -13, 0)),
        // The line that was refused is there all the same.
        (94, (-6, -4, 4)),
    ] {
        let judged = judge(ledger(100, 6), &reading(partner), &lines, true);
        assert_eq!(causes(&judged), expected, "{partner}");
    }
}

#[test]
fn beyond_so_many_lines_their_sums_bound_what_is_explained() {
    let lines: Vec<_> = (0..=CHOICES_MAX).map(|n| line(n, 2, false, false)).collect();
    let most = 2 * lines.len() as i64;
    for (partner, expected) in [
        (100 - most, (-most, 0, 0)),
        (99, (-1, 0, 0)),
        (99 - most, (-most, 0, -1)),
        (101, (0, 0, 1)),
    ] {
        let judged = judge(ledger(100, 0), &reading(partner), &lines, true);
        assert_eq!(causes(&judged), expected, "{partner}");
    }
}

#[test]
fn what_the_partner_does_not_name_is_nothing_there() {
    let judged = judge(ledger(3, 0), &Reading::default(), &[], true);
    assert_eq!(causes(&judged), (0, 0, -3));
    assert_eq!((judged.positions, judged.elsewhere), (1, 0));
    let nothing = judge(ledger(0, 0), &Reading::default(), &[], true);
    assert_eq!(nothing.drifts, []);
}
