//! The atomics, locks and sizes of the ledger's protocols, named in one place.
//!
//! `word`, `slab`, `keys`, `limits`, `reservations` and `wheel` take everything that one thread can do
//! to another from here, and import their neighbours only through `super`. `model-checks/tests/ledger_loom.rs`
//! compiles those same files against loom's versions of these names, so that the model checker runs
//! the code that ships and not a sketch of it.

pub(crate) use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    thread::yield_now,
};

pub(crate) use crossbeam_queue::SegQueue as Queue;
pub(crate) use parking_lot::Mutex;

/// Slots of a slab's first chunk: 256 KiB of 64 bytes each. Chunks double until they have
/// [`CHUNK_MAX`] slots, so that a small table stays small and a large one lies in large pages.
pub(crate) const CHUNK_MIN: usize = 1 << 12;
/// Slots of the largest chunks: 16 MiB of 64 bytes each.
pub(crate) const CHUNK_MAX: usize = 1 << 18;
/// Groups of customers' limits that are swept one at a time; a power of two.
pub(crate) const LIMIT_GROUPS: usize = 1024;
/// Locks for removing keys; a power of two.
pub(crate) const KEY_REMOVERS: usize = 256;
/// Lists of the timer wheel.
pub(crate) const WHEEL_TICKS: usize = 16_384;

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
        if self.rounds <= 6 {
            for _ in 0..(1 << self.rounds) {
                std::hint::spin_loop();
            }
        } else {
            yield_now();
        }
    }
}
