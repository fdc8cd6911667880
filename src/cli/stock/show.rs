//! `holdfast stock show SKU`: the stock of a SKU as JSON, now or with `--at` as it was.

use std::io::Write;

use clap::Args;
use holdfast::{
    engine::{At, Reach},
    model::Sku,
};

use super::super::{Error, Outcome, ask::Asked};

/// Show the stock of a SKU.
#[derive(Debug, Args)]
pub struct Show {
    /// The SKU.
    sku: Sku,
    /// As it was then: an RFC 3339 time, or a position in the log.
    #[arg(long, value_name = "TIME|LSN", value_parser = checked)]
    at: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

fn checked(text: &str) -> Result<String, holdfast::model::Invalid> {
    text.parse::<At>().map(|_| text.to_owned())
}

impl Show {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let query: Vec<(&str, &str)> = self.at.iter().map(|at| ("at", at.as_str())).collect();
        let path = ["v1", "stock", self.sku.as_str()];
        let said = self.asked.ask(&path, &query, |engine| match &self.at {
            None => engine.stock(&self.sku),
            Some(at) => {
                let wrong = |e: holdfast::model::Invalid| {
                    holdfast::engine::Refusal::malformed("at", e.to_string())
                };
                engine.stock_at(&self.sku, at.parse().map_err(wrong)?, Reach::Whole)
            }
        })?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{said:#}").map_err(Error::Output)?;
        Ok(Outcome::Good)
    }
}
