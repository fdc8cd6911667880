//! Looking at a log without opening it: nothing is written, cut or recovered.
//!
//! It reads every segment that is there, from the first to the last, by the rules of recovery: a
//! damage that a mark covers, or that has records further behind than the unsynced window, is rot; one
//! that has neither is a torn end, which the next start cuts. Where recovery stops at the first rot,
//! this goes on with the next segment, so that all of it is named. With the archive, what of it joins the
//! log comes first; a file of it that is not whole is rot too.
//!
//! The directory is locked as shared for as long as it takes, so that no server works on it meanwhile.

use std::{
    fs::{self, File},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{
    archive::find,
    error::Error,
    image::SegmentImage,
    lives::{self, Lives},
    mark::Mark,
    record::{KIND_MARK, KIND_OWN_MIN, Record},
    segment::{self, Header},
    storage::SEGMENT_HEADER_BYTES,
};
use crate::model::{Incarnation, Lsn};

/// What a log looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The life of the data directory; absent if there is no segment yet.
    pub incarnation: Option<Incarnation>,
    /// All lives whose segments are there.
    pub(super) lives: Lives,
    /// Its segments, oldest first; those of the archive come before those of the log.
    pub segments: Vec<SegmentView>,
    /// Where the log begins, or what of its archive was read.
    pub begin: Lsn,
    /// Where the log itself begins.
    pub log_begin: Lsn,
    /// Where its last whole record ends.
    pub end: Lsn,
    /// Everything below was known to be durable.
    pub durable: Lsn,
    /// Everything from here on is still needed.
    pub needed: Lsn,
    /// Bytes behind the end, torn or of an earlier use of the file; the next start cuts them.
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
    inspect_with(dir, None, each)
}

/// As [`inspect`], after what joins the log of its archive in another directory, which may not be there. Holds
/// one unpacked segment at a time.
///
/// # Errors
/// As [`inspect`]; the archive can't be listed.
pub fn inspect_with(
    dir: &Path,
    archive: Option<&Path>,
    each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>,
) -> Result<Inspection, Error> {
    let _lock = lock(dir)?;
    let files = open_all(dir)?;
    let mut inspection = Inspection::default();
    let (Some(first), Some(last)) = (files.first(), files.last()) else { return Ok(inspection) };
    let own = last.header.life.incarnation;
    inspection.incarnation = Some(own);
    inspection.begin = Lsn(first.base());
    inspection.log_begin = inspection.begin;
    let mut archived = find::Files::default();
    archive.map_or(Ok(false), |archive| archived.add(archive))?;
    let mut lineage = Lives::of(files.iter().map(|file| &file.header)).all().collect::<Vec<_>>();
    lineage.reverse();
    let row = archived.before(&first.header, lineage);
    let headers = row.iter().filter_map(|found| found.header.as_ref().ok());
    inspection.lives = Lives::of(headers.chain(files.iter().map(|file| &file.header)));
    let mut walk = Walk { files: &files, inspection: &mut inspection };
    if walk.archived(&row, each).is_continue() {
        walk.run(each)?;
    }
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
pub(super) fn lock(dir: &Path) -> Result<File, Error> {
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

/// All segments, oldest first, without a gap.
fn open_all(dir: &Path) -> Result<Vec<SegmentImage>, Error> {
    let said = || Error::io(format!("listing {}", dir.display()));
    let mut indices = Vec::new();
    for entry in fs::read_dir(dir).map_err(said())? {
        let name = entry.map_err(said())?.file_name();
        indices.extend(name.to_str().and_then(segment::index_of_name));
    }
    indices.sort_unstable();
    let mut files: Vec<SegmentImage> = Vec::with_capacity(indices.len());
    for index in indices {
        let file = SegmentImage::map(&dir.join(segment::name(index)), index)?;
        if let Some(before) = files.last() {
            check_neighbours(dir, &before.header, &file)?;
        }
        files.push(file);
    }
    Ok(files)
}

fn check_neighbours(dir: &Path, before: &Header, file: &SegmentImage) -> Result<(), Error> {
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
    files: &'a [SegmentImage],
    inspection: &'a mut Inspection,
}

impl Walk<'_> {
    /// Reads archived segments, each as a whole.
    fn archived(
        &mut self,
        row: &[find::Found],
        each: &mut dyn FnMut(&Record<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for (nth, found) in row.iter().enumerate() {
            let base = Lsn(found.index.saturating_mul(self.files[0].header.segment_bytes));
            if nth == 0 {
                self.inspection.begin = base;
            }
            let rot = |offset, lsn| Rot { file: found.path.clone(), offset, lsn };
            let image = match found.unpack() {
                Ok(image) => image,
                Err(error) => {
                    tracing::error!(%error, "an archived segment is passed over");
                    self.inspection.rot.push(rot(0, base));
                    continue;
                }
            };
            let (offset, flow) = self.segment(&image, each);
            flow?;
            if offset < image.header.segment_bytes {
                self.inspection.rot.push(rot(SEGMENT_HEADER_BYTES + offset, Lsn(base.0 + offset)));
            }
        }
        ControlFlow::Continue(())
    }

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
        file: &SegmentImage,
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
        if needed >= self.inspection.log_begin {
            return Ok(());
        }
        let first = &self.files[0];
        let segment =
            first.path.with_file_name(segment::name(needed.0 / first.header.segment_bytes));
        Err(Error::Missing { segment: segment.display().to_string(), lsn: needed })
    }
}
