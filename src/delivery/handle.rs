//! Starting all sinks, watching them, draining and stopping them.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use tokio::{runtime, time::Instant};

use super::{
    Error, Partner,
    change::{check_kept, check_kept_of_log},
    running::{self, Made, Running, Surroundings},
};
use crate::{
    config::{Freeze, SinkConfig},
    engine::Engine,
    feed::{self, Progress},
    model::{
        Lsn,
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
    /// In the order of the configuration.
    sinks: RwLock<Vec<Arc<Running>>>,
    /// Those that went while the process ran, as their feeds left them.
    parted: Mutex<Vec<Arc<Progress>>>,
    around: Surroundings,
    freezes: RwLock<Vec<Freeze>>,
    durable: Box<dyn Fn() -> Lsn + Send + Sync>,
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
/// Two sinks of one name; a sink whose place in the log is gone, or that had another domain or, of finance, another
/// recognition; no thread to be had. Nothing runs then.
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
    let clock = engine.clone();
    let now = Arc::new(move || clock.now());
    let around = Surroundings { runtime: runtime.clone(), spans, now };
    let mut states = engine.sink_states();
    let made = sinks.into_iter().map(|(config, partner)| {
        let state = states.remove(&config.name).unwrap_or_default();
        check_kept_of_log(&state, &config)?;
        let progress = Progress::new(&config.name, config.domain, config.letters_max, state);
        Made::new(engine, (config, partner), Arc::new(progress), &around)
    });
    let made = made.collect::<Result<Vec<_>, _>>()?;
    let sinks = made.into_iter().map(|made| Arc::new(made.begin(engine, &around))).collect();
    let log = engine.clone();
    Ok(Handle {
        sinks: RwLock::new(sinks),
        parted: Mutex::default(),
        around,
        freezes: RwLock::default(),
        durable: Box::new(move || log.log().durable()),
    })
}

impl Handle {
    pub(super) fn around(&self) -> &Surroundings {
        &self.around
    }

    pub(super) fn sinks(&self) -> Vec<Arc<Running>> {
        self.sinks.read().clone()
    }

    pub(super) fn set_sinks(&self, sinks: Vec<Arc<Running>>) {
        *self.sinks.write() = sinks;
    }

    pub(super) fn sink(&self, name: &str) -> Option<Arc<Running>> {
        self.sinks.read().iter().find(|sink| sink.name() == name).cloned()
    }

    /// A sink that went.
    pub(super) fn parted(&self, name: &str) -> Option<Arc<Progress>> {
        self.parted.lock().iter().find(|progress| progress.name() == name).cloned()
    }

    pub(super) fn part_from(&self, progress: Arc<Progress>) {
        self.parted.lock().push(progress);
    }

    pub(super) fn forget_parted(&self, name: &str) {
        self.parted.lock().retain(|progress| progress.name() != name);
    }

    fn all(&self) -> Vec<Arc<Progress>> {
        self.sinks.read().iter().map(|sink| sink.progress.clone()).collect()
    }

    /// Whether sinks that run keep the domain of what they sealed, and finance when revenue is recognised.
    ///
    /// # Errors
    /// The first that does not: no start takes it either.
    pub fn check_kept_by(&self, sinks: &[SinkConfig]) -> Result<(), Error> {
        let of = |config: &SinkConfig| match self.progress(&config.name) {
            Some(progress) if progress.with_state(|state| state.last_number > 0) => {
                check_kept(&progress, config)
            }
            _ => Ok(()),
        };
        sinks.iter().try_for_each(of)
    }

    /// Each sink as an operator sees it.
    pub fn snapshot(&self) -> Vec<SinkView> {
        let now_ms = self.now_ms();
        self.all().iter().map(|sink| sink.view(now_ms)).collect()
    }

    /// How long records took to each partner, and how long others have been waiting.
    pub fn delivered(&self) -> Vec<Delivered> {
        let now_ms = self.now_ms();
        self.all().iter().map(|sink| sink.delivered(now_ms)).collect()
    }

    /// What a sink's feed and delivery tell each other; `None` if there is no such sink.
    pub fn progress(&self, sink: &str) -> Option<Arc<Progress>> {
        Some(self.sink(sink)?.progress.clone())
    }

    /// What lies dead, by sink and name.
    pub fn letters(&self) -> Vec<(String, Arc<Letter>)> {
        let of = |sink: &Arc<Progress>| {
            let name = sink.name().to_owned();
            sink.letters().into_iter().map(move |letter| (name.clone(), letter))
        };
        self.all().iter().flat_map(of).collect()
    }

    /// Asks a sink for something, and waits until it is written down; `None` if there is no such sink.
    pub async fn wish(&self, sink: &str, wish: Wish, by: By) -> Option<Result<Granted, Denied>> {
        let sink = self.progress(sink)?;
        if let Some(frozen) = self.frozen(&wish, &by) {
            return Some(Err(frozen));
        }
        // No answer: it stopped before it came to it.
        Some(sink.wish(wish, by).await.unwrap_or(Err(Denied::Stopped)))
    }

    /// What lies dead, oldest first; at one sink or at all.
    pub fn letter_views(&self, sink: Option<&str>) -> Vec<LetterView> {
        let (now_ms, all) = (self.now_ms(), self.all());
        let wanted = all.iter().filter(|s| sink.is_none_or(|name| s.name() == name));
        let mut views: Vec<_> = wanted.flat_map(|sink| sink.letter_views(now_ms)).collect();
        views.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        views
    }

    /// A letter, and the bytes that were refused.
    pub fn letter(&self, name: &str) -> Option<(LetterView, Arc<Letter>)> {
        let now_ms = self.now_ms();
        self.all().iter().find_map(|sink| sink.letter_view(name, now_ms))
    }

    /// Replays and discards in these times are refused unless they are forced.
    pub fn set_freezes(&self, freezes: Vec<Freeze>) {
        *self.freezes.write() = freezes;
    }

    /// The freeze window that is open now.
    pub fn freeze(&self) -> Option<Freeze> {
        self.freezes.read().iter().find(|freeze| freeze.is_open((self.around.now)())).cloned()
    }

    /// What rendered the batches of a sink that may go out again, by version; of one that went, too.
    pub(crate) fn renderings(&self, sink: &str) -> Option<Vec<(u64, String)>> {
        let progress = self.progress(sink).or_else(|| self.parted(sink))?;
        Some(progress.with_state(|state| state.configurations.clone()))
    }

    fn now_ms(&self) -> u64 {
        (self.around.now)().millis()
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
        self.progress(sink).map(|sink| sink.parked(self.now_ms()))
    }

    /// Asks a sink to book what it has parked of an order as it is; `None` if there is no such sink.
    pub fn release_parked(&self, sink: &str, order_id: &str) -> Option<Release> {
        self.progress(sink).map(|sink| sink.release(order_id))
    }

    /// Closes windows at once and waits until every sink has everything that is durable now.
    ///
    /// # Errors
    /// The sinks that have not after `timeout`, and how they are.
    pub async fn drain(&self, timeout: Duration) -> Result<(), Error> {
        let target = (self.durable)();
        let deadline = Instant::now() + timeout;
        let draining = Draining::new(self.all());
        loop {
            let behind: Vec<_> =
                draining.0.iter().filter(|sink| sink.acknowledged_lsn() < target).collect();
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
    pub async fn shutdown(self, timeout: Duration) -> Result<(), Error> {
        let sinks = self.sinks();
        if running::end(&sinks, timeout).await {
            return Ok(());
        }
        Err(Error::Timeout(sinks.iter().map(|sink| sink.name().to_owned()).collect()))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.sinks.read().iter().for_each(|sink| sink.stop());
    }
}

/// Windows close at once while this lives.
struct Draining(Vec<Arc<Progress>>);

impl Draining {
    fn new(sinks: Vec<Arc<Progress>>) -> Self {
        sinks.iter().for_each(|sink| sink.set_draining(true));
        Self(sinks)
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        self.0.iter().for_each(|sink| sink.set_draining(false));
    }
}
