//! Plays arrivals: each is sent when it is due and its turn has come, on a connection that is free; one
//! thread does it all. Times are nanoseconds of its clock.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, TryRecvError},
    },
    time::{Duration, SystemTime},
};

use slab::Slab;

use super::{
    Error, HELD_MAX,
    errand::{Errand, Holds},
    read::{Act, Arrival},
    told::Told,
};
use crate::{
    plan::Step,
    recording::{Outcome, Recorder, Recording},
    run::{Progress, outcome, thread_cpu},
    scenario::Sending,
    target::{Asker, Clock, Said, open_wire, said, wire::Wire},
};

const MS: u64 = 1_000_000;
/// Between the moment at which all is ready and the start.
const START_PAUSE: u64 = 50 * MS;
/// Times that one thing is asked for.
const ATTEMPTS_MAX: u32 = 4;
/// Before it is asked for again; twice as long each time.
const BACKOFF: u64 = 200 * MS;
/// The longest wait for answers.
const WAIT_MAX: u64 = 20 * MS;
/// The longest wait where more is still to be read.
const READ_MAX: u64 = MS / 5;
/// Between two looks for what has had its time.
const LOOK_EVERY: u64 = 20 * MS;
/// Arrivals that are taken up before answers are looked for.
const TURN_MAX: usize = 64;
/// Tokens of requests have the number of their attempt in the upper half.
const KEY_BITS: u32 = 32;

/// What came out.
pub(super) struct Played {
    pub recording: Arc<Recording>,
    pub told: Told,
    pub skipped: u64,
    pub elapsed: Duration,
    pub cpu: Duration,
}

/// A request under way.
struct UnderWay {
    key: usize,
    planned: u64,
    sent: u64,
    fails_at: u64,
}

/// An errand that waits for a connection.
#[derive(Clone, Copy)]
struct Waiting {
    key: usize,
    /// The instant that it counts from.
    planned: u64,
    /// When it is given up.
    fails_at: u64,
}

struct Player<'a> {
    wire: Wire,
    headers: String,
    run: &'a str,
    clock: Clock,
    origin: u64,
    sending: &'a Sending,
    arrivals: Receiver<Arrival>,
    /// One that has been read and is not due yet.
    next: Option<Arrival>,
    over: bool,
    errands: Slab<Errand>,
    holds: Holds,
    /// What waits for a connection.
    backlog: VecDeque<Waiting>,
    /// Errands that are tried again.
    again: BinaryHeap<Reverse<(u64, usize)>>,
    /// By token; no more than there are connections.
    under_way: HashMap<u64, UnderWay>,
    /// When what has had its time is looked for again.
    look_at: u64,
    recorder: Recorder,
    progress: &'a Progress,
    skipped: u64,
    request: Vec<u8>,
}

/// Plays arrivals to their end, in a run of this name and length.
pub(super) fn play(
    asker: &Asker,
    sending: &Sending,
    (run, length): (&str, u64),
    arrivals: Receiver<Arrival>,
    progress: &Progress,
) -> Result<Played, Error> {
    let (clock, cpu) = (Clock::start(), thread_cpu());
    let wire = open_wire(asker, sending.connections, clock)?;
    let started = SystemTime::now() + Duration::from_nanos(START_PAUSE);
    let recording = Arc::new(Recording::new(started, Duration::from_secs(1)));
    progress.length.store(length, Relaxed);
    *progress.recording.lock() = Some(recording.clone());
    let mut player = Player {
        wire,
        headers: asker.common_headers(),
        run,
        clock,
        origin: clock.now() + START_PAUSE,
        sending,
        arrivals,
        next: None,
        over: false,
        errands: Slab::new(),
        holds: Holds::default(),
        backlog: VecDeque::new(),
        again: BinaryHeap::new(),
        under_way: HashMap::new(),
        look_at: 0,
        recorder: recording.recorder(),
        progress,
        skipped: 0,
        request: Vec::new(),
    };
    player.play()?;
    let Player { holds, recorder, skipped, origin, .. } = player;
    drop(recorder);
    let now = clock.now();
    let elapsed = Duration::from_nanos(now.saturating_sub(origin));
    let cpu = thread_cpu().saturating_sub(cpu);
    Ok(Played { recording, told: holds.sum_up(now), skipped, elapsed, cpu })
}

impl Player<'_> {
    fn play(&mut self) -> Result<(), Error> {
        let mut answers = Vec::new();
        loop {
            let now = self.clock.now();
            self.holds.forget(now);
            self.give_up(now);
            let behind = self.take_up(now)?;
            self.serve_backlog();
            if self.over && self.next.is_none() && self.errands.is_empty() {
                return Ok(());
            }
            let wait = if behind { 0 } else { self.wait(now) };
            self.wire.poll(Duration::from_nanos(wait), |exchanged| {
                let step = step(exchanged.token);
                let said = exchanged.response.map(|r| said(r.status, step, &r.body));
                answers.push((exchanged.token, exchanged.at, said.unwrap_or(Said::Broken)));
            });
            for (token, at, said) in answers.drain(..) {
                self.take_in(token, at, said);
            }
        }
    }

    /// Takes up what is due; true if there is more than a turn has.
    fn take_up(&mut self, now: u64) -> Result<bool, Error> {
        while let Some(Reverse((at, _))) = self.again.peek()
            && *at <= now
            && let Some(Reverse((at, key))) = self.again.pop()
        {
            self.progress.due.fetch_add(1, Relaxed);
            self.wait_for_room(key, at);
        }
        for _ in 0..TURN_MAX {
            let Some(arrival) = self.due(now) else { return Ok(false) };
            if arrival.act == Act::RunOut {
                arrival.of.iter().for_each(|of| self.holds.run_out(*of, now));
                continue;
            }
            let due = self.origin + arrival.due;
            let lag = self.clock.now().saturating_sub(due);
            if self.errands.len() >= HELD_MAX {
                return Err(Error::TooMany);
            }
            let key = self.errands.insert(Errand { arrival, lag, attempts: 0, unclear: false });
            let is_there = self.holds.enqueue(key, &self.errands[key].arrival)?;
            self.progress.due.fetch_add(1, Relaxed);
            if !is_there {
                self.skip(key);
            } else if self.holds.is_turn(key, &self.errands[key].arrival) {
                self.wait_for_room(key, due);
            }
            // Else its turn comes when what is before it has been answered.
        }
        Ok(true)
    }

    /// The next arrival, if it is due.
    fn due(&mut self, now: u64) -> Option<Arrival> {
        if self.next.is_none() && !self.over {
            match self.arrivals.try_recv() {
                Ok(arrival) => self.next = Some(arrival),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.over = true,
            }
        }
        self.next.take_if(|arrival| self.origin + arrival.due <= now)
    }

    fn timeout(&self) -> u64 {
        self.sending.timeout_ms * MS
    }

    /// Of one whose turn came late, its time to be answered counts from now.
    fn wait_for_room(&mut self, key: usize, planned: u64) {
        let fails_at = planned.max(self.clock.now()) + self.timeout();
        self.backlog.push_back(Waiting { key, planned, fails_at });
    }

    fn serve_backlog(&mut self) {
        while let Some(Waiting { key, planned, fails_at }) = self.backlog.front().copied() {
            let now = self.clock.now();
            if now >= fails_at {
                self.backlog.pop_front();
                self.record(key, (planned, None), Outcome::Unsent, now);
                self.finish(key);
                continue;
            }
            if !self.wire.has_room() || !self.send(key, planned, now) {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// Sends an errand's request; false if there was no room.
    fn send(&mut self, key: usize, planned: u64, now: u64) -> bool {
        let Some(errand) = self.errands.get_mut(key) else { return true };
        let Some(path) = path(&errand.arrival, &self.holds) else {
            self.skip(key);
            return true;
        };
        let token = token(key, errand.attempts, errand.arrival.act);
        write(&mut self.request, (self.run, &self.headers), &errand.arrival, &path);
        if !self.wire.exchange(token, &self.request) {
            return false;
        }
        errand.attempts += 1;
        let fails_at = now.max(planned) + self.timeout();
        self.under_way.insert(token, UnderWay { key, planned, sent: now, fails_at });
        true
    }

    fn take_in(&mut self, token: u64, at: u64, said: Said) {
        let Some(UnderWay { key, planned, sent, .. }) = self.under_way.remove(&token) else {
            return;
        };
        self.record(key, (planned, Some(sent)), outcome(said), at);
        self.answered(key, said, at);
    }

    /// Gives up what has had its time.
    fn give_up(&mut self, now: u64) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        let failed = self.under_way.iter().filter(|(_, mine)| mine.fails_at <= now);
        let failed: Vec<u64> = failed.map(|(token, _)| *token).collect();
        for token in failed {
            let Some(UnderWay { key, planned, sent, .. }) = self.under_way.remove(&token) else {
                continue;
            };
            self.wire.abandon(token);
            self.record(key, (planned, Some(sent)), Outcome::TimedOut, now);
            self.answered(key, Said::Broken, now);
        }
    }

    fn answered(&mut self, key: usize, said: Said, at: u64) {
        let Some(errand) = self.errands.get_mut(key) else { return };
        match said {
            Said::Granted { reservation } => {
                self.holds.granted(&errand.arrival, reservation, at);
                errand.unclear = false;
            }
            // A refusal tells that no earlier attempt had its effect.
            Said::SoldOut | Said::Refused | Said::Invalid => errand.unclear = false,
            Said::Shed | Said::Failed | Said::Broken => {
                errand.unclear |= said != Said::Shed;
                if errand.attempts < ATTEMPTS_MAX {
                    let pause = BACKOFF << errand.attempts.saturating_sub(1);
                    self.again.push(Reverse((at + pause, key)));
                    return;
                }
            }
        }
        self.finish(key);
    }

    fn skip(&mut self, key: usize) {
        self.skipped += 1;
        self.progress.ended.fetch_add(1, Relaxed);
        self.finish(key);
    }

    /// Ends an errand, and lets have their turn who waited for it.
    fn finish(&mut self, key: usize) {
        let Some(errand) = self.errands.try_remove(key) else { return };
        self.holds.told.unclear += u64::from(errand.unclear);
        for next in self.holds.leave(key, &errand.arrival) {
            let Some(waiting) = self.errands.get(next) else { continue };
            if self.holds.is_turn(next, &waiting.arrival) {
                let planned = self.origin + waiting.arrival.due;
                self.wait_for_room(next, planned);
            }
        }
    }

    /// Records a request of an errand: when it was due, and when it was sent, if it ever was.
    fn record(
        &mut self,
        key: usize,
        (planned, sent): (u64, Option<u64>),
        outcome: Outcome,
        at: u64,
    ) {
        self.progress.ended.fetch_add(1, Relaxed);
        let since = |from: u64| Duration::from_nanos(at.saturating_sub(from));
        // Of a later attempt there is none.
        let lag = self.errands.get_mut(key).map_or(0, |errand| std::mem::take(&mut errand.lag));
        let due = Duration::from_nanos(planned.saturating_sub(self.origin));
        let service = sent.map_or(Duration::ZERO, since);
        self.recorder.record(due, outcome, since(planned), service, Duration::from_nanos(lag));
    }

    fn wait(&self, now: u64) -> u64 {
        let next = self.next.as_ref().map(|arrival| self.origin + arrival.due);
        let again = self.again.peek().map(|Reverse((at, _))| *at);
        let until = [next, again].into_iter().flatten().min();
        let most = if self.next.is_none() && !self.over { READ_MAX } else { WAIT_MAX };
        until.map_or(most, |at| at.saturating_sub(now)).min(most)
    }
}

const ACTS: [(Act, Step); 2] = [(Act::Reserve, Step::Reserve), (Act::Order, Step::Order)];

/// Names a request: its errand, its attempt, and how its answer is to be read.
fn token(key: usize, attempt: u32, act: Act) -> u64 {
    let kind = ACTS.iter().position(|(known, _)| *known == act).unwrap_or(ACTS.len()) as u64;
    (key as u64) | (u64::from(attempt) << KEY_BITS) | (kind << 62)
}

fn step(token: u64) -> Step {
    ACTS.get((token >> 62) as usize).map_or(Step::Commit, |(_, step)| *step)
}

/// Where a request goes, and the list of reservations that its body begins with.
struct Path {
    method: &'static str,
    path: String,
    reservations: Option<String>,
}

/// `None` if what it is about was not granted.
fn path(arrival: &Arrival, holds: &Holds) -> Option<Path> {
    let plain = |path: &str| Path { method: "POST", path: path.to_owned(), reservations: None };
    let verb = match arrival.act {
        Act::Reserve => return Some(plain("/v1/reservations")),
        Act::Order => return Some(plain("/v1/orders")),
        Act::RunOut => return None,
        Act::OrderOf => {
            let names = holds.names(arrival)?;
            let quoted = names.iter().map(|name| format!("\"{name:?}\""));
            let list = quoted.collect::<Vec<_>>().join(",");
            return Some(Path { reservations: Some(list), ..plain("/v1/orders") });
        }
        Act::Release { .. } => "release",
        Act::Extend => "extend",
        Act::Commit => "commit",
        Act::Change => "lines",
    };
    let name = holds.names(arrival)?.first().copied()?;
    let method = if arrival.act == Act::Change { "PUT" } else { "POST" };
    Some(Path { method, path: format!("/v1/reservations/{name:?}/{verb}"), reservations: None })
}

/// Writes a whole request.
fn write(out: &mut Vec<u8>, (run, headers): (&str, &str), arrival: &Arrival, path: &Path) {
    out.clear();
    let Path { method, path, reservations } = path;
    let list = reservations.as_ref().map(|list| format!("{{\"reservations\":[{list}],"));
    // The body's own begin is the list's.
    let body = if list.is_some() { arrival.body.get(1..).unwrap_or(&[]) } else { &arrival.body };
    let length = list.as_ref().map_or(0, String::len) + body.len();
    let kind = if length > 0 { "Content-Type: application/json\r\n" } else { "" };
    let lsn = arrival.lsn;
    out.extend_from_slice(format!("{method} {path} HTTP/1.1\r\n{headers}").as_bytes());
    out.extend_from_slice(
        format!("Idempotency-Key: {run}-{lsn}\r\n{kind}Content-Length: {length}\r\n\r\n")
            .as_bytes(),
    );
    out.extend_from_slice(list.unwrap_or_default().as_bytes());
    out.extend_from_slice(body);
}
