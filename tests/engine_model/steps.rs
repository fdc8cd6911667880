//! The steps, and how they are drawn.

use proptest::prelude::*;

use crate::life::What;

/// A step, in small numbers; references to earlier things are taken modulo how many there are.
#[derive(Debug, Clone)]
pub enum Step {
    Set {
        at: (usize, usize),
        on_hand: u32,
        safety: u32,
        backorder: u32,
        limit: Option<Option<u32>>,
        version: Option<u64>,
        as_of: Option<usize>,
        allow: bool,
    },
    Adjust {
        at: (usize, usize),
        delta: i64,
        allow: bool,
    },
    Reserve {
        lines: Vec<Line>,
        customer: Option<usize>,
        order: bool,
        brief: bool,
    },
    Change {
        of: usize,
        lines: Vec<Line>,
    },
    Commit {
        of: usize,
        skus: u8,
        order: Option<usize>,
        revive: bool,
        bad_tax: bool,
    },
    Release {
        of: usize,
        part: Option<(usize, Option<usize>, u32)>,
    },
    Extend {
        of: usize,
        ttl_ms: u64,
    },
    PlaceNow {
        lines: Vec<Line>,
        customer: Option<usize>,
        order: Option<usize>,
        bad_tax: bool,
    },
    PlaceHeld {
        of: Vec<usize>,
        skus: u8,
        order: Option<usize>,
    },
    /// Something happens to an order.
    Happen {
        order: usize,
        what: What,
    },
    /// The request of an earlier fact again.
    RepeatFact(usize),
    /// An earlier request again, or its key with another body.
    Repeat {
        of: usize,
        other_body: bool,
    },
    /// Waits until brief reservations have expired.
    Wait,
    Checkpoint,
    Reopen,
    Crash(u64),
}

#[derive(Debug, Clone)]
pub struct Line {
    pub sku: usize,
    pub location: Option<usize>,
    pub quantity: u32,
    pub split: bool,
}

pub fn a_line() -> impl Strategy<Value = Line> {
    let location = prop_oneof![3 => Just(None), 2 => (0..3usize).prop_map(Some)];
    (0..3usize, location, 1..6u32, prop::bool::weighted(0.7))
        .prop_map(|(sku, location, quantity, split)| Line { sku, location, quantity, split })
}

pub fn lines() -> impl Strategy<Value = Vec<Line>> {
    prop::collection::vec(a_line(), 1..4)
}

pub fn customer() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![1 => Just(None), 3 => (0..2usize).prop_map(Some)]
}

fn what() -> impl Strategy<Value = What> {
    let moved = || {
        let location = prop_oneof![3 => Just(None), 2 => (0..3usize).prop_map(Some)];
        prop::collection::vec((0..3usize, location, 1..4u32), 1..3)
    };
    let money = || (0..6_000i64, prop_oneof![4 => 0..8i64, 1 => 0..9_000i64]);
    prop_oneof![
        5 => moved().prop_map(What::Ship),
        3 => prop::option::weighted(0.7, moved()).prop_map(What::Cancel),
        2 => money().prop_map(|(amount, tax)| What::Invoice(amount, tax)),
        1 => money().prop_map(|(amount, fee)| What::Settle(amount, fee)),
        1 => money().prop_map(|(amount, tax)| What::Refund(amount, tax)),
        3 => (moved(), any::<bool>()).prop_map(|(lines, restock)| What::Return(lines, restock)),
        3 => (any::<usize>(), moved()).prop_map(|(of, lines)| What::Receive(of, lines)),
        1 => Just(What::Note),
    ]
}

pub fn a_step() -> impl Strategy<Value = Step> {
    let at = || (0..3usize, 0..3usize);
    let some = || prop::option::weighted(0.2, any::<usize>());
    let rarely = prop::bool::weighted(0.1);
    let limit = prop_oneof![
        5 => Just(None),
        1 => Just(Some(None)),
        2 => (1..12u32).prop_map(|l| Some(Some(l)))
    ];
    prop_oneof![
        3 => (at(), 0..30u32, 0..3u32, 0..3u32, limit, prop::option::weighted(0.3, 0..20u64), some(),
              prop::bool::weighted(0.2))
            .prop_map(|(at, on_hand, safety, backorder, limit, version, as_of, allow)| {
                Step::Set { at, on_hand, safety, backorder, limit, version, as_of, allow }
            }),
        2 => (at(), -8..12i64, rarely)
            .prop_map(|(at, delta, allow)| Step::Adjust { at, delta, allow }),
        8 => (lines(), customer(), prop::bool::weighted(0.3), prop::bool::weighted(0.15))
            .prop_map(|(lines, customer, order, brief)| {
                Step::Reserve { lines, customer, order, brief }
            }),
        3 => (any::<usize>(), lines()).prop_map(|(of, lines)| Step::Change { of, lines }),
        4 => (any::<usize>(), prop_oneof![4 => Just(0u8), 1 => 1..8u8], some(), rarely,
              rarely)
            .prop_map(|(of, skus, order, revive, bad_tax)| {
                Step::Commit { of, skus, order, revive, bad_tax }
            }),
        3 => (any::<usize>(), prop::option::weighted(0.6,
              (0..3usize, prop::option::weighted(0.3, 0..3usize), 1..4u32)))
            .prop_map(|(of, part)| Step::Release { of, part }),
        2 => (any::<usize>(), 3_000_000..3_000_100u64)
            .prop_map(|(of, ttl_ms)| Step::Extend { of, ttl_ms }),
        2 => (lines(), customer(), some(), rarely)
            .prop_map(|(lines, customer, order, bad_tax)| {
                Step::PlaceNow { lines, customer, order, bad_tax }
            }),
        2 => (prop::collection::vec(any::<usize>(), 1..4), prop_oneof![4 => Just(0u8), 1 => 1..8u8],
              some())
            .prop_map(|(of, skus, order)| Step::PlaceHeld { of, skus, order }),
        10 => (any::<usize>(), what()).prop_map(|(order, what)| Step::Happen { order, what }),
        1 => any::<usize>().prop_map(Step::RepeatFact),
        4 => (any::<usize>(), prop::bool::weighted(0.2))
            .prop_map(|(of, other_body)| Step::Repeat { of, other_body }),
        1 => Just(Step::Wait),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

// ---- The model ----
