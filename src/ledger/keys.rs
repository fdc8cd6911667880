//! Idempotency: what became of every request that had a key.
//!
//! # What it promises
//!
//! - Of several requests with one key, one gets the [`Claim`]; the others find its twin in flight or
//!   its outcome.
//! - [`Keys::find`] takes no lock and writes nothing: a sold-out answer costs a look-up, not more.
//! - A key is never forgotten to make room: a full table refuses ([`Begin::Full`]).
//! - A claim that is dropped without an outcome leaves no trace: refusals are not remembered.
//!
//! # How
//!
//! Buckets are heads of chains through slots. A head packs a tag with the first slot; every insert
//! and every removal changes the tag, so a compare-and-swap of the head proves that the chain that
//! was searched is still the chain (no key twice), and a reader that finds the head unchanged knows
//! that what it read belonged together. (A reader would have to be put off for a multiple of 2^24
//! changes of its very bucket to be wrong.) Inserting is lock-free; removing takes the bucket group's
//! lock, so that there is one remover at a time.
//!
//! A head also has a filter of eight bits, one of which each key of the chain sets: most new keys are
//! seen to be new without a look at the chain, each step of which waits for memory.
//!
//! Keys are kept as keyed 128-bit hashes of (partner, key) with a keyed 64-bit fingerprint of route
//! and body.

use super::{
    memory::{filled, prefetch},
    slab::{NONE, Slab},
    sync::{AtomicU32, AtomicU64, KEY_REMOVERS as REMOVERS, Mutex, Ordering, fence},
};
use crate::model::event::KeyRef;

const VACANT: u32 = 0;
const IN_FLIGHT: u32 = 1;
const DONE: u32 = 2;

/// What became of a request: enough to give the first answer again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The kind of the record that it wrote.
    pub kind: u8,
    /// The record's position.
    pub lsn: u64,
    /// The slot of the reservation or position that it was about.
    pub slot: u32,
    /// What else the answer needs: a deadline, a reservation's position.
    pub aux: u64,
    /// Milliseconds since the epoch after which the key may be forgotten.
    pub expires_ms: u64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Entry {
    hash: [AtomicU64; 2],
    fingerprint: AtomicU64,
    lsn: AtomicU64,
    aux: AtomicU64,
    /// `expires_ms << 8 | kind`.
    expires_kind: AtomicU64,
    next: AtomicU32,
    slot: AtomicU32,
    phase: AtomicU32,
}

impl Entry {
    fn is(&self, hash: [u64; 2]) -> bool {
        self.hash[0].load(Ordering::Relaxed) == hash[0]
            && self.hash[1].load(Ordering::Relaxed) == hash[1]
    }

    fn read(&self) -> (u32, u64, Outcome) {
        let phase = self.phase.load(Ordering::Acquire);
        let expires_kind = self.expires_kind.load(Ordering::Relaxed);
        let outcome = Outcome {
            kind: expires_kind as u8,
            lsn: self.lsn.load(Ordering::Relaxed),
            slot: self.slot.load(Ordering::Relaxed),
            aux: self.aux.load(Ordering::Relaxed),
            expires_ms: expires_kind >> 8,
        };
        (phase, self.fingerprint.load(Ordering::Relaxed), outcome)
    }

    fn write(&self, outcome: &Outcome) {
        self.lsn.store(outcome.lsn, Ordering::Relaxed);
        self.slot.store(outcome.slot, Ordering::Relaxed);
        self.aux.store(outcome.aux, Ordering::Relaxed);
        let expires_kind = (outcome.expires_ms << 8) | u64::from(outcome.kind);
        self.expires_kind.store(expires_kind, Ordering::Relaxed);
        self.phase.store(DONE, Ordering::Release);
    }
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A request with it is being decided.
    InFlight,
    /// A request with it was done.
    Done(Outcome),
    /// It was used for something else, by the record at this position.
    Reused(u64),
}

/// What beginning a request finds.
#[derive(Debug)]
pub enum Begin<'a> {
    /// The key is this request's.
    Claimed(Claim<'a>),
    /// Another request has it; see [`Found`].
    Taken(Found),
    /// The table is full.
    Full,
}

/// The right to decide a request. Dropped without [`Claim::finish`], the key is free again.
#[derive(Debug)]
pub struct Claim<'a> {
    keys: &'a Keys,
    bucket: usize,
    entry: u32,
}

impl Claim<'_> {
    /// The request was done; repeats get this outcome from now on.
    pub fn finish(self, outcome: &Outcome) {
        if let Some(entry) = self.keys.entries.get(self.entry) {
            entry.write(outcome);
        }
        std::mem::forget(self);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.keys.remove(self.bucket, self.entry, |_| true);
    }
}

/// `tag << 40 | filter << 32 | slot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head(u64);

impl Head {
    const EMPTY: Self = Self(NONE as u64);
    const TAG_ONE: u64 = 1 << 40;

    fn slot(self) -> u32 {
        self.0 as u32
    }

    /// The bit that a key sets in the filter.
    fn bit(hash: [u64; 2]) -> u64 {
        1 << (32 + (hash[1] >> 61))
    }

    fn may_have(self, hash: [u64; 2]) -> bool {
        self.0 & Self::bit(hash) != 0
    }

    /// With another first slot and the next tag. The filter goes when the chain does; until then it
    /// may keep the bits of keys that were removed.
    fn then(self, slot: u32) -> Self {
        let tag = self.0.wrapping_add(Self::TAG_ONE) >> 40 << 40;
        let filter = if slot == NONE { 0 } else { self.0 & (0xff << 32) };
        Self(tag | filter | u64::from(slot))
    }

    fn with(self, key: &KeyRef) -> Self {
        Self(self.0 | Self::bit(key.hash))
    }
}

/// The table of keys.
#[derive(Debug)]
pub struct Keys {
    heads: Box<[AtomicU64]>,
    entries: Slab<Entry>,
    removing: Box<[Mutex<()>]>,
}

impl Keys {
    /// Room for at most `keys_max` keys.
    pub fn new(keys_max: u32) -> Self {
        let buckets = (keys_max as usize).next_power_of_two().max(2);
        Self {
            heads: filled(buckets, || AtomicU64::new(Head::EMPTY.0)),
            entries: Slab::new(keys_max),
            removing: (0..REMOVERS).map(|_| Mutex::new(())).collect(),
        }
    }

    fn bucket(&self, hash: [u64; 2]) -> usize {
        hash[0] as usize & (self.heads.len() - 1)
    }

    fn load(&self, bucket: usize) -> Head {
        Head(self.heads[bucket].load(Ordering::Acquire))
    }

    fn swap(&self, bucket: usize, before: Head, after: Head) -> bool {
        self.heads[bucket]
            .compare_exchange(before.0, after.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether the head is still what it was when what was read since was read.
    fn is_still(&self, bucket: usize, before: Head) -> bool {
        fence(Ordering::Acquire);
        self.heads[bucket].load(Ordering::Relaxed) == before.0
    }

    /// Searches a chain from its head on; the answer counts only if the head is still the same.
    fn search(&self, from: Head, hash: [u64; 2]) -> Option<&Entry> {
        if !from.may_have(hash) {
            return None;
        }
        let mut slot = from.slot();
        // A chain that changes while it is read may lead anywhere, even in a circle: the bound only
        // serves to come back to the head, which will have changed.
        for _ in 0..self.entries.slots_max() {
            let entry = self.entries.get(slot)?;
            if entry.is(hash) {
                return Some(entry);
            }
            slot = entry.next.load(Ordering::Acquire);
        }
        None
    }

    fn verdict(entry: &Entry, key: &KeyRef) -> Found {
        let (phase, fingerprint, outcome) = entry.read();
        match phase {
            DONE if fingerprint != key.fingerprint => Found::Reused(outcome.lsn),
            DONE => Found::Done(outcome),
            // Whatever it is used for: it may yet be refused, and the key free again.
            _ => Found::InFlight,
        }
    }

    /// Begins to fetch what a look-up of the key will touch, so that its wait for memory passes
    /// together with others'.
    pub fn warm(&self, hash: [u64; 2]) {
        prefetch(&self.heads[self.bucket(hash)]);
    }

    /// Whether anything is known of a key. Takes no lock and writes nothing.
    pub fn has(&self, hash: [u64; 2]) -> bool {
        let bucket = self.bucket(hash);
        loop {
            let before = self.load(bucket);
            let found = self.search(before, hash).is_some();
            if self.is_still(bucket, before) {
                return found;
            }
        }
    }

    /// What is known of a key. Takes no lock and writes nothing.
    pub fn find(&self, key: &KeyRef) -> Found {
        let bucket = self.bucket(key.hash);
        loop {
            let before = self.load(bucket);
            let found =
                self.search(before, key.hash).map_or(Found::Nothing, |e| Self::verdict(e, key));
            if self.is_still(bucket, before) {
                return found;
            }
        }
    }

    /// Claims a key for a request, or says what is known of it.
    pub fn begin(&self, key: &KeyRef) -> Begin<'_> {
        let bucket = self.bucket(key.hash);
        let mut mine = None;
        loop {
            let before = self.load(bucket);
            if let Some(entry) = self.search(before, key.hash) {
                let found = Self::verdict(entry, key);
                if !self.is_still(bucket, before) {
                    continue;
                }
                if let Some(slot) = mine {
                    self.entries.put(slot);
                }
                return Begin::Taken(found);
            }
            let Some(slot) = mine.or_else(|| self.fill(key)) else { return Begin::Full };
            mine = Some(slot);
            if self.push(bucket, before, slot, key) {
                return Begin::Claimed(Claim { keys: self, bucket, entry: slot });
            }
        }
    }

    fn fill(&self, key: &KeyRef) -> Option<u32> {
        let slot = self.entries.take()?;
        let entry = self.entries.get(slot)?;
        // Whoever still reads this slot through its old chain, and sees any of the stores below,
        // then sees that chain's head changed.
        fence(Ordering::Release);
        entry.phase.store(IN_FLIGHT, Ordering::Relaxed);
        entry.hash[0].store(key.hash[0], Ordering::Relaxed);
        entry.hash[1].store(key.hash[1], Ordering::Relaxed);
        entry.fingerprint.store(key.fingerprint, Ordering::Relaxed);
        Some(slot)
    }

    fn push(&self, bucket: usize, before: Head, slot: u32, key: &KeyRef) -> bool {
        let Some(entry) = self.entries.get(slot) else { return false };
        entry.next.store(before.slot(), Ordering::Release);
        self.swap(bucket, before, before.then(slot).with(key))
    }

    /// Removes a slot from its chain if, seen under the lock, it is `still` the right one.
    fn remove(&self, bucket: usize, slot: u32, still: impl Fn(&Entry) -> bool) -> bool {
        let _one = self.removing[bucket & (REMOVERS - 1)].lock();
        let Some(entry) = self.entries.get(slot).filter(|e| still(e)) else { return false };
        if !self.unlink(bucket, slot) {
            return false;
        }
        entry.phase.store(VACANT, Ordering::Release);
        self.entries.put(slot);
        true
    }

    /// Takes a slot out of its chain and changes the head. Under the bucket group's lock.
    fn unlink(&self, bucket: usize, slot: u32) -> bool {
        let Some(entry) = self.entries.get(slot) else { return false };
        loop {
            let before = self.load(bucket);
            let next = entry.next.load(Ordering::Acquire);
            if before.slot() == slot {
                if self.swap(bucket, before, before.then(next)) {
                    return true;
                }
            } else if self.bypass(before.slot(), slot, next) {
                // Only inserts can come between now; what was bypassed stays bypassed.
                self.retag(bucket);
                return true;
            } else {
                return false;
            }
        }
    }

    fn retag(&self, bucket: usize) {
        loop {
            let before = self.load(bucket);
            if self.swap(bucket, before, before.then(before.slot())) {
                return;
            }
        }
    }

    /// Makes the slot's predecessor in the chain point past it.
    fn bypass(&self, first: u32, slot: u32, next: u32) -> bool {
        let mut at = first;
        while let Some(entry) = self.entries.get(at) {
            let following = entry.next.load(Ordering::Acquire);
            if following == slot {
                entry.next.store(next, Ordering::Release);
                return true;
            }
            at = following;
        }
        false
    }

    /// Replay: a key and what became of it. A key that is there already gets the new outcome: the
    /// old one had expired. `false`: the table is full.
    pub fn restore(&self, key: &KeyRef, outcome: &Outcome) -> bool {
        match self.begin(key) {
            Begin::Claimed(claim) => claim.finish(outcome),
            Begin::Taken(_) => {
                let head = self.load(self.bucket(key.hash));
                if let Some(entry) = self.search(head, key.hash) {
                    entry.fingerprint.store(key.fingerprint, Ordering::Relaxed);
                    entry.write(outcome);
                }
            }
            Begin::Full => return false,
        }
        true
    }

    /// Forgets keys whose time is over and that `closed` lets go, among the slots of the range.
    /// Returns how many.
    pub fn sweep(
        &self,
        slots: std::ops::Range<u32>,
        now_ms: u64,
        closed: impl Fn(&Outcome) -> bool,
    ) -> u32 {
        let mut forgotten = 0;
        for slot in slots {
            let Some(entry) = self.entries.get(slot) else { break };
            let (phase, _, outcome) = entry.read();
            if phase != DONE || outcome.expires_ms > now_ms || !closed(&outcome) {
                continue;
            }
            let hash = [0, 1].map(|i| entry.hash[i].load(Ordering::Relaxed));
            let still = |e: &Entry| e.is(hash) && e.phase.load(Ordering::Acquire) == DONE;
            forgotten += u32::from(self.remove(self.bucket(hash), slot, still));
        }
        forgotten
    }

    /// Slots that [`Self::sweep`] may be asked for.
    pub fn slots(&self) -> u32 {
        self.entries.fresh()
    }

    /// Keys known.
    pub fn len(&self) -> u32 {
        self.entries.used()
    }

    /// Makes memory for what comes next; see [`Slab::make_ahead`].
    pub fn make_ahead(&self, least: u32) {
        self.entries.make_ahead(least);
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(model_check)))]
mod tests {
    use super::*;

    fn key(n: u64, fingerprint: u64) -> KeyRef {
        KeyRef { hash: [n, n ^ 7], fingerprint }
    }

    fn outcome(lsn: u64) -> Outcome {
        Outcome { kind: 5, lsn, slot: 3, aux: 9, expires_ms: 100 }
    }

    #[test]
    fn one_request_gets_the_claim_and_repeats_its_outcome() {
        let keys = Keys::new(8);
        assert_eq!(keys.find(&key(1, 1)), Found::Nothing);
        let Begin::Claimed(claim) = keys.begin(&key(1, 1)) else { panic!() };
        assert!(matches!(keys.begin(&key(1, 1)), Begin::Taken(Found::InFlight)));
        assert_eq!(keys.find(&key(1, 2)), Found::InFlight);
        claim.finish(&outcome(8));
        assert_eq!(keys.find(&key(1, 1)), Found::Done(outcome(8)));
        assert_eq!(keys.find(&key(1, 2)), Found::Reused(8));
        assert!(matches!(keys.begin(&key(1, 1)), Begin::Taken(Found::Done(_))));
    }

    #[test]
    fn a_refused_request_leaves_no_trace_and_a_full_table_refuses() {
        let keys = Keys::new(2);
        drop(keys.begin(&key(1, 1)));
        assert_eq!((keys.find(&key(1, 1)), keys.len()), (Found::Nothing, 0));
        let a = keys.begin(&key(1, 1));
        let b = keys.begin(&key(3, 1));
        assert!(matches!(keys.begin(&key(5, 1)), Begin::Full));
        drop((a, b));
        assert!(matches!(keys.begin(&key(5, 1)), Begin::Claimed(_)));
    }

    #[test]
    fn keys_are_swept_when_their_time_is_over_and_what_they_made_is_closed() {
        let keys = Keys::new(64);
        for n in 0..64 {
            assert!(keys.restore(&key(n, n), &outcome(n * 8)));
        }
        assert_eq!(keys.sweep(0..keys.slots(), 99, |_| true), 0);
        assert_eq!(keys.sweep(0..keys.slots(), 100, |o| o.lsn < 80), 10);
        assert_eq!(keys.len(), 54);
        for n in 0..64 {
            assert_eq!(keys.find(&key(n, n)) == Found::Nothing, n < 10, "{n}");
        }
    }

    #[test]
    fn many_threads_insert_and_remove_in_few_buckets() {
        let keys = Keys::new(16);
        std::thread::scope(|scope| {
            for t in 0..4 {
                let keys = &keys;
                scope.spawn(move || {
                    for i in 0..20_000_u64 {
                        let k = key(i % 5, 1);
                        match keys.begin(&k) {
                            Begin::Claimed(claim) if (i + t) % 3 == 0 => {
                                claim.finish(&outcome(i));
                                keys.sweep(0..16, 100, |_| true);
                            }
                            Begin::Claimed(claim) => drop(claim),
                            Begin::Taken(_) | Begin::Full => {}
                        }
                        keys.find(&k);
                    }
                });
            }
        });
        keys.sweep(0..16, 100, |_| true);
        assert_eq!(keys.len(), 0);
        assert!((0..5).all(|n| keys.find(&key(n, 1)) == Found::Nothing));
    }
}
