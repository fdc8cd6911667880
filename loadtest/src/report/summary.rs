//! A run, summed up for its report: histograms of the whole, and a few marks of each interval.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use super::run::Run;
use crate::recording::{Kind, Outcome, Sample, Series, histogram};

/// A run, summed up.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// What is known of the run besides.
    pub run: Run,
    /// When it started, since the epoch; zero: not known.
    pub started: Duration,
    /// Each interval, in order.
    pub points: Vec<Point>,
    /// Tags in the file that are not known here, and are in nothing that is reported.
    pub unknown_tags: Vec<String>,
    totals: BTreeMap<Series, Histogram<u64>>,
    interval: Option<Interval>,
}

/// An interval.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Point {
    /// When it begins, in seconds since the run's start.
    pub begin_s: f64,
    /// How long it is, in seconds.
    pub length_s: f64,
    /// How many requests ended in it, by the kind's number.
    pub counts: [u64; Kind::ALL.len()],
    /// How many were planned in it, of those that ended at all.
    pub planned: u64,
    /// Response times, whatever the outcome; absent: nothing ended.
    pub response: Option<Marks>,
    /// Service times.
    pub service: Option<Marks>,
    /// The tester's own lag.
    pub lag: Option<Marks>,
}

/// A few quantiles, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Marks {
    /// The median.
    pub p50_ns: f64,
    /// 99 % are at most this.
    pub p99_ns: f64,
    /// 99.9 % are at most this.
    pub p999_ns: f64,
    /// The largest.
    pub max_ns: f64,
}

impl Marks {
    /// Of a histogram; none of an empty one.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64;
        (!histogram.is_empty()).then(|| Self {
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: histogram.max() as f64,
        })
    }
}

/// The interval that is being read.
#[derive(Debug, Clone)]
struct Interval {
    begin: Duration,
    point: Point,
    response: Histogram<u64>,
    service: Histogram<u64>,
    lag: Histogram<u64>,
}

/// A sample that is older than one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the interval at {} s comes after the one at {} s", begin.as_secs_f64(), after.as_secs_f64())]
pub struct OutOfOrder {
    /// When it begins.
    pub begin: Duration,
    /// When the one before it begins.
    pub after: Duration,
}

impl Summary {
    /// Of a run of which this is known, and that started then, since the epoch.
    pub fn new(run: Run, started: Duration) -> Self {
        Self { run, started, ..Self::default() }
    }

    /// Adds the next histogram.
    ///
    /// # Errors
    ///
    /// If it belongs to an interval before that of the last one.
    pub fn add(&mut self, sample: &Sample) -> Result<(), OutOfOrder> {
        add(self.totals.entry(sample.series).or_insert_with(histogram), &sample.histogram);
        match &self.interval {
            Some(open) if open.begin > sample.begin => {
                return Err(OutOfOrder { begin: sample.begin, after: open.begin });
            }
            Some(open) if open.begin == sample.begin => {}
            _ => self.close(),
        }
        self.interval.get_or_insert_with(|| Interval::new(sample)).add(sample);
        Ok(())
    }

    fn close(&mut self) {
        if let Some(interval) = self.interval.take() {
            self.points.push(interval.point());
        }
    }

    /// Ends it: intervals in which nothing ended get their place, and each what was planned in it.
    pub fn finish(mut self) -> Self {
        self.close();
        let interval_s = self.run.interval_ms as f64 / 1e3;
        if interval_s > 0.0 {
            let number = |point: &Point| (point.begin_s / interval_s).round() as usize;
            let last = self.points.last().map_or(0, |point| number(point) + 1);
            // As many as a recording tells apart, whatever a file says.
            let length = last.max(self.run.planned.len()).min(crate::recording::INTERVALS_MAX);
            let mut points = vec![Point::default(); length];
            for (at, point) in points.iter_mut().enumerate() {
                point.begin_s = at as f64 * interval_s;
                point.length_s = interval_s;
            }
            for point in &self.points {
                if let Some(place) = points.get_mut(number(point)) {
                    *place = *point;
                }
            }
            for (point, planned) in points.iter_mut().zip(&self.run.planned) {
                point.planned = *planned;
            }
            self.points = points;
        }
        self
    }

    /// The histogram of a series over the whole run; absent: it has none.
    pub fn series(&self, series: Series) -> Option<&Histogram<u64>> {
        self.totals.get(&series)
    }

    /// Response times of all requests, in nanoseconds.
    pub fn response(&self) -> Histogram<u64> {
        self.sum(Series::Response)
    }

    /// Service times of all requests that were sent, in nanoseconds.
    pub fn service(&self) -> Histogram<u64> {
        self.sum(Series::Service)
    }

    /// The tester's lag, in nanoseconds.
    pub fn lag(&self) -> Histogram<u64> {
        self.series(Series::Lag).cloned().unwrap_or_else(histogram)
    }

    fn sum(&self, series: fn(Kind) -> Series) -> Histogram<u64> {
        let mut sum = histogram();
        Kind::ALL
            .into_iter()
            .filter_map(|kind| self.series(series(kind)))
            .for_each(|histogram| add(&mut sum, histogram));
        sum
    }

    /// How many requests ended so, as files tell outcomes apart.
    pub fn count(&self, kind: Kind) -> u64 {
        self.series(Series::Response(kind)).map_or(0, Histogram::len)
    }

    /// How many of the errors ended so, where the run tells.
    pub fn outcome(&self, outcome: Outcome) -> Option<u64> {
        let named = |(name, _): &&(String, u64)| name == outcome.as_str();
        self.run.outcomes.iter().find(named).map(|(_, count)| *count)
    }

    /// How many requests ended in any way.
    pub fn all(&self) -> u64 {
        Kind::ALL.into_iter().map(|kind| self.count(kind)).sum()
    }

    /// How long the run was, in seconds: to the end of the last interval.
    pub fn length_s(&self) -> f64 {
        self.points.last().map_or(0.0, |point| point.begin_s + point.length_s)
    }

    /// How many requests were granted, or rightly answered otherwise, a second, from the first interval in
    /// which anything was planned to the last.
    pub fn answered_per_s(&self) -> f64 {
        let answered = [Kind::Granted, Kind::SoldOut, Kind::Refused].map(|kind| self.count(kind));
        let busy =
            |point: &&Point| point.planned > 0 || point.counts.iter().any(|count| *count > 0);
        let first = self.points.iter().find(busy).map_or(0.0, |point| point.begin_s);
        let last =
            self.points.iter().rfind(busy).map_or(0.0, |point| point.begin_s + point.length_s);
        if last > first { answered.iter().sum::<u64>() as f64 / (last - first) } else { 0.0 }
    }
}

impl Interval {
    fn new(sample: &Sample) -> Self {
        let point = Point {
            begin_s: sample.begin.as_secs_f64(),
            length_s: sample.length.as_secs_f64(),
            ..Point::default()
        };
        let [response, service, lag] = [histogram(), histogram(), histogram()];
        Self { begin: sample.begin, point, response, service, lag }
    }

    fn add(&mut self, sample: &Sample) {
        let to = match sample.series {
            Series::Response(kind) => {
                let count = &mut self.point.counts[kind as usize];
                *count = count.saturating_add(sample.histogram.len());
                &mut self.response
            }
            Series::Service(_) => &mut self.service,
            Series::Lag => &mut self.lag,
        };
        add(to, &sample.histogram);
    }

    fn point(self) -> Point {
        Point {
            response: Marks::of(&self.response),
            service: Marks::of(&self.service),
            lag: Marks::of(&self.lag),
            ..self.point
        }
    }
}

/// Adds values to a histogram that grows: there is none that it could not take.
fn add(to: &mut Histogram<u64>, more: &Histogram<u64>) {
    if to.add(more).is_err() {
        for value in more.iter_recorded() {
            to.saturating_record_n(value.value_iterated_to(), value.count_at_value());
        }
    }
}
