//! What a sink's feed and its delivery tell each other, and what an operator sees of both.
//!
//! The feed's thread is the only one that writes the log for its sink; the delivery reports each
//! batch's [`Fate`] here and the thread writes it down.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};

use super::{
    Batch, Rejected,
    window::{ParkedSummary, Span, Window},
};
use crate::{
    config::Domain,
    model::{
        Lsn, Timestamp,
        posting::Recognition,
        sink::{LaneView, ParkedView, Parking, Release, SinkState, SinkView},
    },
};

/// Batches under way at once. More would need a receiver that keeps them apart, and lanes.
const IN_FLIGHT_MAX: usize = 1;
/// Refused batches and lines that are remembered by name; the log has them all.
const SET_ASIDE_MAX: usize = 1_000;
/// Orders whose parked records an operator wants released, and that wait for the feed.
const RELEASES_MAX: usize = 1_000;

/// How a sink is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It delivers, or tries to.
    Running,
    /// The partner refuses us, not the content: tried again slowly. Why.
    Paused(String),
    /// It stopped and needs a person. Why.
    Broken(String),
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// The batch's number.
    pub number: u64,
    /// The position of its seal.
    pub seal_lsn: Lsn,
    /// Attempts it took; 0 where nothing had to be sent.
    pub attempts: u64,
    /// The partner's status code.
    pub status: u16,
    /// Whether the partner refused the whole batch for its content.
    pub refused: bool,
    /// What the partner said where it refused something, shortened.
    pub answer: String,
    /// Lines refused in a batch that was accepted.
    pub rejected: Vec<Rejected>,
}

/// What a partner refused: a batch, or some lines of an accepted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// The batch's number.
    pub number: u64,
    /// The position of its seal, which has the content.
    pub seal_lsn: Lsn,
    /// The partner's status code; 0 where it was refused in an earlier life of the process.
    pub status: u16,
    /// What the partner said, shortened.
    pub answer: String,
    /// The lines; none: the whole batch.
    pub lines: Vec<Rejected>,
}

impl Fate {
    /// Of a batch that had nothing to send.
    pub(super) fn of_nothing(batch: &Batch) -> Self {
        Self {
            number: batch.number,
            seal_lsn: batch.seal_lsn,
            attempts: 0,
            status: 0,
            refused: false,
            answer: String::new(),
            rejected: Vec::new(),
        }
    }
}

#[derive(Debug)]
struct InFlight {
    number: u64,
    first_lsn: Lsn,
    oldest: Timestamp,
}

impl InFlight {
    fn of(batch: &Batch) -> Self {
        Self { number: batch.number, first_lsn: batch.first_lsn, oldest: batch.oldest }
    }
}

#[derive(Debug)]
struct Inner {
    state: SinkState,
    /// Where the last record folded into `state` stands.
    folded: Lsn,
    position: Lsn,
    window: Option<Span>,
    in_flight: VecDeque<InFlight>,
    fates: VecDeque<Fate>,
    condition: Condition,
    retries: u64,
    rejected_lines: u64,
    set_aside: VecDeque<SetAside>,
    parked: ParkedSummary,
    parked_views: Arc<Vec<ParkedView>>,
    parked_overflows: u64,
    releases: VecDeque<String>,
    stopping: bool,
    draining: u32,
}

/// One sink, as its feed, its delivery and its operator share it.
#[derive(Debug)]
pub struct Progress {
    name: String,
    domain: Domain,
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Progress {
    /// A sink as the log left it.
    pub fn new(name: &str, domain: Domain, state: SinkState) -> Self {
        let old = |&(number, lsn): &(u64, u64)| SetAside {
            number,
            seal_lsn: Lsn(lsn),
            status: 0,
            answer: String::new(),
            lines: Vec::new(),
        };
        let set_aside = state.set_aside.iter().rev().take(SET_ASIDE_MAX).rev().map(old).collect();
        let inner = Inner {
            folded: Lsn(0),
            position: Lsn(state.covers_lsn),
            window: None,
            in_flight: VecDeque::new(),
            fates: VecDeque::new(),
            condition: Condition::Running,
            retries: 0,
            rejected_lines: 0,
            set_aside,
            parked: ParkedSummary::default(),
            parked_views: Arc::default(),
            parked_overflows: 0,
            releases: VecDeque::new(),
            stopping: false,
            draining: 0,
            state,
        };
        Self { name: name.to_owned(), domain, inner: Mutex::new(inner), changed: Condvar::new() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends it: nothing more is read, sealed or waited for.
    pub fn stop(&self) {
        self.inner.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Whether it was told to end.
    pub fn is_stopping(&self) -> bool {
        self.inner.lock().stopping
    }

    /// Waits until something changes, at most `pause`.
    pub(super) fn pause(&self, pause: Duration) {
        let mut inner = self.inner.lock();
        if !inner.stopping && inner.fates.is_empty() {
            self.changed.wait_for(&mut inner, pause);
        }
    }

    /// From now on (or no longer) windows close as soon as the sink has room.
    pub fn set_draining(&self, on: bool) {
        let mut inner = self.inner.lock();
        inner.draining = if on { inner.draining + 1 } else { inner.draining.saturating_sub(1) };
        drop(inner);
        self.changed.notify_all();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.inner.lock().draining > 0
    }

    pub(super) fn has_room(&self) -> bool {
        let inner = self.inner.lock();
        inner.in_flight.len() < IN_FLIGHT_MAX && inner.fates.is_empty()
    }

    /// The sink's fold of the log, as it stands.
    pub fn state(&self) -> SinkState {
        self.inner.lock().state.clone()
    }

    /// Everything below is sealed.
    pub(super) fn covers(&self) -> Lsn {
        Lsn(self.inner.lock().state.covers_lsn)
    }

    pub(super) fn read_to(&self, position: Lsn, window: Option<Span>) {
        let mut inner = self.inner.lock();
        inner.position = position;
        inner.window = window;
    }

    /// What is parked now.
    pub(super) fn parking(&self, window: &Window, when: Recognition) {
        let parked = window.parked();
        let mut inner = self.inner.lock();
        let before = &inner.parked;
        // Records are parked and released one by one far less often than they are read.
        if (parked.count, parked.oldest_ms, parked.version)
            == (before.count, before.oldest_ms, before.version)
        {
            return;
        }
        inner.parked_views = Arc::new(window.parked_views(when));
        inner.parked = parked;
    }

    /// Records of a window were booked before what must come first, since more may not be parked.
    pub(super) fn count_overflows(&self, records: u64) {
        if records > 0 {
            tracing::warn!(
                sink = self.name,
                records,
                "more records are early than may be parked: the oldest were booked as they are"
            );
        }
        self.inner.lock().parked_overflows += records;
    }

    /// The records that wait for what must be booked first, oldest first; `now_ms` since the epoch.
    pub fn parked(&self, now_ms: u64) -> Vec<ParkedView> {
        let views = self.inner.lock().parked_views.clone();
        let aged = |view: &ParkedView| {
            let age_ms = now_ms.saturating_sub(view.age_ms);
            ParkedView { age_ms, ..view.clone() }
        };
        views.iter().map(aged).collect()
    }

    /// Asks the feed to book what is parked of an order as it is: how many records. They are still
    /// parked until the seal that books them, so that a crash before it needs another request.
    pub fn release(&self, order_id: &str) -> Release {
        let mut inner = self.inner.lock();
        let parked = inner.parked_views.iter().filter(|view| view.order_id == order_id).count();
        if parked == 0 {
            return Release::NothingParked;
        }
        if !inner.releases.iter().any(|asked| asked == order_id) {
            if inner.releases.len() == RELEASES_MAX {
                return Release::TooMany;
            }
            inner.releases.push_back(order_id.to_owned());
        }
        drop(inner);
        self.changed.notify_all();
        Release::Asked { records: parked as u64 }
    }

    /// An order whose parked records are to be released.
    pub(super) fn next_release(&self) -> Option<String> {
        self.inner.lock().releases.front().cloned()
    }

    /// They are.
    pub(super) fn released(&self, order_id: &str) {
        self.inner.lock().releases.retain(|asked| asked != order_id);
    }

    /// The sink begins here.
    pub(super) fn begin(&self, at: Lsn) {
        let mut inner = self.inner.lock();
        inner.state.covers_lsn = at.0;
        inner.position = at;
    }

    /// The window is sealed and its batch under way.
    pub(super) fn sealed(&self, batch: &Batch, covers: Lsn, chain: [u8; 32], parking: Parking) {
        let mut inner = self.inner.lock();
        let lsn = batch.seal_lsn;
        inner.state.sealed(lsn.0, batch.number, covers.0, batch.events, chain, parking);
        inner.folded = lsn;
        inner.window = None;
        inner.in_flight.push_back(InFlight::of(batch));
    }

    /// A batch of an earlier life is under way again.
    pub(super) fn sent(&self, batch: &Batch) {
        self.inner.lock().in_flight.push_back(InFlight::of(batch));
    }

    /// The delivery knows what became of a batch.
    pub fn report(&self, fate: Fate) {
        // Bounded by the batches in flight: each has one fate.
        self.inner.lock().fates.push_back(fate);
        self.changed.notify_all();
    }

    /// A fate that is not written down yet.
    pub(crate) fn next_fate(&self) -> Option<Fate> {
        self.inner.lock().fates.front().cloned()
    }

    /// The fate at the front is written down at `lsn`.
    pub(crate) fn acknowledged(&self, fate: Fate, lsn: Lsn) {
        let mut inner = self.inner.lock();
        inner.fates.pop_front();
        inner.in_flight.retain(|batch| batch.number != fate.number);
        inner.state.acknowledged(fate.number, fate.refused);
        inner.folded = lsn;
        inner.rejected_lines += fate.rejected.len() as u64;
        if fate.refused || !fate.rejected.is_empty() {
            if inner.set_aside.len() == SET_ASIDE_MAX {
                inner.set_aside.pop_front();
            }
            let Fate { number, seal_lsn, status, answer, rejected, .. } = fate;
            inner.set_aside.push_back(SetAside {
                number,
                seal_lsn,
                status,
                answer,
                lines: rejected,
            });
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// The oldest position that the sink still needs once everything below `durable` can't be lost;
    /// `None` while its last record can.
    pub(super) fn needs_from(&self, durable: Lsn) -> Option<Lsn> {
        let inner = self.inner.lock();
        (inner.folded < durable).then(|| Lsn(inner.state.needs_from()))
    }

    /// Sets how the sink is; a broken one stays so.
    pub fn set_condition(&self, condition: Condition) {
        let mut inner = self.inner.lock();
        if !matches!(inner.condition, Condition::Broken(_)) {
            inner.condition = condition;
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// What calls the sink broken if it is dropped by a panic, so that nobody waits for a part that
    /// is gone.
    pub fn broken_by_panic(self: &Arc<Self>, part: &'static str) -> PanicGuard {
        PanicGuard { progress: self.clone(), part }
    }

    /// How the sink is.
    pub fn condition(&self) -> Condition {
        self.inner.lock().condition.clone()
    }

    /// An attempt beyond a batch's first is made.
    pub fn count_retry(&self) {
        self.inner.lock().retries += 1;
    }

    /// What the partner refused, the last thousand, oldest first.
    pub fn set_aside(&self) -> Vec<SetAside> {
        self.inner.lock().set_aside.iter().cloned().collect()
    }

    /// Everything below here is with the partner, or was nothing to it.
    pub fn acknowledged_lsn(&self) -> Lsn {
        self.inner.lock().acknowledged_lsn()
    }

    /// What an operator sees; `now_ms` since the epoch.
    pub fn view(&self, now_ms: u64) -> SinkView {
        let inner = self.inner.lock();
        let lag_ms = inner.oldest_ms().map_or(0, |oldest| now_ms.saturating_sub(oldest));
        let waiting = inner.state.pending_events.iter().map(|(events, _)| events).sum::<u64>();
        SinkView {
            name: self.name.clone(),
            domain: self.domain.as_str().to_owned(),
            state: match inner.condition {
                Condition::Running => "running",
                Condition::Paused(_) => "paused",
                Condition::Broken(_) => "broken",
            }
            .to_owned(),
            breaker: "closed".to_owned(),
            lanes: vec![LaneView {
                priority: "standard".to_owned(),
                depth: inner.state.pending.len() as u64,
                oldest_age_ms: lag_ms,
            }],
            acknowledged_lsn: inner.acknowledged_lsn(),
            lag_records: waiting + inner.window.map_or(0, |window| window.events),
            lag_ms,
            concurrency: IN_FLIGHT_MAX as u64,
            batches_delivered: inner.state.batches,
            events_delivered: inner.state.events,
            retries: inner.retries,
            dead_letters: inner.state.refused + inner.rejected_lines,
            parked: inner.parked.count,
            oldest_parked_age_ms: inner
                .parked
                .oldest_ms
                .map_or(0, |oldest| now_ms.saturating_sub(oldest)),
            parked_overflows: inner.parked_overflows,
        }
    }
}

/// Made by [`Progress::broken_by_panic`].
#[derive(Debug)]
pub struct PanicGuard {
    progress: Arc<Progress>,
    part: &'static str,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.progress.set_condition(Condition::Broken(format!("{} panicked", self.part)));
        }
    }
}

impl Inner {
    fn acknowledged_lsn(&self) -> Lsn {
        let state = &self.state;
        if !state.pending.is_empty() {
            let sent = self.in_flight.front().map_or(Lsn(0), |batch| batch.first_lsn);
            return sent.max(Lsn(state.acknowledged_lsn)).min(self.position);
        }
        self.window.map_or(self.position, |window| window.first_lsn)
    }

    /// When the oldest record was written that the partner has not got.
    fn oldest_ms(&self) -> Option<u64> {
        let sent = self.in_flight.front().map(|batch| batch.oldest.millis());
        sent.or(self.window.map(|window| window.first_time_ms))
    }
}
