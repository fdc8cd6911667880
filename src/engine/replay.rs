//! Applying effects to the tables: recovery. What is replayed was decided before, so nothing here
//! asks whether it may be; but a reservation that took a position below zero would prove that law 1
//! was broken, and stops the start.

use std::cell::Cell;

use crate::{
    ledger::{
        limits::Who,
        orders::Sale,
        positions::Movement,
        reservations::{Opening, Reservations},
    },
    model::{
        Lsn, OrderId, ReservationId, event,
        letter::Letter,
        life::{Life, Step},
        sink::SinkState,
        view::ReservationState,
    },
};

use super::{
    Error,
    core::Tables,
    replay_keys::KeyQueue,
    seals::Seals,
    tallies::Tallies,
    thing::{Done, Effect, Opened, Shift, Thing, Turned},
};

/// The tables while they are being filled, and what the log says besides.
pub(super) struct Replay<'a> {
    pub(super) tables: &'a Tables,
    pub(super) sinks: std::collections::HashMap<String, SinkState>,
    pub(super) seals: Seals,
    pub(super) tallies: Tallies,
    pub(super) secret: Option<[u64; 2]>,
    /// The time of the last record seen.
    pub(super) time_ms: u64,
    /// Where keys are put.
    pub(super) keys: KeyQueue<'a>,
    /// Where sweeping the table of customers' limits has got to.
    pub(super) limits_swept: Cell<usize>,
}

/// A decision takes that much later than its record says, at most.
const DECISION_MS: u64 = 1_000;

/// The order id that a record names, if it names one.
pub(super) fn order_id_of(text: &str, lsn: Lsn) -> Result<Option<OrderId>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| Error::Inconsistent { lsn, what: "an order's id" };
    text.parse().map(Some).map_err(wrong)
}

/// A table's limit is below what the log holds.
fn beyond(what: &'static str) -> Error {
    Error::Limit { what }
}

impl Replay<'_> {
    /// Applies an effect of the record at `lsn`.
    pub(super) fn apply(
        &mut self,
        lsn: Lsn,
        thing: Thing<'_>,
        effect: Effect<'_>,
    ) -> Result<(), Error> {
        match (thing, effect) {
            (Thing::Secret, Effect::Secret(secret)) => self.secret = Some(secret),
            (Thing::Position(number), Effect::Defined { sku, location, sku_number }) => {
                self.define(number, sku_number, sku, location)?;
            }
            (Thing::Position(number), Effect::Shifted(shift)) => self.shift(lsn, number, &shift)?,
            (Thing::SkuLimit(sku_number), Effect::SkuLimit(limit)) => {
                self.tables.positions.set_limit(sku_number, limit);
            }
            (Thing::Reservation(slot), Effect::Opened(opened)) => self.open(slot, &opened)?,
            (Thing::Reservation(slot), Effect::Turned(turned)) => self.turn(lsn, slot, &turned)?,
            (Thing::Key(_), Effect::Done(done)) => self.done(&done)?,
            (Thing::CustomerLimit(customer, sku_number), effect) => {
                self.limit(Who { customer, sku_number }, &effect)?;
            }
            (Thing::Order(id), Effect::Placed { data, reservations, lsn }) => {
                let ids = reservations
                    .iter()
                    .map(|(lsn, slot)| ReservationId { lsn: Lsn(*lsn), slot: *slot });
                let wrong = |_| Error::Inconsistent { lsn: Lsn(lsn), what: "an order's id" };
                let sale = Sale {
                    id: id.parse().map_err(wrong)?,
                    data: event::to_owned(data),
                    reservations: ids.collect(),
                };
                self.tables.orders.restore(sale, Life::default(), Lsn(lsn));
            }
            (Thing::Order(id), Effect::Happened(step)) => {
                let Step { fact, known } = *step;
                let restored =
                    id.parse().ok().map(|id| self.tables.orders.restore_fact(&id, &fact, known));
                if restored != Some(true) {
                    return Err(Error::Inconsistent { lsn, what: "an event of an unknown order" });
                }
            }
            (Thing::ParkedEvent(_), Effect::Parked(event)) => self.tables.parked.insert(*event),
            (Thing::ParkedEvent(parked), Effect::Unparked(unparked)) => {
                if !self.tables.parked.restore_outcome(Lsn(parked), *unparked) {
                    return Err(Error::Inconsistent {
                        lsn,
                        what: "a parked event that is not there",
                    });
                }
            }
            (Thing::Partner(_), Effect::Partner(partner)) => self.tables.partners.put(*partner),
            (Thing::Tally(..), Effect::Tallied(tally)) => self.tallies.put(*tally),
            (Thing::Sink(name), effect) => {
                if !self.sinks.contains_key(name) {
                    self.sinks.insert(name.to_owned(), SinkState::default());
                }
                if let Some(sink) = self.sinks.get_mut(name) {
                    apply_sink(sink, &effect);
                }
            }
            (Thing::Letter(sink, name), Effect::Letter(letter)) => {
                self.set_letter(sink, name, letter.map(|letter| *letter));
            }
            (Thing::Seal(number, sink), effect) => self.seals.replay((sink, number), &effect),
            _ => return Err(Error::Inconsistent { lsn, what: "an effect on something else" }),
        }
        Ok(())
    }

    /// What lies dead at a sink under a name.
    pub(super) fn set_letter(&mut self, sink: &str, name: &str, letter: Option<Letter>) {
        self.sinks.entry(sink.to_owned()).or_default().set_letter(name, letter);
    }

    pub(super) fn define(
        &self,
        number: u32,
        sku_number: u32,
        sku: &str,
        location: &str,
    ) -> Result<(), Error> {
        let (Ok(sku), Ok(location)) = (sku.parse(), location.parse()) else {
            return Err(Error::Inconsistent { lsn: Lsn(0), what: "a position's name" });
        };
        let defined = self.tables.positions.define(number, sku_number, &sku, &location);
        defined.ok_or_else(|| beyond("engine.positions_max"))
    }

    fn shift(&self, lsn: Lsn, number: u32, shift: &Shift) -> Result<(), Error> {
        let unknown = Error::Inconsistent { lsn, what: "a position that was never defined" };
        let position = self.tables.positions.get(number).ok_or(unknown)?;
        let word = position.word();
        let units = u32::try_from(shift.available.unsigned_abs()).unwrap_or(u32::MAX);
        if shift.available < 0 {
            word.force_take(units);
        } else if units > 0 {
            word.give(units);
        }
        position.add_committed(shift.committed);
        position.add_stock(shift.on_hand, shift.safety_stock, shift.backorder_limit);
        let stock = shift.on_hand != 0 || shift.forced != 0 || shift.source_version.is_some();
        if stock {
            let mut cold = position.lock();
            cold.forced += shift.forced;
            cold.source_version = shift.source_version.or(cold.source_version);
            if let Some(lsn) = shift.moved {
                cold.moved(Movement { lsn, delta: shift.on_hand });
            }
        }
        let below = i64::from(word.load().0);
        if below < 0 && position.lock().forced == 0 {
            return Err(Error::Inconsistent { lsn, what: "a position taken below zero" });
        }
        Ok(())
    }

    fn open(&mut self, slot: u32, opened: &Opened<'_>) -> Result<(), Error> {
        let state = match opened.committed {
            true => ReservationState::Committed,
            false => ReservationState::Held,
        };
        let order_id = order_id_of(opened.order_id, Lsn(opened.lsn))?;
        let opening = Opening {
            lsn: Lsn(opened.lsn),
            state,
            deadline_ms: opened.deadline_ms,
            lines: &opened.lines,
            customer: opened.customer,
            order: opened.order,
            order_id: order_id.as_ref(),
        };
        let restored = self.tables.reservations.restore(slot, &opening);
        restored.ok_or_else(|| beyond("engine.reservations_max"))?;
        opened.key.as_ref().map_or(Ok(()), |key| self.done(key))
    }

    fn turn(&self, lsn: Lsn, slot: u32, turned: &Turned<'_>) -> Result<(), Error> {
        let id = ReservationId { lsn: Lsn(turned.lsn), slot };
        let table: &Reservations = &self.tables.reservations;
        let open =
            &[ReservationState::Held, ReservationState::Expired, ReservationState::Committed];
        let wrong = |_| Error::Inconsistent { lsn, what: "a transition of no open reservation" };
        let transition = table.begin(id, open).map_err(wrong)?;
        if let Some(lines) = &turned.lines {
            transition.set_lines(lines);
        }
        if let Some(order_id) = order_id_of(turned.order_id, lsn)? {
            transition.set_order(turned.order, &order_id);
        }
        transition.finish(turned.state, turned.deadline_ms, Lsn(turned.last));
        Ok(())
    }

    /// What became of a key's request.
    pub(super) fn done(&mut self, done: &Done<'_>) -> Result<(), Error> {
        self.keys.push(done, self.time_ms)
    }

    /// Forgets some counts whose period was over at the present record, as they were forgotten then
    /// to make room for others. False if there are none.
    fn forget_limits(&self) -> bool {
        let limits = &self.tables.limits;
        let before = limits.len();
        for _ in 0..limits.groups() {
            let group = self.limits_swept.get() % limits.groups();
            self.limits_swept.set(group + 1);
            limits.sweep(group, self.time_ms + DECISION_MS);
            if limits.len() < before {
                return true;
            }
        }
        false
    }

    fn limit(&self, who: Who, effect: &Effect<'_>) -> Result<(), Error> {
        let limits = &self.tables.limits;
        let fits = match *effect {
            Effect::LimitTaken { quantity, at_ms, lsn } => {
                let restore = || limits.restore_take(who, quantity, at_ms, lsn);
                restore() || (self.forget_limits() && restore())
            }
            Effect::LimitGiven { quantity, granted } => {
                limits.give(who, quantity, granted);
                true
            }
            _ => true,
        };
        if fits { Ok(()) } else { Err(beyond("engine.customer_limits_max")) }
    }
}

/// Applies an effect to a sink's state.
pub(super) fn apply_sink(sink: &mut SinkState, effect: &Effect<'_>) {
    match effect {
        Effect::Sealed(sealed) => sink.sealed((**sealed).clone()),
        Effect::Acknowledged { number, sent } => sink.acknowledged(*number, *sent),
        Effect::Operated(operated) => sink.operated(&operated.0, &operated.1),
        _ => {}
    }
}
