//! Marks: what the log says about itself in the log.
//!
//! A mark names a position below which everything was on the disk when it was written, and the oldest
//! position still needed. That is what tells a tear from rot: the kernel writes pages back in any
//! order, so a bad record followed by a good one proves nothing, but a bad record below a position
//! that a mark names was durable once.
//!
//! A mark's body is three words: the durable position, the oldest position, and a SipHash of both,
//! keyed with a secret of the log that stands in its segments' headers. Recovery looks for marks at
//! every aligned place after a damage, inside of records too; the key, which no client ever sees, is
//! why no client can spell one out.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::record::{Draft, KIND_MARK, Record};

/// The bytes that a mark takes in the log.
pub const MARK_BYTES: u64 = Draft::bytes_for(24) as u64;

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Everything that begins below was on the disk.
    pub durable: u64,
    /// Everything from here on is still needed.
    pub oldest: u64,
}

impl Mark {
    fn check(&self, key: u64) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(key, u64::from(KIND_MARK));
        hasher.write(&self.durable.to_le_bytes());
        hasher.write(&self.oldest.to_le_bytes());
        hasher.finish()
    }

    /// Builds its record.
    pub fn draft(&self, draft: &mut Draft, key: u64, time_ms: u64) {
        let body = draft.begin(KIND_MARK, 0, time_ms);
        for word in [self.durable, self.oldest, self.check(key)] {
            body.extend(word.to_le_bytes());
        }
        draft.seal();
    }

    /// What a record says, if it is a mark and is ours.
    pub fn read(record: &Record<'_>, key: u64) -> Option<Self> {
        if record.kind != KIND_MARK || record.body.len() != 24 {
            return None;
        }
        let word = |at: usize| record.body[at..].first_chunk().map(|w| u64::from_le_bytes(*w));
        let mark = Self { durable: word(0)?, oldest: word(8)? };
        let valid = word(16)? == mark.check(key)
            && mark.durable <= record.lsn.0
            && mark.oldest <= mark.durable;
        valid.then_some(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lsn;

    #[test]
    fn a_mark_is_believed_only_with_its_key() {
        let mark = Mark { durable: 800, oldest: 64 };
        let mut draft = Draft::new();
        mark.draft(&mut draft, 7, 0);
        assert_eq!(draft.bytes() as u64, MARK_BYTES);
        let record = |body, lsn| Record {
            lsn: Lsn(lsn),
            end: Lsn(lsn + MARK_BYTES),
            kind: KIND_MARK,
            version: 0,
            time_ms: 0,
            body,
        };
        assert_eq!(Mark::read(&record(draft.body(), 960), 7), Some(mark));
        assert_eq!(Mark::read(&record(draft.body(), 960), 8), None);
        assert_eq!(Mark::read(&record(draft.body(), 792), 7), None, "a mark of the future");
        assert_eq!(Mark::read(&record(&[0; 24], 960), 7), None);
    }
}
