//! The percentile plot: how slow the slowest of ten, of a hundred, … of a hundred thousand were.

use hdrhistogram::Histogram;

use super::{
    Against,
    plot::{Key, Level, Plot, Size, figure},
    scale::Scale,
};
use crate::report::{Bound, Summary, text};

/// Five nines: where the plot ends at most.
const NINES: f64 = 5.0;

/// Places along the plot at which a value is looked up.
const STEPS: usize = 240;

/// A line of the plot: its class, and a point for each place; ends where there are too few requests to
/// tell more.
struct Line {
    class: &'static str,
    points: Vec<(f64, f64)>,
}

impl Line {
    fn of(class: &'static str, histogram: &Histogram<u64>) -> Self {
        let nines = (histogram.len() as f64).log10().clamp(0.0, NINES);
        let point = |at: usize| {
            let x = nines * at as f64 / STEPS as f64;
            let quantile = 1.0 - 10_f64.powf(-x);
            (x, histogram.value_at_quantile(quantile) as f64)
        };
        let points =
            if histogram.is_empty() { Vec::new() } else { (0..=STEPS).map(point).collect() };
        Self { class, points }
    }
}

/// Draws it.
pub fn percentiles(summary: &Summary, against: Option<&Against<'_>>) -> String {
    let mut lines = Vec::new();
    let mut keys = Vec::new();
    if let Some(against) = against {
        lines.push(Line::of("was service", &against.summary.service()));
        lines.push(Line::of("was response", &against.summary.response()));
        keys.push(Key::line("was response", format!("response, {}", against.name)));
        keys.push(Key::line("was service", format!("service, {}", against.name)));
    }
    // The dashed one on top: where they are the same, both are seen.
    lines.push(Line::of("response", &summary.response()));
    lines.push(Line::of("service", &summary.service()));
    keys.insert(0, Key::line("service", "service: from the sending"));
    keys.insert(0, Key::line("response", "response: from the planned instant"));
    let bounds = bounds(summary);
    if !bounds.is_empty() {
        keys.push(Key::line("level", "objective"));
    }
    let says = "Response time counts from the instant a request was planned for, so waiting to be sent \
                counts too. Where the two lines part, requests had to wait.";
    figure("Latency by percentile", says, &keys, |size, title| draw(size, title, &lines, &bounds))
}

/// The bounds of response times: the place, the bound, the label.
fn bounds(summary: &Summary) -> Vec<(f64, f64, String)> {
    let level = |bound: &Bound| {
        let nines = -(1.0 - bound.quantile).max(1e-9).log10();
        (nines.clamp(0.0, NINES), bound.ns_max as f64, bound.label())
    };
    summary.run.bounds.iter().map(level).collect()
}

fn draw(size: Size, title: &str, lines: &[Line], bounds: &[(f64, f64, String)]) -> Plot {
    let values = || {
        let points = lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
        points.chain(bounds.iter().map(|(_, bound, _)| *bound))
    };
    let (min, max) = (values().fold(f64::INFINITY, f64::min), values().fold(1.0, f64::max));
    let mut plot = Plot::new(
        size,
        title,
        |from, to| Scale::linear(NINES, from, to),
        |from, to| Scale::log(min, max, from, to),
    );
    let names = ["0%", "90%", "99%", "99.9%", "99.99%", "99.999%"];
    let mut ticks: Vec<_> = (0..).map(f64::from).zip(names.map(str::to_owned)).collect();
    if size.ticks.0 > names.len() {
        ticks.push((0.5_f64.log10().abs(), "50%".to_owned()));
    }
    plot.axis_x(&ticks);
    plot.axis_y(text::duration);
    for line in lines {
        plot.line(line.class, line.points.iter().copied().map(Some));
        if let Some((x, y)) = line.points.last() {
            plot.dot(line.class, *x, *y);
        }
    }
    let level = |(nines, bound, label): &(f64, f64, String)| Level {
        value: *bound,
        to: plot.x.at(*nines),
        label: label.clone(),
    };
    let levels = bounds.iter().map(level).collect();
    plot.levels(levels);
    plot
}
