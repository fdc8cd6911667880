//! Pick waves, for a warehouse: orders and not sums, most urgent first.
//!
//! - A wave is what one location is to pick of the orders of one window: one batch. An order with lines at
//!   two locations stands in two waves. A window therefore becomes several bodies, the most urgent first;
//!   those without an order come before all.
//! - A sink has three windows, one for each priority of orders, and each takes its own alone. What happens
//!   to an order goes where the order went, so that nothing overtakes its order.
//! - In a wave the order that was promised first stands first, those that were promised for no time last;
//!   among equals the log decides.
//! - What is called off while its order is in the open window is taken out of that order; an order of which
//!   nothing is left is not sent. What is called off later becomes one of the `cancellations` of its
//!   location's wave, one for each order, location and reason.
//! - Shipments are a warehouse's own word, and mean work only where they surprise: what has left while its
//!   order is in the open window need not be picked any more, and what left from another location than the
//!   one that was told to pick it is called off there, for the reason `shipped_elsewhere`.
//! - So what all waves ask for less what they call off is what is open and what was shipped by the location
//!   that was asked.
//! - A return that is authorised names no location yet, and is nothing to a warehouse until it comes.
//!
//! Nothing merges between orders: a window holds as many as `batch_bytes_max` allows for all of its bodies
//! together and `lines_max` for each, and the rest waits in the log.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ahash::RandomState;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Error,
    filter::Filter,
    inventory::{Absorbed, Terms},
    lookup::Lookup,
    render::{self, Head, Rendered, Stamp},
};
use crate::{
    model::{
        Location, Lsn, Sku, Timestamp,
        command::Priority,
        event::{self, ArchivedHappened, ArchivedPlaced, Event, Happened, Placed},
        fact::{ArchivedCancelled, ArchivedFact},
        sink::Lane,
    },
    wal::Record,
};

/// Why units need not be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CalledOffReason)]
enum Reason {
    /// The customer or the shop called them off.
    Cancelled,
    /// They left from another location.
    ShippedElsewhere,
}

/// Units at a position.
type Units = (u32, u64);

#[derive(Debug)]
struct Order {
    lsn: Lsn,
    priority: Priority,
    /// `u64::MAX` if for no time.
    promised_ship_at_ms: u64,
    units: Vec<Units>,
}

#[derive(Debug)]
struct CalledOff {
    /// The first record that did.
    lsn: Lsn,
    units: Vec<Units>,
}

/// What one location's wave comes to.
#[derive(Debug, Default)]
struct Size {
    /// Orders and cancellations.
    items: u64,
    /// Records.
    events: u64,
}

/// The waves of an open window.
#[derive(Debug, Default)]
pub(super) struct Fulfilment {
    lane: Lane,
    orders: HashMap<Box<str>, Order, RandomState>,
    called_off: BTreeMap<(Box<str>, Reason), CalledOff>,
    /// The names of the positions in it.
    places: Places,
    waves: BTreeMap<Location, Size>,
    bytes: u64,
}

/// A record that says something to a warehouse.
enum Said<'a> {
    Placed(&'a ArchivedPlaced),
    Happened(&'a ArchivedHappened),
}

fn read<'a>(record: &Record<'a>) -> Result<Option<Said<'a>>, Error> {
    let (lsn, kind, version, body) = (record.lsn, record.kind, record.version, record.body);
    Ok(match kind {
        Placed::KIND => Some(Said::Placed(event::decode::<Placed>(lsn, kind, version, body)?)),
        Happened::KIND => {
            let happened = event::decode::<Happened>(lsn, kind, version, body)?;
            let is_work = matches!(
                happened.fact,
                ArchivedFact::Cancellation { .. } | ArchivedFact::Shipment { .. }
            );
            is_work.then_some(Said::Happened(happened))
        }
        _ => None,
    })
}

fn priority_of(placed: &ArchivedPlaced) -> Priority {
    Priority::of_number(placed.order.priority)
}

/// The priority of an order that something happens to, which its record does not say.
fn priority_after(
    record: &Record<'_>,
    happened: &ArchivedHappened,
    lookup: &dyn Lookup,
) -> Result<Priority, Error> {
    lookup.priority(&happened.order_id).ok_or(Error::UnknownOrder { lsn: record.lsn })
}

impl Fulfilment {
    /// An empty window of a lane.
    pub fn new(lane: Lane) -> Self {
        Self { lane, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        self.orders.is_empty() && self.called_off.is_empty()
    }

    /// Adds a record of its lane, unless the window would grow beyond its limits.
    pub fn absorb(
        &mut self,
        record: &Record<'_>,
        terms: Terms<'_>,
        filter: &mut Filter,
    ) -> Result<Absorbed, Error> {
        match read(record)? {
            Some(Said::Placed(placed)) => self.place(record, placed, terms, filter),
            Some(Said::Happened(happened)) => self.happen(record, happened, terms, filter),
            None => Ok(Absorbed::Nothing),
        }
    }

    /// Whether an order of the priority is this window's.
    fn is_ours(&self, priority: Priority, filter: &Filter) -> bool {
        priority.lane() == self.lane && filter.priority(priority)
    }

    fn place(
        &mut self,
        record: &Record<'_>,
        placed: &ArchivedPlaced,
        terms: Terms<'_>,
        filter: &mut Filter,
    ) -> Result<Absorbed, Error> {
        let priority = priority_of(placed);
        if !self.is_ours(priority, filter) {
            return Ok(Absorbed::Nothing);
        }
        let order = &placed.order;
        let lines = order.allocations.iter().map(|line| {
            let (position, quantity) = (line.position.to_native(), line.quantity.to_native());
            (position, u64::from(quantity))
        });
        let units = admitted(record.lsn, lines, filter, terms.lookup)?;
        let order_id: &str = &order.order_id;
        if units.is_empty() {
            return Ok(Absorbed::Nothing);
        }
        let growth = self.growth(record.lsn, order_id, &[], &units, terms)?;
        if !self.takes(&growth, terms) {
            return Ok(Absorbed::Full);
        }
        self.grow(growth);
        let promised = order.promised_ship_at_ms.to_native();
        let promised_ship_at_ms = if promised == 0 { u64::MAX } else { promised };
        let order = Order { lsn: record.lsn, priority, promised_ship_at_ms, units };
        self.orders.insert(order_id.into(), order);
        Ok(Absorbed::Taken)
    }

    fn happen(
        &mut self,
        record: &Record<'_>,
        happened: &ArchivedHappened,
        terms: Terms<'_>,
        filter: &mut Filter,
    ) -> Result<Absorbed, Error> {
        let order_id: &str = &happened.order_id;
        let is_here = self.orders.contains_key(order_id);
        if !is_here && !self.is_ours(priority_after(record, happened, terms.lookup)?, filter) {
            return Ok(Absorbed::Nothing);
        }
        let (reason, lines) = called_off(&happened.fact, is_here);
        let units = admitted(record.lsn, lines.into_iter(), filter, terms.lookup)?;
        if units.is_empty() {
            return Ok(Absorbed::Nothing);
        }
        if is_here {
            self.reduce(order_id, &units);
            return Ok(Absorbed::Taken);
        }
        self.call_off(record.lsn, (order_id, reason), units, terms)
    }

    /// Takes units out of an order of the window. What it had needed stays counted, so that a window in
    /// which orders come and go is bounded like any other.
    fn reduce(&mut self, order_id: &str, units: &[Units]) {
        let Some(order) = self.orders.get_mut(order_id) else { return };
        for (position, quantity) in units {
            if let Some(left) = order.units.iter_mut().find(|(at, _)| at == position) {
                left.1 = left.1.saturating_sub(*quantity);
            }
        }
        for location in locations(&self.places, units) {
            if let Some(wave) = self.waves.get_mut(location) {
                wave.events += 1;
            }
        }
    }

    /// Calls units off that an earlier wave asks for.
    fn call_off(
        &mut self,
        lsn: Lsn,
        (order_id, reason): (&str, Reason),
        units: Vec<Units>,
        terms: Terms<'_>,
    ) -> Result<Absorbed, Error> {
        let key = (order_id.into(), reason);
        let known = self.called_off.get(&key).map_or(&[][..], |known| &known.units);
        let growth = self.growth(lsn, order_id, known, &units, terms)?;
        if !self.takes(&growth, terms) {
            return Ok(Absorbed::Full);
        }
        self.grow(growth);
        let item =
            self.called_off.entry(key).or_insert_with(|| CalledOff { lsn, units: Vec::new() });
        item.units.extend(units);
        item.units = merged(std::mem::take(&mut item.units));
        Ok(Absorbed::Taken)
    }

    /// What the window needs for units of an order of which it has `known` already.
    fn growth(
        &self,
        lsn: Lsn,
        order_id: &str,
        known: &[Units],
        units: &[Units],
        terms: Terms<'_>,
    ) -> Result<Growth, Error> {
        let mut growth = Growth::default();
        let before: BTreeSet<_> = locations(&self.places, known).into_iter().cloned().collect();
        for &(position, _) in units {
            let (sku, location) = match self.places.get(&position) {
                Some(place) => place.clone(),
                None => (terms.lookup.position(position))
                    .ok_or(Error::UnknownPosition { lsn, position })?,
            };
            if !growth.items.contains_key(&location) {
                let is_new = !before.contains(&location);
                growth.items.insert(location.clone(), is_new);
                if is_new {
                    growth.bytes += item_bytes(terms.sink, order_id);
                }
                if !self.waves.contains_key(&location) {
                    growth.bytes += wave_bytes(terms.sink, &location);
                }
            }
            if known.iter().all(|(at, _)| *at != position) {
                growth.bytes += line_bytes(&sku);
            }
            growth.places.push((position, (sku, location)));
        }
        Ok(growth)
    }

    /// Whether there is room for it: an empty window takes anything.
    fn takes(&self, growth: &Growth, terms: Terms<'_>) -> bool {
        let has_items = |(location, is_new): (&Location, &bool)| {
            let items = self.waves.get(location).map_or(0, |wave| wave.items);
            items + u64::from(*is_new) <= terms.limits.lines
        };
        self.is_empty()
            || (self.bytes + growth.bytes <= terms.limits.bytes
                && growth.items.iter().all(has_items))
    }

    fn grow(&mut self, growth: Growth) {
        self.bytes += growth.bytes;
        self.places.extend(growth.places);
        for (location, is_new) in growth.items {
            let wave = self.waves.entry(location).or_default();
            wave.items += u64::from(is_new);
            wave.events += 1;
        }
    }

    /// The bodies, one for each location that has work.
    pub fn render(&self, head: Head<'_>, stamp: Stamp<'_>) -> Result<Rendered, Error> {
        let mut waves = self.by_location();
        waves.sort_by_key(|(location, wave)| (wave.urgency(), *location));
        let mut bodies = Vec::with_capacity(waves.len());
        for (location, wave) in waves {
            let id = stamp.id.later(bodies.len() as u64);
            let events = self.waves.get(location).map_or(0, |wave| wave.events);
            let head = Head { batch_id: id.as_str(), events, ..head.clone() };
            let mut part = 0;
            let mut name = || {
                part += 1;
                id.part(part)
            };
            let body = Body {
                head,
                wave_id: id.as_str(),
                location,
                orders: wave.orders.iter().map(|order| order.body(name())).collect(),
                cancellations: wave.called_off.iter().map(|item| item.body(name())).collect(),
            };
            bodies.push(serde_json::to_vec(&body)?);
        }
        Ok(Rendered { bodies, chain: stamp.chain })
    }

    fn by_location(&self) -> Vec<(&Location, Wave<'_>)> {
        let mut waves: BTreeMap<&Location, Wave<'_>> = BTreeMap::new();
        for (id, order) in &self.orders {
            for (location, lines) in self.lines(&order.units) {
                waves.entry(location).or_default().orders.push(Pick { id, order, lines });
            }
        }
        for ((id, reason), item) in &self.called_off {
            for (location, lines) in self.lines(&item.units) {
                let item = Stop { id, reason: *reason, lsn: item.lsn, lines };
                waves.entry(location).or_default().called_off.push(item);
            }
        }
        for wave in waves.values_mut() {
            wave.orders.sort_unstable_by_key(|pick| pick.urgency());
            wave.called_off.sort_unstable_by_key(|stop| (stop.lsn, stop.reason));
        }
        waves.into_iter().collect()
    }

    /// Units by location, by SKU.
    fn lines(&self, units: &[Units]) -> BTreeMap<&Location, Vec<LineBody<'_>>> {
        let mut lines: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (position, quantity) in units.iter().filter(|(_, quantity)| *quantity > 0) {
            let Some((sku, location)) = self.places.get(position) else { continue };
            lines.entry(location).or_default().push(LineBody { sku, quantity: *quantity });
        }
        lines.values_mut().for_each(|lines| lines.sort_unstable_by_key(|line| line.sku));
        lines
    }
}

/// What a window needs for a record.
#[derive(Debug, Default)]
struct Growth {
    bytes: u64,
    /// The locations, and whether each gets one item more.
    items: BTreeMap<Location, bool>,
    places: Vec<(u32, (Sku, Location))>,
}

type Places = HashMap<u32, (Sku, Location), RandomState>;

fn location_of(places: &Places, position: u32) -> Option<&Location> {
    places.get(&position).map(|(_, location)| location)
}

fn locations<'a>(places: &'a Places, units: &[Units]) -> BTreeSet<&'a Location> {
    units.iter().filter_map(|(position, _)| location_of(places, *position)).collect()
}

/// What of a fact need not be picked any more, and why: of an order that no wave has yet all that has
/// left, else what surprises its location.
fn called_off(fact: &ArchivedFact, is_here: bool) -> (Reason, Vec<Units>) {
    match fact {
        ArchivedFact::Cancellation { lines } => {
            let units = |line: &ArchivedCancelled| {
                (line.position.to_native(), line.quantity.to_native().into())
            };
            (Reason::Cancelled, lines.iter().map(units).collect())
        }
        ArchivedFact::Shipment { lines, .. } => {
            let surprising = lines.iter().filter(|line| is_here || line.from != line.position);
            let units = surprising
                .map(|line| (line.from.to_native(), line.quantity.to_native().into()))
                .collect();
            (Reason::ShippedElsewhere, units)
        }
        _ => (Reason::Cancelled, Vec::new()),
    }
}

/// What the sink's filter lets through, one entry for each position.
fn admitted(
    lsn: Lsn,
    lines: impl Iterator<Item = Units>,
    filter: &mut Filter,
    lookup: &dyn Lookup,
) -> Result<Vec<Units>, Error> {
    let mut units = Vec::with_capacity(lines.size_hint().0);
    for (position, quantity) in lines {
        if quantity > 0 && filter.position(lsn, position, lookup)? {
            units.push((position, quantity));
        }
    }
    Ok(merged(units))
}

fn merged(mut units: Vec<Units>) -> Vec<Units> {
    units.sort_unstable_by_key(|(position, _)| *position);
    units.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same {
            first.1 = first.1.saturating_add(later.1);
        }
        same
    });
    units
}

/// What one location gets.
#[derive(Default)]
struct Wave<'a> {
    orders: Vec<Pick<'a>>,
    called_off: Vec<Stop<'a>>,
}

impl Wave<'_> {
    /// Its most urgent order; what only calls off comes first.
    fn urgency(&self) -> Option<(u64, Lsn)> {
        self.orders.first().map(Pick::urgency)
    }
}

/// An order's part at one location.
struct Pick<'a> {
    id: &'a str,
    order: &'a Order,
    lines: Vec<LineBody<'a>>,
}

/// What is called off of an order at one location.
struct Stop<'a> {
    id: &'a str,
    reason: Reason,
    lsn: Lsn,
    lines: Vec<LineBody<'a>>,
}

impl Pick<'_> {
    fn urgency(&self) -> (u64, Lsn) {
        (self.order.promised_ship_at_ms, self.order.lsn)
    }

    fn body(&self, line_id: String) -> OrderBody<'_> {
        let promised = self.order.promised_ship_at_ms;
        OrderBody {
            line_id,
            order_id: self.id,
            priority: self.order.priority,
            promised_ship_at: (promised != u64::MAX).then(|| Timestamp::from_millis(promised)),
            lines: &self.lines,
        }
    }
}

impl Stop<'_> {
    fn body(&self, line_id: String) -> StopBody<'_> {
        StopBody { line_id, order_id: self.id, reason: self.reason, lines: &self.lines }
    }
}

/// The most bytes of a batch without its orders and cancellations, and of what its seal needs for it.
fn wave_bytes(sink: &str, location: &Location) -> u64 {
    const NAMES_AND_SEAL: u64 = 60 + 96;
    render::head_bytes(sink)
        + render::part_id_bytes(sink)
        + render::json_bytes(location.as_str())
        + NAMES_AND_SEAL
}

/// The most bytes of an order or a cancellation without its lines.
fn item_bytes(sink: &str, order_id: &str) -> u64 {
    render::part_id_bytes(sink) + render::json_bytes(order_id) + 130
}

/// The most bytes of a line.
fn line_bytes(sku: &Sku) -> u64 {
    render::json_bytes(sku.as_str()) + 22 + 20
}

/// A pick wave of one location: the body of a batch of a fulfilment sink.
#[derive(Serialize, ToSchema)]
pub(super) struct Body<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    /// The wave: the same as the batch's id.
    wave_id: &'a str,
    /// Where it is picked.
    location: &'a Location,
    /// What to pick, most urgent first.
    orders: Vec<OrderBody<'a>>,
    /// What earlier waves asked for and need not be picked any more.
    cancellations: Vec<StopBody<'a>>,
}

/// An order's part of a wave.
#[derive(Serialize, ToSchema)]
#[schema(as = PickOrder)]
struct OrderBody<'a> {
    /// The batch's id and a number; the same in halves, repeats and replays.
    line_id: String,
    /// The order.
    order_id: &'a str,
    /// How urgent.
    priority: Priority,
    /// When the customer was promised that it leaves.
    promised_ship_at: Option<Timestamp>,
    /// What to pick.
    lines: &'a [LineBody<'a>],
}

/// Units of an order that need not be picked any more.
#[derive(Serialize, ToSchema)]
#[schema(as = PickCancellation)]
struct StopBody<'a> {
    /// The batch's id and a number; the same in halves, repeats and replays.
    line_id: String,
    /// The order.
    order_id: &'a str,
    /// Why.
    reason: Reason,
    /// What is called off.
    lines: &'a [LineBody<'a>],
}

/// Units of a SKU.
#[derive(Serialize, ToSchema)]
#[schema(as = PickLine)]
struct LineBody<'a> {
    /// The SKU.
    sku: &'a Sku,
    /// How many.
    quantity: u64,
}

#[cfg(test)]
#[path = "fulfilment_tests.rs"]
mod tests;
