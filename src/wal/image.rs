//! A segment's bytes outside of the running log: copied out of it, mapped from a file that nobody writes,
//! or unpacked from the archive. Read, checked and handed on; never changed.

#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    ops::Deref,
    path::{Path, PathBuf},
};

use memmap2::Mmap;
use rkyv::util::AlignedVec;

use super::{
    error::Error,
    mark::{MARK_BYTES, Mark},
    read::{rotted, view},
    record::{self, KIND_OWN_MIN, Record},
    ring::Segment,
    segment::{self, Header},
    storage::{SEGMENT_HEADER_BYTES, SEGMENT_HEADER_WORDS, SegmentMemory, Storage},
    sync::Ordering,
};

/// The most bytes of a piece.
pub const PIECE_BYTES_MAX: usize = 256 << 10;

/// What a walk over the records of a segment found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Walked {
    /// Records, the log's own apart.
    pub records: u64,
    /// The times of the earliest and the latest of all, in milliseconds since 1970; 0 without any.
    pub first_ms: u64,
    /// See `first_ms`.
    pub last_ms: u64,
}

impl Walked {
    /// Takes a record in.
    pub fn take(&mut self, record: &Record<'_>) {
        // Padding has no time.
        if record.time_ms > 0 {
            let first = if self.first_ms == 0 { u64::MAX } else { self.first_ms };
            self.first_ms = first.min(record.time_ms);
            self.last_ms = self.last_ms.max(record.time_ms);
        }
        self.records += u64::from(record.kind < KIND_OWN_MIN);
    }
}

/// Every record of the first `payload` bytes of a segment must be whole, and one end there.
pub fn check<S: Storage>(
    storage: &S,
    segment: &Segment<S::Segment>,
    payload: u64,
) -> Result<Walked, Error> {
    let (mut offset, mut walked) = (0, Walked::default());
    while offset < payload {
        let record = view(segment, offset).filter(|r| r.end.0 <= segment.base + payload);
        let rot = || rotted(storage, segment.index, offset, segment.base);
        let record = record.ok_or_else(rot)?;
        walked.take(&record);
        offset = record.end.0 - segment.base;
    }
    Ok(walked)
}

/// Gives the bytes of a segment's file away up to the first `payload` bytes of its payload, header first, in
/// pieces of at most [`PIECE_BYTES_MAX`].
pub fn give<M: SegmentMemory>(
    segment: &Segment<M>,
    payload: u64,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(PIECE_BYTES_MAX);
    let header = segment.memory.header();
    header.iter().for_each(|word| buffer.extend_from_slice(&word.to_le_bytes()));
    buffer.resize(SEGMENT_HEADER_BYTES as usize, 0);
    take(&buffer)?;
    for words in segment.memory.payload()[..(payload / 8) as usize].chunks(PIECE_BYTES_MAX / 8) {
        buffer.clear();
        let words = words.iter().map(|word| word.load(Ordering::Relaxed));
        words.for_each(|word| buffer.extend_from_slice(&word.to_le_bytes()));
        take(&buffer)?;
    }
    Ok(())
}

/// The header that a segment's file begins with; says what is wrong if it is none. Never panics.
pub fn header_of(bytes: &[u8]) -> Result<Header, &'static str> {
    let mut words = [0; SEGMENT_HEADER_WORDS];
    let (all, _) = bytes.as_chunks();
    if all.len() < words.len() {
        return Err("is too short for a segment");
    }
    for (word, bytes) in words.iter_mut().zip(all) {
        *word = u64::from_le_bytes(*bytes);
    }
    Header::read(words)
}

/// Most of a segment that is not full is zeros, which are passed over by so many.
const PAGE_BYTES: usize = 4096;

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Unpacked(AlignedVec),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Unpacked(bytes) => bytes,
        }
    }
}

/// A whole segment, with the header that it begins with.
#[derive(Debug)]
pub struct SegmentImage {
    /// Where it was found.
    pub path: PathBuf,
    /// What its header says.
    pub header: Header,
    bytes: Bytes,
}

impl SegmentImage {
    /// Maps the file of the segment with this index. Nobody may write to it meanwhile: its directory is locked,
    /// or no server's any more.
    ///
    /// # Errors
    /// It can't be read, or is no such segment.
    pub fn map(path: &Path, index: u64) -> Result<Self, Error> {
        let said = || Error::io(format!("reading {}", path.display()));
        let file = File::open(path).map_err(said())?;
        // SAFETY: nobody changes the file while it is mapped, says the caller, and nobody shortens a
        // segment's file.
        let map = unsafe { Mmap::map(&file) }.map_err(said())?;
        Self::new(path, Bytes::Mapped(map), index)
    }

    /// What was unpacked from `path`.
    ///
    /// # Errors
    /// It is not the segment with this index.
    pub fn unpacked(path: &Path, bytes: AlignedVec, index: u64) -> Result<Self, Error> {
        Self::new(path, Bytes::Unpacked(bytes), index)
    }

    fn new(path: &Path, bytes: Bytes, index: u64) -> Result<Self, Error> {
        let format = |what: String| Error::Format { file: path.display().to_string(), what };
        let header = header_of(&bytes).map_err(|why| format(why.to_owned()))?;
        if header.index != index {
            return Err(format("its header names another segment".to_owned()));
        }
        if bytes.len() as u64 != segment::file_bytes(header.segment_bytes) {
            return Err(format(format!("has {} bytes, its header says otherwise", bytes.len())));
        }
        Ok(Self { path: path.to_owned(), header, bytes })
    }

    /// All of it, as its file has it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What follows the header.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[SEGMENT_HEADER_BYTES as usize..]
    }

    /// The position of the payload's first byte.
    pub fn base(&self) -> u64 {
        self.header.index.saturating_mul(self.header.segment_bytes)
    }

    /// The record at an offset of the payload, if a whole and valid one is there.
    pub fn record(&self, offset: u64) -> Option<Record<'_>> {
        let bytes = self.payload().get(offset as usize..)?;
        record::decode(bytes, bytes.len() as u64, self.base() + offset, self.header.nonce)
    }

    /// Bytes from an offset on up to the last that is not zero.
    pub fn written_from(&self, offset: u64) -> u64 {
        let rest = self.payload().get(offset as usize..).unwrap_or_default();
        let mut end = rest.len();
        while let Some(page) = rest[..end].last_chunk()
            && *page == [0; PAGE_BYTES]
        {
            end -= PAGE_BYTES;
        }
        rest[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
    }

    /// The newest mark at any aligned place between two positions.
    pub fn newest_mark(&self, from: u64, to: u64) -> Option<Mark> {
        let begin = from.max(self.base()) - self.base();
        let end = to.saturating_sub(self.base()).min(begin + self.written_from(begin));
        let marks = (begin..end).step_by(8).filter_map(|offset| self.mark_at(offset));
        marks.max_by_key(|mark| mark.durable)
    }

    fn mark_at(&self, offset: u64) -> Option<Mark> {
        let word0 = u64::from_le_bytes(*self.payload().get(offset as usize..)?.first_chunk()?);
        if u64::from(record::length_of(word0)) != MARK_BYTES {
            return None;
        }
        Mark::read(&self.record(offset)?, self.header.mark_key)
    }
}
