//! `holdfast wal verify`: what every segment of the archive and the log holds, and whether all that was
//! durable is readable: checksums, and that every record decodes.

use std::{io::Write, ops::ControlFlow};

use clap::Args;
use holdfast::{engine::say, wal::inspect::Inspection};

use super::super::{Error, Outcome, records::Records};

/// Records that do not decode and are told; all are counted.
const UNDECODABLE_TOLD: usize = 20;

/// Verify a log.
#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    records: Records,
}

impl Verify {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let mut undecodable = Vec::new();
        let mut undecodable_count = 0u64;
        let inspection = self.records.find()?.1.inspect(&mut |record| {
            if let Err(reason) = say::decode(record) {
                undecodable_count += 1;
                if undecodable.len() < UNDECODABLE_TOLD {
                    undecodable.push(reason);
                }
            }
            ControlFlow::Continue(())
        })?;
        let mut out = std::io::stdout().lock();
        tell(&mut out, &inspection, &undecodable, undecodable_count).map_err(Error::Output)?;
        let good = inspection.rot.is_empty() && undecodable_count == 0;
        Ok(if good { Outcome::Good } else { Outcome::Bad })
    }
}

fn tell(
    out: &mut impl Write,
    inspection: &Inspection,
    undecodable: &[String],
    undecodable_count: u64,
) -> std::io::Result<()> {
    for segment in &inspection.segments {
        writeln!(
            out,
            "{}: from {}, {} records, {} bytes, {} marks",
            segment.file.display(),
            segment.begin,
            segment.records,
            segment.record_bytes,
            segment.marks
        )?;
    }
    for rot in &inspection.rot {
        writeln!(
            out,
            "DAMAGED: {} at byte {} (log position {}) was durable and is not readable",
            rot.file.display(),
            rot.offset,
            rot.lsn
        )?;
    }
    for reason in undecodable {
        writeln!(out, "DAMAGED: {reason}")?;
    }
    if inspection.torn_bytes > 0 {
        writeln!(
            out,
            "{} bytes behind the end at {}: torn, or of an earlier use of the file; the next start cuts \
             them, and nothing acknowledged is in them",
            inspection.torn_bytes, inspection.end
        )?;
    }
    let records: u64 = inspection.segments.iter().map(|segment| segment.records).sum();
    let bytes: u64 = inspection.segments.iter().map(|segment| segment.record_bytes).sum();
    let life = inspection.incarnation.map_or("none".to_owned(), |life| life.to_string());
    writeln!(
        out,
        "incarnation {life}: {} segments, {records} records, {bytes} bytes, from {} to {}, durable \
         up to {}; {} damaged places, {undecodable_count} records that do not decode",
        inspection.segments.len(),
        inspection.begin,
        inspection.end,
        inspection.durable,
        inspection.rot.len()
    )
}
