//! Those who wait for a position to be passed: asleep in a list, woken all at once.
//!
//! A waiter that is dropped leaves its waker behind; it goes with the next group that passes its
//! position, so the list is bounded by the records that are waited for.

use std::task::Waker;

use crossbeam_utils::CachePadded;

use super::sync::{AtomicU64, Mutex, Ordering, fence, lock};

type Shard = CachePadded<Mutex<Vec<(u64, Waker)>>>;

/// The waiters for one kind of progress.
pub struct Waiters {
    shards: Box<[Shard]>,
    waiting: CachePadded<AtomicU64>,
}

impl Waiters {
    /// Nobody waits yet. `shards` is a power of two.
    pub fn new(shards: usize) -> Self {
        assert!(shards.is_power_of_two());
        Self {
            shards: (0..shards).map(|_| CachePadded::new(Mutex::new(Vec::new()))).collect(),
            waiting: CachePadded::new(AtomicU64::new(0)),
        }
    }

    fn shard(&self, position: u64) -> &Mutex<Vec<(u64, Waker)>> {
        &self.shards[(position >> 3) as usize & (self.shards.len() - 1)]
    }

    /// Has `waker` woken once `position` is passed; returns false, and may leave the waker in, if
    /// `passed` says that it has been already.
    pub fn register(&self, position: u64, waker: Waker, passed: impl FnOnce() -> bool) -> bool {
        let mut shard = lock(self.shard(position));
        shard.push((position, waker));
        self.waiting.fetch_add(1, Ordering::Relaxed);
        drop(shard);
        // Whoever moves the position stores it and then looks whether anybody waits; the fences let
        // at least one of us see the other.
        fence(Ordering::SeqCst);
        !passed()
    }

    /// Wakes all who wait for something below `position`, which must have been stored where
    /// `register`'s `passed` looks. `scratch` is kept by the caller to save an allocation.
    pub fn wake_below(&self, position: u64, scratch: &mut Vec<Waker>) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        for shard in &self.shards {
            let mut list = lock(shard);
            let before = list.len();
            let mut at = 0;
            while at < list.len() {
                if list[at].0 < position {
                    scratch.push(list.swap_remove(at).1);
                } else {
                    at += 1;
                }
            }
            self.waiting.fetch_sub((before - list.len()) as u64, Ordering::Relaxed);
        }
        scratch.drain(..).for_each(Waker::wake);
    }

    /// Wakes everyone.
    pub fn wake_all(&self) {
        self.wake_below(u64::MAX, &mut Vec::new());
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn those_below_are_woken_and_the_others_are_not() {
        let waiters = Waiters::new(4);
        let count = Arc::new(Count(AtomicUsize::new(0)));
        for position in 0..100 {
            assert!(waiters.register(position * 8, count.clone().into(), || false));
        }
        assert!(!waiters.register(8, count.clone().into(), || true));
        waiters.wake_below(80, &mut Vec::new());
        assert_eq!(count.0.load(Ordering::Relaxed), 11);
        waiters.wake_below(80, &mut Vec::new());
        assert_eq!(count.0.load(Ordering::Relaxed), 11);
        waiters.wake_all();
        assert_eq!(count.0.load(Ordering::Relaxed), 101);
    }
}
