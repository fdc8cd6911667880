//! What operators and metrics are told of an engine.

use std::sync::atomic::Ordering;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{model::Lsn, wal::Storage};

use super::{Counters, Engine};

/// An engine as it stands. Tables come with the most they can hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Status {
    /// The version of Holdfast.
    pub version: &'static str,
    /// The life of the data directory.
    pub incarnation: String,
    /// The end of the log.
    pub appended: Lsn,
    /// The end of what is on the disk.
    pub durable: Lsn,
    /// Everything before it is in a checkpoint.
    pub checkpoint: Lsn,
    /// Bytes of the log's files.
    pub log_bytes_used: u64,
    /// What they may take.
    pub log_bytes_budget: u64,
    /// Whether so much of it is spent that low-priority work is shed.
    pub log_past_soft_mark: bool,
    /// Reservations held now, as far as counted since the start: grants less what closed them.
    pub open_reservations: u64,
    /// Reservations in the table, open or within their retention.
    pub reservations: u64,
    /// The most there can be.
    pub reservations_max: u64,
    /// Idempotency keys in the table.
    pub keys: u64,
    /// The most there can be.
    pub keys_max: u64,
    /// Orders; none is ever forgotten.
    pub orders: u64,
    /// Room in the log that is set aside for the goods and the payment of orders, in bytes.
    pub orders_set_aside_bytes: u64,
    /// The most that is; beyond it orders are only taken below the log's soft mark.
    pub orders_set_aside_bytes_max: u64,
    /// Reports of partners that wait for their order.
    pub parked_events: u64,
    /// Those that their order would not have: they wait for a person.
    pub parked_events_refused: u64,
    /// The most there can be of both.
    pub parked_events_max: u64,
    /// Age of the oldest of both, in milliseconds; 0 if there is none.
    pub parked_events_oldest_age_ms: u64,
    /// The most there can be.
    pub orders_max: u64,
    /// Positions.
    pub positions: u64,
    /// Units that reservations took below zero: always 0.
    pub oversold: u64,
    /// Units below zero after corrections of the stock that were allowed to.
    pub shortfall: u64,
    /// What was done since the start.
    pub counters: Counters,
}

impl<S: Storage> Engine<S> {
    /// The engine as it stands. Walks all positions.
    pub fn status(&self) -> Status {
        let core = self.core();
        let tables = &core.tables;
        let stats = core.log.stats();
        let parked = core.parked_counts();
        let now_ms = core.now_ms();
        let (mut oversold, mut shortfall) = (0, 0);
        for number in 0..tables.positions.len() {
            let Some(position) = tables.positions.get(number) else { continue };
            let below = -i64::from(position.word().load().0);
            if below > 0 {
                let forced = position.lock().forced.clamp(0, below);
                shortfall += forced as u64;
                oversold += (below - forced) as u64;
            }
        }
        Status {
            version: env!("CARGO_PKG_VERSION"),
            incarnation: core.log.incarnation().to_string(),
            appended: core.log.appended(),
            durable: core.log.durable(),
            checkpoint: Lsn(core.checkpoint.load(Ordering::Acquire)),
            log_bytes_used: stats.used_bytes,
            log_bytes_budget: stats.budget_bytes,
            log_past_soft_mark: stats.past_soft_mark,
            open_reservations: core.open_reservations(),
            reservations: tables.reservations.len().into(),
            reservations_max: tables.reservations.reservations_max().into(),
            keys: tables.keys.len().into(),
            keys_max: core.options.keys_max.into(),
            orders: tables.orders.len().into(),
            orders_set_aside_bytes: core.owed_bytes.load(Ordering::Relaxed),
            orders_set_aside_bytes_max: core.owed_bytes_max(),
            parked_events: parked.waiting,
            parked_events_refused: parked.refused,
            parked_events_max: core.options.parked_events_max.into(),
            parked_events_oldest_age_ms: parked
                .oldest_at_ms
                .map_or(0, |at_ms| now_ms.saturating_sub(at_ms)),
            orders_max: core.options.orders_max.into(),
            positions: tables.positions.len().into(),
            oversold,
            shortfall,
            counters: core.counters.view(),
        }
    }
}
