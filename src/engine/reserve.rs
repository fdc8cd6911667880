//! Reserving: the hot path. One synchronous decision, in the design's order: look the key up, get a
//! room ticket, take, build the bytes, claim, copy, publish. Until the claim, guards give everything
//! back; after it, nothing can fail.

use crate::{
    ledger::{
        keys::{Found, Outcome},
        reservations::Opening,
    },
    model::{
        ReservationId, Timestamp,
        command::Reserve,
        event::{self, KeyRef, Line},
        view::{ReservationState, ReservationView},
    },
    wal::{Draft, RoomClass, Storage},
};

use super::{
    Decision, Engine, Key, Refusal,
    cause::{Cause, Shed},
    core::{Core, KeyClaim, closing_bytes},
    counters::Count,
    take::{Cart, Taker, Takes},
};

/// A slot for a reservation that is being decided; dropped unused, it goes back.
pub(super) struct SlotClaim<'a, S: Storage> {
    core: &'a Core<S>,
    slot: u32,
}

impl<'a, S: Storage> SlotClaim<'a, S> {
    pub(super) fn new(core: &'a Core<S>) -> Result<Self, Refusal> {
        let slot = core.tables.reservations.reserve_slot();
        let slot = slot.ok_or(Refusal::Overloaded { what: "the table of reservations is full" })?;
        Ok(Self { core, slot })
    }

    pub(super) fn number(&self) -> u32 {
        self.slot
    }

    /// The record stands: the reservation is there.
    pub(super) fn open(self, opening: &Opening<'_>) -> ReservationId {
        self.core.tables.reservations.open(self.slot, opening);
        let id = ReservationId { lsn: opening.lsn, slot: self.slot };
        std::mem::forget(self);
        id
    }
}

impl<S: Storage> Drop for SlotClaim<'_, S> {
    fn drop(&mut self) {
        self.core.tables.reservations.abandon(self.slot);
    }
}

/// Bytes that a reservation's record takes at most.
fn record_bytes(reserve: &Reserve, lines: usize) -> usize {
    let texts = reserve.customer.as_ref().map_or(0, |c| c.as_str().len())
        + reserve.order_id.as_ref().map_or(0, |o| o.as_str().len());
    let fixed = size_of::<<event::Reserve<'_> as rkyv::Archive>::Archived>();
    let line = size_of::<<Line as rkyv::Archive>::Archived>();
    // Alignment of the lines and of the root.
    Draft::bytes_for(fixed + lines * line + texts + 16)
}

impl<S: Storage> Engine<S> {
    /// Takes stock for a while: all lines or none. Repeats with the same key get the same answer.
    ///
    /// # Errors
    /// When settled: `malformed`, `unknown_sku`, `insufficient_stock`, `purchase_limit`,
    /// `idempotency_key_reused`, `log_full`, `overloaded`, `shutting_down`, `outcome_unknown`.
    pub fn reserve(&self, key: Key<'_>, reserve: &Reserve) -> Decision<ReservationView> {
        let core = self.core();
        core.count(core.reserve(key, reserve))
    }
}

/// What a request comes to before its key counts.
struct Wanted<'a> {
    cart: Cart<'a>,
    ttl_ms: u64,
}

impl<S: Storage> Core<S> {
    fn reserve(&self, key: Key<'_>, reserve: &Reserve) -> Decision<ReservationView> {
        let (hash, origin, sheds) = (self.hasher.key(key), key.origin, Shed::of(key.can_wait));
        self.tables.keys.warm(hash);
        // Nearly every request of a flash sale ends here, without a lock and without the log. The
        // key is looked up after the stock was seen gone: a cart puts its key into the table before
        // it takes, so who sees the take sees the key.
        let wanted = match self.wanted(reserve) {
            Err(refusal) if !self.tables.keys.has(hash) => return refusal.into(),
            wanted => wanted,
        };
        let key = KeyRef { hash, fingerprint: self.hasher.reserve(reserve) };
        let cause = Cause { key, origin, sheds };
        match wanted.and_then(|wanted| self.try_reserve(&cause, reserve, &wanted)) {
            Ok(decision) => decision,
            Err(refusal) => self.unless_known(&key, refusal, |done| self.granted_again(done)),
        }
    }

    fn wanted<'a>(&'a self, reserve: &'a Reserve) -> Result<Wanted<'a>, Refusal> {
        let positions = &self.tables.positions;
        let cart = Cart::resolve(positions, &reserve.lines, self.options.lines_max)?;
        let ttl_ms = self.ttl_ms(reserve.ttl_ms)?;
        if cart.is_short(positions) {
            return Err(Refusal::InsufficientStock { lines: cart.short(positions) });
        }
        Ok(Wanted { cart, ttl_ms })
    }

    /// A refusal, unless the request was done before: who repeats what was granted gets it, also
    /// when the stock is gone or the configuration has changed since.
    pub(super) fn unless_known<T>(
        &self,
        key: &KeyRef,
        refusal: Refusal,
        again: impl FnOnce(&Outcome) -> Decision<T>,
    ) -> Decision<T> {
        match self.find_key(key) {
            Ok(Found::Done(done)) => again(&done),
            Ok(Found::Reused(lsn)) => Decision::reused(crate::model::Lsn(lsn)),
            Ok(Found::Nothing | Found::InFlight) => refusal.into(),
            Err(refusal) => refusal.into(),
        }
    }

    pub(super) fn ttl_ms(&self, ttl_ms: Option<u64>) -> Result<u64, Refusal> {
        let ttl_ms = ttl_ms.unwrap_or(self.options.ttl_default_ms);
        if (1..=self.options.ttl_max_ms).contains(&ttl_ms) {
            return Ok(ttl_ms);
        }
        let reason = format!("must be 1 to {}", self.options.ttl_max_ms);
        Err(Refusal::malformed("ttl_ms", reason))
    }

    fn try_reserve(
        &self,
        key: &Cause<'_>,
        reserve: &Reserve,
        Wanted { cart, ttl_ms }: &Wanted<'_>,
    ) -> Result<Decision<ReservationView>, Refusal> {
        let customer = self.text_hash(reserve.customer.as_ref().map(|c| c.as_str()));
        cart.warm_limits(&self.tables, customer);
        let claim = match self.claim_key(key)? {
            KeyClaim::Mine(claim) => claim,
            KeyClaim::Done(done) => return Ok(self.granted_again(&done)),
            KeyClaim::Reused(lsn) => return Ok(Decision::reused(lsn)),
        };
        let slot = SlotClaim::new(self)?;
        let bytes = record_bytes(reserve, cart.lines_max);
        let closing = closing_bytes(cart.lines_max);
        let room = self.room(key, RoomClass::New, bytes, closing)?;
        let now_ms = self.now_ms();
        let order = self.text_hash(reserve.order_id.as_ref().map(|o| o.as_str()));
        let tail = self.log.appended().0;
        let taker = Taker { customer, now_ms, tail, decided: true, instead_of: (&[], 0) };
        let takes = Takes::take(&self.tables, cart, taker, self.options.decision_wait_ms_max)?;
        let deadline_ms = now_ms + ttl_ms;
        let record = event::Reserve {
            key: key.key,
            deadline_ms,
            customer_hash: customer,
            order_hash: order,
            slot: slot.number(),
            lines: &takes.lines,
            customer: reserve.customer.as_ref().map_or("", |c| c.as_str()),
            order_id: reserve.order_id.as_ref().map_or("", |o| o.as_str()),
        };
        let lsn = self.append_in(room, &record, now_ms);
        let number = slot.number();
        let lines = takes.settle();
        self.log.give_back(closing - closing_bytes(lines.len()));
        let opening = Opening {
            lsn,
            state: ReservationState::Held,
            deadline_ms,
            lines: &lines,
            customer,
            order,
            order_id: reserve.order_id.as_ref(),
        };
        let id = slot.open(&opening);
        self.wheel.insert(&self.tables.reservations, number, deadline_ms);
        claim.finish(&self.outcome::<event::Reserve<'_>>(lsn, number, deadline_ms, now_ms));
        self.counters.add(Count::Granted);
        Ok(Decision::made(self.held_view(id, &lines, deadline_ms), true, lsn))
    }

    fn held_view(&self, id: ReservationId, lines: &[Line], deadline_ms: u64) -> ReservationView {
        ReservationView {
            id,
            state: ReservationState::Held,
            lines: self.line_views(lines),
            expires_at: Some(Timestamp::from_millis(deadline_ms)),
            order_id: None,
            lsn: id.lsn,
        }
    }

    /// A keyed hash of a text that may be absent; 0 then.
    pub(super) fn text_hash(&self, text: Option<&str>) -> u64 {
        text.map_or(0, |text| self.hasher.text(text))
    }

    /// The first answer to a reservation again.
    fn granted_again(&self, done: &Outcome) -> Decision<ReservationView> {
        let id = ReservationId { lsn: crate::model::Lsn(done.lsn), slot: done.slot };
        let now = match self.tables.reservations.read(id) {
            Ok(now) => now,
            Err(lost) => return self.not_begun(lost),
        };
        let lines = now.granted.as_deref().unwrap_or(&now.lines);
        let view = self.held_view(id, lines, done.aux);
        let moved_on = (now.state != ReservationState::Held).then_some(now.state);
        Decision::repeated(view, moved_on, true, now.last)
    }
}
