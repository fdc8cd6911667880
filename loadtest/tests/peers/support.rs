//! A real server in this process, with its HTTP API and its gateway, and what is asked of a trial.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use holdfast::{
    Engine, Options,
    api::{self, NoSinks, State},
    client::Address,
    gateway::{self, Handle, Listeners, NoHouse},
    wal,
};
use holdfast_loadtest::{
    recording::Outcome,
    run::Progress,
    scenario::Scenario,
    trial::{Place, Protocol, Setup, Trial},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};

pub const SALE: &str = "[catalogue]\nskus = 20\nstock = 30\n[shoppers]\nthink_ms = [5, 60]\n\
                        abandon = 0.2\npayment_failure = 0.2\none_step = 0.2\nlines = [3, 1]\n\
                        quantity = [3, 1]\n[retries]\ntwice = 0.1\ntwice_after_ms = 4\n\
                        [sending]\nconnections = 8\nlag_p999_us_max = 60000000\n";

fn options() -> Options {
    Options {
        wal: wal::Options {
            segment_bytes: 1 << 20,
            budget_bytes: 128 << 20,
            ..wal::Options::default()
        },
        positions_max: 4_096,
        reservations_max: 1 << 15,
        keys_max: 1 << 16,
        orders_max: 1 << 15,
        customer_limits_max: 1 << 15,
        overdue_grace_ms: 0,
        ..Options::default()
    }
}

/// A server on a runtime of its own, that goes with it.
pub struct Server {
    pub engine: Engine,
    pub address: SocketAddr,
    pub socket: PathBuf,
    pub gateway: Option<Handle>,
    stop: Option<oneshot::Sender<()>>,
    runtime: Option<Runtime>,
    pub dir: Arc<tempfile::TempDir>,
}

impl Server {
    pub fn start() -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let engine = Engine::open(&dir.path().join("data"), options()).unwrap();
        let state = State::new(api::Options { shutdown_grace_ms: 100, ..api::Options::default() });
        state.ready(engine.clone(), Arc::new(NoSinks));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        runtime.spawn(api::serve(listener, state, async { drop(stopped.await) }));
        let socket = dir.path().join("gw");
        let gateway = Some(serve_gateway(&engine, &socket));
        let (stop, runtime) = (Some(stop), Some(runtime));
        Self { engine, address, socket, gateway, stop, runtime, dir }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn restart_gateway(&mut self) {
        self.gateway.take().unwrap().stop(Duration::ZERO);
        self.gateway = Some(serve_gateway(&self.engine, &self.socket));
    }

    pub fn setup(&self, gateway: Address, scenario: &Scenario) -> Setup {
        let place = Place::Gateway { url: self.url(), gateway, api_key: None };
        Setup { scenario: scenario.clone(), place, protocol: Protocol::Binary }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.stop(Duration::ZERO);
        }
        drop(self.stop.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
        let _ = self.engine.close();
    }
}

fn serve_gateway(engine: &Engine, socket: &std::path::Path) -> Handle {
    let options = gateway::Options {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        socket: Some(socket.to_owned()),
        ..gateway::Options::default()
    };
    let listeners = Listeners::bind(&options, false).unwrap();
    let counters = Default::default();
    gateway::start(listeners, engine.clone(), Arc::new(NoHouse), options, counters).unwrap()
}

pub fn tried(setup: &Setup) -> Trial {
    setup.try_at(1.0, &Progress::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// That the books agree, and that there is something in them.
#[track_caller]
pub fn agree(trial: &Trial) {
    assert!(trial.audited(), "{:#?}", trial.checks);
    let sold = trial.checks.iter().find(|c| c.what == "units sold: shoppers = ledger").unwrap();
    assert!(sold.expected > 100, "{sold:?}");
    let totals = trial.run.recording.totals();
    assert!(totals.count(Outcome::SoldOut) > 20, "{}", totals.count(Outcome::SoldOut));
    let failed = [Outcome::Error, Outcome::TimedOut, Outcome::Unsent].map(|o| totals.count(o));
    assert_eq!(failed, [0; 3]);
}

/// That a comparison failed, and which did.
#[track_caller]
pub fn caught(trial: &Trial, what: &str) {
    let failed: Vec<&str> =
        trial.checks.iter().filter(|c| !c.ok).map(|c| c.what.as_str()).collect();
    assert!(failed.iter().any(|failed| failed.contains(what)), "{failed:?}");
}
