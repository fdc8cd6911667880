//! `holdfast trace ORDER`: every record of an order, what caused it, and the batches that carried it.

use std::io::{BufWriter, Write};

use clap::Args;
use holdfast::model::{OrderId, lineage::TraceView};

use super::{
    Error, Outcome,
    ask::{Asked, read},
};

/// Where an order comes from.
#[derive(Debug, Args)]
pub struct Trace {
    /// The order's id.
    order: OrderId,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    asked: Asked,
}

impl Trace {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let path = ["v1", "orders", self.order.as_str(), "trace"];
        let said = self.asked.ask(&path, &[], |engine| {
            engine.settle_blocking(engine.trace(&self.order)).map(|answer| answer.value)
        })?;
        let mut out = BufWriter::new(std::io::stdout().lock());
        let written = if self.json {
            writeln!(out, "{said:#}")
        } else {
            print(&mut out, &read::<TraceView>(said)?)
        };
        written.and_then(|()| out.flush()).map_err(Error::Output)?;
        Ok(Outcome::Good)
    }
}

fn print(out: &mut impl Write, trace: &TraceView) -> std::io::Result<()> {
    let TraceView { order_id, age_ms, .. } = trace;
    writeln!(out, "{order_id}: {}, {age_ms} ms old", trace.state.as_str())?;
    if trace.archived {
        writeln!(out, "its first records are archived")?;
    }
    if trace.truncated {
        writeln!(out, "it has more records than are shown")?;
    }
    for record in &trace.records {
        let (lsn, at, kind, id) = (record.lsn, record.at, &record.kind, &record.id);
        writeln!(out, "{lsn:>12}  {at}  +{} ms  {kind} {id}", record.since_previous_ms)?;
        if let Some(request) = &record.request_id {
            write!(out, "{:14}request {request}", "")?;
            let trace = record.traceparent.as_ref();
            writeln!(out, "{}", trace.map_or(String::new(), |trace| format!(", trace {trace}")))?;
        }
        writeln!(out, "{:14}{}", "", record.says)?;
        for parked in &record.parked {
            let (sink, window, at) = (&parked.sink, parked.window, parked.parked_at);
            write!(out, "{:14}{sink}: parked in window {window} at {at}", "")?;
            match (parked.released_window, parked.released_at) {
                (Some(window), Some(at)) => writeln!(out, ", released by window {window} at {at}")?,
                _ => writeln!(out, ", waiting")?,
            }
        }
        for batch in &record.batches {
            let id = batch.batch_id.as_deref().unwrap_or("nothing to send");
            let state = batch.state.as_str().replace('_', " ");
            write!(out, "{:14}{}: {id}, {state}", "", batch.sink)?;
            if let Some(letter) = &batch.letter {
                write!(out, ", dead letter {letter} sent again")?;
            }
            write!(out, ", sealed {} ({} ms after)", batch.sealed_at, batch.waited_ms)?;
            if let (Some(attempts), Some(ms)) = (batch.attempts, batch.delivery_ms) {
                write!(out, ", answered {ms} ms later, attempts {attempts}")?;
            }
            if let Some(status) = batch.status {
                write!(out, ", status {status}")?;
            }
            writeln!(out, "{}", batch.answer.as_ref().map_or(String::new(), |a| format!(": {a}")))?;
        }
    }
    Ok(())
}
