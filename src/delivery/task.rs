//! A sink's delivery: one task that takes batches from the feed, decides which goes when, and hears what
//! became of it.
//!
//! An attempt is made when nothing speaks against it: the sink is not paused, the partner did not ask to be
//! left alone, the breaker lets it through, the concurrency limit has room, the retry budget (for a repeat)
//! and the rate limit have a cell; then the most urgent batch that is ready goes. Each of these is a state
//! machine in a file of its own; here they meet. Batches under way are in `under_way`, all others in
//! `lanes`: when the task ends, whatever it was waiting for, what has no fate yet is dropped and sent after
//! the next start, since its seal is not acknowledged.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinHandle, JoinSet},
    time::Instant,
};

use super::{
    Outcome, Partner,
    bisect::{Next, Plan},
    breaker::{Breaker, Gate, State},
    budget::{self, Budget},
    concurrency::Concurrency,
    job::Job,
    lanes::{Lanes, Ready},
    rate::Rate,
    recovery,
    retry::{Backoff, RETRY_AFTER_MAX},
    trace::{Attempt, BatchTrace},
};
use crate::{
    config::SinkConfig,
    feed::{Asks, Batch, Condition, Pace, Progress},
    model::{
        Timestamp,
        sink::{
            Attempts, Wait,
            wish::{By, Wish},
        },
    },
    telemetry::Spans,
};

/// What a delivery works with.
pub(super) struct Delivery {
    pub config: SinkConfig,
    /// The same, as it is changed while the sink runs.
    pub settings: watch::Receiver<SinkConfig>,
    pub partner: Arc<dyn Partner>,
    pub progress: Arc<Progress>,
    pub inbox: mpsc::Receiver<Batch>,
    /// Turns true once.
    pub stop: watch::Receiver<bool>,
    /// The time of day, for what is written down.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Random over all its values.
    pub dice: Box<dyn FnMut() -> u64 + Send>,
    /// Where the spans of attempts go, if traces are kept.
    pub spans: Option<Arc<Spans>>,
}

/// Something that was under way ended.
enum Event {
    /// An attempt.
    Ended { job: Box<Job>, outcome: Outcome, probe: bool, took: Duration },
    /// How far a bisection has come is written down; false: it can't be; `None`: the feed has ended.
    Recorded { job: Box<Job>, done: Option<bool> },
}

/// Why nothing may be sent now, and until when if that is known.
type Waiting = (Wait, Option<Instant>);

struct Task {
    with: Delivery,
    asks: watch::Receiver<Asks>,
    lanes: Lanes,
    breaker: Breaker,
    concurrency: Concurrency,
    budget: Budget,
    rate: Rate,
    under_way: JoinSet<Event>,
    /// Bisections that wait until how far they have come is durable.
    recording: JoinSet<Event>,
    /// The partner asked to be left alone until then.
    quiet_until: Option<Instant>,
    /// Batches in a row of which the partner refused everything.
    refused_in_row: u64,
    /// Nothing is sent, since there were too many of those and the pause is not written down yet.
    held: bool,
    paused: bool,
    stopping: bool,
    attempts: Attempts,
    waiting: Option<Wait>,
}

impl Delivery {
    /// Works until it is stopped or the feed has ended. Attempts under way are let finish.
    pub async fn run(self) {
        let _guard = self.progress.broken_by_panic("its delivery");
        Task::new(self).run().await;
    }
}

impl Task {
    fn new(with: Delivery) -> Self {
        let policy = &with.config.policy;
        let mut asks = with.progress.asks();
        let paused = asks.borrow_and_update().paused;
        with.progress.set_room(usize::try_from(policy.lane_batches_max()).unwrap_or(1));
        Self {
            asks,
            lanes: Lanes::new(policy),
            breaker: Breaker::new(policy, with.config.retry_max_ms),
            concurrency: Concurrency::new(policy.concurrency_max),
            budget: Budget::new(policy),
            rate: Rate::new(with.config.rate_per_s),
            under_way: JoinSet::new(),
            recording: JoinSet::new(),
            quiet_until: None,
            refused_in_row: 0,
            held: false,
            paused,
            stopping: false,
            attempts: with.progress.attempts(),
            waiting: None,
            with,
        }
    }

    async fn run(mut self) {
        loop {
            let wake = self.start_ready();
            self.tell();
            tokio::select! {
                biased;
                () = stopped(&mut self.with.stop) => break,
                Some(event) = self.under_way.join_next() => self.hear(event),
                Some(event) = self.recording.join_next() => self.hear(event),
                Ok(()) = self.asks.changed() => self.obey(),
                Ok(()) = self.with.settings.changed() => self.follow_settings(),
                batch = self.with.inbox.recv(), if self.lanes.has_room() => match batch {
                    Some(batch) => self.accept(batch),
                    None => break,
                },
                () = sleep_until(wake) => {}
            }
        }
        self.stopping = true;
        // Nothing more is sealed for it.
        self.with.inbox.close();
        while let Some(event) = self.under_way.join_next().await {
            self.hear(event);
        }
        self.tell();
    }

    /// Goes on by other settings. What was learnt of the partner is forgotten: it may be another.
    fn follow_settings(&mut self) {
        let config = self.with.settings.borrow_and_update().clone();
        self.breaker = Breaker::new(&config.policy, config.retry_max_ms);
        self.budget = Budget::new(&config.policy);
        self.rate = Rate::new(config.rate_per_s);
        self.quiet_until = None;
        self.with.config = config;
    }

    /// Starts what may be; says when to look again if nothing happens before.
    fn start_ready(&mut self) -> Option<Instant> {
        loop {
            match self.pick(Instant::now()) {
                Ok(Some(job)) => self.start(job),
                Ok(None) => {
                    self.waiting = None;
                    return None;
                }
                Err((why, until)) => {
                    self.count_wait(why);
                    return until;
                }
            }
        }
    }

    /// The batch that goes now; `None`: there is none that is not under way.
    fn pick(&mut self, now: Instant) -> Result<Option<Job>, Waiting> {
        loop {
            let place = match self.lanes.ready(now) {
                Ready::Job(place) => place,
                Ready::Wait(why, until) => return Err((why, Some(until))),
                Ready::Nothing => return Ok(None),
            };
            self.gate(now)?;
            let Some(job) = self.lanes.at(place) else { return Ok(None) };
            if job.plan.is_repeat() && !job.paid {
                job.paid = self.budget.repeat();
                if !job.paid {
                    job.not_before = now + budget::WAIT;
                    self.count_wait(Wait::Budget);
                    continue;
                }
            }
            self.rate.check().map_err(|until| (Wait::Rate, Some(until)))?;
            return Ok(self.lanes.take(place, now));
        }
    }

    /// What speaks against any attempt.
    fn gate(&self, now: Instant) -> Result<(), Waiting> {
        if self.paused || self.held {
            return Err((Wait::Paused, None));
        }
        match self.breaker.gate(now) {
            Gate::Open => {}
            Gate::Until(until) => return Err((Wait::Breaker, Some(until))),
            Gate::Probing => return Err((Wait::Breaker, None)),
        }
        match self.quiet_until {
            Some(until) if until > now => Err((Wait::RetryAfter, Some(until))),
            _ if !self.concurrency.has_room() => Err((Wait::Concurrency, None)),
            _ => Ok(()),
        }
    }

    fn start(&mut self, mut job: Job) {
        if job.plan.attempts() > 0 {
            self.with.progress.count_retry();
        }
        if !job.plan.is_repeat() {
            self.budget.first();
        }
        self.concurrency.start();
        let probe = self.breaker.start();
        job.plan.sent();
        job.paid = false;
        let partner = self.with.partner.clone();
        self.under_way.spawn(async move {
            let started = Instant::now();
            let attempt = job.trace.as_mut().map(BatchTrace::attempt);
            let context = attempt.as_ref().map(Attempt::context);
            let outcome = Attempt::scope(context, partner.send(job.plan.part())).await;
            if let (Some(trace), Some(attempt)) = (&job.trace, attempt) {
                trace.attempted(&attempt, &job.plan.part().id, &outcome);
            }
            Event::Ended { job: Box::new(job), outcome, probe, took: started.elapsed() }
        });
    }

    fn accept(&mut self, batch: Batch) {
        let config = &self.with.config;
        let backlog = recovery::is_backlog(&config.policy, &batch, (self.with.now)());
        let trace = BatchTrace::begin(self.with.spans.as_ref(), &config.name, &batch);
        let plan = Plan::new(batch, config.dedupe, config.policy.poison_parts_max);
        let backoff = Backoff::new(config.retry_initial_ms, config.retry_max_ms);
        let (begun, paid, not_before) = (false, false, Instant::now());
        let mut job = Job { plan, backlog, begun, paid, not_before, backoff, trace };
        let next = job.plan.begin();
        if next == Next::Again && self.skip_of(&job).is_none() {
            return self.lanes.push(job);
        }
        // It has something to be written down before anything is sent: as if it had been under way.
        let number = job.number();
        self.lanes.push(job);
        if let Some(job) = self.lanes.take_number(number) {
            self.go_on(Box::new(job), next);
        }
    }

    fn hear(&mut self, event: Result<Event, JoinError>) {
        match event {
            Ok(Event::Ended { job, outcome, probe, took }) => {
                self.ended(job, outcome, probe, took);
            }
            Ok(Event::Recorded { mut job, done }) => match done {
                Some(true) => {
                    job.plan.recorded();
                    self.go_again(job);
                }
                Some(false) => {
                    let next = job.plan.not_recorded();
                    self.go_on(job, next);
                }
                None => {}
            },
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }

    fn ended(&mut self, mut job: Box<Job>, outcome: Outcome, probe: bool, took: Duration) {
        let now = Instant::now();
        let fails = matches!(outcome, Outcome::Failed { .. } | Outcome::Denied { .. });
        self.concurrency.end(took, fails, now);
        job.not_before = now;
        let next = match outcome {
            Outcome::Done { status, rejected } => {
                self.worked(probe);
                self.attempts.done += 1;
                job.plan.taken(status, &rejected)
            }
            Outcome::Refused { status, rejected, answer } => {
                self.worked(probe);
                self.attempts.refused += 1;
                job.plan.refused(status, &rejected, &answer)
            }
            Outcome::Unclear { status, reason } => {
                self.worked(probe);
                self.attempts.failed += 1;
                job.plan.unclear(status, &reason)
            }
            Outcome::Denied { status, retry_after } => {
                self.denied(&job, status, retry_after, now);
                Next::Again
            }
            Outcome::Failed { reason, retry_after, effect } => {
                self.failed(&mut job, probe, &reason, retry_after, now);
                job.plan.failed(effect, &reason)
            }
            Outcome::Withheld { reason } => {
                self.worked(probe);
                job.plan.withheld(&reason)
            }
        };
        self.go_on(job, next);
    }

    fn worked(&mut self, probe: bool) {
        self.breaker.worked(probe);
        self.runs();
    }

    /// The partner refuses us: asked again slowly, one attempt at a time.
    fn denied(&mut self, job: &Job, status: u16, retry_after: Option<Duration>, now: Instant) {
        self.attempts.denied += 1;
        self.breaker.open(now + job.backoff.after_denial(retry_after));
        tracing::error!(
            sink = self.with.config.name,
            batch = job.plan.part().id,
            status,
            "the partner refuses us: the sink is paused; check its address and credentials"
        );
        let why = format!("the partner answers {status}");
        self.with.progress.set_condition(Condition::Paused(why));
    }

    /// The first failure and every doubling of their number is told, not each.
    fn failed(
        &mut self,
        job: &mut Job,
        probe: bool,
        reason: &str,
        retry_after: Option<Duration>,
        now: Instant,
    ) {
        self.attempts.failed += 1;
        self.runs();
        let opened = self.breaker.failed(probe, retry_after, now, (self.with.dice)());
        self.attempts.breaker_opens += u64::from(opened);
        if let Some(asked) = retry_after {
            self.quiet_until = self.quiet_until.max(Some(now + asked.min(RETRY_AFTER_MAX)));
        }
        job.not_before = now + job.backoff.after_failure(retry_after, (self.with.dice)());
        let (attempts, part) = (job.plan.attempts(), &job.plan.part().id);
        if attempts.is_power_of_two() {
            let sink = &self.with.config.name;
            tracing::warn!(sink, part, attempts, reason, "an attempt failed; it is repeated");
        }
    }

    fn runs(&self) {
        if !self.held {
            self.with.progress.set_condition(Condition::Running);
        }
    }

    /// What comes next for a batch that was under way.
    fn go_on(&mut self, mut job: Box<Job>, next: Next) {
        match next {
            Next::Done => self.finish(&job),
            _ if self.stopping => {}
            Next::Again => self.go_again(job),
            Next::Part => {
                let (initial_ms, max_ms) =
                    (self.with.config.retry_initial_ms, self.with.config.retry_max_ms);
                job.backoff = Backoff::new(initial_ms, max_ms);
                match job.plan.split((self.with.now)().millis()) {
                    None => self.go_again(job),
                    Some(split) => {
                        let told = self.with.progress.report_split(split);
                        self.recording
                            .spawn(async move { Event::Recorded { job, done: told.await.ok() } });
                    }
                }
            }
        }
    }

    /// Back into its lane, or set aside if an operator wants that.
    fn go_again(&mut self, mut job: Box<Job>) {
        match self.skip_of(&job) {
            Some(reason) => {
                job.plan.skip(&reason);
                self.finish(&job);
            }
            None => self.lanes.again(*job),
        }
    }

    fn skip_of(&self, job: &Job) -> Option<String> {
        let asks = self.asks.borrow();
        let skip = asks.skip.as_ref().filter(|(number, _)| *number == job.number());
        skip.map(|(_, reason)| format!("skipped by an operator: {reason}"))
    }

    fn finish(&mut self, job: &Job) {
        self.lanes.done(job);
        let fate = job.fate((self.with.now)().millis());
        if let Some(trace) = &job.trace {
            trace.end(job.plan.is_taken());
        }
        if let Some(letter) = fate.letters.first() {
            tracing::error!(
                sink = self.with.config.name,
                batch = job.plan.batch().id.as_str(),
                status = fate.status,
                letters = fate.letters.len(),
                first = letter.id,
                reason = letter.reason,
                "the partner did not take all of a batch; the rest is set aside"
            );
        }
        let refused = job.plan.is_refused_whole();
        self.with.progress.report(fate);
        if refused {
            self.refused_in_row += 1;
        } else if job.plan.is_taken() {
            self.refused_in_row = 0;
        }
        if self.refused_in_row >= self.with.config.policy.refused_batches_max && !self.held {
            self.hold();
        }
    }

    /// A partner that refuses everything is not given the world to refuse. The pause is a record, so that
    /// a restart does not go on, and ends by hand.
    fn hold(&mut self) {
        self.held = true;
        let reason = format!(
            "the partner refused everything of {} batches in a row; check how they are rendered, then \
             resume the sink and retry its dead letters",
            self.refused_in_row
        );
        tracing::error!(sink = self.with.config.name, reason, "the sink is paused");
        self.with.progress.set_condition(Condition::Paused(reason.clone()));
        // Granted or not, it shows in what the delivery is asked for.
        drop(self.with.progress.wish(Wish::Pause, By { reason, ..By::default() }));
    }

    /// What an operator wants now.
    fn obey(&mut self) {
        let asks = self.asks.borrow_and_update().clone();
        if self.paused && !asks.paused {
            self.breaker.reset();
            (self.refused_in_row, self.quiet_until) = (0, None);
            self.with.progress.set_condition(Condition::Running);
        }
        self.held &= !asks.paused;
        self.paused = asks.paused;
        if let Some((number, _)) = asks.skip
            && let Some(job) = self.lanes.take_number(number)
        {
            self.go_again(Box::new(job));
        }
    }

    fn count_wait(&mut self, why: Wait) {
        if self.waiting != Some(why) {
            self.attempts.waits.count(why);
        }
        self.waiting = Some(why);
    }

    fn tell(&mut self) {
        self.attempts.under_way = self.concurrency.under_way() as u64;
        self.with.progress.set_pace(Pace {
            breaker: match self.breaker.state() {
                State::Closed => "closed",
                State::Open(_) => "open",
                State::HalfOpen => "half_open",
            },
            concurrency: self.concurrency.limit(),
            attempts: self.attempts,
        });
    }
}

/// Also when nobody is left who could say it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// Waits for the tasks of all sinks, at most so long; then gives up what is under way.
pub(super) async fn join(tasks: Vec<JoinHandle<()>>, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    let mut all = true;
    for mut task in tasks {
        if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
            task.abort();
            // It tells nobody anything from here on.
            drop(task.await);
            all = false;
        }
    }
    all
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
