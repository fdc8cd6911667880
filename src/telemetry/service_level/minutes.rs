//! Good and all events by minute, as many minutes as a service level looks back on.

use std::collections::VecDeque;

/// Events of a span of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub good: u64,
    pub total: u64,
}

/// A ring of minutes; it takes eight bytes a minute, and only for minutes that there were.
#[derive(Debug)]
pub(super) struct Minutes {
    /// Good and all of each minute, the present one last. A minute of more than 2^32 events is cut.
    counts: VecDeque<(u32, u32)>,
    /// The number of the present one since the epoch.
    newest: u64,
    minutes_max: usize,
}

impl Minutes {
    pub fn new(minutes_max: usize) -> Self {
        Self { counts: VecDeque::new(), newest: 0, minutes_max: minutes_max.max(1) }
    }

    /// Adds events of a minute. One that lies before the newest (the clock was set back) counts for the
    /// newest.
    pub fn add(&mut self, minute: u64, counts: Counts) {
        self.turn(minute);
        if let Some((good, total)) = self.counts.back_mut() {
            let cut = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
            *good = good.saturating_add(cut(counts.good));
            *total = total.saturating_add(cut(counts.total));
        }
    }

    /// Goes on to a minute; those between had no events.
    fn turn(&mut self, minute: u64) {
        if self.counts.is_empty() {
            self.counts.push_back((0, 0));
            self.newest = minute;
        }
        let passed = minute.saturating_sub(self.newest);
        let keep = usize::try_from(passed).unwrap_or(usize::MAX).min(self.minutes_max);
        self.newest = self.newest.max(minute);
        for _ in 0..keep {
            if self.counts.len() == self.minutes_max {
                self.counts.pop_front();
            }
            self.counts.push_back((0, 0));
        }
    }

    /// The number of the newest minute; nothing if there was none.
    pub fn newest(&self) -> Option<u64> {
        (!self.counts.is_empty()).then_some(self.newest)
    }

    /// Good and all of `length` minutes from `from` on, those without events at the end left out.
    pub fn part(&self, from: u64, length: u64) -> Vec<(u64, u64)> {
        let of = |minute| {
            let ago = usize::try_from(self.newest.checked_sub(minute)?).ok()?;
            let at = self.counts.len().checked_sub(ago + 1)?;
            self.counts.get(at).map(|(good, total)| (u64::from(*good), u64::from(*total)))
        };
        let minutes =
            (from..from.saturating_add(length)).map(|minute| of(minute).unwrap_or((0, 0)));
        let mut part: Vec<_> = minutes.collect();
        let used = part.iter().rposition(|(_, total)| *total > 0).map_or(0, |at| at + 1);
        part.truncate(used);
        part
    }

    /// The events of the last so many minutes, the present one among them.
    pub fn last(&self, minutes: usize) -> Counts {
        self.counts.iter().rev().take(minutes).fold(Counts::default(), |sum, (good, total)| {
            Counts { good: sum.good + u64::from(*good), total: sum.total + u64::from(*total) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(good: u64) -> Counts {
        Counts { good, total: 1 }
    }

    #[test]
    fn events_leave_with_their_minute() {
        let mut minutes = Minutes::new(3);
        for minute in 10..16 {
            minutes.add(minute, one(minute % 2));
        }
        assert_eq!(minutes.last(3), Counts { good: 2, total: 3 });
        assert_eq!(minutes.last(1), one(1));
        assert_eq!(minutes.last(1_000), minutes.last(3), "no more than three are kept");
    }

    #[test]
    fn a_part_is_what_was_there_of_it() {
        let mut minutes = Minutes::new(20);
        assert_eq!((minutes.newest(), minutes.part(0, 15)), (None, vec![]));
        minutes.add(31, one(1));
        minutes.add(33, one(0));
        minutes.add(46, one(1));
        assert_eq!(minutes.newest(), Some(46));
        assert_eq!(minutes.part(30, 15), [(0, 0), (1, 1), (0, 0), (0, 1)]);
        assert_eq!(minutes.part(45, 15), [(0, 0), (1, 1)]);
        assert_eq!(minutes.part(0, 15), [], "out of what is kept, or never");
        assert_eq!(minutes.part(60, 15), []);
    }

    #[test]
    fn quiet_minutes_count_and_a_clock_that_is_set_back_loses_nothing() {
        let mut minutes = Minutes::new(60);
        minutes.add(100, one(1));
        minutes.add(110, one(1));
        assert_eq!((minutes.last(10).total, minutes.last(11).total), (1, 2));
        minutes.add(50, one(0));
        assert_eq!(minutes.last(1), Counts { good: 1, total: 2 });
        minutes.add(u64::MAX, one(1));
        assert_eq!(minutes.last(60), one(1), "all of it is long ago");
    }
}
