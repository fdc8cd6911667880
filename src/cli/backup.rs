//! `holdfast backup`: a consistent copy of a data directory, through the running server or of a stopped one.
//!
//! A running server sends it (`GET /v1/backup`) and goes on serving; the directory is written here, aside,
//! synced, and named at the end, so that one that was cut is never taken for a backup.

use std::{io::Write, path::PathBuf};

use clap::Args;
use holdfast::{
    config::Overrides,
    model::Timestamp,
    wal::backup::{
        Folder, Manifest, Piece,
        frames::{Frame, Frames},
    },
};

use super::{
    Error, Outcome,
    ask::{Asked, with_engine},
};

/// Make a backup.
#[derive(Debug, Args)]
pub struct Backup {
    /// The directory that is made; it must be absent or empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    asked: Asked,
}

impl Backup {
    /// Runs it.
    pub fn run(self) -> Result<Outcome, Error> {
        let manifest = match &self.asked.data {
            None => self.of_server()?,
            Some(data) => self.of_directory(data.clone())?,
        };
        tell(&mut std::io::stdout().lock(), &self.to.display().to_string(), &manifest)
            .map_err(Error::Output)?;
        Ok(Outcome::Good)
    }

    fn of_server(&self) -> Result<Manifest, Error> {
        let mut taking = Taking { to: self.to.clone(), ..Taking::default() };
        self.asked.server.download(&["v1", "backup"], &mut |bytes| taking.push(bytes))?;
        taking.end()
    }

    fn of_directory(&self, data: PathBuf) -> Result<Manifest, Error> {
        let overrides = Overrides { data: Some(data.clone()), listen: None };
        let config = self.asked.source.load(&overrides)?.without_secrets().to_toml()?;
        let made = with_engine(data, &self.asked.source, |engine| {
            let backup = engine.backup().map_err(failed)?;
            let mut folder = Folder::create(&self.to, backup.facts().clone()).map_err(failed)?;
            let take = &mut |piece: Piece<'_>| folder.take(piece).map_err(std::io::Error::other);
            backup.give(take).map_err(failed)?;
            folder.finish(&config, now()).map_err(failed)
        });
        made?
    }
}

/// A backup that comes over the wire.
#[derive(Default)]
struct Taking {
    to: PathBuf,
    frames: Frames,
    folder: Option<Folder>,
    configuration: String,
    done: bool,
}

impl Taking {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.frames.push(bytes);
        while let Some(frame) = self.frames.next().map_err(failed)? {
            self.take(frame)?;
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame) -> Result<(), Error> {
        match (frame, &mut self.folder) {
            (Frame::Heading(heading), None) => {
                self.folder = Some(Folder::create(&self.to, heading.facts).map_err(failed)?);
                self.configuration = heading.configuration;
                Ok(())
            }
            (Frame::Bytes(bytes), Some(folder)) => {
                folder.take(Piece::Bytes(&bytes)).map_err(failed)
            }
            (Frame::End(crc), Some(folder)) => folder.take(Piece::End(crc)).map_err(failed),
            (Frame::Done, Some(_)) => {
                self.done = true;
                Ok(())
            }
            (Frame::Failed(why), _) => Err(failed(format!("the server says: {why}"))),
            _ => Err(failed("what the server sends is no backup")),
        }
    }

    fn end(self) -> Result<Manifest, Error> {
        match self.folder.filter(|_| self.done) {
            Some(folder) => folder.finish(&self.configuration, now()).map_err(failed),
            None => Err(failed("it broke off; nothing is left of it")),
        }
    }
}

fn now() -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_millis(now.map_or(0, |since| since.as_millis() as u64))
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::Part { what: "the backup", reason: why.to_string() }
}

fn tell(out: &mut impl Write, to: &str, manifest: &Manifest) -> std::io::Result<()> {
    let log = &manifest.log;
    let checkpoint = log.checkpoint.map_or("none".to_owned(), |covers| covers.to_string());
    writeln!(
        out,
        "{to}: {} files, {} bytes; incarnation {}, log positions from {} up to {}, checkpoint {checkpoint}",
        log.files.len(),
        log.bytes(),
        log.incarnation,
        log.begin,
        log.end
    )
}
