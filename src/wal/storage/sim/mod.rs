//! A disk that forgets: what is in memory and what would survive a loss of power, kept apart.
//!
//! It can, by seed: lose any subset of unsynced pages, tear a page at its 512-byte sectors, lose
//! unsynced renames, creations and removals, flip bits, fail the n-th sync (after which the lost pages
//! count as clean, as Linux does it), run out of space, and be slow. Only for tests.

mod inode;
mod names;
mod random;
mod seam;

use std::{
    sync::{Arc, Mutex, MutexGuard, atomic::Ordering},
    time::Duration,
};

use inode::{Inode, PAGE_WORDS};
use names::{Copies, NameChange, State};
pub use random::Random;
pub use seam::{SimReader, SimSegment, SimWriter};

/// The simulated disk.
#[derive(Debug, Clone, Default)]
pub struct SimStorage {
    state: Arc<Mutex<State>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl SimStorage {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The `n`-th sync from now on fails (0: the next).
    pub fn fail_sync(&self, n: u64) {
        let mut state = lock(&self.state);
        state.sync_fails_at = Some(state.syncs + n);
    }

    /// Syncs so far, of anything.
    pub fn syncs(&self) -> u64 {
        lock(&self.state).syncs
    }

    /// The disk has so many bytes in all; `None` is no limit.
    pub fn set_space(&self, bytes: Option<u64>) {
        lock(&self.state).space_bytes = bytes;
    }

    /// Every making of a segment takes so long.
    pub fn set_make_delay(&self, delay: Duration) {
        lock(&self.state).make_delay = delay;
    }

    /// Every sync of segment memory takes so long.
    pub fn set_sync_delay(&self, delay: Duration) {
        lock(&self.state).sync_delay = delay;
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        lock(&self.state).used()
    }

    /// Flips bits of a byte of a segment's payload, in memory and on the disk.
    pub fn flip(&self, name: &str, offset: u64, bits: u8) {
        let state = lock(&self.state);
        let Some(Inode::Segment(data)) = state.live.get(name) else {
            panic!("{name} is no segment");
        };
        let mask = u64::from(bits) << (offset % 8 * 8);
        data.live[offset as usize / 8].fetch_xor(mask, Ordering::Relaxed);
        lock(&data.disk).words[offset as usize / 8] ^= mask;
    }

    /// Flips bits of a byte of a segment's header, in memory and on the disk.
    pub fn flip_header(&self, name: &str, offset: u64, bits: u8) {
        let state = lock(&self.state);
        let Some(Inode::Segment(data)) = state.live.get(name) else {
            panic!("{name} is no segment");
        };
        let mask = u64::from(bits) << (offset % 8 * 8);
        data.header[offset as usize / 8].fetch_xor(mask, Ordering::Relaxed);
        lock(&data.disk).header[offset as usize / 8] ^= mask;
    }

    /// Flips bits of a byte of a small file.
    pub fn flip_small(&self, name: &str, offset: u64, bits: u8) {
        let state = lock(&self.state);
        let Some(Inode::Small(data)) = state.live.get(name) else { panic!("{name} is not small") };
        let mut data = lock(data);
        data.live[offset as usize] ^= bits;
        if let Some(byte) = data.disk.get_mut(offset as usize) {
            *byte ^= bits;
        }
    }

    /// Cuts a small file short.
    pub fn truncate_small(&self, name: &str, bytes: u64) {
        let state = lock(&self.state);
        let Some(Inode::Small(data)) = state.live.get(name) else { panic!("{name} is not small") };
        let mut data = lock(data);
        data.live.truncate(bytes as usize);
        data.disk.truncate(bytes as usize);
    }

    /// Lets the kernel write random pages back, as it does when it likes.
    pub fn write_back(&self, seed: u64) {
        let state = lock(&self.state);
        let mut random = Random(seed);
        for inode in state.live.values() {
            if let Inode::Segment(data) = inode {
                let mut disk = lock(&data.disk);
                for page in 0..data.live.len().div_ceil(PAGE_WORDS) {
                    if random.below(3) == 0 {
                        data.page_to_disk(&mut disk, page);
                    }
                }
            }
        }
    }

    /// The disk as the next process finds it after this one was killed: everything in memory, what
    /// was not synced still not synced.
    pub fn kill(&self) -> Self {
        let state = lock(&self.state);
        let mut copies = Copies::default();
        let mut copied =
            State { random: state.random, space_bytes: state.space_bytes, ..State::default() };
        copied.live = copies.names(&state.live, Inode::copy);
        copied.disk = copies.names(&state.disk, Inode::copy);
        let change = |change: &NameChange| match change {
            NameChange::Put(name, inode) => {
                NameChange::Put(name.clone(), copies.inode(inode, Inode::copy))
            }
            other => other.clone(),
        };
        copied.unsynced = state.unsynced.iter().map(change).collect();
        Self { state: Arc::new(Mutex::new(copied)) }
    }

    /// The disk as it is found after a loss of power: each unsynced page is as it was, as it was to
    /// be, or torn between the two; each unsynced change of a name has happened or not.
    pub fn crash(&self, seed: u64) -> Self {
        let state = lock(&self.state);
        let mut random = Random(seed);
        let mut names = state.disk.clone();
        let keeps = random.below(4);
        for change in &state.unsynced {
            if keeps == 0 || (keeps != 1 && random.below(2) == 0) {
                change.apply(&mut names);
            }
        }
        let mut copies = Copies::default();
        let names = copies.names(&names, |inode| inode.crashed(&mut random));
        let crashed = State {
            live: names.clone(),
            disk: names,
            random: random.next_u64(),
            space_bytes: state.space_bytes,
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(crashed)) }
    }
}
