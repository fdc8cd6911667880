//! Percentile tables (`.hgrm`), as HdrHistogram's tools print and plot them: values in milliseconds.

use std::io::{self, Write};

use hdrhistogram::Histogram;

use super::{Error, summary::Summary};
use crate::recording::Series;

/// Steps for each halving of the distance to 100 %: what HdrHistogram's tools have.
const TICKS: u32 = 5;

/// Nanoseconds of a millisecond.
const UNIT: f64 = 1e6;

/// The histogram that a name stands for: `response` and `service` over all outcomes, or a tag of a log.
///
/// # Errors
///
/// If there is no such name.
pub fn pick(summary: &Summary, tag: &str) -> Result<Histogram<u64>, Error> {
    match (tag, Series::from_tag(tag)) {
        ("response", _) => Ok(summary.response()),
        ("service", _) => Ok(summary.service()),
        (_, Some(series)) => {
            Ok(summary.series(series).cloned().unwrap_or_else(crate::recording::histogram))
        }
        (_, None) => {
            let known = Series::all().map(Series::tag).collect::<Vec<_>>().join(", ");
            Err(Error::UnknownTag { tag: tag.to_owned(), known })
        }
    }
}

/// Writes the table of a histogram of nanoseconds.
///
/// # Errors
///
/// If it can't be written.
pub fn write(out: &mut impl Write, histogram: &Histogram<u64>) -> io::Result<()> {
    let (value, percentile, count, inverse) =
        ("Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    writeln!(out, "{value:>12} {percentile:>14} {count:>10} {inverse:>14}\n")?;
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (in_ms(step.value_iterated_to()), step.quantile_iterated_to());
        write!(out, "{value:12.6} {quantile:2.12} {count:10}")?;
        match quantile < 1.0 {
            true => writeln!(out, " {:14.2}", 1.0 / (1.0 - quantile))?,
            false => writeln!(out)?,
        }
    }
    let (mean, deviation) = (histogram.mean() / UNIT, histogram.stdev() / UNIT);
    writeln!(out, "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]")?;
    let (max, total) = (in_ms(histogram.max()), histogram.len());
    writeln!(out, "#[Max     = {max:12.6}, Total count    = {total:12}]")?;
    let sub_buckets = sub_buckets(histogram.sigfig());
    writeln!(out, "#[Buckets = {:12}, SubBuckets     = {sub_buckets:12}]", histogram.buckets())
}

fn in_ms(ns: u64) -> f64 {
    ns as f64 / UNIT
}

/// Values of one bucket: the power of two that has room for twice as many as the digits can tell apart.
fn sub_buckets(digits: u8) -> u32 {
    (2 * 10_u32.pow(u32::from(digits))).next_power_of_two()
}
