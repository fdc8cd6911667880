//! The requests of a sender that have not ended: those under way, those that wait for room, and when each
//! is to be looked after.
//!
//! All requests have the same time to be answered, so that the ones that run out stand at the front of a
//! queue and no timer is set for any; what has ended before is passed over when its turn comes. Both queues
//! are as long as the rate times that time.

use std::collections::VecDeque;

use slab::Slab;

/// One request. Times are nanoseconds of the sender's clock.
#[derive(Debug)]
pub(super) struct Attempt {
    /// What it is for.
    pub errand: usize,
    /// Tells it from others that have had its place.
    serial: u64,
    /// When it was due.
    pub planned: u64,
    /// How late it was taken up.
    pub lag: u64,
    /// When it was sent, if it was.
    pub sent: Option<u64>,
}

/// A request, and when it is looked after.
#[derive(Debug, Clone, Copy)]
struct Watch {
    at: u64,
    attempt: usize,
    serial: u64,
}

/// The requests that have not ended.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    all: Slab<Attempt>,
    serials: u64,
    /// Those that found no room, oldest first.
    backlog: VecDeque<Watch>,
    /// By the time at which they have failed.
    timeouts: VecDeque<Watch>,
    /// By the time at which a shopper's patience ends.
    impatient: VecDeque<Watch>,
}

impl Attempts {
    /// Adds one. It has failed at `fails_at`; its shopper asks again at `again_at`.
    pub fn add(
        &mut self,
        errand: usize,
        planned: u64,
        lag: u64,
        fails_at: u64,
        again_at: Option<u64>,
    ) -> usize {
        self.serials += 1;
        let serial = self.serials;
        let attempt = self.all.insert(Attempt { errand, serial, planned, lag, sent: None });
        self.timeouts.push_back(Watch { at: fails_at, attempt, serial });
        self.impatient.extend(again_at.map(|at| Watch { at, attempt, serial }));
        attempt
    }

    /// One of them.
    pub fn get_mut(&mut self, attempt: usize) -> Option<&mut Attempt> {
        self.all.get_mut(attempt)
    }

    /// Takes one out that has ended; `None` if it had already.
    pub fn end(&mut self, attempt: usize) -> Option<Attempt> {
        self.all.try_remove(attempt)
    }

    /// All of them.
    pub fn open(&self) -> Vec<usize> {
        self.all.iter().map(|(attempt, _)| attempt).collect()
    }

    /// Has one wait for room.
    pub fn wait_for_room(&mut self, attempt: usize) {
        if let Some(Attempt { serial, planned, .. }) = self.all.get(attempt) {
            self.backlog.push_back(Watch { at: *planned, attempt, serial: *serial });
        }
    }

    /// Whether any waits for room.
    pub fn is_backlogged(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// The one that has waited longest for room.
    pub fn next_in_backlog(&mut self) -> Option<usize> {
        front(&mut self.backlog, &self.all).map(|watch| watch.attempt)
    }

    /// Says that the one that has waited longest found room.
    pub fn found_room(&mut self) {
        self.backlog.pop_front();
    }

    /// The next one that has failed by now.
    pub fn next_failed(&mut self, now: u64) -> Option<usize> {
        front(&mut self.timeouts, &self.all)
            .filter(|watch| watch.at <= now)
            .map(|watch| watch.attempt)
    }

    /// The errand of the next one whose shopper has lost patience by now, and when he did.
    pub fn next_impatient(&mut self, now: u64) -> Option<(usize, u64)> {
        let watch = front(&mut self.impatient, &self.all).filter(|watch| watch.at <= now)?;
        self.impatient.pop_front();
        self.all.get(watch.attempt).map(|attempt| (attempt.errand, watch.at))
    }

    /// When the next one is to be looked after.
    pub fn next_watch(&self) -> Option<u64> {
        let fronts = [self.timeouts.front(), self.impatient.front()];
        fronts.into_iter().flatten().map(|watch| watch.at).min()
    }
}

/// The first one that has not ended; those before it are forgotten.
fn front(queue: &mut VecDeque<Watch>, all: &Slab<Attempt>) -> Option<Watch> {
    while let Some(watch) = queue.front() {
        if all.get(watch.attempt).is_some_and(|attempt| attempt.serial == watch.serial) {
            return Some(*watch);
        }
        queue.pop_front();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_took_an_ended_one_s_place_is_not_taken_for_it() {
        let mut attempts = Attempts::default();
        let first = attempts.add(0, 0, 0, 10, Some(5));
        attempts.wait_for_room(first);
        assert_eq!(attempts.end(first).map(|attempt| attempt.errand), Some(0));
        let second = attempts.add(1, 4, 0, 14, Some(9));
        assert_eq!(first, second);
        assert_eq!(attempts.next_in_backlog(), None);
        assert_eq!((attempts.next_failed(13), attempts.next_failed(14)), (None, Some(second)));
        assert_eq!(attempts.next_impatient(8), None);
        assert_eq!(attempts.next_impatient(9), Some((1, 9)));
        assert_eq!(attempts.next_impatient(9), None);
    }
}
