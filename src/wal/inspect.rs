//! Looking at a log without opening it: nothing is written, cut or recovered.
//!
//! It reads every segment that is there, from the first to the last, by the rules of recovery: a
//! damage that a mark covers, or that has records further behind than the unsynced window, is rot; one
//! that has neither is a torn end, which the next start cuts. Where recovery stops at the first rot,
//! this goes on with the next segment, so that all of it is named.
//!
//! The directory is locked as shared for as long as it takes, so that no server works on it meanwhile.

#![allow(unsafe_code)]

use std::{
    fs::{self, File},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use memmap2::Mmap;
use rustix::fs::{FlockOperation, flock};

use super::{
    error::Error,
    lives::{self, Lives},
    mark::{MARK_BYTES, Mark},
    record::{self, KIND_MARK, KIND_OWN_MIN, Record},
    segment::{self, Header},
    storage::{SEGMENT_HEADER_BYTES, SEGMENT_HEADER_WORDS},
};
use crate::model::{Incarnation, Lsn};

/// What a log looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The life of the data directory; absent if there is no segment yet.
    pub incarnation: Option<Incarnation>,
    /// All lives whose segments are there.
    pub(super) lives: Lives,
    /// Its segments, oldest first.
    pub segments: Vec<SegmentView>,
    /// Where the log begins.
    pub begin: Lsn,
    /// Where its last whole record ends.
    pub end: Lsn,
    /// Everything below was known to be durable.
    pub durable: Lsn,
    /// Everything from here on is still needed.
    pub needed: Lsn,
    /// Bytes of a torn end; the next start cuts them.
    pub torn_bytes: u64,
    /// What was durable and is not readable.
    pub rot: Vec<Rot>,
}

/// What a segment looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentView {
    /// Its file.
    pub file: PathBuf,
    /// Where it begins.
    pub begin: Lsn,
    /// Records in it, the log's own apart.
    pub records: u64,
    /// Their bytes, headers and padding to eight included.
    pub record_bytes: u64,
    /// Marks in it.
    pub marks: u64,
}

/// A place that was durable and is not readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rot {
    /// The segment's file.
    pub file: PathBuf,
    /// The offset in it.
    pub offset: u64,
    /// The position in the log.
    pub lsn: Lsn,
}

/// Reads the log in `dir` and shows each record, the log's own apart, to `each`, which may end it: then
/// what is behind is not looked at.
///
/// # Errors
/// The directory or a segment can't be read, is in use, or its header is damaged; a segment is missing.
pub fn inspect(
    dir: &Path,
    each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>,
) -> Result<Inspection, Error> {
    let _lock = lock(dir)?;
    let files = open_all(dir)?;
    let mut inspection = Inspection::default();
    let (Some(first), Some(last)) = (files.first(), files.last()) else { return Ok(inspection) };
    inspection.incarnation = Some(last.header.life.incarnation);
    inspection.lives = Lives::of(files.iter().map(|file| &file.header));
    inspection.begin = Lsn(first.base());
    Walk { files: &files, inspection: &mut inspection }.run(each)?;
    Ok(inspection)
}

impl Inspection {
    /// The life that a position was written in, of a directory that was restored maybe another than its
    /// own; nothing if there is no segment.
    pub fn incarnation_at(&self, lsn: Lsn) -> Option<Incarnation> {
        self.lives.at(lsn)
    }
}

/// The segment size that the log in `dir` was made with, which its options must name; `None` if there is
/// no segment yet.
///
/// # Errors
/// As [`inspect`].
pub fn segment_bytes(dir: &Path) -> Result<Option<u64>, Error> {
    let _lock = lock(dir)?;
    Ok(open_all(dir)?.first().map(|first| first.header.segment_bytes))
}

/// Keeps servers out, without making anything.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("LOCK");
    let lock = File::open(&path).map_err(Error::io(format!(
        "there is no log in {}: opening {}",
        dir.display(),
        path.display()
    )))?;
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { dir: dir.display().to_string() }),
        Err(other) => Err(Error::io(format!("locking {}", path.display()))(other.into())),
    }
}

/// A segment's file, mapped for reading.
struct SegmentFile {
    path: PathBuf,
    header: Header,
    map: Mmap,
}

impl SegmentFile {
    fn open(path: PathBuf, index: u64) -> Result<Self, Error> {
        let said = || Error::io(format!("reading {}", path.display()));
        let file = File::open(&path).map_err(said())?;
        // SAFETY: the directory is locked, so that no server changes the file while it is mapped, and
        // nobody shortens a segment's file.
        let map = unsafe { Mmap::map(&file) }.map_err(said())?;
        let format = |what: String| Error::Format { file: path.display().to_string(), what };
        let words: Vec<u64> = map
            .chunks_exact(8)
            .take(SEGMENT_HEADER_WORDS)
            .map(|word| word.first_chunk().map_or(0, |word| u64::from_le_bytes(*word)))
            .collect();
        let words =
            words.try_into().map_err(|_| format("is too short for a segment".to_owned()))?;
        let header = Header::read(words).map_err(|why| format(why.to_owned()))?;
        if header.index != index {
            return Err(format("its header names another segment".to_owned()));
        }
        if map.len() as u64 != SEGMENT_HEADER_BYTES + header.segment_bytes {
            return Err(format(format!("has {} bytes, its header says otherwise", map.len())));
        }
        Ok(Self { path, header, map })
    }

    fn payload(&self) -> &[u8] {
        &self.map[SEGMENT_HEADER_BYTES as usize..]
    }

    fn base(&self) -> u64 {
        self.header.index.saturating_mul(self.header.segment_bytes)
    }

    /// The record at an offset of the payload, if a whole and valid one is there.
    fn record(&self, offset: u64) -> Option<Record<'_>> {
        let bytes = self.payload().get(offset as usize..)?;
        record::decode(bytes, bytes.len() as u64, self.base() + offset, self.header.nonce)
    }

    /// Bytes from an offset on up to the last that is not zero.
    fn written_from(&self, offset: u64) -> u64 {
        let rest = self.payload().get(offset as usize..).unwrap_or_default();
        rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
    }

    /// The newest mark at any aligned place between two positions.
    fn newest_mark(&self, from: u64, to: u64) -> Option<Mark> {
        let begin = from.max(self.base()) - self.base();
        let end = to.saturating_sub(self.base()).min(self.header.segment_bytes);
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

/// All segments, oldest first, without a gap.
fn open_all(dir: &Path) -> Result<Vec<SegmentFile>, Error> {
    let said = || Error::io(format!("listing {}", dir.display()));
    let mut indices = Vec::new();
    for entry in fs::read_dir(dir).map_err(said())? {
        let name = entry.map_err(said())?.file_name();
        indices.extend(name.to_str().and_then(segment::index_of_name));
    }
    indices.sort_unstable();
    let mut files: Vec<SegmentFile> = Vec::with_capacity(indices.len());
    for index in indices {
        let file = SegmentFile::open(dir.join(segment::name(index)), index)?;
        if let Some(before) = files.last() {
            check_neighbours(dir, &before.header, &file)?;
        }
        files.push(file);
    }
    Ok(files)
}

fn check_neighbours(dir: &Path, before: &Header, file: &SegmentFile) -> Result<(), Error> {
    let header = &file.header;
    if !lives::is_one_log(before, header) {
        let what = "it belongs to another life of the log".to_owned();
        return Err(Error::Format { file: file.path.display().to_string(), what });
    }
    if let Some(missing) = lives::missing_between(before, header) {
        let lsn = Lsn(missing.saturating_mul(before.segment_bytes));
        let segment = dir.join(segment::name(missing)).display().to_string();
        return Err(Error::Missing { segment, lsn });
    }
    Ok(())
}

struct Walk<'a> {
    files: &'a [SegmentFile],
    inspection: &'a mut Inspection,
}

impl Walk<'_> {
    fn run(&mut self, each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>) -> Result<(), Error> {
        for (at, file) in self.files.iter().enumerate() {
            let (offset, flow) = self.segment(file, each);
            if flow.is_break() {
                return Ok(());
            }
            let is_whole = offset == file.header.segment_bytes;
            if !is_whole && self.ends_at(at, offset) {
                break;
            }
        }
        self.check_reach()
    }

    /// Reads a segment up to its first absent or bad record.
    fn segment(
        &mut self,
        file: &SegmentFile,
        each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>,
    ) -> (u64, ControlFlow<()>) {
        let mut view = SegmentView {
            file: file.path.clone(),
            begin: Lsn(file.base()),
            records: 0,
            record_bytes: 0,
            marks: 0,
        };
        let (mut offset, mut flow) = (0, ControlFlow::Continue(()));
        while let Some(record) = file.record(offset)
            && flow.is_continue()
        {
            offset = record.end.0 - file.base();
            self.inspection.end = record.end;
            if record.kind < KIND_OWN_MIN {
                view.records += 1;
                view.record_bytes += record.end.0 - record.lsn.0;
                flow = each(&record);
            } else if record.kind == KIND_MARK
                && let Some(mark) = Mark::read(&record, file.header.mark_key)
            {
                view.marks += 1;
                self.believe(mark);
            }
        }
        self.inspection.segments.push(view);
        (offset, flow)
    }

    fn believe(&mut self, mark: Mark) {
        self.inspection.durable = self.inspection.durable.max(Lsn(mark.durable));
        self.inspection.needed = self.inspection.needed.max(Lsn(mark.oldest));
    }

    /// Whether the log ends at this place of a segment, cleanly or torn; if not, it is rot.
    fn ends_at(&mut self, at: usize, offset: u64) -> bool {
        let (file, behind) = (&self.files[at], &self.files[at + 1..]);
        let end = file.base() + offset;
        let window = self.files.iter().map(|f| f.header.window_bytes).max().unwrap_or(0);
        let reach = segment::reach(end, window, file.header.segment_bytes);
        let marks = self.files[at..].iter().filter_map(|f| f.newest_mark(end, reach));
        let newest = marks.max_by_key(|mark| mark.durable);
        if let Some(mark) = newest {
            self.believe(mark);
        }
        let far_behind = behind.iter().any(|f| f.base() >= reach && f.record(0).is_some());
        if self.inspection.durable.0 > end || far_behind {
            let (path, offset) = (file.path.clone(), SEGMENT_HEADER_BYTES + offset);
            self.inspection.rot.push(Rot { file: path, offset, lsn: Lsn(end) });
            return false;
        }
        let torn = behind.iter().map(|f| f.written_from(0)).sum::<u64>();
        self.inspection.torn_bytes = file.written_from(offset) + torn;
        true
    }

    /// What is still needed must be there.
    fn check_reach(&self) -> Result<(), Error> {
        let needed = Lsn(self.inspection.lives.behind_gap(self.inspection.needed.0));
        if needed >= self.inspection.begin {
            return Ok(());
        }
        let first = &self.files[0];
        let segment =
            first.path.with_file_name(segment::name(needed.0 / first.header.segment_bytes));
        Err(Error::Missing { segment: segment.display().to_string(), lsn: needed })
    }
}
