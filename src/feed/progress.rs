//! What a sink's feed and its delivery tell each other, and what an operator sees of both.
//!
//! The feed's thread is the only one that writes the log for its sink; the delivery reports each
//! batch's [`Fate`] here and the thread writes it down. What an operator wants ([`Wish`]) waits here
//! for the same thread.

mod asking;
mod figures;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{oneshot, watch};

use super::{
    Batch, Carried, Fate,
    window::{ParkedSummary, Span},
};
use crate::{
    config::{Domain, SinkConfig},
    model::{
        Lsn, Timestamp,
        letter::{Letter, Split},
        sink::{
            Attempts, Deed, Lane, ParkedView, Sealed, SinkState,
            wish::{By, Denied, Granted, Wish},
        },
    },
    telemetry::{Ages, Durations},
};

/// Orders whose parked records an operator wants released, and that wait for the feed.
const RELEASES_MAX: usize = 1_000;
/// Wishes that wait for the feed.
const WISHES_MAX: usize = 1_000;

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

/// What the delivery says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// `closed`, `open`, `half_open`.
    pub breaker: &'static str,
    /// Batches that may be under way at once.
    pub concurrency: usize,
    /// What it did since the start.
    pub attempts: Attempts,
}

/// What the delivery is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asks {
    /// No attempt may be made.
    pub paused: bool,
    /// The batch of this number is to be set aside, why.
    pub skip: Option<(u64, String)>,
}

/// A wish that waits.
#[derive(Debug)]
pub(super) struct Asked {
    pub wish: Wish,
    pub by: By,
    pub answer: oneshot::Sender<Result<Granted, Denied>>,
}

/// How far a bisection has come; answered when that is durable.
#[derive(Debug)]
pub(super) struct Halved {
    pub split: Split,
    pub answer: oneshot::Sender<bool>,
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub number: u64,
    pub first_lsn: Lsn,
    pub oldest: Timestamp,
    carried: Carried,
}

impl InFlight {
    fn of(batch: &Batch) -> Self {
        let carried = batch.carried.clone();
        Self { number: batch.number, first_lsn: batch.first_lsn, oldest: batch.oldest, carried }
    }
}

/// How far a lane is.
#[derive(Debug, Default)]
pub(super) struct LaneProgress {
    pub position: Lsn,
    pub window: Option<Span>,
    /// What the window carries beside its content.
    carried: Carried,
    pub in_flight: VecDeque<InFlight>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub state: SinkState,
    /// Where the last record folded into `state` stands.
    pub folded: Lsn,
    /// By their places; those that the sink has not stay empty.
    pub lanes: [LaneProgress; 3],
    /// Batches of a lane that may be under way at once.
    room: usize,
    /// With so many letters nothing more is sealed.
    letters_max: usize,
    fates: VecDeque<Fate>,
    splits: VecDeque<Halved>,
    pub condition: Condition,
    pub pace: Pace,
    pub retries: u64,
    pub parked: ParkedSummary,
    parked_views: Arc<Vec<ParkedView>>,
    pub parked_overflows: u64,
    releases: VecDeque<String>,
    wishes: VecDeque<Asked>,
    /// Settings that the feed does not go by yet.
    config: Option<Box<SinkConfig>>,
    stopping: bool,
    draining: u32,
    /// How long records took to the partner.
    ages: Ages,
    /// Records of batches of which it took nothing.
    refused: u64,
}

/// One sink, as its feed, its delivery and its operator share it.
#[derive(Debug)]
pub struct Progress {
    pub(super) name: String,
    pub(super) domain: Domain,
    pub(super) inner: Mutex<Inner>,
    changed: Condvar,
    /// The ages in fine buckets.
    fine: Durations,
    asks: watch::Sender<Asks>,
}

impl Progress {
    /// A sink as the log left it; it seals nothing while more than `letters_max` letters lie dead.
    pub fn new(name: &str, domain: Domain, letters_max: u64, state: SinkState) -> Self {
        let asks = asks_of(&state);
        let inner = Inner {
            folded: Lsn(0),
            lanes: lanes_of(&state),
            room: 1,
            letters_max: usize::try_from(letters_max).unwrap_or(usize::MAX),
            fates: VecDeque::new(),
            splits: VecDeque::new(),
            condition: Condition::Running,
            pace: Pace { breaker: "closed", concurrency: 1, attempts: Attempts::default() },
            retries: 0,
            parked: ParkedSummary::default(),
            parked_views: Arc::default(),
            parked_overflows: 0,
            releases: VecDeque::new(),
            wishes: VecDeque::new(),
            config: None,
            stopping: false,
            draining: 0,
            ages: Ages::default(),
            refused: 0,
            state,
        };
        Self {
            name: name.to_owned(),
            domain,
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            fine: Durations::default(),
            asks: watch::Sender::new(asks),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it gets.
    pub fn domain(&self) -> Domain {
        self.domain
    }

    /// What its deliveries did since the start; nothing is under way.
    pub fn attempts(&self) -> Attempts {
        Attempts { under_way: 0, ..self.inner.lock().pace.attempts }
    }

    /// Where the last record stands that is folded in; what it left may be gone on from once that is durable.
    pub(crate) fn folded(&self) -> Lsn {
        self.inner.lock().folded
    }

    /// Makes a sink that has ended ready for a feed and a delivery that go on where the log says that it
    /// was: what it read and did not seal is forgotten, what was counted is not. Of one that broke the log must
    /// say how it is, with everything before a position.
    pub(crate) fn begin_anew(&self, letters_max: u64, of_log: Option<(SinkState, Lsn)>) {
        let mut inner = self.inner.lock();
        if let Some((state, folded)) = of_log {
            inner.state = state;
            inner.folded = folded;
        }
        let asks = asks_of(&inner.state);
        inner.lanes = lanes_of(&inner.state);
        inner.room = 1;
        inner.letters_max = usize::try_from(letters_max).unwrap_or(usize::MAX);
        inner.fates.clear();
        inner.splits.clear();
        inner.condition = Condition::Running;
        inner.parked = ParkedSummary::default();
        inner.parked_views = Arc::default();
        inner.releases.clear();
        inner.config = None;
        inner.stopping = false;
        drop(inner);
        self.asks.send_replace(asks);
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

    /// Nobody grants wishes any more, or will: whoever waits for one is told, and so is whoever comes.
    pub(super) fn ended(&self) {
        let mut inner = self.inner.lock();
        inner.stopping = true;
        inner.wishes.clear();
        inner.splits.clear();
    }

    /// Waits for the sink to be stopped, at most `pause`: also while there is something to be done.
    pub(super) fn pause_unless_stopping(&self, pause: Duration) {
        let deadline = std::time::Instant::now() + pause;
        let mut inner = self.inner.lock();
        while !inner.stopping {
            if self.changed.wait_until(&mut inner, deadline).timed_out() {
                return;
            }
        }
    }

    /// Waits until something changes, at most `pause`.
    pub(super) fn pause(&self, pause: Duration) {
        let mut inner = self.inner.lock();
        let nothing = inner.fates.is_empty() && inner.splits.is_empty() && inner.wishes.is_empty();
        if !inner.stopping && nothing {
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

    /// Whether a batch of a lane may go to the delivery.
    pub(super) fn has_room(&self, lane: Lane) -> bool {
        let inner = self.inner.lock();
        inner.lanes[lane.index()].in_flight.len() < inner.room && inner.fates.is_empty()
    }

    /// Whether something new may be sealed. What is sealed goes out all the same, a letter that an
    /// operator sends again among it: that is how there come to be fewer of them.
    pub(super) fn may_seal(&self) -> bool {
        let inner = self.inner.lock();
        inner.state.letters.len() < inner.letters_max
    }

    /// Whether no batch is under way.
    pub(super) fn is_idle(&self) -> bool {
        let inner = self.inner.lock();
        inner.fates.is_empty() && inner.lanes.iter().all(|lane| lane.in_flight.is_empty())
    }

    /// Reads something of the sink's fold of the log, as it stands.
    pub fn with_state<T>(&self, read: impl FnOnce(&SinkState) -> T) -> T {
        read(&self.inner.lock().state)
    }

    /// What lies dead, by name.
    pub fn letters(&self) -> Vec<Arc<Letter>> {
        self.with_state(|state| state.letters.values().cloned().collect())
    }

    /// A letter.
    pub fn letter(&self, name: &str) -> Option<Arc<Letter>> {
        self.with_state(|state| state.letters.get(name).cloned())
    }

    /// A lane has read up to a position; what it `carried` more is taken over.
    pub(super) fn read_to(
        &self,
        lane: Lane,
        position: Lsn,
        window: Option<Span>,
        carried: &mut Carried,
    ) {
        let mut inner = self.inner.lock();
        let lane = &mut inner.lanes[lane.index()];
        lane.position = position;
        lane.window = window;
        lane.carried.append(carried);
    }

    /// What the window of a lane carries, which is sealed now.
    pub(super) fn take_carried(&self, lane: Lane) -> Carried {
        std::mem::take(&mut self.inner.lock().lanes[lane.index()].carried)
    }

    /// A lane begins here; or every lane, if the seals of the sink cover all.
    pub(super) fn begin(&self, lane: u8, at: Lsn) {
        let mut inner = self.inner.lock();
        for of in Lane::ALL {
            if lane == Sealed::EVERY_LANE || usize::from(lane) == of.index() {
                inner.state.lanes[of.index()].covers_lsn = at.0;
                inner.lanes[of.index()].position = at;
            }
        }
    }

    /// A seal is written.
    pub(super) fn sealed(&self, sealed: Sealed) {
        let mut inner = self.inner.lock();
        inner.folded = Lsn(sealed.lsn);
        inner.state.sealed(sealed);
    }

    /// A batch is under way, or will be.
    pub(super) fn sent(&self, batch: &Batch) {
        let mut inner = self.inner.lock();
        inner.lanes[batch.lane.index()].in_flight.push_back(InFlight::of(batch));
    }

    /// An operator's deed is written down at `lsn`.
    pub(super) fn operated(&self, deed: &Deed, reason: &str, lsn: Lsn) {
        let mut inner = self.inner.lock();
        inner.folded = lsn;
        match deed {
            Deed::Mend { letter } => inner.state.set_letter(&letter.id, Some(letter.clone())),
            Deed::Discard { letter } => inner.state.set_letter(letter, None),
            Deed::Split { split } => {
                for letter in &split.letters {
                    inner.state.set_letter(&letter.id, Some(letter.clone()));
                }
                inner.state.operated(deed, reason);
            }
            deed => inner.state.operated(deed, reason),
        }
        let paused = inner.state.paused.is_some();
        drop(inner);
        self.asks.send_if_modified(|asks| {
            let skip = match deed {
                Deed::Skip { number } => Some((*number, reason.to_owned())),
                _ => asks.skip.clone(),
            };
            let now = Asks { paused, skip };
            let changed = now != *asks;
            *asks = now;
            changed
        });
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

    /// The letter that a batch sends again; empty: none.
    pub(super) fn letter_of(&self, number: u64) -> String {
        let inner = self.inner.lock();
        let batch = inner.state.pending.iter().find(|batch| batch.number == number);
        batch.map_or_else(String::new, |batch| batch.letter.clone())
    }

    /// The fate at the front is written down at `lsn`; the batch sent `letter` again.
    pub(crate) fn acknowledged(&self, fate: Fate, letter: &str, lsn: Lsn) {
        let mut inner = self.inner.lock();
        inner.fates.pop_front();
        for lane in &mut inner.lanes {
            lane.in_flight.retain(|batch| batch.number != fate.number);
        }
        inner.folded = lsn;
        inner.state.acknowledged(fate.number, fate.attempts > 0 && !fate.refused);
        if !letter.is_empty() {
            inner.state.set_letter(letter, None);
        }
        for letter in fate.letters {
            let name = letter.id.clone();
            inner.state.set_letter(&name, Some(letter));
        }
        drop(inner);
        self.asks.send_if_modified(|asks| {
            let skipped = asks.skip.as_ref().is_some_and(|(number, _)| *number == fate.number);
            if skipped {
                asks.skip = None;
            }
            skipped
        });
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
        if matches!(inner.condition, Condition::Broken(_)) {
            // Nobody is there to grant them.
            inner.wishes.clear();
            inner.splits.clear();
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

    /// How the delivery goes about it now.
    pub fn set_pace(&self, pace: Pace) {
        self.inner.lock().pace = pace;
    }

    /// How many batches of a lane may be under way at once, from now on; 1 keeps them in order.
    pub fn set_room(&self, room: usize) {
        self.inner.lock().room = room;
        self.changed.notify_all();
    }
}

fn asks_of(state: &SinkState) -> Asks {
    Asks { paused: state.paused.is_some(), skip: state.skip.clone() }
}

/// Lanes that have read what is sealed, and nothing else.
fn lanes_of(state: &SinkState) -> [LaneProgress; 3] {
    state.lanes.map(|lane| LaneProgress { position: Lsn(lane.covers_lsn), ..Default::default() })
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
