//! Everything that the demo runs in its one process: the server as `serve` would start it, on a free
//! loopback port, and the two receivers that stand in for ERP and finance.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use holdfast::{
    config::{Ack, ByteSize, Config, Domain, SinkConfig},
    sinks::receiver::{Behaviour, Receiver},
};

use super::{
    super::{Error, server::Running},
    sale,
};

/// How long a receiver thinks about a batch.
const RECEIVER_LATENCY: Duration = Duration::from_millis(100);
/// A window closes after so many milliseconds.
const WINDOW_MS: u64 = 250;

/// What can be chosen about it.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// The data directory; absent: a temporary one.
    pub data: Option<&'a Path>,
    /// When requests are answered.
    pub ack: Ack,
    /// Requests a second that each receiver takes.
    pub partner_rate: u32,
    /// Visits that are planned.
    pub visits: usize,
}

/// The running house.
pub struct House {
    /// The server.
    pub server: Running,
    /// The stand-in of the ERP.
    pub erp: Receiver,
    /// The stand-in of finance.
    pub finance: Receiver,
    /// The data directory; last, so that it goes when nothing uses it any more.
    data: DataDir,
}

impl House {
    /// Starts it.
    pub async fn start(choice: Choice<'_>) -> Result<Self, Error> {
        let data = DataDir::new(choice.data)?;
        let erp = receiver(choice.partner_rate).await?;
        let finance = receiver(choice.partner_rate).await?;
        let mut config = config(choice, &data.path)?;
        config.sinks = vec![
            sink("erp", Domain::Inventory, &erp, choice.partner_rate),
            sink("finance", Domain::Finance, &finance, choice.partner_rate),
        ];
        let server = Running::start(&config).await?;
        Ok(Self { server, erp, finance, data })
    }

    /// Where the data lies.
    pub fn data(&self) -> &Path {
        &self.data.path
    }

    /// Stops everything; a temporary directory is removed.
    pub async fn stop(self) -> Result<(), Error> {
        self.server.stop().await
    }
}

async fn receiver(rate_per_s: u32) -> Result<Receiver, Error> {
    let behaviour = Behaviour {
        rate_per_s: Some(rate_per_s),
        latency: RECEIVER_LATENCY,
        ..Behaviour::default()
    };
    Receiver::start(behaviour)
        .await
        .map_err(|e| Error::Part { what: "a receiver", reason: e.to_string() })
}

fn sink(name: &str, domain: Domain, receiver: &Receiver, rate_per_s: u32) -> SinkConfig {
    SinkConfig {
        window_ms_max: WINDOW_MS,
        // A little below what the receiver takes, as one would agree with a partner.
        rate_per_s: Some(f64::from(rate_per_s) * 0.9),
        retry_max_ms: 1_000,
        ..SinkConfig::new(name, domain, receiver.url())
    }
}

fn config(choice: Choice<'_>, data: &Path) -> Result<Config, Error> {
    let mut config = Config::default();
    config.server.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.server.data = data.to_owned();
    config.log.ack = choice.ack;
    config.log.segment_bytes = ByteSize::mib(16);
    config.log.budget_bytes = ByteSize::mib(4 * 1024);
    config.engine.checkpoint_bytes = ByteSize::mib(64);
    let (near, far) = sale::locations()?;
    config.engine.sourcing = vec![near, far];
    // Room for what is planned, three keys each, without taking what a large shop would.
    let visits = u32::try_from(choice.visits).unwrap_or(u32::MAX).max(10_000);
    config.engine.reservations_max = visits.saturating_mul(2);
    config.engine.orders_max = visits.saturating_mul(2);
    config.engine.keys_max = visits.saturating_mul(4);
    config.engine.customer_limits_max = visits.saturating_mul(2);
    Ok(config)
}

/// A data directory that must be empty at the start, since the demo's books begin at zero.
struct DataDir {
    path: PathBuf,
    temporary: bool,
}

impl DataDir {
    fn new(given: Option<&Path>) -> Result<Self, Error> {
        match given {
            Some(path) => Self::given(path),
            None => Self::temporary(),
        }
    }

    fn given(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed)?;
        if fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(Error::Usage(format!(
                "{}: is not empty; the demo reconciles from zero and needs a directory of its own",
                path.display()
            )));
        }
        Ok(Self { path: path.to_owned(), temporary: false })
    }

    fn temporary() -> Result<Self, Error> {
        let parent = std::env::temp_dir();
        let id = getrandom::u64().map_err(|e| Error::Usage(e.to_string()))?;
        let path = parent.join(format!("holdfast-demo-{id:016x}"));
        fs::create_dir(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        Ok(Self { path, temporary: true })
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "was not removed");
        }
    }
}
