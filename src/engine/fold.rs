//! Checkpoint entries: what a thing has become, as a key and a value, and how the next effects on it
//! change that. [`load`] puts a checkpoint's entry into the tables.

use rkyv::{Archive, Deserialize, Serialize, rancor::Error as Rancor};

use crate::{
    ledger::{
        limits::{Restored, Who},
        orders::Order,
        positions::{MOVEMENTS_MAX, Movement},
        reservations::Opening,
    },
    model::{
        Lsn, ReservationId,
        event::{self, Line, OrderData},
        sink::SinkState,
        view::ReservationState,
    },
};

use super::{
    Error,
    checkpoint::made_by,
    effect::{Done, Effect, Thing, state_number, state_of},
    replay::{Replay, apply_sink, order_id_of},
};

/// A position in a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct PositionValue {
    sku: String,
    location: String,
    sku_number: u32,
    available: i64,
    on_hand: i64,
    committed: i64,
    safety_stock: i64,
    backorder_limit: i64,
    forced: i64,
    source_version: Option<u64>,
    movements: Vec<(u64, i64)>,
    movements_from: u64,
}

/// A reservation in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct ReservationValue {
    lsn: u64,
    last: u64,
    deadline_ms: u64,
    customer: u64,
    order: u64,
    order_id: String,
    state: u8,
    lines: Vec<Line>,
    granted: Vec<Line>,
}

/// What a customer has taken, in a checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct LimitValue {
    taken: u32,
    from_ms: u64,
    lsn: u64,
}

/// An order in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct OrderValue {
    data: OrderData,
    reservations: Vec<(u64, u32)>,
    last: u64,
}

/// What a thing has become.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) enum Value {
    Secret([u64; 2]),
    Position(PositionValue),
    SkuLimit(Option<u32>),
    Reservation(ReservationValue),
    Key(Done),
    CustomerLimit(LimitValue),
    Order(OrderValue),
    Sink(SinkState),
}

impl Thing {
    /// The checkpoint's key: a letter, then numbers with their highest byte first, or the text.
    pub(super) fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(24);
        match self {
            Self::Secret => key.push(b'A'),
            Self::Position(number) => put(&mut key, b'B', &number.to_be_bytes()),
            Self::SkuLimit(number) => put(&mut key, b'C', &number.to_be_bytes()),
            Self::Reservation(slot) => put(&mut key, b'D', &slot.to_be_bytes()),
            Self::Key(hash) => {
                put(&mut key, b'E', &hash[0].to_be_bytes());
                key.extend(hash[1].to_be_bytes());
            }
            Self::CustomerLimit(customer, sku) => {
                put(&mut key, b'F', &customer.to_be_bytes());
                key.extend(sku.to_be_bytes());
            }
            Self::Order(id) => put(&mut key, b'G', id.as_bytes()),
            Self::Sink(name) => put(&mut key, b'H', name.as_bytes()),
        }
        key
    }

    /// The thing of a key.
    pub(super) fn of_key(key: &[u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        let text = || String::from_utf8(rest.to_vec()).ok();
        let u32_at = |at: usize| Some(u32::from_be_bytes(*rest.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_be_bytes(*rest.get(at..)?.first_chunk()?));
        Some(match kind {
            b'A' => Self::Secret,
            b'B' => Self::Position(u32_at(0)?),
            b'C' => Self::SkuLimit(u32_at(0)?),
            b'D' => Self::Reservation(u32_at(0)?),
            b'E' => Self::Key([u64_at(0)?, u64_at(8)?]),
            b'F' => Self::CustomerLimit(u64_at(0)?, u32_at(8)?),
            b'G' => Self::Order(text()?),
            b'H' => Self::Sink(text()?),
            _ => return None,
        })
    }
}

fn put(key: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    key.push(kind);
    key.extend(bytes);
}

/// A value or an effect that does not decode: the file passed its checksums, so this is a version
/// that is not known here.
fn undecodable(error: Rancor) -> Error {
    Error::Checkpoint { reason: error.to_string() }
}

/// Writes a value or an effect.
pub(super) fn to_bytes<T: event::Encode>(value: &T, out: &mut Vec<u8>) {
    out.clear();
    match rkyv::api::high::to_bytes_in::<_, Rancor>(value, std::mem::take(out)) {
        Ok(bytes) => *out = bytes,
        Err(error) => unreachable!("archiving into memory failed: {error}"),
    }
}

/// Reads a value or an effect; `bytes` begin at a multiple of eight.
pub(super) fn from_bytes<T>(bytes: &[u8]) -> Result<T, Error>
where
    T: Archive,
    T::Archived: event::Checked + Deserialize<T, rkyv::api::high::HighDeserializer<Rancor>>,
{
    rkyv::from_bytes::<T, Rancor>(bytes).map_err(undecodable)
}

/// What a thing becomes by the next effect on it.
pub(super) fn apply(
    value: Option<Value>,
    effect: Effect,
    limit_period_ms: u64,
) -> Result<Option<Value>, Error> {
    let out_of_order =
        || Error::Inconsistent { lsn: Lsn(0), what: "an effect on a thing that is not there" };
    Ok(Some(match (value, effect) {
        (_, Effect::Secret(secret)) => Value::Secret(secret),
        (_, Effect::Defined { sku, location, sku_number }) => {
            Value::Position(PositionValue { sku, location, sku_number, ..PositionValue::default() })
        }
        (Some(Value::Position(mut position)), Effect::Shifted(shift)) => {
            position.shift(&shift);
            Value::Position(position)
        }
        (_, Effect::SkuLimit(limit)) => Value::SkuLimit(limit),
        (_, Effect::Opened(opened)) => Value::Reservation(ReservationValue::opened(opened)),
        (Some(Value::Reservation(mut reservation)), Effect::Turned(turned)) => {
            reservation.turn(turned);
            Value::Reservation(reservation)
        }
        (_, Effect::Done(done)) => Value::Key(done),
        (value, Effect::LimitTaken { quantity, at_ms, lsn }) => {
            let fresh = LimitValue { taken: 0, from_ms: at_ms, lsn };
            let mut limit = match value {
                Some(Value::CustomerLimit(l))
                    if at_ms.saturating_sub(l.from_ms) < limit_period_ms =>
                {
                    l
                }
                _ => fresh,
            };
            limit.taken = limit.taken.saturating_add(quantity);
            limit.lsn = limit.lsn.min(lsn);
            Value::CustomerLimit(limit)
        }
        (Some(Value::CustomerLimit(mut limit)), Effect::LimitGiven { quantity, granted }) => {
            if granted >= limit.lsn {
                limit.taken = limit.taken.saturating_sub(quantity);
            }
            Value::CustomerLimit(limit)
        }
        (None, Effect::LimitGiven { .. }) => return Ok(None),
        (_, Effect::Placed { data, reservations, lsn }) => {
            Value::Order(OrderValue { data: *data, reservations, last: lsn })
        }
        (value, effect @ (Effect::Sealed { .. } | Effect::Acknowledged { .. })) => {
            let mut sink = match value {
                Some(Value::Sink(sink)) => sink,
                _ => SinkState::default(),
            };
            apply_sink(&mut sink, &effect);
            Value::Sink(sink)
        }
        _ => return Err(out_of_order()),
    }))
}

impl PositionValue {
    fn shift(&mut self, shift: &super::effect::Shift) {
        self.available += shift.available;
        self.on_hand += shift.on_hand;
        self.committed += shift.committed;
        self.safety_stock += shift.safety_stock;
        self.backorder_limit += shift.backorder_limit;
        self.forced += shift.forced;
        self.source_version = shift.source_version.or(self.source_version);
        if let Some(lsn) = shift.moved {
            if self.movements.len() == MOVEMENTS_MAX {
                self.movements_from = self.movements.remove(0).0 + 1;
            }
            self.movements.push((lsn, shift.on_hand));
        }
    }
}

impl ReservationValue {
    fn opened(opened: super::effect::Opened) -> Self {
        let state = match opened.committed {
            true => ReservationState::Committed,
            false => ReservationState::Held,
        };
        Self {
            lsn: opened.lsn,
            last: opened.lsn,
            deadline_ms: opened.deadline_ms,
            customer: opened.customer,
            order: opened.order,
            order_id: opened.order_id,
            state: state_number(state),
            lines: opened.lines,
            granted: Vec::new(),
        }
    }

    fn turn(&mut self, turned: super::effect::Turned) {
        self.last = turned.last;
        self.state = turned.state;
        self.deadline_ms = turned.deadline_ms;
        if turned.order != 0 {
            (self.order, self.order_id) = (turned.order, turned.order_id);
        }
        if let Some(lines) = turned.lines {
            let before = std::mem::replace(&mut self.lines, lines);
            if self.granted.is_empty() {
                self.granted = before;
            }
        }
    }
}

impl Value {
    /// Whether a checkpoint made at `now_ms` may leave it out: nobody can ask for it any more, and
    /// no record of the log behind the checkpoint can be about it. `known` says whether the table
    /// has a reservation yet.
    pub(super) fn is_over(
        &self,
        key: &[u8],
        now_ms: u64,
        limit_period_ms: u64,
        known: impl Fn(ReservationId) -> bool,
    ) -> bool {
        match self {
            Self::Key(done) => {
                let made = made_by(done.kind, done.lsn, done.slot);
                done.expires_ms <= now_ms && !made.is_some_and(known)
            }
            Self::CustomerLimit(limit) => {
                limit.taken == 0 || now_ms.saturating_sub(limit.from_ms) >= limit_period_ms
            }
            Self::Reservation(r) => {
                let closed = matches!(
                    state_of(r.state),
                    ReservationState::Released | ReservationState::Expired
                );
                let Some(Thing::Reservation(slot)) = Thing::of_key(key) else { return false };
                let id = ReservationId { lsn: Lsn(r.lsn), slot };
                closed && r.deadline_ms <= now_ms && !known(id)
            }
            _ => false,
        }
    }
}

/// Puts a checkpoint's entry into the tables.
pub(super) fn load(replay: &mut Replay<'_>, thing: Thing, value: Value) -> Result<(), Error> {
    let tables = replay.tables;
    match (thing, value) {
        (Thing::Secret, Value::Secret(secret)) => replay.secret = Some(secret),
        (Thing::Position(number), Value::Position(value)) => {
            replay.define(number, value.sku_number, &value.sku, &value.location)?;
            load_position(replay, number, &value);
        }
        (Thing::SkuLimit(number), Value::SkuLimit(limit)) => {
            tables.positions.set_limit(number, limit);
        }
        (Thing::Reservation(slot), Value::Reservation(value)) => {
            load_reservation(replay, slot, &value)?;
        }
        (Thing::Key(hash), Value::Key(done)) => replay.done(hash, &done)?,
        (Thing::CustomerLimit(customer, sku_number), Value::CustomerLimit(limit)) => {
            let LimitValue { taken, from_ms, lsn } = limit;
            let restored = Restored { taken, period_from_ms: from_ms, period_lsn: lsn };
            if !tables.limits.restore(Who { customer, sku_number }, restored) {
                return Err(Error::Limit { what: "engine.customer_limits_max" });
            }
        }
        (Thing::Order(id), Value::Order(order)) => {
            let wrong = |_| Error::Checkpoint { reason: "an order's id is none".into() };
            let ids = order.reservations.iter();
            tables.orders.restore(Order {
                id: id.parse().map_err(wrong)?,
                reservations: ids
                    .map(|(lsn, slot)| ReservationId { lsn: Lsn(*lsn), slot: *slot })
                    .collect(),
                data: order.data,
                state: ReservationState::Committed,
                last: Lsn(order.last),
            });
        }
        (Thing::Sink(name), Value::Sink(sink)) => {
            replay.sinks.insert(name, sink);
        }
        _ => return Err(Error::Checkpoint { reason: "a key and its value do not match".into() }),
    }
    Ok(())
}

fn load_position(replay: &Replay<'_>, number: u32, value: &PositionValue) {
    let Some(position) = replay.tables.positions.get(number) else { return };
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
}

fn load_reservation(replay: &Replay<'_>, slot: u32, value: &ReservationValue) -> Result<(), Error> {
    let table = &replay.tables.reservations;
    let id = ReservationId { lsn: Lsn(value.lsn), slot };
    let granted = if value.granted.is_empty() { &value.lines } else { &value.granted };
    let order_id = order_id_of(&value.order_id, id.lsn)?;
    let opening = Opening {
        lsn: id.lsn,
        state: state_of(value.state),
        deadline_ms: value.deadline_ms,
        lines: granted,
        customer: value.customer,
        order: value.order,
        order_id: order_id.as_ref(),
    };
    let beyond = Error::Limit { what: "engine.reservations_max" };
    table.restore(slot, &opening).ok_or(beyond)?;
    if value.last != value.lsn || !value.granted.is_empty() {
        let wrong = |_| Error::Checkpoint { reason: "a reservation could not be loaded".into() };
        let transition = table.begin(id, &[state_of(value.state)]).map_err(wrong)?;
        if !value.granted.is_empty() {
            transition.set_lines(&value.lines);
        }
        transition.finish(state_of(value.state), value.deadline_ms, Lsn(value.last));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_it_is_written_and_things_keep_their_order() {
        let things = [
            Thing::Secret,
            Thing::Position(1),
            Thing::Position(256),
            Thing::SkuLimit(0),
            Thing::Reservation(7),
            Thing::Key([1, 2]),
            Thing::Key([256, 0]),
            Thing::CustomerLimit(1, 2),
            Thing::Order("O-1".into()),
            Thing::Sink("erp".into()),
        ];
        let keys: Vec<_> = things.iter().map(Thing::key).collect();
        assert!(keys.is_sorted());
        for (thing, key) in things.iter().zip(&keys) {
            assert_eq!(Thing::of_key(key).as_ref(), Some(thing));
        }
        assert_eq!(Thing::of_key(b""), None);
        assert_eq!(Thing::of_key(b"Bx"), None);
    }
}
