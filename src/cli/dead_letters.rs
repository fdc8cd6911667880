//! `holdfast dead-letters`: what partners refused for its content, on a running server.

use std::io::{BufWriter, Read, Write};

use clap::{Args, Subcommand};
use holdfast::model::sink::LetterView;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error, Outcome,
    ask::{Server, read},
};

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// What lies dead, oldest first.
    List(List),
    /// A letter with its content, as JSON.
    Show(One),
    /// Give a letter another content: JSON from the standard input, as `show` prints its `content`.
    Mend(Why),
    /// Send a letter again.
    Retry(One),
    /// Drop a letter: the partner will never have it.
    Discard(Discard),
}

/// Which.
#[derive(Debug, Args)]
pub struct List {
    /// Of this sink alone.
    #[arg(long)]
    sink: Option<String>,
    /// Print the answers as JSON, one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Which.
#[derive(Debug, Args)]
pub struct One {
    /// The letter's id.
    id: String,
    #[command(flatten)]
    server: Server,
}

/// Which, and why.
#[derive(Debug, Args)]
pub struct Why {
    #[command(flatten)]
    one: One,
    /// Why, for the log.
    #[arg(long, default_value = "")]
    reason: String,
}

/// Which, and why.
#[derive(Debug, Args)]
pub struct Discard {
    #[command(flatten)]
    one: One,
    /// Why, for the log.
    #[arg(long)]
    reason: String,
    /// In a freeze window all the same.
    #[arg(long)]
    force: bool,
}

#[derive(Deserialize)]
struct Page {
    dead_letters: Vec<LetterView>,
    next: Option<String>,
}

impl DeadLetters {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let mut out = BufWriter::new(std::io::stdout().lock());
        match self {
            Self::List(list) => list.run(&mut out)?,
            Self::Show(one) => {
                let said = one.call(Method::GET, &[], &[], None)?;
                writeln!(out, "{said:#}").map_err(Error::Output)?;
            }
            Self::Mend(Why { one, reason }) => {
                let body = json!({"content": content()?, "reason": reason});
                one.call(Method::PUT, &[], &[], Some(&body))?;
                writeln!(out, "{}: mended; retry sends it", one.id).map_err(Error::Output)?;
            }
            Self::Retry(one) => {
                one.call(Method::POST, &["retry"], &[], None)?;
                writeln!(out, "{}: is sent again", one.id).map_err(Error::Output)?;
            }
            Self::Discard(Discard { one, reason, force }) => {
                let force = if force { "true" } else { "false" };
                let query = [("reason", reason.as_str()), ("force", force)];
                one.call(Method::DELETE, &[], &query, None)?;
                writeln!(out, "{}: dropped", one.id).map_err(Error::Output)?;
            }
        }
        out.flush().map_err(Error::Output)?;
        Ok(Outcome::Good)
    }
}

impl One {
    fn call(
        &self,
        method: Method,
        more: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, Error> {
        let path: Vec<&str> =
            ["v1", "dead-letters", &self.id].into_iter().chain(more.iter().copied()).collect();
        self.server.send(method, &path, query, body)
    }
}

impl List {
    fn run(&self, out: &mut impl Write) -> Result<(), Error> {
        let mut after: Option<String> = None;
        loop {
            let mut query: Vec<(&str, &str)> = vec![("limit", "1000")];
            query.extend(self.sink.as_deref().map(|sink| ("sink", sink)));
            query.extend(after.as_deref().map(|after| ("after", after)));
            let said = self.server.call(Method::GET, &["v1", "dead-letters"], &query)?;
            let page = read::<Page>(said)?;
            for letter in &page.dead_letters {
                self.print(out, letter).map_err(Error::Output)?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn print(&self, out: &mut impl Write, letter: &LetterView) -> std::io::Result<()> {
        if self.json {
            return writeln!(out, "{}", serde_json::to_string(letter)?);
        }
        let LetterView { id, sink, state, at, reason, .. } = letter;
        let status = letter.status.map_or(String::new(), |status| format!(" {status}"));
        let unsure = if letter.uncertain { ", may have had its effect" } else { "" };
        let mended = if letter.mended { ", mended" } else { "" };
        writeln!(out, "{id}  {sink}  {state}{mended}{unsure}  {at} {status} {reason}")
    }
}

/// The standard input as JSON.
fn content() -> Result<Value, Error> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|e| Error::Part { what: "the standard input", reason: e.to_string() })?;
    let json = serde_json::from_str::<Value>(&text);
    let json = json.map_err(|e| Error::Usage(format!("the standard input is no JSON: {e}")))?;
    // What `show` prints, whole, will do too.
    Ok(json.get("content").cloned().unwrap_or(json))
}
