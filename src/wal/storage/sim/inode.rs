//! The files of the simulated disk: what is in memory, what is on the disk, and what a loss of power
//! leaves of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    super::{PAGE_BYTES, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_WORDS},
    lock,
    random::Random,
};

pub(super) const PAGE_WORDS: usize = PAGE_BYTES as usize / 8;

#[derive(Debug)]
pub(super) struct SegmentData {
    pub(super) live: Box<[AtomicU64]>,
    pub(super) header: [AtomicU64; SEGMENT_HEADER_WORDS],
    pub(super) disk: Mutex<SegmentDisk>,
}

#[derive(Debug, Clone)]
pub(super) struct SegmentDisk {
    pub(super) words: Vec<u64>,
    pub(super) header: [u64; SEGMENT_HEADER_WORDS],
    /// Pages that a failed sync left clean in memory and absent on the disk, with their content.
    pub(super) clean: BTreeMap<usize, Vec<u64>>,
}

#[derive(Debug, Clone)]
pub(super) enum Inode {
    Segment(Arc<SegmentData>),
    Small(Arc<Mutex<SmallData>>),
}

#[derive(Debug, Clone, Default)]
pub(super) struct SmallData {
    pub(super) live: Vec<u8>,
    pub(super) disk: Vec<u8>,
}

impl Inode {
    pub(super) fn identity(&self) -> usize {
        match self {
            Self::Segment(data) => Arc::as_ptr(data) as usize,
            Self::Small(data) => Arc::as_ptr(data) as usize,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Segment(data) => SEGMENT_HEADER_BYTES + data.live.len() as u64 * 8,
            Self::Small(data) => lock(data).live.len() as u64,
        }
    }

    pub(super) fn copy(&self) -> Self {
        match self {
            Self::Segment(data) => {
                let disk = lock(&data.disk).clone();
                Self::Segment(Arc::new(SegmentData::new(data.live_words(), data.header(), disk)))
            }
            Self::Small(data) => Self::Small(Arc::new(Mutex::new(lock(data).clone()))),
        }
    }

    pub(super) fn crashed(&self, random: &mut Random) -> Self {
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
    pub(super) fn crashed(&self, random: &mut Random) -> Vec<u8> {
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
    pub(super) fn new(
        live: Vec<u64>,
        header: [u64; SEGMENT_HEADER_WORDS],
        disk: SegmentDisk,
    ) -> Self {
        Self {
            live: live.into_iter().map(AtomicU64::new).collect(),
            header: header.map(AtomicU64::new),
            disk: Mutex::new(disk),
        }
    }

    pub(super) fn live_words(&self) -> Vec<u64> {
        self.live.iter().map(|word| word.load(Ordering::Acquire)).collect()
    }

    pub(super) fn header(&self) -> [u64; SEGMENT_HEADER_WORDS] {
        std::array::from_fn(|at| self.header[at].load(Ordering::Acquire))
    }

    pub(super) fn live_page(&self, page: usize) -> Vec<u64> {
        let to = ((page + 1) * PAGE_WORDS).min(self.live.len());
        self.live[page * PAGE_WORDS..to].iter().map(|w| w.load(Ordering::Acquire)).collect()
    }

    /// Writes a page back, unless a failed sync left it clean and nobody has touched it since.
    pub(super) fn page_to_disk(&self, disk: &mut SegmentDisk, page: usize) {
        let live = self.live_page(page);
        if disk.clean.get(&page).is_some_and(|clean| *clean == live) {
            return;
        }
        disk.clean.remove(&page);
        disk.words[page * PAGE_WORDS..][..live.len()].copy_from_slice(&live);
    }

    pub(super) fn crashed(&self, random: &mut Random) -> Self {
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
