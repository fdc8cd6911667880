//! What waits to be sent. Whoever finds nobody writing writes, and takes along what others have put
//! there meanwhile: no thread is needed for it, and many callers share one write.

use std::{
    io::{ErrorKind, Write},
    mem::take,
    os::fd::AsFd,
};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};

use super::Error;
use crate::protocol::Stream;

/// So much is sent without being asked to.
const SEND_BYTES: usize = 32 << 10;

#[derive(Default)]
struct Unsent {
    /// Whole frames that nobody has begun to write.
    new: Vec<u8>,
    /// What was begun; the first `sent` bytes of it are gone. Empty while somebody writes it.
    begun: Vec<u8>,
    sent: usize,
    /// Somebody writes.
    busy: bool,
    broken: Option<Error>,
}

/// How far a write came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    /// All of it, or somebody else is at it.
    All,
    /// The socket takes no more for now.
    Some,
}

/// The outgoing side of a connection.
pub(super) struct Outbox {
    unsent: Mutex<Unsent>,
    bytes_max: usize,
}

impl Outbox {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { unsent: Mutex::default(), bytes_max }
    }

    /// Puts a frame in; whether it is time to send.
    pub(super) fn put(
        &self,
        frame_bytes_max: usize,
        push: impl FnOnce(&mut Vec<u8>),
    ) -> Result<bool, Error> {
        let mut unsent = self.unsent.lock();
        if let Some(broken) = &unsent.broken {
            return Err(broken.clone());
        }
        let before = unsent.new.len();
        push(&mut unsent.new);
        let bytes = unsent.new.len() - before;
        if bytes > frame_bytes_max {
            unsent.new.truncate(before);
            return Err(Error::TooLong { bytes, max: frame_bytes_max });
        }
        Ok(unsent.new.len() >= SEND_BYTES)
    }

    /// Whether more waits than may.
    fn is_full(&self) -> bool {
        let unsent = self.unsent.lock();
        unsent.broken.is_none() && unsent.new.len() >= self.bytes_max
    }

    /// Writes until nothing is left or the socket takes no more, unless somebody is at it.
    pub(super) fn write(&self, stream: &Stream) -> Result<Wrote, Error> {
        let mut unsent = self.unsent.lock();
        if unsent.busy {
            return Ok(Wrote::All);
        }
        loop {
            // First, since a server that answers and closes may have done both by now: what was sent
            // has its answer.
            if unsent.begun.is_empty() && unsent.new.is_empty() {
                return Ok(Wrote::All);
            }
            if let Some(broken) = &unsent.broken {
                return Err(broken.clone());
            }
            if unsent.begun.is_empty() {
                let Unsent { new, begun, sent, .. } = &mut *unsent;
                std::mem::swap(new, begun);
                *sent = 0;
            }
            unsent.busy = true;
            let (mut begun, sent) = (take(&mut unsent.begun), unsent.sent);
            drop(unsent);
            let mut stream = stream;
            let wrote = stream.write(&begun[sent..]);
            unsent = self.unsent.lock();
            unsent.busy = false;
            match wrote {
                Ok(bytes) if sent + bytes == begun.len() => begun.clear(),
                Ok(bytes) => unsent.sent = sent + bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    unsent.begun = begun;
                    return Ok(Wrote::Some);
                }
                Err(error) => unsent.broken = Some(Error::Broken(error.to_string())),
            }
            unsent.begun = begun;
        }
    }

    /// Writes until nothing is left, or somebody else is at it and no more waits than may.
    pub(super) fn write_all(&self, stream: &Stream) -> Result<(), Error> {
        loop {
            let wrote = self.write(stream)?;
            if wrote == Wrote::All && !self.is_full() {
                return Ok(());
            }
            // Writable or broken: the next write tells. Who is at it is waited for likewise.
            let mut socket = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::OUT)];
            let _ = poll(&mut socket, None);
            if wrote == Wrote::All {
                std::thread::yield_now();
            }
        }
    }

    /// From here on nothing can be sent.
    pub(super) fn break_off(&self, why: &Error) {
        self.unsent.lock().broken.get_or_insert_with(|| why.clone());
    }
}
