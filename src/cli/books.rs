//! `holdfast books verify`: whether the entries of the finance sinks are what the log comes to.
//!
//! It reads the archive and the log of a stopped server and writes nothing. For each sink they are read twice
//! at once, the records here and the seals a step ahead on a thread of their own, so that memory does not grow
//! with the log: two unpacked segments, and four seals.

use std::{collections::BTreeSet, io::Write, ops::ControlFlow, sync::mpsc, thread};

use clap::{Args, Subcommand};
use holdfast::{
    config::{Domain, SinkConfig},
    feed::books::{Report, Verification},
    model::{
        Incarnation, Lsn,
        event::{self, Event, Seal},
    },
    wal::{Record, inspect::Inspection},
};
use rkyv::util::AlignedVec;
use serde::Deserialize;

use super::{
    Error, Outcome,
    records::{Log, Records},
};

/// Seals that may be read ahead of the records.
const SEALS_AHEAD: usize = 4;

/// `holdfast books …`.
#[derive(Debug, Subcommand)]
pub enum Books {
    /// Recompute every sealed finance entry from the log and its archive and check digests, chain,
    /// balances and postings; exit code 1 if something does not hold, with the entry named. What a
    /// person changed before a partner took it is listed. The server must be stopped.
    Verify(Verify),
}

impl Books {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        match self {
            Self::Verify(verify) => verify.run(),
        }
    }
}

/// Verify the books.
#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    records: Records,
}

impl Verify {
    fn run(self) -> Result<Outcome, Error> {
        let (config, log) = self.records.find()?;
        let (sinks, inspection) = finance_sinks(&log)?;
        let mut out = std::io::stdout().lock();
        let mut good = inspection.rot.is_empty();
        for rot in &inspection.rot {
            let (file, offset) = (rot.file.display(), rot.offset);
            writeln!(out, "DAMAGED: {file} at byte {offset} is not readable")
                .map_err(Error::Output)?;
        }
        if sinks.is_empty() {
            let begins = log.begins(inspection.begin);
            writeln!(out, "no finance sink has sealed anything that is still there: {begins}")
                .map_err(Error::Output)?;
        }
        for name in sinks {
            let same = |sink: &&SinkConfig| sink.name == name && sink.domain == Domain::Finance;
            let unknown = || SinkConfig::new(&name, Domain::Finance, "http://127.0.0.1/");
            let sink = config.sinks.iter().find(same).cloned().unwrap_or_else(unknown);
            let report = verify(&log, &sink, &inspection)?;
            good &= report.faults_count == 0;
            tell(&mut out, &name, &report).map_err(Error::Output)?;
            if report.beyond > 0 {
                let why = log.begins(inspection.begin);
                writeln!(out, "{name}: {} seals are not recomputed: {why}", report.beyond)
                    .map_err(Error::Output)?;
            }
        }
        Ok(if good { Outcome::Good } else { Outcome::Bad })
    }
}

/// The sinks whose seals are those of books.
fn finance_sinks(log: &Log) -> Result<(BTreeSet<String>, Inspection), Error> {
    #[derive(Deserialize)]
    struct Head {
        domain: Domain,
    }
    let mut sinks = BTreeSet::new();
    let inspection = log.inspect(&mut |record| {
        // One that does not decode is told when its sink is verified.
        if let Some(Ok(seal)) = seal_of(record)
            && !sinks.contains(&seal.sink)
            && serde_json::from_slice::<Head>(&seal.body)
                .is_ok_and(|head| head.domain == Domain::Finance)
        {
            sinks.insert(seal.sink);
        }
        ControlFlow::Continue(())
    });
    Ok((sinks, inspection?))
}

fn verify(log: &Log, sink: &SinkConfig, lives: &Inspection) -> Result<Report, Error> {
    let (out, seals) = mpsc::sync_channel(SEALS_AHEAD);
    let (ahead, name) = (log.clone(), sink.name.clone());
    let reader = thread::spawn(move || send_seals(&ahead, &name, &out));
    let life = |lsn| lives.incarnation_at(lsn).unwrap_or(Incarnation(0));
    let seals = seals.into_iter().map(|seal| seal.map(|(lsn, seal)| (life(lsn), seal)));
    let mut verification = Verification::new(sink, seals);
    log.inspect(&mut |record| {
        verification.record(record);
        ControlFlow::Continue(())
    })?;
    let report = verification.end();
    let panicked = || Error::Part { what: "reading the seals", reason: "it panicked".to_owned() };
    reader.join().map_err(|_| panicked())??;
    Ok(report)
}

fn send_seals(
    log: &Log,
    sink: &str,
    out: &mpsc::SyncSender<Result<(Lsn, Seal), String>>,
) -> Result<(), Error> {
    let sent = log.inspect(&mut |record| {
        let ours = seal_of(record).filter(|s| s.as_ref().map_or(true, |seal| seal.sink == sink));
        // Nobody listens any more where the records can't be read.
        let at = |seal: Result<Seal, String>| seal.map(|seal| (record.lsn, seal));
        match ours.is_none_or(|seal| out.send(at(seal)).is_ok()) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    });
    sent.map(drop)
}

/// The seal that a record is, or why it can't be read.
fn seal_of(record: &Record<'_>) -> Option<Result<Seal, String>> {
    if record.kind != Seal::KIND {
        return None;
    }
    let mut aligned = AlignedVec::<8>::new();
    aligned.extend_from_slice(record.body);
    let seal = event::decode::<Seal>(record.lsn, record.kind, record.version, &aligned);
    Some(seal.map(|seal| event::to_owned::<Seal>(seal).unpacked()).map_err(|why| why.to_string()))
}

fn tell(out: &mut impl Write, sink: &str, report: &Report) -> std::io::Result<()> {
    for fault in &report.faults {
        writeln!(out, "WRONG: {fault}")?;
    }
    let told = report.faults.len() as u64;
    if report.faults_count > told {
        writeln!(out, "WRONG: {} more", report.faults_count - told)?;
    }
    for mended in &report.mended {
        writeln!(out, "MENDED: {mended}")?;
    }
    if report.parked_beyond > 0 {
        writeln!(
            out,
            "{sink}: {} parked records lie before the log's begin; what their seals say of them was \
             taken",
            report.parked_beyond
        )?;
    }
    writeln!(
        out,
        "{sink}: {} seals, {} entries, {} records recomputed, {} parked, {} seals beyond the \
         begin; {} faults",
        report.seals,
        report.entries,
        report.records,
        report.parked,
        report.beyond,
        report.faults_count
    )
}
