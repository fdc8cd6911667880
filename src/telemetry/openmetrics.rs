//! The OpenMetrics text format, version 1.0.0: families with type, unit and help, their samples, and
//! the end mark without which a reader takes the text for cut off.

use std::fmt::{Display, Write};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
}

impl Exposition {
    /// Begins a family; `name` without the suffix of its samples, but with its `unit`.
    pub fn family(&mut self, name: &str, kind: Kind, unit: Option<&str>, help: &str) {
        let _ = writeln!(self.text, "# TYPE {name} {}", kind.as_str());
        if let Some(unit) = unit {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        let _ = write!(self.text, "# HELP {name} ");
        self.escaped(help);
        self.text.push('\n');
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
        self.text.push_str("# EOF\n");
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
}
