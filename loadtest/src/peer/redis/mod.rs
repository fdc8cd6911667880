//! Redis, its append-only file synced before every answer: a script does the whole of a request, so that
//! nothing comes between its steps.

mod line;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use redis::{Client, Connection, ConnectionAddr, FromRedisValue, IntoConnectionInfo};
use rustix::process::Signal;

use super::{
    Error, Outbox, Peer, check, io,
    link::PeerLink,
    process::{Folder, Process, program},
    sweeper::{BATCH, Sweeper},
};
use crate::{
    plan::Plan,
    target::{Clock, Error as TargetError, Ledger, Link, SkuLedger, Target, share_of},
};
use line::{Dialer, Scripts};

const NAME: &str = "redis";
const PACKAGE: &str = "redis-server";
/// The other scripts.
const SETTLE: &str = include_str!("settle.lua");
const EXPIRE: &str = include_str!("expire.lua");
/// What is asked of the server in one go.
const PAGE: usize = 5_000;

/// A running Redis.
pub struct Redis {
    connections: u32,
    senders: u32,
    version: String,
    dial: Dialer,
    admin: Client,
    // Dropped in this order.
    sweeper: Option<Sweeper>,
    process: Process,
    folder: Folder,
}

/// Where its program is.
pub(super) fn find() -> Result<PathBuf, Error> {
    let missing = || Error::Missing { program: PACKAGE.to_owned(), package: PACKAGE };
    program(PACKAGE).ok_or_else(missing)
}

fn failed(error: redis::RedisError) -> TargetError {
    TargetError::Peer { name: NAME, reason: error.to_string() }
}

impl Redis {
    /// The script that holds.
    pub const HOLD: &str = include_str!("hold.lua");

    /// Starts one, with scripts that do the job.
    ///
    /// # Errors
    /// If it is missing, or does not come up.
    pub fn start(data: Option<&Path>, connections: u32, senders: u32) -> Result<Self, Error> {
        Self::start_with(data, connections, senders, Self::HOLD)
    }

    /// Starts one with another script for holds: a better one, or one that is to be caught.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn start_with(
        data: Option<&Path>,
        connections: u32,
        senders: u32,
        hold: &str,
    ) -> Result<Self, Error> {
        let (file, folder) = (find()?, Folder::new(data)?);
        let socket = folder.path().join("redis");
        let mut command = Command::new(file);
        command.args(["--port", "0", "--daemonize", "no", "--save", "", "--loglevel", "warning"]);
        // Every answer waits for the sync, as with `ack = "disk"`.
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--databases", "1"]);
        command.arg("--maxclients").arg((connections + 32).to_string());
        command.arg("--unixsocket").arg(&socket).arg("--dir").arg(folder.path());
        let mut process = Process::start(NAME, &mut command, &folder)?;
        let address = ConnectionAddr::Unix(socket.clone()).into_connection_info();
        let admin = address.and_then(Client::open).map_err(failed)?;
        process.await_ready(&folder, || ping(&admin).is_ok())?;
        let mut connection = admin.get_connection().map_err(failed)?;
        let scripts =
            Scripts { hold: load(&mut connection, hold)?, settle: load(&mut connection, SETTLE)? };
        let expire = load(&mut connection, EXPIRE)?;
        let version = version(&mut connection)?;
        let sweep = move || sweep(&mut connection, &expire);
        let sweeper = Some(Sweeper::start(NAME, sweep).map_err(io("starting the sweeper"))?);
        let dial = Dialer { socket, scripts };
        Ok(Self { connections, senders, version, dial, admin, sweeper, process, folder })
    }

    fn admin(&self) -> Result<Connection, TargetError> {
        self.admin.get_connection().map_err(failed)
    }
}

fn ping(client: &Client) -> redis::RedisResult<String> {
    redis::cmd("PING").query(&mut client.get_connection()?)
}

fn load(connection: &mut Connection, script: &str) -> Result<String, TargetError> {
    redis::cmd("SCRIPT").arg("LOAD").arg(script).query(connection).map_err(failed)
}

fn version(connection: &mut Connection) -> Result<String, TargetError> {
    let info: String = redis::cmd("INFO").arg("server").query(connection).map_err(failed)?;
    let line = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    Ok(line.unwrap_or("of an unknown version").to_owned())
}

fn sweep(connection: &mut Connection, script: &str) -> redis::RedisResult<u32> {
    let mut command = redis::cmd("EVALSHA");
    command.arg(script).arg(2).arg(line::OVERDUE).arg(line::OUTBOX).arg(BATCH);
    command.query(connection)
}

impl Target for Redis {
    fn name(&self) -> String {
        let Self { version, connections, .. } = self;
        format!("Redis {version} over a Unix socket, appendfsync always, {connections} connections")
    }

    fn prepare(&self, plan: &Plan) -> Result<(), TargetError> {
        check(NAME, plan)?;
        let mut connection = self.admin()?;
        let all: Vec<u32> = (0..plan.catalogue().skus).collect();
        for page in all.chunks(PAGE) {
            let mut pipe = redis::pipe();
            for sku in page {
                let stock = line::stock(&Plan::sku(*sku));
                pipe.cmd("HSET").arg(stock).arg("available").arg(plan.catalogue().stock).ignore();
            }
            pipe.query::<()>(&mut connection).map_err(failed)?;
        }
        Ok(())
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
        let mut connection = self.admin()?;
        let mut ledger = Ledger::default();
        let all: Vec<u32> = (0..plan.catalogue().skus).collect();
        for page in all.chunks(PAGE) {
            let mut pipe = redis::pipe();
            for sku in page {
                let command = pipe.cmd("HMGET").arg(line::stock(&Plan::sku(*sku)));
                command.arg("available").arg("held").arg("committed");
            }
            let found: Vec<[Option<i64>; 3]> = pipe.query(&mut connection).map_err(failed)?;
            for stock in found {
                let [available, held, committed] = stock.map(Option::unwrap_or_default);
                ledger.oversold += available.min(0).unsigned_abs();
                ledger.skus.push(SkuLedger { available, held, committed });
            }
        }
        Ok(ledger)
    }
}

/// An entry of the outbox: its id, and names and values in turn.
type Entry = (String, Vec<String>);

impl Peer for Redis {
    fn outbox(&self) -> Result<Outbox, TargetError> {
        let mut connection = self.admin()?;
        let (mut outbox, mut after) = (Outbox::default(), "-".to_owned());
        loop {
            let mut command = redis::cmd("XRANGE");
            command.arg(line::OUTBOX).arg(&after).arg("+").arg("COUNT").arg(PAGE);
            let value: redis::Value = command.query(&mut connection).map_err(failed)?;
            let page = Vec::<Entry>::from_redis_value(value)
                .map_err(|error| TargetError::Peer { name: NAME, reason: error.to_string() })?;
            let Some((last, _)) = page.last() else { return Ok(outbox) };
            after = format!("({last}");
            for (_, entry) in &page {
                let value = |name: &str| {
                    let mut pairs = entry.chunks_exact(2);
                    pairs.find(|pair| pair[0] == name).map_or("", |pair| pair[1].as_str())
                };
                outbox.take(value("kind"), value("key"), value("cart"));
            }
        }
    }

    fn stop(&mut self) -> Result<(), Error> {
        drop(self.sweeper.take());
        self.process.stop(Signal::TERM, &self.folder)
    }
}
