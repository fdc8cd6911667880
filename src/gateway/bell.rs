//! How a connection's thread sleeps on its socket and can still be woken by the log: an event
//! descriptor that it polls beside the socket, rung only while it sleeps.
//!
//! The sleeper says that it sleeps and then looks for work; who makes work stores it and then looks
//! for a sleeper. A sequentially consistent fence between the two steps on each side makes it
//! impossible that both miss.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    task::Wake,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::{read, write},
};

/// The bell of one thread.
pub(super) struct Bell {
    asleep: AtomicBool,
    descriptor: OwnedFd,
}

impl Bell {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let descriptor = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Arc::new(Self { asleep: AtomicBool::new(false), descriptor }))
    }

    /// Wakes the thread if it sleeps. What it is to see must have been stored before.
    pub(super) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            // Fails only if the counter is full, and then the thread is woken already.
            let _ = write(&self.descriptor, &1_u64.to_ne_bytes());
        }
    }

    /// Sleeps until rung, until one of `others` is ready for what is asked of it, or for so long;
    /// not at all if `has_work`, which is asked once rings count.
    pub(super) fn sleep(
        &self,
        others: &[(BorrowedFd<'_>, PollFlags)],
        time: Duration,
        has_work: impl FnOnce() -> bool,
    ) -> io::Result<()> {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let polled = if has_work() { Ok(()) } else { self.poll(others, time) };
        self.asleep.store(false, Ordering::Relaxed);
        polled
    }

    fn poll(&self, others: &[(BorrowedFd<'_>, PollFlags)], time: Duration) -> io::Result<()> {
        let mut polled: smallvec::SmallVec<[PollFd<'_>; 4]> = others
            .iter()
            .map(|(descriptor, flags)| PollFd::from_borrowed_fd(*descriptor, *flags))
            .collect();
        polled.push(PollFd::new(&self.descriptor, PollFlags::IN));
        // Beyond what the system's clock can say there is no need for a limit.
        let time = Timespec::try_from(time).ok();
        match poll(&mut polled, time.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let rung = polled.last().is_some_and(|bell| bell.revents().contains(PollFlags::IN));
        if rung {
            // Nothing to read means that it was read before.
            let _ = read(&self.descriptor, &mut [0_u8; 8]);
        }
        Ok(())
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn who_sleeps_is_woken_and_who_has_work_does_not_sleep() {
        let bell = Bell::new().unwrap();
        let began = Instant::now();
        bell.sleep(&[], LONG, || true).unwrap();
        let ringer = bell.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while !ringer.asleep.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                ringer.ring();
            });
            bell.sleep(&[], LONG, || false).unwrap();
        });
        // Rung while it was looking for work: the descriptor is ready before it is polled.
        let ringer = bell.clone();
        let ring = move || {
            ringer.ring();
            false
        };
        bell.sleep(&[], LONG, ring).unwrap();
        assert!(began.elapsed() < LONG / 2);
    }

    #[test]
    fn a_ring_is_heard_once() {
        let bell = Bell::new().unwrap();
        bell.ring();
        let began = Instant::now();
        bell.sleep(&[], Duration::from_millis(20), || false).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(20), "nobody slept when it was rung");
    }
}
