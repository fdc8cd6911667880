//! What the log counts about itself.

use std::time::Duration;

use super::{
    append::Core,
    archive::ArchiveStats,
    options::Options,
    ring::Memory,
    segment,
    sync::{AtomicU64, Ordering},
};
use crate::{model::Lsn, telemetry::Durations};

/// Counters that the background threads keep.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) syncs: AtomicU64,
    pub(super) sync_us_sum: AtomicU64,
    pub(super) sync_us_max: AtomicU64,
    pub(super) group_bytes_sum: AtomicU64,
    pub(super) group_bytes_max: AtomicU64,
    pub(super) own_records: AtomicU64,
    pub(super) stalls: AtomicU64,
    pub(super) segments_made: AtomicU64,
    pub(super) segments_recycled: AtomicU64,
    pub(super) room_waits: AtomicU64,
    pub(super) append_durations: Durations,
    pub(super) sync_durations: Durations,
}

/// Figures about a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// The end of what is claimed.
    pub appended: Lsn,
    /// The end of what is on the disk.
    pub durable: Lsn,
    /// Bytes of segment files that hold records or are ready for them.
    pub used_bytes: u64,
    /// What they may take at most.
    pub budget_bytes: u64,
    /// Bytes claimed since the log was opened, marks and padding included.
    pub bytes: u64,
    /// Bytes set aside for records that close what is open, and for tickets that are out.
    pub closing_bytes: u64,
    /// Bytes that new work may still use, closing room and reserves taken off; negative while
    /// delivery uses its reserve.
    pub free_bytes: i64,
    /// Bytes left in segments that are ready.
    pub ready_bytes: i64,
    /// Whether no more blocks can be had.
    pub exhausted: bool,
    /// Whether the soft mark is passed.
    pub past_soft_mark: bool,
    /// Records, marks and padding included.
    pub records: u64,
    /// The log's own marks.
    pub marks: u64,
    /// Syncs of a group.
    pub syncs: u64,
    /// Microseconds in them, all together.
    pub sync_us_sum: u64,
    /// The slowest, in microseconds.
    pub sync_us_max: u64,
    /// Bytes that were synced in groups, all together.
    pub group_bytes_sum: u64,
    /// The largest group.
    pub group_bytes_max: u64,
    /// How often the thread that syncs found a claimed record unpublished.
    pub stalls: u64,
    /// Segments made ready.
    pub segments_made: u64,
    /// Segments taken back.
    pub segments_recycled: u64,
    /// Tickets that had to wait or were refused.
    pub room_waits: u64,
    /// Its archive, if it has one.
    pub archive: Option<ArchiveStats>,
}

impl Counters {
    pub(super) fn synced(&self, took: Duration, bytes: u64) {
        let us = took.as_micros() as u64;
        self.sync_durations.record(took);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_us_sum.fetch_add(us, Ordering::Relaxed);
        self.sync_us_max.fetch_max(us, Ordering::Relaxed);
        self.group_bytes_sum.fetch_add(bytes, Ordering::Relaxed);
        self.group_bytes_max.fetch_max(bytes, Ordering::Relaxed);
    }

    pub(super) fn stats<M: Memory>(
        &self,
        core: &Core<M>,
        segments: u64,
        options: &Options,
    ) -> Stats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            appended: Lsn(core.tail()),
            durable: Lsn(core.durable()),
            used_bytes: segments * segment::file_bytes(options.segment_bytes),
            budget_bytes: options.budget_bytes,
            bytes: core.claimed(),
            closing_bytes: core.closing(),
            free_bytes: core.room.free(),
            ready_bytes: core.room.near(),
            exhausted: core.room.is_exhausted(),
            past_soft_mark: core.room.is_past_soft_mark(),
            records: core.lock_walk().records,
            marks: load(&self.own_records),
            syncs: load(&self.syncs),
            sync_us_sum: load(&self.sync_us_sum),
            sync_us_max: load(&self.sync_us_max),
            group_bytes_sum: load(&self.group_bytes_sum),
            group_bytes_max: load(&self.group_bytes_max),
            stalls: load(&self.stalls),
            segments_made: load(&self.segments_made),
            segments_recycled: load(&self.segments_recycled),
            room_waits: load(&self.room_waits),
            archive: None,
        }
    }
}
