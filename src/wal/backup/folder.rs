//! A directory while it is written: aside, every file synced, and named at the end. And the one of a backup.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    Facts, Manifest, Piece,
    manifest::{CONFIGURATION, MANIFEST, hex},
};
use crate::{model::Timestamp, wal::error::Error};

/// What must be left on the disk beside the files.
const SPARE_BYTES: u64 = 1 << 20;

/// Takes the pieces of a backup. Dropped before [`Folder::finish`], it leaves nothing behind.
pub struct Folder {
    aside: Aside,
    facts: Facts,
    /// Which file is being written.
    at: usize,
    file: Option<Open>,
}

struct Open {
    file: File,
    left: u64,
    crc: u32,
    digest: Sha256,
}

impl Folder {
    /// Begins one that will be `to`, which must be absent or empty.
    ///
    /// # Errors
    /// `to` has something in it, the disk has too little room, the facts name files that no backup has.
    pub fn create(to: &Path, facts: Facts) -> Result<Self, Error> {
        let wrong = |what| Error::Backup { place: to.display().to_string(), what };
        facts.check().map_err(wrong)?;
        let aside = Aside::create(to, facts.bytes())?;
        Ok(Self { aside, facts, at: 0, file: None })
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// It is not what comes next, it was changed on its way, the disk refuses.
    pub fn take(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        let name = self.facts.files.get(self.at).map(|file| file.name.clone());
        let Some(name) = name else { return Err(self.wrong("has more than it said")) };
        let said = || Error::io(format!("writing {}", self.aside.path.join(&name).display()));
        let mut open = match self.file.take() {
            Some(open) => open,
            None => self.open().map_err(said())?,
        };
        match piece {
            Piece::Bytes(bytes) if bytes.len() as u64 <= open.left => {
                open.take(bytes).map_err(said())?;
                self.file = Some(open);
            }
            Piece::End(crc) if open.left == 0 && open.crc == crc => {
                open.file.sync_all().map_err(said())?;
                self.facts.files[self.at].sha256 = hex(&open.digest.finalize());
                self.at += 1;
            }
            _ => return Err(self.wrong(&format!("{name} is not what was sent"))),
        }
        Ok(())
    }

    fn open(&self) -> io::Result<Open> {
        let facts = &self.facts.files[self.at];
        let file = File::create_new(self.aside.path.join(&facts.name))?;
        Ok(Open { file, left: facts.bytes, crc: 0, digest: Sha256::new() })
    }

    fn wrong(&self, what: &str) -> Error {
        Error::Backup { place: self.aside.to.display().to_string(), what: what.to_owned() }
    }

    /// Writes configuration and manifest and gives the directory its name.
    ///
    /// # Errors
    /// A file is missing, the disk refuses.
    pub fn finish(self, configuration: &str, made_at: Timestamp) -> Result<Manifest, Error> {
        if self.at < self.facts.files.len() || self.file.is_some() {
            return Err(self.wrong("ended before all of it was there"));
        }
        let manifest = Manifest::new(self.facts.clone(), made_at);
        let text =
            serde_json::to_string_pretty(&manifest).map_err(|why| self.wrong(&why.to_string()))?;
        let said = || Error::io(format!("writing {}", self.aside.to.display()));
        write(&self.aside.path.join(CONFIGURATION), configuration).map_err(said())?;
        write(&self.aside.path.join(MANIFEST), &text).map_err(said())?;
        self.aside.finish()?;
        Ok(manifest)
    }
}

impl Open {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.left -= bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.digest.update(bytes);
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A directory that is made beside the place that it will have. Dropped before [`Aside::finish`], it goes.
pub struct Aside {
    to: PathBuf,
    path: PathBuf,
    done: bool,
}

impl Aside {
    /// Makes one that will be `to` and take so many bytes.
    ///
    /// # Errors
    /// `to` has something in it, the disk has too little room, one that was cut is still there.
    pub fn create(to: &Path, bytes: u64) -> Result<Self, Error> {
        let wrong =
            |what: &str| Error::Backup { place: to.display().to_string(), what: what.to_owned() };
        let mut name = to.file_name().ok_or_else(|| wrong("must name a directory"))?.to_owned();
        check_empty(to)?;
        name.push(".part");
        let path = to.with_file_name(name);
        check_room(&path, bytes)?;
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self { to: to.to_owned(), path, done: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(wrong(&format!(
                "{} is there, left by one that was cut; remove it",
                path.display()
            ))),
            Err(error) => Err(Error::io(format!("making {}", path.display()))(error)),
        }
    }

    /// Where it is meanwhile.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the directory its name and makes that durable.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(mut self) -> Result<(), Error> {
        let said = Error::io(format!("renaming {} to {}", self.path.display(), self.to.display()));
        name_dir(&self.path, &self.to).map_err(said)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, dir = %self.path.display(), "an unfinished directory is left");
        }
    }
}

/// Gives a directory its name, which is free or that of an empty one, and makes both durable.
fn name_dir(aside: &Path, dir: &Path) -> io::Result<()> {
    File::open(aside)?.sync_all()?;
    fs::rename(aside, dir)?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// A directory must be absent or have nothing in it.
fn check_empty(dir: &Path) -> Result<(), Error> {
    let said = || Error::io(format!("looking into {}", dir.display()));
    let has_some = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().transpose().map_err(said())?.is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(said()(error)),
    };
    match has_some {
        false => Ok(()),
        true => Err(Error::Backup {
            place: dir.display().to_string(),
            what: "has something in it; name a directory that is empty or not there yet".to_owned(),
        }),
    }
}

/// The disk that a directory will be on must have room.
fn check_room(dir: &Path, bytes: u64) -> Result<(), Error> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let said = Error::io(format!("looking for room in {}", parent.display()));
    let disk = rustix::fs::statvfs(parent).map_err(io::Error::from).map_err(said)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if bytes.saturating_add(SPARE_BYTES) <= free {
        return Ok(());
    }
    let what = format!("needs {bytes} bytes, and {} has {free} left", parent.display());
    Err(Error::Backup { place: dir.display().to_string(), what })
}
