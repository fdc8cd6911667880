//! The lives of a log: one for each time that its directory was made or restored.
//!
//! What is sent to partners is named by the life that its record was written in, so that nothing of a
//! life that was lost is ever taken for something of the next one. A life begins with a segment of its
//! own, whose header says which segment of the life before it goes on from; between the two no position
//! exists. The gap is so wide ([`GAP_BYTES`]) that whatever the lost life still wrote lies below where
//! the next one begins: no position, and no id that is made of one, stands for two things.

use super::segment::{self, Header};
use crate::model::{Incarnation, Lsn};

/// How far above the end of the life before a life begins.
pub const GAP_BYTES: u64 = 1 << 40;

/// One life, as the headers of its segments say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Its name.
    pub incarnation: Incarnation,
    /// The index of its first segment.
    pub first: u64,
    /// The index of the segment before that one; of a log that was never restored 0.
    pub after: u64,
}

impl Life {
    /// The life of a log that is new.
    pub fn begin(incarnation: Incarnation) -> Self {
        Self { incarnation, first: 0, after: 0 }
    }
}

/// The index that a segment must have to stand behind another, if it has not: then one is missing, or it is
/// of another log.
pub fn missing_between(before: &Header, header: &Header) -> Option<u64> {
    let goes_on = before.life == header.life && before.index + 1 == header.index;
    let begins = header.index == header.life.first
        && before.index == header.life.after
        && before.index < header.index
        && before.life.incarnation != header.life.incarnation;
    (!goes_on && !begins).then_some(before.index + 1)
}

/// Whether two headers can be of one log at all.
pub fn is_one_log(before: &Header, header: &Header) -> bool {
    let life = before.life == header.life || header.life.first > before.life.first;
    (before.mark_key, before.segment_bytes) == (header.mark_key, header.segment_bytes) && life
}

/// The lives whose segments are there, and the gaps between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lives {
    /// Where each begins, in ascending order.
    begins: Vec<(u64, Incarnation)>,
    /// Positions that do not exist: from and to.
    gaps: Vec<(u64, u64)>,
}

impl Lives {
    /// Of all headers of a log, in the order of their segments.
    pub fn of<'a>(headers: impl Iterator<Item = &'a Header>) -> Self {
        let mut lives = Self::default();
        for Header { life, segment_bytes, index, .. } in headers {
            if lives.begins.last().is_none_or(|(_, last)| *last != life.incarnation) {
                lives.begins.push((index.saturating_mul(*segment_bytes), life.incarnation));
                if life.first > 0 {
                    let from = (life.after + 1).saturating_mul(*segment_bytes);
                    lives.gaps.push((from, life.first.saturating_mul(*segment_bytes)));
                }
            }
        }
        lives
    }

    /// The life of a log that is new.
    pub fn new(incarnation: Incarnation) -> Self {
        Self { begins: vec![(0, incarnation)], gaps: Vec::new() }
    }

    /// The life that a position is of.
    pub fn at(&self, lsn: Lsn) -> Option<Incarnation> {
        let later = self.begins.partition_point(|(begin, _)| *begin <= lsn.0);
        self.begins.get(later.saturating_sub(1)).map(|(_, incarnation)| *incarnation)
    }

    /// All of them, oldest first.
    pub fn all(&self) -> impl Iterator<Item = Incarnation> {
        self.begins.iter().map(|(_, incarnation)| *incarnation)
    }

    /// The position, or where the gap ends that it lies in.
    pub fn behind_gap(&self, position: u64) -> u64 {
        let gap = self.gaps.iter().find(|(from, to)| (*from..*to).contains(&position));
        gap.map_or(position, |(_, to)| *to)
    }

    /// Where a reader may begin whose first segment begins at `base`: if that is a life's first, then in
    /// the gap before it too.
    pub fn before_gap(&self, base: u64) -> u64 {
        self.gaps.iter().find(|(_, to)| *to == base).map_or(base, |(from, _)| *from)
    }
}

/// Where the life after one that ends at `end` begins: the index of its first segment.
pub fn next_first(end: u64, segment_bytes: u64) -> u64 {
    segment::reach(end, GAP_BYTES, segment_bytes) / segment_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(index: u64, life: Life) -> Header {
        Header { life, index, nonce: 1, segment_bytes: 100, window_bytes: 5, mark_key: 6 }
    }

    #[test]
    fn a_life_goes_on_or_begins_behind_the_segment_that_it_names() {
        let old = Life::begin(Incarnation(1));
        let new = Life { incarnation: Incarnation(2), first: 50, after: 3 };
        assert_eq!(missing_between(&header(2, old), &header(3, old)), None);
        assert_eq!(missing_between(&header(3, old), &header(50, new)), None);
        assert_eq!(missing_between(&header(50, new), &header(51, new)), None);
        assert_eq!(missing_between(&header(2, old), &header(4, old)), Some(3));
        assert_eq!(missing_between(&header(2, old), &header(50, new)), Some(3));
        assert_eq!(missing_between(&header(3, old), &header(51, new)), Some(4));
        assert!(is_one_log(&header(3, old), &header(50, new)));
        assert!(!is_one_log(&header(50, new), &header(51, old)));
        let other = Header { mark_key: 7, ..header(4, old) };
        assert!(!is_one_log(&header(3, old), &other));
    }

    #[test]
    fn positions_have_the_life_that_they_were_written_in() {
        let old = Life::begin(Incarnation(1));
        let new = Life { incarnation: Incarnation(2), first: 50, after: 3 };
        let all = [header(2, old), header(3, old), header(50, new), header(51, new)];
        let lives = Lives::of(all.iter());
        let at = |lsn| lives.at(Lsn(lsn)).unwrap().0;
        assert_eq!([0, 200, 399, 4_999, 5_000, 9_000].map(at), [1, 1, 1, 1, 2, 2]);
        assert_eq!(
            [399, 400, 4_999, 5_000].map(|p| lives.behind_gap(p)),
            [399, 5_000, 5_000, 5_000]
        );
        assert_eq!((lives.before_gap(5_000), lives.before_gap(200)), (400, 200));
        let rest = Lives::of(all[2..].iter());
        assert_eq!((rest.behind_gap(400), rest.before_gap(5_000)), (5_000, 400));
        assert_eq!(Lives::default().at(Lsn(8)), None);
    }

    #[test]
    fn a_life_begins_far_above_the_end_of_the_one_before() {
        let first = next_first(8_000_000, 1 << 20);
        assert!((first << 20) - 8_000_000 >= GAP_BYTES);
    }
}
