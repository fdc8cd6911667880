//! Reconciliation: an ERP's stock, read back and compared with the ledger's at a common position of the
//! log.
//!
//! # At which position
//!
//! What a partner has is a set of sealed lines: all of the batches that are acknowledged, none that is
//! not sealed, and of those between the two nobody knows. So the position where the two meet is the one
//! up to which the sink has *sealed* (`covers`): the ledger's stock there
//! ([`Engine::reckon`](crate::engine::Engine::reckon), exact to the record, from a checkpoint and the
//! log), less the lines that the partner lacks, is what it must say. What was sold since and is not
//! sealed can make no difference, however busy the sale; it is only told apart in the report.
//!
//! # Which lines it may lack
//!
//! The reading takes time, so the sink is looked at before and after it:
//!
//! - A line that lies dead after the reading, is not being sent again, and was refused with certainty
//!   was never taken: it is missing, for certain.
//! - A line may be missing or not, if its batch was under way before the reading or was sealed while it
//!   went on, or if its letter is uncertain, is being sent again, or was dealt with meanwhile.
//! - Every other sealed line was acknowledged before the reading began: it is there.
//!
//! A position's figure is explained if it is the ledger's less the certain lines less *some* choice of the
//! uncertain ones; lines are whole or absent, so with up to `judge::CHOICES_MAX` uncertain lines at a
//! position every choice is tried, and beyond that all sums between the least and the most count. The rest
//! is unexplained, to the unit: the distance to the nearest choice. Where sales run, an uncertain line of
//! just the size of a lost one can hide it in one comparison, but not in the next, when it is acknowledged.
//! So there is no false alarm while a sale runs, and a loss is found as soon as the position is quiet for
//! one comparison.
//!
//! Units on hand are compared at each location. Units sold and not shipped are compared over all locations
//! of a SKU, since an order may be shipped from another location than it was sold at, and a partner that
//! adds movements up then has them elsewhere than the ledger; not at all for a sink that is filtered by
//! location.
//!
//! Letters that were mended in quantity, or discarded, are deliberate differences: nothing in the log says
//! that the partner's figure was put right, so they are unexplained until it is.
//!
//! # What it costs and what bounds it
//!
//! It pauses nothing and asks the feed for one look at its state. While it runs it holds the log from what
//! the sink needed when it began. Pages, bytes, positions, repeats and times are bounded
//! ([`Reconcile`](crate::config::Reconcile)); a partner that answers garbage, hangs or lies about its pages
//! is an error in the report, never a figure.

mod judge;
mod lines;
mod read;
mod run;

use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::{runtime, task::JoinHandle};

use crate::{
    config::SinkConfig,
    delivery::Handle,
    engine::Engine,
    feed::Progress,
    model::sink::{
        SinkView,
        reconciliation::{Reconciliation, ReconciliationSummary, Unreconciled},
    },
    wal::{FileStorage, Storage},
};

use self::run::Reconciler;

/// All sinks' reconcilers. Dropping it ends them without waiting; nothing of them is written down.
pub struct Reconcilers<S: Storage = FileStorage> {
    sinks: RwLock<Vec<Scheduled<S>>>,
    runtime: runtime::Handle,
}

/// A sink's reconciler, if it has one, made and not at work.
pub struct Made<S: Storage> {
    sink: String,
    reconciler: Option<Arc<Reconciler<S>>>,
    every: Option<Duration>,
}

/// One at work, until dropped.
struct Scheduled<S: Storage> {
    sink: String,
    reconciler: Option<Arc<Reconciler<S>>>,
    task: Option<JoinHandle<()>>,
}

impl<S: Storage> Drop for Scheduled<S> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Makes reconcilers of the sinks that a far end runs, and a schedule for those that have one.
///
/// # Errors
/// The first sink whose `[sinks.reconcile]` is wrong: its name, and what is wrong.
pub fn start<S: Storage>(
    engine: &Engine<S>,
    sinks: &[SinkConfig],
    far_end: &Handle,
    runtime: &runtime::Handle,
) -> Result<Reconcilers<S>, (String, String)> {
    let made = sinks.iter().map(|config| {
        let made = make(engine, config, far_end.progress(&config.name));
        made.map_err(|reason| (config.name.clone(), reason))
    });
    let made = made.collect::<Result<_, _>>()?;
    let all = Reconcilers { sinks: RwLock::default(), runtime: runtime.clone() };
    all.replace(made, |_| false);
    Ok(all)
}

/// Makes the reconciler of a sink, which compares what `progress` says was sealed.
///
/// # Errors
/// What is wrong, beginning with the field.
pub fn make<S: Storage>(
    engine: &Engine<S>,
    config: &SinkConfig,
    progress: Option<Arc<Progress>>,
) -> Result<Made<S>, String> {
    let reconciler = match (&config.reconcile, progress) {
        (Some(_), Some(progress)) => {
            Some(Arc::new(Reconciler::new(engine.clone(), config, progress)?))
        }
        _ => None,
    };
    let every_ms = config.reconcile.as_ref().and_then(|reconcile| reconcile.every_ms);
    let every = every_ms.map(Duration::from_millis);
    Ok(Made { sink: config.name.clone(), reconciler, every })
}

async fn keep_reconciling<S: Storage>(reconciler: Arc<Reconciler<S>>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        // One that an operator asked for is as good.
        let _ = reconciler.run().await;
    }
}

impl<S: Storage> Reconcilers<S> {
    /// Puts what was made to work; of the others those go on that stay.
    pub fn replace(&self, made: Vec<Made<S>>, stays: impl Fn(&str) -> bool) {
        let mut sinks = self.sinks.write();
        sinks.retain(|one| stays(&one.sink) && made.iter().all(|new| new.sink != one.sink));
        for Made { sink, reconciler, every } in made {
            let keeps = reconciler.clone().zip(every);
            let task = keeps
                .map(|(reconciler, every)| self.runtime.spawn(keep_reconciling(reconciler, every)));
            sinks.push(Scheduled { sink, reconciler, task });
        }
    }

    fn of(&self, sink: &str) -> Result<Arc<Reconciler<S>>, Unreconciled> {
        let sinks = self.sinks.read();
        let found = sinks.iter().find(|one| one.sink == sink).ok_or(Unreconciled::NoSink)?;
        found.reconciler.clone().ok_or(Unreconciled::NotConfigured)
    }

    /// Compares a sink's stock now. Dropping the future doesn't end it.
    ///
    /// # Errors
    /// If there is nothing to compare, or a comparison is under way. One that fails is a report.
    pub async fn run(&self, sink: &str) -> Result<Arc<Reconciliation>, Unreconciled> {
        let reconciler = self.of(sink)?;
        let task = self.runtime.spawn(async move { reconciler.run().await });
        task.await.unwrap_or(Err(Unreconciled::Stopping))
    }

    /// What the last comparison of a sink came to.
    ///
    /// # Errors
    /// If there was none.
    pub fn last(&self, sink: &str) -> Result<Arc<Reconciliation>, Unreconciled> {
        self.of(sink)?.last().ok_or(Unreconciled::None)
    }

    /// Puts the last comparisons into views of the sinks; `now_ms` since the epoch.
    pub fn fill(&self, views: &mut [SinkView], now_ms: u64) {
        for view in views {
            view.reconciliation = self.of(&view.name).ok().and_then(|reconciler| {
                let last = reconciler.last()?;
                Some(ReconciliationSummary {
                    state: last.state.clone(),
                    finished_at: last.finished_at,
                    age_ms: now_ms.saturating_sub(last.finished_at.millis()),
                    unexplained_positions: reconciler.unexplained(),
                })
            });
        }
    }
}

#[cfg(test)]
mod tests;
