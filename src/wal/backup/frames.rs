//! A backup on a wire: a row of frames, each a tag, a length of four bytes (little-endian) and so many
//! bytes. First the facts and the configuration, as JSON; then the pieces, file after file; last the end, or
//! why there is none. What stops without either is no backup.

use serde::{Deserialize, Serialize};

use super::{Facts, Piece};

/// The longest frame: the facts of half a million files.
const FRAME_BYTES_MAX: usize = 64 << 20;
const HEAD_BYTES: usize = 5;

const HEADING: u8 = 1;
const BYTES: u8 = 2;
const END: u8 = 3;
const DONE: u8 = 4;
const FAILED: u8 = 5;

/// What comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heading {
    /// What will come.
    pub facts: Facts,
    /// The server's configuration, TOML, without secrets.
    pub configuration: String,
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// What will come.
    Heading(Box<Heading>),
    /// The next bytes of a file.
    Bytes(Vec<u8>),
    /// A file's end, and its CRC-32C.
    End(u32),
    /// That was all.
    Done,
    /// It could not be ended, and why.
    Failed(String),
}

fn frame(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEAD_BYTES + content.len());
    bytes.push(tag);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// The first frame.
pub fn heading(heading: &Heading) -> Vec<u8> {
    // Of texts and numbers alone: it can't fail.
    frame(HEADING, &serde_json::to_vec(heading).unwrap_or_default())
}

/// The frame of a piece.
pub fn piece(piece: Piece<'_>) -> Vec<u8> {
    match piece {
        Piece::Bytes(bytes) => frame(BYTES, bytes),
        Piece::End(crc) => frame(END, &crc.to_le_bytes()),
    }
}

/// The last frame.
pub fn done() -> Vec<u8> {
    frame(DONE, &[])
}

/// The last frame of one that failed.
pub fn failed(why: &str) -> Vec<u8> {
    frame(FAILED, why.as_bytes())
}

/// Puts frames together again. Holds one frame at most, and what was pushed last.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    at: usize,
}

impl Frames {
    /// Takes bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is there.
    ///
    /// # Errors
    /// What came is no frame.
    #[expect(clippy::should_implement_trait, reason = "it can fail")]
    pub fn next(&mut self) -> Result<Option<Frame>, &'static str> {
        let rest = &self.buffer[self.at..];
        let Some((head, rest)) = rest.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [tag, length @ ..] = *head;
        let length = u32::from_le_bytes(length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err("a frame is too long");
        }
        let Some(content) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::read(tag, content)?;
        self.at += HEAD_BYTES + length;
        Ok(Some(frame))
    }
}

impl Frame {
    fn read(tag: u8, content: &[u8]) -> Result<Self, &'static str> {
        Ok(match tag {
            HEADING => {
                let heading = serde_json::from_slice(content);
                Self::Heading(Box::new(heading.map_err(|_| "the heading is not one")?))
            }
            BYTES => Self::Bytes(content.to_owned()),
            END => {
                let crc = content.try_into().map_err(|_| "a file's end is not one")?;
                Self::End(u32::from_le_bytes(crc))
            }
            DONE => Self::Done,
            FAILED => Self::Failed(String::from_utf8_lossy(content).into_owned()),
            _ => return Err("a frame is of no known kind"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lsn;

    #[test]
    fn frames_read_as_they_are_written_however_they_come() {
        let facts = Facts {
            incarnation: "1".to_owned(),
            begin: Lsn(0),
            end: Lsn(8),
            checkpoint: Some(Lsn(8)),
            segment_bytes: 65_536,
            files: vec![super::super::FileFacts::new("0000000000000000.log", 4_104)],
        };
        let first = Heading { facts, configuration: "[log]".to_owned() };
        let parts = [
            heading(&first),
            piece(Piece::Bytes(b"abc")),
            piece(Piece::End(7)),
            done(),
            failed("no"),
        ];
        let expected = [
            Frame::Heading(Box::new(first)),
            Frame::Bytes(b"abc".to_vec()),
            Frame::End(7),
            Frame::Done,
            Frame::Failed("no".to_owned()),
        ];
        for step in [1, 2, 7, 1_000] {
            let (mut frames, mut read) = (Frames::default(), Vec::new());
            for bytes in parts.concat().chunks(step) {
                frames.push(bytes);
                while let Some(frame) = frames.next().unwrap() {
                    read.push(frame);
                }
            }
            assert_eq!(read, expected);
        }
        for wrong in [[9, 0, 0, 0, 0], [BYTES, 255, 255, 255, 255], [HEADING, 0, 0, 0, 0]] {
            let mut frames = Frames::default();
            frames.push(&wrong);
            assert!(frames.next().is_err());
        }
    }
}
