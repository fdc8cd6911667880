//! `holdfast export …`: the journal, the orders and the stock of a stopped server, in the formats that
//! others read. What is written goes to the standard output.

mod accounts;
mod beancount;
mod hledger;
mod journal;
mod orders;
mod posted;
mod rows;
mod stock;

use clap::{Subcommand, ValueEnum};

use super::{Error, Outcome};

/// `holdfast export …`.
#[derive(Debug, Subcommand)]
pub enum Export {
    /// The journal entries that a finance sink has sealed, in their order, as they are in the log.
    Journal(journal::Journal),
    /// The orders as they stand, in the order in which they were placed.
    Orders(orders::Orders),
    /// The stock of every position.
    Stock(stock::Stock),
}

impl Export {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        match self {
            Self::Journal(journal) => journal.run(),
            Self::Orders(orders) => orders.run(),
            Self::Stock(stock) => stock.run(),
        }
    }
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    /// A header line, then a row each; amounts with the currency's decimals.
    Csv,
    /// One JSON object a line, as the API has it; amounts in minor units.
    Jsonl,
}

/// An error of the `csv` crate, which here is one of the output.
fn csv_error(error: csv::Error) -> Error {
    Error::Output(std::io::Error::other(error))
}
