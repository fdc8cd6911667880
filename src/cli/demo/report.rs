//! What the demo ends with, for people and as JSON.

use std::{collections::BTreeMap, fmt};

use hdrhistogram::Histogram;
use holdfast::sinks::receiver::Totals;
use serde::Serialize;

use super::{
    books::{Check, Ledger},
    play::{Lag, Played},
    tally::{Operation, Tally},
    visit::Plan,
};

/// Latencies of one operation, in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latencies {
    /// What was asked.
    pub operation: &'static str,
    /// Answers.
    pub answers: u64,
    /// Half of them were faster.
    pub p50_us: u64,
    /// Nine in ten were.
    pub p90_us: u64,
    /// 99 in a hundred were.
    pub p99_us: u64,
    /// 999 in a thousand were.
    pub p999_us: u64,
    /// The slowest.
    pub max_us: u64,
}

impl Latencies {
    fn of(operation: Operation, histogram: &Histogram<u64>) -> Self {
        Self {
            operation: operation.name(),
            answers: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

/// What a receiver got.
#[derive(Debug, Clone, Serialize)]
pub struct Delivered {
    /// The sink.
    pub sink: String,
    /// Calls that it took.
    pub batches: u64,
    /// Calls with a batch that it had already.
    pub repeats: u64,
    /// Records summed up in them.
    pub events: u64,
    /// Lines or postings.
    pub lines: u64,
    /// Records for each call.
    pub events_per_batch: f64,
}

impl Delivered {
    fn of(sink: &str, totals: &Totals) -> Self {
        let batches = totals.batches.max(1) as f64;
        Self {
            sink: sink.to_owned(),
            batches: totals.batches,
            repeats: totals.repeats,
            events: totals.events,
            lines: totals.lines,
            events_per_batch: totals.events as f64 / batches,
        }
    }
}

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was played.
    pub title: String,
    /// How long, in seconds.
    pub seconds: f64,
    /// Shoppers who came.
    pub visits: u64,
    /// Answers a second, over the whole time.
    pub answers_per_second: f64,
    /// Carts granted.
    pub granted: u64,
    /// Carts refused, by code.
    pub refused: BTreeMap<String, u64>,
    /// Orders confirmed.
    pub orders: u64,
    /// Their total, in minor units.
    pub total_minor: i64,
    /// The currency.
    pub currency: String,
    /// Carts given back after a failed payment.
    pub released: u64,
    /// Carts that nobody came back for.
    pub abandoned: u64,
    /// Carts that the server gave back by time.
    pub expired: u64,
    /// Carts that had expired when their shopper wanted to pay.
    pub too_late: u64,
    /// Requests sent twice with the same key; each got the first answer, or is a complaint.
    pub repeats: u64,
    /// Attempts repeated for a busy server.
    pub retries: u64,
    /// Items that everybody wanted.
    pub hot_items: u64,
    /// When those of them that were sold out were so for the first time, in seconds from the opening,
    /// in this order. Carts that were given back sold them again.
    pub hot_items_sold_out_after_s: Vec<f64>,
    /// Units oversold: 0.
    pub oversold: u64,
    /// Bytes of the log in use.
    pub log_bytes_used: u64,
    /// By operation.
    pub latencies: Vec<Latencies>,
    /// By receiver.
    pub delivered: Vec<Delivered>,
    /// By sink.
    pub lags: Vec<Lag>,
    /// The reconciliation.
    pub checks: Vec<Check>,
    /// The first complaints of shoppers and receivers.
    pub complaints: Vec<String>,
    /// Whether everything reconciles.
    pub reconciled: bool,
}

impl Report {
    /// Puts it together.
    pub fn new(
        plan: &Plan,
        tally: &Tally,
        played: Played,
        ledger: &Ledger,
        receivers: [(&str, &Totals); 2],
        checks: Vec<Check>,
    ) -> Self {
        let seconds = played.took.as_secs_f64();
        let violations = receivers.iter().flat_map(|(_, totals)| totals.violations.clone());
        Self {
            title: plan.title.clone(),
            seconds,
            visits: plan.visits.len() as u64,
            answers_per_second: tally.answers() as f64 / seconds.max(0.001),
            granted: tally.granted.get(),
            refused: tally.refused(),
            orders: tally.orders.get(),
            total_minor: tally.minor(),
            currency: plan.currency.to_string(),
            released: tally.released.get(),
            abandoned: tally.abandoned.get(),
            expired: ledger.status.counters.expired,
            too_late: tally.too_late.get(),
            repeats: tally.repeats.get(),
            retries: tally.retries.get(),
            hot_items: plan.catalogue.iter().filter(|item| item.hot).count() as u64,
            hot_items_sold_out_after_s: sold_out(plan, tally),
            oversold: ledger.status.oversold,
            log_bytes_used: ledger.status.log_bytes_used,
            latencies: Operation::ALL
                .into_iter()
                .map(|operation| Latencies::of(operation, &tally.latencies(operation)))
                .filter(|latencies| latencies.answers > 0)
                .collect(),
            delivered: receivers.iter().map(|(n, totals)| Delivered::of(n, totals)).collect(),
            lags: played.lags,
            reconciled: checks.iter().all(|check| check.ok),
            checks,
            complaints: tally.complaints().into_iter().chain(violations).collect(),
        }
    }

    fn sale(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: u64 = self.refused.values().sum();
        writeln!(f, "\n{}", self.title)?;
        writeln!(
            f,
            "  {} shoppers in {:.1} s, {:.0} answers a second",
            thousands(self.visits),
            self.seconds,
            self.answers_per_second
        )?;
        writeln!(f, "  granted    {:>10}", thousands(self.granted))?;
        writeln!(f, "  refused    {:>10}", thousands(refused))?;
        for (code, count) in &self.refused {
            writeln!(f, "    {code:<22} {:>10}", thousands(*count))?;
        }
        writeln!(
            f,
            "  sold       {:>10} orders, {} {}",
            thousands(self.orders),
            money(self.total_minor),
            self.currency
        )?;
        writeln!(
            f,
            "  given back {:>10} after a failed payment, {} of {} left behind expired, {} came too \
             late to pay",
            thousands(self.released),
            thousands(self.expired),
            thousands(self.abandoned),
            thousands(self.too_late)
        )?;
        writeln!(
            f,
            "  sent twice {:>10} with the same key; {} attempts repeated for a busy server",
            thousands(self.repeats),
            thousands(self.retries)
        )?;
        let gone = &self.hot_items_sold_out_after_s;
        if let (Some(first), Some(last)) = (gone.first(), gone.last()) {
            writeln!(
                f,
                "  sold out   {:>10} of {} hot items, the first after {first:.1} s, the last after \
                 {last:.1} s",
                gone.len(),
                self.hot_items
            )?;
        }
        writeln!(f, "  oversold   {:>10}", thousands(self.oversold))
    }

    fn speed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nlatency in ms, seen by the client, waiting for a connection included\n  \
             {:<10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "answers", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for row in &self.latencies {
            writeln!(
                f,
                "  {:<10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                row.operation,
                thousands(row.answers),
                millis(row.p50_us),
                millis(row.p90_us),
                millis(row.p99_us),
                millis(row.p999_us),
                millis(row.max_us)
            )?;
        }
        Ok(())
    }

    fn far_end(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nbehind")?;
        for sink in &self.delivered {
            writeln!(
                f,
                "  {:<8} {} records in {} calls: {:.1} a call; {} lines; {} calls repeated",
                sink.sink,
                thousands(sink.events),
                thousands(sink.batches),
                sink.events_per_batch,
                thousands(sink.lines),
                thousands(sink.repeats)
            )?;
        }
        for lag in &self.lags {
            writeln!(
                f,
                "  {:<8} behind by at most {} records, {} ms; {} at the end, caught up in {} ms",
                lag.sink,
                thousands(lag.records_max),
                thousands(lag.ms_max),
                thousands(lag.records_at_end),
                thousands(lag.caught_up_ms)
            )?;
        }
        Ok(())
    }

    fn reconciliation(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nreconciliation {:>37} {:>14}", "must be", "is")?;
        for check in &self.checks {
            let verdict = if check.ok { "ok" } else { "WRONG" };
            let Check { what, expected, found, .. } = check;
            writeln!(f, "  {what:<36} {expected:>13} {found:>14}  {verdict}")?;
            for difference in &check.differences {
                writeln!(f, "      {difference}")?;
            }
        }
        for complaint in &self.complaints {
            writeln!(f, "  ! {complaint}")?;
        }
        let verdict = if self.reconciled {
            "everything reconciles: shoppers = ledger = ERP = finance"
        } else {
            "IT DOES NOT RECONCILE"
        };
        writeln!(f, "\n{verdict}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sale(f)?;
        self.speed(f)?;
        self.far_end(f)?;
        self.reconciliation(f)
    }
}

/// When the hot items were first sold out, in seconds, in this order.
fn sold_out(plan: &Plan, tally: &Tally) -> Vec<f64> {
    let hot = (0..plan.catalogue.len()).filter(|at| plan.catalogue[*at].hot);
    let mut gone: Vec<_> = hot.filter_map(|at| tally.gone(at)).collect();
    gone.sort_unstable();
    gone.iter().map(std::time::Duration::as_secs_f64).collect()
}

/// A number with commas between its thousands.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Minor units as major ones.
fn money(minor: i64) -> String {
    let (major, rest) = (minor.unsigned_abs() / 100, minor.unsigned_abs() % 100);
    let sign = if minor < 0 { "-" } else { "" };
    format!("{sign}{}.{rest:02}", thousands(major))
}

/// Microseconds as milliseconds.
fn millis(micros: u64) -> String {
    format!("{:.2}", micros as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
        assert_eq!(money(250_031_563), "2,500,315.63");
        assert_eq!(money(-5), "-0.05");
        assert_eq!(millis(1_234), "1.23");
    }
}
