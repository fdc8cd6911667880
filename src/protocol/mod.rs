//! The binary protocol of gateways, both ends of it: frames, their bodies, and the words in them.
//! `docs/gateway.md` gives it byte by byte.
//!
//! # What it promises
//!
//! - A frame is a header of sixteen bytes and a body archived by rkyv, little-endian, whose root
//!   stands at its end; a frame's length is a multiple of eight, so that in an aligned buffer every
//!   body is aligned and read in place.
//! - A body is validated before it is read. What does not validate costs its own request only: the
//!   header has told its id. Nothing that comes in makes a reader panic, and nobody is made to hold
//!   more than the longest frame that was agreed.
//! - A kind's number, a code's number and a layout never change; a new layout is a new kind. Only the
//!   meaning of the whole may change, under another [`VERSION`].
//!
//! Imports only the model, and the words of traces.

mod answers;
mod code;
mod commands;
mod frame;
mod inbox;
mod sales;
mod stream;

pub use answers::*;
pub use code::Code;
pub use commands::*;
pub use frame::{FRAME_BYTES_MIN, Frame, HEADER_BYTES, Header, Unframed, flags, kind, push};
pub use inbox::Inbox;
pub use sales::*;
pub use stream::Stream;

/// The protocol's version, in the flags of the hello.
pub const VERSION: u8 = 1;
/// The id of a hello: what tells this protocol from anything else that may connect.
pub const MAGIC: u64 = u64::from_le_bytes(*b"HOLDFAST");
