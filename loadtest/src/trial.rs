//! A trial: one plan carried out against one target, from stocking to the audit. What the subcommands
//! do is made of trials.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use holdfast::{Engine, Options, client::Address, wal};

use crate::{
    audit::{self, Check, Told},
    peer,
    plan::Plan,
    run::{self, Progress, Run},
    scenario::{self, Domain, Scenario},
    schedule,
    server::{self, Server},
    slo::{self, Verdict},
    target::{self, Asker, Batch, Binary, Http1, Http2, InProcess, Target},
};

/// How long a recorded interval is.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long lost answers are asked for after a run.
const AGAIN_PATIENCE: Duration = Duration::from_secs(60);
/// How long deliveries are waited for after a run.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(120);
/// The least that the engine in this process has room for.
const ROWS_MIN: u32 = 1_000_000;

/// Why a trial could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The scenario.
    #[error(transparent)]
    Scenario(#[from] scenario::Error),
    /// The schedule.
    #[error(transparent)]
    Schedule(#[from] schedule::Error),
    /// The tester's own server.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// The target.
    #[error(transparent)]
    Target(#[from] target::Error),
    /// A peer.
    #[error(transparent)]
    Peer(#[from] peer::Error),
    /// A running server's gateway is not known from its URL.
    #[error("the binary protocol of a running server needs the address of its gateway: --gateway")]
    NoGateway,
    /// The run.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// The log, looked at after the run.
    #[error("looking through the log: {0}")]
    Log(#[from] wal::Error),
    /// The engine in this process.
    #[error("the engine: {0}")]
    Engine(#[from] holdfast::Error),
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where the target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A server of the tester's own: the binary (else the one beside the tester), and the folder that
    /// its data goes into (else the system's).
    Own {
        /// The binary.
        binary: Option<PathBuf>,
        /// The folder.
        data: Option<PathBuf>,
    },
    /// A server that runs already.
    Url {
        /// Its address.
        url: String,
        /// What it is asked with.
        api_key: Option<String>,
    },
    /// A server that runs already and has a gateway, which is spoken to whatever the protocol.
    Gateway {
        /// The address of its HTTP API, which is asked before and after.
        url: String,
        /// Where its gateway listens.
        gateway: Address,
        /// What both are asked with.
        api_key: Option<String>,
    },
    /// The engine in this process, with its data in a folder in this one (else the system's).
    InProcess {
        /// The folder.
        data: Option<PathBuf>,
    },
    /// A peer of Holdfast, started for it, with its data in a folder in this one (else the system's).
    Peer {
        /// Which.
        kind: peer::Kind,
        /// The folder.
        data: Option<PathBuf>,
    },
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1, a request a connection at a time.
    #[default]
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
    /// The batch route over HTTP/1.1.
    Batch,
    /// The binary protocol, which the tester's own server listens for on a Unix socket.
    Binary,
}

/// What came out of a trial.
pub struct Trial {
    /// What was tested.
    pub target: String,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Shoppers, or arrivals, that were planned.
    pub planned: u64,
    /// What was measured.
    pub run: Run,
    /// The audit.
    pub checks: Vec<Check>,
    /// How long the sinks took after the run, if there are any.
    pub delivery: Option<Duration>,
    /// What the scenario asks for.
    pub verdicts: Vec<Verdict>,
    /// Whether the tester itself was too late.
    pub void: bool,
}

impl Trial {
    /// Whether the books agree.
    pub fn audited(&self) -> bool {
        audit::passed(&self.checks)
    }

    /// Whether it was served as well as the scenario asks.
    pub fn met(&self) -> bool {
        slo::met(&self.verdicts)
    }
}

/// A scenario and where it is tried.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The scenario.
    pub scenario: Scenario,
    /// Where.
    pub place: Place,
    /// How.
    pub protocol: Protocol,
}

impl Setup {
    /// Makes a trial with all rates multiplied by `scale`.
    ///
    /// # Errors
    /// If it can't be carried out. Books that differ, and demands that are not met, are no errors: they
    /// are in what comes out.
    pub fn try_at(&self, scale: f64, progress: &Progress) -> Result<Trial, Error> {
        let plan = Arc::new(Plan::new(&self.scenario, scale, &run_name())?);
        self.try_plan(plan, progress)
    }

    /// Makes a trial of a plan.
    ///
    /// # Errors
    /// As [`Setup::try_at`].
    pub fn try_plan(&self, plan: Arc<Plan>, progress: &Progress) -> Result<Trial, Error> {
        match &self.place {
            Place::Own { binary, data } => {
                let binary = server::binary(binary.as_deref())?;
                let server = Server::start(&binary, &self.scenario, &plan, data.as_deref())?;
                self.on_own(server, plan, progress)
            }
            Place::Url { url, api_key } => {
                let asker = Asker::new(url, api_key.as_deref())?;
                self.on_running(&*self.speak(asker.clone(), None)?, &asker, plan, progress)
            }
            Place::Gateway { url, gateway, api_key } => {
                let asker = Asker::new(url, api_key.as_deref())?;
                let api_key = api_key.clone().unwrap_or_default();
                let target = self.binary(asker.clone(), gateway.clone(), api_key);
                self.on_running(&target, &asker, plan, progress)
            }
            Place::InProcess { data } => self.in_process(data.as_ref(), plan, progress),
            Place::Peer { kind, data } => self.on_peer(*kind, data.as_deref(), plan, progress),
        }
    }

    /// `gateway` is where the server takes the binary protocol.
    fn speak(&self, asker: Asker, gateway: Option<Address>) -> Result<Box<dyn Target>, Error> {
        let sending = &self.scenario.sending;
        let (connections, senders) = (sending.connections, sending.senders);
        Ok(match self.protocol {
            Protocol::Http1 => Box::new(Http1 { asker, connections, senders }),
            Protocol::Http2 => Box::new(Http2 { asker, connections, senders }),
            Protocol::Batch => {
                Box::new(Batch { asker, connections, senders, batch_max: sending.batch_max })
            }
            Protocol::Binary => {
                let gateway = gateway.ok_or(Error::NoGateway)?;
                Box::new(self.binary(asker, gateway, String::new()))
            }
        })
    }

    fn binary(&self, asker: Asker, gateway: Address, api_key: String) -> Binary {
        let sending = &self.scenario.sending;
        let (connections, senders) = (sending.connections, sending.senders);
        Binary { asker, gateway, api_key, connections, senders }
    }

    fn on_running(
        &self,
        target: &dyn Target,
        asker: &Asker,
        plan: Arc<Plan>,
        progress: &Progress,
    ) -> Result<Trial, Error> {
        let (mut trial, _) = self.on(target, plan, progress, || {})?;
        trial.add_delivery(asker)?;
        Ok(trial)
    }

    fn on_own(
        &self,
        mut server: Server,
        plan: Arc<Plan>,
        progress: &Progress,
    ) -> Result<Trial, Error> {
        let asker = Asker::new(&server.url, None)?;
        let target = self.speak(asker.clone(), Some(Address::Unix(server.gateway())))?;
        let (mut trial, told) = self.on(&*target, plan, progress, || server.begin_outages())?;
        server.end_outages();
        trial.add_delivery(&asker)?;
        let inventory = server.received(Domain::Inventory);
        let finance = server.received(Domain::Finance);
        trial.checks.extend(audit::delivered(&trial.plan, &told, &inventory, &finance));
        let stopped = server.stop()?;
        trial.checks.extend(audit::log(&stopped.data(), &told)?);
        Ok(trial)
    }

    fn in_process(
        &self,
        data: Option<&PathBuf>,
        plan: Arc<Plan>,
        progress: &Progress,
    ) -> Result<Trial, Error> {
        let folder = match data {
            Some(data) => tempfile::TempDir::with_prefix_in("loadtest-", data),
            None => tempfile::TempDir::with_prefix("loadtest-"),
        };
        let folder =
            folder.map_err(|source| Error::Io { what: "making a folder for the log", source })?;
        let engine = Engine::open(folder.path(), self.options(&plan))?;
        let target = InProcess { engine: engine.clone() };
        let (mut trial, told) = self.on(&target, plan, progress, || {})?;
        engine.close()?;
        drop((target, engine));
        trial.checks.extend(audit::log(folder.path(), &told)?);
        Ok(trial)
    }

    fn on_peer(
        &self,
        kind: peer::Kind,
        data: Option<&Path>,
        plan: Arc<Plan>,
        progress: &Progress,
    ) -> Result<Trial, Error> {
        let sending = &self.scenario.sending;
        let peer = kind.start(data, sending.connections, sending.senders)?;
        self.against(peer, plan, progress)
    }

    /// Makes a trial of a plan against a peer that has been started for it.
    ///
    /// # Errors
    /// As [`Setup::try_at`].
    pub fn against(
        &self,
        mut peer: Box<dyn peer::Peer>,
        plan: Arc<Plan>,
        progress: &Progress,
    ) -> Result<Trial, Error> {
        let began = Instant::now();
        let (mut trial, told) = self.on(&*peer, plan, progress, || {})?;
        let outbox = peer.outbox()?;
        let expiring = began.elapsed() >= Duration::from_nanos(trial.plan.ttl());
        trial.checks.extend(audit::outbox(&told, &outbox, expiring));
        peer.stop()?;
        Ok(trial)
    }

    fn options(&self, plan: &Plan) -> Options {
        let ack = match self.scenario.server.ack {
            scenario::Ack::Disk => wal::Ack::Disk,
            scenario::Ack::Memory => wal::Ack::Memory,
        };
        let room = plan.shoppers().saturating_mul(2).max(ROWS_MIN);
        Options {
            wal: wal::Options { ack, ..wal::Options::default() },
            reservations_max: room,
            keys_max: room.saturating_mul(2),
            orders_max: room,
            customer_limits_max: room,
            ..Options::default()
        }
    }

    /// Stocks, sends, asks again, and compares with the ledger.
    fn on(
        &self,
        target: &dyn Target,
        plan: Arc<Plan>,
        progress: &Progress,
        started: impl FnOnce(),
    ) -> Result<(Trial, Told), Error> {
        target.prepare(&plan)?;
        let before = target.ledger(&plan)?;
        let began = Instant::now();
        let sending = &self.scenario.sending;
        let mut run = run::carry_out(target, &plan, sending, INTERVAL, progress, started)?;
        run::ask_again(target, &plan, &mut run.books, AGAIN_PATIENCE)?;
        let told = Told::of(&plan, &run.books);
        let after = target.ledger(&plan)?;
        let expiring = began.elapsed() >= Duration::from_nanos(plan.ttl());
        let checks = audit::ledger(&plan, &run.books, &told, &before, &after, expiring);
        let trial = Trial {
            target: target.name(),
            verdicts: slo::judge(&self.scenario.slo, &run.recording.totals()),
            void: run.is_void(sending),
            planned: planned(&plan, &run),
            plan,
            run,
            checks,
            delivery: None,
        };
        Ok((trial, told))
    }
}

impl Trial {
    pub(crate) fn add_delivery(&mut self, asker: &Asker) -> Result<(), Error> {
        let delivery = audit::wait_for_sinks(asker, DELIVERY_PATIENCE)?;
        if delivery.sinks > 0 {
            self.delivery = Some(delivery.took);
            self.checks.extend(delivery.checks);
        }
        Ok(())
    }
}

/// Shoppers of a plan: in a closed loop those who came.
fn planned(plan: &Plan, run: &Run) -> u64 {
    match plan.callers {
        None => plan.shoppers().into(),
        Some(_) => run.books.count(|fate| fate != run::Fate::Unsent),
    }
}

/// A name for a run that no earlier one has had: the time in base 36.
pub fn run_name() -> String {
    let mut rest = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_micros() as u64);
    let mut name = String::new();
    while rest > 0 {
        name.extend(char::from_digit((rest % 36) as u32, 36));
        rest /= 36;
    }
    name
}
