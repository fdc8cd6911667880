//! The OpenMetrics text format, version 1.0.0: families with type, unit and help, their samples with
//! exemplars, and the end mark without which a reader takes the text for cut off. Who asks for the older
//! text format of Prometheus gets that.

use std::fmt::{Display, Write};

use super::Exemplar;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The media type of the older text.
const CONTENT_TYPE_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The form of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// OpenMetrics, without what a simple reader stumbles over.
    #[default]
    OpenMetrics,
    /// The same with exemplars, for who asks for it by name.
    WithExemplars,
    /// The older text format of Prometheus, 0.0.4.
    Text,
}

impl Format {
    /// What an `Accept` header asks for; the first that is known, whatever the weights: who knows
    /// OpenMetrics names it first.
    pub fn accepted(accept: &str) -> Self {
        let types = accept.split(',').filter_map(|range| range.split(';').next().map(str::trim));
        let known = |media: &str| match media {
            "application/openmetrics-text" => Some(Self::WithExemplars),
            "text/plain" => Some(Self::Text),
            _ => None,
        };
        types.into_iter().find_map(known).unwrap_or_default()
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics | Self::WithExemplars => CONTENT_TYPE,
            Self::Text => CONTENT_TYPE_TEXT,
        }
    }
}

/// What a family counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; its samples end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, count and sum.
    Histogram,
    /// Labels that say what this is; its sample ends in `_info` and is 1.
    Info,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// A text in the making. Families must not repeat, and each one's samples follow it.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    format: Format,
}

impl Exposition {
    /// A text of this form.
    pub fn new(format: Format) -> Self {
        Self { text: String::new(), format }
    }

    /// Begins a family; `name` without the suffix of its samples, but with its `unit`.
    pub fn family(&mut self, name: &str, kind: Kind, unit: Option<&str>, help: &str) {
        let (suffix, kind) = match (self.format, kind) {
            (Format::Text, Kind::Counter) => ("_total", "counter"),
            (Format::Text, Kind::Info) => ("_info", "gauge"),
            (_, kind) => ("", kind.as_str()),
        };
        let _ = writeln!(self.text, "# TYPE {name}{suffix} {kind}");
        if let Some(unit) = unit.filter(|_| self.format != Format::Text) {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        let _ = write!(self.text, "# HELP {name}{suffix} ");
        self.escaped(help);
        self.text.push('\n');
    }

    /// Adds a sample, and an example of what it counts.
    pub fn sample_like(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: impl Display,
        example: Option<Exemplar>,
    ) {
        let Some(example) = example.filter(|_| self.format == Format::WithExemplars) else {
            return self.sample(name, labels, value);
        };
        self.sample(name, labels, format_args!("{value} # {example}"));
    }

    /// Adds a sample.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"");
            self.escaped(text);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, Kind::Counter, unit_of(name), help);
        self.sample(&format!("{name}_total"), &[], value);
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, Kind::Gauge, unit_of(name), help);
        self.sample(name, &[], value);
    }

    /// The whole text, with its end mark.
    pub fn finish(mut self) -> String {
        if self.format != Format::Text {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                c => self.text.push(c),
            }
        }
    }
}

/// The unit that a name ends in.
fn unit_of(name: &str) -> Option<&'static str> {
    ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_the_format_wants_it() {
        let mut text = Exposition::default();
        text.counter("holdfast_log_bytes", "Bytes appended.", 7);
        text.family("holdfast_sink", Kind::Gauge, None, "A \"sink\".");
        text.sample("holdfast_sink", &[("name", "a\"b\\c\n"), ("domain", "x")], 0.5);
        let want = "# TYPE holdfast_log_bytes counter\n# UNIT holdfast_log_bytes bytes\n\
                    # HELP holdfast_log_bytes Bytes appended.\nholdfast_log_bytes_total 7\n\
                    # TYPE holdfast_sink gauge\n# HELP holdfast_sink A \\\"sink\\\".\n\
                    holdfast_sink{name=\"a\\\"b\\\\c\\n\",domain=\"x\"} 0.5\n# EOF\n";
        assert_eq!(text.finish(), want);
    }

    #[test]
    fn the_older_format_names_its_families_as_their_samples() {
        let mut text = Exposition::new(Format::Text);
        text.counter("holdfast_log_bytes", "Bytes.", 7);
        text.family("holdfast_build", Kind::Info, None, "It.");
        let want = "# TYPE holdfast_log_bytes_total counter\n# HELP holdfast_log_bytes_total Bytes.\n\
                    holdfast_log_bytes_total 7\n# TYPE holdfast_build_info gauge\n\
                    # HELP holdfast_build_info It.\n";
        assert_eq!(text.finish(), want);
    }

    #[test]
    fn the_form_is_the_one_that_is_asked_for() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::WithExemplars);
        assert_eq!(Format::accepted("text/plain"), Format::Text);
        for other in ["", "*/*", "application/json"] {
            assert_eq!(Format::accepted(other), Format::OpenMetrics);
        }
    }
}
