//! `holdfast wal dump`: records of the archive and the log as JSON, one a line, with the names of SKUs and
//! locations as far as their definitions are still there.

use std::{
    io::{BufWriter, Write},
    ops::ControlFlow,
};

use clap::Args;
use holdfast::{
    engine::say::{self, KINDS},
    model::{Lsn, Timestamp},
    wal::Record,
};
use serde_json::json;

use super::{
    super::{Error, Outcome, records::Records},
    events::Names,
};

/// Dump a log.
#[derive(Debug, Args)]
pub struct Dump {
    #[command(flatten)]
    records: Records,
    /// The first position that is printed.
    #[arg(long, value_name = "LSN", default_value_t = 0)]
    from: u64,
    /// The most records that are printed.
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// Only records of this kind; may be given several times.
    #[arg(long, value_name = "KIND", value_parser = KINDS)]
    kind: Vec<String>,
}

impl Dump {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let mut out = BufWriter::new(std::io::stdout().lock());
        let mut names = Names::default();
        let (mut left, mut failed) = (self.limit, None);
        let inspection = self.records.find()?.1.inspect(&mut |record| {
            names.learn(record);
            if left == 0 {
                return ControlFlow::Break(());
            }
            if self.wants(record) {
                left -= 1;
                if let Err(error) = writeln!(out, "{}", line(record, &names)) {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        failed.map_or_else(|| out.flush(), Err).map_err(Error::Output)?;
        for rot in &inspection.rot {
            eprintln!("holdfast: {} at byte {} is damaged", rot.file.display(), rot.offset);
        }
        Ok(if inspection.rot.is_empty() { Outcome::Good } else { Outcome::Bad })
    }

    fn wants(&self, record: &Record<'_>) -> bool {
        record.lsn >= Lsn(self.from)
            && (self.kind.is_empty() || self.kind.iter().any(|k| k == say::name(record.kind)))
    }
}

fn line(record: &Record<'_>, names: &Names) -> serde_json::Value {
    let mut line = json!({
        "lsn": record.lsn,
        "at": Timestamp::from_millis(record.time_ms),
        "kind": say::name(record.kind),
    });
    match say::json(record, names) {
        Ok(event) => line["event"] = event,
        Err(reason) => {
            line["undecodable"] = reason.into();
            line["number"] = record.kind.into();
            line["version"] = record.version.into();
        }
    }
    line
}
