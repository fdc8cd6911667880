//! What all requests share: the engine once it is open, the sinks' view, the options, the counters.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};
use axum::http::HeaderValue;
use tokio::sync::Semaphore;

use super::{
    Options, Partners, Pass, Tls,
    backup::Backups,
    codes,
    directory::{Account, Directory, Known},
    live::Live,
    problem::Problem,
};
use crate::{
    engine::Engine,
    model::{
        configuration::{ConfigurationView, HistoryView, NotApplied, Proposal, VersionView},
        letter::Letter,
        signature::KeyHash,
        sink::{
            LetterView, ParkedView, Release, SinkView,
            reconciliation::{Reconciliation, Unreconciled},
            wish::{By, Denied, Granted, Wish},
        },
        tally::Quota,
    },
    telemetry::{Delivered, Gateway, Observed, Requests, Spans},
};

/// Readers of the log at once, on behalf of requests.
const LOG_READS_MAX: usize = 4;

/// What the far end shows of itself.
pub trait Sinks: Send + Sync {
    /// Every sink as it stands now, in the order of the configuration. Must not wait.
    fn snapshot(&self) -> Vec<SinkView>;

    /// How long records took to each partner. Must not wait.
    fn delivered(&self) -> Vec<Delivered> {
        Vec::new()
    }

    /// What a sink holds back until something else is booked, oldest first; `None` if there is no such
    /// sink. Must not wait.
    fn parked(&self, _sink: &str) -> Option<Vec<ParkedView>> {
        None
    }

    /// Asks a sink to release what it has parked of an order; `None` if there is no such sink. Must not
    /// wait.
    fn release_parked(&self, _sink: &str, _order_id: &str) -> Option<Release> {
        None
    }

    /// What lies dead, oldest first; at one sink or at all. Must not wait.
    fn letters(&self, _sink: Option<&str>) -> Vec<LetterView> {
        Vec::new()
    }

    /// A dead letter and its content. Must not wait.
    fn letter(&self, _id: &str) -> Option<(LetterView, Arc<Letter>)> {
        None
    }

    /// Asks a sink for something; answered when it is durable, with `None` if there is no such sink.
    fn wish<'a>(&'a self, _sink: &'a str, _wish: Wish, _by: By) -> Wishing<'a> {
        Box::pin(std::future::ready(None))
    }

    /// Compares a sink's partner's stock with the ledger's now, which may take as long as is configured.
    /// Goes on if the caller goes away.
    fn reconcile<'a>(&'a self, _sink: &'a str) -> Reconciling<'a> {
        Box::pin(std::future::ready(Err(Unreconciled::NoSink)))
    }

    /// The configuration in force, without secrets; `None` where there is none to be shown. Must not wait.
    fn configuration(&self) -> Option<ConfigurationView> {
        None
    }

    /// The configurations that were in force. Must not wait.
    fn configurations(&self) -> HistoryView {
        HistoryView::default()
    }

    /// Applies another configuration, all of it or nothing.
    fn configure<'a>(&'a self, _proposal: Proposal, _by: By) -> Configuring<'a> {
        Box::pin(std::future::ready(Err(NotApplied::Stopping)))
    }

    /// What the last comparison came to. Must not wait.
    fn reconciliation(&self, _sink: &str) -> Result<Arc<Reconciliation>, Unreconciled> {
        Err(Unreconciled::NoSink)
    }
}

/// The configuration that is in force, or why it was not changed, in time.
pub type Configuring<'a> =
    Pin<Box<dyn Future<Output = Result<VersionView, NotApplied>> + Send + 'a>>;

/// The answer to a wish, in time.
pub type Wishing<'a> = Pin<Box<dyn Future<Output = Option<Result<Granted, Denied>>> + Send + 'a>>;

/// The report of a comparison, in time.
pub type Reconciling<'a> =
    Pin<Box<dyn Future<Output = Result<Arc<Reconciliation>, Unreconciled>> + Send + 'a>>;

/// The far end of a server that has none.
pub struct NoSinks;

impl Sinks for NoSinks {
    fn snapshot(&self) -> Vec<SinkView> {
        Vec::new()
    }
}

/// The state of a server; clones are the same one.
#[derive(Clone)]
pub struct State(Arc<Shared>);

struct Shared {
    options: ArcSwap<Options>,
    directory: Directory,
    unauthenticated: AtomicU64,
    tls: OnceLock<Arc<Tls>>,
    ready: OnceLock<Ready>,
    draining: AtomicBool,
    in_flight: AtomicUsize,
    shed: AtomicU64,
    requests: Arc<Requests>,
    gateway: Arc<Gateway>,
    observed: OnceLock<Arc<Observed>>,
    request_ids: RequestIds,
    scans: Arc<Semaphore>,
    log_reads: Arc<Semaphore>,
    live: Live,
    backups: Backups,
}

struct Ready {
    engine: Engine,
    sinks: Arc<dyn Sinks>,
}

impl State {
    /// A state without an engine yet: requests get 503 `starting` until [`State::ready`].
    /// Without partners: no keys are asked for, no hooks are taken.
    pub fn new(options: Options) -> Self {
        Self::with_partners(options, Partners::default())
    }

    /// The same with partners.
    pub fn with_partners(options: Options, partners: Partners) -> Self {
        Self(Arc::new(Shared {
            options: ArcSwap::from_pointee(options),
            directory: Directory::new(partners),
            unauthenticated: AtomicU64::new(0),
            tls: OnceLock::new(),
            ready: OnceLock::new(),
            draining: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            shed: AtomicU64::new(0),
            requests: Arc::default(),
            gateway: Arc::default(),
            observed: OnceLock::new(),
            request_ids: RequestIds::new(),
            scans: Arc::new(Semaphore::new(1)),
            log_reads: Arc::new(Semaphore::new(LOG_READS_MAX)),
            live: Live::default(),
            backups: Backups::default(),
        }))
    }

    /// From here on requests are served. A second call changes nothing.
    pub fn ready(&self, engine: Engine, sinks: Arc<dyn Sinks>) {
        let _ = self.0.ready.set(Ready { engine, sinks });
    }

    /// What goes into backups from here on as the configuration: TOML, without secrets.
    pub fn set_configuration(&self, text: String) {
        self.0.backups.set_configuration(text);
    }

    pub(super) fn backups(&self) -> &Backups {
        &self.0.backups
    }

    /// From here on new requests get 503 `shutting_down`; those under way go on.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
        self.0.live.close();
    }

    /// Whether [`State::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::SeqCst)
    }

    /// The limits in force. Every request looks, so this takes no lock and shares no counter; what is
    /// looked at is not to be kept.
    pub fn options(&self) -> Guard<Arc<Options>> {
        self.0.options.load()
    }

    /// From here on requests are held to other limits, and those of connections count for new ones. Where
    /// it listens stays.
    pub fn set_options(&self, options: Options) {
        self.0.options.store(Arc::new(options));
    }

    /// The configuration's partners.
    pub(super) fn partners(&self) -> Arc<Partners> {
        self.0.directory.configured()
    }

    /// From here on the configuration has these partners; whose terms are as they were keeps what was
    /// counted.
    pub fn set_partners(&self, partners: Partners) {
        self.0.directory.configure(partners);
    }

    /// Who has the key of a hash now.
    pub(super) fn known(&self, key: &KeyHash) -> Option<Known> {
        self.0.directory.find(self.engine_if_ready(), key, || self.now_ms())
    }

    /// Every partner that may call.
    pub(super) fn accounts(&self) -> Vec<Arc<Account>> {
        self.0.directory.accounts(self.engine_if_ready())
    }

    /// What was counted of every partner that has a quota.
    pub fn quotas(&self) -> Vec<Quota> {
        let of = |account: Arc<Account>| {
            let (day, counted) = account.meter.counted()?;
            Some(Quota { partner: account.name.to_string(), day, counted })
        };
        self.accounts().into_iter().filter_map(of).collect()
    }

    /// Goes on with quotas that were counted before the start.
    pub fn go_on_with(&self, counted: Vec<Quota>) {
        self.0.directory.go_on(counted);
    }

    /// Rises with every change of partners.
    pub(super) fn partners_version(&self) -> u64 {
        self.0.directory.version(self.engine_if_ready())
    }

    /// Requests that came without a key that is good.
    pub(super) fn unauthenticated(&self) -> u64 {
        self.0.unauthenticated.load(Ordering::Relaxed)
    }

    pub(super) fn count_unauthenticated(&self) {
        self.0.unauthenticated.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the engine is open.
    pub(super) fn is_ready(&self) -> bool {
        self.0.ready.get().is_some()
    }

    fn engine_if_ready(&self) -> Option<&Engine> {
        self.0.ready.get().map(|ready| &ready.engine)
    }

    /// The engine's time; 0 before it is open. In milliseconds since the epoch.
    pub(super) fn now_ms(&self) -> u64 {
        self.engine_if_ready().map_or(0, |engine| engine.now().millis())
    }

    /// Requests under way that count against the limit.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::SeqCst)
    }

    /// Requests refused since too many were under way.
    pub(super) fn shed(&self) -> u64 {
        self.0.shed.load(Ordering::Relaxed)
    }

    /// The engine, or why there is none.
    pub(super) fn engine(&self) -> Result<&Engine, Problem> {
        let ready = self.0.ready.get().ok_or_else(|| Problem::new(&codes::STARTING))?;
        Ok(&ready.engine)
    }

    /// The sinks as they stand; none before the start is done.
    pub(super) fn sinks(&self) -> Vec<SinkView> {
        self.0.ready.get().map(|ready| ready.sinks.snapshot()).unwrap_or_default()
    }

    /// What a sink has parked; `None` if there is no such sink.
    pub(super) fn parked(&self, sink: &str) -> Option<Vec<ParkedView>> {
        self.0.ready.get()?.sinks.parked(sink)
    }

    /// Asks a sink to release what it has parked of an order; `None` if there is no such sink.
    pub(super) fn release_parked(&self, sink: &str, order_id: &str) -> Option<Release> {
        self.0.ready.get()?.sinks.release_parked(sink, order_id)
    }

    /// What lies dead, at one sink or at all.
    pub(super) fn letters(&self, sink: Option<&str>) -> Vec<LetterView> {
        self.0.ready.get().map(|ready| ready.sinks.letters(sink)).unwrap_or_default()
    }

    /// A dead letter and its content.
    pub(super) fn letter(&self, id: &str) -> Option<(LetterView, Arc<Letter>)> {
        self.0.ready.get()?.sinks.letter(id)
    }

    /// Asks a sink for something; `None` if there is no such sink.
    pub(super) async fn wish(
        &self,
        sink: &str,
        wish: Wish,
        by: By,
    ) -> Option<Result<Granted, Denied>> {
        self.0.ready.get()?.sinks.wish(sink, wish, by).await
    }

    /// Compares a sink's stock now.
    pub(super) async fn reconcile(&self, sink: &str) -> Result<Arc<Reconciliation>, Unreconciled> {
        let ready = self.0.ready.get().ok_or(Unreconciled::NoSink)?;
        ready.sinks.reconcile(sink).await
    }

    /// What the last comparison of a sink came to.
    pub(super) fn reconciliation(&self, sink: &str) -> Result<Arc<Reconciliation>, Unreconciled> {
        self.0.ready.get().ok_or(Unreconciled::NoSink)?.sinks.reconciliation(sink)
    }

    /// The configuration in force; `None` before the start is done.
    pub(super) fn configuration(&self) -> Option<ConfigurationView> {
        self.0.ready.get()?.sinks.configuration()
    }

    /// The configurations that were in force; `None` before the start is done.
    pub(super) fn configurations(&self) -> Option<HistoryView> {
        Some(self.0.ready.get()?.sinks.configurations())
    }

    /// Applies another configuration.
    pub(super) async fn configure(
        &self,
        proposal: Proposal,
        by: By,
    ) -> Result<VersionView, NotApplied> {
        self.0.ready.get().ok_or(NotApplied::Stopping)?.sinks.configure(proposal, by).await
    }

    /// From the next [`super::serve`] on connections speak TLS. A second call changes nothing.
    pub fn use_tls(&self, tls: Arc<Tls>) {
        let _ = self.0.tls.set(tls);
    }

    /// How connections speak TLS, if they do.
    pub(super) fn tls(&self) -> Option<&Arc<Tls>> {
        self.0.tls.get()
    }

    /// Whether callers need an API key.
    pub fn needs_keys(&self) -> bool {
        self.0.directory.needs_keys(self.engine_if_ready())
    }

    /// From here on callers need an API key, whether anybody has one or not: on an address that others
    /// reach.
    pub fn require_keys(&self) {
        self.0.directory.expose();
    }

    /// Lets a caller in who stays, if its API key is good or none is needed.
    pub fn pass(&self, api_key: &str) -> Option<Pass> {
        Pass::new(self, api_key)
    }

    /// The counters of the gateway beside this server, for `/metrics`.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.0.gateway
    }

    /// How requests were answered.
    pub fn requests(&self) -> &Arc<Requests> {
        &self.0.requests
    }

    /// The live view.
    pub(super) fn live(&self) -> &Live {
        &self.0.live
    }

    /// From here on it shows what is observed. A second call changes nothing.
    pub fn observe(&self, observed: Arc<Observed>) {
        let _ = self.0.observed.set(observed);
    }

    /// Where spans of requests go; nothing if traces are off.
    pub fn spans(&self) -> Option<&Arc<Spans>> {
        self.observed().and_then(Observed::spans)
    }

    /// What is observed, if anything is.
    pub(super) fn observed(&self) -> Option<&Observed> {
        self.0.observed.get().map(|observed| &**observed)
    }

    /// How long records took to each partner.
    pub(super) fn delivered(&self) -> Vec<Delivered> {
        self.0.ready.get().map(|ready| ready.sinks.delivered()).unwrap_or_default()
    }

    /// The one permit to scan the reservation table.
    pub(super) fn scans(&self) -> Arc<Semaphore> {
        self.0.scans.clone()
    }

    /// Permits to read the log for what happened before.
    pub(super) fn log_reads(&self) -> Arc<Semaphore> {
        self.0.log_reads.clone()
    }

    /// An id for a request that came without one.
    pub(super) fn new_request_id(&self) -> HeaderValue {
        self.0.request_ids.next()
    }

    /// Whether an id is one that this server made.
    pub(super) fn made_request_id(&self, id: &HeaderValue) -> bool {
        self.0.request_ids.has_made(id)
    }

    /// Takes a request in, or says why not.
    pub(super) fn admit(&self) -> Result<InFlight<'_>, Problem> {
        // Counted before the look at the flag: who drains sets the flag and then looks at the count,
        // so that it sees this request or this request sees the flag.
        let before = self.0.in_flight.fetch_add(1, Ordering::SeqCst);
        let admitted = InFlight(&self.0);
        if self.is_draining() {
            return Err(Problem::new(&codes::SHUTTING_DOWN));
        }
        if before >= self.options().in_flight_max {
            self.0.shed.fetch_add(1, Ordering::Relaxed);
            let detail = "too many requests are under way; nothing was changed";
            return Err(Problem::detailed(&codes::OVERLOADED, detail));
        }
        Ok(admitted)
    }
}

/// A request under way, until dropped.
pub(super) struct InFlight<'a>(&'a Shared);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ids for requests: random of this process, and a count.
struct RequestIds {
    process: u64,
    count: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        // Without randomness the ids are unique in this process only, which is what they must be.
        Self { process: getrandom::u64().unwrap_or_default(), count: AtomicU64::new(0) }
    }

    fn has_made(&self, id: &HeaderValue) -> bool {
        let digits = id.as_bytes().split_first_chunk::<16>().map(|(digits, _)| *digits);
        let digits = digits.and_then(|d| u64::from_str_radix(str::from_utf8(&d).ok()?, 16).ok());
        digits == Some(self.process)
    }

    fn next(&self) -> HeaderValue {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        HeaderValue::try_from(format!("{:016x}-{count:x}", self.process))
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }
}
