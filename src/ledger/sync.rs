//! The atomics of the ledger's protocols: the standard ones, or loom's where the model checker runs
//! the very same code (`--features model-check`).

#[cfg(feature = "model-check")]
pub(crate) use loom::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    thread::yield_now,
};
#[cfg(not(feature = "model-check"))]
pub(crate) use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    thread::yield_now,
};

/// Waits a moment for another thread's decision: spins first, since a decision takes about a
/// microsecond, then yields, since the thread that decides may need this core.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    rounds: u32,
}

impl Backoff {
    /// One moment.
    pub(crate) fn wait(&mut self) {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds <= 6 && !cfg!(feature = "model-check") {
            for _ in 0..(1 << self.rounds) {
                std::hint::spin_loop();
            }
        } else {
            yield_now();
        }
    }
}
