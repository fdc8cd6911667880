//! Intervals, drawn together into as many columns as a picture can show.

use crate::{
    recording::Kind,
    report::{Marks, Point, Summary},
};

/// A column: one interval, or several that follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Where it begins, in seconds since the run's start.
    pub from_s: f64,
    /// Where it ends.
    pub to_s: f64,
    /// How many requests ended in it, by the kind's number.
    pub counts: [u64; Kind::ALL.len()],
    /// How many were planned in it.
    pub planned: u64,
    /// Response times: of the marks of its intervals the largest; no peak is lost.
    pub response: Option<Marks>,
    /// The tester's lag, likewise.
    pub lag: Option<Marks>,
}

impl Bin {
    /// How many requests ended in it.
    pub fn all(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// A count of it, a second.
    pub fn per_s(&self, count: u64) -> f64 {
        if self.to_s > self.from_s { count as f64 / (self.to_s - self.from_s) } else { 0.0 }
    }

    fn of(points: &[Point]) -> Option<Self> {
        let (first, last) = (points.first()?, points.last()?);
        let mut bin = Self {
            from_s: first.begin_s,
            to_s: last.begin_s + last.length_s,
            counts: [0; Kind::ALL.len()],
            planned: 0,
            response: None,
            lag: None,
        };
        for point in points {
            for (sum, count) in bin.counts.iter_mut().zip(point.counts) {
                *sum = sum.saturating_add(count);
            }
            bin.planned = bin.planned.saturating_add(point.planned);
            bin.response = larger(bin.response, point.response);
            bin.lag = larger(bin.lag, point.lag);
        }
        Some(bin)
    }
}

fn larger(a: Option<Marks>, b: Option<Marks>) -> Option<Marks> {
    let (Some(a), Some(b)) = (a, b) else { return a.or(b) };
    Some(Marks {
        p50_ns: a.p50_ns.max(b.p50_ns),
        p99_ns: a.p99_ns.max(b.p99_ns),
        p999_ns: a.p999_ns.max(b.p999_ns),
        max_ns: a.max_ns.max(b.max_ns),
    })
}

/// The intervals of a run in at most so many columns.
pub fn bins(summary: &Summary, columns_max: usize) -> Vec<Bin> {
    let each = summary.points.len().div_ceil(columns_max.max(1)).max(1);
    summary.points.chunks(each).filter_map(Bin::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: u64) -> Point {
        let marks = Marks { p50_ns: 1.0, p99_ns: 2.0, p999_ns: 3.0, max_ns: (at * 7 % 10) as f64 };
        Point {
            begin_s: at as f64,
            length_s: 1.0,
            counts: [at, 0, 0, 0, 1],
            planned: 5,
            response: (at != 7).then_some(marks),
            ..Point::default()
        }
    }

    #[test]
    fn columns_keep_every_request_and_every_peak() {
        let mut summary = Summary::default();
        summary.points = (0..10).map(point).collect();
        let bins = bins(&summary, 4);
        assert_eq!(bins.len(), 4);
        assert_eq!(bins.iter().map(Bin::all).sum::<u64>(), 45 + 10);
        assert_eq!(bins.iter().map(|bin| bin.planned).sum::<u64>(), 50);
        let peaks: Vec<_> = bins.iter().map(|bin| bin.response.map(|marks| marks.max_ns)).collect();
        assert_eq!(peaks, [Some(7.0), Some(8.0), Some(6.0), Some(3.0)]);
        assert_eq!(bins[0].per_s(bins[0].planned), 5.0);
        assert_eq!((bins[3].from_s, bins[3].to_s), (9.0, 10.0));
    }
}
