//! `holdfast export journal`: what a finance sink has sealed, for a ledger program.
//!
//! It reads the archive and the log of a stopped server and changes nothing. They are read twice: what became
//! of an entry stands behind its seal ([`Told`]). One that a person changed before the partner took it is
//! written as the partner was told, in the place where it was sealed, and says so. Memory holds the numbers of
//! batches without an answer or refused, what letters carried, and one batch at a time.

use std::{
    collections::BTreeMap,
    io::{BufWriter, StdoutLock, Write},
    ops::ControlFlow,
    path::Path,
};

use clap::{Args, ValueEnum};
use holdfast::{
    feed::told::Told,
    model::{
        Lsn, Timestamp,
        event::{Seal, Undecodable},
    },
    wal::{Record, inspect::Inspection},
};

use super::{
    super::{
        Error, Outcome,
        records::{Log, Records},
    },
    accounts,
    beancount::Beancount,
    hledger::Hledger,
    posted::{Batch, Entry, Sealed, seal_of},
    rows,
};

/// How the journal is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For hledger, with every account and commodity declared.
    Hledger,
    /// For beancount. Accounts get one of its five roots, by the words in their names; --account says
    /// otherwise.
    Beancount,
    /// A row a posting; amounts with the currency's decimals.
    Csv,
    /// A JSON object an entry; amounts in minor units.
    Jsonl,
}

/// Export the journal.
#[derive(Debug, Args)]
pub struct Journal {
    /// How it is written.
    #[arg(long, value_enum)]
    format: Format,
    /// The finance sink; needed where there are several.
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// What an account of the books is called in the output; may be given several times.
    #[arg(long, value_name = "ACCOUNT=NAME", value_parser = renamed)]
    account: Vec<(String, String)>,
    #[command(flatten)]
    records: Records,
}

fn renamed(text: &str) -> Result<(String, String), String> {
    let (from, to) = text.split_once('=').ok_or("must be ACCOUNT=NAME")?;
    Ok((from.to_owned(), to.to_owned()))
}

/// What the log says of a finance sink's batches.
#[derive(Debug, Default)]
struct Fates {
    first: Option<u64>,
    told: Told,
}

impl Journal {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        self.check_accounts()?;
        let (_, log) = self.records.find()?;
        let (fates, inspection) = fates(&log)?;
        let (sink, fates) = self.choose(fates, &log.begins(inspection.begin))?;
        let begin = fates.first.unwrap_or(1);
        if begin > 1 {
            eprintln!(
                "holdfast: this export begins with batch {begin} of sink {sink}; the {} before it are not in \
                 it: {}",
                begin - 1,
                log.begins(inspection.begin)
            );
        }
        let about = format!(
            "Holdfast: the journal of sink {sink}, from its batch {begin} on; times in UTC"
        );
        let mut out = Out::begin(self.format, &self.account, &about)?;
        each_record(&log, &mut |record| {
            let Some(seal) = seal_of(record)?.filter(|seal| seal.sink == sink) else {
                return Ok(());
            };
            out.seal(record.lsn, &seal, &fates.told)
        })?;
        out.end()?;
        Ok(Outcome::Good)
    }

    fn check_accounts(&self) -> Result<(), Error> {
        let wrong = |name: &str| {
            Error::Usage(format!("--account: `{name}` can't be the name of an account there"))
        };
        let fits = |name: &str| match self.format {
            Format::Beancount => accounts::is_beancount(name),
            Format::Hledger => accounts::hledger(name) == name,
            Format::Csv | Format::Jsonl => false,
        };
        if matches!(self.format, Format::Csv | Format::Jsonl) && !self.account.is_empty() {
            return Err(Error::Usage("--account goes with hledger and beancount".to_owned()));
        }
        self.account.iter().find(|(_, to)| !fits(to)).map_or(Ok(()), |(_, to)| Err(wrong(to)))
    }

    /// The sink that is meant.
    fn choose(
        &self,
        mut fates: BTreeMap<String, Fates>,
        begins: &str,
    ) -> Result<(String, Fates), Error> {
        let names = fates.keys().cloned().collect::<Vec<_>>().join(", ");
        let found = match &self.sink {
            Some(sink) => fates.remove_entry(sink),
            None if fates.len() == 1 => fates.pop_first(),
            None => None,
        };
        found.ok_or_else(|| match (names.is_empty(), &self.sink) {
            (true, _) => Error::Part {
                what: "the journal",
                reason: format!(
                    "no finance sink has sealed anything that is still there: {begins}"
                ),
            },
            (false, None) => {
                Error::Usage(format!("there are several finance sinks: {names}; say --sink"))
            }
            (false, Some(sink)) => {
                Error::Usage(format!("`{sink}` is no finance sink of this log; it has {names}"))
            }
        })
    }
}

/// What became of the batches of each finance sink.
fn fates(log: &Log) -> Result<(BTreeMap<String, Fates>, Inspection), Error> {
    let mut all: BTreeMap<String, Fates> = BTreeMap::new();
    // A seal that has nothing to send does not say what it is of, and may be a sink's first.
    let mut firsts: BTreeMap<String, u64> = BTreeMap::new();
    let inspection = each_record(log, &mut |record| {
        if let Some(seal) = seal_of(record)? {
            let is_finance = Batch::of(record.lsn, &seal)?.is_some();
            let first = *firsts.entry(seal.sink.clone()).or_insert(seal.number);
            if is_finance || all.contains_key(&seal.sink) {
                all.entry(seal.sink).or_default().first = Some(first);
            }
        }
        let wrong = |e: Undecodable| Error::Part { what: "the log", reason: e.to_string() };
        all.iter_mut().try_for_each(|(sink, fates)| fates.told.record(sink, record).map_err(wrong))
    })?;
    Ok((all, inspection))
}

/// Shows every record of archive and log to `each`, up to its first error.
fn each_record(
    log: &Log,
    each: &mut dyn FnMut(&Record<'_>) -> Result<(), Error>,
) -> Result<Inspection, Error> {
    let mut failed = None;
    let inspection = log.inspect(&mut |record| match each(record) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    match inspection.rot.first() {
        Some(rot) => Err(damaged(&rot.file, rot.lsn)),
        None => Ok(inspection),
    }
}

fn damaged(file: &Path, lsn: Lsn) -> Error {
    let reason = format!("{} is damaged at log position {lsn}", file.display());
    Error::Part { what: "the log", reason }
}

type Stdout = BufWriter<StdoutLock<'static>>;

/// The output in one of the formats.
enum Out {
    Hledger(Stdout, Hledger),
    Beancount(Stdout, Beancount),
    Csv(Box<csv::Writer<Stdout>>),
    Jsonl(Stdout),
}

impl Out {
    fn begin(format: Format, given: &[(String, String)], about: &str) -> Result<Self, Error> {
        let mut out = BufWriter::new(std::io::stdout().lock());
        Ok(match format {
            Format::Hledger => {
                let begun = Hledger::begin(&mut out, given, about).map_err(Error::Output)?;
                Self::Hledger(out, begun)
            }
            Format::Beancount => {
                let begun = Beancount::begin(&mut out, given, about).map_err(Error::Output)?;
                Self::Beancount(out, begun)
            }
            Format::Csv => {
                let mut out = Box::new(csv::Writer::from_writer(out));
                rows::begin_csv(&mut out)?;
                Self::Csv(out)
            }
            Format::Jsonl => Self::Jsonl(out),
        })
    }

    fn seal(&mut self, lsn: Lsn, seal: &Seal, told: &Told) -> Result<(), Error> {
        let Some(batch) = Batch::of(lsn, seal)? else { return Ok(()) };
        let sealed_at = Timestamp::from_millis(seal.sealed_at_ms);
        for (place, entry) in (0..).zip(&batch.entries) {
            let state = told.state(&entry.entry_id, seal.number, place);
            let mended = told.mended(&entry.entry_id);
            let sealed = Sealed { batch_id: &batch.batch_id, sealed_at, state, mended };
            self.entry(&sealed.shown(entry), &sealed)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, sealed: &Sealed<'_>) -> Result<(), Error> {
        match self {
            Self::Hledger(out, to) => to.entry(out, entry, sealed).map_err(Error::Output),
            Self::Beancount(out, to) => to.entry(out, entry, sealed).map_err(Error::Output),
            Self::Csv(out) => rows::csv_entry(out, entry, sealed),
            Self::Jsonl(out) => rows::json_entry(out, entry, sealed),
        }
    }

    fn end(self) -> Result<(), Error> {
        match self {
            Self::Hledger(mut out, _) | Self::Beancount(mut out, _) | Self::Jsonl(mut out) => {
                out.flush().map_err(Error::Output)
            }
            Self::Csv(mut out) => out.flush().map_err(Error::Output),
        }
    }
}
