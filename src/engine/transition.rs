//! What becomes of a held reservation before it is sold: release, extend, change of its lines, and
//! expiry. What gives stock back is logged first (law 1); each transition begins with the
//! reservation's busy bit, after the room for its record is certain.

use crate::{
    ledger::{
        keys::Outcome,
        reservations::{NotBegun, Snapshot, Transition},
    },
    model::{
        ID_CHARS_MAX, Lsn, Origin, ReservationId, Timestamp,
        command::{ChangeLines, Extend, Release, ReleaseLine},
        event::{self, KeyRef, Line, Of},
        view::{ReservationState, ReservationView},
    },
    wal::{Draft, RoomClass, Storage},
};

use super::{
    Decision, Engine, Key, Refusal,
    cause::Cause,
    core::{Core, KeyClaim, closing_bytes},
    counters::Count,
    take::{Cart, Taker, Takes, less},
};

const HELD: &[ReservationState] = &[ReservationState::Held];

fn archived_lines(lines: usize) -> usize {
    lines * size_of::<<Line as rkyv::Archive>::Archived>() + 8
}

pub(super) fn of(before: &Snapshot) -> Of {
    Of { reservation: before.id.lsn.0, previous: before.last.0, slot: before.id.slot }
}

impl<S: Storage> Engine<S> {
    /// Gives a held reservation back, wholly or in part.
    ///
    /// # Errors
    /// When settled: `malformed`, `unknown_reservation`, `wrong_state`, `idempotency_key_reused`,
    /// `overloaded`; a partial one also `log_full`.
    pub fn release(
        &self,
        key: Key<'_>,
        id: ReservationId,
        release: &Release,
    ) -> Decision<ReservationView> {
        let core = self.core();
        let key = core.cause(key, &("release", id), release);
        core.count(core.release(&key, id, release).unwrap_or_else(Decision::from))
    }

    /// Holds a reservation for longer (or less long), from now.
    ///
    /// # Errors
    /// When settled: `malformed`, `unknown_reservation`, `wrong_state`, `idempotency_key_reused`,
    /// `log_full`, `overloaded`.
    pub fn extend(
        &self,
        key: Key<'_>,
        id: ReservationId,
        extend: &Extend,
    ) -> Decision<ReservationView> {
        let core = self.core();
        let key = core.cause(key, &("extend", id), extend);
        core.count(core.extend(&key, id, extend).unwrap_or_else(Decision::from))
    }

    /// Changes what a held cart holds, as one decision; `origin` is the request that it came with, if
    /// that is to be found in the record.
    ///
    /// # Errors
    /// When settled: those of [`Engine::reserve`], `unknown_reservation`, `wrong_state`.
    pub fn change_lines(
        &self,
        id: ReservationId,
        change: &ChangeLines,
        origin: Option<Origin<'_>>,
    ) -> Decision<ReservationView> {
        let core = self.core();
        let cause = Cause { key: KeyRef::default(), origin, sheds: None };
        core.count(core.change_lines(&cause, id, change).unwrap_or_else(Decision::from))
    }
}

impl<S: Storage> Core<S> {
    /// The refusal for a transition that can't begin.
    pub(super) fn not_begun<T>(&self, why: NotBegun) -> Decision<T> {
        match why {
            NotBegun::Unknown => Refusal::UnknownReservation.into(),
            NotBegun::Busy => {
                Refusal::Overloaded { what: "the reservation is being changed; try again" }.into()
            }
            // The state is told, so the record that made it must be durable first.
            NotBegun::State { state, last } => {
                Decision::refused_behind(Refusal::WrongState { state }, last)
            }
        }
    }

    fn release(
        &self,
        key: &Cause<'_>,
        id: ReservationId,
        release: &Release,
    ) -> Result<Decision<ReservationView>, Refusal> {
        let claim = match self.claim_key(key)? {
            KeyClaim::Mine(claim) => claim,
            KeyClaim::Done(done) => return Ok(self.released_again(id, &done)),
            KeyClaim::Reused(lsn) => return Ok(Decision::reused(lsn)),
        };
        let part = release.lines.as_deref().unwrap_or_default();
        let now_ms = self.now_ms();
        loop {
            let seen = match self.tables.reservations.read(id) {
                Ok(seen) => seen,
                Err(why) => return Ok(self.not_begun(why)),
            };
            let room = if part.is_empty() {
                let bytes = archived_lines(seen.lines.len()) + fixed_bytes::<event::Release>();
                self.room(key, RoomClass::Closing, Draft::bytes_for(bytes), 0)?
            } else {
                // Lines, twice at most, and an answer that names each with its texts.
                let bytes = 2 * archived_lines(seen.lines.len()) + answer_bytes(seen.lines.len());
                let bytes = bytes + fixed_bytes::<event::Release>();
                self.room(key, RoomClass::Upkeep, Draft::bytes_for(bytes), 0)?
            };
            let transition = match self.tables.reservations.begin(id, HELD) {
                Ok(transition) => transition,
                Err(NotBegun::State { state: ReservationState::Released, .. })
                    if part.is_empty() =>
                {
                    return Ok(self.as_it_is(id));
                }
                Err(why) => return Ok(self.not_begun(why)),
            };
            let before = transition.snapshot();
            if before.lines.len() > seen.lines.len() {
                // It was changed in between, and the ticket may be too small.
                continue;
            }
            let (given, left) = split(self, &before.lines, part)?;
            let view = self.released_view(&before, &left);
            let answer = if left.is_empty() { String::new() } else { json(&view) };
            let record = event::Release {
                of: of(&before),
                key: key.key,
                lines: given.clone(),
                left: left.clone(),
                customer_hash: before.customer,
                deadline_ms: before.deadline_ms,
                answer,
            };
            let lsn = self.append_in(room, &record, now_ms);
            if !record.answer.is_empty() {
                self.tables.answers.lock().insert(lsn.0, record.answer.into());
            }
            self.tables.give_back(&given, before.customer, id.lsn);
            self.finish_release(transition, &before, &left, lsn, now_ms);
            claim.finish(&self.outcome::<event::Release>(lsn, id.slot, 0, now_ms));
            return Ok(Decision::made(ReservationView { lsn, ..view }, false, lsn));
        }
    }

    fn finish_release(
        &self,
        transition: Transition<'_>,
        before: &Snapshot,
        left: &[Line],
        lsn: Lsn,
        now_ms: u64,
    ) {
        if left.is_empty() {
            let retain_until_ms = now_ms + self.options.retention_ms;
            transition.finish(ReservationState::Released, retain_until_ms, lsn);
            self.counters.add(Count::Released);
            self.log.give_back(closing_bytes(before.lines.len()));
        } else {
            transition.set_lines(left);
            transition.finish(ReservationState::Held, before.deadline_ms, lsn);
            self.log.give_back(closing_bytes(before.lines.len()) - closing_bytes(left.len()));
        }
    }

    fn released_view(&self, before: &Snapshot, left: &[Line]) -> ReservationView {
        let held = !left.is_empty();
        ReservationView {
            id: before.id,
            state: if held { ReservationState::Held } else { ReservationState::Released },
            lines: self.line_views(if held { left } else { &before.lines }),
            expires_at: held.then(|| Timestamp::from_millis(before.deadline_ms)),
            order_id: None,
            lsn: before.last,
        }
    }

    fn released_again(&self, id: ReservationId, done: &Outcome) -> Decision<ReservationView> {
        let now = match self.tables.reservations.read(id) {
            Ok(now) => now,
            Err(why) => return self.not_begun(why),
        };
        let lsn = Lsn(done.lsn);
        let kept = self.tables.answers.lock().get(&done.lsn).cloned();
        let view = match kept.and_then(|json| serde_json::from_str(&json).ok()) {
            Some(view) => ReservationView { lsn, ..view },
            None => ReservationView { lsn, ..self.released_view(&now, &[]) },
        };
        let moved_on = (now.state != view.state).then_some(now.state);
        Decision::repeated(view, moved_on, false, now.last)
    }

    /// What a request finds done already, with the same content.
    pub(super) fn as_it_is(&self, id: ReservationId) -> Decision<ReservationView> {
        match self.tables.reservations.read(id) {
            Ok(now) => {
                let last = now.last;
                Decision::made(self.view(&now), false, last)
            }
            Err(why) => self.not_begun(why),
        }
    }

    fn extend(
        &self,
        key: &Cause<'_>,
        id: ReservationId,
        extend: &Extend,
    ) -> Result<Decision<ReservationView>, Refusal> {
        let claim = match self.claim_key(key)? {
            KeyClaim::Mine(claim) => claim,
            KeyClaim::Done(done) => return Ok(self.extended_again(id, &done)),
            KeyClaim::Reused(lsn) => return Ok(Decision::reused(lsn)),
        };
        let ttl_ms = self.ttl_ms(Some(extend.ttl_ms))?;
        let seen = match self.tables.reservations.read(id) {
            Ok(seen) => seen,
            Err(why) => return Ok(self.not_begun(why)),
        };
        let bytes = fixed_bytes::<event::Extend>() + answer_bytes(seen.lines.len());
        let room = self.room(key, RoomClass::Upkeep, Draft::bytes_for(bytes), 0)?;
        let transition = match self.tables.reservations.begin(id, HELD) {
            Ok(transition) => transition,
            Err(why) => return Ok(self.not_begun(why)),
        };
        let now_ms = self.now_ms();
        let before = transition.snapshot();
        if before.lines.len() > seen.lines.len() {
            return Err(Refusal::Overloaded { what: "the reservation was changed meanwhile" });
        }
        let deadline_ms = now_ms + ttl_ms;
        let view = self.extended_view(&before, deadline_ms, before.last);
        let (of, key) = (of(&before), key.key);
        let record = event::Extend { of, key, deadline_ms, answer: json(&view) };
        let lsn = self.append_in(room, &record, now_ms);
        self.tables.answers.lock().insert(lsn.0, record.answer.into());
        transition.finish(ReservationState::Held, deadline_ms, lsn);
        if deadline_ms < before.deadline_ms {
            self.wheel.hasten(id.slot, deadline_ms);
        }
        claim.finish(&self.outcome::<event::Extend>(lsn, id.slot, deadline_ms, now_ms));
        self.counters.add(Count::Extended);
        Ok(Decision::made(ReservationView { lsn, ..view }, false, lsn))
    }

    fn extended_view(&self, of: &Snapshot, deadline_ms: u64, lsn: Lsn) -> ReservationView {
        ReservationView {
            id: of.id,
            state: ReservationState::Held,
            lines: self.line_views(&of.lines),
            expires_at: Some(Timestamp::from_millis(deadline_ms)),
            order_id: None,
            lsn,
        }
    }

    fn extended_again(&self, id: ReservationId, done: &Outcome) -> Decision<ReservationView> {
        match self.tables.reservations.read(id) {
            Ok(now) => {
                let moved_on = (now.state != ReservationState::Held).then_some(now.state);
                let lsn = Lsn(done.lsn);
                let kept = self.tables.answers.lock().get(&done.lsn).cloned();
                let view = match kept.and_then(|json| serde_json::from_str(&json).ok()) {
                    Some(view) => ReservationView { lsn, ..view },
                    None => self.extended_view(&now, done.aux, lsn),
                };
                Decision::repeated(view, moved_on, false, now.last)
            }
            Err(why) => self.not_begun(why),
        }
    }

    fn change_lines(
        &self,
        cause: &Cause<'_>,
        id: ReservationId,
        change: &ChangeLines,
    ) -> Result<Decision<ReservationView>, Refusal> {
        let positions = &self.tables.positions;
        let cart = Cart::resolve(positions, &change.lines, self.options.lines_max)?;
        let seen = match self.tables.reservations.read(id) {
            Ok(seen) => seen,
            Err(why) => return Ok(self.not_begun(why)),
        };
        let lines_max = cart.lines_max.max(seen.lines.len());
        let bytes = fixed_bytes::<event::Change>() + 3 * archived_lines(lines_max + cart.lines_max);
        // Kept and new units of one position may be lines of their own.
        let closing = closing_bytes(2 * cart.lines_max);
        let room = self.room(cause, RoomClass::New, Draft::bytes_for(bytes), closing)?;
        let transition = match self.tables.reservations.begin(id, HELD) {
            Ok(transition) => transition,
            Err(why) => return Ok(self.not_begun(why)),
        };
        let before = transition.snapshot();
        if before.lines.len() > lines_max {
            return Err(Refusal::Overloaded { what: "the reservation was changed meanwhile" });
        }
        let now_ms = self.now_ms();
        // What it keeps is not taken again: only the difference is, and only what is too much
        // goes back, after the record.
        let (kept, given, more) = cart.against(positions, &before.lines);
        // What is put into a cart later comes off the limit as what was in it from the begin does.
        let tail = id.lsn.0;
        let instead_of = (&given[..], id.lsn.0);
        let customer = before.customer;
        let taker = Taker { customer, now_ms, tail, decided: false, instead_of };
        let takes = Takes::take(&self.tables, &more, taker, self.options.decision_wait_ms_max)?;
        let lines = merge(&kept, &takes.lines);
        let record = event::Change {
            of: of(&before),
            taken: takes.lines.to_vec(),
            given: given.clone(),
            lines: lines.clone(),
            customer_hash: before.customer,
            deadline_ms: before.deadline_ms,
        };
        let lsn = self.append_in(room, &record, now_ms);
        // Given back first, so that the customer's count never stands above its limit.
        self.tables.give_back(&given, before.customer, id.lsn);
        drop(takes.settle());
        // The new lines' closing room was set aside with the ticket; the old lines' goes back.
        let old = closing_bytes(before.lines.len()) + closing - closing_bytes(lines.len());
        self.log.give_back(old);
        transition.set_lines(&lines);
        transition.finish(ReservationState::Held, before.deadline_ms, lsn);
        self.counters.add(Count::Changed);
        let view = ReservationView {
            lines: self.line_views(&lines),
            ..self.extended_view(&before, before.deadline_ms, lsn)
        };
        Ok(Decision::made(view, false, lsn))
    }

    /// Expires a reservation whose time is up; what the timer wheel calls. Returns when to look
    /// again, if ever.
    pub(super) fn expire(&self, slot: u32, now_ms: u64) -> Option<u64> {
        let again = Some(now_ms + RETRY_MS);
        let seen = match self.tables.reservations.read_any(slot) {
            Ok(seen) => seen,
            // Whoever is at it may leave it held, and then this was its only timer.
            Err(NotBegun::Busy) => return again,
            Err(_) => return None,
        };
        if seen.state != ReservationState::Held {
            return None;
        }
        let due_ms = seen.deadline_ms.max(self.grace_until_ms);
        if due_ms > now_ms {
            return Some(due_ms);
        }
        let bytes = archived_lines(seen.lines.len()) + fixed_bytes::<event::Expire>();
        let Ok(ticket) = self.ticket(RoomClass::Closing, Draft::bytes_for(bytes), 0) else {
            return again;
        };
        let transition = match self.tables.reservations.begin(seen.id, HELD) {
            Ok(transition) => transition,
            Err(NotBegun::Busy) => return again,
            Err(_) => return None,
        };
        let before = transition.snapshot();
        // An extension or a change of lines may have come first.
        let due_ms = before.deadline_ms.max(self.grace_until_ms);
        if due_ms > now_ms {
            return Some(due_ms);
        }
        if before.lines.len() > seen.lines.len() {
            return again;
        }
        let record = event::Expire {
            of: of(&before),
            customer_hash: before.customer,
            lines: before.lines.to_vec(),
        };
        let lsn = self.append(ticket, &record, now_ms);
        self.tables.give_back(&before.lines, before.customer, before.id.lsn);
        let retain_until_ms = now_ms + self.options.retention_ms;
        transition.finish(ReservationState::Expired, retain_until_ms, lsn);
        self.log.give_back(closing_bytes(before.lines.len()));
        self.counters.add(Count::Expired);
        None
    }
}

/// What an answer that names so many lines takes at most as JSON: in each two ids, in which every
/// character may have to be escaped, a number, and the fields' names.
fn answer_bytes(lines: usize) -> usize {
    256 + lines * (4 * ID_CHARS_MAX + 64)
}

/// When an expiry that had no room, or met another transition, is tried again.
const RETRY_MS: u64 = 100;

pub(super) fn fixed_bytes<E: rkyv::Archive>() -> usize {
    size_of::<E::Archived>() + 8
}

pub(super) fn json(view: &impl serde::Serialize) -> String {
    serde_json::to_string(view).unwrap_or_default()
}

fn merge(kept: &[Line], taken: &[Line]) -> Vec<Line> {
    let mut lines = kept.to_vec();
    for line in taken {
        match lines.iter_mut().find(|l| l.position == line.position && l.limited == line.limited) {
            Some(same) => same.quantity += line.quantity,
            None => lines.push(*line),
        }
    }
    lines
}

/// Splits what a reservation holds into what is given back and what is left. Lines without a
/// location are given back where they were taken last.
fn split<S: Storage>(
    core: &Core<S>,
    held: &[Line],
    part: &[ReleaseLine],
) -> Result<(Vec<Line>, Vec<Line>), Refusal> {
    if part.is_empty() {
        return Ok((held.to_vec(), Vec::new()));
    }
    let mut left = held.to_vec();
    for (index, wanted) in part.iter().enumerate() {
        let mut quantity = wanted.quantity.get();
        for line in left.iter_mut().rev() {
            if core.is_at(line.position, &wanted.sku, wanted.location.as_ref()) {
                let given = quantity.min(line.quantity);
                line.quantity -= given;
                quantity -= given;
            }
        }
        if quantity > 0 {
            let field = format!("lines[{index}].quantity");
            return Err(Refusal::malformed(field, "is more than the reservation holds"));
        }
    }
    let given = less(held, &left);
    left.retain(|line| line.quantity > 0);
    Ok((given, left))
}
