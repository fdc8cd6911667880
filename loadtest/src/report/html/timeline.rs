//! Pictures over the time of a run: latency, lag, and what became of the requests.

use super::{
    Against,
    bins::{Bin, bins},
    plot::{Key, Level, Plot, Size, figure},
    scale::{Scale, time_ticks},
};
use crate::{
    recording::Kind,
    report::{Summary, text},
};

/// Response times over time: the slowest, p99 and the median of each interval.
pub fn latency(summary: &Summary, against: Option<&Against<'_>>) -> String {
    let mut keys =
        vec![Key::line("max", "slowest"), Key::line("p99", "p99"), Key::line("p50", "median")];
    if let Some(against) = against {
        keys.push(Key::line("was max", format!("slowest, {}", against.name)));
        keys.push(Key::line("was p50", format!("median, {}", against.name)));
    }
    let levels = bounds(summary);
    if !levels.is_empty() {
        keys.push(Key::line("level", "objective"));
    }
    let says =
        "Response times of the requests that ended in each interval, from their planned instants.";
    figure("Latency over time", says, &keys, |size, title| {
        let now = bins(summary, size.columns);
        let was = against.map_or(Vec::new(), |against| bins(against.summary, size.columns));
        let of = |bins: &[Bin], mark: fn(&Bin) -> Option<f64>| line(bins, mark);
        let mut lines = vec![
            ("was max", of(&was, |bin| Some(bin.response?.max_ns))),
            ("was p50", of(&was, |bin| Some(bin.response?.p50_ns))),
            ("p50", of(&now, |bin| Some(bin.response?.p50_ns))),
            ("p99", of(&now, |bin| Some(bin.response?.p99_ns))),
            ("max", of(&now, |bin| Some(bin.response?.max_ns))),
        ];
        lines.retain(|(_, points)| !points.is_empty());
        let mut plot = times(size, title, length(summary, against), &lines, &levels);
        plot.hints(now.iter().filter_map(|bin| {
            let marks = bin.response?;
            let [p50, p99, max] = [marks.p50_ns, marks.p99_ns, marks.max_ns].map(text::duration);
            Some((
                bin.from_s,
                bin.to_s,
                format!("{}\nslowest {max}\np99 {p99}\nmedian {p50}", when(bin)),
            ))
        }));
        plot
    })
}

/// The tester's own lag over time.
pub fn lag(summary: &Summary) -> String {
    let mut keys =
        vec![Key::line("max", "largest"), Key::line("p99", "p99.9"), Key::line("p50", "median")];
    let bound = summary.run.lag_p999_ns_max.map(|ns| {
        (ns as f64, format!("p99.9 ≤ {}, or the run is void", text::duration(ns as f64)))
    });
    if bound.is_some() {
        keys.push(Key::line("level", "bound"));
    }
    let levels: Vec<_> = bound.into_iter().collect();
    let says =
        "How late requests were sent. It is in every response time above, and in no service time.";
    figure("The tester's own lag", says, &keys, |size, title| {
        let now = bins(summary, size.columns);
        let lines = [
            ("p50", line(&now, |bin| Some(bin.lag?.p50_ns))),
            ("p99", line(&now, |bin| Some(bin.lag?.p999_ns))),
            ("max", line(&now, |bin| Some(bin.lag?.max_ns))),
        ];
        let mut plot = times(size, title, summary.length_s(), &lines, &levels);
        plot.hints(now.iter().filter_map(|bin| {
            let marks = bin.lag?;
            let [p50, p999, max] = [marks.p50_ns, marks.p999_ns, marks.max_ns].map(text::duration);
            let text = format!("{}\nlargest {max}\np99.9 {p999}\nmedian {p50}", when(bin));
            Some((bin.from_s, bin.to_s, text))
        }));
        plot
    })
}

/// What became of the requests, a second.
pub fn outcomes(summary: &Summary, against: Option<&Against<'_>>) -> String {
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| summary.count(*kind) > 0).collect();
    let mut keys: Vec<Key> =
        kinds.iter().map(|kind| Key::area(kind.as_str(), name(*kind))).collect();
    keys.push(Key::line("planned", "planned"));
    if let Some(against) = against {
        keys.push(Key::line("was dash", format!("ended, {}", against.name)));
    }
    let says = "Requests a second by how they ended, stacked, in the interval in which they ended; the \
                line is what was planned. Where the area falls below the line, requests were waiting.";
    figure("Throughput and outcomes", says, &keys, |size, title| {
        let now = bins(summary, size.columns);
        let was = against.map_or(Vec::new(), |against| bins(against.summary, size.columns));
        draw_outcomes(size, title, length(summary, against), &kinds, &now, &was)
    })
}

fn draw_outcomes(
    size: Size,
    title: &str,
    length_s: f64,
    kinds: &[Kind],
    now: &[Bin],
    was: &[Bin],
) -> Plot {
    let top = now.iter().chain(was).map(|bin| bin.per_s(bin.all()).max(bin.per_s(bin.planned)));
    let top = top.fold(0.0, f64::max) * 1.05;
    let mut plot = over_time(size, title, length_s, |from, to| Scale::linear(top, from, to));
    plot.axis_y(text::short);
    let mut lower = vec![0.0; now.len()];
    for kind in kinds {
        let column = |(bin, lower): (&Bin, &mut f64)| {
            let from = *lower;
            *lower += bin.per_s(bin.counts[*kind as usize]);
            (bin.from_s, bin.to_s, from, *lower)
        };
        let columns: Vec<_> = now.iter().zip(&mut lower).map(column).collect();
        plot.columns(kind.as_str(), &columns);
    }
    plot.line("was dash", line(was, |bin| Some(bin.per_s(bin.all()))).into_iter());
    if now.iter().any(|bin| bin.planned > 0) {
        plot.line("planned", line(now, |bin| Some(bin.per_s(bin.planned))).into_iter());
    }
    plot.hints(now.iter().map(|bin| {
        let rate = |count| text::short(bin.per_s(count));
        let mut text = format!("{}\nplanned {} a second", when(bin), rate(bin.planned));
        for kind in kinds {
            text += &format!("\n{} {}", name(*kind), rate(bin.counts[*kind as usize]));
        }
        (bin.from_s, bin.to_s, text)
    }));
    plot
}

/// The name of a kind of outcomes.
pub fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::SoldOut => "sold out",
        kind => kind.as_str(),
    }
}

fn when(bin: &Bin) -> String {
    format!("{} to {} s", text::digits(bin.from_s), text::digits(bin.to_s))
}

type Points = Vec<Option<(f64, f64)>>;

/// A step for each column.
fn line(bins: &[Bin], mark: fn(&Bin) -> Option<f64>) -> Points {
    let step = |bin: &Bin| [bin.from_s, bin.to_s].map(|at| Some((at, mark(bin)?)));
    bins.iter().flat_map(step).collect()
}

/// How long the time axis is.
fn length(summary: &Summary, against: Option<&Against<'_>>) -> f64 {
    summary.length_s().max(against.map_or(0.0, |against| against.summary.length_s()))
}

/// The bounds of response times, with their labels.
fn bounds(summary: &Summary) -> Vec<(f64, String)> {
    summary.run.bounds.iter().map(|bound| (bound.ns_max as f64, bound.label())).collect()
}

fn over_time(size: Size, title: &str, length_s: f64, y: impl Fn(f64, f64) -> Scale) -> Plot {
    let mut plot = Plot::new(size, title, |from, to| Scale::linear(length_s, from, to), y);
    let ticks = time_ticks(length_s, size.ticks.0);
    let ticks: Vec<_> = ticks.into_iter().map(|at| (at, text::clock(at, length_s))).collect();
    plot.axis_x(&ticks);
    plot
}

/// Lines of durations over time.
fn times(
    size: Size,
    title: &str,
    length_s: f64,
    lines: &[(&str, Points)],
    levels: &[(f64, String)],
) -> Plot {
    let values = || {
        let points = lines.iter().flat_map(|(_, points)| points.iter().flatten());
        points.map(|(_, value)| *value).chain(levels.iter().map(|(bound, _)| *bound))
    };
    let (min, max) = (values().fold(f64::INFINITY, f64::min), values().fold(1.0, f64::max));
    let mut plot = over_time(size, title, length_s, |from, to| Scale::log(min, max, from, to));
    plot.axis_y(text::duration);
    for (class, points) in lines {
        plot.line(class, points.iter().copied());
    }
    let to = plot.right();
    let level = |(bound, label): &(f64, String)| Level { value: *bound, to, label: label.clone() };
    plot.levels(levels.iter().map(level).collect());
    plot
}
