//! Lets the shoppers come when they are due, whether or not the server keeps up, and tells once a
//! second how it goes.

use std::{collections::HashSet, io::Write, sync::Arc, time::Duration};

use holdfast::model::sink::SinkView;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{super::Error, books::Status, shop::Shop, shopper, tally::Operation, visit::Plan};

/// Shoppers under way; those due beyond that wait at the door.
const SHOPPERS_MAX: usize = 20_000;

/// How long left carts may take to expire, and sinks to catch up.
const SETTLE_WAIT: Duration = Duration::from_secs(60);
const SETTLE_PACE: Duration = Duration::from_millis(20);

/// The answer of `GET /v1/sinks`.
#[derive(Debug, Deserialize)]
struct Sinks {
    sinks: Vec<SinkView>,
}

/// How far a sink was behind at the worst.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Lag {
    /// The sink.
    pub sink: String,
    /// Records that it had not got, at the worst.
    pub records_max: u64,
    /// The age of the oldest of them, at the worst, in milliseconds.
    pub ms_max: u64,
    /// Records that it had not got when the last shopper had left.
    pub records_at_end: u64,
    /// How long it then took until it had all of that, in milliseconds.
    pub caught_up_ms: u64,
}

/// What a run leaves behind beside the tally.
#[derive(Debug)]
pub struct Played {
    /// How long it took until the last shopper had left.
    pub took: Duration,
    /// How far the sinks were behind.
    pub lags: Vec<Lag>,
}

/// Plays a plan, until the last shopper has left, every cart that nobody came back for has expired,
/// and the sinks have caught up.
pub async fn play<W: Write>(
    shop: &Arc<Shop>,
    plan: &Arc<Plan>,
    out: &mut W,
) -> Result<Played, Error> {
    let start = Instant::now();
    let mut sale = tokio::spawn(open_doors(shop.clone(), plan.clone(), start));
    let mut watch = Watch::new(shop.clone(), plan.clone(), start);
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tokio::select! {
            ended = &mut sale => {
                let failed = |e: tokio::task::JoinError| Error::Part {
                    what: "the shoppers",
                    reason: e.to_string(),
                };
                ended.map_err(failed)?;
                break;
            }
            _ = tick.tick() => watch.tell(out).await?,
        }
    }
    let took = start.elapsed();
    watch.settle().await?;
    Ok(Played { took, lags: watch.lags })
}

/// Every visit, each in a task of its own, from its due time on.
async fn open_doors(shop: Arc<Shop>, plan: Arc<Plan>, start: Instant) {
    let door = Arc::new(Semaphore::new(SHOPPERS_MAX));
    let mut shoppers = JoinSet::new();
    for number in 0..plan.visits.len() {
        let due = start + plan.visits[number].due;
        if due > Instant::now() {
            sleep_until(due).await;
        }
        let Ok(entered) = door.clone().acquire_owned().await else { break };
        let (to_shop, to_plan) = (shop.clone(), plan.clone());
        shoppers.spawn(async move {
            shopper::shop(&to_shop, &to_plan, &to_plan.visits[number]).await;
            drop(entered);
        });
        while let Some(left) = shoppers.try_join_next() {
            missing(&shop, left);
        }
    }
    while let Some(left) = shoppers.join_next().await {
        missing(&shop, left);
    }
}

/// A shopper whose task broke off would be missing in the books.
fn missing(shop: &Shop, left: Result<(), tokio::task::JoinError>) {
    if let Err(error) = left {
        shop.tally.complain(format!("a shopper's task broke off: {error}"));
    }
}

/// Looks at the shop from outside, once a second.
struct Watch {
    shop: Arc<Shop>,
    plan: Arc<Plan>,
    start: Instant,
    answers: u64,
    looked: Instant,
    lags: Vec<Lag>,
}

impl Watch {
    fn new(shop: Arc<Shop>, plan: Arc<Plan>, start: Instant) -> Self {
        Self { shop, plan, start, answers: 0, looked: start, lags: Vec::new() }
    }

    async fn tell<W: Write>(&mut self, out: &mut W) -> Result<(), Error> {
        let sinks = self.look().await?;
        let tally = &self.shop.tally;
        let answers = tally.answers();
        let seconds = self.looked.elapsed().as_secs_f64().max(0.001);
        let rate = (answers - self.answers) as f64 / seconds;
        (self.answers, self.looked) = (answers, Instant::now());
        let elapsed = self.start.elapsed();
        let p99 = tally.latencies(Operation::Reserve).value_at_quantile(0.99) as f64 / 1000.0;
        let behind: Vec<_> = sinks
            .iter()
            .map(|sink| {
                format!(
                    "{} {} batches, {} behind",
                    sink.name, sink.batches_delivered, sink.lag_records
                )
            })
            .collect();
        writeln!(
            out,
            "{:>4.0} s  {:<12} {rate:>6.0} answers/s  granted {:>7}  refused {:>7}  sold {:>7}  \
             p99 {p99:>6.1} ms  {}",
            elapsed.as_secs_f64(),
            self.plan.phase(elapsed),
            tally.granted.get(),
            tally.refused().values().sum::<u64>(),
            tally.orders.get(),
            behind.join("  "),
        )
        .and_then(|()| out.flush())
        .map_err(Error::Output)
    }

    /// Waits until nothing is held and no sink is behind; if it takes too long, the reconciliation
    /// will tell.
    async fn settle(&mut self) -> Result<(), Error> {
        let begin = Instant::now();
        let mut behind: HashSet<String> = HashSet::new();
        for sink in self.look().await? {
            let lag = self.lag(&sink.name);
            lag.records_at_end = sink.lag_records;
            behind.insert(sink.name);
        }
        loop {
            for sink in self.look().await? {
                if sink.lag_records == 0 && behind.remove(&sink.name) {
                    self.lag(&sink.name).caught_up_ms = begin.elapsed().as_millis() as u64;
                }
            }
            let status: Status = self.shop.get("/v1/status").await?;
            let settled = status.open_reservations == 0 && behind.is_empty();
            if settled || begin.elapsed() > SETTLE_WAIT {
                return Ok(());
            }
            sleep(SETTLE_PACE).await;
        }
    }

    /// Reads how the sinks are and keeps the worst.
    async fn look(&mut self) -> Result<Vec<SinkView>, Error> {
        let Sinks { sinks } = self.shop.get("/v1/sinks").await?;
        for sink in &sinks {
            let lag = self.lag(&sink.name);
            lag.records_max = lag.records_max.max(sink.lag_records);
            lag.ms_max = lag.ms_max.max(sink.lag_ms);
        }
        Ok(sinks)
    }

    fn lag(&mut self, sink: &str) -> &mut Lag {
        let at = self.lags.iter().position(|lag| lag.sink == sink).unwrap_or_else(|| {
            self.lags.push(Lag { sink: sink.to_owned(), ..Lag::default() });
            self.lags.len() - 1
        });
        &mut self.lags[at]
    }
}
