//! Records that the log has let go, read from its archive with bounded work and memory: a segment is unpacked
//! as a whole (some tens of milliseconds for 64 MiB), the last one is kept for the next question, one look
//! back unpacks so many at most, and all together hold so few at a time.

use std::sync::Arc;

use rkyv::util::AlignedVec;

use crate::{
    model::{Incarnation, Lsn},
    wal::{
        error::Error,
        image::SegmentImage,
        log::{Inner, Log},
        read::{Pinned, Reader},
        record::KIND_OWN_MIN,
        storage::Storage,
    },
};

/// The segments that one look back unpacks at most.
pub const LOOK_BACK_SEGMENTS_MAX: u32 = 32;

/// Reads the log and, for what it has let go, its archive. Holds one unpacked segment at most.
pub struct LookBack<S: Storage> {
    inner: Arc<Inner<S>>,
    kept: Option<SegmentImage>,
    /// Whether it has a place for an unpacked segment.
    entered: bool,
    left: u32,
}

impl<S: Storage> Drop for LookBack<S> {
    fn drop(&mut self) {
        self.put_down();
    }
}

impl<S: Storage> Log<S> {
    /// Begins to look back; [`LOOK_BACK_SEGMENTS_MAX`] segments of the archive may be unpacked for it.
    pub fn look_back(&self) -> LookBack<S> {
        self.look_back_over(LOOK_BACK_SEGMENTS_MAX)
    }

    /// Begins to look back; so many segments of the archive may be unpacked for it. Where nobody waits:
    /// `u32::MAX`.
    pub fn look_back_over(&self, segments_max: u32) -> LookBack<S> {
        let inner = self.inner().clone();
        LookBack { inner, kept: None, entered: false, left: segments_max }
    }

    /// The first position that can still be read, in the log or in what of its archive joins it.
    pub fn archive_oldest(&self) -> Lsn {
        let inner = self.inner();
        let oldest = inner.oldest();
        Lsn(inner.archive.as_ref().map_or(oldest, |archive| archive.begin().min(oldest)))
    }

    /// How many segments a reader has to unpack who reads from a position on.
    pub fn archived_segments_from(&self, from: Lsn) -> u64 {
        let inner = self.inner();
        let oldest = inner.oldest();
        let archive = inner.archive.as_ref().filter(|_| from.0 < oldest);
        archive.map_or(0, |archive| archive.count(from.0, oldest))
    }

    /// Where the segment of a position begins, in the log or in its archive: a record begins there.
    pub fn segment_begin(&self, lsn: Lsn) -> Lsn {
        let inner = self.inner();
        let position = inner.behind_gap(lsn.0);
        Lsn(position - inner.core.offset_of(position))
    }

    /// Where the segment before that of a position begins; `None` if neither log nor archive have it.
    pub fn segment_before(&self, lsn: Lsn) -> Option<Lsn> {
        let inner = self.inner();
        let base = inner.lives.before_gap(self.segment_begin(lsn).0);
        let archive = inner.archive.as_ref();
        let end = archive.map_or(base, |archive| archive.before_gap(base));
        let before = Lsn(end.checked_sub(inner.core.segment_bytes())?);
        (before >= self.archive_oldest()).then_some(before)
    }

    /// Where a segment begins before which everything was written at or before a time. What the archive has
    /// says when it was written; of the rest nothing is known before it is read.
    pub fn segment_begin_at(&self, time_ms: u64) -> Lsn {
        let inner = self.inner();
        let Some(archive) = &inner.archive else { return self.archive_oldest() };
        let later = archive.first_after(time_ms);
        // All that is archived is earlier; what follows it is in the log.
        Lsn(later.unwrap_or_else(|| inner.behind_gap(archive.to())))
    }
}

impl<S: Storage> LookBack<S> {
    /// Reads on from a position, which must be where a record begins, through the archive into the log.
    ///
    /// # Errors
    /// [`Error::NoRecord`] if it is not. The reader's are those of [`LookBack::read_at`].
    pub fn reader(self, from: Lsn) -> Result<Reader<S>, Error> {
        Reader::looking_back(self.inner.clone(), from, self)
    }

    /// Allows as much again; what is unpacked stays.
    pub fn go_on(&mut self) {
        self.left = LOOK_BACK_SEGMENTS_MAX;
    }

    /// The life that a position was written in.
    pub fn incarnation_at(&self, lsn: Lsn) -> Incarnation {
        self.inner.incarnation_at(lsn)
    }

    /// One record, from the log or from its archive.
    ///
    /// # Errors
    /// [`Error::Archived`] if neither has it, or if finding it takes more than may be unpacked;
    /// [`Error::ArchiveBusy`] if others read the archive for too long; what is wrong with its file.
    pub fn read_at(&mut self, lsn: Lsn) -> Result<Pinned<S>, Error> {
        match Pinned::new(&self.inner, lsn) {
            Err(gone @ Error::Archived { .. }) => self.unpacked(lsn, gone),
            other => other,
        }
    }

    /// Lets the unpacked segment go, and its place.
    pub(in crate::wal) fn put_down(&mut self) {
        self.kept = None;
        if std::mem::take(&mut self.entered)
            && let Some(archive) = &self.inner.archive
        {
            archive.leave();
        }
    }

    /// The unpacked segment of a position, if it is the one that is held.
    pub(in crate::wal) fn held(&self, lsn: Lsn) -> Option<&SegmentImage> {
        let index = self.inner.core.index_of(lsn.0);
        self.kept.as_ref().filter(|kept| kept.header.index == index)
    }

    /// Holds the unpacked segment of a position; `gone` if it is not there, or must not be unpacked.
    pub(in crate::wal) fn hold(&mut self, lsn: Lsn, gone: Error) -> Result<(), Error> {
        let inner = self.inner.clone();
        let Some(archive) = &inner.archive else { return Err(gone) };
        if self.held(lsn).is_some() {
            return Ok(());
        }
        self.left = self.left.checked_sub(1).ok_or(gone)?;
        if !self.entered {
            archive.enter()?;
            self.entered = true;
        }
        // The one before goes first: two are never held.
        self.kept = None;
        self.kept = Some(archive.unpack(inner.core.index_of(lsn.0))?);
        Ok(())
    }

    fn unpacked(&mut self, lsn: Lsn, gone: Error) -> Result<Pinned<S>, Error> {
        self.hold(lsn, gone)?;
        let none = || Error::NoRecord { lsn };
        let image = self.held(lsn).filter(|_| lsn.0.is_multiple_of(8)).ok_or_else(none)?;
        let offset = self.inner.core.offset_of(lsn.0);
        let record = image.record(offset).filter(|record| record.kind < KIND_OWN_MIN);
        let record = record.ok_or_else(none)?;
        let bytes = &image.payload()[offset as usize..(record.end.0 - image.base()) as usize];
        let mut copy = AlignedVec::with_capacity(bytes.len());
        copy.extend_from_slice(bytes);
        Ok(Pinned::copied(copy, lsn, image.header.nonce))
    }
}
