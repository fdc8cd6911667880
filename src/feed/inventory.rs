//! Net stock movements per position and kind of movement, for an ERP.
//!
//! - `sold`: what orders took, from the order's record. Holds never show.
//! - `shipped`, `cancelled`, `returned`: what left, what was called off before it left, and what came
//!   back and is sold again; a return that is written off moves no stock.
//! - `receipt`: adjustments with the reason receipt. `adjustment`: all others, and the change that a
//!   stock count made.
//! - `quantity` carries the sign of its effect on what the movement changes: a sale of 17 is 17
//!   `sold`, a loss of 3 is an `adjustment` of -3. `events` counts records.
//! - A line whose quantity nets to zero is left out, since it moves nothing and an ERP would refuse
//!   it; its records are counted in the batch's own `events`.
//! - Lines stand in the order of SKU, location and movement.

use std::collections::HashMap;

use ahash::RandomState;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Error,
    filter::Filter,
    lookup::Lookup,
    render::{self, Head, Rendered, Stamp},
};
use crate::{
    config::Movement,
    model::{
        Location, Lsn, Sku,
        command::AdjustmentReason,
        event::{self, Event},
        fact::ArchivedFact,
    },
    wal::Record,
};

type Key = (u32, Movement);

#[derive(Debug)]
struct Line {
    sku: Sku,
    location: Location,
    quantity: i64,
    events: u64,
    /// Whether its numbers have room for as many digits as there can be.
    wide: bool,
}

impl Line {
    /// Whether its numbers outgrow the room that they have, if it changes by `delta`; `None` if its
    /// quantity would overflow.
    fn widens(&self, delta: i64) -> Option<bool> {
        let quantity = self.quantity.checked_add(delta)?;
        Some(!self.wide && (is_wide(quantity) || self.events >= NARROW_MAX))
    }

    fn add(&mut self, delta: i64) {
        self.quantity += delta;
        self.events += 1;
        self.wide |= is_wide(self.quantity) || self.events > NARROW_MAX;
    }
}

/// The sums of an open window.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    lines: HashMap<Key, Line, RandomState>,
    bytes: u64,
    /// The deltas of the record at hand, kept for its memory.
    deltas: Vec<(Key, i64)>,
}

/// The lines that a window has not yet, and the most bytes that it has with them.
type Fit = (Vec<(Key, Line)>, u64);

/// The limits of a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub lines: u64,
    pub bytes: u64,
}

/// What a window keeps to beside the records.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub sink: &'a str,
    pub limits: Limits,
    pub lookup: &'a dyn Lookup,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absorbed {
    /// It says nothing to this domain.
    Nothing,
    /// It is summed up.
    Taken,
    /// It changes the window, and so many records are summed up by that.
    Changed {
        /// None if it is parked; several if it released others.
        events: u64,
    },
    /// It does not fit; nothing was changed.
    Full,
}

impl Absorbed {
    /// What sums up so many records.
    pub fn of(events: u64) -> Self {
        if events == 1 { Self::Taken } else { Self::Changed { events } }
    }

    /// Records that are summed up.
    pub fn events(self) -> u64 {
        match self {
            Self::Nothing | Self::Full => 0,
            Self::Taken => 1,
            Self::Changed { events } => events,
        }
    }
}

impl Inventory {
    /// The window after this one, which is sealed; its memory is used again.
    pub fn next(mut self) -> Self {
        self.lines.clear();
        Self { bytes: 0, ..self }
    }

    /// Adds a record, unless the window would grow beyond its limits.
    pub fn absorb(
        &mut self,
        record: &Record<'_>,
        terms: Terms<'_>,
        filter: &mut Filter,
    ) -> Result<Absorbed, Error> {
        let mut deltas = std::mem::take(&mut self.deltas);
        deltas.clear();
        let result = read_deltas(record, &mut deltas)
            .and_then(|()| admit(record.lsn, &mut deltas, filter, terms.lookup))
            .and_then(|()| self.add(record.lsn, &mut deltas, terms));
        self.deltas = deltas;
        result
    }

    fn add(
        &mut self,
        lsn: Lsn,
        deltas: &mut Vec<(Key, i64)>,
        terms: Terms<'_>,
    ) -> Result<Absorbed, Error> {
        merge(deltas);
        if deltas.is_empty() {
            return Ok(Absorbed::Nothing);
        }
        let Some((new, bytes)) = self.fit(lsn, deltas, terms)? else {
            return Ok(Absorbed::Full);
        };
        self.bytes = bytes;
        self.lines.extend(new);
        for (key, delta) in deltas {
            if let Some(line) = self.lines.get_mut(key) {
                line.add(*delta);
            }
        }
        Ok(Absorbed::Taken)
    }

    /// The lines that the deltas need and the window has not, and the bytes that it then has at most; if
    /// all fits.
    fn fit(&self, lsn: Lsn, deltas: &[(Key, i64)], terms: Terms<'_>) -> Result<Option<Fit>, Error> {
        let Terms { sink, limits, lookup } = terms;
        let mut new = Vec::new();
        let mut bytes = self.bytes;
        for &(key, delta) in deltas {
            let Some(line) = self.lines.get(&key) else {
                let position = key.0;
                let (sku, location) =
                    lookup.position(position).ok_or(Error::UnknownPosition { lsn, position })?;
                let line = Line { sku, location, quantity: 0, events: 0, wide: is_wide(delta) };
                bytes += line_bytes(sink, key.1, &line);
                new.push((key, line));
                continue;
            };
            match line.widens(delta) {
                None => return Ok(None),
                Some(true) => bytes += WIDE - NARROW,
                Some(false) => {}
            }
        }
        let lines = (self.lines.len() + new.len()) as u64;
        let fits = lines <= limits.lines && bytes + render::head_bytes(sink) <= limits.bytes;
        Ok((fits || self.lines.is_empty()).then_some((new, bytes)))
    }

    /// The batch's body.
    pub fn render(&self, head: Head<'_>, stamp: Stamp<'_>) -> Result<Rendered, Error> {
        let mut sums: Vec<_> = self.lines.iter().filter(|(_, line)| line.quantity != 0).collect();
        if sums.is_empty() {
            return Ok(Rendered::nothing(stamp.chain));
        }
        sums.sort_unstable_by_key(|(key, line)| (&line.sku, &line.location, key.1));
        let lines = sums
            .into_iter()
            .enumerate()
            .map(|(i, (key, line))| LineBody {
                line_id: stamp.id.part(i + 1),
                sku: &line.sku,
                location: &line.location,
                movement: key.1,
                quantity: line.quantity,
                events: line.events,
            })
            .collect();
        Ok(Rendered::one(serde_json::to_vec(&Body { head, lines })?, stamp.chain))
    }
}

/// Net stock movements: the body of a batch of an inventory sink.
#[derive(Serialize, ToSchema)]
pub(super) struct Body<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    /// One for each SKU, location and movement.
    lines: Vec<LineBody<'a>>,
}

/// What one movement of a position adds up to.
#[derive(Serialize, ToSchema)]
#[schema(as = MovementLine)]
struct LineBody<'a> {
    /// The batch's id and a number; the same in halves, repeats and replays.
    line_id: String,
    /// The SKU.
    sku: &'a Sku,
    /// The location.
    location: &'a Location,
    /// What it changes.
    movement: Movement,
    /// Units, with the sign of their effect on what the movement changes; never zero.
    quantity: i64,
    /// Records summed up.
    events: u64,
}

/// The room for the two numbers of nearly every line: seven characters each, the sign included. A line
/// that outgrows it gets `WIDE`: so that a window is not closed for digits that no line has.
const NARROW: u64 = 2 * 7;
/// The most that the two numbers of a line can take.
const WIDE: u64 = 2 * 20;
/// The greatest number of seven characters.
const NARROW_MAX: u64 = 9_999_999;

fn is_wide(quantity: i64) -> bool {
    !(-999_999..=9_999_999).contains(&quantity)
}

/// The most bytes that a line takes in a body: its names, its numbers, its movement, and 75 of
/// punctuation and field names.
fn line_bytes(sink: &str, movement: Movement, line: &Line) -> u64 {
    render::part_id_bytes(sink)
        + render::json_bytes(line.sku.as_str())
        + render::json_bytes(line.location.as_str())
        + movement.as_str().len() as u64
        + if line.wide { WIDE } else { NARROW }
        + 75
}

/// What a record moves.
fn read_deltas(record: &Record<'_>, deltas: &mut Vec<(Key, i64)>) -> Result<(), Error> {
    let (lsn, kind, version, body) = (record.lsn, record.kind, record.version, record.body);
    match kind {
        event::Placed::KIND => {
            let placed = event::decode::<event::Placed>(lsn, kind, version, body)?;
            let sold = placed.order.allocations.iter().map(|line| {
                ((line.position.to_native(), Movement::Sold), i64::from(line.quantity.to_native()))
            });
            deltas.extend(sold);
        }
        event::Happened::KIND => {
            let happened = event::decode::<event::Happened>(lsn, kind, version, body)?;
            read_fact(&happened.fact, deltas);
        }
        event::Adjust::KIND => {
            let adjust = event::decode::<event::Adjust>(lsn, kind, version, body)?;
            let movement = movement_of(adjust.reason);
            deltas.push(((adjust.position.to_native(), movement), adjust.delta.to_native()));
        }
        event::Stock::KIND => {
            let stock = event::decode::<event::Stock>(lsn, kind, version, body)?;
            let delta = stock.on_hand.to_native();
            deltas.push(((stock.position.to_native(), Movement::Adjustment), delta));
        }
        _ => {}
    }
    Ok(())
}

/// What a fact moves.
fn read_fact(fact: &ArchivedFact, deltas: &mut Vec<(Key, i64)>) {
    match fact {
        ArchivedFact::Shipment { lines, .. } => deltas.extend(lines.iter().map(|line| {
            let units = line.quantity.to_native().into();
            ((line.position.to_native(), Movement::Shipped), units)
        })),
        ArchivedFact::Cancellation { lines } => deltas.extend(lines.iter().map(|line| {
            let units = line.quantity.to_native().into();
            ((line.position.to_native(), Movement::Cancelled), units)
        })),
        ArchivedFact::Receipt { lines, restock: true, .. } => {
            deltas.extend(lines.iter().map(|line| {
                let units = line.quantity.to_native().into();
                ((line.position.to_native(), Movement::Returned), units)
            }));
        }
        _ => {}
    }
}

fn movement_of(reason: u8) -> Movement {
    if reason == AdjustmentReason::Receipt as u8 { Movement::Receipt } else { Movement::Adjustment }
}

/// Leaves what the sink's filter lets through.
fn admit(
    lsn: Lsn,
    deltas: &mut Vec<(Key, i64)>,
    filter: &mut Filter,
    lookup: &dyn Lookup,
) -> Result<(), Error> {
    let mut first = Ok(());
    deltas.retain(|((position, movement), _)| {
        filter.movement(*movement)
            && filter.position(lsn, *position, lookup).unwrap_or_else(|error| {
                first = Err(error);
                false
            })
    });
    first
}

/// One delta for each key, none of zero: a record counts once on a line.
fn merge(deltas: &mut Vec<(Key, i64)>) {
    deltas.sort_unstable_by_key(|(key, _)| *key);
    deltas.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same {
            first.1 = first.1.saturating_add(later.1);
        }
        same
    });
    deltas.retain(|(_, delta)| *delta != 0);
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
