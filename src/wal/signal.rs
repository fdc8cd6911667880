//! How a background thread sleeps until there is work, and how those who make work wake it: one load
//! while it is awake, one futex call when it sleeps.
//!
//! The sleeper says that it sleeps and then looks for work; the other makes work and then looks for a
//! sleeper. A sequentially consistent fence between the two steps on each side makes it impossible
//! that both miss.

use std::time::Duration;

use super::sync::{AtomicBool, Mutex, Ordering, Thread, current, fence, lock, park_timeout};

/// The bell of one background thread.
pub struct Signal {
    asleep: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Default for Signal {
    fn default() -> Self {
        Self { asleep: AtomicBool::new(false), thread: Mutex::new(None) }
    }
}

impl Signal {
    /// Makes the calling thread the one that is woken.
    pub fn belongs_to_me(&self) {
        *lock(&self.thread) = Some(current());
    }

    /// Wakes the thread if it sleeps. What it is to see must have been stored before.
    pub fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Wakes the thread if it is seen asleep; may miss it.
    pub fn hint(&self) {
        if self.asleep.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if self.asleep.swap(false, Ordering::AcqRel)
            && let Some(thread) = lock(&self.thread).as_ref()
        {
            thread.unpark();
        }
    }

    /// Sleeps until woken, at most so long, unless there is work already.
    pub fn sleep(&self, time_max: Duration, has_work: impl FnOnce() -> bool) {
        // Swaps rather than stores, so that each of our changes of the flag is ordered after whatever
        // a waker made of it before, and the model checker knows it too.
        self.asleep.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if !has_work() {
            park_timeout(time_max);
        }
        self.asleep.swap(false, Ordering::AcqRel);
    }
}
