//! What was counted goes into the log now and then, so that neither an error budget nor a quota begins anew
//! with the process: every [`LOOKS_A_TALLY`] looks, and at the end. A crash loses what was counted since.
//!
//! A service level is written down by quarters of an hour, of which the log keeps those of its window; one
//! that is declared no more is forgotten. With it stands how many of its bad events are open: orders that were
//! late and not delivered, which the next life sees once more. A log without room is tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    engine::Engine,
    model::tally::{Quota, Tally},
    telemetry::ServiceLevel,
    wal::Storage,
};

/// In so many looks, a second each, what was counted is written down once.
pub(super) const LOOKS_A_TALLY: u64 = 10;

const LEVEL: &str = "level/";
const OPEN: &str = "open/";
/// Minutes of a tally's period.
const PERIOD_MINUTES: u64 = 15;
const DAY_S: u64 = 86_400;
/// Tallies of a record, so that the longest stays far below what the log takes.
const RECORD_TALLIES_MAX: usize = 64;

/// Where partners' quotas are counted.
pub trait Quotas: Send + Sync {
    /// What was counted of every partner that has one. Must not wait.
    fn counted(&self) -> Vec<Quota>;
    /// Goes on with these, which were counted before the start.
    fn go_on(&self, counted: Vec<Quota>);
}

/// Nobody has a quota.
pub struct NoQuotas;

impl Quotas for NoQuotas {
    fn counted(&self) -> Vec<Quota> {
        Vec::new()
    }

    fn go_on(&self, _counted: Vec<Quota>) {}
}

/// See the module.
pub(super) struct Keeper {
    quotas: Arc<dyn Quotas>,
    /// Periods of each service level that the log has.
    periods: BTreeMap<String, BTreeSet<u64>>,
    /// What the log has last of each: the period that was under way, and its counts.
    last: BTreeMap<String, Tally>,
    /// What is to be forgotten.
    over: Vec<Tally>,
    /// The period of the start.
    first: u64,
}

impl Keeper {
    /// Goes on with what the log has.
    pub fn new<S: Storage>(
        engine: &Engine<S>,
        levels: &[Arc<ServiceLevel>],
        quotas: Arc<dyn Quotas>,
        now_s: u64,
    ) -> Self {
        let first = now_s / 60 / PERIOD_MINUTES;
        let (periods, last) = (BTreeMap::new(), BTreeMap::new());
        let mut keeper = Self { quotas, periods, last, over: Vec::new(), first };
        let mut counted = Vec::new();
        for tally in engine.take_tallies() {
            let level = levels.iter().find(|level| tally.of == name(level));
            match (level, Quota::of_tally(&tally)) {
                (Some(level), _) => {
                    level.go_on(tally.period * PERIOD_MINUTES, &tally.counts);
                    keeper.periods.entry(tally.of).or_default().insert(tally.period);
                }
                (None, Some(quota)) if quota.day >= now_s / DAY_S => counted.push(quota),
                _ if keeper.goes_on_with_open(levels, &tally) => {}
                _ => keeper.over.push(Tally { counts: Vec::new(), ..tally }),
            }
        }
        keeper.quotas.go_on(counted);
        keeper
    }

    /// Whether it is how many events of a level are open.
    fn goes_on_with_open(&mut self, levels: &[Arc<ServiceLevel>], tally: &Tally) -> bool {
        let level = levels.iter().find(|level| tally.of == name_of_open(level));
        let (Some(level), Some((open, _))) = (level, tally.counts.first()) else { return false };
        level.set_open(*open);
        self.last.insert(tally.of.clone(), tally.clone());
        true
    }

    /// How many events of a level are open, if that is another number than the log has.
    fn open(&self, level: &ServiceLevel) -> Option<Tally> {
        let (of, open) = (name_of_open(level), level.open());
        let counts = if open == 0 { Vec::new() } else { vec![(open, 0)] };
        let is_known = open > 0 || self.last.contains_key(&of);
        let tally = Tally { period: 0, of, counts };
        (is_known && self.is_new(&tally)).then_some(tally)
    }

    /// Writes down what has changed since the last time, as far as the log has room.
    pub fn keep<S: Storage>(&mut self, engine: &Engine<S>, levels: &[Arc<ServiceLevel>]) {
        for level in levels {
            self.forget(level);
        }
        let changed =
            levels.iter().flat_map(|level| self.changed(level).into_iter().chain(self.open(level)));
        let quotas = self.quotas.counted();
        let quotas = quotas.iter().map(Quota::tally).filter(|tally| self.is_new(tally));
        let tallies: Vec<_> = self.over.iter().cloned().chain(changed).chain(quotas).collect();
        for part in tallies.chunks(RECORD_TALLIES_MAX) {
            if let Err(refusal) = engine.tally(part.to_vec()) {
                tracing::debug!(%refusal, "what was counted is written down later");
                return;
            }
            part.iter().for_each(|tally| self.written(tally));
        }
    }

    fn is_new(&self, tally: &Tally) -> bool {
        self.last.get(&tally.of) != Some(tally)
    }

    /// What was counted of a level in the periods that were under way since the last time.
    fn changed(&self, level: &ServiceLevel) -> Vec<Tally> {
        let of = name(level);
        let Some(newest) = level.newest_minute() else { return Vec::new() };
        let newest = newest / PERIOD_MINUTES;
        let last = self.last.get(&of).map_or(self.first, |last| last.period).min(newest);
        // After a long sleep what is out of the window is of no use.
        let oldest = newest.saturating_sub(periods_of(level));
        let tally = |period| {
            let counts = level.minutes(period * PERIOD_MINUTES, PERIOD_MINUTES);
            Tally { period, of: of.clone(), counts }
        };
        let tallies = (last.max(oldest)..=newest).map(tally);
        tallies.filter(|tally| !tally.counts.is_empty() && self.is_new(tally)).collect()
    }

    /// Finds periods that are out of a level's window.
    fn forget(&mut self, level: &ServiceLevel) {
        let of = name(level);
        let Some(newest) = level.newest_minute() else { return };
        let Some(periods) = self.periods.get_mut(&of) else { return };
        let oldest = (newest / PERIOD_MINUTES).saturating_sub(periods_of(level));
        let kept = periods.split_off(&oldest);
        let over = std::mem::replace(periods, kept);
        let gone = |period| Tally { period, of: of.clone(), counts: Vec::new() };
        self.over.extend(over.into_iter().map(gone));
    }

    fn written(&mut self, tally: &Tally) {
        if tally.counts.is_empty() {
            self.over.retain(|over| over != tally);
            if tally.of.starts_with(OPEN) {
                self.last.remove(&tally.of);
            }
            return;
        }
        if tally.of.starts_with(LEVEL) {
            self.periods.entry(tally.of.clone()).or_default().insert(tally.period);
        }
        self.last.insert(tally.of.clone(), tally.clone());
    }
}

fn name_of_open(level: &ServiceLevel) -> String {
    format!("{OPEN}{}", level.promise().name)
}

fn name(level: &ServiceLevel) -> String {
    format!("{LEVEL}{}", level.promise().name)
}

/// Whole periods of a level's window, and the one that it begins in.
fn periods_of(level: &ServiceLevel) -> u64 {
    (level.promise().window_hours * 60).div_ceil(PERIOD_MINUTES)
}
