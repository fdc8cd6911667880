//! A burst of orders against an ERP that takes so many calls a second: how many calls it needs, and how
//! long after the burst the ERP has all of it.

use std::{path::Path, time::Instant};

use holdfast::{
    config::{Domain, SinkConfig},
    delivery::Handle,
    model::command::Priority,
    sinks::{
        self,
        receiver::{Behaviour, Receiver},
    },
};

use super::shop;

#[derive(clap::Args)]
pub struct Args {
    /// Orders in the burst.
    #[arg(long, default_value_t = 1_000_000)]
    orders: u64,
    /// SKUs that they order.
    #[arg(long, default_value_t = 1_000)]
    skus: u64,
    /// Calls a second that the ERP takes; what is beyond is answered 429.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Every order is shipped at once: twice the events, twice the lines.
    #[arg(long)]
    shipped: bool,
}

/// Calls that came to an end.
fn attempts(handle: &Handle) -> u64 {
    let attempts = handle.snapshot()[0].attempts;
    attempts.done + attempts.refused + attempts.denied + attempts.failed
}

pub fn run(args: &Args, dir: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let behaviour = Behaviour { rate_per_s: Some(args.rate), ..Behaviour::default() };
    let erp = runtime.block_on(Receiver::start(behaviour)).expect("an ERP");
    let engine = shop::open(dir, args.orders, args.skus);
    let config = SinkConfig {
        rate_per_s: Some(f64::from(args.rate)),
        ..SinkConfig::new("erp", Domain::Inventory, erp.url())
    };
    let window_ms = config.window_ms_max;
    let handle = sinks::start(&engine, vec![config], runtime.handle()).expect("a sink");
    shop::delivered(&engine, &handle);
    let (before, calls_before) = (erp.totals(), attempts(&handle));
    let began = Instant::now();
    let (shipped, priority) = (args.shipped, Priority::Standard);
    let sale = shop::Sale { orders: 0..args.orders, skus: args.skus, shipped, priority };
    shop::sell(&engine, &sale);
    let (burst, ended) = (began.elapsed(), Instant::now());
    let at_end = attempts(&handle);
    shop::delivered(&engine, &handle);
    let after = ended.elapsed();
    let (totals, retries) = (erp.totals(), handle.snapshot()[0].retries);
    let calls = attempts(&handle) - calls_before;
    let forced = (attempts(&handle) - at_end) as f64 / f64::from(args.rate);
    let events = totals.events - before.events;
    assert_eq!(totals.violations, Vec::<String>::new());
    assert_eq!(totals.moved("sold"), args.orders as i64, "every unit, once");
    assert_eq!(totals.moved("shipped"), if args.shipped { args.orders as i64 } else { 0 });
    println!("events          {events} in {:.2} s, {} SKUs", burst.as_secs_f64(), args.skus);
    println!("calls           {calls}, of them {retries} again");
    println!("events a call   {:.0}", events as f64 / calls as f64);
    println!("lines a call    {:.0}", (totals.lines - before.lines) as f64 / calls as f64);
    println!("after the burst {:.2} s until the ERP had all of it", after.as_secs_f64());
    println!(
        "allowed         {:.2} s: two windows of {window_ms} ms, and {forced:.2} s for the calls after \
         the burst at {} a second",
        2.0 * window_ms as f64 / 1e3 + forced,
        args.rate
    );
    runtime.block_on(handle.shutdown(std::time::Duration::from_secs(5))).expect("an end");
    engine.close().expect("an engine that ends");
}
