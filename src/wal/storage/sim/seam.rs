//! The simulated disk as the log sees it.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    super::{
        Mapping, PAGE_BYTES, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_WORDS, SegmentMemory, Storage,
    },
    Random, SimStorage,
    inode::{Inode, PAGE_WORDS, SegmentData, SegmentDisk, SmallData},
    lock,
    names::{NameChange, not_found},
};
use crate::wal::{error::Error, ring::Memory};

/// What a block holds that was allocated and never written: anything but zeros.
const GARBAGE: u64 = 0x5A5A_0040_0000_0028;

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

    fn zero(&self, name: &str, _bytes: u64, _mapping: Mapping) -> io::Result<()> {
        self.step();
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

    fn map(&self, name: &str, bytes: u64, _mapping: Mapping) -> io::Result<SimSegment> {
        let state = lock(&self.state);
        let Some(inode) = state.live.get(name) else { return Err(not_found()) };
        let Inode::Segment(data) = inode else { return Err(io::ErrorKind::InvalidData.into()) };
        if inode.bytes() != bytes {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(SimSegment { data: data.clone(), storage: self.clone() })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step();
        let mut state = lock(&self.state);
        let inode = state.live.remove(from).ok_or_else(not_found)?;
        state.live.insert(to.to_owned(), inode);
        state.unsynced.push(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step();
        let mut state = lock(&self.state);
        state.live.remove(name).ok_or_else(not_found)?;
        state.unsynced.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.step();
        let mut state = lock(&self.state);
        state.sync()?;
        state.disk = state.live.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<SimWriter> {
        self.step();
        let data = Arc::new(Mutex::new(SmallData::default()));
        lock(&self.state).put(name, Inode::Small(data.clone()));
        Ok(SimWriter { data, storage: self.clone() })
    }

    fn sync_file(&self, file: &mut SimWriter) -> io::Result<()> {
        self.step();
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

    fn archive(&self, _dir: Option<&Path>, make: bool) -> Result<Option<Self>, Error> {
        let folder = self.archive_folder();
        let is_there = !lock(&folder.state).live.is_empty();
        Ok((make || is_there).then_some(folder))
    }

    fn place(&self, name: &str) -> String {
        format!("sim:{name}")
    }
}

/// A segment on the simulated disk.
#[derive(Debug)]
pub struct SimSegment {
    data: Arc<SegmentData>,
    storage: SimStorage,
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
        self.storage.step();
        let mut state = lock(&self.storage.state);
        state.sync()?;
        lock(&self.data.disk).header = self.data.header();
        Ok(())
    }

    fn sync(&self, from: u64, to: u64) -> io::Result<()> {
        self.storage.step();
        let delay = lock(&self.storage.state).sync_delay;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let mut state = lock(&self.storage.state);
        let failed = state.sync();
        let mut random = Random(state.random);
        state.random = random.next_u64();
        let mut disk = lock(&self.data.disk);
        for page in (from / PAGE_BYTES) as usize..to.div_ceil(PAGE_BYTES) as usize {
            if failed.is_ok() || random.below(2) == 0 {
                // What is behind may become durable too, or keep what the file had of an earlier use.
                let behind = (to / 8) as usize..((page + 1) * PAGE_WORDS).min(disk.words.len());
                let kept = disk.words.get(behind.clone()).filter(|_| random.below(2) == 0);
                let kept = kept.map(<[u64]>::to_vec);
                self.data.page_to_disk(&mut disk, page);
                if let Some(kept) = kept {
                    disk.words[behind].copy_from_slice(&kept);
                }
            } else {
                let content = self.data.live_page(page);
                disk.clean.insert(page, content);
            }
        }
        failed
    }

    fn rewrite(&self, from: u64, to: u64) {
        let _state = lock(&self.storage.state);
        let mut disk = lock(&self.data.disk);
        for page in (from / PAGE_BYTES) as usize..to.div_ceil(PAGE_BYTES) as usize {
            disk.clean.remove(&page);
        }
    }

    fn clear(&mut self) -> io::Result<()> {
        let _state = lock(&self.storage.state);
        self.data.live.iter().for_each(|word| word.store(0, Ordering::Release));
        Ok(())
    }

    fn populate(&self) {}
}

/// A small file that is being written.
#[derive(Debug)]
pub struct SimWriter {
    data: Arc<Mutex<SmallData>>,
    storage: SimStorage,
}

impl Write for SimWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.storage.step();
        lock(&self.storage.state).check_space(bytes.len() as u64)?;
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
