//! PostgreSQL, every commit synced before it is told: a function does the whole of a request in one
//! transaction.

mod line;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, NoTls};

use super::{
    Error, Outbox, Peer, check, io,
    link::PeerLink,
    process::{Folder, Process, User},
    sweeper::{BATCH, Sweeper},
};
use crate::{
    plan::Plan,
    target::{Clock, Error as TargetError, Ledger, Link, SkuLedger, Target, share_of},
};
use line::Dialer;

const NAME: &str = "postgres";
const PACKAGE: &str = "postgresql";
/// Where Debian keeps a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Who runs it where the tester is root, which it refuses to be run by.
const USER: &str = "postgres";
/// The name of the socket, in a folder of its own.
const PORT: u16 = 5432;
/// Rows of the outbox that are asked for in one go.
const PAGE: i64 = 20_000;

/// A running PostgreSQL.
pub struct Postgres {
    connections: u32,
    senders: u32,
    version: String,
    dial: Dialer,
    admin: Admin,
    // Dropped in this order.
    sweeper: Option<Sweeper>,
    process: Process,
    folder: Folder,
}

/// A connection for what is not measured.
struct Admin {
    runtime: Runtime,
    client: Client,
}

/// The folder of the newest version's programs.
pub(super) fn find() -> Result<PathBuf, Error> {
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let numbered = versions.filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        let programs = entry.path().join("bin");
        programs.join("postgres").is_file().then_some((number, programs))
    });
    let missing =
        || Error::Missing { program: format!("{VERSIONS}/*/bin/postgres"), package: PACKAGE };
    numbered.max_by_key(|(number, _)| *number).map(|(_, bin)| bin).ok_or_else(missing)
}

fn failed(error: tokio_postgres::Error) -> TargetError {
    TargetError::Peer { name: NAME, reason: line::told(&error) }
}

impl Postgres {
    /// The schema and its functions.
    pub const SCHEMA: &str = include_str!("schema.sql");

    /// Starts one, with functions that do the job.
    ///
    /// # Errors
    /// If it is missing, or does not come up.
    pub fn start(data: Option<&Path>, connections: u32, senders: u32) -> Result<Self, Error> {
        Self::start_with(data, connections, senders, Self::SCHEMA)
    }

    /// Starts one with another schema: a better one, or one that is to be caught.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with(
        data: Option<&Path>,
        connections: u32,
        senders: u32,
        schema: &str,
    ) -> Result<Self, Error> {
        let (programs, folder) = (find()?, Folder::new(data)?);
        let user = User::unless_root(USER)?;
        user.map_or(Ok(()), |user| folder.give_to(user))?;
        let run = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
            user.into_iter().for_each(|user| user.run(&mut command));
            command
        };
        initialise(run("initdb"), &folder)?;
        let mut process =
            Process::start(NAME, &mut serve(run("postgres"), &folder, connections), &folder)?;
        process.end_by(Signal::QUIT);
        let config = config(folder.path());
        process.await_ready(&folder, || Admin::open(&config).is_ok())?;
        let admin = Admin::open(&config)?;
        admin.run(admin.client.batch_execute(schema))?;
        let version = admin.one_text("SHOW server_version")?;
        let sweeper = Sweeper::start(NAME, sweep(Admin::open(&config)?));
        let sweeper = Some(sweeper.map_err(io("starting the sweeper"))?);
        let dial = Dialer { config };
        Ok(Self { connections, senders, version, dial, admin, sweeper, process, folder })
    }
}

/// Makes its data.
fn initialise(mut command: Command, folder: &Folder) -> Result<(), Error> {
    command.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
    command.arg("--username").arg(USER).arg("--pgdata").arg(folder.path().join("data"));
    Process::start(NAME, &mut command, folder)?.await_end(folder)
}

/// What is said is what its makers recommend for a machine of its own and for nothing else; what an answer
/// waits for is on, as it is by default.
fn serve(mut command: Command, folder: &Folder, connections: u32) -> Command {
    command.arg("-D").arg(folder.path().join("data"));
    let sockets = format!("unix_socket_directories={}", folder.path().display());
    let connections = format!("max_connections={}", connections.saturating_add(16));
    for setting in [
        "fsync=on",
        "synchronous_commit=on",
        "full_page_writes=on",
        "listen_addresses=",
        "shared_buffers=256MB",
        "max_wal_size=4GB",
        "log_min_messages=fatal",
        &format!("port={PORT}"),
        &sockets,
        &connections,
    ] {
        command.arg("-c").arg(setting);
    }
    command
}

fn config(folder: &Path) -> Config {
    let mut config = Config::new();
    config.host_path(folder).port(PORT).user(USER).dbname("postgres");
    config
}

/// Lets holds run out.
fn sweep(admin: Admin) -> impl FnMut() -> Result<u32, TargetError> + Send + 'static {
    move || {
        for swept in 0..BATCH {
            let row = admin.run(admin.client.query_one("SELECT expire()", &[]))?;
            if !row.try_get::<_, bool>(0).map_err(failed)? {
                return Ok(swept);
            }
        }
        Ok(BATCH)
    }
}

impl Admin {
    fn open(config: &Config) -> Result<Self, TargetError> {
        let started = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            started.map_err(|error| TargetError::Peer { name: NAME, reason: error.to_string() })?;
        let client = runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await?;
            // How it ends is told to each request on it.
            tokio::spawn(async move { drop(connection.await) });
            Ok(client)
        });
        Ok(Self { client: client.map_err(failed)?, runtime })
    }

    fn run<T>(
        &self,
        asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, TargetError> {
        self.runtime.block_on(asked).map_err(failed)
    }

    fn one_text(&self, query: &str) -> Result<String, TargetError> {
        let row = self.run(self.client.query_one(query, &[]))?;
        row.try_get(0).map_err(failed)
    }
}

impl Target for Postgres {
    fn name(&self) -> String {
        let Self { version, connections, .. } = self;
        format!(
            "PostgreSQL {version} over a Unix socket, synchronous_commit on, {connections} connections"
        )
    }

    fn prepare(&self, plan: &Plan) -> Result<(), TargetError> {
        check(NAME, plan)?;
        let catalogue = plan.catalogue();
        let (last, units) =
            (i64::from(catalogue.skus).saturating_sub(1), i64::from(catalogue.stock));
        self.admin.run(self.admin.client.execute(
            "INSERT INTO stock (sku, available) \
             SELECT 'SKU-' || lpad(n::text, 7, '0'), $2 FROM generate_series(0::bigint, $1) n \
             ON CONFLICT (sku) DO UPDATE SET available = EXCLUDED.available",
            &[&last, &units],
        ))?;
        self.admin.run(self.admin.client.batch_execute("VACUUM ANALYZE")).map(drop)
    }

    fn link(
        &self,
        plan: &Arc<Plan>,
        clock: Clock,
        sender: u32,
    ) -> Result<Box<dyn Link>, TargetError> {
        let count = share_of(self.connections, self.senders, sender);
        let dial = self.dial.clone();
        Ok(Box::new(PeerLink::open(NAME, dial, count, plan.clone(), clock)?))
    }

    fn ledger(&self, plan: &Plan) -> Result<Ledger, TargetError> {
        let query = "SELECT sku, available, held, committed FROM stock";
        let rows = self.admin.run(self.admin.client.query(query, &[]))?;
        let mut ledger = Ledger::default();
        ledger.skus.resize(plan.catalogue().skus as usize, SkuLedger::default());
        for row in rows {
            let sku: &str = row.try_get(0).map_err(failed)?;
            let figure = |at: usize| row.try_get::<_, i64>(at).map_err(failed);
            let (available, held, committed) = (figure(1)?, figure(2)?, figure(3)?);
            ledger.oversold += available.min(0).unsigned_abs();
            let number = sku.strip_prefix("SKU-").and_then(|n| n.parse::<usize>().ok());
            if let Some(stock) = number.and_then(|number| ledger.skus.get_mut(number)) {
                *stock = SkuLedger { available, held, committed };
            }
        }
        Ok(ledger)
    }
}

impl Peer for Postgres {
    fn outbox(&self) -> Result<Outbox, TargetError> {
        let query = "SELECT id, kind, key, \
                     (SELECT string_agg(sku || '=' || unit, ',') FROM unnest(skus, units) AS u(sku, unit)) \
                     FROM outbox WHERE id > $1 ORDER BY id LIMIT $2";
        let (mut outbox, mut after) = (Outbox::default(), 0i64);
        loop {
            let rows = self.admin.run(self.admin.client.query(query, &[&after, &PAGE]))?;
            let Some(last) = rows.last() else { return Ok(outbox) };
            after = last.try_get(0).map_err(failed)?;
            for row in &rows {
                let text = |at: usize| row.try_get::<_, &str>(at).map_err(failed);
                outbox.take(text(1)?, text(2)?, text(3)?);
            }
        }
    }

    fn stop(&mut self) -> Result<(), Error> {
        drop(self.sweeper.take());
        self.process.stop(Signal::INT, &self.folder)
    }
}
