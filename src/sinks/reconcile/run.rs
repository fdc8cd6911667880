//! One comparison after the other of one sink.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    judge::{Judgement, judge},
    lines::missing,
    read::{Reader, Reading},
};
use crate::{
    config::{self, Reconcile, SinkConfig},
    engine::{Engine, Reckoned},
    feed::{Progress, outstanding::Look},
    model::{
        Lsn, Timestamp,
        sink::reconciliation::{DRIFTS_MAX, Drift, Reconciliation, Unreconciled},
    },
    wal::Storage,
};

/// How long the newest seal may take to be on the disk.
const SEAL_WAIT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Reconciler<S: Storage> {
    engine: Engine<S>,
    sink: SinkConfig,
    config: Reconcile,
    progress: Arc<Progress>,
    reader: Reader,
    last: Mutex<Option<Arc<Reconciliation>>>,
    /// Of the last comparison that did not fail.
    unexplained: AtomicU64,
    under_way: tokio::sync::Mutex<()>,
}

/// A position at the ledger, and how the partner's was found.
struct Compared {
    lsn: Lsn,
    at: Lsn,
    reading: Reading,
    judgement: Judgement,
    committed: bool,
}

/// The log is held for a comparison while this lives.
struct Hold<'a, S: Storage>(&'a Engine<S>, String);

impl<S: Storage> Drop for Hold<'_, S> {
    fn drop(&mut self) {
        self.0.release_hold(&self.1);
    }
}

impl<S: Storage> Reconciler<S> {
    /// For a sink that is reconciled.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn new(
        engine: Engine<S>,
        sink: &SinkConfig,
        progress: Arc<Progress>,
    ) -> Result<Self, String> {
        let config = sink.reconcile.clone().ok_or("reconcile: is missing")?;
        let reader = Reader::new(sink, &config)?;
        let under_way = tokio::sync::Mutex::new(());
        let (last, unexplained) = (Mutex::new(None), AtomicU64::new(0));
        let sink = sink.clone();
        Ok(Self { engine, sink, config, progress, reader, last, unexplained, under_way })
    }

    /// What the last one came to.
    pub fn last(&self) -> Option<Arc<Reconciliation>> {
        self.last.lock().clone()
    }

    /// Figures that differ by what nothing explains, as last seen.
    pub fn unexplained(&self) -> u64 {
        self.unexplained.load(Ordering::Relaxed)
    }

    /// Compares now, unless that is under way.
    pub async fn run(&self) -> Result<Arc<Reconciliation>, Unreconciled> {
        let Ok(_running) = self.under_way.try_lock() else { return Err(Unreconciled::UnderWay) };
        let started_at = self.engine.now();
        let ms = self.config.run_ms_max;
        let compared = match timeout(Duration::from_millis(ms), self.compare()).await {
            Ok(compared) => compared,
            Err(_) => Err(format!("it took more than {ms} ms (`reconcile.run_ms_max`)")),
        };
        let report = Arc::new(self.report(started_at, compared));
        self.tell(&report);
        *self.last.lock() = Some(report.clone());
        Ok(report)
    }

    async fn compare(&self) -> Result<Compared, String> {
        let name = &self.sink.name;
        let before = self.progress.look();
        let hold = format!("reconcile of {name}");
        self.engine.hold_log(&hold, before.needs_from);
        let _hold = Hold(&self.engine, hold);
        let reading = self.reader.read().await.map_err(|error| error.to_string())?;
        let after = self.progress.look();
        let lsn = self.engine.log().durable().max(after.covers);
        let (engine, sink) = (self.engine.clone(), self.sink.clone());
        let compared =
            spawn_blocking(move || against_ledger(&engine, &sink, (&before, &after), lsn, reading));
        compared.await.map_err(|error| format!("it broke off: {error}"))?
    }

    fn report(&self, started_at: Timestamp, compared: Result<Compared, String>) -> Reconciliation {
        let (reason, compared) = match compared {
            Ok(compared) => (None, Some(compared)),
            Err(reason) => (Some(reason), None),
        };
        let (lsn, at) = compared.as_ref().map_or((Lsn(0), Lsn(0)), |c| (c.lsn, c.at));
        let committed_compared = compared.as_ref().is_some_and(|c| c.committed);
        let (reading, judgement) = compared.map(|c| (c.reading, c.judgement)).unwrap_or_default();
        let mut drifts = judgement.drifts;
        let count = |of: fn(&Drift) -> i64| drifts.iter().filter(|d| of(d) != 0).count() as u64;
        let unexplained = count(|drift| drift.unexplained);
        let (in_flight, dead) = (count(|d| d.in_flight), count(|d| d.dead_lettered));
        // Stable: by SKU within.
        drifts.sort_by_key(|drift| (drift.unexplained == 0, drift.dead_lettered == 0));
        let left_off = drifts.len().saturating_sub(DRIFTS_MAX) as u64;
        drifts.truncate(DRIFTS_MAX);
        let state = match (&reason, unexplained) {
            (Some(_), _) => "failed",
            (None, 0) => "agrees",
            (None, _) => "drift",
        };
        Reconciliation {
            sink: self.sink.name.clone(),
            state: state.to_owned(),
            reason,
            started_at,
            finished_at: self.engine.now(),
            lsn,
            compared_lsn: at,
            revision: reading.revision,
            readings: reading.readings,
            pages: reading.pages,
            positions: judgement.positions,
            positions_elsewhere: judgement.elsewhere,
            committed_compared,
            in_flight_positions: in_flight,
            dead_lettered_positions: dead,
            unexplained_positions: unexplained,
            drifts,
            drifts_left_off: left_off,
        }
    }

    /// Says what an operator must know.
    fn tell(&self, report: &Reconciliation) {
        let Reconciliation { sink, unexplained_positions: unexplained, .. } = report;
        if let Some(reason) = &report.reason {
            tracing::warn!(sink, reason, "the partner's stock was not compared");
            return;
        }
        self.unexplained.store(*unexplained, Ordering::Relaxed);
        match report.drifts.first().filter(|_| *unexplained > 0) {
            None => {
                tracing::info!(sink, positions = report.positions, "the partner's stock agrees")
            }
            Some(first) => tracing::error!(
                sink,
                unexplained,
                sku = %first.sku,
                location = first.location.as_ref().map_or("all", |l| l.as_str()),
                figure = first.figure,
                ledger = first.ledger,
                partner = first.partner,
                units = first.unexplained,
                "the partner's stock differs by what nothing explains"
            ),
        }
    }
}

fn against_ledger<S: Storage>(
    engine: &Engine<S>,
    sink: &SinkConfig,
    (before, after): (&Look, &Look),
    lsn: Lsn,
    reading: Reading,
) -> Result<Compared, String> {
    // What was sealed a moment ago can be read once it is on the disk.
    if let Some((_, newest)) = after.pending.iter().max_by_key(|(_, lsn)| *lsn) {
        let durable = engine.log().wait_durable_timeout(*newest, SEAL_WAIT);
        durable.map_err(|error| error.to_string())?;
    }
    let lines = missing(engine, &sink.name, before, after).map_err(|error| error.to_string())?;
    let mut ledger = engine.reckon(after.covers, lsn).map_err(|error| error.to_string())?;
    ledger.retain(|position| is_of(sink, position));
    let committed = reading.has_committed && sink.filter.locations.is_empty();
    let judgement = judge(ledger, &reading, &lines, committed);
    Ok(Compared { lsn, at: after.covers, reading, judgement, committed })
}

/// Whether a sink is told of a position.
fn is_of(sink: &SinkConfig, position: &Reckoned) -> bool {
    let (skus, locations) = (&sink.filter.skus, &sink.filter.locations);
    (skus.is_empty() || skus.iter().any(|skus| config::matches(skus, position.sku.as_str())))
        && (locations.is_empty() || locations.contains(&position.location))
}
