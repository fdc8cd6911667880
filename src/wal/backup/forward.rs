//! From the end of a backup on: segments of the lost log that were archived, or that are still there, bring
//! what is restored forward, record by record, up to a moment or to their end.
//!
//! Sound, since every prefix of the log is a state that was: what is brought is whole, of the log that the
//! backup was made of (the bytes that both have are the same), and without a gap. What lies behind a damage
//! or a gap is not brought, and a restore that would leave it out unasked is refused with the place named.

use std::path::{Path, PathBuf};

use super::{super::archive::FOLDER, FileFacts};
use crate::{
    model::{Incarnation, Lsn},
    wal::{
        archive::find::Files,
        error::Error,
        image::SegmentImage,
        lives,
        record::{KIND_OWN_MIN, Record},
        segment::{self, Header},
        storage::SEGMENT_HEADER_BYTES,
    },
};

/// Up to where a log is brought forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The record at this position, or the last one before it, is the last one.
    Lsn(Lsn),
    /// The first record that is later, in milliseconds since 1970, and all behind it are left out.
    TimeMs(u64),
}

impl Until {
    fn leaves_out(self, record: &Record<'_>) -> bool {
        match self {
            Self::Lsn(last) => record.lsn > last,
            Self::TimeMs(last_ms) => record.kind < KIND_OWN_MIN && record.time_ms > last_ms,
        }
    }
}

/// What brings a restored log forward.
#[derive(Debug)]
pub struct Forward {
    files: Files,
    until: Option<Until>,
}

/// What was brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Brought {
    /// Records, the log's own apart.
    pub records: u64,
    /// Where the last of all ends: everything that begins below is restored.
    pub end: Lsn,
    /// The time of the latest, in milliseconds since 1970; 0 without any.
    pub last_ms: u64,
}

/// A segment as it is to be written.
pub(super) struct Part {
    pub header: Header,
    /// Its file up to where it was read, header first.
    pub bytes: Vec<u8>,
}

impl Forward {
    /// From directories: archives, data directories (with the archive in them), or copies of their files.
    ///
    /// # Errors
    /// One is not there or can't be listed.
    pub fn new(dirs: &[PathBuf], until: Option<Until>) -> Result<Self, Error> {
        let mut files = Files::default();
        for dir in dirs {
            if !files.add(dir)? {
                let what = "is not there".to_owned();
                return Err(Error::Backup { place: dir.display().to_string(), what });
            }
            files.add(&dir.join(FOLDER))?;
        }
        Ok(Self { files, until })
    }

    /// How many segments may come behind the last one of a backup.
    pub fn segments_behind(&self, last: &FileFacts) -> u64 {
        segment::index_of_name(&last.name).map_or(0, |last| self.files.count_above(last))
    }

    /// Brings the log forward from `last`, the backup's last segment, whose file has `has` and ends at `end`;
    /// gives each segment to `put`, from that one on.
    pub(super) fn bring(
        &self,
        (last, has, end): (&Header, &[u8], Lsn),
        incarnation: Incarnation,
        put: &mut dyn FnMut(Part) -> Result<(), Error>,
    ) -> Result<Brought, Error> {
        self.files.check_life(incarnation)?;
        let mut brought = Brought { end, ..Brought::default() };
        let mut at = Bring { forward: self, incarnation, brought: &mut brought, reached: false };
        at.check_backup(last, has)?;
        let mut before = *last;
        match self.files.of_life(last.index, incarnation)? {
            Some(image) => {
                at.check_same(&image, last, has)?;
                if !at.take(&image, put)? {
                    return at.end();
                }
            }
            None => {
                put(Part { header: *last, bytes: has.to_vec() })?;
                if end.0 < (last.index + 1).saturating_mul(last.segment_bytes) {
                    at.check_nothing_from(last.index + 1)?;
                    return at.end();
                }
            }
        }
        while let Some(image) = self.files.of_life(before.index + 1, incarnation)? {
            let header = image.header;
            if !lives::is_one_log(&before, &header)
                || lives::missing_between(&before, &header).is_some()
            {
                return Err(wrong(&image.path, "does not follow the segment before it"));
            }
            before = header;
            if !at.take(&image, put)? {
                return at.end();
            }
        }
        at.check_nothing_from(before.index + 2)?;
        at.end()
    }
}

fn wrong(path: &Path, what: impl Into<String>) -> Error {
    Error::Backup { place: path.display().to_string(), what: what.into() }
}

struct Bring<'a> {
    forward: &'a Forward,
    incarnation: Incarnation,
    brought: &'a mut Brought,
    /// Whether the moment was reached that it is brought up to.
    reached: bool,
}

impl Bring<'_> {
    /// What the backup has can't be left out again: its checkpoint may cover it.
    fn check_backup(&self, last: &Header, has: &[u8]) -> Result<(), Error> {
        let Some(until) = self.forward.until else { return Ok(()) };
        let base = last.index.saturating_mul(last.segment_bytes);
        let payload = &has[SEGMENT_HEADER_BYTES as usize..];
        let mut offset = 0;
        while let Some(bytes) = payload.get(offset..).filter(|bytes| !bytes.is_empty()) {
            let rest = last.segment_bytes - offset as u64;
            let lsn = base + offset as u64;
            let record = crate::wal::record::decode(bytes, rest, lsn, last.nonce);
            let Some(record) = record else { break };
            if until.leaves_out(&record) {
                let what = format!(
                    "it reaches further than what it is to be restored up to, to {}: take an earlier one",
                    self.brought.end
                );
                return Err(wrong(Path::new("(the backup)"), what));
            }
            offset = (record.end.0 - base) as usize;
        }
        Ok(())
    }

    /// Whether all that is wanted is there.
    fn has_reached(&self) -> bool {
        let lsn = match self.forward.until {
            Some(Until::Lsn(lsn)) => lsn < self.brought.end,
            _ => false,
        };
        self.reached || lsn
    }

    fn check_same(&self, image: &SegmentImage, last: &Header, has: &[u8]) -> Result<(), Error> {
        if image.header == *last && image.bytes().get(..has.len()) == Some(has) {
            return Ok(());
        }
        Err(wrong(&image.path, "is not of the log that the backup was made of"))
    }

    /// Takes a segment up to the moment, or to its end; false if nothing behind is to come.
    fn take(
        &mut self,
        image: &SegmentImage,
        put: &mut dyn FnMut(Part) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let (base, bytes) = (image.base(), image.header.segment_bytes);
        let mut offset = self.brought.end.0.max(base) - base;
        while offset < bytes {
            let Some(record) = image.record(offset) else { break };
            if self.forward.until.is_some_and(|until| until.leaves_out(&record)) {
                self.reached = true;
                break;
            }
            if record.kind < KIND_OWN_MIN {
                self.brought.records += 1;
                self.brought.last_ms = self.brought.last_ms.max(record.time_ms);
            }
            self.brought.end = record.end;
            offset = record.end.0 - base;
        }
        if offset < bytes && !self.has_reached() {
            self.check_end(image, base + offset)?;
        }
        // Of a segment that is only ready there is nothing.
        if offset > 0 {
            let bytes = image.bytes()[..(SEGMENT_HEADER_BYTES + offset) as usize].to_vec();
            put(Part { header: image.header, bytes })?;
        }
        Ok(offset == bytes)
    }

    /// No whole record at `end`: the log's end, torn or clean, unless what is there was durable.
    fn check_end(&self, image: &SegmentImage, end: u64) -> Result<(), Error> {
        let mut durable = image.newest_mark(end, u64::MAX).map_or(0, |mark| mark.durable);
        let mut index = image.header.index + 1;
        while let Some(behind) = self.forward.files.of_life(index, self.incarnation)? {
            let mark = behind.newest_mark(behind.base(), u64::MAX);
            durable = durable.max(mark.map_or(0, |mark| mark.durable));
            index += 1;
        }
        if durable <= end {
            return Ok(());
        }
        let what = format!(
            "is damaged at log position {end}, and what was there was durable; with `--until {}` what is \
             before it is restored",
            end.saturating_sub(1)
        );
        Err(wrong(&image.path, what))
    }

    /// A segment that is missing between two that are there is not passed over.
    fn check_nothing_from(&self, index: u64) -> Result<(), Error> {
        if self.has_reached() {
            return Ok(());
        }
        let Some(path) = self.forward.files.first_from(index, self.incarnation) else {
            return Ok(());
        };
        let end = self.brought.end;
        let what = format!(
            "is there, and the segment behind log position {end} is not; with `--until {}` what is before \
             it is restored",
            end.0.saturating_sub(1)
        );
        Err(wrong(path, what))
    }

    fn end(self) -> Result<Brought, Error> {
        match self.forward.until {
            Some(Until::Lsn(_)) if !self.has_reached() => {
                let what = format!("the log goes up to {} only", self.brought.end);
                Err(wrong(Path::new("(what it is restored of)"), what))
            }
            _ => Ok(*self.brought),
        }
    }
}
