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
    ) {
        if number <= self.last_number {
            return;
        }
        self.last_number = number;
        self.covers_lsn = covers_lsn;
        self.chain = chain;
        self.pending.push((number, seal_lsn));
        self.pending_events.push((events, covers_lsn));
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
        state.sealed(800, 1, 700, 10, [1; 32]);
        state.sealed(900, 2, 850, 5, [2; 32]);
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
    fn a_seal_of_nothing_is_no_batch() {
        let mut state = SinkState::default();
        state.sealed(8, 1, 8, 0, [0; 32]);
        state.acknowledged(1, false);
        assert_eq!((state.batches, state.acknowledged_lsn), (0, 8));
    }
}
