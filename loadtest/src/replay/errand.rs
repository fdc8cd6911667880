//! The holds that are open, and whose turn it is: what is asked of one hold is asked in the recorded order,
//! each when the one before has been answered.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use smallvec::SmallVec;

use super::{
    Error, HELD_MAX,
    read::{Act, Arrival, Units},
    told::{Told, add},
};
use crate::target::ReservationName;

/// How long a hold is kept after its record ran out and its own time is over, in nanoseconds: the server
/// lets it run out by its own clock.
const GRACE: u64 = 5_000_000_000;

/// An errand: one arrival that is due, until it has come to its end.
#[derive(Debug)]
pub(super) struct Errand {
    pub arrival: Arrival,
    /// How late it was taken up, in nanoseconds.
    pub lag: u64,
    /// Requests that were made for it.
    pub attempts: u32,
    /// Whether one of them may have had its effect without saying so.
    pub unclear: bool,
}

/// A hold.
#[derive(Debug, Default)]
struct Hold {
    /// What the server calls it, once it has given it.
    name: Option<ReservationName>,
    units: Units,
    /// When it runs out, by the run's clock.
    deadline: u64,
    /// Errands about it, in order; the first one has its turn.
    queue: VecDeque<usize>,
}

/// The open holds, by the recorded position.
#[derive(Debug, Default)]
pub(super) struct Holds {
    all: HashMap<u64, Hold>,
    /// Those whose record has run out, by the time at which they are forgotten.
    leaving: VecDeque<(u64, u64)>,
    pub told: Told,
}

impl Holds {
    /// Lines an errand up for what it is about; false if that was not granted here.
    pub fn enqueue(&mut self, key: usize, arrival: &Arrival) -> Result<bool, Error> {
        if arrival.act == Act::Reserve {
            if self.all.len() >= HELD_MAX {
                return Err(Error::TooMany);
            }
            self.all.entry(arrival.lsn).or_default().queue.push_back(key);
            return Ok(true);
        }
        if !arrival.of.iter().all(|of| self.all.contains_key(of)) {
            return Ok(false);
        }
        for of in &arrival.of {
            if let Some(hold) = self.all.get_mut(of) {
                hold.queue.push_back(key);
            }
        }
        Ok(true)
    }

    /// Whether it is an errand's turn at all that it is about.
    pub fn is_turn(&self, key: usize, arrival: &Arrival) -> bool {
        arrival.of.iter().all(|of| self.all.get(of).is_none_or(|h| h.queue.front() == Some(&key)))
    }

    /// What the server calls what an arrival is about; `None` if one of it was not granted.
    pub fn names(&self, arrival: &Arrival) -> Option<SmallVec<[ReservationName; 1]>> {
        arrival.of.iter().map(|of| self.all.get(of)?.name).collect()
    }

    /// Takes in that an errand was granted.
    pub fn granted(&mut self, arrival: &Arrival, name: Option<ReservationName>, now: u64) {
        match arrival.act {
            Act::Order => add(&mut self.told.sold, &arrival.units),
            Act::Reserve | Act::Extend | Act::Change | Act::Release { whole: false } => {
                let Some(hold) = arrival.of.first().and_then(|of| self.all.get_mut(of)) else {
                    return;
                };
                hold.take(arrival, name, now);
            }
            Act::Release { whole: true } => self.end(arrival, false),
            Act::Commit | Act::OrderOf => self.end(arrival, true),
            Act::RunOut => {}
        }
    }

    /// Ends the holds of an arrival; those that wait for them find them gone.
    fn end(&mut self, arrival: &Arrival, sold: bool) {
        for of in &arrival.of {
            let Some(hold) = self.all.get_mut(of) else { continue };
            let units = std::mem::take(&mut hold.units);
            hold.name = None;
            if sold {
                add(&mut self.told.sold, &units);
            }
        }
    }

    /// Takes an errand that has come to its end out of all queues; tells the errands whose turn it may be, each once.
    pub fn leave(&mut self, key: usize, arrival: &Arrival) -> SmallVec<[usize; 1]> {
        let mut next = SmallVec::new();
        for of in &arrival.of {
            let Entry::Occupied(mut entry) = self.all.entry(*of) else { continue };
            let hold = entry.get_mut();
            hold.queue.retain(|waiting| *waiting != key);
            match hold.queue.front() {
                Some(front) if !next.contains(front) => next.push(*front),
                Some(_) => {}
                // Nobody can ask for what was never given, or is ended.
                None if hold.name.is_none() => drop(entry.remove()),
                None => {}
            }
        }
        next
    }

    /// Notes that the record of a hold ran out.
    pub fn run_out(&mut self, of: u64, now: u64) {
        if let Some(hold) = self.all.get(&of) {
            self.leaving.push_back((hold.deadline.max(now) + GRACE, of));
        }
    }

    /// Forgets what has run out long ago.
    pub fn forget(&mut self, now: u64) {
        while let Some((at, of)) = self.leaving.front().copied()
            && at <= now
        {
            self.leaving.pop_front();
            let Entry::Occupied(entry) = self.all.entry(of) else { continue };
            if entry.get().queue.is_empty() && entry.get().deadline < now {
                entry.remove();
            } else {
                self.leaving.push_back((now + GRACE, of));
            }
        }
    }

    /// Sums up what is held, at the end.
    pub fn sum_up(mut self, now: u64) -> Told {
        for hold in self.all.values().filter(|hold| hold.name.is_some()) {
            // Between this look and the ledger's there is a moment.
            let certain = hold.deadline > now + GRACE;
            add(if certain { &mut self.told.held } else { &mut self.told.maybe }, &hold.units);
        }
        self.told
    }
}

impl Hold {
    fn take(&mut self, arrival: &Arrival, name: Option<ReservationName>, now: u64) {
        match arrival.act {
            Act::Reserve => {
                self.name = name;
                self.units = arrival.units.clone();
                self.deadline = now + arrival.ttl;
            }
            Act::Extend => self.deadline = now + arrival.ttl,
            Act::Change => self.units = arrival.units.clone(),
            _ => {
                for (sku, less) in &arrival.units {
                    if let Some((_, units)) = self.units.iter_mut().find(|(own, _)| own == sku) {
                        *units -= less;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    fn arrival(lsn: u64, act: Act, of: u64, units: i64) -> Arrival {
        let units = smallvec![(0, units)];
        Arrival { lsn, due: 0, act, of: smallvec![of], units, ttl: 1_000, body: Vec::new() }
    }

    #[test]
    fn what_is_asked_of_a_hold_waits_for_its_turn() {
        let mut holds = Holds::default();
        let (reserve, release) =
            (arrival(7, Act::Reserve, 7, 5), arrival(8, Act::Release { whole: false }, 7, 2));
        let commit = arrival(9, Act::Commit, 7, 0);
        for (key, arrival) in [&reserve, &release, &commit].into_iter().enumerate() {
            assert!(holds.enqueue(key, arrival).unwrap());
        }
        assert!(holds.is_turn(0, &reserve) && !holds.is_turn(1, &release));
        let name = ReservationName::new(b"r1");
        holds.granted(&reserve, name, 0);
        assert_eq!(holds.leave(0, &reserve).as_slice(), [1]);
        assert!(holds.is_turn(1, &release) && !holds.is_turn(2, &commit));
        assert_eq!(holds.names(&release).unwrap().first().copied(), name);
        holds.granted(&release, None, 0);
        assert_eq!(holds.leave(1, &release).as_slice(), [2]);
        holds.granted(&commit, None, 0);
        assert!(holds.leave(2, &commit).is_empty());
        assert!(holds.all.is_empty());
        let told = holds.sum_up(0);
        assert_eq!((told.sold, told.held, told.maybe), ([(0, 3)].into(), [].into(), [].into()));
    }

    #[test]
    fn what_was_not_granted_is_nothing_that_could_be_asked_for() {
        let mut holds = Holds::default();
        let release = arrival(8, Act::Release { whole: true }, 7, 5);
        assert!(!holds.enqueue(1, &release).unwrap());
        let reserve = arrival(7, Act::Reserve, 7, 5);
        holds.enqueue(0, &reserve).unwrap();
        assert!(holds.enqueue(1, &release).unwrap());
        assert_eq!(holds.leave(0, &reserve).as_slice(), [1]);
        assert_eq!(holds.names(&release), None);
        assert!(holds.leave(1, &release).is_empty() && holds.all.is_empty());
    }

    #[test]
    fn a_hold_that_ran_out_is_kept_until_nothing_can_come_of_it() {
        let mut holds = Holds::default();
        let reserve = arrival(7, Act::Reserve, 7, 5);
        holds.enqueue(0, &reserve).unwrap();
        holds.granted(&reserve, ReservationName::new(b"r1"), 0);
        holds.leave(0, &reserve);
        holds.run_out(7, 500);
        holds.forget(1_000 + GRACE - 1);
        assert_eq!(holds.all.len(), 1);
        holds.forget(1_000 + GRACE);
        assert!(holds.all.is_empty() && holds.leaving.is_empty());
    }
}
