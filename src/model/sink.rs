//! What the log says of a sink: how far its seals go and which of them are not acknowledged yet.
//! Folded from [`super::event::Seal`] and [`super::event::Acknowledge`] records, in checkpoints and
//! at recovery alike.

use rkyv::{Archive, Deserialize, Serialize};
use utoipa::ToSchema;

use super::Lsn;

/// A sink as an operator sees it, `GET /v1/sinks`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct SinkView {
    /// Its name.
    pub name: String,
    /// What it gets: `inventory`, `finance`.
    pub domain: String,
    /// `running`, `paused` (the partner refuses us), `broken` (needs a person).
    pub state: String,
    /// `closed`, `open`, `half_open`.
    pub breaker: String,
    /// Its queues.
    pub lanes: Vec<LaneView>,
    /// Everything below here is with the partner.
    pub acknowledged_lsn: Lsn,
    /// Records read that are not with the partner yet.
    pub lag_records: u64,
    /// Age of the oldest of them.
    pub lag_ms: u64,
    /// Batches that may be under way at once.
    pub concurrency: u64,
    /// Batches that the partner has.
    pub batches_delivered: u64,
    /// Records summed up in them.
    pub events_delivered: u64,
    /// Attempts beyond the first of each batch, since the start.
    pub retries: u64,
    /// Batches and lines that the partner refused for their content.
    pub dead_letters: u64,
    /// Records that wait for what must come first (finance).
    #[serde(default)]
    pub parked: u64,
    /// Age of the oldest of them; 0 without any.
    #[serde(default)]
    pub oldest_parked_age_ms: u64,
    /// Records that were booked before what must come first since more may not be parked, since the
    /// start.
    #[serde(default)]
    pub parked_overflows: u64,
}

/// A queue of one priority.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct LaneView {
    /// `critical`, `standard`, `bulk`.
    pub priority: String,
    /// Batches sealed and not acknowledged.
    pub depth: u64,
    /// Age of the oldest record that waits.
    pub oldest_age_ms: u64,
}

/// A record that came before what must come first: it waits.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Parked {
    /// Its position.
    pub lsn: u64,
    /// When it was written, in milliseconds since the epoch.
    pub at_ms: u64,
    /// Its body: it may be gone from the log before it is released.
    pub body: Vec<u8>,
    /// Its kind.
    pub kind: u8,
    /// The version of its layout.
    pub version: u8,
}

/// What a seal changes of what is parked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Parking {
    /// Parked by the window, and not released by it.
    pub parked: Vec<Parked>,
    /// Positions of the records that the window released and summed up, in ascending order: those of
    /// earlier windows and of its own.
    pub released: Vec<u64>,
}

impl Parking {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty() && self.released.is_empty()
    }

    /// What it released of earlier windows; its own begins at a position.
    pub fn released_of_before(&self, first_lsn: u64) -> &[u64] {
        &self.released[..self.released.partition_point(|lsn| *lsn < first_lsn)]
    }
}

/// A parked record as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct ParkedView {
    /// The order.
    pub order_id: String,
    /// `settlement` or `refund`.
    pub kind: String,
    /// The fact's own id.
    pub id: String,
    /// The record.
    pub lsn: Lsn,
    /// How long ago it was written.
    pub age_ms: u64,
    /// Why it waits: `recognition` (the order's revenue is not booked yet), `settlement`.
    pub waits_for: String,
}

/// What became of an operator's wish to release what is parked of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The feed will, in its next window.
    Asked {
        /// How many records.
        records: u64,
    },
    /// Nothing of the order is parked.
    NothingParked,
    /// Too many orders wait to be released.
    TooMany,
}

/// A sink, as a fold of its records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct SinkState {
    /// The number of its last seal; the next is one more.
    pub last_number: u64,
    /// Its next window begins here: everything before is sealed.
    pub covers_lsn: u64,
    /// Digest of the last entry of its chain; zero where it has none.
    pub chain: [u8; 32],
    /// Seals that are not acknowledged: number and position, in ascending order.
    pub pending: Vec<(u64, u64)>,
    /// Everything summed up below here is with the partner.
    pub acknowledged_lsn: u64,
    /// Batches acknowledged.
    pub batches: u64,
    /// Records summed up in them.
    pub events: u64,
    /// Batches refused for their content.
    pub refused: u64,
    /// Records and covered positions of seals not acknowledged, parallel to `pending`.
    pub pending_events: Vec<(u64, u64)>,
    /// Seals that the partner refused for their content: number and position. They stay in the log
    /// until a person has dealt with them.
    pub set_aside: Vec<(u64, u64)>,
    /// Records that wait for others, by position. They are here, so that they need nothing of the log.
    pub parked: Vec<Parked>,
}

impl SinkState {
    /// A batch was sealed. A seal seen before (a replay over a checkpoint) changes nothing.
    pub fn sealed(
        &mut self,
        seal_lsn: u64,
        number: u64,
        covers_lsn: u64,
        events: u64,
        chain: [u8; 32],
        parking: Parking,
    ) {
        if number <= self.last_number {
            return;
        }
        self.last_number = number;
        self.covers_lsn = covers_lsn;
        self.chain = chain;
        self.pending.push((number, seal_lsn));
        self.pending_events.push((events, covers_lsn));
        let Parking { parked, released } = parking;
        self.parked.retain(|parked| released.binary_search(&parked.lsn).is_err());
        self.parked.extend(parked);
        self.parked.sort_unstable_by_key(|parked| parked.lsn);
    }

    /// A batch's fate is known.
    pub fn acknowledged(&mut self, number: u64, refused: bool) {
        let Some(at) = self.pending.iter().position(|(n, _)| *n == number) else { return };
        let seal = self.pending.remove(at);
        let (events, covers_lsn) = self.pending_events.remove(at);
        if refused {
            self.refused += 1;
            self.set_aside.push(seal);
        } else if events > 0 {
            self.batches += 1;
            self.events += events;
        }
        if at == 0 {
            self.acknowledged_lsn = self.acknowledged_lsn.max(covers_lsn);
        }
    }

    /// The oldest position that the sink still needs in the log.
    pub fn needs_from(&self) -> u64 {
        let seals = self.pending.first().into_iter().chain(self.set_aside.first());
        seals.map(|(_, lsn)| *lsn).min().map_or(self.covers_lsn, |lsn| lsn.min(self.covers_lsn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_or_set_aside_stays_in_the_log() {
        let mut state = SinkState::default();
        state.sealed(800, 1, 700, 10, [1; 32], Parking::default());
        state.sealed(900, 2, 850, 5, [2; 32], Parking::default());
        assert_eq!((state.needs_from(), state.covers_lsn), (800, 850));
        state.acknowledged(1, true);
        assert_eq!((state.refused, state.batches, state.acknowledged_lsn), (1, 0, 700));
        assert_eq!(state.needs_from(), 800);
        state.acknowledged(2, false);
        assert_eq!((state.batches, state.events, state.acknowledged_lsn), (1, 5, 850));
        assert_eq!(state.set_aside, [(1, 800)]);
        assert_eq!(state.needs_from(), 800);
        state.set_aside.clear();
        assert_eq!(state.needs_from(), 850);
    }

    #[test]
    fn what_is_parked_stays_until_it_is_released() {
        let parked = |lsn| Parked { lsn, at_ms: 1, body: vec![1], kind: 11, version: 1 };
        let parking = |lsns: &[u64], released: &[u64]| Parking {
            parked: lsns.iter().map(|lsn| parked(*lsn)).collect(),
            released: released.to_vec(),
        };
        let mut state = SinkState::default();
        state.sealed(800, 1, 700, 10, [1; 32], parking(&[500, 600], &[]));
        // A replay over a checkpoint that has it.
        state.sealed(800, 1, 700, 10, [1; 32], parking(&[500, 600], &[]));
        assert_eq!(state.parked, [parked(500), parked(600)]);
        state.sealed(900, 2, 850, 10, [1; 32], parking(&[820], &[500, 810]));
        assert_eq!(state.parked, [parked(600), parked(820)]);
    }

    #[test]
    fn a_seal_of_nothing_is_no_batch() {
        let mut state = SinkState::default();
        state.sealed(8, 1, 8, 0, [0; 32], Parking::default());
        state.acknowledged(1, false);
        assert_eq!((state.batches, state.acknowledged_lsn), (0, 8));
    }
}
