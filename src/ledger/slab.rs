//! Numbered slots of one type, in chunks that are made when first needed and never move or go away:
//! a reference stays good for the slab's life, so readers need no lock. What a slot means is its
//! user's business (its fields are atomics).
//!
//! New slots are handed out from blocks, one for each stripe of threads: two threads that fill slots at
//! the same time then write to pages of their own, and share a counter only once a block.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use crossbeam_utils::CachePadded;

use super::{
    memory::block,
    stripe::{STRIPES, stripe},
    sync::{CHUNK_MAX, CHUNK_MIN, Queue},
};

/// Slots that a stripe takes at a time: a page of slots of 64 bytes.
const BLOCK_SLOTS: u32 = 64;

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

const NEXT_ONE: u64 = 1 << 32;

/// The next slot of a block.
fn next_of(block: u64) -> u32 {
    (block >> 32) as u32
}

/// The slot after a block's last.
fn end_of(block: u64) -> u32 {
    block as u32
}

/// No slot: the end of a chain.
pub const NONE: u32 = u32::MAX;

/// Slots of `T`, at most a fixed number of them.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Box<[OnceLock<Box<[T]>>]>,
    slots_max: u32,
    /// Slots below it belong to a block or have been handed out.
    fresh: CachePadded<AtomicU32>,
    /// What is left of each stripe's block: `next << 32 | end`.
    blocks: [CachePadded<AtomicU64>; STRIPES],
    free: Queue<u32>,
}

impl<T: Default> Slab<T> {
    /// An empty slab for at most `slots_max` slots.
    pub fn new(slots_max: u32) -> Self {
        let slots_max = slots_max.min(NONE - CHUNK_MAX as u32);
        let chunks = place(slots_max as usize).0 + 1;
        Self {
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
            slots_max,
            fresh: CachePadded::default(),
            blocks: Default::default(),
            free: Queue::new(),
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

    /// A slot for use, in no particular order, or `None` if all are. What is to be numbered without a
    /// gap uses [`Self::claim`] and not this.
    pub fn take(&self) -> Option<u32> {
        let slot = self.free.pop().or_else(|| self.take_fresh())?;
        self.make(slot)?;
        Some(slot)
    }

    fn take_fresh(&self) -> Option<u32> {
        let mine = stripe();
        loop {
            if let Some(slot) = self.take_from(mine) {
                return Some(slot);
            }
            if !self.refill(mine) {
                // Others may have some left in their blocks: the last slot counts, too.
                return (0..STRIPES).find_map(|other| self.take_from(other));
            }
        }
    }

    fn take_from(&self, stripe: usize) -> Option<u32> {
        let take = |word: u64| (next_of(word) < end_of(word)).then(|| word + NEXT_ONE);
        let taken = self.blocks[stripe].fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.ok().map(next_of)
    }

    /// Gives a stripe whose block is used up the next one; `false` if there is none.
    fn refill(&self, stripe: usize) -> bool {
        let before = self.blocks[stripe].load(Ordering::Relaxed);
        if next_of(before) < end_of(before) {
            return true;
        }
        let more = |fresh: u32| {
            (fresh < self.slots_max).then(|| (fresh + BLOCK_SLOTS).min(self.slots_max))
        };
        let Ok(begin) = self.fresh.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) else {
            return false;
        };
        let end = (begin + BLOCK_SLOTS).min(self.slots_max);
        let block = (u64::from(begin) << 32) | u64::from(end);
        let (ok, err) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.blocks[stripe].compare_exchange(before, block, ok, err).is_err() {
            // Another thread of the stripe was first.
            (begin..end).for_each(|slot| self.free.push(slot));
        }
        true
    }

    /// Makes the chunks that will be needed next, before who needs a slot has to: as many slots ahead
    /// as were handed out, at most a large chunk's, and in any case the first `least`.
    pub fn make_ahead(&self, least: u32) {
        let fresh = self.fresh();
        let ahead = fresh.saturating_add(fresh.min(CHUNK_MAX as u32)).max(least);
        let last = ahead.min(self.slots_max.saturating_sub(1));
        for chunk in place(fresh.min(last) as usize).0..=place(last as usize).0 {
            if let Some(cell) = self.chunks.get(chunk) {
                cell.get_or_init(|| block(chunk_slots(chunk)));
            }
        }
    }

    /// Gives a slot back. The caller has made sure that nothing points at it any more.
    pub fn put(&self, slot: u32) {
        self.free.push(slot);
    }

    /// The slot of that number, made if need be; for replay, which repeats what was handed out, and for
    /// what is numbered one after the other (at [`Self::fresh`], one caller at a time).
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
        self.blocks.iter().for_each(|block| block.store(0, Ordering::Relaxed));
        for slot in 0..self.fresh() {
            if !self.claim(slot).is_some_and(&in_use) {
                self.free.push(slot);
            }
        }
    }

    /// Slots at or above it have never been handed out.
    pub fn fresh(&self) -> u32 {
        self.fresh.load(Ordering::Relaxed).min(self.slots_max)
    }

    /// Slots in use; while they are taken and given back, about so many.
    pub fn used(&self) -> u32 {
        let left = |block: &CachePadded<AtomicU64>| {
            let word = block.load(Ordering::Relaxed);
            end_of(word).saturating_sub(next_of(word))
        };
        let unused = self.blocks.iter().map(left).sum::<u32>() + self.free.len() as u32;
        self.fresh().saturating_sub(unused)
    }

    /// The most slots it can have.
    pub fn slots_max(&self) -> u32 {
        self.slots_max
    }
}

#[cfg(all(test, not(model_check)))]
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
    fn many_threads_get_every_slot_once_and_the_last_one_too() {
        let slab = Slab::<AtomicU32>::new(10_007);
        let taken: Vec<u32> = std::thread::scope(|scope| {
            let take_all = || std::iter::from_fn(|| slab.take()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..STRIPES + 3).map(|_| scope.spawn(take_all)).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        let each: std::collections::HashSet<_> = taken.iter().collect();
        assert_eq!((taken.len(), each.len(), slab.used()), (10_007, 10_007, 10_007));
        taken.iter().for_each(|slot| slab.put(*slot));
        assert_eq!(slab.used(), 0);
    }

    #[test]
    fn the_next_chunks_are_made_ahead_and_an_empty_slab_stays_small() {
        let slab = Slab::<AtomicU32>::new(3 * CHUNK_MAX as u32);
        let made = || slab.chunks.iter().filter(|c| c.get().is_some()).count();
        slab.make_ahead(0);
        assert_eq!(made(), 1);
        (0..CHUNK_MAX).for_each(|_| assert!(slab.take().is_some()));
        let before = made();
        slab.make_ahead(0);
        assert_eq!(made(), before + 2);
        slab.make_ahead(u32::MAX);
        assert_eq!(made(), DOUBLINGS + 2);
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
