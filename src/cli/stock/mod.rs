//! `holdfast stock show SKU`: see `show`.
//!
//! `holdfast stock import FILE`: sets positions from a file, CSV or NDJSON, through a running server
//! or, with `--data`, in the data directory of a stopped one.
//!
//! Each line is decided alone. A line that is wrong or refused is printed with its number and does
//! not stop the rest; the exit code is 1 then.

mod apply;
mod rows;
mod show;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};

use super::{Error, Outcome, ask::Asked};

/// `holdfast stock …`.
#[derive(Debug, Subcommand)]
pub enum Stock {
    /// Set positions from a file.
    Import(Import),
    /// Show the stock of a SKU, now or as it was.
    Show(show::Show),
}

impl Stock {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        match self {
            Self::Import(import) => import.run(),
            Self::Show(show) => show.run(),
        }
    }
}

/// How the file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A header line, then sku,location,on_hand[,safety_stock,backorder_limit,per_customer_limit,
    /// source_version]; empty: absent; per_customer_limit `none`: lifted.
    Csv,
    /// One JSON object a line, as in `POST /v1/stock/import`.
    Ndjson,
}

impl Format {
    fn of(path: &Path) -> Result<Self, Error> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("csv") => Ok(Self::Csv),
            Some("ndjson" | "jsonl") => Ok(Self::Ndjson),
            _ => Err(Error::Usage(format!(
                "{}: the extension is neither .csv nor .ndjson; say which with --format",
                path.display()
            ))),
        }
    }
}

/// Set positions from a file.
#[derive(Debug, Args)]
pub struct Import {
    /// The file.
    file: PathBuf,
    /// How it is written; without it, what its extension says.
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    asked: Asked,
}

/// A line that was not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    line: u64,
    code: String,
    detail: String,
}

/// What became of the lines so far.
#[derive(Debug)]
struct Tally<W> {
    out: W,
    applied: u64,
    refused: u64,
}

impl<W: Write> Tally<W> {
    fn refuse(&mut self, refused: &Refused) -> Result<(), Error> {
        self.refused += 1;
        let Refused { line, code, detail } = refused;
        writeln!(self.out, "line {line}: {code}: {detail}").map_err(Error::Output)
    }
}

impl Import {
    fn run(self) -> Result<Outcome, Error> {
        let format = self.format.map_or_else(|| Format::of(&self.file), Ok)?;
        let rows = rows::Rows::open(&self.file, format)?;
        let mut tally = Tally { out: std::io::stdout().lock(), applied: 0, refused: 0 };
        match &self.asked.data {
            Some(data) => apply::offline(rows, data, &self.asked.source, &mut tally)?,
            None => apply::over_http(rows, &self.asked.server, &mut tally)?,
        }
        writeln!(tally.out, "{} applied, {} refused", tally.applied, tally.refused)
            .map_err(Error::Output)?;
        Ok(if tally.refused == 0 { Outcome::Good } else { Outcome::Bad })
    }
}
