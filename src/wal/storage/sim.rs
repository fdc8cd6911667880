//! A disk that forgets: what is in memory and what would survive a loss of power, kept apart.
//!
//! It can, by seed: lose any subset of unsynced pages, tear a page at its 512-byte sectors, lose
//! unsynced renames, creations and removals, flip bits, fail the n-th sync (after which the lost pages
//! count as clean, as Linux does it), run out of space, and be slow. Only for tests.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{PAGE_BYTES, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_WORDS, SegmentMemory, Storage};
use crate::wal::ring::Memory;

const PAGE_WORDS: usize = PAGE_BYTES as usize / 8;
const SECTOR_WORDS: usize = 64;
/// What a block holds that was allocated and never written: anything but zeros.
const GARBAGE: u64 = 0x5A5A_0040_0000_0028;

/// A small generator of random numbers (splitmix64), the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound.max(1)
    }
}

#[derive(Debug)]
struct SegmentData {
    live: Box<[AtomicU64]>,
    header: [AtomicU64; SEGMENT_HEADER_WORDS],
    disk: Mutex<SegmentDisk>,
}

#[derive(Debug, Clone)]
struct SegmentDisk {
    words: Vec<u64>,
    header: [u64; SEGMENT_HEADER_WORDS],
    /// Pages that a failed sync left clean in memory and absent on the disk, with their content.
    clean: BTreeMap<usize, Vec<u64>>,
}

#[derive(Debug, Clone)]
enum Inode {
    Segment(Arc<SegmentData>),
    Small(Arc<Mutex<SmallData>>),
}

#[derive(Debug, Clone, Default)]
struct SmallData {
    live: Vec<u8>,
    disk: Vec<u8>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Put(String, Inode),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<String, Inode>,
    disk: BTreeMap<String, Inode>,
    unsynced: Vec<NameChange>,
    syncs: u64,
    sync_fails_at: Option<u64>,
    space_bytes: Option<u64>,
    make_delay: Duration,
    sync_delay: Duration,
    random: u64,
}

/// The simulated disk.
#[derive(Debug, Clone, Default)]
pub struct SimStorage {
    state: Arc<Mutex<State>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
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

/// Keeps files that have two names one file when a disk is copied.
#[derive(Default)]
struct Copies(BTreeMap<usize, Inode>);

impl Copies {
    fn inode(&mut self, inode: &Inode, mut copy: impl FnMut(&Inode) -> Inode) -> Inode {
        self.0.entry(inode.identity()).or_insert_with(|| copy(inode)).clone()
    }

    fn names(
        &mut self,
        names: &BTreeMap<String, Inode>,
        mut copy: impl FnMut(&Inode) -> Inode,
    ) -> BTreeMap<String, Inode> {
        names.iter().map(|(name, inode)| (name.clone(), self.inode(inode, &mut copy))).collect()
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Inode>) {
        match self {
            Self::Put(name, inode) => {
                names.insert(name.clone(), inode.clone());
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Inode {
    fn identity(&self) -> usize {
        match self {
            Self::Segment(data) => Arc::as_ptr(data) as usize,
            Self::Small(data) => Arc::as_ptr(data) as usize,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Segment(data) => SEGMENT_HEADER_BYTES + data.live.len() as u64 * 8,
            Self::Small(data) => lock(data).live.len() as u64,
        }
    }

    fn copy(&self) -> Self {
        match self {
            Self::Segment(data) => {
                let disk = lock(&data.disk).clone();
                Self::Segment(Arc::new(SegmentData::new(data.live_words(), data.header(), disk)))
            }
            Self::Small(data) => Self::Small(Arc::new(Mutex::new(lock(data).clone()))),
        }
    }

    fn crashed(&self, random: &mut Random) -> Self {
        match self {
            Self::Segment(data) => Self::Segment(Arc::new(data.crashed(random))),
            Self::Small(data) => {
                let data = lock(data);
                let kept = data.crashed(random);
                Self::Small(Arc::new(Mutex::new(SmallData { live: kept.clone(), disk: kept })))
            }
        }
    }
}

impl SmallData {
    fn crashed(&self, random: &mut Random) -> Vec<u8> {
        if self.disk == self.live {
            return self.live.clone();
        }
        match random.below(3) {
            0 => self.disk.clone(),
            1 => self.live.clone(),
            _ => {
                let mut torn = self.live.clone();
                torn.truncate(random.below(self.live.len() as u64 + 1) as usize);
                for byte in torn.iter_mut().skip(self.disk.len()) {
                    if random.below(64) == 0 {
                        *byte = 0;
                    }
                }
                torn
            }
        }
    }
}

impl SegmentData {
    fn new(live: Vec<u64>, header: [u64; SEGMENT_HEADER_WORDS], disk: SegmentDisk) -> Self {
        Self {
            live: live.into_iter().map(AtomicU64::new).collect(),
            header: header.map(AtomicU64::new),
            disk: Mutex::new(disk),
        }
    }

    fn live_words(&self) -> Vec<u64> {
        self.live.iter().map(|word| word.load(Ordering::Acquire)).collect()
    }

    fn header(&self) -> [u64; SEGMENT_HEADER_WORDS] {
        std::array::from_fn(|at| self.header[at].load(Ordering::Acquire))
    }

    fn live_page(&self, page: usize) -> Vec<u64> {
        let to = ((page + 1) * PAGE_WORDS).min(self.live.len());
        self.live[page * PAGE_WORDS..to].iter().map(|w| w.load(Ordering::Acquire)).collect()
    }

    /// Writes a page back, unless a failed sync left it clean and nobody has touched it since.
    fn page_to_disk(&self, disk: &mut SegmentDisk, page: usize) {
        let live = self.live_page(page);
        if disk.clean.get(&page).is_some_and(|clean| *clean == live) {
            return;
        }
        disk.clean.remove(&page);
        disk.words[page * PAGE_WORDS..][..live.len()].copy_from_slice(&live);
    }

    fn crashed(&self, random: &mut Random) -> Self {
        let disk = lock(&self.disk);
        let mut words = disk.words.clone();
        let bias = random.below(5);
        for page in 0..self.live.len().div_ceil(PAGE_WORDS) {
            let live = self.live_page(page);
            let kept = &mut words[page * PAGE_WORDS..][..live.len()];
            let lost = disk.clean.get(&page).is_some_and(|clean| *clean == live);
            if !lost && *kept != live[..] {
                random.tear(kept, &live, bias);
            }
        }
        let live_header = self.header();
        let header = if random.below(2) == 0 { disk.header } else { live_header };
        let after = SegmentDisk { words: words.clone(), header, clean: BTreeMap::new() };
        Self::new(words, header, after)
    }
}

impl Random {
    /// A page that was being written: old, new, or torn at its sectors.
    fn tear(&mut self, kept: &mut [u64], live: &[u64], bias: u64) {
        match (bias, self.below(3)) {
            (0, _) | (2.., 0) => {}
            (1, _) | (2.., 1) => kept.copy_from_slice(live),
            _ => {
                for (old, new) in kept.chunks_mut(SECTOR_WORDS).zip(live.chunks(SECTOR_WORDS)) {
                    if self.below(2) == 0 {
                        old.copy_from_slice(new);
                    }
                }
            }
        }
    }
}

impl State {
    fn used(&self) -> u64 {
        self.live.values().map(Inode::bytes).sum()
    }

    fn put(&mut self, name: &str, inode: Inode) {
        self.live.insert(name.to_owned(), inode.clone());
        self.unsynced.push(NameChange::Put(name.to_owned(), inode));
    }

    fn check_space(&self, more: u64) -> io::Result<()> {
        match self.space_bytes {
            Some(space) if self.used() + more > space => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    /// Counts a sync; an error if it is the one that is to fail.
    fn sync(&mut self) -> io::Result<()> {
        let failed = self.sync_fails_at == Some(self.syncs);
        self.syncs += 1;
        if failed {
            return Err(io::Error::other("simulated: input/output error"));
        }
        Ok(())
    }

    fn small(&self, name: &str) -> io::Result<&Arc<Mutex<SmallData>>> {
        match self.live.get(name) {
            Some(Inode::Small(data)) => Ok(data),
            _ => Err(not_found()),
        }
    }
}

impl Storage for SimStorage {
    type Segment = SimSegment;
    type Writer = SimWriter;
    type Reader = SimReader;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.state).live.keys().cloned().collect())
    }

    fn allocate(&self, name: &str, bytes: u64) -> io::Result<()> {
        let delay = lock(&self.state).make_delay;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let mut state = lock(&self.state);
        state.check_space(bytes)?;
        let words = vec![GARBAGE; (bytes - SEGMENT_HEADER_BYTES) as usize / 8];
        let header = [GARBAGE; SEGMENT_HEADER_WORDS];
        let disk = SegmentDisk { words: words.clone(), header, clean: BTreeMap::new() };
        state.put(name, Inode::Segment(Arc::new(SegmentData::new(words, header, disk))));
        Ok(())
    }

    fn zero(&self, name: &str, _bytes: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.sync()?;
        let Some(Inode::Segment(data)) = state.live.get(name) else { return Err(not_found()) };
        data.live.iter().for_each(|word| word.store(0, Ordering::Release));
        data.header.iter().for_each(|word| word.store(0, Ordering::Release));
        let mut disk = lock(&data.disk);
        disk.words.fill(0);
        disk.header = [0; SEGMENT_HEADER_WORDS];
        Ok(())
    }

    fn map(&self, name: &str, bytes: u64) -> io::Result<SimSegment> {
        let state = lock(&self.state);
        let Some(inode) = state.live.get(name) else { return Err(not_found()) };
        let Inode::Segment(data) = inode else { return Err(io::ErrorKind::InvalidData.into()) };
        if inode.bytes() != bytes {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(SimSegment { data: data.clone(), state: self.state.clone() })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        let inode = state.live.remove(from).ok_or_else(not_found)?;
        state.live.insert(to.to_owned(), inode);
        state.unsynced.push(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.live.remove(name).ok_or_else(not_found)?;
        state.unsynced.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.sync()?;
        state.disk = state.live.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<SimWriter> {
        let data = Arc::new(Mutex::new(SmallData::default()));
        lock(&self.state).put(name, Inode::Small(data.clone()));
        Ok(SimWriter { data, state: self.state.clone() })
    }

    fn sync_file(&self, file: &mut SimWriter) -> io::Result<()> {
        lock(&self.state).sync()?;
        let mut data = lock(&file.data);
        data.disk = data.live.clone();
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<SimReader> {
        let data = lock(&self.state).small(name)?.clone();
        Ok(SimReader { data, at: 0 })
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(lock(lock(&self.state).small(name)?).live.len() as u64)
    }

    fn place(&self, name: &str) -> String {
        format!("sim:{name}")
    }
}

/// A segment on the simulated disk.
#[derive(Debug)]
pub struct SimSegment {
    data: Arc<SegmentData>,
    state: Arc<Mutex<State>>,
}

impl Memory for SimSegment {
    fn payload(&self) -> &[AtomicU64] {
        &self.data.live
    }
}

impl SegmentMemory for SimSegment {
    fn header(&self) -> [u64; SEGMENT_HEADER_WORDS] {
        self.data.header()
    }

    fn set_header(&self, words: [u64; SEGMENT_HEADER_WORDS]) {
        for (word, value) in self.data.header.iter().zip(words) {
            word.store(value, Ordering::Release);
        }
    }

    fn sync_header(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.sync()?;
        lock(&self.data.disk).header = self.data.header();
        Ok(())
    }

    fn sync(&self, from: u64, to: u64) -> io::Result<()> {
        let delay = lock(&self.state).sync_delay;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let mut state = lock(&self.state);
        let failed = state.sync();
        let mut random = Random(state.random);
        state.random = random.next_u64();
        let mut disk = lock(&self.data.disk);
        for page in (from / PAGE_BYTES) as usize..to.div_ceil(PAGE_BYTES) as usize {
            if failed.is_ok() || random.below(2) == 0 {
                self.data.page_to_disk(&mut disk, page);
            } else {
                let content = self.data.live_page(page);
                disk.clean.insert(page, content);
            }
        }
        failed
    }

    fn rewrite(&self, from: u64, to: u64) {
        let _state = lock(&self.state);
        let mut disk = lock(&self.data.disk);
        for page in (from / PAGE_BYTES) as usize..to.div_ceil(PAGE_BYTES) as usize {
            disk.clean.remove(&page);
        }
    }

    fn populate(&self) {}
}

/// A small file that is being written.
#[derive(Debug)]
pub struct SimWriter {
    data: Arc<Mutex<SmallData>>,
    state: Arc<Mutex<State>>,
}

impl Write for SimWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.state).check_space(bytes.len() as u64)?;
        lock(&self.data).live.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A small file that is being read.
#[derive(Debug)]
pub struct SimReader {
    data: Arc<Mutex<SmallData>>,
    at: usize,
}

impl Read for SimReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let data = lock(&self.data);
        let count = (&data.live[self.at.min(data.live.len())..]).read(buffer)?;
        self.at += count;
        Ok(count)
    }
}
