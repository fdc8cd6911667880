//! `holdfast sinks`: how the sinks stand, and what an operator does to them, on a running server.

use std::io::{BufWriter, Write};

use clap::{Args, Subcommand};
use holdfast::model::sink::SinkView;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error, Outcome,
    ask::{Server, read},
};

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Sinks {
    /// How every sink stands.
    List(List),
    /// Make no attempt at a sink's partner until it is resumed.
    Pause(Deed),
    /// Make attempts again.
    Resume(Deed),
    /// Send sealed batches again, with the ids and bytes that they had: for a partner that lost them.
    Replay(Replay),
    /// Set the sink's oldest batch under way aside as a dead letter, so that the next can go.
    Skip(Deed),
}

/// How it is shown.
#[derive(Debug, Args)]
pub struct List {
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// To which sink, and why.
#[derive(Debug, Args)]
pub struct Deed {
    /// The sink.
    sink: String,
    /// Why, for the log.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    server: Server,
}

/// From where.
#[derive(Debug, Args)]
pub struct Replay {
    #[command(flatten)]
    deed: Deed,
    /// From the batch of the record at this position in the log.
    #[arg(long, conflicts_with = "from_time", required_unless_present = "from_time")]
    from_lsn: Option<u64>,
    /// From the first batch that was sealed at or after this time (RFC 3339).
    #[arg(long)]
    from_time: Option<String>,
    /// In a freeze window all the same; needs a reason.
    #[arg(long)]
    force: bool,
}

#[derive(Deserialize)]
struct Answer {
    sinks: Vec<SinkView>,
}

impl Sinks {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let mut out = BufWriter::new(std::io::stdout().lock());
        let written = match self {
            Self::List(list) => {
                let said = list.server.call(Method::GET, &["v1", "sinks"], &[])?;
                match list.json {
                    true => writeln!(out, "{said:#}"),
                    false => print(&mut out, &read::<Answer>(said)?.sinks),
                }
            }
            Self::Pause(deed) => deed.run("pause", json!({"reason": deed.reason}), &mut out)?,
            Self::Resume(deed) => deed.run("resume", json!({"reason": deed.reason}), &mut out)?,
            Self::Skip(deed) => deed.run("skip", json!({"reason": deed.reason}), &mut out)?,
            Self::Replay(replay) => {
                let mut body = json!({"reason": replay.deed.reason, "force": replay.force});
                match (replay.from_lsn, &replay.from_time) {
                    (Some(lsn), _) => body["from_lsn"] = lsn.into(),
                    (None, time) => body["from_time"] = time.clone().into(),
                }
                replay.deed.run("replay", body, &mut out)?
            }
        };
        written.and_then(|()| out.flush()).map_err(Error::Output)?;
        Ok(Outcome::Good)
    }
}

impl Deed {
    fn run(
        &self,
        deed: &str,
        body: Value,
        out: &mut impl Write,
    ) -> Result<std::io::Result<()>, Error> {
        let path = ["v1", "sinks", &self.sink, deed];
        let said = self.server.send(Method::POST, &path, &[], Some(&body))?;
        Ok(match deed {
            "replay" => writeln!(out, "{}: {} batches are sent again", self.sink, said["count"]),
            _ => writeln!(out, "{}: {deed}, written down", self.sink),
        })
    }
}

fn print(out: &mut impl Write, sinks: &[SinkView]) -> std::io::Result<()> {
    for sink in sinks {
        let SinkView { name, domain, state, breaker, .. } = sink;
        let why = sink.reason.as_ref().map_or(String::new(), |why| format!(" ({why})"));
        writeln!(out, "{name}: {domain}, {state}{why}, breaker {breaker}")?;
        writeln!(
            out,
            "  delivered {} records in {} batches up to {}, {} retries; behind {} records, {} ms",
            sink.events_delivered,
            sink.batches_delivered,
            sink.acknowledged_lsn,
            sink.retries,
            sink.lag_records,
            sink.lag_ms
        )?;
        for lane in &sink.lanes {
            let (priority, depth, age) = (&lane.priority, lane.depth, lane.oldest_age_ms);
            writeln!(out, "  lane {priority}: {depth} batches, the oldest record {age} ms old")?;
        }
        if sink.dead_letters + sink.parked + sink.replaying > 0 {
            writeln!(
                out,
                "  dead letters {}, parked {}, to be sent again {}",
                sink.dead_letters, sink.parked, sink.replaying
            )?;
        }
    }
    Ok(())
}
