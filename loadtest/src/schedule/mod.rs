//! When requests are due: every instant is fixed by the stages and the seed before the run, so that
//! neither a slow target nor a late sender changes what is asked for.
//!
//! A stage is a shape of the rate over time ([`Stage`]); [`Arrivals`] says how instants follow from it:
//! evenly, or at random as independent shoppers come (a Poisson process whose rate follows the shape).
//! A recorded trace stands for itself.

mod rate;
mod trace;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dice::Dice;
pub use rate::Piece;
use rate::Walk;

/// The most instants of a schedule: 8 bytes of memory each.
pub const INSTANTS_MAX: usize = 200_000_000;
/// The number of the schedule's dice, which no shopper has.
const DICE: u64 = u64::MAX;

/// Why there is no schedule.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More than can be held.
    #[error(
        "`{field}`: the schedule would have {count} requests, at most {INSTANTS_MAX} are possible; lower the rate or the time"
    )]
    TooMany {
        /// The field.
        field: String,
        /// How many it would be.
        count: f64,
    },
    /// No request at all.
    #[error("`stages`: the schedule has no request; raise a rate or a time")]
    Empty,
    /// A trace that can't be read.
    #[error("`{field}`: reading the trace {}: {source}", path.display())]
    Unreadable {
        /// The field.
        field: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A trace with a line that is no instant.
    #[error("`{field}`: {}, line {line}: `{text}` is not a number of seconds that is not below the one before", path.display())]
    BadTrace {
        /// The field.
        field: String,
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What it says.
        text: String,
    },
}

/// How instants follow from a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// At random, as independent shoppers come.
    #[default]
    Poisson,
    /// At even distances.
    Constant,
}

/// A stage: how the rate goes for a while. Rates are requests (first ones of shoppers) a second, times
/// are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "shape", rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// The same rate all the time.
    Steady {
        /// The rate.
        rate: f64,
        /// How long.
        for_s: f64,
    },
    /// From one rate to another, evenly.
    Ramp {
        /// The rate at the begin.
        from: f64,
        /// The rate at the end.
        to: f64,
        /// How long.
        for_s: f64,
    },
    /// A flash sale: quiet, then up within `rise_s` to `peak` for `hold_s`, and down again within
    /// `fall_s`; then quiet for the rest of `for_s`.
    Spike {
        /// The rate before and after.
        base: f64,
        /// The rate at the top.
        peak: f64,
        /// When it begins to rise.
        at_s: f64,
        /// How long it rises.
        rise_s: f64,
        /// How long it stays at the top.
        hold_s: f64,
        /// How long it falls.
        fall_s: f64,
        /// How long the stage is; no shorter than its parts.
        for_s: f64,
    },
    /// A baseline that at once rises by so many percent, and falls back: `percent = 400` is five times
    /// the baseline.
    Surge {
        /// The rate of the baseline.
        rate: f64,
        /// By how much it rises.
        percent: f64,
        /// How long before.
        before_s: f64,
        /// How long it lasts.
        for_s: f64,
        /// How long after.
        after_s: f64,
    },
    /// Instants that were recorded: a file with one a line, in seconds, rising; the first one is the
    /// stage's begin. Empty lines and those that begin with `#` are passed over.
    Trace {
        /// The file; relative to the scenario's.
        file: PathBuf,
        /// How many times as fast.
        #[serde(default = "one")]
        speed: f64,
    },
}

fn one() -> f64 {
    1.0
}

impl Stage {
    /// Its numbers with the names of their fields, and whether they are times.
    pub fn numbers(&self) -> Vec<(&'static str, f64)> {
        match *self {
            Self::Steady { rate, for_s } => vec![("rate", rate), ("for_s", for_s)],
            Self::Ramp { from, to, for_s } => vec![("from", from), ("to", to), ("for_s", for_s)],
            Self::Spike { base, peak, at_s, rise_s, hold_s, fall_s, for_s } => vec![
                ("base", base),
                ("peak", peak),
                ("at_s", at_s),
                ("rise_s", rise_s),
                ("hold_s", hold_s),
                ("fall_s", fall_s),
                ("for_s", for_s),
            ],
            Self::Surge { rate, percent, before_s, for_s, after_s } => vec![
                ("rate", rate),
                ("percent", percent),
                ("before_s", before_s),
                ("for_s", for_s),
                ("after_s", after_s),
            ],
            Self::Trace { speed, .. } => vec![("speed", speed)],
        }
    }

    /// What it is made of; a trace is made of nothing.
    pub fn pieces(&self) -> Vec<Piece> {
        match *self {
            Self::Steady { rate, for_s } => vec![Piece::level(rate, for_s)],
            Self::Ramp { from, to, for_s } => vec![Piece { from, to, seconds: for_s }],
            Self::Spike { base, peak, at_s, rise_s, hold_s, fall_s, for_s } => vec![
                Piece::level(base, at_s),
                Piece { from: base, to: peak, seconds: rise_s },
                Piece::level(peak, hold_s),
                Piece { from: peak, to: base, seconds: fall_s },
                Piece::level(base, (for_s - at_s - rise_s - hold_s - fall_s).max(0.0)),
            ],
            Self::Surge { rate, percent, before_s, for_s, after_s } => vec![
                Piece::level(rate, before_s),
                Piece::level(rate * (1.0 + percent / 100.0), for_s),
                Piece::level(rate, after_s),
            ],
            Self::Trace { .. } => Vec::new(),
        }
    }
}

/// The instants of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Nanoseconds since the run's start, rising.
    pub instants: Vec<u64>,
    /// When the last stage ends, in nanoseconds since the start.
    pub end: u64,
}

impl Schedule {
    /// Makes one. `scale` multiplies every rate; `folder` is what a trace's file is relative to.
    ///
    /// # Errors
    /// Too many instants or none; a trace that can't be read.
    pub fn new(
        stages: &[Stage],
        arrivals: Arrivals,
        scale: f64,
        seed: u64,
        folder: &Path,
    ) -> Result<Self, Error> {
        let mut schedule = Self { instants: Vec::new(), end: 0 };
        let mut dice = Dice::new(seed, DICE);
        for (at, stage) in stages.iter().enumerate() {
            if let Stage::Trace { file, speed } = stage {
                let field = format!("stages[{at}].file");
                schedule.extend_by_trace(field, &folder.join(file), speed * scale)?;
            } else {
                schedule.extend(format!("stages[{at}]"), stage, arrivals, scale, &mut dice)?;
            }
        }
        if schedule.instants.is_empty() { Err(Error::Empty) } else { Ok(schedule) }
    }

    fn extend(
        &mut self,
        field: String,
        stage: &Stage,
        arrivals: Arrivals,
        scale: f64,
        dice: &mut Dice,
    ) -> Result<(), Error> {
        let pieces: Vec<Piece> = stage
            .pieces()
            .into_iter()
            .map(|p| Piece { from: p.from * scale, to: p.to * scale, ..p })
            .collect();
        let count: f64 = pieces.iter().map(Piece::arrivals).sum();
        self.check_room(&field, count)?;
        let mut walk = Walk::new(&pieces);
        let mut due = match arrivals {
            Arrivals::Poisson => dice.wait(),
            Arrivals::Constant => 0.0,
        };
        while let Some(second) = walk.instant(due) {
            // Chance may bring more than the mean, but never so many that it would matter.
            self.check_room(&field, 1.0)?;
            self.instants.push(self.end + nanos(second));
            due += match arrivals {
                Arrivals::Poisson => dice.wait(),
                Arrivals::Constant => 1.0,
            };
        }
        self.end += nanos(pieces.iter().map(|piece| piece.seconds).sum());
        Ok(())
    }

    fn extend_by_trace(&mut self, field: String, path: &Path, speed: f64) -> Result<(), Error> {
        let seconds = trace::read(&field, path)?;
        self.check_room(&field, seconds.len() as f64)?;
        let begin = seconds.first().copied().unwrap_or(0.0);
        let start = self.end;
        self.instants.extend(seconds.iter().map(|s| start + nanos((s - begin) / speed)));
        self.end = self.instants.last().copied().unwrap_or(start).max(start);
        Ok(())
    }

    fn check_room(&self, field: &str, more: f64) -> Result<(), Error> {
        let count = self.instants.len() as f64 + more;
        if count <= INSTANTS_MAX as f64 {
            return Ok(());
        }
        Err(Error::TooMany { field: field.to_owned(), count })
    }
}

/// The highest rate of stages, in requests a second; 0 where there are traces only.
pub fn peak(stages: &[Stage]) -> f64 {
    let pieces = stages.iter().flat_map(Stage::pieces);
    pieces.filter(|p| p.seconds > 0.0).map(|p| p.from.max(p.to)).fold(0.0, f64::max)
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9).round().max(0.0) as u64
}

#[cfg(test)]
mod tests;
