//! `holdfast restore`: a data directory of a new life, made of a backup and looked through before it gets
//! its name; with the archive of the lost log it is brought forward, to the end or to a moment.
//!
//! The restored log is a new incarnation: what it seals from here on can't be taken for what the lost life
//! sealed. It knows nothing of what was delivered after the backup, so every sink begins paused, for a
//! person to compare first (docs/runbooks/restore.md).

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use clap::Args;
use holdfast::{
    config::Config,
    engine::{At, Engine, Status, say},
    model::{Lsn, Timestamp},
    wal::{
        FileStorage, Record,
        backup::{Aside, Forward, Manifest, Restored, Until, restore},
        inspect::inspect,
    },
};

use super::{DataDir, Error, Outcome, options};

/// Lost orders that are named; all are counted.
const ORDERS_TOLD: usize = 100;
/// Why the sinks are paused.
const REASON: &str = "restored from a backup: reconcile, then resume";

/// Restore a backup.
#[derive(Debug, Args)]
pub struct Restore {
    /// The backup's directory.
    from: PathBuf,
    #[command(flatten)]
    data: DataDir,
    /// The data directory that was replaced, if it can still be read: what is in its log and not restored
    /// is told.
    #[arg(long, value_name = "DIR")]
    lost: Option<PathBuf>,
    /// Bring the log forward from the backup on by what is in this directory: the archive of the lost log,
    /// or its data directory, whose last segments are not archived yet. May be given several times.
    #[arg(long, value_name = "DIR")]
    archive: Vec<PathBuf>,
    /// Only up to a record's position in the log, or before the first record that is later than a time
    /// (RFC 3339).
    #[arg(long, value_name = "LSN|TIME", requires = "archive")]
    until: Option<At>,
}

fn until(at: At) -> Until {
    match at {
        At::Lsn(lsn) => Until::Lsn(lsn),
        At::Time(time) => Until::TimeMs(time.millis()),
    }
}

impl Restore {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let config = self.data.load()?;
        let data = config.server.data.clone();
        let manifest = Manifest::read(&self.from).map_err(failed)?;
        let forward = Forward::new(&self.archive, self.until.map(until)).map_err(failed)?;
        let forward = (!self.archive.is_empty()).then_some(forward);
        let bytes = bytes_of(&manifest, forward.as_ref());
        let aside = Aside::create(&data, bytes).map_err(failed)?;
        let restored = copy(&self.from, aside.path(), forward.as_ref())?;
        let lost = self.lost.as_deref().map(|lost| Lost::read(lost, &restored)).transpose()?;
        let (status, sinks) = look_through(aside.path(), &config, &restored)?;
        aside.finish().map_err(failed)?;
        let mut out = std::io::stdout().lock();
        tell(&mut out, &data, &restored, &status, &sinks)
            .and_then(|()| lost.map_or(Ok(()), |lost| lost.tell(&mut out)))
            .map_err(Error::Output)?;
        Ok(if status.oversold == 0 { Outcome::Good } else { Outcome::Bad })
    }
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::Part { what: "the restore", reason: why.to_string() }
}

/// What the restored directory takes at least: its files whole, what comes behind them, and the first
/// segment of the new life.
fn bytes_of(manifest: &Manifest, forward: Option<&Forward>) -> u64 {
    let log = &manifest.log;
    let behind = |forward: &Forward| log.segments().last().map(|f| forward.segments_behind(f));
    let behind = forward.and_then(behind).unwrap_or(0);
    log.bytes().saturating_add(log.segment_bytes.saturating_mul(behind.saturating_add(2)))
}

fn copy(from: &Path, dir: &Path, forward: Option<&Forward>) -> Result<Restored, Error> {
    let storage = FileStorage::new(dir).map_err(failed)?;
    restore(from, &storage, forward).map_err(failed)
}

/// Reads every record, and opens the log as a start does; the sinks are paused.
fn look_through(
    dir: &Path,
    config: &Config,
    restored: &Restored,
) -> Result<(Status, BTreeSet<String>), Error> {
    read_all(dir)?;
    let opening = |source| Error::Engine { path: dir.to_owned(), source };
    let mut options = options::engine(config);
    options.wal.segment_bytes = restored.manifest.log.segment_bytes;
    // It is only looked at: what was brought forward may be more than the budget until the next checkpoint,
    // and what is archived is for the server to archive.
    let restored_bytes = restored.end.0.saturating_sub(restored.manifest.log.begin.0);
    options.wal.budget_bytes =
        options.wal.budget_bytes.saturating_add(restored_bytes.saturating_mul(2));
    options.wal.archive = None;
    let engine = Engine::open(dir, options).map_err(opening)?;
    let status = engine.status();
    let mut sinks: BTreeSet<String> = engine.sink_states().into_keys().collect();
    sinks.extend(config.sinks.iter().map(|sink| sink.name.clone()));
    engine.pause_sinks(sinks.iter().map(String::as_str), REASON).map_err(opening)?;
    engine.close().map_err(opening)?;
    Ok((status, sinks))
}

fn read_all(dir: &Path) -> Result<(), Error> {
    let mut undecodable = None;
    let inspection = inspect(dir, &mut |record| match say::decode(record) {
        Ok(()) => ControlFlow::Continue(()),
        Err(why) => {
            undecodable = Some(why);
            ControlFlow::Break(())
        }
    });
    let inspection = inspection.map_err(failed)?;
    match (undecodable, inspection.rot.first()) {
        (Some(why), _) => Err(failed(why)),
        (None, Some(rot)) => {
            Err(failed(format!("the log is not whole at position {} of the backup", rot.lsn)))
        }
        (None, None) => Ok(()),
    }
}

fn tell(
    out: &mut impl Write,
    data: &Path,
    restored: &Restored,
    status: &Status,
    sinks: &BTreeSet<String>,
) -> std::io::Result<()> {
    let Restored { manifest, incarnation, first, .. } = restored;
    let log = &manifest.log;
    writeln!(
        out,
        "{}: incarnation {incarnation}, restored from {} as of {}: log positions from {} up to {}; what \
         comes now begins at {first}",
        data.display(),
        log.incarnation,
        manifest.made_at,
        log.begin,
        restored.end
    )?;
    if let Some(brought) = restored.brought {
        let last = match brought.last_ms {
            0 => "none".to_owned(),
            last_ms => Timestamp::from_millis(last_ms).to_string(),
        };
        writeln!(
            out,
            "brought forward from {} up to {}: {} records, the last of {last}",
            log.end, brought.end, brought.records
        )?;
    }
    writeln!(
        out,
        "{} positions, {} orders, {} reservations, {} of them open, oversold {}",
        status.positions,
        status.orders,
        status.reservations,
        status.open_reservations,
        status.oversold
    )?;
    for sink in sinks {
        writeln!(out, "{sink}: paused ({REASON})")?;
    }
    Ok(())
}

/// What the log that was lost has and what was restored has not.
#[derive(Default)]
struct Lost {
    dir: PathBuf,
    /// Where what was restored ends.
    end: Lsn,
    kinds: BTreeMap<&'static str, u64>,
    orders: Vec<String>,
    orders_count: u64,
}

struct NoNames;

impl say::Names for NoNames {
    fn position(&self, _: u32) -> Option<(String, String)> {
        None
    }

    fn sku(&self, _: u32) -> Option<String> {
        None
    }
}

impl Lost {
    fn read(dir: &Path, restored: &Restored) -> Result<Self, Error> {
        let (end, manifest) = (restored.end, &restored.manifest);
        let mut lost = Self { dir: dir.to_owned(), end, ..Self::default() };
        let inspection = inspect(dir, &mut |record| {
            if record.lsn >= end {
                lost.add(record);
            }
            ControlFlow::Continue(())
        });
        let inspection =
            inspection.map_err(|source| Error::Log { path: dir.to_owned(), source })?;
        let life = inspection.incarnation_at(end).map(|life| life.to_string());
        if life.as_deref() != Some(&manifest.log.incarnation) {
            let (life, dir) = (life.unwrap_or_else(|| "none".to_owned()), dir.display());
            return Err(Error::Usage(format!(
                "--lost {dir}: its log is of incarnation {life}, the backup of {}",
                manifest.log.incarnation
            )));
        }
        Ok(lost)
    }

    fn add(&mut self, record: &Record<'_>) {
        *self.kinds.entry(say::name(record.kind)).or_default() += 1;
        let said = (say::name(record.kind) == "placed").then(|| say::json(record, &NoNames));
        if let Some(Ok(event)) = said
            && let Some(order) = event["order_id"].as_str()
        {
            self.orders_count += 1;
            if self.orders.len() < ORDERS_TOLD {
                self.orders.push(order.to_owned());
            }
        }
    }

    fn tell(&self, out: &mut impl Write) -> std::io::Result<()> {
        let end = self.end;
        let kinds: Vec<_> = self.kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let records: u64 = self.kinds.values().sum();
        let what = if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") };
        writeln!(out, "lost after {end}: {records} records ({what})")?;
        for order in &self.orders {
            writeln!(out, "lost order {order}")?;
        }
        if self.orders_count > self.orders.len() as u64 {
            writeln!(out, "and {} more", self.orders_count - self.orders.len() as u64)?;
        }
        let dir = self.dir.display();
        writeln!(out, "each: holdfast wal dump --data {dir} --from {end}")
    }
}
