//! One picture: a frame with axes, and lines and areas in it, as SVG that takes its colours from the page.

use std::fmt::Write;

use super::scale::Scale;
use crate::report::text::escape;

/// How large a picture is drawn. Each is drawn twice, and the page shows the one whose letters can be read
/// where it is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    class: &'static str,
    width: f64,
    height: f64,
    left: f64,
    /// About how many ticks the axes have room for.
    pub ticks: (usize, usize),
    /// How many columns can be told apart.
    pub columns: usize,
}

/// For screens and paper.
pub const WIDE: Size =
    Size { class: "wide", width: 960.0, height: 380.0, left: 64.0, ticks: (10, 8), columns: 480 };

/// For a hand's width.
pub const NARROW: Size =
    Size { class: "narrow", width: 420.0, height: 330.0, left: 54.0, ticks: (5, 7), columns: 180 };

const TOP: f64 = 14.0;
const RIGHT: f64 = 34.0;
const BOTTOM: f64 = 32.0;

/// The least distance between the lines of two labels.
const LABEL_HEIGHT: f64 = 15.0;

/// A level that a line is compared with.
pub struct Level {
    /// Its value.
    pub value: f64,
    /// How far to the right it goes, as a place.
    pub to: f64,
    /// What it is.
    pub label: String,
}

/// A picture that is being drawn.
pub struct Plot {
    size: Size,
    /// From values to places, to the right.
    pub x: Scale,
    /// From values to places, downwards.
    pub y: Scale,
    out: String,
}

impl Plot {
    /// Begins a picture; the title is for those who can't see it.
    pub fn new(
        size: Size,
        title: &str,
        x: impl Fn(f64, f64) -> Scale,
        y: impl Fn(f64, f64) -> Scale,
    ) -> Self {
        let Size { class, width, height, left, .. } = size;
        let mut out = String::new();
        let _ = write!(
            out,
            "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
            escape(title)
        );
        let (x, y) = (x(left, width - RIGHT), y(height - BOTTOM, TOP));
        Self { size, x, y, out }
    }

    /// The place of the left edge.
    pub fn left(&self) -> f64 {
        self.size.left
    }

    /// The place of the right edge.
    pub fn right(&self) -> f64 {
        self.size.width - RIGHT
    }

    fn bottom(&self) -> f64 {
        self.size.height - BOTTOM
    }

    /// Draws the horizontal axis.
    pub fn axis_x(&mut self, ticks: &[(f64, String)]) {
        let (top, bottom) = (TOP, self.bottom());
        for (value, label) in ticks {
            let x = self.x.at(*value);
            let _ = write!(
                self.out,
                "<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 21.0,
                escape(label)
            );
        }
    }

    /// Draws the vertical axis.
    pub fn axis_y(&mut self, label: impl Fn(f64) -> String) {
        let (left, right) = (self.left(), self.right());
        for value in self.y.ticks(self.size.ticks.1) {
            let y = self.y.at(value);
            // The lowest label keeps clear of the first one of the other axis.
            let down = if y + 6.0 > self.bottom() { 0.0 } else { 5.0 };
            let _ = write!(
                self.out,
                "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 7.0,
                y + down,
                escape(&label(value))
            );
        }
    }

    /// Draws a line through points; where there is none, it has a gap.
    pub fn line(&mut self, class: &str, points: impl Iterator<Item = Option<(f64, f64)>>) {
        let _ = write!(self.out, "<path class=\"line {class}\" d=\"");
        let mut drawing = false;
        for point in points {
            if let Some((x, y)) = point {
                let (x, y) = (self.x.at(x), self.y.at(y));
                let _ = write!(self.out, "{}{x:.1} {y:.1}", if drawing { 'L' } else { 'M' });
                if !drawing {
                    // So that a lone point between two gaps is seen, as a dot.
                    self.out.push_str("h0");
                }
            }
            drawing = point.is_some();
        }
        self.out.push_str("\"/>");
    }

    /// Draws a dot.
    pub fn dot(&mut self, class: &str, x: f64, y: f64) {
        let (x, y) = (self.x.at(x), self.y.at(y));
        let _ =
            write!(self.out, "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
    }

    /// Fills columns between a lower and an upper value; each is from, to, lower, upper.
    pub fn columns(&mut self, class: &str, columns: &[(f64, f64, f64, f64)]) {
        let _ = write!(self.out, "<path class=\"area {class}\" d=\"");
        // Neighbours become one shape: no hair of the background between them.
        let mut at = 0;
        while at < columns.len() {
            let ends = |w: &[(f64, f64, f64, f64)]| (w[0].1 - w[1].0).abs() > 1e-9;
            let run = columns[at..].windows(2).position(ends).map_or(columns.len() - at, |p| p + 1);
            self.shape(&columns[at..at + run]);
            at += run;
        }
        self.out.push_str("\"/>");
    }

    fn shape(&mut self, columns: &[(f64, f64, f64, f64)]) {
        if columns.iter().all(|(_, _, lower, upper)| upper <= lower) {
            return;
        }
        let mut command = 'M';
        for (from, to, _, upper) in columns {
            let (from, to, upper) = (self.x.at(*from), self.x.at(*to), self.y.at(*upper));
            let _ = write!(self.out, "{command}{from:.1} {upper:.1}H{to:.1}");
            command = 'L';
        }
        for (from, to, lower, _) in columns.iter().rev() {
            let (from, to, lower) = (self.x.at(*from), self.x.at(*to), self.y.at(*lower));
            let _ = write!(self.out, "L{to:.1} {lower:.1}H{from:.1}");
        }
        self.out.push('Z');
    }

    /// Draws levels from the left edge, labelled; labels give way to each other.
    pub fn levels(&mut self, mut levels: Vec<Level>) {
        let (low, high) = self.y.ends();
        levels.retain(|level| (low..=high).contains(&level.value));
        levels.sort_by(|a, b| b.value.total_cmp(&a.value));
        let mut free_from = TOP + LABEL_HEIGHT - 3.0;
        for level in levels {
            let (left, y) = (self.left(), self.y.at(level.value));
            let label_y = (y - 5.0).max(free_from);
            free_from = label_y + LABEL_HEIGHT;
            let _ = write!(
                self.out,
                "<path class=\"level\" d=\"M{left} {y:.1}H{:.1}\"/>\
                 <text class=\"label\" x=\"{:.1}\" y=\"{label_y:.1}\">{}</text>",
                level.to,
                left + 6.0,
                escape(&level.label)
            );
        }
    }

    /// Lets whoever points at a column read what is in it.
    pub fn hints(&mut self, hints: impl Iterator<Item = (f64, f64, String)>) {
        let (top, height) = (TOP, self.bottom() - TOP);
        for (from, to, text) in hints {
            let (from, to) = (self.x.at(from), self.x.at(to));
            let _ = write!(
                self.out,
                "<rect class=\"hint\" x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" \
                 height=\"{height}\"><title>{}</title></rect>",
                (to - from).max(0.5),
                escape(&text)
            );
        }
    }

    /// Ends the picture.
    pub fn finish(mut self) -> String {
        let (left, right, bottom) = (self.left(), self.right(), self.bottom());
        let _ =
            write!(self.out, "<path class=\"axis\" d=\"M{left} {TOP}V{bottom}H{right}\"/></svg>");
        self.out
    }
}

/// What a line or an area of a picture is.
pub struct Key {
    /// The class that it is drawn with.
    pub class: &'static str,
    /// What it is.
    pub label: String,
    /// Whether it is an area.
    pub area: bool,
}

impl Key {
    /// Of a line.
    pub fn line(class: &'static str, label: impl Into<String>) -> Self {
        Self { class, label: label.into(), area: false }
    }

    /// Of an area.
    pub fn area(class: &'static str, label: impl Into<String>) -> Self {
        Self { class, label: label.into(), area: true }
    }
}

/// A picture in both sizes, with its heading, its legend and a sentence on how to read it.
pub fn figure(title: &str, says: &str, keys: &[Key], draw: impl Fn(Size, &str) -> Plot) -> String {
    let mut out =
        format!("<figure><h2>{}</h2><p>{}</p><ul class=\"keys\">", escape(title), escape(says));
    for Key { class, label, area } in keys {
        let shape = match area {
            true => format!("<path class=\"area {class}\" d=\"M0 1H26V11H0Z\"/>"),
            false => format!("<path class=\"line {class}\" d=\"M0 6H26\"/>"),
        };
        let _ = write!(
            out,
            "<li><svg class=\"key\" viewBox=\"0 0 26 12\" aria-hidden=\"true\">{shape}</svg>{}</li>",
            escape(label)
        );
    }
    out.push_str("</ul>");
    for size in [WIDE, NARROW] {
        out.push_str(&draw(size, title).finish());
    }
    out.push_str("</figure>");
    out
}
