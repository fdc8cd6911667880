//! `loadtest replay`: a recorded sale, once more.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use clap::Args;

use super::{Error, Outcome, aim::api_key, files, text, watch::shown};
use crate::{
    replay::{self, Options, replay},
    report::Machine,
    run::Progress,
    target::Asker,
    trial::{Place, Protocol, Setup},
};

/// Play the arrivals of a recorded log against another server, at their recorded distances or faster.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The data directory of a server that has stopped. It is only read.
    #[arg(value_name = "WAL")]
    log: PathBuf,
    /// How many times as fast: above 0, at most 10,000.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// The server that it is played against, as http://HOST:PORT.
    #[arg(long, value_name = "URL")]
    target: String,
    /// Leave that server's stock as it is, rather than set what is in the log.
    #[arg(long)]
    keep_stock: bool,
    /// The variable of the environment that holds the API key, if the server wants one.
    #[arg(long, value_name = "NAME")]
    api_key_env: Option<String>,
    /// Connections.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// A folder that the figures are written to, as those of `loadtest run` are.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Replay {
    pub fn run(self) -> Result<Outcome, Error> {
        if !(self.speed > 0.0 && self.speed <= 10_000.0) {
            return Err(Error::Usage("--speed must be above 0 and at most 10,000".to_owned()));
        }
        let key = self.api_key_env.map(api_key).transpose()?;
        let asker = Asker::new(&self.target, key.as_deref()).map_err(replay::Error::from)?;
        let scenario = replay::scenario(&self.log, self.speed, self.connections)?;
        let (speed, keep_stock) = (self.speed, self.keep_stock);
        let options = Options { log: self.log, speed, keep_stock };
        let progress = Arc::new(Progress::default());
        let machine = Machine::read(&options.log);
        let replayed =
            shown("replay", &progress, || replay(&options, &scenario, &asker, &progress))?;
        let mut out = io::stdout().lock();
        text::trial(&mut out, &scenario, &replayed.trial).map_err(Error::Print)?;
        tell(&mut out, &replayed).map_err(Error::Print)?;
        if let Some(folder) = self.out {
            let place = Place::Url { url: self.target, api_key: None };
            let setup = Setup { scenario, place, protocol: Protocol::Http1 };
            let page = files::write(&folder, &setup, &replayed.trial, machine)?;
            writeln!(out, "page         {}", page.display()).map_err(Error::Print)?;
        }
        out.flush().map_err(Error::Print)?;
        Ok(Outcome::of(&replayed.trial))
    }
}

/// Tells what was not played.
fn tell(out: &mut impl Write, replayed: &replay::Replay) -> io::Result<()> {
    writeln!(out, "not played")?;
    for (kind, count) in &replayed.summary.not_played {
        writeln!(out, "  {count} {}", meaning(kind))?;
    }
    if replayed.skipped > 0 {
        let skipped = replayed.skipped;
        writeln!(
            out,
            "  {skipped} arrivals about what this server had not granted, or had let run out"
        )?;
    }
    writeln!(
        out,
        "  what was refused or sent twice: a log has neither; and the text of keys, which are new"
    )
}

/// What a kind of record is called in that list.
fn meaning(kind: &str) -> &str {
    match kind {
        "stock" => "changes of stock during the sale: their sum was there from the begin",
        "adjust" => "adjustments: their sum was there from the begin",
        "expire" => "holds that ran out: here they do by themselves",
        "happened" => "shipments, invoices, settlements, refunds, returns",
        "park" | "unpark" => "reports that came before their orders",
        "tally" => "figures of service levels and quotas",
        other => other,
    }
}
