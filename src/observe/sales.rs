//! What the log says of sales: units by SKU, how old orders were when something happened to them, and how old
//! the oldest is to which something has not happened yet.
//!
//! A thread of its own follows the durable log from where it stands at the start. It holds nothing back:
//! if the log was recycled under it, it goes on at its end.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    engine::Engine,
    model::{
        Timestamp,
        event::{self, ArchivedHappened, Event, Happened, Placed},
        fact::{ArchivedFact, FactKind},
    },
    telemetry::{Observed, OrdersWaiting, SkuSales},
    wal::{self, Record, Storage},
};

/// How long it waits where there is nothing new.
const PAUSE: Duration = Duration::from_millis(200);
/// How often it looks at all orders.
const WALK_EVERY: Duration = Duration::from_secs(10);

/// Units sold by the number of their SKU, of which the configuration bounds how many there are.
#[derive(Debug, Default)]
pub(super) struct Sales {
    sold: Mutex<Vec<u64>>,
}

fn of_sku(sold: &mut Vec<u64>, sku_number: u32) -> &mut u64 {
    let at = sku_number as usize;
    if at >= sold.len() {
        sold.resize(at + 1, 0);
    }
    &mut sold[at]
}

impl Sales {
    /// The work of its thread.
    pub fn read<S: Storage>(
        self: Arc<Self>,
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
        let mut walked: Option<Instant> = None;
        while !is_stopped(stop) {
            if walked.is_none_or(|walked| walked.elapsed() >= WALK_EVERY) {
                observed.set_waiting(waiting(engine));
                walked = Some(Instant::now());
            }
            let Some(record) = reader.next()? else {
                std::thread::sleep(PAUSE);
                continue;
            };
            // What does not decode is told by who needs it.
            let _ = self.count(&record, engine, observed);
        }
        Ok(())
    }

    fn count<S: Storage>(
        &self,
        record: &Record<'_>,
        engine: &Engine<S>,
        observed: &Observed,
    ) -> Result<(), event::Undecodable> {
        let (lsn, kind, version, body) = (record.lsn, record.kind, record.version, record.body);
        match kind {
            Placed::KIND => {
                let placed = event::decode::<Placed>(lsn, kind, version, body)?;
                let mut sold = self.sold.lock();
                for line in placed.order.prices.iter() {
                    let units = of_sku(&mut sold, line.sku_number.to_native());
                    *units += u64::from(line.quantity.to_native());
                }
            }
            Happened::KIND => {
                let happened = event::decode::<Happened>(lsn, kind, version, body)?;
                self.happened(happened, record.time_ms, engine, observed);
            }
            _ => {}
        }
        Ok(())
    }

    fn happened<S: Storage>(
        &self,
        happened: &ArchivedHappened,
        time_ms: u64,
        engine: &Engine<S>,
        observed: &Observed,
    ) {
        let order_id: &str = &happened.order_id;
        let placed_at = order_id.parse().ok().and_then(|id| engine.order_placed_at(&id));
        if let Some(placed_at) = placed_at {
            let age_ms = time_ms.saturating_sub(placed_at.millis());
            observed.order_reached(kind_of(&happened.fact), age_ms);
        }
        if let ArchivedFact::Cancellation { lines } = &happened.fact {
            let mut sold = self.sold.lock();
            for line in lines.iter() {
                if let Some(sku) = engine.sku_number_of(line.position.to_native()) {
                    let units = of_sku(&mut sold, sku);
                    *units = units.saturating_sub(u64::from(line.quantity.to_native()));
                }
            }
        }
    }

    /// The SKUs that sold most, the best first.
    pub fn best<S: Storage>(&self, engine: &Engine<S>, skus_max: usize) -> Vec<SkuSales> {
        let best = best_of(&self.sold.lock(), skus_max);
        let named = best.into_iter().filter_map(|(sold, number)| {
            let sku = engine.sku_name(number)?;
            let available = engine.stock(&sku).map_or(0, |stock| stock.available);
            let available = u64::try_from(available).unwrap_or(0);
            Some(SkuSales { sku: sku.to_string(), sold, available })
        });
        named.collect()
    }
}

fn waiting<S: Storage>(engine: &Engine<S>) -> Vec<OrdersWaiting> {
    let now_ms = engine.now().millis();
    let age_ms = |at: Timestamp| now_ms.saturating_sub(at.millis());
    let waiting = engine.waiting_orders().into_iter().map(|of| OrdersWaiting {
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
