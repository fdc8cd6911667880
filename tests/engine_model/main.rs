//! The engine against a dull sequential model: plain maps, no log, no threads, no cleverness.
//!
//! Random operations go to both; after each, the answer and every figure must be the same. At random
//! points the engine is closed and opened again, makes a checkpoint, or loses power after everything
//! was acknowledged: the model notices nothing of it, and neither may anybody else.

mod both;
#[path = "../common/mod.rs"]
mod common;
mod holds;
mod life;
mod model;
mod orders;
mod steps;

use both::Both;
use common::setting;
use proptest::prelude::*;
use steps::{Step, a_step};

const SKUS: [&str; 3] = ["A", "B", "C"];
/// In sourcing order.
const LOCATIONS: [&str; 3] = ["MUC", "BER", "HAM"];
const CUSTOMERS: [&str; 2] = ["ann", "bob"];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: setting("HOLDFAST_MODEL_CASES", 96) as u32,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_engine_says_what_the_model_says(steps in prop::collection::vec(a_step(), 20..90)) {
        let mut both = Both::new();
        // Something to sell, so that not all is refused.
        for sku in 0..3 {
            both.step(&Step::Set {
                at: (sku, sku % 2),
                on_hand: 25,
                safety: 0,
                backorder: 0,
                limit: (sku == 1).then_some(Some(9)),
                version: None,
                as_of: None,
                allow: false,
            });
        }
        for step in &steps {
            both.step(step);
        }
    }
}
