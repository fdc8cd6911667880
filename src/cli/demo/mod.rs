//! `holdfast demo`: the main job on one command. It starts the server with two receivers that stand
//! in for ERP and finance, lets a flash sale (or the orders of a file) come over HTTP, and ends with
//! a report in which the shoppers, the ledger, the ERP and finance must agree to the unit and the
//! cent; else the exit code is 1.

mod books;
mod house;
mod orders;
mod play;
mod random;
mod report;
mod sale;
mod shop;
mod shopper;
mod tally;
mod visit;

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, ValueEnum};
use holdfast::{
    config,
    model::{StockCount, command::ImportStock},
};

use super::{Error, Outcome, runtime, server::Signals};
use books::Ledger;
use house::{Choice, House};
use report::Report;
use shop::Shop;
use tally::Tally;
use visit::{Item, Plan};

/// How long the sinks may take for what is left.
const DRAIN_WAIT: Duration = Duration::from_secs(60);

/// When requests are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ack {
    /// After the sync.
    Disk,
    /// After the memory.
    Memory,
}

/// A flash sale in one command.
#[derive(Debug, Args)]
pub struct Demo {
    /// How long the sale lasts.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Shoppers a second at the baseline; the rush has five times as many.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// The seed of the dice: the same one makes the same sale.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// The data directory, which must be empty; without it a temporary one.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// When requests are answered.
    #[arg(long, value_enum, default_value_t = Ack::Disk)]
    ack: Ack,
    /// Connections that the shoppers share.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Requests a second that the stand-ins of ERP and finance take.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    partner_rate: u32,
    /// Leave the server up at the end, until SIGTERM or SIGINT.
    #[arg(long)]
    keep: bool,
    /// Write the report to this file as well, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    orders: orders::Orders,
}

impl Demo {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let plan = Arc::new(self.plan()?);
        let runtime = runtime(0)?;
        let outcome = runtime.block_on(self.perform(plan));
        runtime.shutdown_background();
        outcome
    }

    fn plan(&self) -> Result<Plan, Error> {
        match &self.orders.orders {
            Some(file) => orders::plan(file, &self.orders, self.seconds),
            None => {
                sale::plan(sale::Shape { seconds: self.seconds, rate: self.rate, seed: self.seed })
            }
        }
    }

    async fn perform(&self, plan: Arc<Plan>) -> Result<Outcome, Error> {
        let mut signals = Signals::new()?;
        let house = House::start(self.choice(&plan)).await?;
        let report = tokio::select! {
            report = self.sale(&house, &plan) => report?,
            poisoned = house.server.poisoned() => return Err(Error::Poisoned(poisoned)),
            name = signals.next() => {
                house.stop().await?;
                return Err(Error::Part { what: "the demo", reason: format!("{name} ended it") });
            }
        };
        let mut out = std::io::stdout();
        write!(out, "{report}").map_err(Error::Output)?;
        if let Some(path) = &self.json {
            write_json(path, &report)?;
        }
        if self.keep {
            write!(out, "{}", invitation(&house, &plan)).map_err(Error::Output)?;
            out.flush().map_err(Error::Output)?;
            signals.next().await;
        }
        house.stop().await?;
        Ok(if report.reconciled { Outcome::Good } else { Outcome::Bad })
    }

    fn choice(&self, plan: &Plan) -> Choice<'_> {
        Choice {
            data: self.data.as_deref(),
            ack: match self.ack {
                Ack::Disk => config::Ack::Disk,
                Ack::Memory => config::Ack::Memory,
            },
            partner_rate: self.partner_rate,
            visits: plan.visits.len(),
        }
    }

    /// Opens the shop, lets them come, waits until all is settled, compares.
    async fn sale(&self, house: &House, plan: &Arc<Plan>) -> Result<Report, Error> {
        let tally = Tally::new(plan.catalogue.len());
        let connections = usize::from(self.connections);
        let shop = Arc::new(Shop::new(house.server.url(), connections, tally)?);
        let mut out = std::io::stdout();
        greet(&mut out, house, plan).map_err(Error::Output)?;
        shop.stock(&positions(&plan.catalogue)?).await?;
        let played = play::play(&shop, plan, &mut out).await?;
        if let Err(error) = house.server.drain(DRAIN_WAIT).await {
            shop.tally.complain(error.to_string());
        }
        let ledger = Ledger::read(&shop, plan).await?;
        let (erp, finance) = (house.erp.totals(), house.finance.totals());
        let checks = books::reconcile(&shop, plan, &ledger, &erp, &finance);
        let receivers = [("erp", &erp), ("finance", &finance)];
        Ok(Report::new(plan, &shop.tally, played, &ledger, receivers, checks))
    }
}

fn greet(out: &mut impl Write, house: &House, plan: &Plan) -> std::io::Result<()> {
    let units: u64 = plan.catalogue.iter().map(Item::units).sum();
    writeln!(
        out,
        "{}: {} shoppers, {} items, {units} units\nserver {}, data in {}",
        plan.title,
        plan.visits.len(),
        plan.catalogue.len(),
        house.server.url(),
        house.data().display(),
    )?;
    out.flush()
}

fn positions(catalogue: &[Item]) -> Result<Vec<ImportStock>, Error> {
    let count = |units| StockCount::new(units).map_err(|e| Error::Usage(format!("a stock {e}")));
    let mut positions = Vec::new();
    for item in catalogue {
        let limit = item.per_customer_limit.map(count).transpose()?;
        for (location, units) in &item.stock {
            positions.push(ImportStock {
                sku: item.sku.clone(),
                location: location.clone(),
                on_hand: count(*units)?,
                safety_stock: StockCount::ZERO,
                backorder_limit: StockCount::ZERO,
                per_customer_limit: limit.map(Some),
                source_version: None,
                as_of_lsn: None,
                allow_shortfall: false,
            });
        }
    }
    Ok(positions)
}

fn write_json(path: &Path, report: &Report) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    serde_json::to_writer_pretty(&mut file, report).map_err(|e| failed(e.into()))?;
    writeln!(file).and_then(|()| file.flush()).map_err(failed)
}

/// What can be tried on the server that is left up.
fn invitation(house: &House, plan: &Plan) -> String {
    let url = house.server.url();
    let sku = plan.catalogue.last().map_or("TEE-M", |item| item.sku.as_str());
    format!(
        "\nthe server is left up until SIGINT (ctrl-c); try\n\n\
         curl {url}/v1/stock/{sku}\n\
         curl -X PUT {url}/v1/stock/TEE-M/BER -H 'content-type: application/json' \\\n     \
         -d '{{\"on_hand\": 100}}'\n\
         curl -X POST {url}/v1/reservations -H 'content-type: application/json' \\\n     \
         -H 'idempotency-key: try-1' -d '{{\"lines\": [{{\"sku\": \"TEE-M\", \"quantity\": 2}}]}}'\n\
         curl {url}/v1/status\n\
         curl {url}/v1/sinks\n\
         curl {url}/metrics\n"
    )
}
