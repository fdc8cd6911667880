//! `holdfast parked`: what waits at a running server. Reports of partners that came before their order,
//! and what finance sinks hold back until something else is booked; and what a person may do about it.

use std::io::{self, BufWriter, Write};

use clap::{Args, Subcommand};
use holdfast::model::{
    Lsn, OrderId,
    inbound::ParkedEventView,
    sink::{ParkedView, SinkView},
};
use reqwest::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Error, Outcome,
    ask::{Server, read},
};

/// See the module.
#[derive(Debug, Subcommand)]
pub enum Parked {
    /// What waits, oldest first.
    List(List),
    /// Let a finance sink book what it holds back of an order, with its next window.
    Release(Release),
    /// Let a report happen now, also one that its order would not have before.
    Retry(Retry),
    /// Discard a report.
    Discard(Discard),
}

/// What waits.
#[derive(Debug, Args)]
pub struct List {
    /// Only what this sink holds back.
    #[arg(long)]
    sink: Option<String>,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// What is to be booked.
#[derive(Debug, Args)]
pub struct Release {
    /// The sink.
    #[arg(long)]
    sink: String,
    /// The order's id.
    order: OrderId,
    #[command(flatten)]
    server: Server,
}

/// What is to happen.
#[derive(Debug, Args)]
pub struct Retry {
    /// The report's id, as the list has it.
    id: u64,
    #[command(flatten)]
    server: Server,
}

/// What is to be discarded.
#[derive(Debug, Args)]
pub struct Discard {
    /// The report's id, as the list has it.
    id: u64,
    /// Why; it stands in the log.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    server: Server,
}

impl Parked {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        match self {
            Self::List(list) => list.run(),
            Self::Release(Release { sink, order, server }) => {
                let path = ["v1", "sinks", &sink, "parked", order.as_str(), "release"];
                told(&server.call(Method::POST, &path, &[])?)
            }
            Self::Retry(Retry { id, server }) => {
                let path = ["v1", "parked-events", &id.to_string(), "retry"];
                told(&server.call(Method::POST, &path, &[])?)
            }
            Self::Discard(Discard { id, reason, server }) => {
                let path = ["v1", "parked-events", &id.to_string()];
                told(&server.call(Method::DELETE, &path, &[("reason", &reason)])?)
            }
        }
    }
}

/// Prints what the server said.
fn told(said: &Value) -> Result<Outcome, Error> {
    let mut out = io::stdout().lock();
    writeln!(out, "{said:#}").map_err(Error::Output)?;
    Ok(Outcome::Good)
}

/// What a sink holds back.
#[derive(serde::Serialize)]
struct Held {
    sink: String,
    parked: Vec<ParkedView>,
}

#[derive(Deserialize)]
struct HeldAnswer {
    parked: Vec<ParkedView>,
}

#[derive(Deserialize)]
struct SinksAnswer {
    sinks: Vec<SinkView>,
}

#[derive(Deserialize)]
struct Page {
    parked_events: Vec<ParkedEventView>,
    #[serde(default)]
    next_after: Option<Lsn>,
}

impl List {
    fn run(self) -> Result<Outcome, Error> {
        let (events, sinks) = match &self.sink {
            Some(sink) => (Vec::new(), vec![sink.clone()]),
            None => (self.events()?, self.sinks()?),
        };
        let held = sinks.into_iter().map(|sink| self.held(sink)).collect::<Result<Vec<_>, _>>()?;
        let mut out = BufWriter::new(io::stdout().lock());
        let written = if self.json {
            writeln!(out, "{:#}", json!({"parked_events": events, "sinks": held}))
        } else {
            print(&mut out, &events, &held)
        };
        written.and_then(|()| out.flush()).map_err(Error::Output)?;
        Ok(Outcome::Good)
    }

    fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T, Error> {
        read(self.server.call(Method::GET, path, query)?)
    }

    /// All pages: the server keeps at most so many.
    fn events(&self) -> Result<Vec<ParkedEventView>, Error> {
        let (mut events, mut after) = (Vec::new(), Lsn(0));
        loop {
            let page: Page =
                self.get(&["v1", "parked-events"], &[("after", &after.to_string())])?;
            events.extend(page.parked_events);
            match page.next_after.filter(|next| *next > after) {
                Some(next) => after = next,
                None => return Ok(events),
            }
        }
    }

    /// The names of the sinks that hold something back.
    fn sinks(&self) -> Result<Vec<String>, Error> {
        let said: SinksAnswer = self.get(&["v1", "sinks"], &[])?;
        Ok(said.sinks.into_iter().filter(|sink| sink.parked > 0).map(|sink| sink.name).collect())
    }

    fn held(&self, sink: String) -> Result<Held, Error> {
        let said: HeldAnswer = self.get(&["v1", "sinks", &sink, "parked"], &[])?;
        Ok(Held { sink, parked: said.parked })
    }
}

fn print(out: &mut impl Write, events: &[ParkedEventView], held: &[Held]) -> io::Result<()> {
    for event in events {
        let (id, order, kind, own) = (event.id, &event.order_id, event.kind, &event.event_id);
        let (state, age_ms) = (event.state.as_str(), event.age_ms.unwrap_or_default());
        let partner = &event.partner;
        let kind = kind.as_str();
        write!(out, "{id:>12}  {order}  {kind} {own}  {partner}, {state}, {age_ms} ms old")?;
        if let Some(why) = &event.refusal {
            write!(out, ": {}: {}", why.code, why.detail)?;
        }
        writeln!(out)?;
    }
    for Held { sink, parked } in held {
        for ParkedView { order_id, kind, id, lsn, age_ms, waits_for } in parked {
            write!(out, "{lsn:>12}  {order_id}  {kind} {id}  {sink}, waits for {waits_for}")?;
            writeln!(out, ", {age_ms} ms old")?;
        }
    }
    Ok(())
}
