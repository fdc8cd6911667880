//! The configuration of the tester's own server.

use std::path::Path;

use toml::{Table, Value};

use crate::{
    plan::Plan,
    scenario::{ReceiverSpec, Scenario},
};

/// The log's budget, in bytes, unless the scenario says otherwise: disks of testers are small.
const BUDGET_BYTES: i64 = 8 << 30;
/// The least that tables have room for.
const ROWS_MIN: i64 = 4_000_000;

/// What the scenario needs, with what it says itself on top.
pub(super) fn config(
    scenario: &Scenario,
    plan: &Plan,
    (data, gateway): (&Path, &Path),
    receivers: impl Iterator<Item = String>,
) -> Table {
    let mut config = Table::new();
    config.insert("server".to_owned(), server(data).into());
    let mut doors = Table::new();
    doors.insert("socket".to_owned(), gateway.display().to_string().into());
    config.insert("gateway".to_owned(), doors.into());
    let mut log = Table::new();
    log.insert("ack".to_owned(), scenario.server.ack.as_str().into());
    log.insert("budget_bytes".to_owned(), BUDGET_BYTES.into());
    config.insert("log".to_owned(), log.into());
    config.insert("engine".to_owned(), engine(plan).into());
    let sinks: Vec<Value> = scenario
        .receivers
        .iter()
        .zip(receivers)
        .map(|(spec, url)| sink(spec, url).into())
        .collect();
    if !sinks.is_empty() {
        config.insert("sinks".to_owned(), sinks.into());
    }
    merge(&mut config, scenario.server.config.clone());
    config
}

fn server(data: &Path) -> Table {
    let mut server = Table::new();
    server.insert("listen".to_owned(), "127.0.0.1:0".into());
    server.insert("data".to_owned(), data.display().to_string().into());
    // As many as a scenario may have, and those that ask meanwhile.
    server.insert("connections_max".to_owned(), 21_000.into());
    server
}

/// Room for what is planned, so that it is the load that is tested and not a table's limit.
fn engine(plan: &Plan) -> Table {
    let mut engine = Table::new();
    let shoppers = i64::from(plan.shoppers());
    let room = |of: i64| Value::from((shoppers * of).clamp(ROWS_MIN, i64::from(u32::MAX) / 2));
    engine.insert("reservations_max".to_owned(), room(2));
    engine.insert("keys_max".to_owned(), room(4));
    engine.insert("orders_max".to_owned(), room(2));
    engine.insert("customer_limits_max".to_owned(), room(2));
    let positions = i64::from(plan.catalogue().skus) * i64::from(plan.catalogue().locations);
    engine.insert("positions_max".to_owned(), positions.max(1 << 20).into());
    let locations = (0..plan.catalogue().locations).map(|n| Value::from(Plan::location(n)));
    engine.insert("sourcing".to_owned(), locations.collect::<Vec<_>>().into());
    engine
}

fn sink(spec: &ReceiverSpec, url: String) -> Table {
    let mut sink = Table::new();
    sink.insert("name".to_owned(), spec.name.as_str().into());
    sink.insert("domain".to_owned(), spec.domain.as_str().into());
    sink.insert("url".to_owned(), url.into());
    sink.insert("retry_max_ms".to_owned(), 1_000.into());
    if let Some(rate) = spec.rate_per_s {
        // A little below what the receiver takes, as one would agree with a partner.
        sink.insert("rate_per_s".to_owned(), (f64::from(rate) * 0.9).into());
    }
    sink
}

/// Puts one table over another; tables in it likewise, everything else is replaced.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}
