//! What the log says of a sink: how far the seals of its lanes go, which of them are not acknowledged
//! yet, what is parked, what lies dead, and what an operator wants of it.

use std::{collections::BTreeMap, sync::Arc};

use rkyv::{Archive, Deserialize, Serialize, with::Skip};

use super::{Deed, Lane, Parked, Parking};
use crate::model::letter::{Letter, Split};

/// How far a lane is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct LaneState {
    /// Its next window begins here: everything before is sealed.
    pub covers_lsn: u64,
    /// Everything summed up below here is with the partner.
    pub acknowledged_lsn: u64,
}

/// A batch whose fate is not known.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Pending {
    /// Its number.
    pub number: u64,
    /// The position of its seal.
    pub seal_lsn: u64,
    /// What its lane is past with it.
    pub covers_lsn: u64,
    /// Records summed up.
    pub events: u64,
    /// The place of its lane.
    pub lane: u8,
    /// The letter that it sends again; empty: none.
    pub letter: String,
}

/// Sealed batches that are sent again on an operator's wish.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Replay {
    /// The next.
    pub next_number: u64,
    /// The last.
    pub to_number: u64,
    /// Batches that were under way when it began and so are none of it, whatever their numbers, in
    /// ascending order.
    pub left_out: Vec<u64>,
}

impl Replay {
    /// Whether a batch is still to be sent again.
    pub fn has(&self, number: u64) -> bool {
        (self.next_number..=self.to_number).contains(&number)
            && self.left_out.binary_search(&number).is_err()
    }
}

/// What a seal says to the sink's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Sealed {
    /// Its position.
    pub lsn: u64,
    /// The number of its first batch.
    pub number: u64,
    /// How many batches it has.
    pub batches: u64,
    /// Where the lane's next window begins.
    pub covers_lsn: u64,
    /// Records summed up.
    pub events: u64,
    /// The sink's chain after it.
    pub chain: [u8; 32],
    /// What it changes of what is parked.
    pub parking: Parking,
    /// The place of its lane; [`Sealed::EVERY_LANE`]: it has nothing to send and covers all.
    pub lane: u8,
    /// The letter that it sends again; empty: none.
    pub letter: String,
}

impl Sealed {
    /// The lane of a seal that covers every lane.
    pub const EVERY_LANE: u8 = u8::MAX;
}

/// A sink, as a fold of its records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct SinkState {
    /// The number of its last batch; the next is one more.
    pub last_number: u64,
    /// Its lanes, by their places.
    pub lanes: [LaneState; 3],
    /// Digest of the last entry of its chain; zero where it has none.
    pub chain: [u8; 32],
    /// Batches that are not acknowledged, by number in ascending order.
    pub pending: Vec<Pending>,
    /// Batches acknowledged.
    pub batches: u64,
    /// Records summed up in them.
    pub events: u64,
    /// Records that wait for others, by position. They are here, so that they need nothing of the log.
    pub parked: Vec<Parked>,
    /// Why an operator paused it.
    pub paused: Option<String>,
    /// What is sent again.
    pub replay: Option<Replay>,
    /// The batch that an operator wants set aside and that has no fate yet: its number, and why.
    pub skip: Option<(u64, String)>,
    /// Bisections under way, by number; their letters are among `letters`.
    pub splits: Vec<Split>,
    /// The settings that rendered batches which may go out again, by version, oldest first; the last
    /// are those in force.
    pub configurations: Vec<(u64, String)>,
    /// What lies dead, by name. In checkpoints each has an entry of its own.
    #[rkyv(with = Skip)]
    pub letters: BTreeMap<String, Arc<Letter>>,
    /// Records that they stand for.
    #[rkyv(with = Skip)]
    pub letter_records: u64,
}

/// Versions of settings that are kept; a batch of an older one is sent as the oldest kept renders it.
const CONFIGURATIONS_MAX: usize = 16;

impl SinkState {
    /// Batches were sealed. A seal seen before (a replay over a checkpoint) changes nothing.
    pub fn sealed(&mut self, sealed: Sealed) {
        let Sealed { lsn, number, batches, covers_lsn, events, chain, parking, lane, letter } =
            sealed;
        if number <= self.last_number {
            return;
        }
        self.last_number = number + batches.saturating_sub(1);
        self.chain = chain;
        if lane == Sealed::EVERY_LANE {
            self.lanes.iter_mut().for_each(|lane| lane.covers_lsn = covers_lsn);
        } else {
            self.lanes[Lane::of_index(lane.into()).index()].covers_lsn = covers_lsn;
        }
        for (at, number) in (number..=self.last_number).enumerate() {
            // The records are counted once, however many batches they make.
            let events = if at == 0 { events } else { 0 };
            let (seal_lsn, letter) = (lsn, letter.clone());
            self.pending.push(Pending { number, seal_lsn, covers_lsn, events, lane, letter });
        }
        let Parking { parked, released } = parking;
        self.parked.retain(|parked| released.binary_search(&parked.lsn).is_err());
        self.parked.extend(parked);
        self.parked.sort_unstable_by_key(|parked| parked.lsn);
    }

    /// A batch's fate is known; `sent`: the partner was given something.
    pub fn acknowledged(&mut self, number: u64, sent: bool) {
        self.splits.retain(|split| split.number != number);
        self.skip.take_if(|(skipped, _)| *skipped == number);
        let Some(at) = self.pending.iter().position(|batch| batch.number == number) else {
            return self.replayed(number);
        };
        let batch = self.pending.remove(at);
        if sent {
            self.batches += 1;
        }
        self.events += batch.events;
        for lane in Lane::ALL {
            if batch.lane == Sealed::EVERY_LANE || usize::from(batch.lane) == lane.index() {
                self.settle(lane, &batch);
            }
        }
    }

    /// A batch whose fate was known has gone out again.
    fn replayed(&mut self, number: u64) {
        if let Some(replay) = &mut self.replay
            && replay.has(number)
        {
            // They go out in the order of their numbers, some of which may be no batch's.
            replay.next_number = number + 1;
            if replay.next_number > replay.to_number {
                self.replay = None;
            }
        }
    }

    /// Whether the fate of a batch is not known.
    pub fn is_pending(&self, number: u64) -> bool {
        self.pending.iter().any(|batch| batch.number == number)
    }

    /// Moves a lane up, as far as nothing of it is under way.
    fn settle(&mut self, lane: Lane, done: &Pending) {
        let of_lane = |batch: &Pending| {
            batch.lane == Sealed::EVERY_LANE || usize::from(batch.lane) == lane.index()
        };
        let before =
            self.pending.iter().any(|batch| of_lane(batch) && batch.covers_lsn <= done.covers_lsn);
        let state = &mut self.lanes[lane.index()];
        if !before {
            state.acknowledged_lsn = state.acknowledged_lsn.max(done.covers_lsn);
        }
    }

    /// What lies dead under a name, from now on; `None`: nothing.
    pub fn set_letter(&mut self, name: &str, letter: Option<Letter>) {
        let records = letter.as_ref().map_or(0, Letter::records);
        let before = match letter {
            Some(letter) => self.letters.insert(name.to_owned(), Arc::new(letter)),
            None => self.letters.remove(name),
        };
        let records_before = before.map_or(0, |letter| letter.records());
        let others = self.letter_records.saturating_sub(records_before);
        self.letter_records = others.saturating_add(records);
    }

    /// An operator did something. Letters are told apart from that, by [`SinkState::set_letter`].
    pub fn operated(&mut self, deed: &Deed, reason: &str) {
        match deed {
            Deed::Pause => self.paused = Some(reason.to_owned()),
            Deed::Resume => self.paused = None,
            Deed::Replay { from_number, to_number } => {
                let (next_number, to_number) = (*from_number, *to_number);
                let left_out = self.pending.iter().map(|batch| batch.number).collect();
                self.replay = Some(Replay { next_number, to_number, left_out });
            }
            Deed::Skip { number } => self.skip = Some((*number, reason.to_owned())),
            Deed::Split { split } => {
                self.splits.retain(|before| before.number != split.number);
                self.splits.push(Split { letters: Vec::new(), ..split.clone() });
            }
            Deed::Configure { version, text } => self.configure(*version, text),
            Deed::Mend { .. } | Deed::Retry { .. } | Deed::Discard { .. } => {}
        }
    }

    fn configure(&mut self, version: u64, text: &str) {
        self.configurations.retain(|(known, _)| *known != version);
        self.configurations.push((version, text.to_owned()));
        if self.configurations.len() > CONFIGURATIONS_MAX {
            self.configurations.remove(0);
        }
    }

    /// Whether a letter is on its way to the partner again.
    pub fn is_sent_again(&self, letter: &str) -> bool {
        self.pending.iter().any(|batch| batch.letter == letter)
    }

    /// How far the bisection of a batch has come.
    pub fn split_of(&self, number: u64) -> Option<Split> {
        self.splits.iter().find(|split| split.number == number).cloned()
    }

    /// The oldest position that the sink still needs in the log.
    pub fn needs_from(&self) -> u64 {
        let sealed = self.pending.iter().map(|batch| batch.seal_lsn);
        let lanes = self.lanes.iter().map(|lane| lane.covers_lsn);
        sealed.chain(lanes).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(lsn: u64, number: u64, covers_lsn: u64, events: u64) -> Sealed {
        let lane = Sealed::EVERY_LANE;
        Sealed { lsn, number, batches: 1, covers_lsn, events, lane, ..Sealed::default() }
    }

    fn standard(state: &SinkState) -> LaneState {
        state.lanes[Lane::Standard.index()]
    }

    fn letter(id: &str) -> Letter {
        Letter {
            id: id.into(),
            part_id: id.into(),
            number: 1,
            seal_lsn: 800,
            config_version: 0,
            at_ms: 1,
            status: 422,
            lane: 1,
            attempts: 1,
            uncertain: false,
            mended: false,
            reason: "no such article".into(),
            body: b"{}".to_vec(),
        }
    }

    #[test]
    fn the_newest_split_of_a_batch_counts_until_its_fate_is_known() {
        let split = |attempts| Split { number: 1, attempts, ..Split::default() };
        let mut state = SinkState::default();
        state.sealed(sealed(800, 1, 700, 10));
        for attempts in [1, 4] {
            state.operated(&Deed::Split { split: split(attempts) }, "");
        }
        assert_eq!((state.split_of(1), state.split_of(2)), (Some(split(4)), None));
        state.acknowledged(1, true);
        assert_eq!(state.splits, []);
    }

    #[test]
    fn what_is_pending_stays_in_the_log_and_what_is_dead_does_not_need_it() {
        let mut state = SinkState::default();
        state.sealed(sealed(800, 1, 700, 10));
        state.sealed(sealed(900, 2, 850, 5));
        assert_eq!((state.needs_from(), standard(&state).covers_lsn), (800, 850));
        state.set_letter("erp-1.1", Some(letter("erp-1.1")));
        state.acknowledged(1, true);
        assert_eq!((state.batches, standard(&state).acknowledged_lsn), (1, 700));
        assert_eq!((state.needs_from(), state.letters.len()), (850, 1));
        state.acknowledged(2, true);
        assert_eq!((state.events, standard(&state).acknowledged_lsn), (15, 850));
        state.set_letter("erp-1.1", None);
        assert_eq!((state.needs_from(), state.letters.len()), (850, 0));
    }

    #[test]
    fn what_is_parked_stays_until_it_is_released() {
        let parked = |lsn| Parked { lsn, at_ms: 1, body: vec![1], kind: 11, version: 1 };
        let parking = |lsns: &[u64], released: &[u64]| Parking {
            parked: lsns.iter().map(|lsn| parked(*lsn)).collect(),
            released: released.to_vec(),
        };
        let mut state = SinkState::default();
        let first = Sealed { parking: parking(&[500, 600], &[]), ..sealed(800, 1, 700, 10) };
        state.sealed(first.clone());
        // A replay over a checkpoint that has it.
        state.sealed(first);
        assert_eq!(state.parked, [parked(500), parked(600)]);
        state.sealed(Sealed { parking: parking(&[820], &[500, 810]), ..sealed(900, 2, 850, 10) });
        assert_eq!(state.parked, [parked(600), parked(820)]);
    }

    #[test]
    fn a_seal_of_nothing_is_no_batch_and_covers_every_lane() {
        let mut state = SinkState::default();
        state.sealed(sealed(8, 1, 8, 0));
        state.acknowledged(1, false);
        let everywhere = LaneState { covers_lsn: 8, acknowledged_lsn: 8 };
        assert_eq!((state.batches, state.lanes), (0, [everywhere; 3]));
    }

    #[test]
    fn one_seal_may_have_several_batches_and_lanes_go_on_by_themselves() {
        let mut state = SinkState::default();
        state.sealed(Sealed { batches: 3, lane: 1, ..sealed(100, 1, 90, 7) });
        state.sealed(Sealed { lane: 0, ..sealed(200, 4, 190, 2) });
        assert_eq!((state.last_number, state.pending.len()), (4, 4));
        state.acknowledged(4, true);
        assert_eq!(state.lanes[0].acknowledged_lsn, 190);
        state.acknowledged(1, true);
        state.acknowledged(3, true);
        assert_eq!((standard(&state).acknowledged_lsn, state.pending.len()), (0, 1));
        state.acknowledged(2, true);
        assert_eq!((standard(&state).acknowledged_lsn, state.events), (90, 9));
        assert_eq!(state.batches, 4);
    }

    #[test]
    fn a_batch_under_way_when_a_replay_began_is_none_of_it() {
        let mut state = SinkState::default();
        for number in 1..=4 {
            state
                .sealed(Sealed { lane: (number % 2) as u8, ..sealed(number * 100, number, 90, 1) });
        }
        // One lane is stuck with its batch, the other went on.
        [1, 2, 4].into_iter().for_each(|number| state.acknowledged(number, true));
        state.operated(&Deed::Replay { from_number: 1, to_number: 4 }, "restored");
        state.acknowledged(3, true);
        let replay = Replay { next_number: 1, to_number: 4, left_out: vec![3] };
        assert_eq!(state.replay, Some(replay.clone()));
        let has: Vec<_> = (0..=5).filter(|number| replay.has(*number)).collect();
        assert_eq!(has, [1, 2, 4], "also now that the other has its fate");
        [1, 2, 4].into_iter().for_each(|number| state.acknowledged(number, true));
        assert_eq!((state.replay, state.batches), (None, 4));
    }

    #[test]
    fn a_batch_is_skipped_until_it_has_its_fate() {
        let mut state = SinkState::default();
        (1..=2).for_each(|number| state.sealed(sealed(number * 100, number, number * 100 - 8, 1)));
        state.operated(&Deed::Skip { number: 1 }, "it hangs");
        state.acknowledged(2, true);
        assert_eq!(state.skip, Some((1, "it hangs".to_owned())));
        state.acknowledged(1, false);
        assert_eq!(state.skip, None);
    }

    #[test]
    fn a_replay_goes_on_batch_by_batch_until_it_is_done() {
        let mut state = SinkState::default();
        for number in 1..=3 {
            state.sealed(sealed(number * 100, number, number * 100 - 8, 1));
            state.acknowledged(number, true);
        }
        state.operated(&Deed::Replay { from_number: 2, to_number: 3 }, "restored");
        state.acknowledged(2, true);
        assert_eq!(state.replay, Some(Replay { next_number: 3, to_number: 3, left_out: vec![] }));
        state.acknowledged(3, true);
        assert_eq!((state.replay, state.batches), (None, 3));
    }
}
