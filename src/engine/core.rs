//! What all operations of the engine share: the tables, the log, the clock, the counters.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::{Mutex, RwLock};

use crate::{
    ledger::{
        keys::{Begin, Claim, Found, Keys, Outcome},
        limits::{Limits, Who},
        orders::Orders,
        parked::ParkedEvents,
        partners::Partners,
        positions::Positions,
        reservations::Reservations,
        sync::Backoff,
        wheel::Wheel,
    },
    model::{
        Lsn, TaxCodes,
        event::{self, Encode, Event, KeyRef, Line},
        sink::SinkState,
    },
    wal::{self, Draft, Log, NoRoom, RoomClass, Storage, Ticket},
};

use super::{
    Decision, Options, Refusal,
    clock::Clock,
    counters::{Count, Counting},
    hash::Hasher,
    seals::Seals,
    tallies::Tallies,
};

/// The ledger's tables.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) positions: Positions,
    pub(super) reservations: Reservations,
    pub(super) keys: Keys,
    pub(super) limits: Limits,
    pub(super) orders: Orders,
    pub(super) parked: ParkedEvents,
    pub(super) partners: Partners,
    /// Answers that can't be rebuilt from the tables, by the position of their record.
    pub(super) answers: Mutex<HashMap<u64, Box<str>>>,
}

impl Tables {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            positions: Positions::new(options.positions_max, &options.sourcing),
            reservations: Reservations::new(options.reservations_max),
            keys: Keys::new(options.keys_max),
            limits: Limits::new(options.customer_limits_max, options.limit_period_ms),
            orders: Orders::new(options.orders_max),
            parked: ParkedEvents::new(options.parked_events_max),
            partners: Partners::default(),
            answers: Mutex::default(),
        }
    }

    /// Makes memory for what comes next, so that no request has to; and for at least so many
    /// reservations, their keys and limits.
    pub(super) fn make_ahead(&self, reservations: u32) {
        self.reservations.make_ahead(reservations);
        self.keys.make_ahead(reservations);
        self.limits.make_ahead(reservations);
    }

    /// Gives back what a reservation held. Law 1: only after the record that says so has its place.
    pub(super) fn give_back(&self, lines: &[Line], customer: u64, granted: Lsn) {
        for line in lines {
            let Some(position) = self.positions.get(line.position) else { continue };
            position.word().give(line.quantity);
            if line.limited {
                let who = Who { customer, sku_number: position.sku_number() };
                self.limits.give(who, line.quantity, granted.0);
            }
        }
    }
}

/// See the module.
pub(super) struct Core<S: Storage> {
    pub(super) options: Options,
    pub(super) storage: S,
    pub(super) log: Log<S>,
    pub(super) hasher: Hasher,
    pub(super) clock: Clock,
    pub(super) tables: Tables,
    pub(super) wheel: Wheel,
    pub(super) counters: Counting,
    /// One definition of a position, and one change of a SKU's limit, at a time.
    pub(super) defining: Mutex<()>,
    /// Sinks as the log had them when it was opened.
    pub(super) sinks: HashMap<String, SinkState>,
    /// The tax codes that orders may have.
    pub(super) tax_codes: RwLock<TaxCodes>,
    /// The server's own configurations, by version, the newest last.
    pub(super) configurations: Mutex<Vec<(u64, String)>>,
    /// Which batch carried what.
    pub(super) seals: Mutex<Seals>,
    /// Figures as the log had them when it was opened, until somebody takes them.
    pub(super) tallies: Mutex<Tallies>,
    /// Who else needs the log, from where on.
    pub(super) holds: Mutex<HashMap<String, Lsn>>,
    /// Everything before it is in a checkpoint.
    pub(super) checkpoint: AtomicU64,
    /// Everything before it is in the checkpoint before that one.
    pub(super) checkpoint_before: AtomicU64,
    /// Bytes of the last checkpoint.
    pub(super) checkpoint_bytes: AtomicU64,
    /// One checkpoint at a time.
    pub(super) checkpointing: Mutex<()>,
    /// One event is parked at a time.
    pub(super) parking: Mutex<()>,
    /// One partner is changed at a time.
    pub(super) partnering: Mutex<()>,
    /// Reservations held when the log was opened.
    pub(super) held_at_open: u64,
    pub(super) stopping: AtomicBool,
    /// Bytes of the log that are set aside for what orders are owed.
    pub(super) owed_bytes: AtomicU64,
    /// Until then, overdue reservations are still held.
    pub(super) grace_until_ms: u64,
}

thread_local! {
    static DRAFT: RefCell<Draft> = RefCell::new(Draft::new());
}

/// Calls with this thread's draft.
pub(super) fn with_draft<T>(call: impl FnOnce(&mut Draft) -> T) -> T {
    DRAFT.with_borrow_mut(call)
}

/// What a held reservation of so many lines may still write: a commit of that many priced lines is
/// the largest record that closes one.
pub(super) fn closing_bytes(lines: usize) -> u64 {
    320 + 128 * lines as u64
}

impl<S: Storage> Core<S> {
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Asks for room: the only place where a decision can be refused for it.
    pub(super) fn ticket(
        &self,
        class: RoomClass,
        bytes: usize,
        closing: u64,
    ) -> Result<Ticket<'_, S>, Refusal> {
        if self.is_stopping() {
            return Err(Refusal::ShuttingDown);
        }
        // The log's own figure: small segments make it less than the option says.
        if bytes > self.log.record_bytes_max() {
            return Err(Refusal::malformed("lines", "make a record larger than the log takes"));
        }
        self.log.ticket(class, bytes, closing).map_err(|lack| match lack {
            NoRoom::Full => Refusal::LogFull,
            NoRoom::Busy => Refusal::Overloaded { what: "the log's next segment is not ready yet" },
            NoRoom::Poisoned => Refusal::ShuttingDown,
        })
    }

    /// Writes an event with a ticket that was sized for it.
    pub(super) fn append<E>(&self, ticket: Ticket<'_, S>, event: &E, now_ms: u64) -> Lsn
    where
        E: Event + Encode,
    {
        with_draft(|draft| {
            event::encode(event, draft.begin(E::KIND, E::VERSION, now_ms));
            draft.seal();
            ticket.append(draft)
        })
    }

    fn waited_too_long(&self, began: std::time::Instant) -> bool {
        began.elapsed().as_millis() as u64 > self.options.decision_wait_ms_max
    }

    /// Repeats `attempt` until it says something, at most for the configured time.
    pub(super) fn until<T>(
        &self,
        what: &'static str,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Result<T, Refusal> {
        if let Some(done) = attempt() {
            return Ok(done);
        }
        let began = std::time::Instant::now();
        let mut backoff = Backoff::default();
        loop {
            if let Some(done) = attempt() {
                return Ok(done);
            }
            if self.waited_too_long(began) {
                return Err(Refusal::Overloaded { what });
            }
            backoff.wait();
        }
    }

    /// Claims the request's key, or tells what became of an earlier request with it. A twin in
    /// flight is waited for.
    pub(super) fn claim_key(&self, key: &KeyRef) -> Result<KeyClaim<'_>, Refusal> {
        self.until(TWIN, || match self.tables.keys.begin(key) {
            Begin::Claimed(claim) => Some(Ok(KeyClaim::Mine(claim))),
            Begin::Taken(Found::Done(outcome)) => Some(Ok(KeyClaim::Done(outcome))),
            Begin::Taken(Found::Reused(lsn)) => Some(Ok(KeyClaim::Reused(Lsn(lsn)))),
            Begin::Taken(Found::InFlight | Found::Nothing) => None,
            Begin::Full => {
                Some(Err(Refusal::Overloaded { what: "the table of idempotency keys is full" }))
            }
        })?
    }

    /// Looks a key up without claiming it, for a request that will be refused if it is new. A twin
    /// in flight is waited for.
    pub(super) fn find_key(&self, key: &KeyRef) -> Result<Found, Refusal> {
        self.until(TWIN, || match self.tables.keys.find(key) {
            Found::InFlight => None,
            other => Some(other),
        })
    }

    /// Reservations held now.
    pub(super) fn open_reservations(&self) -> u64 {
        let done = self.counters.view();
        let opened = self.held_at_open + done.granted;
        opened.saturating_sub(done.committed + done.released + done.expired)
    }

    /// Counts repeats and refusals; what was done is counted where it is done.
    pub(super) fn count<T>(&self, decision: Decision<T>) -> Decision<T> {
        match &decision.outcome {
            Ok(answer) if answer.replayed => self.counters.add(Count::Replayed),
            Ok(_) => {}
            Err(Refusal::InsufficientStock { .. }) => self.counters.add(Count::RefusedStock),
            Err(Refusal::PurchaseLimit { .. }) => self.counters.add(Count::RefusedLimit),
            Err(_) => self.counters.add(Count::RefusedOther),
        }
        decision
    }

    /// What a key is finished with.
    pub(super) fn outcome<E: Event>(&self, lsn: Lsn, slot: u32, aux: u64, now_ms: u64) -> Outcome {
        let expires_ms = now_ms + self.options.retention_ms;
        Outcome { kind: E::KIND, lsn: lsn.0, slot, aux, expires_ms }
    }

    /// Whether a checkpoint is due: after so much log, more after a large one, so that writing them
    /// stays in proportion; but never so much that the budget is spent before, since two checkpoints'
    /// worth of log is kept. A full log gets one as long as that frees a segment.
    pub(super) fn checkpoint_is_due(&self) -> bool {
        let last = self.checkpoint_bytes.load(Ordering::Acquire);
        let due = self.options.checkpoint_bytes.max(last / 2);
        let behind = self.log.durable().0.saturating_sub(self.checkpoint.load(Ordering::Acquire));
        behind >= due.min(self.log.options().budget_bytes / 4) || self.waits_for_checkpoint()
    }

    /// Whether the log is full, and it is checkpoints, not readers, that keep it from being recycled.
    pub(super) fn waits_for_checkpoint(&self) -> bool {
        let segment = |lsn: Lsn| lsn.0 / self.log.options().segment_bytes;
        let held = self.log_held().min(self.log.durable());
        let before = Lsn(self.checkpoint_before.load(Ordering::Acquire));
        segment(held) > segment(before) && self.log.stats().exhausted
    }

    /// Where the log begins that readers need.
    fn log_held(&self) -> Lsn {
        self.holds.lock().values().copied().min().unwrap_or(Lsn(u64::MAX))
    }

    /// Lets the log recycle what neither the checkpoint before the last nor any reader needs.
    pub(super) fn release_log(&self) {
        let checkpoint = self.checkpoint_before.load(Ordering::Acquire);
        // Not without the lock: whoever holds the log from here on must see what was let go before.
        let holds = self.holds.lock();
        let held = holds.values().copied().min().unwrap_or(Lsn(u64::MAX));
        self.log.release_before(held.min(Lsn(checkpoint)));
    }
}

const TWIN: &str = "a request with the same key is still being decided; repeat it";

/// What claiming a key came to.
pub(super) enum KeyClaim<'a> {
    /// The request is to be decided.
    Mine(Claim<'a>),
    /// It was done before.
    Done(Outcome),
    /// The key is that of another request, whose record stands there: what is told of it must be
    /// durable first, like everything else.
    Reused(Lsn),
}

impl From<wal::Poisoned> for Refusal {
    fn from(_: wal::Poisoned) -> Self {
        Refusal::OutcomeUnknown
    }
}
