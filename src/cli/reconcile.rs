//! `holdfast reconcile`: an ERP's stock against the ledger's, on a running server.

use std::io::{BufWriter, Write};

use clap::Args;
use holdfast::model::sink::reconciliation::{Drift, Reconciliation};
use reqwest::Method;

use super::{
    Error, Outcome,
    ask::{Server, read},
};

/// Exits with 1 if something is unexplained, or if there was nothing to compare with.
#[derive(Debug, Args)]
pub struct Reconcile {
    /// The sink whose partner's stock is read back.
    #[arg(long)]
    sink: String,
    /// Show what the last comparison came to, rather than make one.
    #[arg(long)]
    last: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Reconcile {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let (method, what) = match self.last {
            true => (Method::GET, "reconciliation"),
            false => (Method::POST, "reconcile"),
        };
        let said = self.server.call(method, &["v1", "sinks", &self.sink, what], &[])?;
        let report = read::<Reconciliation>(said.clone())?;
        let mut out = BufWriter::new(std::io::stdout().lock());
        let written = match self.json {
            true => writeln!(out, "{said:#}"),
            false => print(&mut out, &report),
        };
        written.and_then(|()| out.flush()).map_err(Error::Output)?;
        Ok(if report.state == "agrees" { Outcome::Good } else { Outcome::Bad })
    }
}

fn print(out: &mut impl Write, report: &Reconciliation) -> std::io::Result<()> {
    let Reconciliation { sink, state, finished_at, .. } = report;
    if let Some(reason) = &report.reason {
        return writeln!(out, "{sink}: {state} at {finished_at}: {reason}");
    }
    writeln!(
        out,
        "{sink}: {state} at {finished_at}; {} positions compared at log position {}",
        report.positions, report.compared_lsn
    )?;
    writeln!(
        out,
        "  figures that differ: in flight {}, dead-lettered {}, unexplained {}",
        report.in_flight_positions, report.dead_lettered_positions, report.unexplained_positions
    )?;
    for drift in &report.drifts {
        let Drift { sku, figure, ledger, partner, .. } = drift;
        let place = drift.location.as_ref().map_or("all locations", |location| location.as_str());
        writeln!(
            out,
            "  {sku} at {place}, {figure}: ledger {ledger}, partner {partner}; in flight {}, \
             dead-lettered {}, unexplained {}",
            drift.in_flight, drift.dead_lettered, drift.unexplained
        )?;
    }
    match report.drifts_left_off {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more"),
    }
}
