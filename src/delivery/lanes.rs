//! The queues of a sink, and which batch may go next.
//!
//! The most urgent lane that has a batch ready goes first, so that a critical one waits for what is under
//! way at most. In a strict lane only the first batch can be ready, and only while none of the lane is
//! under way: its order survives every retry. A lane whose first batch waits for its back-off keeps no
//! other lane waiting.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::{job::Job, recovery::Recovery};
use crate::{
    config::{Ordering, Policy},
    model::sink::{Lane, Wait},
};

/// One lane.
#[derive(Debug)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Batches of it that are under way.
    busy: usize,
    recovery: Recovery,
}

/// Which batch may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    /// This one.
    Job(Place),
    /// None before then.
    Wait(Wait, Instant),
    /// None, until one that is under way ends or a new one comes.
    Nothing,
}

/// Where a waiting batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    lane: usize,
    at: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lanes {
    queues: [Queue; 3],
    strict: bool,
    jobs_max: usize,
}

impl Lanes {
    /// The most batches that a sink has at the delivery.
    pub fn jobs_max(policy: &Policy) -> usize {
        Lane::ALL.len() * usize::try_from(policy.lane_batches_max()).unwrap_or(1)
    }

    pub fn new(policy: &Policy) -> Self {
        let queue = |_| Queue { jobs: VecDeque::new(), busy: 0, recovery: Recovery::new(policy) };
        let strict = policy.ordering == Ordering::Strict;
        Self { queues: Lane::ALL.map(queue), strict, jobs_max: Self::jobs_max(policy) }
    }

    /// Whether another batch may come in.
    pub fn has_room(&self) -> bool {
        self.queues.iter().map(|queue| queue.jobs.len() + queue.busy).sum::<usize>() < self.jobs_max
    }

    /// A batch that came from the feed.
    pub fn push(&mut self, job: Job) {
        self.queue(&job).jobs.push_back(job);
    }

    /// One that was under way and goes again, before those that came after it.
    pub fn again(&mut self, job: Job) {
        let queue = self.queue(&job);
        queue.busy -= 1;
        queue.jobs.push_front(job);
    }

    /// One that was under way is done.
    pub fn done(&mut self, job: &Job) {
        self.queue(job).busy -= 1;
    }

    fn queue(&mut self, job: &Job) -> &mut Queue {
        &mut self.queues[job.plan.batch().lane.index()]
    }

    /// Which may go now.
    pub fn ready(&self, now: Instant) -> Ready {
        let mut wait = Ready::Nothing;
        for (lane, queue) in self.queues.iter().enumerate() {
            if self.strict && queue.busy > 0 {
                continue;
            }
            let candidates = if self.strict { 1 } else { queue.jobs.len() };
            for (at, job) in queue.jobs.iter().take(candidates).enumerate() {
                match queue.waits(job, now) {
                    None => return Ready::Job(Place { lane, at }),
                    Some((why, until)) => wait = wait.or_sooner(why, until),
                }
            }
        }
        wait
    }

    pub fn at(&mut self, place: Place) -> Option<&mut Job> {
        self.queues[place.lane].jobs.get_mut(place.at)
    }

    /// Takes a batch out that is going.
    pub fn take(&mut self, place: Place, now: Instant) -> Option<Job> {
        let queue = &mut self.queues[place.lane];
        let mut job = queue.jobs.remove(place.at)?;
        queue.busy += 1;
        if !job.begun {
            job.begun = true;
            queue.recovery.begin(job.plan.batch(), job.backlog, now);
        }
        Some(job)
    }

    /// Takes a waiting batch out by its number, as if it went.
    pub fn take_number(&mut self, number: u64) -> Option<Job> {
        let queue = self.queues.iter_mut().find(|q| q.jobs.iter().any(|j| j.number() == number))?;
        let at = queue.jobs.iter().position(|job| job.number() == number)?;
        queue.busy += 1;
        queue.jobs.remove(at)
    }
}

impl Queue {
    fn waits(&self, job: &Job, now: Instant) -> Option<(Wait, Instant)> {
        let pause = self.recovery.waits(now).filter(|_| !job.begun);
        let back_off = Some(job.not_before).filter(|at| *at > now);
        match (pause, back_off) {
            (Some(pause), _) => Some((Wait::Recovery, pause)),
            (None, Some(at)) => Some((Wait::BackOff, at)),
            (None, None) => None,
        }
    }
}

impl Ready {
    fn or_sooner(self, why: Wait, until: Instant) -> Self {
        match self {
            Self::Wait(_, sooner) if sooner <= until => self,
            _ => Self::Wait(why, until),
        }
    }
}
