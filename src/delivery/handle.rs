//! Starting all sinks, watching them, draining and stopping them.

use std::{collections::HashSet, sync::Arc, thread, time::Duration};

use parking_lot::RwLock;
use tokio::{
    runtime,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use super::{Error, Partner, lanes::Lanes, partner::Exchangeable, retry, task};
use crate::{
    config::{Freeze, SinkConfig},
    engine::Engine,
    feed::{self, Progress},
    model::{
        Lsn, Timestamp,
        letter::Letter,
        sink::{
            LetterView, ParkedView, Release, SinkView,
            wish::{By, Denied, Granted, Wish},
        },
    },
    telemetry::{Delivered, Spans},
    wal::Storage,
};

/// How often a drain looks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// All sinks. Dropping it stops them without waiting.
pub struct Handle {
    sinks: Vec<Arc<Progress>>,
    threads: Vec<thread::JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
    controls: Vec<Control>,
    stop: watch::Sender<bool>,
    spans: Option<Arc<Spans>>,
    freezes: RwLock<Vec<Freeze>>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    durable: Box<dyn Fn() -> Lsn + Send + Sync>,
}

/// By which a sink is changed while it runs.
struct Control {
    partner: Arc<Exchangeable>,
    settings: watch::Sender<SinkConfig>,
}

/// Starts a thread and a task for each sink, without traces.
///
/// # Errors
/// As [`start_traced`].
pub fn start<S: Storage>(
    engine: &Engine<S>,
    sinks: Vec<(SinkConfig, Box<dyn Partner>)>,
    runtime: &runtime::Handle,
) -> Result<Handle, Error> {
    start_traced(engine, sinks, runtime, None)
}

/// Starts a thread and a task for each sink; what they do is told to `spans`, if traces are kept.
///
/// # Errors
/// Two sinks of one name; a sink whose place in the log is gone; no thread to be had. Nothing runs
/// then.
pub fn start_traced<S: Storage>(
    engine: &Engine<S>,
    sinks: Vec<(SinkConfig, Box<dyn Partner>)>,
    runtime: &runtime::Handle,
    spans: Option<Arc<Spans>>,
) -> Result<Handle, Error> {
    let mut names = HashSet::new();
    if let Some((twice, _)) = sinks.iter().find(|(sink, _)| !names.insert(sink.name.clone())) {
        return Err(Error::Twice(twice.name.clone()));
    }
    let (clock, log) = (engine.clone(), engine.clone());
    let mut handle = Handle {
        sinks: Vec::new(),
        threads: Vec::new(),
        tasks: Vec::new(),
        stop: watch::Sender::new(false),
        spans,
        controls: Vec::new(),
        freezes: RwLock::default(),
        now: Arc::new(move || clock.now()),
        durable: Box::new(move || log.log().durable()),
    };
    let mut states = engine.sink_states();
    for (config, partner) in sinks {
        let state = states.remove(&config.name).unwrap_or_default();
        let progress =
            Arc::new(Progress::new(&config.name, config.domain, config.letters_max, state));
        handle.add(engine, config, partner, progress, runtime)?;
    }
    Ok(handle)
}

impl Handle {
    fn add<S: Storage>(
        &mut self,
        engine: &Engine<S>,
        config: SinkConfig,
        partner: Box<dyn Partner>,
        progress: Arc<Progress>,
        runtime: &runtime::Handle,
    ) -> Result<(), Error> {
        let sink = config.name.clone();
        // Whatever may be under way has room, and none may be dropped.
        let (out, inbox) = mpsc::channel(Lanes::jobs_max(&config.policy));
        let (settings, shared) = (config.clone(), progress.clone());
        let traces = self.spans.is_some();
        let feed = feed::worker::Worker::new(engine.clone(), settings, shared, out, traces)
            .map_err(|source| Error::Feed { sink: sink.clone(), source })?;
        let thread = thread::Builder::new()
            .name(format!("feed-{sink}"))
            .spawn(move || feed.run())
            .map_err(|source| Error::Thread { sink, source })?;
        let stop = self.stop.subscribe();
        let partner = Arc::new(Exchangeable::new(partner));
        let settings = watch::Sender::new(config.clone());
        let delivery = task::Delivery {
            config,
            settings: settings.subscribe(),
            partner: partner.clone(),
            progress: progress.clone(),
            inbox,
            stop,
            now: self.now.clone(),
            dice: Box::new(retry::dice),
            spans: self.spans.clone(),
        };
        self.controls.push(Control { partner, settings });
        self.sinks.push(progress);
        self.threads.push(thread);
        self.tasks.push(runtime.spawn(delivery.run()));
        Ok(())
    }

    /// Each sink as an operator sees it.
    pub fn snapshot(&self) -> Vec<SinkView> {
        let now_ms = (self.now)().millis();
        self.sinks.iter().map(|sink| sink.view(now_ms)).collect()
    }

    /// How long records took to each partner, and how long others have been waiting.
    pub fn delivered(&self) -> Vec<Delivered> {
        let now_ms = (self.now)().millis();
        self.sinks.iter().map(|sink| sink.delivered(now_ms)).collect()
    }

    /// What a sink's feed and delivery tell each other; `None` if there is no such sink.
    pub fn progress(&self, sink: &str) -> Option<Arc<Progress>> {
        self.sinks.iter().find(|s| s.name() == sink).cloned()
    }

    /// What lies dead, by sink and name.
    pub fn letters(&self) -> Vec<(String, Arc<Letter>)> {
        let of = |sink: &Arc<Progress>| {
            let name = sink.name().to_owned();
            sink.letters().into_iter().map(move |letter| (name.clone(), letter))
        };
        self.sinks.iter().flat_map(of).collect()
    }

    /// Asks a sink for something, and waits until it is written down; `None` if there is no such sink.
    pub async fn wish(&self, sink: &str, wish: Wish, by: By) -> Option<Result<Granted, Denied>> {
        let sink = self.sinks.iter().find(|s| s.name() == sink)?;
        if let Some(frozen) = self.frozen(&wish, &by) {
            return Some(Err(frozen));
        }
        // No answer: it stopped before it came to it.
        Some(sink.wish(wish, by).await.unwrap_or(Err(Denied::Stopped)))
    }

    /// What lies dead, oldest first; at one sink or at all.
    pub fn letter_views(&self, sink: Option<&str>) -> Vec<LetterView> {
        let now_ms = (self.now)().millis();
        let wanted = self.sinks.iter().filter(|s| sink.is_none_or(|name| s.name() == name));
        let mut views: Vec<_> = wanted.flat_map(|sink| sink.letter_views(now_ms)).collect();
        views.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        views
    }

    /// A letter, and the bytes that were refused.
    pub fn letter(&self, name: &str) -> Option<(LetterView, Arc<Letter>)> {
        let now_ms = (self.now)().millis();
        self.sinks.iter().find_map(|sink| sink.letter_view(name, now_ms))
    }

    /// Replays and discards in these times are refused unless they are forced.
    pub fn set_freezes(&self, freezes: Vec<Freeze>) {
        *self.freezes.write() = freezes;
    }

    /// The freeze window that is open now.
    pub fn freeze(&self) -> Option<Freeze> {
        self.freezes.read().iter().find(|freeze| freeze.is_open((self.now)())).cloned()
    }

    /// What rendered the batches of a sink that may go out again, by version.
    pub(crate) fn renderings(&self, sink: &str) -> Vec<(u64, String)> {
        let progress = self.progress(sink);
        progress.map(|p| p.with_state(|state| state.configurations.clone())).unwrap_or_default()
    }

    /// From here on a sink's batches are brought by another partner and other settings, which must differ in
    /// those alone that a running sink takes. The partner is there before anything is sealed for it.
    pub fn reconfigure(&self, config: SinkConfig, partner: Box<dyn Partner>) {
        let named = |sink: &Arc<Progress>| sink.name() == config.name;
        let Some(at) = self.sinks.iter().position(named) else { return };
        if let (Some(control), Some(progress)) = (self.controls.get(at), self.sinks.get(at)) {
            control.partner.exchange(partner);
            progress.set_config(config.clone());
            control.settings.send_replace(config);
        }
    }

    fn frozen(&self, wish: &Wish, by: &By) -> Option<Denied> {
        let concerns = matches!(wish, Wish::Replay { .. } | Wish::Discard { .. });
        let forced = by.forced && !by.reason.trim().is_empty();
        let open = self.freeze()?;
        let frozen = || Denied::Frozen { until: open.until, reason: open.reason.clone() };
        (concerns && !forced).then(frozen)
    }

    /// What a sink holds back until something else is booked, oldest first; `None` if there is no such
    /// sink.
    pub fn parked(&self, sink: &str) -> Option<Vec<ParkedView>> {
        let now_ms = (self.now)().millis();
        self.sinks.iter().find(|s| s.name() == sink).map(|s| s.parked(now_ms))
    }

    /// Asks a sink to book what it has parked of an order as it is; `None` if there is no such sink.
    pub fn release_parked(&self, sink: &str, order_id: &str) -> Option<Release> {
        self.sinks.iter().find(|s| s.name() == sink).map(|s| s.release(order_id))
    }

    /// Closes windows at once and waits until every sink has everything that is durable now.
    ///
    /// # Errors
    /// The sinks that have not after `timeout`, and how they are.
    pub async fn drain(&self, timeout: Duration) -> Result<(), Error> {
        let target = (self.durable)();
        let deadline = Instant::now() + timeout;
        let _draining = Draining::new(&self.sinks);
        loop {
            let behind: Vec<_> =
                self.sinks.iter().filter(|sink| sink.acknowledged_lsn() < target).collect();
            if behind.is_empty() {
                return Ok(());
            }
            let broken =
                |sink: &Arc<Progress>| matches!(sink.condition(), feed::Condition::Broken(_));
            if Instant::now() >= deadline || behind.iter().all(|sink| broken(sink)) {
                let told =
                    |sink: &&Arc<Progress>| format!("{} ({:?})", sink.name(), sink.condition());
                return Err(Error::Timeout(behind.iter().map(told).collect()));
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }

    /// Makes no new attempts, lets those under way finish for up to `timeout`, writes down what
    /// became of them, and ends. What is not delivered is sent after the next start.
    ///
    /// # Errors
    /// Attempts that had to be given up: their batches are sent again.
    pub async fn shutdown(mut self, timeout: Duration) -> Result<(), Error> {
        self.stop.send_replace(true);
        let in_time = task::join(std::mem::take(&mut self.tasks), timeout).await;
        self.stop_feeds();
        let threads = std::mem::take(&mut self.threads);
        // Each ends within one pause, or the time that its last append waits for room.
        let joined = tokio::task::spawn_blocking(|| {
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        let ended = joined.await.is_ok();
        if in_time && ended {
            return Ok(());
        }
        Err(Error::Timeout(self.sinks.iter().map(|sink| sink.name().to_owned()).collect()))
    }

    fn stop_feeds(&self) {
        self.sinks.iter().for_each(|sink| sink.stop());
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.stop_feeds();
    }
}

/// Windows close at once while this lives.
struct Draining<'a>(&'a [Arc<Progress>]);

impl<'a> Draining<'a> {
    fn new(sinks: &'a [Arc<Progress>]) -> Self {
        sinks.iter().for_each(|sink| sink.set_draining(true));
        Self(sinks)
    }
}

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|sink| sink.set_draining(false));
    }
}
