//! What can be chosen about a log, with every default; checked once, when it is opened.

use super::{
    Ack, archive::ArchiveOptions, error::Error, room::LAST_BYTES, storage::SEGMENT_HEADER_BYTES,
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// The smallest segment.
pub const SEGMENT_BYTES_MIN: u64 = 16 * KIB;
/// The largest segment.
pub const SEGMENT_BYTES_MAX: u64 = GIB;

/// The longest time between two groups.
const GROUP_US_MAX: u64 = 10_000;

/// The options of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The payload of a segment: a power of two from 16 KiB to 1 GiB; fixed when the log is made.
    /// Default: 64 MiB.
    pub segment_bytes: u64,
    /// The disk that all segments together may take; at least four segments. Default: 16 GiB.
    pub budget_bytes: u64,
    /// The share of the budget that is spent at the soft mark, in percent, 1 to 100: from there on work
    /// that can wait should ([`Log::is_past_soft_mark`](super::Log::is_past_soft_mark)), until less than
    /// fifteen sixteenths of it are spent. Default: 80.
    pub soft_mark_percent: u32,
    /// The room that is kept for what happens to orders for which none was set aside. At most two segments
    /// and an eighth of the budget of it take effect. Default: 64 MiB.
    pub order_reserve_bytes: u64,
    /// The room that only seals and acknowledgements may use when the rest is spent. Before the oldest segment
    /// can be recycled, the batches of every sink with what is in it must be sealed, and those of a stream are
    /// three to four times as large as the records. At most eight segments and a quarter of the budget of it
    /// take effect. Default: 512 MiB.
    pub delivery_reserve_bytes: u64,
    /// How many segments are kept ready ahead of the one in use. Default: 3.
    pub ready_segments: u32,
    /// The largest record, header included. At most a quarter of a segment takes effect.
    /// Default: 256 KiB.
    pub record_bytes_max: u32,
    /// The most that may be claimed and not yet synced; a ticket waits for it. At least four of the
    /// largest records. Default: 64 MiB.
    pub unsynced_bytes_max: u64,
    /// When a record is acknowledged. Default: [`Ack::Disk`].
    pub ack: Ack,
    /// Under load (groups of 16 KiB and more), how far apart groups begin at least: larger groups
    /// cost less of the processor. Groups from 512 bytes on begin twice as far apart as a sync takes,
    /// and no further than this. 0 to 10,000. Default: 1000.
    pub group_us: u64,
    /// A log that is idle for so long writes a mark that names its last position. Default: 50.
    pub idle_mark_ms: u64,
    /// How long a ticket waits for a ready segment or the unsynced window before it is refused as
    /// [`NoRoom::Busy`](super::NoRoom::Busy). Default: 200.
    pub room_wait_ms_max: u64,
    /// A record that is claimed and not published for so long poisons the log. Default: 5000.
    pub hole_ms_max: u64,
    /// What is kept of what the log lets go; `None`: nothing. Default: as [`ArchiveOptions`] says.
    pub archive: Option<ArchiveOptions>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * MIB,
            budget_bytes: 16 * GIB,
            soft_mark_percent: 80,
            order_reserve_bytes: 64 * MIB,
            delivery_reserve_bytes: 512 * MIB,
            ready_segments: 3,
            record_bytes_max: 256 * KIB as u32,
            unsynced_bytes_max: 64 * MIB,
            ack: Ack::Disk,
            group_us: 1000,
            idle_mark_ms: 50,
            room_wait_ms_max: 200,
            hole_ms_max: 5000,
            archive: Some(ArchiveOptions::default()),
        }
    }
}

impl Options {
    /// Checks them, and brings those that depend on the segment's size within it.
    pub(super) fn checked(mut self) -> Result<Self, Error> {
        let wrong = |what: &'static str| Err(Error::Options(what));
        if !self.segment_bytes.is_power_of_two()
            || !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
        {
            return wrong("segment_bytes must be a power of two from 16 KiB to 1 GiB");
        }
        if self.budget_segments() < 4 {
            return wrong("budget_bytes must have room for at least four segments");
        }
        if !(1..=64).contains(&self.ready_segments) {
            return wrong("ready_segments must be from 1 to 64");
        }
        if !(1..=100).contains(&self.soft_mark_percent) {
            return wrong("soft_mark_percent must be from 1 to 100");
        }
        if self.record_bytes_max < 64 {
            return wrong("record_bytes_max must be at least 64");
        }
        self.archive.as_ref().map_or(Ok(()), |archive| archive.check(self.segment_bytes))?;
        if self.group_us > GROUP_US_MAX {
            return wrong("group_us must be at most 10,000");
        }
        let record_max = u64::from(self.record_bytes_max).min(self.segment_bytes / 4) & !7;
        self.record_bytes_max = record_max as u32;
        if self.unsynced_bytes_max < 4 * record_max || self.unsynced_bytes_max > 16 * GIB {
            return wrong("unsynced_bytes_max must be from four largest records to 16 GiB");
        }
        self.order_reserve_bytes =
            self.order_reserve_bytes.min(2 * self.segment_bytes).min(self.budget_bytes / 8);
        self.delivery_reserve_bytes =
            self.delivery_reserve_bytes.min(8 * self.segment_bytes).min(self.budget_bytes / 4);
        Ok(self)
    }

    /// How many segment files the budget has room for.
    pub(super) fn budget_segments(&self) -> u64 {
        self.budget_bytes / (self.segment_bytes + SEGMENT_HEADER_BYTES)
    }

    /// What new work may use of an empty log, the longest padding at the end of each segment left out.
    pub(super) fn usable_bytes(&self) -> u64 {
        let each = self.segment_bytes - u64::from(self.record_bytes_max);
        let kept = self.order_reserve_bytes + self.delivery_reserve_bytes + LAST_BYTES;
        (self.budget_segments() * each).saturating_sub(kept)
    }

    /// New work's blocks below which more are allocated.
    pub(super) fn blocks_low(&self) -> u64 {
        u64::from(self.ready_segments) * self.segment_bytes
    }

    /// How many segments may be between the durable position and the last ready one.
    pub(super) fn ring_segments(&self) -> u64 {
        self.unsynced_bytes_max / self.segment_bytes + u64::from(self.ready_segments) + 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_small_segments_scale_the_rest_down() {
        assert_eq!(Options::default().checked().unwrap(), Options::default());
        let small = Options { segment_bytes: 64 * KIB, ..Options::default() }.checked().unwrap();
        assert_eq!(small.record_bytes_max as u64, 16 * KIB);
        assert_eq!(small.delivery_reserve_bytes, 512 * KIB);
        assert_eq!(small.order_reserve_bytes, 128 * KIB);
        for wrong in [
            Options { segment_bytes: 100_000, ..Options::default() },
            Options { budget_bytes: 64 * MIB, ..Options::default() },
            Options { ready_segments: 0, ..Options::default() },
            Options { soft_mark_percent: 0, ..Options::default() },
            Options { unsynced_bytes_max: KIB, ..Options::default() },
            Options { record_bytes_max: 1, ..Options::default() },
            Options { group_us: 10_001, ..Options::default() },
            Options {
                archive: Some(ArchiveOptions { bytes_max: 128 * MIB, ..ArchiveOptions::default() }),
                ..Options::default()
            },
        ] {
            assert!(wrong.checked().is_err());
        }
    }
}
