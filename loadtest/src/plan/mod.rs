//! The plan of a run: who comes when, what he wants, and what he does next. It is a function of the
//! scenario and its seed alone.
//!
//! Only the instants are kept. What a shopper does follows from the seed and his number whenever it is
//! asked for, in a fraction of a microsecond, so that a plan of a hundred million requests fits into
//! memory and the audit afterwards can go through all of them again.

pub(crate) mod render;

use std::fmt::Write;

use smallvec::SmallVec;

use crate::{
    dice::{Choice, Dice},
    scenario::{Catalogue, Retries, Scenario, Shoppers},
    schedule::{self, Schedule},
};

/// Tax in a gross price, in percent.
const TAX_PERCENT: u64 = 19;
/// The tax code of every line.
const TAX_CODE: &str = "DE-19";
/// The currency of every order.
const CURRENCY: &str = "EUR";

/// A line of a cart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The SKU's number, from 0.
    pub sku: u32,
    /// Units.
    pub quantity: u32,
}

impl Line {
    /// Price of one unit in cents, tax contained.
    pub fn unit_price(&self) -> u64 {
        999 + u64::from(self.sku % 90) * 100
    }

    /// Tax contained in the whole line, in cents.
    pub fn tax(&self) -> u64 {
        let gross = self.unit_price() * u64::from(self.quantity);
        gross - gross * 100 / (100 + TAX_PERCENT)
    }
}

/// What a shopper does with what he holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// He pays: it becomes an order.
    Buys,
    /// His payment fails: he gives it back.
    GivesBack,
    /// He leaves it until it expires.
    Leaves,
}

/// What a shopper wants, and does if he gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// His number in the plan, from 0.
    pub shopper: u32,
    /// Who he is; several visits may be of the same customer.
    pub customer: u32,
    /// His cart; each SKU once.
    pub lines: SmallVec<[Line; 4]>,
    /// Whether he orders in one step, without holding first.
    pub one_step: bool,
    /// What he does next.
    pub ending: Ending,
    /// How long after his first request he does it, in nanoseconds.
    pub think: u64,
    /// How long after his first request he sends it again, in nanoseconds.
    pub twice: Option<u64>,
}

impl Visit {
    /// What his order costs in cents, tax contained.
    pub fn total(&self) -> u64 {
        self.lines.iter().map(|line| line.unit_price() * u64::from(line.quantity)).sum()
    }

    /// Units of the cart.
    pub fn units(&self) -> u64 {
        self.lines.iter().map(|line| u64::from(line.quantity)).sum()
    }
}

/// A plan.
#[derive(Debug)]
pub struct Plan {
    /// When the shoppers come.
    pub schedule: Schedule,
    /// The name of this run: the first part of every key, order and customer. Not part of the plan's
    /// content, so that a plan can be carried out again on a server that knows an earlier run.
    pub run: String,
    /// In a closed loop: the callers, each of whom asks again as soon as he has his answer, until the
    /// schedule's end; the schedule's instants then only say how many visits there are at most. `None` in an
    /// open loop.
    pub callers: Option<u32>,
    seed: u64,
    catalogue: Catalogue,
    shoppers: Shoppers,
    retries: Retries,
    popularity: Choice,
    lines: Choice,
    quantity: Choice,
}

impl Plan {
    /// Makes the plan of a scenario, with all rates multiplied by `scale`. `run` is 1 to 16 letters and
    /// digits.
    ///
    /// # Errors
    /// As [`Schedule::new`].
    pub fn new(scenario: &Scenario, scale: f64, run: &str) -> Result<Self, schedule::Error> {
        Ok(Self::of_schedule(scenario, scenario.schedule(scale)?, run))
    }

    /// Makes the plan of a closed loop, which says how much a target takes when it is never asked for more
    /// than it has answered, and nothing of what shoppers would feel: the scenario's shoppers, of whom there
    /// are `callers` at any time, for `seconds`, and not more than `visits_max` in all.
    pub fn closed(
        scenario: &Scenario,
        callers: u32,
        seconds: f64,
        visits_max: u32,
        run: &str,
    ) -> Self {
        let instants = vec![0; visits_max as usize];
        let end = (seconds.clamp(0.0, 86_400.0) * 1e9) as u64;
        let plan = Self::of_schedule(scenario, Schedule { instants, end }, run);
        Self { callers: Some(callers.max(1)), ..plan }
    }

    /// Makes the plan of a scenario's shoppers, who come at other instants.
    pub fn of_schedule(scenario: &Scenario, schedule: Schedule, run: &str) -> Self {
        Self {
            schedule,
            run: run.to_owned(),
            callers: None,
            seed: scenario.seed,
            catalogue: scenario.catalogue.clone(),
            shoppers: scenario.shoppers.clone(),
            retries: scenario.retries.clone(),
            popularity: Choice::zipf(scenario.catalogue.skus as usize, scenario.catalogue.zipf),
            lines: Choice::new(&scenario.shoppers.lines),
            quantity: Choice::new(&scenario.shoppers.quantity),
        }
    }

    /// How many shoppers come.
    pub fn shoppers(&self) -> u32 {
        // The schedule's limit keeps it within 32 bits.
        self.schedule.instants.len() as u32
    }

    /// What there is to buy.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// When shoppers ask again.
    pub fn retries(&self) -> &Retries {
        &self.retries
    }

    /// When the last request is due at the latest, in nanoseconds since the start; retries come after it.
    pub fn end(&self) -> u64 {
        let last = self.schedule.instants.last().copied().unwrap_or(0);
        last.max(self.schedule.end) + self.shoppers.think_ms[1] * 1_000_000
    }

    /// How long holds last, in nanoseconds.
    pub fn ttl(&self) -> u64 {
        self.shoppers.ttl_ms * 1_000_000
    }

    /// The visit of a shopper.
    pub fn visit(&self, shopper: u32) -> Visit {
        let mut dice = Dice::new(self.seed, shopper.into());
        let count = self.lines.choose(&mut dice) + 1;
        let mut lines: SmallVec<[Line; 4]> = SmallVec::new();
        for _ in 0..count {
            let sku = self.popularity.choose(&mut dice);
            let quantity = self.quantity.choose(&mut dice) + 1;
            match lines.iter_mut().find(|line| line.sku == sku) {
                Some(line) => line.quantity += quantity,
                None => lines.push(Line { sku, quantity }),
            }
        }
        let customer = dice.below(self.shoppers.customers.into()) as u32;
        let one_step = dice.happens(self.shoppers.one_step);
        let ending = self.ending(dice.share());
        let [least, most] = self.shoppers.think_ms.map(|ms| ms * 1_000_000);
        let think = least + dice.below(most - least + 1);
        let twice = dice.happens(self.retries.twice);
        let twice = twice.then_some(self.retries.twice_after_ms * 1_000_000);
        Visit { shopper, customer, lines, one_step, ending, think, twice }
    }

    fn ending(&self, share: f64) -> Ending {
        let Shoppers { abandon, payment_failure, .. } = self.shoppers;
        if share < abandon {
            Ending::Leaves
        } else if share < abandon + payment_failure {
            Ending::GivesBack
        } else {
            Ending::Buys
        }
    }

    /// How long a shopper waits before he asks again after a failure, in nanoseconds: random, up to a
    /// bound that doubles with each attempt.
    pub fn backoff(&self, shopper: u32, attempt: u32) -> u64 {
        let number = (u64::from(attempt) << 40) | u64::from(shopper);
        let bound = (self.retries.backoff_ms * 1_000_000) << attempt.saturating_sub(1).min(10);
        Dice::new(!self.seed, number).below(bound + 1)
    }

    /// The name of a SKU.
    pub fn sku(number: u32) -> String {
        let mut text = Vec::with_capacity(16);
        render::sku(&mut text, number);
        String::from_utf8(text).unwrap_or_default()
    }

    /// The name of a location.
    pub fn location(number: u32) -> String {
        format!("LOC-{number:02}")
    }

    /// The units of a SKU at a location: the stock is dealt out evenly, the rest to the first ones.
    pub fn units_at(&self, location: u32) -> u32 {
        let Catalogue { stock, locations, .. } = self.catalogue;
        stock / locations + u32::from(location < stock % locations)
    }

    /// The key of a shopper's request.
    pub fn key(&self, shopper: u32, step: Step) -> String {
        let mut key = String::with_capacity(32);
        // Writing into a string can't fail.
        let _ = write!(key, "{}-{}{}", self.run, step.letter(), shopper);
        key
    }

    /// The id of a shopper's order.
    pub fn order_id(&self, shopper: u32) -> String {
        format!("{}-O{shopper}", self.run)
    }
}

/// A step of a visit: what its request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// To hold the cart.
    Reserve,
    /// To hold and pay in one.
    Order,
    /// To make an order of what is held.
    Commit,
    /// To give back what is held.
    Release,
}

impl Step {
    /// What a shopper's first request asks for.
    pub fn first(visit: &Visit) -> Self {
        if visit.one_step { Self::Order } else { Self::Reserve }
    }

    /// What he asks for next, once he holds.
    pub fn next(visit: &Visit) -> Option<Self> {
        match visit.ending {
            Ending::Buys => Some(Self::Commit),
            Ending::GivesBack => Some(Self::Release),
            Ending::Leaves => None,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Reserve => 'r',
            Self::Order => 'o',
            Self::Commit => 'c',
            Self::Release => 'g',
        }
    }
}

#[cfg(test)]
mod tests;
