//! One sending thread: it takes up what is due, offers it to its link, and takes in what the link has
//! brought, over and over. It owns all that it works with; nothing is locked.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use slab::Slab;

use super::{
    Books, Fate, Progress, Setting,
    attempts::{Attempt, Attempts},
    errand::{Errand, Turn},
    rules::{Closed, Rules},
};
use crate::{
    plan::{Plan, Step, Visit},
    recording::{Outcome, Recorder},
    target::{Answer, Clock, Link, Request, ReservationName, Said, Sent},
};

/// Requests that are taken up before answers are looked for.
const TURN_MAX: usize = 64;
/// The longest wait for answers, in nanoseconds.
const WAIT_MAX: u64 = 100_000_000;

/// What a sender has to show in the end.
pub(super) struct Part {
    /// With the number of the sender.
    pub books: (u32, Books),
    pub warm_up: u64,
    /// Nanoseconds from the start to the end.
    pub elapsed: u64,
    pub cpu: Duration,
}

/// A time at which an errand's next request is due, and the errand. It is that errand's, for as long as it
/// counts the request among its open ones.
type Timer = Reverse<(u64, usize)>;

/// A sending thread. All times are of its clock.
pub(super) struct Sender<'a> {
    plan: Arc<Plan>,
    rules: Rules,
    link: Box<dyn Link>,
    clock: Clock,
    origin: u64,
    number: u32,
    progress: &'a Progress,
    /// When this turn began.
    turn: u64,
    /// The next shopper.
    next: usize,
    errands: Slab<Errand>,
    attempts: Attempts,
    timers: BinaryHeap<Timer>,
    recorder: Recorder,
    books: Books,
    warm_up: u64,
    due: u64,
    ended: u64,
    cpu_before: Duration,
}

impl<'a> Sender<'a> {
    pub fn new(setting: Setting<'a>, link: Box<dyn Link>, origin: u64, recorder: Recorder) -> Self {
        let Setting { plan, rules, clock, number, progress, .. } = setting;
        let shoppers = (plan.shoppers().saturating_sub(number)).div_ceil(rules.senders);
        Self {
            plan: plan.clone(),
            rules,
            link,
            clock,
            origin,
            number,
            progress,
            turn: 0,
            next: number as usize,
            errands: Slab::new(),
            attempts: Attempts::default(),
            timers: BinaryHeap::new(),
            recorder,
            books: Books::new(shoppers),
            warm_up: 0,
            due: 0,
            ended: 0,
            cpu_before: cpu(),
        }
    }

    /// Sends all that is planned, and waits for the rest.
    pub fn run(mut self) -> Part {
        let mut answers = Vec::new();
        loop {
            let now = self.clock.now();
            self.turn = now;
            self.give_up(now);
            let behind = self.take_up(now);
            self.offer_backlog();
            self.report();
            if self.errands.is_empty() && self.have_all_come() {
                break;
            }
            if now >= self.origin + self.rules.end {
                self.give_all_up(now);
                break;
            }
            let wait = if behind { 0 } else { self.wait() };
            self.link.poll(Duration::from_nanos(wait), &mut answers);
            for answer in answers.drain(..) {
                self.take_in(answer);
            }
        }
        Part {
            elapsed: self.clock.now().saturating_sub(self.origin),
            books: (self.number, self.books),
            warm_up: self.warm_up,
            cpu: cpu().saturating_sub(self.cpu_before),
        }
    }

    /// The instant at which the next shopper comes.
    fn next_arrival(&self) -> Option<u64> {
        let planned = self.plan.schedule.instants.get(self.next).map(|at| self.origin + at);
        match self.rules.closed {
            None => planned,
            // A caller who is free comes now.
            Some(Closed { callers, end }) => planned
                .map(|_| self.turn.max(self.origin))
                .filter(|at| self.errands.len() < callers && *at < self.origin + end),
        }
    }

    fn have_all_come(&self) -> bool {
        let closed = self.rules.closed.is_some_and(|c| self.turn >= self.origin + c.end);
        closed || self.next >= self.plan.schedule.instants.len()
    }

    /// Begins what is due; true if more is due than a turn has.
    fn take_up(&mut self, now: u64) -> bool {
        for _ in 0..TURN_MAX {
            let arrival = self.next_arrival().filter(|at| *at <= now);
            let timer = self.timers.peek().map(|Reverse((at, _))| *at).filter(|at| *at <= now);
            match (arrival, timer) {
                (Some(arrival), timer) if timer.is_none_or(|timer| arrival <= timer) => {
                    self.arrive(arrival);
                }
                (_, Some(planned)) => {
                    if let Some(Reverse((_, errand))) = self.timers.pop() {
                        self.begin(errand, planned, planned, None);
                    }
                }
                _ => return false,
            }
        }
        true
    }

    /// A shopper comes.
    fn arrive(&mut self, planned: u64) {
        let visit = self.plan.visit(self.next as u32);
        self.next += self.rules.senders as usize;
        let mut step = Step::first(&visit);
        if !self.rules.sells {
            step = Step::Reserve;
        }
        let errand = self.errands.insert(Errand::new(visit.shopper, step, None));
        if let Some(after) = visit.twice {
            self.errands[errand].plan_another();
            self.timers.push(Reverse((planned + after, errand)));
        }
        self.begin(errand, planned, planned, Some(&visit));
    }

    /// Makes a request that is due, which its errand counts as open already. `possible` is when it could
    /// have been made at the earliest.
    fn begin(&mut self, errand: usize, planned: u64, possible: u64, visit: Option<&Visit>) {
        let lag = self.clock.now().saturating_sub(possible);
        // Of one that is late already, its time counts from when it became possible.
        let from = planned.max(possible);
        let again_at = self.rules.patience.map(|patience| from + patience);
        let fails_at = from + self.rules.timeout;
        let attempt = self.attempts.add(errand, planned, lag, fails_at, again_at);
        self.due += 1;
        if self.attempts.is_backlogged() || self.offer(attempt, visit) == Sent::Full {
            self.attempts.wait_for_room(attempt);
        }
    }

    /// Offers a request to the link.
    fn offer(&mut self, attempt: usize, visit: Option<&Visit>) -> Sent {
        let Some(offered) = self.attempts.get_mut(attempt) else { return Sent::Taken };
        let errand = &mut self.errands[offered.errand];
        let made;
        let visit = match visit {
            Some(visit) => visit,
            None => {
                made = self.plan.visit(errand.shopper);
                &made
            }
        };
        let request =
            Request { visit, step: errand.step, reservation: errand.reservation.as_ref() };
        let sent = self.clock.now();
        let taken = self.link.send(attempt as u32, &request);
        if taken == Sent::Taken {
            errand.sent = true;
            offered.sent = Some(sent);
        }
        taken
    }

    fn offer_backlog(&mut self) {
        while let Some(attempt) = self.attempts.next_in_backlog() {
            if self.offer(attempt, None) == Sent::Full {
                return;
            }
            self.attempts.found_room();
        }
    }

    /// Gives up what has had its time, and lets shoppers whose patience is over ask again.
    fn give_up(&mut self, now: u64) {
        while let Some(attempt) = self.attempts.next_failed(now) {
            self.time_out(attempt, now);
        }
        while let Some((errand, at)) = self.attempts.next_impatient(now) {
            self.try_again(errand, at);
        }
    }

    /// The end: what is under way is given up, and nothing is tried again.
    fn give_all_up(&mut self, now: u64) {
        self.rules.attempts_max = 0;
        self.attempts.open().into_iter().for_each(|attempt| self.time_out(attempt, now));
        // What is left would have been tried again.
        let all: Vec<usize> = self.errands.iter().map(|(errand, _)| errand).collect();
        for errand in all {
            self.errands[errand].open = 0;
            self.close(errand);
        }
        self.report();
    }

    fn time_out(&mut self, attempt: usize, now: u64) {
        let Some(ended) = self.attempts.end(attempt) else { return };
        let errand = ended.errand;
        match ended.sent {
            Some(_) => {
                self.link.abandon(attempt as u32);
                self.record(&ended, Outcome::TimedOut, now);
                self.take(errand, Said::Broken, now);
            }
            None => {
                self.record(&ended, Outcome::Unsent, now);
                self.errands[errand].open -= 1;
                self.close(errand);
            }
        }
    }

    fn take_in(&mut self, answer: Answer) {
        let Some(attempt) = self.attempts.end(answer.ticket as usize) else { return };
        self.record(&attempt, outcome(answer.said), answer.at);
        self.take(attempt.errand, answer.said, answer.at);
    }

    /// Takes in what an errand's request has come to.
    fn take(&mut self, at: usize, said: Said, now: u64) {
        let errand = &mut self.errands[at];
        errand.open -= 1;
        match errand.take(said) {
            Turn::Granted(reservation) => self.granted(at, reservation, now),
            Turn::Twin => self.books.twins += 1,
            Turn::TakenBack => self.books.taken_back += 1,
            Turn::Failed => {
                let (shopper, attempts) = (errand.shopper, errand.attempts);
                let again_at = now + self.plan.backoff(shopper, attempts);
                self.try_again(at, again_at);
            }
            Turn::Nothing => {}
        }
        self.close(at);
    }

    /// Plans another request of an errand, if it makes sense and is allowed.
    fn try_again(&mut self, at: usize, planned: u64) {
        let errand = &mut self.errands[at];
        if errand.is_undecided() && errand.attempts < self.rules.attempts_max {
            errand.plan_another();
            self.timers.push(Reverse((planned, at)));
        }
    }

    /// What a shopper does who got what he asked for.
    fn granted(&mut self, at: usize, reservation: Option<ReservationName>, now: u64) {
        let Errand { shopper, step, .. } = self.errands[at];
        let local = self.local(shopper);
        self.books.fates[local] = match step {
            Step::Reserve => Fate::Held,
            Step::Order | Step::Commit => Fate::Bought,
            Step::Release => Fate::GaveBack,
        };
        let (Step::Reserve | Step::Order, Some(name)) = (step, reservation) else { return };
        self.books.names[local] = name.digest();
        if step == Step::Order || !self.rules.sells {
            return;
        }
        let visit = self.plan.visit(shopper);
        let Some(next) = Step::next(&visit) else { return };
        let arrival = match self.rules.closed {
            None => self.origin + self.plan.schedule.instants[shopper as usize],
            Some(_) => now,
        };
        let planned = arrival + visit.think;
        let follow_up = self.errands.insert(Errand::new(shopper, next, Some(name)));
        if planned > now {
            self.timers.push(Reverse((planned, follow_up)));
        } else {
            self.begin(follow_up, planned, now, Some(&visit));
        }
    }

    /// Ends an errand that waits for nothing any more, and writes down what came of it.
    fn close(&mut self, at: usize) {
        if self.errands[at].open > 0 {
            return;
        }
        let errand = self.errands.remove(at);
        if errand.granted.is_some() {
            return;
        }
        let first = matches!(errand.step, Step::Reserve | Step::Order);
        let local = self.local(errand.shopper);
        self.books.fates[local] = match (errand.unclear, first) {
            (true, true) => Fate::Unclear(errand.step),
            (true, false) => Fate::HeldUnclear(errand.step),
            (false, true) if errand.sent => Fate::Refused,
            (false, true) => Fate::Unsent,
            (false, false) => Fate::Held,
        };
    }

    fn local(&self, shopper: u32) -> usize {
        (shopper / self.rules.senders) as usize
    }

    fn record(&mut self, attempt: &Attempt, outcome: Outcome, at: u64) {
        self.ended += 1;
        let planned = attempt.planned.saturating_sub(self.origin);
        if planned < self.rules.warm_up {
            self.warm_up += 1;
            return;
        }
        let since = |from: u64| Duration::from_nanos(at.saturating_sub(from));
        self.recorder.record(
            Duration::from_nanos(planned),
            outcome,
            since(attempt.planned),
            attempt.sent.map_or(Duration::ZERO, since),
            Duration::from_nanos(attempt.lag),
        );
    }

    fn report(&mut self) {
        self.progress.due.fetch_add(std::mem::take(&mut self.due), Ordering::Relaxed);
        self.progress.ended.fetch_add(std::mem::take(&mut self.ended), Ordering::Relaxed);
    }

    /// How long answers may be waited for.
    fn wait(&self) -> u64 {
        let now = self.clock.now();
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let next = [self.next_arrival(), timer].into_iter().flatten().min();
        // Only what is to be sent is waited for by looking at the clock.
        let next = next.map(|at| at.saturating_sub(now).saturating_sub(self.rules.spin));
        let watched = self.attempts.next_watch().map(|at| at.saturating_sub(now));
        [next, watched].into_iter().flatten().min().unwrap_or(WAIT_MAX).min(WAIT_MAX)
    }
}

/// How a request ended that was answered so.
pub(crate) fn outcome(said: Said) -> Outcome {
    match said {
        Said::Granted { .. } => Outcome::Granted,
        Said::SoldOut => Outcome::SoldOut,
        Said::Refused => Outcome::Refused,
        Said::Shed => Outcome::Shed,
        Said::Invalid | Said::Failed | Said::Broken => Outcome::Error,
    }
}

/// The processor time of this thread.
pub(crate) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}
