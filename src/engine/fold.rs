//! Checkpoint entries: what a thing has become, as a key and a value, and how the next effects on it
//! change that. What most entries are is written by [`super::codec`]; the rest is archived by rkyv.

use rkyv::{Archive, Deserialize, Serialize, rancor::Error as Rancor, util::AlignedVec};

use crate::{
    ledger::positions::MOVEMENTS_MAX,
    model::{
        Lsn, ReservationId,
        event::{self, OrderData},
        inbound::{ParkedEvent, Unparked},
        life::{Life, Step},
        sink::{Deed, Sealed, SinkState},
    },
};

use super::{
    Error,
    codec::{self, Count, Input, Reservation},
    replay::apply_sink,
    seals::{Remembered, SealEntry},
    thing::{Done, Effect, Shift, Thing, Turned, letter, made_by},
};

/// A position in a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct PositionValue {
    pub(super) sku: String,
    pub(super) location: String,
    pub(super) sku_number: u32,
    pub(super) available: i64,
    pub(super) on_hand: i64,
    pub(super) committed: i64,
    pub(super) safety_stock: i64,
    pub(super) backorder_limit: i64,
    pub(super) forced: i64,
    pub(super) source_version: Option<u64>,
    pub(super) movements: Vec<(u64, i64)>,
    pub(super) movements_from: u64,
}

/// An order in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct OrderValue {
    pub(super) data: OrderData,
    pub(super) reservations: Vec<(u64, u32)>,
    pub(super) life: Life,
    pub(super) last: u64,
}

/// How an effect changes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    /// It is the value, whatever was there.
    Set,
    /// A reservation turns.
    Turn,
    /// A customer takes; the value, if there is none.
    Take,
    /// A customer gives back.
    Give,
    /// A position's numbers change.
    Shift,
    /// A sink's batch is sealed.
    Seal,
    /// A sink's batch has its fate.
    Acknowledge,
    /// Something happens to an order.
    Happen,
    /// An operator does something to a sink.
    Operate,
    /// Something becomes of a parked event.
    Unpark,
    /// What became of a seal's batch is known.
    Answer,
}

impl Op {
    /// The one of a number.
    pub(super) fn of(number: u8) -> Option<Self> {
        use Op::{
            Acknowledge, Answer, Give, Happen, Operate, Seal, Set, Shift, Take, Turn, Unpark,
        };
        let all =
            [Set, Turn, Take, Give, Shift, Seal, Acknowledge, Happen, Operate, Unpark, Answer];
        all.get(usize::from(number)).copied()
    }

    /// Whether what it says is the value where there was none before.
    pub(super) fn is_value(self) -> bool {
        matches!(self, Self::Set | Self::Take)
    }
}

fn put_archived<T: event::Encode>(value: &T, out: &mut Vec<u8>) {
    match rkyv::api::high::to_bytes_in::<_, Rancor>(value, Vec::new()) {
        Ok(bytes) => out.extend_from_slice(&bytes),
        Err(error) => unreachable!("archiving into memory failed: {error}"),
    }
}

/// Reads an archived value; `bytes` begin at a multiple of eight. One that does not decode passed
/// the file's checksums, so it is of a version that is not known here.
pub(super) fn from_archived<T>(bytes: &[u8]) -> Result<T, Error>
where
    T: Archive,
    T::Archived: event::Checked + Deserialize<T, rkyv::api::high::HighDeserializer<Rancor>>,
{
    rkyv::from_bytes::<T, Rancor>(bytes)
        .map_err(|error| Error::Checkpoint { reason: error.to_string() })
}

/// What did not read as what its key says it is.
pub(super) fn undecodable() -> Error {
    Error::Checkpoint { reason: "an entry is of a version not known here".into() }
}

/// A limit per customer as a word: one more than it is, 0 for none.
pub(super) fn limit_of(bytes: &[u8]) -> Option<Option<u32>> {
    let word = Input(bytes).word()?;
    Some(word.checked_sub(1).and_then(|limit| u32::try_from(limit).ok()))
}

/// The secret of a data directory.
pub(super) fn secret_of(bytes: &[u8]) -> Option<[u64; 2]> {
    let mut input = Input(bytes);
    Some([input.word()?, input.word()?])
}

fn put_words(out: &mut Vec<u8>, words: &[u64]) {
    words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

/// Appends what an effect says.
pub(super) fn put_effect(effect: Effect<'_>, out: &mut Vec<u8>) -> Op {
    match effect {
        Effect::Opened(opened) => Reservation::of(opened).put(out),
        Effect::Done(done) => done.put(out),
        Effect::Secret(secret) => put_words(out, &secret),
        Effect::Indexed(entry) => entry.put(out),
        Effect::SkuLimit(limit) => put_words(out, &[limit.map_or(0, |l| u64::from(l) + 1)]),
        Effect::Defined { sku, location, sku_number } => {
            let (sku, location) = (sku.to_owned(), location.to_owned());
            put_archived(&PositionValue { sku, location, sku_number, ..Default::default() }, out);
        }
        Effect::Placed { data, reservations, lsn } => {
            let data = event::to_owned::<OrderData>(data);
            let value = OrderValue { data, reservations, life: Life::default(), last: lsn };
            put_archived(&value, out);
        }
        // A letter that is gone is an entry without a value, which is left out.
        Effect::Letter(letter) => {
            if let Some(letter) = letter {
                put_archived(&*letter, out);
            }
        }
        Effect::Parked(event) => put_archived(&*event, out),
        Effect::Partner(partner) => put_archived(&*partner, out),
        // A period that is forgotten is left out likewise.
        Effect::Tallied(tally) => {
            if !tally.counts.is_empty() {
                put_archived(&*tally, out);
            }
        }
        other => return put_change(other, out),
    }
    Op::Set
}

fn put_change(effect: Effect<'_>, out: &mut Vec<u8>) -> Op {
    match effect {
        Effect::LimitTaken { quantity, at_ms, lsn } => {
            Count { from_ms: at_ms, lsn, taken: quantity }.put(out);
            Op::Take
        }
        Effect::LimitGiven { quantity, granted } => {
            Count { from_ms: 0, lsn: granted, taken: quantity }.put(out);
            Op::Give
        }
        Effect::Turned(turned) => {
            turned.put(out);
            Op::Turn
        }
        Effect::Shifted(shift) => {
            shift.put(out);
            Op::Shift
        }
        Effect::Sealed(sealed) => {
            put_archived(&*sealed, out);
            Op::Seal
        }
        Effect::Acknowledged { number, sent } => {
            put_words(out, &[number, sent.into()]);
            Op::Acknowledge
        }
        Effect::Operated(operated) => {
            let (deed, reason) = *operated;
            put_archived(&Operated { deed, reason }, out);
            Op::Operate
        }
        Effect::Happened(step) => {
            put_archived(&*step, out);
            Op::Happen
        }
        Effect::Unparked(unparked) => {
            put_archived(&*unparked, out);
            Op::Unpark
        }
        Effect::Answered { lsn } => {
            put_words(out, &[lsn]);
            Op::Answer
        }
        _ => unreachable!("what sets a value is written by `put_effect`"),
    }
}

fn sealed(bytes: &[u8]) -> Option<Effect<'static>> {
    let sealed = from_archived::<Sealed>(bytes).ok()?;
    Some(Effect::Sealed(Box::new(sealed)))
}

fn acknowledged(bytes: &[u8]) -> Option<Effect<'static>> {
    let mut input = Input(bytes);
    Some(Effect::Acknowledged { number: input.word()?, sent: input.word()? != 0 })
}

/// What an operator did, between checkpoints.
#[derive(Archive, Serialize, Deserialize)]
struct Operated {
    deed: Deed,
    reason: String,
}

fn operated(bytes: &[u8]) -> Option<Effect<'static>> {
    let Operated { deed, reason } = from_archived::<Operated>(bytes).ok()?;
    Some(Effect::Operated(Box::new((deed, reason))))
}

/// What a thing has become, while the effects on it are gathered. One is used for thing after thing.
#[derive(Debug, Default)]
pub(super) struct Value {
    bytes: AlignedVec<16>,
    there: bool,
    next: Vec<u8>,
    /// An order to which something happened: taken out of `bytes` once, and put back when another asks,
    /// however many events it has.
    order: Option<OrderValue>,
}

impl Value {
    /// Begins anew, with nothing.
    pub(super) fn clear(&mut self) {
        self.there = false;
        self.order = None;
    }

    /// What has come of it, if anything has.
    pub(super) fn get(&mut self) -> Option<&[u8]> {
        if let Some(order) = self.order.take() {
            self.next.clear();
            put_archived(&order, &mut self.next);
            self.bytes.clear();
            self.bytes.extend_from_slice(&self.next);
        }
        self.there.then_some(&*self.bytes)
    }

    fn set(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.there = true;
    }

    /// Applies the next effect on the thing of `key`.
    pub(super) fn apply(
        &mut self,
        key: &[u8],
        (op, effect): (Op, &[u8]),
        limit_period_ms: u64,
    ) -> Result<(), Error> {
        let mut next = std::mem::take(&mut self.next);
        next.clear();
        match op {
            Op::Set => {
                self.next = next;
                self.set(effect);
                return Ok(());
            }
            Op::Turn => turn(self.get(), key, effect, &mut next)?,
            Op::Take => take(self.get(), effect, limit_period_ms, &mut next)?,
            Op::Give => give(self.get(), effect, &mut next)?,
            Op::Shift => shift(self.get(), effect, &mut next)?,
            Op::Seal => sink(self.get(), sealed(effect), &mut next)?,
            Op::Acknowledge => sink(self.get(), acknowledged(effect), &mut next)?,
            Op::Operate => sink(self.get(), operated(effect), &mut next)?,
            Op::Unpark => unpark(self.get(), effect, &mut next)?,
            Op::Happen => {
                self.next = next;
                return self.happen(effect);
            }
            Op::Answer => answer(self.get(), effect, &mut next)?,
        }
        // Nothing is no value: units of a count that was forgotten go nowhere.
        if !next.is_empty() {
            self.set(&next);
        }
        self.next = next;
        Ok(())
    }

    fn happen(&mut self, effect: &[u8]) -> Result<(), Error> {
        if self.order.is_none() {
            self.order = Some(from_archived::<OrderValue>(there(self.get())?)?);
        }
        let Step { fact, known } = from_archived::<Step>(effect)?;
        if let Some(order) = &mut self.order {
            order.last = known.lsn;
            order.life.add(&order.data, &fact, known);
        }
        Ok(())
    }
}

/// The value that an effect presupposes.
fn there(value: Option<&[u8]>) -> Result<&[u8], Error> {
    let what = "an effect on a thing that is not there";
    value.ok_or(Error::Inconsistent { lsn: Lsn(0), what })
}

fn unpark(value: Option<&[u8]>, effect: &[u8], next: &mut Vec<u8>) -> Result<(), Error> {
    let mut event = from_archived::<ParkedEvent>(there(value)?)?;
    event.unpark(from_archived::<Unparked>(effect)?);
    put_archived(&event, next);
    Ok(())
}

fn turn(value: Option<&[u8]>, key: &[u8], effect: &[u8], next: &mut Vec<u8>) -> Result<(), Error> {
    let Some(Thing::Reservation(slot)) = Thing::of_key(key) else { return Err(undecodable()) };
    let reservation = Reservation::read(there(value)?, slot);
    let mut reservation = reservation.ok_or_else(undecodable)?;
    reservation.turn(Turned::read(effect).ok_or_else(undecodable)?);
    reservation.put(next);
    Ok(())
}

fn take(
    value: Option<&[u8]>,
    effect: &[u8],
    limit_period_ms: u64,
    next: &mut Vec<u8>,
) -> Result<(), Error> {
    let taken = Count::read(effect).ok_or_else(undecodable)?;
    let before = value.map(|value| Count::read(value).ok_or_else(undecodable)).transpose()?;
    let in_period = |count: &Count| taken.from_ms.saturating_sub(count.from_ms) < limit_period_ms;
    let mut count = before.filter(in_period).unwrap_or(Count { taken: 0, ..taken });
    count.taken = count.taken.saturating_add(taken.taken);
    count.lsn = count.lsn.min(taken.lsn);
    count.put(next);
    Ok(())
}

fn give(value: Option<&[u8]>, effect: &[u8], next: &mut Vec<u8>) -> Result<(), Error> {
    let Some(value) = value else { return Ok(()) };
    let given = Count::read(effect).ok_or_else(undecodable)?;
    let mut count = Count::read(value).ok_or_else(undecodable)?;
    if given.lsn >= count.lsn {
        count.taken = count.taken.saturating_sub(given.taken);
    }
    count.put(next);
    Ok(())
}

fn shift(value: Option<&[u8]>, effect: &[u8], next: &mut Vec<u8>) -> Result<(), Error> {
    let mut position = from_archived::<PositionValue>(there(value)?)?;
    position.shift(&Shift::read(effect).ok_or_else(undecodable)?);
    put_archived(&position, next);
    Ok(())
}

fn sink(value: Option<&[u8]>, effect: Option<Effect<'_>>, next: &mut Vec<u8>) -> Result<(), Error> {
    let sink = value.map(from_archived::<SinkState>).transpose()?;
    let mut sink = sink.unwrap_or_default();
    apply_sink(&mut sink, &effect.ok_or_else(undecodable)?);
    put_archived(&sink, next);
    Ok(())
}

/// A seal that was forgotten stays so.
fn answer(value: Option<&[u8]>, effect: &[u8], next: &mut Vec<u8>) -> Result<(), Error> {
    let Some(value) = value else { return Ok(()) };
    let mut seal = SealEntry::read(value).ok_or_else(undecodable)?;
    seal.acknowledged = Some(Input(effect).word().ok_or_else(undecodable)?);
    seal.put(next);
    Ok(())
}

impl PositionValue {
    pub(super) fn shift(&mut self, shift: &Shift) {
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

/// When a checkpoint is made, and what it may leave out.
pub(super) struct Now<F> {
    pub(super) now_ms: u64,
    pub(super) limit_period_ms: u64,
    /// Whether the table has a reservation yet.
    pub(super) known: F,
    /// Which seals are remembered.
    pub(super) seals: Remembered,
}

impl<F: Fn(ReservationId) -> bool> Now<F> {
    /// Whether an entry may be left out: nobody can ask for it any more, and no record of the log
    /// behind the checkpoint can be about it.
    pub(super) fn is_over(&self, key: &[u8], value: &[u8]) -> Result<bool, Error> {
        match key.first() {
            Some(&letter::RESERVATION) if codec::is_closed(value) => {
                self.is_reservation_over(key, value).ok_or_else(undecodable)
            }
            Some(&letter::LETTER | &letter::TALLY) => Ok(value.is_empty()),
            Some(&letter::KEY) => self.is_key_over(value).ok_or_else(undecodable),
            Some(&letter::PARKED_EVENT) => Ok(from_archived::<ParkedEvent>(value)?.over),
            Some(&letter::CUSTOMER_LIMIT) => {
                let count = Count::read(value).ok_or_else(undecodable)?;
                let age_ms = self.now_ms.saturating_sub(count.from_ms);
                Ok(count.taken == 0 || age_ms >= self.limit_period_ms)
            }
            Some(&letter::SEAL) => self.is_seal_over(key, value).ok_or_else(undecodable),
            _ => Ok(false),
        }
    }

    fn is_reservation_over(&self, key: &[u8], value: &[u8]) -> Option<bool> {
        let Thing::Reservation(slot) = Thing::of_key(key)? else { return None };
        let closed = Reservation::read(value, slot)?;
        let until_ms = closed.key.map_or(0, |key| key.expires_ms).max(closed.deadline_ms);
        let id = ReservationId { lsn: Lsn(closed.lsn), slot };
        Some(until_ms <= self.now_ms && !(self.known)(id))
    }

    fn is_seal_over(&self, key: &[u8], value: &[u8]) -> Option<bool> {
        let Thing::Seal(number, sink) = Thing::of_key(key)? else { return None };
        Some(self.seals.has_forgotten(sink, number, &SealEntry::read(value)?))
    }

    fn is_key_over(&self, value: &[u8]) -> Option<bool> {
        let done = Done::read(value, [0; 2])?;
        let made = made_by(done.kind, done.lsn, done.slot);
        Some(done.expires_ms <= self.now_ms && !made.is_some_and(&self.known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::seals::Seals,
        model::{event::Line, fact::Fact, life::Known},
    };

    fn key(thing: Thing<'_>) -> Vec<u8> {
        let mut key = Vec::new();
        thing.put_key(&mut key);
        key
    }

    /// What becomes of nothing by these effects on a customer's count; periods are 100 long.
    fn count(effects: &[Effect<'static>]) -> Option<Count> {
        let mut value = Value::default();
        let key = key(Thing::CustomerLimit(1, 2));
        for effect in effects {
            let mut bytes = Vec::new();
            let op = put_change(copied(effect), &mut bytes);
            value.apply(&key, (op, &bytes), 100).unwrap();
        }
        value.get().and_then(Count::read)
    }

    fn copied(effect: &Effect<'static>) -> Effect<'static> {
        match *effect {
            Effect::LimitTaken { quantity, at_ms, lsn } => {
                Effect::LimitTaken { quantity, at_ms, lsn }
            }
            Effect::LimitGiven { quantity, granted } => Effect::LimitGiven { quantity, granted },
            _ => panic!("effects on counts only"),
        }
    }

    #[test]
    fn a_count_takes_and_gives_within_its_period() {
        let taken = |at_ms, lsn| Effect::LimitTaken { quantity: 2, at_ms, lsn };
        let given = |granted| Effect::LimitGiven { quantity: 1, granted };
        assert_eq!(count(&[given(8)]), None);
        let one = Count { from_ms: 5, lsn: 8, taken: 3 };
        assert_eq!(count(&[taken(5, 8), taken(104, 16), given(8)]), Some(one));
        let next = Count { from_ms: 105, lsn: 16, taken: 2 };
        assert_eq!(count(&[taken(5, 8), taken(105, 16), given(8)]), Some(next));
    }

    fn sale() -> OrderData {
        OrderData {
            shipping: 490,
            shipping_tax: 78,
            promised_ship_at_ms: 0,
            committed_at_ms: 1,
            order_id: "O-1".into(),
            customer: String::new().into(),
            prices: Vec::new().into(),
            allocations: vec![Line { position: 1, quantity: 2, limited: false }].into(),
            currency: *b"EUR",
            net: false,
            priority: 1,
        }
    }

    /// However the events on an order are cut into runs, what becomes of it is the same.
    #[test]
    fn the_events_of_an_order_are_gathered() {
        let placed =
            OrderValue { data: sale(), reservations: vec![(8, 1)], life: Life::default(), last: 8 };
        let (mut set, key) = (Vec::new(), key(Thing::Order("O-1")));
        put_archived(&placed, &mut set);
        let mut expected = placed;
        let (mut at_once, mut one_by_one) = (Value::default(), Value::default());
        at_once.apply(&key, (Op::Set, &set), 0).unwrap();
        one_by_one.apply(&key, (Op::Set, &set), 0).unwrap();
        for n in 1..=20_u64 {
            let fact = Fact::Settlement { amount: 10, fee: 1 };
            let (kind, id) = (fact.kind() as u8, format!("PAY-{n}"));
            let known =
                Known { lsn: 8 + 8 * n, content: n, at_ms: n, id: id.into(), kind, state: 1 };
            expected.last = known.lsn;
            expected.life.add(&expected.data, &fact, known.clone());
            let mut bytes = Vec::new();
            let op = put_effect(Effect::Happened(Box::new(Step { fact, known })), &mut bytes);
            let mut aligned = AlignedVec::<16>::new();
            aligned.extend_from_slice(&bytes);
            at_once.apply(&key, (op, &aligned), 0).unwrap();
            one_by_one.apply(&key, (op, &aligned), 0).unwrap();
            let so_far = from_archived::<OrderValue>(one_by_one.get().unwrap()).unwrap();
            assert_eq!(so_far, expected);
        }
        assert_eq!(at_once.get(), one_by_one.get());
        assert!(at_once.get().is_some());
        at_once.clear();
        assert_eq!(at_once.get(), None, "the next thing begins with nothing");
    }

    #[test]
    fn a_seal_is_told_what_became_of_it_and_goes_once_it_is_forgotten() {
        let entry =
            SealEntry { covers: 64, lsn: 80, acknowledged: None, lane: 1, released: vec![8] };
        let (mut sealed, mut answered) = (Vec::new(), Vec::new());
        let set = put_effect(Effect::Indexed(entry.clone()), &mut sealed);
        let answer = put_effect(Effect::Answered { lsn: 96 }, &mut answered);
        let (key, mut value) = (key(Thing::Seal(3, "books")), Value::default());
        value.apply(&key, (answer, &answered), 100).unwrap();
        assert_eq!(value.get(), None, "a seal that was forgotten stays so");
        value.apply(&key, (set, &sealed), 100).unwrap();
        value.apply(&key, (answer, &answered), 100).unwrap();
        let told = SealEntry { acknowledged: Some(96), ..entry };
        assert_eq!(value.get().and_then(SealEntry::read), Some(told));
        for (oldest, over) in [(80, false), (81, true)] {
            let seals = Seals::default().remembered(Lsn(oldest));
            let now = Now { now_ms: 0, limit_period_ms: 0, known: |_| true, seals };
            assert_eq!(now.is_over(&key, value.get().unwrap()).unwrap(), over);
        }
    }

    #[test]
    fn an_effect_on_nothing_is_refused_where_something_must_be() {
        let mut bytes = Vec::new();
        Shift::default().put(&mut bytes);
        let refused =
            Value::default().apply(&key(Thing::Position(1)), (Op::Shift, &bytes), 100).unwrap_err();
        assert!(matches!(refused, Error::Inconsistent { .. }));
    }

    #[test]
    fn numbers_of_changes_are_those_that_are_written() {
        for number in 0..11 {
            assert_eq!(Op::of(number).map(|op| op as u8), Some(number));
        }
        assert_eq!(Op::of(11), None);
    }
}
