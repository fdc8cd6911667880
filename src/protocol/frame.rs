//! Frames: a header, and a body archived by rkyv.
//!
//! ```text
//! 0  u32  length of the whole frame in bytes, a multiple of 8
//! 4  u8   kind: below 128 a request, from 128 on an answer
//! 5  u8   flags (in a hello: the protocol's version)
//! 6  u16  0
//! 8  u64  id: an answer has that of its request
//! 16      the body; its root ends where the frame ends
//! ```
//!
//! A request that belongs to a trace names it in front of its body, and says so by a flag. A body is read
//! from its end, and its parts are found by their distances, so who doesn't know of that reads the same
//! body.

use rkyv::{Archive, api::high::to_bytes_in, rancor::Error as Rancor};

use crate::{
    model::event::{Checked, Encode},
    telemetry::{SpanId, TraceContext, TraceId},
};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 16;
/// The least that a connection must take as a frame: any request of one line fits.
pub const FRAME_BYTES_MIN: usize = 4 << 10;
/// Bytes of a trace in front of a body: a multiple of 16, so that the body stays aligned.
const TRACE_BYTES: usize = 32;

/// What a frame is.
pub mod kind {
    /// The first frame of a connection.
    pub const HELLO: u8 = 1;
    /// Takes stock for a while.
    pub const RESERVE: u8 = 2;
    /// Gives a reservation back.
    pub const RELEASE: u8 = 3;
    /// Holds a reservation for longer.
    pub const EXTEND: u8 = 4;
    /// Makes a reservation an order.
    pub const COMMIT: u8 = 5;
    /// Makes an order in one step.
    pub const ORDER: u8 = 6;
    /// Changes what a held cart holds.
    pub const CHANGE_LINES: u8 = 7;
    /// Reads a reservation.
    pub const READ_RESERVATION: u8 = 8;
    /// Reads a SKU's stock.
    pub const READ_STOCK: u8 = 9;
    /// Calls a route of the HTTP API.
    pub const CALL: u8 = 10;

    /// The answer to a hello.
    pub const WELCOME: u8 = 128;
    /// A reservation as it stands.
    pub const RESERVATION: u8 = 129;
    /// An order as it stands.
    pub const ORDERED: u8 = 130;
    /// The stock of a SKU.
    pub const STOCK: u8 = 131;
    /// What a route answered.
    pub const CALLED: u8 = 132;
    /// Why it was not done.
    pub const REFUSED: u8 = 133;
}

/// Bits of a frame's flags.
pub mod flags {
    /// In a request: new work that can wait, refused first when the log's disk budget comes to its end.
    pub const CAN_WAIT: u8 = 1;
    /// In a request: the trace that it belongs to stands in front of its body, in 32 bytes: the trace's
    /// id, in 16, its caller's span, in 8, 1 if the caller keeps the trace, 7 zeros.
    pub const TRACED: u8 = 2;
    /// In an answer: it is the first answer again.
    pub const REPLAYED: u8 = 1;
    /// In an answer: the request made something new (201 rather than 200).
    pub const CREATED: u8 = 2;
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole frame.
    pub length: u32,
    /// What it is; see [`kind`].
    pub kind: u8,
    /// See [`flags`].
    pub flags: u8,
    /// The request.
    pub id: u64,
}

/// What can't be a frame; after it nothing on the connection can be read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unframed {
    /// Its length is shorter than a header, or no multiple of eight.
    #[error("a frame of {0} bytes is none: 16 is the least, and lengths are multiples of 8")]
    Length(u32),
    /// It is longer than was agreed.
    #[error("a frame of {length} bytes is longer than the {max} that are taken")]
    TooLong {
        /// Its length in bytes.
        length: u32,
        /// The most.
        max: usize,
    },
    /// What must be zero is not.
    #[error("bytes 6 and 7 of a frame must be 0")]
    Reserved,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// If it is that of no frame of at most `bytes_max`.
    pub fn read(bytes: &[u8; HEADER_BYTES], bytes_max: usize) -> Result<Self, Unframed> {
        let [a, b, c, d, kind, flags, zero, zero_too, id @ ..] = *bytes;
        let length = u32::from_le_bytes([a, b, c, d]);
        if !length.is_multiple_of(8) || (length as usize) < HEADER_BYTES {
            return Err(Unframed::Length(length));
        }
        if length as usize > bytes_max {
            return Err(Unframed::TooLong { length, max: bytes_max });
        }
        if zero | zero_too != 0 {
            return Err(Unframed::Reserved);
        }
        Ok(Self { length, kind, flags, id: u64::from_le_bytes(id) })
    }

    /// The bytes of it.
    pub fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4] = self.kind;
        bytes[5] = self.flags;
        bytes[8..].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }
}

/// A frame that has come in whole.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Its header.
    pub header: Header,
    /// Its body, aligned to eight bytes.
    pub body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Its body in place, as what its kind says; nothing if it is not that.
    pub fn access<T>(&self) -> Option<&'a T::Archived>
    where
        T: Archive,
        T::Archived: Checked,
    {
        rkyv::access::<T::Archived, Rancor>(self.body).ok()
    }

    /// The trace that it belongs to, if it names one; what is no trace is none.
    pub fn trace(&self) -> Option<TraceContext> {
        if self.header.flags & flags::TRACED == 0 {
            return None;
        }
        let (trace, rest) = self.body.split_first_chunk()?;
        let (span, rest) = rest.split_first_chunk()?;
        let sampled = *rest.first()? & 1 == 1;
        let named = *trace != [0; 16] && *span != [0; 8];
        named.then_some(TraceContext { trace: TraceId(*trace), span: SpanId(*span), sampled })
    }
}

/// Puts a trace in front of the body of the frame that begins at `at` and is the last of `out`.
pub(super) fn name_trace(out: &mut Vec<u8>, at: usize, trace: &TraceContext) {
    let mut bytes = [0; TRACE_BYTES];
    bytes[..16].copy_from_slice(&trace.trace.0);
    bytes[16..24].copy_from_slice(&trace.span.0);
    bytes[24] = trace.sampled.into();
    let body = at + HEADER_BYTES;
    out.splice(body..body, bytes);
    let length = ((out.len() - at) as u32).to_le_bytes();
    out[at..at + 4].copy_from_slice(&length);
    out[at + 5] |= flags::TRACED;
}

/// Appends a frame to `out`, which holds whole frames only. The header's length is made here.
///
/// # Panics
/// Never: archiving into memory fails only when an object refuses to be archived, and none does.
pub fn push(out: &mut Vec<u8>, kind: u8, flags: u8, id: u64, body: &impl Encode) {
    let at = out.len();
    debug_assert_eq!(at % 8, 0);
    out.extend_from_slice(&Header { length: 0, kind, flags, id }.bytes());
    match to_bytes_in::<_, Rancor>(body, std::mem::take(out)) {
        Ok(written) => *out = written,
        Err(error) => unreachable!("archiving into memory failed: {error}"),
    }
    debug_assert_eq!(out.len() % 8, 0, "every root has a word of eight bytes");
    let length = ((out.len() - at) as u32).to_le_bytes();
    out[at..at + 4].copy_from_slice(&length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_is_none_is_none() {
        let header = Header { length: 48, kind: 2, flags: flags::TRACED, id: 77 };
        let mut body = [1; TRACE_BYTES];
        let trace = |header, body: &[u8]| Frame { header, body }.trace();
        assert!(trace(header, &body).is_some_and(|trace| trace.sampled));
        assert_eq!(trace(Header { flags: 1, ..header }, &body), None);
        assert_eq!(trace(header, &body[..24]), None);
        body[16..24].fill(0);
        assert_eq!(trace(header, &body), None);
    }

    #[test]
    fn a_header_reads_as_it_is_written_and_nothing_else_does() {
        let header = Header { length: 48, kind: 2, flags: 1, id: 77 };
        assert_eq!(Header::read(&header.bytes(), 48), Ok(header));
        assert_eq!(
            Header::read(&header.bytes(), 40),
            Err(Unframed::TooLong { length: 48, max: 40 })
        );
        for length in [0, 8, 15, 17, 47, u32::MAX] {
            let wrong = Header { length, ..header };
            assert_eq!(Header::read(&wrong.bytes(), usize::MAX), Err(Unframed::Length(length)));
        }
        for at in [6, 7] {
            let mut bytes = header.bytes();
            bytes[at] = 1;
            assert_eq!(Header::read(&bytes, 48), Err(Unframed::Reserved));
        }
    }
}
