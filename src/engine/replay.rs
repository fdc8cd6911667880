//! Applying effects to the tables: recovery. What is replayed was decided before, so nothing here
//! asks whether it may be; but a reservation that took a position below zero would prove that law 1
//! was broken, and stops the start.

use std::cell::Cell;

use crate::{
    ledger::{
        keys::Outcome,
        limits::Who,
        orders::Order,
        positions::Movement,
        reservations::{Opening, Reservations},
    },
    model::{Lsn, OrderId, ReservationId, event::KeyRef, sink::SinkState, view::ReservationState},
};

use super::{
    Error,
    checkpoint::made_by,
    core::Tables,
    effect::{Done, Effect, Opened, Shift, Thing, Turned, state_of},
};

/// The tables while they are being filled, and what the log says besides.
pub(super) struct Replay<'a> {
    pub(super) tables: &'a Tables,
    pub(super) sinks: std::collections::HashMap<String, SinkState>,
    pub(super) secret: Option<[u64; 2]>,
    /// The time of the last record seen.
    pub(super) time_ms: u64,
    /// Where sweeping the table of keys has got to.
    pub(super) keys_swept: Cell<u32>,
    /// Where sweeping the table of customers' limits has got to.
    pub(super) limits_swept: Cell<usize>,
}

/// A decision takes that much later than its record says, at most.
const DECISION_MS: u64 = 1_000;

/// Slots of the table of keys that are swept at a time.
const SWEEP_SLOTS: u32 = 1 << 12;

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
    pub(super) fn apply(&mut self, lsn: Lsn, thing: Thing, effect: Effect) -> Result<(), Error> {
        match (thing, effect) {
            (Thing::Secret, Effect::Secret(secret)) => self.secret = Some(secret),
            (Thing::Position(number), Effect::Defined { sku, location, sku_number }) => {
                self.define(number, sku_number, &sku, &location)?;
            }
            (Thing::Position(number), Effect::Shifted(shift)) => self.shift(lsn, number, &shift)?,
            (Thing::SkuLimit(sku_number), Effect::SkuLimit(limit)) => {
                self.tables.positions.set_limit(sku_number, limit);
            }
            (Thing::Reservation(slot), Effect::Opened(opened)) => self.open(slot, &opened)?,
            (Thing::Reservation(slot), Effect::Turned(turned)) => self.turn(lsn, slot, &turned)?,
            (Thing::Key(hash), Effect::Done(done)) => self.done(hash, &done)?,
            (Thing::CustomerLimit(customer, sku_number), effect) => {
                self.limit(Who { customer, sku_number }, &effect)?;
            }
            (Thing::Order(id), Effect::Placed { data, reservations, lsn }) => {
                let id = id
                    .parse()
                    .map_err(|_| Error::Inconsistent { lsn: Lsn(lsn), what: "an order's id" })?;
                let ids = reservations
                    .iter()
                    .map(|(lsn, slot)| ReservationId { lsn: Lsn(*lsn), slot: *slot });
                self.tables.orders.restore(Order {
                    id,
                    data: *data,
                    reservations: ids.collect(),
                    state: ReservationState::Committed,
                    last: Lsn(lsn),
                });
            }
            (Thing::Sink(name), effect) => apply_sink(self.sinks.entry(name).or_default(), &effect),
            _ => return Err(Error::Inconsistent { lsn, what: "an effect on something else" }),
        }
        Ok(())
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

    fn open(&self, slot: u32, opened: &Opened) -> Result<(), Error> {
        let state = match opened.committed {
            true => ReservationState::Committed,
            false => ReservationState::Held,
        };
        let order_id = order_id_of(&opened.order_id, Lsn(opened.lsn))?;
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
        restored.ok_or_else(|| beyond("engine.reservations_max"))
    }

    fn turn(&self, lsn: Lsn, slot: u32, turned: &Turned) -> Result<(), Error> {
        let id = ReservationId { lsn: Lsn(turned.lsn), slot };
        let table: &Reservations = &self.tables.reservations;
        let open = &[ReservationState::Held, ReservationState::Expired];
        let wrong = |_| Error::Inconsistent { lsn, what: "a transition of no open reservation" };
        let transition = table.begin(id, open).map_err(wrong)?;
        if let Some(lines) = &turned.lines {
            transition.set_lines(lines);
        }
        if let Some(order_id) = order_id_of(&turned.order_id, lsn)? {
            transition.set_order(turned.order, &order_id);
        }
        transition.finish(state_of(turned.state), turned.deadline_ms, Lsn(turned.last));
        Ok(())
    }

    pub(super) fn done(&self, hash: [u64; 2], done: &Done) -> Result<(), Error> {
        if !done.answer.is_empty() {
            self.tables.answers.lock().insert(done.lsn, done.answer.as_str().into());
        }
        let key = KeyRef { hash, fingerprint: done.fingerprint };
        let restore = || self.tables.keys.restore(&key, &done.outcome());
        // The log may hold more keys than there ever were at once: what had been forgotten by the
        // time of this record made room for it then, and does so now.
        if restore() || (self.forget_keys() && restore()) {
            return Ok(());
        }
        Err(beyond("engine.keys_max"))
    }

    /// Forgets some keys whose time was over at the present record, unless what they made was open
    /// or in its retention. False if there are none.
    fn forget_keys(&self) -> bool {
        let keys = &self.tables.keys;
        let forget = |done: &Outcome| {
            let kept = made_by(done.kind, done.lsn, done.slot).is_some_and(|id| self.is_kept(id));
            if !kept {
                self.tables.answers.lock().remove(&done.lsn);
            }
            !kept
        };
        let mut looked = 0;
        while looked < keys.slots() {
            let from = self.keys_swept.get() % keys.slots();
            let to = from.saturating_add(SWEEP_SLOTS).min(keys.slots());
            self.keys_swept.set(to);
            looked += to - from;
            if keys.sweep(from..to, self.time_ms, forget) > 0 {
                return true;
            }
        }
        false
    }

    fn is_kept(&self, id: ReservationId) -> bool {
        let closed = [ReservationState::Released, ReservationState::Expired];
        self.tables
            .reservations
            .read(id)
            .is_ok_and(|seen| !closed.contains(&seen.state) || seen.deadline_ms > self.time_ms)
    }

    /// Forgets some counts whose period was over at the present record; see [`Self::done`]. False
    /// if there are none.
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

    fn limit(&self, who: Who, effect: &Effect) -> Result<(), Error> {
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
pub(super) fn apply_sink(sink: &mut SinkState, effect: &Effect) {
    match *effect {
        Effect::Sealed { lsn, number, covers_lsn, events, chain } => {
            sink.sealed(lsn, number, covers_lsn, events, chain);
        }
        Effect::Acknowledged { number, refused } => sink.acknowledged(number, refused),
        _ => {}
    }
}
