//! Tables: objectives, what the audit compared, outcomes, the comparison, and where it all came from.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::{Against, timeline::name};
use crate::{
    recording::{Kind, Outcome, Series},
    report::{
        Check, Summary,
        text::{self, escape},
    },
};

/// Quantiles that tables show.
const QUANTILES: [f64; 7] = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 1.0];

/// A ratio this near to 1 says nothing: two runs of the same differ as much.
const NOISE: f64 = 0.05;

/// A table: its heading, the heads of its columns, its rows of HTML. The first column is text, the others
/// are numbers unless it is said otherwise.
struct Table {
    title: &'static str,
    class: &'static str,
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn html(&self) -> String {
        let mut out = format!("<section><h2>{}</h2><div class=\"scroll\">", escape(self.title));
        let _ = write!(out, "<table class=\"{}\"><thead><tr>", self.class);
        for head in &self.heads {
            let _ = write!(out, "<th>{}</th>", escape(head));
        }
        out.push_str("</tr></thead><tbody>");
        for row in &self.rows {
            out.push_str("<tr>");
            for cell in row {
                let _ = write!(out, "<td>{cell}</td>");
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div></section>");
        out
    }
}

fn heads(heads: &[&str]) -> Vec<String> {
    heads.iter().map(|head| (*head).to_owned()).collect()
}

/// A word with its colour, which is never the only sign.
fn mark(held: bool, yes: &str, no: &str) -> String {
    let (class, sign, word) = if held { ("good", "✓", yes) } else { ("bad", "✗", no) };
    format!("<span class=\"{class}\">{sign} {}</span>", escape(word))
}

/// Things that were compared; nothing if there were none.
pub fn checks(title: &'static str, checks: &[Check], yes: &str, no: &str) -> String {
    if checks.is_empty() {
        return String::new();
    }
    let row = |check: &Check| {
        let cells = [&check.name, &check.expected, &check.found].map(|cell| escape(cell));
        cells.into_iter().chain([mark(check.held, yes, no)]).collect()
    };
    let rows = checks.iter().map(row).collect();
    Table { title, class: "words", heads: heads(&["", "wanted", "found", ""]), rows }.html()
}

/// What became of the requests, and how long each took.
pub fn outcomes(summary: &Summary) -> String {
    let all = summary.all().max(1);
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let count = summary.count(kind);
        if count == 0 {
            continue;
        }
        let [response, service] = [Series::Response(kind), Series::Service(kind)];
        let (class, name) = (kind.as_str(), name(kind));
        let swatch = format!("<span class=\"kind\"><i class=\"swatch {class}\"></i>{name}</span>");
        let mut row = vec![swatch, text::count(count), text::share(count as f64 / all as f64)];
        row.extend([0.5, 0.99, 0.999, 1.0].map(|q| at(summary.series(response), q)));
        row.extend([0.5, 0.99].map(|q| at(summary.series(service), q)));
        rows.push(row);
    }
    for (outcome, name) in
        [(Outcome::TimedOut, "no answer in time"), (Outcome::Unsent, "never sent")]
    {
        if let Some(count) = summary.outcome(outcome).filter(|count| *count > 0) {
            let share = text::share(count as f64 / all as f64);
            let mut row = vec![
                format!("<span class=\"sub\">of these {name}</span>"),
                text::count(count),
                share,
            ];
            row.resize(9, String::new());
            rows.push(row);
        }
    }
    let heads = heads(&[
        "outcome",
        "requests",
        "share",
        "p50",
        "p99",
        "p99.9",
        "max",
        "service p50",
        "service p99",
    ]);
    Table { title: "Outcomes", class: "numbers", heads, rows }.html()
}

/// Response, service and lag at many quantiles.
pub fn quantiles(summary: &Summary) -> String {
    let columns = [summary.response(), summary.service(), summary.lag()];
    let row = |quantile: &f64| {
        let cells = columns.iter().map(|histogram| at(Some(histogram), *quantile));
        [text::quantile(*quantile)].into_iter().chain(cells).collect()
    };
    let rows = QUANTILES.iter().map(row).collect();
    let heads = heads(&["", "response", "service", "lag"]);
    Table { title: "Percentiles", class: "numbers", heads, rows }.html()
}

/// Two runs side by side.
pub fn comparison(summary: &Summary, against: &Against<'_>) -> String {
    let mut rows = Vec::new();
    for (label, now, was) in [
        ("response", summary.response(), against.summary.response()),
        ("service", summary.service(), against.summary.service()),
    ] {
        for quantile in QUANTILES {
            let [this, that] = [&now, &was].map(|histogram| value(histogram, quantile));
            if this.is_none() && that.is_none() {
                continue;
            }
            let name = format!("{label} {}", text::quantile(quantile));
            rows.push(compared(name, this, that, text::duration, Some(false)));
        }
    }
    let rates = [summary, against.summary].map(|summary| Some(summary.answered_per_s()));
    rows.push(compared(
        "answered a second".to_owned(),
        rates[0],
        rates[1],
        text::short,
        Some(true),
    ));
    for kind in Kind::ALL {
        let [now, was] =
            [summary, against.summary].map(|s| s.count(kind) as f64 / s.all().max(1) as f64);
        if now > 0.0 || was > 0.0 {
            // Whether more of them is good depends on the scenario; only errors and refusals for load are
            // never welcome.
            let better = matches!(kind, Kind::Shed | Kind::Error).then_some(false);
            rows.push(compared(
                format!("share {}", name(kind)),
                Some(now),
                Some(was),
                text::share,
                better,
            ));
        }
    }
    let heads =
        vec![String::new(), "this run".to_owned(), against.name.to_owned(), "ratio".to_owned()];
    let title = "Comparison";
    Table { title, class: "numbers", heads, rows }.html()
}

fn compared(
    name: String,
    now: Option<f64>,
    was: Option<f64>,
    show: fn(f64) -> String,
    more_is_better: Option<bool>,
) -> Vec<String> {
    let shown = |value: Option<f64>| value.map_or("–".to_owned(), show);
    let ratio = match (now, was) {
        (Some(now), Some(was)) if was > 0.0 => ratio(now / was, more_is_better),
        _ => "–".to_owned(),
    };
    vec![escape(&name), shown(now), shown(was), ratio]
}

fn ratio(ratio: f64, more_is_better: Option<bool>) -> String {
    let text = format!("× {}", text::ratio(ratio));
    match more_is_better {
        Some(more) if (ratio - 1.0).abs() > NOISE => {
            let (class, sign) =
                if (ratio > 1.0) == more { ("good", "▲") } else { ("bad", "▼") };
            format!("<span class=\"{class}\">{sign} {text}</span>")
        }
        _ => text,
    }
}

/// A quantile; none where there are too few requests for it.
fn value(histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
    let enough = quantile >= 1.0 || histogram.len() as f64 * (1.0 - quantile) >= 0.999;
    (enough && !histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64)
}

fn at(histogram: Option<&Histogram<u64>>, quantile: f64) -> String {
    histogram
        .and_then(|histogram| value(histogram, quantile))
        .map_or("–".to_owned(), text::duration)
}

/// Where the figures came from.
pub fn facts(summary: &Summary) -> String {
    let (run, machine) = (&summary.run, &summary.run.machine);
    let known = |value: Option<String>| value.unwrap_or_else(|| "not known".to_owned());
    let command = run.command_line.iter().map(|argument| text::shell(argument)).collect::<Vec<_>>();
    let facts = [
        ("Target", run.target.clone()),
        ("Command line", command.join(" ")),
        ("Seed", run.seed.to_string()),
        ("Load tester", run.version.clone()),
        ("Processor", known(machine.cpu.clone())),
        ("Cores", known(machine.cores.map(|cores| cores.to_string()))),
        ("Memory", known(machine.memory_bytes.map(text::bytes))),
        ("Kernel", known(machine.kernel.clone())),
        ("Filesystem", known(machine.filesystem.clone())),
        ("Load before the run", known(machine.load.map(|load| format!("{load:.2}")))),
    ];
    let mut out = "<section><h2>Where and how</h2><dl>".to_owned();
    for (name, fact) in facts.iter().filter(|(_, fact)| !fact.is_empty()) {
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(fact));
    }
    out.push_str("</dl></section>");
    if !run.scenario_toml.is_empty() {
        let toml = escape(run.scenario_toml.trim_end());
        let _ = write!(out, "<section><h2>Scenario</h2><pre>{toml}</pre></section>");
    }
    out
}
