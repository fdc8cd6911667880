//! `holdfast export stock`: every position of a stopped server as it stands.

use std::io::{BufWriter, Write};

use clap::Args;
use holdfast::{engine::Engine, model::view::PositionView};

use super::{
    super::{DataDir, Error, Outcome, ask::with_engine},
    Table, csv_error,
};

const COLUMNS: [&str; 9] = [
    "sku",
    "location",
    "available",
    "on_hand",
    "held",
    "committed",
    "safety_stock",
    "backorder_limit",
    "per_customer_limit",
];

/// Export stock.
#[derive(Debug, Args)]
pub struct Stock {
    /// How it is written.
    #[arg(long, value_enum)]
    format: Table,
    #[command(flatten)]
    data: DataDir,
}

impl Stock {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let path = self.data.load()?.server.data;
        with_engine(path, &self.data.source, |engine| write(engine, self.format))??;
        Ok(Outcome::Good)
    }
}

fn write(engine: &Engine, format: Table) -> Result<(), Error> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match format {
        Table::Jsonl => {
            each_position(engine, |position| {
                serde_json::to_writer(&mut out, position).map_err(|e| Error::Output(e.into()))?;
                out.write_all(b"\n").map_err(Error::Output)
            })?;
            out.flush().map_err(Error::Output)
        }
        Table::Csv => {
            let mut out = csv::Writer::from_writer(out);
            out.write_record(COLUMNS).map_err(csv_error)?;
            each_position(engine, |position| out.write_record(row(position)).map_err(csv_error))?;
            out.flush().map_err(Error::Output)
        }
    }
}

fn each_position(
    engine: &Engine,
    mut each: impl FnMut(&PositionView) -> Result<(), Error>,
) -> Result<(), Error> {
    for sku in engine.skus() {
        let stock = engine.stock(&sku);
        let stock = stock
            .map_err(|refusal| Error::Part { what: "the stock", reason: refusal.to_string() })?;
        stock.positions.iter().try_for_each(&mut each)?;
    }
    Ok(())
}

fn row(position: &PositionView) -> [String; 9] {
    [
        position.sku.to_string(),
        position.location.to_string(),
        position.available.to_string(),
        position.on_hand.to_string(),
        position.held.to_string(),
        position.committed.to_string(),
        position.safety_stock.to_string(),
        position.backorder_limit.to_string(),
        position.per_customer_limit.map_or(String::new(), |limit| limit.to_string()),
    ]
}
