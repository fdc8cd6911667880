//! `holdfast config`: the configuration of a running server: read again, or another file's, without a
//! restart; what was in force before; and back to it.

use std::{io::Write, path::PathBuf};

use clap::{Args, Subcommand};
use holdfast::model::configuration::{ChangeView, HistoryView, VersionView};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Error, Outcome,
    ask::{Server, read},
};

/// The configuration of a running server.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Apply a configuration without a restart: all of it or nothing.
    Reload(Reload),
    /// Which configurations were in force, since when, by whom and why.
    History(History),
    /// Apply an earlier configuration again.
    Rollback(Rollback),
}

/// Why.
#[derive(Debug, Args)]
pub struct Why {
    #[command(flatten)]
    server: Server,
    /// Why; it is written down.
    #[arg(long)]
    reason: String,
    /// Do it in a freeze window all the same.
    #[arg(long)]
    force: bool,
}

/// Apply a configuration.
#[derive(Debug, Args)]
pub struct Reload {
    /// The configuration to apply; without it the server reads its own file again.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    why: Why,
}

/// What was in force.
#[derive(Debug, Args)]
pub struct History {
    #[command(flatten)]
    server: Server,
    /// Print the server's answer.
    #[arg(long)]
    json: bool,
}

/// Back to what was in force.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The version, as the history has it.
    // `--version` has that name.
    #[arg(id = "to", value_name = "VERSION")]
    version: u64,
    #[command(flatten)]
    why: Why,
}

impl ConfigCommand {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        match self {
            Self::Reload(Reload { file, why }) => {
                let text = file.map(|path| {
                    let failed = |source| Error::File { path: path.clone(), source };
                    std::fs::read_to_string(&path).map_err(failed)
                });
                apply(&why, &["v1", "configuration"], json!({"toml": text.transpose()?}))
            }
            Self::Rollback(Rollback { version, why }) => {
                apply(&why, &["v1", "configuration", "rollback"], json!({"version": version}))
            }
            Self::History(History { server, json }) => history(&server, json),
        }
    }
}

fn apply(why: &Why, path: &[&str], mut body: Value) -> Result<Outcome, Error> {
    body["reason"] = why.reason.as_str().into();
    body["force"] = why.force.into();
    let said = why.server.send(Method::POST, path, &[], Some(&body))?;
    let version: VersionView = read(said)?;
    let mut out = std::io::stdout().lock();
    let told = writeln!(out, "version {} is in force", version.version);
    told.and_then(|()| print_changes(&mut out, &version.changes)).map_err(Error::Output)?;
    Ok(Outcome::Good)
}

fn history(server: &Server, json: bool) -> Result<Outcome, Error> {
    let said = server.call(Method::GET, &["v1", "configuration", "history"], &[])?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{said:#}").map_err(Error::Output)?;
        return Ok(Outcome::Good);
    }
    let history: HistoryView = read(said)?;
    for version in &history.versions {
        let VersionView { version, at, by, reason, forced, state, changes } = version;
        let by = if by.is_empty() { "(unknown)" } else { by };
        let forced = if *forced { ", forced" } else { "" };
        writeln!(out, "{version} {state} since {at} by {by}{forced}: {reason}")
            .and_then(|()| print_changes(&mut out, changes))
            .map_err(Error::Output)?;
    }
    Ok(Outcome::Good)
}

/// A line for each key: before, after, and whether it needs a restart.
pub fn print_changes(out: &mut impl Write, changes: &[ChangeView]) -> std::io::Result<()> {
    for ChangeView { key, before, after, applies } in changes {
        writeln!(out, "  {key}: {before} -> {after} ({applies})")?;
    }
    Ok(())
}
