//! Segments made ahead: the background thread that allocates blocks, zeroes and maps segments, and
//! takes back the ones that nobody needs any more.
//!
//! A segment comes in two steps. First its blocks: a spare file, allocated, which is all that the room
//! for closing records and for delivery needs. Then, when the tail comes near: zeros, header, mapping,
//! name. A segment that is taken back becomes a spare that only needs zeros in memory, not on the disk:
//! its new nonce is what makes its old records invalid.
//!
//! A full disk or a spent budget stops the first step only, so what blocks were promised to can still
//! become segments. Any other error poisons the log.

use std::{io, sync::Arc, time::Duration};

use super::{
    error::Poisoned,
    log::Inner,
    options::Options,
    ring::Segment,
    segment::{self, Header},
    storage::{SegmentMemory, Storage},
    sync::Ordering,
};

const SLEEP_MAX: Duration = Duration::from_millis(100);

enum Spare<M> {
    /// Blocks with unspecified content.
    Blocks(String),
    /// A segment that was in use.
    Used(String, M),
}

/// What the background thread knows.
pub struct Provisioner<S: Storage> {
    inner: Arc<Inner<S>>,
    spares: Vec<Spare<S::Segment>>,
    next_index: u64,
    spares_made: u64,
    /// The largest ticket that waits.
    wanted: i64,
}

impl<S: Storage> Provisioner<S> {
    /// Begins with no spares; `next_index` is the first segment that is not there yet.
    pub fn new(inner: Arc<Inner<S>>, next_index: u64) -> Self {
        Self { inner, spares: Vec::new(), next_index, spares_made: 0, wanted: 0 }
    }

    /// Works until the log stops.
    pub fn run(mut self) {
        let inner = self.inner.clone();
        inner.core.provisioner.belongs_to_me();
        while !inner.core.is_closing() {
            self.look_at_mark();
            match self.round() {
                Ok(true) => {}
                Ok(false) => inner.core.provisioner.sleep(SLEEP_MAX, || inner.core.is_closing()),
                Err(error) => {
                    return inner.poison(Poisoned::Sync(format!("a new segment: {error}")));
                }
            }
        }
    }

    /// Makes the first segment, before the log is open.
    pub fn first(&mut self) -> io::Result<()> {
        let made = self.has_spare()? && self.make_ready()?;
        if made { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    /// Does one piece of work; false if there is none.
    pub fn round(&mut self) -> io::Result<bool> {
        if self.take_back()? {
            return Ok(true);
        }
        let worked = if self.wants_ready() && self.has_spare()? {
            self.make_ready()?
        } else {
            self.wants_blocks() && self.allocate()?
        };
        if worked {
            self.inner.room_changed();
        }
        Ok(worked)
    }

    /// Sets the soft mark or takes it away.
    fn look_at_mark(&self) {
        let (inner, room) = (&self.inner, &self.inner.core.room);
        let segments = inner.options.budget_segments();
        let files = inner.table_len() + self.spares.len() as u64;
        // On a full disk there are none to be had, whatever the budget says.
        let unmade = if room.is_exhausted() { 0 } else { segments.saturating_sub(files) };
        let Options { segment_bytes, soft_mark_percent, .. } = inner.options;
        room.look_at_mark(segments, unmade, segment_bytes, soft_mark_percent);
    }

    fn has_spare(&mut self) -> io::Result<bool> {
        Ok(!self.spares.is_empty() || self.allocate()?)
    }

    fn wants_ready(&self) -> bool {
        let core = &self.inner.core;
        let ahead = core.index_of(core.tail()) + u64::from(self.inner.options.ready_segments);
        let fits = self.next_index < core.index_of(core.durable()) + core.ring.len();
        self.next_index <= ahead && fits
    }

    fn wants_blocks(&mut self) -> bool {
        let room = &self.inner.core.room;
        self.wanted = self.wanted.max(room.take_wanted());
        if room.free() >= self.wanted {
            self.wanted = 0;
        }
        room.free() < self.wanted.max(self.inner.options.blocks_low() as i64)
    }

    /// Makes one more spare, if the budget and the disk have room.
    fn allocate(&mut self) -> io::Result<bool> {
        let inner = &self.inner;
        let files = inner.table_len() + self.spares.len() as u64;
        if files >= inner.options.budget_segments() {
            return Ok(self.exhausted());
        }
        let name = segment::spare_name(self.spares_made);
        let bytes = segment::file_bytes(inner.options.segment_bytes);
        match inner.storage.allocate(&name, bytes) {
            Ok(()) => {}
            Err(error) if is_full(&error) => return Ok(self.exhausted()),
            Err(error) => return Err(error),
        }
        self.spares_made += 1;
        self.spares.push(Spare::Blocks(name));
        inner.core.room.add_blocks(inner.options.segment_bytes);
        inner.core.room.set_exhausted(false);
        Ok(true)
    }

    fn exhausted(&self) -> bool {
        if !self.inner.core.room.is_exhausted() {
            self.inner.core.room.set_exhausted(true);
            self.inner.room_changed();
        }
        false
    }

    /// Turns a spare into the next segment; false if it can't be done now.
    fn make_ready(&mut self) -> io::Result<bool> {
        let used = self.spares.iter().position(|spare| matches!(spare, Spare::Used(..)));
        let Some(spare) = used.or(self.spares.len().checked_sub(1)) else { return Ok(false) };
        let (name, mut memory) = match self.spares.swap_remove(spare) {
            Spare::Used(name, memory) => (name, memory),
            Spare::Blocks(name) => match self.zeroed(&name) {
                Ok(memory) => (name, memory),
                Err(error) if is_full(&error) => {
                    self.spares.push(Spare::Blocks(name));
                    return Ok(self.exhausted());
                }
                Err(error) => return Err(error),
            },
        };
        memory.clear()?;
        memory.populate();
        let header = self.inner.new_header(self.next_index)?;
        memory.set_header(header.words());
        memory.sync_header()?;
        self.inner.storage.rename(&name, &segment::name(self.next_index))?;
        self.inner.storage.sync_dir()?;
        self.show(header, memory);
        Ok(true)
    }

    fn zeroed(&self, name: &str) -> io::Result<S::Segment> {
        let bytes = segment::file_bytes(self.inner.options.segment_bytes);
        let mapping = self.inner.options.ack.into();
        self.inner.storage.zero(name, bytes, mapping)?;
        self.inner.storage.map(name, bytes, mapping)
    }

    fn show(&mut self, header: Header, memory: S::Segment) {
        let bytes = header.segment_bytes;
        let (index, nonce) = (header.index, header.nonce);
        let segment = Arc::new(Segment { index, base: index * bytes, nonce, memory });
        self.inner.push_segment(segment.clone());
        self.inner.core.put_ready(segment, bytes);
        self.next_index += 1;
        self.inner.counters.segments_made.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the oldest segment back, if it is released, unpinned, and the mark that says so is
    /// durable.
    fn take_back(&mut self) -> io::Result<bool> {
        let Some(segment) = self.inner.pop_released() else { return Ok(false) };
        let storage = &self.inner.storage;
        let name = segment::name(segment.index);
        let bytes = self.inner.options.segment_bytes;
        let plenty = self.inner.options.blocks_low() + 4 * bytes;
        if self.inner.core.room.free() > plenty as i64 {
            drop(segment);
            storage.remove(&name)?;
            // One after the other, or a loss of power could leave a gap.
            storage.sync_dir()?;
        } else {
            let spare = segment::spare_name(self.spares_made);
            self.spares_made += 1;
            storage.rename(&name, &spare)?;
            storage.sync_dir()?;
            self.spares.push(Spare::Used(spare, segment.memory));
            self.inner.core.room.add_blocks(bytes);
        }
        self.inner.counters.segments_recycled.fetch_add(1, Ordering::Relaxed);
        self.inner.core.room.set_exhausted(false);
        self.inner.room_changed();
        Ok(true)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
