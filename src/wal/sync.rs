//! The atomics, locks and threads of the log's lock-free core, named in one place.
//!
//! The core (`record`, `ring`, `room`, `signal`, `wait`, `append`) takes everything that one thread can
//! do to another from here, and imports its neighbours only through `super`. `model-checks/tests/wal_loom.rs`
//! compiles those same files against loom's versions of these names, so that the model checker runs
//! the code that ships and not a sketch of it.

pub use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU64, Ordering, fence},
    },
    thread::{Thread, current, park_timeout},
};

/// Locks, whatever became of the last holder: what these locks guard is valid at every step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
