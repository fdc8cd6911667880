//! Numbered slots of one type, in chunks that are made when first needed and never move or go away:
//! a reference stays good for the slab's life, so readers need no lock. What a slot means is its
//! user's business (its fields are atomics).

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

use super::{
    memory::block,
    sync::{CHUNK_MAX, CHUNK_MIN, Queue},
};

/// Chunks until the largest: the first, and its doublings.
const DOUBLINGS: usize = (CHUNK_MAX / CHUNK_MIN).ilog2() as usize + 1;

/// The chunk of a slot, and where in it.
fn place(slot: usize) -> (usize, usize) {
    if slot >= CHUNK_MAX {
        let beyond = slot - CHUNK_MAX;
        return (DOUBLINGS + beyond / CHUNK_MAX, beyond % CHUNK_MAX);
    }
    match (slot / CHUNK_MIN).checked_ilog2() {
        None => (0, slot),
        Some(doubling) => (doubling as usize + 1, slot - (CHUNK_MIN << doubling)),
    }
}

/// Slots of a chunk.
fn chunk_slots(chunk: usize) -> usize {
    match chunk {
        0 => CHUNK_MIN,
        1..DOUBLINGS => CHUNK_MIN << (chunk - 1),
        _ => CHUNK_MAX,
    }
}

/// No slot: the end of a chain.
pub const NONE: u32 = u32::MAX;

/// Slots of `T`, at most a fixed number of them.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Box<[OnceLock<Box<[T]>>]>,
    slots_max: u32,
    /// Slots below it have been handed out at least once.
    fresh: AtomicU32,
    free: Queue<u32>,
    used: AtomicU32,
}

impl<T: Default> Slab<T> {
    /// An empty slab for at most `slots_max` slots.
    pub fn new(slots_max: u32) -> Self {
        let slots_max = slots_max.min(NONE - CHUNK_MAX as u32);
        let chunks = place(slots_max as usize).0 + 1;
        Self {
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
            slots_max,
            fresh: AtomicU32::new(0),
            free: Queue::new(),
            used: AtomicU32::new(0),
        }
    }

    fn make(&self, slot: u32) -> Option<&T> {
        let (chunk, at) = place(slot as usize);
        self.chunks.get(chunk)?.get_or_init(|| block(chunk_slots(chunk))).get(at)
    }

    /// The slot, if one of that number was ever handed out.
    pub fn get(&self, slot: u32) -> Option<&T> {
        let (chunk, at) = place(slot as usize);
        self.chunks.get(chunk)?.get()?.get(at)
    }

    /// A slot for use, or `None` if all are.
    pub fn take(&self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            self.used.fetch_add(1, Ordering::Relaxed);
            return Some(slot);
        }
        let slot = self.fresh.fetch_add(1, Ordering::Relaxed);
        if slot >= self.slots_max {
            self.fresh.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.make(slot)?;
        self.used.fetch_add(1, Ordering::Relaxed);
        Some(slot)
    }

    /// Gives a slot back. The caller has made sure that nothing points at it any more.
    pub fn put(&self, slot: u32) {
        self.used.fetch_sub(1, Ordering::Relaxed);
        self.free.push(slot);
    }

    /// The slot of that number, made if need be; for replay, which repeats what was handed out.
    /// `None` if it is beyond the slab's limit.
    pub fn claim(&self, slot: u32) -> Option<&T> {
        if slot >= self.slots_max {
            return None;
        }
        self.fresh.fetch_max(slot + 1, Ordering::Relaxed);
        self.make(slot)
    }

    /// After replay: every slot below the highest claimed one that is not in use is free.
    pub fn rebuild(&self, in_use: impl Fn(&T) -> bool) {
        while self.free.pop().is_some() {}
        let mut used = 0;
        for slot in 0..self.fresh() {
            if self.claim(slot).is_some_and(&in_use) {
                used += 1;
            } else {
                self.free.push(slot);
            }
        }
        self.used.store(used, Ordering::Relaxed);
    }

    /// Slots below it have been handed out at least once.
    pub fn fresh(&self) -> u32 {
        self.fresh.load(Ordering::Relaxed).min(self.slots_max)
    }

    /// Slots in use.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most slots it can have.
    pub fn slots_max(&self) -> u32 {
        self.slots_max
    }
}

#[cfg(all(test, not(feature = "model-check")))]
mod tests {
    use super::*;

    #[test]
    fn slots_are_handed_out_once_and_again_after_they_came_back() {
        let slab = Slab::<AtomicU32>::new(3);
        let all: Vec<_> = std::iter::from_fn(|| slab.take()).collect();
        assert_eq!(all, [0, 1, 2]);
        assert_eq!(slab.take(), None);
        slab.put(1);
        assert_eq!((slab.used(), slab.take(), slab.take()), (2, Some(1), None));
    }

    #[test]
    fn chunks_follow_each_other_without_a_gap() {
        let mut expected = (0, 0);
        for slot in 0..3 * CHUNK_MAX {
            assert_eq!(place(slot), expected, "{slot}");
            expected.1 += 1;
            if expected.1 == chunk_slots(expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
    }

    #[test]
    fn replay_claims_slots_by_number() {
        let slab = Slab::<AtomicU32>::new(10_000);
        slab.claim(9_000).unwrap().store(7, Ordering::Relaxed);
        assert!(slab.claim(10_000).is_none());
        slab.rebuild(|slot| slot.load(Ordering::Relaxed) == 7);
        assert_eq!(slab.used(), 1);
        let handed: std::collections::HashSet<_> = (0..9_999).map_while(|_| slab.take()).collect();
        assert_eq!(handed.len(), 9_999);
        assert!(!handed.contains(&9_000));
    }
}
