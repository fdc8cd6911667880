//! `holdfast latency`: where the time of a running server's requests goes, drawn in the terminal.
//!
//! A bar for each route and each of its stages, on one logarithmic scale: full up to the median, then
//! lighter up to the 90th, the 99th and the 99.9th percentile, dotted up to the longest. Eighty columns. What
//! came in by the gateway has bars of its own.

use std::{
    fmt::Write as _,
    io::{BufWriter, IsTerminal, Write},
    thread,
    time::Duration,
};

use clap::Args;
use holdfast::telemetry::{DurationCounts, LatencyReport};
use reqwest::Method;

use super::{
    Error, Outcome,
    ask::{Server, read},
};

/// Columns of a line's name, of its bar, and of each of its figures.
const NAME_COLUMNS: usize = 12;
const BAR_COLUMNS: usize = 36;
const FIGURE_COLUMNS: usize = 8;
/// Clears a terminal and goes to its beginning.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Where the time of requests goes, by route and by stage.
#[derive(Debug, Args)]
pub struct Latency {
    /// Look again and again, and each time show what came since the look before.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Milliseconds between two looks.
    #[arg(long, default_value_t = 2_000, requires = "watch", value_parser = clap::value_parser!(u64).range(10..))]
    every_ms: u64,
    /// End after so many looks.
    #[arg(long, requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    looks: Option<u64>,
    /// Only routes whose method and path have this in them, `POST /v1/reservations` say, or `gateway`.
    #[arg(long, value_name = "TEXT")]
    route: Option<String>,
    /// Print the server's answer as JSON, all routes.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Latency {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        if self.json {
            print(&format!("{:#}\n", self.ask()?))?;
            return Ok(Outcome::Good);
        }
        let looks = if self.watch { self.looks.unwrap_or(u64::MAX) } else { 1 };
        let clears = self.watch && std::io::stdout().is_terminal();
        let mut before: Option<LatencyReport> = None;
        for look in 0..looks {
            if look > 0 {
                thread::sleep(Duration::from_millis(self.every_ms));
            }
            let now: LatencyReport = read(self.ask()?)?;
            let frame = self.frame(&now, before.as_ref());
            print(&if clears { format!("{CLEAR}{frame}") } else { frame })?;
            before = Some(now);
        }
        Ok(Outcome::Good)
    }

    fn ask(&self) -> Result<serde_json::Value, Error> {
        self.server.call(Method::GET, &["v1", "latency"], &[])
    }

    /// A whole picture: what came since `before`, or since the server began to count.
    fn frame(&self, now: &LatencyReport, before: Option<&LatencyReport>) -> String {
        let since = before.map_or(now.since, |before| before.at);
        let ms = now.at.millis().saturating_sub(since.millis());
        let mut text = format!("{} to {}: {:.1} s\n", since, now.at, ms as f64 / 1e3);
        let before = before.map(|report| self.blocks(report)).unwrap_or_default();
        let blocks: Vec<Block> =
            self.blocks(now).into_iter().filter_map(|block| block.since(&before)).collect();
        if blocks.is_empty() {
            text.push_str("nothing was asked\n");
            return text;
        }
        let scale = Scale::of(blocks.iter().flat_map(|block| &block.lines).map(|(_, c)| c));
        blocks.iter().for_each(|block| block.draw(&scale, &mut text));
        text
    }

    fn blocks(&self, report: &LatencyReport) -> Vec<Block> {
        let of_gateways = report.gateway.iter().map(|route| ("gateway ", route));
        let routes = report.routes.iter().map(|route| ("", route)).chain(of_gateways);
        let routes = routes.map(|(door, route)| {
            let stages = route.stages.iter().map(|s| (s.stage.clone(), s.durations.counts()));
            let total = ("total".to_owned(), route.total.counts());
            let title = format!("{door}{} {}", route.method, route.route);
            Block { title, lines: std::iter::once(total).chain(stages).collect() }
        });
        let wanted = |block: &Block| self.route.as_ref().is_none_or(|r| block.title.contains(r));
        let log = [("append", &report.log.append), ("sync", &report.log.sync)];
        let log = log.map(|(name, durations)| (name.to_owned(), durations.counts()));
        let log = Block { title: "log".to_owned(), lines: log.into() };
        routes.filter(wanted).chain([log]).collect()
    }
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
}

/// A route with its stages, or the log.
struct Block {
    title: String,
    lines: Vec<(String, DurationCounts)>,
}

impl Block {
    /// What is in it and not in the block of this title before; `None` if that is nothing.
    fn since(self, before: &[Block]) -> Option<Block> {
        let before = before.iter().find(|block| block.title == self.title);
        let earlier = |name: &str| before.and_then(|b| b.lines.iter().find(|(n, _)| n == name));
        let lines = self.lines.into_iter().map(|(name, counts)| {
            let counts = earlier(&name).map_or(counts.clone(), |(_, was)| counts.since(was));
            (name, counts)
        });
        let lines: Vec<_> = lines.filter(|(_, counts)| counts.count() > 0).collect();
        (!lines.is_empty()).then_some(Block { title: self.title, lines })
    }

    fn draw(&self, scale: &Scale, text: &mut String) {
        let _ = writeln!(text, "\n{}", self.title);
        let _ = write!(text, "{:NAME_COLUMNS$}{}", "", scale.axis());
        for figure in ["p50", "p99", "p99.9", "max"] {
            let _ = write!(text, "{figure:>FIGURE_COLUMNS$}");
        }
        text.push('\n');
        for (name, counts) in &self.lines {
            let name = if name == "total" { name.clone() } else { format!("  {name}") };
            let _ = write!(text, "{name:NAME_COLUMNS$}{}", scale.bar(counts));
            for quantile in [0.5, 0.99, 0.999, 1.0] {
                let figure = figure(counts.quantile_ns(quantile));
                let _ = write!(text, "{figure:>FIGURE_COLUMNS$}");
            }
            let _ = writeln!(text);
        }
        let counted: Vec<_> =
            self.lines.iter().map(|(name, c)| format!("{name} {}", c.count())).collect();
        wrapped(&counted, text);
    }
}

/// How many there are of each, as lines that fit.
fn wrapped(words: &[String], text: &mut String) {
    let width = NAME_COLUMNS + BAR_COLUMNS + 4 * FIGURE_COLUMNS;
    let mut line = "  count:".to_owned();
    for word in words {
        if line.chars().count() + 1 + word.chars().count() > width {
            let _ = writeln!(text, "{line}");
            line = " ".repeat(8);
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(text, "{line}");
}

/// The logarithmic scale of all bars: whole powers of ten.
struct Scale {
    /// The power of ten, in nanoseconds, where bars begin.
    from: u32,
    to: u32,
}

impl Scale {
    fn of<'a>(all: impl Iterator<Item = &'a DurationCounts>) -> Self {
        let (mut least, mut most) = (u64::MAX, 1);
        for counts in all {
            least = least.min(counts.quantile_ns(0.5).max(1));
            most = most.max(counts.max_ns());
        }
        // From below the least median, so that every bar has a body.
        let from = least.min(most).ilog10().saturating_sub(1);
        Self { from, to: most.ilog10() + 1 }
    }

    /// The column of a duration, 0 to [`BAR_COLUMNS`].
    fn column(&self, ns: u64) -> usize {
        let at =
            ((ns.max(1) as f64).log10() - f64::from(self.from)) / f64::from(self.to - self.from);
        (at.clamp(0.0, 1.0) * BAR_COLUMNS as f64).round() as usize
    }

    /// The powers of ten, as many as there is room for.
    fn axis(&self) -> String {
        let mut axis = String::new();
        for power in self.from..self.to {
            let ns = 10_u64.saturating_pow(power);
            let (label, column, drawn) = (label(power), self.column(ns), axis.chars().count());
            if column >= drawn && column + label.chars().count() <= BAR_COLUMNS {
                let _ = write!(axis, "{:blank$}{label}", "", blank = column - drawn);
            }
        }
        format!("{axis:BAR_COLUMNS$}")
    }

    fn bar(&self, counts: &DurationCounts) -> String {
        let mut bar = String::new();
        let mut drawn = 0;
        for (quantile, fill) in [(0.5, '█'), (0.9, '▓'), (0.99, '▒'), (0.999, '░'), (1.0, '·')]
        {
            let column = self.column(counts.quantile_ns(quantile));
            bar.extend(std::iter::repeat_n(fill, column.saturating_sub(drawn)));
            drawn = drawn.max(column);
        }
        format!("{bar:BAR_COLUMNS$}")
    }
}

/// A power of ten nanoseconds, marked.
fn label(power: u32) -> String {
    let (unit, thousands) = match power / 3 {
        0 => ("ns", 0),
        1 => ("µs", 1),
        2 => ("ms", 2),
        _ => ("s", 3),
    };
    format!("|{}{unit}", 10_u64.saturating_pow(power - 3 * thousands))
}

/// A duration with three digits and its unit.
fn figure(ns: u64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs")];
    let value = ns as f64;
    // By what it is rounded to, so that it never has four digits.
    let Some((size, unit)) = units.into_iter().find(|(size, _)| value >= size * 0.9995) else {
        return format!("{ns} ns");
    };
    let value = value / size;
    let decimals = [9.995, 99.95].iter().filter(|limit| value < **limit).count();
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use holdfast::telemetry::Durations;

    use super::*;

    fn counts(ns: impl IntoIterator<Item = u64>) -> DurationCounts {
        let durations = Durations::default();
        ns.into_iter().for_each(|ns| durations.record_ns(ns));
        durations.counts()
    }

    #[test]
    fn a_duration_has_three_digits() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (999_400, "999 µs"),
            (999_600, "1.00 ms"),
            (123_456_789, "123 ms"),
            (61_000_000_000, "61.0 s"),
        ] {
            assert_eq!(figure(ns), text);
        }
    }

    #[test]
    fn a_bar_reaches_as_far_as_its_percentiles() {
        let scale = Scale { from: 3, to: 7 };
        // Nine columns a power of ten: the median at 10 µs, the longest at 1 ms.
        let bar = scale.bar(&counts((0..98).map(|_| 10_000).chain([100_000, 1_000_000])));
        assert_eq!(
            bar,
            format!("{}{}{}{}", "█".repeat(9), "▒".repeat(9), "░".repeat(9), " ".repeat(9))
        );
        assert_eq!(scale.axis(), format!("{:36}", "|1µs     |10µs    |100µs   |1ms"));
    }

    #[test]
    fn every_line_fits_into_eighty_columns_whatever_was_measured() {
        let lines = vec![
            ("total".to_owned(), counts([1, 1_000, u64::MAX])),
            ("sync_wait".to_owned(), counts([0])),
        ];
        let block = Block { title: "GET /".to_owned(), lines };
        let scale = Scale::of(block.lines.iter().map(|(_, counts)| counts));
        let mut text = String::new();
        block.draw(&scale, &mut text);
        wrapped(&vec!["123456789".to_owned(); 30], &mut text);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert_eq!(text.lines().nth(3).map(|line| line.chars().count()), Some(80));
    }

    #[test]
    fn a_second_look_shows_what_is_new() {
        let block = |total: &[u64]| Block {
            title: "a".to_owned(),
            lines: vec![("total".to_owned(), counts(total.iter().copied()))],
        };
        let new = block(&[5, 900]).since(&[block(&[5])]).unwrap();
        assert_eq!(new.lines[0].1, counts([900]));
        assert!(block(&[5]).since(&[block(&[5])]).is_none());
    }
}
