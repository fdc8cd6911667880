//! Backups: a consistent copy of the newest whole checkpoint and of the log up to where it is durable,
//! made while the log goes on.
//!
//! Constraints: nobody who appends waits for it; what it copies can't be recycled before it is copied, and
//! not a segment longer; a copy of rot is no backup, so every record is checked on its way out.
//!
//! Layout of a backup's directory: `manifest.json` ([`Manifest`]), the checkpoint and the segments under the
//! names that they have in the data directory, `configuration.toml`. The last segment's file ends where
//! the backup ends. The manifest is written last, and only then the directory gets its name.
//!
//! Operation: [`Log::backup`] pins; [`Backup::give`] says the files piece by piece, oldest segment first, and
//! lets go of each as it is done; a [`Folder`] takes the pieces, over a wire too ([`frames`]); [`restore`]
//! makes a directory of a new life of it, brought forward by what was archived since ([`Forward`]).

mod folder;
mod forward;
pub mod frames;
mod manifest;
mod restore;

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::Arc,
};

pub use folder::{Aside, Folder};
pub use forward::{Brought, Forward, Until};
pub use manifest::{Facts, FileFacts, Manifest};
pub use restore::{Restored, restore};

pub use super::image::PIECE_BYTES_MAX;
use super::{
    checkpoint,
    error::Error,
    image,
    log::Log,
    ring::Segment,
    segment,
    storage::{SEGMENT_HEADER_BYTES, Storage},
};
use crate::model::Lsn;

/// A piece of a backup. The files come in the order of [`Facts::files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The next bytes of a file.
    Bytes(&'a [u8]),
    /// The file's end, and the CRC-32C of its bytes.
    End(u32),
}

/// Takes the pieces; an error ends the backup.
pub type Take<'a> = dyn FnMut(Piece<'_>) -> io::Result<()> + 'a;

/// What a backup will hold, pinned.
pub struct Backup<S: Storage> {
    storage: S,
    facts: Facts,
    checkpoint: Option<S::Reader>,
    segments: VecDeque<Arc<Segment<S::Segment>>>,
    segment_bytes: u64,
}

impl<S: Storage> Log<S> {
    /// Pins what a backup of this moment holds: everything durable that is there, and the checkpoint that
    /// covers everything below `checkpoint`, which must be whole and must not be removed meanwhile.
    ///
    /// # Errors
    /// The disk can't be read.
    pub fn backup(&self, checkpoint: Option<Lsn>) -> Result<Backup<S>, Error> {
        let (end, storage) = (self.durable(), self.storage().clone());
        let segments = self.inner().pin_below(end.0);
        let segment_bytes = self.options().segment_bytes;
        let mut files = Vec::with_capacity(segments.len() + 1);
        let mut reader = None;
        if let Some(covers) = checkpoint {
            let name = checkpoint::name(covers.0);
            let io = |error| Error::io(format!("reading {}", storage.place(&name)))(error);
            files.push(FileFacts::new(&name, storage.len(&name).map_err(io)?));
            reader = Some(storage.open(&name).map_err(io)?);
        }
        for segment in &segments {
            let payload = end.0.min(segment.base + segment_bytes) - segment.base;
            let name = segment::name(segment.index);
            files.push(FileFacts::new(&name, SEGMENT_HEADER_BYTES + payload));
        }
        let facts = Facts {
            incarnation: self.incarnation().to_string(),
            begin: Lsn(segments.front().map_or(end.0, |segment| segment.base)),
            end,
            checkpoint,
            segment_bytes,
            files,
        };
        Ok(Backup { storage, facts, checkpoint: reader, segments, segment_bytes })
    }
}

impl<S: Storage> Backup<S> {
    /// What it holds.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Gives all of it away. Waits as long as `take` does.
    ///
    /// # Errors
    /// The disk can't be read, a record is damaged, `take` refused.
    pub fn give(mut self, take: &mut Take<'_>) -> Result<(), Error> {
        if let Some(reader) = self.checkpoint.take() {
            self.give_checkpoint(reader, take)?;
        }
        while let Some(segment) = self.segments.pop_front() {
            self.give_segment(&segment, take)?;
        }
        Ok(())
    }

    fn give_checkpoint(&self, reader: S::Reader, take: &mut Take<'_>) -> Result<(), Error> {
        let Some(FileFacts { name, bytes, .. }) = self.facts.files.first() else { return Ok(()) };
        let mut reader = reader.take(*bytes);
        let mut giver = Giver { take, crc: 0 };
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        let mut left = *bytes;
        while left > 0 {
            let part = &mut buffer[..left.min(PIECE_BYTES_MAX as u64) as usize];
            let what = || format!("reading {}", self.storage.place(name));
            reader.read_exact(part).map_err(|error| Error::io(what())(error))?;
            giver.bytes(part).map_err(Error::io("giving a backup away"))?;
            left -= part.len() as u64;
        }
        giver.end().map_err(Error::io("giving a backup away"))
    }

    fn give_segment(
        &self,
        segment: &Segment<S::Segment>,
        take: &mut Take<'_>,
    ) -> Result<(), Error> {
        let payload = self.facts.end.0.min(segment.base + self.segment_bytes) - segment.base;
        image::check(&self.storage, segment, payload)?;
        let mut giver = Giver { take, crc: 0 };
        let given = image::give(segment, payload, &mut |bytes| giver.bytes(bytes));
        given.and_then(|()| giver.end()).map_err(Error::io("giving a backup away"))
    }
}

struct Giver<'a, 'b> {
    take: &'a mut Take<'b>,
    crc: u32,
}

impl Giver<'_, '_> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        (self.take)(Piece::Bytes(bytes))
    }

    fn end(self) -> io::Result<()> {
        (self.take)(Piece::End(self.crc))
    }
}
