//! Segments in memory, and the ring in which those who append find them without a lock.
//!
//! A segment's payload is seen as atomic words: a record is copied with relaxed stores and made to
//! exist by one release store of its first word. The ring holds the segments that may still be
//! written or walked; what lies wholly below the durable position is found through the table instead.

#![allow(unsafe_code)]

use std::sync::Arc;

use super::sync::{AtomicPtr, AtomicU64, Mutex, Ordering, lock};

/// The memory of a segment.
pub trait Memory: Send + Sync + 'static {
    /// The words of the payload.
    fn payload(&self) -> &[AtomicU64];
}

/// One segment of the log: `[base, base + payload)` of the positions.
#[derive(Debug)]
pub struct Segment<M> {
    /// Which one it is: its base divided by the payload's size.
    pub index: u64,
    /// The position of its first byte.
    pub base: u64,
    /// What seeds the checksums of this generation of the file.
    pub nonce: u64,
    /// Its memory.
    pub memory: M,
}

struct Slot<M> {
    pointer: AtomicPtr<Segment<M>>,
    keeper: Mutex<Option<Arc<Segment<M>>>>,
}

/// The segments that may still be written or walked, by index.
pub struct Ring<M> {
    slots: Box<[Slot<M>]>,
}

impl<M> Ring<M> {
    /// A ring with room for at least `segments`.
    pub fn new(segments: u64) -> Self {
        let slots = segments.next_power_of_two();
        let slot =
            || Slot { pointer: AtomicPtr::new(std::ptr::null_mut()), keeper: Mutex::new(None) };
        Self { slots: (0..slots).map(|_| slot()).collect() }
    }

    /// How many segments it holds at once.
    pub fn len(&self) -> u64 {
        self.slots.len() as u64
    }

    fn slot(&self, index: u64) -> &Slot<M> {
        &self.slots[index as usize & (self.slots.len() - 1)]
    }

    /// Shows a segment. The slot must be empty: see [`Ring::take_out`].
    pub fn put(&self, segment: Arc<Segment<M>>) {
        let slot = self.slot(segment.index);
        let mut keeper = lock(&slot.keeper);
        assert!(keeper.is_none(), "a slot of the ring is used once at a time");
        slot.pointer.store(Arc::as_ptr(&segment).cast_mut(), Ordering::Release);
        *keeper = Some(segment);
    }

    /// Takes a segment out, if it is in.
    ///
    /// # Safety
    /// Nobody may hold or obtain a reference from [`Ring::get`] to it: it lies wholly below the
    /// durable position, and the caller holds the lock of the walk.
    pub unsafe fn take_out(&self, index: u64) {
        let slot = self.slot(index);
        let mut keeper = lock(&slot.keeper);
        if keeper.as_ref().is_some_and(|segment| segment.index == index) {
            slot.pointer.store(std::ptr::null_mut(), Ordering::Release);
            *keeper = None;
        }
    }

    /// The segment with this index, if it is in.
    ///
    /// # Safety
    /// The segment must stay in the ring while the reference lives: the caller has claimed a record
    /// in it that is not published yet, or holds the lock of the walk.
    pub unsafe fn get(&self, index: u64) -> Option<&Segment<M>> {
        let pointer = self.slot(index).pointer.load(Ordering::Acquire);
        // SAFETY: a pointer in a slot comes from the `Arc` that the slot's keeper holds; the caller
        // vouches that it is not taken out meanwhile.
        unsafe { pointer.as_ref() }.filter(|segment| segment.index == index)
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;

    impl Memory for Vec<AtomicU64> {
        fn payload(&self) -> &[AtomicU64] {
            self
        }
    }

    #[test]
    fn a_slot_answers_for_its_own_index_only() {
        let ring: Ring<Vec<AtomicU64>> = Ring::new(3);
        assert_eq!(ring.len(), 4);
        let segment = Arc::new(Segment { index: 5, base: 0, nonce: 1, memory: Vec::new() });
        ring.put(segment.clone());
        // SAFETY: nothing is taken out while the references live.
        unsafe {
            assert_eq!(ring.get(5).unwrap().nonce, 1);
            assert!(ring.get(1).is_none() && ring.get(9).is_none());
            ring.take_out(1);
            assert!(ring.get(5).is_some());
            ring.take_out(5);
            assert!(ring.get(5).is_none());
        }
        assert_eq!(Arc::strong_count(&segment), 1);
    }
}
