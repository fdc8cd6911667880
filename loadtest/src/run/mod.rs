//! Carries a plan out against a target, in an open loop: what is due is sent when it is due, however the
//! target does.
//!
//! - *Response time* is from a request's planned instant to its answer, whatever kept it: a sender that
//!   was late, no connection that was free, the target. *Service time* is from its sending to its answer.
//!   *Lag* is from its planned instant to when the sender took it up: the tester's own lateness, and
//!   nothing else. A run whose lag is beyond its bound is void.
//! - A request without an answer in time is charged as timed out with the time that it was waited for; one
//!   that found no room in time as unsent. Nothing is left out.
//! - What a shopper does next is planned with his coming, not with the answer; where the answer is later
//!   than that, the request is late, and is charged for it.
//! - After the last planned instant the rest is waited for.
//!
//! A plan of a closed loop ([`Plan::closed`]) is carried out likewise, but for its instants: a visit is
//! planned when a caller is free. It measures a capacity; the time to look at is the service time.

mod again;
mod attempts;
mod books;
mod errand;
mod rules;
mod sender;

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

pub use again::ask_again;
pub use books::{Books, Fate};

use parking_lot::Mutex;

use crate::{
    plan::Plan,
    recording::{Recorder, Recording},
    scenario::Sending,
    target::{Clock, Error as TargetError, Target},
};
use rules::Rules;
use sender::{Part, Sender};
pub(crate) use sender::{cpu as thread_cpu, outcome};

/// Between the moment at which every sender is ready and the start.
const START_PAUSE: Duration = Duration::from_millis(20);
/// The slack of the senders' timers, in nanoseconds; the system's default is fifty times as much.
const TIMER_SLACK: u64 = 1_000;

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A thread could not be started, or died.
    #[error("a sender: {0}")]
    Sender(String),
}

/// How far a run is; may be read while it goes on.
#[derive(Default)]
pub struct Progress {
    /// Requests that were planned for an instant that has passed.
    pub due: AtomicU64,
    /// Requests that have ended.
    pub ended: AtomicU64,
    /// Over how long it is planned, in nanoseconds, once it has begun.
    pub length: AtomicU64,
    /// What is recorded, once the run has begun.
    pub recording: Mutex<Option<Arc<Recording>>>,
}

/// What came out of a run.
pub struct Run {
    /// What was measured.
    pub recording: Arc<Recording>,
    /// What shoppers were told.
    pub books: Books,
    /// Requests of the warm-up, which were not measured.
    pub warm_up: u64,
    /// From the start to the last answer.
    pub elapsed: Duration,
    /// Processor time of the senders.
    pub cpu: Duration,
}

impl Run {
    /// The lag that one request in a thousand was beyond, in microseconds, rounded up.
    pub fn lag_p999_us(&self) -> u64 {
        self.recording.totals().lag.value_at_quantile(0.999).div_ceil(1_000)
    }

    /// Whether the tester was too late for its figures to mean anything.
    pub fn is_void(&self, sending: &Sending) -> bool {
        self.lag_p999_us() > sending.lag_p999_us_max
    }
}

/// Carries a plan out. `started` is called when the first instant is near.
///
/// # Errors
/// If the target can't be reached, or a thread can't be started.
pub fn carry_out(
    target: &dyn Target,
    plan: &Arc<Plan>,
    sending: &Sending,
    interval: Duration,
    progress: &Progress,
    started: impl FnOnce(),
) -> Result<Run, Error> {
    let make = |number| Setting {
        target,
        plan,
        rules: Rules::new(plan, sending, target.sells(), number),
        clock: Clock::start(),
        number,
        progress,
    };
    let begin = || {
        // Its zero is the first instant that can be planned.
        let recording = Arc::new(Recording::new(SystemTime::now() + START_PAUSE, interval));
        progress.length.store(plan.end(), Ordering::Relaxed);
        *progress.recording.lock() = Some(recording.clone());
        started();
        recording
    };
    let (recording, parts) = on_threads(sending.senders, make, begin)?;
    let mut run = Run {
        recording,
        books: Books::new(plan.shoppers()),
        warm_up: 0,
        elapsed: Duration::ZERO,
        cpu: Duration::ZERO,
    };
    for part in parts {
        run.warm_up += part.warm_up;
        run.elapsed = run.elapsed.max(Duration::from_nanos(part.elapsed));
        run.cpu += part.cpu;
        run.books.absorb(part.books, sending.senders);
    }
    Ok(run)
}

/// What a sending thread begins with.
struct Setting<'a> {
    target: &'a dyn Target,
    plan: &'a Arc<Plan>,
    rules: Rules,
    clock: Clock,
    number: u32,
    progress: &'a Progress,
}

/// What a sending thread that is ready waits for: the run's first instant, and what it records into.
type Start = (Instant, Recorder);

/// Starts the senders at the same instant, once each has its link, and waits for them.
fn on_threads<'a>(
    senders: u32,
    make: impl Fn(u32) -> Setting<'a>,
    begin: impl FnOnce() -> Arc<Recording>,
) -> Result<(Arc<Recording>, Vec<Part>), Error> {
    let (tell_ready, ready) = mpsc::channel::<Result<(), TargetError>>();
    thread::scope(|scope| {
        let (mut threads, mut starts) = (Vec::new(), Vec::new());
        for number in 0..senders {
            // One that hears nothing but that nobody speaks any more ends.
            let (start, wait) = mpsc::channel::<Start>();
            let (setting, tell_ready) = (make(number), tell_ready.clone());
            let body = move || send_all(setting, &tell_ready, &wait);
            let named = thread::Builder::new().name(format!("sender-{number}"));
            threads
                .push(named.spawn_scoped(scope, body).map_err(|e| Error::Sender(e.to_string()))?);
            starts.push(start);
        }
        for _ in 0..senders {
            ready.recv().map_err(|e| Error::Sender(e.to_string()))??;
        }
        let recording = begin();
        let origin = Instant::now() + START_PAUSE;
        for start in starts {
            let sent = start.send((origin, recording.recorder()));
            sent.map_err(|e| Error::Sender(e.to_string()))?;
        }
        let died = || Error::Sender("it died; its message is above".to_owned());
        let parts: Result<Vec<Part>, Error> = threads
            .into_iter()
            .map(|thread| thread.join().ok().flatten().ok_or_else(died))
            .collect();
        Ok((recording, parts?))
    })
}

fn send_all(
    setting: Setting<'_>,
    tell_ready: &mpsc::Sender<Result<(), TargetError>>,
    wait: &mpsc::Receiver<Start>,
) -> Option<Part> {
    // Without it the timers are later, which the lag shows.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK));
    let link = match setting.target.link(setting.plan, setting.clock, setting.number) {
        Ok(link) => link,
        Err(error) => {
            // Whoever waits for it is there until all have told.
            let _ = tell_ready.send(Err(error));
            return None;
        }
    };
    tell_ready.send(Ok(())).ok()?;
    let (origin, recorder) = wait.recv().ok()?;
    let origin = setting.clock.at(origin);
    Some(Sender::new(setting, link, origin, recorder).run())
}
