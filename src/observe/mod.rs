//! The observer: looks at what the house does, once a second, and says what it means for the business.
//!
//! # What it promises
//!
//! - It stands behind the log like a sink: it reads what is durable and what the sinks tell of themselves,
//!   and holds up neither. A part of the log that is recycled before it was read is passed over, and
//!   counted.
//! - Service levels (`measure`), incidents and sales are kept in bounded memory ([`Observed`]), for
//!   `/metrics` and `/v1/service-levels`. Incidents begin anew with the process; the error budgets of
//!   service levels, and partners' quotas, are written down (`keep`) and go on.
//! - Whoever is configured to be alerted (`alerts`) is told of every change of what an operator must know
//!   (`conditions`), once, signed, and again until he has it or too many attempts were made.
//! - Spans go to a collector in batches (`otlp`); what it does not take in a few attempts is dropped.
//!
//! Nothing of it is of any consequence to a sale.

mod alert;
mod alerts;
mod conditions;
mod keep;
mod measure;
mod otlp;
mod sales;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::{
    config::{Alerts, ServiceLevelConfig, Telemetry},
    engine::Engine,
    model::{Lsn, sink::SinkView},
    telemetry::{Delivered, Observed, Promise, Requests, ServiceLevel, Spans},
    wal::Storage,
};
pub use alert::{AlertBody, AlertData, AlertKind};
use alerts::Alarms;
use conditions::Conditions;
use keep::{Keeper, LOOKS_A_TALLY};
pub use keep::{NoQuotas, Quotas};
use measure::Meter;
use sales::Sales;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// In so many looks it asks once whether anything was oversold, which walks all positions.
const LOOKS_A_WALK: u64 = 10;
/// At the end: how long alerts and spans that wait may take in all.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Why it can't begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration can't be used.
    #[error("{key}: {reason}")]
    Config {
        /// Which key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// No thread to be had.
    #[error("no thread for the observer: {0}")]
    Thread(#[from] std::io::Error),
}

/// The far end, as far as it is observed.
pub trait FarEnd: Send + Sync {
    /// Every sink as it stands now. Must not wait.
    fn views(&self) -> Vec<SinkView>;
    /// How long records took to each partner. Must not wait.
    fn delivered(&self) -> Vec<Delivered>;
}

/// What is configured of it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is observed, and where traces go.
    pub telemetry: Telemetry,
    /// What is promised.
    pub service_levels: Vec<ServiceLevelConfig>,
    /// Who is alerted.
    pub alerts: Alerts,
    /// The secret that signs alerts, wherever it stood; empty: they are not signed.
    pub alert_secret: String,
}

impl Options {
    /// Where what is observed is kept; nothing is yet.
    pub fn observed(&self) -> Observed {
        let of = &self.telemetry;
        let traces = !of.otlp_endpoint.is_empty();
        let spans = || Arc::new(Spans::new(of.otlp_queue_max as usize, of.otlp_sample_ratio));
        Observed::new(promises(&self.service_levels), traces.then(spans))
    }
}

/// What service levels promise.
pub fn promises(levels: &[ServiceLevelConfig]) -> Vec<Promise> {
    let promise = |level: &ServiceLevelConfig| Promise {
        name: level.name.clone(),
        objective: level.objective.as_str(),
        sink: level.sink.clone(),
        within_ms: level.within_ms,
        target_percent: level.target_percent,
        window_hours: level.window_hours,
    };
    levels.iter().map(promise).collect()
}

/// What is looked at.
pub struct Subject<S: Storage> {
    /// The engine.
    pub engine: Engine<S>,
    /// The requests, by the doors that they come in by.
    pub doors: Vec<Arc<Requests>>,
    /// The sinks.
    pub far_end: Arc<dyn FarEnd>,
    /// Partners' quotas.
    pub quotas: Arc<dyn Quotas>,
}

/// An observer at work. Dropped, it stops without waiting.
pub struct Observer {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    reader: Option<thread::JoinHandle<()>>,
}

/// Begins to observe, on this runtime and a thread of its own.
///
/// # Errors
/// If the configuration can't be used, or there is no thread to be had.
pub fn start<S: Storage>(
    options: &Options,
    subject: Subject<S>,
    observed: &Arc<Observed>,
) -> Result<Observer, Error> {
    let stop = watch::Sender::new(false);
    let alarms = Alarms::new(&options.alerts, &options.alert_secret, observed)?.map(Arc::new);
    let exporter = otlp::Exporter::new(&options.telemetry, observed, &subject.engine)?;
    let sales = Sales::new(options.telemetry.skus_max as usize);
    let reading = sales.read(subject.engine.clone(), observed.clone(), stop.subscribe());
    let reader = thread::Builder::new().name("observer".into()).spawn(reading)?;
    let mut tasks = Vec::new();
    if let Some(alarms) = alarms.clone() {
        tasks.push(tokio::spawn(alarms.run(stop.subscribe())));
    }
    if let Some(exporter) = exporter {
        tasks.push(tokio::spawn(exporter.run(stop.subscribe())));
    }
    let levels = observed.levels();
    let keeper = Keeper::new(&subject.engine, &levels, subject.quotas.clone(), now_s());
    let watcher = Watcher {
        keeper,
        meters: Vec::new(),
        start: subject.engine.log().durable(),
        began: Instant::now(),
        looks: 0,
        oversold: 0,
        conditions: Conditions::default(),
        observed: observed.clone(),
        subject,
        alarms,
    };
    tasks.push(tokio::spawn(watcher.run(stop.subscribe())));
    Ok(Observer { stop, tasks, reader: Some(reader) })
}

impl Observer {
    /// Ends it; alerts and spans that wait are tried once more, as far as the time allows.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + STOP_MAX;
        for mut task in std::mem::take(&mut self.tasks) {
            // One that has panicked has been told where it happened.
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
        if let Some(reader) = self.reader.take() {
            let joined = tokio::task::spawn_blocking(|| drop(reader.join()));
            let _ = joined.await;
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

struct Watcher<S: Storage> {
    subject: Subject<S>,
    observed: Arc<Observed>,
    meters: Vec<(Arc<ServiceLevel>, Meter)>,
    conditions: Conditions,
    keeper: Keeper,
    alarms: Option<Arc<Alarms>>,
    /// What was there when it began is below.
    start: Lsn,
    began: Instant,
    looks: u64,
    oversold: u64,
}

impl<S: Storage> Watcher<S> {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopped(&mut stop) => return self.end(),
                _ = ticks.tick() => self.look(),
            }
        }
    }

    /// Counts the events of service levels.
    fn measure(&mut self) -> Vec<SinkView> {
        let (views, delivered) = (self.subject.far_end.views(), self.subject.far_end.delivered());
        let before = std::mem::take(&mut self.meters);
        self.meters = metered(self.observed.levels(), before, self.start);
        for (level, meter) in &mut self.meters {
            let (good, total) = meter.read(&self.subject.doors, &views, &delivered);
            // What was there before anything was promised concerns no promise.
            if meter.has_looked() || self.looks == 0 {
                level.add(now_s(), good, total);
            }
            level.set_open(meter.open());
            meter.looked();
        }
        views
    }

    /// The last look: what was counted is to be there after the next start.
    fn end(&mut self) {
        self.measure();
        self.keeper.keep(&self.subject.engine, &self.observed.levels());
    }

    fn look(&mut self) {
        let views = self.measure();
        let engine = &self.subject.engine;
        if self.looks.is_multiple_of(LOOKS_A_TALLY) {
            self.keeper.keep(engine, &self.observed.levels());
        }
        let durable = engine.log().durable();
        self.observed.look_at(&views, durable, self.began.elapsed().as_secs_f64());
        if self.looks.is_multiple_of(LOOKS_A_WALK) {
            self.oversold = engine.status().oversold;
        }
        self.looks += 1;
        let (levels, log) = (self.observed.level_views(), engine.log().stats());
        let changes = self.conditions.look(&views, &levels, &log, self.oversold);
        if let Some(alarms) = &self.alarms {
            changes.into_iter().for_each(|change| alarms.raise(change, engine.now()));
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A meter for each service level: the one that it had, or a new one.
fn metered(
    levels: Vec<Arc<ServiceLevel>>,
    mut before: Vec<(Arc<ServiceLevel>, Meter)>,
    start: Lsn,
) -> Vec<(Arc<ServiceLevel>, Meter)> {
    let with_meter = |level: Arc<ServiceLevel>| {
        let at = before.iter().position(|(known, _)| Arc::ptr_eq(known, &level));
        let known = at.map(|at| before.swap_remove(at));
        Some(known.unwrap_or((level.clone(), Meter::new(&level, start)?)))
    };
    levels.into_iter().filter_map(with_meter).collect()
}

/// Also when nobody is left who could say it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
