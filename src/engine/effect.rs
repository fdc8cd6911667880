//! What a record does to what: the one reading of the log's records that recovery (which applies it
//! to the tables) and checkpoints (which apply it to a file) share.
//!
//! An effect is about one thing, named by its [`Thing`]; the effects on one thing, in the order of
//! the log, make it what it is.

use crate::{
    ledger::reservations::Lines,
    model::{
        Lsn, OriginView,
        event::{
            self, Acknowledge, Adjust, Change, Define, Event, Expire, Extend, Genesis, Happened,
            KeyRef, Line, Operate, Park, PartnerChange, Placed, Release, Reserve, Seal, Stock,
            Tallied, Undecodable, Unpark,
        },
        fact::Fact,
        inbound::{ParkedEvent, Unparked},
        letter::{ArchivedLetter, Letter, Split},
        life::{Known, Step},
        partner::PartnerEntry,
        sink::{ArchivedDeed, Deed},
        tally::Tally,
        view::ReservationState,
    },
    wal::Record,
};

use super::{
    seals::SealEntry,
    thing::{Done, Effect, Opened, Shift, Thing, Turned, state_of},
};

/// Reads records' effects; knows which SKU a position is of.
pub(super) struct Effects<'a> {
    /// Keys and closed reservations are remembered so long after their record.
    pub(super) retention_ms: u64,
    /// The SKU's number of a position's number.
    pub(super) sku_of: &'a dyn Fn(u32) -> u32,
}

fn line(archived: &event::ArchivedLine) -> Line {
    Line {
        position: archived.position.to_native(),
        quantity: archived.quantity.to_native(),
        limited: archived.limited,
    }
}

fn lines(archived: &[event::ArchivedLine]) -> Lines {
    match archived {
        [one] => Lines::One(line(one)),
        many => Lines::Many(many.iter().map(line).collect()),
    }
}

fn key_of(key: &event::ArchivedKeyRef) -> KeyRef {
    KeyRef {
        hash: [key.hash[0].to_native(), key.hash[1].to_native()],
        fingerprint: key.fingerprint.to_native(),
    }
}

/// A record's head, and where its effects go.
struct At<'r, 'e, F> {
    record: Record<'r>,
    effects: &'e Effects<'e>,
    emit: F,
}

impl Effects<'_> {
    /// Hands out the effects of a record, in order.
    ///
    /// # Errors
    /// If the body is not what the record's header says, or the kind is unknown to this version.
    pub(super) fn of<'r>(
        &self,
        record: &Record<'r>,
        emit: impl FnMut(Thing<'r>, Effect<'r>),
    ) -> Result<(), Undecodable> {
        let mut at = At { record: *record, effects: self, emit };
        match record.kind {
            Reserve::KIND => at.reserve(),
            Expire::KIND => at.expire(),
            Placed::KIND => at.placed(),
            Happened::KIND => at.happened(),
            Release::KIND => at.release(),
            Extend::KIND => at.extend(),
            Change::KIND => at.change(),
            Stock::KIND => at.stock(),
            Adjust::KIND => at.adjust(),
            Define::KIND => at.define(),
            Genesis::KIND => at.genesis(),
            Seal::KIND => at.seal(),
            Acknowledge::KIND => at.acknowledge(),
            Operate::KIND => at.operate(),
            Park::KIND => at.park(),
            Unpark::KIND => at.unpark(),
            PartnerChange::KIND => at.partner_change(),
            Tallied::KIND => at.tallied(),
            kind => Err(Undecodable {
                lsn: record.lsn,
                kind,
                version: record.version,
                reason: "this version of Holdfast does not know the kind".into(),
            }),
        }
    }
}

impl<'r, F: FnMut(Thing<'r>, Effect<'r>)> At<'r, '_, F> {
    fn read<E>(record: Record<'r>) -> Result<&'r E::Archived, Undecodable>
    where
        E: Event,
        E::Archived: event::Checked,
    {
        event::decode::<E>(record.lsn, record.kind, record.version, record.body)
    }

    /// What became of the record's request, if that had a key.
    fn keyed(&self, key: KeyRef, slot: u32, aux: u64, answer: &'r str) -> Option<Done<'r>> {
        let done = Done {
            key,
            lsn: self.record.lsn.0,
            aux,
            expires_ms: self.record.time_ms + self.effects.retention_ms,
            slot,
            kind: self.record.kind,
            answer,
        };
        (key != KeyRef::default()).then_some(done)
    }

    fn done(&mut self, key: KeyRef, slot: u32, aux: u64, answer: &'r str) {
        if let Some(done) = self.keyed(key, slot, aux, answer) {
            (self.emit)(Thing::Key(key.hash), Effect::Done(done));
        }
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
        lines: Option<Lines>,
    ) {
        self.turned_for(of, state, deadline_ms, lines, (0, ""));
    }

    fn turned_for(
        &mut self,
        of: &event::ArchivedOf,
        state: ReservationState,
        deadline_ms: u64,
        lines: Option<Lines>,
        (order, order_id): (u64, &'r str),
    ) {
        let effect = Effect::Turned(Turned {
            lsn: of.reservation.to_native(),
            last: self.record.lsn.0,
            state,
            deadline_ms,
            lines,
            order,
            order_id,
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
            sku: event.sku.as_str(),
            location: event.location.as_str(),
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
        self.done(key_of(&event.key), position, 0, event.answer.as_str());
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
            order_id: &event.order_id,
            lines,
            key: self.keyed(key_of(&event.key), slot, deadline_ms, ""),
        };
        (self.emit)(Thing::Reservation(slot), Effect::Opened(opened));
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
        self.done(key_of(&event.key), slot, 0, event.answer.as_str());
        Ok(())
    }

    fn extend(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Extend>(self.record)?;
        let deadline_ms = event.deadline_ms.to_native();
        self.turned(&event.of, ReservationState::Held, deadline_ms, None);
        let (key, slot) = (key_of(&event.key), event.of.slot.to_native());
        self.done(key, slot, deadline_ms, event.answer.as_str());
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
        let lsn = self.record.lsn;
        let taken_slot = event.taken_slot.as_ref().map(|slot| slot.to_native());
        let revived = event.reservations.iter().find(|r| r.revived);
        let granted = revived.map(|r| Lsn(r.of.reservation.to_native()));
        let allocations = lines(&event.order.allocations);
        if let Some(granted) = taken_slot.map(|_| lsn).or(granted) {
            self.moved(&allocations, event.customer_hash.to_native(), true, granted);
        }
        for line in &*allocations {
            let shift = Shift { committed: i64::from(line.quantity), ..Shift::default() };
            (self.emit)(Thing::Position(line.position), Effect::Shifted(shift));
        }
        let mut reservations = Vec::with_capacity(1);
        reservations.extend(taken_slot.map(|slot| (lsn.0, slot)));
        if let Some(slot) = taken_slot {
            self.taken_at_once(event, slot, allocations.clone());
        }
        for sold in event.reservations.iter() {
            let lines = sold.revived.then(|| allocations.clone());
            let order = (event.order_hash.to_native(), event.order.order_id.as_str());
            self.turned_for(&sold.of, ReservationState::Committed, 0, lines, order);
            reservations.push((sold.of.reservation.to_native(), sold.of.slot.to_native()));
        }
        let slot = reservations.first().map_or(0, |(_, slot)| *slot);
        let thing = Thing::Order(event.order.order_id.as_str());
        (self.emit)(thing, Effect::Placed { data: &event.order, reservations, lsn: lsn.0 });
        if taken_slot.is_none() {
            self.done(key_of(&event.key), slot, 0, "");
        }
        Ok(())
    }

    /// The reservation that an order in one step makes.
    fn taken_at_once(&mut self, event: &'r event::ArchivedPlaced, slot: u32, lines: Lines) {
        let opened = Opened {
            lsn: self.record.lsn.0,
            committed: true,
            deadline_ms: 0,
            customer: event.customer_hash.to_native(),
            order: event.order_hash.to_native(),
            order_id: event.order.order_id.as_str(),
            lines,
            key: self.keyed(key_of(&event.key), slot, 0, ""),
        };
        (self.emit)(Thing::Reservation(slot), Effect::Opened(opened));
    }

    fn happened(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Happened>(self.record)?;
        let fact: Fact = event::to_owned(&event.fact);
        self.moved_by(&fact);
        let state = state_of(event.state);
        let until_ms = self.record.time_ms + self.effects.retention_ms;
        for of in event.turned.iter() {
            self.turned(of, state, until_ms, None);
        }
        let known = Known {
            lsn: self.record.lsn.0,
            content: event.content.to_native(),
            at_ms: self.record.time_ms,
            id: event.id.as_str().into(),
            kind: fact.kind() as u8,
            state: event.state,
        };
        let happened = Step { fact, known };
        (self.emit)(Thing::Order(event.order_id.as_str()), Effect::Happened(Box::new(happened)));
        self.done(key_of(&event.key), 0, 0, "");
        Ok(())
    }

    /// What a fact does to positions and to the customer's limits.
    fn moved_by(&mut self, fact: &Fact) {
        let lsn = self.record.lsn.0;
        let mut shift = |position, shift| {
            (self.emit)(Thing::Position(position), Effect::Shifted(shift));
        };
        match fact {
            Fact::Shipment { lines, .. } => {
                for line in lines {
                    let units = i64::from(line.quantity);
                    // What leaves another position was taken there, and is free again here.
                    let elsewhere = if line.position == line.from { 0 } else { units };
                    let from =
                        Shift { committed: -units, available: elsewhere, ..Shift::default() };
                    let (available, on_hand, moved) = (-elsewhere, -units, Some(lsn));
                    shift(line.position, Shift { available, on_hand, moved, ..Shift::default() });
                    shift(line.from, from);
                }
            }
            Fact::Cancellation { lines } => {
                for line in lines {
                    let committed = -i64::from(line.quantity);
                    shift(line.position, Shift { committed, ..Shift::default() });
                }
                for line in lines {
                    self.moved(&[line.line()], line.customer_hash, false, Lsn(line.granted));
                }
            }
            Fact::Receipt { lines, restock: true, .. } => {
                for line in lines {
                    let (units, moved) = (i64::from(line.quantity), Some(lsn));
                    let back =
                        Shift { available: units, on_hand: units, moved, ..Shift::default() };
                    shift(line.position, back);
                }
            }
            _ => {}
        }
    }

    fn seal(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Seal>(self.record)?;
        let sealed = event.sealed(self.record.lsn);
        let sink = event.sink.as_str();
        let released = sealed.parking.released_of_before(event.first_lsn.to_native()).to_vec();
        let mut entry = SealEntry {
            covers: sealed.covers_lsn,
            lsn: sealed.lsn,
            acknowledged: None,
            lane: sealed.lane,
            released,
        };
        let numbers = sealed.number..sealed.number + sealed.batches;
        (self.emit)(Thing::Sink(sink), Effect::Sealed(Box::new(sealed)));
        for number in numbers {
            let released = std::mem::take(&mut entry.released);
            let indexed = SealEntry { released, ..entry.clone() };
            (self.emit)(Thing::Seal(number, sink), Effect::Indexed(indexed));
        }
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Acknowledge>(self.record)?;
        let (sink, sent) = (event.sink.as_str(), event.attempts > 0 && !event.refused);
        let number = event.number.to_native();
        (self.emit)(Thing::Sink(sink), Effect::Acknowledged { number, sent });
        (self.emit)(Thing::Seal(number, sink), Effect::Answered { lsn: self.record.lsn.0 });
        if !event.letter.is_empty() {
            (self.emit)(Thing::Letter(sink, event.letter.as_str()), Effect::Letter(None));
        }
        for letter in event.letters.iter() {
            self.letter(sink, letter);
        }
        Ok(())
    }

    fn operate(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Operate>(self.record)?;
        let sink = event.sink.as_str();
        match &event.deed {
            ArchivedDeed::Mend { letter } => self.letter(sink, letter),
            ArchivedDeed::Split { split } => {
                for letter in split.letters.iter() {
                    self.letter(sink, letter);
                }
                let split = event::to_owned::<Split>(split);
                let split = Split { letters: Vec::new(), ..split };
                let deed = (Deed::Split { split }, String::new());
                (self.emit)(Thing::Sink(sink), Effect::Operated(Box::new(deed)));
            }
            ArchivedDeed::Discard { letter } => {
                (self.emit)(Thing::Letter(sink, letter.as_str()), Effect::Letter(None));
            }
            deed => {
                let deed = event::to_owned::<Deed>(deed);
                let why = event.reason.as_str().to_owned();
                (self.emit)(Thing::Sink(sink), Effect::Operated(Box::new((deed, why))));
            }
        }
        Ok(())
    }

    fn letter(&mut self, sink: &'r str, letter: &'r ArchivedLetter) {
        let name = letter.id.as_str();
        let letter = Box::new(event::to_owned::<Letter>(letter));
        (self.emit)(Thing::Letter(sink, name), Effect::Letter(Some(letter)));
    }

    fn park(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Park>(self.record)?;
        let Record { lsn, version, time_ms, body, .. } = self.record;
        let origin = OriginView::of(version, body);
        let key = key_of(&event.key);
        let parked = ParkedEvent {
            lsn: lsn.0,
            at_ms: time_ms,
            content: key.fingerprint,
            partner: event.partner.as_str().to_owned(),
            order_id: event.order_id.as_str().to_owned(),
            id: event.id.as_str().to_owned(),
            event: event.event.as_str().to_owned(),
            request_id: origin.as_ref().map_or("", |o| o.request_id.as_str()).to_owned(),
            traceparent: origin.and_then(|o| o.traceparent).unwrap_or_default(),
            refused: None,
            kind: event.kind,
            over: false,
        };
        (self.emit)(Thing::ParkedEvent(lsn.0), Effect::Parked(Box::new(parked)));
        self.done(key, 0, time_ms, "");
        Ok(())
    }

    fn unpark(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<Unpark>(self.record)?;
        let (lsn, at_ms) = (self.record.lsn.0, self.record.time_ms);
        let unparked = Unparked { lsn, at_ms, outcome: event::to_owned(&event.outcome) };
        let thing = Thing::ParkedEvent(event.parked.to_native());
        (self.emit)(thing, Effect::Unparked(Box::new(unparked)));
        Ok(())
    }

    fn partner_change(&mut self) -> Result<(), Undecodable> {
        let event = Self::read::<PartnerChange>(self.record)?;
        let partner = event::to_owned::<PartnerEntry>(&event.partner);
        let partner = PartnerEntry { changed_lsn: self.record.lsn.0, ..partner };
        let thing = Thing::Partner(event.partner.name.as_str());
        (self.emit)(thing, Effect::Partner(Box::new(partner)));
        Ok(())
    }

    fn tallied(&mut self) -> Result<(), Undecodable> {
        for archived in Self::read::<Tallied>(self.record)?.tallies.iter() {
            let tally = event::to_owned::<Tally>(archived);
            let thing = Thing::Tally(archived.of.as_str(), tally.period);
            (self.emit)(thing, Effect::Tallied(Box::new(tally)));
        }
        Ok(())
    }
}
