//! What a record does to what: the one reading of the log's records that recovery (which applies it
//! to the tables) and checkpoints (which apply it to a file) share.
//!
//! An effect is about one thing, named by its [`Thing`]; the effects on one thing, in the order of
//! the log, make it what it is.

use rkyv::{Archive, Deserialize, Serialize};

use crate::{
    ledger::keys::Outcome,
    model::{
        Lsn,
        event::{
            self, Acknowledge, Adjust, Change, Define, Event, Expire, Extend, Genesis, KeyRef,
            Line, OrderData, Placed, Release, Reserve, Seal, Stock, Undecodable,
        },
        view::ReservationState,
    },
    wal::Record,
};

/// What an effect is about. The order is that of checkpoints; positions come before what names them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    /// The data directory itself.
    Secret,
    /// A position.
    Position(u32),
    /// A SKU's limit per customer.
    SkuLimit(u32),
    /// The reservation in a slot.
    Reservation(u32),
    /// An idempotency key.
    Key([u64; 2]),
    /// What a customer has taken of a limited SKU.
    CustomerLimit(u64, u32),
    /// An order.
    Order(String),
    /// A sink.
    Sink(String),
}

/// What a change of stock does to a position's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct Shift {
    pub(super) available: i64,
    pub(super) on_hand: i64,
    pub(super) committed: i64,
    pub(super) safety_stock: i64,
    pub(super) backorder_limit: i64,
    /// Units that the sender allowed to go below zero.
    pub(super) forced: i64,
    pub(super) source_version: Option<u64>,
    /// The record, if it is a physical movement.
    pub(super) moved: Option<u64>,
}

/// A reservation as its record opens it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) lsn: u64,
    pub(super) committed: bool,
    pub(super) deadline_ms: u64,
    pub(super) customer: u64,
    pub(super) order: u64,
    pub(super) order_id: String,
    pub(super) lines: Vec<Line>,
}

/// A reservation's next state.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct Turned {
    /// The reservation's own record.
    pub(super) lsn: u64,
    /// The record that turned it.
    pub(super) last: u64,
    pub(super) state: u8,
    pub(super) deadline_ms: u64,
    /// What it holds now, where that changed.
    pub(super) lines: Option<Vec<Line>>,
    /// The order that it became; 0 and empty if none.
    pub(super) order: u64,
    pub(super) order_id: String,
}

/// A key and what became of its request.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) fingerprint: u64,
    pub(super) lsn: u64,
    pub(super) aux: u64,
    pub(super) expires_ms: u64,
    pub(super) slot: u32,
    pub(super) kind: u8,
    pub(super) answer: String,
}

/// What a record does to one thing.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) enum Effect {
    Secret([u64; 2]),
    Defined { sku: String, location: String, sku_number: u32 },
    Shifted(Shift),
    SkuLimit(Option<u32>),
    Opened(Opened),
    Turned(Turned),
    Done(Done),
    LimitTaken { quantity: u32, at_ms: u64, lsn: u64 },
    LimitGiven { quantity: u32, granted: u64 },
    Placed { data: Box<OrderData>, reservations: Vec<(u64, u32)>, lsn: u64 },
    Sealed { lsn: u64, number: u64, covers_lsn: u64, events: u64, chain: [u8; 32] },
    Acknowledged { number: u64, refused: bool },
}

/// A state's number in records' effects.
pub(super) fn state_number(state: ReservationState) -> u8 {
    state as u8
}

/// The state of a number.
pub(super) fn state_of(number: u8) -> ReservationState {
    use ReservationState as S;
    [S::Held, S::Committed, S::Released, S::Expired, S::Fulfilled, S::Cancelled]
        .into_iter()
        .find(|s| *s as u8 == number)
        .unwrap_or(S::Released)
}

/// Reads records' effects; knows which SKU a position is of.
pub(super) struct Effects<'a> {
    /// Keys and closed reservations are remembered so long after their record.
    pub(super) retention_ms: u64,
    /// The SKU's number of a position's number.
    pub(super) sku_of: &'a dyn Fn(u32) -> u32,
}

fn lines(archived: &[event::ArchivedLine]) -> Vec<Line> {
    archived
        .iter()
        .map(|l| Line {
            position: l.position.to_native(),
            quantity: l.quantity.to_native(),
            limited: l.limited,
        })
        .collect()
}

fn key_of(key: &event::ArchivedKeyRef) -> KeyRef {
    KeyRef {
        hash: [key.hash[0].to_native(), key.hash[1].to_native()],
        fingerprint: key.fingerprint.to_native(),
    }
}

/// A record's head, and where its effects go.
struct At<'r, 'e, F> {
    record: &'r Record<'r>,
    effects: &'e Effects<'e>,
    emit: F,
}

impl Effects<'_> {
    /// Hands out the effects of a record, in order.
    ///
    /// # Errors
    /// If the body is not what the record's header says, or the kind is unknown to this version.
    pub(super) fn of(
        &self,
        record: &Record<'_>,
        emit: impl FnMut(Thing, Effect),
    ) -> Result<(), Undecodable> {
        let mut at = At { record, effects: self, emit };
        match record.kind {
            Reserve::KIND => at.reserve(),
            Expire::KIND => at.expire(),
            Placed::KIND => at.placed(),
            Release::KIND => at.release(),
            Extend::KIND => at.extend(),
            Change::KIND => at.change(),
            Stock::KIND => at.stock(),
            Adjust::KIND => at.adjust(),
            Define::KIND => at.define(),
            Genesis::KIND => at.genesis(),
            Seal::KIND => at.seal(),
            Acknowledge::KIND => at.acknowledge(),
            kind => Err(Undecodable {
                lsn: record.lsn,
                kind,
                version: record.version,
                reason: "this version of Holdfast does not know the kind".into(),
            }),
        }
    }
}

impl<F: FnMut(Thing, Effect)> At<'_, '_, F> {
    fn read<'r, E>(record: &'r Record<'r>) -> Result<&'r E::Archived, Undecodable>
    where
        E: Event,
        E::Archived: event::Checked,
    {
        event::decode::<E>(record.lsn, record.kind, record.version, record.body)
    }

    fn done(&mut self, kind: u8, key: KeyRef, slot: u32, aux: u64, answer: &str) {
        if key == KeyRef::default() {
            return;
        }
        let effect = Effect::Done(Done {
            fingerprint: key.fingerprint,
            lsn: self.record.lsn.0,
            aux,
            expires_ms: self.record.time_ms + self.effects.retention_ms,
            slot,
            kind,
            answer: answer.to_owned(),
        });
        (self.emit)(Thing::Key(key.hash), effect);
    }

    /// Moves availability by lines that were taken or given back, and what the customer has taken.
    fn moved(&mut self, lines: &[Line], customer: u64, taken: bool, granted: Lsn) {
        for line in lines {
            let quantity = i64::from(line.quantity);
            let available = if taken { -quantity } else { quantity };
            let shift = Shift { available, ..Shift::default() };
            (self.emit)(Thing::Position(line.position), Effect::Shifted(shift));
            if line.limited {
                let who = Thing::CustomerLimit(customer, (self.effects.sku_of)(line.position));
                // A period that begins with these units covers their reservation, so that they come
                // off it when they are given back.
                let (at_ms, lsn) = (self.record.time_ms, granted.0);
                let quantity = line.quantity;
                (self.emit)(
                    who,
                    match taken {
                        true => Effect::LimitTaken { quantity, at_ms, lsn },
                        false => Effect::LimitGiven { quantity, granted: granted.0 },
                    },
                );
            }
        }
    }

    fn turned(
        &mut self,
        of: &event::ArchivedOf,
        state: ReservationState,
        deadline_ms: u64,
        lines: Option<Vec<Line>>,
    ) {
        self.turned_for(of, state, deadline_ms, lines, (0, ""));
    }

    fn turned_for(
        &mut self,
        of: &event::ArchivedOf,
        state: ReservationState,
        deadline_ms: u64,
        lines: Option<Vec<Line>>,
        (order, order_id): (u64, &str),
    ) {
        let effect = Effect::Turned(Turned {
            lsn: of.reservation.to_native(),
            last: self.record.lsn.0,
            state: state_number(state),
            deadline_ms,
            lines,
            order,
            order_id: order_id.to_owned(),
        });
        (self.emit)(Thing::Reservation(of.slot.to_native()), effect);
    }

    fn genesis(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Genesis>(self.record)?;
        let secret = [event.hash_secret[0].to_native(), event.hash_secret[1].to_native()];
        (self.emit)(Thing::Secret, Effect::Secret(secret));
        Ok(())
    }

    fn define(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Define>(self.record)?;
        let effect = Effect::Defined {
            sku: event.sku.as_str().to_owned(),
            location: event.location.as_str().to_owned(),
            sku_number: event.sku_number.to_native(),
        };
        (self.emit)(Thing::Position(event.position.to_native()), effect);
        Ok(())
    }

    fn stock(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Stock>(self.record)?;
        let position = event.position.to_native();
        let on_hand = event.on_hand.to_native();
        let safety_stock = event.safety_stock.to_native();
        let backorder_limit = event.backorder_limit.to_native();
        let available = on_hand - safety_stock + backorder_limit;
        let shift = Shift {
            available,
            on_hand,
            safety_stock,
            backorder_limit,
            forced: if event.forced { -available } else { 0 },
            source_version: event.source_version.as_ref().map(|v| v.to_native()),
            ..Shift::default()
        };
        (self.emit)(Thing::Position(position), Effect::Shifted(shift));
        if let Some(limit) = event.per_customer_limit.as_ref() {
            let limit = limit.as_ref().map(|l| l.to_native());
            let sku_number = (self.effects.sku_of)(position);
            (self.emit)(Thing::SkuLimit(sku_number), Effect::SkuLimit(limit));
        }
        Ok(())
    }

    fn adjust(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Adjust>(self.record)?;
        let (position, delta) = (event.position.to_native(), event.delta.to_native());
        let shift = Shift {
            available: delta,
            on_hand: delta,
            forced: if event.forced { -delta } else { 0 },
            moved: Some(self.record.lsn.0),
            ..Shift::default()
        };
        (self.emit)(Thing::Position(position), Effect::Shifted(shift));
        self.done(Adjust::KIND, key_of(&event.key), position, 0, event.answer.as_str());
        Ok(())
    }

    fn reserve(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Reserve<'_>>(self.record)?;
        let lines = lines(&event.lines);
        let (slot, customer) = (event.slot.to_native(), event.customer_hash.to_native());
        let deadline_ms = event.deadline_ms.to_native();
        self.moved(&lines, customer, true, self.record.lsn);
        let opened = Opened {
            lsn: self.record.lsn.0,
            committed: false,
            deadline_ms,
            customer,
            order: event.order_hash.to_native(),
            order_id: event.order_id.to_string(),
            lines,
        };
        (self.emit)(Thing::Reservation(slot), Effect::Opened(opened));
        self.done(Reserve::KIND, key_of(&event.key), slot, deadline_ms, "");
        Ok(())
    }

    fn release(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Release>(self.record)?;
        let granted = Lsn(event.of.reservation.to_native());
        self.moved(&lines(&event.lines), event.customer_hash.to_native(), false, granted);
        if event.left.is_empty() {
            let until_ms = self.record.time_ms + self.effects.retention_ms;
            self.turned(&event.of, ReservationState::Released, until_ms, None);
        } else {
            let (left, deadline_ms) = (lines(&event.left), event.deadline_ms.to_native());
            self.turned(&event.of, ReservationState::Held, deadline_ms, Some(left));
        }
        let slot = event.of.slot.to_native();
        self.done(Release::KIND, key_of(&event.key), slot, 0, event.answer.as_str());
        Ok(())
    }

    fn extend(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Extend>(self.record)?;
        let deadline_ms = event.deadline_ms.to_native();
        self.turned(&event.of, ReservationState::Held, deadline_ms, None);
        let (key, slot) = (key_of(&event.key), event.of.slot.to_native());
        self.done(Extend::KIND, key, slot, deadline_ms, event.answer.as_str());
        Ok(())
    }

    fn expire(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Expire>(self.record)?;
        let granted = Lsn(event.of.reservation.to_native());
        self.moved(&lines(&event.lines), event.customer_hash.to_native(), false, granted);
        let until_ms = self.record.time_ms + self.effects.retention_ms;
        self.turned(&event.of, ReservationState::Expired, until_ms, None);
        Ok(())
    }

    fn change(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Change>(self.record)?;
        let customer = event.customer_hash.to_native();
        let granted = Lsn(event.of.reservation.to_native());
        self.moved(&lines(&event.taken), customer, true, granted);
        self.moved(&lines(&event.given), customer, false, granted);
        let (now, deadline_ms) = (lines(&event.lines), event.deadline_ms.to_native());
        self.turned(&event.of, ReservationState::Held, deadline_ms, Some(now));
        Ok(())
    }

    fn placed(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Placed>(self.record)?;
        let data: OrderData = event::to_owned(&event.order);
        let customer = event.customer_hash.to_native();
        let order = event.order_hash.to_native();
        let lsn = self.record.lsn;
        let taken_slot = event.taken_slot.as_ref().map(|slot| slot.to_native());
        let revived = event.reservations.iter().find(|r| r.revived);
        let granted = revived.map(|r| Lsn(r.of.reservation.to_native()));
        if let Some(granted) = taken_slot.map(|_| lsn).or(granted) {
            self.moved(&data.allocations, customer, true, granted);
        }
        for line in &data.allocations {
            let shift = Shift { committed: i64::from(line.quantity), ..Shift::default() };
            (self.emit)(Thing::Position(line.position), Effect::Shifted(shift));
        }
        let mut reservations = Vec::with_capacity(1);
        if let Some(slot) = taken_slot {
            let lines = data.allocations.clone();
            let opened = Opened {
                lsn: lsn.0,
                committed: true,
                deadline_ms: 0,
                customer,
                order,
                order_id: data.order_id.clone(),
                lines,
            };
            (self.emit)(Thing::Reservation(slot), Effect::Opened(opened));
            reservations.push((lsn.0, slot));
        }
        for sold in event.reservations.iter() {
            let lines = sold.revived.then(|| data.allocations.clone());
            let order = (order, data.order_id.as_str());
            self.turned_for(&sold.of, ReservationState::Committed, 0, lines, order);
            reservations.push((sold.of.reservation.to_native(), sold.of.slot.to_native()));
        }
        let slot = reservations.first().map_or(0, |(_, slot)| *slot);
        let thing = Thing::Order(data.order_id.clone());
        (self.emit)(thing, Effect::Placed { data: Box::new(data), reservations, lsn: lsn.0 });
        self.done(Placed::KIND, key_of(&event.key), slot, 0, "");
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Seal>(self.record)?;
        let effect = Effect::Sealed {
            lsn: self.record.lsn.0,
            number: event.number.to_native(),
            covers_lsn: event.covers_lsn.to_native(),
            events: event.events.to_native(),
            chain: event.chain,
        };
        (self.emit)(Thing::Sink(event.sink.as_str().to_owned()), effect);
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Acknowledge>(self.record)?;
        let effect =
            Effect::Acknowledged { number: event.number.to_native(), refused: event.refused };
        (self.emit)(Thing::Sink(event.sink.as_str().to_owned()), effect);
        Ok(())
    }
}

impl Done {
    /// What the table of keys keeps of it.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome {
            kind: self.kind,
            lsn: self.lsn,
            slot: self.slot,
            aux: self.aux,
            expires_ms: self.expires_ms,
        }
    }
}
