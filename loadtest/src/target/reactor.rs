//! A runtime of one sending thread's own, which runs only while its link is polled.
//!
//! Tokio's timers are a millisecond wide, so that the wait for the next planned instant is a timer of the
//! kernel's.

use std::{future::Future, os::fd::OwnedFd, time::Duration};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::{
    io::unix::AsyncFd,
    runtime::{Builder, Runtime},
};

/// The runtime and its timer.
pub(crate) struct Reactor {
    /// What tasks are spawned on.
    pub runtime: Runtime,
    timer: AsyncFd<OwnedFd>,
}

impl Reactor {
    /// One for this thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let timer = {
            let _inside = runtime.enter();
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            // What the successor of this function asks for is that a descriptor stays the same for as long
            // as it is registered: one that is owned does.
            #[allow(deprecated)]
            AsyncFd::new(timer)?
        };
        Ok(Self { runtime, timer })
    }

    /// Runs what is spawned until this comes to its end, or the time is over.
    pub fn wait<T>(
        &mut self,
        wait: Duration,
        coming: impl Future<Output = Option<T>>,
    ) -> Option<T> {
        // All zero would switch the timer off.
        let wait = wait.clamp(Duration::from_nanos(1), Duration::from_secs(3_600));
        let it_value =
            Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timer = Itimerspec { it_interval, it_value };
        // It fails only for a descriptor that isn't there; then only what comes ends the wait.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                came = coming => came,
                ready = self.timer.readable() => {
                    ready.into_iter().for_each(|mut ready| ready.clear_ready());
                    None
                }
            }
        })
    }
}
