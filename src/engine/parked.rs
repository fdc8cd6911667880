//! Reports of partners that come before their order: they are parked, and happen once it is there.
//!
//! - A report is parked by a record of its own, and its sender is told so once that is durable. It has
//!   the sender's key from then on: the same again is the same answer, other content is refused.
//! - A thread looks every [`POLL`] for parked events whose order is there, and lets them happen: as any
//!   other request, with a key of their own, the parked record's position. So one that happened and
//!   whose second record ([`Unpark`]) a crash or a full log prevented finds that it did.
//! - What the order would not have stays, with the reason, until a person retries or discards it; only
//!   what says nothing about the event (a full log, an order that is busy) is tried again by itself.
//! - There are at most [`parked_events_max`](super::Options::parked_events_max), of at most
//!   [`PARKED_BYTES_MAX`] each. Beyond that a report is refused, as it is where nothing is parked: its
//!   sender's own repeats bring it again. Nothing that was taken is dropped to make room.

use std::time::Duration;

use crate::{
    ledger::{
        keys::Found,
        parked::{Begin, Counts, Deciding},
    },
    model::{
        IdempotencyKey, Lsn, NOT_IN_FORCE, OrderId, Origin, Reference, Timestamp,
        event::{Event, Park, Unpark},
        fact::FactKind,
        inbound::{
            OrderEvent, PARKED_BYTES_MAX, ParkedEvent, ParkedEventView, ParkedOutcome, ParkedState,
            RefusedView, Taken, Unparked, Why,
        },
        view::FactView,
    },
    wal::{Draft, RoomClass, Storage},
};

use super::{
    Decision, Engine, Key, Refusal,
    background::sleep,
    cause::Cause,
    core::{Core, KeyClaim},
    counters::Count,
    events::check,
    transition::fixed_bytes,
};

/// How often it is looked for orders that are there now.
const POLL: Duration = Duration::from_millis(100);
/// Events that are looked at in one go.
const STEP_EVENTS: usize = 256;
/// The scope of the keys with which parked events happen. Partners' names have no spaces.
const SCOPE: &str = "parked event";
/// The most bytes of a refusal's words, or of a person's, that are kept.
const WORDS_BYTES_MAX: usize = 512;

/// Which parked events are asked for.
#[derive(Debug, Clone, Default)]
pub struct ParkedFilter {
    /// Those of an order.
    pub order: Option<OrderId>,
    /// Those that stand so.
    pub state: Option<ParkedState>,
    /// Those behind this one.
    pub after: Option<Lsn>,
    /// At most so many.
    pub events_max: usize,
}

impl<S: Storage> Engine<S> {
    /// As [`Engine::happens`], but what comes before its order is parked, and happens by itself once
    /// the order is there.
    ///
    /// # Errors
    /// When settled: those of the event's kind. `unknown_order` if it is too large to be parked,
    /// `overloaded` if as many are parked as may be.
    pub fn happens_or_parks(
        &self,
        key: Key<'_>,
        order: &OrderId,
        event: &OrderEvent,
    ) -> Decision<Taken> {
        self.core().happens_or_parks(key, order, event)
    }

    /// Parked events, oldest first.
    pub fn parked_events(&self, filter: &ParkedFilter) -> Decision<Vec<ParkedEventView>> {
        let core = self.core();
        let wanted = |event: &ParkedEvent| {
            filter.order.as_ref().is_none_or(|order| event.order_id == order.as_str())
                && filter.state.is_none_or(|state| state == state_of(event))
        };
        let after = filter.after.unwrap_or(Lsn(0));
        let events = core.tables.parked.after(after, filter.events_max, wanted);
        let behind = events.iter().map(|event| event.last()).max().unwrap_or(Lsn(0));
        let now_ms = core.now_ms();
        let views = events.iter().filter_map(|event| told(event, now_ms)).collect();
        Decision::made(views, false, behind)
    }

    /// A parked event, with what was reported.
    ///
    /// # Errors
    /// When settled: `not_found`.
    pub fn parked_event(&self, id: Lsn) -> Decision<ParkedEventView> {
        let core = self.core();
        let Some(event) = core.tables.parked.get(id) else {
            return Refusal::UnknownParkedEvent.into();
        };
        let Some(mut view) = told(&event, core.now_ms()) else {
            return Refusal::UnknownParkedEvent.into();
        };
        view.data = serde_json::from_str(&event.event).ok();
        Decision::made(view, false, event.last())
    }

    /// Lets a parked event happen now, also one that its order would not have before. Asking twice does
    /// nothing twice.
    ///
    /// # Errors
    /// When settled: `not_found`, and those of the event's kind.
    pub fn retry_parked_event(&self, id: Lsn) -> Decision<FactView> {
        let core = self.core();
        core.deciding(id).map_or_else(Decision::from, |deciding| core.unpark(deciding))
    }

    /// Discards a parked event.
    ///
    /// # Errors
    /// When settled: `not_found`, `log_full`, `overloaded`.
    pub fn discard_parked_event(&self, id: Lsn, reason: &str) -> Decision<ParkedEventView> {
        let core = self.core();
        core.discard(id, reason).unwrap_or_else(Decision::from)
    }
}

fn state_of(event: &ParkedEvent) -> ParkedState {
    if event.refused.is_some() { ParkedState::Refused } else { ParkedState::Parked }
}

/// A parked event as its sender was told; its ids were checked when it was parked.
fn view(event: &ParkedEvent) -> Option<ParkedEventView> {
    Some(ParkedEventView {
        id: Lsn(event.lsn),
        state: ParkedState::Parked,
        partner: event.partner.clone(),
        order_id: event.order_id.parse().ok()?,
        kind: FactKind::of_number(event.kind)?,
        event_id: event.id.parse().ok()?,
        parked_at: Timestamp::from_millis(event.at_ms),
        age_ms: None,
        refusal: None,
        data: None,
    })
}

/// A parked event as it stands.
fn told(event: &ParkedEvent, now_ms: u64) -> Option<ParkedEventView> {
    let refusal = event.refused.as_ref().map(|refused| RefusedView {
        code: refused.why.code.clone(),
        detail: refused.why.detail.clone(),
        at: Timestamp::from_millis(refused.at_ms),
    });
    let age_ms = Some(now_ms.saturating_sub(event.at_ms));
    Some(ParkedEventView { state: state_of(event), age_ms, refusal, ..view(event)? })
}

fn happened(Decision { outcome, behind }: Decision<FactView>) -> Decision<Taken> {
    Decision { outcome: outcome.map(|answer| answer.map(Taken::Happened)), behind }
}

/// Whether a refusal says nothing about the event: trying again may help.
fn may_pass(refusal: &Refusal) -> bool {
    use Refusal::{LogFull, OutcomeUnknown, Overloaded, ShuttingDown, UnknownOrder};
    matches!(refusal, UnknownOrder | LogFull | Overloaded { .. } | ShuttingDown | OutcomeUnknown)
}

/// The beginning of a text, as much as is kept.
fn kept(text: &str) -> &str {
    let end = (0..=text.len().min(WORDS_BYTES_MAX)).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

impl<S: Storage> Core<S> {
    fn happens_or_parks(
        &self,
        key: Key<'_>,
        order: &OrderId,
        event: &OrderEvent,
    ) -> Decision<Taken> {
        let cause = self.cause_of(key, order, event);
        match self.find_key(&cause) {
            Ok(Found::Done(done)) if done.kind == Park::KIND => {
                let sender = Sender { key, order, event, cause };
                return self.count(self.parked_before(&sender, Lsn(done.lsn), done.aux));
            }
            Ok(_) => {}
            Err(refusal) => return refusal.into(),
        }
        let decision = self.happen_to(key, order, event);
        if decision.outcome != Err(Refusal::UnknownOrder) {
            return happened(decision);
        }
        let sender = Sender { key, order, event, cause };
        self.count(self.park(&sender).unwrap_or_else(Decision::from))
    }

    /// Parks a report, or says what became of it when it came before.
    fn park(&self, sender: &Sender<'_>) -> Result<Decision<Taken>, Refusal> {
        check(sender.event)?;
        // No order can come that has it. One that is there may be older than the list of today.
        if sender.event.currency().is_some_and(|currency| !currency.is_in_force()) {
            return Err(Refusal::malformed("currency", NOT_IN_FORCE));
        }
        let claim = match self.claim_key(&sender.cause)? {
            KeyClaim::Mine(claim) => claim,
            KeyClaim::Done(done) if done.kind == Park::KIND => {
                return Ok(self.parked_before(sender, Lsn(done.lsn), done.aux));
            }
            // The order came meanwhile, and so did a twin.
            KeyClaim::Done(_) => {
                let Sender { key, order, event, .. } = *sender;
                return Ok(happened(self.happen_to(key, order, event)));
            }
            KeyClaim::Reused(lsn) => return Ok(Decision::reused(lsn)),
        };
        let _one = self.parking.lock();
        let Sender { key, order, event, cause } = sender;
        if let Some(parked) = self.tables.parked.find(key.partner, order, event) {
            if parked.content != cause.fingerprint {
                let refusal = Refusal::OtherContent { kind: event.kind() };
                return Ok(Decision::refused_behind(refusal, parked.last()));
            }
            return Ok(self.parked_before(sender, Lsn(parked.lsn), parked.at_ms));
        }
        if self.tables.parked.is_full() {
            return Err(Refusal::Overloaded { what: "as many events are parked as may be" });
        }
        let record = record(sender)?;
        let room = self.room(cause, RoomClass::New, record_bytes(&record), 0)?;
        let now_ms = self.now_ms();
        let lsn = self.append_in(room, &record, now_ms);
        let parked = parked(record, lsn, now_ms, key.origin);
        let view = view(&parked);
        self.tables.parked.insert(parked);
        claim.finish(&self.outcome::<Park>(lsn, 0, now_ms, now_ms));
        self.counters.add(Count::EventsParked);
        let view = view.ok_or(Refusal::OutcomeUnknown)?;
        Ok(Decision::made(Taken::Parked(view), true, lsn))
    }

    /// The first answer to a report that was parked; with the order's state once it has happened.
    fn parked_before(&self, sender: &Sender<'_>, parked: Lsn, at_ms: u64) -> Decision<Taken> {
        let Sender { key, order, event, .. } = sender;
        let view = ParkedEventView {
            id: parked,
            state: ParkedState::Parked,
            partner: key.partner.to_owned(),
            order_id: (*order).clone(),
            kind: event.kind(),
            event_id: event.id().clone(),
            parked_at: Timestamp::from_millis(at_ms),
            age_ms: None,
            refusal: None,
            data: None,
        };
        let placed = self.tables.orders.get(order);
        let happened =
            placed.filter(|placed| placed.life.find(event.kind(), event.id().as_str()).is_some());
        let behind = happened.as_ref().map_or(parked, |order| order.last.max(parked));
        let state = happened.map(|order| order.state());
        Decision::repeated(Taken::Parked(view), state, true, behind)
    }

    fn deciding(&self, parked: Lsn) -> Result<Deciding<'_>, Refusal> {
        match self.tables.parked.begin(parked) {
            None => Err(Refusal::UnknownParkedEvent),
            Some(Begin::Busy) => Err(Refusal::Overloaded { what: "the event is being decided on" }),
            Some(Begin::Begun(deciding)) => Ok(deciding),
        }
    }

    /// Lets a parked event happen, and writes down what became of it.
    fn unpark(&self, deciding: Deciding<'_>) -> Decision<FactView> {
        let decision = self.happen_as_parked(deciding.event());
        let outcome = match &decision.outcome {
            Ok(_) => ParkedOutcome::Applied,
            Err(refusal) if may_pass(refusal) => return decision,
            Err(refusal) => ParkedOutcome::Refused(Why {
                code: refusal.code().to_owned(),
                detail: kept(&refusal.to_string()).to_owned(),
            }),
        };
        let applied = outcome == ParkedOutcome::Applied;
        match self.write_outcome(deciding, outcome) {
            Ok(lsn) => {
                if applied {
                    self.counters.add(Count::EventsUnparked);
                }
                Decision { behind: decision.behind.max(Some(lsn)), ..decision }
            }
            // It stays, and the next attempt finds that it has happened.
            Err(refusal) => refusal.into(),
        }
    }

    fn happen_as_parked(&self, event: &ParkedEvent) -> Decision<FactView> {
        let name = event.lsn.to_string().parse::<IdempotencyKey>();
        let order = event.order_id.parse::<OrderId>();
        let said = serde_json::from_str::<OrderEvent>(&event.event);
        let (Ok(name), Ok(order), Ok(said)) = (name, order, said) else {
            return Refusal::malformed("event", "is of a version not known here").into();
        };
        let trace = Some(event.traceparent.as_str()).filter(|trace| !trace.is_empty());
        let origin = Origin::new(&event.request_id, trace);
        self.happen_to(Key { origin, ..Key::new(SCOPE, &name) }, &order, &said)
    }

    /// Writes down what became of a parked event; it closes what is open, so it may use the reserve of
    /// orders.
    fn write_outcome(
        &self,
        deciding: Deciding<'_>,
        outcome: ParkedOutcome,
    ) -> Result<Lsn, Refusal> {
        let event = deciding.event();
        let (parked, order_id) = (event.lsn, event.order_id.clone());
        let record = Unpark { parked, order_id, outcome };
        let bytes = fixed_bytes::<Unpark>() + record.order_id.len() + 2 * WORDS_BYTES_MAX + 64;
        let ticket = self.ticket(RoomClass::Order, Draft::bytes_for(bytes), 0)?;
        let at_ms = self.now_ms();
        let lsn = self.append(ticket, &record, at_ms);
        deciding.finish(Unparked { lsn: lsn.0, at_ms, outcome: record.outcome });
        Ok(lsn)
    }

    fn discard(&self, parked: Lsn, reason: &str) -> Result<Decision<ParkedEventView>, Refusal> {
        let deciding = self.deciding(parked)?;
        let view = told(deciding.event(), self.now_ms()).ok_or(Refusal::UnknownParkedEvent)?;
        let reason = kept(reason).to_owned();
        let lsn = self.write_outcome(deciding, ParkedOutcome::Discarded(reason))?;
        Ok(Decision::made(view, false, lsn))
    }

    /// Parked events now.
    pub(super) fn parked_counts(&self) -> Counts {
        self.tables.parked.counts()
    }

    /// Lets everything happen whose order is there, in the order in which things happen to orders: goods
    /// leave before they come back. Of one kind, what came first goes first.
    fn unpark_all(&self) {
        let orders = &self.tables.orders;
        let is_due = |event: &ParkedEvent| {
            let order = event.order_id.parse().ok();
            event.refused.is_none() && order.is_some_and(|order| orders.find(&order).is_some())
        };
        for kind in (0..).map_while(FactKind::of_number) {
            let now = |event: &ParkedEvent| event.kind == kind as u8 && is_due(event);
            let mut after = Lsn(0);
            loop {
                let events = self.tables.parked.after(after, STEP_EVENTS, now);
                let Some(last) = events.last() else { break };
                after = Lsn(last.lsn);
                for event in events {
                    if self.is_stopping() || !self.unpark_one(Lsn(event.lsn)) {
                        return;
                    }
                }
            }
        }
    }

    /// Lets one happen; false if nothing can at present.
    fn unpark_one(&self, parked: Lsn) -> bool {
        let Ok(deciding) = self.deciding(parked) else { return true };
        let (order, kind) = (deciding.event().order_id.clone(), deciding.event().kind);
        let kind = FactKind::of_number(kind).map_or("event", FactKind::as_str);
        match self.unpark(deciding).outcome {
            Ok(_) => tracing::info!(%parked, order, kind, "a parked event happened"),
            Err(Refusal::UnknownOrder | Refusal::Overloaded { .. }) => {}
            Err(refusal) if may_pass(&refusal) => return false,
            Err(refusal) => {
                tracing::warn!(%parked, order, kind, %refusal, "a parked event was refused");
            }
        }
        true
    }
}

/// A report, and whose it is.
struct Sender<'a> {
    key: Key<'a>,
    order: &'a OrderId,
    event: &'a OrderEvent,
    cause: Cause<'a>,
}

fn record(sender: &Sender<'_>) -> Result<Park, Refusal> {
    let Sender { key, order, event, cause } = sender;
    let said = serde_json::to_string(event).unwrap_or_default();
    if !(1..=PARKED_BYTES_MAX).contains(&said.len()) {
        // Too much to keep: the sender's repeats bring it again.
        return Err(Refusal::UnknownOrder);
    }
    let text = |text: &Reference| text.as_str().to_owned();
    Ok(Park {
        key: cause.key,
        partner: key.partner.to_owned(),
        order_id: order.as_str().to_owned(),
        id: text(event.id()),
        event: said,
        kind: event.kind() as u8,
    })
}

fn record_bytes(record: &Park) -> usize {
    let Park { partner, order_id, id, event, .. } = record;
    let texts = partner.len() + order_id.len() + id.len() + event.len();
    Draft::bytes_for(fixed_bytes::<Park>() + texts + 64)
}

/// The event of a record, as replay reads it.
fn parked(record: Park, lsn: Lsn, at_ms: u64, origin: Option<Origin<'_>>) -> ParkedEvent {
    let Park { key, partner, order_id, id, event, kind } = record;
    ParkedEvent {
        lsn: lsn.0,
        at_ms,
        content: key.fingerprint,
        partner,
        order_id,
        id,
        event,
        request_id: origin.map_or("", |origin| origin.request_id()).to_owned(),
        traceparent: origin.and_then(|origin| origin.traceparent()).unwrap_or_default(),
        refused: None,
        kind,
        over: false,
    }
}

/// The thread that lets parked events happen.
pub(super) fn keep_unparking<S: Storage>(core: &Core<S>) {
    while !core.is_stopping() {
        if !core.tables.parked.is_empty() {
            core.unpark_all();
        }
        sleep(core, POLL);
    }
}
