//! What happens to an order after it was placed, and what of it may still happen.
//!
//! A [`Life`] is the fold of an order's facts (see [`super::fact`]).
//!
//! # What it promises
//!
//! - No more is ever shipped, cancelled, invoiced, settled, refunded or returned than was sold:
//!   [`Life::check`] is the one place that says so, and [`Life::add`] follows it. Neither depends on
//!   anything but the order and the facts before, so that the engine, recovery, the books and the tests
//!   can't come to different answers.
//! - Money is exact: what is left of an order after a cancellation is computed from what was cancelled
//!   in all, so that cancelling it bit by bit leaves nothing over and takes nothing too much.

use compact_str::CompactString;
use rkyv::{Archive, Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use super::{
    event::OrderData,
    fact::{CameBack, Fact, FactKind, Units},
    text::AsText,
    totals::{self, Totals},
    view::ReservationState,
};

/// The most facts that an order may have.
pub const FACTS_MAX: usize = 4_096;

/// A fact that is known, for whoever names it again.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Known {
    /// The position of its record.
    pub lsn: u64,
    /// Keyed hash of what was asked for: the same id with other content is refused.
    pub content: u64,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// Its own id, unique among the order's facts of its kind.
    #[rkyv(with = AsText)]
    pub id: CompactString,
    /// The number of its [`FactKind`].
    pub kind: u8,
    /// The number of the state that the order was in after it.
    pub state: u8,
}

/// A fact, and what it is known by: what a record adds to a [`Life`].
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Step {
    /// What happened.
    pub fact: Fact,
    /// What it is known by.
    pub known: Known,
}

/// A return that was authorised.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct OpenReturn {
    /// Its id.
    pub id: String,
    /// What may come back.
    pub lines: Vec<Units>,
    /// What has come back, in the same order.
    pub received: Vec<u32>,
    /// Whether it is sold again.
    pub restock: bool,
}

/// Units of an allocation that are not open any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Gone {
    /// Units that left.
    pub shipped: u32,
    /// Units that were called off.
    pub cancelled: u32,
}

/// What has become of an order. Sums are in minor units, gross.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Life {
    /// Billed.
    pub invoiced: i64,
    /// The tax in it.
    pub invoiced_tax: i64,
    /// Paid.
    pub settled: i64,
    /// What the payment provider kept of it.
    pub fees: i64,
    /// Paid back.
    pub refunded: i64,
    /// The tax in it.
    pub refunded_tax: i64,
    /// By allocation; empty as long as nothing left and nothing was called off.
    pub gone: SmallVec<[Gone; 2]>,
    /// What left where: position and units.
    pub left_from: SmallVec<[(u32, u32); 2]>,
    /// Returns that were authorised.
    pub returns: Vec<OpenReturn>,
    /// Everything that happened, in the order of the log.
    pub known: Vec<Known>,
}

/// Why a fact can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// More units than are open.
    #[error("more units than are sold and not yet shipped or cancelled")]
    Units,
    /// More units than were shipped and not authorised to come back yet.
    #[error("more units than were shipped and are not in a return already")]
    Returned,
    /// More units than were authorised to come back.
    #[error("more units than the return has left")]
    Received,
    /// There is no such return.
    #[error("the order has no such return")]
    UnknownReturn,
    /// More money than was sold.
    #[error("more than the order comes to")]
    Amount,
    /// More tax than the order contains.
    #[error("more tax than the order contains")]
    Tax,
    /// More facts than an order may have.
    #[error("the order has as many events as one may have")]
    Facts,
}

impl Life {
    /// What is gone of an allocation.
    pub fn gone(&self, allocation: usize) -> Gone {
        self.gone.get(allocation).copied().unwrap_or_default()
    }

    /// Units of an allocation that neither left nor were called off.
    pub fn open(&self, order: &OrderData, allocation: usize) -> u32 {
        let sold = order.allocations.get(allocation).map_or(0, |line| line.quantity);
        let gone = self.gone(allocation);
        sold.saturating_sub(gone.shipped).saturating_sub(gone.cancelled)
    }

    /// The order's state.
    pub fn state(&self, order: &OrderData) -> ReservationState {
        if (0..order.allocations.len()).any(|at| self.open(order, at) > 0) {
            return ReservationState::Committed;
        }
        match self.gone.iter().any(|gone| gone.shipped > 0) {
            true => ReservationState::Fulfilled,
            false => ReservationState::Cancelled,
        }
    }

    /// The fact of a kind that has an id.
    pub fn find(&self, kind: FactKind, id: &str) -> Option<&Known> {
        self.known.iter().find(|known| known.kind == kind as u8 && known.id == id)
    }

    /// What was sold and not called off, by its price. The shipping fee goes with the last unit.
    pub fn sold(
        &self,
        order: &OrderData,
        sku_of: impl Fn(u32) -> u32,
    ) -> Result<Totals, super::Invalid> {
        let all = totals::order(order)?;
        if self.gone.iter().all(|gone| gone.cancelled == 0) {
            return Ok(all);
        }
        let (mut gross, mut tax) = (i128::from(all.gross), i128::from(all.tax));
        for priced in &order.prices {
            let cancelled = self.cancelled_of(order, priced.sku_number, &sku_of);
            let (unit, units) = (priced.unit_price, priced.quantity);
            let line = totals::line(unit, units, priced.discount, priced.tax, order.net)?;
            gross -= totals::part(line.0, cancelled, units);
            tax -= totals::part(line.1, cancelled, units);
        }
        if self.state(order) == ReservationState::Cancelled {
            let fee = totals::shipping(order.shipping, order.shipping_tax, order.net)?;
            (gross, tax) = (gross - fee.0, tax - fee.1);
        }
        // Parts of what fits 64 bits fit them too.
        Ok(Totals { gross: gross as i64, tax: tax as i64 })
    }

    fn cancelled_of(&self, order: &OrderData, sku: u32, sku_of: impl Fn(u32) -> u32) -> u32 {
        let lines = order.allocations.iter().zip(&self.gone);
        lines.filter(|(line, _)| sku_of(line.position) == sku).map(|(_, gone)| gone.cancelled).sum()
    }

    fn left_of(&self, sku: u32, sku_of: impl Fn(u32) -> u32) -> u32 {
        let left = self.left_from.iter().filter(|(position, _)| sku_of(*position) == sku);
        left.map(|(_, units)| units).sum()
    }

    fn in_returns(&self, sku: u32) -> u32 {
        let lines = self.returns.iter().flat_map(|r| &r.lines);
        lines.filter(|line| line.sku_number == sku).map(|line| line.quantity).sum()
    }

    /// Whether a fact may be: no more than was sold.
    ///
    /// # Errors
    /// If it may not.
    pub fn check(
        &self,
        order: &OrderData,
        fact: &Fact,
        sku_of: impl Fn(u32) -> u32,
    ) -> Result<(), Wrong> {
        if self.known.len() >= FACTS_MAX {
            return Err(Wrong::Facts);
        }
        match fact {
            Fact::Shipment { lines, .. } => {
                let of = lines.iter().map(|line| (line.allocation, line.quantity));
                self.check_open(order, of)
            }
            Fact::Cancellation { lines } => {
                let of = lines.iter().map(|line| (line.allocation, line.quantity));
                self.check_open(order, of)
            }
            Fact::Invoice { amount, tax } => {
                let sold = self.sold(order, sku_of).map_err(|_| Wrong::Amount)?;
                within(self.invoiced, *amount, sold.gross, Wrong::Amount)?;
                within(self.invoiced_tax, *tax, sold.tax, Wrong::Tax)
            }
            Fact::Settlement { amount, fee } => {
                let all = totals::order(order).map_err(|_| Wrong::Amount)?;
                within(self.settled, *amount, all.gross, Wrong::Amount)?;
                within(0, *fee, *amount, Wrong::Amount)
            }
            Fact::Refund { amount, tax, .. } => {
                let all = totals::order(order).map_err(|_| Wrong::Amount)?;
                within(self.refunded, *amount, all.gross, Wrong::Amount)?;
                within(self.refunded_tax, *tax, all.tax, Wrong::Tax)
            }
            Fact::Return { lines, .. } => each_sku(lines, |sku, units| {
                let left = self.left_of(sku, &sku_of);
                let rest = left.saturating_sub(self.in_returns(sku));
                if units <= u64::from(rest) { Ok(()) } else { Err(Wrong::Returned) }
            }),
            Fact::Receipt { return_id, lines, .. } => {
                let of = self.returns.iter().find(|r| r.id == *return_id);
                let of = of.ok_or(Wrong::UnknownReturn)?;
                let lines: Vec<Units> = lines.iter().map(CameBack::units).collect();
                each_sku(
                    &lines,
                    |sku, units| {
                        if units <= of.left(sku) { Ok(()) } else { Err(Wrong::Received) }
                    },
                )
            }
            Fact::Note { .. } => Ok(()),
        }
    }

    fn check_open(
        &self,
        order: &OrderData,
        lines: impl Iterator<Item = (u32, u32)>,
    ) -> Result<(), Wrong> {
        let mut asked: SmallVec<[u64; 4]> = smallvec![0; order.allocations.len()];
        for (allocation, quantity) in lines {
            let asked = asked.get_mut(allocation as usize).ok_or(Wrong::Units)?;
            *asked += u64::from(quantity);
        }
        let fits = |(at, asked): (usize, &u64)| *asked <= u64::from(self.open(order, at));
        if asked.iter().enumerate().all(fits) { Ok(()) } else { Err(Wrong::Units) }
    }

    /// What a fact that may be comes to: sums and units. What it is known by, and what of it matters to
    /// returns, is left out, so that this costs no more than a look.
    pub fn after(&self, order: &OrderData, fact: &Fact) -> Self {
        let mut after = Self {
            invoiced: self.invoiced,
            invoiced_tax: self.invoiced_tax,
            settled: self.settled,
            fees: self.fees,
            refunded: self.refunded,
            refunded_tax: self.refunded_tax,
            gone: SmallVec::from_slice(&self.gone),
            ..Self::default()
        };
        after.count(order, fact);
        after
    }

    /// Adds a fact that may be; `known` says what it is known by, but for the state, which this sets.
    pub fn add(&mut self, order: &OrderData, fact: &Fact, mut known: Known) {
        self.count(order, fact);
        match fact {
            Fact::Shipment { lines, .. } => {
                for line in lines {
                    add_units(&mut self.left_from, line.position, line.quantity);
                }
            }
            Fact::Return { lines, restock } => self.returns.push(OpenReturn {
                id: known.id.as_str().to_owned(),
                received: vec![0; lines.len()],
                lines: lines.clone(),
                restock: *restock,
            }),
            Fact::Receipt { return_id, lines, .. } => {
                if let Some(of) = self.returns.iter_mut().find(|r| r.id == *return_id) {
                    lines.iter().for_each(|line| of.receive(line.units()));
                }
            }
            _ => {}
        }
        known.state = self.state(order) as u8;
        if self.known.is_empty() {
            // Nearly every order has an invoice, a shipment and a settlement, and no more.
            self.known.reserve_exact(3);
        }
        self.known.push(known);
    }

    /// Adds a fact to sums and units.
    fn count(&mut self, order: &OrderData, fact: &Fact) {
        match fact {
            Fact::Shipment { lines, .. } => {
                for line in lines {
                    if let Some(gone) = self.gone_mut(order, line.allocation) {
                        gone.shipped += line.quantity;
                    }
                }
            }
            Fact::Cancellation { lines } => {
                for line in lines {
                    if let Some(gone) = self.gone_mut(order, line.allocation) {
                        gone.cancelled += line.quantity;
                    }
                }
            }
            Fact::Invoice { amount, tax } => {
                self.invoiced += amount;
                self.invoiced_tax += tax;
            }
            Fact::Settlement { amount, fee } => {
                self.settled += amount;
                self.fees += fee;
            }
            Fact::Refund { amount, tax, .. } => {
                self.refunded += amount;
                self.refunded_tax += tax;
            }
            Fact::Return { .. } | Fact::Receipt { .. } | Fact::Note { .. } => {}
        }
    }

    fn gone_mut(&mut self, order: &OrderData, allocation: u32) -> Option<&mut Gone> {
        self.gone.resize(order.allocations.len(), Gone::default());
        self.gone.get_mut(allocation as usize)
    }
}

impl OpenReturn {
    /// Units of a SKU that may still come back.
    pub fn left(&self, sku: u32) -> u64 {
        let lines = self.lines.iter().zip(&self.received);
        let of_sku = lines.filter(|(line, _)| line.sku_number == sku);
        of_sku.map(|(line, received)| u64::from(line.quantity.saturating_sub(*received))).sum()
    }

    fn receive(&mut self, units: Units) {
        let mut left = units.quantity;
        for (line, received) in self.lines.iter().zip(&mut self.received) {
            if line.sku_number == units.sku_number {
                let part = left.min(line.quantity.saturating_sub(*received));
                *received += part;
                left -= part;
            }
        }
    }
}

fn add_units(all: &mut SmallVec<[(u32, u32); 2]>, position: u32, quantity: u32) {
    match all.iter_mut().find(|(at, _)| *at == position) {
        Some((_, units)) => *units += quantity,
        None => all.push((position, quantity)),
    }
}

fn within(before: i64, more: i64, limit: i64, wrong: Wrong) -> Result<(), Wrong> {
    let sum = before.checked_add(more).filter(|sum| more >= 0 && *sum <= limit);
    sum.map(drop).ok_or(wrong)
}

/// Calls `check` with the sum of each SKU's lines.
fn each_sku(lines: &[Units], check: impl Fn(u32, u64) -> Result<(), Wrong>) -> Result<(), Wrong> {
    lines.iter().try_for_each(|line| {
        let of_sku = lines.iter().filter(|other| other.sku_number == line.sku_number);
        check(line.sku_number, of_sku.map(|line| u64::from(line.quantity)).sum())
    })
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
