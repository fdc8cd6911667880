//! Which items of a batch a part carries: sets of their places, as ranges.
//!
//! Halving makes ranges, and taking named items out makes a few more; a list of places would be as long as
//! the batch in every part and in every record of how far a bisection has come.

use std::ops::Range;

/// Places of items in their batch, ascending, from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Items(Vec<Range<u32>>);

impl Items {
    /// The first `n`.
    pub fn all(n: usize) -> Self {
        Self::of([(0, u32::try_from(n).unwrap_or(u32::MAX))])
    }

    /// One.
    pub fn one(place: u32) -> Self {
        Self::of([(place, place.saturating_add(1))])
    }

    /// Of ranges as a record has them: begin and end; those that are empty or not ascending are left out.
    pub fn of(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut items = Self::default();
        for (begin, end) in ranges {
            let begin = begin.max(items.0.last().map_or(0, |last| last.end));
            match items.0.last_mut() {
                Some(last) if last.end == begin && begin < end => last.end = end,
                _ if begin < end => items.0.push(begin..end),
                _ => {}
            }
        }
        items
    }

    /// As a record has them.
    pub fn ranges(&self) -> Vec<(u32, u32)> {
        self.0.iter().map(|range| (range.start, range.end)).collect()
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|range| range.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(Clone::clone)
    }

    /// Two halves, the first the larger one.
    pub fn halves(&self) -> (Self, Self) {
        let (mut first, mut second) = (Self::default(), Self::default());
        let mut room = self.len().div_ceil(2) as u32;
        for range in &self.0 {
            let middle = range.start + room.min(range.len() as u32);
            room -= middle - range.start;
            first.0.extend((range.start < middle).then_some(range.start..middle));
            second.0.extend((middle < range.end).then_some(middle..range.end));
        }
        (first, second)
    }

    /// Those that fit, and those that do not.
    pub fn partition(&self, fits: impl Fn(u32) -> bool) -> (Self, Self) {
        let (yes, no): (Vec<_>, Vec<_>) = self.iter().partition(|place| fits(*place));
        let of = |places: Vec<u32>| Self::of(places.into_iter().map(|place| (place, place + 1)));
        (of(yes), of(no))
    }

    /// Both together.
    pub fn union(&self, other: &Self) -> Self {
        let mut places: Vec<_> = self.iter().chain(other.iter()).collect();
        places.sort_unstable();
        Self::of(places.into_iter().map(|place| (place, place + 1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn halves_and_partitions_lose_nothing_and_double_nothing(
            places in prop::collection::btree_set(0u32..40, 0..30), keep in any::<u64>(),
        ) {
            let list: Vec<_> = places.iter().copied().collect();
            let items = Items::of(list.iter().map(|place| (*place, place + 1)));
            prop_assert_eq!(items.iter().collect::<Vec<_>>(), list.clone());
            prop_assert_eq!(Items::of(items.ranges()), items.clone());
            let (first, second) = items.halves();
            prop_assert_eq!(first.iter().chain(second.iter()).collect::<Vec<_>>(), list);
            prop_assert!(first.len() - second.len() <= 1);
            let (yes, no) = items.partition(|place| keep >> place & 1 == 1);
            prop_assert!(yes.iter().all(|place| keep >> place & 1 == 1));
            prop_assert_eq!(no.union(&yes), items.clone());
            prop_assert_eq!(yes.len() + no.len(), items.len());
        }
    }

    #[test]
    fn ranges_that_overlap_or_are_empty_make_no_place_twice() {
        let items = Items::of([(0, 3), (2, 5), (7, 7), (9, 8), (6, 7)]);
        assert_eq!(items.ranges(), [(0, 5), (6, 7)]);
        assert_eq!((items.len(), Items::all(0).is_empty()), (6, true));
        assert_eq!(Items::one(4).ranges(), [(4, 5)]);
    }
}
