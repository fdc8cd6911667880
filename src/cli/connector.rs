//! `holdfast connector try`: what a sink's connector makes of sample events, and of an answer, without its
//! partner.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use holdfast::{
    config::Overrides,
    sinks::trial::{Tried, try_connector},
};

use super::{Error, Outcome, Source};

/// Try a connector.
#[derive(Debug, Subcommand)]
pub enum ConnectorCommand {
    /// Print what a sink would send for sample events; nothing is sent.
    Try(Try),
}

/// Print what would be sent.
#[derive(Debug, Args)]
pub struct Try {
    #[command(flatten)]
    source: Source,
    /// The sink.
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// A batch's body as a receiver gets it; without it a sample of the sink's domain.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Print what the connector's rules make of an answer: its status, and a file with its body.
    #[arg(long, value_name = "STATUS[,FILE]")]
    answer: Option<String>,
}

impl ConnectorCommand {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let Self::Try(asked) = self;
        let config = asked.source.load(&Overrides::default())?;
        let sink = config.sinks.iter().find(|sink| sink.name == asked.sink);
        let sink = sink.ok_or_else(|| {
            Error::Usage(format!("--sink: there is no sink `{}` in the configuration", asked.sink))
        })?;
        let events = asked.events.as_deref().map(read).transpose()?;
        let answer = asked.answer.as_deref().map(answer).transpose()?;
        let tried = try_connector(sink, events.map(Into::into), answer);
        let tried =
            tried.map_err(|reason| Error::Usage(format!("the sink `{}`: {reason}", sink.name)))?;
        print(&mut std::io::stdout().lock(), &tried).map_err(Error::Output)?;
        Ok(Outcome::Good)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn answer(text: &str) -> Result<(u16, bytes::Bytes), Error> {
    let (status, file) = text.split_once(',').unwrap_or((text, ""));
    let status = status.parse().ok().filter(|status| (100..=599).contains(status));
    let status = status.ok_or_else(|| Error::Usage("--answer: must begin with a status".into()))?;
    let body = if file.is_empty() { Vec::new() } else { read(Path::new(file))? };
    Ok((status, body.into()))
}

fn print(out: &mut impl Write, tried: &Tried) -> std::io::Result<()> {
    writeln!(out, "{} {}", tried.method, tried.url)?;
    for (name, value) in &tried.headers {
        writeln!(out, "{name}: {value}")?;
    }
    match &tried.body {
        Some(body) => writeln!(out, "\n{}", String::from_utf8_lossy(body))?,
        None => writeln!(out, "\nnothing of it is for this receiver: nothing is sent")?,
    }
    match &tried.verdict {
        Some(verdict) => writeln!(out, "\nthe answer means: {verdict}"),
        None => Ok(()),
    }
}
