//! What `src/ledger/sync.rs` names, loom's way: once as it is, and several times too weak. And
//! shuttle's way, for schedules that are too large to try all of them.
//!
//! Loom 0.7 decides what to try next by the last access to each atomic, and forgets that one thread
//! read it when another reads it too: where a compare-and-swap follows a load, as in every loop here,
//! the reader's side of the race is never tried, and a model that could fail runs once and passes. So
//! each atomic here has a companion that every access stores to and nobody reads: two stores always
//! count as a race, and a store that nobody reads orders nothing.

/// A lock, a queue and a way to wait, over one checker's locks. Loom and shuttle have no queue of their
/// own, and their locks answer with a `Result`.
macro_rules! locks {
    ($checker:ident) => {
        #[derive(Debug, Default)]
        pub struct Mutex<T>($checker::sync::Mutex<T>);

        impl<T> Mutex<T> {
            pub fn new(value: T) -> Self {
                Self($checker::sync::Mutex::new(value))
            }

            pub fn lock(&self) -> MutexGuard<'_, T> {
                self.0.lock().unwrap()
            }
        }

        #[derive(Debug)]
        pub struct Queue<T>(Mutex<VecDeque<T>>);

        impl<T> Queue<T> {
            pub fn new() -> Self {
                Self(Mutex::new(VecDeque::new()))
            }

            pub fn push(&self, value: T) {
                self.0.lock().push_back(value);
            }

            pub fn pop(&self) -> Option<T> {
                self.0.lock().pop_front()
            }

            pub fn len(&self) -> usize {
                self.0.lock().len()
            }
        }

        #[derive(Debug, Default)]
        pub struct Backoff {
            rounds: u32,
        }

        impl Backoff {
            pub fn wait(&mut self) {
                self.rounds += 1;
                yield_now();
            }
        }
    };
}

/// Names that all kinds have in common.
pub mod common {
    use std::collections::VecDeque;

    use loom::sync::atomic::{AtomicBool, Ordering};
    pub use loom::{sync::MutexGuard, thread::yield_now};

    macro_rules! atomic {
        ($name:ident, $of:ty) => {
            #[derive(Debug, Default)]
            pub struct $name {
                value: loom::sync::atomic::$name,
                touched: AtomicBool,
            }

            impl $name {
                pub fn new(value: $of) -> Self {
                    let value = loom::sync::atomic::$name::new(value);
                    Self { value, touched: AtomicBool::new(false) }
                }

                fn touch(&self) -> &loom::sync::atomic::$name {
                    self.touched.store(true, Ordering::Relaxed);
                    &self.value
                }

                pub fn load(&self, order: Ordering) -> $of {
                    self.touch().load(order)
                }

                pub fn store(&self, value: $of, order: Ordering) {
                    self.touch().store(value, order);
                }

                pub fn swap(&self, value: $of, order: Ordering) -> $of {
                    self.touch().swap(value, order)
                }

                pub fn fetch_add(&self, value: $of, order: Ordering) -> $of {
                    self.touch().fetch_add(value, order)
                }

                pub fn fetch_sub(&self, value: $of, order: Ordering) -> $of {
                    self.touch().fetch_sub(value, order)
                }

                pub fn fetch_max(&self, value: $of, order: Ordering) -> $of {
                    self.touch().fetch_max(value, order)
                }

                pub fn compare_exchange(
                    &self,
                    now: $of,
                    new: $of,
                    done: Ordering,
                    failed: Ordering,
                ) -> Result<$of, $of> {
                    self.touch().compare_exchange(now, new, done, failed)
                }

                pub fn compare_exchange_weak(
                    &self,
                    now: $of,
                    new: $of,
                    done: Ordering,
                    failed: Ordering,
                ) -> Result<$of, $of> {
                    self.touch().compare_exchange_weak(now, new, done, failed)
                }
            }
        };
    }

    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);

    pub const CHUNK_MIN: usize = 4;
    pub const CHUNK_MAX: usize = 8;
    pub const LIMIT_GROUPS: usize = 1;
    pub const KEY_REMOVERS: usize = 1;
    pub const WHEEL_TICKS: usize = 4;

    locks!(loom);
}

pub mod sound {
    pub use super::common::*;
    pub use loom::sync::atomic::{Ordering, fence};
}

pub mod weak {
    pub use super::{common::*, unfenced::fence};
    use loom::sync::atomic::Ordering as Real;

    pub struct Ordering;

    #[allow(non_upper_case_globals)]
    impl Ordering {
        pub const Relaxed: Real = Real::Relaxed;
        pub const Acquire: Real = Real::Relaxed;
        pub const Release: Real = Real::Release;
        pub const AcqRel: Real = Real::Release;
    }
}

pub mod unfenced {
    pub use super::common::*;
    pub use loom::sync::atomic::Ordering;

    /// Orders nothing.
    pub fn fence(_: Ordering) {}
}

pub mod shuttled {
    use std::collections::VecDeque;

    pub use shuttle::{
        sync::{
            MutexGuard,
            atomic::{AtomicU32, AtomicU64, Ordering, fence},
        },
        thread::yield_now,
    };

    pub use super::common::{CHUNK_MAX, CHUNK_MIN, KEY_REMOVERS, LIMIT_GROUPS, WHEEL_TICKS};

    locks!(shuttle);
}
