//! What the log says of a sink: how far its seals go and which of them are not acknowledged yet.
//! Folded from [`super::event::Seal`] and [`super::event::Acknowledge`] records, in checkpoints and
//! at recovery alike.

use rkyv::{Archive, Deserialize, Serialize};

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
        self.pending.remove(at);
        let (events, covers_lsn) = self.pending_events.remove(at);
        if refused {
            self.refused += 1;
        } else {
            self.batches += 1;
            self.events += events;
        }
        if at == 0 {
            self.acknowledged_lsn = self.acknowledged_lsn.max(covers_lsn);
        }
    }

    /// The oldest position that the sink still needs in the log.
    pub fn needs_from(&self) -> u64 {
        self.pending.first().map_or(self.covers_lsn, |(_, lsn)| (*lsn).min(self.covers_lsn))
    }
}
