//! The engine's limits and times, with their defaults.

use crate::{model::Location, wal};

/// The engine's limits and times. Every table has a fixed most; at it, new work is refused with
/// `overloaded` and nothing is forgotten to make room.
#[derive(Debug, Clone)]
pub struct Options {
    /// The log's options.
    pub wal: wal::Options,
    /// The most positions (SKU at a location). Default: 1,048,576.
    pub positions_max: u32,
    /// The most reservations, open or within their retention. Default: 4,000,000.
    pub reservations_max: u32,
    /// Memory for so many reservations, their keys and limits is made at the start rather than as it
    /// is needed: about 200 bytes each. Default: 0.
    pub reservations_prepared: u32,
    /// The most idempotency keys. Default: 8,000,000.
    pub keys_max: u32,
    /// The most orders. Default: 4,000,000.
    pub orders_max: u32,
    /// The most pairs of customer and limited SKU. Default: 4,000,000.
    pub customer_limits_max: u32,
    /// The most reports of partners that wait for their order, or for a person; each has at most 32 KiB.
    /// Default: 4,096.
    pub parked_events_max: u32,
    /// The most lines of a cart. Default: 128.
    pub lines_max: u32,
    /// How long a reservation holds where it does not say. Default: 600,000 (ten minutes).
    pub ttl_default_ms: u64,
    /// The longest that a reservation may hold. Default: 86,400,000 (a day).
    pub ttl_max_ms: u64,
    /// How long closed reservations and idempotency keys are remembered. Default: 86,400,000.
    pub retention_ms: u64,
    /// The period of limits per customer. Default: 86,400,000.
    pub limit_period_ms: u64,
    /// After a start, how long overdue reservations are still held. Default: 5,000.
    pub overdue_grace_ms: u64,
    /// The longest a decision waits for another one (a twin with the same key, units of a cart that
    /// may yet fail). Default: 1,000.
    pub decision_wait_ms_max: u64,
    /// Locations in the order in which lines without a location are sourced; locations that are not
    /// named follow in the order in which they were first used. Default: none named.
    pub sourcing: Vec<Location>,
    /// A checkpoint is made after so much log, or as much as half the last checkpoint, whichever is
    /// more. Default: 268,435,456 (256 MiB).
    pub checkpoint_bytes: u64,
}

#[cfg(test)]
impl Options {
    /// An engine that takes little memory, for tests on a simulated disk.
    pub(super) fn small() -> Self {
        let wal = wal::Options {
            segment_bytes: 64 << 10,
            budget_bytes: 8 << 20,
            order_reserve_bytes: 64 << 10,
            delivery_reserve_bytes: 64 << 10,
            unsynced_bytes_max: 512 << 10,
            ready_segments: 1,
            ..wal::Options::default()
        };
        Self {
            wal,
            positions_max: 16,
            reservations_max: 64,
            keys_max: 64,
            orders_max: 64,
            customer_limits_max: 64,
            ..Self::default()
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            wal: wal::Options::default(),
            positions_max: 1 << 20,
            reservations_max: 4_000_000,
            reservations_prepared: 0,
            keys_max: 8_000_000,
            orders_max: 4_000_000,
            customer_limits_max: 4_000_000,
            parked_events_max: 4_096,
            lines_max: 128,
            ttl_default_ms: 600_000,
            ttl_max_ms: 86_400_000,
            retention_ms: 86_400_000,
            limit_period_ms: 86_400_000,
            overdue_grace_ms: 5_000,
            decision_wait_ms_max: 1_000,
            sourcing: Vec::new(),
            checkpoint_bytes: 256 << 20,
        }
    }
}
