//! Batches and chance for the tests of this module.

use crate::{
    feed::{Batch, BatchId, Carried},
    model::{Incarnation, Lsn, Timestamp, sink::Lane},
};

/// A batch as it comes from the feed, of records that were written and sealed at once.
pub fn batch(number: u64, body: &str) -> Batch {
    Batch {
        id: BatchId::new("erp", Incarnation(0), number),
        number,
        lane: Lane::Standard,
        fresh: true,
        config_version: 3,
        seal_lsn: Lsn(8 * number),
        first_lsn: Lsn(0),
        oldest: Timestamp::default(),
        newest: Timestamp::default(),
        events: 1,
        body: body.to_owned().into(),
        split: None,
        held_back: Vec::new(),
        carried: Carried::default(),
    }
}

/// One with so many lines, named as the feed names them.
pub fn batch_of_lines(number: u64, lines: usize) -> Batch {
    let id = BatchId::new("erp", Incarnation(0), number);
    let line = |n| format!(r#"{{"line_id":"{}","quantity":{n}}}"#, id.part(n));
    let lines: Vec<_> = (1..=lines).map(line).collect();
    batch(number, &format!(r#"{{"batch_id":"{id}","lines":[{}]}}"#, lines.join(",")))
}

/// Chance that is the same in every run (SplitMix64).
pub struct Seeded(pub u64);

impl Seeded {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
