//! From a backup to a data directory of a new life.
//!
//! Every byte is read once, into its place and into its digest. Segments keep the life that they were
//! written in; the last one is filled up with padding, and behind it, above a gap that no position of the
//! lost life reaches (`lives`), stands the first segment of the new life, with a mark that names all before
//! it as durable: damage there is then rot, and a segment that is missing is missed.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    FileFacts, Manifest, PIECE_BYTES_MAX,
    forward::{Brought, Forward, Part},
    manifest::hex,
};
use crate::{
    model::{Incarnation, Lsn},
    wal::{
        checkpoint,
        error::Error,
        image,
        lives::{self, Life, Lives},
        mark::{MARK_BYTES, Mark},
        record::{self, Draft},
        ring::Memory,
        segment::{self, Header},
        storage::{Mapping, SEGMENT_HEADER_BYTES, SegmentMemory, Storage},
        sync::Ordering,
    },
};

/// A directory that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What it was restored from.
    pub manifest: Manifest,
    /// Its new life.
    pub incarnation: Incarnation,
    /// Where the new life begins.
    pub first: Lsn,
    /// Where what was restored ends: that of the backup, or further.
    pub end: Lsn,
    /// What came from the archive and from what the lost log still had.
    pub brought: Option<Brought>,
}

/// Makes a new life of the backup in `from`, on a storage that has nothing yet, and brings it `forward`.
/// Whether its records make sense is for its next opening to say.
///
/// # Errors
/// A file is missing, is not what the manifest says, or is not what it should be; what is to bring it forward
/// is of another log or has a gap or damage in it; the disk refuses.
pub fn restore<S: Storage>(
    from: &Path,
    storage: &S,
    forward: Option<&Forward>,
) -> Result<Restored, Error> {
    let manifest = Manifest::read(from)?;
    let incarnation = Incarnation(random()?);
    let restore = Restore { from, storage, manifest: &manifest };
    let (headers, brought) = restore.segments(forward)?;
    let Some(last) = headers.last() else {
        return Err(restore.wrong("manifest.json", "names no segment"));
    };
    let incarnation = unlike(incarnation, &headers)?;
    restore.checkpoints(incarnation)?;
    let first = restore.begin(incarnation, &headers[0], last)?;
    let end = brought.map_or(manifest.log.end, |brought| brought.end);
    Ok(Restored { manifest, incarnation, first, end, brought })
}

fn random() -> Result<u64, Error> {
    let drawn = getrandom::u64().map_err(io::Error::other);
    drawn.map_err(Error::io("drawing a random number"))
}

/// Batches are named by a life's first four digits: they must be those of no earlier one.
fn unlike(mut incarnation: Incarnation, headers: &[Header]) -> Result<Incarnation, Error> {
    let lives = Lives::of(headers.iter());
    let named_like = |other: Incarnation| other.0 >> 48 == incarnation.0 >> 48;
    if lives.all().any(named_like) {
        // One of 65,536: the next one is as good.
        let taken = |top: u64| lives.all().any(|other| other.0 >> 48 == top);
        let free = (0..=0xFFFF).find(|top| !taken(*top)).unwrap_or_default();
        incarnation = Incarnation(free << 48 | incarnation.0 & 0xFFFF_FFFF_FFFF);
    }
    Ok(incarnation)
}

struct Restore<'a, S> {
    from: &'a Path,
    storage: &'a S,
    manifest: &'a Manifest,
}

/// A file of the backup that is read once, and its digest.
struct Source {
    file: File,
    path: PathBuf,
    digest: Sha256,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.digest.update(&buffer[..read]);
        Ok(read)
    }
}

impl<S: Storage> Restore<'_, S> {
    fn wrong(&self, file: &str, what: &str) -> Error {
        let place = self.from.join(file).display().to_string();
        Error::Backup { place, what: what.to_owned() }
    }

    fn open(&self, facts: &FileFacts) -> Result<Source, Error> {
        let path = self.from.join(&facts.name);
        let said = || Error::io(format!("reading {}", path.display()));
        let file = File::open(&path).map_err(said())?;
        let bytes = file.metadata().map_err(said())?.len();
        if bytes != facts.bytes {
            let what = format!("has {bytes} bytes, the manifest says {}", facts.bytes);
            return Err(self.wrong(&facts.name, &what));
        }
        Ok(Source { file, path, digest: Sha256::new() })
    }

    fn check_digest(&self, facts: &FileFacts, source: Source) -> Result<(), Error> {
        let found = hex(&source.digest.finalize());
        if found == facts.sha256 {
            return Ok(());
        }
        let what = format!("its SHA-256 is {found}, the manifest says {}", facts.sha256);
        Err(self.wrong(&facts.name, &what))
    }

    /// Copies all segments and those that come behind them; returns their headers.
    fn segments(&self, forward: Option<&Forward>) -> Result<(Vec<Header>, Option<Brought>), Error> {
        let files: Vec<_> = self.manifest.log.segments().collect();
        let Some((last, before)) = files.split_last() else { return Ok((Vec::new(), None)) };
        let copied = before.iter().map(|file| self.segment(file, false));
        let mut headers = copied.collect::<Result<Vec<_>, _>>()?;
        let Some(forward) = forward else {
            headers.push(self.segment(last, true)?);
            return Ok((headers, None));
        };
        let brought = self.forward(last, forward, &mut headers)?;
        Ok((headers, Some(brought)))
    }

    /// Writes the backup's last segment and what comes behind it.
    fn forward(
        &self,
        last: &FileFacts,
        forward: &Forward,
        headers: &mut Vec<Header>,
    ) -> Result<Brought, Error> {
        let mut source = self.open(last)?;
        let mut has = Vec::new();
        let read = source.read_to_end(&mut has);
        read.map_err(Error::io(format!("reading {}", source.path.display())))?;
        self.check_digest(last, source)?;
        let header = self.header(last, &has)?;
        let base = header.index * header.segment_bytes;
        let payload = (has.len() as u64).checked_sub(SEGMENT_HEADER_BYTES);
        if payload.map(|payload| base + payload) != Some(self.manifest.log.end.0) {
            return Err(self.wrong(&last.name, "does not end where the backup does"));
        }
        let incarnation = u64::from_str_radix(&self.manifest.log.incarnation, 16);
        let incarnation = incarnation
            .map_err(|_| self.wrong("manifest.json", "names an incarnation that is none"))?;
        let end = (&header, &has[..], self.manifest.log.end);
        forward.bring(end, Incarnation(incarnation), &mut |part| {
            headers.push(part.header);
            self.write(&part)
        })
    }

    /// Writes a segment up to where it was read, and fills it up.
    fn write(&self, part: &Part) -> Result<(), Error> {
        let Part { header, bytes } = part;
        let name = segment::name(header.index);
        let writing = || Error::io(format!("writing {}", self.storage.place(&name)));
        let mut writer = self.storage.create(&name).map_err(writing())?;
        writer.write_all(bytes).map_err(writing())?;
        let payload = bytes.len() as u64 - SEGMENT_HEADER_BYTES;
        let at = header.index * header.segment_bytes + payload;
        fill(&mut writer, header.nonce, at, header.segment_bytes - payload).map_err(writing())?;
        self.storage.sync_file(&mut writer).map_err(writing())
    }

    fn segment(&self, facts: &FileFacts, last: bool) -> Result<Header, Error> {
        let mut source = self.open(facts)?;
        let reading = |error| Error::io(format!("reading {}", source.path.display()))(error);
        let mut head = vec![0; SEGMENT_HEADER_BYTES as usize];
        let mut file = &source.file;
        file.read_exact(&mut head).map_err(reading)?;
        source.digest.update(&head);
        let header = self.header(facts, &head)?;
        let writing = || Error::io(format!("writing {}", self.storage.place(&facts.name)));
        let mut writer = self.storage.create(&facts.name).map_err(writing())?;
        writer.write_all(&head).map_err(writing())?;
        let copied = io::copy(&mut source, &mut writer).map_err(writing())?;
        let rest = header.segment_bytes - copied;
        if rest > 0 {
            if !last || !copied.is_multiple_of(8) {
                return Err(self.wrong(&facts.name, "is cut, and not the last segment"));
            }
            let at = header.index * header.segment_bytes + copied;
            fill(&mut writer, header.nonce, at, rest).map_err(writing())?;
        }
        self.storage.sync_file(&mut writer).map_err(writing())?;
        self.check_digest(facts, source)?;
        Ok(header)
    }

    fn header(&self, facts: &FileFacts, bytes: &[u8]) -> Result<Header, Error> {
        let header = image::header_of(bytes).map_err(|why| self.wrong(&facts.name, why))?;
        let index = segment::index_of_name(&facts.name);
        let payload = facts.bytes.saturating_sub(SEGMENT_HEADER_BYTES);
        if index != Some(header.index)
            || header.segment_bytes != self.manifest.log.segment_bytes
            || payload > header.segment_bytes
            || header.index.checked_mul(header.segment_bytes).is_none()
        {
            return Err(self.wrong(&facts.name, "its header does not fit the manifest"));
        }
        Ok(header)
    }

    /// Copies the checkpoint, as one of the new life.
    fn checkpoints(&self, incarnation: Incarnation) -> Result<(), Error> {
        for facts in &self.manifest.log.files {
            let Some(covers) = checkpoint::covers_of_name(&facts.name) else { continue };
            let mut source = self.open(facts)?;
            let said = || Error::io(format!("writing {}", self.storage.place(&facts.name)));
            let mut writer = self.storage.create(&facts.name).map_err(said())?;
            let life = (incarnation, Lsn(covers));
            let copied = checkpoint::copy(&mut source, facts.bytes, &mut writer, life);
            copied.map_err(said())?;
            self.storage.sync_file(&mut writer).map_err(said())?;
            self.check_digest(facts, source)?;
        }
        Ok(())
    }

    /// Makes the first segment of the new life; returns where it begins.
    fn begin(
        &self,
        incarnation: Incarnation,
        oldest: &Header,
        last: &Header,
    ) -> Result<Lsn, Error> {
        let bytes = last.segment_bytes;
        let end = (last.index + 1).saturating_mul(bytes);
        let first = lives::next_first(end, bytes);
        let header = Header {
            life: Life { incarnation, first, after: last.index },
            index: first,
            nonce: random()?,
            ..*last
        };
        let mark = Mark { durable: first * bytes, oldest: oldest.index * bytes };
        let made = self.first_segment(&header, mark);
        made.map_err(Error::io(format!("making {}", self.storage.place(&segment::name(first)))))?;
        Ok(Lsn(first * bytes))
    }

    fn first_segment(&self, header: &Header, mark: Mark) -> io::Result<()> {
        let (spare, bytes) = (segment::spare_name(0), segment::file_bytes(header.segment_bytes));
        self.storage.allocate(&spare, bytes)?;
        let mapping = Mapping::Private;
        self.storage.zero(&spare, bytes, mapping)?;
        let memory = self.storage.map(&spare, bytes, mapping)?;
        let mut draft = Draft::new();
        mark.draft(&mut draft, header.mark_key, self.manifest.made_at.millis());
        let lsn = header.index * header.segment_bytes;
        let head = [draft.word0_at(header.nonce, lsn), draft.word1()];
        let body = draft.body().as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
        for (word, value) in memory.payload().iter().zip(head.into_iter().chain(body)) {
            word.store(value, Ordering::Relaxed);
        }
        memory.set_header(header.words());
        memory.sync_header()?;
        memory.sync(0, MARK_BYTES)?;
        self.storage.rename(&spare, &segment::name(header.index))?;
        self.storage.sync_dir()
    }
}

/// Writes the padding of a segment's last `rest` bytes, and zeros.
fn fill(writer: &mut impl Write, nonce: u64, lsn: u64, rest: u64) -> io::Result<()> {
    if rest == 0 {
        return Ok(());
    }
    let length = u32::try_from(rest).map_err(io::Error::other)?;
    let (word0, word1) = record::padding(nonce, lsn, length);
    let mut head = word0.to_le_bytes().to_vec();
    head.extend(word1.into_iter().flat_map(u64::to_le_bytes));
    writer.write_all(&head)?;
    let zeros = vec![0; PIECE_BYTES_MAX];
    let mut left = rest - head.len() as u64;
    while left > 0 {
        let part = left.min(zeros.len() as u64);
        writer.write_all(&zeros[..part as usize])?;
        left -= part;
    }
    Ok(())
}
