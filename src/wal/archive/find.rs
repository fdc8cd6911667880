//! An archive as a person finds it: by the files of a directory that no server writes to.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::format::{self, Head};
use crate::{
    model::Incarnation,
    wal::{
        error::Error,
        image::SegmentImage,
        inspect, lives,
        segment::{self, Header},
    },
};

/// What a server locks.
const LOCK: &str = "LOCK";

/// The segments of directories: archived, or as the log has them.
#[derive(Debug, Default)]
pub struct Files {
    archived: BTreeMap<(u64, u64), PathBuf>,
    live: BTreeMap<u64, PathBuf>,
    /// Of data directories, so that no server works on them meanwhile.
    locks: Vec<File>,
}

impl Files {
    /// Adds what a directory has, if it is there; false if it is not.
    ///
    /// # Errors
    /// It can't be listed, or it is a data directory that a server has.
    pub fn add(&mut self, dir: &Path) -> Result<bool, Error> {
        let said = || Error::io(format!("listing {}", dir.display()));
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(said())?,
        };
        let mut is_log = false;
        for entry in entries {
            let entry = entry.map_err(said())?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if let Some((index, by)) = format::of_name(&name) {
                self.archived.insert((index, by.0), entry.path());
            } else if let Some(index) = segment::index_of_name(&name) {
                self.live.insert(index, entry.path());
                is_log = true;
            }
        }
        // A copy of some of its files has none.
        if is_log && dir.join(LOCK).exists() {
            self.locks.push(inspect::lock(dir)?);
        }
        Ok(true)
    }

    /// How many segments there are with an index above one.
    pub fn count_above(&self, index: u64) -> u64 {
        let from = index.saturating_add(1);
        let archived = self.archived.range((from, 0)..).map(|((index, _), _)| *index);
        let all = archived.chain(self.live.range(from..).map(|(index, _)| *index));
        all.collect::<std::collections::BTreeSet<_>>().len() as u64
    }

    /// The segment of an index that a life archived, or that its log still had.
    ///
    /// # Errors
    /// It can't be read, or is not what it should be.
    pub fn of_life(&self, index: u64, life: Incarnation) -> Result<Option<SegmentImage>, Error> {
        if let Some(path) = self.archived.get(&(index, life.0)) {
            return unpack(path).map(Some);
        }
        self.live.get(&index).map(|path| SegmentImage::map(path, index)).transpose()
    }

    /// The first file with a segment from an index on that a life archived, or that its log still had.
    pub fn first_from(&self, index: u64, life: Incarnation) -> Option<&Path> {
        let archived = self.archived.range((index, 0)..).find(|((_, by), _)| *by == life.0);
        let all = archived.map(|(_, path)| path).or_else(|| {
            let mut live = self.live.range(index..);
            live.find(|(index, path)| {
                SegmentImage::map(path, **index).is_ok_and(|image| image.record(0).is_some())
            })
            .map(|(_, path)| path)
        });
        all.map(PathBuf::as_path)
    }

    /// The segments that a log still had must be of this life's, and not of one that goes on from it.
    ///
    /// # Errors
    /// They are of another one.
    pub fn check_life(&self, life: Incarnation) -> Result<(), Error> {
        let Some((index, path)) = self.live.last_key_value() else { return Ok(()) };
        let found = SegmentImage::map(path, *index)?.header.life.incarnation;
        if found == life {
            return Ok(());
        }
        let what = format!("is of incarnation {found}, the backup of {life}");
        Err(Error::Backup { place: path.display().to_string(), what })
    }

    /// The archived files in front of a segment of a log that went through these lives, newest first; the files
    /// oldest first and without a gap. What is not what its name says is one of them, and says so.
    pub fn before(&self, segment: &Header, mut lineage: Vec<Incarnation>) -> Vec<Found> {
        let mut row: Vec<Found> = Vec::new();
        let mut header = Some(*segment);
        let mut index = segment.index;
        loop {
            let begins_life = |header: &Header| header.life.first > 0 && header.life.first == index;
            let Some(below) = (match header.filter(begins_life) {
                Some(header) => Some(header.life.after),
                None => index.checked_sub(1),
            }) else {
                break;
            };
            let Some(found) = self.linked(below, &lineage, header.as_ref()) else { break };
            (index, header) = (below, found.header.as_ref().ok().copied());
            if let Some(life) = header.map(|header| header.life.incarnation)
                && !lineage.contains(&life)
            {
                lineage.push(life);
            }
            row.push(found);
        }
        row.reverse();
        row
    }

    /// The file of an index that stands before a segment: of the newest of these lives that has one, since the
    /// last segment that a life was restored with is cut, and an older life's goes on with what was lost. What
    /// another life archived may be of another line, and is passed over then.
    fn linked(
        &self,
        index: u64,
        lineage: &[Incarnation],
        behind: Option<&Header>,
    ) -> Option<Found> {
        let ours = lineage.iter().filter_map(|by| self.archived.get_key_value(&(index, by.0)));
        let all = self.archived.range((index, 0)..=(index, u64::MAX));
        for ((_, by), path) in ours.chain(all) {
            let header = header(path);
            let fits = match (&header, behind) {
                (Ok(header), Some(behind)) => {
                    lives::is_one_log(header, behind)
                        && lives::missing_between(header, behind).is_none()
                }
                _ => true,
            };
            let found = |header| Some(Found { path: path.clone(), index, header });
            if fits {
                return found(header);
            }
            if lineage.contains(&Incarnation(*by)) {
                let place = path.display().to_string();
                let why = "is of another log, or of another life than the segment behind it";
                return found(Err(format::damaged(&place, why)));
            }
        }
        None
    }
}

/// An archived file of a log.
#[derive(Debug)]
pub struct Found {
    pub path: PathBuf,
    /// The index of its segment.
    pub index: u64,
    /// The segment's header, or what is wrong with the file.
    pub header: Result<Header, Error>,
}

impl Found {
    /// Unpacks it.
    ///
    /// # Errors
    /// It can't be read, or is not what was archived.
    pub fn unpack(&self) -> Result<SegmentImage, Error> {
        self.header.clone()?;
        unpack(&self.path)
    }
}

fn head(path: &Path) -> Result<(Head, File), Error> {
    let place = path.display().to_string();
    let name = path.file_name().and_then(|name| name.to_str()).and_then(format::of_name);
    let (index, by) =
        name.ok_or_else(|| format::damaged(&place, "has no archived segment's name"))?;
    let mut file = File::open(path).map_err(Error::io(format!("reading {place}")))?;
    Ok((Head::of_file(&mut file, (index, by.0), &place)?, file))
}

/// The header of the segment in an archived file.
fn header(path: &Path) -> Result<Header, Error> {
    head(path).map(|(head, _)| head.header)
}

/// Unpacks an archived file.
fn unpack(path: &Path) -> Result<SegmentImage, Error> {
    let (head, file) = head(path)?;
    head.unpack(file, path)
}
