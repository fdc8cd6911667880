//! Selling: a held reservation is committed, several become one order, or an order is reserved and
//! committed in one record.
//!
//! An order's id is claimed in the table of orders before the record is, and the reservations are
//! busy from before the claim until their new state is set: no two orders share an id or a
//! reservation.

use smallvec::{SmallVec, smallvec};

use crate::{
    ledger::{
        keys::Outcome,
        orders::{self, Kept, Standing},
        reservations::{NotBegun, Opening, Snapshot, Transition},
    },
    model::{
        Lsn, OrderId, ReservationId, TaxCodes,
        command::{Commit, PlaceOrder, Priority, ReserveLine},
        event::{self, Line, OrderData, Sold},
        life::Life,
        view::{OrderView, ReservationState, ReservationView},
    },
    wal::{RoomClass, Storage},
};

use super::{
    Answer, Decision, Engine, Key, Refusal,
    cause::{Cause, Shed},
    core::{Core, KeyClaim, closing_bytes},
    counters::Count,
    life::owed_room,
    pricing::{Money, is_same_sale, merged_prices},
    reserve::SlotClaim,
    take::{Cart, FewLines, Taker, Takes},
    transition::of,
};

/// What is taken for an order.
type Lines = SmallVec<[ReserveLine; 1]>;

impl<T> Decision<T> {
    fn map<U>(self, to: impl FnOnce(T) -> U) -> Decision<U> {
        let outcome = self.outcome.map(|answer| Answer {
            value: to(answer.value),
            replayed: answer.replayed,
            current_state: answer.current_state,
            created: answer.created,
        });
        Decision { outcome, behind: self.behind }
    }
}

impl<S: Storage> Engine<S> {
    /// Makes a held reservation an order.
    ///
    /// # Errors
    /// When settled: `malformed`, `unknown_reservation`, `wrong_state`, `order_mismatch`,
    /// `order_exists`, `idempotency_key_reused`, `overloaded`; a revived one also those of
    /// [`Engine::reserve`].
    pub fn commit(
        &self,
        key: Key<'_>,
        id: ReservationId,
        commit: &Commit,
    ) -> Decision<ReservationView> {
        let core = self.core();
        let key = core.cause(key, &("commit", id), commit);
        core.count(core.commit(&key, id, commit).unwrap_or_else(Decision::from))
    }

    /// The tax codes that orders may have from here on.
    pub fn set_tax_codes(&self, codes: TaxCodes) {
        *self.core().tax_codes.write() = codes;
    }

    /// Reserves and commits in one record, or makes one order of several held reservations.
    ///
    /// # Errors
    /// When settled: those of [`Engine::reserve`] and [`Engine::commit`].
    pub fn place_order(&self, key: Key<'_>, place: &PlaceOrder) -> Decision<OrderView> {
        let core = self.core();
        let key = core.cause(key, &"orders", place);
        let decision = core.place(&key, place).unwrap_or_else(|refusal| {
            core.unless_known(&key, refusal, |done| core.placed_again(&place.order_id, done))
        });
        core.count(decision)
    }
}

impl<S: Storage> Core<S> {
    /// Claims an order's id; a twin in flight is waited for.
    fn claim_order(&self, id: &OrderId) -> Result<orders::Begin<'_>, Refusal> {
        self.until("an order with this id is being decided; try again", || {
            match self.tables.orders.begin(id) {
                orders::Begin::InFlight => None,
                other => Some(other),
            }
        })
    }

    fn commit(
        &self,
        key: &Cause<'_>,
        id: ReservationId,
        commit: &Commit,
    ) -> Result<Decision<ReservationView>, Refusal> {
        let claim = match self.claim_key(key)? {
            KeyClaim::Mine(claim) => claim,
            KeyClaim::Done(done) => return Ok(self.committed_again(id, &done, commit)),
            KeyClaim::Reused(lsn) => return Ok(Decision::reused(lsn)),
        };
        let seen = match self.tables.reservations.read(id) {
            Ok(seen) => seen,
            Err(why) => return Ok(self.not_begun(why)),
        };
        let order_id = match commit.order_id.as_ref().or(seen.order_id.as_ref()) {
            Some(order_id) => order_id,
            None => {
                return Err(Refusal::malformed(
                    "order_id",
                    "is required: the reservation has none",
                ));
            }
        };
        let order_hash = self.hasher.text(order_id.as_str());
        if seen.order != 0 && seen.order != order_hash {
            return Ok(Decision::refused_behind(Refusal::OrderMismatch, seen.last));
        }
        let money = Money::of_commit(commit, order_id);
        if seen.state == ReservationState::Committed {
            return self.committed_before(&seen, &money);
        }
        let codes = commit.lines.iter().map(|line| line.tax_code.as_ref());
        self.check_tax_codes(commit.currency, codes)?;
        let order_claim = match self.claim_order(order_id)? {
            orders::Begin::Claimed(claim) => claim,
            orders::Begin::Placed(order) if order.reservations.contains(&id) => {
                return self.committed_before(&seen, &money);
            }
            orders::Begin::Placed(order) => {
                return Ok(Decision::refused_behind(Refusal::OrderExists, order.last()));
            }
            _ => return Err(Refusal::Overloaded { what: "the table of orders is full" }),
        };
        let revive = commit.revive && seen.state == ReservationState::Expired;
        let sale = Sale { key, money: &money, order_hash, order_claim };
        let decision = if revive {
            self.sell_expired(sale, &seen)?
        } else {
            self.sell_held(sale, &[id], seen.lines.len())?
        };
        if let Ok(order) = &decision.outcome {
            let lsn = order.value.lsn;
            claim.finish(&self.outcome::<event::Placed>(lsn, id.slot, 0, self.now_ms()));
        }
        let mut decision = decision.map(|order| committed_view(id, &order));
        if let Ok(answer) = &mut decision.outcome {
            // A transition of something that is there already: 200.
            answer.created = false;
        }
        Ok(decision)
    }

    /// A commit of what is committed already: the same content is answered again.
    fn committed_before(
        &self,
        seen: &Snapshot,
        money: &Money<'_>,
    ) -> Result<Decision<ReservationView>, Refusal> {
        let id = seen.id;
        let wrong = || Refusal::WrongState { state: ReservationState::Committed };
        let Some(order) = self.tables.orders.find(money.order_id) else {
            return Ok(Decision::refused_behind(Refusal::OrderMismatch, seen.last));
        };
        if !order.reservations.contains(&id) {
            return Ok(Decision::refused_behind(Refusal::OrderExists, order.last()));
        }
        let data =
            self.order_data(money, order.data.allocations.clone(), order.data.committed_at_ms);
        let same = data.is_ok_and(|mut data| {
            data.customer.clone_from(&order.data.customer);
            is_same_sale(data, &order.data)
        });
        if !same {
            return Ok(Decision::refused_behind(wrong(), order.last()));
        }
        let view = committed_view(id, &order.read(|order| self.order_view(order)));
        let (state, last) = (seen.state, view.lsn);
        Ok(Decision::made(ReservationView { state, ..view }, false, last))
    }

    fn committed_again(
        &self,
        id: ReservationId,
        done: &Outcome,
        commit: &Commit,
    ) -> Decision<ReservationView> {
        let now = match self.tables.reservations.read(id) {
            Ok(now) => now,
            Err(why) => return self.not_begun(why),
        };
        let order_id = commit.order_id.as_ref().or(now.order_id.as_ref());
        let view = ReservationView {
            id,
            state: ReservationState::Committed,
            lines: self.line_views(&now.lines),
            expires_at: None,
            order_id: order_id.cloned(),
            lsn: Lsn(done.lsn),
        };
        let moved_on = (now.state != ReservationState::Committed).then_some(now.state);
        Decision::repeated(view, moved_on, false, now.last)
    }

    fn place(&self, key: &Cause<'_>, place: &PlaceOrder) -> Result<Decision<OrderView>, Refusal> {
        let codes = place.lines.iter().map(|line| line.tax_code.as_ref());
        self.check_tax_codes(place.currency, codes)?;
        let prices = merged_prices(place)?;
        let money = Money::of_order(place, &prices);
        match &place.reservations {
            Some(ids) => self.place_held(key, place, &money, ids),
            None => self.place_now(key, place, &money),
        }
    }

    fn place_held(
        &self,
        key: &Cause<'_>,
        place: &PlaceOrder,
        money: &Money<'_>,
        ids: &[ReservationId],
    ) -> Result<Decision<OrderView>, Refusal> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() || ids.len() > self.options.lines_max as usize {
            let reason = format!("must name 1 to {} reservations", self.options.lines_max);
            return Err(Refusal::malformed("reservations", reason));
        }
        let claim = match self.claim_key(key)? {
            KeyClaim::Mine(claim) => claim,
            KeyClaim::Done(done) => return Ok(self.placed_again(&place.order_id, &done)),
            KeyClaim::Reused(lsn) => return Ok(Decision::reused(lsn)),
        };
        let order_hash = self.hasher.text(place.order_id.as_str());
        let mut lines = 0;
        for id in &ids {
            match self.tables.reservations.read(*id) {
                Ok(seen) if seen.order != 0 && seen.order != order_hash => {
                    return Ok(Decision::refused_behind(Refusal::OrderMismatch, seen.last));
                }
                Ok(seen) => lines += seen.lines.len(),
                Err(why) => return Ok(self.not_begun(why)),
            }
        }
        let order_claim = match self.claim_order(&place.order_id)? {
            orders::Begin::Claimed(claim) => claim,
            orders::Begin::Placed(order) => return self.placed_before(&order, money, Some(&ids)),
            _ => return Err(Refusal::Overloaded { what: "the table of orders is full" }),
        };
        let sale = Sale { key, money, order_hash, order_claim };
        let decision = self.sell_held(sale, &ids, lines)?;
        if let Ok(order) = &decision.outcome {
            let first = ids.first().map_or(0, |id| id.slot);
            let lsn = order.value.lsn;
            claim.finish(&self.outcome::<event::Placed>(lsn, first, 0, self.now_ms()));
        }
        Ok(decision)
    }

    fn place_now(
        &self,
        key: &Cause<'_>,
        place: &PlaceOrder,
        money: &Money<'_>,
    ) -> Result<Decision<OrderView>, Refusal> {
        let lines =
            place.lines.iter().enumerate().map(reserve_line).collect::<Result<Lines, _>>()?;
        let cart = Cart::resolve(&self.tables.positions, &lines, self.options.lines_max)?;
        if cart.is_short(&self.tables.positions)
            && self.tables.orders.find(&place.order_id).is_none()
        {
            return Err(Refusal::InsufficientStock { lines: cart.short(&self.tables.positions) });
        }
        let claim = match self.claim_key(key)? {
            KeyClaim::Mine(claim) => claim,
            KeyClaim::Done(done) => return Ok(self.placed_again(&place.order_id, &done)),
            KeyClaim::Reused(lsn) => return Ok(Decision::reused(lsn)),
        };
        let order_claim = match self.claim_order(&place.order_id)? {
            orders::Begin::Claimed(claim) => claim,
            orders::Begin::Placed(order) => return self.placed_before(&order, money, None),
            _ => return Err(Refusal::Overloaded { what: "the table of orders is full" }),
        };
        if place.priority == Priority::Bulk {
            self.shed(Shed::BulkOrder)?;
        }
        self.may_owe()?;
        let slot = SlotClaim::new(self)?;
        let bytes = money.record_bytes(cart.lines_max, 0);
        let room = self.room(key, RoomClass::New, bytes, 0)?;
        let now_ms = self.now_ms();
        let customer = self.text_hash(place.customer.as_ref().map(|c| c.as_str()));
        let tail = self.log.appended().0;
        let taker = Taker { customer, now_ms, tail, decided: false, instead_of: (&[], 0) };
        let takes = Takes::take(&self.tables, &cart, taker, self.options.decision_wait_ms_max)?;
        let order = self.order_data(money, takes.lines.clone(), now_ms)?;
        let order_hash = self.hasher.text(place.order_id.as_str());
        let record = event::Placed {
            key: key.key,
            customer_hash: customer,
            order_hash,
            taken_slot: Some(slot.number()),
            reservations: Vec::new(),
            order,
        };
        let lsn = self.append_in(room, &record, now_ms);
        let number = slot.number();
        let lines = takes.settle();
        self.add_committed(&lines);
        let state = ReservationState::Committed;
        let opening = Opening {
            lsn,
            state,
            deadline_ms: 0,
            lines: &lines,
            customer,
            order: order_hash,
            order_id: Some(&place.order_id),
        };
        let id = slot.open(&opening);
        let order = order_claim.place(record.order, smallvec![id], lsn);
        self.set_owed_aside(&order, owed_room(&order));
        claim.finish(&self.outcome::<event::Placed>(lsn, number, 0, now_ms));
        self.counters.add(Count::Granted);
        self.counters.add(Count::Committed);
        self.counters.add(Count::OrdersPlaced);
        Ok(Decision::made(self.placed_view(&order, lsn), true, lsn))
    }

    /// The order as its record at `lsn` made it, whatever has happened to it since.
    fn placed_view(&self, order: &Kept, lsn: Lsn) -> OrderView {
        self.order_view(Standing::new(order, &Life::default(), lsn))
    }

    fn add_committed(&self, lines: &[Line]) {
        for line in lines {
            if let Some(position) = self.tables.positions.get(line.position) {
                position.add_committed(i64::from(line.quantity));
            }
        }
    }

    fn sell_held(
        &self,
        sale: Sale<'_, '_>,
        ids: &[ReservationId],
        lines: usize,
    ) -> Result<Decision<OrderView>, Refusal> {
        let bytes = sale.money.record_bytes(lines, ids.len());
        let room = self.room(sale.key, RoomClass::Closing, bytes, 0)?;
        let mut transitions = Vec::with_capacity(ids.len());
        for id in ids {
            match self.tables.reservations.begin(*id, &[ReservationState::Held]) {
                Ok(transition) => transitions.push(transition),
                Err(NotBegun::State { state: ReservationState::Committed, last }) => {
                    return Ok(Decision::refused_behind(
                        Refusal::WrongState { state: ReservationState::Committed },
                        last,
                    ));
                }
                Err(why) => return Ok(self.not_begun(why)),
            }
        }
        let before: Vec<Snapshot> = transitions.iter().map(Transition::snapshot).collect();
        let allocations: FewLines = before.iter().flat_map(|b| b.lines.iter().copied()).collect();
        if allocations.len() > lines {
            return Err(Refusal::Overloaded { what: "a reservation was changed meanwhile" });
        }
        let now_ms = self.now_ms();
        let order = self.order_data(sale.money, allocations, now_ms)?;
        let record = event::Placed {
            key: sale.key.key,
            customer_hash: before.first().map_or(0, |b| b.customer),
            order_hash: sale.order_hash,
            taken_slot: None,
            reservations: before.iter().map(|b| Sold { of: of(b), revived: false }).collect(),
            order,
        };
        let lsn = self.append_in(room, &record, now_ms);
        let freed = before.iter().map(|b| closing_bytes(b.lines.len())).sum();
        self.log.give_back(freed);
        Ok(self.sold(sale, record.order, transitions, lsn))
    }

    /// After an order's record: its reservations are committed, and the order is there.
    fn sold(
        &self,
        sale: Sale<'_, '_>,
        data: OrderData,
        transitions: Vec<Transition<'_>>,
        lsn: Lsn,
    ) -> Decision<OrderView> {
        self.add_committed(&data.allocations);
        let state = ReservationState::Committed;
        let reservations = transitions.iter().map(|t| t.snapshot().id).collect();
        let order_id = sale.money.order_id;
        let order = sale.order_claim.place(data, reservations, lsn);
        self.set_owed_aside(&order, owed_room(&order));
        for transition in transitions {
            transition.set_order(sale.order_hash, order_id);
            transition.finish(state, 0, lsn);
            self.counters.add(Count::Committed);
        }
        self.counters.add(Count::OrdersPlaced);
        Decision::made(self.placed_view(&order, lsn), true, lsn)
    }

    /// Takes an expired reservation again and sells it, in one record.
    fn sell_expired(
        &self,
        sale: Sale<'_, '_>,
        seen: &Snapshot,
    ) -> Result<Decision<OrderView>, Refusal> {
        let bytes = sale.money.record_bytes(seen.lines.len(), 1);
        let room = self.room(sale.key, RoomClass::New, bytes, 0)?;
        let expired = &[ReservationState::Expired];
        let transition = match self.tables.reservations.begin(seen.id, expired) {
            Ok(transition) => transition,
            Err(why) => return Ok(self.not_begun(why)),
        };
        let before = transition.snapshot();
        let cart = Cart::exactly(&self.tables.positions, &before.lines);
        let now_ms = self.now_ms();
        let taker = Taker {
            customer: before.customer,
            now_ms,
            tail: before.id.lsn.0,
            decided: false,
            instead_of: (&[], 0),
        };
        let takes = Takes::take(&self.tables, &cart, taker, self.options.decision_wait_ms_max)?;
        let order = self.order_data(sale.money, takes.lines.clone(), now_ms)?;
        let record = event::Placed {
            key: sale.key.key,
            customer_hash: before.customer,
            order_hash: sale.order_hash,
            taken_slot: None,
            reservations: vec![Sold { of: of(&before), revived: true }],
            order,
        };
        let lsn = self.append_in(room, &record, now_ms);
        let taken = takes.settle();
        transition.set_lines(&taken);
        self.counters.add(Count::Granted);
        Ok(self.sold(sale, record.order, vec![transition], lsn))
    }

    /// An order whose id is placed already: the same content is answered again.
    fn placed_before(
        &self,
        order: &Kept,
        money: &Money<'_>,
        ids: Option<&[ReservationId]>,
    ) -> Result<Decision<OrderView>, Refusal> {
        let exists = Decision::refused_behind(Refusal::OrderExists, order.last());
        let Some(ids) = ids else { return Ok(exists) };
        let data =
            self.order_data(money, order.data.allocations.clone(), order.data.committed_at_ms);
        let same = data.is_ok_and(|data| is_same_sale(data, &order.data));
        if !same || order.reservations[..] != *ids {
            return Ok(exists);
        }
        let view = order.read(|order| self.order_view(order));
        let last = view.lsn;
        Ok(Decision::made(view, true, last))
    }

    fn placed_again(&self, id: &OrderId, done: &Outcome) -> Decision<OrderView> {
        match self.tables.orders.find(id) {
            Some(order) => {
                let (now, last) = order.read(|order| (order.state(), order.last));
                let moved_on = (now != ReservationState::Committed).then_some(now);
                Decision::repeated(self.placed_view(&order, Lsn(done.lsn)), moved_on, true, last)
            }
            None => Refusal::UnknownOrder.into(),
        }
    }
}

/// What selling needs besides the reservations.
struct Sale<'a, 'c> {
    key: &'a Cause<'a>,
    money: &'a Money<'a>,
    order_hash: u64,
    order_claim: orders::Claim<'c>,
}

fn committed_view(id: ReservationId, order: &OrderView) -> ReservationView {
    ReservationView {
        id,
        state: ReservationState::Committed,
        lines: order.allocations.clone(),
        expires_at: None,
        order_id: Some(order.order_id.clone()),
        lsn: order.lsn,
    }
}

/// The take of an order's line.
fn reserve_line(
    (index, line): (usize, &crate::model::command::OrderLine),
) -> Result<ReserveLine, Refusal> {
    let field = || format!("lines[{index}].quantity");
    let quantity = line.quantity.ok_or_else(|| Refusal::malformed(field(), "is required"))?;
    Ok(ReserveLine {
        sku: line.sku.clone(),
        quantity,
        location: line.location.clone(),
        split: line.split,
    })
}
