//! `holdfast serve`: the engine, the HTTP server before it and the sinks behind it, in one process.
//!
//! It listens at once and answers 503 `starting` until the log is recovered; then it prints one line
//! with its address. SIGTERM or SIGINT: no new requests, what was accepted is answered, deliveries
//! under way are ended, the log is closed. A second signal leaves at once, which loses nothing that
//! was acknowledged. A poisoned log ends it with exit code 4, since nothing can be promised any more.

use std::{io::Write, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use holdfast::{
    api,
    config::{Config, Overrides},
    delivery,
    engine::Engine,
    model::{
        configuration::{ConfigurationView, HistoryView, NotApplied, Proposal, VersionView},
        letter::Letter,
        sink::{
            LetterView, ParkedView, Release, SinkView,
            reconciliation::{Reconciliation, Unreconciled},
            wish::{By, Wish},
        },
        tally::Quota,
    },
    observe, sinks,
    telemetry::{Delivered, Observed},
    wal,
};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
};

use super::{
    Error, Outcome, Source,
    control::{self, Control, Origin},
    gateway, observer, options, partners, runtime,
};

/// Serve until told to stop.
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    source: Source,
    /// The data directory; without it the configured one.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The address to listen on; without it the configured one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

impl Serve {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let overrides = Overrides { data: self.data, listen: self.listen };
        let config = self.source.load(&overrides)?;
        let runtime = runtime(config.server.threads)?;
        let origin = Origin { file: self.source.config, overrides };
        let served = runtime.block_on(serve(&config, origin));
        // Whatever still runs after a poisoned log must not hold up the exit.
        runtime.shutdown_background();
        served.map(|()| Outcome::Good)
    }
}

async fn serve(config: &Config, origin: Origin) -> Result<(), Error> {
    let mut signals = Signals::new()?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Runtime)?;
    let running = tokio::select! {
        running = Running::start_from(config, origin) => running?,
        name = signals.next() => return Err(Error::Part {
            what: "the start",
            reason: format!("{name} came before it was done; nothing is lost"),
        }),
    };
    announce(&running, config).map_err(Error::Output)?;
    let name = loop {
        tokio::select! {
            name = signals.next() => break name,
            // SIGHUP: the file is read again.
            _ = hangup.recv() => running.reload(),
            poisoned = running.poisoned() => return Err(Error::Poisoned(poisoned)),
        }
    };
    tracing::info!("{name}: answering what was accepted, then stopping");
    tokio::select! {
        stopped = running.stop() => stopped,
        name = signals.next() => {
            tracing::warn!("{name} again: leaving at once; what was acknowledged is in the log");
            Err(Error::Part { what: "the shutdown", reason: "it was cut short".to_owned() })
        }
    }
}

fn announce(running: &Running, config: &Config) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let data = config.server.data.display();
    writeln!(out, "listening on {} (data in {data})", running.url())?;
    if let Some(gateway) = &running.gateway {
        tracing::info!(address = ?gateway.address(), socket = ?gateway.socket(), "serving gateways");
    }
    out.flush()
}

/// The signals that end a server.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on they do not kill the process.
    pub fn new() -> Result<Self, Error> {
        let on = |kind| signal(kind).map_err(Error::Runtime);
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The far end as the API shows it; empty once it is stopped. Clones are the same one.
#[derive(Clone)]
pub struct FarEnd(Arc<Parts>);

struct Parts {
    handle: Mutex<Option<Arc<delivery::Handle>>>,
    reconcilers: Mutex<Option<Arc<sinks::reconcile::Reconcilers>>>,
    engine: Engine,
    control: Control,
    front: api::State,
    observed: Arc<Observed>,
}

impl FarEnd {
    fn handle(&self) -> Option<Arc<delivery::Handle>> {
        self.0.handle.lock().clone()
    }

    fn reconcilers(&self) -> Option<Arc<sinks::reconcile::Reconcilers>> {
        self.0.reconcilers.lock().clone()
    }

    async fn apply(self, proposal: Proposal, by: By) -> Result<VersionView, NotApplied> {
        let Parts { engine, control, front, observed, .. } = &*self.0;
        // Before the handle, so that who waits for the end of this change has the last one.
        let _turn = control.turn().await.ok_or(NotApplied::Stopping)?;
        let handle = self.handle().ok_or(NotApplied::Stopping)?;
        let reconcilers = self.reconcilers().ok_or(NotApplied::Stopping)?;
        let (handle, reconcilers) = (&*handle, &*reconcilers);
        let far_end = control::FarEnd { engine, handle, reconcilers, front, observed };
        control.apply(&far_end, proposal, by).await
    }
}

impl api::Sinks for FarEnd {
    fn snapshot(&self) -> Vec<SinkView> {
        let mut views = self.handle().map(|handle| handle.snapshot()).unwrap_or_default();
        if let Some(reconcilers) = self.reconcilers() {
            reconcilers.fill(&mut views, self.0.engine.now().millis());
        }
        views
    }

    fn delivered(&self) -> Vec<Delivered> {
        self.handle().map(|handle| handle.delivered()).unwrap_or_default()
    }

    fn parked(&self, sink: &str) -> Option<Vec<ParkedView>> {
        self.handle()?.parked(sink)
    }

    fn release_parked(&self, sink: &str, order_id: &str) -> Option<Release> {
        self.handle()?.release_parked(sink, order_id)
    }

    fn letters(&self, sink: Option<&str>) -> Vec<LetterView> {
        self.handle().map(|handle| handle.letter_views(sink)).unwrap_or_default()
    }

    fn letter(&self, id: &str) -> Option<(LetterView, Arc<Letter>)> {
        self.handle()?.letter(id)
    }

    fn wish<'a>(&'a self, sink: &'a str, wish: Wish, by: By) -> api::Wishing<'a> {
        let handle = self.handle();
        Box::pin(async move { handle?.wish(sink, wish, by).await })
    }

    fn configuration(&self) -> Option<ConfigurationView> {
        Some(ConfigurationView { toml: self.0.control.shown() })
    }

    fn configurations(&self) -> HistoryView {
        Control::history(&self.0.engine)
    }

    fn configure<'a>(&'a self, proposal: Proposal, by: By) -> api::Configuring<'a> {
        // A task of its own: what is written down is applied, also if the caller goes away.
        let applied = tokio::spawn(self.clone().apply(proposal, by));
        Box::pin(async move { applied.await.unwrap_or(Err(NotApplied::Stopping)) })
    }

    fn reconcile<'a>(&'a self, sink: &'a str) -> api::Reconciling<'a> {
        let reconcilers = self.reconcilers();
        Box::pin(async move { reconcilers.ok_or(Unreconciled::Stopping)?.run(sink).await })
    }

    fn reconciliation(&self, sink: &str) -> Result<Arc<Reconciliation>, Unreconciled> {
        self.reconcilers().ok_or(Unreconciled::Stopping)?.last(sink)
    }
}

impl observe::FarEnd for FarEnd {
    fn views(&self) -> Vec<SinkView> {
        api::Sinks::snapshot(self)
    }

    fn delivered(&self) -> Vec<Delivered> {
        api::Sinks::delivered(self)
    }
}

/// A server that runs.
pub struct Running {
    address: SocketAddr,
    speaks_tls: bool,
    data: PathBuf,
    engine: Engine,
    far_end: FarEnd,
    gateway: Option<holdfast::gateway::Handle>,
    observer: observe::Observer,
    stop: oneshot::Sender<()>,
    http: JoinHandle<Result<(), api::Error>>,
}

impl Running {
    /// Listens, opens the engine, starts the sinks; done once requests are served.
    pub async fn start(config: &Config) -> Result<Self, Error> {
        Self::start_from(config, Origin::default()).await
    }

    /// The same with a configuration that can be read again.
    pub async fn start_from(config: &Config, origin: Origin) -> Result<Self, Error> {
        let server = &config.server;
        let partners = partners::partners(config, |name| std::env::var(name).ok())?;
        let observing = observer::options(config, |name| std::env::var(name).ok())?;
        let observed = Arc::new(observing.observed());
        let failed = |source| Error::Listen { address: server.listen, source };
        let listener = TcpListener::bind(server.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = api::State::with_partners(options::api(server), partners);
        let speaks_tls = server.tls.is_some();
        if let Some(tls) = &server.tls {
            use_tls(&state, &options::tls(tls))?;
        }
        if server.keys_in_log {
            state.require_keys();
        }
        state.set_configuration(config.clone().without_secrets().to_toml()?);
        state.observe(observed.clone());
        let gateway_options = gateway::options(&config.gateway);
        let doors = gateway::bind(&gateway_options, &state)?;
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { drop(stopped.await) };
        let http = tokio::spawn(api::serve(listener, state.clone(), shutdown));
        let engine = open(config).await?;
        partners::check_live(config, &engine)?;
        let control = Control::new(origin, config.clone());
        let far_end = start_sinks(config, &engine, control, (state.clone(), observed.clone()))?;
        let begun = far_end.0.control.started(&engine).await;
        begun.map_err(|e| Error::Part { what: "the configuration", reason: e.to_string() })?;
        let subject = observe::Subject {
            engine: engine.clone(),
            doors: vec![state.requests().clone(), state.gateway().requests().clone()],
            far_end: Arc::new(far_end.clone()),
            quotas: Arc::new(Counted(state.clone())),
        };
        let observer = observe::start(&observing, subject, &observed)
            .map_err(|e| Error::Part { what: "the observer", reason: e.to_string() })?;
        state.ready(engine.clone(), Arc::new(far_end.clone()));
        let gateway = gateway::serve(doors, gateway_options, &engine, &state)?;
        let data = server.data.clone();
        Ok(Self { address, speaks_tls, data, engine, far_end, gateway, observer, stop, http })
    }

    /// Reads the configuration's file again and applies it.
    fn reload(&self) {
        let by = By { who: "SIGHUP".into(), ..By::default() };
        let applied = self.far_end.clone().apply(Proposal::File, by);
        tokio::spawn(async move {
            if let Err(error) = applied.await {
                tracing::error!(%error, "the configuration was not read again");
            }
        });
    }

    /// Where it can be reached.
    pub fn url(&self) -> String {
        let scheme = if self.speaks_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Returns when the log can't be trusted any more, or the HTTP server has ended by itself.
    pub async fn poisoned(&self) -> wal::Poisoned {
        self.engine.log().wait_poisoned().await
    }

    /// Waits until every sink has everything that is durable now.
    pub async fn drain(&self, timeout: Duration) -> Result<(), Error> {
        let Some(handle) = self.far_end.handle() else { return Ok(()) };
        let drained = handle.drain(timeout).await;
        drained.map_err(|e| Error::Part { what: "the sinks", reason: e.to_string() })
    }

    /// Answers what was accepted, ends deliveries under way, closes the log.
    pub async fn stop(self) -> Result<(), Error> {
        // An error means that the server has ended already; its result says why.
        let _ = self.stop.send(());
        let (grace, gateway) = (self.far_end.0.control.grace(), self.gateway);
        let gateway = spawn_blocking(move || gateway.map(|gateway| gateway.stop(grace)));
        let served = self.http.await;
        // A defect of it has been told where it happened.
        let _ = gateway.await;
        self.observer.stop().await;
        // A change under way holds both.
        self.far_end.0.control.close().await;
        drop(self.far_end.0.reconcilers.lock().take());
        // Nobody drains any more, so that this is the only one.
        let handle = self.far_end.0.handle.lock().take().and_then(Arc::into_inner);
        if let Some(handle) = handle
            && let Err(error) = handle.shutdown(grace).await
        {
            tracing::warn!(%error, "deliveries were cut; they are repeated after the next start");
        }
        close(self.engine, self.data).await?;
        let failed = |reason: String| Error::Part { what: "the HTTP server", reason };
        served.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))
    }
}

/// The quotas of the API's partners, as the observer writes them down.
struct Counted(api::State);

impl observe::Quotas for Counted {
    fn counted(&self) -> Vec<Quota> {
        self.0.quotas()
    }

    fn go_on(&self, counted: Vec<Quota>) {
        self.0.go_on_with(counted);
    }
}

/// Has connections speak TLS, with files that are read again on a hangup.
fn use_tls(state: &api::State, options: &api::TlsOptions) -> Result<(), Error> {
    let failed = |e: api::TlsError| Error::Part { what: "TLS", reason: e.to_string() };
    let tls = Arc::new(api::Tls::new(options.clone()).map_err(failed)?);
    state.use_tls(tls.clone());
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Runtime)?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let tls = tls.clone();
            // One that panicked was told where it did.
            let _ = spawn_blocking(move || tls.reload_and_tell()).await;
        }
    });
    Ok(())
}

async fn open(config: &Config) -> Result<Engine, Error> {
    let path = config.server.data.clone();
    let options = options::engine(config);
    let opened = spawn_blocking(move || {
        Engine::open(&path, options).map_err(|source| Error::Engine { path, source })
    });
    opened.await.unwrap_or_else(|e| Err(panicked("opening the log", &e)))
}

async fn close(engine: Engine, path: PathBuf) -> Result<(), Error> {
    let closed =
        spawn_blocking(move || engine.close().map_err(|source| Error::Engine { path, source }));
    closed.await.unwrap_or_else(|e| Err(panicked("closing the log", &e)))
}

fn panicked(what: &'static str, error: &tokio::task::JoinError) -> Error {
    Error::Part { what, reason: error.to_string() }
}

fn start_sinks(
    config: &Config,
    engine: &Engine,
    control: Control,
    (front, observed): (api::State, Arc<Observed>),
) -> Result<FarEnd, Error> {
    let failed = |reason: String| Error::Part { what: "the sinks", reason };
    let runtime = tokio::runtime::Handle::current();
    let spans = observed.spans().cloned();
    let handle = sinks::start_traced(engine, config.sinks.clone(), &runtime, spans)
        .map_err(|e| failed(e.to_string()))?;
    engine.set_tax_codes(config.tax_codes());
    handle.set_freezes(config.freezes.clone());
    let reconcilers = sinks::reconcile::start(engine, &config.sinks, &handle, &runtime)
        .map_err(|(sink, reason)| failed(format!("{sink}: {reason}")))?;
    Ok(FarEnd(Arc::new(Parts {
        handle: Mutex::new(Some(Arc::new(handle))),
        reconcilers: Mutex::new(Some(Arc::new(reconcilers))),
        engine: engine.clone(),
        control,
        front,
        observed,
    })))
}
