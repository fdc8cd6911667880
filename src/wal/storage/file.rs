//! Real files under an exclusive lock.
//!
//! Zeros for a segment that is mapped shared are written in 4 KiB pieces on purpose: large writes leave large
//! folios in the page cache, and `msync` of a small part of one takes twice as long.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};

use super::{Mapping, PAGE_BYTES, Storage, mapped::MappedSegment};
use crate::wal::{archive, error::Error};

const LOCK_NAME: &str = "LOCK";

/// A directory of real files, locked for this process.
#[derive(Debug, Clone)]
pub struct FileStorage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    handle: File,
    _lock: File,
}

impl FileStorage {
    /// Opens a directory, making it if need be, and locks it until the last clone is dropped.
    pub fn new(dir: &Path) -> Result<Self, Error> {
        let dir = dir.to_path_buf();
        let said = |what: &str| Error::io(format!("{what} {}", dir.display()));
        fs::create_dir_all(&dir).map_err(said("making the data directory"))?;
        let handle = File::open(&dir).map_err(said("opening the data directory"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK_NAME))
            .map_err(said("opening the lock file in"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Locked { dir: dir.display().to_string() });
            }
            Err(other) => return Err(said("locking")(other.into())),
        }
        if let Some(parent) = dir.parent()
            && let Ok(parent) =
                File::open(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
        {
            parent.sync_all().map_err(said("syncing the parent of"))?;
        }
        Ok(Self { inner: Arc::new(Inner { dir, handle, _lock: lock }) })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inner.dir.join(name)
    }
}

impl Storage for FileStorage {
    type Segment = MappedSegment;
    type Writer = File;
    type Reader = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.inner.dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn allocate(&self, name: &str, bytes: u64) -> io::Result<()> {
        let path = self.path(name);
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(|error| {
            let _ = fs::remove_file(&path);
            error.into()
        })
    }

    fn zero(&self, name: &str, bytes: u64, mapping: Mapping) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(name))?;
        // What is written at once lies in pages as large in the cache. Of a shared mapping they make every sync
        // slower; else many small ones only keep the disk longer from the log's own syncs.
        let piece = match mapping {
            Mapping::Shared => PAGE_BYTES,
            Mapping::Private => PIECE_BYTES,
        };
        let zeros = vec![0u8; piece as usize];
        for at in (0..bytes).step_by(zeros.len()) {
            let left = (bytes - at).min(piece);
            file.write_all_at(&zeros[..left as usize], at)?;
            // Little by little: the log's own syncs wait behind whatever the disk has been given.
            if (at + left).is_multiple_of(ZEROED_BYTES_MAX) {
                file.sync_data()?;
            }
        }
        file.sync_all()
    }

    fn map(&self, name: &str, bytes: u64, mapping: Mapping) -> io::Result<MappedSegment> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(name))?;
        let has = file.metadata()?.len();
        if has != bytes {
            let message = format!("has {has} bytes instead of {bytes}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        // A copied file may have holes where zeros were, and a store into a hole is a SIGBUS when the
        // disk is full. For blocks that are there this does nothing.
        fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
        MappedSegment::new(file, bytes, mapping)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.inner.handle.sync_all()
    }

    fn create(&self, name: &str) -> io::Result<File> {
        File::create(self.path(name))
    }

    fn sync_file(&self, file: &mut File) -> io::Result<()> {
        file.flush()?;
        file.sync_all()
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name))
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(name))?.len())
    }

    fn archive(&self, dir: Option<&Path>, make: bool) -> Result<Option<Self>, Error> {
        let dir = dir.map_or_else(|| self.path(archive::FOLDER), Path::to_path_buf);
        (make || dir.is_dir()).then(|| Self::new(&dir)).transpose()
    }

    fn place(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// Zeros that are given to the disk at a time.
const ZEROED_BYTES_MAX: u64 = 2 << 20;
/// Zeros that are written at once where pages may be large.
const PIECE_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let first = FileStorage::new(dir.path()).unwrap();
        let error = FileStorage::new(dir.path()).unwrap_err();
        assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
        drop(first);
        FileStorage::new(dir.path()).unwrap();
    }
}
