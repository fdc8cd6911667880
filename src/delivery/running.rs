//! One sink that runs: its feed's thread and its delivery's task, which begin and end together.
//!
//! # What it promises
//!
//! - What can fail is done when a sink is [made](Made); that it begins can't fail. Only one that takes the
//!   place of another finds its own in the log when that has ended, and is broken if the log is damaged there.
//! - A sink that has ended leaves its [`Progress`] as the log has it: what its feed wrote is folded in, and
//!   nobody tells it anything any more. So the next one goes on from there as it would after a start. If it
//!   broke, the log is asked: what was not folded in then, only the log knows.

use std::{
    sync::{Arc, mpsc as threads},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime,
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{Error, Partner, lanes::Lanes, partner::Exchangeable, retry, task};
use crate::{
    config::SinkConfig,
    engine::{self, Engine},
    feed::{Batch, Condition, Progress, worker::Worker},
    model::{Lsn, Timestamp, sink::SinkState},
    telemetry::Spans,
    wal::Storage,
};

/// What every sink has around it.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub runtime: runtime::Handle,
    /// Where traces go, if they are kept.
    pub spans: Option<Arc<Spans>>,
    /// The time of day.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// A feed at its place in the log, and what the delivery hears of it.
struct Seat<S: Storage> {
    worker: Worker<S>,
    inbox: mpsc::Receiver<Batch>,
}

/// A sink that is made and has not begun; nothing comes of it if it is dropped.
pub(super) struct Made<S: Storage> {
    pub config: SinkConfig,
    pub progress: Arc<Progress>,
    partner: Box<dyn Partner>,
    /// None: the one whose place it takes still has it.
    seat: Option<Seat<S>>,
    go: threads::SyncSender<Worker<S>>,
    thread: thread::JoinHandle<()>,
}

impl<S: Storage> Made<S> {
    /// A sink that nobody runs.
    ///
    /// # Errors
    /// If the log no longer has what it needs, or there is no thread to be had.
    pub fn new(
        engine: &Engine<S>,
        (config, partner): (SinkConfig, Box<dyn Partner>),
        progress: Arc<Progress>,
        around: &Surroundings,
    ) -> Result<Self, Error> {
        let seat = Seat::take(engine, &config, &progress, around)?;
        let made = Self::successor((config, partner), progress)?;
        Ok(Self { seat: Some(seat), ..made })
    }

    /// A sink that takes the place of one that runs.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn successor(
        (config, partner): (SinkConfig, Box<dyn Partner>),
        progress: Arc<Progress>,
    ) -> Result<Self, Error> {
        let (go, begun) = threads::sync_channel::<Worker<S>>(1);
        let run = move || {
            if let Ok(worker) = begun.recv() {
                worker.run();
            }
        };
        let thread = thread::Builder::new().name(format!("feed-{}", config.name)).spawn(run);
        let thread =
            thread.map_err(|source| Error::Thread { sink: config.name.clone(), source })?;
        Ok(Self { config, progress, partner, seat: None, go, thread })
    }

    /// Begins where another has ended.
    pub async fn begin_anew(self, engine: &Engine<S>, around: &Surroundings) -> Running {
        let (log, progress) = (engine.clone(), self.progress.clone());
        let asked = tokio::task::spawn_blocking(move || of_log_if_broken(&log, &progress)).await;
        let asked = asked.map_err(|error| error.to_string());
        match asked.and_then(|of_log| of_log.map_err(|error| error.to_string())) {
            Ok(of_log) => self.progress.begin_anew(self.config.letters_max, of_log),
            Err(reason) => {
                let sink = &self.config.name;
                tracing::error!(sink, reason, "what the log says of the sink can't be read");
                self.progress.begin_anew(self.config.letters_max, None);
                self.progress.set_condition(Condition::Broken(reason));
            }
        }
        self.begin(engine, around)
    }

    /// Begins. Whose place it takes must have ended.
    pub fn begin(self, engine: &Engine<S>, around: &Surroundings) -> Running {
        let Self { config, progress, partner, seat, go, thread } = self;
        let seat = seat.map_or_else(|| Seat::take(engine, &config, &progress, around), Ok);
        let inbox = match seat {
            // The log does not say how it is.
            Ok(seat) if !matches!(progress.condition(), Condition::Broken(_)) => {
                // The thread waits for it.
                drop(go.send(seat.worker));
                seat.inbox
            }
            Ok(seat) => seat.inbox,
            Err(error) => {
                tracing::error!(sink = config.name, %error, "the sink can't go on");
                progress.set_condition(Condition::Broken(error.to_string()));
                mpsc::channel(1).1
            }
        };
        let stop = watch::Sender::new(false);
        let partner = Arc::new(Exchangeable::new(partner));
        let settings = watch::Sender::new(config.clone());
        let delivery = task::Delivery {
            config,
            settings: settings.subscribe(),
            partner: partner.clone(),
            progress: progress.clone(),
            inbox,
            stop: stop.subscribe(),
            now: around.now.clone(),
            dice: Box::new(retry::dice),
            spans: around.spans.clone(),
        };
        let task = around.runtime.spawn(delivery.run());
        let parts = Mutex::new(Some((thread, task)));
        Running { progress, partner, settings, stop, parts }
    }
}

impl<S: Storage> Seat<S> {
    fn take(
        engine: &Engine<S>,
        config: &SinkConfig,
        progress: &Arc<Progress>,
        around: &Surroundings,
    ) -> Result<Self, Error> {
        // Whatever may be under way has room, and none may be dropped.
        let (out, inbox) = mpsc::channel(Lanes::jobs_max(&config.policy));
        let (settings, shared) = (config.clone(), progress.clone());
        let worker = Worker::new(engine.clone(), settings, shared, out, around.spans.is_some());
        let failed = |source| Error::Feed { sink: config.name.clone(), source };
        Ok(Self { worker: worker.map_err(failed)?, inbox })
    }
}

/// See the module.
pub(super) struct Running {
    pub progress: Arc<Progress>,
    partner: Arc<Exchangeable>,
    settings: watch::Sender<SinkConfig>,
    stop: watch::Sender<bool>,
    /// Taken by who waits for its end.
    parts: Mutex<Option<(thread::JoinHandle<()>, JoinHandle<()>)>>,
}

impl Running {
    pub fn name(&self) -> &str {
        self.progress.name()
    }

    /// From here on batches are brought by another partner and other settings. The partner is there before
    /// anything is sealed for it.
    pub fn exchange(&self, config: SinkConfig, partner: Box<dyn Partner>) {
        self.partner.exchange(partner);
        self.progress.set_config(config.clone());
        self.settings.send_replace(config);
    }

    /// Asks it to end, and waits for nothing.
    pub fn stop(&self) {
        self.stop.send_replace(true);
        self.progress.stop();
    }
}

/// What the log says of a sink that has ended, if that broke; blocks.
pub(super) fn of_log_if_broken<S: Storage>(
    engine: &Engine<S>,
    progress: &Progress,
) -> Result<Option<(SinkState, Lsn)>, engine::Error> {
    match progress.condition() {
        Condition::Broken(_) => engine.sink_of_log(progress.name()).map(Some),
        Condition::Running | Condition::Paused(_) => Ok(None),
    }
}

/// Waits until what ended sinks left is on the disk: a batch that goes out next must be sealed there.
pub(super) async fn settle<S: Storage>(engine: &Engine<S>, sinks: &[Arc<Running>]) {
    let left = sinks.iter().map(|sink| sink.progress.folded());
    if let Some(last) = left.max().filter(|lsn| *lsn > Lsn(0)) {
        // A log that has stopped stops everything; whoever goes on hears of it.
        let _ = engine.log().wait_durable(last).await;
    }
}

/// Ends sinks: no new attempts are made, those under way may take up to `timeout`, what became of them is
/// written down. Whether none had to be given up.
pub(super) async fn end(sinks: &[Arc<Running>], timeout: Duration) -> bool {
    for sink in sinks {
        sink.stop.send_replace(true);
    }
    let parts = sinks.iter().filter_map(|sink| sink.parts.lock().take());
    let (feeds, deliveries): (Vec<_>, Vec<_>) = parts.unzip();
    let in_time = task::join(deliveries, timeout).await;
    sinks.iter().for_each(|sink| sink.progress.stop());
    // Each ends within one pause, or the time that its last append waits for room.
    let joined = tokio::task::spawn_blocking(|| {
        feeds.into_iter().for_each(|feed: thread::JoinHandle<()>| drop(feed.join()));
    });
    joined.await.is_ok() && in_time
}
