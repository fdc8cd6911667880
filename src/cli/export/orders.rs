//! `holdfast export orders`: the orders of a stopped server as they stand.

use std::{
    io::{BufWriter, Write},
    ops::ControlFlow,
};

use clap::Args;
use holdfast::{
    engine::Engine,
    model::view::{OrderLineView, OrderView},
};

use super::{
    super::{DataDir, Error, Outcome, ask::with_engine},
    Table, csv_error,
    posted::decimal,
};

const COLUMNS: [&str; 20] = [
    "order_id",
    "state",
    "committed_at",
    "currency",
    "total",
    "total_tax",
    "invoiced",
    "settled",
    "fees",
    "refunded",
    "sku",
    "quantity",
    "shipped",
    "cancelled",
    "open_quantity",
    "unit_price",
    "tax_code",
    "tax",
    "discount",
    "prices",
];

/// Export orders.
#[derive(Debug, Args)]
pub struct Orders {
    /// How it is written; as CSV a row a line of an order.
    #[arg(long, value_enum)]
    format: Table,
    #[command(flatten)]
    data: DataDir,
}

impl Orders {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let path = self.data.load()?.server.data;
        with_engine(path, &self.data.source, |engine| write(engine, self.format))??;
        Ok(Outcome::Good)
    }
}

fn write(engine: &Engine, format: Table) -> Result<(), Error> {
    let out = BufWriter::new(std::io::stdout().lock());
    match format {
        Table::Jsonl => write_jsonl(engine, out),
        Table::Csv => write_csv(engine, csv::Writer::from_writer(out)),
    }
}

/// Hands every order to `each`, up to its first error.
fn each_order(
    engine: &Engine,
    mut each: impl FnMut(&OrderView) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut failed = None;
    let done = engine.each_order(|order| match each(&order) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    });
    done.map_err(|refusal| Error::Part { what: "the orders", reason: refusal.to_string() })?;
    failed.map_or(Ok(()), Err)
}

fn write_jsonl(engine: &Engine, mut out: impl Write) -> Result<(), Error> {
    each_order(engine, |order| {
        serde_json::to_writer(&mut out, order).map_err(|e| Error::Output(e.into()))?;
        out.write_all(b"\n").map_err(Error::Output)
    })?;
    out.flush().map_err(Error::Output)
}

fn write_csv(engine: &Engine, mut out: csv::Writer<impl Write>) -> Result<(), Error> {
    out.write_record(COLUMNS).map_err(csv_error)?;
    each_order(engine, |order| {
        order
            .lines
            .iter()
            .try_for_each(|line| out.write_record(row(order, line)).map_err(csv_error))
    })?;
    out.flush().map_err(Error::Output)
}

fn row(order: &OrderView, line: &OrderLineView) -> [String; 20] {
    let money = |minor: i64| decimal(minor.into(), order.currency);
    let prices = match order.prices {
        holdfast::model::command::Prices::Gross => "gross",
        holdfast::model::command::Prices::Net => "net",
    };
    [
        order.order_id.to_string(),
        order.state.as_str().to_owned(),
        order.committed_at.to_string(),
        order.currency.to_string(),
        money(order.total),
        money(order.total_tax),
        money(order.money.invoiced),
        money(order.money.settled),
        money(order.money.fees),
        money(order.money.refunded),
        line.sku.to_string(),
        line.quantity.to_string(),
        line.shipped.to_string(),
        line.cancelled.to_string(),
        line.open_quantity.to_string(),
        money(line.unit_price.minor()),
        line.tax_code.as_ref().map_or(String::new(), ToString::to_string),
        money(line.tax.minor()),
        money(line.discount.minor()),
        prices.to_owned(),
    ]
}
