//! Putting a checkpoint's entries into the tables.

use crate::{
    ledger::{
        limits::{Restored, Who},
        orders::Sale,
        positions::Movement,
        reservations::Opening,
    },
    model::{
        Lsn, ReservationId, inbound::ParkedEvent, partner::PartnerEntry, sink::SinkState,
        tally::Tally,
    },
};

use super::{
    Error,
    codec::{Count, Reservation},
    fold::{OrderValue, PositionValue, from_archived, limit_of, secret_of, undecodable},
    replay::{Replay, order_id_of},
    seals::SealEntry,
    thing::{Done, Thing},
};

/// Puts an entry into the tables; `value` begins at a multiple of eight.
pub(super) fn load(replay: &mut Replay<'_>, key: &[u8], value: &[u8]) -> Result<(), Error> {
    match Thing::of_key(key).ok_or_else(undecodable)? {
        Thing::Reservation(slot) => {
            let reservation = Reservation::read(value, slot).ok_or_else(undecodable)?;
            load_reservation(replay, slot, &reservation)
        }
        Thing::Key(hash) => replay.done(&Done::read(value, hash).ok_or_else(undecodable)?),
        Thing::CustomerLimit(customer, sku_number) => {
            load_limit(replay, Who { customer, sku_number }, value)
        }
        Thing::Position(number) => load_position(replay, number, &from_archived(value)?),
        Thing::SkuLimit(number) => {
            let limit = limit_of(value).ok_or_else(undecodable)?;
            replay.tables.positions.set_limit(number, limit);
            Ok(())
        }
        Thing::Order(id) => load_order(replay, id, from_archived(value)?),
        Thing::Sink(name) => {
            replay.sinks.insert(name.to_owned(), from_archived::<SinkState>(value)?);
            Ok(())
        }
        Thing::Letter(sink, name) => {
            replay.set_letter(sink, name, Some(from_archived(value)?));
            Ok(())
        }
        Thing::ParkedEvent(_) => {
            replay.tables.parked.insert(from_archived::<ParkedEvent>(value)?);
            Ok(())
        }
        Thing::Seal(number, sink) => {
            let entry = SealEntry::read(value).ok_or_else(undecodable)?;
            replay.seals.load(sink, number, &entry);
            Ok(())
        }
        Thing::Partner(_) => {
            replay.tables.partners.put(from_archived::<PartnerEntry>(value)?);
            Ok(())
        }
        Thing::Tally(..) => {
            replay.tallies.put(from_archived::<Tally>(value)?);
            Ok(())
        }
        Thing::Secret => {
            replay.secret = Some(secret_of(value).ok_or_else(undecodable)?);
            Ok(())
        }
    }
}

fn load_limit(replay: &Replay<'_>, who: Who, value: &[u8]) -> Result<(), Error> {
    let Count { taken, from_ms, lsn } = Count::read(value).ok_or_else(undecodable)?;
    let restored = Restored { taken, period_from_ms: from_ms, period_lsn: lsn };
    match replay.tables.limits.restore(who, restored) {
        true => Ok(()),
        false => Err(Error::Limit { what: "engine.customer_limits_max" }),
    }
}

fn load_order(replay: &Replay<'_>, id: &str, order: OrderValue) -> Result<(), Error> {
    let wrong = |_| Error::Checkpoint { reason: "an order's id is none".into() };
    let ids = order.reservations.iter();
    let sale = Sale {
        id: id.parse().map_err(wrong)?,
        reservations: ids
            .map(|(lsn, slot)| ReservationId { lsn: Lsn(*lsn), slot: *slot })
            .collect(),
        data: order.data,
    };
    replay.tables.orders.restore(sale, order.life, Lsn(order.last));
    Ok(())
}

fn load_position(replay: &Replay<'_>, number: u32, value: &PositionValue) -> Result<(), Error> {
    replay.define(number, value.sku_number, &value.sku, &value.location)?;
    let Some(position) = replay.tables.positions.get(number) else { return Ok(()) };
    let units = u32::try_from(value.available.unsigned_abs()).unwrap_or(u32::MAX);
    if value.available < 0 {
        position.word().force_take(units);
    } else {
        position.word().give(units);
    }
    position.add_committed(value.committed);
    position.add_stock(value.on_hand, value.safety_stock, value.backorder_limit);
    let mut cold = position.lock();
    cold.forced = value.forced;
    cold.source_version = value.source_version;
    cold.movements =
        value.movements.iter().map(|(lsn, delta)| Movement { lsn: *lsn, delta: *delta }).collect();
    cold.movements_from = value.movements_from;
    Ok(())
}

fn load_reservation(
    replay: &mut Replay<'_>,
    slot: u32,
    value: &Reservation<'_>,
) -> Result<(), Error> {
    let table = &replay.tables.reservations;
    let id = ReservationId { lsn: Lsn(value.lsn), slot };
    let order_id = order_id_of(value.order_id, id.lsn)?;
    let opening = Opening {
        lsn: id.lsn,
        state: value.state,
        deadline_ms: value.deadline_ms,
        lines: value.granted.as_ref().unwrap_or(&value.lines),
        customer: value.customer,
        order: value.order,
        order_id: order_id.as_ref(),
    };
    let beyond = Error::Limit { what: "engine.reservations_max" };
    table.restore(slot, &opening).ok_or(beyond)?;
    if value.last != value.lsn || value.granted.is_some() {
        let wrong = |_| Error::Checkpoint { reason: "a reservation could not be loaded".into() };
        let transition = table.begin(id, &[value.state]).map_err(wrong)?;
        if value.granted.is_some() {
            transition.set_lines(&value.lines);
        }
        transition.finish(value.state, value.deadline_ms, Lsn(value.last));
    }
    value.key.as_ref().map_or(Ok(()), |key| replay.done(key))
}
