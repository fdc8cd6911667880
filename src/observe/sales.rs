//! What is said of orders and sales: how old orders were when something happened to them, how old the oldest is
//! to which something has not happened yet, and what sold by SKU.
//!
//! A thread of its own follows the durable log from where it stands at the start. It holds nothing back:
//! if the log was recycled under it, it goes on at its end. What is said of all orders it finds by walking
//! them, so that it is right also after a start; it walks the more rarely, the longer that takes.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    engine::{Engine, Overview},
    model::{
        Timestamp,
        event::{self, Event, Happened},
        fact::{ArchivedFact, FactKind},
    },
    telemetry::{Observed, OrdersWaiting, SkuSales},
    wal::{self, Record, Storage},
};

/// How long it waits where there is nothing new.
const PAUSE: Duration = Duration::from_millis(200);
/// It looks at all orders at most this often,
const WALK_EVERY_MIN: Duration = Duration::from_secs(1);
/// and at least this often;
const WALK_EVERY_MAX: Duration = Duration::from_secs(60);
/// between, it gives that this part of its time.
const WALKS_PART: u32 = 100;

/// What it has to do.
pub(super) struct Sales {
    skus_max: usize,
}

impl Sales {
    /// Tells of at most so many SKUs one by one.
    pub fn new(skus_max: usize) -> Self {
        Self { skus_max }
    }

    /// The work of its thread.
    pub fn read<S: Storage>(
        self,
        engine: Engine<S>,
        observed: Arc<Observed>,
        stop: watch::Receiver<bool>,
    ) -> impl FnOnce() + Send + 'static {
        move || {
            let mut from = engine.log().durable();
            while !is_stopped(&stop) {
                // A log that can't be read stops everything else; here it is waited for.
                let read = engine.log().reader(from);
                let read = read.and_then(|reader| self.follow(reader, &engine, &observed, &stop));
                if let Err(error) = read {
                    tracing::debug!(%error, "the observer goes on at the log's end");
                    observed.skips.fetch_add(1, Relaxed);
                    std::thread::sleep(PAUSE);
                }
                from = engine.log().durable();
            }
        }
    }

    fn follow<S: Storage>(
        &self,
        mut reader: wal::Reader<S>,
        engine: &Engine<S>,
        observed: &Observed,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), wal::Error> {
        let mut next_walk = Instant::now();
        while !is_stopped(stop) {
            if Instant::now() >= next_walk {
                next_walk = Instant::now() + self.walk(engine, observed);
            }
            let Some(record) = reader.next()? else {
                std::thread::sleep(PAUSE);
                continue;
            };
            // What does not decode is told by who needs it.
            let _ = count(&record, engine, observed);
        }
        Ok(())
    }

    /// Looks at all orders; how long from then on the next time may wait.
    fn walk<S: Storage>(&self, engine: &Engine<S>, observed: &Observed) -> Duration {
        let begun = Instant::now();
        let overview = engine.orders_overview();
        observed.set_waiting(waiting(&overview, engine.now()));
        observed.set_skus(best(&overview.sold_units, engine, self.skus_max));
        observed.set_sold_units(overview.sold_units);
        (begun.elapsed() * WALKS_PART).clamp(WALK_EVERY_MIN, WALK_EVERY_MAX)
    }
}

fn count<S: Storage>(
    record: &Record<'_>,
    engine: &Engine<S>,
    observed: &Observed,
) -> Result<(), event::Undecodable> {
    let (lsn, kind, version, body) = (record.lsn, record.kind, record.version, record.body);
    if kind != Happened::KIND {
        return Ok(());
    }
    let happened = event::decode::<Happened>(lsn, kind, version, body)?;
    let order_id: &str = &happened.order_id;
    let placed_at = order_id.parse().ok().and_then(|id| engine.order_placed_at(&id));
    if let Some(placed_at) = placed_at {
        let age_ms = record.time_ms.saturating_sub(placed_at.millis());
        observed.order_reached(kind_of(&happened.fact), age_ms);
    }
    Ok(())
}

/// The SKUs that sold most, the best first.
fn best<S: Storage>(sold_units: &[u64], engine: &Engine<S>, skus_max: usize) -> Vec<SkuSales> {
    let named = best_of(sold_units, skus_max).into_iter().filter_map(|(sold, number)| {
        let sku = engine.sku_name(number)?;
        let available = engine.stock(&sku).map_or(0, |stock| stock.available);
        let available = u64::try_from(available).unwrap_or(0);
        Some(SkuSales { sku: sku.to_string(), sold, available })
    });
    named.collect()
}

fn waiting(overview: &Overview, now: Timestamp) -> Vec<OrdersWaiting> {
    let age_ms = |at: Timestamp| now.millis().saturating_sub(at.millis());
    let waiting = overview.waiting.iter().map(|of| OrdersWaiting {
        stage: of.stage,
        orders: of.orders,
        age_ms_max: of.oldest_at.map_or(0, age_ms),
    });
    waiting.collect()
}

fn best_of(units: &[u64], skus_max: usize) -> Vec<(u64, u32)> {
    let mut best = BinaryHeap::with_capacity(skus_max + 1);
    for (number, sold) in (0..).zip(units).filter(|(_, sold)| **sold > 0) {
        best.push(Reverse((*sold, number)));
        if best.len() > skus_max {
            best.pop();
        }
    }
    best.into_sorted_vec().into_iter().map(|Reverse(of)| of).collect()
}

fn kind_of(fact: &ArchivedFact) -> FactKind {
    match fact {
        ArchivedFact::Shipment { .. } => FactKind::Shipment,
        ArchivedFact::Cancellation { .. } => FactKind::Cancellation,
        ArchivedFact::Invoice { .. } => FactKind::Invoice,
        ArchivedFact::Settlement { .. } => FactKind::Settlement,
        ArchivedFact::Refund { .. } => FactKind::Refund,
        ArchivedFact::Return { .. } => FactKind::Return,
        ArchivedFact::Receipt { .. } => FactKind::Receipt,
        ArchivedFact::Note { .. } => FactKind::Note,
    }
}

fn is_stopped(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_no_more_than_asked_for() {
        let units = [5, 0, 9, 7, 9, 1];
        assert_eq!(best_of(&units, 3), [(9, 4), (9, 2), (7, 3)]);
        assert_eq!(best_of(&units, 0), []);
        assert_eq!(best_of(&units, 100).len(), 5);
    }
}
