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
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use inode::{Inode, PAGE_WORDS};
use names::State;
pub use random::Random;
pub use seam::{SimReader, SimSegment, SimWriter};

/// The simulated disk: a directory of it.
#[derive(Debug, Clone)]
pub struct SimStorage {
    state: Arc<Mutex<State>>,
    disk: Arc<Disk>,
}

/// The log's directory and the archive's, which lose their power together.
#[derive(Debug, Default)]
struct Disk {
    log: Arc<Mutex<State>>,
    archive: Arc<Mutex<State>>,
    steps: Steps,
}

/// What was done to the disk, counted, and what a loss of power before one of the steps leaves.
#[derive(Debug, Default)]
struct Steps {
    done: AtomicU64,
    watch: Mutex<Option<(u64, u64)>>,
    image: Mutex<Option<SimStorage>>,
}

impl Default for SimStorage {
    fn default() -> Self {
        Self::of(State::default(), State::default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl SimStorage {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn of(log: State, archive: State) -> Self {
        let (log, archive) = (Arc::new(Mutex::new(log)), Arc::new(Mutex::new(archive)));
        let disk = Disk { log: log.clone(), archive, steps: Steps::default() };
        Self { state: log, disk: Arc::new(disk) }
    }

    /// The archive's directory: with its own space, syncs and failures.
    pub fn archive_folder(&self) -> Self {
        Self { state: self.disk.archive.clone(), disk: self.disk.clone() }
    }

    /// From now on steps are counted (small files written, syncs, names changed), and before the `n`-th (0:
    /// the next) it is kept what a loss of power would leave.
    pub fn lose_power_before(&self, n: u64, seed: u64) {
        self.disk.steps.done.store(0, Ordering::SeqCst);
        *lock(&self.disk.steps.watch) = Some((n, seed));
    }

    /// What a loss of power left, if it came to that step.
    pub fn left_by_loss_of_power(&self) -> Option<Self> {
        lock(&self.disk.steps.image).take()
    }

    /// One more step is about to be done.
    fn step(&self) {
        let at = self.disk.steps.done.fetch_add(1, Ordering::SeqCst);
        let mut watch = lock(&self.disk.steps.watch);
        if let Some((_, seed)) = watch.filter(|(n, _)| *n == at) {
            *watch = None;
            *lock(&self.disk.steps.image) = Some(self.crash(seed));
        }
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
        let (log, archive) = self.both();
        Self::of(log.killed(), archive.killed())
    }

    /// The disk as it is found after a loss of power: each unsynced page is as it was, as it was to
    /// be, or torn between the two; each unsynced change of a name has happened or not.
    pub fn crash(&self, seed: u64) -> Self {
        let (log, archive) = self.both();
        let mut random = Random(seed);
        let log = log.crashed(&mut random);
        Self::of(log, archive.crashed(&mut random))
    }

    /// Both directories at one moment.
    fn both(&self) -> (MutexGuard<'_, State>, MutexGuard<'_, State>) {
        (lock(&self.disk.log), lock(&self.disk.archive))
    }
}
