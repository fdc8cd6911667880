//! Where bytes come in and are cut into frames, in place: a buffer in which every frame begins at a
//! multiple of eight.

use std::io::{self, Read};

use rkyv::util::AlignedVec;

use super::{Frame, HEADER_BYTES, Header, Unframed};

/// What one read may bring.
const READ_BYTES: usize = 256 << 10;

/// The incoming side of a connection. Holds at most the longest frame and one read.
pub struct Inbox {
    buffer: AlignedVec,
    begin: usize,
    end: usize,
    frame_bytes_max: usize,
}

impl Inbox {
    /// An empty one, for frames of at most so many bytes.
    pub fn new(frame_bytes_max: usize) -> Self {
        let mut buffer = AlignedVec::with_capacity(READ_BYTES);
        buffer.resize(READ_BYTES, 0);
        Self { buffer, begin: 0, end: 0, frame_bytes_max }
    }

    /// From here on frames may be so long.
    pub fn set_frame_bytes_max(&mut self, bytes: usize) {
        self.frame_bytes_max = bytes;
    }

    /// Whether a part of a frame is there, and the rest is waited for.
    pub fn is_in_a_frame(&self) -> bool {
        self.begin != self.end
    }

    /// Reads once; 0 at the end of the stream. To be called when no whole frame is left.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn fill(&mut self, reader: &mut impl Read) -> io::Result<usize> {
        self.make_room();
        let read = reader.read(&mut self.buffer[self.end..])?;
        self.end += read;
        Ok(read)
    }

    /// Moves what is there to the front, and makes the buffer as long as the frame that is begun.
    fn make_room(&mut self) {
        let pending = self.end - self.begin;
        if self.begin > 0 {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, pending);
        }
        if pending == self.buffer.len() {
            let length = (pending * 2).min(self.frame_bytes_max.max(READ_BYTES) + READ_BYTES);
            self.buffer.resize(length, 0);
        }
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// If what comes next can't be a frame; then this end of the connection is of no more use.
    #[allow(clippy::should_implement_trait)] // It lends.
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, Unframed> {
        let pending = &self.buffer[self.begin..self.end];
        let Some(header) = pending.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::read(header, self.frame_bytes_max)?;
        let length = header.length as usize;
        if pending.len() < length {
            return Ok(None);
        }
        let body = self.begin + HEADER_BYTES..self.begin + length;
        self.begin += length;
        Ok(Some(Frame { header, body: &self.buffer[body] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives what it has in pieces.
    struct Drip<'a>(&'a [u8], usize);
    impl Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(into.len());
            self.0.read(&mut into[..n])
        }
    }

    fn frame(id: u64, body: usize) -> Vec<u8> {
        let length = (HEADER_BYTES + body) as u32;
        let mut bytes = Header { length, kind: 2, flags: 0, id }.bytes().to_vec();
        bytes.resize(HEADER_BYTES + body, id as u8);
        bytes
    }

    #[test]
    fn frames_come_out_whole_and_aligned_however_they_come_in() {
        let sizes = [0, 8, 4096, 400_000, 24, 300_000, 0];
        let stream: Vec<u8> =
            sizes.iter().enumerate().flat_map(|(id, body)| frame(id as u64, *body)).collect();
        for piece in [1, 7, 1000, 70_000, 1 << 20] {
            let (mut drip, mut inbox) = (Drip(&stream, piece), Inbox::new(500_000));
            let mut seen = Vec::new();
            loop {
                while let Some(frame) = inbox.next().unwrap() {
                    assert_eq!(frame.body.as_ptr() as usize % 8, 0);
                    assert!(frame.body.iter().all(|b| *b == frame.header.id as u8));
                    seen.push(frame.body.len());
                }
                if inbox.fill(&mut drip).unwrap() == 0 {
                    break;
                }
            }
            assert_eq!(seen, sizes, "{piece}");
            assert!(!inbox.is_in_a_frame());
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_by_its_header() {
        let mut inbox = Inbox::new(4096);
        let header = Header { length: 4104, kind: 2, flags: 0, id: 1 }.bytes();
        inbox.fill(&mut &header[..]).unwrap();
        assert_eq!(inbox.next().unwrap_err(), Unframed::TooLong { length: 4104, max: 4096 });
    }
}
