//! A sink's thread: reads the durable log, keeps the windows of its lanes, seals, and writes fates and
//! an operator's deeds down.
//!
//! Every lane reads the log by itself, so that one whose window is full and has no room keeps no other
//! from being read; the most urgent goes first. The loop never waits longer than `PAUSE` at a time, so
//! it can be stopped at once, sees fates soon, and needs no second thing to wake it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    Batch, BatchId, Carried, Condition, Error, Fate, Progress,
    lane::{LaneFeed, Read},
    render::{Rendered, Stamp},
    replay::Batches,
    seal,
    window::Window,
};
use crate::{
    config::SinkConfig,
    engine::Engine,
    model::{
        Lsn, Timestamp,
        event::{Acknowledge, Seal},
        sink::{Lane, Sealed, SinkState},
    },
    wal::{Storage, archive::LookBack},
};

/// The longest wait while a window is open or a batch is under way.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest wait while there is nothing to do.
const IDLE_PAUSE: Duration = Duration::from_millis(50);
/// A lane to which so much of the log was nothing writes down that it is past it, so that it does
/// not keep that part from being recycled; a sixteenth of the log's budget, if that is less.
const SKIP_BYTES: u64 = 16 << 20;

/// What a look at a lane came to.
enum Step {
    /// Something was sealed or handed over: look at all lanes anew.
    Done,
    /// It was read.
    Read(Read),
}

/// A sink's feed.
pub struct Worker<S: Storage> {
    pub(super) engine: Engine<S>,
    pub(super) config: SinkConfig,
    pub(super) progress: Arc<Progress>,
    out: mpsc::Sender<Batch>,
    /// The most urgent first.
    pub(super) lanes: Vec<LaneFeed<S>>,
    /// What an operator wants sent again, one after the other, before anything new.
    pub(super) replaying: Batches,
    /// The seal of the batch of a replay that is under way, or of the next: the log is kept from there.
    pub(super) replay_from: Option<Lsn>,
    /// Reads what a replay sends, while one is under way.
    pub(super) looking_back: Option<LookBack<S>>,
    /// Batches that go out again on an operator's word, as if no attempt had been made: what comes of
    /// a repeat is on his head, or none had an effect.
    pub(super) insisted: BTreeSet<u64>,
    skip_bytes: u64,
    /// It is new, and the log begins later than the first record: then where it begins is written down.
    begins_late: bool,
    /// The version of what renders.
    pub(super) config_version: u64,
}

impl<S: Storage> Worker<S> {
    /// A feed that goes on where the log says that the sink was, and keeps the log from being
    /// recycled beyond that. Sealed batches go to `out`, which must have room for what may be under
    /// way; they name the `traces` that led to them if these are kept.
    ///
    /// # Errors
    /// If the log no longer has what the sink needs.
    pub fn new(
        engine: Engine<S>,
        mut config: SinkConfig,
        progress: Arc<Progress>,
        out: mpsc::Sender<Batch>,
        traces: bool,
    ) -> Result<Self, Error> {
        // From here on what is there stays there.
        let reader = Engine::<S>::sink_reader(&config.name);
        engine.keep_log(&reader, Lsn(progress.with_state(SinkState::needs_from)));
        config.batch_bytes_max =
            config.batch_bytes_max.min(seal::body_bytes_max(engine.log(), &config.name));
        let mut lanes = Vec::new();
        for &lane in config.domain.lanes() {
            let start = start_of(&engine, &progress, lane)?;
            let parked = progress.with_state(|state| state.parked.clone());
            let window = Window::new(&config, lane, parked)?;
            progress.parking(&window, config.recognition);
            lanes.push((lane, window, start));
        }
        let is_new = progress.with_state(|state| state.last_number == 0);
        let begins_late = is_new && lanes.iter().any(|(_, _, start)| *start > Lsn(0));
        for (lane, _, start) in &lanes {
            progress.begin(covered_by(&config, *lane), *start);
        }
        let make = |(lane, window, start)| LaneFeed::new(&engine, lane, window, start, traces);
        let mut lanes: Vec<_> = lanes.into_iter().map(make).collect::<Result<_, _>>()?;
        let needs_from = progress.with_state(|state| {
            for batch in &state.pending {
                let of = Lane::of_seal(batch.lane);
                if let Some(lane) = lanes.iter_mut().find(|lane| lane.lane == of) {
                    lane.again.push_back((batch.number, Lsn(batch.seal_lsn)));
                }
            }
            Lsn(state.needs_from())
        });
        let config_version = config.render_version();
        let skip_bytes = SKIP_BYTES.min(engine.log().stats().budget_bytes / 16);
        let replaying = Batches::new();
        let mut worker = Self {
            engine,
            config,
            progress,
            out,
            lanes,
            replaying,
            replay_from: None,
            looking_back: None,
            insisted: BTreeSet::new(),
            skip_bytes,
            begins_late,
            config_version,
        };
        worker.go_on_replaying();
        let from = worker.replay_from.map_or(needs_from, |replay| replay.min(needs_from));
        worker.engine.hold_log(&reader, from);
        Ok(worker)
    }

    /// Works until it is stopped or can't go on; then the sink is `broken`.
    pub fn run(mut self) {
        let _guard = self.progress.broken_by_panic("its feed");
        if let Err(error) = self.drive() {
            tracing::error!(sink = self.config.name, %error, "the sink's feed stopped");
            self.progress.set_condition(Condition::Broken(error.to_string()));
        }
        self.progress.ended();
    }

    /// Goes on by other settings, if there are some: what renders is written down before it does.
    fn follow_settings(&mut self) -> Result<(), Error> {
        let Some(config) = self.progress.next_config() else { return Ok(()) };
        let batch_bytes_max = self.config.batch_bytes_max;
        self.config = SinkConfig { batch_bytes_max, ..config };
        self.config_version = self.config.render_version();
        self.configure()
    }

    fn drive(&mut self) -> Result<(), Error> {
        self.configure()?;
        self.say_where_it_begins()?;
        loop {
            self.write_splits()?;
            self.write_fates()?;
            self.follow_settings()?;
            self.grant_wishes()?;
            if self.progress.is_stopping() {
                // What the delivery told at its end.
                return self.write_fates();
            }
            self.hold_log();
            self.send_replayed()?;
            self.look()?;
        }
    }

    /// Without it a lane that seals nothing for a while would be looked for at the first record by the next
    /// start, and not be found there.
    fn say_where_it_begins(&mut self) -> Result<(), Error> {
        let lanes = if self.begins_late { self.lanes.len() } else { 0 };
        (0..lanes).try_for_each(|at| self.close(at))
    }

    /// Looks at the lanes, the most urgent first, until one has something to be done; waits if none
    /// has.
    fn look(&mut self) -> Result<(), Error> {
        let mut wait = Wait { all_read: true, next: Lsn(0), idle: true };
        for at in 0..self.lanes.len() {
            match self.step(at)? {
                Step::Done | Step::Read(Read::More) => return Ok(()),
                Step::Read(read) => wait.add(read, &self.lanes[at], &self.progress),
            }
        }
        self.wait(wait)
    }

    fn step(&mut self, at: usize) -> Result<Step, Error> {
        let room = self.progress.has_room(self.lanes[at].lane);
        if room && let Some((number, lsn)) = self.lanes[at].again.pop_front() {
            self.send_again(number, lsn)?;
            return Ok(Step::Done);
        }
        if room && let Some(batch) = self.lanes[at].next.pop_front() {
            self.progress.sent(&batch);
            self.hand_over(batch);
            return Ok(Step::Done);
        }
        let read = match self.release(at)? {
            Some(full) => full,
            None => self.lanes[at].read(&self.engine, &self.config)?,
        };
        self.tell(at);
        let first = self.lanes[at].has_handed_over() && self.replaying.is_empty();
        // What is sealed for a delivery that has ended would count as tried when it goes out.
        let may_seal = room && first && self.progress.may_seal() && !self.out.is_closed();
        if may_seal && self.must_close(at, read) {
            self.close(at)?;
            return Ok(Step::Done);
        }
        Ok(Step::Read(read))
    }

    /// Releases parked records of the orders that an operator named. `Full` if the window must be
    /// closed first; the rest goes into the next.
    fn release(&mut self, at: usize) -> Result<Option<Read>, Error> {
        while let Some(order_id) = self.progress.next_release() {
            let lane = &mut self.lanes[at];
            let now = (lane.position, self.engine.now().millis());
            if !lane.window.release(&order_id, &self.config, now)? {
                return Ok(Some(Read::Full));
            }
            self.progress.released(&order_id);
            self.tell(at);
        }
        Ok(None)
    }

    /// Tells where the window stands.
    fn tell(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        let span = lane.window.span();
        self.progress.read_to(lane.lane, lane.position, span, &mut lane.carried);
        self.progress.parking(&lane.window, self.config.recognition);
    }

    fn must_close(&self, at: usize, read: Read) -> bool {
        let lane = &self.lanes[at];
        match lane.window.span() {
            Some(_) => {
                read == Read::Full
                    || lane.window.is_ripe(&self.config)
                    || (read == Read::All && self.progress.is_draining())
            }
            None => lane.position.0 - self.covered(at).0 >= self.skip_bytes,
        }
    }

    /// Everything below is sealed.
    fn covered(&self, at: usize) -> Lsn {
        let lane = &self.lanes[at];
        let covers = self.progress.with_state(|state| state.lanes[lane.lane.index()].covers_lsn);
        Lsn(covers).min(lane.position)
    }

    /// Seals a window, waits until the seal is durable, hands the batches over. A window without
    /// records becomes a seal without content, which only says that the lane is past them.
    fn close(&mut self, at: usize) -> Result<(), Error> {
        let (last_number, chain) =
            self.progress.with_state(|state| (state.last_number, state.chain));
        let number = last_number + 1;
        let id = self.batch_id(number);
        let sealed_at = self.engine.now();
        let stamp = Stamp { id: &id, sink: &self.config.name, sealed_at, chain };
        let lane = &self.lanes[at];
        let span = lane.window.span();
        let Rendered { bodies, chain } = match span {
            Some(span) => lane.window.render(span, stamp, &self.config)?,
            None => Rendered::nothing(chain),
        };
        let mut bodies = bodies.into_iter();
        let body = bodies.next().unwrap_or_default();
        let more: Vec<_> = bodies.collect();
        let seal = Seal {
            number,
            first_lsn: span.map_or(self.covered(at), |span| span.first_lsn).0,
            last_lsn: span.map_or(lane.position, |span| span.last_lsn).0,
            covers_lsn: lane.position.0,
            sealed_at_ms: sealed_at.millis(),
            events: span.map_or(0, |span| span.events),
            config_version: self.config_version,
            digest: Seal::digest_of(&body, more.iter().map(Vec::as_slice)),
            chain,
            sink: self.config.name.clone(),
            body,
            parking: lane.window.parking(),
            recognition: self.config.recognition as u8,
            lane: covered_by(&self.config, lane.lane),
            more,
            letter: String::new(),
            part_id: String::new(),
        };
        let (first, last) = span.map_or((sealed_at, sealed_at), |span| {
            let time = Timestamp::from_millis;
            (time(span.first_time_ms), time(span.last_time_ms))
        });
        let Some((seal_lsn, sealed)) = self.seal(&seal)? else { return Ok(()) };
        self.progress.sealed(sealed);
        self.progress.count_overflows(self.lanes[at].window.overflows());
        self.lanes[at].window.turn();
        let carried = self.progress.take_carried(self.lanes[at].lane);
        self.tell(at);
        let mut batch =
            Batch { fresh: true, oldest: first, newest: last, ..batch_of(&seal, id, seal_lsn) };
        batch.carried = carried;
        let later = (1..).zip(seal.more).map(|(n, body)| Batch {
            id: batch.id.later(n),
            number: number + n,
            events: 0,
            body: body.into(),
            carried: batch.carried.links_alone(),
            ..batch.clone()
        });
        self.lanes[at].next.extend(later);
        if let Some(last) = self.lanes[at].next.back_mut() {
            // What came in several batches is with the partner when the last of them is.
            let links = batch.carried.links_alone();
            last.carried = std::mem::replace(&mut batch.carried, links);
        }
        self.progress.sent(&batch);
        if self.wait_durable(seal_lsn)? {
            self.hand_over(batch);
        }
        Ok(())
    }

    /// Writes a seal down; `None` if the sink is stopping.
    pub(super) fn seal(&self, seal: &Seal) -> Result<Option<(Lsn, Sealed)>, Error> {
        let (log, kept) = (self.engine.log(), seal.packed());
        let appended = seal::append(log, &kept, seal.sealed_at_ms, &self.progress)?;
        let Some(lsn) = appended else { return Ok(None) };
        self.engine.sealed(seal, lsn);
        Ok(Some((lsn, seal.sealed(lsn))))
    }

    pub(super) fn batch_id(&self, number: u64) -> BatchId {
        BatchId::new(&self.config.name, self.engine.log().incarnation(), number)
    }

    /// When the first record of a batch was written that was sealed in an earlier life; when it was sealed, if
    /// the log no longer has that record.
    fn oldest_ms(&self, batch: &Batch) -> u64 {
        let first = self.engine.log().read_at(batch.first_lsn);
        first.map_or(batch.oldest.millis(), |first| first.record().time_ms)
    }

    /// Hands over a batch that was sealed before.
    fn send_again(&mut self, number: u64, lsn: Lsn) -> Result<(), Error> {
        let mut batch =
            seal::read_seal(&mut self.engine.log().look_back(), &self.config.name, number, lsn)?;
        batch.fresh = self.insisted.remove(&number);
        batch.carried = Carried::of(self.oldest_ms(&batch), batch.events);
        batch.split = self.progress.with_state(|state| state.split_of(number));
        self.progress.sent(&batch);
        self.hand_over(batch);
        Ok(())
    }

    /// Brings a batch to the delivery, without what must wait for a letter.
    fn hand_over(&self, mut batch: Batch) {
        batch.held_back = self.held_back(&batch);
        self.bring(batch);
    }

    /// Brings a batch to the delivery.
    pub(super) fn bring(&self, batch: Batch) {
        if batch.body.is_empty() {
            self.progress.report(Fate::of_nothing(&batch));
        } else if self.out.try_send(batch).is_err() {
            // The delivery ended, or is so far behind that there was no room, which can't be: the
            // batch is sent after the next start.
            tracing::debug!(sink = self.config.name, "the delivery has ended");
        }
    }

    fn write_fates(&mut self) -> Result<(), Error> {
        while let Some(mut fate) = self.progress.next_fate() {
            let letter = self.progress.letter_of(fate.number);
            if let Some(before) = self.progress.letter(&letter) {
                fate.is_of_letter(&before);
            }
            let acknowledge = Acknowledge {
                number: fate.number,
                seal_lsn: fate.seal_lsn.0,
                attempts: fate.attempts,
                status: fate.status,
                refused: fate.refused,
                sink: self.config.name.clone(),
                answer: fate.answer.clone(),
                letter: letter.clone(),
                letters: fate.letters.clone(),
                taken: fate.taken.clone(),
            };
            let time_ms = self.engine.now().millis();
            let log = self.engine.log();
            let appended = seal::append(log, &acknowledge, time_ms, &self.progress)?;
            let Some(lsn) = appended else { return Ok(()) };
            self.progress.count_ages(&fate, time_ms);
            self.engine.acknowledged(&self.config.name, fate.number, lsn);
            self.progress.acknowledged(fate, &letter, lsn);
        }
        Ok(())
    }

    /// Lets the log recycle what the sink is past, as far as that is durable.
    fn hold_log(&mut self) {
        let replays = self.progress.with_state(|state| state.replay.is_some());
        if !replays {
            self.replay_from = None;
            self.looking_back = None;
        }
        if let Some(from) = self.progress.needs_from(self.engine.log().durable()) {
            let from = self.replay_from.map_or(from, |replay| replay.min(from));
            self.engine.hold_log(&Engine::<S>::sink_reader(&self.config.name), from);
        }
    }

    /// Waits until a record is durable; `false` if the sink is stopping.
    pub(super) fn wait_durable(&self, lsn: Lsn) -> Result<bool, Error> {
        while !self.engine.log().wait_durable_timeout(lsn, PAUSE)? {
            if self.progress.is_stopping() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for more to do.
    fn wait(&self, wait: Wait) -> Result<(), Error> {
        let pause = if wait.idle { IDLE_PAUSE } else { PAUSE };
        if !wait.all_read {
            self.progress.pause(pause);
        } else if self.engine.log().wait_durable_timeout(wait.next, pause)? {
            // More is durable, or what is may be no record at all: either way not at once.
            self.progress.pause(Duration::from_micros(200));
        }
        Ok(())
    }
}

/// What there is to be waited for.
struct Wait {
    /// Every lane has read all there is.
    all_read: bool,
    /// Where the next record will be.
    next: Lsn,
    /// No window is open, and every lane has room.
    idle: bool,
}

impl Wait {
    fn add<S: Storage>(&mut self, read: Read, lane: &LaneFeed<S>, progress: &Progress) {
        self.all_read &= read == Read::All;
        self.next = self.next.max(lane.position);
        self.idle &= lane.window.span().is_none() && progress.has_room(lane.lane);
    }
}

/// What the seal of a sink's lane covers: the seals of a sink with one lane cover all.
pub(super) fn covered_by(config: &SinkConfig, lane: Lane) -> u8 {
    match config.domain.lanes() {
        [_] => Sealed::EVERY_LANE,
        _ => lane as u8,
    }
}

/// The first batch of a seal, as it goes out anew.
pub(super) fn batch_of(seal: &Seal, id: BatchId, seal_lsn: Lsn) -> Batch {
    let sealed_at = Timestamp::from_millis(seal.sealed_at_ms);
    Batch {
        id,
        number: seal.number,
        lane: Lane::of_seal(seal.lane),
        fresh: false,
        config_version: seal.config_version,
        seal_lsn,
        first_lsn: Lsn(seal.first_lsn),
        oldest: sealed_at,
        newest: sealed_at,
        events: seal.events,
        body: seal.body.clone().into(),
        split: None,
        held_back: Vec::new(),
        carried: Carried::default(),
    }
}

/// Where a lane goes on: where its last seal says, or, for a sink that has none, where the log begins.
fn start_of<S: Storage>(engine: &Engine<S>, progress: &Progress, lane: Lane) -> Result<Lsn, Error> {
    let (covers, needed, sealed) = progress.with_state(|state| {
        let covers = Lsn(state.lanes[lane.index()].covers_lsn);
        (covers, Lsn(state.needs_from()), state.last_number > 0)
    });
    let log = engine.log();
    // What is let go may be there for a moment still, and its batches are read back later.
    let oldest = if sealed { log.released() } else { log.oldest() };
    if needed >= oldest {
        return Ok(covers);
    }
    if sealed {
        return Err(Error::Gone { oldest, needed });
    }
    tracing::warn!(sink = progress.name(), %oldest, "a new sink gets nothing from before the log's beginning");
    Ok(oldest)
}
