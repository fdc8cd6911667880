//! What happens to an order after it was placed: shipments, cancellations, invoices, settlements,
//! refunds, returns. Each is one record.
//!
//! - Of several requests about one order, one decides at a time ([`Kept::begin_step`](crate::ledger::orders::Kept::begin_step)); whether its fact may be is
//!   said by [`Life::check`](crate::model::life::Life::check), so no more is ever shipped or paid back than was sold, whatever comes at
//!   once.
//! - Law 1: units that leave another location than they were sold from are taken there before the
//!   record, and those they were sold from are given back after it; so are cancelled and restocked
//!   units. A count of the stock can't come in between: it takes the locks that are held here.
//! - A fact is known by its own id as well as by the request's key: the same content again is the same
//!   answer, other content is refused.
//! - When the log's budget is spent they still go through: from the room that was set aside for what the order
//!   is owed ([`super::owed`]), else from the reserve of orders.

use smallvec::SmallVec;

use crate::{
    ledger::{
        orders::{Aside, Kept, Sale, Standing},
        reservations::Transition,
    },
    model::{
        Amount, Currency, Lsn, OrderId, Reference, Timestamp,
        command::{AuthorizeReturn, Cancel, Invoice, Note, ReceiveReturn, Refund, Settle, Ship},
        event::{Event, Happened, Of, OrderData, Park},
        fact::{Cancelled, Fact, FactKind},
        life::{Known, Wrong},
        view::{FactView, ReservationState},
        worth::{self, Recognition, Share, Worth},
    },
    wal::{Draft, RoomClass, Storage},
};

use super::{
    Decision, Key, Refusal,
    cause::{Cause, Room},
    core::{Core, KeyClaim},
    counters::Count,
    moves::Moves,
    order_view::fact_view,
    owed::Owed,
    plan::{self, beyond},
    transition::{fixed_bytes, of},
};

/// The most characters of a note.
const NOTE_CHARS_MAX: usize = 1_024;

/// A request about an order.
struct Request<'a> {
    key: Cause<'a>,
    order: &'a OrderId,
    kind: FactKind,
    /// The fact's own id.
    id: &'a Reference,
    /// Lines and texts, for the size of the record.
    lines: usize,
    texts: usize,
}

// What these promise and refuse is said where they are offered, in `Engine`.
impl<S: Storage> Core<S> {
    /// Goods of an order left. Another location than they were reserved at is fine if it has them.
    pub(super) fn ship(&self, key: Key<'_>, order: &OrderId, ship: &Ship) -> Decision<FactView> {
        let text = |t: &Option<Reference>| t.as_ref().map_or("", |t| t.as_str()).to_owned();
        let (carrier, tracking) = (text(&ship.carrier), text(&ship.tracking));
        let (core, kind) = (self, FactKind::Shipment);
        let size = (ship.lines.len(), carrier.len() + tracking.len());
        core.happens(key, order, kind, &ship.shipment_id, size, ship, |order| {
            Ok(Fact::Shipment { lines: core.shipped(order, &ship.lines)?, carrier, tracking })
        })
    }

    /// Units of an order that had not left are called off, and can be sold again.
    pub(super) fn cancel(
        &self,
        key: Key<'_>,
        order: &OrderId,
        cancel: &Cancel,
    ) -> Decision<FactView> {
        let (core, kind) = (self, FactKind::Cancellation);
        let lines = cancel.lines.as_deref();
        let size = (lines.map_or(0, <[_]>::len), 0);
        core.happens(key, order, kind, &cancel.cancellation_id, size, cancel, |order| {
            Ok(Fact::Cancellation { lines: core.cancelled(order, lines)? })
        })
    }

    /// The customer was billed.
    pub(super) fn invoice(
        &self,
        key: Key<'_>,
        order: &OrderId,
        invoice: &Invoice,
    ) -> Decision<FactView> {
        let (core, kind) = (self, FactKind::Invoice);
        core.happens(key, order, kind, &invoice.invoice_id, (0, 0), invoice, |order| {
            same_currency(order, invoice.currency)?;
            contained(invoice.amount, invoice.tax, "tax")?;
            Ok(Fact::Invoice { amount: invoice.amount.minor(), tax: invoice.tax.minor() })
        })
    }

    /// The payment provider has the customer's money.
    pub(super) fn settle_order(
        &self,
        key: Key<'_>,
        order: &OrderId,
        settle: &Settle,
    ) -> Decision<FactView> {
        let (core, kind) = (self, FactKind::Settlement);
        core.happens(key, order, kind, &settle.settlement_id, (0, 0), settle, |order| {
            same_currency(order, settle.currency)?;
            contained(settle.amount, settle.fee, "fee")?;
            Ok(Fact::Settlement { amount: settle.amount.minor(), fee: settle.fee.minor() })
        })
    }

    /// The customer got money back.
    pub(super) fn refund(
        &self,
        key: Key<'_>,
        order: &OrderId,
        refund: &Refund,
    ) -> Decision<FactView> {
        let reason = refund.reason.as_ref().map_or("", |r| r.as_str()).to_owned();
        let (core, kind, size) = (self, FactKind::Refund, (0, reason.len()));
        core.happens(key, order, kind, &refund.refund_id, size, refund, |order| {
            same_currency(order, refund.currency)?;
            contained(refund.amount, refund.tax, "tax")?;
            Ok(Fact::Refund { amount: refund.amount.minor(), tax: refund.tax.minor(), reason })
        })
    }

    /// A return is authorised.
    pub(super) fn authorize_return(
        &self,
        key: Key<'_>,
        order: &OrderId,
        back: &AuthorizeReturn,
    ) -> Decision<FactView> {
        let (core, kind, size) = (self, FactKind::Return, (back.lines.len(), 0));
        core.happens(key, order, kind, &back.return_id, size, back, |order| {
            let skus = back.lines.iter().map(|line| (&line.sku, line.quantity.get()));
            Ok(Fact::Return { lines: core.units(order, skus)?, restock: back.restock })
        })
    }

    /// Goods of an authorised return came back: to be sold again, or written off, as it says.
    pub(super) fn receive_return(
        &self,
        key: Key<'_>,
        order: &OrderId,
        return_id: &Reference,
        receive: &ReceiveReturn,
    ) -> Decision<FactView> {
        let (core, kind) = (self, FactKind::Receipt);
        let size = (receive.lines.len(), return_id.as_str().len());
        let content = (return_id, receive);
        core.happens(key, order, kind, &receive.receipt_id, size, &content, |order| {
            let known = order.life.returns.iter().find(|r| r.id == return_id.as_str());
            let restock = known.ok_or_else(|| beyond(order, Wrong::UnknownReturn))?.restock;
            let lines = core.came_back(order, &receive.lines)?;
            Ok(Fact::Receipt { return_id: return_id.as_str().to_owned(), lines, restock })
        })
    }

    /// Something to know about an order that changes neither stock nor money.
    pub(super) fn note(&self, key: Key<'_>, order: &OrderId, note: &Note) -> Decision<FactView> {
        let (core, kind, size) = (self, FactKind::Note, (0, note.text.len()));
        core.happens(key, order, kind, &note.note_id, size, note, |_| {
            check_note(note)?;
            Ok(Fact::Note { text: note.text.clone() })
        })
    }
}

fn same_currency(order: Standing<'_>, currency: Currency) -> Result<(), Refusal> {
    if currency.as_bytes() == order.data.currency {
        return Ok(());
    }
    let reason = format!("must be the order's, {}", Currency::from_bytes(order.data.currency));
    Err(Refusal::malformed("currency", reason))
}

pub(super) fn check_note(note: &Note) -> Result<(), Refusal> {
    if (1..=NOTE_CHARS_MAX).contains(&note.text.chars().count()) {
        return Ok(());
    }
    Err(Refusal::malformed("text", format!("must be 1 to {NOTE_CHARS_MAX} characters")))
}

pub(super) fn contained(amount: Amount, part: Amount, field: &str) -> Result<(), Refusal> {
    if part.minor() <= amount.minor() {
        return Ok(());
    }
    Err(Refusal::malformed(field, "must not be more than `amount`"))
}

/// What a request is called in its fingerprint.
pub(super) fn route(kind: FactKind, order: &OrderId) -> (&'static str, &OrderId) {
    (kind.as_str(), order)
}

impl<S: Storage> Core<S> {
    #[expect(clippy::too_many_arguments, reason = "one call for eight routes")]
    fn happens(
        &self,
        key: Key<'_>,
        order: &OrderId,
        kind: FactKind,
        id: &Reference,
        (lines, texts): (usize, usize),
        content: &impl serde::Serialize,
        plan: impl FnOnce(Standing<'_>) -> Result<Fact, Refusal>,
    ) -> Decision<FactView> {
        let key = self.cause(key, &route(kind, order), content);
        let request = Request { key, order, kind, id, lines, texts };
        self.count(self.happen(&request, plan).unwrap_or_else(Decision::from))
    }

    fn happen(
        &self,
        request: &Request<'_>,
        plan: impl FnOnce(Standing<'_>) -> Result<Fact, Refusal>,
    ) -> Result<Decision<FactView>, Refusal> {
        let claim = match self.claim_key(&request.key)? {
            KeyClaim::Mine(claim) => claim,
            KeyClaim::Done(done) if done.kind == Park::KIND => {
                return Ok(self.happened_as_parked(request, Lsn(done.lsn)));
            }
            KeyClaim::Done(done) => return Ok(self.happened_again(request, Lsn(done.lsn))),
            KeyClaim::Reused(lsn) => return Ok(Decision::reused(lsn)),
        };
        let order = self.tables.orders.find(request.order).ok_or(Refusal::UnknownOrder)?;
        let (room, owed) = self.room_for(request, &order)?;
        let step = self.until(BUSY, || order.begin_step())?;
        // Nothing can happen to the order from here on: what it is now it is when the record stands.
        let Planned { fact, worth, state, turns, previous } =
            match order.read(|now| self.planned(request, now, plan)) {
                Ok(planned) => planned?,
                Err(known) => return Ok(known),
            };
        let now_ms = self.now_ms();
        let moves = Moves::begin(self, &fact)?;
        let turns = if turns { self.begin_turns(&order)? } else { Turns::new() };
        let record = Happened {
            key: request.key.key,
            previous: previous.0,
            content: request.key.fingerprint,
            order_id: request.order.as_str().into(),
            id: request.id.as_str().into(),
            turned: turns.iter().map(|turn| of(&turn.snapshot())).collect(),
            fact,
            worth,
            state: state as u8,
        };
        let lsn = self.append_in(room, &record, now_ms);
        moves.finish(&record, lsn);
        for turn in turns {
            turn.finish(state, now_ms + self.options.retention_ms, lsn);
        }
        step.finish(&record.fact, known(request, lsn, now_ms));
        if let Some(owed) = owed {
            owed.spend();
        }
        self.free_unowed(&order);
        claim.finish(&self.outcome::<Happened>(lsn, 0, 0, now_ms));
        self.counters.add(Count::OrderEvents);
        let view = FactView {
            order_id: request.order.clone(),
            kind: request.kind,
            id: request.id.clone(),
            state,
            at: Timestamp::from_millis(now_ms),
            lsn,
        };
        Ok(Decision::made(view, true, lsn))
    }

    /// Room for the record: as for new work; if there is none left, what was set aside for it, and else the
    /// reserve of orders. What is set aside has no room for its origin.
    fn room_for<'a>(
        &'a self,
        request: &Request<'a>,
        order: &'a Kept,
    ) -> Result<(Room<'a, S>, Option<Owed<'a, S>>), Refusal> {
        let bytes = record_bytes(request, order);
        match self.room(&request.key, RoomClass::Upkeep, bytes, 0) {
            Err(Refusal::LogFull) => {}
            room => return room.map(|room| (room, None)),
        }
        if let Some(mut owed) = self.owed(order, request.kind, bytes) {
            let ticket = self.ticket(RoomClass::Closing, bytes, 0)?;
            owed.take_ticket();
            return Ok((Room::without_origin(ticket), Some(owed)));
        }
        self.room(&request.key, RoomClass::Order, bytes, 0).map(|room| (room, None))
    }

    /// What the request comes to as the order stands, if it may be. The error: its fact is known
    /// already, or may not be.
    fn planned(
        &self,
        request: &Request<'_>,
        order: Standing<'_>,
        plan: impl FnOnce(Standing<'_>) -> Result<Fact, Refusal>,
    ) -> Result<Result<Planned, Refusal>, Decision<FactView>> {
        if let Some(known) = order.life.find(request.kind, request.id.as_str()) {
            return Err(self.known_already(request, order, known));
        }
        // Whatever it is refused for, the refusal speaks of the order as it stands.
        let fact = plan(order).map_err(|why| Decision::refused_behind(why, order.last))?;
        let sku_of = |position| self.sku_of(position);
        if let Err(why) = order.life.check(&order.data, &fact, sku_of) {
            return Err(Decision::refused_behind(beyond(order, why), order.last));
        }
        let after = order.life.after(&order.data, &fact);
        let worth = worth::of(&order.data, order.life, &after, &fact, sku_of);
        let state = after.state(&order.data);
        let (turns, previous) = (state != order.state(), order.last);
        Ok(worth
            .map(|worth| Planned { fact, worth, state, turns, previous })
            .map_err(|why| Refusal::malformed("amount", why.0)))
    }

    /// The order's reservations, about to get the order's new state.
    fn begin_turns(&self, order: &Sale) -> Result<Turns<'_>, Refusal> {
        let busy = Refusal::Overloaded { what: plan::BUSY };
        let begin = |id| self.tables.reservations.begin(id, &[ReservationState::Committed]);
        order.reservations.iter().map(|id| begin(*id).map_err(|_| busy.clone())).collect()
    }

    pub(super) fn sku_of(&self, position: u32) -> u32 {
        self.tables.positions.get(position).map_or(u32::MAX, |p| p.sku_number())
    }

    /// The same id again: the same answer, if it is about the same.
    fn known_already(
        &self,
        request: &Request<'_>,
        order: Standing<'_>,
        known: &Known,
    ) -> Decision<FactView> {
        let lsn = Lsn(known.lsn);
        match fact_view(&order.id, known).filter(|_| known.content == request.key.fingerprint) {
            Some(view) => Decision::made(view, false, lsn),
            None => Decision::refused_behind(Refusal::OtherContent { kind: request.kind }, lsn),
        }
    }

    /// The request came as a report before, and was parked then.
    fn happened_as_parked(&self, request: &Request<'_>, parked: Lsn) -> Decision<FactView> {
        let Some(order) = self.tables.orders.find(request.order) else {
            return Refusal::UnknownOrder.into();
        };
        order.read(|order| match order.life.find(request.kind, request.id.as_str()) {
            Some(known) => self.known_already(request, order, known),
            None => Decision::reused(parked),
        })
    }

    /// The first answer to a request again.
    fn happened_again(&self, request: &Request<'_>, lsn: Lsn) -> Decision<FactView> {
        let Some(order) = self.tables.orders.find(request.order) else {
            return Refusal::UnknownOrder.into();
        };
        order.read(|order| {
            let known = order.life.known.iter().find(|known| known.lsn == lsn.0);
            let Some(view) = known.and_then(|known| fact_view(&order.id, known)) else {
                return Refusal::OutcomeUnknown.into();
            };
            let now = order.state();
            let moved_on = (now != view.state).then_some(now);
            Decision::repeated(view, moved_on, true, order.last)
        })
    }
}

const BUSY: &str = "something else is happening to the order; try again";

/// Reservations whose state changes.
type Turns<'a> = SmallVec<[Transition<'a>; 1]>;

/// What a request comes to.
struct Planned {
    fact: Fact,
    worth: Worth,
    /// The order's state after it.
    state: ReservationState,
    /// Whether that is another one than before.
    turns: bool,
    /// The order's last record.
    previous: Lsn,
}

fn known(request: &Request<'_>, lsn: Lsn, now_ms: u64) -> Known {
    Known {
        lsn: lsn.0,
        content: request.key.fingerprint,
        at_ms: now_ms,
        id: request.id.as_str().into(),
        kind: request.kind as u8,
        state: 0,
    }
}

/// Bytes that a record of a fact of this kind takes at most, with so many lines, and texts of so many bytes.
fn bytes_max(order: &Sale, kind: FactKind, lines: usize, texts: usize) -> usize {
    // A line of a request may become one for each allocation.
    let lines = match kind {
        FactKind::Shipment | FactKind::Cancellation | FactKind::Return | FactKind::Receipt => {
            lines + order.data.allocations.len() + 1
        }
        FactKind::Invoice | FactKind::Settlement | FactKind::Refund | FactKind::Note => 0,
    };
    let turned = match kind {
        FactKind::Shipment | FactKind::Cancellation => order.reservations.len() + 1,
        _ => 0,
    };
    let body = fixed_bytes::<Happened>()
        + lines * size_of::<<Cancelled as rkyv::Archive>::Archived>()
        + turned * size_of::<<Of as rkyv::Archive>::Archived>()
        + texts
        + share_bytes(&order.data, kind)
        + order.id.as_str().len()
        + 64;
    Draft::bytes_for(body)
}

/// Bytes of a record's shares at most: for each tax code and for the fee, of what is sold or called off as
/// often as it can be recognised, and of what is given back.
fn share_bytes(order: &OrderData, kind: FactKind) -> usize {
    let each = match kind {
        FactKind::Cancellation => Recognition::ALL.len() + 1,
        FactKind::Shipment | FactKind::Invoice | FactKind::Settlement | FactKind::Refund => 1,
        FactKind::Return | FactKind::Receipt | FactKind::Note => 0,
    };
    let share = size_of::<<Share as rkyv::Archive>::Archived>();
    let codes: usize = order.prices.iter().map(|priced| share + priced.tax_code.len()).sum();
    each * (codes + share)
}

fn record_bytes(request: &Request<'_>, order: &Sale) -> usize {
    bytes_max(order, request.kind, request.lines, request.texts + request.id.as_str().len())
}

/// Room for the goods of an order to leave and for its payment, with ids and texts of a usual length.
pub(super) fn owed_room(order: &Sale) -> Aside {
    let bytes = |kind, lines, texts| {
        u32::try_from(bytes_max(order, kind, lines, texts)).unwrap_or(u32::MAX)
    };
    let goods = bytes(FactKind::Shipment, order.data.prices.len(), 64);
    Aside { goods, payment: bytes(FactKind::Settlement, 0, 32) }
}
