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
        read::Pinned,
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
        self.kept = None;
        if let Some(archive) = self.inner.archive.as_ref().filter(|_| self.entered) {
            archive.leave();
        }
    }
}

impl<S: Storage> Log<S> {
    /// Begins to look back; [`LOOK_BACK_SEGMENTS_MAX`] segments of the archive may be unpacked for it.
    pub fn look_back(&self) -> LookBack<S> {
        let inner = self.inner().clone();
        LookBack { inner, kept: None, entered: false, left: LOOK_BACK_SEGMENTS_MAX }
    }

    /// The first position that can still be read, in the log or in what of its archive joins it.
    pub fn archive_oldest(&self) -> Lsn {
        let inner = self.inner();
        let oldest = inner.oldest();
        Lsn(inner.archive.as_ref().map_or(oldest, |archive| archive.begin().min(oldest)))
    }
}

impl<S: Storage> LookBack<S> {
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

    fn unpacked(&mut self, lsn: Lsn, gone: Error) -> Result<Pinned<S>, Error> {
        let inner = self.inner.clone();
        let Some(archive) = &inner.archive else { return Err(gone) };
        let index = inner.core.index_of(lsn.0);
        if self.kept.as_ref().is_none_or(|kept| kept.header.index != index) {
            self.left = self.left.checked_sub(1).ok_or(gone)?;
            if !self.entered {
                archive.enter()?;
                self.entered = true;
            }
            // The one before goes first: two are never held.
            self.kept = None;
            self.kept = Some(archive.unpack(index)?);
        }
        let none = || Error::NoRecord { lsn };
        let image = self.kept.as_ref().filter(|_| lsn.0.is_multiple_of(8)).ok_or_else(none)?;
        let offset = inner.core.offset_of(lsn.0);
        let record = image.record(offset).filter(|record| record.kind < KIND_OWN_MIN);
        let record = record.ok_or_else(none)?;
        let bytes = &image.payload()[offset as usize..(record.end.0 - image.base()) as usize];
        let mut copy = AlignedVec::with_capacity(bytes.len());
        copy.extend_from_slice(bytes);
        Ok(Pinned::copied(copy, lsn, image.header.nonce))
    }
}
