//! Reading: a view of one record in a mapped segment, and the reader that follows the durable log, and if it
//! looks back ([`LookBack`]), its archive before.
//!
//! A reader or a pinned record holds its segment, so that it is not recycled under it. Every record is
//! checked when it is read; damage is an error that names the place.

#![allow(unsafe_code)]

use std::sync::Arc;

use rkyv::util::AlignedVec;

use super::{
    archive::LookBack,
    error::Error,
    log::Inner,
    record::{self, KIND_OWN_MIN, Record},
    ring::{Memory, Segment},
    segment,
    storage::{SEGMENT_HEADER_BYTES, Storage},
    sync::Ordering,
};
use crate::model::Lsn;

/// The record at an offset of a segment, if a whole and valid one is published there.
pub fn view<M: Memory>(segment: &Segment<M>, offset: u64) -> Option<Record<'_>> {
    let words = segment.memory.payload();
    let at = (offset / 8) as usize;
    let word0 = words.get(at)?.load(Ordering::Acquire);
    let rest = (words.len() - at) as u64 * 8;
    let extent = record::extent_of(word0);
    if extent < 8 || extent > rest {
        return None;
    }
    // SAFETY: the words lie within the segment. The first one was read with acquire and is not zero, so
    // what was published here is complete, and what is published does not change before the segment is
    // retired, which the borrow of it prevents. Where recovery looks at words that were never
    // published, nobody writes yet.
    let bytes =
        unsafe { std::slice::from_raw_parts(words.as_ptr().add(at).cast::<u8>(), extent as usize) };
    record::decode(bytes, rest, segment.base + offset, segment.nonce)
}

/// The kind that the header at an offset names; nothing of it is checked.
fn kind_at<M: Memory>(segment: &Segment<M>, offset: u64) -> u8 {
    let words = &segment.memory.payload()[(offset / 8) as usize..];
    if record::length_of(words[0].load(Ordering::Acquire)) < record::HEADER_BYTES as u32 {
        return record::KIND_PADDING;
    }
    words.get(1).map_or(record::KIND_PADDING, |word| record::kind_of(word.load(Ordering::Relaxed)))
}

/// What says that a record of a segment is damaged.
pub fn rotted<S: Storage>(storage: &S, index: u64, offset: u64, base: u64) -> Error {
    Error::Rotted {
        segment: storage.place(&segment::name(index)),
        offset: SEGMENT_HEADER_BYTES + offset,
        lsn: Lsn(base + offset),
        why: "there is no whole record there",
    }
}

/// Follows the durable log from a position on.
pub struct Reader<S: Storage> {
    inner: Arc<Inner<S>>,
    source: Source<S>,
    position: u64,
    durable: u64,
}

/// Where a reader reads: in a segment of the log, or in one that is unpacked.
struct Source<S: Storage> {
    segment: Option<Arc<Segment<S::Segment>>>,
    back: Option<LookBack<S>>,
}

impl<S: Storage> Source<S> {
    fn has(&self, position: u64, index: u64) -> bool {
        match &self.segment {
            Some(segment) => segment.index == index,
            None => self.back.as_ref().is_some_and(|back| back.held(Lsn(position)).is_some()),
        }
    }

    /// Takes the segment of a position from the log, or else from the archive.
    fn take(&mut self, inner: &Inner<S>, position: u64) -> Result<(), Error> {
        self.segment = inner.segment_of(position);
        let gone = || Error::Archived { lsn: Lsn(position), oldest: Lsn(inner.oldest()) };
        match (&self.segment, &mut self.back) {
            (Some(_), back) => {
                back.iter_mut().for_each(LookBack::put_down);
                Ok(())
            }
            (None, Some(back)) => back.hold(Lsn(position), gone()),
            (None, None) => Err(gone()),
        }
    }

    /// The kind that the header at a position names; in the log nothing of it is checked.
    fn kind(&self, inner: &Inner<S>, position: u64) -> Result<u8, Error> {
        match &self.segment {
            Some(segment) => Ok(kind_at(segment, inner.core.offset_of(position))),
            None => self.record(inner, position).map(|record| record.kind),
        }
    }

    fn record(&self, inner: &Inner<S>, position: u64) -> Result<Record<'_>, Error> {
        let offset = inner.core.offset_of(position);
        if let Some(segment) = &self.segment {
            let rot = || rotted(&inner.storage, segment.index, offset, segment.base);
            return view(segment, offset).ok_or_else(rot);
        }
        let image = self.back.as_ref().and_then(|back| back.held(Lsn(position)));
        let image = image.ok_or(Error::NoRecord { lsn: Lsn(position) })?;
        image.record(offset).ok_or_else(|| Error::Archive {
            file: image.path.display().to_string(),
            why: format!("there is no whole record at log position {position}"),
        })
    }
}

impl<S: Storage> Reader<S> {
    pub(super) fn new(inner: Arc<Inner<S>>, from: Lsn) -> Result<Self, Error> {
        let oldest = inner.oldest();
        if inner.lives.behind_gap(from.0) < oldest {
            return Err(Error::Archived { lsn: from, oldest: Lsn(oldest) });
        }
        Self::begin(inner, from, None)
    }

    /// One that reads in the archive what the log has let go.
    pub(super) fn looking_back(
        inner: Arc<Inner<S>>,
        from: Lsn,
        back: LookBack<S>,
    ) -> Result<Self, Error> {
        Self::begin(inner, from, Some(back))
    }

    fn begin(inner: Arc<Inner<S>>, from: Lsn, back: Option<LookBack<S>>) -> Result<Self, Error> {
        let position = inner.behind_gap(from.0);
        let segment = inner.segment_of(position);
        let durable = inner.core.durable();
        if position > durable || !position.is_multiple_of(8) {
            return Err(Error::NoRecord { lsn: from });
        }
        Ok(Self { inner, source: Source { segment, back }, position, durable })
    }

    /// Where the next record will be looked for.
    pub fn position(&self) -> Lsn {
        Lsn(self.position)
    }

    /// The next record; `None` if there is no further one on the disk yet. Keeps the segment that it
    /// is in from being recycled.
    #[expect(clippy::should_implement_trait, reason = "it lends, and it can fail")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, Error> {
        while self.turn()? {
            if self.source.kind(&self.inner, self.position)? < KIND_OWN_MIN {
                break;
            }
            self.position = self.source.record(&self.inner, self.position)?.end.0;
        }
        if self.position >= self.durable {
            return Ok(None);
        }
        let record = self.source.record(&self.inner, self.position)?;
        self.position = record.end.0;
        Ok(Some(record))
    }

    /// Turns to the segment of the position; false if there is nothing durable at it.
    fn turn(&mut self) -> Result<bool, Error> {
        if self.position >= self.durable {
            self.durable = self.inner.core.durable();
            if self.position >= self.durable {
                return Ok(false);
            }
        }
        if !self.source.has(self.position, self.inner.core.index_of(self.position)) {
            // A gap begins where a segment ends.
            self.position = self.inner.behind_gap(self.position);
            self.source.take(&self.inner, self.position)?;
        }
        Ok(true)
    }
}

/// One record, and what holds it: its segment, or a copy of what was archived.
pub struct Pinned<S: Storage> {
    held: Held<S>,
}

enum Held<S: Storage> {
    Segment { segment: Arc<Segment<S::Segment>>, offset: u64 },
    Copy { bytes: AlignedVec, lsn: Lsn, nonce: u64 },
}

impl<S: Storage> Pinned<S> {
    pub(super) fn new(inner: &Inner<S>, lsn: Lsn) -> Result<Self, Error> {
        let core = &inner.core;
        let oldest = inner.oldest();
        if lsn.0 < oldest {
            return Err(Error::Archived { lsn, oldest: Lsn(oldest) });
        }
        let none = || Error::NoRecord { lsn };
        // Beyond what was walked a record may still be written, and a slice over it would be a race.
        if !lsn.0.is_multiple_of(8) || lsn.0 >= core.published() {
            return Err(none());
        }
        let segment = inner.segment_of(lsn.0).ok_or_else(none)?;
        let offset = core.offset_of(lsn.0);
        match view(&segment, offset) {
            Some(record) if record.kind < KIND_OWN_MIN => {
                Ok(Self { held: Held::Segment { segment, offset } })
            }
            _ => Err(none()),
        }
    }

    /// Of the bytes of a whole record, which stood at a position of a segment with this nonce.
    pub(super) fn copied(bytes: AlignedVec, lsn: Lsn, nonce: u64) -> Self {
        Self { held: Held::Copy { bytes, lsn, nonce } }
    }

    /// The record.
    pub fn record(&self) -> Record<'_> {
        let record = match &self.held {
            Held::Segment { segment, offset } => view(segment, *offset),
            Held::Copy { bytes, lsn, nonce } => {
                record::decode(bytes, bytes.len() as u64, lsn.0, *nonce)
            }
        };
        record.expect("it was checked when it was pinned")
    }
}
