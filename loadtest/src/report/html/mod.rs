//! The page of a run: one file without anything to fetch, for screens from a hand's width to a wall's, dark
//! or light as the reader has it, and for paper.

mod bins;
mod percentiles;
mod plot;
mod scale;
mod tables;
mod timeline;

use std::fmt::Write;

use super::{
    summary::Summary,
    text::{self, escape},
};
use crate::recording::Kind;

/// What the page looks like.
const STYLE: &str = include_str!("style.css");

/// A run to compare with.
#[derive(Debug, Clone, Copy)]
pub struct Against<'a> {
    /// What it is called.
    pub name: &'a str,
    /// It.
    pub summary: &'a Summary,
}

/// Writes the page of a run, compared with another if one is given.
pub fn page(summary: &Summary, against: Option<Against<'_>>) -> String {
    let against = against.as_ref();
    let mut out = head(summary);
    out.push_str(&header(summary, against));
    out.push_str("<main><div class=\"figures\">");
    out.push_str(&percentiles::percentiles(summary, against));
    out.push_str(&timeline::latency(summary, against));
    out.push_str(&timeline::outcomes(summary, against));
    out.push_str(&timeline::lag(summary));
    out.push_str("</div><div class=\"tables\">");
    out.push_str(&tables::checks("Objectives", &summary.run.objectives, "held", "missed"));
    out.push_str(&tables::checks("Audit", &summary.run.audit, "agrees", "differs"));
    if let Some(against) = against {
        out.push_str(&tables::comparison(summary, against));
    }
    out.push_str(&tables::outcomes(summary));
    out.push_str(&tables::quantiles(summary));
    out.push_str(&tables::facts(summary));
    out.push_str("</div></main></body></html>\n");
    out
}

fn title(summary: &Summary) -> &str {
    if summary.run.scenario.is_empty() { "a load test" } else { &summary.run.scenario }
}

fn head(summary: &Summary) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{}: load test</title><style>{STYLE}</style></head><body>",
        escape(title(summary))
    )
}

fn header(summary: &Summary, against: Option<&Against<'_>>) -> String {
    let run = &summary.run;
    let mut out = format!("<header><h1>{}</h1>", escape(title(summary)));
    if !run.about.is_empty() {
        let _ = write!(out, "<p class=\"about\">{}</p>", escape(&run.about));
    }
    let _ = write!(out, "<p class=\"sub\">{}</p>", escape(&line(summary, against)));
    out.push_str(&badges(summary));
    if let Some(void) = &run.void {
        let _ = write!(out, "<p class=\"note void\">{}</p>", escape(void));
    }
    for note in &run.notes {
        let _ = write!(out, "<p class=\"note\">{}</p>", escape(note));
    }
    if !summary.unknown_tags.is_empty() {
        let tags = escape(&summary.unknown_tags.join(", "));
        let _ =
            write!(out, "<p class=\"note\">Not shown, since their tags are not known: {tags}</p>");
    }
    out.push_str(&tiles(summary));
    out.push_str("</header>");
    out
}

/// Who was asked, when, for how long, compared with what.
fn line(summary: &Summary, against: Option<&Against<'_>>) -> String {
    let mut parts = Vec::new();
    if !summary.run.target.is_empty() {
        parts.push(summary.run.target.clone());
    }
    if let Some(started) = started(summary) {
        parts.push(format!("started {started}"));
    }
    parts.push(format!("{} s", text::digits(summary.length_s())));
    if let Some(against) = against {
        parts.push(format!("compared with {}", against.name));
    }
    parts.join(" · ")
}

fn started(summary: &Summary) -> Option<String> {
    let seconds = i64::try_from(summary.started.as_secs()).ok().filter(|seconds| *seconds > 0)?;
    Some(jiff::Timestamp::from_second(seconds).ok()?.to_string())
}

/// Whether it counts, whether it was fast enough, whether the books agree.
fn badges(summary: &Summary) -> String {
    let run = &summary.run;
    let mut badges = Vec::new();
    if run.void.is_some() {
        badges.push(("bad", "✗ void: the tester was late"));
    }
    badges.push(match run.objectives.iter().all(|objective| objective.held) {
        _ if run.objectives.is_empty() => ("open", "no objectives"),
        true => ("good", "✓ objectives held"),
        false => ("bad", "✗ objectives missed"),
    });
    badges.push(match run.audit.iter().all(|check| check.held) {
        _ if run.audit.is_empty() => ("open", "no audit"),
        true => ("good", "✓ audit: the books agree"),
        false => ("bad", "✗ audit: the books differ"),
    });
    let item = |(class, text): &(&str, &str)| format!("<li class=\"{class}\">{text}</li>");
    format!("<ul class=\"badges\">{}</ul>", badges.iter().map(item).collect::<String>())
}

fn tiles(summary: &Summary) -> String {
    let response = summary.response();
    let at = |quantile| match response.is_empty() {
        true => "–".to_owned(),
        false => text::duration(response.value_at_quantile(quantile) as f64),
    };
    let (all, errors) = (summary.all(), summary.count(Kind::Error));
    let tiles = [
        ("requests", text::count(all)),
        ("answered/s", text::short(summary.answered_per_s())),
        ("p50", at(0.5)),
        ("p99", at(0.99)),
        ("p99.9", at(0.999)),
        ("slowest", at(1.0)),
        ("errors", text::share(errors as f64 / all.max(1) as f64)),
    ];
    let tile = |(name, value): &(&str, String)| {
        format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(value))
    };
    format!("<dl class=\"tiles\">{}</dl>", tiles.iter().map(tile).collect::<String>())
}
