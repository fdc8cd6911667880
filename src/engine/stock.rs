//! Setting and adjusting stock. A change works out its delta under the position's own lock, off the
//! hot path, and then moves the word as law 1 demands: what lowers availability is taken before the
//! record, what raises it is given after.

use crate::{
    ledger::{
        keys::Outcome,
        positions::{Cold, Movement, Position},
        word::Taken,
    },
    model::{
        Location, Lsn, STOCK_COUNT_MAX, Sku,
        command::{AdjustStock, SetStock},
        event::{self, KeyRef},
        view::PositionView,
    },
    wal::{Draft, RoomClass, Storage, Ticket},
};

use super::{
    Decision, Engine, Key, Refusal,
    cause::Shed,
    core::{Core, KeyClaim},
    counters::Count,
    transition::{fixed_bytes, json},
};

impl<S: Storage> Engine<S> {
    /// Whether stock may be imported now: not while the log is past its soft mark.
    ///
    /// # Errors
    /// `overloaded`.
    pub fn admit_import(&self) -> Result<(), Refusal> {
        self.core().shed(Shed::StockImport)
    }

    /// Sets a position, and makes it if need be.
    ///
    /// # Errors
    /// When settled: `malformed`, `stale_version`, `shortfall`, `log_full`, `overloaded`.
    pub fn set_stock(
        &self,
        sku: &Sku,
        location: &Location,
        set: &SetStock,
    ) -> Decision<PositionView> {
        let core = self.core();
        core.count(core.set_stock(sku, location, set).unwrap_or_else(Decision::from))
    }

    /// Moves a position's stock.
    ///
    /// # Errors
    /// When settled: `malformed`, `unknown_sku`, `shortfall`, `idempotency_key_reused`, `log_full`,
    /// `overloaded`.
    pub fn adjust_stock(&self, key: Key<'_>, adjust: &AdjustStock) -> Decision<PositionView> {
        let core = self.core();
        let key = core.key_ref(key, &"adjustments", adjust);
        core.count(core.adjust(&key, adjust).unwrap_or_else(Decision::from))
    }
}

/// How a change of stock moves availability, decided under the position's lock.
struct Shift {
    /// Change of availability.
    available: i64,
    /// Whether it went below zero, as the sender had allowed.
    forced: bool,
}

impl<S: Storage> Core<S> {
    /// The position, made if need be. Its definition is a record of its own, claimed before any
    /// that names its number.
    fn define(&self, sku: &Sku, location: &Location) -> Result<(u32, &Position), Refusal> {
        let positions = &self.tables.positions;
        let known = || positions.at(positions.sku_number(sku)?, location);
        if let Some(known) = known() {
            return Ok(known);
        }
        let bytes =
            fixed_bytes::<event::Define>() + sku.as_str().len() + location.as_str().len() + 16;
        let ticket = self.ticket(RoomClass::Upkeep, Draft::bytes_for(bytes), 0)?;
        let _one = self.defining.lock();
        if let Some(known) = known() {
            return Ok(known);
        }
        let full = Refusal::Overloaded { what: "the table of positions is full" };
        let number = positions.len();
        // Before the record: one that memory can't follow would leave a log that can't be opened.
        if !positions.has_room(location) {
            return Err(full);
        }
        let sku_number = positions.sku_number(sku).unwrap_or(positions.skus_len());
        let now_ms = self.now_ms();
        let record = event::Define {
            at_ms: now_ms,
            position: number,
            sku_number,
            sku: sku.as_str().to_owned(),
            location: location.as_str().to_owned(),
        };
        self.append(ticket, &record, now_ms);
        positions.define(number, sku_number, sku, location).ok_or(full.clone())?;
        known().ok_or(full)
    }

    fn set_stock(
        &self,
        sku: &Sku,
        location: &Location,
        set: &SetStock,
    ) -> Result<Decision<PositionView>, Refusal> {
        let (number, position) = self.define(sku, location)?;
        let bytes = Draft::bytes_for(fixed_bytes::<event::Stock>());
        let ticket = self.ticket(RoomClass::Upkeep, bytes, 0)?;
        let mut cold = position.lock();
        if let (Some(last), Some(version)) = (cold.source_version, set.source_version)
            && version <= last
        {
            return Ok(Decision::refused_behind(
                Refusal::StaleVersion { last },
                Lsn(self.log.appended().0.saturating_sub(1)),
            ));
        }
        let now = position.counts();
        let on_hand = i64::from(set.on_hand.get()) + self.moved_since(&cold, set.as_of_lsn)?;
        if !(0..=i64::from(STOCK_COUNT_MAX)).contains(&on_hand) && !set.allow_shortfall {
            let reason = "with the movements since `as_of_lsn` is not 0 to 1000000000";
            return Err(Refusal::malformed("on_hand", reason));
        }
        let on_hand = on_hand.clamp(-i64::from(STOCK_COUNT_MAX), i64::from(STOCK_COUNT_MAX));
        let deltas = (
            on_hand - now.on_hand,
            i64::from(set.safety_stock.get()) - now.safety_stock,
            i64::from(set.backorder_limit.get()) - now.backorder_limit,
        );
        let shift = self.shift(position, deltas.0 - deltas.1 + deltas.2, set.allow_shortfall)?;
        // The limit is the SKU's, over all positions: its records and its changes come in one order.
        let _order = set.per_customer_limit.map(|_| self.defining.lock());
        let record = event::Stock {
            on_hand: deltas.0,
            safety_stock: deltas.1,
            backorder_limit: deltas.2,
            source_version: set.source_version,
            per_customer_limit: set.per_customer_limit.map(|l| l.map(|l| l.get())),
            position: number,
            forced: shift.forced,
        };
        let now_ms = self.now_ms();
        let lsn = self.append(ticket, &record, now_ms);
        self.shifted(position, &mut cold, &shift, deltas);
        cold.source_version = set.source_version.or(cold.source_version);
        if let Some(limit) = record.per_customer_limit {
            self.tables.positions.set_limit(position.sku_number(), limit);
        }
        let view = self.position_view(position, lsn).ok_or(Refusal::OutcomeUnknown)?;
        Ok(Decision::made(view, false, lsn))
    }

    fn moved_since(&self, cold: &Cold, as_of: Option<Lsn>) -> Result<i64, Refusal> {
        let Some(as_of) = as_of else { return Ok(0) };
        if as_of >= self.log.appended() {
            return Err(Refusal::malformed("as_of_lsn", "lies beyond the end of the log"));
        }
        let forgotten = || {
            let reason = format!("is too old: movements are known from {} on", cold.movements_from);
            Refusal::malformed("as_of_lsn", reason)
        };
        // The count knows of the record at `as_of` itself.
        cold.moved_since(as_of.0.saturating_add(1)).ok_or_else(forgotten)
    }

    /// Takes what a change of stock takes from availability, before its record; what it gives is
    /// given in [`Self::shifted`].
    fn shift(&self, position: &Position, available: i64, allow: bool) -> Result<Shift, Refusal> {
        let shortfall = || {
            let now = position.counts();
            Refusal::Shortfall { held: now.held, committed: now.committed }
        };
        let none = Shift { available, forced: false };
        if available >= 0 {
            let after = i64::from(position.word().load().0) + available;
            return if after < 0 && !allow { Err(shortfall()) } else { Ok(none) };
        }
        // Counts are limited to a billion each, so the sum of three changes fits.
        let less = u32::try_from(-available).map_err(|_| shortfall())?;
        let taken = self.until("carts are being decided on this position; try again", || {
            match position.word().take(less) {
                Taken::Yes => Some(true),
                Taken::Short { .. } => Some(false),
                Taken::Wait => None,
            }
        })?;
        match (taken, allow) {
            (true, _) => Ok(none),
            (false, false) => Err(shortfall()),
            (false, true) => {
                position.word().force_take(less);
                Ok(Shift { available, forced: true })
            }
        }
    }

    /// After the record of a change of stock.
    fn shifted(
        &self,
        position: &Position,
        cold: &mut Cold,
        shift: &Shift,
        (on_hand, safety_stock, backorder_limit): (i64, i64, i64),
    ) {
        if let Ok(more) = u32::try_from(shift.available) {
            position.word().give(more);
        }
        position.add_stock(on_hand, safety_stock, backorder_limit);
        self.counters.add(Count::StockChanged);
        if shift.forced {
            cold.forced -= shift.available;
        }
    }

    fn adjust(
        &self,
        key: &KeyRef,
        adjust: &AdjustStock,
    ) -> Result<Decision<PositionView>, Refusal> {
        let limit = i64::from(STOCK_COUNT_MAX);
        if adjust.delta == 0 || !(-limit..=limit).contains(&adjust.delta) {
            let reason = "must not be 0, and at most 1000000000 either way";
            return Err(Refusal::malformed("delta", reason));
        }
        let claim = match self.claim_key(key)? {
            KeyClaim::Mine(claim) => claim,
            KeyClaim::Done(done) => return self.adjusted_again(&done),
            KeyClaim::Reused(lsn) => return Ok(Decision::reused(lsn)),
        };
        let positions = &self.tables.positions;
        let unknown = |location: Option<&Location>| Refusal::UnknownSku {
            sku: adjust.sku.clone(),
            location: location.cloned(),
        };
        let sku_number = positions.sku_number(&adjust.sku).ok_or_else(|| unknown(None))?;
        let (number, position) = positions
            .at(sku_number, &adjust.location)
            .ok_or_else(|| unknown(Some(&adjust.location)))?;
        let texts = adjust.reference.as_ref().map_or(0, |r| r.as_str().len());
        let bytes = fixed_bytes::<event::Adjust>() + texts + 512 + 16;
        let ticket = self.ticket(RoomClass::Upkeep, Draft::bytes_for(bytes), 0)?;
        let mut cold = position.lock();
        let after = position.counts().on_hand + adjust.delta;
        if after > limit {
            return Err(Refusal::malformed("delta", "would make more than 1000000000 on hand"));
        }
        if after < 0 && !adjust.allow_shortfall {
            let now = position.counts();
            return Err(Refusal::Shortfall { held: now.held, committed: now.committed });
        }
        // Receipts are never refused, not even those that do not end a shortfall.
        let allow = adjust.allow_shortfall || adjust.delta > 0;
        let shift = self.shift(position, adjust.delta, allow)?;
        let (lsn, view) = self.append_adjust(ticket, key, adjust, number, position, &shift)?;
        self.shifted(position, &mut cold, &shift, (adjust.delta, 0, 0));
        cold.moved(Movement { lsn: lsn.0, delta: adjust.delta });
        claim.finish(&self.outcome::<event::Adjust>(lsn, number, 0, self.now_ms()));
        Ok(Decision::made(PositionView { lsn, ..view }, true, lsn))
    }

    fn append_adjust(
        &self,
        ticket: Ticket<'_, S>,
        key: &KeyRef,
        adjust: &AdjustStock,
        number: u32,
        position: &Position,
        shift: &Shift,
    ) -> Result<(Lsn, PositionView), Refusal> {
        let mut view = self.position_view(position, Lsn(0)).ok_or(Refusal::OutcomeUnknown)?;
        // As it will be: what is taken is out of the word already, the rest moves after the record.
        view.on_hand += adjust.delta;
        view.available += shift.available.max(0);
        view.held = view.on_hand - view.committed - view.safety_stock + view.backorder_limit
            - view.available;
        let record = event::Adjust {
            key: *key,
            delta: adjust.delta,
            position: number,
            forced: shift.forced,
            reason: adjust.reason as u8,
            reference: adjust.reference.as_ref().map_or("", |r| r.as_str()).to_owned(),
            answer: json(&view),
        };
        let lsn = self.append(ticket, &record, self.now_ms());
        self.tables.answers.lock().insert(lsn.0, record.answer.into());
        Ok((lsn, view))
    }

    fn adjusted_again(&self, done: &Outcome) -> Result<Decision<PositionView>, Refusal> {
        let lsn = Lsn(done.lsn);
        let kept = self.tables.answers.lock().get(&done.lsn).cloned();
        let view: PositionView = kept
            .and_then(|json| serde_json::from_str(&json).ok())
            .ok_or(Refusal::OutcomeUnknown)?;
        Ok(Decision::repeated(PositionView { lsn, ..view }, None, true, lsn))
    }
}
